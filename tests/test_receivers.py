"""The user's life: what ends the sessions and what does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core import serializers

from jwt_auth import sessions
from jwt_auth.models import LoginSession
from tests.conftest import PASSWORD, JSONClient


class Proxy(User):
    """The same user under another class."""

    class Meta:
        app_label = "auth"
        proxy = True


def deactivate(user: User) -> None:
    """Deactivate by an ordinary save."""
    user.is_active = False
    user.save()


def change_password(user: User) -> None:
    """Change the password as views and commands do."""
    user.set_password("another")
    user.save()


def change_password_alone(user: User) -> None:
    """Change the password and name the field."""
    user.set_password("another")
    user.save(update_fields=["password"])


def proxied(act: Callable[[User], None]) -> Callable[[User], None]:
    """Do *act* through a proxy model."""
    return lambda user: act(Proxy.objects.get(pk=user.pk))


ENDING: dict[str, tuple[Callable[[User], Any], str]] = {
    "deactivated": (deactivate, sessions.USER_INACTIVE),
    "deactivated by proxy": (proxied(deactivate), sessions.USER_INACTIVE),
    "password changed": (change_password, sessions.PASSWORD_CHANGED),
    "password changed alone": (change_password_alone, sessions.PASSWORD_CHANGED),
    "password changed by proxy": (proxied(change_password), sessions.PASSWORD_CHANGED),
    "deleted": (lambda user: user.delete(), sessions.USER_DELETED),
    "deleted by queryset": (lambda user: User.objects.all().delete(), sessions.USER_DELETED),
}


@pytest.mark.parametrize(("act", "reason"), ENDING.values(), ids=ENDING)
def test_it_ends_every_session_of_this_user(
    user: User, make_user: Any, act: Callable[[User], Any], reason: str, client: JSONClient
) -> None:
    pairs = [client.login(device="phone").json(), client.login().json()]
    act(user)

    assert set(LoginSession.objects.values_list("revoked_reason", flat=True)) == {reason}
    for pair in pairs:
        assert client.whoami(pair["access_token"]).json()["code"] == "session_ended"
        assert client.refresh(pair["refresh_token"]).json()["code"] == "session_ended"


def test_it_ends_no_session_of_another_user(user: User, make_user: Any, client: JSONClient) -> None:
    other = sessions.start(make_user("grace"))
    deactivate(user)
    user.delete()
    assert client.whoami(other.access_token).status_code == 200


def test_a_deleted_user_leaves_no_trace_but_the_row(user: User, client: JSONClient) -> None:
    client.login(device="phone")
    user.delete()
    row = LoginSession.objects.get()
    assert (row.user, row.device, row.ip, row.user_agent) == (None, "", None, "")


def rename(user: User) -> None:
    """Save everything, and change nothing that matters."""
    user.first_name = "Ada"
    user.save()


def check_password(user: User) -> None:
    """Re-hash nothing."""
    assert user.check_password(PASSWORD)


def load_fixture(user: User) -> None:
    """Write the row as `loaddata` does."""
    for one in serializers.deserialize("json", serializers.serialize("json", [user])):
        one.save()


HARMLESS: dict[str, Callable[[User], Any]] = {
    "saved": rename,
    "password checked": check_password,
    "fixture": load_fixture,
    "a group": lambda user: user.groups.add(Group.objects.create(name="editors")),
}


@pytest.mark.parametrize("act", HARMLESS.values(), ids=HARMLESS)
def test_it_ends_nothing(user: User, client: JSONClient, act: Callable[[User], Any]) -> None:
    pair = client.login().json()
    act(user)
    assert client.refresh(pair["refresh_token"]).status_code == 200


def test_a_save_that_names_other_fields_costs_no_query(
    user: User, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        user.save(update_fields=["first_name"])


def test_deleting_something_else_stays_one_statement(
    db: None, django_assert_num_queries: Any
) -> None:
    LoginSession.objects.none()
    with django_assert_num_queries(1):
        LoginSession.objects.all().delete()


@pytest.mark.parametrize(
    "off",
    [{"REFRESH_TOKEN_LIFETIME": None}, {"LOAD_USER": "never"}],
    ids=lambda off: next(iter(off)),
)
def test_without_sessions_of_our_own_nothing_is_asked(
    user: User, settings: Any, django_assert_num_queries: Any, off: dict[str, Any]
) -> None:
    settings.JWT_AUTH = off
    with django_assert_num_queries(1):
        user.save()
    before = LoginSession.objects.count()
    user.delete()
    assert LoginSession.objects.count() == before
