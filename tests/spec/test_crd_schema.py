"""Each thing that pydantic says and Kubernetes does not understand: said in other words, or refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, Field

from autopilot.spec.crd.descriptions import LONGEST
from autopilot.spec.crd.lengths import longest
from autopilot.spec.crd.mixed_values import hidden
from autopilot.spec.crd.structural_schema import structural
from autopilot.spec.crd.unions import NotStructural
from autopilot.spec.values.units import Fraction, Name, Seconds


class Inner(BaseModel):
    """What is inside."""

    name: Name = "a"


class Endless(BaseModel):
    below: Endless | None = None


class Cat(BaseModel):
    """Purrs."""

    type: Literal["cat"] = "cat"
    lives: int = 9
    naps: Seconds


class Dog(BaseModel):
    """Barks."""

    type: Literal["dog"] = "dog"
    lives: int = 1
    walks: Annotated[int, Field(le=3)]


class Fish(BaseModel):
    type: Literal["fish"] = "fish"
    lives: str = Field(default="one", max_length=3)


def of(annotation: Any, default: Any = ...) -> dict[str, Any]:
    """The schema of a field."""
    model = type(
        "Model",
        (BaseModel,),
        {"__annotations__": {"field": annotation}} | ({"field": default} if default is not ... else {}),
    )
    schema: dict[str, Any] = structural(model, {})["properties"]["field"]
    return schema


def test_references_are_inlined_and_what_contains_itself_is_left_open() -> None:
    assert of(Inner)["properties"]["name"]["type"] == "string"
    assert of(Endless)["properties"]["below"] == {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def test_null_and_absence_are_one() -> None:
    assert of(bool | None, None) == {"type": "boolean"}
    assert of(Inner | None, None) == of(Inner)


def test_constants_and_choices_are_enumerations() -> None:
    assert of(Literal["a"]) == {"type": "string", "enum": ["a"]}
    assert of(Literal["a", "b"])["enum"] == ["a", "b"]


def test_the_narrowest_limit_counts_and_exclusive_is_a_truth() -> None:
    assert of(Annotated[int, Field(gt=0, lt=9)]) == {
        "type": "integer",
        "format": "int64",
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 9,
        "exclusiveMaximum": True,
    }
    narrower = of(Annotated[Fraction, Field(gt=0, le=0.2)])
    assert (narrower["minimum"], narrower["exclusiveMinimum"], narrower["maximum"]) == (0, True, 0.2)
    assert "exclusiveMaximum" not in narrower


def test_sets_lists_maps_and_whatever() -> None:
    assert of(Annotated[set[int], Field(max_length=3)])["x-kubernetes-list-type"] == "set"
    assert of(Annotated[dict[str, bool], Field(max_length=3)]) == {
        "type": "object",
        "additionalProperties": {"type": "boolean"},
        "maxProperties": 3,
    }
    assert of(Any) == {"x-kubernetes-preserve-unknown-fields": True}


def test_text_number_or_truth_has_no_type_and_refuses_the_rest() -> None:
    schema = of(str | float | bool)
    assert hidden(schema)
    assert (schema["maxItems"], schema["maxProperties"]) == (0, 0)
    assert "minimum" not in schema
    values = of(Annotated[dict[str, str | bool | None], Field(max_length=3)])
    assert hidden(values)
    assert values["additionalProperties"]["nullable"] is True


def test_a_truth_that_is_always_the_same_is_an_enumeration() -> None:
    assert of(Literal[True] | None, None) == {"type": "boolean", "enum": [True]}


def test_one_of_some_fields_must_be_there() -> None:
    schema = structural(Documented, {}, {Documented: ("plain", "long")})
    assert schema["allOf"] == [{"anyOf": [{"required": ["plain"]}, {"required": ["long"]}]}]


@pytest.mark.parametrize(
    ("pattern", "length"),
    [("^[a-z]{1,63}$", 63), ("^(a|bcd)[0-9]{2}$", 5), ("^[a-z]+$", None), ("[a-z]", None), ("", None)],
)
def test_patterns_say_how_long_a_text_may_be(pattern: str, length: int | None) -> None:
    assert longest(pattern) == length


def test_a_pattern_of_keys_is_a_rule() -> None:
    key = Annotated[str, Field(pattern="^[a-z]+$")]
    (rule,) = of(Annotated[dict[key, bool], Field(max_length=3)])["x-kubernetes-validations"]
    assert rule["rule"] == "self.all(key, key.matches('^[a-z]+$'))"


def test_one_of_several_is_one_object_and_rules() -> None:
    schema = of(Annotated[Cat | Dog, Field(discriminator="type")])
    assert schema["required"] == ["type"]
    assert list(schema["properties"]) == ["type", "lives", "naps", "walks"]
    assert schema["properties"]["type"]["enum"] == ["cat", "dog"]
    assert schema["properties"]["lives"]["description"] == "Default: 9 (cat), 1 (dog)."
    assert schema["properties"]["walks"]["description"] == "Of dog."
    said = {rule["message"]: rule["rule"] for rule in schema["x-kubernetes-validations"]}
    assert said == {
        "walks belongs to dog alone": "!has(self.walks) || self.type in ['dog']",
        "dog needs walks": "self.type != 'dog' || has(self.walks)",
    }
    assert hidden(schema["properties"]["naps"])
    assert schema["allOf"] == [
        {"anyOf": [{"properties": {"naps": {"not": {}}}}, {"properties": {"type": {"enum": ["cat"]}}}]},
        {"anyOf": [{"required": ["naps"]}, {"not": {"properties": {"type": {"enum": ["cat"]}}}}]},
    ]


class Documented(BaseModel):
    """What it is.

    And more.
    """

    plain: Inner
    meant: Inner
    """Says what
    it means."""
    long: bool = False
    """Well. """ + "word " * 100  # not a docstring


def test_descriptions_come_from_where_models_have_them() -> None:
    schema = structural(Documented, {})
    assert schema["description"] == "What it is. And more."
    assert schema["properties"]["plain"]["description"] == "What is inside."
    assert schema["properties"]["meant"]["description"] == "Says what it means."
    assert schema["properties"]["long"]["description"] == "Default: false."


def test_descriptions_are_cut_after_a_sentence() -> None:
    long = of(Annotated[bool, Field(description="First. " + "Second " * LONGEST)])
    assert long["description"] == "First."
    endless = of(Annotated[bool, Field(description="word " * LONGEST)])
    assert len(endless["description"]) == LONGEST
    assert endless["description"].endswith("…")


def test_defaults_are_told_as_people_write_them_and_never_set() -> None:
    assert of(Seconds, 90.0)["description"].endswith("Default: 1m30s.")
    assert of(Fraction, 0.001)["description"].endswith("Default: 0.1%.")
    assert "default" not in of(Seconds, 90.0)


def odd(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (int | str, "Model.field: may be one of several types"),
        (tuple[int, bool], "Model.field: a structural schema has no prefixItems"),
        (list[bool], "Model.field: may be of any size; give it a largest one (maxItems)"),
        (dict[str, bool], "Model.field: may be of any size; give it a largest one (maxProperties)"),
        (str, "Model.field: may be of any size; give it a largest one (maxLength)"),
        (Annotated[list[str], Field(max_length=2)], "Model.field[]: may be of any size"),
        (Annotated[int, BeforeValidator(odd)], "Model.field: say in READERS what the validator 'odd' reads"),
        (Annotated[Cat | Fish, Field(discriminator="type")], "Model.field.lives: means different things in cat, fish"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # a type's text may hold an address in memory
)
def test_what_cannot_be_said_is_refused(annotation: Any, said: str) -> None:
    with pytest.raises(NotStructural) as refused:
        of(annotation)
    assert str(refused.value).startswith(said)
