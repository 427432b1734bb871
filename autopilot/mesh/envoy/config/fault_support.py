"""Checks whether plain Envoys support a fault: what it names must exist, and its scope must match requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autopilot.mesh.envoy.config import faults
from autopilot.mesh.envoy.config.laid_fault import Laid
from autopilot.mesh.errors import InvalidChange
from autopilot.mesh.model import InjectFault
from autopilot.mesh.proxy_regex import refuse_regex
from autopilot.spec.chaos.faults import Blackhole, Eject, Partition, describe
from autopilot.spec.mesh import MeshService, MeshSpec
from autopilot.spec.values.addresses import is_ip, split_address
from autopilot.spec.values.units import listed

FULL = 100.0 + 1e-6
_COUNTED = {"delay": "delays", "abort": "aborts", "grpcAbort": "aborts", "bandwidth": "slowed", "blackhole": "lost"}
"""Kinds whose counters are a listener's, or a proxy's; the others have counters of their own routes."""


def refuse(spec: MeshSpec, service: MeshService, changes: Sequence[InjectFault]) -> None:
    """Refuses faults that name something unknown, apply to no request, or that Envoy does not support.

    Raises:
        InvalidChange: which, why, and the known names.
    """
    shares: dict[str, float] = {}
    counted: set[tuple[str, bool]] = set()
    for change in changes:
        one = Laid(service, 0, change)
        counter = _COUNTED.get(one.fault.type, one.name), one.inbound
        if counter in counted:
            raise InvalidChange(
                f"two faults of kind {one.fault.type} at the same time have the same counters in proxies: "
                "lay them one after the other, or widen the scope of one"
            )
        counted.add(counter)
        _sayable(one)
        _source(spec, one)
        _arm(one)
        _endpoints(spec, one)
        kind = faults.kind_of_scope(one)
        shares[kind] = shares.get(kind, 0.0) + (100.0 if one.scope.percentage is None else one.scope.percentage)
        if shares[kind] > FULL:
            raise InvalidChange(
                f"faults laid at the same time on requests to {service.ref} take {shares[kind]:g} % of them: "
                "give them shares of at most 100 % in all, or lay them one after the other"
            )


def _sayable(one: Laid) -> None:
    if isinstance(one.fault, Partition):
        raise InvalidChange(
            "a partition needs Kubernetes' NetworkPolicies, which a mesh of plain Envoys has not; nearest: "
            "type: blackhole"
        )
    if one.inbound and one.scope.source is not None:
        raise InvalidChange(
            f"proxies on {one.service.ref}'s side cannot tell callers apart: leave out scope.source, or use view: app"
        )
    if one.scope.rule is not None:
        raise InvalidChange(
            f"scope.rule: {one.scope.rule!r}: a mesh of plain Envoys has no VirtualServices, whose rules have names; "
            "nearest: path, method or headers"
        )
    for name, match in one.scope.headers.items():
        if match.regex is not None:
            refuse_regex(match.regex, f"scope.headers.{name}")
    if one.scope.path is not None and one.scope.path.regex is not None:
        refuse_regex(one.scope.path.regex, "scope.path")


def _source(spec: MeshSpec, one: Laid) -> None:
    source = one.scope.source
    if source is None:
        return
    callers = {
        proxy.name: proxy
        for proxy in spec.proxies
        if any(one.service.ref in outbound.services for outbound in proxy.outbound)
    }
    if source.proxy is not None:
        if source.proxy not in callers:
            raise InvalidChange(f"proxy {source.proxy} does not call {one.service.ref}; {_known(callers)} do")
        return
    ref = faults.whole_name(source.service or "", one.service.namespace)
    service = spec.service(ref)
    if service is None:
        raise InvalidChange(
            f"scope.source: the mesh has no service {ref}; it has {_known(s.ref for s in spec.services)}"
        )
    if source.arm is not None and source.arm not in service.arms:
        raise InvalidChange(f"scope.source: {ref} has no arm {source.arm}; it has {_known(service.arms)}")
    if not any(faults.called_by(spec, proxy, one) for proxy in callers.values()):
        raise InvalidChange(
            f"{ref} does not call {one.service.ref}, so the fault has no effect there; {_known(callers)} call it"
        )


def _arm(one: Laid) -> None:
    arm = one.scope.arm
    if arm is None:
        return
    if arm not in one.service.arms:
        raise InvalidChange(f"scope.arm: {one.service.ref} has no arm {arm}; it has {_known(one.service.arms)}")
    if not one.service.weights.get(arm):
        raise InvalidChange(
            f"scope.arm: {arm} gets no traffic of {one.service.ref}, so the fault would apply to no request; "
            "choose another arm"
        )


def _endpoints(spec: MeshSpec, one: Laid) -> None:
    fault = one.fault
    if not isinstance(fault, Blackhole | Eject):
        return
    met = [arm for arm in one.service.arms if one.meets(arm)]
    every = [address for arm in met for address in one.service.arms[arm].endpoints]
    gone = [address for arm in met for address in faults.lost(spec, one, arm)]
    if fault.zone is not None and fault.zone not in spec.zones:
        known = _known(spec.zones) or "none; write spec.zones in the mesh file"
        raise InvalidChange(f"the mesh has no zone {fault.zone}; it has {known}")
    if unknown := sorted(set(fault.endpoints) - set(every)):
        raise InvalidChange(f"{_known(unknown)}: no endpoint of {one.service.ref} in scope; it has {_known(every)}")
    if not gone:
        raise InvalidChange(
            f"{describe(fault)}: {one.service.ref} has no endpoint there, so the fault would apply to no request"
        )
    for arm in met:
        endpoints = one.service.arms[arm].endpoints
        left = set(endpoints) - set(gone)
        if isinstance(fault, Eject) and one.service.weights.get(arm) and not left:
            raise InvalidChange(
                f"{describe(fault)} would remove all endpoints of arm {arm}; for that use type: blackhole"
            )
        if isinstance(fault, Blackhole) and left and not all(is_ip(split_address(each)[0]) for each in endpoints):
            raise InvalidChange(
                f"arm {arm} of {one.service.ref} has host names as endpoints, and single ones cannot be removed: "
                "write IP addresses, or remove the whole arm"
            )


def _known(names: Iterable[str]) -> str:
    return listed(sorted(names))
