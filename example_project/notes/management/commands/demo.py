"""``manage.py demo``: make keys, migrate, seed, play the tour, say what to try, serve."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from io import StringIO
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError, CommandParser, call_command
from django.core.servers.basehttp import WSGIServer
from django.urls import reverse

from notes import tour_of_two
from notes.models import Note
from notes.seed import PASSWORDS, sow
from notes.tour import Tour, play

HOST = "127.0.0.1"
FIRST_PORT = 8000
PORTS_TO_TRY = 50
SECONDS_TO_START = 20

LINES = """
Try it in a browser, at {base}/ (alice: "{alice}", eve: "{eve}"),
or paste these steps, which need curl and python3:

1. Sign in as alice, and keep what comes back:

{login}

2. List what she may see:

{call}

3. Let eve, who is in the group "editors", publish a note of alice's:

{publish}

The second service, which has no users, takes alice's token as well:

{orders}

Ctrl-C stops both servers.
"""


class Command(BaseCommand):
    """Makes keys and a database, sows users and notes, plays the tour, and serves."""

    # Without keys the settings have an error.
    requires_system_checks = ()
    help = "Migrate, seed, play a tour of a login's life over HTTP, and serve on 127.0.0.1."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the server's kind and the first port to try."""
        parser.add_argument("--port", type=int, default=FIRST_PORT, help="the first port to try")
        parser.add_argument("--asgi", action="store_true", help="serve by uvicorn, as ASGI")
        parser.add_argument("--skip-tour", action="store_true", help="serve at once")
        parser.add_argument(
            "--exit",
            action="store_true",
            help="stop after the tour; fail if an answer was not the documented one",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        # Ended by a supervisor or by Ctrl-C, the server stops alike.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if options["asgi"] and find_spec("uvicorn") is None:
            raise CommandError("--asgi needs uvicorn: pip install uvicorn")
        _make_keys()
        call_command("check")
        call_command("migrate", verbosity=0)
        sow()
        port = _free_port(options["port"])
        if port != options["port"]:
            self._say(f"Port {options['port']} is taken; this is port {port}.")
        if not options["skip_tour"]:
            surprises = self._play_tour(port, asgi=options["asgi"])
            if options["exit"] and surprises:
                raise CommandError("The tour met answers that are not documented.")
        if options["exit"]:
            return
        try:
            with Services(port, asgi=options["asgi"], quiet=False) as services:
                self._say(_lines(f"http://{HOST}:{port}", f"http://{HOST}:{services.orders_port}"))
                services.wait()
        except KeyboardInterrupt:
            self._say("Stopped.")

    def _play_tour(self, port: int, *, asgi: bool) -> list[str]:
        started = time.monotonic()
        tour = Tour(HOST, port, self._say)
        with Services(port, asgi=asgi, quiet=True) as services:
            surprises = play(tour, lambda tour: tour_of_two.play(tour, services))
        kind = "ASGI (uvicorn)" if asgi else "WSGI (runserver)"
        self._say(f"The tour over {kind} took {time.monotonic() - started:.1f} s.")
        return surprises

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        # A script that started this in the background reads along.
        self.stdout.flush()


class Services:
    """The two services of the example, each in a process of its own, until the block ends."""

    def __init__(self, port: int, *, asgi: bool, quiet: bool) -> None:
        self.port = port
        self.orders_port = _free_port(port + 1)
        self._asgi = asgi
        self._quiet = quiet
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Services:
        try:
            self.start_notes(rotated=False)
            notes = f"http://{HOST}:{self.port}"
            self._start("orders_service", self.orders_port, {"NOTES_URL": notes})
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for name in tuple(self._running):
            self._stop(name)

    def start_notes(self, *, rotated: bool) -> None:
        """Start the first service; *rotated* says that the second key signs."""
        self._start("example", self.port, {"EXAMPLE_ROTATED": "1"} if rotated else {})

    def stop_notes(self) -> None:
        """Stop the first service."""
        self._stop("example")

    def wait(self) -> None:
        """Wait until the first service ends."""
        self._running["example"].wait()

    def _start(self, name: str, port: int, environment: dict[str, str]) -> None:
        """Start the service whose settings are in the package *name*; wait until it answers."""
        if self._asgi:
            command = ["-m", "uvicorn", f"{name}.asgi:application", "--host", HOST]
            command += ["--port", str(port)]
        else:
            command = ["manage.py", "runserver", f"{HOST}:{port}", "--noreload"]
        settings_module = f"{name}.settings"
        output = subprocess.DEVNULL if self._quiet else None
        self._running[name] = process = subprocess.Popen(
            [sys.executable, *command],
            cwd=settings.BASE_DIR,
            env={**os.environ, **environment, "DJANGO_SETTINGS_MODULE": settings_module},
            stdout=output,
            stderr=output,
            # Ctrl-C is for this command, which then stops the servers.
            start_new_session=True,
        )
        _wait_until_it_answers(process, port)

    def _stop(self, name: str) -> None:
        process = self._running.pop(name)
        process.terminate()
        process.wait()


def _make_keys() -> None:
    """Make the keys that the settings name, unless an earlier run has made them."""
    for path in settings.KEYS:
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            said = StringIO()
            call_command("jwt_auth_generate_key", algorithm="EdDSA", output=path, stdout=said)


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(SECONDS_TO_START * 20):
        if process.poll() is not None:
            raise CommandError(f"The server ended with status {process.returncode}.")
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise CommandError(f"The server did not answer within {SECONDS_TO_START} s.")


def _free_port(first: int) -> int:
    for port in range(first, first + PORTS_TO_TRY):
        with socket.socket(WSGIServer.address_family, socket.SOCK_STREAM) as candidate:
            # As the server does it: a port that was left a second ago is free.
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((HOST, port))
            except OSError:
                continue
            return port
    raise CommandError(f"No port from {first} to {first + PORTS_TO_TRY - 1} is free.")


def _lines(base: str, orders: str) -> str:
    note = Note.objects.filter(owner__username="alice").earliest("pk")
    notes = f"{base}{reverse('note-list')}"
    publish = f"{base}{reverse('note-publish', args=[note.pk])}"
    return LINES.format(
        base=base,
        **PASSWORDS,
        login=_login(base, "alice", "TOKEN"),
        call=f'curl -i {notes} -H "Authorization: Bearer $TOKEN"',
        publish=f"{_login(base, 'eve', 'EDITOR')} && \\\n"
        f'  curl -i -X POST {publish} -H "Authorization: Bearer $EDITOR"',
        orders=f'curl -i {orders}/orders/ -H "Authorization: Bearer $TOKEN"',
    )


def _login(base: str, name: str, variable: str) -> str:
    body = f'{{"username": "{name}", "password": "{PASSWORDS[name]}"}}'
    take = """python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])'"""
    return (
        f"{variable}=$(curl -s {base}{reverse('jwt_auth:login')} "
        f"-H 'Content-Type: application/json' \\\n  -d '{body}' | {take})"
    )
