"""What a ledger needs of whoever lays overlays: the driver may write the user's routes, or objects of our own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from autopilot.mesh.errors import UnreadableRecord
from autopilot.mesh.kube.client.client import Object
from autopilot.mesh.kube.routes.base import Route, Routes, Split
from autopilot.mesh.kube.routes.discovery import Found
from autopilot.mesh.kube.routes.weight_patch import Mark
from autopilot.mesh.model import EVERY_RULE, LAST_WRITE, Holder, RuleChoice, Target, Tier


@dataclass(frozen=True, slots=True)
class Marked:
    """A mark that was found in the cluster."""

    target: Target
    route: Route
    """The object that bears it."""
    mark: Mark


class Overlays(Protocol):
    """Lays overlays over the routes of a target, looks after them, and takes them away. All of it is safe to repeat."""

    tier: Tier
    """Who restores when everything of ours is gone."""
    routes: Routes
    """What the mesh's routes are written in."""

    def found(self, target: Target, split: Split | None = None) -> list[Route]:
        """Every route that a split concerns; without one, those that something of ours lies over.

        Where nothing does, those that lead to what the target has.

        Raises:
            Absent: the cluster serves none of the provider's kinds.
        """
        ...

    def nearby(self, target: Target) -> list[Route]:
        """One route of each kind in the target's namespace, whatever it leads to: whether such may be written."""
        ...

    def resolved(
        self, target: Target, weights: Mapping[str, float], choice: RuleChoice = EVERY_RULE, *, strict: bool = True
    ) -> Split:
        """A split of the target with its arms looked up; stable is the first of the weights.

        Raises:
            InvalidChange: an arm is not there, two have the same pods, or, where nothing is laid yet and `strict`
                asks for it, something leads to stable that cannot be driven.
        """
        ...

    def around(self, target: Target, split: Split) -> Found:
        """What the split concerns, and what stands beside it."""
        ...

    def marked(self, mesh: str) -> list[Marked]:
        """Every overlay of this mesh in the cluster."""
        ...

    def unread(self, mesh: str) -> list[UnreadableRecord]:
        """What is laid in the cluster and cannot be read; marks name no mesh."""
        ...

    def refuse_unread(self, target: Target, routes: Iterable[Route]) -> None:
        """Refuses a target over whose routes something lies that cannot be read.

        Raises:
            UnreadableRecord: with its place.
        """
        ...

    def lay(
        self,
        target: Target,
        holder: Holder,
        weights: Mapping[str, float],
        deadline: float,
        *,
        choice: RuleChoice = EVERY_RULE,
    ) -> list[Route]:
        """Gives the arms their weights, until the deadline where proxies can tell; returns what was written.

        Args:
            target: whose arms.
            holder: who lays.
            weights: percent by arm, stable's first: its share of each rule is divided, everything else stays.
            deadline: seconds since the epoch.
            choice: which of the rules.

        Raises:
            TakenOver: somebody else has changed the weights since we laid them.
            LeaseLost: a later holder has laid something.
            InvalidChange: the routes are such that no overlay can be laid over them; nothing was written.
        """
        ...

    def look_after(
        self,
        target: Target,
        holder: Holder,
        weights: Mapping[str, float],
        deadline: float,
        *,
        choice: RuleChoice = EVERY_RULE,
    ) -> list[str]:
        """Makes what was laid what it should be, deadline included; says what was done.

        Raises:
            TakenOver: somebody else has changed the weights.
        """
        ...

    def take_away(
        self,
        target: Target,
        fencing: int,
        *,
        write: int = LAST_WRITE,
        commit: Mapping[str, float] | None = None,
        choice: RuleChoice = EVERY_RULE,
    ) -> list[str]:
        """Takes away what this holder, or one before it, has laid; these weights, if any, become the base first.

        Args:
            target: whose overlay.
            fencing: the holder's number.
            write: number of the holder's last write that goes.
            commit: percent by arm, stable's first.
            choice: which rules were split.

        Returns:
            What could not be done because somebody else had changed it, one sentence each.
        """
        ...

    def planned(
        self, target: Target, weights: Mapping[str, float], deadline: float, *, choice: RuleChoice = EVERY_RULE
    ) -> list[tuple[Route | None, Object]]:
        """Every object that would be written, as it stands (None: it does not) and as it would be. Writes nothing."""
        ...

    def in_force(self, target: Target, routes: Iterable[Route]) -> tuple[dict[str, float], dict[str, float]]:
        """Percent by arm in the target's first rule: in force now, and when nobody operates."""
        ...
