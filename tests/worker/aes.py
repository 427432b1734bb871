"""A payload codec as an operator would write one, with AES-GCM: each payload becomes the ciphertext of itself."""

from __future__ import annotations

import os
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

ENCODING = b"binary/encrypted"
_NONCE = 12
"""Bytes."""


class AesCodec(PayloadCodec):
    """Encrypts whole payloads, metadata included; payloads that are not encrypted are left as they are."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._sealed(payload.SerializeToString()) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._opened(each) if each.metadata.get("encoding") == ENCODING else each for each in payloads]

    def _sealed(self, plain: bytes) -> Payload:
        nonce = os.urandom(_NONCE)
        return Payload(metadata={"encoding": ENCODING}, data=nonce + self._cipher.encrypt(nonce, plain, None))

    def _opened(self, payload: Payload) -> Payload:
        nonce, sealed = payload.data[:_NONCE], payload.data[_NONCE:]
        return Payload.FromString(self._cipher.decrypt(nonce, sealed, None))


def make() -> AesCodec:
    """The codec with the key that its environment names; an entry point."""
    return AesCodec(bytes.fromhex(os.environ["TEST_CODEC_KEY"]))


def broken() -> AesCodec:
    raise RuntimeError("the key server does not answer")


def no_codec() -> object:
    return object()
