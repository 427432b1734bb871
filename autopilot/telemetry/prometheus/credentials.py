"""How a store is asked: credentials and certificates, read when they are needed, and kept out of what is said.

A token in a file or in the cluster is exchanged while a worker runs, so values are read again and again: files and
variables for each query, Secrets of a cluster once a minute, and at once when the store refuses what it was sent.
No query waits for the cluster but the first: a new value is read beside it, and what was read last is used as long as
the cluster does not answer.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from autopilot.secret_values import LONGEST, forms, hidden, unusable
from autopilot.spec.input_safety.credentials import carries_a_credential, proves_identity
from autopilot.spec.prometheus import PrometheusSpec, Secret, Tls
from autopilot.spec.secret_ref import SecretRef, SecretText, described
from autopilot.telemetry.model import TelemetryError

LONGEST_PEM = 1_048_576
"""Bytes of a file of certificates."""
_FRESH = 60.0
"""Seconds that a Secret of the cluster is used before it is read again."""
_AGAIN = 5.0
"""Seconds before a refusal makes us read it again: wrong credentials must not become a stream of requests."""

Read = Callable[[SecretRef, int], bytes | None]
"""Reads a secret of at most so many bytes, or one byte more where it is longer; None where there is none. May take
time; raises `OSError` or `SecretUnreadable`."""


class SecretUnreadable(Exception):
    """Where a secret is cannot be asked; the message says why, without the value."""


class CredentialsUnavailable(TelemetryError):
    """Credentials are missing where this process runs, or cannot be used; the message names the reference alone."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What goes with one query."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    """By the name that stands in their place, all forms of the secrets in the headers."""

    def hidden(self, text: str) -> str:
        """The text without those secrets, whatever a server repeats of them."""
        return hidden(text, self.known)


class StoreAccess:
    """Credentials of one store. Safe to use from many threads.

    Args:
        spec: which there are.
        read: reads a secret.
        namespace: where a Secret is that names no namespace, for messages.
        clock: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        spec: PrometheusSpec,
        read: Read,
        *,
        namespace: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._read = read
        self._namespace = namespace
        self._clock = clock
        self._kept: dict[str, tuple[float, bytes]] = {}
        """Of Secrets of the cluster, by their names: when each was asked for, and what it was."""
        self._wrong: set[str] = set()
        """Of these, the ones that are read before the next query, because the store refused them."""
        self._lock = threading.Lock()

    def check(self, url: str) -> None:
        """Checks that nothing secret would be sent in the clear.

        Raises:
            CredentialsUnavailable: it would.
        """
        secret = any(place[0] != "tls" for place in self._spec.secrets) or any(
            isinstance(text, str) and _secret(name, text) for name, text in self._spec.headers.items()
        )
        if secret and not self._spec.plain_http and url.startswith("http://") and not local(url):
            raise CredentialsUnavailable(
                f"{url} has no TLS, and credentials would be sent in the clear; give an https address, or, where the "
                "network encrypts, set spec.prometheus.plainHttp: true in the mesh file or "
                "AUTOPILOT_PROMETHEUS_PLAIN_HTTP=true"
            )

    def sent(self) -> Sent:
        """What goes with a query now.

        Raises:
            CredentialsUnavailable: a secret is missing or cannot be sent.
        """
        headers: dict[str, str] = {}
        known: dict[str, tuple[str, ...]] = {}
        for name, text in self._spec.headers.items():
            if isinstance(text, SecretText):
                headers[name] = text.prefix + self._text(text.secret_ref, known)
            else:
                headers[name] = text
                if _secret(name, text):
                    known[f"<header {name}>"] = tuple(forms(text.rpartition(" ")[2]))
        if self._spec.bearer_token is not None:
            headers["authorization"] = f"Bearer {self._text(self._spec.bearer_token.secret_ref, known)}"
        if (basic := self._spec.basic_auth) is not None:
            user = basic.username
            user = self._text(user.secret_ref, known) if isinstance(user, Secret) else user
            pair = f"{user}:{self._text(basic.password.secret_ref, known)}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
            known["<user and password>"] = tuple(forms(pair))
        return Sent(headers, known)

    def refused(self) -> bool:
        """Takes note that the store refused what was sent; says whether it may be another now."""
        now = self._clock()
        with self._lock:
            self._wrong = {name for name, (at, _) in self._kept.items() if now - at >= _AGAIN}
            return bool(self._wrong)

    def certificates(self) -> tuple[bytes | None, bytes | None]:
        """Authorities, and our certificate with its key, in PEM format; None where the system's are used, or none.

        Raises:
            CredentialsUnavailable: one of them is missing or is no PEM.
        """
        tls: Tls = self._spec.tls
        authorities = self._pem(tls.ca) if tls.ca else None
        own = self._pem(tls.certificate) + b"\n" + self._pem(tls.key) if tls.certificate and tls.key else None
        return authorities, own

    def _text(self, ref: SecretRef, known: dict[str, tuple[str, ...]]) -> str:
        value, name = self._value(ref, LONGEST), described(ref, self._namespace)
        if problem := unusable(value):
            raise CredentialsUnavailable(f"{name}, a credential of Prometheus, {problem}; write another value there")
        text = value.decode().rstrip("\r\n")
        if text != text.strip():
            raise CredentialsUnavailable(
                f"{name}, a credential of Prometheus, has spaces at its beginning or end; remove them"
            )
        known[f"<{name}>"] = tuple(forms(text))
        return text

    def _pem(self, secret: Secret) -> bytes:
        value = self._value(secret.secret_ref, LONGEST_PEM)
        if len(value) > LONGEST_PEM or b"-----BEGIN " not in value:
            raise CredentialsUnavailable(
                f"{described(secret.secret_ref, self._namespace)} has no certificate or key in PEM format, or is "
                f"longer than {LONGEST_PEM:,} bytes; write text there that begins with -----BEGIN"
            )
        return value

    def _value(self, ref: SecretRef, longest: int) -> bytes:
        if ref.kubernetes is None:
            return self._found(ref, longest)
        now, name = self._clock(), described(ref, self._namespace)
        with self._lock:
            at, last = self._kept.get(name, (now, None))
            wrong = name in self._wrong
            self._wrong.discard(name)
            due = last is not None and now - at >= _FRESH
            if last is not None and (due or wrong):
                self._kept[name] = (now, last)  # others use the one before meanwhile
        if last is None or wrong:
            try:
                return self._renewed(ref, longest)
            except CredentialsUnavailable:
                if last is None:
                    raise
                return last
        if due:
            threading.Thread(target=self._renew, args=(ref, longest), name="credentials", daemon=True).start()
        return last

    def _renew(self, ref: SecretRef, longest: int) -> None:
        """Reads it again, beside queries; where that fails, the next round does."""
        with contextlib.suppress(CredentialsUnavailable):
            self._renewed(ref, longest)

    def _renewed(self, ref: SecretRef, longest: int) -> bytes:
        value = self._found(ref, longest)
        with self._lock:
            self._kept[described(ref, self._namespace)] = (self._clock(), value)
        return value

    def _found(self, ref: SecretRef, longest: int) -> bytes:
        name = described(ref, self._namespace)
        try:
            value = self._read(ref, longest)
        except (SecretUnreadable, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise CredentialsUnavailable(
                f"{name}, a credential of Prometheus, could not be read: {why}; this process needs it to ask Prometheus"
            ) from None
        if value is None:
            raise CredentialsUnavailable(
                f"{name}, a credential of Prometheus, was not found; create it where this process runs, or correct the "
                "reference"
            )
        return value


def tls_context(authorities: bytes | None, own: bytes | None, *, usual: str) -> ssl.SSLContext | None:
    """The TLS context for these certificates; None where there are none, and the client's own settings are enough.

    Args:
        authorities: who signs the store's certificate.
        own: our certificate and its key.
        usual: the file of the authorities that are believed where none are named.

    Raises:
        CredentialsUnavailable: they cannot be used.
    """
    if authorities is None and own is None:
        return None
    what = "spec.prometheus.tls.ca"
    try:
        if authorities is None:
            context = ssl.create_default_context(cafile=usual)
        else:
            context = ssl.create_default_context(cadata=authorities.decode())
        what = "spec.prometheus.tls.certificate or key"
        if own is not None:
            _load(context, own)
    except (ssl.SSLError, ValueError) as failure:
        reason = getattr(failure, "reason", None) or "they are no valid PEM"
        raise CredentialsUnavailable(
            f"the certificates of {what} cannot be used ({reason}); check that they are complete, that key and "
            "certificate belong together, and that the key has no passphrase"
        ) from None
    return context


def _load(context: ssl.SSLContext, own: bytes) -> None:
    """Python takes them from files alone; this one is in memory, so that no key is written to a disk."""
    number = os.memfd_create("certificate")
    try:
        with os.fdopen(number, "wb", closefd=False) as file:
            file.write(own)
        context.load_cert_chain(f"/proc/self/fd/{number}", password=_no_passphrase)
    finally:
        os.close(number)


def _no_passphrase() -> str:
    """Instead of a question at the terminal."""
    raise ValueError("the key has a passphrase")


def local(url: str) -> bool:
    """Whether an address is of this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _secret(name: str, text: str) -> bool:
    return carries_a_credential(name) or proves_identity(text)
