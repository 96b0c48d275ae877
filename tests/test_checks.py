"""Checks of a project's other settings, and of its database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection

from jwt_auth.models import LoginSession


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
