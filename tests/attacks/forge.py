"""A forge for tokens of any shape: `hmac`, `json` and `cryptography`, nothing of the app."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.conftest import private_pem

SECRET = b"q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjGu1RpNi5o"


def b64(raw: bytes) -> str:
    """Encode as base64url without padding (RFC 7515 section 2)."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def to_json(value: Any) -> bytes:
    """Encode as compact JSON; bytes pass as they are."""
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


Sign = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Forge:
    """A key of the project under test in an attacker's hands (or its public half)."""

    algorithm: str
    kid: str
    setting: Any
    sign: Sign

    def header(self, **changes: Any) -> dict[str, Any]:
        """Return the header of a good token with *changes*; `...` takes a member out."""
        header = {"alg": self.algorithm, "kid": self.kid, "typ": "at+jwt", **changes}
        return {name: value for name, value in header.items() if value is not ...}

    def token(self, payload: Any, header: Any = None, sign: Sign | None = None) -> str:
        """Sign *payload* and *header*, which may be bytes of any kind."""
        head = self.header() if header is None else header
        return self.sealed(f"{b64(to_json(head))}.{b64(to_json(payload))}", sign)

    def sealed(self, signed: str, sign: Sign | None = None) -> str:
        """Add a signature to two segments of any spelling."""
        return f"{signed}.{b64((sign or self.sign)(signed.encode()))}"


def mac(secret: bytes, algorithm: str = "HS256") -> Sign:
    """Return a signer by HMAC."""
    return lambda signed: hmac.digest(secret, signed, f"sha{algorithm[2:]}")


def thumbprint(members: Mapping[str, str]) -> str:
    """Compute a thumbprint (RFC 7638 section 3)."""
    text = json.dumps(dict(sorted(members.items())), separators=(",", ":"))
    return b64(hashlib.sha256(text.encode()).digest())


def _number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8))


def _load(pem: bytes) -> Any:
    return serialization.load_pem_private_key(pem, None)


def hs256() -> Forge:
    """Return the forge for a secret."""
    setting = {"kty": "oct", "k": b64(SECRET), "kid": "k1"}
    return Forge("HS256", "k1", setting, mac(SECRET))


def rs256() -> Forge:
    """Return the forge for an RSA key."""
    key = _load(private_pem("RSA-2048"))
    numbers = key.public_key().public_numbers()
    kid = thumbprint({"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)})
    return Forge(
        "RS256",
        kid,
        private_pem("RSA-2048"),
        lambda signed: key.sign(signed, padding.PKCS1v15(), hashes.SHA256()),
    )


def raw_ecdsa(key: Any, signed: bytes) -> tuple[int, int]:
    """Sign and return (r, s)."""
    return decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))


def es256() -> Forge:
    """Return the forge for a P-256 key."""
    key = _load(private_pem("P-256"))
    point = key.public_key().public_numbers()
    members = {"kty": "EC", "crv": "P-256", "x": _number(point.x, 32), "y": _number(point.y, 32)}

    def sign(signed: bytes) -> bytes:
        r, s = raw_ecdsa(key, signed)
        return r.to_bytes(32) + s.to_bytes(32)

    return Forge("ES256", thumbprint(members), private_pem("P-256"), sign)


def eddsa() -> Forge:
    """Return the forge for an Ed25519 key."""
    key = _load(private_pem("Ed25519"))
    x = b64(key.public_key().public_bytes_raw())
    kid = thumbprint({"kty": "OKP", "crv": "Ed25519", "x": x})
    return Forge("EdDSA", kid, private_pem("Ed25519"), key.sign)


FORGES: dict[str, Callable[[], Forge]] = {
    "HS256": hs256,
    "RS256": rs256,
    "ES256": es256,
    "EdDSA": eddsa,
}
