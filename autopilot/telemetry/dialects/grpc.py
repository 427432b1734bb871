"""Which gRPC statuses are failures of the server, by default.

An error is a 5xx everywhere in this house. Google's `google/rpc/code.proto` says which HTTP status each gRPC code
stands for, and these are the ones that it maps to a 5xx; OpenTelemetry calls the same six errors of a server. So
RESOURCE_EXHAUSTED (429: a quota, or backpressure that works), CANCELLED (499: the caller went) and what the caller did
wrong are no failures of a version, and UNIMPLEMENTED (501) is one: a new version that lost a method does harm. A
service that says RESOURCE_EXHAUSTED when it breaks down lists it.
"""

from __future__ import annotations

UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS = 2, 4, 12, 13, 14, 15
FAILURES = frozenset({UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS})
CLIENT = frozenset({3, 5, 6, 7, 8, 9, 10, 11, 16})
"""Those that stand for a 4xx, but CANCELLED: what the caller did wrong, as the version sees it."""

NAMES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""By number."""
