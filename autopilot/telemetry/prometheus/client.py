"""The HTTP client of one store: prometheus-api-client's, with the whole answer instead of its `result` alone.

The library drops `warnings`, follows redirections with every header that it was given, and knows no TLS from memory;
its address handling, session and timeouts are used as they are. Loaded when the first question is asked: `requests`
is slow to load.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prometheus_api_client.prometheus_connect import PrometheusConnect
from requests import JSONDecodeError, PreparedRequest, RequestException, Response
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.retry import Retry

from autopilot.telemetry.model import TelemetryError
from autopilot.telemetry.prometheus.answers import Unreachable, incomplete, refusal, said_in
from autopilot.telemetry.prometheus.credentials import local

if TYPE_CHECKING:
    import ssl

    from urllib3 import HTTPConnectionPool

    from autopilot.telemetry.prometheus.credentials import Sent

_OPTIONAL = ("partial_response", "lookback_delta")
"""Parameters that not every store knows; most leave out what they do not know, and some refuse it."""
_CONNECTIONS = 16
"""Kept open: the queries of probes and of a rollout that are under way at once."""


class StoreClient(PrometheusConnect):
    """Asks instant queries.

    Args:
        url: the store's base URL.
        name: for messages.
        timeout: seconds that an answer may take.
        tls: how to check an `https` address, and what to prove ourselves with; None: as the system does.
        pool: connections that are kept open.
    """

    def __init__(
        self, url: str, *, name: str, timeout: float, tls: ssl.SSLContext | None = None, pool: int = _CONNECTIONS
    ) -> None:
        # The hub asks again at the next tick: retries of the client's own would only make an answer late.
        super().__init__(url, retry=Retry(total=0), timeout=math.ceil(timeout))
        self._session.mount(url, _Adapter(tls, pool))
        self._name = name
        self._left_out: set[str] = set()
        # What is for this machine goes through no proxy of the environment.
        self._proxies: dict[str, Any] = {"http": None, "https": None, "all": None} if local(url) else {}

    def ask(self, expression: str, params: Mapping[str, str], sent: Sent) -> list[Any]:
        """The `result` of one query.

        Raises:
            TelemetryError: no answer, a refusal, or an answer that lacks data.
        """
        while True:
            given = {name: text for name, text in params.items() if name not in self._left_out}
            response = self._get({"query": expression, **given}, sent)
            if response.status_code == 200:
                return self._result(response, sent)
            said = said_in(response.content)
            unknown = {name for name in _OPTIONAL if name in given and name in said}
            if response.status_code != 400 or not unknown:
                where = response.headers.get("location", "")
                raise refusal(self._name, expression, response.status_code, sent.hidden(said), where=sent.hidden(where))
            self._left_out |= unknown  # the loop ends: there are only so many

    def _get(self, params: Mapping[str, str], sent: Sent) -> Response:
        try:
            return self._session.get(
                f"{self.url}/api/v1/query",
                params=params,
                auth=_Credentials(sent) if sent.headers else None,
                timeout=self._timeout,
                proxies=self._proxies,
                allow_redirects=False,
            )
        except RequestException as failure:
            # The failure's own text begins with the whole query.
            cause = getattr(failure.args[0], "reason", failure) if failure.args else failure
            raise Unreachable(
                f"{self._name} cannot be read: {sent.hidden(str(cause))}; check that it runs and that the address "
                "is correct"
            ) from None  # the failure holds the request, with its headers

    def _result(self, response: Response, sent: Sent) -> list[Any]:
        try:
            body = response.json()
            result = body["data"]["result"]
        except (JSONDecodeError, KeyError, TypeError) as failure:
            raise TelemetryError(
                f"{self._name} gave no answer to a query; check that the address is a Prometheus'"
            ) from failure
        if lacking := sent.hidden(incomplete(body)):
            raise TelemetryError(
                f"{self._name} answered with a warning, so the answer may lack data and does not count: {lacking}; "
                "check the stores behind it, or the expression"
            )
        if not isinstance(result, list):
            raise TelemetryError(
                f"{self._name} gave {type(result).__name__} as a result; check that the address is a Prometheus'"
            )
        return result


def usual_authorities() -> str:
    """The file of the authorities that are believed where a mesh names none: as requests chooses it."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or DEFAULT_CA_BUNDLE_PATH


class _Credentials(AuthBase):
    """Sets headers as requests' own authentication does: so that a `.netrc` replaces none of them."""

    def __init__(self, sent: Sent) -> None:
        self._sent = sent

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        for name, text in self._sent.headers.items():
            request.headers[name] = text.encode()  # text would be sent as Latin-1
        return request


class _Adapter(HTTPAdapter):
    """Uses a TLS context of its own, where it has one: that alone says which certificates are believed."""

    def __init__(self, tls: ssl.SSLContext | None, pool: int) -> None:
        self._tls = tls
        super().__init__(max_retries=Retry(total=0), pool_maxsize=pool)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block=block, **pool_kwargs, **self._own())

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        return super().proxy_manager_for(proxy, **proxy_kwargs, **self._own())

    def send(  # noqa: PLR0917 - as requests has it
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Response:
        if self._tls is not None:  # nor does the environment (REQUESTS_CA_BUNDLE) add authorities to it
            verify, cert = True, None
        return super().send(request, stream, timeout, verify, cert, proxies)

    def _own(self) -> dict[str, Any]:
        return {"ssl_context": self._tls} if self._tls is not None else {}

    def cert_verify(self, conn: HTTPConnectionPool, url: str, verify: Any, cert: Any) -> None:
        if self._tls is None:
            super().cert_verify(conn, url, verify, cert)
