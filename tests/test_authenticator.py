"""The one door, called as the async skins will call it."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import RequestFactory

from jwt_auth import averify, sessions, verify
from jwt_auth.errors import TokenNotValid, Unavailable
from jwt_auth.models import LoginSession
from jwt_auth.runtime import current
from jwt_auth.users import LazyUser, LoadedUser, TokenUser


def bearer(raw: str) -> Any:
    """Return a request with the access token *raw*."""
    return RequestFactory().get("/", headers={"Authorization": f"Bearer {raw}"})


@async_to_sync
async def ajudge(raw: str, load_user: str) -> Any:
    """Judge on the async path."""
    return await current().authenticator.ajudge(bearer(raw), load_user)


def judge(raw: str, load_user: str) -> Any:
    """Judge on the sync path."""
    return current().authenticator.judge(bearer(raw), load_user)


both_paths = pytest.mark.parametrize("door", [judge, ajudge], ids=["sync", "async"])


@both_paths
@pytest.mark.parametrize(
    ("load_user", "kind"), [("lazy", LazyUser), ("eager", LoadedUser), ("never", TokenUser)]
)
def test_each_way_to_load_a_user(user: User, door: Any, load_user: str, kind: type) -> None:
    verdict = door(sessions.start(user).access_token, load_user)
    assert type(verdict.user) is kind
    assert str(verdict.user.pk) == verdict.claims.subject == str(user.pk)
    assert verdict.refusal is None


@both_paths
def test_eager_refuses_who_is_inactive(user: User, door: Any) -> None:
    raw = sessions.start(user).access_token
    User.objects.update(is_active=False)
    verdict = door(raw, "eager")
    assert verdict.refusal.code == "session_ended"
    assert verdict.claims is None
    assert verdict.user.is_anonymous


@both_paths
def test_a_session_without_a_row_has_no_user(user: User, door: Any) -> None:
    raw = sessions.start(user).access_token
    LoginSession.objects.all().delete()
    assert door(raw, "lazy").claims.subject == str(user.pk)
    assert door(raw, "eager").refusal.code == "session_ended"


def test_a_request_without_a_bearer_token_has_no_verdict() -> None:
    authenticator = current().authenticator
    assert authenticator.judge(RequestFactory().get("/"), "lazy") is None
    assert async_to_sync(authenticator.ajudge)(RequestFactory().get("/"), "lazy") is None


def test_a_request_is_judged_once(user: User, django_assert_num_queries: Any) -> None:
    request = bearer(sessions.start(user).access_token)
    with django_assert_num_queries(1):
        first = current().authenticator.judge(request, "lazy")
        assert current().authenticator.judge(request, "lazy") is first
    with django_assert_num_queries(1):
        assert current().authenticator.judge(request, "eager") is first
        assert str(first.user) == "ada"


def test_another_header_is_another_token(user: User) -> None:
    request = bearer(sessions.start(user).access_token)
    assert current().authenticator.judge(request, "lazy").refusal is None
    request.META["HTTP_AUTHORIZATION"] = "Bearer x"
    assert current().authenticator.judge(request, "lazy").refusal.code == "token_not_valid"
    del request.META["HTTP_AUTHORIZATION"]
    assert current().authenticator.judge(request, "lazy") is None


def test_another_cookie_is_another_token(user: User, settings: Any) -> None:
    settings.JWT_AUTH = {"COOKIES": {"ACCESS": "__Host-token"}}
    pairs = [sessions.start(user) for _ in range(2)]
    request = RequestFactory().get("/", headers={"Cookie": f"__Host-token={pairs[0].access_token}"})

    def session_id() -> Any:
        return current().authenticator.judge(request, "lazy").claims.session_id

    assert session_id() == pairs[0].session_id
    request.META["HTTP_COOKIE"] = f"__Host-token={pairs[1].access_token}"
    request.COOKIES = {"__Host-token": pairs[1].access_token}
    assert session_id() == pairs[1].session_id
    # The header wins, and then no cookie matters.
    request.META["HTTP_AUTHORIZATION"] = f"Bearer {pairs[0].access_token}"
    verdict = current().authenticator.judge(request, "lazy")
    del request.META["HTTP_COOKIE"]
    assert current().authenticator.judge(request, "lazy") is verdict
    assert session_id() == pairs[0].session_id


def test_revocation_can_be_switched_off(
    user: User, settings: Any, django_assert_num_queries: Any
) -> None:
    settings.JWT_AUTH = {"REVOCATION_INTERVAL": None}
    pair = sessions.start(user)
    sessions.end_all(user)
    with django_assert_num_queries(0):
        assert verify(pair.access_token)


def test_a_database_that_does_not_answer_is_no_verdict(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = sessions.start(user).access_token

    def fail(*args: Any) -> None:
        raise OperationalError("gone away")

    monkeypatch.setattr("django.db.models.query.QuerySet._fetch_all", fail)
    with pytest.raises(Unavailable):
        verify(raw)
    with pytest.raises(Unavailable):
        async_to_sync(averify)(raw)


@pytest.mark.parametrize("raw", [None, b"x", 7, "x"])
def test_anything_but_a_token_is_refused(db: None, raw: Any) -> None:
    with pytest.raises(TokenNotValid):
        verify(raw)
