"""Whatever is issued is read again, and is what it was."""

from __future__ import annotations

import hmac
import json
import struct
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from jwt_auth.errors import RefreshNotValid
from jwt_auth.runtime import current
from jwt_auth.tokens import jws, revoked
from jwt_auth.tokens.access import RESERVED, TYPES, AccessTokens, SessionFacts
from jwt_auth.tokens.jwe import EncryptionRing, load_encryption_key
from jwt_auth.tokens.keys import KeyRing, load_key
from jwt_auth.tokens.memory import Genuine
from jwt_auth.tokens.policy import Policy
from jwt_auth.tokens.refresh import RefreshToken, RefreshTokens
from jwt_auth.tokens.remote import read_jwks
from tests.attacks.forge import FORGES
from tests.attacks.sealing import SEALERS
from tests.conftest import NOW, private_pem
from tests.fuzzing.strategies import claim_text, examples, json_objects, text

KINDS = [*FORGES, "HS256 in dir", "ES256 in RSA", "EdDSA in EC"]
LIFETIME = timedelta(minutes=5)
# Keys are loaded once: that takes longer than all else.
RINGS = {name: KeyRing(load_key(make().setting, private=True)) for name, make in FORGES.items()}
OPENING = {name: load_encryption_key(make().setting) for name, make in SEALERS.items()}
WORDS = st.lists(text.filter(bool), max_size=3)


def encryption(name: str) -> EncryptionRing:
    """Return a ring that encrypts to one key and opens for all."""
    others = [key for one, key in OPENING.items() if one != name]
    return EncryptionRing(OPENING[name], others, takes_plain=False)


@pytest.mark.parametrize("kind", KINDS)
@given(
    subject=claim_text,
    extra=json_objects,
    roles=st.none() | WORDS,
    methods=WORDS,
    issuer=st.none() | claim_text,
    audience=st.none() | claim_text | st.lists(claim_text, min_size=1, max_size=3),
    session_id=st.uuids(),
    age=st.integers(0, 10**6),
    left=st.integers(1, 10**6),
)
@examples(25)
def test_claims_that_are_issued_are_verified_as_they_were(
    kind: str,
    subject: str,
    extra: dict[str, Any],
    roles: list[str] | None,
    methods: list[str],
    issuer: str | None,
    audience: str | list[str] | None,
    session_id: UUID,
    age: int,
    left: int,
) -> None:
    algorithm, _, sealed = kind.partition(" in ")
    audiences = [audience] if isinstance(audience, str) else audience or []
    tokens = AccessTokens(
        RINGS[algorithm],
        Policy(issuer, frozenset(audiences), frozenset({"iat", "jti", "sid"}), 300),
        LIFETIME,
        audience,
        encryption(sealed) if sealed else None,
    )
    facts = SessionFacts(
        session_id, NOW - timedelta(seconds=age), methods, NOW + timedelta(seconds=left)
    )
    issued = tokens.issue(subject, now=NOW, session=facts, roles=roles, extra=extra)
    claims = Genuine(read := tokens.unsafe_read(issued.raw), *tokens.policy.validity(read)).at(
        NOW.timestamp()
    )
    said = {"sub": subject, "iss": issuer, "aud": audience, "roles": roles}
    said |= {"sid": str(session_id), "amr": methods, "auth_time": int(NOW.timestamp()) - age}
    said |= {"iat": int(NOW.timestamp()), "exp": int(NOW.timestamp()) + issued.expires_in}
    expected = {name: one for name, one in extra.items() if name not in RESERVED}
    expected |= {name: one for name, one in said.items() if one is not None}
    assert dict(claims) == {**expected, "jti": claims["jti"]}
    assert issued.expires_in == min(300, left)
    assert claims.session_id == session_id
    assert claims.roles == tuple(roles or ())


@given(header=json_objects, payload=json_objects)
@examples(100)
def test_any_header_and_payload_that_are_signed_are_read_as_they_were(
    header: dict[str, Any], payload: dict[str, Any]
) -> None:
    token = jws.Unverified(FORGES["HS256"]().token(payload, header))
    assert token.header == header
    assert token.verify(RINGS["HS256"].signing) == payload


@given(typ=text, payload=json_objects)
@examples(50)
def test_any_document_that_is_signed_is_read_as_it_was(typ: str, payload: dict[str, Any]) -> None:
    key = RINGS["HS256"].signing
    token = jws.Unverified(jws.sign_document(payload, key, typ))
    assert token.header == {"alg": "HS256", "kid": "k1", "typ": typ}
    assert token.verify(key) == payload


@pytest.mark.parametrize("name", SEALERS)
@given(signed=st.text(st.characters(max_codepoint=127), min_size=1, max_size=3000))
@examples(25)
def test_what_is_sealed_is_opened(name: str, signed: str) -> None:
    assert encryption(name).open(encryption(name).seal(signed)) == signed


SECRET_KEYS = [f"{letter}-secret-key-of-this-project-{letter * 40}" for letter in "abc"]
HANDLES = st.binary(min_size=16, max_size=16)
GENERATIONS = st.integers(0, 2**32 - 1)


@given(handle=HANDLES, generation=GENERATIONS, order=st.permutations(SECRET_KEYS))
@examples(60)
def test_a_refresh_token_is_read_under_its_key_wherever_that_stands(
    handle: bytes, generation: int, order: list[str]
) -> None:
    token = RefreshToken(handle, generation)
    minted = {}
    for secret in SECRET_KEYS:
        with override_settings(SECRET_KEY=secret):
            minted[secret] = current().refresh_tokens.mint(token)
    assert len(set(minted.values())) == len(SECRET_KEYS)
    with override_settings(SECRET_KEY=order[0], SECRET_KEY_FALLBACKS=order[1:]):
        for raw in minted.values():
            assert current().refresh_tokens.read(raw) == token
    # A key that was forgotten reads nothing.
    with (
        override_settings(SECRET_KEY=order[0], SECRET_KEY_FALLBACKS=order[1:2]),
        pytest.raises(RefreshNotValid),
    ):
        current().refresh_tokens.read(minted[order[2]])


@given(version=st.integers(0, 255), handle=HANDLES, generation=GENERATIONS)
@examples(100)
def test_version_1_is_the_only_one_that_is_read(
    version: int, handle: bytes, generation: int
) -> None:
    key = bytes(range(32))
    key_id = hmac.digest(key, b"key id", "sha256")[:4]
    body = struct.pack(">B4s16sI", version, key_id, handle, generation)
    raw = "jwtr_" + urlsafe_b64encode(body + hmac.digest(key, body, "sha256")).decode()
    tokens = RefreshTokens([bytes(32), key])
    if version == 1:
        assert tokens.read(raw) == RefreshToken(handle, generation)
    else:
        with pytest.raises(RefreshNotValid, match="another version"):
            tokens.read(raw)


@pytest.mark.parametrize("signing", ["RSA-2048", "P-256", "P-384", "P-521", "Ed25519"])
@given(members=json_objects)
@examples(10)
def test_published_keys_are_read_and_verify_what_the_ring_signs(
    signing: str, members: dict[str, Any]
) -> None:
    ring = KeyRing(load_key(private_pem(signing), private=True))
    document = json.dumps({**members, **ring.public_jwks()}).encode()
    read = read_jwks(document, [ring.signing.algorithm])
    assert [key.identity for key in read] == [ring.signing.identity]
    raw = jws.sign({"sub": "7", "exp": 1}, ring.signing, "at+jwt")
    assert jws.verify(raw, read, TYPES).subject == "7"


@given(
    ended=st.sets(st.uuids(), max_size=20),
    others=st.sets(st.uuids(), max_size=5),
    second=st.integers(0, 2**32),
)
@examples(50)
def test_a_list_that_is_published_names_those_who_were_ended(
    ended: set[UUID], others: set[UUID], second: int
) -> None:
    key = load_key(private_pem("Ed25519"), private=True)
    read_at = datetime.fromtimestamp(second, UTC)
    raw = revoked.Publisher(key, "i", max_age=60, window=480).sign(ended, read_at, None)
    token = jws.Unverified(raw, longest=2**20)
    jws.check_header(token.header, revoked.TYPES)
    found = revoked.read_list(token.verify(key), "i", second, 0)
    assert set(found.digests) == {revoked.digest(str(one)) for one in ended}
    assert not {revoked.digest(str(one)) for one in others - ended} & set(found.digests)
    assert (found.issued, found.expires) == (second, second + 60)
