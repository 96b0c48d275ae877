"""Other aliases: a replica that knows nothing, a copy of the users, and the same database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from io import StringIO
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections, transaction

from jwt_auth import averify, verify
from jwt_auth.errors import SessionEnded
from jwt_auth.models import LoginSession
from tests.conftest import PASSWORD, Clock, JSONClient

ALIASES = ["default", "direct", "replica"]
pytestmark = pytest.mark.django_db(transaction=True, databases=ALIASES)


class ReadsFromReplica:
    """Sends every read to a database that never hears of anything."""

    def db_for_read(self, model: type, **hints: Any) -> str:
        """Read from the replica."""
        return "replica"

    def db_for_write(self, model: type, **hints: Any) -> str:
        """Write to the primary."""
        return "default"

    def allow_relation(self, *args: Any, **hints: Any) -> bool:
        """They are one database to the project."""
        return True


@pytest.fixture
def lagging_replica(settings: Any, make_user: Any) -> User:
    """Return a user whom the replica knows by name and nothing else."""
    user: User = make_user()
    User.objects.using("replica").create(pk=user.pk, username="ada", password=user.password)
    settings.DATABASE_ROUTERS = [f"{__name__}.ReadsFromReplica"]
    return user


@pytest.fixture
def atomic_requests() -> Any:
    """Wrap every view of the project in a transaction on both databases."""
    for alias in ALIASES:
        connections[alias].settings_dict["ATOMIC_REQUESTS"] = True
    yield
    for alias in ALIASES:
        connections[alias].settings_dict["ATOMIC_REQUESTS"] = False


def test_everything_is_read_where_it_is_written(
    lagging_replica: User,
    client: JSONClient,
    clock: Clock,
    outcome: Callable[..., None],
) -> None:
    first = client.login(device="phone").json()
    assert LoginSession.objects.using("replica").count() == 0
    assert client.whoami(first["access_token"]).status_code == 200
    assert client.call("get", "/profile/", token=first["access_token"]).status_code == 200
    listed = client.call("get", "/auth/sessions/", token=first["access_token"]).json()
    assert [one["device"] for one in listed] == ["phone"]
    second = client.refresh(first["refresh_token"]).json()
    assert client.refresh(first["refresh_token"]).json()["refresh_token"] == second["refresh_token"]
    assert client.logout_with(second["refresh_token"]).status_code == 204
    assert client.whoami(second["access_token"]).json()["code"] == "session_ended"
    with pytest.raises(SessionEnded):
        async_to_sync(averify)(second["access_token"])
    outcome("a router whose replica knows nothing", 1, "login to logout as with one database")


def test_a_change_of_password_counts_on_the_primary(
    lagging_replica: User, client: JSONClient
) -> None:
    pair = client.login().json()
    lagging_replica.set_password("another")
    lagging_replica.save()
    assert client.refresh(pair["refresh_token"]).json()["code"] == "session_ended"


@pytest.mark.usefixtures("atomic_requests")
def test_a_refusal_outlasts_the_request_that_was_refused(
    user: User, client: JSONClient, clock: Clock, outcome: Callable[..., None]
) -> None:
    first = client.login().json()
    second = client.refresh(first["refresh_token"]).json()
    clock.move(seconds=121)
    assert client.refresh(first["refresh_token"]).json()["code"] == "refresh_reused"
    assert LoginSession.objects.get().revoked_reason == "refresh_reused"
    assert client.refresh(second["refresh_token"]).json()["code"] == "session_ended"
    with pytest.raises(SessionEnded):
        verify(second["access_token"])
    third = client.login().json()
    user.is_active = False
    user.save()
    assert client.refresh(third["refresh_token"]).status_code == 401
    outcome("ATOMIC_REQUESTS on two databases", 1, "a refused refresh keeps what it ended")


def change_password_by(alias: str, user: User) -> None:
    """Change the password as an administrator does, who names the database."""
    with mock.patch("getpass.getpass", return_value="a password that is hard to guess"):
        call_command("changepassword", user.username, database=alias, stdout=StringIO())


def deactivate_by(alias: str, user: User) -> None:
    """Deactivate by another alias."""
    user = User.objects.using(alias).get(pk=user.pk)
    user.is_active = False
    user.save()


def delete_by(alias: str, user: User) -> None:
    """Delete by another alias."""
    User.objects.using(alias).get(pk=user.pk).delete()


CHANGES = pytest.mark.parametrize("change", [deactivate_by, change_password_by, delete_by])


@CHANGES
@pytest.mark.parametrize("is_atomic", [False, True], ids=["autocommit", "transaction"])
def test_change_by_another_alias_ends_the_sessions(
    user: User, client: JSONClient, change: Callable[[str, User], None], is_atomic: bool
) -> None:
    pair = client.login(device="phone").json()
    with transaction.atomic(using="direct") if is_atomic else nullcontext():
        change("direct", user)
    assert client.whoami(pair["access_token"]).json()["code"] == "session_ended"
    session = LoginSession.objects.get()
    assert session.revoked_at is not None
    assert session.device == ("" if session.user is None else "phone")


@CHANGES
def test_copy_of_a_user_in_another_database_is_not_the_user(
    user: User, client: JSONClient, change: Callable[[str, User], None]
) -> None:
    User.objects.using("replica").create(pk=user.pk, username=user.username, password="x")
    pair = client.login().json()
    change("replica", user)
    assert client.whoami(pair["access_token"]).status_code == 200
    assert client.refresh(pair["refresh_token"]).status_code == 200


def test_new_hash_by_another_alias_ends_nothing(
    user: User, client: JSONClient, settings: Any
) -> None:
    pair = client.login().json()
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.ScryptPasswordHasher",
        *settings.PASSWORD_HASHERS,
    ]
    assert User.objects.using("direct").get().check_password(PASSWORD)
    assert User.objects.get().password.startswith("scrypt")
    assert client.refresh(pair["refresh_token"]).status_code == 200
