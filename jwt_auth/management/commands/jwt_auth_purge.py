"""``manage.py jwt_auth_purge``: delete the rows of sessions that are over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jwt_auth import sessions
from jwt_auth.errors import Unavailable
from jwt_auth.management.progress import ProgressBar

# A hundred years: beyond, there may be no such date.
MOST_DAYS = 36_500


class Command(BaseCommand):
    """Deletes in small batches, beside live traffic; may be stopped and run again."""

    help = "Delete the rows of login sessions that are over. Run it daily."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take how long ended sessions are kept."""
        parser.add_argument(
            "--keep-days",
            type=float,
            default=sessions.KEPT / timedelta(days=1),
            help="keep what ended within so many days (default: %(default)g)",
        )

    def handle(self, *args: Any, keep_days: float, **options: Any) -> None:
        """Purge."""
        if not 0 <= keep_days <= MOST_DAYS:
            raise CommandError(f"--keep-days is a number from 0 to {MOST_DAYS}.")
        bar = ProgressBar(self.stdout)
        try:
            deleted = sessions.purge(
                kept=timedelta(days=keep_days),
                progress=lambda share, count: bar.show(share, f"{count} deleted"),
            )
        except Unavailable:
            raise CommandError(
                "The database failed; the log says how. Run the command again: it goes on."
            ) from None
        finally:
            bar.close()
        self.stdout.write(f"{deleted} rows of ended sessions deleted.")
