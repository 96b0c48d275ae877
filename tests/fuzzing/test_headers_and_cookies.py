"""Any ``Authorization`` and any ``Cookie``: the header that was meant, or a refusal."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, parse_cookie
from django.urls import include, path
from hypothesis import given
from hypothesis import strategies as st

from jwt_auth import sessions
from jwt_auth.errors import InvalidRequest, TokenNotValid
from jwt_auth.models import LoginSession
from jwt_auth.transports import bearer_token, cookie_tokens, cookie_values
from tests import urls as own_urls
from tests.conftest import JSONClient
from tests.fuzzing.strategies import damaged, examples, text
from tests.fuzzing.test_bodies import rows
from tests.skins.servers import OneThread, over_asgi, over_wsgi

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("kept_connection")]

REFRESH, ACCESS = "__Secure-refresh_token", "__Host-access_token"
urlpatterns = [
    *own_urls.urlpatterns,
    path("auth/browser/", include("jwt_auth.urls.browser")),
]
# What a header may begin with, end with, or have in the middle.
PIECES = st.sampled_from(
    ["Bearer", "bearer ", "Bearer\t", "Basic ", " ", ",", "\t", "=", "\x0b", '"']
)
LATIN = st.text(st.characters(max_codepoint=255), max_size=12)


def on_the_wire(header: str) -> str:
    """Return *header* as a server hands over its bytes: every one as a character."""
    return header.encode("utf-8", "surrogateescape").decode("latin-1")


@pytest.fixture(autouse=True)
def project(settings: Any) -> None:
    """Take cookies as well."""
    settings.ROOT_URLCONF = __name__
    settings.JWT_AUTH = {
        "COOKIES": {"ACCESS": ACCESS},
        "THROTTLE_RATES": dict.fromkeys(("login", "login_account", "login_address", "refresh")),
    }


@pytest.fixture
def pair(user: Any) -> sessions.TokenPair:
    """Return the tokens of a live session."""
    return sessions.start(user)


@given(data=st.data())
@examples(120)
def test_any_authorization_header_is_answered_alike_over_wsgi_and_asgi(
    data: st.DataObject, pair: sessions.TokenPair
) -> None:
    good = f"Bearer {pair.access_token}"
    pieces = st.lists(PIECES | LATIN | st.just(pair.access_token), max_size=4).map("".join)
    header = on_the_wire(data.draw(damaged([good, f"bearer  {pair.access_token}"]) | pieces))
    field = (b"authorization", header.encode("latin-1"))
    before = rows()
    found = over_wsgi("GET", "/whoami/", [field], WSGIHandler())
    assert over_asgi("GET", "/whoami/", [field], OneThread()) == found
    status, headers, body = found
    assert status in {200, 400, 401}
    assert rows() == before
    if status == 200:
        scheme, _, raw = header.partition(" ")
        assert (scheme.lower(), raw.lstrip(" ")) == ("bearer", pair.access_token)
    else:
        assert headers["WWW-Authenticate"].startswith('Bearer realm="api"')
        assert pair.access_token.encode() not in body


@given(header=LATIN | st.lists(PIECES | LATIN, max_size=5).map("".join))
@examples(150)
def test_a_header_has_one_token_or_none_or_is_refused(header: str) -> None:
    request = HttpRequest()
    request.META["HTTP_AUTHORIZATION"] = header
    try:
        raw = bearer_token(request)
    except (InvalidRequest, TokenNotValid):
        return
    if raw is not None:
        assert raw.isascii()
        assert header[:6].lower() == "bearer"
        assert header[6:].lstrip(" ") == raw


COOKIE_PIECES = st.sampled_from(
    [REFRESH, ACCESS, "=", ";", "; ", ",", '"', " ", "csrftoken", "\\", "$Path", "%00", "\x00"]
)


@given(header=st.lists(COOKIE_PIECES | LATIN, max_size=8).map("".join))
@examples(150)
def test_every_cookie_of_a_name_is_read(header: str) -> None:
    request: Any = HttpRequest()
    request.META["HTTP_COOKIE"] = header
    request.COOKIES = parse_cookie(header)
    values = cookie_values(request, REFRESH)
    tokens = cookie_tokens(request, REFRESH)
    if REFRESH in request.COOKIES:
        assert tokens == values or len(values) == 1
        assert len(tokens) == len(values)
    else:
        # Django gives a name without a value to nobody.
        assert tokens == []
        assert not any(values)


@pytest.mark.parametrize("call", ["refresh", "logout"])
@given(data=st.data())
@examples(60)
def test_any_cookies_without_a_csrf_token_change_nothing(
    call: str, data: st.DataObject, pair: sessions.TokenPair
) -> None:
    genuine = f"{REFRESH}={pair.refresh_token}; {ACCESS}={pair.access_token}"
    pieces = st.lists(COOKIE_PIECES | LATIN | st.just(genuine), max_size=5).map("".join)
    header = on_the_wire(data.draw(damaged([genuine]) | pieces))
    before = rows()
    answer = JSONClient(enforce_csrf_checks=True).post(
        f"/auth/browser/{call}/", headers={"Cookie": header}
    )
    assert answer.status_code in {204, 401, 403}, answer.content
    assert rows() == before
    if answer.status_code == 204:
        # Signed out of nothing: no cookie was read as ours.
        assert call == "logout"


@pytest.mark.usefixtures("same_token")
@given(data=st.data())
@examples(80)
def test_damaged_refresh_cookies_refresh_nothing(data: st.DataObject, user: Any) -> None:
    LoginSession.objects.all().delete()
    pair = sessions.start(user)
    genuine = f"{REFRESH}={pair.refresh_token}"
    both = f"{genuine}; {ACCESS}=x.y.z"
    header = on_the_wire(data.draw(damaged([genuine, both])))
    before = rows()
    # Django's client asks for no CSRF token: the cookies alone decide.
    answer = JSONClient().post("/auth/browser/refresh/", headers={"Cookie": header})
    assert answer.status_code in {200, 401}, answer.content
    names = [one.partition("=") for one in header.split(";")]
    sent = [value.strip() for name, _, value in names if name.strip() == REFRESH]
    if answer.status_code == 200:
        assert pair.refresh_token in sent
        assert rows() != before
    else:
        assert answer.json()["code"] in {"not_authenticated", "refresh_not_valid"}
        assert rows() == before
        assert LoginSession.objects.get(pk=pair.session_id).revoked_at is None


@given(value=text)
@examples(60)
def test_any_access_cookie_is_refused(value: str, client: JSONClient, user: Any) -> None:
    before = rows()
    header = on_the_wire(f"{ACCESS}={value}")
    answer = client.get("/auth/browser/sessions/", headers={"Cookie": header})
    assert answer.status_code == 401, answer.content
    assert rows() == before
