"""Rows 6 to 8 and 109: how many tries there are, and that nobody goes around them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import RequestFactory
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.settings import api_settings

from jwt_auth import throttling
from jwt_auth.conf import load_settings
from jwt_auth.errors import InvalidCredentials, Throttled
from jwt_auth.models import LoginSession
from jwt_auth.transports import countable_address
from jwt_auth.views import LoginView
from tests.conftest import PASSWORD, Clock, JSONClient

pytestmark = pytest.mark.django_db

PUBLIC, OTHER = "203.0.113.7", "198.51.100.9"


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by each password that is hashed."""
    from django.contrib.auth.hashers import MD5PasswordHasher

    found: list[str] = []
    encode = MD5PasswordHasher.encode

    def counted(self: Any, password: str, *args: Any, **kwargs: Any) -> str:
        found.append(password)
        return encode(self, password, *args, **kwargs)

    monkeypatch.setattr(MD5PasswordHasher, "encode", counted)
    return found


def tries(
    client: JSONClient,
    number: int,
    name: str | Callable[[int], str] = "ada",
    password: str = "wrong",
    **environ: Any,
) -> list[int]:
    """Sign in *number* times; return the statuses."""
    found = []
    for turn in range(number):
        one = name(turn) if callable(name) else name
        extra = {
            key: value(turn) if callable(value) else value
            for key, value in {"REMOTE_ADDR": PUBLIC, **environ}.items()
        }
        answer = client.post(
            "/auth/login/",
            {"username": one, "password": password},
            content_type="application/json",
            **extra,
        )
        found.append(answer.status_code)
    return found


def test_the_defaults(settings: Any) -> None:
    rates = load_settings().throttle_rates
    assert {name: tuple(rate) for name, rate in rates.items()} == {
        "login": (10, 60),
        "login_account": (100, 60),
        "login_address": (100, 60),
        "refresh": (60, 60),
    }
    settings.JWT_AUTH = {"THROTTLE_RATES": {"login": None, "refresh": "5/second"}}
    rates = load_settings().throttle_rates
    assert sorted(rates) == ["login_account", "login_address", "refresh"]
    assert tuple(rates["refresh"]) == (5, 1)
    settings.JWT_AUTH = {"THROTTLE_RATES": None}
    assert load_settings().throttle_rates == {}


def test_one_account_from_one_address(
    client: JSONClient, user: User, clock: Clock, hashes: list[str]
) -> None:
    hashes.clear()
    assert tries(client, 10) == [401] * 10
    assert len(hashes) == 10
    clock.move(seconds=20)
    answer = client.post(
        "/auth/login/",
        {"username": "ada", "password": PASSWORD},
        content_type="application/json",
        REMOTE_ADDR=PUBLIC,
    )
    # The right password too, and nothing is hashed.
    assert answer.status_code == 429
    assert len(hashes) == 10
    assert answer.json() == {
        "detail": "Too many tries; wait before the next one.",
        "code": "throttled",
    }
    assert answer.headers["Retry-After"] == "40"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "WWW-Authenticate" not in answer.headers
    # Another address, another account.
    assert tries(client, 1, password=PASSWORD, REMOTE_ADDR=OTHER) == [200]
    assert tries(client, 1, "eve") == [401]
    # What was refused does not prolong it.
    assert tries(client, 30) == [429] * 30
    clock.move(seconds=40)
    assert tries(client, 1, password=PASSWORD) == [200]


def test_an_unknown_account_is_counted_alike(client: JSONClient, user: User, clock: Clock) -> None:
    assert tries(client, 11, "ada") == tries(client, 11, "nobody") == [401] * 10 + [429]


def test_who_signs_in_is_not_counted(client: JSONClient, user: User, clock: Clock) -> None:
    assert tries(client, 30, password=PASSWORD) == [200] * 30
    assert tries(client, 9) == [401] * 9
    assert tries(client, 5, password=PASSWORD) == [200] * 5
    assert tries(client, 2) == [401, 429]


def test_a_body_that_is_wrong_is_not_counted(client: JSONClient, user: User, clock: Clock) -> None:
    for _ in range(30):
        answer = client.post(
            "/auth/login/", {"username": "ada"}, content_type="application/json", REMOTE_ADDR=PUBLIC
        )
        assert answer.status_code == 400
    assert tries(client, 1, password=PASSWORD) == [200]


def test_one_account_from_many_addresses(client: JSONClient, user: User, clock: Clock) -> None:
    address = {"REMOTE_ADDR": lambda turn: f"203.0.{turn % 200}.{turn // 200}"}
    assert tries(client, 101, **address) == [401] * 100 + [429]
    assert tries(client, 1, "eve", REMOTE_ADDR=OTHER) == [401]


def test_many_accounts_from_one_address(client: JSONClient, user: User, clock: Clock) -> None:
    assert tries(client, 101, lambda turn: f"user{turn}") == [401] * 100 + [429]
    assert tries(client, 1, password=PASSWORD) == [429]
    assert tries(client, 1, password=PASSWORD, REMOTE_ADDR=OTHER) == [200]


SPELLINGS = [
    "ada",
    "ADA",
    "Ada ",
    " ada",
    "ａｄａ",
    "aDA\u3000",
    "ada\t",
    # What MariaDB's collations take for the same.
    "àda",
    "a\u0300da",
    "a\u200bda",
    "ad\xada",
]


def test_padding_shares_a_counter(client: JSONClient, user: User, clock: Clock) -> None:
    assert tries(client, 11, lambda turn: " " * (245 + turn) + "ada") == [401] * 10 + [429]


def test_spellings_share_a_counter(client: JSONClient, user: User, clock: Clock) -> None:
    assert tries(client, 11, lambda turn: SPELLINGS[turn]) == [401] * 10 + [429]


def test_a_header_does_not_change_the_address(client: JSONClient, user: User, clock: Clock) -> None:
    headers = {
        "HTTP_X_FORWARDED_FOR": lambda turn: f"192.0.2.{turn}",
        "HTTP_X_REAL_IP": lambda turn: f"192.0.2.{turn}",
        "HTTP_FORWARDED": lambda turn: f"for=192.0.2.{turn}",
    }
    assert tries(client, 11, **headers) == [401] * 10 + [429]


def test_unless_a_proxy_is_configured(
    client: JSONClient, user: User, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_settings, "NUM_PROXIES", 1)
    one = {"REMOTE_ADDR": "127.0.0.1"}
    assert tries(client, 11, HTTP_X_FORWARDED_FOR=PUBLIC, **one) == [401] * 10 + [429]
    assert tries(client, 1, HTTP_X_FORWARDED_FOR=OTHER, **one) == [401]
    # What the client wrote stands to the left of what the proxy has seen.
    forged = {"HTTP_X_FORWARDED_FOR": lambda turn: f"192.0.2.{turn}, {PUBLIC}"}
    assert tries(client, 3, **forged, **one) == [429] * 3


def test_without_proxies_every_address_is_a_client(
    client: JSONClient, user: User, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_settings, "NUM_PROXIES", 0)
    one = {"REMOTE_ADDR": "10.0.0.7"}
    forged = {"HTTP_X_FORWARDED_FOR": lambda turn: f"192.0.2.{turn}"}
    assert tries(client, 11, **forged, **one) == [401] * 10 + [429]
    assert tries(client, 1, REMOTE_ADDR="10.0.0.8") == [401]


@pytest.mark.parametrize("proxies", ["1", -1, 1.0, True])
def test_what_is_no_number_of_proxies_is_none(
    client: JSONClient, user: User, clock: Clock, monkeypatch: pytest.MonkeyPatch, proxies: Any
) -> None:
    monkeypatch.setattr(api_settings, "NUM_PROXIES", proxies)
    one = {"HTTP_X_FORWARDED_FOR": PUBLIC, "REMOTE_ADDR": OTHER}
    assert tries(client, 11, **one) == [401] * 10 + [429]
    assert tries(client, 12, HTTP_X_FORWARDED_FOR=PUBLIC, REMOTE_ADDR="127.0.0.1")[-1] == 401


def test_a_long_name_is_not_normalized_whole(
    client: JSONClient, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []
    normalize = throttling.unicodedata.normalize

    def measured(form: Any, text: str) -> str:
        lengths.append(len(text))
        return str(normalize(form, text))

    monkeypatch.setattr("jwt_auth.throttling.unicodedata.normalize", measured)
    # Each letter has eighteen, once it is normalized.
    assert client.login("\ufdfa" * 10_000, "x").status_code == 400
    assert lengths
    assert max(lengths) <= throttling.LONGEST_NAME * 3


@pytest.mark.parametrize("pad", [" ", "\t", "\u3000", "\x1f", "\x85"], ids=ascii)
def test_padding_does_not_hide_a_name(
    client: JSONClient, user: User, clock: Clock, pad: str
) -> None:
    body = {"username": pad * 1100 + "ada", "password": "x"}
    headers = {"content_type": "application/json", "REMOTE_ADDR": PUBLIC}
    found = [client.post("/auth/login/", body, **headers).status_code for _ in range(11)]
    assert found == [401] * 10 + [429]
    # The same counter as that of the name alone.
    body = {"username": "ada", "password": PASSWORD}
    assert client.post("/auth/login/", body, **headers).status_code == 429


def test_a_bearer_token_changes_nothing(client: JSONClient, user: User, clock: Clock) -> None:
    token = client.login().json()["access_token"]
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {token}"}
    assert tries(client, 11, **bearer) == [401] * 10 + [429]


def test_a_success_of_another_account_changes_nothing(
    client: JSONClient, user: User, make_user: Any, clock: Clock
) -> None:
    make_user("eve")
    assert tries(client, 10) == [401] * 10
    assert tries(client, 1, "eve", password=PASSWORD) == [200]
    assert tries(client, 1) == [429]


def test_behind_a_proxy_that_nobody_has_configured(
    client: JSONClient, make_user: Any, clock: Clock, hashes: list[str]
) -> None:
    nginx = {"REMOTE_ADDR": "127.0.0.1"}
    for number in range(200):
        make_user(f"user{number}")
    assert tries(client, 200, lambda turn: f"user{turn}", PASSWORD, **nginx) == [200] * 200
    # Each of them has mistyped it once.
    assert tries(client, 200, lambda turn: f"user{turn}", **nginx) == [401] * 200
    hashes.clear()
    assert tries(client, 110, "user7", **nginx) == [401] * 99 + [429] * 11
    assert len(hashes) == 99
    assert tries(client, 1, "user8", PASSWORD, **nginx) == [200]


class ByCode(serializers.Serializer):  # type: ignore[type-arg]
    """A login of a project's own, that knows no user name."""

    code = serializers.CharField()

    def validate(self, attrs: Any) -> Any:
        """Refuse."""
        if attrs["code"] == "wrong":
            raise AuthenticationFailed
        raise InvalidCredentials


def by_code(code: str, address: str) -> int:
    """Return the status of a try."""
    request = RequestFactory().post(
        "/", {"code": code}, content_type="application/json", REMOTE_ADDR=address
    )
    status: int = LoginView.as_view(serializer_class=ByCode)(request).status_code
    return status


# DRF makes a 403 of its own refusal where no class has a challenge.
@pytest.mark.parametrize(("code", "status"), [("wrong", 403), ("other", 401)])
def test_a_login_of_another_kind(clock: Clock, code: str, status: int) -> None:
    assert [by_code(code, PUBLIC) for _ in range(101)] == [status] * 100 + [429]
    # Who comes from elsewhere is nobody's account.
    assert [by_code(code, f"198.51.100.{n}") for n in range(120)] == [status] * 120


ADDRESSES = [
    ("203.0.113.7:4711", "203.0.113.7"),
    ("[2001:db8:1:2::5]:443", "2001:db8:1:2::/64"),
    ("[2001:db8:1:2::5]", "2001:db8:1:2::/64"),
    ("203.0.113.7", "203.0.113.7"),
    ("8.8.8.8", "8.8.8.8"),
    ("::ffff:8.8.8.8", "8.8.8.8"),
    ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ("127.0.0.1", None),
    ("::ffff:127.0.0.1", None),
    ("10.1.2.3", None),
    ("172.20.0.5", None),
    ("172.32.0.5", "172.32.0.5"),
    ("192.168.1.1", None),
    ("100.64.0.1", None),
    ("169.254.1.1", None),
    ("0.0.0.0", None),
    ("::1", None),
    ("::", None),
    ("fd00::1", None),
    ("fe80::1%eth0", None),
    ("", None),
    ("unix:", None),
]


@pytest.mark.parametrize(("address", "counted"), ADDRESSES)
def test_which_addresses_are_counted(address: str, counted: str | None) -> None:
    assert countable_address(RequestFactory().get("/", REMOTE_ADDR=address)) == counted


def test_a_burst_does_not_slip_through(clock: Clock) -> None:
    request = RequestFactory().get("/", REMOTE_ADDR=PUBLIC)
    together = threading.Barrier(40)
    reached: list[int] = []

    def guess(number: int) -> str:
        together.wait()
        try:
            with throttling.login_tries(request, "ada"):
                reached.append(number)
                raise InvalidCredentials
        except (InvalidCredentials, Throttled) as error:
            return error.code

    with ThreadPoolExecutor(40) as threads:
        codes = list(threads.map(guess, range(40)))
    assert len(reached) == codes.count("invalid_credentials") == 10
    assert codes.count("throttled") == 30


def test_refreshes_of_a_session(client: JSONClient, user: User, clock: Clock) -> None:
    raw = client.login().json()["refresh_token"]
    other = client.login().json()["refresh_token"]
    for _ in range(60):
        assert client.refresh(raw).status_code == 200
    answer = client.refresh(raw)
    assert (answer.status_code, answer.json()["code"]) == (429, "throttled")
    assert int(answer.headers["Retry-After"]) < 120
    assert client.refresh(other).status_code == 200
    # Nothing was consumed.
    clock.move(seconds=int(answer.headers["Retry-After"]))
    assert client.refresh(raw).status_code == 200
    assert LoginSession.objects.filter(revoked_at=None).count() == 2


def test_a_wait_is_shorter_than_the_grace(
    client: JSONClient, user: User, clock: Clock, settings: Any
) -> None:
    from datetime import timedelta

    settings.JWT_AUTH = {
        "THROTTLE_RATES": {"refresh": "1/hour"},
        "REFRESH_GRACE": timedelta(seconds=30),
    }
    raw = client.login().json()["refresh_token"]
    assert client.refresh(raw).status_code == 200
    assert client.refresh(raw).headers["Retry-After"] == "29"


def test_forged_refresh_tokens_are_not_counted(
    client: JSONClient, user: User, clock: Clock
) -> None:
    raw = client.login().json()["refresh_token"]
    forged = raw[:-4] + "AAAA"
    for _ in range(70):
        assert client.refresh(forged).json()["code"] == "refresh_not_valid"
    assert client.refresh(raw).status_code == 200


class Broken:
    """A cache that fails in the way of some library."""

    def __getattr__(self, name: str) -> Any:
        raise ConnectionError("redis://secret@cache")


def test_a_cache_that_is_down(
    client: JSONClient,
    user: User,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(throttling, "cache", Broken())
    monkeypatch.setattr(throttling, "_next_record", 0.0)
    assert tries(client, 20) == [401] * 20
    assert tries(client, 1, password=PASSWORD) == [200]
    assert client.refresh(client.login().json()["refresh_token"]).status_code == 200
    records = [one for one in caplog.records if one.name == "jwt_auth"]
    # One a minute, whatever comes.
    assert [one.getMessage() for one in records] == [
        "The cache failed (ConnectionError): tries are not counted."
    ]


def test_a_counter_that_is_evicted_begins_anew(
    client: JSONClient, user: User, clock: Clock
) -> None:
    assert tries(client, 11)[-1] == 429
    cache.clear()
    assert tries(client, 1, password=PASSWORD) == [200]


def test_switched_off(client: JSONClient, user: User, clock: Clock, settings: Any) -> None:
    settings.JWT_AUTH = {"THROTTLE_RATES": None}
    assert tries(client, 120) == [401] * 120


def test_no_name_stands_in_the_cache(
    client: JSONClient, user: User, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    incr = cache.incr

    def watched(key: str, *args: Any) -> int:
        seen.append(key)
        return incr(key, *args)

    monkeypatch.setattr(throttling.cache, "incr", watched, raising=False)
    tries(client, 1, "ada@example.com")
    names = "".join(seen)
    assert "jwt_auth.throttle.login." in names
    assert "ada" not in names
    assert PUBLIC not in names
