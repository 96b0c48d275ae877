"""What happens to a refresh token: the rules of the one place that trades them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F
from django.db.models.signals import post_init
from django.db.transaction import TransactionManagementError

from jwt_auth import averify, sessions, signals, verify
from jwt_auth.errors import (
    InvalidCredentials,
    RefreshNotValid,
    RefreshReused,
    SessionEnded,
    Throttled,
    Unavailable,
)
from jwt_auth.models import LoginSession, LoginSessionQuerySet
from jwt_auth.runtime import current
from tests.conftest import Clock


@pytest.fixture(autouse=True)
def _clock(clock: Clock) -> None:
    """Every test here tells the time itself."""


@pytest.fixture
def first(user: Any) -> str:
    return str(sessions.start(user).refresh_token)


def row() -> LoginSession:
    """Return the only session."""
    return LoginSession.objects.get()


def test_a_rotation_leads_to_a_new_token_and_one_row(first: str) -> None:
    second = sessions.refresh(first)

    assert second.refresh_token not in {None, first}
    assert row().generation == 1
    assert verify(second.access_token).session_id == second.session_id == row().pk


@pytest.mark.parametrize("seconds", [0, 1, 119, 120])
def test_within_the_grace_every_use_leads_to_the_same_successor(
    first: str, clock: Clock, seconds: int
) -> None:
    second = sessions.refresh(first).refresh_token
    clock.move(seconds=seconds)

    assert sessions.refresh(first).refresh_token == second
    assert sessions.refresh(str(second)).refresh_token == second
    assert row().generation == 1


def test_a_handed_back_token_does_not_move_the_grace(first: str, clock: Clock) -> None:
    sessions.refresh(first)
    clock.move(seconds=100)
    sessions.refresh(first)
    clock.move(seconds=21)

    with pytest.raises(RefreshReused):
        sessions.refresh(first)


def test_after_the_grace_a_replaced_token_ends_the_session(first: str, clock: Clock) -> None:
    second = sessions.refresh(first)
    clock.move(seconds=121)

    with pytest.raises(RefreshReused):
        sessions.refresh(first)

    with pytest.raises(SessionEnded):
        sessions.refresh(str(second.refresh_token))
    with pytest.raises(SessionEnded):
        verify(second.access_token)
    assert row().revoked_reason == sessions.REUSED


def test_a_token_two_generations_old_is_reuse_even_within_the_grace(
    first: str, clock: Clock
) -> None:
    second = sessions.refresh(first).refresh_token
    clock.move(seconds=121)
    sessions.refresh(str(second))

    with pytest.raises(RefreshReused):
        sessions.refresh(first)


def test_reuse_leaves_the_other_sessions_of_the_user_alone(
    first: str, user: Any, clock: Clock
) -> None:
    other = sessions.start(user)
    sessions.refresh(first)
    clock.move(seconds=121)
    with pytest.raises(RefreshReused):
        sessions.refresh(first)

    assert sessions.refresh(str(other.refresh_token))
    assert verify(other.access_token)


def test_without_sessions_no_refresh_token_is_genuine(first: str, settings: Any) -> None:
    settings.JWT_AUTH = {"REFRESH_TOKEN_LIFETIME": None}
    with pytest.raises(RefreshNotValid):
        sessions.refresh(first)


def test_without_grace_the_first_replay_is_reuse(first: str, settings: Any) -> None:
    settings.JWT_AUTH = {"REFRESH_GRACE": 0}
    second = sessions.refresh(first)

    third = sessions.refresh(str(second.refresh_token))
    assert third.refresh_token != second.refresh_token
    with pytest.raises(RefreshReused):
        sessions.refresh(first)


def test_a_clock_stepped_back_harms_nobody(first: str, clock: Clock) -> None:
    second = sessions.refresh(first).refresh_token
    clock.move(seconds=-60)
    assert sessions.refresh(first).refresh_token == second

    clock.move(hours=-1)
    third = sessions.refresh(str(second)).refresh_token

    assert third != second
    assert row().generation == 2


def test_a_token_ahead_of_its_row_is_adopted_and_logged(
    first: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = [first]
    for _ in range(3):
        clock.move(seconds=121)
        tokens.append(str(sessions.refresh(tokens[-1]).refresh_token))
    LoginSession.objects.update(generation=F("generation") - 2)

    newest = sessions.refresh(tokens[3])

    assert row().generation == 4
    assert "generation 3" in caplog.text
    assert sessions.refresh(str(newest.refresh_token)).refresh_token == newest.refresh_token


def test_an_idle_session_ends(first: str, clock: Clock) -> None:
    clock.move(days=14)
    with pytest.raises(SessionEnded):
        sessions.refresh(first)
    clock.move(microseconds=-1)
    assert sessions.refresh(first).refresh_expires_in == 14 * 24 * 3600


def test_no_rotation_goes_beyond_the_absolute_end(user: Any, clock: Clock, settings: Any) -> None:
    settings.JWT_AUTH = {"SESSION_LIFETIME": timedelta(days=20)}
    pair = sessions.start(user)
    assert pair.refresh_expires_in == 14 * 24 * 3600
    clock.move(days=13)
    pair = sessions.refresh(str(pair.refresh_token))
    assert pair.refresh_expires_in == 7 * 24 * 3600
    clock.move(days=7, minutes=-1)
    pair = sessions.refresh(str(pair.refresh_token))
    assert (pair.refresh_expires_in, pair.expires_in) == (60, 60)
    clock.move(minutes=1)
    with pytest.raises(SessionEnded):
        sessions.refresh(str(pair.refresh_token))


def test_an_inactive_user_gets_nothing_and_the_session_ends(first: str, user: Any) -> None:
    type(user).objects.update(is_active=False)

    with pytest.raises(SessionEnded):
        sessions.refresh(first)

    assert row().revoked_reason == sessions.USER_INACTIVE
    type(user).objects.update(is_active=True)
    with pytest.raises(SessionEnded):
        sessions.refresh(first)


def test_a_password_changed_behind_our_back_is_caught(first: str, user: Any) -> None:
    type(user).objects.update(password="md5$salt$other")

    with pytest.raises(SessionEnded):
        sessions.refresh(first)

    assert row().revoked_reason == sessions.PASSWORD_CHANGED


def test_one_unusable_password_is_like_another(user: Any) -> None:
    user.set_unusable_password()
    user.save()
    first = sessions.start(user)
    user.set_unusable_password()
    user.save()

    assert sessions.refresh(str(first.refresh_token))


def test_a_new_secret_key_costs_no_session(first: str, settings: Any, clock: Clock) -> None:
    old = settings.SECRET_KEY
    settings.SECRET_KEY = "another-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJ"
    settings.SECRET_KEY_FALLBACKS = [old]

    second = sessions.refresh(first)
    settings.SECRET_KEY_FALLBACKS = []
    clock.move(seconds=121)

    assert sessions.refresh(str(second.refresh_token))
    with pytest.raises(RefreshNotValid):
        sessions.refresh(first)


def test_claims_are_read_anew(first: str, user: Any) -> None:
    user.groups.add(Group.objects.create(name="editors"))
    assert verify(sessions.refresh(first).access_token).roles == ("editors",)
    user.groups.clear()
    assert verify(sessions.refresh(first).access_token).roles == ()


def test_the_facts_of_the_login_never_change(user: Any, clock: Clock) -> None:
    pair = sessions.start(user, amr=("pwd", "otp"), claims={"tenant": 7})
    before = verify(pair.access_token)
    clock.move(days=1)
    after = verify(sessions.refresh(str(pair.refresh_token)).access_token)

    assert before["amr"] == after["amr"] == ["pwd", "otp"]
    assert before["auth_time"] == after["auth_time"] == before["iat"]
    assert before["tenant"] == after["tenant"] == 7
    assert before["jti"] != after["jti"]


NOT_GENUINE = {
    "empty": "",
    "prefix alone": "jwtr_",
    "too short": "jwtr_" + "A" * 75,
    "too long": "jwtr_" + "A" * 77,
    "forged": "jwtr_" + "A" * 76,
    "padded": "jwtr_" + "A" * 75 + "=",
    "not ASCII": "jwtr_" + "é" * 76,
    "a JWT": "eyJhbGciOiJub25lIn0.e30.",
    "a megabyte": "jwtr_" + "A" * 1_000_000,
    "a surrogate": "jwtr_\ud800",
    "a newline": "jwtr_" + "A" * 76 + "\n",
}


@pytest.mark.parametrize("raw", NOT_GENUINE.values(), ids=NOT_GENUINE)
def test_what_is_not_genuine_costs_no_query(
    db: None, raw: str, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0), pytest.raises(RefreshNotValid):
        sessions.refresh(raw)


def test_every_changed_character_is_noticed(first: str, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        for position in range(len(first)):
            other = "A" if first[position] != "A" else "B"
            with pytest.raises(RefreshNotValid):
                sessions.refresh(first[:position] + other + first[position + 1 :])


def test_another_version_is_not_read(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    token = current().refresh_tokens.read(first)
    monkeypatch.setattr("jwt_auth.tokens.refresh.VERSION", 2)
    later = current().refresh_tokens.mint(token)
    monkeypatch.undo()
    with pytest.raises(RefreshNotValid):
        sessions.refresh(later)


def test_the_table_and_the_secret_key_make_no_token(first: str) -> None:
    # What an attacker has after reading both: the id of the session and the MAC's key.
    # A token minted from them names another session.
    from jwt_auth.tokens.refresh import RefreshToken

    forged = current().refresh_tokens.mint(RefreshToken(row().pk.bytes, 0))
    with pytest.raises(SessionEnded):
        sessions.refresh(forged)
    assert sessions.refresh(first)


def test_a_session_is_written_whole(user: Any, django_assert_num_queries: Any) -> None:
    """As ``save()`` would write it; and what is empty in the first is not in the second."""
    now = current().clock()
    always = {
        "user": user,
        "rotated_at": now,
        "created_at": now,
        "expires_at": now + timedelta(days=90),
        "password_mark": "mark",
    }
    sometimes = {
        "generation": 3,
        "amr": ["pwd", "otp"],
        "claims": {"tenant": "%s 'ä\""},
        "device": "Ada's %s",
        "ip": "2001:db8::1",
        "user_agent": "Ω %(x)s",
        "revoked_at": now,
        "revoked_reason": sessions.LOGOUT,
    }
    for values in (always, always | sometimes):
        saved, inserted = (LoginSession(id=uuid4(), **values) for _ in range(2))
        saved.save()
        with django_assert_num_queries(1):
            current().session_rows.insert(inserted, "default")
        assert (inserted._state.adding, inserted._state.db) == (False, "default")
        one, other = (
            LoginSession.objects.filter(pk=each.pk).values().get() for each in (saved, inserted)
        )
        assert one | {"id": None} == other | {"id": None}
    assert current().session_rows.get(inserted.pk, "default") == inserted


def test_a_session_that_cannot_be_written_undoes_what_is_around_it(first: str) -> None:
    again = row()
    with transaction.atomic():
        with pytest.raises(IntegrityError):
            current().session_rows.insert(again, "default")
        # As after a save() that fails: on PostgreSQL nothing more could be asked.
        with pytest.raises(TransactionManagementError):
            LoginSession.objects.exists()
    assert row() == again


def test_session_and_user_are_read_whole(
    first: str, user: Any, django_assert_num_queries: Any
) -> None:
    """As the ORM would read them by itself, for whoever gets to see them."""
    user.email, user.last_login = "ada@example.org", user.date_joined
    user.save()
    expected = LoginSession.objects.select_related("user").get()
    with django_assert_num_queries(1):
        read = current().session_rows.get(expected.pk, "default")
        assert read is not None
        for one, other in ((read, expected), (read.user, expected.user)):
            assert one._state.db == "default"
            assert not one._state.adding
            assert {
                field.attname: getattr(one, field.attname) for field in one._meta.concrete_fields
            } == {
                field.attname: getattr(other, field.attname) for field in one._meta.concrete_fields
            }


def test_a_model_may_look_at_its_fields_when_it_is_made(
    first: str, user: Any, django_assert_num_queries: Any, settings: Any
) -> None:
    """To see later what has changed."""
    settings.JWT_AUTH = {"ROLES": None}

    def look(instance: Any, **kwargs: Any) -> None:
        instance.was = instance.email, instance.first_name, instance.last_login

    post_init.connect(look, sender=type(user))
    try:
        with django_assert_num_queries(2):
            assert sessions.refresh(first).refresh_token != first
    finally:
        post_init.disconnect(look, sender=type(user))


def test_a_session_without_a_user_is_over(first: str, user: Any) -> None:
    with connection.constraint_checks_disabled():
        type(user).objects.filter(pk=user.pk)._raw_delete("default")  # type: ignore[attr-defined]
        with pytest.raises(SessionEnded):
            sessions.refresh(first)
        LoginSession.objects.all()._raw_delete("default")  # type: ignore[attr-defined]


def test_receivers_see_the_session_and_its_user_without_a_query(
    user: Any,
    settings: Any,
    django_assert_num_queries: Any,
    django_capture_on_commit_callbacks: Any,
) -> None:
    settings.JWT_AUTH = {"ROLES": None}
    raw = sessions.start(user, device="phone").refresh_token
    seen = []

    def hear(session: LoginSession, **kwargs: Any) -> None:
        seen.append((session.device, session.user_agent, session.user and session.user.username))

    signals.session_refreshed.connect(hear)
    try:
        with django_assert_num_queries(2), django_capture_on_commit_callbacks(execute=True):
            sessions.refresh(str(raw))
    finally:
        signals.session_refreshed.disconnect(hear)
    assert seen == [("phone", "", "ada")]


def test_a_refresh_takes_two_statements_and_one_for_the_roles(
    first: str, settings: Any, clock: Clock, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(3):
        pair = sessions.refresh(first)
    settings.JWT_AUTH = {"ROLES": None}
    with django_assert_num_queries(1):
        sessions.refresh(first)
    clock.move(seconds=121)
    with django_assert_num_queries(2) as captured:
        sessions.refresh(str(pair.refresh_token))
    assert not any("BEGIN" in query["sql"] or "SAVEPOINT" in query["sql"] for query in captured)


def test_a_refresh_inside_a_transaction_is_refused(first: str) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="atomic"):
        sessions.refresh(first)
    assert row().generation == 0


@pytest.mark.parametrize("broken", ["CLAIMS", "ROLES"])
def test_when_a_callable_of_the_project_fails_nothing_is_spent(
    first: str, settings: Any, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings.JWT_AUTH = {broken: "tests.test_refresh.failing"}
    with pytest.raises(Unavailable):
        sessions.refresh(first)
    assert "failing on purpose" in caplog.text
    assert first not in caplog.text
    assert row().generation == 0

    settings.JWT_AUTH = {}
    assert sessions.refresh(first)


def failing(*args: Any) -> Any:
    """Stand in for a callable of the project that cannot reach what it needs."""
    raise ConnectionError("failing on purpose")


def roles_as_text(user: Any) -> str:
    """Make the mistake that would turn a name into letters."""
    return "editors"


def nested(user: Any, request: Any) -> Any:
    """Return claims that we would not take back."""
    value: Any = 1
    for _ in range(20):
        value = [value]
    return {"nested": value}


@pytest.mark.parametrize(
    "mistake",
    [
        {"ROLES": "tests.test_refresh.roles_as_text"},
        {"CLAIMS": "tests.test_refresh.nested"},
    ],
    ids=["roles as one string", "claims nested beyond what we accept"],
)
def test_a_token_we_would_refuse_is_never_handed_out(
    first: str, settings: Any, mistake: dict[str, str]
) -> None:
    settings.JWT_AUTH = mistake
    with pytest.raises(Unavailable):
        sessions.refresh(first)


class Intruder:
    """Changes the row between the look and the UPDATE, as another process would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *acts: Any) -> None:
        self._acts: Iterator[Any] = iter(acts)
        self._original = LoginSessionQuerySet._as_read
        intruder = self

        def as_read(queryset: LoginSessionQuerySet, session: LoginSession, **more: Any) -> Any:
            act = next(intruder._acts, None)
            if act is not None:
                act()
            return intruder._original(queryset, session, **more)

        monkeypatch.setattr(LoginSessionQuerySet, "_as_read", as_read)


@pytest.mark.parametrize("seconds", [0, 119])
def test_grace_begins_when_a_delayed_rotation_takes_effect(
    first: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    Intruder(monkeypatch, lambda: clock.move(minutes=5))
    second = sessions.refresh(first).refresh_token
    clock.move(seconds=seconds)
    assert sessions.refresh(first).refresh_token == second


def slow_claims(user: Any, request: Any) -> dict[str, Any]:
    """Take five minutes once."""
    if moves:
        moves.pop()()
    return {}


moves: list[Any] = []


def test_grace_begins_after_claims_that_take_their_time(
    first: str, clock: Clock, settings: Any
) -> None:
    settings.JWT_AUTH = {"CLAIMS": f"{__name__}.slow_claims"}
    moves.append(lambda: clock.move(minutes=5))
    second = sessions.refresh(first).refresh_token
    clock.move(seconds=119)
    assert sessions.refresh(first).refresh_token == second


def test_whoever_loses_the_race_gets_the_winners_token(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    winners: list[str | None] = []
    Intruder(monkeypatch, lambda: winners.append(sessions.refresh(first).refresh_token))

    assert sessions.refresh(first).refresh_token == winners[0]
    assert row().generation == 1


def test_lost_round_is_counted_once(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[Any] = []
    Intruder(monkeypatch, lambda: sessions.refresh(first))

    sessions.limited_refresh(first, None, counted.append)
    assert counted == [row().pk]


def test_throttled_refresh_spends_nothing(
    first: str, settings: Any, django_assert_num_queries: Any
) -> None:
    def refuse(session_id: Any) -> None:
        raise Throttled(1)

    # CLAIMS is not asked either: it would fail.
    settings.JWT_AUTH = {"CLAIMS": f"{__name__}.failing"}
    with django_assert_num_queries(1), pytest.raises(Throttled):
        sessions.limited_refresh(first, None, refuse)
    assert row().generation == 0


def test_a_session_ended_meanwhile_is_not_rotated(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Intruder(monkeypatch, lambda: sessions.end(row().pk))

    with pytest.raises(SessionEnded):
        sessions.refresh(first)
    assert row().generation == 0


def test_a_stale_look_punishes_nobody(
    first: str, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    # What was read says reuse; by the time of the UPDATE it is not true any more.
    second = sessions.refresh(first).refresh_token
    clock.move(seconds=121)
    now = current().clock()
    Intruder(monkeypatch, lambda: LoginSession.objects.update(rotated_at=now))

    assert sessions.refresh(first).refresh_token == second
    assert row().revoked_at is None


def test_after_four_lost_rounds_the_client_is_asked_to_wait(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touch() -> None:
        LoginSession.objects.update(rotated_at=F("rotated_at") + timedelta(microseconds=1))

    Intruder(monkeypatch, *[touch] * sessions.ROUNDS)
    with pytest.raises(Unavailable):
        sessions.refresh(first)

    assert sessions.refresh(first)


CONFLICTS = {
    "SQLite": (OperationalError("database is locked"), None),
    "MariaDB": (OperationalError(1213, "Deadlock found"), None),
    "PostgreSQL": (OperationalError("could not serialize"), "40001"),
}


@pytest.mark.parametrize(("error", "sqlstate"), CONFLICTS.values(), ids=CONFLICTS)
def test_transactions_in_each_others_way_are_a_lost_round(
    first: str, monkeypatch: pytest.MonkeyPatch, error: OperationalError, sqlstate: str | None
) -> None:
    def collide() -> None:
        cause = Exception()
        cause.sqlstate = sqlstate  # type: ignore[attr-defined]
        raise error from cause

    Intruder(monkeypatch, collide)
    assert sessions.refresh(first)


def test_a_broken_database_is_said_at_once(
    first: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down() -> None:
        raise OperationalError("server closed the connection unexpectedly")

    Intruder(monkeypatch, break_down)
    with pytest.raises(Unavailable):
        sessions.refresh(first)
    assert "database" in caplog.text
    assert sessions.refresh(first)


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize(
    ("error", "sqlstate"),
    [
        (OperationalError("server closed the connection unexpectedly"), {"sqlstate": None}),
        (OperationalError("terminating connection"), {"pgcode": "57P02"}),
        (OperationalError(2013, "Lost connection to server during query"), {}),
    ],
    ids=["psycopg", "psycopg2", "MariaDB"],
)
def test_a_rotation_without_an_answer_is_good_whether_or_not_it_was_committed(
    first: str,
    monkeypatch: pytest.MonkeyPatch,
    clock: Clock,
    committed: bool,
    error: OperationalError,
    sqlstate: dict[str, str | None],
) -> None:
    rotate = LoginSessionQuerySet.rotate

    def lose(rows: LoginSessionQuerySet, session: LoginSession, **values: Any) -> bool:
        if committed:
            rotate(rows, session, **values)
        cause = Exception()
        vars(cause).update(sqlstate)
        raise error from cause

    with monkeypatch.context() as patch:
        patch.setattr(LoginSessionQuerySet, "rotate", lose)
        second = sessions.refresh(first).refresh_token
    assert second is not None
    assert LoginSession.objects.get().generation == int(committed)
    clock.move(hours=1)
    assert sessions.refresh(second).refresh_token not in {first, second}
    clock.move(hours=1)
    with pytest.raises(RefreshReused):
        sessions.refresh(first)


class Heard:
    """The signals that were sent, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sessions: list[LoginSession] = []
        for name in ("session_started", "session_refreshed", "session_ended", "refresh_reused"):
            getattr(signals, name).connect(self._receiver(name), weak=False, dispatch_uid=self)

    def _receiver(self, name: str) -> Any:
        def receive(sender: Any, session: LoginSession, request: Any, **kwargs: Any) -> None:
            assert sender is LoginSession
            assert set(kwargs) == {"signal"}
            self.names.append(name)
            self.sessions.append(session)

        return receive

    def stop(self) -> None:
        """Hear nothing any more."""
        for name in ("session_started", "session_refreshed", "session_ended", "refresh_reused"):
            getattr(signals, name).disconnect(dispatch_uid=self)


@pytest.fixture
def heard() -> Iterator[Heard]:
    ear = Heard()
    yield ear
    ear.stop()


def test_signals_tell_the_life_of_a_session(
    user: Any,
    heard: Heard,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    django_capture_on_commit_callbacks: Any,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        pair = sessions.start(user)
    with django_capture_on_commit_callbacks(execute=True):
        sessions.refresh(str(pair.refresh_token))
    with django_capture_on_commit_callbacks(execute=True):
        sessions.refresh(str(pair.refresh_token))
    clock.move(seconds=121)
    with django_capture_on_commit_callbacks(execute=True), pytest.raises(RefreshReused):
        sessions.refresh(str(pair.refresh_token))

    assert heard.names == [
        "session_started",
        "session_refreshed",
        "session_ended",
        "refresh_reused",
    ]
    assert [one.generation for one in heard.sessions] == [0, 1, 1, 1]
    assert heard.sessions[2].revoked_reason == sessions.REUSED
    records = [one for one in caplog.records if one.name == "jwt_auth.security"]
    assert [one.levelno for one in records] == [logging.WARNING]
    assert str(pair.session_id) in records[0].getMessage()
    assert "jwtr_" not in caplog.text


def test_signals_wait_for_the_commit(
    user: Any, heard: Heard, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks() as callbacks:
        sessions.start(user)
    assert heard.names == []
    assert len(callbacks) == 1


def test_nobody_is_signed_in_who_may_not(make_user: Any) -> None:
    from django.contrib.auth.models import AnonymousUser, User

    inactive = make_user("inactive", is_active=False)
    for refused in (inactive, User(username="unsaved"), AnonymousUser(), None):
        with pytest.raises(InvalidCredentials):
            sessions.start(refused)
    assert not LoginSession.objects.exists()


def test_claims_of_a_session_do_not_shadow_ours(user: Any) -> None:
    with pytest.raises(ValueError, match="exp, sub"):
        sessions.start(user, claims={"sub": "2", "exp": 1, "tenant": 7})


def test_a_long_device_label_is_cut(user: Any) -> None:
    sessions.start(user, device="x\x00" * 200)
    assert row().device == "x" * 100


def test_ending_tells_whether_there_was_something_to_end(user: Any) -> None:
    pair = sessions.start(user)
    assert pair.session_id is not None
    assert sessions.end(pair.session_id, "because") is True
    assert sessions.end(pair.session_id) is False
    assert row().revoked_reason == "because"


def test_ending_all_can_spare_one(user: Any, make_user: Any) -> None:
    here, there = sessions.start(user), sessions.start(user)
    other = sessions.start(make_user("grace"))

    assert sessions.end_all(user, except_session=here.session_id) == 1
    assert verify(here.access_token)
    assert verify(other.access_token)
    with pytest.raises(SessionEnded):
        verify(there.access_token)


@async_to_sync
async def _life_of_a_session(user: Any) -> list[Any]:
    pair = await sessions.astart(user)
    pair = await sessions.arefresh(str(pair.refresh_token))
    claims = await averify(pair.access_token)
    ended = await sessions.aend(claims.session_id)  # type: ignore[arg-type]
    with pytest.raises(SessionEnded):
        await averify(pair.access_token)
    return [claims.subject, ended, await sessions.aend_all(user)]


def test_the_async_twins_do_the_same(user: Any) -> None:
    assert _life_of_a_session(user) == [str(user.pk), True, 0]


def test_a_session_changes_by_update_alone(user: Any) -> None:
    sessions.start(user)
    with pytest.raises(TypeError):
        row().save()
    with pytest.raises(TypeError):
        row().delete()


def test_what_is_secret_is_in_no_repr(user: Any) -> None:
    pair = sessions.start(user)
    assert pair.access_token not in repr(pair)
    assert str(pair.refresh_token) not in repr(pair)
    token = current().refresh_tokens.read(str(pair.refresh_token))
    assert token.handle.hex() not in repr(token)


def test_a_session_whose_user_is_gone_without_a_word_is_over(first: str) -> None:
    # As after a DELETE that no receiver has heard of.
    LoginSession.objects.update(user=None)
    with pytest.raises(SessionEnded):
        sessions.refresh(first)
