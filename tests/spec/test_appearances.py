"""Names and texts that are not what they seem, and what would reach a proxy."""

from __future__ import annotations

import pytest

from autopilot.spec.errors import SpecError
from autopilot.spec.load import load, load_one
from autopilot.spec.mesh import Mesh
from tests.spec.attacks import GOOD, annotated, wrong


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("r\u0435views", "it has U+0435 CYRILLIC SMALL LETTER IE"),
        ("reviews\u2010v2", "it has U+2010 HYPHEN"),
        ("\uff52eviews", "it has U+FF52 FULLWIDTH LATIN SMALL LETTER R"),
        ("../../etc", ""),
        ("/etc/passwd", ""),
        ("a/b", ""),
        ("..", ""),
        ("a.b", ""),
        ("a b", ""),
        ("a\\r\\nx-evil: 1", ""),
        ("a\\n", ""),
        ("${HOME}", ""),
        ("{{canary}}", ""),
        ('a\\"} or vector(1) #', ""),
        ("-a", ""),
        ("A", ""),
        ("", ""),
        ("a" * 64, ""),
    ],
)
@pytest.mark.parametrize("field", ["metadata", "service", "stable"])
def test_names_are_dns_labels_and_nothing_else(name: str, why: str, field: str) -> None:
    place = {"metadata": "name: a", "service": "service: x", "stable": "stable: v1"}[field]
    lines = wrong(GOOD.replace(place, f'{place.split(":")[0]}: "{name}"'))
    assert any("is not a name: lower-case letters" in line for line in lines)
    assert why in "\n".join(lines)


HIDDEN = {
    "\\0": "U+0000 a control character",
    "\\e": "U+001B a control character",
    "\\r": "U+000D a control character",
    "\\x7f": "U+007F a control character",
    "\\u0085": "U+0085 a control character",
    "\\u200b": "U+200B ZERO WIDTH SPACE",
    "\\u2028": "U+2028 LINE SEPARATOR",
    "\\u202e": "U+202E RIGHT-TO-LEFT OVERRIDE",
    "\\u2066": "U+2066 LEFT-TO-RIGHT ISOLATE",
    "\\ufeff": "U+FEFF ZERO WIDTH NO-BREAK SPACE",
    "\\ud800": "U+D800 a character without a name",
}


@pytest.mark.parametrize("escape", HIDDEN)
def test_characters_that_nobody_sees_are_named_wherever_they_are(escape: str) -> None:
    said = f"has an invisible character that is not allowed here: {HIDDEN[escape]} (remove it)"
    assert wrong(annotated(f'"a{escape}b"'))[0] == f"c.yaml:6:10: metadata.annotations.why: {said}"
    assert any(said in line for line in wrong(GOOD + f'  "a{escape}b": 1\n'))
    character = "\x1b" if escape == "\\e" else escape.encode().decode("unicode_escape")
    (line,) = wrong(GOOD + f"# a{character}b\n")
    assert line == f"c.yaml:7:4: {said}"


def test_nothing_that_a_terminal_obeys_is_repeated() -> None:
    for text in (
        GOOD + '  "a\\e[2J\\n": 1\n',
        GOOD.replace("MeshCanary", '"a\\e[2J"'),
        GOOD.replace("name: a", 'name: "a\\e[2J\\u202e"'),
        GOOD + "  deadline: !<a\x85b> 1\n",
    ):
        said = "\n".join(wrong(text))
        assert said.replace("\n", "").isprintable()


def test_line_ends_of_other_systems_are_read() -> None:
    assert load(GOOD.replace("\n", "\r\n"))
    assert wrong(GOOD + "# all is well\rmetadata: {name: b}\n")[0].startswith("c.yaml:7:14: has an invisible character")


@pytest.mark.parametrize("kind", ["[a]", "{a: 1}", "0x" + "f" * 5000, "3", "null", "[[[]]]", "'" + "x" * 9999 + "'"])
def test_kind_and_version_may_be_anything(kind: str) -> None:
    lines = wrong(f"apiVersion: {kind}\nkind: {kind}\n")
    assert all(line.startswith("c.yaml:") and len(line) < 300 for line in lines)


MESH = """\
kind: Mesh
metadata: {name: m}
spec:
  directory: /var/lib/mesh
  services:
    - {name: a, timeout: 1s, arms: {v1: {endpoints: ["10.0.0.1:80"]}}, weights: {v1: 100}}
  proxies:
    - name: p
      admin: "127.0.0.1:9901"
      inbound: [{name: in, address: "10.0.0.2:80", application: "127.0.0.1:8080"}]
      outbound: [{name: out, address: "10.0.0.1:80", services: [default/a]}]
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("10.0.0.1:80", "10.0.0.1:80\\r\\nx: y", "is not an address"),
        ("10.0.0.1:80", "a\\0b:80", "is not an address"),
        ("10.0.0.1:80", "h\u043est:80", "it has U+043E CYRILLIC SMALL LETTER O"),
        ("10.0.0.1:80", "10.0.0.1:٨٠", "it has U+0668 ARABIC-INDIC DIGIT EIGHT"),
        ("10.0.0.1:80", "10.0.0.1:0", "has no valid port"),
        ("10.0.0.1:80", "10.0.0.1:65536", "has no valid port"),
        ("10.0.0.1:80", "../../etc:80", "is not an address"),
        ("10.0.0.1:80", "user@host:80", "is not an address"),
        ('"10.0.0.2:80"', '"name:80"', "is a name; a listener needs an IP address"),
        ('"10.0.0.2:80"', '"10.0.0.1:80"', "proxies[0].outbound[0].address: '10.0.0.1:80' is listed twice"),
        ("[default/a]", "[default/a, default/a]", "outbound[0].services[1]: 'default/a' is listed twice"),
        ("[default/a]", '["default/a\\n"]', "is not a service: namespace/name"),
        ("[default/a]", "[default/../a]", "is not a service: namespace/name"),
        ("name: out", "name: ../../out", "is not a name"),
        ("name: p\n", "name: /etc\n", "is not a name"),
        ("timeout: 1s", "timeout: 0.1ms", "is below 1ms, which Envoy reads as no timeout"),
        ("timeout: 1s", 'timeout: "1s\\r\\nx: y"', "is not a duration"),
        ("/var/lib/mesh", '"/var/lib/\\0mesh"', "is not a directory: a path on one line"),
        ("/var/lib/mesh", '"/var/lib/\\nmesh"', "is not a directory: a path on one line"),
    ],
)  # fmt: skip
def test_what_would_reach_a_proxy_is_checked(old: str, new: str, said: str) -> None:
    load_one(Mesh, MESH, "m.yaml")
    with pytest.raises(SpecError) as caught:
        load_one(Mesh, MESH.replace(old, new), "m.yaml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("m.yaml:")


def test_a_mesh_file_is_one_mesh() -> None:
    for text, said in (
        (MESH.replace("kind: Mesh", "kind: MeshCanary"), "m.yaml:1:7: kind: 'MeshCanary' is not known; write Mesh"),
        (MESH + "---\n" + MESH, "m.yaml: must have one document, has 2"),
        ("", "m.yaml: must have one document, has 0"),
        ("- 1", "m.yaml:1:1: expects fields"),
    ):
        with pytest.raises(SpecError) as caught:
            load_one(Mesh, text, "m.yaml")
        assert said in str(caught.value)
