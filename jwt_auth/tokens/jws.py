"""Signatures: compact JWS in and out. The only module that imports PyJWT.

Form and content are read here and by `claims`, strictly; PyJWT computes and
compares signatures and converts keys. A release of PyJWT that tolerates more than
the last one therefore changes nothing.
"""

from __future__ import annotations

import json
import logging
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jwt

from jwt_auth.errors import TokenNotValid
from jwt_auth.tokens.claims import Claims, SignedClaims, read_object, read_segment

if TYPE_CHECKING:
    from jwt_auth.tokens.keys import Key, KeySet

logger = logging.getLogger("jwt_auth")

MAX_LENGTH = 8192

# RFC 7515 section 7.1: three segments of base64url without padding, none of them empty.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sign(members: Mapping[str, Any], key: Key, typ: str) -> str:
    """Return the claim set *members* as a compact JWS of type *typ*.

    Raises:
        TypeError, ValueError: a member is no JSON, or nothing that verify() takes.
        TokenNotValid: a registered claim has a wrong type.
    """
    payload = _to_json(members)
    # What is handed out must be what is taken back.
    Claims(read_object(payload))
    raw = _signed(payload, key, typ)
    if len(raw) > MAX_LENGTH:
        raise ValueError(f"the token would be longer than {MAX_LENGTH} bytes")
    return raw


def sign_document(members: Mapping[str, Any], key: Key, typ: str) -> str:
    """Return *members*, which need be no claim set, as a compact JWS of type *typ*.

    Raises:
        TypeError, ValueError: a member is no JSON.
    """
    return _signed(_to_json(members), key, typ)


def _signed(payload: bytes, key: Key, typ: str) -> str:
    header = {"alg": key.algorithm, "kid": key.kid, "typ": typ}
    signed = f"{_encode(_to_json(header))}.{_encode(payload)}"
    signature = jwt.get_algorithm_by_name(key.algorithm).sign(signed.encode(), key.signing)
    return f"{signed}.{_encode(signature)}"


class Unverified:
    """A compact JWS that was taken apart, and of which nothing has been checked but form.

    `header` is its header, parsed strictly. Nothing of it may be relied on; it tells who
    to ask for a key.
    """

    __slots__ = ("_members", "_payload", "_proof", "_signed", "header")

    def __init__(self, raw: str, longest: int = MAX_LENGTH) -> None:
        """Take *raw* apart.

        Raises:
            TokenNotValid: not a compact JWS (RFC 7515 section 7.1), or longer than *longest*.
        """
        # By length alone and before anything else: the rest costs time for each byte.
        if not isinstance(raw, str) or len(raw) > longest:
            raise TokenNotValid("no text, or too long")
        if _COMPACT.fullmatch(raw) is None:
            raise TokenNotValid("not a compact JWS")
        signed, _, proof = raw.rpartition(".")
        header, _, payload = signed.partition(".")
        if len(header) > MAX_LENGTH:
            raise TokenNotValid("a header that is too long")
        self.header = read_object(read_segment(header))
        self._signed = signed.encode("ascii")
        self._payload = read_segment(payload)
        self._proof = read_segment(proof)
        self._members: dict[str, Any] | None = None

    @property
    def unsafe_members(self) -> dict[str, Any]:
        """The payload, which anybody may have written.

        Raises:
            TokenNotValid: it is not one JSON object.
        """
        if self._members is None:
            self._members = read_object(self._payload)
        return self._members

    def verify(self, key: Key) -> dict[str, Any]:
        """Return the payload if *key* has signed it.

        Raises:
            TokenNotValid: it has not, or the payload is not one JSON object.
        """
        if not _holds(key, self._signed, self._proof):
            raise TokenNotValid("the signature does not match")
        return self.unsafe_members


def verify(raw: str | Unverified, keys: KeySet, types: frozenset[str]) -> SignedClaims:
    """Check form, header and signature of *raw* and read its claims.

    Time, issuer and audience are not looked at: that is the policy's work.

    Raises:
        TokenNotValid: not a compact JWS of one of *types*, signed by a key of *keys*.
    """
    token = raw if isinstance(raw, Unverified) else Unverified(raw)
    check_header(token.header, types)
    return claims_of(token, keys.find(token.header))


def claims_of(token: Unverified, key: Key) -> SignedClaims:
    """Return the claims of *token*, which *key* has signed. The header is not looked at.

    Raises:
        TokenNotValid: it has not, or they are no claim set.
    """
    return SignedClaims(Claims(token.verify(key)))


def check_header(header: Mapping[str, Any], types: frozenset[str]) -> None:
    """Apply the rules for a header that need no key.

    Raises:
        TokenNotValid: ``typ`` is none of *types*, or something in it is not understood.
    """
    # RFC 8725 section 3.11: the type is said explicitly and is one of ours.
    typ = header.get("typ")
    if not isinstance(typ, str) or typ not in types:
        raise TokenNotValid("another typ")
    # RFC 7515 section 4.1.11 and RFC 7797: no extension is understood here, and a
    # `cty` would say that the payload is not a claim set (RFC 7519 section 5.2).
    if not header.keys().isdisjoint({"crit", "b64", "cty"}):
        raise TokenNotValid("crit, b64 or cty in the header")
    # `jwk`, `jku`, `x5c`, `x5u` are not looked at: keys come from the settings and from
    # the URLs in there alone (RFC 8725 section 3.10).


def _holds(key: Key, signed: bytes, signature: bytes) -> bool:
    try:
        return jwt.get_algorithm_by_name(key.algorithm).verify(signed, key.verifying, signature)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001
        # A library that stumbles over a token has not accepted it. The type alone is
        # logged: messages and tracebacks may quote the token.
        logger.error("checking a signature raised %s", type(error).__name__)
        return False


def prepare_secret(secret: bytes) -> bytes:
    """Return *secret* if PyJWT takes it as an HMAC key.

    It refuses whatever looks like a public key or certificate in PEM, SSH, DER or
    JWK form: everybody knows those (RFC 8725 section 3.1).

    Raises:
        jwt.PyJWTError: it does not. The message may quote the key.
    """
    prepared: bytes = jwt.get_algorithm_by_name("HS256").prepare_key(secret)
    return prepared


def key_from_jwk(jwk: Mapping[str, Any]) -> Any:
    """Return the secret or the cryptography key that *jwk* describes.

    Raises:
        Exception: it describes none. The message may quote the key.
    """
    loader = {"oct": "HS256", "RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}[jwk["kty"]]
    return jwt.get_algorithm_by_name(loader).from_jwk(dict(jwk))


def key_to_jwk(algorithm: str, public_key: Any) -> dict[str, Any]:
    """Return *public_key* as a JWK, with whatever members PyJWT adds."""
    jwk: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(public_key, as_dict=True)
    return jwk


def _to_json(value: Mapping[str, Any]) -> bytes:
    return _ENCODER.encode(value).encode()


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
