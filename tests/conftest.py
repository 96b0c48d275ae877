"""What every test may ask for."""

from __future__ import annotations

import functools
import gc
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis
import pytest
import time_machine
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from django.contrib.auth import get_user_model, hashers
from django.core.cache import cache
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import Client
from jwt.algorithms import RSAAlgorithm

from tests.services import find_missing

# Proofs need a database that several processes share: see tests/proof.
collect_ignore = [] if os.environ.get("JWT_AUTH_TEST_PROOF") else ["proof"]
# A service that only verifies has settings of its own: see tests/verifier.
if os.environ.get("DJANGO_SETTINGS_MODULE") != "tests.settings_verifier":
    collect_ignore.append("verifier")
# So has a project with another package beside: see tests/axes.
if os.environ.get("DJANGO_SETTINGS_MODULE") != "tests.settings_axes":
    collect_ignore.append("axes")
# So have projects with other user models: see tests/derived.
if os.environ.get("DJANGO_SETTINGS_MODULE") not in {
    "tests.settings_derived",
    "tests.settings_member",
}:
    collect_ignore.append("derived")
# Other ecosystems are installed for these: see tests/interop.
if os.environ.get("JWT_AUTH_TEST_INTEROP") is None:
    collect_ignore.append("interop")
# A browser is driven for these: see tests/chromium.
if os.environ.get("JWT_AUTH_TEST_CHROMIUM") is None:
    collect_ignore.append("chromium")

# What is slow is measured elsewhere; a loaded machine fails no test. Where a run decides
# over a change, every run has the same examples; new ones are found where somebody looks.
_PATIENT = hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
_CI = hypothesis.settings(_PATIENT, derandomize=True, database=None, print_blob=True)
hypothesis.settings.register_profile("tests", _PATIENT)
hypothesis.settings.register_profile("tests in CI", _CI)
hypothesis.settings.load_profile("tests in CI" if os.environ.get("CI") else "tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let ``tox -e attacks`` run everything once more on a process that remembers no token."""
    parser.addoption("--without-memory", action="store_true", help="TOKEN_CACHE_SIZE is 0")


def pytest_configure() -> None:
    """End the run where a server or program that it needs is missing.

    That is a failure in CI, where everything has to run, and a skip elsewhere.
    """
    lacking = find_missing()
    if lacking is None:
        return
    if os.environ.get("CI") == "true":
        pytest.exit(f"failed: {lacking}", returncode=1)
    pytest.exit(f"skipped: {lacking}", returncode=0)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the lines that tests have left by ``record_property("summary", line)``."""
    for report in terminalreporter.getreports("passed"):
        for name, line in report.user_properties:
            if name == "summary":
                terminalreporter.write_line(line)


PASSWORD = " correct horse battery "
NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)


class JSONClient(Client):
    """Django's test client, speaking JSON and bearer tokens."""

    def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """Send *body* as JSON; without one, send none."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        kwargs: dict[str, Any] = {"headers": headers}
        if body is not None:
            kwargs |= {"data": body, "content_type": "application/json"}
        return getattr(self, method)(path, **kwargs)

    def login(self, name: str = "ada", password: str = PASSWORD, **more: str) -> Any:  # type: ignore[override]
        """Sign in by the login view."""
        body = {get_user_model().USERNAME_FIELD: name, "password": password, **more}
        return self.call("post", "/auth/login/", body)

    def refresh(self, raw: Any) -> Any:
        """Trade a refresh token."""
        return self.call("post", "/auth/refresh/", {"refresh_token": raw})

    def logout_with(self, raw: Any) -> Any:
        """Log out by refresh token."""
        return self.call("post", "/auth/logout/", {"refresh_token": raw})

    def whoami(self, token: str | None = None) -> Any:
        """Call a protected view."""
        return self.call("get", "/whoami/", token=token)


class Clock:
    """The time of all of Python, standing still until it is moved."""

    def __init__(self, traveller: time_machine.Traveller) -> None:
        self._traveller = traveller

    def move(self, **delta: float) -> None:
        """Move on (or back) by a `timedelta` of these arguments."""
        self._traveller.shift(timedelta(**delta))


@pytest.fixture(autouse=True, scope="session")
def listener() -> Iterator[Any]:
    """Listen to every record of the run, at any level."""
    from tests.silence import Listener

    one, root = Listener(), logging.getLogger()
    level = root.level
    root.addHandler(one)
    root.setLevel(logging.DEBUG)
    yield one
    root.removeHandler(one)
    root.setLevel(level)


@pytest.fixture(autouse=True)
def silence(listener: Any) -> Iterator[None]:
    """Demand of each test that nothing secret was logged meanwhile."""
    listener.found.clear()
    yield
    assert listener.found == []


@pytest.fixture(autouse=True, scope="session")
def keys_read_once() -> Iterator[None]:
    """Read each RSA key once: proving its numbers prime takes tenths of a second."""
    read_pem = functools.cache(serialization.load_pem_private_key)
    from_jwk = RSAAlgorithm.from_jwk
    read_jwk = functools.cache(lambda text: from_jwk(json.loads(text)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serialization, "load_pem_private_key", read_pem)
        patch.setattr(RSAAlgorithm, "from_jwk", staticmethod(lambda jwk: read_jwk(json.dumps(jwk))))
        yield


@pytest.fixture(autouse=True)
def fresh_process() -> None:
    """Have each test begin as a process does that was just started: nothing is known."""
    # Not above: whoever needs only a key from here has no settings yet.
    from jwt_auth.models import _log_missing_table
    from jwt_auth.runtime import forget

    forget()
    _log_missing_table.cache_clear()
    cache.clear()


@pytest.fixture(autouse=True)
def memory(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have processes remember tokens, or none, where a test says nothing of it."""
    if request.config.getoption("--without-memory"):
        monkeypatch.setattr("jwt_auth.conf.TOKEN_CACHE_SIZE", 0)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Have threads take turns a million times a second, if they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def quiet_heap() -> Iterator[None]:
    """Keep the collector away from what all other tests have left: it stops the clock's hands.

    For tests that measure waits. What they make themselves is collected as ever.
    """
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return every password that is hashed, in order."""
    seen: list[str] = []
    original = hashers.MD5PasswordHasher.encode

    def encode(self: Any, password: str, salt: str) -> str:
        seen.append(password)
        return str(original(self, password, salt))

    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", encode)
    return seen


@pytest.fixture
def kept_connection() -> Iterator[None]:
    """Keep the connection of the test over a request, as Django's test client does."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture
def clock() -> Iterator[Clock]:
    with time_machine.travel(NOW, tick=False) as traveller:
        yield Clock(traveller)


@pytest.fixture
def client() -> JSONClient:
    return JSONClient()


@pytest.fixture
def make_user(db: None) -> Callable[..., Any]:
    def make(name: str = "ada", **fields: Any) -> Any:
        model = get_user_model()
        return model.objects.create_user(
            **{model.USERNAME_FIELD: name, "password": PASSWORD, **fields}
        )

    return make


@pytest.fixture
def user(make_user: Callable[..., Any]) -> Any:
    return make_user()


# Bound before a test replaces the function to make commands use the keys below.
generate_rsa = rsa.generate_private_key


@functools.cache
def private_key(kind: str) -> Any:
    """Return a private key of *kind*, the same one in every test.

    *kind* is ``RSA-`` with a number of bits, a curve of NIST's, or ``Ed25519``. Tests that need
    any RSA key take ``RSA-2048``: to make one can take half a second.
    """
    makers: dict[str, Callable[[], Any]] = {
        "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
    }
    family, _, bits = kind.partition("-")
    return generate_rsa(65537, int(bits)) if family == "RSA" else makers[kind]()


@functools.cache
def private_pem(kind: str) -> bytes:
    """Return the key of private_key() as PEM."""
    pem: bytes = private_key(kind).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem


def public_pem(private: bytes) -> bytes:
    """Return the public half of a private PEM."""
    key = serialization.load_pem_private_key(private, None).public_key()
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
