"""Who asks: a token proves it, a name merely says it, and a token never travels."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from starter.client.errors import CommandError
from starter.client.identity import actor, caller

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


def public(key: ec.EllipticCurvePrivateKey, name: str) -> dict[str, Any]:
    return {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())), "kid": name, "alg": "ES256"}


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a token where the command line finds it."""
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [public(KEY, "one")]}))
    monkeypatch.setenv("AUTOPILOT_JWKS", str(tmp_path / "keys.json"))
    monkeypatch.setenv("AUTOPILOT_TOKEN_FILE", str(tmp_path / "token"))

    def put(claims: dict[str, Any], key: ec.EllipticCurvePrivateKey = KEY, name: str = "one") -> str:
        made = jwt.encode({"exp": time.time() + 60, **claims}, key, algorithm="ES256", headers={"kid": name})
        (tmp_path / "token").write_text(made + "\n")
        return made

    return put


def test_without_a_token_a_name_is_only_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTOPILOT_TOKEN_FILE", raising=False)
    assert (caller("ann").who, caller("ann").verified) == ("ann", False)


def test_a_token_proves_who_it_is_and_stays_here(token: Any) -> None:
    made = token({"sub": "1234", "email": "ann@example.org"})
    proven = caller(None)
    assert (proven.who, proven.verified) == ("ann@example.org", True)
    assert made not in proven.model_dump_json()
    by = actor(None, "paged")
    assert (by.who, by.verified, by.why, by.net) == ("ann@example.org", True, "paged", "person")


@pytest.mark.parametrize(
    ("claims", "key", "name", "said"),
    [
        ({"sub": "ann", "exp": time.time() - 60}, KEY, "one", "expired"),
        ({"sub": "ann"}, OTHER, "one", "is not valid"),
        ({"sub": "ann"}, OTHER, "two", "signed with key two"),
        ({}, KEY, "one", "names no person or job"),
    ],
)
def test_a_token_that_proves_nothing_is_refused(token: Any, claims: Any, key: Any, name: str, said: str) -> None:
    token(claims, key, name)
    with pytest.raises(CommandError, match=said):
        caller(None)


def test_nobody_says_he_is_somebody_else_than_his_token_proves(token: Any) -> None:
    token({"sub": "ann"})
    with pytest.raises(CommandError, match="the token is for ann"):
        caller("bob")


def test_a_token_without_keys_is_no_proof(token: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    token({"sub": "ann"})
    monkeypatch.delenv("AUTOPILOT_JWKS")
    with pytest.raises(CommandError, match="the token cannot be verified"):
        caller(None)
