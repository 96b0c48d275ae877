"""Requests as WSGI and ASGI servers hand them over, with raw headers."""

from __future__ import annotations

import io
from typing import Any

from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler

Headers = list[tuple[bytes, bytes]]
Answered = tuple[int, dict[str, str], bytes]


def over_wsgi(
    method: str, path: str, headers: Headers, handler: WSGIHandler | None = None
) -> Answered:
    """Send a request as a WSGI server hands it over: several fields are joined."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "wsgi.input": io.BytesIO(),
        "wsgi.url_scheme": "http",
    }
    for name, value in headers:
        key = f"HTTP_{name.decode().upper()}"
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    started: list[Any] = []
    response = (handler or WSGIHandler())(environ, lambda *args: started.extend(args))
    body = b"".join(response)
    response.close()
    return int(started[0].split()[0]), dict(started[1]), body


class OneThread(ASGIHandler):
    """Runs sync code on the test's thread, which has the test's database."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.handle(scope, receive, send)


async def asked_over_asgi(
    method: str, path: str, headers: Headers, handler: OneThread | None = None
) -> Answered:
    """Send a request as an ASGI server hands it over: every field as bytes."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "server": ("testserver", 80),
    }
    server = ApplicationCommunicator(handler or OneThread(), scope)
    await server.send_input({"type": "http.request", "body": b"", "more_body": False})
    start = await server.receive_output(5)
    body = await server.receive_output(5)
    await server.wait()
    received = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], received, body["body"]


over_asgi = async_to_sync(asked_over_asgi)
