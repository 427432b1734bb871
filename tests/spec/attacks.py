"""Files that mean harm, and what their authors are told."""

from __future__ import annotations

import time

import pytest

from autopilot.spec.errors import SpecError
from autopilot.spec.load import load

HEAD = "apiVersion: meshautopilot.io/v1alpha1\nkind: MeshCanary\n"
BODY = "spec:\n  target: {service: x}\n  arms: {stable: v1, canary: v2}\n"
GOOD = HEAD + "metadata: {name: a}\n" + BODY
QUICK = 4.0
"""Seconds of processor time that a refusal may take; the slowest, 1 MiB of values, takes about one."""


def wrong(text: str) -> list[str]:
    """The lines an author is shown, in time."""
    started = time.thread_time()
    with pytest.raises(SpecError) as caught:
        load(text, "c.yaml")
    assert time.thread_time() - started < QUICK
    return str(caught.value).splitlines()


def annotated(value: str) -> str:
    """A good file with one annotation; the value is YAML."""
    return HEAD + f"metadata:\n  name: a\n  annotations:\n    why: {value}\n" + BODY
