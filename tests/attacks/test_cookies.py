"""Rows 120 to 131: hostile tokens in cookies, and cookies that somebody else has set."""

from __future__ import annotations

import itertools
import logging
import os
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jwt_auth import sessions
from jwt_auth.models import LoginSession
from jwt_auth.runtime import current
from jwt_auth.tokens.access import SessionFacts
from jwt_auth.tokens.refresh import RefreshToken
from tests.attacks.conftest import Target
from tests.attacks.corpus import honest, hostile
from tests.attacks.forge import FORGES, Forge
from tests.attacks.limits import Limits
from tests.conftest import Clock, JSONClient
from tests.test_browser import (
    ACCESS,
    HERE,
    PLACES,
    REFRESH,
    SECURE,
    Browser,
    CookieStore,
    attributes,
    cookie_of,
)

EVIL = "https://evil.example"


@pytest.fixture(autouse=True)
def project(settings: Any) -> Any:
    settings.ROOT_URLCONF = "tests.test_browser"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "jwt_auth.middleware.JWTAuthenticationMiddleware"]
    settings.JWT_AUTH = {"COOKIES": {"ACCESS": ACCESS}}
    return settings


@pytest.fixture
def browser(user: Any) -> Browser:
    """Return a browser that has signed in."""
    one = Browser()
    assert one.sign_in().status_code == 200
    return one


class Jar(Target):
    """The project under attack, where the token is in the cookie."""

    def __init__(self, place: str, *args: Any) -> None:
        self._place = place
        super().__init__(*args)

    def accepts(self, raw: str) -> None:
        answer = self._send(f"{ACCESS}={raw}")
        assert answer.status_code == 200, answer.content

    def _send(self, header: str) -> Any:
        return self._client.get(self._place, HTTP_COOKIE=header, secure=True)


@pytest.fixture
def jar(
    request: Any, user: Any, client: JSONClient, settings: Any, clock: Clock, caplog: Any
) -> Jar:
    """Return the project at one of its doors, with a key that the forge has as well."""
    caplog.set_level(logging.DEBUG)
    algorithm, place = request.param
    forge: Forge = FORGES[algorithm]()
    settings.JWT_AUTH = {**settings.JWT_AUTH, "SIGNING_KEY": forge.setting}
    return Jar(place, forge, user, client, caplog)


# White space and quotes around a value belong to the cookie (RFC 6265 section 4.1.1): what
# is in them is the good token.
TAKEN_OFF = {"a tab in front", "quoted", "' ' behind segment 2", "'\\n' behind segment 2"}


# `tox -e attacks` sends signatures of another kind too.
KINDS = ["HS256", "ES256"] if "JWT_AUTH_TEST_ATTACKS" in os.environ else ["HS256"]


@pytest.mark.parametrize("jar", [*itertools.product(KINDS, PLACES)], indirect=True, ids=str)
def test_every_hostile_token_is_refused_in_the_cookie_too(jar: Jar) -> None:
    for raw in honest(jar.forge, jar.claims).values():
        jar.accepts(raw)
    tokens = hostile(jar.forge, jar.claims)
    assert len(tokens) > 300
    for name in tokens.keys() - TAKEN_OFF:
        raw = tokens[name].decode("latin-1")
        code = "token_expired" if name == "expired" else "token_not_valid"
        answer = jar.refuses_header(f"{ACCESS}={raw}", code, secrets=[raw])
        assert cookie_of(answer, ACCESS)["max-age"] == "0", name


def test_a_token_is_looked_for_in_no_other_cookie(browser: Browser) -> None:
    token = browser.cookies[ACCESS].value
    assert browser.send("get", "/things/").status_code == 200
    for name in (ACCESS.lower(), ACCESS.removeprefix("__Host-"), f"x{ACCESS}", "jwt", REFRESH):
        answer = JSONClient().get("/things/", HTTP_COOKIE=f"{name}={token}", secure=True)
        assert (answer.status_code, answer.json().get("code")) == (401, None)


def forged_refresh_tokens(genuine: str, access: str) -> dict[str, str]:
    """Return what is almost a refresh token, and what is far from one."""
    body = genuine.removeprefix("jwtr_")
    changed = "B" if body[30] == "A" else "A"
    return {
        "a word": "x",
        "nothing": "",
        "the prefix alone": "jwtr_",
        "zeros": "jwtr_" + "A" * len(body),
        "a character changed": f"jwtr_{body[:30]}{changed}{body[31:]}",
        "a character less": genuine[:-1],
        "a character more": f"{genuine}A",
        "padded": f"{genuine}=",
        "without the prefix": body,
        "another case of the prefix": f"JWTR_{body}",
        "an access token": access,
        "escaped": genuine.replace("_", "%5F", 1),
        "a NUL": f"{genuine}\x00",
        "no ASCII": f"{genuine}é",
        "long": "jwtr_" + "A" * 9000,
    }


@pytest.mark.parametrize("name", forged_refresh_tokens("jwtr_" + "x" * 80, ""))
def test_a_forged_refresh_cookie_is_refused_and_deleted(browser: Browser, name: str) -> None:
    genuine = browser.cookies[REFRESH].value
    forged = forged_refresh_tokens(genuine, browser.cookies[ACCESS].value)[name]
    set_to = attributes(browser.cookies[REFRESH])
    before = list(LoginSession.objects.values_list())

    def refresh(raw: str) -> Any:
        csrf = browser.cookies["csrftoken"].value
        return Browser().send(
            "post",
            f"{HERE}refresh/",
            Cookie=f"csrftoken={csrf}; {REFRESH}={raw}",
            **{"X-CSRFToken": browser.csrf or ""},
        )

    with CaptureQueriesContext(connection) as queries, Limits():
        answer = refresh(forged)
    assert (answer.status_code, answer.json()["code"]) == (401, "refresh_not_valid")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'
    assert len(queries) == 0
    assert list(LoginSession.objects.values_list()) == before
    for cookie in (REFRESH, ACCESS):
        assert (answer.cookies[cookie].value, answer.cookies[cookie]["max-age"]) == ("", 0)
    assert attributes(answer.cookies[REFRESH]) == set_to
    assert forged == "" or len(forged) < 20 or forged not in answer.text
    assert refresh(genuine).status_code == 200


MINE = "a" * 32


@pytest.mark.parametrize("place", [*PLACES, f"{HERE}refresh/", f"{HERE}logout/"])
@pytest.mark.parametrize(
    "origin", [{"Origin": EVIL}, {"Origin": "null"}, {"Origin": None, "Referer": f"{EVIL}/x"}]
)
def test_a_csrf_cookie_of_ones_own_is_no_way_in(
    browser: Browser, place: str, origin: dict[str, Any]
) -> None:
    # Another host of the domain can set the cookie, and a form can repeat it: the two agree.
    browser.cookies["csrftoken"] = MINE
    form = {"csrfmiddlewaretoken": MINE}

    def post(**headers: Any) -> Any:
        said = {name: one for name, one in headers.items() if one is not None}
        return browser.post(place, form, headers=said, secure=True)

    answer = post(**origin)
    # Our own views refuse the form itself where no Origin tells of another site.
    assert answer.status_code == (403 if place in PLACES or origin["Origin"] else 415)
    row = LoginSession.objects.get()
    assert (row.revoked_at, row.generation) == (None, 0)
    # The pair of them is good where it is the site itself that sends it.
    if place in PLACES:
        assert post(Origin="https://testserver").status_code == 200


# A host of the same domain can set cookies here, the most specific path first. The settings have
# no domain, so that today's answers delete none of these.
PLANTS = [(f"{HERE}refresh/", "example.com"), (HERE, "example.com"), ("/", "example.com")]


@pytest.fixture
def store(project: Any, user: Any, clock: Clock) -> CookieStore:
    """Return the cookies of a browser that has signed in."""
    project.JWT_AUTH = {"COOKIES": {"ACCESS": SECURE}}
    one = CookieStore()
    one.sign_in()
    return one


@pytest.mark.parametrize(("path", "domain"), PLANTS)
def test_planted_session_of_another_user_is_never_taken(
    store: CookieStore, user: Any, make_user: Any, clock: Clock, path: str, domain: str
) -> None:
    # Whatever is newer: the session, the generation or the login.
    mine = sessions.start(make_user("eve"))
    for _ in range(3):
        clock.move(minutes=4)
        mine = sessions.refresh(str(mine.refresh_token))
        store.put(REFRESH, str(mine.refresh_token), path, domain)
        store.put(SECURE, mine.access_token, "/", domain)
        before = dict(store.kept)
        rows = list(LoginSession.objects.order_by("pk").values_list())
        answer = store.send("post", f"{HERE}refresh/")
        assert (answer.status_code, answer.json()["code"]) == (401, "refresh_not_valid")
        # If the victim's cookie were deleted, the planted one would be good the next time.
        assert store.kept == before
        assert list(LoginSession.objects.order_by("pk").values_list()) == rows
        store.sign_in()
        for place in PLACES:
            answer = store.send("get", place)
            assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
            assert len(store.values(SECURE)) == 2


def test_logout_frees_a_browser_with_a_planted_session(
    store: CookieStore, user: Any, make_user: Any, clock: Clock
) -> None:
    mine = sessions.start(make_user("eve"))
    store.put(REFRESH, str(mine.refresh_token), HERE, "example.com")
    assert store.send("post", f"{HERE}refresh/").status_code == 401
    assert store.send("post", f"{HERE}logout/").status_code == 204
    assert not LoginSession.objects.filter(revoked_at=None).exists()
    clock.move(seconds=1)
    store.sign_in()
    assert store.send("post", f"{HERE}refresh/").status_code == 200
    assert store.send("get", "/things/").json() == {"pk": user.pk}


@pytest.mark.parametrize(("path", "domain"), PLANTS)
def test_planted_junk_locks_no_browser_out(
    store: CookieStore, user: Any, make_user: Any, clock: Clock, path: str, domain: str
) -> None:
    eve = make_user("eve")
    ended = sessions.start(eve)
    sessions.end_all(eve)
    genuine = store.values(REFRESH)[0]
    forged = forged_refresh_tokens(genuine, store.values(SECURE)[0])
    planted = [(one, one) for one in forged.values() if one.isascii() and one.isprintable()]
    planted.append((str(ended.refresh_token), ended.access_token))
    for refresh, access in planted:
        store.put(REFRESH, refresh, path, domain)
        store.put(SECURE, access, "/", domain)
        clock.move(seconds=121)
        with Limits():
            assert store.send("post", f"{HERE}refresh/").status_code == 200
        assert store.send("get", "/things/").json() == {"pk": user.pk}
    row = LoginSession.objects.get(user=user)
    assert (row.generation, row.revoked_at) == (len(planted), None)


def refresh_tokens(number: int) -> list[str]:
    """Return genuine refresh tokens of sessions that are gone."""
    return [current().refresh_tokens.mint(RefreshToken.first()) for _ in range(number)]


def access_tokens(user: Any) -> list[str]:
    """Return genuine access tokens of *user*, of as many sessions."""
    login = timezone.now() - timedelta(minutes=1)
    tokens = []
    for _ in range(150):
        facts = SessionFacts(uuid4(), login, [], login + timedelta(days=1))
        issued = current().access_tokens.issue(
            str(user.pk), now=login, session=facts, roles=None, extra={}
        )
        tokens.append(issued.raw)
    return tokens


@pytest.mark.parametrize("place", [*PLACES, f"{HERE}refresh/"])
def test_hundreds_of_planted_cookies_cost_little(browser: Browser, user: Any, place: str) -> None:
    genuine = {name: browser.cookies[name].value for name in ("csrftoken", ACCESS, REFRESH)}
    refresh = place.endswith("refresh/")
    # Genuine tokens cost more than junk does: 64 kB of them.
    name, planted = (REFRESH, refresh_tokens(600)) if refresh else (ACCESS, access_tokens(user))
    header = "; ".join(
        [*(f"{name}={one}" for one in planted), *(f"{one}={raw}" for one, raw in genuine.items())]
    )
    with CaptureQueriesContext(connection) as queries, Limits():
        answer = browser.send("post" if refresh else "get", place, Cookie=header)
    assert answer.status_code == 200
    assert len(queries) <= 5


def test_database_that_fails_deletes_no_cookies(
    store: CookieStore, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sessions.start(user)
    store.put(REFRESH, str(other.refresh_token), HERE, "example.com")
    before = dict(store.kept)

    def fail(*args: Any) -> Any:
        raise OperationalError("gone away")

    monkeypatch.setattr("django.db.models.query.QuerySet._fetch_all", fail)
    answer = store.send("post", f"{HERE}refresh/")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert store.kept == before


def test_deletions_name_no_domain_of_the_request(
    store: CookieStore, project: Any, clock: Clock
) -> None:
    project.JWT_AUTH = {"COOKIES": {"ACCESS": SECURE, "DOMAIN": "example.com"}}
    forged = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Origin": EVIL}
    for call in ("refresh", "logout"):
        store.put(REFRESH, "x", "/")
        answer = store.send("post", f"{HERE}{call}/", **forged)
        cookies = [one for one in answer.cookies.values() if one.key != "csrftoken"]
        assert answer.status_code in {200, 204}
        assert {one["domain"] for one in cookies} == {"", "example.com"}
        assert {one["path"] for one in cookies} == {"/", "/auth/", HERE}


def test_a_cookie_of_somebody_elses_session_signs_nobody_else_in(
    browser: Browser, make_user: Any
) -> None:
    # Another host has tossed one beside the real one: neither is believed, or deleted.
    mine = sessions.start(make_user("eve")).access_token
    theirs = browser.cookies[ACCESS].value
    for header in (f"{ACCESS}={mine}; {ACCESS}={theirs}", f"{ACCESS}={theirs}; {ACCESS}={mine}"):
        for place in PLACES:
            answer = JSONClient().get(place, HTTP_COOKIE=header, secure=True)
            assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
            assert not answer.cookies
