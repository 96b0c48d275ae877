"""What the database of the sessions must be set to. Nothing here connects to it."""

from __future__ import annotations

from datetime import datetime, tzinfo

from django.db import connections, router

from jwt_auth.conf.report import Report
from jwt_auth.models import LoginSession


def check_database(report: Report) -> None:
    """Note what keeps the database of the sessions from holding any."""
    alias = router.db_for_write(LoginSession)
    connection = connections[alias]
    if not connection.settings_dict["AUTOCOMMIT"]:
        report.error(
            "E020",
            f"AUTOCOMMIT is off for the database {alias!r}: a session that is ended would live on.",
            f"Take AUTOCOMMIT out of DATABASES[{alias!r}].",
        )
    if not connection.features.supports_timezones and _changes_clocks(connection.timezone):
        report.error(
            "E010",
            f"The database {alias!r} stores local times: the hour of a clock change would revive "
            "and kill sessions.",
            f"Take TIME_ZONE out of DATABASES[{alias!r}].",
        )


def _changes_clocks(zone: tzinfo | None) -> bool:
    if zone is None:
        return False
    days = [datetime(2027, month, 15, tzinfo=zone) for month in range(1, 13)]
    return len({day.utcoffset() for day in days}) > 1
