"""What a login leaves in the database after a hundred refreshes, and what an import costs.

The database is compacted before it is measured, so that bytes are those of rows and indexes.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import project
from benchmarks.figures import OURS, SIMPLEJWT, Figure, is_quick, say
from benchmarks.logins import our_refresh_token, simplejwts_refresh_token

TABLE = "One login, after 100 refreshes"
IMPORT = "Import, added to Django with DRF"

# Each as a project has it: the app, and the module that its urls or views are in.
APPS = {
    OURS: (["jwt_auth"], ["jwt_auth.urls", "jwt_auth.authentication"]),
    SIMPLEJWT: (
        ["rest_framework_simplejwt", "rest_framework_simplejwt.token_blacklist"],
        ["rest_framework_simplejwt.views", "rest_framework_simplejwt.authentication"],
    ),
    "knox": (["knox"], ["knox.urls", "knox.auth"]),
}
SET_UP = """
import sys, time
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="benchmarks-only-0123456789-abcdefghijklmnopqrstuvwxyz",
    USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework"]
    + [one for one in sys.argv[1].split(",") if one],
)
began = time.perf_counter()
django.setup()
import rest_framework.views
for module in [one for one in sys.argv[2].split(",") if one]:
    __import__(module)
print(time.perf_counter() - began)
"""


def our_refresh(raw: str) -> str:
    from jwt_auth import sessions

    following = sessions.refresh(raw).refresh_token
    assert following is not None
    return following


def simplejwts_refresh(raw: str) -> str:
    from rest_framework_simplejwt.serializers import TokenRefreshSerializer

    serializer = TokenRefreshSerializer(data={"refresh": raw})
    serializer.is_valid(raise_exception=True)
    return serializer.validated_data["refresh"]


def size() -> int:
    """Return the bytes of the whole database, without what is free in it."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Path(connection.settings_dict["NAME"]).stat().st_size


def rows() -> int:
    """Return the number of rows in all tables."""
    from django.apps import apps

    return sum(model._base_manager.count() for model in apps.get_models())


def refreshed(
    name: str, login: Callable[[], str], refresh: Callable[[str], str], logins: int, times: int
) -> None:
    """Sign in so often, refresh each so many times, and tell what that leaves."""
    from django.test import override_settings

    # A retry within the grace would write nothing.
    with override_settings(JWT_AUTH={"ROLES": None, "REFRESH_GRACE": 0}):
        bytes_before, rows_before = size(), rows()
        for number in range(logins):
            say(f"{name}: {number + 1} of {logins} logins, {times} refreshes each")
            raw = login()
            for _ in range(times):
                raw = refresh(raw)
        Figure(TABLE, "rows", name, (rows() - rows_before) / logins, "").tell()
        Figure(TABLE, "bytes", name, (size() - bytes_before) / logins, "").tell()


def seconds_to_import(apps: list[str], modules: list[str], rounds: int) -> float:
    """Return how long a new process needs to set Django up, without starting Python."""
    # With bytecode, which the first round may have to write.
    without = {"DJANGO_SETTINGS_MODULE", "PYTHONDONTWRITEBYTECODE"}
    environment = {name: one for name, one in os.environ.items() if name not in without}
    taken = []
    for _ in range(rounds + 1):
        done = subprocess.run(
            [sys.executable, "-c", SET_UP, ",".join(apps), ",".join(modules)],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        taken.append(float(done.stdout))
    return statistics.median(taken[1:])


def main() -> None:
    quick = is_quick()
    project.begin()
    logins, times = (2, 5) if quick else (100, 100)
    refreshed(OURS, our_refresh_token, our_refresh, logins, times)
    refreshed(SIMPLEJWT, simplejwts_refresh_token, simplejwts_refresh, logins, times)
    project.end()
    say("imports")
    rounds = 1 if quick else 9
    floor = seconds_to_import([], [], rounds)
    Figure("Import", "Django with DRF, in all", "nothing more", floor * 1e3, "ms").tell()
    for name, (apps, modules) in APPS.items():
        added = seconds_to_import(apps, modules, rounds) - floor
        Figure(IMPORT, "time", name, added * 1e3, "ms").tell()


if __name__ == "__main__":
    main()
