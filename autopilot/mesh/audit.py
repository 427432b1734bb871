"""One record for every change of a mesh, each with the digest of the record before.

Records are stored with the mesh; the digest of each is also in its receipt, in workflow history and reports. To rewrite
records unnoticed, one must rewrite Temporal too; `verify` finds records that are missing or were changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field, ValidationError

from autopilot.mesh.leases.overrides import Actor
from autopilot.mesh.model import Change
from autopilot.wire import Wire

Action = Literal[
    "acquire", "apply", "extend", "condemn", "commit", "lift", "expire", "yield", "halt", "unhalt", "hand-back"
]
GENESIS = "0" * 64
"""What the first record follows."""


class AuditRecord(Wire):
    """One change, as it was made."""

    sequence: int
    """From 1, without gaps."""
    time: float
    """Seconds since the epoch, by the clock of whoever wrote."""
    action: Action
    actor: Actor
    target: str
    """`mesh/namespace/service`; what a halt covers, for halts."""
    operation: str = ""
    """Workflow id; empty where no operation is concerned."""
    fencing: int = 0
    changes: tuple[Change, ...] = ()
    before: dict[str, float] = Field(default_factory=dict)
    """The target's weights in percent before."""
    after: dict[str, float] = Field(default_factory=dict)
    receipt: str = ""
    """SHA-256 of the route tables written, as in the receipt."""
    previous: str = GENESIS
    """Digest of the record before."""

    @property
    def digest(self) -> str:
        """SHA-256 over the record as canonical JSON."""
        return _digest(self.model_dump(mode="json"))


def link_of(line: str | bytes) -> tuple[int, str]:
    """Number and digest of a record as it was written: what the next one continues.

    The record may be of another version, which knows more actions and changes. Its digest is over what that version
    wrote, so it is computed from the text and not from what this version understands of it.

    Raises:
        ValueError: it is no audit record.
    """
    said = json.loads(line)
    if not isinstance(said, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - of the text, not of a caller's argument
    try:
        record = AuditRecord.model_validate_json(line)
    except ValidationError:
        numbered = isinstance(said.get("sequence"), int)
        if not numbered or not {"time", "action", "actor", "target", "previous"} <= said.keys():
            raise
        return said["sequence"], _digest(said)
    return record.sequence, _digest(said) if said.keys() - AuditRecord.model_fields.keys() else record.digest


def _digest(said: object) -> str:
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def verify(records: Iterable[AuditRecord], known: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with the records, one sentence each; empty where all is as it was written.

    Args:
        records: in the order they were written.
        known: digests that workflow histories and reports remember, each with where it was found.
    """
    problems = []
    previous, expected = GENESIS, 1
    seen: set[str] = set()
    for record in records:
        if record.sequence != expected:
            problems.append(f"record {expected} is missing: record {record.sequence} follows {expected - 1}")
        if record.previous != previous:
            problems.append(
                f"record {record.sequence} does not match the digest of the record before it: one of them was altered"
            )
        previous, expected = record.digest, record.sequence + 1
        seen.add(previous)
    problems += [
        f"{where} refers to a change ({digest[:12]}…) that has no audit record: the log was altered or truncated"
        for digest, where in (known or {}).items()
        if digest not in seen
    ]
    return problems
