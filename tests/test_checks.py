"""Checks of a project's other settings, and of its database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.checks import run_checks
from django.db import OperationalError, ProgrammingError, connection, connections
from django.db.migrations.recorder import MigrationRecorder

from jwt_auth.errors import Unavailable
from jwt_auth.models import LoginSession, database_answers


def found(**kwargs: Any) -> list[str]:
    """Return the ids of our messages."""
    return [str(one.id) for one in run_checks(**kwargs) if str(one.id).startswith("jwt_auth.")]


@pytest.mark.parametrize(
    ("everybody", "credentials", "ids"),
    [(True, True, ["jwt_auth.W007"]), (True, False, []), (False, True, []), (False, False, [])],
)
@pytest.mark.parametrize("name", ["CORS_ALLOW_ALL_ORIGINS", "CORS_ORIGIN_ALLOW_ALL"])
def test_cors(settings: Any, name: str, everybody: bool, credentials: bool, ids: list[str]) -> None:
    setattr(settings, name, everybody)
    settings.CORS_ALLOW_CREDENTIALS = credentials
    assert found(tags=["security"]) == ids


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        (r".*", ["jwt_auth.W007"]),
        (r"^https://", ["jwt_auth.W007"]),
        (r"^http://.*$", ["jwt_auth.W007"]),
        (r"^https?://.*\.com$", ["jwt_auth.W007"]),
        (r"^https://[^.]+\.[^.]+$", ["jwt_auth.W007"]),
        (r"https://\w+\.example\.com$", []),
    ],
)
@pytest.mark.parametrize("name", ["CORS_ALLOWED_ORIGIN_REGEXES", "CORS_ORIGIN_REGEX_WHITELIST"])
def test_cors_by_pattern(settings: Any, name: str, pattern: str, ids: list[str]) -> None:
    setattr(settings, name, ["(", pattern])
    settings.CORS_ALLOW_CREDENTIALS = True
    assert found(tags=["security"]) == ids


@pytest.mark.parametrize("patterns", [["("], [None], [b".*"], None, "https://a.example"], ids=repr)
def test_what_is_no_pattern_is_not_ours_to_say(settings: Any, patterns: Any) -> None:
    settings.CORS_ALLOWED_ORIGIN_REGEXES = patterns
    for credentials in (True, False):
        settings.CORS_ALLOW_CREDENTIALS = credentials
        assert found(tags=["security"]) == []


@pytest.mark.parametrize(
    ("others", "ids"),
    [
        ({}, ["jwt_auth.W009"]),
        ({"CSRF_COOKIE_SAMESITE": "None"}, ["jwt_auth.W009"]),
        ({"CSRF_COOKIE_SAMESITE": "None", "CSRF_COOKIE_SECURE": True}, []),
        ({"CSRF_USE_SESSIONS": True}, ["jwt_auth.W009"]),
        (
            {
                "CSRF_USE_SESSIONS": True,
                "SESSION_COOKIE_SAMESITE": "None",
                "SESSION_COOKIE_SECURE": True,
            },
            [],
        ),
    ],
)
def test_cookies_for_another_site(settings: Any, others: dict[str, Any], ids: list[str]) -> None:
    for name, value in others.items():
        setattr(settings, name, value)
    settings.JWT_AUTH = {"COOKIES": {}}
    assert found(tags=["security"]) == []
    settings.JWT_AUTH = {"COOKIES": {"SAMESITE": "None"}}
    assert found(tags=["security"]) == ids


@pytest.mark.parametrize(
    ("proxies", "warned"), [(None, False), (0, False), (2, False), ("1", True), (-1, True)]
)
def test_the_number_of_proxies(settings: Any, proxies: Any, warned: bool) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": proxies}
    assert found(tags=["security"]) == (["jwt_auth.W010"] if warned else [])


CACHES = {
    "django.core.cache.backends.locmem.LocMemCache": True,
    "django.core.cache.backends.dummy.DummyCache": True,
    "django.core.cache.backends.redis.RedisCache": False,
    "django.core.cache.backends.db.DatabaseCache": True,
    "django.core.cache.backends.filebased.FileBasedCache": True,
}


@pytest.mark.parametrize(("backend", "warned"), CACHES.items())
def test_the_cache_in_production(settings: Any, tmp_path: Path, backend: str, warned: bool) -> None:
    is_redis = backend.endswith("RedisCache")
    location = "redis://127.0.0.1:1" if is_redis else str(tmp_path)
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": location}}
    ids = found(tags=["security"], include_deployment_checks=True)
    assert ("jwt_auth.W006" in ids) == warned
    assert found(tags=["security"]) == []
    settings.JWT_AUTH = {"THROTTLE_RATES": None}
    ids = found(tags=["security"], include_deployment_checks=True)
    assert "jwt_auth.W006" not in ids


def test_without_a_default_cache(settings: Any) -> None:
    settings.CACHES = {}
    assert "jwt_auth.W006" not in found(tags=["security"], include_deployment_checks=True)


@pytest.mark.django_db(transaction=True)
def test_the_table(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(databases=["default"]) == []
    with connection.schema_editor() as editor:
        editor.delete_model(LoginSession)
    try:
        assert found(databases=["default"]) == ["jwt_auth.W008"]
        # Nobody has asked for the database, or nothing is asked of it.
        assert found() == []
        # So does `migrate`, before it begins in a database in which nothing is.
        with monkeypatch.context() as patch:
            patch.setattr(connection.introspection, "table_names", lambda: [])
            assert found(databases=["default"]) == []
        settings.JWT_AUTH = {"REFRESH_TOKEN_LIFETIME": None}
        assert found(databases=["default"]) == []
    finally:
        with connection.schema_editor() as editor:
            editor.create_model(LoginSession)


@pytest.mark.django_db
def test_unapplied_migration_is_a_warning() -> None:
    MigrationRecorder(connection).record_unapplied("jwt_auth", "0001_initial")
    assert found(databases=["default"]) == ["jwt_auth.W008"]


@pytest.mark.parametrize("name", ["ENGINE", "NAME", "HOST", "PORT", "CONN_MAX_AGE"])
@pytest.mark.parametrize("moved", [LoginSession, get_user_model()])
def test_sessions_in_another_database_than_users_are_an_error(
    settings: Any, monkeypatch: pytest.MonkeyPatch, name: str, moved: Any
) -> None:
    class Router:
        def db_for_write(self, model: Any, **hints: Any) -> str | None:
            return "elsewhere" if model is moved else None

    changed = {**connections["default"].settings_dict, name: "7"}
    if name == "ENGINE":
        changed[name] = "django.db.backends.dummy"
    monkeypatch.setitem(connections.settings, "elsewhere", changed)
    settings.DATABASE_ROUTERS = [Router()]
    try:
        # Several aliases may lead to one database.
        expected = [] if name == "CONN_MAX_AGE" else ["jwt_auth.E019"]
        assert found(tags=["security"]) == expected
        settings.JWT_AUTH = {"REFRESH_TOKEN_LIFETIME": None}
        assert found(tags=["security"]) == []
    finally:
        del connections["elsewhere"]


def of_postgresql(state: str) -> ProgrammingError:
    """Return an error as Django raises it for an error of psycopg."""
    error, error.__cause__ = ProgrammingError("whatever, in any language"), Exception()
    error.__cause__.sqlstate = state  # type: ignore[union-attr]
    return error


MISSING = {
    "table of SQLite": OperationalError("no such table: jwt_auth_loginsession"),
    "column of SQLite": OperationalError("no such column: jwt_auth_loginsession.tenant"),
    "inserted column of SQLite": OperationalError("table x has no column named tenant"),
    "table of MariaDB": ProgrammingError(1146, "Table 'x' doesn't exist"),
    "column of MariaDB": OperationalError(1054, "Unknown column 'tenant'"),
    "table of PostgreSQL": of_postgresql("42P01"),
    "column of PostgreSQL": of_postgresql("42703"),
}
OTHER = [OperationalError(), OperationalError(2013, "Lost connection"), of_postgresql("57P01")]


@pytest.mark.parametrize("error", MISSING.values(), ids=MISSING)
def test_missing_table_is_logged_once_for_each_place(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    for _ in range(3):
        with pytest.raises(Unavailable), database_answers():
            raise error
    with pytest.raises(Unavailable), database_answers():
        raise error
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    assert "manage.py migrate --database default" in caplog.records[0].message


@pytest.mark.parametrize("error", OTHER, ids=str)
def test_other_failure_of_the_database_is_logged_each_time(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    for _ in range(3):
        with pytest.raises(Unavailable), database_answers():
            raise error
    assert [record.message for record in caplog.records] == ["The database failed."] * 3
