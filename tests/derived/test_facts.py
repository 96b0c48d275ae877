"""What ends the sessions of a user is a fact, under whatever name and in whatever table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import ScryptPasswordHasher
from django.utils import timezone

from jwt_auth import sessions
from jwt_auth.models import LoginSession
from tests.conftest import PASSWORD, JSONClient
from tests.derived_users.models import Account, Member, Person, StaffAccount, User

IS_DERIVED = get_user_model() is User


def save(model: type[Any], **values: Any) -> Callable[[bool], None]:
    """Return a function that saves the row of *model* with *values*, by name or as a whole."""

    def act(by_name: bool) -> None:
        row = model.objects.get(handle="ada")
        password = values.get("password")
        if password is not None:
            row.set_password(password)
        for name in values.keys() - {"password"}:
            setattr(row, name, values[name])
        row.save(update_fields=list(values) if by_name else None)

    return act


DERIVED: dict[str, tuple[Any, str]] = {
    "status": (save(User, status="gone"), sessions.USER_INACTIVE),
    "status of the parent": (save(Person, status="gone"), sessions.USER_INACTIVE),
    "time": (save(User, left_at=timezone.now()), sessions.USER_INACTIVE),
    "password": (save(User, password="another"), sessions.PASSWORD_CHANGED),
    "password of the parent": (save(Person, password="another"), sessions.PASSWORD_CHANGED),
}
COLUMNS: dict[str, tuple[Any, str]] = {
    "column": (save(Member, is_active=False), sessions.USER_INACTIVE),
    "column of the parent": (save(Account, is_active=False), sessions.USER_INACTIVE),
    "column of the parent's proxy": (save(StaffAccount, is_active=False), sessions.USER_INACTIVE),
    "password": (save(Member, password="another"), sessions.PASSWORD_CHANGED),
    "password of the parent": (save(Account, password="another"), sessions.PASSWORD_CHANGED),
    "password of the parent's proxy": (
        save(StaffAccount, password="another"),
        sessions.PASSWORD_CHANGED,
    ),
}
CHANGES = DERIVED if IS_DERIVED else COLUMNS
PARENT: Any = Person if IS_DERIVED else Account


@pytest.mark.parametrize("by_name", [False, True], ids=["whole", "by name"])
@pytest.mark.parametrize(("act", "reason"), CHANGES.values(), ids=CHANGES)
def test_change_of_a_fact_ends_the_sessions(
    user: Any, make_user: Any, client: JSONClient, act: Any, reason: str, by_name: bool
) -> None:
    pair, other = client.login().json(), sessions.start(make_user("grace"))
    act(by_name)
    assert client.whoami(pair["access_token"]).json()["code"] == "session_ended"
    assert LoginSession.objects.get(user=user).revoked_reason == reason
    assert client.whoami(other.access_token).status_code == 200


@pytest.mark.parametrize("model", [get_user_model(), PARENT], ids=["user", "parent"])
def test_deletion_by_any_model_ends_the_sessions(user: Any, client: JSONClient, model: Any) -> None:
    pair = client.login(device="phone").json()
    model.objects.get(handle="ada").delete()
    session = LoginSession.objects.get()
    assert (session.user, session.device) == (None, "")
    assert session.revoked_reason == sessions.USER_DELETED
    assert client.whoami(pair["access_token"]).json()["code"] == "session_ended"


@pytest.mark.parametrize("model", [get_user_model(), PARENT], ids=["user", "parent"])
def test_harmless_saves_end_nothing(user: Any, client: JSONClient, model: Any) -> None:
    pair = client.login().json()
    row = model.objects.get(handle="ada")
    row.last_login = timezone.now() - timedelta(days=1)
    row.save(update_fields=["last_login"])
    row.save()
    assert client.refresh(pair["refresh_token"]).status_code == 200


class FewRounds(ScryptPasswordHasher):
    """Another hasher than that of the settings, and as fast."""

    work_factor = 2


@pytest.mark.parametrize("model", [get_user_model(), PARENT], ids=["user", "parent"])
def test_new_hash_of_the_same_password_ends_nothing(
    user: Any, client: JSONClient, settings: Any, model: Any
) -> None:
    pair = client.login().json()
    settings.PASSWORD_HASHERS = [f"{__name__}.FewRounds", *settings.PASSWORD_HASHERS]
    before = user.password
    assert model.objects.get(handle="ada").check_password(PASSWORD)
    assert PARENT.objects.get(handle="ada").password != before
    assert client.refresh(pair["refresh_token"]).status_code == 200


def test_save_by_name_of_an_active_user_costs_no_query(
    user: Any, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        user.save(update_fields=["last_login"])
