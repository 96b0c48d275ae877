"""npm's jose verifies our tokens by our published keys, and opens what we encrypt."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from django.contrib.auth.models import User
from django.test import Client

from jwt_auth import sessions, verify
from tests.attacks.forge import b64
from tests.attacks.sealing import CONTENT_KEY, SEALERS
from tests.conftest import private_pem

HERE = Path(__file__).parent
ISSUER, AUDIENCE = "https://id.example", "orders"
KINDS = {"RSA-2048": "RS256", "P-256": "ES256", "P-384": "ES384", "Ed25519": "EdDSA"}

Ask = Callable[..., Any]


@pytest.fixture(scope="session")
def jose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Return a function that asks jose, in a process of Node."""
    folder = tmp_path_factory.mktemp("jose")
    for name in ("package.json", "talk.mjs"):
        shutil.copy(HERE / name, folder)
    npm = shutil.which("npm") or ""
    install = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(install, cwd=folder, check=True)
    process = subprocess.Popen(
        [shutil.which("node") or "", "talk.mjs"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(what: str, **question: Any) -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"ask": what, **question}) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield ask
    process.stdin.close()
    process.wait()
    process.stdout.close()


def private_jwk(kind: str) -> Any:
    """Return a private key of *kind* as a JWK."""
    key = serialization.load_pem_private_key(private_pem(kind), None)
    jwk: dict[str, Any] = jwt.get_algorithm_by_name(KINDS[kind]).to_jwk(key, as_dict=True)
    # PyJWT says that the key signs, and the tests decrypt with some.
    return {name: one for name, one in jwk.items() if name != "key_ops"}


class Keys(BaseHTTPRequestHandler):
    """Serves what the project publishes."""

    def do_GET(self) -> None:
        """Answer as the project does."""
        answer = Client().get("/auth/jwks.json")
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def project(db: None, settings: Any) -> Iterator[Callable[..., str]]:
    """Return a function that sets the project up and returns the URL of its keys."""
    server = HTTPServer(("127.0.0.1", 0), Keys)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def set_up(**jwt_auth: Any) -> str:
        settings.JWT_AUTH = {"ISSUER": ISSUER, "AUDIENCE": AUDIENCE, **jwt_auth}
        return f"http://127.0.0.1:{server.server_port}/"

    yield set_up
    server.shutdown()
    thread.join()
    server.server_close()


def client_id(user: User, request: Any) -> dict[str, Any]:
    """Name the client, as RFC 9068 wants it."""
    return {"client_id": "web", "scope": "orders:read"}


@pytest.mark.parametrize("kind", KINDS)
def test_jose_verifies_our_tokens_by_our_keys(
    user: User, jose: Ask, project: Callable[..., str], kind: str
) -> None:
    url = project(SIGNING_KEY=private_pem(kind), CLAIMS="tests.interop.test_jose.client_id")
    token = sessions.start(user).access_token
    options = {"issuer": ISSUER, "audience": AUDIENCE}
    answer = jose("verify", url=url, token=token, options=options)
    assert answer["payload"]["sub"] == str(user.pk)
    # RFC 9068 sections 2.1 and 2.2.
    assert answer["header"]["typ"] == "at+jwt"
    assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} <= answer["payload"].keys()
    assert answer["payload"]["scope"] == "orders:read"

    head, _, signature = token.rpartition(".")
    tampered = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    assert "error" in jose("verify", url=url, token=tampered, options=options)
    other = {"issuer": ISSUER, "audience": "billing"}
    assert "error" in jose("verify", url=url, token=token, options=other)


@pytest.mark.parametrize("kind", KINDS)
def test_we_verify_what_jose_signs(
    user: User, jose: Ask, project: Callable[..., str], kind: str
) -> None:
    project(SIGNING_KEY=private_pem(kind))
    ours = sessions.start(user).access_token
    header = jwt.get_unverified_header(ours)
    signed = jose("sign", jwk=private_jwk(kind), header=header, claims=dict(verify(ours)))
    assert verify(signed["token"]).subject == str(user.pk)


def decryption_jwk(kind: str) -> Any:
    """Return the key of a sealer as jose imports it."""
    if kind == "dir":
        return {"kty": "oct", "k": b64(CONTENT_KEY)}
    return private_jwk({"RSA": "RSA-2048", "EC": "P-256"}[kind])


@pytest.mark.parametrize("kind", SEALERS)
def test_jose_opens_what_we_encrypt_and_we_what_it_does(
    user: User, jose: Ask, project: Callable[..., str], kind: str
) -> None:
    sealer = SEALERS[kind]()
    url = project(SIGNING_KEY=private_pem("Ed25519"), ENCRYPTION_KEY=sealer.setting)
    token = sessions.start(user).access_token
    jwk = decryption_jwk(kind)
    opened = jose("decrypt", jwk=jwk, alg=sealer.algorithm, token=token)
    assert opened["header"]["cty"] == "JWT"
    answer = jose("verify", url=url, token=opened["plaintext"], options={"issuer": ISSUER})
    assert answer["payload"]["sub"] == str(user.pk)

    public = {name: one for name, one in jwk.items() if name in {"kty", "crv", "x", "y", "n", "e"}}
    sealed = jose(
        "encrypt",
        jwk=jwk if kind == "dir" else public,
        header=sealer.header(),
        plaintext=opened["plaintext"],
    )
    assert verify(sealed["token"]).subject == str(user.pk)
