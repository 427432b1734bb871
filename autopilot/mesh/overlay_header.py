"""The header by which proxies know how many overlays are alive: the same for every provider."""

from __future__ import annotations

OVERLAY_HEADER = "x-autopilot-overlay"
"""Internal request header: how many overlays are alive. Set by the constant filter, never accepted from a client."""
