"""A server of the project under proof: threads, on a free port of this machine that it prints.

With ``JWT_AUTH_PROOF_PAUSE`` it rests for up to so many seconds between a rotation and its
answer, so that a kill at a random moment falls in between often. It ends when its input does.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from typing import Any

import django

from tests.proof.racer import say


def rest_after_rotations(longest: float) -> None:
    """Have every rotation that was committed take up to *longest* seconds more."""
    from jwt_auth.models import LoginSession, LoginSessionQuerySet

    rotate = LoginSessionQuerySet.rotate

    def rotate_and_rest(
        sessions: LoginSessionQuerySet, session: LoginSession, **values: Any
    ) -> bool:
        rotated = rotate(sessions, session, **values)
        time.sleep(random.uniform(0, longest))  # noqa: S311
        return rotated

    LoginSessionQuerySet.rotate = rotate_and_rest  # type: ignore[method-assign]


def main() -> None:
    """Serve until the input ends."""
    django.setup()

    from django.core.servers.basehttp import ThreadedWSGIServer
    from django.core.wsgi import get_wsgi_application
    from django.test.testcases import QuietWSGIRequestHandler
    from django.urls import resolve

    rest_after_rotations(float(os.environ.get("JWT_AUTH_PROOF_PAUSE", "0")))
    # Imports the views: no request should have to.
    resolve("/auth/refresh/")
    server = ThreadedWSGIServer(("127.0.0.1", 0), QuietWSGIRequestHandler)
    server.set_app(get_wsgi_application())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(str(server.server_port))
    sys.stdin.read()


if __name__ == "__main__":
    main()
