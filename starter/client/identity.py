"""Who gives an order: what a token proves where there is one, else what the caller says of himself.

`AUTOPILOT_TOKEN_FILE` names a file with a JSON Web Token (a CI job's, a single sign-on's); `AUTOPILOT_JWKS` the file
with its issuer's public keys. The token itself never leaves this process: operations and records get the name in it.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starter.client.errors import CommandError

if TYPE_CHECKING:
    from autopilot.mesh.leases.overrides import Actor
    from autopilot.operations.common import Caller

TOKEN_VARIABLE = "AUTOPILOT_TOKEN_FILE"  # noqa: S105 - a variable's name, no secret
KEYS_VARIABLE = "AUTOPILOT_JWKS"
AUDIENCE_VARIABLE = "AUTOPILOT_AUDIENCE"
_NAMES = ("email", "preferred_username", "sub")
"""Claims that name a person or a job, the most readable first."""
_ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "EdDSA"]


def caller(said: str | None) -> Caller:
    """Who asks, for an operation.

    Raises:
        CommandError: there is a token and it proves nothing, or somebody else.
    """
    from autopilot.operations.common import Caller  # noqa: PLC0415

    who, verified = _who(said)
    return Caller(who=who, verified=verified)


def actor(said: str | None, why: str) -> Actor:
    """Who acts on the mesh, and why.

    Raises:
        CommandError: as `caller`.
    """
    from autopilot.mesh.leases.overrides import Actor  # noqa: PLC0415

    who, verified = _who(said)
    return Actor(who=who, verified=verified, why=why, net="person")


def _who(said: str | None) -> tuple[str, bool]:
    file = os.environ.get(TOKEN_VARIABLE)
    if not file:
        return said or whoami(), False
    keys = os.environ.get(KEYS_VARIABLE)
    if not keys:
        raise CommandError(
            f"{TOKEN_VARIABLE} is set, but {KEYS_VARIABLE} is not: the token cannot be verified",
            hint=f"set {KEYS_VARIABLE} to a file with the issuer's keys (JWKS), or unset {TOKEN_VARIABLE}",
        )
    claims = _claims(_read(file), _read(keys))
    proven = next((str(claims[name]) for name in _NAMES if claims.get(name)), "")
    if not proven:
        raise CommandError(f"the token in {file} names no person or job", hint=f"it needs one of {', '.join(_NAMES)}")
    if said and said != proven:
        raise CommandError(f"--who is {said}, but the token is for {proven}", hint="leave --who out")
    return proven, True


def _claims(token: str, keys: str) -> dict[str, Any]:
    import jwt  # noqa: PLC0415

    audience = os.environ.get(AUDIENCE_VARIABLE)
    try:
        known = jwt.PyJWKSet.from_json(keys)
        named = jwt.get_unverified_header(token).get("kid")
        key = next((key for key in known.keys if named in (None, key.key_id)), None)
        if key is None:
            raise CommandError(
                f"the token is signed with key {named}, which {KEYS_VARIABLE} does not have", hint="renew the keys"
            )
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=_ALGORITHMS,
            audience=audience,
            options={"require": ["exp"], "verify_aud": audience is not None},
        )
    except jwt.PyJWTError as error:
        raise CommandError(f"the token is not valid: {error}", hint=f"renew what {TOKEN_VARIABLE} names") from error
    return claims


def _read(file: str) -> str:
    try:
        return Path(file).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(
            f"{file} cannot be read: {error}", hint="see AUTOPILOT_TOKEN_FILE and AUTOPILOT_JWKS"
        ) from error


def whoami() -> str:
    """The name this process runs under; asserted, not proven."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid-{os.getuid()}"  # a container without a passwd entry
