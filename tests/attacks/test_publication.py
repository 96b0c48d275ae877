"""Rows 147 to 151: what everybody may read is public, and says nothing that a visitor has said."""

from __future__ import annotations

import functools
import json
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from django.urls import include, path

from tests.attacks.forge import SECRET, b64
from tests.conftest import Clock, JSONClient, private_key, private_pem
from tests.tokens.test_keys import pem

urlpatterns = [
    path("auth/", include("jwt_auth.urls")),
    path(".well-known/", include("jwt_auth.urls.well_known")),
]

ISSUER = "https://id.example"
DOCUMENTS = [
    "/auth/jwks.json",
    "/.well-known/jwks.json",
    "/.well-known/oauth-authorization-server",
    "/auth/revoked.jwt",
]
# RFC 7517 section 9.2, RFC 7518 sections 6.2.2, 6.3.2 and 6.4.
PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
PUBLIC_MEMBERS = {
    "RSA": {"kty", "use", "alg", "kid", "n", "e"},
    "EC": {"kty", "use", "alg", "kid", "crv", "x", "y"},
    "OKP": {"kty", "use", "alg", "kid", "crv", "x"},
}


@pytest.fixture(autouse=True)
def project(settings: Any) -> Any:
    settings.ROOT_URLCONF = __name__
    return settings


@functools.cache
def generated() -> tuple[Any, ...]:
    """Return 100 keys of all kinds."""
    curves = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
    keys: list[Any] = [private_key("RSA-2048")]
    keys += [ec.generate_private_key(curve) for curve in curves for _ in range(24)]
    return (*keys, *(ed25519.Ed25519PrivateKey.generate() for _ in range(27)))


def private_numbers(key: Any) -> list[int]:
    """Return the numbers of a private key that nobody else may know."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return [int.from_bytes(key.private_bytes_raw())]
    numbers = key.private_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        return [numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp]
    return [numbers.private_value]


def texts(value: Any) -> Iterator[str]:
    """Walk a document; yield every name and every text in it."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)
    else:
        assert isinstance(value, str), value
        yield value


def as_number(text: str) -> int:
    """Read base64url as a number; what is none reads as something else."""
    return int.from_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def test_a_hundred_keys_and_nothing_private(client: JSONClient, project: Any) -> None:
    keys = generated()
    assert len(keys) == 100
    first, *others = map(pem, keys)
    secrets = [SECRET, {"kty": "oct", "k": b64(bytes(range(64))), "kid": "old"}]
    project.JWT_AUTH = {"SIGNING_KEY": first, "VERIFYING_KEYS": [*others, *secrets]}
    hidden = {number for key in keys for number in private_numbers(key)}
    hidden |= {int.from_bytes(SECRET), int.from_bytes(bytes(range(64)))}
    for url in DOCUMENTS[:2]:
        answer = client.get(url)
        published = answer.json()["keys"]
        assert len(published) == 100
        for jwk in published:
            assert set(jwk) == PUBLIC_MEMBERS[jwk["kty"]]
        found = {as_number(one) for one in texts(answer.json()) if len(one) > 20}
        assert len(found) > 200
        assert found.isdisjoint(hidden)
        assert PRIVATE_MEMBERS.isdisjoint(texts(answer.json()))


# Each as the key of a project that publishes; none of it may be read anywhere.
SECRETS: dict[str, Any] = {
    "text": SECRET.decode(),
    "bytes": SECRET,
    "JWK": {"kty": "oct", "k": b64(SECRET), "kid": "k1"},
    "derived": None,
}


@pytest.mark.parametrize("form", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("name", ["SIGNING_KEY", "ENCRYPTION_KEY"])
def test_a_secret_is_in_no_document(
    user: Any, client: JSONClient, project: Any, name: str, form: Any
) -> None:
    project.JWT_AUTH = {"ISSUER": ISSUER, name: form}
    assert client.get(DOCUMENTS[0]).json() == {"keys": []}
    assert client.get(DOCUMENTS[3]).status_code == 404
    for url in DOCUMENTS:
        answer = client.get(url)
        for secret in (SECRET.decode(), b64(SECRET), SECRET.hex(), project.SECRET_KEY):
            assert secret not in answer.text
            assert secret not in str(answer.headers)


def test_keys_that_open_tokens_are_not_published(client: JSONClient, project: Any) -> None:
    project.JWT_AUTH = {
        "SIGNING_KEY": private_pem("P-256"),
        "ENCRYPTION_KEY": private_pem("RSA-2048"),
        "DECRYPTION_KEYS": [private_pem("P-384")],
    }
    [jwk] = client.get(DOCUMENTS[0]).json()["keys"]
    assert (jwk["kty"], jwk["crv"], jwk["use"]) == ("EC", "P-256", "sig")


FORGED = {
    "HTTP_HOST": "evil.example",
    "HTTP_X_FORWARDED_HOST": "evil.example",
    "HTTP_X_FORWARDED_PROTO": "http",
    "HTTP_FORWARDED": "host=evil.example;proto=http",
    "HTTP_ORIGIN": "https://evil.example",
    "HTTP_REFERER": "https://evil.example/",
    "HTTP_AUTHORIZATION": "Bearer a.b.c",
    "HTTP_ACCEPT": "text/html",
}


@pytest.mark.django_db
@pytest.mark.parametrize("url", DOCUMENTS)
@pytest.mark.parametrize("trusted", [False, True])
def test_nothing_that_a_visitor_says_is_published(
    client: JSONClient, project: Any, clock: Clock, url: str, trusted: bool
) -> None:
    # What a shared cache keeps is the same for all, even where a proxy's header is believed.
    project.USE_X_FORWARDED_HOST = trusted
    project.JWT_AUTH = {"ISSUER": ISSUER, "SIGNING_KEY": private_pem("P-256")}
    honest, forged = client.get(url), client.get(url, **FORGED)
    assert (honest.status_code, forged.status_code) == (200, 200)
    # The list is signed once, as long as it is the same.
    assert forged.content == honest.content
    assert dict(forged.headers) == dict(honest.headers)
    assert "evil" not in json.dumps(dict(forged.headers))
    assert "Cookie" not in forged.headers.get("Vary", "")
    assert not forged.cookies


@pytest.mark.parametrize("url", DOCUMENTS[:3])
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "trace"])
def test_what_is_published_is_only_read(
    client: JSONClient, project: Any, url: str, method: str
) -> None:
    project.JWT_AUTH = {"ISSUER": ISSUER, "SIGNING_KEY": private_pem("P-256")}
    answer = getattr(client, method)(url)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
