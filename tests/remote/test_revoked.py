"""Row 112 across services: the list of ended sessions, published and followed."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from base64 import urlsafe_b64decode
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from django.contrib.auth.models import User
from django.db import OperationalError
from django.utils import timezone

from jwt_auth import averify, publication, revocation, sessions, verify
from jwt_auth.errors import Rejected, Unavailable
from jwt_auth.models import LoginSession
from jwt_auth.runtime import current
from jwt_auth.tokens import fetching, revoked
from tests.attacks.forge import b64, to_json
from tests.conftest import Clock, JSONClient, private_pem
from tests.remote.provider import ISSUER, Held, Provider, body, public_jwk, sids

pytestmark = pytest.mark.usefixtures("quiet_heap")

URL = "/auth/revoked.jwt"
PEM = private_pem("P-256")


def said(raw: str, check: Any = verify) -> str:
    """Return the verdict on *raw*."""
    try:
        check(raw)
    except (Rejected, Unavailable) as error:
        return error.code
    return "good"


def opened(text: str) -> tuple[Any, Any]:
    """Return header and payload of a JWT that our key has signed, by nothing of the app."""
    header, payload, signature = (
        urlsafe_b64decode(one + "=" * (-len(one) % 4)) for one in text.split(".")
    )
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    key: Any = serialization.load_pem_private_key(PEM, None).public_key()
    signed = text.rpartition(".")[0].encode()
    key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    return json.loads(header), json.loads(payload)


@pytest.mark.django_db
class TestPublished:
    """``GET revoked.jwt``."""

    @pytest.fixture(autouse=True)
    def project(self, settings: Any) -> Any:
        """Sign with a key that others can verify by."""
        settings.JWT_AUTH = {"ISSUER": ISSUER, "SIGNING_KEY": PEM}
        return settings

    def test_the_list(self, client: JSONClient, user: User, clock: Clock) -> None:
        ended = [sessions.start(user).session_id for _ in range(3)]
        sessions.start(user)
        for one in ended:
            assert one is not None
            sessions.end(one)
        answer = client.get(URL)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/jwt"
        assert answer.headers["Cache-Control"] == "public, max-age=1"
        header, payload = opened(answer.text)
        now = int(timezone.now().timestamp())
        kid = public_jwk(PEM)
        assert header["typ"] == "revoked+jwt"
        assert header["kid"] == client.get("/auth/jwks.json").json()["keys"][0]["kid"]
        assert kid["alg"] == header["alg"] == "ES256"
        assert payload == {
            "iss": ISSUER,
            "iat": now,
            "exp": now + 60,
            # Access tokens live for five minutes; slack and grace are added.
            "window": 480,
            "sids": sids(str(one) for one in ended),
        }

    def test_no_query_but_the_lists_own(
        self, client: JSONClient, user: User, clock: Clock, django_assert_num_queries: Any
    ) -> None:
        sessions.end_all(user)
        with django_assert_num_queries(1):
            first = client.get(URL)
        with django_assert_num_queries(0):
            second = client.get(URL)
        # ES256 signs differently each time: this was signed once.
        assert first.content == second.content
        etag = first.headers["ETag"]
        assert etag == second.headers["ETag"]
        third = client.get(URL, headers={"If-None-Match": etag})
        assert (third.status_code, third.content) == (304, b"")
        clock.move(seconds=1)
        with django_assert_num_queries(1):
            assert client.get(URL).headers["ETag"] != etag

    def test_an_end_is_in_it_at_once(self, client: JSONClient, user: User, clock: Clock) -> None:
        pair = sessions.start(user)
        assert opened(client.get(URL).text)[1]["sids"] == ""
        sessions.end_all(user)
        assert opened(client.get(URL).text)[1]["sids"] == sids([str(pair.session_id)])

    def test_it_dates_from_when_it_was_read(
        self, client: JSONClient, user: User, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read_at = int(timezone.now().timestamp())
        assert opened(client.get(URL).text)[1]["iat"] == read_at

        def down(*args: Any) -> Any:
            raise OperationalError("down")

        monkeypatch.setattr("django.db.models.query.QuerySet._fetch_all", down)
        clock.move(seconds=40)
        payload = opened(client.get(URL).text)[1]
        assert (payload["iat"], payload["exp"]) == (read_at, read_at + 60)
        clock.move(seconds=30)
        answer = client.get(URL)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["Cache-Control"] == "no-store"

    @pytest.mark.parametrize(
        "changes",
        [
            {"SIGNING_KEY": None},
            {"SIGNING_KEY": "q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjGu1RpNi5o", "VERIFYING_KEYS": [PEM]},
            {"REVOCATION_INTERVAL": None},
            {"REVOCATION_INTERVAL": 0},
            {"REFRESH_TOKEN_LIFETIME": None},
        ],
        ids=["derived key", "secret", "list off", "no list", "no sessions"],
    )
    def test_where_there_is_none(
        self, client: JSONClient, settings: Any, changes: dict[str, Any]
    ) -> None:
        settings.JWT_AUTH = {"ISSUER": ISSUER, "SIGNING_KEY": PEM, **changes}
        answer = client.get(URL)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (404, "no-store")

    @pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
    def test_it_is_only_read(self, client: JSONClient, method: str) -> None:
        assert client.call(method, URL).status_code == 405

    def test_nobody_is_asked_who_they_are(self, client: JSONClient) -> None:
        assert client.call("get", URL, token="x").status_code == 200

    def test_more_than_can_be_named(
        self, client: JSONClient, user: User, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(revocation, "LONGEST_LIST", 2)
        monkeypatch.setattr(publication, "LONGEST_PUBLISHED", 2)
        ended = [sessions.start(user).session_id for _ in range(4)]
        for one in ended:
            clock.move(seconds=10)
            LoginSession.objects.filter(pk=one).end("x", timezone.now())
        clock.move(seconds=60)
        payload = opened(client.get(URL).text)[1]
        assert payload["sids"] == sids(str(one) for one in ended[2:])
        # The third was the first that is named; five seconds are for its commit.
        third = int(timezone.now().timestamp()) - 60 - 10
        assert payload["stale_before"] == third + 5

    def test_more_than_a_process_keeps(
        self,
        client: JSONClient,
        user: User,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
        django_assert_num_queries: Any,
    ) -> None:
        monkeypatch.setattr(revocation, "LONGEST_LIST", 2)
        ended = [sessions.start(user).session_id for _ in range(4)]
        sessions.end_all(user)
        with django_assert_num_queries(2):
            payload = opened(client.get(URL).text)[1]
        assert payload["sids"] == sids(str(one) for one in ended)
        assert "stale_before" not in payload
        with django_assert_num_queries(0):
            client.get(URL)

    def test_it_is_not_dated_ahead(
        self, client: JSONClient, user: User, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(revocation, "LONGEST_LIST", 1)
        monkeypatch.setattr(publication, "LONGEST_PUBLISHED", 1)
        for _ in range(2):
            sessions.start(user)
        sessions.end_all(user)
        payload = opened(client.get(URL).text)[1]
        # Of this second nobody knows which came first.
        assert payload["stale_before"] == payload["iat"] + 1

    def test_who_makes_it_may_hang(
        self, client: JSONClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(publication, "PATIENCE", 0.05)
        published = current().published_list
        assert published is not None
        with published._lock:
            assert client.get(URL).status_code == 503
        assert client.get(URL).status_code == 200

    def test_another_service_follows_it(
        self, client: JSONClient, user: User, clock: Clock, provider: Provider, settings: Any
    ) -> None:
        settings.JWT_AUTH = {"ISSUER": ISSUER, "AUDIENCE": "x", "SIGNING_KEY": PEM}
        living, ended = (sessions.start(user) for _ in range(2))
        assert ended.session_id is not None
        sessions.end(ended.session_id)
        for name in ("jwks.json", "revoked.jwt"):
            provider.answers[f"/{name}"] = body(client.get(f"/auth/{name}").content)
        settings.DEBUG = True
        settings.JWT_AUTH = {
            "TRUSTED_ISSUERS": provider.settings(
                AUDIENCE="x", REVOKED_URL=f"{provider.url}/revoked.jwt"
            )
        }
        assert said(living.access_token) == "good"
        assert said(ended.access_token) == "session_ended"


@pytest.fixture
def followed(trusted: Provider, settings: Any, clock: Clock) -> Provider:
    """Return a trusted issuer whose list is followed."""
    url = f"{trusted.url}/revoked.jwt"
    settings.JWT_AUTH = {"TRUSTED_ISSUERS": trusted.settings(REVOKED_URL=url)}
    trusted.revoke()
    return trusted


def is_under_way() -> bool:
    """Tell whether a list is being fetched."""
    revocations = current().authenticator.issuers[ISSUER].tokens._revocations
    attempt = None if revocations is None else revocations.followed._attempt
    return attempt is not None and not attempt.finished.done()


def settled() -> None:
    """Wait until no list is being fetched."""
    revocations = current().authenticator.issuers[ISSUER].tokens._revocations
    assert revocations is not None
    attempt = revocations.followed._attempt
    if attempt is not None:
        attempt.finished.result(10)


def seen(provider: Provider, clock: Clock, seconds: float = 5) -> None:
    """Have the list that is published now fetched."""
    clock.move(seconds=seconds)
    said(provider.token())
    settled()


SID = "1d6f1a70-38a1-4d6b-b8a2-3a4a3c1f6a58"
LONG = 4_000_000_000


@pytest.mark.parametrize("check", [verify, async_to_sync(averify)], ids=["sync", "async"])
class TestFollowed:
    """``REVOKED_URL``."""

    def test_a_session_that_was_ended_there_is_refused_here(
        self, followed: Provider, check: Any
    ) -> None:
        followed.revoke(SID)
        assert said(followed.token(sid=SID), check) == "session_ended"
        assert said(followed.token(sid=str(uuid4())), check) == "good"
        assert said(followed.token(), check) == "good"
        assert followed.count("/revoked.jwt") == 1

    def test_within_ten_seconds(self, followed: Provider, clock: Clock, check: Any) -> None:
        token = followed.token(sid=SID)
        assert said(token, check) == "good"
        followed.revoke(SID)
        clock.move(seconds=4.9)
        assert said(token, check) == "good"
        assert followed.count("/revoked.jwt") == 1
        clock.move(seconds=0.1)
        # In the background: this one is still judged by the old list.
        said(token, check)
        settled()
        assert followed.count("/revoked.jwt") == 2
        assert said(token, check) == "session_ended"

    def test_after_a_pause_nobody_is_judged_by_an_old_list(
        self, followed: Provider, clock: Clock, check: Any
    ) -> None:
        token = followed.token(sid=SID)
        assert said(token, check) == "good"
        followed.revoke(SID)
        clock.move(seconds=7)
        assert said(token, check) == "session_ended"

    def test_without_a_list_nobody_can_tell(
        self, followed: Provider, clock: Clock, check: Any
    ) -> None:
        followed.answers["/revoked.jwt"] = body(b"", 404)
        for _ in range(5):
            assert said(followed.token(), check) == "unavailable"
        assert followed.count("/revoked.jwt") == 1
        followed.revoke()
        clock.move(seconds=5)
        # While fetches fail nobody waits for the next one.
        assert said(followed.token(), check) == "unavailable"
        settled()
        assert said(followed.token(), check) == "good"

    def test_tokens_that_live_longer_than_the_window(
        self, followed: Provider, clock: Clock, check: Any
    ) -> None:
        # As after its issuer has lowered the lifetime: ends of such sessions are not named.
        now = int(timezone.now().timestamp())
        assert said(followed.token(iat=now - 480, exp=LONG), check) == "good"
        assert said(followed.token(iat=now - 481, exp=LONG), check) == "token_expired"

    def test_a_list_that_is_withheld_by_a_slow_provider(
        self, followed: Provider, clock: Clock, check: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = followed.token(exp=LONG)
        assert said(token, check) == "good"
        followed.answers["/revoked.jwt"] = body(b"", 500)
        clock.move(seconds=5)
        said(token, check)
        settled()
        held = Held(body(b"x"))
        followed.answers["/revoked.jwt"] = held
        clock.move(seconds=60)
        # A request that waited would come back after the fetch, whose own deadline stays.
        monkeypatch.setattr(fetching, "DEADLINE", 60)
        for _ in range(3):
            assert said(token, check) == "unavailable"
            assert is_under_way()
        assert held.arrived.wait(30)
        held.release()
        settled()

    def test_a_list_that_takes_long_is_not_waited_for(
        self, followed: Provider, clock: Clock, check: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = followed.token(exp=LONG)
        monkeypatch.setattr(fetching, "LATE", 0.0)
        assert said(token, check) == "good"
        followed.revoke(SID)
        clock.move(seconds=30)
        # By the old list, which is good until its `exp`; the new one comes meanwhile.
        assert said(followed.token(sid=SID), check) == "good"
        settled()
        assert said(followed.token(sid=SID), check) == "session_ended"

    def test_the_end_of_a_list_and_the_leeway(
        self, followed: Provider, clock: Clock, check: Any, settings: Any
    ) -> None:
        url = f"{followed.url}/revoked.jwt"
        settings.JWT_AUTH = {
            "TRUSTED_ISSUERS": followed.settings(REVOKED_URL=url),
            "LEEWAY": timedelta(seconds=30),
        }
        token = followed.token(exp=LONG)
        assert said(token, check) == "good"
        followed.answers["/revoked.jwt"] = body(b"", 500)
        seen(followed, clock, 89)
        assert said(token, check) == "good"
        clock.move(seconds=1)
        assert said(token, check) == "unavailable"

    def test_a_list_for_ever_is_good_for_a_day(
        self, followed: Provider, clock: Clock, check: Any
    ) -> None:
        now = int(timezone.now().timestamp())
        followed.revoke(exp=LONG, window=LONG)
        token = followed.token(exp=LONG, iat=now)
        assert said(token, check) == "good"
        followed.answers["/revoked.jwt"] = body(b"", 500)
        seen(followed, clock, 86_399)
        assert said(token, check) == "good"
        clock.move(seconds=1)
        assert said(token, check) == "unavailable"

    def test_a_list_that_is_withheld(
        self, followed: Provider, clock: Clock, check: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        token = followed.token(exp=LONG)
        assert said(token, check) == "good"
        followed.answers["/revoked.jwt"] = body(b"", 500)
        for _ in range(11):
            clock.move(seconds=5)
            assert said(token, check) == "good"
            settled()
        clock.move(seconds=5)
        assert said(token, check) == "unavailable"
        settled()
        # One record an attempt.
        own = [one for one in caplog.records if followed.url in one.getMessage()]
        assert len(own) == followed.count("/revoked.jwt") - 1

    def test_a_list_that_is_rolled_back(self, followed: Provider, clock: Clock, check: Any) -> None:
        before = followed.revoked()
        clock.move(seconds=2)
        followed.revoke(SID)
        token = followed.token(sid=SID, exp=LONG)
        assert said(token, check) == "session_ended"
        followed.answers["/revoked.jwt"] = body(before.encode())
        for _ in range(11):
            seen(followed, clock)
            assert said(token, check) == "session_ended"
        # It does not make the list younger either.
        seen(followed, clock)
        assert said(followed.token(), check) == "unavailable"

    def test_the_union_of_all_lists_for_the_window(
        self, followed: Provider, clock: Clock, check: Any
    ) -> None:
        followed.revoke(SID)
        token = followed.token(sid=SID, exp=LONG)
        assert said(token, check) == "session_ended"
        # A newer list of another process, which has not heard of it.
        for _ in range(8):
            clock.move(seconds=59)
            followed.revoke("another")
            assert said(token, check) == "session_ended"
        clock.move(seconds=10)
        followed.revoke("another")
        seen(followed, clock, 7)
        # It is forgotten: its tokens are older than what a list tells of.
        assert said(followed.token(sid=SID), check) == "good"
        assert said(token, check) == "token_expired"

    def test_tokens_older_than_what_is_named(
        self, followed: Provider, clock: Clock, check: Any
    ) -> None:
        now = int(timezone.now().timestamp())
        followed.revoke(SID, stale_before=now - 10)
        assert said(followed.token(iat=now - 11), check) == "token_expired"
        assert said(followed.token(iat=now - 10), check) == "good"
        assert said(followed.token(iat=...), check) == "token_expired"
        # No further than the list itself.
        clock.move(seconds=7)
        followed.revoke(stale_before=now + 1000)
        assert said(followed.token(), check) == "token_expired"
        clock.move(seconds=1)
        assert said(followed.token(), check) == "good"
        assert said(followed.token(iat=now), check) == "token_expired"

    def test_a_slow_list_is_not_waited_for(
        self, followed: Provider, clock: Clock, check: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fetching, "DEADLINE", 60)
        token = followed.token(exp=LONG)
        assert said(token, check) == "good"
        held = Held(body(b"x"))
        followed.answers["/revoked.jwt"] = held
        for seconds in (5, 40):
            clock.move(seconds=seconds)
            assert said(token, check) == "good"
            assert is_under_way()
        assert held.arrived.wait(30)
        held.release()
        settled()


def test_a_rotation_of_the_key_of_the_list(followed: Provider, clock: Clock) -> None:
    assert said(followed.token()) == "good"
    clock.move(seconds=31)
    old, new = followed.forge, replace(followed.forge, kid="two")
    followed.publish(*(public_jwk(one.setting, kid=one.kid) for one in (old, new)))
    followed.forge = new
    followed.revoke(SID)
    assert said(followed.token(sid=SID)) == "session_ended"


def retyped(provider: Provider, typ: Any) -> str:
    """Return a good list under another type."""
    payload = provider.revoked().split(".")[1]
    header = b64(to_json(provider.forge.header(typ=typ)))
    return provider.forge.sealed(f"{header}.{payload}")


MALFORMED: dict[str, Any] = {
    "another issuer": lambda one: one.revoked(iss="https://other.example/"),
    "no issuer": lambda one: one.revoked(iss=...),
    "no iat": lambda one: one.revoked(iat=...),
    "no exp": lambda one: one.revoked(exp=...),
    "no window": lambda one: one.revoked(window=...),
    "text as window": lambda one: one.revoked(window="480"),
    "a boolean as iat": lambda one: one.revoked(iat=True),
    "past its exp": lambda one: one.revoked(exp=int(timezone.now().timestamp())),
    "from tomorrow": lambda one: one.revoked(iat=int(timezone.now().timestamp()) + 61),
    "no sids": lambda one: one.revoked(sids=...),
    "a list as sids": lambda one: one.revoked(sids=["x"]),
    "cut sids": lambda one: one.revoked(sids=b64(bytes(9))),
    "no base64url": lambda one: one.revoked(sids="!" * 11),
    "padded": lambda one: one.revoked(sids=b64(bytes(8)) + "="),
    "too many": lambda one: one.revoked(sids=b64(bytes(8 * (revoked.LONGEST_PUBLISHED + 1)))),
    "a stale_before that is text": lambda one: one.revoked(stale_before="0"),
    "an access token": lambda one: one.token(),
    "of type JWT": lambda one: retyped(one, "JWT"),
    "of the type of an access token": lambda one: retyped(one, "at+jwt"),
    "of no type": lambda one: retyped(one, ...),
    "of before all time": lambda one: one.revoked(iat=-1),
    "beyond all dates": lambda one: one.revoked(exp=10**12),
    "a window of less than nothing": lambda one: one.revoked(window=-1),
    "unsigned": lambda one: one.revoked().rpartition(".")[0] + ".AAAA",
    "none": lambda one: one.forge.token(
        {}, one.forge.header(typ="revoked+jwt", alg="none"), lambda signed: b""
    ),
    "another kid": lambda one: one.forge.token({}, one.forge.header(typ="revoked+jwt", kid="two")),
    "HTML": lambda one: "<html>",
    "nothing": lambda one: "",
    "binary": lambda one: "\xff\xfe",
}


@pytest.mark.parametrize("make", MALFORMED.values(), ids=MALFORMED)
def test_a_list_that_is_none(followed: Provider, make: Any) -> None:
    followed.answers["/revoked.jwt"] = body(make(followed).encode("latin-1"))
    assert said(followed.token()) == "unavailable"


def test_a_list_is_no_access_token(followed: Provider) -> None:
    assert said(followed.revoked(sub="1", aud="https://orders.example")) == "token_not_valid"


def test_whose_signature_it_is(followed: Provider) -> None:
    with pytest.raises(InvalidSignature):
        opened(followed.revoked()[:-8] + "AAAAAAAA")


def test_a_provider_that_names_ever_new_sessions(
    followed: Provider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revoked, "MOST_KEPT", 1000)
    first = int(timezone.now().timestamp())
    token = followed.token(iat=first, exp=LONG, sid=SID)
    followed.revoke()
    assert said(token) == "good"
    for number in range(5):
        followed.revoke(*(f"{number}-{one}" for one in range(400)))
        seen(followed, clock)
    known = current().authenticator.issuers[ISSUER].tokens._revocations
    assert known is not None
    assert known.followed.value is not None
    assert len(known.followed.value.digests) <= 1000
    # What was forgotten is refused by its age.
    assert said(token) == "token_expired"


def test_the_longest_list_fits(followed: Provider) -> None:
    followed.revoke(*(str(number) for number in range(revoked.LONGEST_PUBLISHED)))
    tracemalloc.start()
    try:
        assert said(followed.token(sid="7")) == "session_ended"
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert said(followed.token(sid="x")) == "good"


def test_a_digest_is_of_the_claim_as_it_stands() -> None:
    assert revoked.digest("A") == hashlib.sha256(b"A").digest()[:8]
    assert revoked.digest("A") != revoked.digest("a")
