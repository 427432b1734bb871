"""The README says nothing that is not so: its example loads, its commands exist, and its exit codes are ours."""

from __future__ import annotations

import re
from pathlib import Path

from autopilot.spec.load import load
from starter.cli.main import ENTRIES
from starter.client.operation_watch import CODES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_its_example_is_the_example() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert load(block, "README.md") == load(ROOT / "examples" / "canary.yaml")


def test_its_commands_exist_and_none_is_left_out() -> None:
    known = {entry.name for entry in ENTRIES}
    assert set(re.findall(r"(?:`|bin/)autopilot ([a-z]+)", README)) <= known
    table = README[README.index("| command | does |") : README.index("An ID is")]
    assert set(re.findall(r"`([a-z]+)", table)) == known


def test_its_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", README + (ROOT / "CONTRIBUTING.md").read_text()):
        if target.startswith("bench-"):
            assert (ROOT / "benchmarks" / f"{target.removeprefix('bench-').replace('-', '_')}.py").is_file()
        else:
            assert f"\n{target}: " in makefile


def test_its_exit_codes_are_ours() -> None:
    table = dict(re.findall(r"^\| (\d) \| ([a-z ]+)", README, re.MULTILINE))
    assert sorted(table) == sorted(str(code) for code in set(CODES.values()))
    assert (table["2"].strip(), table["4"].strip()) == ("rolled back", "aborted")
