"""Settings: what is taken, what is an error, and what the error says."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from jwt_auth import conf
from jwt_auth.runtime import current
from tests.attacks.forge import b64
from tests.conftest import private_pem, public_pem

SECRET = "q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjGu1RpNi5o"
# That of the tests' settings.
SECRET_KEY = "tests-only-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJ"
NOT_CALLABLE = 7


async def coroutine_function(*args: Any) -> Any:
    """Return nothing, once it is awaited."""


bound_coroutine_function = functools.partial(coroutine_function, 1)


async def generator(*args: Any) -> Any:
    """Yield nothing."""
    yield


class Awaited:
    """A class, whose instances return something to await when they are called."""

    __call__ = coroutine_function


AWAITED = Awaited()


def problems(jwt_auth: Any, settings: Any) -> list[tuple[str, str, str]]:
    """Return (id, message, hint) of each check message about *jwt_auth*."""
    settings.JWT_AUTH = jwt_auth
    return [
        (one.id.removeprefix("jwt_auth."), one.msg, one.hint or "")
        for one in run_checks(tags=["security"])
        if one.id.startswith("jwt_auth.")
    ]


def test_the_defaults_are_fine(settings: Any) -> None:
    assert problems({}, settings) == []
    del settings.JWT_AUTH
    found = conf.load_settings()
    assert found.access_lifetime == timedelta(minutes=5)
    assert found.refresh_lifetime == timedelta(days=14)
    assert found.session_lifetime == timedelta(days=90)
    assert found.refresh_grace == timedelta(seconds=120)
    assert found.leeway == timedelta(0)
    assert found.ring.signing.algorithm == "HS256"


def test_another_issuer(settings: Any) -> None:
    assert problems(trusting(), settings) == []
    issuer = conf.load_settings().trusted_issuers["https://id.example"]
    assert issuer.types == {"at+jwt", "application/at+jwt"}
    assert (issuer.audiences, issuer.revoked_url, issuer.user) == ({"orders"}, None, None)
    settings.DEBUG = True
    assert problems(trusting(JWKS_URL="http://127.0.0.1:8000/jwks.json"), settings) == []


def test_the_default_grace_is_at_most_half_of_an_access_token(settings: Any) -> None:
    settings.JWT_AUTH = {"ACCESS_TOKEN_LIFETIME": timedelta(minutes=2)}
    assert conf.load_settings().refresh_grace == timedelta(minutes=1)


def trusting(**changes: Any) -> dict[str, Any]:
    """Return settings that trust another issuer, with *changes*; `...` takes a key out."""
    one = {
        "JWKS_URL": "https://id.example/jwks.json",
        "AUDIENCE": "orders",
        "ALGORITHMS": ["RS256"],
        **changes,
    }
    one = {name: value for name, value in one.items() if value is not ...}
    return {"TRUSTED_ISSUERS": {"https://id.example": one}}


WRONG: dict[str, tuple[Any, str, str, str]] = {
    # settings, id, what the message names, what the hint offers
    "no dict": (["ISSUER"], "E001", "JWT_AUTH", "JWT_AUTH = {"),
    "misspelled": ({"ISUER": "x"}, "E001", "'ISUER'", "ISSUER"),
    "simplejwt's": ({"VERIFYING_KEY": "x"}, "E001", "'VERIFYING_KEY'", "VERIFYING_KEYS"),
    "drf-jwt's": ({"JWT_SECRET_KEY": "x"}, "E001", "'JWT_SECRET_KEY'", "drf-jwt"),
    "unlike any": ({"QQQQQ": "x"}, "E001", "'QQQQQ'", "ISSUER, AUDIENCE"),
    "no text": ({7: "x"}, "E001", "'7'", ""),
    "issuer": ({"ISSUER": ""}, "E002", "ISSUER", "string"),
    "audience": ({"AUDIENCE": []}, "E002", "AUDIENCE", "list of strings"),
    "audience of numbers": ({"AUDIENCE": [7]}, "E002", "AUDIENCE", "list of strings"),
    "seconds": ({"ACCESS_TOKEN_LIFETIME": 300}, "E002", "ACCESS_TOKEN_LIFETIME", "timedelta"),
    "false": ({"LEEWAY": False}, "E002", "LEEWAY", "timedelta"),
    "negative": (
        {"ACCESS_TOKEN_LIFETIME": timedelta(-1)},
        "E003",
        "ACCESS_TOKEN_LIFETIME",
        "at least 0:00:01",
    ),
    "nothing": ({"SESSION_LIFETIME": timedelta(0)}, "E003", "SESSION_LIFETIME", "at least"),
    "beyond all dates": (
        {"SESSION_LIFETIME": timedelta.max},
        "E003",
        "SESSION_LIFETIME",
        "at most",
    ),
    "leeway": ({"LEEWAY": timedelta(seconds=301)}, "E003", "LEEWAY", "at most 0:05:00"),
    "grace": ({"REFRESH_GRACE": timedelta(seconds=151)}, "E003", "REFRESH_GRACE", "0:02:30"),
    "max age": (
        {"REVOCATION_INTERVAL": timedelta(seconds=2), "REVOCATION_MAX_AGE": timedelta(seconds=1)},
        "E003",
        "REVOCATION_MAX_AGE",
        "renewed",
    ),
    "none": ({"ALGORITHM": "none"}, "E004", "ALGORITHM", "HS256"),
    "NONE": ({"ALGORITHM": "NONE"}, "E004", "ALGORITHM", "HS256"),
    "lower case": ({"ALGORITHM": "hs256"}, "E004", "ALGORITHM", "HS256"),
    "list": ({"ALGORITHM": ["HS256"]}, "E004", "ALGORITHM", "HS256"),
    "HS257": ({"ALGORITHM": "HS257"}, "E004", "ALGORITHM", "HS256"),
    "RS without key": ({"ALGORITHM": "RS256"}, "E004", "ALGORITHM", "SIGNING_KEY"),
    "ES with RSA": (
        {"ALGORITHM": "ES256", "SIGNING_KEY": private_pem("RSA-2048")},
        "E004",
        "ALGORITHM",
        "RS256",
    ),
    "HS with RSA": (
        {"ALGORITHM": "HS256", "SIGNING_KEY": private_pem("RSA-2048")},
        "E004",
        "ALGORITHM",
        "RS256",
    ),
    "short": ({"SIGNING_KEY": "0123456789"}, "E005", "SIGNING_KEY", "token_urlsafe"),
    "public": (
        {"SIGNING_KEY": public_pem(private_pem("P-256"))},
        "E005",
        "SIGNING_KEY",
        "openssl",
    ),
    "a number": ({"SIGNING_KEY": 7}, "E005", "SIGNING_KEY", "pathlib.Path"),
    "a path": ({"SIGNING_KEY": "/run/secrets/jwt.pem"}, "E005", "SIGNING_KEY", "pathlib.Path"),
    "a path that is there": ({"SIGNING_KEY": __file__}, "E005", "SIGNING_KEY", "pathlib.Path"),
    "no file": ({"SIGNING_KEY": Path("/no/such/file.pem")}, "E005", "SIGNING_KEY", "openssl"),
    "weak verifier": ({"VERIFYING_KEYS": [SECRET, "short"]}, "E005", "VERIFYING_KEYS[1]", ""),
    "no list": ({"VERIFYING_KEYS": SECRET}, "E002", "VERIFYING_KEYS", "list of keys"),
    "a key twice": (
        {"SIGNING_KEY": SECRET, "VERIFYING_KEYS": [SECRET]},
        "E006",
        "kid",
        "once",
    ),
    "no such path": ({"CLAIMS": "tests.nowhere.f"}, "E008", "CLAIMS", "dotted path"),
    "not callable": ({"ROLES": "tests.test_conf.NOT_CALLABLE"}, "E008", "ROLES", "dotted path"),
    "a function": ({"CLAIMS": print}, "E002", "CLAIMS", "dotted path"),
    "no field": ({"USER_ID_FIELD": "uuid"}, "E009", "USER_ID_FIELD", "unique"),
    "not unique": ({"USER_ID_FIELD": "email"}, "E009", "USER_ID_FIELD", "unique"),
    "reverse relation": ({"USER_ID_FIELD": "logentry"}, "E009", "USER_ID_FIELD", "unique"),
    "may be null": ({"USER_ID_FIELD": "last_login"}, "E009", "USER_ID_FIELD", "never null"),
    **{
        f"{name} is {function}": (
            {name: f"tests.test_conf.{function}"},
            "E008",
            f"{name}: tests.test_conf.{function} is asynchronous",
            "plain function",
        )
        for name in ("CLAIMS", "ROLES")
        for function in ("coroutine_function", "bound_coroutine_function", "AWAITED", "generator")
    },
    **{
        f"{name} is SECRET_KEY": (
            {"SIGNING_KEY": SECRET, name: value},
            "E018",
            f"{name}{place} is SECRET_KEY",
            "key of its own",
        )
        for name, place, value in (
            ("SIGNING_KEY", "", SECRET_KEY),
            ("SIGNING_KEY", "", SECRET_KEY.encode()),
            ("VERIFYING_KEYS", "[0]", [{"kty": "oct", "k": b64(SECRET_KEY.encode())}]),
        )
    },
    "a URL": (
        {"VERIFYING_KEYS": ["https://id.example/published/signing/keys"], "SIGNING_KEY": SECRET},
        "E005",
        "VERIFYING_KEYS[0]",
        "TRUSTED_ISSUERS",
    ),
    "no dots": ({"CLAIMS": ".f"}, "E008", "CLAIMS", "dotted path"),
    **{
        f"the path {path!r}": ({"ROLES": path}, "E008", "ROLES", "dotted path")
        for path in (".", "..", ".x.y", "x..y", "tests.test_conf.", "")
    },
    "a NUL in the issuer": ({"ISSUER": "a\x00"}, "E002", "ISSUER", "string"),
    "a lone surrogate as issuer": ({"ISSUER": "\ud800"}, "E002", "ISSUER", "string"),
    "a lone surrogate as audience": ({"AUDIENCE": ["\ud800"]}, "E002", "AUDIENCE", "string"),
    "a lone surrogate as secret": ({"SIGNING_KEY": SECRET + "\ud800"}, "E005", "SIGNING_KEY", ""),
    "a NUL in a path": ({"SIGNING_KEY": Path("key\0.pem")}, "E005", "SIGNING_KEY", ""),
    "a list as a JWK's alg": (
        {"SIGNING_KEY": {"kty": "oct", "k": "cThaci0zblZRbTRzVDB4VzdiS2YyTGhZ", "alg": ["HS256"]}},
        "E005",
        "SIGNING_KEY",
        "",
    ),
    "no sessions": ({"MAX_SESSIONS_PER_USER": 0}, "E002", "MAX_SESSIONS_PER_USER", "above 0"),
    "true": ({"MAX_SESSIONS_PER_USER": True}, "E002", "MAX_SESSIONS_PER_USER", "above 0"),
    "loading": ({"LOAD_USER": "later"}, "E002", "LOAD_USER", "'lazy'"),
    "cookies as text": ({"COOKIES": "yes"}, "E002", "COOKIES", "dict"),
    "cookies switched on": ({"COOKIES": True}, "E002", "COOKIES", "dict"),
    "a misspelled key of cookies": ({"COOKIES": {"ACESS": "x"}}, "E001", "COOKIES", "ACCESS"),
    **{
        f"{name} {value!r}": ({"COOKIES": {name: value}}, "E017", f"COOKIES: {name}", "__Secure-")
        for name, value in [
            ("REFRESH", "refresh_token"),
            ("REFRESH", "__Host-refresh_token"),
            ("REFRESH", "__Secure-refresh"),
            ("REFRESH", "__Secure-refresh token"),
            ("REFRESH", "__Secure-token;x"),
            ("REFRESH", None),
            ("REFRESH", 7),
            ("ACCESS", "access_token"),
            ("ACCESS", "__Host-access"),
            ("ACCESS", ""),
        ]
    },
    "a host's own cookie with a domain": (
        {"COOKIES": {"ACCESS": "__Host-access_token", "DOMAIN": "example.com"}},
        "E017",
        "COOKIES: ACCESS",
        "__Secure-",
    ),
    "one name for both": (
        {"COOKIES": {"ACCESS": "__Secure-token", "REFRESH": "__Secure-token"}},
        "E017",
        "one name",
        "its own",
    ),
    "samesite": ({"COOKIES": {"SAMESITE": "lax"}}, "E017", "SAMESITE", "'Lax'"),
    "samesite of a wrong type": ({"COOKIES": {"SAMESITE": None}}, "E002", "SAMESITE", "string"),
    "a __Host- name for a domain": (
        {"COOKIES": {"ACCESS": "__Host-access_token", "DOMAIN": "example.com"}},
        "E017",
        "ACCESS",
        "With DOMAIN set, it begins with __Secure-",
    ),
    "a domain that is none": ({"COOKIES": {"DOMAIN": "a b"}}, "E017", "DOMAIN", "example.com"),
    "rates as text": ({"THROTTLE_RATES": "10/min"}, "E002", "THROTTLE_RATES", "dict"),
    "a misspelled rate": (
        {"THROTTLE_RATES": {"logins": "10/min"}},
        "E001",
        "THROTTLE_RATES: the dict has an unknown key 'logins'",
        "login",
    ),
    **{
        f"a rate of {rate!r}": (
            {"THROTTLE_RATES": {"login": rate}},
            "E016",
            "THROTTLE_RATES: login",
            "None turns it off",
        )
        for rate in (
            "10",
            "0/min",
            "-1/min",
            "10/week",
            "ten/min",
            " 10/min",
            "1.5/s",
            10,
            [],
            "",
            "10/month",
            "5/midnight",
        )
    },
    "issuers in a list": (
        {"TRUSTED_ISSUERS": ["https://id.example"]},
        "E002",
        "TRUSTED_ISSUERS",
        "dict",
    ),
    "an issuer without a dict": (
        {"TRUSTED_ISSUERS": {"https://id.example": "https://id.example/jwks.json"}},
        "E002",
        "TRUSTED_ISSUERS",
        "JWKS_URL",
    ),
    "an issuer without a name": (
        {"TRUSTED_ISSUERS": {"": {}}},
        "E002",
        "TRUSTED_ISSUERS",
        "JWKS_URL",
    ),
    "a number as issuer": ({"TRUSTED_ISSUERS": {7: {}}}, "E002", "TRUSTED_ISSUERS", "JWKS_URL"),
    "oneself": (
        {**trusting(), "ISSUER": "https://id.example"},
        "E015",
        "TRUSTED_ISSUERS['https://id.example']",
        "leave it out",
    ),
    "a misspelled key of an issuer": (
        trusting(JWKS_URI="x"),
        "E001",
        "TRUSTED_ISSUERS['https://id.example']",
        "JWKS_URL",
    ),
    **{
        f"without {name}": (trusting(**{name: ...}), "E015", name, "nothing is guessed")
        for name in ("JWKS_URL", "AUDIENCE", "ALGORITHMS")
    },
    **{
        f"{name} {url[:20]!r}": (trusting(**{name: url}), "E015", name, "https")
        for name in ("JWKS_URL", "REVOKED_URL")
        for url in (
            "http://id.example/jwks.json",
            "http://127.0.0.1/jwks.json",
            "file:///etc/passwd",
            "ftp://id.example/jwks.json",
            "gopher://id.example/",
            "data:application/json,{}",
            "https:///jwks.json",
            "https://user:pw@id.example/",
            "https://user@id.example/",
            "https://id.example/#x",
            "https://id.example:0/",
            "https://id.example:x/",
            "https://id.example:99999/",
            "https://id.example/ x",
            "https://id.example/\r\nHost: x",
            "https://[::1/",
            "https://idé.example/",
            "jwks.json",
            "//id.example/jwks.json",
        )
    },
    "a number as URL": (trusting(JWKS_URL=7), "E002", "JWKS_URL", "string"),
    "no algorithm": (trusting(ALGORITHMS=[]), "E015", "ALGORITHMS", "RS256"),
    "a secret's algorithm": (
        trusting(ALGORITHMS=["RS256", "HS256"]),
        "E015",
        "ALGORITHMS",
        "ES256",
    ),
    "none of them": (trusting(ALGORITHMS=["none"]), "E015", "ALGORITHMS", "ES256"),
    "algorithms in lists": (trusting(ALGORITHMS=[["RS256"]]), "E015", "ALGORITHMS", "ES256"),
    "algorithms as text": (trusting(ALGORITHMS="RS256"), "E002", "ALGORITHMS", "list"),
    "audiences that are none": (trusting(AUDIENCE=[]), "E002", "AUDIENCE", "list of strings"),
    "types as text": (trusting(TYPES="JWT"), "E002", "TYPES", "list"),
    "no types": (trusting(TYPES=[]), "E002", "TYPES", "list"),
    "an empty type": (trusting(TYPES=[""]), "E002", "TYPES", "list"),
    "a type that is None": (trusting(TYPES=None), "E002", "TYPES", "list"),
    "users from nowhere": (trusting(USER="tests.nowhere.f"), "E008", "USER", "dotted path"),
    "users of a function": (trusting(USER=print), "E002", "USER", "dotted path"),
    **{
        f"a memory of {value!r}": ({"TOKEN_CACHE_SIZE": value}, "E002", "TOKEN_CACHE_SIZE", "0 on")
        for value in (-1, True, None, 1.5, "4096")
    },
}


@pytest.mark.parametrize(("wrong", "number", "named", "offered"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_named_with_the_way_out(
    settings: Any, wrong: Any, number: str, named: str, offered: str
) -> None:
    found = problems(wrong, settings)
    assert [one for one in found if one[0] == number and named in one[1] and offered in one[2]]
    with pytest.raises(ImproperlyConfigured, match="JWT_AUTH"):
        current()


def test_every_problem_shows_at_once(settings: Any) -> None:
    wrong = {"ISUER": "x", "LEEWAY": 7, "SIGNING_KEY": "short", "ALGORITHM": "none"}
    found = sorted(one[0] for one in problems(wrong, settings))
    assert found == ["E001", "E002", "E004", "E005"]


def test_no_message_holds_a_key(settings: Any) -> None:
    for secret in ("too-short-a-secret", "/a/path/to/secret.pem"):
        text = str(problems({"SIGNING_KEY": secret, "VERIFYING_KEYS": [secret]}, settings))
        assert secret not in text


def test_local_times_are_an_error(settings: Any) -> None:
    settings.USE_TZ = False
    assert [one[0] for one in problems({}, settings)] == ["E010"]


def test_zero_switches_off_what_can_be_off(settings: Any) -> None:
    off = {"REFRESH_GRACE": 0, "LEEWAY": 0, "REVOCATION_INTERVAL": 0, "TOKEN_CACHE_SIZE": 0}
    assert problems(off, settings) == []
    assert problems({"REVOCATION_INTERVAL": None, "REFRESH_TOKEN_LIFETIME": None}, settings) == []


def test_a_long_access_token_is_a_warning(settings: Any) -> None:
    long = {"ACCESS_TOKEN_LIFETIME": timedelta(days=2)}
    assert [one[0] for one in problems(long, settings)] == ["W003"]
    assert current().settings.access_lifetime == timedelta(days=2)
    assert problems({"REFRESH_TOKEN_LIFETIME": timedelta(days=366)}, settings) == []
    long = {"REFRESH_TOKEN_LIFETIME": timedelta(days=367)}
    assert [one[0] for one in problems(long, settings)] == ["W003"]


def test_the_derived_key_is_a_warning_for_production(settings: Any) -> None:
    def deploy() -> list[str]:
        found = run_checks(tags=["security"], include_deployment_checks=True)
        # Django keeps its checks in a set: their order is nobody's promise.
        return sorted(one.id for one in found if one.id.startswith("jwt_auth."))

    # And that the cache in memory counts in each process by itself.
    assert deploy() == ["jwt_auth.W001", "jwt_auth.W006"]
    settings.JWT_AUTH = {"SIGNING_KEY": SECRET, "THROTTLE_RATES": None}
    assert deploy() == []


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["jwt_auth.authentication.JWTAuthentication"], []),
        ([], []),
        (["rest_framework.authentication.SessionAuthentication"], []),
        (
            [
                "rest_framework.authentication.SessionAuthentication",
                "jwt_auth.authentication.JWTAuthentication",
            ],
            ["W002"],
        ),
        (
            [
                "rest_framework.authentication.BasicAuthentication",
                "jwt_auth.authentication.JWTAuthentication",
            ],
            [],
        ),
    ],
)
def test_the_first_class_has_to_have_a_challenge(
    settings: Any, classes: list[str], expected: list[str]
) -> None:
    settings.REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": classes}
    assert [one[0] for one in problems({}, settings)] == expected


def test_settings_take_effect_at_once(settings: Any) -> None:
    before = current()
    settings.JWT_AUTH = {"ISSUER": "https://issuer.example"}
    assert current().settings.issuer == "https://issuer.example"
    settings.JWT_AUTH = {}
    assert current().settings.issuer is None
    settings.LANGUAGE_CODE = "de"
    assert current() is not before


def test_the_fallbacks_of_the_secret_key_verify(settings: Any) -> None:
    old = current().settings.ring.signing
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    assert current().settings.ring.signing.kid == old.kid
    settings.SECRET_KEY = "another-0123456789-abcdefghijklmnopqrstuvwxyz"
    ring = current().settings.ring
    assert ring.signing.kid != old.kid
    assert ring.find({"kid": old.kid, "alg": "HS256"}).kid == old.kid


@pytest.mark.parametrize(("algorithm", "size"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_the_derived_key_has_the_size_of_its_hash(settings: Any, algorithm: str, size: int) -> None:
    settings.JWT_AUTH = {"ALGORITHM": algorithm}
    key = current().settings.ring.signing
    assert (key.algorithm, len(key.signing)) == (algorithm, size)


def test_the_algorithm_goes_to_the_keys_that_it_fits(settings: Any) -> None:
    settings.JWT_AUTH = {
        "ALGORITHM": "PS384",
        "SIGNING_KEY": private_pem("RSA-2048"),
        "VERIFYING_KEYS": [public_pem(private_pem("P-521")), SECRET],
    }
    published = {key["alg"] for key in current().settings.ring.public_jwks()["keys"]}
    assert published == {"PS384", "ES512"}


def test_an_import_reads_nothing() -> None:
    code = (
        "import sys, jwt_auth; from django.conf import settings;"
        "assert not settings.configured; assert 'jwt_auth.models' not in sys.modules;"
        "assert 'jwt' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_without_cryptography_the_error_names_the_extra(settings: Any) -> None:
    jwk = json.dumps({"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "d": "A" * 43})
    code = f"""
import sys
sys.modules["cryptography"] = None
import django
django.setup()
from django.core.checks import run_checks
from django.test import override_settings
for key in ({private_pem("P-256")!r}, {jwk}):
    with override_settings(JWT_AUTH={{"SIGNING_KEY": key}}):
        (error,) = run_checks(tags=["security"])
    assert error.id == "jwt_auth.E007" and "[crypto]" in error.msg, error
assert run_checks(tags=["security"]) == []
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_secret_key_of_startproject_is_an_error_in_production(settings: Any) -> None:
    settings.SECRET_KEY = "django-insecure-0123456789abcdefghijklmnopqrstuvwxyz-0123456789"
    found = {one.id for one in conf.read_settings()[1] if one.deploy}
    assert found == {"jwt_auth.E013", "jwt_auth.W001"}
    assert conf.load_settings().ring
    settings.JWT_AUTH = {"SIGNING_KEY": settings.SECRET_KEY}
    assert [one.id for one in conf.read_settings()[1] if one.deploy] == ["jwt_auth.E013"]
    settings.JWT_AUTH = {"SIGNING_KEY": SECRET, "VERIFYING_KEYS": [None]}
    assert [one.id for one in conf.read_settings()[1] if one.deploy] == ["jwt_auth.E013"]
    settings.JWT_AUTH = {"SIGNING_KEY": SECRET}
    assert conf.read_settings()[1] == []


FORMS: dict[str, Callable[[str, Path], Any]] = {
    "text": lambda text, path: text,
    "bytes": lambda text, path: text.encode(),
    "a JWK": lambda text, path: {"kty": "oct", "k": b64(text.encode())},
    "a file": lambda text, path: path,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_it_is_one_among_the_keys_that_verify_too(
    settings: Any, form: Callable[[str, Path], Any], tmp_path: Path
) -> None:
    insecure = "django-insecure-0123456789abcdefghijklmnopqrstuvwxyz-0123456789"
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_text(insecure)
    settings.JWT_AUTH = {"SIGNING_KEY": SECRET, "VERIFYING_KEYS": [form(insecure, path)]}
    [problem] = conf.read_settings()[1]
    assert (problem.id, problem.deploy) == ("jwt_auth.E013", True)
    assert problem.message.startswith("VERIFYING_KEYS[0] begins with")
    settings.JWT_AUTH = {"SIGNING_KEY": form(insecure, path)}
    [problem] = conf.read_settings()[1]
    assert problem.message.startswith("SIGNING_KEY begins with")
    # Said once, however many keys are derived from it.
    settings.SECRET_KEY = insecure
    settings.JWT_AUTH = {"VERIFYING_KEYS": [None]}
    assert [one.id for one in conf.read_settings()[1]].count("jwt_auth.E013") == 1
    settings.SECRET_KEY = SECRET_KEY
    # A key derived from a fallback verifies as well.
    settings.SECRET_KEY_FALLBACKS = [insecure]
    for trusted in ({}, {"SIGNING_KEY": SECRET, "VERIFYING_KEYS": [None]}):
        settings.JWT_AUTH = trusted
        assert "jwt_auth.E013" in [one.id for one in conf.read_settings()[1] if one.deploy]
    settings.JWT_AUTH = {"SIGNING_KEY": SECRET}
    assert conf.read_settings()[1] == []


def test_a_key_under_two_names_is_an_error(settings: Any) -> None:
    jwk = {"kty": "oct", "k": "cThaci0zblZRbTRzVDB4VzdiS2YyTGhZYzlFYTZEakc"}
    settings.JWT_AUTH = {
        "SIGNING_KEY": {**jwk, "kid": "a"},
        "VERIFYING_KEYS": [{**jwk, "kid": "b"}],
    }
    assert [one.id for one in conf.read_settings()[1]] == ["jwt_auth.E006"]


def test_a_decryption_key_under_two_names_is_an_error(settings: Any) -> None:
    jwk = {"kty": "oct", "k": "cThaci0zblZRbTRzVDB4VzdiS2YyTGhZYzlFYTZEakc"}
    settings.JWT_AUTH = {
        "SIGNING_KEY": SECRET,
        "ENCRYPTION_KEY": {**jwk, "kid": "a"},
        "DECRYPTION_KEYS": [{**jwk, "kid": "b"}],
    }
    assert [one.id for one in conf.read_settings()[1]] == ["jwt_auth.E006"]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    ("name", "number"),
    [("ENCRYPTION_KEY", "E014"), ("SIGNING_KEY", "E018")],
    ids=["ENCRYPTION_KEY", "SIGNING_KEY"],
)
def test_fallback_of_secret_key_serves_no_other_purpose(
    settings: Any, tmp_path: Path, name: str, number: str, form: Callable[[str, Path], Any]
) -> None:
    fallback, path = "q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjG", tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_text(fallback)
    settings.JWT_AUTH = {"SIGNING_KEY": SECRET, name: form(fallback, path)}
    assert conf.read_settings()[1] == []
    settings.SECRET_KEY_FALLBACKS = [fallback]
    assert [one.id for one in conf.read_settings()[1]] == [f"jwt_auth.{number}"]


@pytest.mark.parametrize("name", ["ENCRYPTION_KEY", "VERIFYING_KEYS"])
def test_without_secret_key_there_is_a_problem_and_no_crash(settings: Any, name: str) -> None:
    settings.SECRET_KEY = ""
    value: Any = "q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjG" if name == "ENCRYPTION_KEY" else [None]
    settings.JWT_AUTH = {"SIGNING_KEY": SECRET, name: value, "REFRESH_TOKEN_LIFETIME": None}
    assert [one.id for one in conf.read_settings()[1]] == ["jwt_auth.E012"]


# What `os.environ.get()` returns for an empty variable.
NONE: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "verifies": (
        {"JWT_AUTH": {"SIGNING_KEY": SECRET, "VERIFYING_KEYS": [None]}},
        ["W011"],
        "SECRET_KEY can sign",
    ),
    "verifies twice": ({"JWT_AUTH": {"VERIFYING_KEYS": [None]}}, ["E006", "W011"], "SECRET_KEY"),
    "decrypts": (
        {"JWT_AUTH": {"ENCRYPTION_KEY": SECRET, "DECRYPTION_KEYS": [None]}},
        ["W011"],
        "in plain",
    ),
    "a fallback": ({"SECRET_KEY_FALLBACKS": [None]}, ["W011"], "SECRET_KEY_FALLBACKS"),
    "an empty fallback": ({"SECRET_KEY_FALLBACKS": [""]}, ["E012"], "derive keys from it"),
    "empty bytes as a fallback": ({"SECRET_KEY_FALLBACKS": [b""]}, ["E012"], "SECRET_KEY_FALL"),
}


@pytest.mark.parametrize(("slip", "ids", "said"), NONE.values(), ids=NONE)
def test_empty_variable_among_keys_is_reported(
    settings: Any, slip: dict[str, Any], ids: list[str], said: str
) -> None:
    for name, value in slip.items():
        setattr(settings, name, value)
    found = problems(getattr(settings, "JWT_AUTH", {}), settings)
    assert sorted(one[0] for one in found) == ids
    assert said in str(found)


def test_encryption_key_that_is_none_is_a_warning_for_production(settings: Any) -> None:
    settings.JWT_AUTH = {"SIGNING_KEY": SECRET, "ENCRYPTION_KEY": None}
    [problem] = conf.read_settings()[1]
    assert (problem.id, problem.deploy) == ("jwt_auth.W012", True)
    settings.JWT_AUTH = {"SIGNING_KEY": SECRET}
    assert conf.read_settings()[1] == []


def test_coroutine_function_may_find_the_users_of_another_issuer(settings: Any) -> None:
    users = "tests.test_conf.coroutine_function"
    assert problems(trusting(USER=users), settings) == []


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "Europe/Berlin"])
@pytest.mark.parametrize("is_naive", [True, False])
def test_database_of_local_times_is_an_error(
    settings: Any, monkeypatch: pytest.MonkeyPatch, zone: str, is_naive: bool
) -> None:
    monkeypatch.setattr(connection, "timezone", ZoneInfo(zone))
    monkeypatch.setattr(connection.features, "supports_timezones", not is_naive)
    expected = ["E010"] if is_naive and zone == "Europe/Berlin" else []
    assert [one[0] for one in problems({}, settings)] == expected
    # A project that has no sessions stores no times.
    assert problems({"REFRESH_TOKEN_LIFETIME": None}, settings) == []


def test_database_without_autocommit_is_an_error(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
    [(number, message, hint)] = problems({}, settings)
    assert (number, "'default'" in message, "DATABASES" in hint) == ("E020", True, True)
    with pytest.raises(ImproperlyConfigured, match="AUTOCOMMIT"):
        current()
    assert problems({"REFRESH_TOKEN_LIFETIME": None}, settings) == []


def test_a_key_file_that_others_can_read_is_a_warning(settings: Any, tmp_path: Path) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    private.write_bytes(private_pem("P-256"))
    public.write_bytes(public_pem(private_pem("P-384")))
    public.chmod(0o644)
    both = {"SIGNING_KEY": private, "VERIFYING_KEYS": [public]}
    private.write_bytes(b"# not a PUBLIC KEY\n" + private.read_bytes())
    for mode, ids in ((0o600, []), (0o640, ["W005"]), (0o604, ["W005"])):
        private.chmod(mode)
        assert [one[0] for one in problems(both, settings)] == ids


def test_an_empty_secret_key_is_said(settings: Any) -> None:
    settings.SECRET_KEY, settings.JWT_AUTH = "", {"ISSUER": 7}
    problems = conf.read_settings()[1]
    assert [(one.id, one.is_error) for one in problems] == [
        ("jwt_auth.E012", True),
        ("jwt_auth.E002", True),
    ]
