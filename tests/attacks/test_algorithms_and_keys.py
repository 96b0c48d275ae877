"""Rows 52 to 67: one key, one algorithm; nothing that a token brings along counts."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from jwt_auth.tokens.claims import read_segment
from tests.attacks.conftest import SET_UPS, Target
from tests.attacks.forge import SECRET, b64, hs256, mac, raw_ecdsa, to_json
from tests.conftest import JSONClient, private_pem, public_pem

every_algorithm = pytest.mark.parametrize("target", SET_UPS, indirect=True)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

NAMES: list[Any] = [
    "none",
    "None",
    "NONE",
    "nOnE",
    "",
    " ",
    "hs256",
    "HS256 ",
    " HS256",
    "HS2",
    "HS2566",
    "HS384",
    "HS512",
    "RS384",
    "PS256",
    "ES384",
    "ES256K",
    "Ed25519",
    "dir",
    "A256GCM",
    "HS256,RS256",
    7,
    True,
    None,
    ["HS256"],
    {"HS256": 1},
]


@every_algorithm
@pytest.mark.parametrize("name", NAMES, ids=repr)
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


def spellings(pem: bytes) -> list[bytes]:
    """Return the ways to write the public half of a key that everybody knows."""
    public = serialization.load_pem_private_key(pem, None).public_key()
    formats = serialization.PublicFormat
    encodings = serialization.Encoding
    text = public_pem(pem)
    written = [
        text,
        text.strip(),
        text.replace(b"\n", b"\r\n"),
        text.replace(b"\n", b""),
        public.public_bytes(encodings.DER, formats.SubjectPublicKeyInfo),
        public.public_bytes(encodings.OpenSSH, formats.OpenSSH),
    ]
    if isinstance(public, rsa.RSAPublicKey):
        written.append(public.public_bytes(encodings.PEM, formats.PKCS1))
    if isinstance(public, ed25519.Ed25519PublicKey):
        written.append(public.public_bytes_raw())
    return written


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


KIDS: list[Any] = [
    "",
    "k2",
    "../../../../dev/null",
    "/dev/null",
    "k1'--",
    "k1 OR 1=1",
    "http://127.0.0.1:9/",
    "%s%n{0}",
    "k1\x00",
    "k1\n",
    "K1",
    "é",
    "x" * 4000,
    None,
    7,
    True,
    ["k1"],
    {"k1": 1},
]


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


@pytest.mark.parametrize("target", ["ES256", "ES256 foreign"], indirect=True)
def test_ecdsa_signatures_have_one_form(target: Target) -> None:
    key: Any = serialization.load_pem_private_key(target.forge.setting, None)
    other: Any = serialization.load_pem_private_key(private_pem("P-384"), None)
    n = P256_ORDER

    def shaped(r: int, s: int, size: int = 32) -> Any:
        return lambda signed: r.to_bytes(size) + s.to_bytes(size)

    hostile = [shaped(r, s) for r in (0, 1, n) for s in (0, 1, n)]
    hostile += [
        lambda signed: key.sign(signed, ec.ECDSA(hashes.SHA256())),
        lambda signed: key.sign(signed, ec.ECDSA(hashes.SHA384())),
        lambda signed: shaped(*raw_ecdsa(key, signed)[::-1])(signed),
        lambda signed: shaped(*raw_ecdsa(key, signed), 33)(signed),
        lambda signed: shaped(*raw_ecdsa(other, signed), 48)(signed),
    ]
    for sign in hostile:
        target.refuses(target.forge.token(target.claims, sign=sign))


@pytest.mark.parametrize("target", ["EdDSA", "EdDSA foreign"], indirect=True)
def test_eddsa_signatures_have_one_form(target: Target) -> None:
    order = 2**252 + 27742317777372353535851937790883648493

    def plus_order(signed: bytes) -> bytes:
        signature = target.forge.sign(signed)
        s = int.from_bytes(signature[32:], "little") + order
        return signature[:32] + s.to_bytes(32, "little")

    identity = b"\x01" + b"\x00" * 31
    for sign in (plus_order, lambda signed: identity + b"\x00" * 32, lambda signed: b"\x00" * 114):
        target.refuses(target.forge.token(target.claims, sign=sign))


@pytest.mark.parametrize("target", ["RS256", "RS256 foreign"], indirect=True)
def test_rsa_signatures_have_one_form(target: Target) -> None:
    key: Any = serialization.load_pem_private_key(target.forge.setting, None)
    n = key.public_key().public_numbers().n

    def pss(salt: int) -> Any:
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
        return lambda signed: key.sign(signed, scheme, hashes.SHA256())

    def plus_modulus(signed: bytes) -> bytes:
        return (int.from_bytes(target.forge.sign(signed)) + n).to_bytes(257)

    for sign in (
        lambda signed: key.sign(signed, padding.PKCS1v15(), hashes.SHA1()),  # noqa: S303
        lambda signed: key.sign(signed, padding.PKCS1v15(), hashes.SHA512()),
        pss(32),
        pss(0),
        plus_modulus,
    ):
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
