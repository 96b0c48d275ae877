"""Rows 120 to 131: hostile tokens in cookies, and cookies that somebody else has set."""

from __future__ import annotations

import itertools
import logging
import os
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jwt_auth import sessions
from jwt_auth.models import LoginSession
from tests.attacks.conftest import Target
from tests.attacks.corpus import honest, hostile
from tests.attacks.forge import FORGES, Forge
from tests.attacks.limits import Limits
from tests.conftest import Clock, JSONClient
from tests.test_browser import ACCESS, HERE, PLACES, REFRESH, Browser, attributes, cookie_of

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
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")
    row = LoginSession.objects.get()
    assert (row.revoked_at, row.generation) == (None, 0)
    # The pair of them is good where it is the site itself that sends it.
    if place in PLACES:
        assert post(Origin="https://testserver").status_code == 200


def test_a_cookie_of_somebody_elses_session_signs_nobody_else_in(
    browser: Browser, make_user: Any
) -> None:
    # What another host has tossed beside the real one: neither is believed.
    mine = sessions.start(make_user("eve")).access_token
    theirs = browser.cookies[ACCESS].value
    for header in (f"{ACCESS}={mine}; {ACCESS}={theirs}", f"{ACCESS}={theirs}; {ACCESS}={mine}"):
        for place in PLACES:
            answer = JSONClient().get(place, HTTP_COOKIE=header, secure=True)
            assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
