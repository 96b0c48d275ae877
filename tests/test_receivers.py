"""The user's life: what ends the sessions and what does not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password
from django.contrib.auth.models import Group, User
from django.core import serializers
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Value
from django.db.models.signals import post_save, pre_save
from django.test import TestCase
from django.utils import timezone

from jwt_auth import sessions
from jwt_auth.models import LoginSession, LoginSessionQuerySet
from jwt_auth.receivers import user_deleted
from jwt_auth.revocation import ended_sessions
from jwt_auth.runtime import current
from jwt_auth.signals import session_ended
from tests.child_users.models import Employee, Partner
from tests.conftest import PASSWORD, Clock, JSONClient


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


def change_by_hash(user: User) -> None:
    """Store a hash that was made elsewhere."""
    user.password = make_password("another")
    user.save()


def change_by_form(user: User) -> None:
    """Change the password as the reset page does."""
    form = SetPasswordForm(user, {"new_password1": LONG, "new_password2": LONG})
    assert form.is_valid(), form.errors
    form.save()


def change_by_admin(user: User) -> None:
    """Change the password as an administrator does."""
    client = JSONClient()
    client.force_login(User.objects.create_superuser("root", password=PASSWORD))
    body = {"password1": LONG, "password2": LONG, "usable_password": "true"}
    answer = client.post(f"/admin/auth/user/{user.pk}/password/", body)
    assert answer.status_code == 302, answer.content


def change_by_command(user: User) -> None:
    """Change the password as somebody at the terminal does."""
    with mock.patch("getpass.getpass", return_value=LONG):
        call_command("changepassword", user.username, stdout=StringIO())


def deactivate_in_admin(user: User) -> None:
    """Deactivate as an administrator does."""
    client = JSONClient()
    client.force_login(User.objects.create_superuser("root", password=PASSWORD))
    body = {"username": user.username, "date_joined_0": "2026-01-01", "date_joined_1": "12:00:00"}
    answer = client.post(f"/admin/auth/user/{user.pk}/change/", body)
    assert answer.status_code == 302, answer.content


def as_employee(act: Callable[[Any], Any]) -> Callable[[User], Any]:
    """Do *act* through a child model, in a table of its own."""

    def acting(user: User) -> Any:
        employee = Employee(user_ptr=user, badge="7")
        employee.__dict__.update(
            {name: value for name, value in user.__dict__.items() if name != "_state"}
        )
        employee.save_base(raw=True)
        return act(Employee.objects.get(pk=user.pk))

    return acting


def as_partner(act: Callable[[Any], Any]) -> Callable[[User], Any]:
    """Do *act* through a child model that has a key of its own."""

    def acting(user: User) -> Any:
        partner = Partner(user=user, code=f"p{user.pk}")
        partner.__dict__.update(
            {name: value for name, value in user.__dict__.items() if name != "_state"}
        )
        partner.save_base(raw=True)
        return act(Partner.objects.get(code=partner.code))

    return acting


LONG = "a password that nobody guesses"

ENDING: dict[str, tuple[Callable[[User], Any], str]] = {
    "deactivated": (deactivate, sessions.USER_INACTIVE),
    "deactivated by proxy": (proxied(deactivate), sessions.USER_INACTIVE),
    "password changed": (change_password, sessions.PASSWORD_CHANGED),
    "password changed alone": (change_password_alone, sessions.PASSWORD_CHANGED),
    "password changed by proxy": (proxied(change_password), sessions.PASSWORD_CHANGED),
    "password changed by its hash": (change_by_hash, sessions.PASSWORD_CHANGED),
    "password changed by the reset form": (change_by_form, sessions.PASSWORD_CHANGED),
    "password changed in the admin": (change_by_admin, sessions.PASSWORD_CHANGED),
    "password changed by the command": (change_by_command, sessions.PASSWORD_CHANGED),
    "deactivated in the admin": (deactivate_in_admin, sessions.USER_INACTIVE),
    "deactivated as a child": (as_employee(deactivate), sessions.USER_INACTIVE),
    "password changed as a child": (as_employee(change_password), sessions.PASSWORD_CHANGED),
    "deleted as a child": (as_employee(lambda user: user.delete()), sessions.USER_DELETED),
    "deactivated under another key": (as_partner(deactivate), sessions.USER_INACTIVE),
    "password changed under another key": (
        as_partner(change_password),
        sessions.PASSWORD_CHANGED,
    ),
    "deleted under another key": (
        as_partner(lambda user: user.delete()),
        sessions.USER_DELETED,
    ),
    "deleted as children": (
        as_employee(lambda user: Employee.objects.all().delete()),
        sessions.USER_DELETED,
    ),
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


def test_without_sessions_of_our_own_nothing_is_asked(
    user: User, settings: Any, django_assert_num_queries: Any
) -> None:
    settings.JWT_AUTH = {"REFRESH_TOKEN_LIFETIME": None}
    with django_assert_num_queries(1):
        user.save()
    before = LoginSession.objects.count()
    user.delete()
    assert LoginSession.objects.count() == before


PBKDF2 = f"{__name__}.FewIterations"


class FewIterations(PBKDF2PasswordHasher):
    """Another hasher than that of the settings, and as fast."""

    iterations = 10


@pytest.fixture
def better_hasher(settings: Any) -> None:
    """Have the next login store the password under another hash."""
    settings.PASSWORD_HASHERS = [PBKDF2, *settings.PASSWORD_HASHERS]


def codes(client: JSONClient, *pairs: dict[str, str]) -> list[Any]:
    """Refresh with each pair; return the codes of the refusals."""
    return [client.refresh(pair["refresh_token"]).json().get("code") for pair in pairs]


def test_a_new_hash_revives_no_session_of_an_older_password(
    user: User, client: JSONClient, settings: Any
) -> None:
    old = client.login().json()
    User.objects.update(password=make_password("new", hasher="md5"))
    settings.PASSWORD_HASHERS = [PBKDF2, *settings.PASSWORD_HASHERS]
    new = client.login(password="new").json()
    assert codes(client, old, new) == ["session_ended", None]


def test_a_refresh_while_the_hash_is_written_finds_the_same_password(
    user: User, client: JSONClient, better_hasher: None
) -> None:
    pairs = [client.login().json() for _ in range(3)]
    seen = []

    def between(sender: Any, instance: Any, **kwargs: Any) -> None:
        if isinstance(instance, User) and len(seen) < 2:
            seen.extend(codes(client, pairs[len(seen)]))

    User.objects.update(password=make_password(PASSWORD, hasher="md5"))
    LoginSession.objects.update(password_mark=current().password_marks.current(User.objects.get()))
    # Behind ours in both cases: the marks are written, the hash is not or is just now.
    for signal in (pre_save, post_save):
        signal.connect(between)
    try:
        assert client.login().status_code == 200
    finally:
        for signal in (pre_save, post_save):
            signal.disconnect(between)
    assert seen == [None, None]
    assert codes(client, *pairs) == [None, None, None]


def test_saving_a_user_who_was_read_before_the_new_hash_ends_nothing(
    user: User, client: JSONClient, settings: Any
) -> None:
    pair = client.login().json()
    settings.PASSWORD_HASHERS = [PBKDF2, *settings.PASSWORD_HASHERS]
    client.login()
    user.first_name = "Ada"
    user.save()
    assert codes(client, pair) == [None]


def test_a_second_new_hash_leaves_two_marks(user: User, client: JSONClient) -> None:
    marks = current().password_marks
    pair = client.login().json()
    for iteration in range(2):
        user.password = f"md5${iteration}$x"
        user._password = None
        user.save(update_fields=["password"])
    assert len(LoginSession.objects.get().password_mark) == 64
    assert marks.match(LoginSession.objects.get().password_mark, user)
    assert codes(client, pair) == [None]


def test_a_password_made_unusable_ends_the_sessions(user: User, client: JSONClient) -> None:
    pair = client.login().json()
    user.set_password(PASSWORD)
    user.save()
    user.set_unusable_password()
    user.save(update_fields=["password"])
    assert codes(client, pair) == ["session_ended"]


def test_a_stale_read_ends_nothing(user: User, client: JSONClient) -> None:
    pair = client.login().json()
    User.objects.update(password=make_password("another", hasher="md5"))
    stale = LoginSession.objects.select_related("user").get()
    LoginSession.objects.update(password_mark="x")
    assert not LoginSession.objects.revoke(stale, sessions.PASSWORD_CHANGED, timezone.now())
    assert pair


def test_a_user_may_have_more_sessions_than_a_statement_takes(
    user: User, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(sessions, "BATCH", 2)
    for _ in range(5):
        sessions.start(user)
    told: list[Any] = []
    session_ended.connect(hear := lambda session, **kwargs: told.append(session.pk))
    with TestCase.captureOnCommitCallbacks(execute=True):
        assert sessions.end_all(user) == 5
    session_ended.disconnect(hear)
    assert sorted(told) == sorted(LoginSession.objects.values_list("pk", flat=True))
    assert LoginSession.objects.filter(revoked_at__isnull=True).count() == 0


def test_who_ended_a_session_tells_of_it(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = sessions.start(user), sessions.start(user)
    told: list[Any] = []
    original = LoginSessionQuerySet.end

    def end(self: Any, reason: str, now: Any) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(LoginSessionQuerySet, "end", original)
            # Another process is faster by one session.
            LoginSession.objects.filter(pk=first.session_id).end("other", now - timedelta(1))
            return original(self, reason, now)

    monkeypatch.setattr(LoginSessionQuerySet, "end", end)
    session_ended.connect(hear := lambda session, **kwargs: told.append(session.pk))
    with TestCase.captureOnCommitCallbacks(execute=True):
        assert sessions.end_all(user) == 1
    session_ended.disconnect(hear)
    assert told == [second.session_id]


def test_a_row_made_again_under_the_same_key_inherits_nothing(
    user: User, client: JSONClient
) -> None:
    pair, key = client.login().json(), user.pk
    user.delete()
    User.objects.create_user("ada", password=PASSWORD, pk=key)
    assert client.whoami(pair["access_token"]).json()["code"] == "session_ended"
    assert client.refresh(pair["refresh_token"]).json()["code"] == "session_ended"
    new = client.login().json()
    assert len(client.call("get", "/auth/sessions/", token=new["access_token"]).json()) == 1


def test_a_change_in_bulk_is_found_at_the_next_refresh(user: User, client: JSONClient) -> None:
    for change in ({"is_active": False}, {"password": make_password("another")}):
        User.objects.update(is_active=True, password=make_password(PASSWORD))
        pair = client.login().json()
        User.objects.update(**change)
        assert client.refresh(pair["refresh_token"]).json()["code"] == "session_ended"
        assert client.whoami(pair["access_token"]).json()["code"] == "session_ended"


def test_a_new_hash_is_forgotten_before_the_next_save(
    user: User, client: JSONClient, better_hasher: None
) -> None:
    pair = client.login().json()
    stale = User.objects.get()
    assert stale.check_password(PASSWORD)
    stale.password = make_password("another")
    stale.save(update_fields=["password"])
    assert codes(client, pair) == ["session_ended"]


def test_a_child_row_can_go_and_leave_the_user(user: User, client: JSONClient) -> None:
    pair = client.login().json()
    as_employee(lambda employee: employee.delete(keep_parents=True))(user)
    assert codes(client, pair) == [None]


@pytest.fixture
def refused_later(client: JSONClient, settings: Any) -> Callable[..., None]:
    """Return a function that demands that no longer limit revives the sessions of *pairs*."""

    def check(*pairs: sessions.TokenPair) -> None:
        settings.JWT_AUTH = {"REFRESH_TOKEN_LIFETIME": timedelta(days=60)}
        for pair in pairs:
            assert client.refresh(pair.refresh_token).json()["code"] == "session_ended"

    return check


def listed() -> set[Any]:
    """Return the ids of the sessions that the list of ended sessions names."""
    return ended_sessions("default", timezone.now() - current().revocation_window)


@pytest.mark.parametrize(
    "end",
    [
        lambda user, pair: sessions.end_all(user),
        lambda user, pair: sessions.end(pair.session_id),
        lambda user, pair: sessions.end_many(LoginSession.objects.all(), "because"),
        lambda user, pair: sessions.end_everybody(),
        lambda user, pair: call_command("jwt_auth_revoke", all=True, stdout=StringIO()),
    ],
    ids=["end_all", "end", "end_many", "end_everybody", "command"],
)
def test_end_of_a_session_that_ran_out_is_written(
    user: User, clock: Clock, refused_later: Callable[..., None], end: Callable[..., Any]
) -> None:
    lost = sessions.start(user)
    clock.move(days=15)
    told: list[Any] = []
    session_ended.connect(hear := lambda session, **kwargs: told.append(session.pk))
    with TestCase.captureOnCommitCallbacks(execute=True):
        assert not end(user, lost)
    session_ended.disconnect(hear)
    row = LoginSession.objects.get()
    # Dated by its last use: no list names it, and no request has to ask for it.
    assert row.revoked_at == row.rotated_at
    assert (listed(), told) == (set(), [])
    refused_later(lost)


def test_session_that_ran_out_does_not_return_with_its_user(
    user: User, clock: Clock, refused_later: Callable[..., None]
) -> None:
    lost = sessions.start(user)
    clock.move(days=15)
    living = sessions.start(user)
    deactivate(user)
    user.is_active = True
    user.save()
    assert listed() == {living.session_id}
    refused_later(lost, living)


def test_deletion_blanks_traces_of_sessions_that_ran_out(user: User, clock: Clock) -> None:
    sessions.start(user, device="phone")
    clock.move(days=15)
    user.delete()
    row = LoginSession.objects.get()
    assert (row.device, row.revoked_reason) == ("", sessions.USER_DELETED)


def test_deleting_a_user_without_sessions_asks_no_further_query(
    user: User, django_assert_num_queries: Any
) -> None:
    # The lock on the user's row, where a database has locks, and the traces.
    with django_assert_num_queries(1 + connection.features.has_select_for_update):
        user_deleted(instance=user, using="default")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (deactivate, sessions.USER_INACTIVE),
        (change_password, sessions.PASSWORD_CHANGED),
        (lambda user: user.delete(), sessions.USER_DELETED),
    ],
    ids=["deactivated", "password changed", "deleted"],
)
def test_session_that_came_in_between_is_ended_after_the_commit(
    make_user: Any, act: Callable[[User], Any], reason: str
) -> None:
    user = make_user()
    sessions.start(user, device="phone")
    before = LoginSession.objects.values("revoked_at", "revoked_reason", "device").get()
    with transaction.atomic():
        act(user)
        # As if the login had come from elsewhere, and had not seen the change.
        LoginSession.objects.update(**before)
    [session] = LoginSession.objects.all()
    assert session.revoked_reason == reason
    assert session.device == ("" if reason == sessions.USER_DELETED else "phone")


@pytest.mark.django_db(transaction=True)
def test_password_that_a_transaction_changes_twice_keeps_its_own_session(
    make_user: Any, client: JSONClient
) -> None:
    user = make_user()
    old = sessions.start(user)
    with transaction.atomic():
        change_password(user)
        between = sessions.start(user)
        user.set_password("a third one")
        user.save()
        new = sessions.start(user)
    answers = [client.refresh(pair.refresh_token).json() for pair in (old, between, new)]
    assert [answer.get("code") for answer in answers] == ["session_ended", "session_ended", None]


@pytest.mark.parametrize("name", ["is_active", "password"])
def test_value_that_the_database_computes_ends_the_sessions(
    user: User, client: JSONClient, name: str
) -> None:
    pair = client.login().json()
    values = {"is_active": Value(False), "password": Value(make_password("another"))}
    setattr(user, name, values[name])
    user.save()
    assert LoginSession.objects.get().revoked_at is not None
    assert codes(client, pair) == ["session_ended"]


def test_value_that_is_not_saved_ends_nothing(user: User, client: JSONClient) -> None:
    pair = client.login().json()
    user.is_active = False
    user.password = make_password("another")
    user.save(update_fields=["first_name"])
    user.is_active = True
    user.save(update_fields=["is_active"])
    assert codes(client, pair) == [None]


def test_new_child_row_with_another_password_ends_the_sessions(
    user: User, client: JSONClient
) -> None:
    pair = client.login().json()
    employee = Employee(user_ptr=user, badge="7")
    employee.__dict__.update(
        {name: value for name, value in user.__dict__.items() if name != "_state"}
    )
    employee.set_password("another")
    employee.save()
    assert LoginSession.objects.get().revoked_at is not None
    assert codes(client, pair) == ["session_ended"]


@pytest.mark.parametrize("act", [deactivate, change_password, lambda user: user.delete()])
def test_project_that_never_loads_users_ends_their_sessions(
    user: User, client: JSONClient, settings: Any, act: Callable[[User], Any]
) -> None:
    settings.JWT_AUTH = {"LOAD_USER": "never"}
    pair = client.login(device="phone").json()
    act(user)
    assert client.whoami(pair["access_token"]).json()["code"] == "session_ended"
    assert LoginSession.objects.get().revoked_at is not None
