"""Rows 85 to 91, 198, 199: a pair is worth nothing once its user is not who they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.db import transaction

from jwt_auth import sessions, verify
from jwt_auth.errors import InvalidCredentials, SessionEnded
from jwt_auth.models import LoginSession
from tests.attacks.conftest import Target
from tests.conftest import PASSWORD, Clock, JSONClient
from tests.test_receivers import (
    change_by_admin,
    change_by_command,
    change_by_form,
    change_password,
    deactivate,
    deactivate_in_admin,
)


@pytest.fixture
def eve(make_user: Any) -> User:
    user: User = make_user("eve")
    return user


@pytest.fixture
def stolen(target: Target, eve: User, client: JSONClient) -> sessions.TokenPair:
    """A pair of eve's, that is good so far. Ada has nothing to do with it."""
    pair = sessions.start(eve)
    for path in ("/whoami/", "/profile/", "/active/", "/eager/", "/auth/sessions/"):
        assert client.call("get", path, token=pair.access_token).status_code == 200
    assert client.refresh(pair.refresh_token).status_code == 200
    return pair


def secrets_of(pair: sessions.TokenPair) -> tuple[str, str]:
    """Return what may stand nowhere."""
    return pair.access_token, pair.refresh_token or ""


# What takes an access token, the row of the user being asked for or not.
CALLS: list[tuple[str, str]] = [
    ("get", "/whoami/"),
    ("get", "/profile/"),
    ("get", "/active/"),
    ("get", "/eager/"),
    ("get", "/auth/sessions/"),
    ("delete", "/auth/sessions/?keep=none"),
    ("delete", "/auth/sessions/?keep=current"),
    ("delete", "/auth/sessions/{own}/"),
    ("delete", "/auth/sessions/{another}/"),
]

FATES: dict[str, Callable[[User], Any]] = {
    "deleted": lambda user: user.delete(),
    "deleted by queryset": lambda user: User.objects.filter(pk=user.pk).delete(),
    "deactivated": deactivate,
    "deactivated in the admin": deactivate_in_admin,
    "password changed": change_password,
    "password changed in the admin": change_by_admin,
    "password changed by the reset form": change_by_form,
    "password changed by the command": change_by_command,
}


@pytest.mark.parametrize("fate", FATES.values(), ids=FATES)
def test_a_stolen_pair_ends_with_the_users_trust(
    target: Target,
    client: JSONClient,
    eve: User,
    stolen: sessions.TokenPair,
    fate: Callable[[User], Any],
) -> None:
    another = LoginSession.objects.exclude(pk=stolen.session_id).get()
    fate(eve)
    for method, path in CALLS:
        where = path.format(own=stolen.session_id, another=another.pk)

        def send(method: str = method, where: str = where) -> Any:
            return client.call(method, where, token=stolen.access_token)

        answer = target.survives(send, secrets=secrets_of(stolen))
        assert (answer.status_code, answer.json()["code"]) == (401, "session_ended"), where
    answer = target.survives(
        lambda: client.refresh(stolen.refresh_token), secrets=secrets_of(stolen)
    )
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")


# What nobody is told of: another program's SQL, or QuerySet.update().
UNSEEN: dict[str, Callable[[User], Any]] = {
    "taken from the row": lambda user: LoginSession.objects.filter(user=user).update(user=None),
    "deactivated in bulk": lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
}
TOUCHING = ["/profile/", "/active/", "/eager/"]


@pytest.mark.parametrize("path", TOUCHING)
@pytest.mark.parametrize("fate", UNSEEN.values(), ids=UNSEEN)
def test_what_nobody_was_told_of_shows_when_the_row_is_touched(
    target: Target,
    client: JSONClient,
    eve: User,
    stolen: sessions.TokenPair,
    fate: Callable[[User], Any],
    path: str,
) -> None:
    fate(eve)
    answer = target.survives(
        lambda: client.call("get", path, token=stolen.access_token), secrets=secrets_of(stolen)
    )
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'


@pytest.mark.parametrize(
    "change",
    [{"is_active": False}, {"password": make_password("another", hasher="md5")}],
    ids=["deactivated", "another password"],
)
def test_what_nobody_was_told_of_shows_at_the_next_refresh(
    target: Target,
    client: JSONClient,
    eve: User,
    stolen: sessions.TokenPair,
    change: dict[str, Any],
) -> None:
    User.objects.filter(pk=eve.pk).update(**change)
    for _ in range(2):
        answer = target.survives(
            lambda: client.refresh(stolen.refresh_token),
            secrets=secrets_of(stolen),
            but=[stolen.session_id],
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
    # The finding stands: who is let in again later has to sign in again.
    User.objects.filter(pk=eve.pk).update(is_active=True, password=eve.password)
    answer = target.survives(lambda: client.refresh(stolen.refresh_token))
    assert answer.json()["code"] == "session_ended"
    assert client.whoami(stolen.access_token).json()["code"] == "session_ended"


@pytest.mark.parametrize("field", ["pk", "username"])
def test_whoever_gets_the_name_again_gets_nothing_with_it(
    target: Target, client: JSONClient, eve: User, settings: Any, clock: Clock, field: str
) -> None:
    settings.JWT_AUTH = {"SIGNING_KEY": target.forge.setting, "USER_ID_FIELD": field}
    target._genuine = sessions.start(User.objects.get(username="ada")).access_token
    stolen, key = sessions.start(eve), eve.pk
    assert client.call("get", "/profile/", token=stolen.access_token).status_code == 200
    eve.delete()
    clock.move(seconds=10)
    again = User.objects.create_user("eve", password=PASSWORD, pk=key)
    own = sessions.start(again)
    for path in ("/whoami/", "/profile/", "/auth/sessions/"):
        answer = target.survives(
            lambda: client.call("get", path, token=stolen.access_token)  # noqa: B023
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
    answer = target.survives(lambda: client.refresh(stolen.refresh_token))
    assert answer.json()["code"] == "session_ended"
    listed = client.call("get", "/auth/sessions/", token=own.access_token).json()
    assert [one["id"] for one in listed] == [str(own.session_id)]


@pytest.mark.parametrize("path", ["/whoami/", "/profile/", "/active/", "/eager/"])
def test_a_stolen_token_is_nobody_beside_somebodys_cookie(
    target: Target, client: JSONClient, eve: User, stolen: sessions.TokenPair, path: str
) -> None:
    deactivate(eve)
    client.force_login(User.objects.create_superuser("root", password=PASSWORD))
    for raw in (stolen.access_token, "x.y.z", stolen.refresh_token):
        answer = target.survives(
            lambda: client.call("get", path, token=raw)  # noqa: B023
        )
        assert answer.status_code == 401


# What happens to a user in another process.
CHANGES: dict[str, Callable[[], Any]] = {
    "deactivated": lambda: deactivate(User.objects.get(username="eve")),
    "password changed": lambda: change_password(User.objects.get(username="eve")),
    "deleted": lambda: User.objects.get(username="eve").delete(),
    "deactivated in bulk": lambda: User.objects.filter(username="eve").update(is_active=False),
    "password changed in bulk": lambda: User.objects.filter(username="eve").update(
        password=make_password("another")
    ),
}


@contextmanager
def between_password_and_session(change: Callable[[], object]) -> Iterator[None]:
    """Have *change* happen once, when a login has checked the password."""
    changes = [change]

    def receive(**kwargs: Any) -> None:
        if changes:
            changes.pop()()

    user_logged_in.connect(receive)
    try:
        yield
    finally:
        user_logged_in.disconnect(receive)


def assert_no_session_lives() -> None:
    """Demand that every session has ended, and that none without a user has traces."""
    for session in LoginSession.objects.all():
        assert session.revoked_at is not None
        if session.user is None:
            assert (session.device, session.ip, session.user_agent) == ("", None, "")


# MariaDB checks the foreign key at once, which would break the transaction of a TestCase.
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_login_that_a_change_overtakes_is_a_wrong_password(
    eve: User, client: JSONClient, caplog: Any, change: Callable[[], object]
) -> None:
    wrong = client.login("eve", "wrong")
    with between_password_and_session(change):
        answer = client.login("eve", device="phone")
    assert (answer.status_code, answer.content) == (401, wrong.content)
    assert_no_session_lives()
    assert "database" not in caplog.text


# MariaDB checks the foreign key at once, which would break the transaction of a TestCase.
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_stale_user_object_opens_no_session(eve: User, change: Callable[[], object]) -> None:
    stale = User.objects.get(username="eve")
    change()
    with pytest.raises(InvalidCredentials):
        sessions.start(stale, device="phone")
    assert_no_session_lives()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_stale_user_object_opens_no_session_on_its_own_connection(
    make_user: Any, caplog: Any, change: Callable[[], object]
) -> None:
    stale = make_user("eve")
    change()
    with pytest.raises(InvalidCredentials):
        sessions.start(stale, device="phone")
    assert_no_session_lives()
    assert caplog.text == ""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "change", [CHANGES["deactivated in bulk"], CHANGES["password changed in bulk"]]
)
def test_login_in_a_transaction_is_checked_after_the_commit(
    make_user: Any, change: Callable[[], object]
) -> None:
    user = make_user("eve")
    with transaction.atomic():
        pair = sessions.start(user)
        # By whatever connection: the login has looked already.
        change()
    assert_no_session_lives()
    with pytest.raises(SessionEnded):
        verify(pair.access_token)


def test_login_beside_one_that_renews_the_hash_is_let_in(eve: User, client: JSONClient) -> None:
    def renew() -> None:
        User.objects.filter(pk=eve.pk).update(password=make_password(PASSWORD))

    with between_password_and_session(renew):
        pair = client.login("eve").json()
    assert client.whoami(pair["access_token"]).status_code == 200
    assert client.refresh(pair["refresh_token"]).status_code == 200


class DeletingBackend(ModelBackend):
    """Finds the user in the moment before another process deletes the row."""

    def authenticate(self, request: Any, **credentials: Any) -> Any:
        user = super().authenticate(request, **credentials)
        if user is not None:
            User.objects.filter(pk=user.pk).delete()
        return user


def test_user_who_is_deleted_during_a_login_is_unknown(
    eve: User, client: JSONClient, settings: Any, caplog: Any
) -> None:
    wrong = client.login("eve", "wrong")
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.DeletingBackend"]
    answer = client.login("eve")
    assert (answer.status_code, answer.content) == (401, wrong.content)
    assert "database" not in caplog.text


def test_user_who_is_deleted_while_the_hash_is_renewed_is_unknown(
    eve: User, client: JSONClient, settings: Any, caplog: Any
) -> None:
    wrong = client.login("eve", "wrong")
    settings.PASSWORD_HASHERS = [f"{__name__}.DeletingHasher", *settings.PASSWORD_HASHERS]
    answer = client.login("eve")
    assert (answer.status_code, answer.content) == (401, wrong.content)
    assert "database" not in caplog.text


class DeletingHasher(PBKDF2PasswordHasher):
    """Makes a new hash while another process deletes the row."""

    iterations = 1

    def encode(self, *args: Any, **kwargs: Any) -> str:
        User.objects.all().delete()
        return super().encode(*args, **kwargs)
