"""Honest clients and thieves, played on a clock that stands still until it is moved."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError

from jwt_auth import sessions
from jwt_auth.models import LoginSession
from tests.conftest import NOW, Clock
from tests.proof.races import attempt

SEED = int(os.environ.get("JWT_AUTH_PROOF_SEED", "20270301"))
BURSTS = int(os.environ.get("JWT_AUTH_PROOF_BURSTS", "1000"))
THIEVES = int(os.environ.get("JWT_AUTH_PROOF_THIEVES", "200"))
GRACE = 120
LIFETIME = 300


class Time:
    """Virtual seconds since the beginning, in which events happen in order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.now = 0.0

    def go_to(self, second: float) -> None:
        """Move on to *second*."""
        self._clock.move(seconds=second - self.now)
        self.now = second


@pytest.fixture
def time(clock: Clock) -> Time:
    return Time(clock)


def token(user: User) -> str:
    """Sign in; return the first refresh token."""
    return sessions.start(user).refresh_token or ""


@pytest.mark.parametrize("gap", [(LIFETIME, LIFETIME), (0.5, 2 * LIFETIME)], ids=["expiry", "any"])
def test_bursts_of_page_loads_with_one_cookie_jar(
    user: User, time: Time, outcome: Callable[..., None], gap: tuple[float, float]
) -> None:
    chance = random.Random(SEED)  # noqa: S311
    jar, crossed, begins = token(user), 0, 0.0
    given: dict[str, float] = {}
    for _ in range(BURSTS):
        begins = max(begins, time.now) + chance.uniform(*gap)
        events: list[tuple[float, int, str]] = []
        for load in range(5):
            sent = begins + chance.uniform(0, 0.5)
            served = sent + chance.uniform(0, 0.3)
            heard = served + chance.uniform(0, 0.5)
            events += [(sent, load, "sends"), (served, load, "is served"), (heard, load, "hears")]
        cookies: dict[int, str] = {}
        answers: dict[int, str] = {}
        for at, load, what in sorted(events):
            time.go_to(at)
            if what == "sends":
                cookies[load] = jar
            elif what == "is served":
                answer = attempt(cookies[load])
                if answer == "refresh_reused":
                    demand_crossed_answers(given[cookies[load]])
                    crossed += 1
                if not answer.startswith("jwtr_"):
                    answer = token(user)
                answers[load], given[answer] = answer, at
            else:
                jar = answers[load]
    if gap[0] == gap[1]:
        assert crossed == 0
        outcome(
            "bursts of five page loads in half a second, when the access token expires",
            BURSTS,
            "none logged out",
        )
    else:
        outcome(
            "bursts of five page loads in half a second, at any time",
            BURSTS,
            f"{crossed} logged out by answers that crossed at the very end of the grace",
        )


def demand_crossed_answers(last_given: float) -> None:
    """Demand that the token was handed back less than a second before its replacement.

    One load of a burst is served in the last moment of the grace and another in the
    first one after it, and the browser hears of the new token before it hears of the
    old one. Nobody can tell its next use, minutes later, from a thief's.
    """
    replaced = LoginSession.objects.latest("rotated_at").rotated_at
    assert 0 <= (replaced - NOW).total_seconds() - last_given < 1


LOST = [
    (1, "the successor"),
    (60, "the successor"),
    (119, "the successor"),
    (121, "refresh_reused"),
    (600, "refresh_reused"),
]


@pytest.mark.parametrize(("seconds", "expected"), LOST)
def test_lost_answers(
    user: User, time: Time, outcome: Callable[..., None], seconds: int, expected: str
) -> None:
    raw = token(user)
    time.go_to(LIFETIME)
    lost = attempt(raw)
    time.go_to(LIFETIME + seconds)
    again = attempt(raw)
    assert (again == lost) if expected == "the successor" else (again == expected)
    outcome(f"an answer is lost, and the client repeats after {seconds} s", 1, expected)


def test_a_thief_who_alternates_with_the_victim(
    user: User, time: Time, outcome: Callable[..., None]
) -> None:
    chance = random.Random(1)  # noqa: S311
    found = hidden = 0
    for _ in range(THIEVES):
        begins = time.now + 1
        phase = chance.uniform(1, LIFETIME - 1)
        time.go_to(begins)
        tokens = {"victim": token(user)}
        tokens["thief"] = tokens["victim"]
        moments = [
            (begins + LIFETIME * (turn + 1) + (phase if who == "thief" else 0), who)
            for turn in range(20)
            for who in ("victim", "thief")
        ]
        codes = []
        for at, who in moments:
            time.go_to(at)
            answer = attempt(tokens[who])
            if answer.startswith("jwtr_"):
                tokens[who] = answer
            else:
                codes.append(answer)
        # Whoever is within one grace of the other at every refresh cannot be seen.
        if phase <= GRACE:
            assert codes == []
            hidden += 1
        else:
            assert codes[0] == "refresh_reused"
            assert set(codes[1:]) == {"session_ended"}
            found += 1
    outcome(
        "a thief at a random phase, alternating with the victim",
        THIEVES,
        f"{found} found at the first replay, {hidden} hidden: within one grace every time",
    )


def test_a_thief_who_comes_late(user: User, time: Time, outcome: Callable[..., None]) -> None:
    chance = random.Random(2)  # noqa: S311
    for _ in range(THIEVES):
        raw = stolen = token(user)
        steal_at = chance.randrange(10)
        for turn in range(10):
            if turn == steal_at:
                stolen = raw
            time.go_to(time.now + LIFETIME)
            raw = attempt(raw)
        time.go_to(time.now + chance.uniform(GRACE + 1, 3 * 24 * 3600))
        assert attempt(stolen) == "refresh_reused"
        assert attempt(raw) == "session_ended"
    outcome("a thief who replays a stolen token late", THIEVES, "all found, the session ended")


def fails(*args: Any, **kwargs: Any) -> Any:
    """Fail as whatever is out."""
    raise OperationalError("out")


OUTAGES = {
    "CLAIMS": "tests.proof.test_clients.claims",
    "the signer": "jwt_auth.tokens.jws.sign",
    "the reads of the database": "django.db.models.query.QuerySet._fetch_all",
    "the writes of the database": "jwt_auth.models.LoginSessionQuerySet.rotate",
}


def claims(user: User, request: Any) -> dict[str, Any]:
    """Add nothing."""
    return {}


@pytest.mark.parametrize("what", OUTAGES)
def test_an_outage_longer_than_the_grace(
    user: User,
    time: Time,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Callable[..., None],
    what: str,
) -> None:
    if what == "CLAIMS":
        settings.JWT_AUTH = {"CLAIMS": OUTAGES[what]}
    raws = [token(user) for _ in range(20)]
    time.go_to(LIFETIME)
    raws[10:] = [attempt(raw) for raw in raws[10:]]
    with monkeypatch.context() as patch:
        if what == "CLAIMS":
            settings.JWT_AUTH = {"CLAIMS": "tests.proof.test_clients.fails"}
        else:
            patch.setattr(OUTAGES[what], fails)
        for second in range(0, 3600, 60):
            time.go_to(LIFETIME + second)
            young = second <= GRACE and what == "the writes of the database"
            for raw in raws[:10] if young else raws:
                assert attempt(raw) == "unavailable"
    if what == "CLAIMS":
        settings.JWT_AUTH = {"CLAIMS": OUTAGES[what]}
    for raw in raws:
        assert attempt(raw).startswith("jwtr_")
    outcome(f"an hour without {what}, 20 clients", 1, "none logged out")


@pytest.mark.parametrize("hours", [-24, -1, 1, 24])
def test_the_wall_clock_is_stepped(
    user: User, time: Time, outcome: Callable[..., None], hours: int
) -> None:
    raw = token(user)
    time.go_to(LIFETIME)
    raw = attempt(raw)
    time.go_to(LIFETIME + 10 + hours * 3600)
    for _ in range(3):
        following = attempt(raw)
        assert following.startswith("jwtr_")
        raw = following
        time.go_to(time.now + LIFETIME)
    outcome(f"the wall clock is stepped by {hours:+d} h", 1, "goes on with the current token")


def test_the_beginning_is_where_the_clock_stands(time: Time, user: User) -> None:
    sessions.start(user)
    assert LoginSession.objects.get().created_at == NOW
