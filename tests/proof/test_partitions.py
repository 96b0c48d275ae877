"""A session's life on a table in partitions, made by the SQL of ``docs/explanation/scale.md``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jwt_auth import sessions, verify
from jwt_auth.errors import RefreshReused, SessionEnded
from jwt_auth.models import LoginSession
from jwt_auth.revocation import ended_sessions

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "scale.md"
TABLE = LoginSession._meta.db_table
PARTITIONS = 16


def partitions() -> int:
    """Return how many there are."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = %s::regclass", [TABLE])
        return int(cursor.fetchone()[0])


@pytest.fixture
def before() -> list[sessions.TokenPair]:
    """Sessions that are there before the table is parted."""
    if connection.vendor != "postgresql":
        pytest.skip("says something of PostgreSQL alone")
    users = [User.objects.create_user(f"user{number}", password="!") for number in range(40)]
    return [sessions.start(user) for user in users]


@pytest.fixture(autouse=True)
def parted(before: list[sessions.TokenPair]) -> Iterator[None]:
    (script,) = re.findall(r"```postgresql\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    with connection.cursor() as cursor:
        cursor.execute(script)
    yield
    # The other proofs have the table of the migration.
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {TABLE}")
    call_command("migrate", "jwt_auth", "zero", fake=True, verbosity=0)
    call_command("migrate", "jwt_auth", verbosity=0)


def scanned(explained: list[dict[str, Any]]) -> int:
    """Return how many partitions, or their indexes, a plan looks into."""
    (answer,) = explained

    def count(node: dict[str, Any]) -> int:
        below = sum(count(child) for child in node.get("Plans", []))
        return below + (str(node.get("Relation Name", "")).startswith(f"{TABLE}_"))

    return count(answer["Plan"])


def test_a_life_in_partitions(
    before: list[sessions.TokenPair], settings: Any, outcome: Callable[..., None]
) -> None:
    settings.JWT_AUTH = {"ROLES": None}
    assert partitions() == PARTITIONS
    assert LoginSession.objects.count() == len(before)

    # Rotated, handed back, replayed.
    first = before[0]
    second = sessions.refresh(first.refresh_token or "")
    assert sessions.refresh(first.refresh_token or "").refresh_token == second.refresh_token
    row = LoginSession.objects.filter(pk=first.session_id)
    row.update(rotated_at=timezone.now() - timedelta(hours=1))
    with pytest.raises(RefreshReused):
        sessions.refresh(first.refresh_token or "")

    # Started and ended; the list names both that have ended.
    user = User.objects.get(username="user1")
    new = sessions.start(user)
    assert sessions.end_all(user) == 2
    with pytest.raises(SessionEnded):
        verify(new.access_token)
    assert verify(before[2].access_token).session_id == before[2].session_id
    ended = ended_sessions("default", timezone.now() - timedelta(minutes=8))
    assert ended == {first.session_id, before[1].session_id, new.session_id}

    # A user who is deleted, and one who is locked out.
    User.objects.get(username="user2").delete()
    other = User.objects.get(username="user3")
    other.is_active = False
    other.save()
    for pair in before[2:4]:
        with pytest.raises(SessionEnded):
            sessions.refresh(pair.refresh_token or "")

    # Purged.
    old = timezone.now() - timedelta(days=100)
    LoginSession.objects.filter(revoked_at__isnull=False).update(revoked_at=old)
    assert sessions.purge() == 5
    assert LoginSession.objects.count() == len(before) + 1 - 5
    outcome("a session's life in partitions", 1, f"{PARTITIONS} partitions, nothing differs")


def test_which_partitions_are_asked(
    before: list[sessions.TokenPair], settings: Any, outcome: Callable[..., None]
) -> None:
    settings.JWT_AUTH = {"ROLES": None}

    def asked(call: Callable[[], object]) -> list[int]:
        with CaptureQueriesContext(connection) as captured:
            call()
        counts = []
        with connection.cursor() as cursor:
            for query in captured.captured_queries:
                cursor.execute(f"EXPLAIN (FORMAT JSON) {query['sql']}")
                counts.append(scanned(cursor.fetchone()[0]))
        return counts

    refresh = asked(lambda: sessions.refresh(before[0].refresh_token or ""))
    since = timezone.now() - timedelta(minutes=8)
    listed = asked(lambda: ended_sessions("default", since))
    assert refresh == [1, 1]
    assert listed == [PARTITIONS]
    outcome("partitions asked by a refresh, by the list", 1, "one; all")
