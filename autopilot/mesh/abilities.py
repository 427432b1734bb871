"""What each provider can say, and who undoes it when everything of ours is gone: the table that people choose by."""

from __future__ import annotations

from autopilot.mesh.model import Capability, Tier

SPLIT = "SplitTraffic"
BASELINE = "baseline: virtual"
"""A second count of stable's endpoints, for a fair comparison (`analysis.baseline`)."""

_NO_BASELINE = Capability(
    change=BASELINE,
    supported=False,
    note="the mesh's metrics tell versions apart, not two shares of one: run stable pods of their own instead",
)

ABILITIES: dict[tuple[str, str], tuple[Capability, ...]] = {
    ("envoy", "plain"): (
        Capability(change=SPLIT, supported=True, tier=Tier.PROXY, note="expires in the proxy's own route table"),
        Capability(change=BASELINE, supported=True, tier=Tier.PROXY, note="a cluster of its own in every proxy"),
    ),
    ("istio", "plain"): (
        Capability(
            change=SPLIT, supported=True, tier=Tier.GUARD, note="weights in VirtualServices; any live guard restores"
        ),
        _NO_BASELINE,
    ),
    ("istio", "envoyfilter"): (
        Capability(
            change=SPLIT,
            supported=True,
            tier=Tier.PROXY,
            note="an EnvoyFilter of its own, which expires in the proxies' route tables",
        ),
        _NO_BASELINE,
    ),
    ("gateway_api", "plain"): (
        Capability(
            change=SPLIT,
            supported=True,
            tier=Tier.GUARD,
            note="weights of backends in HTTPRoutes and GRPCRoutes; any live guard restores",
        ),
        _NO_BASELINE,
    ),
    ("smi", "plain"): (
        Capability(
            change=SPLIT, supported=True, tier=Tier.GUARD, note="weights in TrafficSplits; any live guard restores"
        ),
        _NO_BASELINE,
    ),
}
"""By provider and driver, as a mesh file names them."""
