"""The project, ready to use: its database made and migrated, a user, a view of each contender."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django

USER = "ada"
PASSWORD = "correct horse"


def begin() -> None:
    """Set Django up on a new database with one user."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    end()
    _create()
    call_command("migrate", verbosity=0)
    get_user_model().objects.create_user(USER, password=PASSWORD)


def user() -> Any:
    """Return the user that begin() has made."""
    from django.contrib.auth import get_user_model

    return get_user_model().objects.get(username=USER)


def end() -> None:
    """Take the database away."""
    from django.db import connection

    connection.close()
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        for suffix in ("", "-wal", "-shm"):
            Path(name + suffix).unlink(missing_ok=True)
        return
    with connection._nodb_cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _create() -> None:
    from django.db import connection

    if connection.vendor != "sqlite":
        name = connection.settings_dict["NAME"]
        with connection._nodb_cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
