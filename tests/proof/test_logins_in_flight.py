"""Users who change while they sign in: no token survives, and no deletion fails."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.hashers import MD5PasswordHasher, make_password
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.db.models import Q
from django.test import RequestFactory

from jwt_auth import sessions, verify
from jwt_auth.errors import InvalidCredentials, SessionEnded, Unavailable
from jwt_auth.models import LoginSession
from jwt_auth.views import LoginView
from tests.conftest import PASSWORD
from tests.proof.races import PATIENCE, attempt

ROUNDS = int(os.environ.get("JWT_AUTH_PROOF_CHANGES", "200"))
CLIENTS = 4
PARALLEL, LIMIT = 8, 1
PARALLEL_ROUNDS = int(os.environ.get("JWT_AUTH_PROOF_PARALLEL_LOGINS", "50"))
# The promise: other processes refuse within an interval of one second.
BOUND = 2.0

HASHER = f"{__name__}.TellingHasher"


# Counts passwords that were checked, and logins that were answered.
steps = threading.Semaphore(0)


class TellingHasher(MD5PasswordHasher):
    """Tells when a client has checked a password and is about to sign in."""

    algorithm = "telling"

    def verify(self, password: str, encoded: str) -> bool:
        is_right = super().verify(password, encoded)
        steps.release()
        return is_right


def deactivate(user: User) -> None:
    """Deactivate by an ordinary save."""
    user.is_active = False
    user.save()


def change_password(user: User) -> None:
    """Give the user another password, made by the same hasher."""
    user.password = make_password("another")
    user.save()


def delete(user: User) -> None:
    """Delete as a view does."""
    user.delete()


def open_session(name: str) -> str | None:
    """Sign in as a view of the project's own does. Return an access token, None if refused."""
    user = authenticate(username=name, password=PASSWORD)
    if user is None:
        return None
    try:
        return sessions.start(user, device="phone").access_token
    except InvalidCredentials:
        return None


def post_login(name: str) -> str | None:
    """Sign in by the login view, which notes the time in the user's row."""
    body = {"username": name, "password": PASSWORD, "device": "phone"}
    answer = login_view(RequestFactory().post("/", body, content_type="application/json"))
    if answer.status_code == 401:
        return None
    assert answer.status_code == 200, answer.data
    return str(answer.data["access_token"])


login_view = LoginView.as_view()


class Clients:
    """Threads that all sign in as one user while the user changes."""

    def __init__(self, sign_in: Callable[[str], str | None]) -> None:
        self.tokens: list[str] = []
        self.failures: list[str] = []
        self._sign_in = sign_in
        self._name: str | None = None
        self._line = threading.Barrier(CLIENTS + 1, timeout=PATIENCE)
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def race(self, name: str, change: Callable[[], object]) -> None:
        """Have every client sign in as *name*, and begin *change* after some of their steps."""
        self._name = name
        self._line.wait()
        for _ in range(random.randint(1, 2 * CLIENTS)):  # noqa: S311
            steps.acquire(timeout=PATIENCE)
        change()
        self._line.wait()
        while steps.acquire(blocking=False):
            pass

    def stop(self) -> None:
        """End the threads."""
        self._name = None
        self._line.wait()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        try:
            while True:
                self._line.wait()
                if self._name is None:
                    return
                try:
                    token = self._sign_in(self._name)
                except Exception as error:  # noqa: BLE001
                    self.failures.append(f"{type(error).__name__}: {error}")
                else:
                    self.tokens += [] if token is None else [token]
                steps.release()
                self._line.wait()
        except threading.BrokenBarrierError:
            pass
        finally:
            connections.close_all()


@pytest.fixture(autouse=True)
def quick_switches() -> Iterator[None]:
    """Have threads take turns more often, or each statement costs five milliseconds."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(interval)


BLOCKS = pytest.mark.parametrize(
    "block", [nullcontext, transaction.atomic], ids=["autocommit", "transaction"]
)


def _in(block: Callable[[], AbstractContextManager[Any]]) -> str:
    return ", in autocommit" if block is nullcontext else ", in a transaction"


def is_good(token: str) -> bool:
    """Tell whether *token* is let in."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            verify(token)
        except SessionEnded:
            return False
        except Unavailable:
            # The first read of the list can take longer than a request waits for it.
            time.sleep(0.1)
        else:
            return True
    raise TimeoutError("the list of ended sessions cannot be read")


@pytest.mark.parametrize(
    ("change", "sign_in"),
    [(deactivate, open_session), (change_password, open_session), (delete, post_login)],
    ids=["deactivation", "password", "deletion"],
)
@BLOCKS
def test_no_token_outlives_the_change_of_its_user(
    settings: Any,
    outcome: Callable[..., None],
    change: Callable[[User], None],
    sign_in: Callable[[str], str | None],
    block: Callable[[], AbstractContextManager[Any]],
) -> None:
    settings.PASSWORD_HASHERS = [HASHER]
    settings.JWT_AUTH = {"ROLES": None, "THROTTLE_RATES": None}
    password = make_password(PASSWORD)
    users = User.objects.bulk_create(
        [User(username=f"user{number}", password=password) for number in range(ROUNDS)]
    )
    failures: list[str] = []
    clients = Clients(sign_in)

    def change_in_block(user: User) -> None:
        try:
            with block():
                change(user)
        except Exception as error:  # noqa: BLE001
            failures.append(f"{type(error).__name__}: {error}")

    try:
        for user in users:
            clients.race(user.username, lambda user=user: change_in_block(user))
    finally:
        clients.stop()
    time.sleep(BOUND)
    good = sum(is_good(token) for token in clients.tokens)
    orphans = LoginSession.objects.filter(user=None)
    traced = orphans.filter(~Q(device="") | Q(ip__isnull=False) | ~Q(user_agent="")).count()
    assert clients.tokens
    assert (good, failures, clients.failures, traced) == (0, [], [], 0)
    assert not LoginSession.objects.filter(revoked_at=None).exists()
    outcome(
        f"{change.__name__} while {CLIENTS} clients sign in{_in(block)}",
        ROUNDS,
        f"{len(clients.tokens)} tokens, 0 good {BOUND:g} s later; 0 changes failed; 0 traces",
    )


@BLOCKS
def test_parallel_logins_leave_as_many_sessions_as_the_limit(
    user: User,
    settings: Any,
    outcome: Callable[..., None],
    block: Callable[[], AbstractContextManager[Any]],
) -> None:
    settings.JWT_AUTH = {"MAX_SESSIONS_PER_USER": LIMIT, "ROLES": None}
    line = threading.Barrier(PARALLEL, timeout=PATIENCE)

    def sign_in(number: int) -> None:
        line.wait()
        with block():
            sessions.start(user)

    def close(number: int) -> None:
        line.wait()
        connections.close_all()

    left: Counter[int] = Counter()
    with ThreadPoolExecutor(PARALLEL) as pool:
        for _ in range(PARALLEL_ROUNDS):
            list(pool.map(sign_in, range(PARALLEL)))
            left[LoginSession.objects.filter(revoked_at=None).count()] += 1
        list(pool.map(close, range(PARALLEL)))
    assert left == {LIMIT: PARALLEL_ROUNDS}
    outcome(
        f"{PARALLEL} logins at once, MAX_SESSIONS_PER_USER = {LIMIT}{_in(block)}",
        PARALLEL_ROUNDS,
        f"{LIMIT} session left each time",
    )


def test_refresh_waits_for_a_transaction_that_ends_its_session(
    user: User, make_user: Callable[..., User], outcome: Callable[..., None], engine: str
) -> None:
    pair, other = sessions.start(user), sessions.start(make_user("grace"))
    has_ended, may_commit = threading.Event(), threading.Event()

    def end_slowly() -> None:
        try:
            with transaction.atomic():
                assert pair.session_id is not None
                sessions.end(pair.session_id)
                has_ended.set()
                # As a view under ATOMIC_REQUESTS that reads a slow body.
                assert may_commit.wait(PATIENCE)
        finally:
            has_ended.set()
            connections.close_all()

    def refresh() -> str:
        try:
            return attempt(pair.refresh_token or "")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        ending = pool.submit(end_slowly)
        assert has_ended.wait(PATIENCE)
        waiting = pool.submit(refresh)
        try:
            if engine != "sqlite":
                # SQLite has one lock for all rows.
                assert attempt(other.refresh_token or "").startswith("jwtr_")
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.5)
        finally:
            may_commit.set()
        assert waiting.result() == "session_ended"
        ending.result()
    outcome("a refresh of a session that an open transaction ends", 1, "waits for the commit")
