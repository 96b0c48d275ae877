"""Rows 112 to 116, 205: nobody ends another's session, and nothing revives an ended one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from jwt_auth import sessions, verify
from jwt_auth.errors import RefreshReused, SessionEnded
from jwt_auth.models import LoginSession, LoginSessionQuerySet
from jwt_auth.runtime import forget
from jwt_auth.tokens.claims import read_segment
from tests.attacks.conftest import Target
from tests.attacks.corpus import P256_ORDER, hostile
from tests.attacks.forge import b64, mac
from tests.conftest import Clock, JSONClient

LOGOUT, SESSIONS = "/auth/logout/", "/auth/sessions/"


@pytest.fixture
def victim(target: Target, make_user: Any) -> sessions.TokenPair:
    """Open a session that an attacker wants to end."""
    return sessions.start(make_user("eve"))


def of_the_victim(target: Target, victim: sessions.TokenPair) -> dict[str, Any]:
    """Return claims that are as good as those of the victim's access token."""
    subject = LoginSession.objects.get(pk=victim.session_id).user_id
    return target.having(sid=str(victim.session_id), sub=str(subject))


# What names no session, or names one without a proof.
UNPROVED: dict[str, Callable[[Target, sessions.TokenPair], str]] = {
    "junk": lambda target, victim: "junk",
    "a MAC of zeros": lambda target, victim: "jwtr_" + "A" * 76,
    "another MAC": lambda target, victim: (victim.refresh_token or "")[:-4] + "AAAA",
    "padded": lambda target, victim: f"{victim.refresh_token}=",
    "cut": lambda target, victim: (victim.refresh_token or "")[:-1],
    "the id of the session": lambda target, victim: str(victim.session_id),
    "an access token": lambda target, victim: victim.access_token,
    "NUL": lambda target, victim: "\x00",
    "a surrogate": lambda target, victim: "jwtr_\ud800",
    "long": lambda target, victim: "jwtr_" + "A" * 60_000,
}


@pytest.mark.parametrize("make", UNPROVED.values(), ids=UNPROVED)
def test_a_logout_without_a_proof_ends_nothing_and_tells_nothing(
    target: Target, client: JSONClient, user: Any, victim: sessions.TokenPair, make: Any
) -> None:
    honest = client.logout_with(sessions.start(user).refresh_token)
    raw = make(target, victim)
    answer = target.survives(lambda: client.logout_with(raw))
    assert (answer.status_code, answer.content) == (204, b"")
    assert (answer.content, answer.headers) == (honest.content, honest.headers)
    assert client.whoami(victim.access_token).status_code == 200


def test_an_expired_session_is_as_good_as_ended(
    target: Target, client: JSONClient, user: Any, victim: sessions.TokenPair, clock: Clock
) -> None:
    clock.move(days=15)
    target._genuine = sessions.start(user).access_token
    # The end is written all the same, for a day when the limits are longer.
    answer = target.survives(
        lambda: client.logout_with(victim.refresh_token), but=[victim.session_id]
    )
    assert (answer.status_code, answer.content) == (204, b"")
    assert LoginSession.objects.get(pk=victim.session_id).revoked_at is not None


# What only the project itself can sign says which session, whatever its times are.
GENUINE = {"expired", "longer than any life", "not valid yet", "issued tomorrow"}


def test_no_hostile_token_ends_a_session(
    target: Target, client: JSONClient, victim: sessions.TokenPair
) -> None:
    claims = of_the_victim(target, victim)
    target.accepts(target.forge.token(claims))
    before = list(LoginSession.objects.values_list())
    for name, raw in hostile(target.forge, claims).items():
        header = f"Bearer {raw.decode('latin-1')}"
        if name not in GENUINE:
            answer = client.post(LOGOUT, HTTP_AUTHORIZATION=header)
            assert answer.status_code in {204, 400}, name
        for path in (f"{SESSIONS}?keep=none", f"{SESSIONS}{victim.session_id}/"):
            answer = client.delete(path, HTTP_AUTHORIZATION=header)
            assert answer.status_code in {400, 401}, name
        assert list(LoginSession.objects.values_list()) == before, name
    # The forge could have: this one is good.
    target.survives(
        lambda: client.call("post", LOGOUT, token=target.forge.token(claims)),
        but=[victim.session_id],
    )
    assert client.whoami(victim.access_token).json()["code"] == "session_ended"


WITHOUT_A_TOKEN: dict[str, Callable[[Target, sessions.TokenPair], str | None]] = {
    "nothing": lambda target, victim: None,
    "Basic": lambda target, victim: "Basic ZXZlOnB3",
    "a refresh token": lambda target, victim: f"Bearer {victim.refresh_token}",
    "the id of the session": lambda target, victim: f"Bearer {victim.session_id}",
    "another key": lambda target, victim: (
        f"Bearer {target.forge.token(of_the_victim(target, victim), sign=mac(b'x' * 40))}"
    ),
    "expired": lambda target, victim: (
        "Bearer "
        + target.forge.token(
            {**of_the_victim(target, victim), "exp": target.claims["iat"] - 1, "iat": 1}
        )
    ),
}


@pytest.mark.parametrize("make", WITHOUT_A_TOKEN.values(), ids=WITHOUT_A_TOKEN)
@pytest.mark.parametrize("path", ["?keep=none", "?keep=current", "{sid}/"])
def test_ending_all_sessions_takes_a_valid_access_token(
    target: Target, client: JSONClient, victim: sessions.TokenPair, path: str, make: Any
) -> None:
    header = make(target, victim)
    headers = {} if header is None else {"Authorization": header}
    where = SESSIONS + path.format(sid=victim.session_id)
    answer = target.survives(lambda: client.delete(where, headers=headers))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="api"')
    assert client.whoami(victim.access_token).status_code == 200


def test_the_sessions_of_others_are_out_of_reach(
    target: Target, client: JSONClient, user: Any, victim: sessions.TokenPair
) -> None:
    # Ada is the attacker here, with a token of her own.
    token, others = sessions.start(user).access_token, victim.session_id
    answer = target.survives(lambda: client.call("delete", f"{SESSIONS}{others}/", token=token))
    assert answer.status_code == 404
    listed = client.call("get", SESSIONS, token=token).json()
    assert str(others) not in {one["id"] for one in listed}
    assert client.call("delete", f"{SESSIONS}?keep=none", token=token).status_code == 204
    assert client.whoami(victim.access_token).status_code == 200
    assert client.refresh(victim.refresh_token).status_code == 200


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete"])
def test_no_link_signs_anybody_out(
    target: Target, client: JSONClient, victim: sessions.TokenPair, method: str
) -> None:
    path = f"{LOGOUT}?refresh_token={victim.refresh_token}"
    answer = target.survives(lambda: client.call(method, path, token=victim.access_token))
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, OPTIONS")


@pytest.mark.parametrize("target", ["ES256"], indirect=True)
def test_no_other_spelling_revives_an_ended_session(
    target: Target, client: JSONClient, victim: sessions.TokenPair, user: Any
) -> None:
    signed, _, signature = victim.access_token.rpartition(".")
    raw = read_segment(signature)
    # (r, n - s) is a signature of the same text: anybody can make it of (r, s).
    turned = raw[:32] + (P256_ORDER - int.from_bytes(raw[32:])).to_bytes(32)
    other = f"{signed}.{b64(turned)}"
    padded = f"{victim.access_token}{'=' * (-len(signature) % 4)}"
    target.accepts(other)
    assert client.logout_with(victim.refresh_token).status_code == 204
    # The list of ended sessions is read anew, once.
    target.accepts(target._genuine)
    target.refuses(victim.access_token, "session_ended")
    target.refuses(other, "session_ended")
    target.refuses(padded, "token_not_valid")
    # Nor another token of the session, with other claims and another jti.
    claims = of_the_victim(target, victim)
    target.refuses(target.forge.token({**claims, "jti": "another"}), "session_ended")


def test_an_ended_session_stays_ended(
    target: Target, client: JSONClient, victim: sessions.TokenPair, clock: Clock, user: Any
) -> None:
    first = client.refresh(victim.refresh_token).json()
    assert client.logout_with(first["refresh_token"]).status_code == 204
    for raw in (victim.access_token, first["access_token"]):
        answer = target.survives(lambda: client.whoami(raw))  # noqa: B023
        assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
    for seconds in (0, 60, 60, 3600):
        clock.move(seconds=seconds)
        target._genuine = sessions.start(user).access_token
        for raw in (victim.refresh_token, first["refresh_token"]):
            answer = target.survives(lambda: client.refresh(raw))  # noqa: B023
            assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")


ENDS: dict[str, Callable[[JSONClient, Any, dict[str, Any]], Any]] = {
    "logout": lambda client, user, pair: client.logout_with(pair["refresh_token"]),
    "all sessions": lambda client, user, pair: sessions.end_all(user),
    "a deactivation": lambda client, user, pair: user.save(),
    "a replay": lambda client, user, pair: client.refresh(pair["replaced"]),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("behind", [0, 60, 600, 3600])
def test_host_with_a_slow_clock_ends_a_session_for_good(
    user: Any, client: JSONClient, clock: Clock, end: Callable[..., Any], behind: int
) -> None:
    pair = client.login().json()
    clock.move(seconds=121)
    pair = {**client.refresh(pair["refresh_token"]).json(), "replaced": pair["refresh_token"]}
    assert client.whoami(pair["access_token"]).status_code == 200
    clock.move(seconds=200)
    # Each host is a process of its own, which knows nothing but the table.
    clock.move(seconds=-behind)
    forget()
    user.is_active = end is not ENDS["a deactivation"]
    end(client, user, pair)
    clock.move(seconds=behind)
    for _ in range(10):
        forget()
        assert client.whoami(pair["access_token"]).json()["code"] == "session_ended"
        clock.move(seconds=9)
    # Past its own end.
    clock.move(seconds=10)
    assert client.whoami(pair["access_token"]).json()["code"] == "token_expired"


# Longer than the list of ended sessions reaches back.
WAIT = 600


def act_before_update(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have *act* happen while the next UPDATE of sessions waits for a lock."""
    original = LoginSessionQuerySet.update

    def update(queryset: LoginSessionQuerySet, **values: Any) -> int:
        monkeypatch.setattr(LoginSessionQuerySet, "update", original)
        act()
        return original(queryset, **values)

    monkeypatch.setattr(LoginSessionQuerySet, "update", update)


def assert_refused_until_it_expires(access_token: str, clock: Clock) -> None:
    """Demand that every process refuses *access_token* for as long as it could live."""
    for seconds in (0, 2, 100, 190):
        clock.move(seconds=seconds)
        # As another process, or the same after a while: the rows alone tell.
        forget()
        with pytest.raises(SessionEnded):
            verify(access_token)


@pytest.mark.parametrize(
    "end",
    [
        lambda user, pair: sessions.end(pair.session_id),
        lambda user, pair: sessions.end_all(user),
        lambda user, pair: sessions.end_everybody(),
    ],
    ids=["end", "end_all", "end_everybody"],
)
def test_end_that_waited_is_dated_by_its_effect(
    user: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, end: Callable[..., object]
) -> None:
    pair = sessions.start(user)
    refreshed: list[sessions.TokenPair] = []

    def wait() -> None:
        clock.move(seconds=WAIT)
        refreshed.append(sessions.refresh(pair.refresh_token or ""))

    act_before_update(monkeypatch, wait)
    assert end(user, pair)
    assert_refused_until_it_expires(refreshed[0].access_token, clock)


def test_end_of_a_stolen_session_that_waited_is_dated_by_its_effect(
    user: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stolen = sessions.start(user).refresh_token or ""
    current = sessions.refresh(stolen)
    clock.move(seconds=121)
    # No other request changes the row meanwhile, or the finding would be repeated.
    act_before_update(monkeypatch, lambda: clock.move(seconds=WAIT))
    with pytest.raises(RefreshReused):
        sessions.refresh(stolen)
    row = LoginSession.objects.get(pk=current.session_id)
    assert row.revoked_at == timezone.now()


@pytest.mark.django_db(transaction=True)
def test_end_in_a_long_transaction_is_dated_by_its_commit(make_user: Any, clock: Clock) -> None:
    pair = sessions.start(make_user())
    assert pair.session_id is not None
    with transaction.atomic():
        sessions.end(pair.session_id)
        clock.move(seconds=WAIT)
    assert LoginSession.objects.get().revoked_at == timezone.now()


def test_quick_end_is_one_update(user: Any, clock: Clock, django_assert_num_queries: Any) -> None:
    pair = sessions.start(user)
    assert pair.session_id is not None
    with django_assert_num_queries(2):
        sessions.end(pair.session_id)
