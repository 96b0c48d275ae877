"""Tokens that a process remembers: what is still asked each time, and what it never lets in."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import RequestFactory
from django.views.debug import ExceptionReporter

from jwt_auth import averify, sessions, verify
from jwt_auth.authenticator import Verdict
from jwt_auth.errors import Rejected
from jwt_auth.runtime import current
from jwt_auth.tokens.claims import Claims
from tests.attacks.forge import FORGES
from tests.conftest import Clock, JSONClient, private_pem, public_pem


class Counter:
    """Counts the signatures that are checked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from jwt_auth.tokens import jws

        self.number = 0
        holds = jws._holds

        def counting(*args: Any) -> bool:
            self.number += 1
            return holds(*args)

        monkeypatch.setattr(jws, "_holds", counting)


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(monkeypatch)


@pytest.fixture
def token(user: User) -> str:
    return sessions.start(user).access_token


def bearer(token: str, scheme: str = "Bearer ") -> Any:
    return RequestFactory().get("/", HTTP_AUTHORIZATION=scheme + token)


def judged(token: str, load_user: str = "lazy", scheme: str = "Bearer ") -> Verdict:
    verdict = current().authenticator.judge(bearer(token, scheme), load_user)
    assert verdict is not None
    return verdict


def code_of(token: str, load_user: str = "lazy") -> str:
    refusal = judged(token, load_user).refusal
    return "good" if refusal is None else refusal.code


def test_a_signature_is_checked_once_and_nobody_is_asked(
    client: JSONClient,
    user: User,
    token: str,
    signatures: Counter,
    django_assert_num_queries: Any,
) -> None:
    assert client.whoami(token).status_code == 200
    with django_assert_num_queries(0):
        for _ in range(5):
            assert client.whoami(token).json()["pk"] == str(user.pk)
        assert verify(token).subject == verify(token).subject
    assert signatures.number == 1


@pytest.mark.parametrize("load_user", ["lazy", "eager", "never"])
def test_each_way_to_load_a_user_takes_from_the_memory(
    token: str, user: User, signatures: Counter, load_user: str
) -> None:
    for _ in range(3):
        verdict = judged(token, load_user)
        assert verdict.refusal is None
        assert str(verdict.user.pk) == str(user.pk)
    assert signatures.number == 1


@pytest.mark.parametrize("scheme", ["bearer ", "BEARER ", "Bearer  ", "bEaReR   "])
def test_however_the_scheme_is_written(token: str, signatures: Counter, scheme: str) -> None:
    for _ in range(2):
        assert judged(token, scheme=scheme).refusal is None
    assert signatures.number == 1


@pytest.mark.parametrize("after", ["", " ", ",", " x", "=", "\n", "\x00", "."])
def test_what_is_not_the_token_is_not_remembered(token: str, after: str) -> None:
    assert judged(token).refusal is None
    for header in (f"Bearer{token}", f"Bearer\t{token}", f"Token {token}", f"Bearer {after}"):
        request = RequestFactory().get("/", HTTP_AUTHORIZATION=header)
        verdict = current().authenticator.judge(request, "lazy")
        assert verdict is None or verdict.refusal is not None, header
    if after:
        assert judged(token + after).refusal is not None


def test_any_other_letter_anywhere_is_refused(token: str) -> None:
    assert code_of(token) == "good"
    for place in range(len(token)):
        letter = "A" if token[place] != "A" else "B"
        assert code_of(f"{token[:place]}{letter}{token[place + 1 :]}") == "token_not_valid", place
        assert code_of(token[:place]) != "good"
    assert code_of(token) == "good"


def test_only_genuine_tokens_come_in(token: str, settings: Any) -> None:
    settings.JWT_AUTH = {"SIGNING_KEY": FORGES["HS256"]().setting}
    memory = current().authenticator.memory
    for place in range(len(token)):
        code_of(f"{token[:place]}{'A' if token[place] != 'A' else 'B'}{token[place + 1 :]}")
    for text in ("", "x", "a.b.c", token, token * 30):
        code_of(text or "x")
    assert len(memory) == 0


@pytest.mark.parametrize("load_user", ["lazy", "eager", "never"])
def test_the_expiry_is_looked_at_each_time(token: str, clock: Clock, load_user: str) -> None:
    token = sessions.start(User.objects.get()).access_token
    assert code_of(token, load_user) == "good"
    clock.move(seconds=299)
    assert code_of(token, load_user) == "good"
    clock.move(seconds=1)
    assert code_of(token, load_user) == "token_expired"
    clock.move(seconds=-1)
    assert code_of(token, load_user) == "good"


def test_so_are_the_leeway_and_the_beginning(user: User, settings: Any, clock: Clock) -> None:
    settings.JWT_AUTH = {"LEEWAY": timedelta(seconds=90)}
    token = sessions.start(user).access_token
    for seconds, expected in ((0, "good"), (389, "good"), (1, "token_expired"), (-480, "good")):
        clock.move(seconds=seconds)
        assert code_of(token) == expected, seconds
    clock.move(seconds=-1)
    assert code_of(token) == "token_not_valid"


@pytest.mark.parametrize("load_user", ["lazy", "eager", "never"])
def test_so_is_the_session(user: User, load_user: str) -> None:
    pair = sessions.start(user)
    assert code_of(pair.access_token, load_user) == "good"
    assert pair.session_id is not None
    sessions.end(pair.session_id)
    assert code_of(pair.access_token, load_user) == "session_ended"


@pytest.mark.parametrize("interval", [0, None])
def test_without_a_list_nothing_is_known_that_should_be_asked(
    user: User, settings: Any, interval: int | None
) -> None:
    settings.JWT_AUTH = {"REVOCATION_INTERVAL": interval}
    pair = sessions.start(user)
    assert code_of(pair.access_token) == "good"
    assert pair.session_id is not None
    sessions.end(pair.session_id)
    assert code_of(pair.access_token) == ("good" if interval is None else "session_ended")


def test_a_list_that_is_too_long_is_asked_about_each_session(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jwt_auth.revocation.LONGEST_LIST", 1)
    pairs = [sessions.start(user) for _ in range(4)]
    assert [code_of(pair.access_token) for pair in pairs] == ["good"] * 4
    for pair in pairs[:3]:
        assert pair.session_id is not None
        sessions.end(pair.session_id)
    found = [code_of(pair.access_token) for pair in pairs]
    assert found == ["session_ended"] * 3 + ["good"]


def test_a_key_that_is_taken_out_takes_its_tokens_along(user: User, settings: Any) -> None:
    old, new = private_pem("P-256"), private_pem("Ed25519")
    settings.JWT_AUTH = {"SIGNING_KEY": old}
    token = sessions.start(user).access_token
    assert code_of(token) == "good"
    settings.JWT_AUTH = {"SIGNING_KEY": new, "VERIFYING_KEYS": [public_pem(old)]}
    assert code_of(token) == "good"
    settings.JWT_AUTH = {"SIGNING_KEY": new}
    assert code_of(token) == "token_not_valid"


@pytest.mark.parametrize(
    "changed",
    [
        {"ISSUER": "https://id.example"},
        {"AUDIENCE": "api"},
        {"ACCESS_TOKEN_LIFETIME": timedelta(seconds=30)},
        {"ENCRYPTION_KEY": "q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjGu1RpNi5o"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_rule_that_changes_counts_for_what_was_remembered(
    token: str, settings: Any, changed: dict[str, Any]
) -> None:
    assert code_of(token) == "good"
    settings.JWT_AUTH = changed
    assert code_of(token) == "token_not_valid"


def test_another_spelling_of_the_user_is_refused_again(user: User, settings: Any) -> None:
    forge = FORGES["HS256"]()
    settings.JWT_AUTH = {"SIGNING_KEY": forge.setting}
    claims = dict(verify(sessions.start(user).access_token))
    token = forge.token({**claims, "sub": f" {claims['sub']}"})
    # Signed by the key, so that it is remembered.
    assert verify(token).subject == f" {claims['sub']}"
    for _ in range(3):
        assert code_of(token) == "token_not_valid"


def test_encrypted_tokens_are_remembered_as_they_came(
    user: User, settings: Any, monkeypatch: pytest.MonkeyPatch, signatures: Counter
) -> None:
    settings.JWT_AUTH = {"ENCRYPTION_KEY": "q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjGu1RpNi5o"}
    token = sessions.start(user).access_token
    encryption = current().access_tokens.encryption
    assert encryption is not None
    signed = encryption.open(token)
    for _ in range(2):
        assert code_of(token) == "good"
        assert code_of(signed) == "token_not_valid"
    assert signatures.number == 1


@pytest.mark.parametrize("use", [judged, verify, async_to_sync(averify)], ids=range(3))
def test_what_is_used_is_not_forgotten_for_what_is_not(
    user: User, settings: Any, signatures: Counter, use: Callable[[str], Any]
) -> None:
    settings.JWT_AUTH = {"TOKEN_CACHE_SIZE": 2}
    first, second, third = (sessions.start(user).access_token for _ in range(3))
    for token in (first, second, first, third, first):
        use(token)
    assert signatures.number == 3
    use(second)
    assert signatures.number == 4


def test_zero_remembers_none(token: str, settings: Any, signatures: Counter) -> None:
    settings.JWT_AUTH = {"TOKEN_CACHE_SIZE": 0}
    for _ in range(3):
        assert code_of(token) == "good"
    assert signatures.number == 3


CHANGES: dict[str, Callable[[Any], Any]] = {
    "set": lambda claims: setattr(claims, "subject", "2"),
    "set a session": lambda claims: setattr(claims, "session_id", None),
    "set something new": lambda claims: setattr(claims, "is_admin", True),
    "delete": lambda claims: delattr(claims, "expires"),
    "a member": lambda claims: claims.__setitem__("sub", "2"),
    "a member inside": lambda claims: claims._members.__setitem__("sub", "2"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_claims_cannot_be_changed(token: str, change: Callable[[Any], Any]) -> None:
    claims = judged(token).claims
    with pytest.raises((AttributeError, TypeError)):
        change(claims)
    assert dict(judged(token).claims or {}) == dict(claims or {})


def test_what_claims_hand_out_is_a_copy(user: User) -> None:
    deep = {"plan": {"limits": [1, 2]}, "teams": ["a"]}
    token = sessions.start(user, claims=deep).access_token
    for _ in range(2):
        claims = judged(token).claims
        assert claims is not None
        assert {name: claims[name] for name in deep} == deep
        claims["plan"]["limits"].append(3)
        claims["teams"].clear()
        for one in claims.values():
            if isinstance(one, list):
                one.append("admin")
    assert judged(token).claims == claims


@pytest.mark.parametrize(
    "through",
    [copy.copy, copy.deepcopy, lambda claims: pickle.loads(pickle.dumps(claims))],  # noqa: S301
    ids=["copy", "deep copy", "pickle"],
)
def test_claims_survive_being_copied(token: str, through: Callable[[Any], Any]) -> None:
    claims = verify(token)
    other = through(claims)
    assert isinstance(other, Claims)
    assert dict(other) == dict(claims)
    assert (other.subject, other.session_id) == (claims.subject, claims.session_id)
    stranger = through(claims.of_a_stranger({}))
    assert stranger.session_id is None


def test_requests_of_one_token_have_users_of_their_own(token: str, user: User) -> None:
    first, second = judged(token), judged(token)
    assert first.user is not second.user
    first.user.first_name = "Grace"
    assert (second.user.first_name, second.user.username) == ("", "ada")
    User.objects.update(is_active=False)
    third = judged(token)
    assert third.user.is_authenticated
    assert str(third.user) == "AnonymousUser"
    assert first.user.username == "ada"


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("size", [0, 1, 5, 4096])
def test_nobody_gets_anothers_verdict(make_user: Any, settings: Any, size: int) -> None:
    settings.JWT_AUTH = {"TOKEN_CACHE_SIZE": size, "REVOCATION_INTERVAL": None}
    tokens = {sessions.start(one).access_token: one.pk for one in map(make_user, "abcdefghij")}
    hostile = {f"{token[:-2]}{'AA' if token[-2:] != 'AA' else 'BA'}" for token in tokens}

    def use(number: int) -> None:
        names = list(tokens)[number:] + list(tokens)[:number]
        for _ in range(12):
            for token in names:
                verdict = judged(f"{token} "[:-1])
                assert verdict.claims is not None
                assert verdict.claims.subject == str(verdict.user.pk) == str(tokens[token])
            for token in hostile:
                assert code_of(token) == "token_not_valid"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    assert len(current().authenticator.memory) <= size


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("broken", "is_known"),
    [
        ("revocation.RevocationList.vouch", True),
        ("revocation.RevocationList._list", True),
        ("users.Accounts.lazy", True),
        ("tokens.memory.TokenMemory.keep", False),
        ("tokens.policy.Policy.validity", False),
        ("tokens.access.AccessTokens.unsafe_read", False),
        ("transports._CREDENTIALS", False),
    ],
)
def test_what_fails_beside_the_memory_shows_no_token(
    token: str, monkeypatch: pytest.MonkeyPatch, broken: str, is_known: bool, is_async: bool
) -> None:
    if is_known:
        assert code_of(token) == "good"

    def fail(*args: Any) -> None:
        raise RuntimeError("a bug")

    request = bearer(token)
    authenticator = current().authenticator
    monkeypatch.setattr(f"jwt_auth.{broken}", fail)
    if broken.endswith("._list"):
        authenticator.revocations._lists.clear()  # type: ignore[union-attr]
    judge: Any = async_to_sync(authenticator.ajudge) if is_async else authenticator.judge
    with pytest.raises((RuntimeError, AttributeError)) as failed:
        judge(request, "lazy")
    reporter = ExceptionReporter(request, RuntimeError, failed.value, failed.tb)
    shown = [
        f"{name}={value}"
        for frame in reporter.get_traceback_frames()
        if "/jwt_auth/" in frame["filename"] and "/tests/" not in frame["filename"]
        for name, value in frame["vars"]
    ]
    assert shown
    assert token.split(".")[2] not in " ".join(shown)


def test_a_remembered_token_is_refused_as_a_new_one_is(token: str, user: User) -> None:
    """The long way words what the short way only declines."""
    assert code_of(token) == "good"
    sessions.end_all(user)
    with pytest.raises(Rejected) as refused:
        verify(token)
    assert refused.value.code == code_of(token) == "session_ended"


def test_who_puts_another_clock_into_python_sets_ours(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As libraries do that stop the time in a project's tests."""
    assert code_of(token) == "good"
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert code_of(token) == "token_expired"


def test_eager_reads_the_row_each_time(token: str, django_assert_num_queries: Any) -> None:
    assert code_of(token) == "good"
    for _ in range(2):
        with django_assert_num_queries(1):
            assert judged(token, "eager").user.username == "ada"
    User.objects.update(is_active=False)
    assert code_of(token, "eager") == "session_ended"


def test_a_stranger_is_one_each_time(user: User, settings: Any) -> None:
    """Of another issuer's remembered token no local user is made."""
    from tests.remote.provider import ISSUER, Provider, running

    with running(Provider()) as provider:
        settings.DEBUG = True
        settings.JWT_AUTH = {"TRUSTED_ISSUERS": provider.settings()}
        token = provider.token(sub=str(user.pk))
        for _ in range(3):
            verdict = judged(token)
            assert verdict.is_foreign
            assert verdict.user.pk == f"{ISSUER}|{user.pk}"
            assert verdict.claims is not None
            assert verdict.claims.session_id is None
        assert len(current().authenticator.memory) == 1


def test_the_header_wins_over_the_cookie_when_it_is_remembered(
    user: User, make_user: Callable[..., User], settings: Any
) -> None:
    settings.JWT_AUTH = {"COOKIES": {"ACCESS": "__Secure-access_token"}}
    other = make_user("grace")
    own, others = (sessions.start(one).access_token for one in (user, other))
    for _ in range(2):
        for header, cookie, expected in ((own, others, user), (others, own, other)):
            request = bearer(header)
            request.COOKIES["__Secure-access_token"] = cookie
            verdict = current().authenticator.judge(request, "lazy")
            assert verdict is not None
            assert (verdict.user.pk, verdict.from_cookie) == (expected.pk, False)
    request = RequestFactory().get("/", HTTP_COOKIE=f"__Secure-access_token={own}")
    verdict = current().authenticator.judge(request, "lazy")
    assert verdict is not None
    assert (verdict.user.pk, verdict.from_cookie) == (user.pk, True)
    # The same request, for a class that takes no cookie.
    assert current().authenticator.judge(request, "lazy", by_cookie=False) is None


def test_an_async_request_waits_for_nobody(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread, no query and no turn of the loop: the coroutine ends at its first step."""
    authenticator = current().authenticator
    assert code_of(token) == "good"

    def hop(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a thread was asked")

    monkeypatch.setattr("asgiref.sync.SyncToAsync.__call__", hop)
    judging = authenticator.ajudge(bearer(token), "lazy")
    with pytest.raises(StopIteration) as ended:
        judging.send(None)
    verdict = ended.value.value
    assert verdict.refusal is None
    assert str(verdict.user.pk) == verdict.claims.subject
