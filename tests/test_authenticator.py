"""The one door, called as the async skins will call it."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.db import OperationalError

from jwt_auth import averify, sessions, verify
from jwt_auth.errors import Rejected, SessionEnded, TokenNotValid, Unavailable
from jwt_auth.models import LoginSession
from jwt_auth.runtime import current
from jwt_auth.users import LazyUser, TokenUser


def anonymous(error: Rejected | Unavailable) -> AnonymousUser:
    """Answer a late refusal."""
    return AnonymousUser()


@async_to_sync
async def aauthenticate(raw: str, load_user: str) -> Any:
    """Authenticate on the async path."""
    return await current().authenticator.aauthenticate(raw, load_user, anonymous)


def authenticate(raw: str, load_user: str) -> Any:
    """Authenticate on the sync path."""
    return current().authenticator.authenticate(raw, load_user, anonymous)


both_paths = pytest.mark.parametrize("door", [authenticate, aauthenticate], ids=["sync", "async"])


@both_paths
@pytest.mark.parametrize(
    ("load_user", "kind"), [("lazy", LazyUser), ("eager", User), ("never", TokenUser)]
)
def test_each_way_to_load_a_user(user: User, door: Any, load_user: str, kind: type) -> None:
    found, claims = door(sessions.start(user).access_token, load_user)
    assert type(found) is kind
    assert str(found.pk) == claims.subject == str(user.pk)


@both_paths
def test_eager_refuses_who_is_inactive(user: User, door: Any) -> None:
    raw = sessions.start(user).access_token
    User.objects.update(is_active=False)
    with pytest.raises(SessionEnded):
        door(raw, "eager")


@both_paths
def test_a_session_without_a_row_has_no_user(user: User, door: Any) -> None:
    raw = sessions.start(user).access_token
    LoginSession.objects.all().delete()
    assert door(raw, "lazy")[1].subject == str(user.pk)
    with pytest.raises(SessionEnded):
        door(raw, "eager")


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

    monkeypatch.setattr("django.db.models.query.QuerySet.exists", fail)
    with pytest.raises(Unavailable):
        verify(raw)
    with pytest.raises(Unavailable):
        async_to_sync(averify)(raw)


@pytest.mark.parametrize("raw", [None, b"x", 7, "x"])
def test_anything_but_a_token_is_refused(db: None, raw: Any) -> None:
    with pytest.raises(TokenNotValid):
        verify(raw)
