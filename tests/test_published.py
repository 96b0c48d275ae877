"""Keys and metadata as verifiers fetch them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.urls import include, path

from jwt_auth.tokens.keys import load_key
from tests.conftest import JSONClient, private_pem

urlpatterns = [
    path("auth/", include("jwt_auth.urls")),
    path(".well-known/", include("jwt_auth.urls.well_known")),
]

ISSUER = "https://id.example"
METADATA = "/.well-known/oauth-authorization-server"
KEYS = ["/auth/jwks.json", "/.well-known/jwks.json"]
SECRET = "q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjGu1RpNi5o"
PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


@pytest.fixture(autouse=True)
def project(settings: Any) -> Any:
    settings.ROOT_URLCONF = __name__
    settings.JWT_AUTH = {"ISSUER": ISSUER, "SIGNING_KEY": private_pem("P-256")}
    return settings


@pytest.mark.parametrize("url", KEYS)
def test_public_parts_and_nothing_else(client: JSONClient, project: Any, url: str) -> None:
    kinds = ["RSA-2048", "P-256", "P-384", "P-521", "Ed25519"]
    first, *others = [private_pem(kind) for kind in kinds]
    project.JWT_AUTH = {"SIGNING_KEY": first, "VERIFYING_KEYS": [*others, SECRET]}
    found = client.get(url).json()["keys"]
    assert [key["kty"] for key in found] == ["RSA", "EC", "EC", "EC", "OKP"]
    for key in found:
        assert PRIVATE_MEMBERS.isdisjoint(key)
        assert (key["use"], len(key["kid"])) == ("sig", 43)
        assert key["alg"] in {"RS256", "ES256", "ES384", "ES512", "EdDSA"}


def test_coordinates_have_a_fixed_width() -> None:
    for _ in range(2000):
        private = ec.generate_private_key(ec.SECP256R1())
        if private.public_key().public_numbers().x >> 248 == 0:
            break
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    jwk = load_key(pem, private=True).public_jwk
    assert jwk is not None
    assert [len(jwk[name]) for name in ("x", "y")] == [43, 43]


@pytest.mark.parametrize("url", [*KEYS, METADATA])
def test_what_is_published_may_be_kept(client: JSONClient, url: str) -> None:
    answer = client.get(url)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert not [name for name in answer.headers if name.startswith("Access-Control")]
    etag = answer.headers["ETag"]
    again = client.get(url, headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == etag
    assert again.headers["Cache-Control"] == "public, max-age=300"
    other = client.get(url, headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, answer.content)
    head = client.head(url)
    assert (head.status_code, head.headers["ETag"]) == (200, etag)
    assert head.content == b""


@pytest.mark.parametrize("url", [*KEYS, METADATA])
def test_nobody_is_asked_who_they_are(client: JSONClient, url: str) -> None:
    for token in ("x", "a.b.c"):
        assert client.call("get", url, token=token).status_code == 200
    for method in ("post", "put", "delete"):
        answer = client.call(method, url)
        assert answer.status_code == 405
        assert answer.headers["Cache-Control"] == "no-store"


def test_another_key_has_another_etag(client: JSONClient, project: Any) -> None:
    first = client.get(KEYS[0]).headers["ETag"]
    project.JWT_AUTH = {"SIGNING_KEY": private_pem("P-384")}
    assert client.get(KEYS[0], headers={"If-None-Match": first}).status_code == 200


def test_secrets_alone_publish_nothing(client: JSONClient, project: Any) -> None:
    project.JWT_AUTH = {"SIGNING_KEY": SECRET}
    assert client.get(KEYS[0]).json() == {"keys": []}


def test_metadata_leads_to_the_keys(client: JSONClient) -> None:
    answer = client.get(METADATA, headers={"Host": "evil.example"}, HTTP_X_FORWARDED_HOST="evil")
    assert answer.json() == {
        "issuer": ISSUER,
        "jwks_uri": "https://id.example/.well-known/jwks.json",
        "grant_types_supported": [],
        "response_types_supported": [],
    }
    assert "evil" not in json.dumps(dict(answer.headers))


@pytest.mark.parametrize(
    "issuer",
    [
        None,
        "id.example",
        "http://id.example",
        "https://id.example/",
        "https://id.example/tenant",
        "https://id.example?x=y",
        "https://id.example#x",
        "https://user@id.example",
        "https://",
        "https://[id.example",
    ],
)
def test_metadata_wants_an_origin(client: JSONClient, project: Any, issuer: str | None) -> None:
    project.JWT_AUTH = {"ISSUER": issuer}
    answer = client.get(METADATA)
    assert answer.status_code == 404
    assert answer.headers["Cache-Control"] == "no-store"


class TestTheStepFromTheDerivedKey:
    """``None`` among ``VERIFYING_KEYS`` is what it is as ``SIGNING_KEY``."""

    def test_no_token_is_refused_at_any_step(
        self, user: Any, client: JSONClient, project: Any
    ) -> None:
        new = private_pem("P-256")
        steps = [
            {},
            {"VERIFYING_KEYS": [new]},
            {"SIGNING_KEY": new, "VERIFYING_KEYS": [None]},
            {"SIGNING_KEY": new},
        ]
        project.ROOT_URLCONF = "tests.urls"
        previous: dict[str, Any] = {}
        for step in steps:
            tokens = []
            for settings in (previous, step):
                project.JWT_AUTH = settings
                tokens.append(client.login().json()["access_token"])
            for settings in (previous, step):
                project.JWT_AUTH = settings
                assert [client.whoami(token).status_code for token in tokens] == [200, 200]
            previous = step

    def test_once_it_is_forgotten_its_tokens_are_refused(
        self, user: Any, client: JSONClient, project: Any
    ) -> None:
        project.ROOT_URLCONF, project.JWT_AUTH = "tests.urls", {}
        token = client.login().json()["access_token"]
        project.JWT_AUTH = {"SIGNING_KEY": private_pem("P-256")}
        assert client.whoami(token).json()["code"] == "token_not_valid"
