"""Rows 52 to 67: one key, one algorithm; nothing that a token brings along counts."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

import jwt_auth
from jwt_auth import sessions, verify
from jwt_auth.tokens import jws
from jwt_auth.tokens.claims import read_segment
from tests.attacks.conftest import SET_UPS, Target
from tests.attacks.corpus import ALGORITHMS, KIDS, SIGNERS, spellings
from tests.attacks.forge import SECRET, Sign, b64, hs256, mac, raw_ecdsa, to_json
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


SCHEMES: dict[str, Any] = {
    "RS256": (padding.PKCS1v15(), hashes.SHA256()),
    "RS384": (padding.PKCS1v15(), hashes.SHA384()),
    "RS512": (padding.PKCS1v15(), hashes.SHA512()),
    "PS256": (padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
    "PS512": (padding.PSS(padding.MGF1(hashes.SHA512()), 64), hashes.SHA512()),
}


# As long as HS512 demands.
LONG_SECRET = SECRET + SECRET[::-1]


def signers_of_one_key(target: Target) -> tuple[Any, dict[str, Sign]]:
    """Return a key of the kind of *target*, and how it signs by each of several algorithms."""
    if target.forge.algorithm == "HS256":
        setting = {"kty": "oct", "k": b64(LONG_SECRET), "kid": target.forge.kid}
        return setting, {name: mac(LONG_SECRET, name) for name in ("HS256", "HS384", "HS512")}
    key: Any = serialization.load_pem_private_key(target.forge.setting, None)

    def signer(name: str) -> Sign:
        return lambda signed: bytes(key.sign(signed, *SCHEMES[name]))

    return target.forge.setting, {name: signer(name) for name in SCHEMES}


@pytest.mark.parametrize("target", ["HS256", "RS256"], indirect=True)
def test_a_key_has_one_algorithm(target: Target, settings: Any, user: Any) -> None:
    key, signers = signers_of_one_key(target)
    tokens = {
        name: [
            target.forge.token(target.claims, target.forge.header(alg=name, kid=kid), sign)
            for kid in (target.forge.kid, ...)
        ]
        for name, sign in signers.items()
    }
    for own in signers:
        settings.JWT_AUTH = {"SIGNING_KEY": key, "ALGORITHM": own}
        target._genuine = sessions.start(user).access_token
        for name, (named, nameless) in tokens.items():
            judge = target.accepts if name == own else target.refuses
            judge(named)
            judge(nameless)


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
    def nothing_of_it(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a connection was made, or a file was opened")

    monkeypatch.setattr("socket.getaddrinfo", nothing_of_it)
    monkeypatch.setattr("socket.socket.connect", nothing_of_it)
    monkeypatch.setattr("builtins.open", nothing_of_it)
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
        {"jku": f"file://{__file__}"},
        {"x5u": "http://127.0.0.1:9/cert.pem"},
        {"x5u": "file:///dev/null"},
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


def test_a_token_costs_one_signature_check(
    target: Target, client: JSONClient, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [bytes([number]) * 16 + SECRET for number in range(1, 5)]
    settings.JWT_AUTH = {"SIGNING_KEY": target.forge.setting, "VERIFYING_KEYS": others}
    checked: list[Any] = []
    holds = jws._holds

    def counted(key: Any, *args: Any) -> bool:
        checked.append(key.kid)
        return holds(key, *args)

    monkeypatch.setattr("jwt_auth.tokens.jws._holds", counted)
    kid = target.forge.kid
    for expected, header, sign in [
        ([kid], target.forge.header(), mac(SECRET)),
        ([kid], target.forge.header(), mac(b"x" * 40)),
        ([], target.forge.header(kid="k2"), mac(others[0])),
        ([], target.forge.header(kid=...), mac(others[0])),
        ([], target.forge.header(kid=...), mac(SECRET)),
    ]:
        checked.clear()
        client.whoami(target.forge.token(target.claims, header, sign))
        assert checked == expected


def test_a_retired_key_stays_retired(target: Target, settings: Any, user: Any) -> None:
    new = {"kty": "oct", "k": b64(SECRET[::-1]), "kid": "k2"}
    settings.JWT_AUTH = {"SIGNING_KEY": new, "VERIFYING_KEYS": [target.forge.setting]}
    target.accepts(target.forge.token(target.claims))
    settings.JWT_AUTH = {"SIGNING_KEY": new}
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


# What must not be compared by `==`, whose time tells how much of a guess is right.
SECRET_NAMES = re.compile(
    r"(^|_)(mac|digest|signature|proof|secret|handle|mark|tag|csrf|key_id|refresh_token)s?$"
)


def compared_in_variable_time(source: str) -> Iterator[str]:
    """Return the comparisons in *source* that name something secret."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare):
            continue
        if not any(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops):
            continue
        for side in (node.left, *node.comparators):
            called = side.func if isinstance(side, ast.Call) else side
            named = getattr(called, "id", None) or getattr(called, "attr", "")
            if SECRET_NAMES.search(named):
                yield ast.unparse(node)


def test_secrets_are_compared_in_constant_time() -> None:
    for bad in ("mac == x", "x != token.mac", "hmac.digest(k, b) == y", "row.password_mark == m"):
        assert list(compared_in_variable_time(bad)) == [bad]
    root = Path(jwt_auth.__file__).parent
    sources = {path: path.read_text() for path in root.rglob("*.py")}
    found = {path: list(compared_in_variable_time(text)) for path, text in sources.items()}
    assert {str(path): lines for path, lines in found.items() if lines} == {}
    # What does compare them.
    assert "hmac.compare_digest" in sources[root / "tokens" / "refresh.py"]
    assert "hmac.compare_digest" in sources[root / "users.py"]


def test_whatever_the_library_raises_is_a_refusal(
    target: Target, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # One that nobody has sent before: what is remembered is not verified again.
    token = target.forge.token(target.having(jti="new"))

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
