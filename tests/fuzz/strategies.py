"""What hypothesis draws from: meshes and overlays that validation lets through, and texts that it should not."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from ruamel.yaml import YAML

from autopilot.mesh.envoy.config import fault_support
from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.leases.records import Overlay, Spare
from autopilot.mesh.model import (
    Aspect,
    Change,
    Holder,
    InjectFault,
    Lease,
    LeasePhase,
    SplitTraffic,
    Target,
    baseline_of,
)
from autopilot.spec.base import Metadata
from autopilot.spec.chaos.faults import (
    Abort,
    Bandwidth,
    Blackhole,
    Delay,
    Eject,
    GrpcAbort,
    Overflow,
    Reset,
    Retries,
    Timeout,
)
from autopilot.spec.chaos.scope import HeaderMatch, PathMatch, Scope, Users
from autopilot.spec.mesh import Inbound, Mesh, MeshArm, MeshService, MeshSpec, Outbound, Proxy

EXAMPLES = [
    path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
]

names = st.sampled_from(["a", "b", "a-b", "b--c", "reviews", "0", "10", "0-0", "admin", "x" * 63])
"""Few, so that two meet; the shortest, the longest and the oddest there may be."""
ports = st.integers(1, 65535)
ip_addresses = st.builds("{}:{}".format, st.sampled_from(["127.0.0.1", "10.1.2.3", "255.255.255.255"]), ports)
addresses = ip_addresses | st.builds("{}:{}".format, st.sampled_from(["host", "a.b-c.svc", "1", "01.2.3.4"]), ports)


@st.composite
def shares(draw: st.DrawFn, arms: list[str]) -> dict[str, float]:
    """Weights in percent that add up to 100, awkward ones among them."""
    if len(arms) == 1:
        return {arms[0]: 100.0}
    cuts = sorted(draw(st.lists(st.floats(0, 100), min_size=len(arms) - 1, max_size=len(arms) - 1)))
    ends = [0.0, *cuts, 100.0]
    return dict(zip(arms, (high - low for low, high in pairwise(ends)), strict=True))


@st.composite
def services(draw: st.DrawFn) -> MeshService:
    arms = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    served = draw(st.lists(st.sampled_from(arms), min_size=1, unique=True))
    endpoints = {arm: draw(st.lists(addresses, min_size=int(arm in served), max_size=2)) for arm in arms}
    return MeshService(
        name=draw(names),
        namespace=draw(names),
        arms={arm: MeshArm(endpoints=tuple(endpoints[arm])) for arm in arms},
        weights=draw(shares(served)),
        timeout=draw(st.just(0.0) | st.floats(0.001, 366 * 86400) | st.sampled_from([0.001, 15, 300, 301, 1e6])),
        retries=draw(st.integers(0, 10)),
    )


@st.composite
def meshes(draw: st.DrawFn) -> MeshSpec:
    """Any mesh that validation lets through, in small."""
    known = draw(st.lists(services(), min_size=1, max_size=4, unique_by=lambda service: service.ref))
    refs = [service.ref for service in known]
    proxies = []
    for name in draw(st.lists(names, min_size=1, max_size=2, unique=True)):
        listeners = draw(st.lists(names, min_size=1, max_size=3, unique=True))
        places = draw(st.lists(ip_addresses, min_size=len(listeners), max_size=len(listeners), unique=True))
        pairs = list(zip(listeners, places, strict=True))
        split = draw(st.integers(0, len(pairs)))
        calls = st.lists(st.sampled_from(refs), min_size=1, unique=True).map(tuple)
        proxies.append(
            Proxy(
                name=name,
                admin=draw(ip_addresses),
                inbound=tuple(Inbound(name=n, address=a, application=draw(addresses)) for n, a in pairs[:split]),
                outbound=tuple(Outbound(name=n, address=a, services=draw(calls)) for n, a in pairs[split:]),
            )
        )
    return MeshSpec(services=tuple(known), proxies=tuple(proxies))


def as_mesh(spec: MeshSpec) -> Mesh:
    """A whole document."""
    return Mesh(metadata=Metadata(name="m"), spec=spec)


@st.composite
def overlays(draw: st.DrawFn, spec: MeshSpec, service: MeshService | None = None) -> list[Overlay]:
    """What may lie over the services, as the ledger checks it: arms that are there, weight where endpoints are."""
    found = []
    for fencing in range(draw(st.integers(0, 4))):
        over = service or draw(st.sampled_from(spec.services))
        able = [arm for arm, definition in over.arms.items() if definition.endpoints]
        if len(over.arms) > 1:
            able += [baseline_of(arm) for arm in able]
        chosen = draw(st.lists(st.sampled_from(able), min_size=1, unique=True))
        lease = Lease(
            target=Target(mesh="m", namespace=over.namespace, service=over.name),
            aspects=(Aspect.TRAFFIC,),
            holder=Holder(operation=f"canary/m/x/{fencing}", fencing=fencing),
            ttl=60,
            max_unattended=60,
        )
        disturbed = draw(st.booleans())
        changes: tuple[Change, ...] = (SplitTraffic(weights=draw(shares(chosen))),)
        found.append(
            Overlay(
                lease=lease,
                changes=draw(injections(spec, over)) if disturbed else changes,
                deadline=draw(st.floats(1, 1e10)),
                phase=LeasePhase.ACTIVE
                if disturbed
                else draw(st.sampled_from([LeasePhase.ACTIVE, LeasePhase.ACTIVE, LeasePhase.COMMITTING])),
            )
        )
    return found


def spares(laid: list[Overlay]) -> list[Spare]:
    """The clusters that these overlays need."""
    return [Spare(lease=overlay.lease, changes=overlay.changes) for overlay in laid]


@st.composite
def injections(draw: st.DrawFn, spec: MeshSpec, service: MeshService) -> tuple[InjectFault, ...]:
    """Faults over one service as the ledger lets them through: those that it refuses are left out."""
    words = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1, max_size=8)
    names_of_headers = words.filter(str.isalpha).map(str.lower)  # two that differ in capitals alone are one header
    endpoints = sorted({address for arm in service.arms.values() for address in arm.endpoints})
    some = st.lists(st.sampled_from(endpoints), unique=True, max_size=3).map(tuple) if endpoints else st.just(())
    fault = st.one_of(
        st.builds(Delay, delay=st.floats(1, 60), jitter=st.floats(0, 0.9)),
        st.builds(Abort, status=st.integers(400, 599)),
        st.builds(GrpcAbort, code=st.integers(1, 16)),
        st.builds(Bandwidth, limit=st.integers(1, 1000)),
        st.just(Reset()),
        st.builds(Blackhole, endpoints=some),
        st.builds(Eject, endpoints=st.sampled_from(endpoints).map(lambda one: (one,)))
        if endpoints
        else st.just(Reset()),
        st.builds(Overflow, requests=st.integers(0, 100)),
        st.builds(Retries, retries=st.integers(0, 10), per_try_timeout=st.none() | st.floats(0.01, 100)),
        st.builds(Timeout, timeout=st.floats(0.001, 1000)),
    )
    of_paths = st.text(st.characters(codec="ascii", min_codepoint=33, exclude_characters="?#\x7f"), min_size=1)
    paths_ = st.one_of(
        st.builds(PathMatch, exact=of_paths.map("/{}".format)),
        st.builds(PathMatch, prefix=of_paths.map("/{}".format)),
        st.builds(PathMatch, regex=words.map(re.escape)),
    )
    found: list[InjectFault] = []
    for _ in range(draw(st.integers(1, 3))):
        scope = Scope(
            percentage=draw(st.floats(0.0001, 30)),
            headers=draw(st.dictionaries(names_of_headers, st.builds(HeaderMatch, prefix=words), max_size=2)),
            users=draw(st.none() | st.builds(Users, percentage=st.floats(0.01, 100), header=st.just("end-user"))),
            path=draw(st.none() | paths_),
            method=draw(st.sampled_from([None, "GET", "POST"])),
            arm=draw(st.none() | st.sampled_from(sorted(service.arms))),
            view=draw(st.sampled_from(["app", "policy"])),
        )
        change = InjectFault(fault=draw(fault), scope=scope, salt=draw(st.sampled_from(["", "a", "b"])))
        try:
            fault_support.refuse(spec, service, [*found, change])
        except InvalidChange:
            continue
        found.append(change)
    return tuple(found)


def paths(spec: MeshSpec) -> dict[str, dict[str, str]]:
    """A file for every route table."""
    return {
        proxy.name: {one.name: f"/m/{proxy.name}/{one.name}" for one in (*proxy.inbound, *proxy.outbound)}
        for proxy in spec.proxies
    }


# Texts

scalars: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["10%", "5s", "v1", "promql", "latency", "x/y", "10.0.0.1:80", "\0", "\u202e", "0x" + "f" * 5000])
    | st.sampled_from(["delay", "grpcAbort", "eject", "http", "kubernetes", "podKill", "UTC", "09:00", "status.phase"])
    | st.sampled_from(["0 10 * * mon-fri", "2026-12-24", 20261224, 1e300])
)
keys = st.sampled_from(
    ["apiVersion", "kind", "metadata", "spec", "name", "namespace", "labels", "annotations", "target", "arms", "steps",
     "analysis", "service", "stable", "canary", "weight", "hold", "pause", "metrics", "type", "query", "services",
     "proxies", "outbound", "inbound", "address", "weights", "endpoints", "deadline", "timeout", "directory", "<<",
     "title", "hypothesis", "probes", "tolerance", "equals", "oneOf", "regex", "jsonpath", "method", "faults", "fault",
     "actions", "scope", "percentage", "headers", "cookie", "users", "source", "view", "zone", "zones", "safety",
     "maxTraffic", "errorBudget", "abort", "schedule", "cron", "timeZone", "windows", "freeze", "start", "end", "chaos"]
) | st.text(max_size=8)  # fmt: skip
structures: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6), max_leaves=25
)
fragments = st.sampled_from(
    ["\n", "  ", "- ", ": ", "[", "]", "{", "}", "&a ", "*a", "<<: *a", "!!python/object:os.system ", "!a ", "|\n",
     ">-\n",
         "'", '"', "#", "---\n", "...\n", "%YAML 1.1\n", "%TAG ! x\n", "? ", "\t", "\r", "\0", "\x85", "\u2028",
     "\ufeff", "~",
         ".nan", ".inf", "1e999", "0x" + "f" * 4400, "9" * 4400, "1" * 2000 + "x",
     "\\", "\\ud800", "é", "٣", "=", "yes"]
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A good example with pieces cut out, doubled, moved, or strange ones put in."""
    text = draw(st.sampled_from(EXAMPLES))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 30)))
        piece = draw(fragments | st.text(max_size=5) | st.just(text[start:end] * 2))
        text = text[:start] + piece + text[end:]
    return text


@st.composite
def revalued(draw: st.DrawFn) -> str:
    """A good example with some values changed for others: still YAML, hardly ever a document."""
    lines = draw(st.sampled_from(EXAMPLES)).splitlines()
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(lines) - 1))
        value = dumped(draw(structures)).strip().replace("\n", " ")
        lines[number] = re.sub(r": [^#{\[]+", lambda _, value=value: f": {value}", lines[number], count=1)
    return "\n".join(lines)


def dumped(value: Any) -> str:
    """The value as YAML."""
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(value, stream)
    return stream.getvalue()
