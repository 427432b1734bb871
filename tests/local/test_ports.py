from __future__ import annotations

import socket
from pathlib import Path

from autopilot.local import ports


def test_ports_differ_and_lie_below_the_range_of_outgoing_connections() -> None:
    found = ports.allocate([str(number) for number in range(50)])
    assert len(set(found.values())) == 50
    assert max(found.values()) < ports._highest()


def test_two_processes_that_choose_at_the_same_time_seldom_choose_the_same() -> None:
    names = [str(number) for number in range(50)]
    met = sum(bool({*ports.allocate(names).values()} & {*ports.allocate(names).values()}) for _ in range(120))
    assert met <= 6  # one in 180 is expected; of ports that are chosen one by one, one in eight


def test_a_free_port_of_last_time_is_taken_again_and_a_used_one_is_not() -> None:
    before = ports.allocate(["a", "b"])
    with socket.create_server((ports.LOOPBACK, before["b"])):
        after = ports.allocate(["a", "b"], before)
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]


def test_remembering_survives_a_missing_or_broken_file(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    assert ports.remembered(file) == {}
    file.write_text("[1, 2")
    assert ports.remembered(file) == {}
    file.write_text('{"a": 70000, "b": "x", "c": 18000}')
    assert ports.remembered(file) == {"c": 18000}
    ports.remember(file, {"a": 17000})
    assert ports.remembered(file) == {"a": 17000}
