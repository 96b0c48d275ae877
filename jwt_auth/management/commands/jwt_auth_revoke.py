"""``manage.py jwt_auth_revoke``: end sessions of one user, one session, or all."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import router

from jwt_auth import sessions
from jwt_auth.errors import Unavailable
from jwt_auth.management.progress import ProgressBar
from jwt_auth.models import LoginSession, LoginSessionQuerySet

security_logger = logging.getLogger("jwt_auth.security")


class Command(BaseCommand):
    """Ends sessions in batches. Refresh tokens end at once, access tokens within a second."""

    help = "End login sessions: of one user, one by its id, or all."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whose sessions to end."""
        whose = parser.add_mutually_exclusive_group(required=True)
        field = get_user_model().USERNAME_FIELD
        whose.add_argument("--user", metavar=field.upper(), help="the sessions of this user")
        whose.add_argument("--session", metavar="ID", type=UUID, help="one session (the claim sid)")
        whose.add_argument("--all", action="store_true", help="everybody's sessions")

    def handle(self, *args: Any, **options: Any) -> None:
        """End them."""
        try:
            if options["user"] is not None:
                count = self._of_user(options["user"])
            elif options["session"] is not None:
                _record(f"session {options['session']}")
                count = int(sessions.end(options["session"], sessions.ADMINISTRATION))
            else:
                _record("every session")
                count = self._of_everybody()
        except Unavailable:
            raise CommandError(
                "The database failed; the log says how. Run the command again: it goes on."
            ) from None
        self.stdout.write(f"{count} sessions ended.")

    def _of_user(self, name: str) -> int:
        model = get_user_model()
        users = model._base_manager.using(router.db_for_write(model))
        found = users.filter(**{model.USERNAME_FIELD: name}).first()
        if found is None:
            raise CommandError("There is no such user.")
        _record(f"the sessions of user {ascii(found.pk)[:100]}")
        with self._progress(LoginSession.objects.on_primary().filter(user=found)) as progress:
            return sessions.end_all(found, reason=sessions.ADMINISTRATION, progress=progress)

    def _of_everybody(self) -> int:
        with self._progress(LoginSession.objects.on_primary()) as progress:
            return sessions.end_everybody(progress=progress)

    @contextmanager
    def _progress(self, whose: LoginSessionQuerySet) -> Iterator[Callable[[int], None]]:
        total = max(whose.filter(revoked_at__isnull=True).count(), 1)
        bar = ProgressBar(self.stdout)
        try:
            yield lambda count: bar.show(min(1.0, count / total), f"{count} ended")
        finally:
            bar.close()


def _record(what: str) -> None:
    """Log who ends *what*, and why. It comes first: a run that fails has ended some of them."""
    try:
        operator = getpass.getuser()
    except (ImportError, KeyError, OSError):
        # A container may run under a number that has no name.
        operator = "an unnamed account"
    security_logger.warning(
        "jwt_auth_revoke, run by %s, ends %s: %s.",
        ascii(operator)[1:-1][:100],
        what,
        sessions.ADMINISTRATION,
    )
