"""Connects to Temporal: address, TLS and API key come only from Temporal's own configuration.

Commands use it too: it imports neither workers nor workflows.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from temporalio.client import Client, Plugin
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime

from worker.codecs import named_codec
from worker.converter import with_codec


class TemporalUnavailable(Exception):
    """Temporal did not answer; the message names the address and what to do."""


async def connect(
    default_address: str | None = None,
    *,
    plugins: Sequence[Plugin] = (),
    limit: float = 10.0,
    codec: str | None = None,
    runtime: Runtime | None = None,
) -> Client:
    """Connects as `TEMPORAL_*` variables or Temporal's own profile file say.

    Args:
        default_address: taken where neither names an address (the embedded stack's, for instance).
        plugins: of the client and of every worker made from it. Whoever starts and commands operations needs none;
            a worker needs `worker.plugin.AutopilotPlugin`.
        limit: seconds to wait for an answer.
        codec: name of the payload codec; by default what `AUTOPILOT_CODEC` says.
        runtime: where the SDK keeps its threads and metrics; by default the process' own.

    Raises:
        CodecError: a codec is named that cannot be used.
        TemporalUnavailable: nothing answered in time.
    """
    converter = with_codec(named_codec(codec))
    options = ClientConfig.load_client_connect_config(config_file=os.environ.get("TEMPORAL_CONFIG_FILE"))
    address = options.setdefault("target_host", default_address or "localhost:7233")
    try:
        async with asyncio.timeout(limit):
            return await Client.connect(**options, data_converter=converter, plugins=plugins, runtime=runtime)
    except (RuntimeError, TimeoutError) as error:
        raise TemporalUnavailable(
            f"Temporal did not answer at {address} ({_cause(error)}): start a local one with `autopilot up`, "
            "or set TEMPORAL_ADDRESS to the address of yours"
        ) from error


def _cause(error: Exception) -> str:
    """The cause in short, from the SDK's nested error text."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return "connection refused" if "Connection refused" in str(error) else str(error)
