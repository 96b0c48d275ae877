"""``manage.py demo``: migrate, seed, say what to try, serve."""

from __future__ import annotations

import signal
import socket
from typing import Any

from django.core.management import BaseCommand, CommandParser, call_command
from django.core.servers.basehttp import WSGIServer
from django.urls import reverse

from notes.models import Note
from notes.seed import PASSWORDS, sow

HOST = "127.0.0.1"
FIRST_PORT = 8000
PORTS_TO_TRY = 50

LINES = """
Paste these three, one after the other:

1. Sign in as alice, and keep what comes back:

{login}

2. List her notes with the access token:

{call}

3. Let eve, who is in the group "editors", publish one of them:

{publish}
"""


class Command(BaseCommand):
    """Makes the database, sows users and notes, and serves them."""

    help = "Migrate, seed, print three curl lines to try, and serve on 127.0.0.1."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the first port to try."""
        parser.add_argument("--port", type=int, default=FIRST_PORT, help="the first port to try")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        # Ended by a supervisor or by Ctrl-C, the server stops alike.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        call_command("migrate", verbosity=0)
        sow()
        port = _free_port(options["port"])
        if port != options["port"]:
            self._say(f"Port {options['port']} is taken; this is port {port}.")
        self._say(_lines(f"http://{HOST}:{port}"))
        call_command("runserver", f"{HOST}:{port}", use_reloader=False)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        # A script that started this in the background reads along.
        self.stdout.flush()


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
    raise SystemExit(f"No port from {first} to {first + PORTS_TO_TRY - 1} is free.")


def _lines(base: str) -> str:
    note = Note.objects.filter(owner__username="alice").earliest("pk")
    notes = f"{base}{reverse('note-list')}"
    publish = f"{base}{reverse('note-publish', args=[note.pk])}"
    return LINES.format(
        login=_login(base, "alice", "TOKEN"),
        call=f'curl -i {notes} -H "Authorization: Bearer $TOKEN"',
        publish=f"{_login(base, 'eve', 'EDITOR')} && \\\n"
        f'  curl -i -X POST {publish} -H "Authorization: Bearer $EDITOR"',
    )


def _login(base: str, name: str, variable: str) -> str:
    body = f'{{"username": "{name}", "password": "{PASSWORDS[name]}"}}'
    take = """python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])'"""
    return (
        f"{variable}=$(curl -s {base}{reverse('jwt_auth:login')} "
        f"-H 'Content-Type: application/json' \\\n  -d '{body}' | {take})"
    )
