"""Rows 152 to 165: a provider that lies, and tokens that would have something fetched."""

from __future__ import annotations

import base64
import gzip
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from django.core.exceptions import ImproperlyConfigured

from jwt_auth import averify, verify
from jwt_auth.errors import TokenNotValid, Unavailable
from jwt_auth.runtime import current
from jwt_auth.tokens import fetching, remote
from tests.attacks.conftest import Target
from tests.attacks.forge import Forge, b64, hs256
from tests.attacks.limits import Limits
from tests.conftest import Clock, JSONClient, private_key
from tests.remote.provider import (
    ISSUER,
    Answer,
    Held,
    Provider,
    body,
    document,
    foreign,
    public_jwk,
    running,
)

pytestmark = pytest.mark.usefixtures("quiet_heap")

FAR = 4_000_000_000


@pytest.fixture
def provider(settings: Any) -> Iterator[Provider]:
    """Return another issuer that is up, and trusted."""
    with running(Provider()) as one:
        # http is for development.
        settings.DEBUG = True
        settings.JWT_AUTH = {"TRUSTED_ISSUERS": one.settings()}
        yield one


@pytest.fixture
def canary() -> Iterator[Provider]:
    """Return a server that nobody has any business with."""
    with running(Provider()) as one:
        yield one


@pytest.fixture
def target(provider: Provider, user: Any, client: JSONClient, clock: Clock, caplog: Any) -> Target:
    """Return the project that trusts the provider; its forge can make a token that passes."""
    caplog.set_level(logging.DEBUG)
    return Target(provider.forge, user, client, caplog, provider.claims(exp=FAR))


REDIRECTS = [
    "{canary}/jwks.json",
    "//{canary_host}/jwks.json",
    "gopher://{canary_host}/",
    "{provider}/jwks.json",
    "/jwks.json",
    "file:///etc/passwd",
    "data:application/json,{{}}",
]


@pytest.mark.parametrize("target", REDIRECTS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_leads_nowhere(
    provider: Provider, canary: Provider, client: JSONClient, status: int, target: str
) -> None:
    host = canary.url.removeprefix("http://")
    location = target.format(provider=provider.url, canary=canary.url, canary_host=host)
    provider.answers["/jwks.json"] = body(b"", status, Location=location)
    answer = client.whoami(provider.token())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert (provider.asked, canary.asked) == (["/jwks.json"], [])


# Each of these was once enough to stop a verifier, or to have it read 50 MB.
LIES: dict[str, Answer] = {
    "no JSON": body(b"<html>"),
    "nothing": body(b""),
    "204": body(b"", 204),
    "404": body(b"", 404),
    "500 with keys in it": body(b'{"keys": []}', 500),
    "no UTF-8": body(b'{"keys": ["\xff"]}'),
    "UTF-16": body('{"keys": []}'.encode("utf-16")),
    "nested": body(b'{"keys":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "an array": document([]),
    "keys in an object": document({"keys": {"kid": "one"}}),
    "keys that are null": document({"keys": None}),
    "keys twice": body(b'{"keys": [], "keys": []}'),
    "a number without end": body(b'{"keys": [' + b"9" * 10_000 + b"]}"),
    "2 MB": body(b'{"keys": []' + b" " * 2_000_000 + b"}"),
    "a bomb": body(gzip.compress(b" " * 20_000_000), Content_Encoding="gzip"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_provider_that_lies_costs_nothing(
    target: Target, provider: Provider, client: JSONClient, clock: Clock, lie: Answer
) -> None:
    known, unknown = target.forge.token(target.claims), provider.token(kid="new", exp=FAR)
    provider.answers["/jwks.json"] = lie
    clock.move(seconds=31)
    with Limits():
        answer = client.whoami(unknown)
    # Nobody can say that there is no such key.
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert unknown not in answer.text
    target.accepts(known)


def followed_keys() -> Any:
    """Return the provider's keys as this process follows them."""
    return current().authenticator.issuers[ISSUER].tokens._keys.followed


@pytest.mark.parametrize("ask", [verify, async_to_sync(averify)], ids=["sync", "async"])
def test_unknown_kid_does_not_hold_a_worker_while_keys_are_fetched(
    target: Target,
    provider: Provider,
    client: JSONClient,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[str], Any],
) -> None:
    monkeypatch.setattr(remote, "KEYS_PATIENCE", 0.01)
    # Longer than the fetch: a request that waits for it meets one that has finished.
    monkeypatch.setattr(fetching, "DEADLINE", 60.0)
    followed = followed_keys()
    known, forged = target.forge.token(target.claims), provider.token(kid="forged", exp=FAR)
    new = replace(provider.forge, kid="new").token(target.claims)
    own = public_jwk(provider.forge.setting, kid=provider.forge.kid)
    provider.publish(own, public_jwk(provider.forge.setting, kid="new"))
    held = Held(provider.answers["/jwks.json"])
    provider.answers["/jwks.json"] = held
    clock.move(seconds=31)
    for raw in (forged, new, forged, new):
        # Before the answer comes, one looks like the other.
        with pytest.raises(Unavailable):
            ask(raw)
        attempt = followed._attempt
        assert attempt is not None
        assert not attempt.finished.done()
        ask(known)
    assert held.arrived.wait(30)
    held.release()
    attempt.finished.result(30)
    ask(new)
    with pytest.raises(TokenNotValid):
        ask(forged)
    assert provider.count() == 2


def of_bits(bits: int) -> Callable[[Provider], tuple[Forge, dict[str, Any]]]:
    """Return an RSA key of so many bits, and what publishes it."""

    def make(provider: Provider) -> tuple[Forge, dict[str, Any]]:
        key = private_key(f"RSA-{bits}")
        forge = Forge("RS256", "rsa", None, lambda signed: key.sign(signed, PKCS1, SHA256))
        modulus = b64(key.public_key().public_numbers().n.to_bytes(bits // 8))
        return forge, {"kty": "RSA", "n": modulus, "e": "AQAB", "kid": "rsa"}

    return make


PKCS1, SHA256 = padding.PKCS1v15(), hashes.SHA256()


def secret(provider: Provider) -> tuple[Forge, dict[str, Any]]:
    """Return a secret that everybody can read, and what publishes it."""
    return hs256(), hs256().setting


def published(**members: Any) -> Callable[[Provider], tuple[Forge, dict[str, Any]]]:
    """Return the provider's own key, published with *members*."""

    def make(provider: Provider) -> tuple[Forge, dict[str, Any]]:
        return provider.forge, public_jwk(provider.forge.setting, kid="one", **members)

    return make


NO_KEYS: dict[str, Callable[[Provider], tuple[Forge, dict[str, Any]]]] = {
    "a secret": secret,
    "a weak key": of_bits(1024),
    "for encryption": published(use="enc"),
    "to sign": published(key_ops=["sign"]),
    "to agree on keys": published(use=..., key_ops=["deriveBits"]),
    "an alg of HMAC": published(alg="HS256"),
    "an alg of encryption": published(alg="ECDH-ES"),
    "with its private part": published(d=b64(b"\1" * 32)),
    "with a secret part": published(k=b64(b"\1" * 32)),
    "of another curve": published(crv="P-384"),
}


@pytest.mark.parametrize("make", NO_KEYS.values(), ids=NO_KEYS)
def test_a_published_key_that_does_not_sign_vouches_for_nothing(
    target: Target,
    provider: Provider,
    settings: Any,
    make: Callable[[Provider], tuple[Forge, dict[str, Any]]],
) -> None:
    forge, jwk = make(provider)
    settings.JWT_AUTH = {"TRUSTED_ISSUERS": provider.settings(ALGORITHMS=["ES256", "RS256"])}
    genuine = replace(provider.forge, kid="two")
    provider.publish(jwk, public_jwk(provider.forge.setting, kid="two"))
    target._genuine = genuine.token(target.claims)
    target.refuses(forge.token(target.claims))


@pytest.mark.parametrize("make", [published(), published(key_ops=["verify"]), of_bits(2048)])
def test_and_one_that_does_vouches_for_its_tokens(
    target: Target,
    provider: Provider,
    settings: Any,
    make: Callable[[Provider], tuple[Forge, dict[str, Any]]],
) -> None:
    forge, jwk = make(provider)
    settings.JWT_AUTH = {"TRUSTED_ISSUERS": provider.settings(ALGORITHMS=["ES256", "RS256"])}
    provider.publish(jwk)
    target.accepts(forge.token(target.claims))


def test_two_published_keys_of_one_name_vouch_for_nothing(
    target: Target, provider: Provider, settings: Any
) -> None:
    own = public_jwk(provider.forge.setting, kid="one")
    point = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    other = {**own, "x": b64(point.x.to_bytes(32)), "y": b64(point.y.to_bytes(32))}
    _, third = of_bits(2048)(provider)
    for second in (own, other, {**third, "kid": "one"}):
        provider.publish(own, second, public_jwk(provider.forge.setting, kid="two"))
        # Other settings: nothing is known of the provider.
        settings.JWT_AUTH = {"TRUSTED_ISSUERS": provider.settings(ALGORITHMS=["ES256", "RS256"])}
        target._genuine = replace(provider.forge, kid="two").token(target.claims)
        target.refuses(provider.forge.token(target.claims))


def pointers(url: str) -> dict[str, dict[str, Any]]:
    """Return headers that name the place of a key."""
    certificate = base64.b64encode(b"x" * 200).decode()
    return {
        "jku": {"jku": f"{url}/jwks.json"},
        "jku and a kid of one's own": {"jku": f"{url}/jwks.json", "kid": "mine"},
        "x5u": {"x5u": f"{url}/cert.pem", "kid": "mine"},
        "x5c": {"x5c": [certificate], "kid": "mine"},
        "a URL as kid": {"kid": f"{url}/jwks.json"},
        "jwk": {"jwk": public_jwk(foreign("ES256").setting), "kid": "mine"},
    }


@pytest.mark.parametrize("name", pointers(""))
def test_no_token_says_where_keys_are(target: Target, canary: Provider, name: str) -> None:
    stranger = replace(hs256(), algorithm="ES256")
    header = {**stranger.header(kid=target.forge.kid), **pointers(canary.url)[name]}
    target.refuses(stranger.token(target.claims, header))
    assert canary.asked == []


def test_an_issuer_of_ones_own_has_nothing_fetched(
    target: Target, provider: Provider, canary: Provider
) -> None:
    asked = list(provider.asked)
    issuers = [canary.url, f"{canary.url}/", f"{target.claims['iss']}@{canary.url}", "x" * 3000]
    for issuer in [*issuers, [target.claims["iss"]], {"x": 1}, None, 7]:
        target.refuses(target.forge.token(target.having(iss=issuer)))
    assert (provider.asked, canary.asked) == (asked, [])


@pytest.mark.parametrize("name", ["VERIFY", "VERIFY_SSL", "VERIFY_TLS", "SSL_CONTEXT", "INSECURE"])
def test_no_setting_turns_the_check_of_certificates_off(
    provider: Provider, client: JSONClient, settings: Any, name: str
) -> None:
    assert client.whoami(provider.token()).status_code == 200
    settings.JWT_AUTH = {"TRUSTED_ISSUERS": provider.settings(**{name: False})}
    with pytest.raises(ImproperlyConfigured, match=name):
        client.whoami(provider.token())
