"""Sessions in the admin: seen and ended, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Permission, User

from jwt_auth import sessions
from jwt_auth.models import LoginSession
from tests.conftest import Clock, JSONClient

LIST = "/admin/jwt_auth/loginsession/"


@pytest.fixture
def admin(client: JSONClient, db: None) -> JSONClient:
    client.force_login(User.objects.create_superuser("root", password="x"))
    return client


def page(client: JSONClient, query: str = "") -> str:
    """Return the list of sessions."""
    answer = client.get(f"{LIST}{query}")
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_the_list_shows_the_state(
    clock: Clock, client: JSONClient, user: User, make_user: Any
) -> None:
    sessions.start(user, device="old phone")
    clock.move(days=15)
    client.force_login(User.objects.create_superuser("root", password="x"))
    sessions.start(user, device="laptop")
    pair = sessions.start(make_user("grace"), device="tablet")
    sessions.end_all(User.objects.get(username="grace"))
    assert pair
    shown = page(client)
    assert all(text in shown for text in ("ada", "grace", "laptop", "tablet", "old phone"))
    for state, device in (("live", "laptop"), ("ended", "tablet"), ("expired", "old phone")):
        found = page(client, f"?state={state}")
        assert [one for one in ("laptop", "tablet", "old phone") if f">{one}</a>" in found] == [
            device
        ]
    assert "tablet" not in page(client, "?q=ada")
    assert "laptop" not in page(client, "?q=grace")


def test_the_list_costs_the_same_for_many(
    clock: Clock, admin: JSONClient, make_user: Any, django_assert_max_num_queries: Any
) -> None:
    for number in range(20):
        sessions.start(make_user(f"user{number}"))
    with django_assert_max_num_queries(8):
        page(admin)


def test_a_session_shows_nothing_secret(admin: JSONClient, user: User) -> None:
    pair = sessions.start(user, claims={"tenant": "blue"})
    answer = admin.get(f"{LIST}{pair.session_id}/change/")
    assert answer.status_code == 200
    mark = LoginSession.objects.get().password_mark
    assert mark not in answer.content.decode()
    assert "Save" not in answer.content.decode()
    assert "Delete" not in answer.content.decode()


@pytest.mark.parametrize(
    ("at_login", "now", "shown"),
    [
        ({}, {}, "March 15, 2027, 1 p.m."),
        ({"SESSION_LIFETIME": timedelta(days=2)}, {}, "March 3, 2027, 1 p.m."),
        ({}, {"REFRESH_TOKEN_LIFETIME": None}, "May 30, 2027, 2 p.m."),
    ],
    ids=["idle limit", "absolute limit", "no sessions"],
)
def test_session_shows_its_nearer_end(
    clock: Clock, client: JSONClient, user: User, settings: Any, at_login: Any, now: Any, shown: str
) -> None:
    settings.TIME_ZONE = "Europe/Vienna"
    settings.JWT_AUTH = at_login
    sessions.start(user)
    settings.JWT_AUTH = now
    client.force_login(User.objects.create_superuser("root", password="x"))
    page_of_session = client.get(f"{LIST}{LoginSession.objects.get().pk}/change/")
    assert f">{shown}<" in page_of_session.content.decode()


def test_nothing_is_added_changed_or_deleted(admin: JSONClient, user: User) -> None:
    pair = sessions.start(user)
    assert admin.get(f"{LIST}add/").status_code == 403
    assert admin.post(f"{LIST}{pair.session_id}/change/", {"device": "x"}).status_code == 403
    assert admin.post(f"{LIST}{pair.session_id}/delete/", {"post": "yes"}).status_code == 403
    delete = {"action": "delete_selected", "_selected_action": str(pair.session_id), "post": "yes"}
    admin.post(LIST, delete)
    assert LoginSession.objects.get().revoked_at is None


def test_sessions_are_ended(admin: JSONClient, user: User) -> None:
    pairs = [sessions.start(user) for _ in range(2)]
    chosen = [str(pair.session_id) for pair in pairs]
    answer = admin.post(LIST, {"action": "end", "_selected_action": chosen}, follow=True)
    assert "2 sessions were ended." in answer.content.decode()
    for pair in pairs:
        assert admin.whoami(pair.access_token).json()["code"] == "session_ended"
    assert set(LoginSession.objects.values_list("revoked_reason", flat=True)) == {"administration"}


def test_ended_sessions_leave_a_log_entry_with_who_and_why(
    admin: JSONClient,
    user: User,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sessions, "BATCH", 2)
    pairs = [sessions.start(user) for _ in range(5)]
    sessions.end(pairs[0].session_id)  # type: ignore[arg-type]
    chosen = [str(pair.session_id) for pair in pairs]
    answer = admin.post(LIST, {"action": "end", "_selected_action": chosen}, follow=True)
    assert "4 sessions were ended." in answer.content.decode()
    root = User.objects.get(username="root")
    entries = LogEntry.objects.filter(user=root, action_flag=CHANGE)
    assert sorted(entries.values_list("object_id", flat=True)) == sorted(chosen[1:])
    assert {entry.change_message for entry in entries} == {"Ended: administration."}
    [record] = [one for one in caplog.records if one.name == "jwt_auth.security"]
    assert record.getMessage() == f"User {root.pk} ended 4 sessions in the admin: administration."
    # The page of a session has a button that shows them.
    assert "Ended: administration." in admin.get(f"{LIST}{chosen[1]}/history/").content.decode()


def test_end_names_its_rows_by_key(
    admin: JSONClient, user: User, django_assert_max_num_queries: Any
) -> None:
    pair = sessions.start(user)
    form = {"action": "end", "_selected_action": str(pair.session_id)}
    with django_assert_max_num_queries(50) as captured:
        admin.post(LIST, form)
    updates = [query["sql"] for query in captured if query["sql"].startswith("UPDATE")]
    assert any("revoked_at" in sql for sql in updates)
    # MySQL refuses an UPDATE whose condition selects from the same table (error 1093).
    assert not any("SELECT" in sql for sql in updates)


def test_ending_asks_for_a_permission(client: JSONClient, user: User) -> None:
    pair = sessions.start(user)
    looker = User.objects.create_user("looker", is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_loginsession"))
    client.force_login(looker)
    assert "End the selected" not in page(client)
    client.post(LIST, {"action": "end", "_selected_action": str(pair.session_id)})
    assert LoginSession.objects.get().revoked_at is None
    looker.user_permissions.add(Permission.objects.get(codename="change_loginsession"))
    client.post(LIST, {"action": "end", "_selected_action": str(pair.session_id)})
    assert LoginSession.objects.get().revoked_at is not None


def test_without_sessions_the_page_still_opens(
    admin: JSONClient, user: User, settings: Any
) -> None:
    sessions.start(user)
    settings.JWT_AUTH = {"REFRESH_TOKEN_LIFETIME": None}
    for state in ("", "?state=live", "?state=expired"):
        page(admin, state)


@pytest.mark.parametrize("query", ["?password_mark__startswith=a", "?claims__tenant=blue"])
def test_the_query_string_tells_nothing_secret(admin: JSONClient, user: User, query: str) -> None:
    sessions.start(user, claims={"tenant": "blue"})
    assert admin.get(f"{LIST}{query}").status_code in {302, 400}
