"""What each provider can say, and who undoes it when everything of ours is gone: the table that people choose by.

One line a kind of change. Of a fault the note begins with `exact`, with `approximate:` and what differs, or names what
comes nearest where the provider cannot say it.
"""

from __future__ import annotations

from collections.abc import Mapping

from autopilot.mesh.model import Capability, Tier

SPLIT = "SplitTraffic"
BASELINE = "baseline: virtual"
"""A second count of stable's endpoints, for a fair comparison (`analysis.baseline`)."""
FAULTS = (
    "delay", "abort", "grpcAbort", "bandwidth", "reset", "blackhole", "eject", "overflow", "retries", "timeout",
    "partition",
)  # fmt: skip
"""Every kind of fault, as `type` names it."""


def fault_change(fault_type: str) -> str:
    """What a kind of fault is called in the table."""
    return f"InjectFault/{fault_type}"


_NO_BASELINE = Capability(
    change=BASELINE,
    supported=False,
    note="the mesh's metrics tell versions apart, not two shares of one: run stable pods of their own instead",
)
_PARTITION = "exact, where the cluster's network enforces NetworkPolicies (not every CNI does); any live guard restores"


def _split(tier: Tier, note: str) -> Capability:
    return Capability(change=SPLIT, supported=True, tier=tier, note=note)


def _faults(can: Mapping[str, tuple[Tier, str]], nearest: Mapping[str, str]) -> tuple[Capability, ...]:
    """One line a kind of fault.

    Args:
        can: kind → its tier and how true it is.
        nearest: for every other kind, what comes nearest here.
    """
    found = []
    for kind in FAULTS:
        if kind in can:
            tier, note = can[kind]
            found.append(Capability(change=fault_change(kind), supported=True, tier=tier, note=note))
        else:
            note = f"cannot be said here; nearest: {nearest[kind]}"
            found.append(Capability(change=fault_change(kind), supported=False, note=note))
    return tuple(found)


_ENVOY = _faults(
    {
        "delay": (Tier.PROXY, "exact; jitter is approximate: eight steps"),
        "abort": (Tier.PROXY, "exact"),
        "grpcAbort": (Tier.PROXY, "exact"),
        "bandwidth": (Tier.PROXY, "exact"),
        "reset": (Tier.PROXY, "exact"),
        "blackhole": (Tier.PROXY, "exact"),
        "eject": (Tier.PROXY, "approximate: a cluster without those endpoints; no panic threshold counts them"),
        "overflow": (Tier.PROXY, "exact"),
        "retries": (Tier.PROXY, "exact"),
        "timeout": (Tier.PROXY, "exact"),
    },
    {"partition": "blackhole, which answers nobody either"},
)
_ISTIO_NEAREST = {
    "bandwidth": "delay, which makes the whole response late",
    "reset": "abort with status 503, which callers' proxies tell of resets too",
    "blackhole": "abort with status 503 and percentage 100; or partition, which drops packets",
    "eject": "a version of its own for those endpoints, with weight 0 in a MeshCanary",
    "overflow": "abort with status 503 and the percentage that would not fit",
}
_ISTIO = _faults(
    {
        "delay": (Tier.GUARD, "exact, in VirtualServices; jitter is refused: write a fixed delay"),
        "abort": (Tier.GUARD, "exact, in VirtualServices"),
        "grpcAbort": (Tier.GUARD, "exact, in VirtualServices"),
        "retries": (Tier.GUARD, "exact, in VirtualServices; no metric shows its effect, so experiments refuse it"),
        "timeout": (Tier.GUARD, "exact, in VirtualServices"),
        "partition": (Tier.GUARD, _PARTITION),
    },
    _ISTIO_NEAREST,
)
_STUB = "a version that answers so, given a share of the traffic by a MeshCanary"
_PORTABLE = _faults(
    {"partition": (Tier.GUARD, _PARTITION)},
    {
        "delay": _STUB,
        "abort": _STUB,
        "grpcAbort": _STUB,
        "bandwidth": _STUB,
        "reset": f"partition; or {_STUB}",
        "blackhole": "partition, which drops packets of every request",
        "eject": "a version of its own for those endpoints, with weight 0 in a MeshCanary",
        "overflow": f"partition; or {_STUB}",
        "retries": "partition, under which the retries that are configured show themselves",
        "timeout": "partition, under which the timeout that is configured shows itself",
    },
)
_EXPIRES = "exact, in an EnvoyFilter of its own, which expires in the proxies' route tables"
_ENVOYFILTER = _faults(
    {
        "delay": (Tier.PROXY, f"{_EXPIRES}; jitter is refused: write a fixed delay"),
        "abort": (Tier.PROXY, _EXPIRES),
        "grpcAbort": (Tier.PROXY, _EXPIRES),
        "retries": (Tier.PROXY, f"{_EXPIRES}; no metric shows its effect, so experiments refuse it"),
        "timeout": (Tier.PROXY, _EXPIRES),
        "partition": (Tier.GUARD, _PARTITION),
    },
    _ISTIO_NEAREST,
)

ABILITIES: dict[tuple[str, str], tuple[Capability, ...]] = {
    ("envoy", "plain"): (
        _split(Tier.PROXY, "expires in the proxy's own route table"),
        Capability(change=BASELINE, supported=True, tier=Tier.PROXY, note="a cluster of its own in every proxy"),
        *_ENVOY,
    ),
    ("istio", "plain"): (
        _split(Tier.GUARD, "weights in VirtualServices; any live guard restores"),
        _NO_BASELINE,
        *_ISTIO,
    ),
    ("istio", "envoyfilter"): (
        _split(Tier.PROXY, "an EnvoyFilter of its own, which expires in the proxies' route tables"),
        _NO_BASELINE,
        *_ENVOYFILTER,
    ),
    ("gateway_api", "plain"): (
        _split(Tier.GUARD, "weights of backends in HTTPRoutes and GRPCRoutes; any live guard restores"),
        _NO_BASELINE,
        *_PORTABLE,
    ),
    ("smi", "plain"): (
        _split(Tier.GUARD, "weights in TrafficSplits; any live guard restores"),
        _NO_BASELINE,
        *_PORTABLE,
    ),
}
"""By provider and driver, as a mesh file names them."""


def ability(provider: str, driver: str, fault_type: str) -> Capability:
    """What a provider with this driver makes of a kind of fault.

    Args:
        provider: as a mesh file names it.
        driver: likewise; `plain` where nothing else is said.
        fault_type: the fault's `type`.

    Raises:
        KeyError: there is no such provider, driver or kind.
    """
    wanted = fault_change(fault_type)
    for one in ABILITIES[provider, driver]:
        if one.change == wanted:
            return one
    raise KeyError(fault_type)
