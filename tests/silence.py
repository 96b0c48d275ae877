"""Listens to every log record of the whole test run, and to what Django would report of it."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from django.views.debug import ExceptionReporter

from tests.conftest import PASSWORD

# An access token, a refresh token, the password of every test, a private key.
SECRETS = re.compile(
    r"eyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{30,}\.[A-Za-z0-9_-]{20,}"
    r"|jwtr_[A-Za-z0-9_-]{40,}"
    rf"|{re.escape(PASSWORD)}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
)


TESTS = Path(__file__).parent
# What a test and its client keep in their own variables is no secret's leak.
OF_A_TEST = re.compile(rf"{re.escape(str(TESTS))}/|.*/(django|rest_framework)/test[/.]")


class Listener(logging.Handler):
    """Keeps the name and the place of records that hold a secret, and never the secret."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[str] = []
        self.number = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Look at the record as any handler may show it."""
        if record.name == "django.db.backends" or record.name.startswith(("asyncio", "playwright")):
            # SQL of tests that count queries, and of the proofs: nothing of ours.
            return
        self.number += 1
        shown = [record.getMessage(), repr(record.args)]
        if record.exc_info and record.exc_info[0] is not None:
            shown.append(logging.Formatter().formatException(record.exc_info))
            shown += _frames(record)
        if any(SECRETS.search(one) for one in shown):
            self.found.append(f"{record.name}, {record.pathname}:{record.lineno}")


def _frames(record: logging.LogRecord) -> list[str]:
    """Return the variables that Django's reporter would show, but of the tests themselves."""
    assert record.exc_info is not None
    reporter = ExceptionReporter(getattr(record, "request", None), *record.exc_info)
    shown = []
    try:
        for frame in reporter.get_traceback_frames():
            # A cause whose traceback is unknown has no file.
            place = frame.get("filename", "")
            if place == str(TESTS / "test_silence.py") or not OF_A_TEST.match(place):
                shown += [str(value) for _, value in frame["vars"]]
    except Exception as error:  # noqa: BLE001
        # A variable that cannot be shown, as a queryset of a database that is down.
        shown.append(str(error))
    return shown
