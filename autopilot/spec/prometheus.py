"""The Prometheus of a mesh: its address, and how to ask it. Part of a mesh's file; credentials are references.

Any store that answers Prometheus' HTTP API, such as Thanos and Mimir, is asked in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from autopilot.spec.base import Misplaced, SpecModel
from autopilot.spec.headers import HeaderName, HeadersOnce, HeaderText, HeaderValue
from autopilot.spec.secret_ref import SecretRef, SecretText
from autopilot.spec.values.addresses import Url

Place = tuple[str | int, ...]


def _no_text(value: object) -> object:
    """Refuses what may be the secret itself, with a message that does not repeat it."""
    if isinstance(value, str | bytes | int | float):
        raise ValueError(  # noqa: TRY004 - what pydantic takes for a finding
            "must not be written here: write a reference, secretRef: {file: /PATH}, {env: NAME} or "
            "{kubernetes: {name: SECRET, key: KEY}}"
        )
    return value


class Secret(SpecModel):
    """A value that must not be written down."""

    secret_ref: Annotated[SecretRef, BeforeValidator(_no_text)]

    @model_validator(mode="before")
    @classmethod
    def _reference(cls, value: object) -> object:
        return _no_text(value)


def _text_or_secret(value: object) -> str:
    """Which of both a value is meant to be, so that a message is about that one alone."""
    return "secret" if isinstance(value, dict | Secret) else "text"


class BasicAuth(SpecModel):
    """A user and a password."""

    username: Annotated[
        Annotated[HeaderText, Tag("text")] | Annotated[Secret, Tag("secret")], Discriminator(_text_or_secret)
    ]
    password: Secret

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        if isinstance(self.username, str) and ":" in self.username:
            raise Misplaced("has a colon, which ends a user's name", at=("username",), hint="write the user alone")
        return self


class Tls(SpecModel):
    """Whose certificate is believed, and what proves who asks. All are in PEM format."""

    ca: Secret | None = None
    """Authorities that sign the store's certificate, instead of the system's."""
    certificate: Secret | None = None
    """Our own, with those between it and its authority."""
    key: Secret | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            missing = "certificate" if self.certificate is None else "key"
            raise ValueError(f"needs certificate and key, and {missing} is missing")
        return self


class PrometheusSpec(SpecModel):
    """How a mesh's Prometheus is asked."""

    url: Url | None = None
    """Its base URL: what comes before `/api/v1/query`. `--prometheus` and `$AUTOPILOT_PROMETHEUS` have precedence."""
    headers: Annotated[dict[HeaderName, HeaderValue], Field(max_length=32), HeadersOnce] = Field(default_factory=dict)
    """For instance a tenant, `X-Scope-OrgID`."""
    bearer_token: Secret | None = None
    basic_auth: BasicAuth | None = None
    tls: Tls = Tls()
    plain_http: bool = False
    """Whether credentials may be sent over `http`, without TLS, to another machine."""
    queries: Literal["auto", "byName"] = "auto"
    """`byName`: one query for each metric, for stores that take no pattern for metric names; `auto` finds out."""

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        ways = {
            "bearerToken": self.bearer_token is not None,
            "basicAuth": self.basic_auth is not None,
            "headers.authorization": "authorization" in self.headers,
        }
        given = [name for name, there in ways.items() if there]
        if len(given) > 1:
            raise ValueError(f"has {' and '.join(given)}: all are the header Authorization; write one of them")
        return self

    @model_validator(mode="after")
    def _ours(self) -> Self:
        for name in ("host", "content-length", "transfer-encoding", "connection"):
            if name in self.headers:
                raise Misplaced("is set by the client", at=("headers", name), hint="remove it")
        return self

    @property
    def secrets(self) -> dict[Place, SecretRef]:
        """Every reference, by its place in this part."""
        return dict(self._secrets())

    def _secrets(self) -> Iterator[tuple[Place, SecretRef]]:
        for name, text in self.headers.items():
            if isinstance(text, SecretText):
                yield ("headers", name, "secretRef"), text.secret_ref
        if self.bearer_token is not None:
            yield ("bearerToken", "secretRef"), self.bearer_token.secret_ref
        if self.basic_auth is not None:
            if isinstance(self.basic_auth.username, Secret):
                yield ("basicAuth", "username", "secretRef"), self.basic_auth.username.secret_ref
            yield ("basicAuth", "password", "secretRef"), self.basic_auth.password.secret_ref
        for field in ("ca", "certificate", "key"):
            if (found := getattr(self.tls, field)) is not None:
                yield ("tls", field, "secretRef"), found.secret_ref

    def refuse_cluster_secrets(self, at: Place) -> None:
        """Checks that no reference needs a cluster.

        Raises:
            Misplaced: one does.
        """
        for place, ref in self.secrets.items():
            if ref.kubernetes is not None:
                raise Misplaced(
                    "is a Secret of a cluster, and this mesh is in none",
                    at=(*at, *place, "kubernetes"),
                    hint="write file or env",
                )
