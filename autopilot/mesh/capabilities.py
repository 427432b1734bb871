"""What each provider supports, and what restores it when no process of Autopilot lives: the table to choose by.

One line a kind of change. Of a fault the note begins with `exact`, with `approximate:` and what differs, or names the
nearest alternative where the provider does not support it.
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
    note="the mesh's metrics count by version, not by share of one version; nearest: a second deployment of stable",
)
_PARTITION = (
    "exact, where the cluster's network enforces NetworkPolicies (not every CNI does); any running guard restores"
)


def _split(tier: Tier, note: str) -> Capability:
    return Capability(change=SPLIT, supported=True, tier=tier, note=note)


def _faults(can: Mapping[str, tuple[Tier, str]], nearest: Mapping[str, str]) -> tuple[Capability, ...]:
    """One line a kind of fault.

    Args:
        can: kind → its tier and how exact it is.
        nearest: for every other kind, the nearest alternative here.
    """
    found = []
    for kind in FAULTS:
        if kind in can:
            tier, note = can[kind]
            found.append(Capability(change=fault_change(kind), supported=True, tier=tier, note=note))
        else:
            note = f"not supported here; nearest: {nearest[kind]}"
            found.append(Capability(change=fault_change(kind), supported=False, note=note))
    return tuple(found)


_ENVOY = _faults(
    {
        "delay": (Tier.PROXY, "exact; jitter is approximated in eight steps"),
        "abort": (Tier.PROXY, "exact"),
        "grpcAbort": (Tier.PROXY, "exact"),
        "bandwidth": (Tier.PROXY, "exact"),
        "reset": (Tier.PROXY, "exact"),
        "blackhole": (Tier.PROXY, "exact"),
        "eject": (
            Tier.PROXY,
            "approximate: traffic goes to a cluster without those endpoints; panic thresholds do not count them",
        ),
        "overflow": (Tier.PROXY, "exact"),
        "retries": (Tier.PROXY, "exact"),
        "timeout": (Tier.PROXY, "exact"),
    },
    {"partition": "blackhole, which answers no request either"},
)
_ISTIO_NEAREST = {
    "bandwidth": "delay, which makes the whole response late",
    "reset": "abort with status 503, which callers' proxies also report for resets",
    "blackhole": "abort with status 503 and percentage 100; or partition, which drops packets",
    "eject": "a separate version for those endpoints, with weight 0 in a MeshCanary",
    "overflow": "abort with status 503 for the percentage over the limit",
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
_STUB = "a version of the service that behaves so, with a share of the traffic from a MeshCanary"
_PORTABLE = _faults(
    {"partition": (Tier.GUARD, _PARTITION)},
    {
        "delay": _STUB,
        "abort": _STUB,
        "grpcAbort": _STUB,
        "bandwidth": _STUB,
        "reset": f"partition; or {_STUB}",
        "blackhole": "partition, which drops packets of every request",
        "eject": "a separate version for those endpoints, with weight 0 in a MeshCanary",
        "overflow": f"partition; or {_STUB}",
        "retries": "partition, which makes the configured retries act",
        "timeout": "partition, which makes the configured timeout act",
    },
)
_EXPIRES = "exact, in a separate EnvoyFilter that expires in the proxies' route tables"
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
        Capability(change=BASELINE, supported=True, tier=Tier.PROXY, note="a separate cluster in every proxy"),
        *_ENVOY,
    ),
    ("istio", "plain"): (
        _split(Tier.GUARD, "weights in VirtualServices; any running guard restores"),
        _NO_BASELINE,
        *_ISTIO,
    ),
    ("istio", "envoyfilter"): (
        _split(Tier.PROXY, "a separate EnvoyFilter that expires in the proxies' route tables"),
        _NO_BASELINE,
        *_ENVOYFILTER,
    ),
    ("gateway_api", "plain"): (
        _split(Tier.GUARD, "weights of backends in HTTPRoutes and GRPCRoutes; any running guard restores"),
        _NO_BASELINE,
        *_PORTABLE,
    ),
    ("smi", "plain"): (
        _split(Tier.GUARD, "weights in TrafficSplits; any running guard restores"),
        _NO_BASELINE,
        *_PORTABLE,
    ),
}
"""By provider and driver, as a mesh file names them."""


def ability(provider: str, driver: str, fault_type: str) -> Capability:
    """What a provider with this driver supports of a kind of fault.

    Args:
        provider: as a mesh file names it.
        driver: likewise; `plain` by default.
        fault_type: the fault's `type`.

    Raises:
        KeyError: there is no such provider, driver or kind.
    """
    wanted = fault_change(fault_type)
    for one in ABILITIES[provider, driver]:
        if one.change == wanted:
            return one
    raise KeyError(fault_type)
