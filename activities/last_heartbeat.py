"""The last heartbeat of an activity, as the server keeps it while the activity is neither done nor cancelled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.client import Client

from activities.contracts.operation import HeartbeatSignatures, LastHeartbeatRequest


class HeartbeatActivities(HeartbeatSignatures):
    """Heartbeats of this namespace's activities."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn(name="operation.last_heartbeat")
    async def last(self, request: LastHeartbeatRequest) -> Any:
        """The last heartbeat's details; None where there was none."""
        handle = self._client.get_workflow_handle(request.workflow_id, run_id=request.run_id)
        description = await handle.describe(rpc_timeout=timedelta(seconds=2))
        for pending in description.raw_description.pending_activities:
            if pending.activity_type.name == request.activity_type and pending.heartbeat_details.payloads:
                details = await self._client.data_converter.decode(pending.heartbeat_details.payloads)
                return details[0]
        return None
