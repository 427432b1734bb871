"""What is plainly a credential: specs and reasons travel into Temporal's history, where many may read for long.

Recognises shapes that mean nothing else, and is silent about the rest: a judge of prose would be in everybody's way.
Every pattern takes linear time, whatever it is given.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

WHERE_INSTEAD = (
    "specs stay in Temporal's history for whoever may look: keep credentials in the environment of the worker, "
    "and withdraw this one if it was ever sent"
)
"""What to do with a credential."""

_SHAPES: tuple[tuple[str, str], ...] = (
    ("a private key", r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[^-]*(?:-----END [A-Z0-9 ]{0,60}-----)?"),
    ("a URL with a user or password in it", r"[a-zA-Z][a-zA-Z0-9+.-]{0,20}://[^\s/?#@\"'`<>]{1,512}@"),
    (
        "an Authorization header",
        r"(?i:\bauthorization\b[\"']?\s{0,8}[:=]\s{0,8}[\"']?(?:bearer|basic|token|digest|apikey|negotiate)\s{1,8}\S{4,})",
    ),
    ("a bearer token", r"(?i:\bbearer)\s{1,8}(?=[A-Za-z._~+/=-]{0,64}[0-9])[A-Za-z0-9._~+/=-]{16,}"),
    ("a basic authorization", r"(?i:\bbasic)\s{1,8}(?=[A-Za-z+/]{0,64}[0-9=])[A-Za-z0-9+/]{12,}={0,2}"),
    ("a JSON web token", r"(?<![\w.-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{0,4096}"),
    ("an AWS access key", r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?![A-Za-z0-9])"),
    ("a GitHub token", r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    ("a GitLab token", r"(?<![A-Za-z0-9])gl(?:pat|dt|rt|cbt|ptt|oas)-[\w-]{20,}"),
    ("a Slack token", r"(?<![A-Za-z0-9])(?:xox[abceoprs]|xapp)-[\w-]{10,}"),
    ("a Slack webhook", r"hooks\.slack\.com/(?:services|workflows|triggers)/[\w/-]{10,}"),
    ("a Google API key", r"(?<![\w-])AIza[\w-]{35}"),
    ("a Stripe key", r"(?<![A-Za-z0-9])[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
)
_FIND = re.compile("|".join(f"({pattern})" for _, pattern in _SHAPES))
_KEYS = re.compile(
    r"(?i)^(?:.*[/._-])?(?:password|passwd|api-?key|private-?key|secret-?key|client-?secret|access-?token|auth-?token)$"
)


_ENDINGS = (
    "authorization", "cookie", "cookies", "cookie2", "token", "tokens", "secret", "secrets", "password", "passwd",
    "passphrase", "credential", "credentials", "apikey", "accesskey", "secretkey", "privatekey", "jwt", "dpop",
)  # fmt: skip
"""A header whose last word ends like this carries a credential: `x-vault-token`, `set-cookie`, `x-mytoken`."""
_KEYS_OF = frozenset(
    {"api", "access", "account", "admin", "auth", "client", "encryption", "functions", "license", "master", "private"}
    | {"secret", "service", "shared", "signing", "subscription"}
)
"""Words that make a credential of `-key`: `x-api-key`, `ocp-apim-subscription-key`; not `idempotency-key`."""
_IN_QUERIES = frozenset({"auth", "pass", "pwd", "sig", "signature", "jwt", "x-amz-signature", "x-goog-signature"})
"""Further names of parameters of a URL that carry a credential."""
_SCHEME = re.compile(r"(?i)\s{0,64}(?:bearer|basic|digest|negotiate|ntlm|apikey|aws4-hmac-sha256)\s{1,64}\S")
_TOKEN = re.compile(r"(?<![\w-])eyJ[\w-]{4,8192}\.[\w-]")
"""The beginning of a JSON web token: it shows by its first two parts, signed, encrypted or neither."""


def carries_a_credential(header: str) -> bool:
    """Whether a header of this name is there to prove who asks: its value must not be written down.

    The rule is closed: `x-auth-…`; a last word that ends in one of `_ENDINGS`; `key` after one of `_KEYS_OF`. A
    trailing `-bin`, as gRPC has it, is left out first.
    """
    words = [word for word in re.split(r"[-_.]", header[:256].lower()) if word]
    if len(words) > 1 and words[-1] == "bin":
        words.pop()
    if not words:
        return False
    if words[:2] == ["x", "auth"] or words == ["auth"]:
        return True
    return words[-1].endswith(_ENDINGS) or (words[-1] == "key" and len(words) > 1 and words[-2] in _KEYS_OF)


def proves_identity(value: str) -> bool:
    """Whether the value of a header is plainly a credential, whatever the header's name: `Bearer …`, `eyJ….…`."""
    return bool(_SCHEME.match(value) or _TOKEN.search(value)) or bool(credential(value))


def credential_in_url(url: str) -> str:
    """Which part of a URL holds a credential (`the parameter api_key`); empty where none plainly does."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""  # no URL: whoever reads it says so
    if "@" in parts.netloc:
        return "the user or password before the host"
    for name, value in parse_qsl(parts.query.replace(";", "&"), keep_blank_values=False):
        plain = name.lower().replace("_", "-")
        if plain in _IN_QUERIES or carries_a_credential(_dashed(name)) or proves_identity(value):
            return f"the parameter {name}" if len(name) <= 64 and not credential(name) else "a parameter"
    return ""


def _dashed(name: str) -> str:
    """`accessToken` as `access-Token`: words of a name, however they are told apart."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name[:256])


def credential(text: str) -> str:
    """What kind of credential the text holds (`a GitHub token`); empty where none is plain."""
    found = _FIND.search(text)
    return _SHAPES[found.lastindex - 1][0] if found and found.lastindex else ""


def names_a_credential(key: str) -> bool:
    """Whether a field of this name (`password`, `example.com/api-key`) would hold one."""
    return len(key) <= 320 and _KEYS.match(key.replace("_", "-")) is not None


def redacted(text: str) -> str:
    """The text with every credential replaced by what it is."""
    return _FIND.sub(lambda found: f"<{_SHAPES[(found.lastindex or 1) - 1][0]}>", text)
