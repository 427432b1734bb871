"""Whoever needs plain types alone does not pay for arrays or client libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("numpy", "scipy", "aiohttp", "kubernetes")


def loaded(*modules: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has after importing these."""
    script = f"import sys, {', '.join(modules)}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["autopilot.reports.canary", "workflows.canary.workflow", "autopilot.evidence.model"]
)
def test_plain_types_load_nothing_heavy(module: str):
    assert loaded(module) == set()


def test_the_check_can_fail():
    assert loaded("autopilot.evidence.canary") == {"numpy", "scipy"}
