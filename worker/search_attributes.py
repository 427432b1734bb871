"""The search attributes that make operations findable in Temporal's UI and in `autopilot list`."""

from __future__ import annotations

import structlog
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError

_log = structlog.get_logger()

SEARCH_ATTRIBUTES = ("AutopilotKind", "AutopilotTarget", "AutopilotPhase", "AutopilotOutcome", "AutopilotMesh")
"""All of type Keyword; no personal data in any."""


async def ensure_search_attributes(client: Client) -> None:
    """Registers missing search attributes: an unknown one would block a workflow without limit.

    Where the server does not allow that (Temporal Cloud), the log names the ones that its owner must add.
    """
    service = client.operator_service
    try:
        known = await service.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
        missing = [name for name in SEARCH_ATTRIBUTES if name not in known.custom_attributes]
        if missing:
            keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
            await service.add_search_attributes(
                AddSearchAttributesRequest(
                    namespace=client.namespace, search_attributes=dict.fromkeys(missing, keyword)
                )
            )
    except RPCError as error:
        _log.warning(
            "search attributes could not be registered; add them to the namespace by hand, with type Keyword",
            attributes=SEARCH_ATTRIBUTES,
            error=str(error),
        )
