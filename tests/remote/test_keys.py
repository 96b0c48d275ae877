"""Rows 158 to 164: which published keys verify, and when they are fetched."""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import os
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from cryptography.hazmat.primitives.asymmetric import ec

from jwt_auth import averify, verify
from jwt_auth.errors import Rejected, TokenExpired, TokenNotValid, Unavailable
from jwt_auth.runtime import current, forget
from jwt_auth.tokens import fetching, remote
from jwt_auth.tokens.fetching import Followed
from jwt_auth.tokens.remote import KEYS_RHYTHM, LONGEST_SET, MOST_KEYS, read_jwks
from tests.attacks.forge import b64
from tests.attacks.limits import Limits
from tests.conftest import NOW, Clock, private_pem
from tests.remote.provider import ISSUER, Held, Provider, body, document, public_jwk

pytestmark = pytest.mark.usefixtures("quiet_heap")


def another_point() -> dict[str, str]:
    """Return the coordinates of a key that nobody else has."""
    point = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    return {"x": b64(point.x.to_bytes(32)), "y": b64(point.y.to_bytes(32))}


def said(raw: str) -> str:
    """Return the verdict on *raw*."""
    try:
        verify(raw)
    except (Rejected, Unavailable) as error:
        return error.code
    return "good"


def is_under_way() -> bool:
    """Tell whether a fetch of the keys is under way."""
    attempt = current().authenticator.issuers[ISSUER].tokens._keys.followed._attempt
    return attempt is not None and not attempt.finished.done()


def settled(provider: Provider) -> None:
    """Wait until no fetch of the keys is under way."""
    followed = current().authenticator.issuers[ISSUER].tokens._keys.followed
    attempt = followed._attempt
    if attempt is not None:
        attempt.finished.result(10)


EC, RSA, ED = (private_pem(kind) for kind in ("P-256", "RSA-2048", "Ed25519"))
GOOD = public_jwk(EC, kid="good")

LEFT_OUT: dict[str, Any] = {
    "a secret": {"kty": "oct", "k": b64(bytes(range(32))), "kid": "x", "alg": "HS256"},
    "a private key": public_jwk(EC, kid="x", d=b64(b"\1" * 32)),
    "a private RSA member": public_jwk(RSA, kid="x", dp="AQAB"),
    "for encryption": public_jwk(EC, kid="x", use="enc"),
    "use that nobody knows": public_jwk(EC, kid="x", use="SIG"),
    "operations of encryption": public_jwk(RSA, kid="x", key_ops=["encrypt"]),
    "operations of a signer": public_jwk(EC, kid="x", key_ops=["sign"]),
    "no operations": public_jwk(EC, kid="x", key_ops=[]),
    "operations that are null": public_jwk(EC, kid="x", key_ops=None),
    "operations as text": public_jwk(RSA, kid="x", key_ops="verify"),
    "an alg that is not wanted": public_jwk(RSA, kid="x", alg="RS512"),
    "an alg of HMAC": public_jwk(RSA, kid="x", alg="HS256"),
    "an alg of another kind": public_jwk(RSA, kid="x", alg="ES256"),
    "a list as alg": public_jwk(RSA, kid="x", alg=["RS256"]),
    "an empty kid": public_jwk(EC, kid=""),
    "a number as kid": public_jwk(EC, kid=7),
    "a long kid": public_jwk(EC, kid="k" * 256),
    "another curve": public_jwk(EC, kid="x", crv="P-384"),
    "no point of the curve": public_jwk(EC, kid="x", y=b64(b"\1" * 32)),
    "a short RSA key": public_jwk(RSA, kid="x", n=b64(b"\xc1" * 128)),
    "an even exponent": public_jwk(RSA, kid="x", e="Ag"),
    "an exponent of 1": public_jwk(RSA, kid="x", e="AQ"),
    "no exponent": public_jwk(RSA, kid="x", e=...),
    "Ed448": {"kty": "OKP", "crv": "Ed448", "x": b64(b"\1" * 57), "kid": "x"},
    "no kty": public_jwk(EC, kid="x", kty=...),
    "a list as kty": public_jwk(EC, kid="x", kty=["EC"]),
    "a kty of tomorrow": {"kty": "AKP", "alg": "ML-DSA-65", "pub": "AA", "kid": "x"},
    "a number": 7,
    "a list": [GOOD],
    "nothing": None,
    "empty": {},
}


@pytest.mark.parametrize("jwk", LEFT_OUT.values(), ids=LEFT_OUT)
def test_one_bad_key_does_not_cost_the_good_ones(jwk: Any) -> None:
    algorithms = ["RS256", "ES256", "EdDSA"]
    for keys in ([GOOD, jwk], [jwk, GOOD]):
        found = read_jwks(json.dumps({"keys": keys}).encode(), algorithms)
        assert (len(found), found.get("good") is None) == (1, False)
    assert len(read_jwks(json.dumps({"keys": [jwk]}).encode(), algorithms)) == 0


def test_two_keys_of_one_name_are_none() -> None:
    other = public_jwk(ED, kid="x")
    keys = [public_jwk(EC, kid="x"), GOOD, other, public_jwk(RSA, kid="x")]
    found = read_jwks(json.dumps({"keys": keys}).encode(), ["RS256", "ES256", "EdDSA"])
    assert (len(found), found.get("x")) == (1, None)


@pytest.mark.parametrize(
    ("algorithms", "jwk", "expected"),
    [
        (["RS256"], public_jwk(RSA, kid="x", alg=...), "RS256"),
        (["PS256"], public_jwk(RSA, kid="x", alg=...), "PS256"),
        (["RS512", "RS256"], public_jwk(RSA, kid="x", alg=...), "RS512"),
        (["RS512", "RS256"], public_jwk(RSA, kid="x", alg="RS256"), "RS256"),
        (["RS256", "ES256"], public_jwk(EC, kid="x", alg=...), "ES256"),
        (["RS256", "ES256"], public_jwk(EC, kid="x", alg=..., use=...), "ES256"),
        (["EdDSA"], public_jwk(ED, kid="x", alg=..., key_ops=["verify"]), "EdDSA"),
        (["RS256"], public_jwk(RSA, kid="urn:" + "k" * 200, x5c=["MIID"], x5t="x"), "RS256"),
    ],
)
def test_the_algorithm_of_a_key(algorithms: list[str], jwk: Any, expected: str) -> None:
    found = read_jwks(json.dumps({"keys": [jwk]}).encode(), algorithms)
    key = found.get(jwk["kid"])
    assert key is not None
    assert (key.algorithm, key.kid, key.signing) == (expected, jwk["kid"], None)


# A string that does not end, of quotes that are none: where a search for strings goes back.
ESCAPES = b"[" * 17 + b'"' + b'\\"' * 100_000

NO_SETS: dict[str, bytes] = {
    "quotes without end": b'{"keys":' + ESCAPES,
    "quotes and a last backslash": b'{"keys":' + ESCAPES + b"\\",
    "strings without end": b'{"keys":' + b"[" * 17 + b'"a' * 100_000,
    "HTML": b"<html>",
    "empty": b"",
    "an array": b"[]",
    "a string": b'"keys"',
    "no keys": b"{}",
    "keys of another type": b'{"keys": {"x": 1}}',
    "null": b'{"keys": null}',
    "twice": b'{"keys": [], "keys": []}',
    "nested": b'{"keys":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "UTF-16": '{"keys": []}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + b'{"keys": []}',
    "no UTF-8": b'{"keys": ["\xff"]}',
    "NaN": b'{"keys": [NaN]}',
    "a number without end": b'{"keys": [' + b"9" * 10_000 + b"]}",
    "too many": json.dumps({"keys": [{}] * (MOST_KEYS + 1)}).encode(),
}


@pytest.mark.parametrize("data", NO_SETS.values(), ids=NO_SETS)
def test_what_is_no_jwk_set(data: bytes) -> None:
    with Limits(), pytest.raises(TokenNotValid):
        read_jwks(data, ["ES256"])


@pytest.mark.parametrize("value", [b"[]", b"{}", b'{"":0}', b'{"a":[]}', b"[[]]", b"0", b'""'])
def test_the_largest_sets_fit(value: bytes) -> None:
    data = b'{"x":[' + b",".join([value] * (LONGEST_SET // (len(value) + 1) - 10))
    data += b'],"keys":[]}'
    assert len(data) <= LONGEST_SET
    tracemalloc.start()
    try:
        assert len(read_jwks(data, ["ES256"])) == 0
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_an_unchanged_key_is_the_same_object() -> None:
    data = json.dumps({"keys": [GOOD, public_jwk(RSA, kid="x")]}).encode()
    before = read_jwks(data, ["ES256", "RS256"])
    changed = json.dumps({"keys": [GOOD, public_jwk(ED, kid="x")]}).encode()
    after = remote._with_old_objects(read_jwks(changed, ["ES256", "EdDSA"]), before)
    assert after.get("good") is before.get("good")
    assert after.get("x") is not before.get("x")
    assert len(after) == 2


def test_what_comes_late_changes_nothing(provider: Provider, clock: Clock) -> None:
    followed: Followed[bytes] = Followed(
        f"{provider.url}/x",
        max_size=10,
        read=bytes,
        join=lambda read, before: read,
        rhythm=KEYS_RHYTHM,
        clock=time.time,
    )
    held = Held(body(b"old"))
    provider.answers["/x"] = held
    first = followed.renewal(missing=True)
    # It hangs, as far as anyone can tell, and another one is tried.
    clock.move(seconds=29)
    assert followed.renewal(missing=True) is None
    clock.move(seconds=1)
    assert held.arrived.wait(30)
    provider.answers["/x"] = body(b"new")
    second = followed.renewal(missing=True)
    assert first is not None
    assert second is not None
    assert first is not second
    followed.wait(second)
    assert (followed.value, first.finished.done()) == (b"new", False)
    held.release()
    assert first.finished.result(10) is None
    assert (followed.value, followed.in_doubt) == (b"new", False)


def test_a_log_that_fails_leaves_nobody_waiting(
    trusted: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("jwt_auth.tokens.fetching.logger.warning", fail)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    trusted.answers["/jwks.json"] = body(b"", 500)
    assert said(trusted.token()) == "unavailable"
    # The thread has ended the attempt, so the request did not wait until the deadline.
    assert not is_under_way()


def test_many_processes_worth_of_threads_build_one_runtime(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.JWT_AUTH = {}
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            forget()
            with ThreadPoolExecutor(16) as threads:
                assert len({id(one) for one in threads.map(lambda _: current(), range(16))}) == 1
    finally:
        sys.setswitchinterval(interval)


def test_a_token_of_a_published_key(trusted: Provider) -> None:
    claims = verify(trusted.token())
    assert (claims.issuer, claims.subject) == (ISSUER, "1")
    assert said(trusted.token()) == "good"
    assert trusted.count() == 1


def at_once(count: int, ask: Callable[[int], str]) -> list[str]:
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(ask, range(count)))


def test_the_first_tokens_wait_for_one_fetch(trusted: Provider) -> None:
    token = trusted.token()
    assert at_once(20, lambda number: said(token)) == ["good"] * 20
    assert trusted.count() == 1


def test_unknown_kids_cost_one_fetch(trusted: Provider, clock: Clock) -> None:
    assert said(trusted.token()) == "good"
    clock.move(seconds=31)
    token = [trusted.token(kid=os.urandom(8).hex()) for _ in range(200)]
    assert at_once(50, lambda number: said(token[number])) == ["token_not_valid"] * 50
    for one in token[50:]:
        assert said(one) == "token_not_valid"
    assert trusted.count() == 2
    clock.move(seconds=29)
    assert said(token[0]) == "token_not_valid"
    assert trusted.count() == 2
    clock.move(seconds=2)
    assert said(token[0]) == "token_not_valid"
    assert trusted.count() == 3


async def all_said(tokens: list[str]) -> set[str]:
    """Return the verdicts on *tokens*, asked for at once in tasks."""

    async def ask(raw: str) -> str:
        try:
            await averify(raw)
        except (Rejected, Unavailable) as error:
            return error.code
        return "good"

    return set(await asyncio.gather(*map(ask, tokens)))


def test_unknown_kids_in_tasks(trusted: Provider, clock: Clock) -> None:
    assert async_to_sync(all_said)([trusted.token()] * 20) == {"good"}
    clock.move(seconds=31)
    tokens = [trusted.token(kid=os.urandom(8).hex()) for _ in range(200)]
    assert async_to_sync(all_said)(tokens) == {"token_not_valid"}
    assert trusted.count() == 2


def test_the_loop_goes_on_while_a_provider_is_slow(
    trusted: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "KEYS_PATIENCE", math.inf)
    assert said(trusted.token()) == "good"
    held = Held(body(b"x"))
    trusted.answers["/jwks.json"] = held
    clock.move(seconds=31)

    async def ask() -> set[str]:
        waiting = asyncio.ensure_future(all_said([trusted.token(kid="new")] * 50))
        assert await asyncio.to_thread(held.arrived.wait, 30)
        for _ in range(100):
            assert await all_said([trusted.token()]) == {"good"}
        # A loop that waited for the provider would have come here after its answer.
        assert not waiting.done()
        held.release()
        return await waiting

    assert async_to_sync(ask)() == {"unavailable"}


DOWN: dict[str, Any] = {
    "500": body(b"", 500),
    "HTML": body(b"<html>"),
    "a redirect": body(b"", 302, Location="/jwks.json"),
    "50 MB": body(b"x" * 50_000_000),
    "nested": body(NO_SETS["nested"]),
}


@pytest.mark.parametrize("answer", DOWN.values(), ids=DOWN)
def test_a_provider_that_is_down(
    trusted: Provider, clock: Clock, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    known, unknown = trusted.token(exp=4_000_000_000), trusted.token(kid="new", exp=4_000_000_000)
    assert said(known) == "good"
    trusted.answers["/jwks.json"] = answer
    clock.move(seconds=31)
    # Our fault is never a 401: nobody can say that there is no such key.
    for _ in range(10):
        assert said(unknown) == "unavailable"
        assert said(known) == "good"
    assert trusted.count() == 2
    # A thread that a test before has left may still have something to say.
    assert len([one for one in caplog.records if trusted.url in one.message]) == 1
    for _ in range(3):
        clock.move(hours=7)
        assert said(known) == "good"
        settled(trusted)
    assert trusted.count() == 5
    clock.move(hours=4)
    assert said(known) == "unavailable"
    # It is back.
    trusted.publish()
    assert said(known) == "unavailable"
    clock.move(seconds=31)
    # While fetches fail nobody waits for the next one.
    assert said(known) == "unavailable"
    settled(trusted)
    assert said(known) == "good"


def test_a_provider_that_was_never_up(trusted: Provider, clock: Clock) -> None:
    trusted.answers["/jwks.json"] = body(b"", 500)
    for _ in range(5):
        assert said(trusted.token()) == "unavailable"
    assert trusted.count() == 1
    trusted.publish()
    clock.move(seconds=31)
    assert said(trusted.token()) == "unavailable"
    settled(trusted)
    assert said(trusted.token()) == "good"


def test_known_keys_never_wait(
    trusted: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A request that waited would come back after the fetch, whose own deadline stays.
    monkeypatch.setattr(fetching, "DEADLINE", 60)
    monkeypatch.setattr(remote, "KEYS_PATIENCE", math.inf)
    known = trusted.token(exp=4_000_000_000)
    assert said(known) == "good"
    held = Held(body(b"x"))
    trusted.answers["/jwks.json"] = held
    clock.move(seconds=301)
    with ThreadPoolExecutor(8) as pool:
        unknown = [pool.submit(said, trusted.token(kid=f"k{number}")) for number in range(8)]
        assert held.arrived.wait(30)
        for _ in range(100):
            assert said(known) == "good"
        assert not any(one.done() for one in unknown)
        held.release()
        assert {one.result() for one in unknown} == {"unavailable"}
    assert trusted.count() == 2
    # The next one is not waited for either, a day later.
    later = Held(body(b"x"))
    trusted.answers["/jwks.json"] = later
    clock.move(hours=20)
    for _ in range(2):
        assert said(known) == "good"
        assert is_under_way()
    assert later.arrived.wait(30)
    later.release()
    settled(trusted)


@pytest.mark.parametrize("ask", [said, lambda raw: async_to_sync(all_said)([raw]).pop()])
def test_waiting_for_an_unknown_key_ends_at_the_deadline(
    trusted: Provider, monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], str]
) -> None:
    monkeypatch.setattr(fetching, "DEADLINE", 0.05)
    held = Held(body(b"x"))
    trusted.answers["/jwks.json"] = held
    assert ask(trusted.token()) == "unavailable"
    assert is_under_way()
    held.release()
    settled(trusted)


def test_keys_are_renewed_before_they_are_old(trusted: Provider, clock: Clock) -> None:
    known = trusted.token(exp=4_000_000_000)
    assert said(known) == "good"
    clock.move(seconds=299)
    assert said(known) == "good"
    assert trusted.count() == 1
    trusted.publish(public_jwk(trusted.forge.setting, kid="two"))
    clock.move(seconds=1)
    # Once more, while the fetch runs.
    said(known)
    settled(trusted)
    assert trusted.count() == 2
    assert said(known) == "token_not_valid"
    assert said(trusted.token(kid="two")) == "good"


def test_a_key_that_was_taken_out_does_not_serve_the_first_of_the_morning(
    trusted: Provider, clock: Clock
) -> None:
    known = trusted.token(exp=4_000_000_000)
    assert said(known) == "good"
    trusted.publish(public_jwk(trusted.forge.setting, kid="two"))
    clock.move(seconds=901)
    assert said(known) == "token_not_valid"


def test_a_new_key_is_seen_within_the_cool_down(trusted: Provider, clock: Clock) -> None:
    assert said(trusted.token()) == "good"
    own = public_jwk(trusted.forge.setting, kid=trusted.forge.kid)
    trusted.publish(own, public_jwk(trusted.forge.setting, kid="two"))
    assert said(trusted.token(kid="two")) == "token_not_valid"
    clock.move(seconds=30)
    assert said(trusted.token(kid="two")) == "good"


@pytest.mark.parametrize("seconds", [-3600, -86_400, -1])
def test_a_clock_that_is_set_back_stops_nothing(
    trusted: Provider, clock: Clock, seconds: int
) -> None:
    assert said(trusted.token()) == "good"
    clock.move(seconds=seconds)
    own = public_jwk(trusted.forge.setting, kid=trusted.forge.kid)
    trusted.publish(own, public_jwk(trusted.forge.setting, kid="two"))
    clock.move(seconds=31)
    assert said(trusted.token(kid="two")) == "good"


UNDESERVING: dict[str, Callable[[Provider], str]] = {
    "another issuer": lambda one: one.token(iss="https://other.example/"),
    "almost the issuer": lambda one: one.token(iss=ISSUER[:-1]),
    "no issuer": lambda one: one.token(iss=...),
    "none": lambda one: one.forge.token(one.claims(), one.forge.header(alg="none")),
    "another alg": lambda one: one.forge.token(one.claims(), one.forge.header(alg="RS256")),
    "HMAC": lambda one: one.forge.token(one.claims(), one.forge.header(alg="HS256")),
    "a list as alg": lambda one: one.forge.token(one.claims(), one.forge.header(alg=["ES256"])),
    "another typ": lambda one: one.forge.token(one.claims(), one.forge.header(typ="JWT")),
    "no typ": lambda one: one.forge.token(one.claims(), one.forge.header(typ=...)),
    "crit": lambda one: one.forge.token(one.claims(), one.forge.header(crit=["exp"])),
    "a number as kid": lambda one: one.forge.token(one.claims(), one.forge.header(kid=7)),
    "a list as kid": lambda one: one.forge.token(one.claims(), one.forge.header(kid=["one"])),
    "a long kid": lambda one: one.token(kid="k" * 256),
    "two segments": lambda one: one.token().rpartition(".")[0],
    "padded": lambda one: one.token() + "=",
    "a payload that is none": lambda one: one.forge.token(b"x"),
}


@pytest.mark.parametrize("make", UNDESERVING.values(), ids=UNDESERVING)
def test_nothing_is_fetched_for_a_token_that_does_not_deserve_it(
    trusted: Provider, make: Callable[[Provider], str]
) -> None:
    assert said(make(trusted)) == "token_not_valid"
    assert trusted.asked == []


def test_without_kid_there_is_no_choice(trusted: Provider) -> None:
    nameless = trusted.forge.token(trusted.claims(), trusted.forge.header(kid=...))
    assert said(nameless) == "good"
    own = public_jwk(trusted.forge.setting, kid=trusted.forge.kid)
    trusted.publish(own, {**own, **another_point(), "kid": "two"})
    forget()
    assert said(nameless) == "token_not_valid"


def test_where_no_thread_can_be_started(
    trusted: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = trusted.token(exp=4_000_000_000)
    assert said(known) == "good"
    clock.move(seconds=901)
    with monkeypatch.context() as patch:

        def cannot(self: Any) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", cannot)
        assert said(known) == "good"
        assert said(trusted.token(kid="two")) == "unavailable"
    clock.move(seconds=31)
    assert said(known) == "good"


def child(url: str, token: str, told: Any) -> None:
    told.put(said(token))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_begins_anew(trusted: Provider) -> None:
    assert said(trusted.token()) == "good"
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    children = [
        context.Process(target=child, args=(trusted.url, trusted.token(), told)) for _ in range(3)
    ]
    for one in children:
        one.start()
    assert [told.get(timeout=20) for _ in children] == ["good"] * 3
    for one in children:
        one.join()
    # The parent goes on with what it has.
    assert said(trusted.token()) == "good"
    assert trusted.count() == 4


def test_the_cache_ends_with_the_settings(trusted: Provider, settings: Any) -> None:
    assert said(trusted.token()) == "good"
    settings.JWT_AUTH = {}
    assert said(trusted.token()) == "token_not_valid"


def test_an_empty_set_is_an_answer(trusted: Provider, clock: Clock) -> None:
    assert said(trusted.token()) == "good"
    trusted.answers["/jwks.json"] = document({"keys": []})
    clock.move(seconds=901)
    assert said(trusted.token()) == "token_not_valid"


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return a list that is as long as signatures have been checked often."""
    from jwt_auth.tokens import jws

    checked: list[None] = []
    holds = jws._holds

    def counting(*args: Any) -> bool:
        checked.append(None)
        return holds(*args)

    monkeypatch.setattr(jws, "_holds", counting)
    return checked


@pytest.mark.parametrize("ask", [verify, async_to_sync(averify)], ids=["sync", "async"])
def test_a_remembered_token_holds_while_its_key_is_published(
    trusted: Provider, clock: Clock, signatures: list[None], ask: Any
) -> None:
    def again() -> str:
        """Ask once the keys are old enough to be fetched before anybody is answered."""
        clock.move(seconds=KEYS_RHYTHM.lifetime)
        try:
            return str(ask(token).subject)
        except TokenNotValid:
            return "refused"

    token = trusted.token(exp=int(NOW.timestamp()) + 24 * 3600)
    assert [ask(token).subject for _ in range(3)] == ["1"] * 3
    assert len(signatures) == 1
    # The same key in a new document.
    assert again() == "1"
    assert len(signatures) == 1
    trusted.publish(GOOD)
    assert again() == "refused"
    # It was gone meanwhile, and is another object now: the signature is checked anew, once.
    trusted.publish()
    assert [again(), str(ask(token).subject)] == ["1", "1"]
    assert len(signatures) == 2
    # Another key of the same name has not signed it.
    trusted.publish({**GOOD, **another_point(), "kid": trusted.forge.kid})
    assert again() == "refused"


@pytest.mark.parametrize("ask", [verify, async_to_sync(averify)], ids=["sync", "async"])
def test_a_remembered_token_ends_when_it_says(trusted: Provider, clock: Clock, ask: Any) -> None:
    token = trusted.token()
    assert ask(token).subject == "1"
    clock.move(seconds=300)
    with pytest.raises(TokenExpired):
        ask(token)
