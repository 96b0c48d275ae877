"""Rows 181 to 192: what answers, logs and caches tell, and whom they believe."""

from __future__ import annotations

import ast
import json
import logging
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.urls import include, path

import jwt_auth
from jwt_auth import sessions, verify
from jwt_auth.errors import RefreshReused, Rejected, Unavailable
from jwt_auth.models import LoginSession
from tests import urls as own_urls
from tests.attacks.conftest import Target
from tests.attacks.corpus import hostile
from tests.attacks.limits import Limits
from tests.conftest import PASSWORD, Clock, JSONClient, private_pem
from tests.silence import SECRETS

PACKAGE = Path(jwt_auth.__file__).parent
EVIL = "evil.example"

urlpatterns = [
    *own_urls.urlpatterns,
    path("auth/browser/", include("jwt_auth.urls.browser")),
    path(".well-known/", include("jwt_auth.urls.well_known")),
]


@pytest.fixture
def project(settings: Any) -> Any:
    """Return the settings of a project with every URL of the app."""
    settings.ROOT_URLCONF = __name__
    settings.JWT_AUTH = {"COOKIES": {"ACCESS": "__Host-access_token"}}
    return settings


# What is below or around an answer, and in none of them.
INSIDE = re.compile(
    r"Traceback|File \"|\.py|site-packages|jwt_auth|rest_framework|django\.|joserfc|PyJWT"
    r"|[A-Z]\w+Error|Exception|SELECT|INSERT|UPDATE|sqlite|no such table|line \d|Expecting",
)

Call = Callable[[JSONClient, "sessions.TokenPair"], Any]


def posting(where: str, body: Any, content_type: str = "application/json", **more: Any) -> Call:
    """Return a call that posts *body* as it is."""
    return lambda client, pair: client.post(where, body, content_type=content_type, **more)


def bearing(method: str, where: str, raw: str) -> Call:
    """Return a call with *raw* as a bearer token."""
    return lambda client, pair: client.call(method, where, token=raw)


# Each call of section 4, refused in each way that it has; and what goes well.
CALLS: dict[str, tuple[Call, int]] = {
    "login": (lambda client, pair: client.login(), 200),
    "a wrong password": (lambda client, pair: client.login(password="wrong"), 401),
    "login, no JSON": (posting("/auth/login/", b"{"), 400),
    "login, no object": (posting("/auth/login/", b"[]"), 400),
    "login, other types": (posting("/auth/login/", b'{"username": {}, "password": 7}'), 400),
    "login, a form": (posting("/auth/login/", b"a=b", "application/x-www-form-urlencoded"), 415),
    "login by GET": (lambda client, pair: client.get("/auth/login/"), 405),
    "refresh": (lambda client, pair: client.refresh(pair.refresh_token), 200),
    "a junk refresh": (lambda client, pair: client.refresh("jwtr_junk"), 401),
    "refresh, no text": (lambda client, pair: client.refresh(["x"]), 400),
    "refresh, no JSON": (posting("/auth/refresh/", b"\xff"), 400),
    "refresh by PUT": (lambda client, pair: client.put("/auth/refresh/"), 405),
    "logout": (lambda client, pair: client.logout_with(pair.refresh_token), 204),
    "a junk logout": (lambda client, pair: client.logout_with("junk"), 204),
    "logout with nothing": (lambda client, pair: client.post("/auth/logout/"), 400),
    "logout, two tokens": (bearing("post", "/auth/logout/", "a b"), 400),
    "sessions": (lambda c, pair: c.call("get", "/auth/sessions/", token=pair.access_token), 200),
    "sessions, nobody": (lambda client, pair: client.get("/auth/sessions/"), 401),
    "sessions, junk": (bearing("get", "/auth/sessions/", "a.b.c"), 401),
    "sessions, two words": (bearing("get", "/auth/sessions/", "a b"), 400),
    "ending nothing": (
        lambda c, pair: c.call("delete", "/auth/sessions/", token=pair.access_token),
        400,
    ),
    "ending no session": (
        lambda c, pair: c.call("delete", "/auth/sessions/x/", token=pair.access_token),
        404,
    ),
    "ending all": (
        lambda c, pair: c.call("delete", "/auth/sessions/?keep=none", token=pair.access_token),
        204,
    ),
    "browser: a wrong password": (
        posting("/auth/browser/login/", json.dumps({"username": "ada", "password": "x"})),
        401,
    ),
    "browser: nothing to refresh": (posting("/auth/browser/refresh/", b""), 401),
    "browser: another site": (
        posting("/auth/browser/logout/", b"", headers={"Origin": f"https://{EVIL}"}),
        403,
    ),
    "browser: the CSRF token": (lambda client, pair: client.get("/auth/browser/csrf/"), 200),
    "no revoked list": (lambda client, pair: client.get("/auth/revoked.jwt"), 404),
    "no metadata": (
        lambda client, pair: client.get("/.well-known/oauth-authorization-server"),
        404,
    ),
}


@pytest.mark.parametrize(("call", "status"), CALLS.values(), ids=CALLS)
def test_no_answer_of_ours_is_kept_or_tells_what_is_inside(
    client: JSONClient, user: Any, project: Any, call: Call, status: int
) -> None:
    pair = sessions.start(user)
    answer = call(client, pair)
    assert answer.status_code == status, answer.content
    # RFC 6749 section 5.1, for refusals too.
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers.get("Content-Type", "application/json") == "application/json"
    text = answer.text.replace(str(pair.access_token), "").replace(str(pair.refresh_token), "")
    assert INSIDE.search(text) is None


@pytest.mark.parametrize("name", [one for one, (_, status) in CALLS.items() if status < 300])
def test_when_the_database_fails_nobody_hears_of_tables(
    client: JSONClient, user: Any, project: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pair = sessions.start(user)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError('near "SELECT": no such table: auth_user, in /srv/db.sqlite3')

    for place in ("query.QuerySet._fetch_all", "query.QuerySet.get", "query.QuerySet.update"):
        monkeypatch.setattr(f"django.db.models.{place}", fail)
    answer = CALLS[name][0](client, pair)
    assert answer.status_code in {503, 204, 200}
    assert answer.status_code == 503 or name in {"a junk logout", "browser: the CSRF token"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert INSIDE.search(answer.text) is None


def test_too_many_tries_are_not_kept_either(client: JSONClient, user: Any, clock: Clock) -> None:
    client.defaults["REMOTE_ADDR"] = "203.0.113.7"
    raw = sessions.start(user).refresh_token
    for _ in range(60):
        client.refresh(raw)
    for _ in range(10):
        client.login(password="wrong")
    for answer in (client.refresh(raw), client.login()):
        assert (answer.status_code, answer.json()["code"]) == (429, "throttled")
        assert answer.headers["Cache-Control"] == "no-store"
        assert INSIDE.search(answer.text) is None


def test_hostile_tokens_are_in_no_answer_exception_or_record(
    target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    for name, raw in hostile(target.forge, target.claims).items():
        text = raw.decode("latin-1")
        caplog.clear()
        with pytest.raises(Rejected) as caught:
            verify(text)
        shown = [str(caught.value), repr(caught.value), repr(caught.value.args), caplog.text]
        assert caught.value.__cause__ is None or caught.value.__suppress_context__
        assert INSIDE.search(str(caught.value.body)) is None, name
        for segment in text.split("."):
            if len(segment) > 20:
                assert not [one for one in shown if segment in one], name
        # Nothing of ours is worth a line that anybody can have written as often as they like.
        assert [one for one in caplog.records if one.name.startswith("jwt_auth")] == [], name


def test_no_column_holds_a_token(client: JSONClient, user: Any, clock: Clock) -> None:
    pairs = [client.login(device="phone").json()]
    for _ in range(2):
        clock.move(seconds=121)
        pairs.append(client.refresh(pairs[-1]["refresh_token"]).json())
    user.refresh_from_db()
    values = [
        one.hex() if isinstance(one, bytes) else str(one)
        for model in (LoginSession, type(user))
        for row in model.objects.values_list()
        for one in row
    ]
    shown = " ".join(values) + " ".join(one.replace("-", "") for one in values)
    assert SECRETS.search(shown) is None
    assert PASSWORD not in shown
    for pair in pairs:
        *_, signature = pair["access_token"].split(".")
        assert signature not in shown
        raw = urlsafe_b64decode(pair["refresh_token"].removeprefix("jwtr_") + "==")
        # Neither the handle nor the MAC, nor a hash of the whole.
        for secret in (raw[-32:], raw[5:21], sha256(pair["refresh_token"].encode()).digest()):
            assert secret.hex() not in shown
            assert urlsafe_b64encode(secret).decode().rstrip("=") not in shown


MARKUP = "<script>alert(1)</script>"
# Escaped as well, as in a page of the browsable API.
MARK = "alert(1)"


@pytest.mark.parametrize("accept", ["text/html", "text/html,application/xhtml+xml;q=0.9", "*/*"])
def test_markup_comes_back_from_nowhere(
    target: Target, client: JSONClient, project: Any, accept: str
) -> None:
    project.JWT_AUTH = {**project.JWT_AUTH, "SIGNING_KEY": target.forge.setting}
    headers = {"Accept": accept}
    for raw in (
        target.forge.token(target.claims, target.forge.header(kid=MARKUP)),
        target.forge.token(target.having(sub=MARKUP)),
        target.forge.token(target.having(jti=MARKUP, exp=target.claims["iat"] - 1)),
        MARKUP,
    ):
        bearer = {**headers, "Authorization": f"Bearer {raw}"}
        # The first view is the project's, and answers in HTML where that is asked for.
        for where in ("/whoami/", "/auth/sessions/"):
            answer = client.get(where, headers=bearer)
            assert answer.status_code in {400, 401}
            assert MARK not in answer.text
            assert where == "/whoami/" or answer.headers["Content-Type"] == "application/json"
    for body in (
        {"username": MARKUP, "password": MARKUP},
        {"username": "ada", "password": PASSWORD, "device": MARKUP * 9},
        {MARKUP: MARKUP},
    ):
        for where in ("/auth/login/", "/auth/browser/login/", "/auth/refresh/"):
            answer = client.post(where, body, content_type="application/json", headers=headers)
            assert answer.headers["Content-Type"] == "application/json"
            assert MARK not in answer.text


def test_markup_in_a_session_is_data(client: JSONClient, user: Any) -> None:
    # One's own words come back to oneself, in JSON, which no browser takes for HTML.
    client.defaults["HTTP_USER_AGENT"] = MARKUP
    token = client.login(device=MARKUP).json()["access_token"]
    headers = {"Accept": "text/html", "Authorization": f"Bearer {token}"}
    answer = client.get("/auth/sessions/", headers=headers)
    [row] = answer.json()
    assert (row["device"], row["user_agent"]) == (MARKUP, MARKUP)
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "accept",
    [
        "a/b," * 12_500,
        "text/html;" + "q=0.1;" * 8_000,
        "*/*," * 12_500,
        "a/b;x=" + '"' * 50_000,
        "," * 50_000,
        "a" * 50_000,
        "a/" * 25_000,
        "application/json;indent=" + "9" * 50_000,
    ],
    ids=range(8),
)
def test_an_endless_accept_header_costs_nothing(
    client: JSONClient, project: Any, user: Any, accept: str
) -> None:
    body = {"username": "ada", "password": PASSWORD}
    for where in ("/auth/login/", "/auth/browser/login/"):
        with Limits():
            answer = client.post(
                where, body, content_type="application/json", headers={"Accept": accept}
            )
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")


FORGED = {
    "HTTP_HOST": EVIL,
    "HTTP_X_FORWARDED_HOST": EVIL,
    "HTTP_X_FORWARDED_PROTO": "http",
    "HTTP_FORWARDED": f"host={EVIL}",
    "HTTP_X_ORIGINAL_URL": f"https://{EVIL}/",
}


@pytest.mark.parametrize("issuer", [None, "https://id.example"])
@pytest.mark.parametrize("trusted", [False, True])
def test_nothing_is_made_of_the_host_header(
    client: JSONClient, user: Any, project: Any, issuer: str | None, trusted: bool
) -> None:
    project.JWT_AUTH = {**project.JWT_AUTH, "ISSUER": issuer, "SIGNING_KEY": private_pem("P-256")}
    project.USE_X_FORWARDED_HOST = trusted
    body = {"username": "ada", "password": PASSWORD}
    for where in ("/auth/login/", "/auth/browser/login/"):
        answer = client.post(where, body, content_type="application/json", **FORGED)
        assert answer.status_code == 200
        assert EVIL not in answer.text
        assert EVIL not in str(answer.headers)
        assert EVIL not in answer.cookies.output()
        raw = answer.json().get("access_token") or answer.cookies["__Host-access_token"].value
        claims = verify(raw)
        assert claims.issuer == issuer
        assert EVIL not in str(dict(claims))
    assert EVIL not in str(list(LoginSession.objects.values()))


@pytest.mark.django_db
def test_other_sites_are_told_nothing_that_lets_them_read(client: JSONClient, project: Any) -> None:
    headers = {
        "Origin": f"https://{EVIL}",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    places = ("login/", "refresh/", "logout/", "sessions/", "jwks.json", "browser/login/")
    for where in (*(f"/auth/{place}" for place in places), "/.well-known/jwks.json"):
        for method in ("options", "get", "post"):
            answer = getattr(client, method)(where, headers=headers)
            assert not [one for one in answer.headers if one.startswith("Access-Control")]
            assert method != "options" or (answer.status_code, answer.content) == (204, b"")


HOSTILE_TEXT = ["a\nERROR forged", "a\r\nb", "\x1b[31mred", "x" * 5000, "\u2028\u202e", "%s%n{0}"]


@pytest.mark.parametrize("text", HOSTILE_TEXT, ids=range(len(HOSTILE_TEXT)))
def test_what_an_attacker_writes_is_in_no_record(
    target: Target, client: JSONClient, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    caplog.set_level(logging.DEBUG)
    for _ in range(10):
        for raw in (
            target.forge.token(target.claims, target.forge.header(kid=text)),
            target.forge.token(target.having(sub=text)),
            target.forge.token(target.having(sid=text)),
        ):
            assert client.whoami(raw).status_code == 401
        client.login(text)
        client.refresh(text)
        client.logout_with(text)
    records = [one for one in caplog.records if one.name.startswith("jwt_auth")]
    assert records == []
    # Of Django's own there is a line for a status, and the path that was asked for.
    for record in caplog.records:
        line = record.getMessage()
        assert "\n" not in line
        assert "\x1b" not in line
        assert text[:100] not in line or len(text) < 3


def test_a_replay_is_one_line_however_often_it_is_tried(
    client: JSONClient, user: Any, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    stolen = client.login().json()["refresh_token"]
    client.refresh(stolen)
    clock.move(seconds=121)
    with caplog.at_level(logging.DEBUG):
        codes = [client.refresh(stolen).json()["code"] for _ in range(50)]
    assert codes == ["refresh_reused"] + ["session_ended"] * 49
    [record] = [one for one in caplog.records if one.name.startswith("jwt_auth")]
    line = record.getMessage()
    # Whose it was, which one, and from where: enough to act on.
    assert str(LoginSession.objects.get().pk) in line
    assert f"user {user.pk}" in line
    assert "127.0.0.1" in line
    assert "jwtr_" not in line


def fail_for_ada(user: Any, request: Any) -> Any:
    """Fail as ``CLAIMS`` for one user."""
    return {} if user.get_username() != "ada" else {}["missing"]


def reuse(user: Any) -> None:
    """Have a session of *user* ended for a replayed refresh token."""
    first = str(sessions.start(user).refresh_token)
    sessions.refresh(first)
    with pytest.raises(RefreshReused):
        sessions.refresh(first)


def fail_to_sign_in(user: Any) -> None:
    """Sign *user* in, with a ``CLAIMS`` that fails."""
    with suppress(Unavailable):
        sessions.start(user)


FLOODS = {
    "reuse": (reuse, {"REFRESH_GRACE": timedelta(0)}),
    "no access token": (fail_to_sign_in, {"CLAIMS": f"{__name__}.fail_for_ada"}),
}


@pytest.mark.parametrize(("cause", "jwt_auth"), FLOODS.values(), ids=FLOODS)
def test_one_account_writes_a_bounded_number_of_records(
    make_user: Any,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
    cause: Callable[[Any], None],
    jwt_auth: dict[str, Any],
) -> None:
    settings.JWT_AUTH = jwt_auth
    ada, grace = make_user("ada"), make_user("grace")
    for _ in range(60):
        cause(ada)
    records = [one for one in caplog.records if one.name.startswith("jwt_auth")]
    # The last one says that there are more.
    assert len(records) == 11
    assert "Further ones are left out" in records[-1].getMessage()
    if cause is reuse:
        cause(grace)
        assert f"user {grace.pk}" in caplog.records[-1].getMessage()


@pytest.mark.parametrize("hours", [1, 24, 24 * 365])
def test_a_clock_that_is_set_back_lengthens_no_life(
    target: Target, client: JSONClient, clock: Clock, hours: int
) -> None:
    raw = target.forge.token(target.claims)
    clock.move(minutes=4)
    target.accepts(raw)
    clock.move(hours=-hours)
    # It is from the future now, for as long as the clock is wrong.
    assert client.whoami(raw).json()["code"] == "token_not_valid"
    clock.move(hours=hours, seconds=59)
    target.accepts(raw)
    clock.move(seconds=1)
    assert client.whoami(raw).json()["code"] == "token_expired"


def test_a_clock_that_is_set_back_leaves_nobody_locked_out(
    client: JSONClient, user: Any, clock: Clock
) -> None:
    for _ in range(10):
        client.login(password="wrong")
    clock.move(hours=-1)
    assert client.login().status_code == 200
    token = client.login().json()["access_token"]
    assert client.whoami(token).status_code == 200
    sessions.end_all(user)
    assert client.whoami(token).json()["code"] == "session_ended"


def calls() -> Iterator[tuple[str, str]]:
    """Yield the module and the dotted name of each call, and of each name handed on."""
    for source in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                yield source.relative_to(PACKAGE).as_posix(), f"{node.value.id}.{node.attr}"


def test_there_is_one_clock() -> None:
    looked_at = {
        (module, name)
        for module, name in calls()
        if name
        in {
            "timezone.now",
            "timezone.localtime",
            "datetime.now",
            "datetime.utcnow",
            "datetime.today",
            "date.today",
            "time.time",
            "time.time_ns",
            "time.localtime",
        }
    }
    # The runtime hands it out; Django's cache counts by time.time(), and so do windows.
    assert {module for module, _ in looked_at} == {"runtime.py", "throttling.py"}
    assert {name for _, name in looked_at} == {"timezone.now", "time.time"}
