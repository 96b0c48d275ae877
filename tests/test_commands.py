"""``jwt_auth_purge`` and ``jwt_auth_revoke``, and what they call."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import OperationalError, transaction
from django.utils import timezone

from jwt_auth import sessions, verify
from jwt_auth.errors import SessionEnded, Unavailable
from jwt_auth.models import LoginSession
from tests.conftest import Clock


class Terminal(io.StringIO):
    """Where a bar can be shown."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


def run(name: str, *arguments: str, output: io.StringIO | None = None) -> str:
    """Run a command; return what it prints."""
    output = output or io.StringIO()
    call_command(name, *arguments, stdout=output)
    return output.getvalue()


def left() -> list[str]:
    """Return the devices of the rows that are left."""
    return sorted(LoginSession.objects.values_list("device", flat=True))


class TestPurge:
    """Rows of sessions that are over, and no others."""

    @pytest.fixture(autouse=True)
    def rows(self, clock: Clock, user: User) -> None:
        sessions.start(user, device="idle")
        LoginSession.objects.filter(device="idle").update(
            rotated_at=timezone.now() - timedelta(days=15, seconds=1)
        )
        sessions.start(user, device="out of time")
        LoginSession.objects.filter(device="out of time").update(
            expires_at=timezone.now() - timedelta(days=1, seconds=1)
        )
        for device, ago in (("ended", timedelta(days=1, seconds=1)), ("just ended", timedelta(0))):
            pair = sessions.start(user, device=device)
            LoginSession.objects.filter(pk=pair.session_id).end("x", timezone.now() - ago)
        sessions.start(user, device="living")
        sessions.start(user, device="lately idle")
        LoginSession.objects.filter(device="lately idle").update(
            rotated_at=timezone.now() - timedelta(days=14, hours=23)
        )

    def test_what_is_over_for_a_day_goes(self) -> None:
        assert run("jwt_auth_purge") == "3 rows of ended sessions deleted.\n"
        assert left() == ["just ended", "lately idle", "living"]
        assert run("jwt_auth_purge") == "0 rows of ended sessions deleted.\n"

    def test_what_the_list_may_name_stays_whatever_is_asked(self, clock: Clock) -> None:
        assert run("jwt_auth_purge", "--keep-days", "0").startswith("4")
        assert left() == ["just ended", "living"]
        clock.move(minutes=8)
        assert sessions.purge(kept=timedelta(0)) == 0
        clock.move(seconds=1)
        assert sessions.purge(kept=timedelta(0)) == 1
        assert left() == ["living"]

    def test_days_are_kept(self) -> None:
        assert run("jwt_auth_purge", "--keep-days", "30").startswith("0")
        for wrong in ("-1", "999999", "nan"):
            with pytest.raises(CommandError):
                run("jwt_auth_purge", "--keep-days", wrong)

    def test_a_purged_session_is_over_for_its_refresh_token(self, user: User) -> None:
        pair = sessions.start(user)
        LoginSession.objects.filter(pk=pair.session_id).end("x", timezone.now() - timedelta(days=2))
        sessions.purge()
        with pytest.raises(SessionEnded):
            sessions.refresh(pair.refresh_token or "")

    def test_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sessions, "BATCH", 2)
        seen: list[tuple[float, int]] = []
        assert sessions.purge(progress=lambda share, count: seen.append((share, count))) == 3
        assert seen == sorted(seen)
        assert [share for share, _ in seen] == [2 / 6, 4 / 6, 1, 1]

    def test_a_bar_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sessions, "BATCH", 2)
        shown = run("jwt_auth_purge", output=Terminal())
        assert "\r[#" in shown
        assert "%" in shown
        assert shown.endswith("\n3 rows of ended sessions deleted.\n")

    def test_a_failing_database_is_said_and_nothing_is_lost(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any) -> None:
            raise OperationalError("gone away")

        with monkeypatch.context() as patch:
            patch.setattr("django.db.models.query.QuerySet.delete", fail)
            with pytest.raises(CommandError, match="goes on"):
                run("jwt_auth_purge")
        assert run("jwt_auth_purge").startswith("3")

    def test_without_sessions_the_old_rows_go_too(self, settings: Any) -> None:
        settings.JWT_AUTH = {"REFRESH_TOKEN_LIFETIME": None}
        assert run("jwt_auth_purge").startswith("2")


class TestRevoke:
    """Sessions are ended by hand."""

    @pytest.fixture
    def pairs(self, clock: Clock, user: User, make_user: Any) -> list[sessions.TokenPair]:
        return [sessions.start(user), sessions.start(user), sessions.start(make_user("grace"))]

    def ended(self, pairs: list[sessions.TokenPair]) -> list[bool]:
        """Tell of each pair whether its session has ended."""
        found = []
        for pair in pairs:
            try:
                verify(pair.access_token)
            except SessionEnded:
                found.append(True)
            else:
                found.append(False)
        return found

    def test_one_user(self, pairs: list[sessions.TokenPair]) -> None:
        assert run("jwt_auth_revoke", "--user", "ada") == "2 sessions ended.\n"
        assert self.ended(pairs) == [True, True, False]

    def test_one_session(self, pairs: list[sessions.TokenPair]) -> None:
        assert run("jwt_auth_revoke", "--session", str(pairs[1].session_id)).startswith("1")
        assert run("jwt_auth_revoke", "--session", str(uuid4())).startswith("0")
        assert self.ended(pairs) == [False, True, False]

    def test_everybody(
        self, pairs: list[sessions.TokenPair], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sessions, "BATCH", 2)
        shown = run("jwt_auth_revoke", "--all", output=Terminal())
        assert "100% 3 ended" in shown
        assert shown.endswith("3 sessions ended.\n")
        assert self.ended(pairs) == [True, True, True]

    @pytest.mark.parametrize("whose", ["--user", "--session", "--all"])
    def test_log_says_who_ended_which_sessions_and_why(
        self,
        pairs: list[sessions.TokenPair],
        user: User,
        whose: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr("getpass.getuser", lambda: "operator\n")
        arguments, what = {
            "--user": (["ada"], f"the sessions of user {user.pk}"),
            "--session": ([str(pairs[0].session_id)], f"session {pairs[0].session_id}"),
            "--all": ([], "every session"),
        }[whose]
        run("jwt_auth_revoke", whose, *arguments)
        [record] = [one for one in caplog.records if one.name == "jwt_auth.security"]
        assert record.getMessage() == (
            f"jwt_auth_revoke, run by operator\\n, ends {what}: administration."
        )

    def test_operator_may_have_no_name(
        self,
        pairs: list[sessions.TokenPair],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def fail() -> None:
            raise KeyError("getpwuid(): uid not found: 1000")

        monkeypatch.setattr("getpass.getuser", fail)
        assert run("jwt_auth_revoke", "--all") == "3 sessions ended.\n"
        assert "run by an unnamed account" in caplog.text

    @pytest.mark.parametrize(
        "arguments",
        [[], ["--user", "nobody"], ["--session", "x"], ["--all", "--user", "ada"]],
        ids=" ".join,
    )
    def test_what_cannot_be_meant_ends_nothing(
        self, pairs: list[sessions.TokenPair], arguments: list[str]
    ) -> None:
        with pytest.raises(CommandError):
            run("jwt_auth_revoke", *arguments)
        assert self.ended(pairs) == [False, False, False]

    def test_a_failing_database_is_said(
        self, pairs: list[sessions.TokenPair], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise Unavailable

        monkeypatch.setattr(sessions, "end_all", fail)
        with pytest.raises(CommandError, match="goes on"):
            run("jwt_auth_revoke", "--user", "ada")


class TestTheLimit:
    """``MAX_SESSIONS_PER_USER``."""

    @pytest.fixture(autouse=True)
    def two(self, settings: Any) -> None:
        settings.JWT_AUTH = {"MAX_SESSIONS_PER_USER": 2}

    def live(self) -> set[UUID]:
        """Return the ids of live sessions."""
        found = LoginSession.objects.filter(revoked_at__isnull=True)
        return set(found.values_list("pk", flat=True))

    def test_the_least_recently_used_goes(self, clock: Clock, user: User) -> None:
        first = sessions.start(user)
        clock.move(minutes=3)
        second = sessions.start(user)
        clock.move(minutes=3)
        sessions.refresh(first.refresh_token or "")
        clock.move(minutes=3)
        third = sessions.start(user)
        assert self.live() == {first.session_id, third.session_id}
        [gone] = LoginSession.objects.filter(revoked_at__isnull=False)
        assert (gone.pk, gone.revoked_reason) == (second.session_id, "too_many_sessions")

    def test_a_limit_that_comes_late_counts_from_the_next_login(
        self, clock: Clock, user: User, settings: Any
    ) -> None:
        settings.JWT_AUTH = {}
        for _ in range(5):
            sessions.start(user)
            clock.move(seconds=1)
        settings.JWT_AUTH = {"MAX_SESSIONS_PER_USER": 1}
        newest = sessions.start(user)
        assert self.live() == {newest.session_id}

    def test_another_users_sessions_do_not_count(self, user: User, make_user: Any) -> None:
        sessions.start(make_user("grace"))
        sessions.start(user)
        sessions.start(user)
        assert len(self.live()) == 3

    def test_below_the_limit_a_login_asks_one_query_more(
        self, user: User, django_assert_num_queries: Any
    ) -> None:
        # The groups' names, the row, the row with its user, and the sessions beyond the limit.
        with django_assert_num_queries(4):
            sessions.start(user)

    def test_a_database_that_fails_then_costs_no_login(
        self, user: User, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise OperationalError("gone away")

        settings.JWT_AUTH = {**settings.JWT_AUTH, "ROLES": None}
        monkeypatch.setattr("django.db.models.query.QuerySet._fetch_all", fail)
        assert sessions.start(user).refresh_token

    def test_login_that_looks_last_ends_itself_beyond_the_limit(
        self, clock: Clock, user: User, settings: Any
    ) -> None:
        settings.JWT_AUTH = {"MAX_SESSIONS_PER_USER": 1}
        earlier = sessions.start(user)
        clock.move(seconds=1)
        later = sessions.start(user)
        LoginSession.objects.filter(pk=earlier.session_id).update(revoked_at=None)
        # As the earlier login does if the later one has finished before it looks.
        sessions._end_the_least_used(user, 1, timedelta(days=14))
        assert self.live() == {later.session_id}

    def test_logins_of_one_moment_end_the_same_sessions(
        self, clock: Clock, user: User, settings: Any
    ) -> None:
        settings.JWT_AUTH = {"MAX_SESSIONS_PER_USER": None}
        for _ in range(8):
            sessions.start(user)
        sessions._end_the_least_used(user, 3, timedelta(days=14))
        kept = self.live()
        assert len(kept) == 3
        for _ in range(7):
            sessions._end_the_least_used(user, 3, timedelta(days=14))
        assert self.live() == kept

    @pytest.mark.django_db(transaction=True)
    def test_limit_counts_from_the_commit(self, user: User, settings: Any) -> None:
        settings.JWT_AUTH = {"MAX_SESSIONS_PER_USER": 1}
        first = sessions.start(user)
        with transaction.atomic():
            second = sessions.start(user)
            assert self.live() == {first.session_id, second.session_id}
        assert self.live() == {second.session_id}
