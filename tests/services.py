"""Programs and servers that a run of the tests needs, by the variables of its environment."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

CONNECT_TIMEOUT_SECONDS = 3


def find_missing() -> str | None:
    """Return what this run needs and the machine lacks, in one sentence; else None.

    A server counts as there when it takes a connection.
    """
    return next(_find_all_missing(), None)


def _find_all_missing() -> Iterator[str]:
    engine = os.environ.get("JWT_AUTH_TEST_DATABASE")
    if engine == "postgresql":
        host = os.environ.get("JWT_AUTH_TEST_POSTGRESQL_HOST", "127.0.0.1")
        yield from _check_server("PostgreSQL", host, "JWT_AUTH_TEST_POSTGRESQL_PORT", "5432")
    if engine == "mariadb":
        host = os.environ.get("JWT_AUTH_TEST_MARIADB_HOST", "127.0.0.1")
        yield from _check_server("MariaDB", host, "JWT_AUTH_TEST_MARIADB_PORT", "3306")
    if "JWT_AUTH_TEST_REDIS" in os.environ:
        url = urlsplit(os.environ["JWT_AUTH_TEST_REDIS"])
        yield from _check_port("Redis", url.hostname or "127.0.0.1", url.port or 6379)
    if "JWT_AUTH_TEST_INTEROP" in os.environ:
        for program in ("node", "npm"):
            if shutil.which(program) is None:
                yield f"Node: {program} is not on PATH"
    browser = os.environ.get("JWT_AUTH_TEST_CHROMIUM")
    if browser is not None and not os.access(browser, os.X_OK):
        yield f"Chromium: {browser} is not a program; JWT_AUTH_TEST_CHROMIUM can name another path"


def _check_server(name: str, host: str, variable: str, port: str) -> Iterator[str]:
    # A path is the folder of a Unix socket, which only the driver can look into.
    if not host.startswith("/"):
        yield from _check_port(name, host, int(os.environ.get(variable, port)))


def _check_port(name: str, host: str, port: int) -> Iterator[str]:
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT_SECONDS).close()
    except OSError as error:
        yield f"{name} does not answer on {host}:{port} ({error.strerror or error})"
