"""The parsers as a fuzzer meets them: any bytes in, a verdict out, and no other exception.

Plain Python: no Django, no pytest, no atheris. A target returns `ACCEPTED` or the reason of
the refusal. It lets through every exception that is not documented, and fails by itself
when something was accepted that breaks a rule. The rules are told here a second time, with
`json`, `hmac` and `cryptography`, so that two tellings have to agree.

Raw texts seldom pass a signature, so most targets also sign, seal or mint what they are
fed, with keys that everybody knows.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from jwt_auth.errors import (
    RefreshNotValid,
    SessionEnded,
    TokenExpired,
    TokenNotValid,
    Unavailable,
)
from jwt_auth.tokens import jws, revoked
from jwt_auth.tokens.access import TYPES, AccessTokens
from jwt_auth.tokens.claims import SignedClaims, VerifiedClaims
from jwt_auth.tokens.jwe import EncryptionRing, load_encryption_key
from jwt_auth.tokens.keys import KeyRing, load_key
from jwt_auth.tokens.memory import Genuine
from jwt_auth.tokens.policy import Policy
from jwt_auth.tokens.refresh import RefreshTokens
from jwt_auth.tokens.remote import LONGEST_LIST, read_jwks

ACCEPTED = "accepted"

# Nothing here is secret: whoever reads this can make every token of the corpus.
SECRET = bytes(range(64))
ELLIPTIC = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
CONTENT_KEY = bytes(range(100, 132))
AGREED = ec.derive_private_key(0xDECAF, ec.SECP256R1())
EPHEMERAL = ec.derive_private_key(0xBEE, ec.SECP256R1())
REFRESH_KEYS = [bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))]

NOW = 1_900_000_000
ISSUER, AUDIENCE = "https://notes.example", "notes"
LIFETIME = 300
SESSION = "3f322a84-880b-4a5b-864b-6f8783737255"
ENDED = "59a34a45-4a3f-4b09-8d5c-33fe6fd9f7c6"
# RFC 7518 section 6: members that belong to whoever owns the key.
PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
EVERY_ALGORITHM = ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA", "HS256")


def b64(raw: bytes) -> str:
    """Encode as base64url without padding (RFC 7515 section 2)."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """Decode base64url without padding."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _pem(key: Any) -> bytes:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem


def _mac(signed: bytes) -> bytes:
    return hmac.digest(SECRET, signed, "sha256")


def _ecdsa(signed: bytes) -> bytes:
    r, s = decode_dss_signature(ELLIPTIC.sign(signed, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


# By the first letter of an input, which is also the key's name.
SIGNERS: dict[str, Callable[[bytes], bytes]] = {"h": _mac, "e": _ecdsa, "o": EDWARDS.sign}
ALGORITHMS = {"h": "HS256", "e": "ES256", "o": "EdDSA"}


def _access_tokens(encryption: EncryptionRing | None) -> AccessTokens:
    ring = KeyRing(
        replace(load_key(SECRET, "HS256", private=True), kid="h"),
        [
            replace(load_key(_pem(ELLIPTIC), private=True), kid="e"),
            replace(load_key(_pem(EDWARDS), private=True), kid="o"),
        ],
    )
    policy = Policy(
        issuer=ISSUER,
        audiences=frozenset({AUDIENCE}),
        demanded=frozenset({"iat", "jti", "sid"}),
        longest_life=LIFETIME,
    )
    return AccessTokens(ring, policy, timedelta(seconds=LIFETIME), AUDIENCE, encryption)


DIRECT = replace(load_encryption_key(CONTENT_KEY), kid="d")
ELSEWHERE = replace(load_encryption_key(_pem(AGREED)), kid="a")
PLAIN = _access_tokens(None)
SEALED = _access_tokens(EncryptionRing(DIRECT, [ELSEWHERE], takes_plain=False))
EITHER = _access_tokens(EncryptionRing(DIRECT, [ELSEWHERE], takes_plain=True))
REFRESH_TOKENS = RefreshTokens(REFRESH_KEYS)


class _Errors(logging.Handler):
    """Keeps what was logged as an error: an exception of a library that was caught."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


@contextmanager
def no_errors() -> Iterator[None]:
    """Fail if the block logs an error: a library stumbled over what should not reach it."""
    heard, logger = _Errors(), logging.getLogger("jwt_auth")
    logger.addHandler(heard)
    try:
        yield
    finally:
        logger.removeHandler(heard)
    assert heard.found == []


def token(data: bytes) -> str:
    """Verify any text as an access token, plain or encrypted."""
    raw = data.decode("utf-8", "surrogateescape")
    verdict = _verify(EITHER, raw)
    if raw.count(".") != 4:
        # What is not encrypted is the same token where nothing is.
        assert _verify(PLAIN, raw) == verdict
        if verdict == ACCEPTED:
            _must_be_genuine(raw)
    return verdict


def signed(data: bytes) -> str:
    """Verify any header and any payload, in two lines, which one of our keys has signed."""
    kid, header, payload = _lines(data, "heo")
    raw = signed_by(kid, header, payload)
    return _verify(PLAIN, raw, header, payload)


def sealed(data: bytes) -> str:
    """Verify any bytes that were encrypted under any header, in one of four ways.

    ``d`` and ``a`` encrypt the second line to one of two keys, ``D`` and ``A`` the second
    and third as a header and a payload that are signed before. ``p`` encrypts nothing, and
    takes four more lines for the other four parts.
    """
    way, header, content = _lines(data, "daDAp")
    if way == "p":
        parts = [header, *content.split(b"\n", 3)]
        return _verify(SEALED, ".".join(map(b64, parts)))
    head = payload = None
    if way in "DA":
        head, _, payload = content.partition(b"\n")
        content = signed_by("h", head, payload).encode()
    verdict = _verify(SEALED, seal(way.lower(), header, content), head, payload)
    if verdict == ACCEPTED:
        members = json.loads(header)
        assert members["cty"] == "JWT"
        assert members["enc"] == "A256GCM"
        assert members["kid"] == way.lower()
        assert members["alg"] == {"d": "dir", "a": "ECDH-ES+A256KW"}[way.lower()]
        assert members.keys() <= {"alg", "enc", "kid", "cty", "epk"}
        _must_be_genuine(content.decode())
    return verdict


def refresh(data: bytes) -> str:
    """Read any text as a refresh token, or ``m``, a digit, and any body under a right MAC."""
    raw = data.decode("utf-8", "surrogateescape")
    if data[:1] == b"m" and data[1:2].isdigit():
        key = REFRESH_KEYS[int(data[1:2]) % len(REFRESH_KEYS)]
        raw = "jwtr_" + b64(data[2:] + hmac.digest(key, data[2:], "sha256"))
    try:
        found = REFRESH_TOKENS.read(raw)
    except RefreshNotValid as error:
        return str(error)
    content = unb64(raw.removeprefix("jwtr_"))
    assert raw == "jwtr_" + b64(content)
    body, mac = content[:-32], content[-32:]
    version, key_id, handle, generation = struct.unpack(">B4s16sI", body)
    by_id = {hmac.digest(key, b"key id", "sha256")[:4]: key for key in REFRESH_KEYS}
    assert hmac.digest(by_id[key_id], body, "sha256") == mac
    assert version == 1
    assert (found.handle, found.generation) == (handle, generation)
    assert found.session_id.bytes[:6] == hashlib.sha256(handle).digest()[:6]
    assert b64(handle) not in repr(found)
    if by_id[key_id] == REFRESH_KEYS[0]:
        assert REFRESH_TOKENS.mint(found) == raw
    return ACCEPTED


def jwks(data: bytes) -> str:
    """Read any document as another issuer's keys, and meet them with a token."""
    verdict = _read_keys(data, ("ES256",))
    assert _read_keys(data, EVERY_ALGORITHM) == verdict
    return verdict


def revoked_list(data: bytes) -> str:
    """Read any header and any payload, which the issuer has signed, as its list."""
    kid, header, payload = _lines(data, "heo")
    raw = signed_by(kid, header, payload)
    try:
        unverified = jws.Unverified(raw, longest=LONGEST_LIST)
        jws.check_header(unverified.header, revoked.TYPES)
        members = unverified.verify(PLAIN.ring.find(unverified.header))
        found = revoked.read_list(members, ISSUER, NOW, 0)
    except TokenNotValid as error:
        return str(error)
    stated = json.loads(payload)
    assert stated["iss"] == ISSUER
    assert stated["iat"] <= NOW + 60
    assert stated["exp"] > NOW
    digests = unb64(stated["sids"])
    assert b"".join(found.digests) == b"".join(dict.fromkeys(_eights(digests)))
    return _follow(found, stated)


def _read_keys(data: bytes, algorithms: Sequence[str]) -> str:
    try:
        keys = read_jwks(data, algorithms)
    except TokenNotValid as error:
        return str(error)
    stated = json.loads(data)["keys"]
    assert len(keys) <= len(stated) <= 100
    for key in keys:
        assert key.algorithm in algorithms
        # A secret that everybody can read proves nothing.
        assert not key.algorithm.startswith("HS")
        assert key.signing is None
        assert key.public_jwk is not None
        assert PRIVATE_MEMBERS.isdisjoint(key.public_jwk)
        named = [jwk for jwk in stated if isinstance(jwk, dict) and jwk.get("kid") == key.kid]
        unnamed = [jwk for jwk in stated if isinstance(jwk, dict) and jwk.get("kid") is None]
        assert named or (unnamed and len(key.kid) == 43)
        # Others of that name, for another use, are as if they were not there.
        assert any(jwk.get("use", "sig") == "sig" for jwk in named or unnamed)
        with no_errors():
            _refuses(keys, {"kid": key.kid, "alg": key.algorithm})
    with no_errors():
        _refuses(keys, {"alg": algorithms[0]})
    return ACCEPTED


def _refuses(keys: Any, header: Mapping[str, str]) -> None:
    """Show a set of keys a token that none of them has signed."""
    head = json.dumps({**header, "typ": "at+jwt"}).encode()
    raw = f"{b64(head)}.{b64(b'{}')}.{b64(bytes(64))}"
    try:
        jws.verify(raw, keys, TYPES)
    except TokenNotValid:
        return
    raise AssertionError("a signature of zeros")


def _follow(found: revoked.RevokedList, stated: Mapping[str, Any]) -> str:
    """Join a list to an earlier one, and check a token that is in that one."""
    known = revoked.RevokedList(NOW - 5, NOW + 55, 0, {revoked.digest(ENDED): NOW + 300})
    try:
        joined = found.and_before(known, NOW)
    except TokenNotValid as error:
        assert stated["iat"] < known.issued
        return str(error)
    assert set(found.digests) <= set(joined.digests)
    assert revoked.digest(ENDED) in joined.digests or joined.stale_before > found.issued
    assert _check(joined, ENDED) != ACCEPTED
    verdict = _check(joined, SESSION)
    assert verdict != ACCEPTED or revoked.digest(SESSION) not in found.digests
    return verdict


def _check(known: revoked.RevokedList, session_id: str) -> str:
    try:
        known.check(_claims_of(session_id), NOW)
    except (SessionEnded, TokenExpired, Unavailable) as error:
        return str(error)
    return ACCEPTED


def _claims_of(session_id: str) -> VerifiedClaims:
    payload = json.dumps(good_claims(sid=session_id)).encode()
    return _verified(PLAIN, signed_by("h", good_header("h"), payload))


def _verified(tokens: AccessTokens, raw: str) -> VerifiedClaims:
    claims = tokens.unsafe_read(raw)
    return Genuine(claims, *tokens.policy.validity(claims)).at(NOW)


def _eights(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 8] for at in range(0, len(data), 8))


def _lines(data: bytes, ways: str) -> tuple[str, bytes, bytes]:
    """Return the way that the first byte chooses, the first line and the rest."""
    first = data[:1].decode("latin-1")
    way = first if first and first in ways else ways[(data[:1] or b"\0")[0] % len(ways)]
    line, _, rest = data[1:].partition(b"\n")
    return way, line, rest


def signed_by(kid: str, header: bytes, payload: bytes) -> str:
    """Return a compact JWS."""
    text = f"{b64(header)}.{b64(payload)}"
    return f"{text}.{b64(SIGNERS[kid](text.encode()))}"


def _agree() -> tuple[bytes, bytes]:
    """Return the content key and the wrapped one (RFC 7518 section 4.6)."""
    algorithm = b"ECDH-ES+A256KW"
    info = len(algorithm).to_bytes(4) + algorithm + bytes(8) + (256).to_bytes(4)
    shared = EPHEMERAL.exchange(ec.ECDH(), AGREED.public_key())
    wrapping = ConcatKDFHash(hashes.SHA256(), 32, info).derive(shared)
    return CONTENT_KEY, aes_key_wrap(wrapping, CONTENT_KEY)


_KEYS = {"d": (CONTENT_KEY, b""), "a": _agree()}


def seal(way: str, header: bytes, plaintext: bytes) -> str:
    """Return a compact JWE; always under the same iv, for these keys keep no secret."""
    content_key, wrapped = _KEYS[way]
    first, iv = b64(header), bytes(12)
    content = AESGCM(content_key).encrypt(iv, plaintext, first.encode())
    return ".".join([first, *map(b64, (wrapped, iv, content[:-16], content[-16:]))])


def epk() -> dict[str, str]:
    """Return the ephemeral public key that ``a`` and ``A`` agree with."""
    point = EPHEMERAL.public_key().public_numbers()
    x, y = (b64(value.to_bytes(32)) for value in (point.x, point.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def good_header(kid: str, **changes: Any) -> bytes:
    """Return the header of a good token with *changes*."""
    header = {"alg": ALGORITHMS[kid], "kid": kid, "typ": "at+jwt", **changes}
    return json.dumps(header, separators=(",", ":")).encode()


def good_claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a good token with *changes*; `...` takes one out."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "7",
        "iat": NOW,
        "exp": NOW + LIFETIME,
        "jti": "1",
        "sid": SESSION,
        **changes,
    }
    return {name: one for name, one in claims.items() if one is not ...}


def _verify(
    tokens: AccessTokens, raw: str, header: bytes | None = None, payload: bytes | None = None
) -> str:
    """Verify *raw*; what is accepted has to keep the rules, as far as it is known."""
    with no_errors():
        try:
            claims = _verified(tokens, raw)
        except TokenExpired as error:
            late = tokens.unsafe_read(raw)
            assert late.expires <= NOW
            _look_into(late)
            return str(error)
        except TokenNotValid as error:
            return str(error)
    _look_into(claims)
    if header is not None and payload is not None:
        _must_keep_the_rules(claims, header, payload)
    return ACCEPTED


def _must_keep_the_rules(claims: VerifiedClaims, header: bytes, payload: bytes) -> None:
    """Read both as any other parser of JSON does, and look at the rules again."""
    head, stated = json.loads(header), json.loads(payload)
    assert head["typ"] in {"at+jwt", "application/at+jwt"}
    assert head["alg"] in ALGORITHMS.values()
    assert head.get("kid", "h") in ALGORITHMS
    assert head.keys().isdisjoint({"crit", "b64", "cty"})
    assert dict(claims) == stated
    # Which it could not be of NaN, of surrogates, or of what other parsers read differently.
    json.dumps(stated, allow_nan=False, ensure_ascii=False).encode()
    assert stated["iss"] == ISSUER
    assert stated["aud"] == AUDIENCE or AUDIENCE in stated["aud"]
    assert isinstance(stated["sub"], str)
    assert stated["sub"]
    assert not isinstance(stated["exp"], bool)
    assert NOW < stated["exp"] <= stated["iat"] + LIFETIME + 60
    assert 0 <= stated.get("nbf", 0) <= NOW + 60
    assert 0 <= stated["iat"] <= NOW + 60
    assert 0 < len(stated["jti"]) < 256
    assert str(UUID(stated["sid"])) == stated["sid"]
    assert "cnf" not in stated


def _look_into(claims: SignedClaims) -> None:
    """Ask all that a project may ask of claims."""
    # A `datetime` holds microseconds.
    assert abs(claims.expires_at.timestamp() - claims.expires) < 1e-3
    assert claims.authenticated_at is None or claims.authenticated_at.year >= 1970
    assert all(isinstance(one, str) for one in (*claims.roles, *claims.scopes))
    assert str(claims.session_id) == claims["sid"]
    assert len(dict(claims)) == len(claims)
    assert repr(claims).isascii()


def _must_be_genuine(raw: str) -> None:
    """Check the signature once more, and that the text is the only one for these bytes."""
    segments = raw.split(".")
    assert [b64(unb64(one)) for one in segments] == segments
    header, _, proof = map(unb64, segments)
    text = raw.rpartition(".")[0].encode()
    algorithm = json.loads(header)["alg"]
    try:
        if algorithm == "HS256":
            assert _mac(text) == proof
        elif algorithm == "EdDSA":
            EDWARDS.public_key().verify(proof, text)
        else:
            assert algorithm == "ES256"
            assert len(proof) == 64
            pair = encode_dss_signature(int.from_bytes(proof[:32]), int.from_bytes(proof[32:]))
            ELLIPTIC.public_key().verify(pair, text, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise AssertionError("accepted without a signature") from None


# By the name of its folder in the corpus.
TARGETS: Mapping[str, Callable[[bytes], str]] = {
    "token": token,
    "signed": signed,
    "sealed": sealed,
    "refresh": refresh,
    "jwks": jwks,
    "revoked": revoked_list,
}
