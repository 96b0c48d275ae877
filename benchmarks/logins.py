"""Logins and refreshes over the views, through Django's handler: ours and simplejwt's.

simplejwt rotates and blacklists, as it has to be set up where a stolen refresh token is to be
of no use. Logins are without the hash, which is the same for everybody and long on purpose.
Each session is refreshed once: within the grace a second time would only be a retry.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

from benchmarks import project
from benchmarks.figures import OURS, SIMPLEJWT, Figure, is_quick, say, side_by_side
from benchmarks.settings import ENGINE

LABEL = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[ENGINE]
LOGIN, REFRESH = "Login, without the hash", "Refresh"
# The same work: a user is found, the login is noted, a row is written, two tokens are made.
UNLIMITED, NOTING = f"{OURS}, no THROTTLE_RATES", f"{SIMPLEJWT}, UPDATE_LAST_LOGIN"
CREDENTIALS = {"username": project.USER, "password": project.PASSWORD}
CLIENTS = 8


def post(path: str, body: dict[str, str]) -> dict[str, Any]:
    """Return what a server hands to WSGI."""
    data = json.dumps(body).encode()
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        # Counted by its address, as a client from elsewhere is.
        "REMOTE_ADDR": "198.51.100.7",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(data)),
        "wsgi.input": BytesIO(data),
        "wsgi.url_scheme": "http",
    }


class Server:
    """Django's handler, and clients that call it one after the other or all at once."""

    def __init__(self) -> None:
        from django.core.handlers.wsgi import WSGIHandler
        from django.test import override_settings

        # Neither of the two needs any.
        with override_settings(MIDDLEWARE=[]):
            self.handler = WSGIHandler()

    def answer(self, environ: dict[str, Any]) -> None:
        """Answer one request."""

        def answered(status: str, headers: Any) -> None:
            assert status.startswith("200"), (environ["PATH_INFO"], status)

        self.handler(environ, answered).close()

    def time(self, environs: list[dict[str, Any]], clients: int) -> float:
        """Return how many seconds so many *clients* need for all of *environs*."""
        if clients == 1:
            began = time.perf_counter()
            for one in environs:
                self.answer(one)
            return time.perf_counter() - began

        def work(number: int) -> None:
            from django.db import connection

            connection.ensure_connection()
            for one in environs[number::clients]:
                self.answer(one)
            connection.close()

        with ThreadPoolExecutor(clients) as pool:
            began = time.perf_counter()
            list(pool.map(work, range(clients)))
            return time.perf_counter() - began


def our_refresh_token() -> str:
    from jwt_auth import sessions

    raw = sessions.start(project.user()).refresh_token
    assert raw is not None
    return raw


def simplejwts_refresh_token() -> str:
    from rest_framework_simplejwt.tokens import RefreshToken

    return str(RefreshToken.for_user(project.user()))


def refreshes(
    server: Server, path: str, name: str, token: Callable[[], str], clients: int
) -> Callable[[int], float]:
    """Return what refreshes so many new sessions, each once."""

    def run(number: int) -> float:
        environs = [post(path, {name: token()}) for _ in range(number)]
        return server.time(environs, clients)

    return run


def logins(server: Server, path: str, clients: int) -> Callable[[int], float]:
    """Return what signs in so often."""

    def run(number: int) -> float:
        return server.time([post(path, CREDENTIALS) for _ in range(number)], clients)

    return run


def without_limits(run: Callable[[int], float]) -> Callable[[int], float]:
    """Return *run* with no tries counted, as simplejwt counts none."""
    from django.conf import settings
    from django.test import override_settings

    from jwt_auth.runtime import current

    rates = dict.fromkeys(("login", "login_account", "login_address", "refresh"))
    ours = {**settings.JWT_AUTH, "THROTTLE_RATES": rates}

    def limitless(number: int) -> float:
        with override_settings(JWT_AUTH=ours):
            # The app's parts are made anew.
            current()
            return run(number)

    return limitless


def noting_logins(run: Callable[[int], float]) -> Callable[[int], float]:
    """Return *run* with simplejwt noting the login on the user's row, as ours always does."""
    from unittest.mock import patch

    from rest_framework_simplejwt.settings import api_settings

    def noting(number: int) -> float:
        with patch.object(api_settings, "UPDATE_LAST_LOGIN", True):
            return run(number)

    return noting


def statements(run: Callable[[int], float], before: Callable[[], object]) -> float:
    """Return how many statements *run* makes that are not those of making what it needs."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as making:
        before()
    with CaptureQueriesContext(connection) as both:
        run(1)
    return len(both) - len(making)


def main() -> None:
    quick = is_quick()
    project.begin()
    server = Server()
    for clients in (1, CLIENTS):
        case = f"{LABEL}, {clients} client{'s' if clients > 1 else ''}"
        tables = {
            LOGIN: {
                OURS: logins(server, "/auth/login/", clients),
                UNLIMITED: without_limits(logins(server, "/auth/login/", clients)),
                SIMPLEJWT: logins(server, "/simplejwt/login/", clients),
                NOTING: noting_logins(logins(server, "/simplejwt/login/", clients)),
            },
            REFRESH: {
                OURS: refreshes(
                    server, "/auth/refresh/", "refresh_token", our_refresh_token, clients
                ),
                SIMPLEJWT: refreshes(
                    server, "/simplejwt/refresh/", "refresh", simplejwts_refresh_token, clients
                ),
            },
        }
        for table, runs in tables.items():
            say(f"{table}, {case}")
            for run in runs.values():
                run(CLIENTS)
            number, rounds = (2 * CLIENTS, 2) if quick else (48, 41)
            for name, seconds in side_by_side(runs, number=number, rounds=rounds).items():
                Figure(table, case, name, seconds * 1e6, "µs").tell()
        if clients == 1:
            for table, befores in (
                (LOGIN, (lambda: None,) * 4),
                (REFRESH, (our_refresh_token, simplejwts_refresh_token)),
            ):
                for (name, run), before in zip(tables[table].items(), befores, strict=True):
                    count = statements(run, before)
                    Figure(table, f"{LABEL}, statements", name, count, "").tell()
    project.end()


if __name__ == "__main__":
    main()
