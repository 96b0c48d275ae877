"""What a refresh costs the database: statements, transactions and rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from jwt_auth import sessions
from jwt_auth.errors import RefreshNotValid, RefreshReused, SessionEnded
from jwt_auth.models import LoginSession
from tests.conftest import Clock, JSONClient
from tests.proof.races import attempt

REFRESHES = int(os.environ.get("JWT_AUTH_PROOF_REFRESHES", "1000"))
GRACE = timedelta(minutes=2)

# Two more, with and without roles from groups: they are read for every access token.
ROLES = [pytest.param({}, 1, id="roles"), pytest.param({"ROLES": None}, 0, id="no-roles")]


def statements(action: Callable[[], object]) -> list[str]:
    """Return the first words of what *action* sends, with transactions and savepoints."""
    with CaptureQueriesContext(connection) as captured:
        action()
    return [query["sql"].split()[0].rstrip(";").upper() for query in captured.captured_queries]


def refused(raw: str, error: type[Exception]) -> None:
    """Refresh *raw*, which has to be refused."""
    with pytest.raises(error):
        sessions.refresh(raw)


@pytest.mark.parametrize(("jwt_auth", "roles"), ROLES)
def test_statements(
    user: User,
    client: JSONClient,
    clock: Clock,
    settings: Any,
    outcome: Callable[..., None],
    jwt_auth: dict[str, Any],
    roles: int,
) -> None:
    settings.JWT_AUTH = {**jwt_auth, "REFRESH_GRACE": GRACE}
    first = sessions.start(user).refresh_token or ""
    read = ["SELECT"] * (1 + roles)
    second = ""

    def rotate() -> None:
        nonlocal second
        second = attempt(first)

    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        User.objects.count()
    assert "BEGIN" in captured.captured_queries[0]["sql"], "transactions are not counted"
    assert statements(rotate) == [*read, "UPDATE"]
    # The same again from whoever has lost the answer, and from whoever has it.
    assert statements(lambda: attempt(first)) == read
    assert statements(lambda: attempt(second)) == read
    clock.move(minutes=10)
    # The view adds nothing, and no middleware does.
    assert statements(lambda: client.refresh(second)) == [*read, "UPDATE"]
    assert statements(lambda: client.refresh(second)) == read
    clock.move(minutes=10)
    assert statements(lambda: refused(second, RefreshReused)) == ["SELECT", "UPDATE"]
    assert statements(lambda: refused(second, SessionEnded)) == ["SELECT"]
    assert statements(lambda: refused(second[:-1], RefreshNotValid)) == []
    outcome(
        "statements of a refresh" + (", roles from groups" if roles else ""),
        1,
        f"rotation {2 + roles}, handed back {1 + roles}, reuse 2, ended 1, forged 0; no BEGIN",
    )


def test_rows(user: User, clock: Clock, outcome: Callable[..., None]) -> None:
    pairs = [sessions.start(user), sessions.start(user)]
    tokens = [pair.refresh_token or "" for pair in pairs]
    for _ in range(REFRESHES):
        clock.move(minutes=3)
        successors = [attempt(raw) for raw in tokens]
        assert all(new.startswith("jwtr_") for new in successors), successors
        assert not set(successors) & set(tokens)
        tokens = successors
    generations = list(LoginSession.objects.values_list("generation", "revoked_at"))
    assert generations == [(REFRESHES, None)] * len(pairs)
    outcome("rows of two logins", f"{REFRESHES} refreshes each", f"{len(generations)} rows")
