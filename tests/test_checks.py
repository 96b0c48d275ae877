"""Checks of a project's other settings, and of its database."""

from __future__ import annotations

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


CACHES = {
    "django.core.cache.backends.locmem.LocMemCache": True,
    "django.core.cache.backends.dummy.DummyCache": True,
    "django.core.cache.backends.redis.RedisCache": False,
    "django.core.cache.backends.db.DatabaseCache": True,
    "django.core.cache.backends.filebased.FileBasedCache": True,
}


@pytest.mark.parametrize(("backend", "warned"), CACHES.items())
def test_the_cache_in_production(settings: Any, backend: str, warned: bool) -> None:
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1"}}
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
def test_the_table(settings: Any) -> None:
    assert found(databases=["default"]) == []
    with connection.schema_editor() as editor:
        editor.delete_model(LoginSession)
    try:
        assert found(databases=["default"]) == ["jwt_auth.W008"]
        # Nobody has asked for the database, or nothing is asked of it.
        assert found() == []
        settings.JWT_AUTH = {"REFRESH_TOKEN_LIFETIME": None}
        assert found(databases=["default"]) == []
    finally:
        with connection.schema_editor() as editor:
            editor.create_model(LoginSession)
