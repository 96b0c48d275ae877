"""Rows 152 to 157 and 165: what a fetch takes, and how long it may take."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import ssl
import threading
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from jwt_auth.tokens import fetching
from jwt_auth.tokens.fetching import FetchFailed
from tests.remote.provider import Answer, Provider, body, dripping, running

pytestmark = pytest.mark.usefixtures("quiet_heap")

MAX_SIZE = 100_000


def fetch(url: str, deadline: float = 5) -> bytes:
    """Fetch a document of at most `MAX_SIZE`."""
    return fetching.fetch(url, MAX_SIZE, deadline)


def test_a_document_is_fetched(provider: Provider) -> None:
    provider.answers["/x"] = body(b"{}")
    assert fetch(f"{provider.url}/x") == b"{}"


def redirect(target: str) -> Answer:
    return body(b"", 302, Location=target)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(50):
        handler.wfile.write(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")


def without_length(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(50):
        handler.wfile.write(b"x" * 1_000_000)


def cut_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b"{")


def no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"220 mail.example ESMTP\r\n")


def many_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    for number in range(1000):
        handler.send_header(f"X-{number}", "x")
    handler.end_headers()


def long_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(98):
        handler.wfile.write(f"X-{number}: {'x' * 65_000}\r\n".encode())
    handler.wfile.write(b"\r\n{}")


def small_chunks(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write((b"1;" + b"x" * 1000 + b"\r\nx\r\n") * 1000 + b"0\r\n\r\n")


BAD: dict[str, Answer] = {
    "204": body(b"", 204),
    "206": body(b"{}", 206),
    "404": body(b"{}", 404),
    "500": body(b"{}", 500),
    "to another host": redirect("http://127.0.0.2:1/"),
    "to a file": redirect("file:///etc/passwd"),
    "to itself": redirect("/x"),
    "no target": body(b"", 302),
    "50 MB": body(b"x" * 50_000_000),
    "one byte too much": body(b"x" * (MAX_SIZE + 1)),
    "50 MB in chunks": endless,
    "50 MB without a length": without_length,
    "a bomb": body(gzip.compress(bytes(50_000_000)), Content_Encoding="gzip"),
    "gzip": body(gzip.compress(b"{}"), Content_Encoding="gzip"),
    "cut off": cut_off,
    "no HTTP": no_http,
    "many headers": many_headers,
    "long headers": long_headers,
    "chunks of nothing": small_chunks,
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
def test_anything_else_is_a_failure(provider: Provider, answer: Answer) -> None:
    provider.answers["/x"] = answer
    tracemalloc.start()
    began = time.monotonic()
    try:
        with pytest.raises(FetchFailed):
            fetch(f"{provider.url}/x")
        assert time.monotonic() - began < 5
        # Of this and of the provider, which sends pieces of a megabyte.
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    # Nothing was followed.
    assert provider.asked == ["/x"]


def test_the_longest_document(provider: Provider) -> None:
    provider.answers["/x"] = body(b"x" * MAX_SIZE)
    assert len(fetch(f"{provider.url}/x")) == MAX_SIZE


def test_nobody_is_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(FetchFailed, match="ConnectionRefusedError"):
        fetch(f"http://127.0.0.1:{port}/")


def slow_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(100):
        handler.wfile.write(b"X")
        handler.wfile.flush()
        time.sleep(0.05)


def continues(handler: BaseHTTPRequestHandler) -> None:
    for _ in range(100):
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        handler.wfile.flush()
        time.sleep(0.05)


def slow_without_length(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    continues(handler)


SLOW: dict[str, Answer] = {
    "the body": dripping(b"x" * 100, 0.05),
    "the body, without a length": slow_without_length,
    "a header": slow_headers,
    "100 for ever": continues,
    "nothing": lambda handler: time.sleep(5),
}


@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW)
def test_the_deadline_is_for_the_whole(provider: Provider, answer: Answer) -> None:
    provider.answers["/x"] = answer
    began = time.monotonic()
    with pytest.raises(FetchFailed):
        fetch(f"{provider.url}/x", deadline=0.5)
    assert time.monotonic() - began < 2


def test_a_slow_handshake() -> None:
    def accept_and_say_nothing() -> None:
        with server.accept()[0] as connection:
            while connection.recv(4096):
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept_and_say_nothing, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(FetchFailed):
            fetch(f"https://127.0.0.1:{server.getsockname()[1]}/", deadline=0.5)
        assert time.monotonic() - began < 2


def silent() -> socket.socket:
    """Return a server that takes no connection: its backlog is full."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(0)
    return server


def test_an_address_that_is_silent_does_not_cost_the_others(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.answers["/x"] = body(b"{}")
    dead = silent()
    fillers = [socket.socket() for _ in range(4)]
    for one in fillers:
        one.setblocking(False)
        one.connect_ex(dead.getsockname())
    kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
    alive = ("127.0.0.1", provider.server.server_port)

    def found(*targets: Any) -> None:
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda *args, **kwargs: [(*kind, one) for one in targets]
        )

    try:
        found(dead.getsockname(), alive)
        began = time.monotonic()
        assert fetch("http://id.example/x", deadline=1) == b"{}"
        assert time.monotonic() - began < 1
        found(*[dead.getsockname()] * 5)
        began = time.monotonic()
        with pytest.raises(FetchFailed):
            fetch("http://id.example/x", deadline=1)
        assert time.monotonic() - began < 1.5
    finally:
        for one in (dead, *fillers):
            one.close()


def test_a_proxy_that_is_slow_to_connect(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(handler: BaseHTTPRequestHandler) -> None:
        slow_headers(handler)

    monkeypatch.setattr(provider.server.RequestHandlerClass, "do_CONNECT", connect, raising=False)
    monkeypatch.setenv("https_proxy", provider.url)
    began = time.monotonic()
    with pytest.raises(FetchFailed):
        fetch("https://id.example/x", deadline=0.5)
    assert time.monotonic() - began < 2


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a certificate for 127.0.0.1 that nobody has signed, with its key."""
    path = tmp_path / "own.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = key.private_bytes(pem, pkcs8, serialization.NoEncryption())
    path.write_bytes(signed.public_bytes(pem) + private)
    return path


def test_who_answers_has_a_certificate(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server: Any = provider.server
    server.socket = context.wrap_socket(server.socket, server_side=True)
    provider.answers["/x"] = body(b"{}")
    url = provider.url.replace("http:", "https:")
    with running(provider):
        with pytest.raises(FetchFailed):
            fetch(f"{url}/x")
        assert provider.asked == []
        # The bundle of the environment says whom to believe.
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch(f"{url}/x") == b"{}"


def test_a_proxy_of_the_environment(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    provider.answers["http://id.example/x"] = body(b"{}")
    monkeypatch.setenv("http_proxy", provider.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert fetch("http://id.example/x") == b"{}"


def test_nothing_of_an_answer_is_repeated(provider: Provider) -> None:
    provider.answers["/x"] = no_http
    with pytest.raises(FetchFailed) as caught:
        fetch(f"{provider.url}/x")
    assert "mail.example" not in repr(caught.value)
    assert caught.value.__cause__ is None
