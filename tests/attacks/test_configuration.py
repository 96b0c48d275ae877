"""Rows 132 to 146: what a slip in the settings would open, and what an error page would tell."""

from __future__ import annotations

import hashlib
import hmac
import logging
import sys
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory
from django.views.debug import ExceptionReporter, technical_500_response

import jwt_auth
from jwt_auth import sessions
from jwt_auth.conf import Problem, read_settings
from jwt_auth.runtime import current
from jwt_auth.tokens.keys import load_secret
from tests.attacks.conftest import Target
from tests.attacks.corpus import spellings
from tests.attacks.forge import FORGES, SECRET, b64, hs256, mac
from tests.conftest import JSONClient, private_key, private_pem, public_pem
from tests.tokens.test_keys import UNUSABLE, pem, private_jwk

OTHER = {"kty": "oct", "k": b64(bytes(range(64))), "kid": "k2"}


def problems(settings: Any, **members: Any) -> list[Problem]:
    """Return what is wrong with these settings on every machine."""
    settings.JWT_AUTH = members
    return [one for one in read_settings()[1] if not one.deploy]


# Keys that cannot be used, and what somebody would sign with who hopes for a default.
BROKEN: dict[str, Any] = {
    "empty": "",
    "no bytes": b"",
    "short": "0123456789",
    "white space": " " * 40,
    "a file that is not there": Path("/no/such/key"),
    "a number": 0,
    "false": False,
    "a public key": public_pem(private_pem("P-256")),
    "half a PEM": private_pem("P-256")[:100],
    "an empty JWK": {},
    "an empty secret in a JWK": {"kty": "oct", "k": ""},
}
GUESSES = [b"", b"\0", b"None", b"secret", b"0123456789", b" " * 40, bytes(32)]


@pytest.mark.parametrize("form", BROKEN.values(), ids=BROKEN)
def test_an_unusable_key_lets_nobody_in(
    target: Target, client: JSONClient, settings: Any, form: Any
) -> None:
    assert {one.id for one in problems(settings, SIGNING_KEY=form)} == {"jwt_auth.E005"}
    for guess in [*GUESSES, settings.SECRET_KEY.encode(), SECRET]:
        for kid in (target.forge.kid, ...):
            token = target.forge.token(target.claims, target.forge.header(kid=kid), sign=mac(guess))
            with pytest.raises(ImproperlyConfigured, match="SIGNING_KEY"):
                client.whoami(token)
    with pytest.raises(ImproperlyConfigured, match="SIGNING_KEY"):
        client.login()
    settings.JWT_AUTH = {"SIGNING_KEY": target.forge.setting}
    target.accepts(target.forge.token(target.claims))


def without_armor(key: bytes) -> str:
    """Return a public PEM as some providers show it: without its first and last line."""
    return "".join(key.decode().splitlines()[1:-1])


PUBLIC = {
    "in one line": lambda key: without_armor(key),
    "in lines": lambda key: "\n".join(key.decode().splitlines()[1:-1]) + "\n",
    "without padding": lambda key: without_armor(key).rstrip("="),
    "PEM in base64": lambda key: b64encode(key).decode(),
    "DER": lambda key: b64decode(without_armor(key)),
    "DER in a JWK": lambda key: {"kty": "oct", "k": b64(b64decode(without_armor(key)))},
    "PKCS#1 in base64": lambda key: b64encode(pkcs1(key)).decode(),
    "PKCS#1 in DER": lambda key: pkcs1(key),
}


def pkcs1(key: bytes) -> bytes:
    """Return a public RSA key in the form of its own kind, and any other as it is."""
    public: Any = serialization.load_pem_public_key(key)
    kind = serialization.PublicFormat
    form = kind.PKCS1 if hasattr(public, "encrypt") else kind.SubjectPublicKeyInfo
    encoded: bytes = public.public_bytes(serialization.Encoding.DER, form)
    return encoded


@pytest.mark.parametrize("kind", ["RSA-2048", "P-256", "Ed25519"])
@pytest.mark.parametrize("spell", PUBLIC.values(), ids=PUBLIC)
@pytest.mark.parametrize("name", ["SIGNING_KEY", "VERIFYING_KEYS"])
def test_public_key_in_another_form_is_not_taken_for_a_secret(
    target: Target,
    client: JSONClient,
    settings: Any,
    name: str,
    kind: str,
    spell: Callable[[bytes], Any],
) -> None:
    form = spell(public_pem(private_pem(kind)))
    value = form if name == "SIGNING_KEY" else [form]
    found = problems(settings, **{"SIGNING_KEY": target.forge.setting, name: value})
    assert [one.id for one in found] == ["jwt_auth.E005"]
    secret = b64decode(form["k"] + "==", "-_") if isinstance(form, dict) else form
    sign = mac(secret.encode() if isinstance(secret, str) else secret)
    for kid in (kid_of(secret), ...):
        token = target.forge.token(target.claims, target.forge.header(kid=kid), sign=sign)
        with pytest.raises(ImproperlyConfigured, match=name):
            client.whoami(token)


def kid_of(secret: str | bytes) -> str:
    """Return the ``kid`` that a secret has."""
    data = secret.encode() if isinstance(secret, str) else secret
    return b64(hmac.digest(data, b"jwt_auth key id", "sha256")[:12])


@pytest.mark.parametrize("size", [32, 48, 64])
def test_random_secrets_are_not_taken_for_keys_in_another_form(size: int) -> None:
    for number in range(500):
        secret = hashlib.shake_128(number.to_bytes(2)).digest(size)
        # The beginning that most keys in DER have, over random bytes.
        for one in (secret, b"\x30\x82" + secret[2:], b"\x30" + secret[1:]):
            assert load_secret(one).verifying == one
            assert load_secret(b64encode(one)).verifying == b64encode(one)


@pytest.mark.parametrize("fallback", ["", b""], ids=repr)
def test_empty_fallback_of_secret_key_signs_nothing(
    user: Any, client: JSONClient, settings: Any, fallback: str | bytes
) -> None:
    claims = dict(jwt_auth.verify(sessions.start(user).access_token))

    def forged(secret: str) -> str:
        derived = hashlib.sha256(f"jwt_auth.access_token{secret}".encode()).digest()
        key = hmac.digest(derived, b"key", "sha256")
        return hs256().token(claims, hs256().header(kid=kid_of(key)), sign=mac(key))

    settings.SECRET_KEY_FALLBACKS = ["known"]
    assert client.whoami(forged("known")).status_code == 200
    settings.SECRET_KEY_FALLBACKS = [fallback]
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY_FALLBACKS"):
        client.whoami(forged(""))


def test_without_a_key_of_its_own_a_project_works(user: Any, client: JSONClient) -> None:
    # The derived key, with nothing set at all; `check --deploy` warns.
    assert client.whoami(client.login().json()["access_token"]).status_code == 200
    assert [one.id for one in read_settings()[1]] == ["jwt_auth.W001"]


@pytest.mark.parametrize(("algorithm", "size"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
@pytest.mark.parametrize("name", ["SIGNING_KEY", "VERIFYING_KEYS"])
@pytest.mark.parametrize("kind", ["text", "bytes", "JWK"])
def test_a_secret_is_as_long_as_its_hash(
    settings: Any, algorithm: str, size: int, name: str, kind: str
) -> None:
    for length, expected in ((size - 1, ["jwt_auth.E005"]), (size, [])):
        raw = bytes(range(40, 40 + length))
        form: Any = {"text": raw.decode(), "bytes": raw}.get(kind)
        if kind == "JWK":
            form = {"kty": "oct", "k": b64(raw), "alg": algorithm}
        value = form if name == "SIGNING_KEY" else [form]
        others = {} if name == "SIGNING_KEY" else {"SIGNING_KEY": bytes(range(100, 164))}
        found = problems(settings, ALGORITHM=algorithm, **{name: value}, **others)
        assert [one.id for one in found] == expected


def rsa_jwk(modulus: int, exponent: int, size: int) -> dict[str, str]:
    """Return a public RSA key of any numbers."""
    return {"kty": "RSA", "n": b64(modulus.to_bytes(size)), "e": b64(exponent.to_bytes(4))}


MODULUS = private_key("RSA-2048").public_key().public_numbers().n
WEAK: dict[str, Callable[[], dict[str, Any]]] = {
    "RSA of 1024 bits": lambda: {"SIGNING_KEY": private_pem("RSA-1024")},
    "RSA of 2040 bits": lambda: {"SIGNING_KEY": private_pem("RSA-2040")},
    "an exponent of 1": lambda: {"VERIFYING_KEYS": [rsa_jwk(MODULUS, 1, 256)]},
    "an even exponent": lambda: {"VERIFYING_KEYS": [rsa_jwk(MODULUS, 65536, 256)]},
    "1024 bits of a verifier": lambda: {"VERIFYING_KEYS": [rsa_jwk(MODULUS >> 1024, 65537, 128)]},
    "ES256 on P-384": lambda: {"SIGNING_KEY": private_pem("P-384"), "ALGORITHM": "ES256"},
    "ES512 on P-256": lambda: {"SIGNING_KEY": private_pem("P-256"), "ALGORITHM": "ES512"},
    "EdDSA on P-256": lambda: {"SIGNING_KEY": private_pem("P-256"), "ALGORITHM": "EdDSA"},
    "RS256 on Ed25519": lambda: {"SIGNING_KEY": private_pem("Ed25519"), "ALGORITHM": "RS256"},
    "Ed448": lambda: {"SIGNING_KEY": pem(ed448.Ed448PrivateKey.generate())},
    "secp256k1": lambda: {"SIGNING_KEY": pem(ec.generate_private_key(ec.SECP256K1()))},
    "a JWK of another alg": lambda: {"SIGNING_KEY": {**private_jwk("P-256"), "alg": "ES384"}},
}


@pytest.mark.parametrize("make", WEAK.values(), ids=WEAK)
def test_a_key_that_does_not_fit_its_algorithm_is_an_error(
    settings: Any, make: Callable[[], dict[str, Any]]
) -> None:
    weak = {"SIGNING_KEY": hs256().setting, **make()}
    [found] = problems(settings, **weak)
    assert found.id in {"jwt_auth.E004", "jwt_auth.E005"}
    with pytest.raises(ImproperlyConfigured):
        current()


def der() -> bytes:
    """Write a private key in binary."""
    key = serialization.load_pem_private_key(private_pem("P-256"), None)
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


IN_FILES: dict[str, Callable[[], Any]] = {
    **{
        name: UNUSABLE[name][0]
        for name in (
            "empty",
            "short",
            "public PEM",
            "DER",
            "SSH",
            "two blocks",
            "half a block",
            "junk in the block",
            "encrypted",
            "certificate",
            "request",
            "OpenSSH",
        )
    },
    "a private key in DER": der,
}


@pytest.mark.parametrize("make", IN_FILES.values(), ids=IN_FILES)
def test_a_file_of_the_wrong_kind_is_named_and_not_quoted(
    settings: Any, tmp_path: Path, make: Callable[[], Any]
) -> None:
    content = make()
    data = content.encode() if isinstance(content, str) else content
    path = tmp_path / "key.pem"
    path.touch(mode=0o600)
    path.write_bytes(data)
    [found] = problems(settings, SIGNING_KEY=path)
    assert (found.id, "SIGNING_KEY" in found.message) == ("jwt_auth.E005", True)
    shown = f"{found.message} {found.hint}"
    for line in data.decode("latin-1").splitlines():
        assert len(line) < 10 or line.startswith("-----") or line not in shown


NO_ALGORITHMS: list[Any] = [
    "none",
    "None",
    "nOnE",
    "",
    "HS256 ",
    "HS257",
    "rs256",
    "RS1",
    "ES256K",
    "dir",
    ["HS256"],
    ["HS256", "RS256"],
    ("RS256",),
    {"HS256"},
    7,
    True,
]


@pytest.mark.parametrize("key", [hs256().setting, private_pem("RSA-2048")], ids=["HMAC", "RSA"])
@pytest.mark.parametrize("algorithm", NO_ALGORITHMS, ids=repr)
def test_an_algorithm_is_one_name_of_the_list(settings: Any, key: Any, algorithm: Any) -> None:
    assert [one.id for one in problems(settings, SIGNING_KEY=key)] == []
    found = problems(settings, SIGNING_KEY=key, ALGORITHM=algorithm)
    assert [one.id for one in found] == ["jwt_auth.E004"]
    with pytest.raises(ImproperlyConfigured, match="ALGORITHM"):
        current()


@pytest.mark.parametrize(
    "algorithm", [one for one in [*NO_ALGORITHMS, None, "RS256"] if one != ""], ids=repr
)
def test_nor_may_a_jwk_name_another(settings: Any, algorithm: Any) -> None:
    jwk = {"kty": "oct", "k": b64(SECRET), "alg": algorithm}
    assert [one.id for one in problems(settings, SIGNING_KEY=jwk)] == ["jwt_auth.E005"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"SIGNING_KEY": SECRET, "ALGORITHM": "RS256"},
        {"SIGNING_KEY": private_pem("RSA-2048"), "ALGORITHM": "HS256"},
        {"SIGNING_KEY": private_pem("P-256"), "ALGORITHM": "HS256"},
        {"SIGNING_KEY": {**private_jwk("RSA-2048"), "alg": "HS256"}},
        {"SIGNING_KEY": {"kty": "oct", "k": b64(SECRET), "alg": "RS256"}},
    ],
    ids=range(5),
)
def test_a_key_is_for_hmac_or_for_signatures(settings: Any, wrong: dict[str, Any]) -> None:
    [found] = problems(settings, **wrong)
    assert found.id in {"jwt_auth.E004", "jwt_auth.E005"}


@pytest.mark.parametrize("kind", ["RSA-2048", "P-256", "Ed25519"])
def test_hmac_for_all_makes_no_secret_of_a_public_key(
    target: Target, settings: Any, kind: str
) -> None:
    # ALGORITHM says HS256, and a public key is among those that verify.
    settings.JWT_AUTH = {
        "SIGNING_KEY": target.forge.setting,
        "VERIFYING_KEYS": [public_pem(private_pem(kind))],
        "ALGORITHM": "HS256",
    }
    target.accepts(target.forge.token(target.claims))
    [published] = current().settings.ring.public_jwks()["keys"]
    for secret in spellings(private_pem(kind)):
        for header in (
            target.forge.header(kid=published["kid"]),
            target.forge.header(kid=published["kid"], alg=published["alg"]),
        ):
            target.refuses(target.forge.token(target.claims, header, mac(secret)))


def test_two_keys_of_one_name_are_an_error(settings: Any) -> None:
    named = hs256().setting
    for others in (
        [{**OTHER, "kid": named["kid"]}],
        [OTHER, {**private_jwk("P-256"), "kid": "k2"}],
    ):
        found = problems(settings, SIGNING_KEY=named, VERIFYING_KEYS=others)
        assert [one.id for one in found] == ["jwt_auth.E006"]


@pytest.mark.parametrize(
    "kid", ["", " ", "a b", "a\n", "a\0", "é", "\ud800", "k" * 65, 7, True, ["a"], {"a": 1}]
)
def test_a_kid_is_a_short_printable_text(settings: Any, kid: Any) -> None:
    found = problems(settings, SIGNING_KEY={**hs256().setting, "kid": kid})
    assert [one.id for one in found] == ["jwt_auth.E005"]


@pytest.mark.parametrize("algorithm", FORGES)
def test_a_stolen_key_is_worth_nothing_once_it_is_taken_out(
    user: Any, client: JSONClient, settings: Any, caplog: Any, algorithm: str
) -> None:
    forge = FORGES[algorithm]()
    settings.JWT_AUTH = {"SIGNING_KEY": forge.setting}
    caplog.set_level(logging.DEBUG)
    target = Target(forge, user, client, caplog)
    held = [sessions.start(user).access_token for _ in range(3)]
    # Moved aside, it still verifies and logs nobody out; what is new is signed by the other.
    settings.JWT_AUTH = {"SIGNING_KEY": OTHER, "VERIFYING_KEYS": [forge.setting]}
    for raw in [*held, forge.token(target.claims)]:
        target.accepts(raw)
    fresh = sessions.start(user).access_token
    published = [key["kid"] for key in client.get("/auth/jwks.json").json()["keys"]]
    assert published == ([] if algorithm == "HS256" else [forge.kid])
    target._genuine = fresh
    theirs = replace(forge, kid="k2")
    target.refuses(theirs.token(target.claims))
    # Taken out, it is gone at once, for tokens that were just let in too.
    settings.JWT_AUTH = {"SIGNING_KEY": OTHER}
    for raw in [*held, forge.token(target.claims), theirs.token(target.claims)]:
        target.refuses(raw)
    target.accepts(fresh)


# A number of each private key that the errors of libraries quote.
BROKEN_JWKS: dict[str, Callable[[], dict[str, Any]]] = {
    "RSA, n a number": lambda: {**private_jwk("RSA-2048"), "n": 7},
    "RSA, no e": lambda: {k: v for k, v in private_jwk("RSA-2048").items() if k != "e"},
    "RSA, another n": lambda: {**private_jwk("RSA-2048"), "n": b64(b"\xa1" * 256)},
    "EC, no point": lambda: {**private_jwk("P-256"), "y": b64(bytes(32))},
    "EC, no curve": lambda: {**private_jwk("P-256"), "crv": "P-257"},
    "EC, x missing": lambda: {k: v for k, v in private_jwk("P-256").items() if k != "x"},
    "Ed25519, x too short": lambda: {**private_jwk("Ed25519"), "x": "AAAA"},
    "Ed25519, no curve": lambda: {k: v for k, v in private_jwk("Ed25519").items() if k != "crv"},
    "oct, alg of RSA": lambda: {"kty": "oct", "k": b64(SECRET), "alg": "RS256"},
    "oct, use": lambda: {"kty": "oct", "k": b64(SECRET), "use": "enc"},
}


@pytest.mark.parametrize("make", BROKEN_JWKS.values(), ids=BROKEN_JWKS)
@pytest.mark.parametrize("name", ["SIGNING_KEY", "VERIFYING_KEYS", "ENCRYPTION_KEY"])
def test_what_is_said_of_a_broken_key_is_not_the_key(
    client: JSONClient,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
    name: str,
    make: Callable[[], dict[str, Any]],
) -> None:
    caplog.set_level(logging.DEBUG)
    jwk = make()
    secret = jwk.get("d") or jwk["k"]
    if name == "ENCRYPTION_KEY" and jwk.get("use") == "enc":
        jwk["use"] = "sig"
    others = {} if name == "SIGNING_KEY" else {"SIGNING_KEY": OTHER}
    value = [jwk] if name == "VERIFYING_KEYS" else jwk
    found = problems(settings, **{name: value}, **others)
    assert {one.id for one in found} == {"jwt_auth.E005"}
    try:
        client.whoami("a.b.c")
    except ImproperlyConfigured:
        kind, error, traceback = sys.exc_info()
    else:
        raise AssertionError("it works")
    assert error is not None
    assert error.__cause__ is None
    # As Django mails it, with the variables of each frame.
    request = RequestFactory().get("/")
    report = ExceptionReporter(request, kind, error, traceback)
    shown = [str(found), str(error), report.get_traceback_text(), caplog.text]
    ours = Path(jwt_auth.__file__).parent.as_posix()
    frames = [one for one in report.get_traceback_frames() if one["filename"].startswith(ours)]
    assert frames
    shown += [str(frame["vars"]) for frame in frames]
    for text in shown:
        # What Django shows is cut after some thousand characters, and so may the number be.
        assert secret[:20] not in text
        assert secret[-20:] not in text


def test_a_debug_page_shows_no_key(settings: Any) -> None:
    word = "q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjG"
    secrets = [f"{word}-{number}-{word}" for number in range(5)]
    settings.DEBUG = True
    settings.SECRET_KEY_FALLBACKS = [f"{word}-of-yesterday"]
    settings.JWT_AUTH = {
        "ISSUER": "https://id.example",
        "SIGNING_KEY": secrets[0],
        "VERIFYING_KEYS": [secrets[1], {"kty": "oct", "k": urlsafe_b64encode(b"x" * 40).decode()}],
        "ENCRYPTION_KEY": {"kty": "oct", "k": secrets[2]},
        "DECRYPTION_KEYS": [secrets[3], private_pem("P-256")],
    }
    try:
        raise RuntimeError("a bug of the project")
    except RuntimeError:
        request = RequestFactory().get("/")
        page = technical_500_response(request, *sys.exc_info()).content.decode()
    assert "a bug of the project" in page
    # The page shows the settings, and of this one what is no secret.
    assert "https://id.example" in page
    assert "ENCRYPTION_KEY" in page
    _, _, shown = page.partition('id="settings-info"')
    assert shown
    for hidden in (word, urlsafe_b64encode(b"x" * 40).decode(), "PRIVATE KEY"):
        assert hidden not in shown
