"""Addresses as specifications name them: `host:port`."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field

from autopilot.spec.values.units import explained


def split_address(address: str) -> tuple[str, int]:
    """`host:port` as its two parts."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def is_ip(host: str) -> bool:
    """Whether the host is an IP address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _has_a_port(address: str) -> str:
    if not 1 <= split_address(address)[1] <= 65535:
        raise ValueError(f"{address!r} has no valid port: write a number from 1 to 65535")
    return address


def _listens(address: str) -> str:
    if not is_ip(split_address(address)[0]):
        raise ValueError(f"{address!r} is a name; a listener needs an IP address (0.0.0.0 listens on all)")
    return address


Address = Annotated[
    str,
    Field(pattern=explained(r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?:[0-9]{1,5}$", "an address: host:port")),
    AfterValidator(_has_a_port),
]
"""`host:port`, the host a name or an IPv4 address."""


ListenerAddress = Annotated[Address, AfterValidator(_listens)]
"""`host:port`, the host an IP address: Envoy resolves no names there."""


Url = Annotated[
    str,
    Field(max_length=2048, pattern=explained(r"^https?://[^\s\x00-\x1f\x7f]+$", "an address: http://host:port/path")),
]
