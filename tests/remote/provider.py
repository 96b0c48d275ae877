"""Another issuer, over real HTTP on this machine: honest, slow, lying or down."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from django.utils import timezone

from tests.attacks.forge import FORGES, Forge, b64

ISSUER = "https://id.example/"
AUDIENCE = "https://orders.example"

Answer = Callable[[BaseHTTPRequestHandler], None]


def number(value: int, size: int) -> str:
    """Encode a member of a JWK (RFC 7518 section 6)."""
    return b64(value.to_bytes(size))


def public_jwk(pem: bytes, **members: Any) -> dict[str, Any]:
    """Return the public half of a private PEM as a JWK; `...` takes a member out."""
    key = serialization.load_pem_private_key(pem, None).public_key()
    jwk: dict[str, Any]
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        size = (numbers.n.bit_length() + 7) // 8
        jwk = {"kty": "RSA", "n": number(numbers.n, size), "e": "AQAB", "alg": "RS256"}
    elif isinstance(key, ec.EllipticCurvePublicKey):
        point, size = key.public_numbers(), (key.key_size + 7) // 8
        jwk = {"kty": "EC", "crv": "P-256", "alg": "ES256"}
        jwk |= {"x": number(point.x, size), "y": number(point.y, size)}
    else:
        assert isinstance(key, ed25519.Ed25519PublicKey)
        jwk = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA"}
        jwk["x"] = b64(key.public_bytes_raw())
    jwk |= {"use": "sig", **members}
    return {name: one for name, one in jwk.items() if one is not ...}


def foreign(algorithm: str, kid: str = "one") -> Forge:
    """Return the forge of another issuer, whose name for its key is *kid*."""
    return replace(FORGES[algorithm](), kid=kid)


def body(data: bytes, status: int = 200, **headers: str) -> Answer:
    """Return an honest answer."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def document(value: Any) -> Answer:
    """Return an honest answer in JSON."""
    return body(json.dumps(value).encode(), Content_Type="application/json")


def dripping(data: bytes, seconds: float = 0.2) -> Answer:
    """Return an answer that sends a byte now and then, of whatever was promised."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for one in data:
            handler.wfile.write(bytes([one]))
            handler.wfile.flush()
            time.sleep(seconds)

    return answer


class Held:
    """An answer that waits for `release()`. `arrived` is set once it has been asked for."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._released = threading.Event()
        self.arrived = threading.Event()

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer, when it is time."""
        self.arrived.set()
        self._released.wait(30)
        self._answer(handler)

    def release(self) -> None:
        """Let the answer go out."""
        self._released.set()


class Provider:
    """Answers as it is told, and counts who asks for what."""

    def __init__(self, algorithm: str = "ES256") -> None:
        self.forge = foreign(algorithm)
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self._lock = threading.Lock()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with provider._lock:
                    provider.asked.append(self.path)
                self.close_connection = True
                answer = provider.answers.get(self.path, body(b"", 404))
                try:
                    answer(self)
                except OSError:
                    # Whoever asked has gone away.
                    self.close_connection = True

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *args: Any) -> None:
                """Say nothing: tests go away in the middle of things."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.publish()

    def publish(self, *jwks: dict[str, Any]) -> None:
        """Answer with these keys; without any, with the one that the forge signs with."""
        own = public_jwk(self.forge.setting, kid=self.forge.kid)
        self.answers["/jwks.json"] = document({"keys": list(jwks) or [own]})

    def revoke(self, *session_ids: str, **members: Any) -> None:
        """Answer with a list of ended sessions; *members* replaces members of it."""
        self.answers["/revoked.jwt"] = body(self.revoked(*session_ids, **members).encode())

    def revoked(self, *session_ids: str, at: datetime | None = None, **members: Any) -> str:
        """Return a signed list, made by hand."""
        now = int((at or timezone.now()).timestamp())
        content = {"iss": ISSUER, "iat": now, "exp": now + 60, "window": 480}
        content |= {"sids": sids(session_ids), **members}
        content = {name: one for name, one in content.items() if one is not ...}
        return self.forge.token(content, self.forge.header(typ="revoked+jwt"))

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a good token with *changes*; `...` takes one out."""
        now = int(timezone.now().timestamp())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "1", "iat": now, "exp": now + 300}
        return {name: one for name, one in {**claims, **changes}.items() if one is not ...}

    def token(self, kid: str | None = None, **changes: Any) -> str:
        """Return a good token with *changes* of the claims."""
        header = self.forge.header() if kid is None else self.forge.header(kid=kid)
        return self.forge.token(self.claims(**changes), header)

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the value of ``TRUSTED_ISSUERS`` that trusts this provider."""
        one = {
            "JWKS_URL": f"{self.url}/jwks.json",
            "AUDIENCE": AUDIENCE,
            "ALGORITHMS": [self.forge.algorithm],
            **changes,
        }
        return {ISSUER: one}

    def count(self, path: str = "/jwks.json") -> int:
        """Return how often *path* was asked for."""
        with self._lock:
            return self.asked.count(path)


def sids(session_ids: Iterable[str]) -> str:
    """Return the text of a list's digests, as another issuer would make it."""
    digests = sorted(hashlib.sha256(one.encode()).digest()[:8] for one in session_ids)
    return urlsafe_b64encode(b"".join(digests)).rstrip(b"=").decode()


@contextmanager
def running(provider: Provider) -> Iterator[Provider]:
    """Serve until the end of the block."""
    thread = threading.Thread(target=provider.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        provider.server.server_close()
        thread.join()
