"""Keys: what a setting may hold, what is refused, and what is published."""

from __future__ import annotations

import json
import math
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.x509.oid import NameOID

from jwt_auth.tokens import jws
from jwt_auth.tokens.keys import Key, KeyRing, UnusableKey, load_key
from tests.attacks.forge import b64
from tests.conftest import private_key, private_pem, public_pem
from tests.remote.provider import public_jwk

SECRET = "q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjGu1RpNi5o"

# RFC 7638 section 3.1.
RFC_7638_KEY = {
    "kty": "RSA",
    "n": (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJEC"
        "PebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2Qvz"
        "qY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZ"
        "u0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    ),
    "e": "AQAB",
    "alg": "RS256",
}
RFC_7638_THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def pem(key: Any, encryption: Any = None, fmt: Any = serialization.PrivateFormat.PKCS8) -> bytes:
    """Write a private key."""
    encryption = encryption or serialization.NoEncryption()
    written: bytes = key.private_bytes(serialization.Encoding.PEM, fmt, encryption)
    return written


def private_jwk(kind: str) -> dict[str, Any]:
    """Write a private key as JWK."""
    algorithm = {"RSA-2048": "RS256", "P-256": "ES256", "Ed25519": "EdDSA"}[kind]
    return jws.key_to_jwk(algorithm, load_key(private_pem(kind), private=True).signing)


def verifies(signer: Key, verifier: Key) -> bool:
    """Tell whether *verifier* takes what *signer* signs."""
    raw = jws.sign({"sub": "1", "exp": 4_000_000_000}, signer, "x")
    return jws.verify(raw, KeyRing(verifier), frozenset({"x"})).subject == "1"


KINDS = {
    "RSA-2048": "RS256",
    "P-256": "ES256",
    "P-384": "ES384",
    "P-521": "ES512",
    "Ed25519": "EdDSA",
}


@pytest.mark.parametrize(("kind", "algorithm"), KINDS.items())
def test_the_kind_of_a_key_means_an_algorithm(kind: str, algorithm: str) -> None:
    private = load_key(private_pem(kind), private=True)
    public = load_key(public_pem(private_pem(kind)), private=False)
    assert private.algorithm == public.algorithm == algorithm
    assert private.kid == public.kid
    assert public.signing is None
    assert verifies(private, public)


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "PS384", "PS512"])
def test_an_rsa_key_serves_the_algorithm_that_is_asked_for(algorithm: str) -> None:
    key = load_key(private_pem("RSA-2048"), algorithm, private=True)
    assert key.algorithm == algorithm
    assert verifies(key, load_key(key.public_jwk or {}, private=False))


@pytest.mark.parametrize("kind", ["RSA-2048", "P-256", "Ed25519"])
def test_a_private_jwk_signs(kind: str) -> None:
    key = load_key({**private_jwk(kind), "kid": "mine", "key_ops": ["sign"]}, private=True)
    assert key.kid == "mine"
    assert verifies(key, load_key(public_pem(private_pem(kind)) and key.public_jwk, private=False))


def test_a_secret_jwk_signs() -> None:
    jwk = {"kty": "oct", "k": urlsafe_b64encode(b"0123456789abcdef" * 4).decode(), "alg": "HS512"}
    key = load_key(jwk, private=True)
    assert (key.algorithm, len(key.signing)) == ("HS512", 64)


def test_files_hold_secrets_and_pems(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    (tmp_path / "key.pem").write_bytes(private_pem("P-256"))
    assert load_key(tmp_path / "secret", private=True).signing == SECRET.encode()
    assert load_key(tmp_path / "key.pem", private=True).algorithm == "ES256"


def test_older_pem_forms_are_taken() -> None:
    traditional = serialization.PrivateFormat.TraditionalOpenSSL
    for key in (private_key("RSA-2048"), ec.generate_private_key(ec.SECP256R1())):
        assert load_key(pem(key, fmt=traditional), private=True).signing
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert load_key(parameters + private_pem("P-256"), private=True).algorithm == "ES256"
    pkcs1 = (
        private_key("RSA-2048")
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
    )
    assert load_key(pkcs1, private=False).algorithm == "RS256"


def certificate() -> bytes:
    """Write a certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def weak_rsa(bits: int, exponent: int = 65537) -> bytes:
    """Write a public RSA key that no generator would make."""
    modulus = (1 << (bits - 1)) + 1
    numbers = {"n": modulus, "e": exponent}
    jwk = {
        name: urlsafe_b64encode(one.to_bytes(bits // 8)).decode() for name, one in numbers.items()
    }
    return json.dumps({"kty": "RSA", **jwk}).encode()


UNUSABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "empty": (lambda: b"", "at least 32 bytes"),
    "short": (lambda: "0123456789", "at least 32 bytes"),
    "repeated": (lambda: "ab" * 40, "guessed"),
    "sample": (lambda: "a-string-secret-at-least-256-bits-long", "guessed"),
    "public PEM": (lambda: public_pem(private_pem("P-256")), "cannot sign"),
    "public JWK": (
        lambda: load_key(private_pem("P-256"), private=True).public_jwk,
        "cannot sign",
    ),
    "DER": (
        lambda: (
            serialization.load_pem_private_key(private_pem("RSA-2048"), None)
            .public_key()
            .public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        ),
        "this is DER",
    ),
    "SSH": (
        lambda: (
            serialization.load_pem_private_key(private_pem("Ed25519"), None)
            .public_key()
            .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        ),
        "public key or certificate",
    ),
    "JWK as text": (lambda: json.dumps(RFC_7638_KEY), "public key or certificate"),
    "two blocks": (lambda: private_pem("P-256") * 2, "2 were found"),
    "half a block": (lambda: private_pem("P-256")[:60], "0 were found"),
    "junk in the block": (
        lambda: b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "cannot be parsed",
    ),
    "encrypted": (
        lambda: pem(
            ec.generate_private_key(ec.SECP256R1()), serialization.BestAvailableEncryption(b"x")
        ),
        "encrypted",
    ),
    "certificate": (
        lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "certificate",
    ),
    "request": (certificate, "PKCS#8"),
    "OpenSSH": (
        lambda: pem(ed25519.Ed25519PrivateKey.generate(), fmt=serialization.PrivateFormat.OpenSSH),
        "PKCS#8",
    ),
    "Ed448": (lambda: pem(ed448.Ed448PrivateKey.generate()), "Ed25519"),
    "secp256k1": (lambda: pem(ec.generate_private_key(ec.SECP256K1())), "P-256"),
    "no such file": (lambda: Path("/no/such/file"), "FileNotFoundError"),
    "kty": (lambda: {"kty": "AKP"}, "kty"),
    "no kty": (dict, "kty"),
    "use": (lambda: {**private_jwk("P-256"), "use": "enc"}, "use"),
    "key_ops": (lambda: {**private_jwk("P-256"), "key_ops": ["encrypt"]}, "key_ops"),
    "key_ops as text": (lambda: {**private_jwk("P-256"), "key_ops": "sign"}, "key_ops"),
    "alg": (lambda: {**private_jwk("P-256"), "alg": "none"}, "alg"),
    "alg of another kind": (lambda: {**private_jwk("P-256"), "alg": "RS256"}, "alg"),
    "kid": (lambda: {**private_jwk("P-256"), "kid": "a b"}, "kid"),
    "long kid": (lambda: {**private_jwk("P-256"), "kid": "a" * 65}, "kid"),
    "kid of a number": (lambda: {**private_jwk("P-256"), "kid": 7}, "kid"),
    "broken JWK": (lambda: {**private_jwk("P-256"), "x": "AAAA"}, "cannot be parsed"),
}


@pytest.mark.parametrize(("make", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_key_says_why(make: Callable[[], Any], reason: str) -> None:
    with pytest.raises(UnusableKey, match=reason):
        load_key(make(), private=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [(weak_rsa(1024), "2048 bits"), (weak_rsa(2048, 1), "odd"), (weak_rsa(2048, 4), "odd")],
    ids=["1024 bits", "exponent 1", "even exponent"],
)
def test_weak_rsa_keys_never_load(text: bytes, reason: str) -> None:
    with pytest.raises(UnusableKey, match=f"{reason}|cannot be parsed"):
        load_key(json.loads(text), private=False)


def roca_jwk(greatest: int) -> dict[str, str]:
    """Return a public key of numbers like the primes of a library with ROCA (CVE-2017-15361).

    *greatest* is the greatest of the small primes that they are made from.
    """
    small = [one for one in range(2, greatest + 1) if all(one % other for other in range(2, one))]
    product = math.prod(small)

    def number(bits: int) -> int:
        multiple = (1 << bits - 1) // product + 1 + secrets.randbits(32)
        return multiple * product + pow(65537, secrets.randbits(64), product)

    modulus = number(1024) * number(1025)
    size = (modulus.bit_length() + 7) // 8
    n = urlsafe_b64encode(modulus.to_bytes(size)).rstrip(b"=").decode()
    return {"kty": "RSA", "n": n, "e": "AQAB"}


def test_a_modulus_that_can_be_factored_never_loads() -> None:
    for _ in range(20):
        with pytest.raises(UnusableKey, match="ROCA"):
            load_key(roca_jwk(701), private=False)


# What the library takes for keys of less than 1984 bits, which are refused by their length.
@pytest.mark.parametrize("greatest", [167, 353])
def test_modulus_that_resembles_roca_by_chance_loads(greatest: int) -> None:
    assert load_key(roca_jwk(greatest), private=False).algorithm == "RS256"


def test_an_error_quotes_nothing_of_the_key() -> None:
    secret = private_jwk("RSA-2048")["d"]
    broken = {**private_jwk("RSA-2048"), "n": 7}
    with pytest.raises(UnusableKey) as caught:
        load_key(broken, private=True)
    assert secret not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_thumbprint_of_the_rfc() -> None:
    key = load_key(RFC_7638_KEY, private=False)
    assert key.kid == RFC_7638_THUMBPRINT


def test_the_kid_of_a_secret_is_no_hash_of_it() -> None:
    import hashlib

    key = load_key(SECRET, private=True)
    digests = [hashlib.new(name, SECRET.encode()).digest() for name in ("sha256", "sha512", "md5")]
    raw = urlsafe_b64decode(key.kid)
    assert not any(raw in digest for digest in digests)
    assert load_key(SECRET, private=True).kid == key.kid


def test_only_public_parts_are_published() -> None:
    ring = KeyRing(
        load_key(private_pem("RSA-2048"), private=True),
        [load_key(private_pem(kind), private=True) for kind in ("P-256", "Ed25519")]
        + [load_key(SECRET, private=False)],
    )
    published = ring.public_jwks()["keys"]
    assert [sorted(key) for key in published] == [
        ["alg", "e", "kid", "kty", "n", "use"],
        ["alg", "crv", "kid", "kty", "use", "x", "y"],
        ["alg", "crv", "kid", "kty", "use", "x"],
    ]


def test_a_key_shows_nothing_of_itself() -> None:
    key = load_key(SECRET, private=True)
    assert SECRET not in repr(key)
    assert repr(key) == f"<Key {key.kid} for HS256>"


def test_a_token_we_would_not_take_is_not_signed() -> None:
    key = load_key(SECRET, private=True)
    for extra in ({"x": "x" * 9000}, {"x": float("nan")}, {"x": object()}, {"x": "\ud800"}):
        with pytest.raises((TypeError, ValueError)):
            jws.sign({"sub": "1", "exp": 1, **extra}, key, "x")


A_SECRET = {"kty": "oct", "k": b64(bytes(range(64)))}
WRONG_JWKS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown alg": ({**A_SECRET, "alg": "HS257"}, "not supported"),
    "a list as alg": (
        {**A_SECRET, "alg": ["HS256"]},
        "not supported",
    ),
    "an alg of another kind": (
        {**A_SECRET, "alg": "RS256"},
        "(does not fit|asymmetric|secret)",
    ),
    "a public key": (public_jwk(private_pem("P-256")), "a public key cannot sign"),
}


@pytest.mark.parametrize(("jwk", "reason"), WRONG_JWKS.values(), ids=WRONG_JWKS)
def test_what_is_wrong_with_a_jwk_is_named(jwk: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnusableKey, match=reason):
        load_key(jwk, private=True)
