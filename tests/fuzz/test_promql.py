"""Queries made of names: whatever the names are, a query has the tokens that were meant, and means those names."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from autopilot.spec.canary import CanaryArms
from autopilot.spec.values.units import Name
from autopilot.telemetry.dialects.envoy import selector
from autopilot.telemetry.dialects.envoy_names import arms_pattern, cluster_of
from autopilot.telemetry.model import Subject
from autopilot.telemetry.query_template import filled
from tests.drawn import examples

NAME: TypeAdapter[str] = TypeAdapter(Name)
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True) | st.sampled_from(
    ["a", "a-b", "a--b", "0", "x" * 63, "service", "stable", "by", "nan", "1h"]
)
windows = st.floats(0.01, 1e6)


class Token(NamedTuple):
    """One token of PromQL; a string's text is what it means, not what it is written as."""

    kind: str
    text: str


_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<comment>#[^\n]*)"
    r"|(?P<string>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)"
    r"|(?P<duration>\d+(?:ms|[smhdwy])\b)|(?P<number>\d+(?:\.\d+)?)|(?P<word>[a-zA-Z_:][a-zA-Z0-9_:]*)"
    r"|(?P<operator>=~|!~|!=|==|>=|<=|[-+*/%^<>=(){}\[\],@])"
)


def tokens(query: str) -> list[Token]:
    """As Prometheus' lexer has them.

    Raises:
        ValueError: something is no token, an unfinished string for instance.
    """
    found, at = [], 0
    while at < len(query):
        match = _TOKEN.match(query, at)
        if match is None:
            raise ValueError(f"no token at {query[at : at + 20]!r}")
        at, kind, text = match.end(), str(match.lastgroup), match.group()
        if kind == "string":
            text = text[1:-1] if text[0] == "`" else re.sub(r"\\(.)", r"\1", text[1:-1])
        if kind not in {"space", "comment"}:
            found.append(Token(kind, text))
    return found


def subjects(services: list[tuple[str, str, list[str]]]) -> list[Subject]:
    return [Subject("m", namespace, service, tuple(arms)) for namespace, service, arms in services]


triples = st.tuples(names, names, st.lists(names, min_size=1, max_size=3, unique=True))


def matchers(query: str) -> dict[str, str]:
    """The label matchers of a range selector, which is all that the query may be."""
    found = tokens(query)
    kinds = " ".join(token.text if token.kind == "operator" else token.kind for token in found)
    assert kinds == "{ word =~ string , word =~ string , word =~ string } [ duration ]"
    return {found[at].text: found[at + 2].text for at in (1, 5, 9)}


@given(st.lists(triples, min_size=1, max_size=5), windows, st.booleans())
@settings(max_examples=examples(100), deadline=None)
def test_a_selector_asks_for_the_clusters_of_its_subjects_and_no_others(
    services: list[tuple[str, str, list[str]]], window: float, latency: bool
) -> None:
    wanted = subjects(services)
    labels = matchers(selector(wanted, window, latency=latency))
    assert list(labels) == ["__name__", "envoy_cluster_name", "envoy_response_code_class"]
    pattern = re.compile(labels["envoy_cluster_name"])
    known = {(subject.namespace, subject.service) for subject in wanted}
    for subject in wanted:
        for arm in (*subject.arms, subject.arms[0] + "~baseline"):
            assert pattern.fullmatch(cluster_of(subject, arm))
        near = [(subject.namespace, subject.service + "0"), ("0" + subject.namespace, subject.service)]
        near += [(subject.service, subject.namespace), (subject.namespace, subject.service[:-1])]
        for namespace, service in near:
            stranger = cluster_of(Subject("m", namespace, service, ()), subject.arms[0])
            assert (pattern.fullmatch(stranger) is not None) == ((namespace, service) in known)


@given(triples, windows)
@settings(max_examples=examples(50), deadline=None)
def test_a_selector_of_some_arms_leaves_out_the_others(service: tuple[str, str, list[str]], window: float) -> None:
    (subject,) = subjects([service])
    labels = matchers(selector([subject], window, clusters=arms_pattern(subject)))
    pattern = re.compile(labels["envoy_cluster_name"])
    assert all(pattern.fullmatch(cluster_of(subject, arm)) for arm in subject.arms)
    others = {f"{arm}{more}" for arm in subject.arms for more in ("0", "~baseline")} - set(subject.arms)
    assert not any(pattern.fullmatch(cluster_of(subject, arm)) for arm in others)


def test_the_selector_of_very_many_subjects_still_is_one_selector():
    many = subjects([("shop", f"s-{number}", ["v1"]) for number in range(200)])
    query = selector(many, 15)
    assert len(query) < 2000
    assert all(re.fullmatch(matchers(query)["envoy_cluster_name"], cluster_of(one, "v1")) for one in many)


PLACEHOLDERS = ("service", "namespace", "stable", "canary")
placeholders = st.builds(
    "{{{{{0}{1}{0}}}}}".format, st.sampled_from(["", " "]), st.sampled_from(PLACEHOLDERS)
)  # {{service}}
inner = st.lists(
    placeholders | st.sampled_from(["a", "|", ".*", " ", "\\\\", "{{", "}}", "{{other}}", "#"]), max_size=5
)


@st.composite
def queries(draw: st.DrawFn) -> str:
    """A query whose strings, in all three quotes, hold placeholders and what looks like them."""
    labels = []
    for label in draw(st.lists(st.sampled_from(["job", "version", "le"]), min_size=1, max_size=3)):
        text = "".join(draw(inner))
        quote = draw(st.sampled_from("\"'`"))
        labels.append(f"{label}{draw(st.sampled_from(['=', '!=', '=~', '!~']))}{quote}{text}{quote}")
    return f"sum by (le) (rate(requests_total{{{','.join(labels)}}}[5m])) > 0.5  # why"


@given(queries(), names, names, st.lists(names, min_size=2, max_size=2, unique=True))
@settings(max_examples=examples(150), deadline=None)
def test_filling_in_names_changes_strings_alone(query: str, namespace: str, service: str, arms: list[str]) -> None:
    values = {"namespace": namespace, "service": service, "stable": arms[0], "canary": arms[1]}
    result = filled(query, namespace, service, CanaryArms(stable=arms[0], canary=arms[1]))
    before, after = tokens(query), tokens(result)
    assert [token.kind for token in after] == [token.kind for token in before]
    for old, new in zip(before, after, strict=True):
        if old.kind == "string":
            assert new.text == re.sub(
                r"\{\{( ?)(service|namespace|stable|canary)\1\}\}", lambda match: values[match[2]], old.text
            )
        else:
            assert new == old


@given(
    st.text(max_size=70) | st.builds(str.__add__, names, st.sampled_from(['"', "\\", "\n", "`", "'", "}", "{{", "#"]))
)
@settings(max_examples=examples(100), deadline=None)
def test_what_could_end_a_string_is_no_name(text: str) -> None:
    """The two tests above hold for names: whatever else might come in from a spec is stopped here."""
    try:
        NAME.validate_python(text)
    except ValidationError:
        return
    for quote in "\"'`":
        assert tokens(f"{quote}{text}{quote}") == [Token("string", text)]


@pytest.mark.parametrize("query", ['{a="b}', "a['5m]", '{a="b"c"}', "a;b"])
def test_the_tokenizer_notices_what_is_broken(query: str) -> None:
    with pytest.raises(ValueError, match="no token"):
        tokens(query)
