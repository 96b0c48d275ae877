"""JWEs of any shape, made with `cryptography` alone, for tests of rows 166 to 174."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from tests.attacks.forge import Forge, Sign, b64, thumbprint, to_json
from tests.conftest import private_pem

CONTENT_KEY = bytes(range(32))


def _number(value: int, size: int) -> str:
    return b64(value.to_bytes(size))


def _load(kind: str) -> Any:
    return serialization.load_pem_private_key(private_pem(kind), None)


@dataclass(frozen=True)
class Sealer:
    """Encrypts to a key of the project under test, as its owner or a stranger would."""

    algorithm: str
    kid: str
    setting: Any
    # Returns the content key, the second segment, and further members of the header.
    agree: Callable[[], tuple[bytes, bytes, dict[str, Any]]]

    def header(self, **changes: Any) -> dict[str, Any]:
        """Return the header of a good token with *changes*; `...` takes a member out."""
        header = {"alg": self.algorithm, "enc": "A256GCM", "kid": self.kid, "cty": "JWT", **changes}
        return {name: one for name, one in header.items() if one is not ...}

    def seal(self, plaintext: str | bytes, header: Any = None, **parts: bytes) -> str:
        """Encrypt *plaintext*; *parts* replaces ``wrapped``, ``iv``, ``ciphertext`` or ``tag``."""
        content_key, wrapped, more = self.agree()
        head = self.header() if header is None else header
        if isinstance(head, dict):
            head = {**more, **head}
        first = b64(to_json(head))
        iv = parts.get("iv", os.urandom(12))
        data = plaintext.encode() if isinstance(plaintext, str) else plaintext
        sealed = AESGCM(content_key).encrypt(iv or bytes(12), data, first.encode())
        found = {"wrapped": wrapped, "iv": iv, "ciphertext": sealed[:-16], "tag": sealed[-16:]}
        found |= parts
        return ".".join([first, *(b64(found[name]) for name in found)])


def direct() -> Sealer:
    """Return the sealer for a shared secret."""
    setting = {"kty": "oct", "k": b64(CONTENT_KEY), "kid": "e1"}
    return Sealer("dir", "e1", setting, lambda: (CONTENT_KEY, b"", {}))


def rsa() -> Sealer:
    """Return the sealer for an RSA key."""
    public = _load("RSA-2048").public_key()
    numbers = public.public_numbers()
    kid = thumbprint({"kty": "RSA", "n": _number(numbers.n, 256), "e": "AQAB"})
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)

    def agree() -> tuple[bytes, bytes, dict[str, Any]]:
        content_key = os.urandom(32)
        return content_key, public.encrypt(content_key, oaep), {}

    return Sealer("RSA-OAEP-256", kid, private_pem("RSA-2048"), agree)


def ecdh() -> Sealer:
    """Return the sealer for a P-256 key (RFC 7518 section 4.6)."""
    public = _load("P-256").public_key()
    point = public.public_numbers()
    members = {"kty": "EC", "crv": "P-256", "x": _number(point.x, 32), "y": _number(point.y, 32)}

    def agree() -> tuple[bytes, bytes, dict[str, Any]]:
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        mine = ephemeral.public_key().public_numbers()
        algorithm = b"ECDH-ES+A256KW"
        info = len(algorithm).to_bytes(4) + algorithm + bytes(8) + (256).to_bytes(4)
        shared = ephemeral.exchange(ec.ECDH(), public)
        wrapping = ConcatKDFHash(hashes.SHA256(), 32, info).derive(shared)
        content_key = os.urandom(32)
        epk = {"kty": "EC", "crv": "P-256", "x": _number(mine.x, 32), "y": _number(mine.y, 32)}
        return content_key, aes_key_wrap(wrapping, content_key), {"epk": epk}

    return Sealer("ECDH-ES+A256KW", thumbprint(members), private_pem("P-256"), agree)


@dataclass(frozen=True)
class SealedForge:
    """Signs as a forge does, and seals: the header and the signature are those inside."""

    forge: Forge
    sealer: Sealer

    @property
    def algorithm(self) -> str:
        """The algorithm of the signature."""
        return self.forge.algorithm

    @property
    def setting(self) -> Any:
        """The key that signs."""
        return self.forge.setting

    def header(self, **changes: Any) -> dict[str, Any]:
        """Return the header inside."""
        return self.forge.header(**changes)

    def token(self, payload: Any, header: Any = None, sign: Sign | None = None) -> str:
        """Sign and seal."""
        return self.sealer.seal(self.forge.token(payload, header, sign))

    def sealed(self, signed: str, sign: Sign | None = None) -> str:
        """Add a signature to two segments and seal."""
        return self.sealer.seal(self.forge.sealed(signed, sign))


SEALERS: dict[str, Callable[[], Sealer]] = {"dir": direct, "RSA": rsa, "EC": ecdh}


def parts_of(raw: str) -> list[str]:
    """Return the five segments of a JWE."""
    return raw.split(".")


def header_of(raw: str) -> Any:
    """Return the header of a JWE."""
    from base64 import urlsafe_b64decode

    return json.loads(urlsafe_b64decode(parts_of(raw)[0] + "==="))
