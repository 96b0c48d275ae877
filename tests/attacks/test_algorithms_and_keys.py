"""Rows 52 to 67: one key, one algorithm; nothing that a token brings along counts."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from jwt_auth.tokens.claims import read_segment
from tests.attacks.conftest import SET_UPS, Target
from tests.attacks.corpus import ALGORITHMS, KIDS, SIGNERS, spellings
from tests.attacks.forge import SECRET, b64, hs256, mac, raw_ecdsa, to_json
from tests.conftest import JSONClient

every_algorithm = pytest.mark.parametrize("target", SET_UPS, indirect=True)


@every_algorithm
@pytest.mark.parametrize("name", ALGORITHMS, ids=repr)
def test_alg_is_exactly_the_keys_own(target: Target, name: Any) -> None:
    header = target.forge.header(alg=name)
    target.refuses(target.forge.token(target.claims, header))
    target.refuses(target.forge.token(target.claims, {**header, "kid": "k2"}))
    unsigned = f"{b64(to_json(header))}.{b64(to_json(target.claims))}."
    target.refuses_header(f"Bearer {unsigned}", "token_not_valid", "invalid_request")


@every_algorithm
def test_alg_has_to_be_there(target: Target) -> None:
    target.refuses(target.forge.token(target.claims, target.forge.header(alg=...)))
    target.refuses(target.forge.token(target.claims, target.forge.header(alg=..., kid=...)))


@pytest.mark.parametrize("target", SET_UPS[1:], indirect=True)
def test_a_public_key_is_no_secret(target: Target, client: JSONClient) -> None:
    published = client.get("/auth/jwks.json").content
    keys = json.loads(published)["keys"]
    known = [*spellings(target.forge.setting), published, *map(to_json, keys)]
    for secret in known:
        for kid in (target.forge.kid, ...):
            header = target.forge.header(alg="HS256", kid=kid)
            target.refuses(target.forge.token(target.claims, header, mac(secret)))


@pytest.mark.parametrize(
    "secret", [b"", b"\x00", b"secret", b"secret" * 6, b"k1", b"null"], ids=repr
)
@every_algorithm
def test_weak_secrets_open_nothing(target: Target, secret: bytes) -> None:
    header = target.forge.header(alg="HS256")
    target.refuses(target.forge.token(target.claims, header, mac(secret)))


def test_the_derived_key_is_not_the_secret_key(
    settings: Any, user: Any, client: JSONClient
) -> None:
    from jwt_auth import sessions, verify

    token = sessions.start(user).access_token
    claims = dict(verify(token))
    assert client.whoami(token).status_code == 200
    kid = json.loads(read_segment(token.split(".")[0]))["kid"]
    forge = hs256()
    for header in (forge.header(kid=kid), forge.header(kid=...)):
        raw = forge.token(claims, header, mac(settings.SECRET_KEY.encode()))
        assert client.whoami(raw).json()["code"] == "token_not_valid"


@every_algorithm
def test_key_material_in_the_token_is_not_looked_at(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setattr("socket.socket.connect", no_network)
    mine = ec.generate_private_key(ec.SECP256R1())
    point = mine.public_key().public_numbers()
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": b64(point.x.to_bytes(32)),
        "y": b64(point.y.to_bytes(32)),
    }

    def sign(signed: bytes) -> bytes:
        r, s = raw_ecdsa(mine, signed)
        return r.to_bytes(32) + s.to_bytes(32)

    for member in (
        {"jwk": jwk},
        {"jku": "http://127.0.0.1:9/jwks.json"},
        {"x5u": "http://127.0.0.1:9/cert.pem"},
        {"x5c": ["MIIB"]},
        {"x5t": "abc"},
    ):
        for kid in (target.forge.kid, "mine", ...):
            header = target.forge.header(alg="ES256", kid=kid, **member)
            target.refuses(target.forge.token(target.claims, header, sign))
        target.accepts(target.forge.token(target.claims, target.forge.header(**member)))


@every_algorithm
@pytest.mark.parametrize("kid", KIDS, ids=lambda kid: ascii(kid)[:20])
def test_a_kid_is_a_name_in_the_ring(target: Target, kid: Any) -> None:
    target.refuses(target.forge.token(target.claims, target.forge.header(kid=kid)))


def test_without_kid_there_must_be_no_choice(target: Target, settings: Any) -> None:
    anonymous = target.forge.token(target.claims, target.forge.header(kid=...))
    target.accepts(anonymous)
    settings.JWT_AUTH = {
        "SIGNING_KEY": target.forge.setting,
        "VERIFYING_KEYS": ["another-secret-0123456789-abcdefghijklm"],
    }
    target.refuses(anonymous)
    target.accepts(target.forge.token(target.claims))


def test_a_retired_key_stays_retired(target: Target, settings: Any, user: Any) -> None:
    new = {"kty": "oct", "k": b64(SECRET[::-1]), "kid": "k2"}
    settings.JWT_AUTH = {"SIGNING_KEY": new, "VERIFYING_KEYS": [target.forge.setting]}
    target.accepts(target.forge.token(target.claims))
    settings.JWT_AUTH = {"SIGNING_KEY": new}
    from jwt_auth import sessions

    target._genuine = sessions.start(user).access_token
    target.refuses(target.forge.token(target.claims))


@every_algorithm
def test_any_change_is_noticed(target: Target) -> None:
    token = target.forge.token(target.claims)
    signed, _, signature = token.rpartition(".")
    raw = read_segment(signature)
    for changed in (
        bytes([raw[0] ^ 1]) + raw[1:],
        raw[:-1] + bytes([raw[-1] ^ 0x80]),
        raw[:-1],
        raw[1:],
        raw + b"\x00",
        b"\x00" + raw,
        raw * 2,
        raw[::-1],
        b"\x00" * len(raw),
        b"\xff" * len(raw),
        b"\x00",
    ):
        target.refuses(f"{signed}.{b64(changed)}")
    other = target.forge.token(target.having(roles=["admins"]))
    target.refuses(f"{other.rpartition('.')[0]}.{signature}")


@pytest.mark.parametrize("target", SET_UPS[1:], indirect=True)
def test_signatures_have_one_form(target: Target) -> None:
    for sign in SIGNERS[target.forge.algorithm](target.forge.setting).values():
        target.refuses(target.forge.token(target.claims, sign=sign))


def test_whatever_the_library_raises_is_a_refusal(
    target: Target, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    token = target.forge.token(target.claims)

    def fail(error: BaseException) -> Any:
        def verify(*args: Any) -> bool:
            raise error

        return verify

    verify = "jwt.algorithms.HMACAlgorithm.verify"
    with monkeypatch.context() as patched:
        patched.setattr(verify, fail(RuntimeError(token)))
        answer = target._client.whoami(token)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
        records = [one for one in caplog.records if one.name == "jwt_auth"]
        assert [one.levelno for one in records] == [logging.ERROR]
        assert "RuntimeError" in records[0].getMessage()
        assert token not in caplog.text
        patched.setattr(verify, fail(MemoryError()))
        with pytest.raises(MemoryError):
            target._client.whoami(token)
    target.accepts(token)
