"""What is plainly a credential: specs and reasons travel into Temporal's history, where many may read for long.

Recognises shapes that mean nothing else, and is silent about the rest: a judge of prose would be in everybody's way.
Every pattern takes linear time, whatever it is given.
"""

from __future__ import annotations

import re

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
