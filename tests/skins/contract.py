"""The contract of all skins: which credential gets which answer.

A row says what is sent and what must come back. A skin says where the views are and what
its framework does by itself. `cases()` says which rows meet which skins: all of them where
skins differ in code of ours, and `REPRESENTATIVES` where they differ in configuration. A new
skin is one more line of `SKINS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import OperationalError
from django.test import Client

from jwt_auth import sessions
from tests.attacks.forge import Forge, b64, mac
from tests.conftest import PASSWORD, Clock

ADA, GRACE = "ada", "grace"


@dataclass
class World:
    """A project with two users: ada, whose tokens are sent, and grace, who has a cookie."""

    forge: Forge
    clock: Clock
    patch: Any
    ada: Any = None
    pair: Any = None
    claims: dict[str, Any] = dataclasses.field(default_factory=dict)

    def begin(self, claims: dict[str, Any]) -> None:
        """Make ada, an editor with one scope, and sign her in."""
        self.ada = get_user_model().objects.create_user(ADA, password=PASSWORD)
        self.ada.groups.add(Group.objects.create(name="editors"))
        self.pair = sessions.start(self.ada, amr=("pwd",), claims=claims)

    @property
    def token(self) -> str:
        """Ada's access token."""
        return str(self.pair.access_token)

    def forged(self, header: Any = None, sign: Any = None, **changes: Any) -> str:
        """Return a token with ada's claims but for *changes*; `...` takes one out."""
        claims = {name: one for name, one in {**self.claims, **changes}.items() if one is not ...}
        return self.forge.token(claims, header, sign)

    def tampered(self) -> str:
        """Return ada's token with another first character of the signature."""
        signed, _, signature = self.token.rpartition(".")
        return f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"

    def grace_cookie(self) -> str:
        """Sign grace in by a session cookie."""
        client = Client()
        client.force_login(get_user_model().objects.create_user(GRACE, password=PASSWORD))
        return f"sessionid={client.cookies['sessionid'].value}"

    def database_fails(self) -> None:
        """Let whoever asks for rows hear of a server that is gone."""

        def fail(*args: Any) -> None:
            raise OperationalError("gone away")

        for name in ("_fetch_all", "get"):
            self.patch.setattr(f"django.db.models.query.QuerySet.{name}", fail)

    def deactivate(self) -> None:
        """Deactivate ada as nobody is told of."""
        get_user_model().objects.filter(pk=self.ada.pk).update(is_active=False)

    def deactivate_and_save(self) -> None:
        """Deactivate ada as the admin does."""
        self.ada.is_active = False
        self.ada.save()


BARE = 'Bearer realm="api"'
INVALID_TOKEN = f'{BARE}, error="invalid_token"'
INVALID_REQUEST = f'{BARE}, error="invalid_request"'
INSUFFICIENT_SCOPE = f'{BARE}, error="insufficient_scope"'
TOO_OLD = f'{BARE}, error="insufficient_user_authentication", max_age="600"'


@dataclass(frozen=True)
class Answer:
    """Status, code, challenge and, when let in, the user."""

    status: int
    code: str | None = None
    challenge: str | None = None
    user: str | None = None


@dataclass(frozen=True)
class Row:
    """What is sent, after what has happened, and what must come back.

    `credential` gives the ``Authorization`` headers, as bytes or text; `demand` is
    what the view wants beyond a token.
    """

    name: str
    credential: Callable[[World], Any]
    answer: Answer
    demand: str = "any"
    before: Callable[[World], Any] = lambda world: None
    claims: dict[str, Any] = dataclasses.field(default_factory=dict)
    method: str = "GET"
    cookie: bool = False

    @property
    def absent(self) -> bool:
        """Whether no credential of ours is sent."""
        return self.answer is NOT_AUTHENTICATED


LET_IN = Answer(200, user=ADA)
NOT_AUTHENTICATED = Answer(401, "not_authenticated", BARE)
MALFORMED = Answer(400, "invalid_request", INVALID_REQUEST)
NOT_VALID = Answer(401, "token_not_valid", INVALID_TOKEN)
EXPIRED = Answer(401, "token_expired", INVALID_TOKEN)
ENDED = Answer(401, "session_ended", INVALID_TOKEN)
FORBIDDEN = Answer(403, "insufficient_scope", INSUFFICIENT_SCOPE)
OLD_LOGIN = Answer(401, "insufficient_user_authentication", TOO_OLD)
UNAVAILABLE = Answer(503, "unavailable")


def bearer(form: str) -> Callable[[World], str]:
    """Return a credential with ada's token in *form*."""
    return lambda world: form.replace("{}", world.token)


def forged(**changes: Any) -> Callable[[World], str]:
    """Return a credential with ada's claims but for *changes*, signed with the project's key."""
    return lambda world: f"Bearer {world.forged(**changes)}"


def headed(**changes: Any) -> Callable[[World], str]:
    """Return a credential with ada's claims under another header."""
    return lambda world: f"Bearer {world.forged(world.forge.header(**changes))}"


genuine = bearer("Bearer {}")

ROWS = [
    # Let in.
    Row("a verified token", genuine, LET_IN),
    Row("the scheme in lower case", bearer("bearer {}"), LET_IN),
    Row("three spaces", bearer("Bearer   {}"), LET_IN),
    Row("a forged one that is as good", forged(), LET_IN),
    Row("a role", genuine, LET_IN, "role"),
    Row("both scopes", genuine, LET_IN, "scope", claims={"scope": "notes:read notes:write"}),
    Row("a recent login", genuine, LET_IN, "recent"),
    Row("a POST without a CSRF token", genuine, LET_IN, method="POST"),
    Row("beside another's session cookie", genuine, LET_IN, cookie=True),
    Row("a POST beside a session cookie", genuine, LET_IN, method="POST", cookie=True),
    # No credential of ours.
    Row("no header", lambda world: [], NOT_AUTHENTICATED),
    Row("an empty header", lambda world: "", NOT_AUTHENTICATED),
    Row("Basic", lambda world: "Basic YWRhOnB3", NOT_AUTHENTICATED),
    Row("Token, with a good token", bearer("Token {}"), NOT_AUTHENTICATED),
    Row("a scheme that begins with Bearer", bearer("Bearer-Token {}"), NOT_AUTHENTICATED),
    Row("only a session cookie", lambda world: [], NOT_AUTHENTICATED, cookie=True),
    Row("Basic beside a cookie", lambda world: "Basic YWRh", NOT_AUTHENTICATED, cookie=True),
    # Malformed.
    Row("the scheme alone", lambda world: "Bearer", MALFORMED),
    Row("two words", bearer("Bearer {} {}"), MALFORMED),
    Row("a tab", bearer("Bearer\t{}"), MALFORMED),
    Row("a comma", bearer("Bearer {},"), MALFORMED),
    Row("quoted", bearer('Bearer "{}"'), MALFORMED),
    Row("not ASCII", lambda world: f"Bearer {world.token}\xe9".encode("latin-1"), MALFORMED),
    Row("two headers", lambda world: [f"Bearer {world.token}"] * 2, MALFORMED),
    Row("Bearer and Basic", lambda world: [f"Bearer {world.token}", "Basic YWRh"], MALFORMED),
    Row("Basic and Bearer", lambda world: ["Basic YWRh", f"Bearer {world.token}"], MALFORMED),
    Row("malformed beside a cookie", lambda world: "Bearer", MALFORMED, cookie=True),
    # Not genuine.
    Row("junk", lambda world: "Bearer null", NOT_VALID),
    Row("too long", lambda world: "Bearer " + "x" * 9000, NOT_VALID),
    Row("padded", bearer("Bearer {}="), NOT_VALID),
    Row("tampered", lambda world: f"Bearer {world.tampered()}", NOT_VALID),
    Row("alg none", lambda world: f"Bearer {unsigned(world)}", NOT_VALID),
    Row("another key", lambda world: f"Bearer {world.forged(sign=mac(b'x' * 40))}", NOT_VALID),
    Row("an unknown kid", headed(kid="k2"), NOT_VALID),
    Row("a list as alg", headed(alg=["HS256"]), NOT_VALID),
    Row("another type", headed(typ="JWT"), NOT_VALID),
    Row("an issuer", forged(iss="https://elsewhere.example"), NOT_VALID),
    Row("an audience", forged(aud="elsewhere"), NOT_VALID),
    Row("without sub", forged(sub=...), NOT_VALID),
    Row("a sub that is no key", forged(sub="\u0661"), NOT_VALID),
    Row("another's sub", forged(sub="99"), NOT_VALID),
    Row("without sid", forged(sid=...), NOT_VALID),
    Row("exp as text", forged(exp="1900000000"), NOT_VALID),
    Row("beyond any lifetime", forged(exp=2_000_000_000), NOT_VALID),
    Row("not valid yet", forged(nbf=1_900_000_000), NOT_VALID),
    Row("a refresh token", lambda world: f"Bearer {world.pair.refresh_token}", NOT_VALID),
    Row("junk beside a cookie", lambda world: "Bearer x", NOT_VALID, cookie=True),
    Row("a junk POST", lambda world: "Bearer x", NOT_VALID, method="POST"),
    Row(
        "a junk POST and a cookie",
        lambda world: "Bearer x",
        NOT_VALID,
        "any",
        cookie=True,
        method="POST",
    ),
    # Genuine, and too late.
    Row("expired", genuine, EXPIRED, before=lambda world: world.clock.move(minutes=5)),
    Row(
        "expired beside a cookie",
        genuine,
        EXPIRED,
        cookie=True,
        before=lambda world: world.clock.move(minutes=5),
    ),
    Row("session ended", genuine, ENDED, before=lambda world: sessions.end_all(world.ada)),
    Row(
        "ended beside a cookie",
        genuine,
        ENDED,
        cookie=True,
        before=lambda world: sessions.end_all(world.ada),
    ),
    Row("user deleted", genuine, ENDED, before=lambda world: world.ada.delete()),
    Row("user deactivated", genuine, ENDED, before=World.deactivate_and_save),
    Row("user deactivated in bulk", genuine, ENDED, before=World.deactivate),
    Row("in bulk, and a POST", genuine, ENDED, before=World.deactivate, method="POST"),
    # Genuine, and not enough.
    Row("no role", genuine, FORBIDDEN, "role", claims={}, before=lambda world: demote(world)),
    Row("no scope", genuine, FORBIDDEN, "scope"),
    Row("one scope of two", genuine, FORBIDDEN, "scope", claims={"scope": "notes:read"}),
    Row("scope as a list", forged(scope=["notes:read", "notes:write"]), FORBIDDEN, "scope"),
    Row("an old login", lambda world: f"Bearer {aged(world, 601)}", OLD_LOGIN, "recent"),
    Row("just recent", lambda world: f"Bearer {aged(world, 600)}", LET_IN, "recent"),
    Row("no auth_time", forged(auth_time=...), OLD_LOGIN, "recent"),
    Row("auth_time as text", forged(auth_time="1900000000"), OLD_LOGIN, "recent"),
    # Our fault.
    Row("the database fails", genuine, UNAVAILABLE, before=World.database_fails),
]


def unsigned(world: World) -> str:
    """Return ada's claims under ``alg: none``."""
    header = b64(b'{"alg":"none","typ":"at+jwt"}')
    return f"{header}.{world.token.split('.')[1]}."


def aged(world: World, seconds: int) -> str:
    """Return a token of a login *seconds* ago."""
    return world.forged(auth_time=world.claims["auth_time"] - seconds)


def demote(world: World) -> None:
    """Take ada out of the editors and sign her in again."""
    world.ada.groups.clear()
    world.pair = sessions.start(world.ada)


SESSION = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
OURS = "jwt_auth.middleware.JWTAuthenticationMiddleware"
LOGIN = "django.contrib.auth.middleware.LoginRequiredMiddleware"


@dataclass(frozen=True)
class Skin:
    """Where the views are, between which middlewares, and what the framework does itself.

    `protocol` is the one that the skin is made for; Django adapts it to the other one.
    `absent` is the answer to a request without a credential of ours, `absent_cookie`
    the one beside grace's session cookie. `demands` is whether the skin knows roles,
    scopes and recent logins.
    """

    name: str
    path: str
    middleware: tuple[str, ...]
    protocol: Literal["WSGI", "ASGI"]
    absent: Answer = NOT_AUTHENTICATED
    absent_cookie: Answer = NOT_AUTHENTICATED
    demands: bool = True
    challenges_403: bool = True

    def answer(self, row: Row) -> Answer:
        """Return what this skin must answer to *row*."""
        if row.absent:
            return self.absent_cookie if row.cookie else self.absent
        if row.demand != "any" and not self.demands:
            return LET_IN
        if row.answer.status == 403 and not self.challenges_403:
            return dataclasses.replace(row.answer, challenge=None)
        return row.answer


# A missing credential in DRF is DRF's own answer.
_DRF: dict[str, Any] = {
    "path": "/drf/{}/",
    "protocol": "WSGI",
    "absent": Answer(401, None, BARE),
    "absent_cookie": Answer(401, None, BARE),
    "challenges_403": False,
}
_NOBODY = Answer(200, user="")
_HER = Answer(200, user=GRACE)
_PLAIN: dict[str, Any] = {"absent": _NOBODY, "absent_cookie": _HER, "demands": False}
_BELOW = (*SESSION, AUTHENTICATION, OURS)
_ABOVE = (*SESSION, OURS, AUTHENTICATION)
_CSRF_BELOW = (SESSION[0], AUTHENTICATION, OURS, SESSION[1])
# Whoever is not signed in is sent to the login page, which is Django's to do.
_REDIRECT = Answer(302)
_BARRED: dict[str, Any] = {**_PLAIN, "absent": _REDIRECT}

SKINS = [
    Skin("DRF", middleware=(), **_DRF),
    Skin("DRF behind the middleware", middleware=_BELOW, **_DRF),
    Skin("DRF below LoginRequired", middleware=(*_BELOW, LOGIN), **_DRF),
    *(
        skin
        for kind, protocol in (("sync", "WSGI"), ("async", "ASGI"))
        for skin in (
            Skin(
                f"{kind} middleware alone",
                f"/plain/{kind}/{{}}/",
                (OURS,),
                protocol,
                **{**_PLAIN, "absent_cookie": _NOBODY},
            ),
            Skin(f"{kind} middleware", f"/plain/{kind}/{{}}/", _BELOW, protocol, **_PLAIN),
            Skin(f"{kind} middleware above", f"/plain/{kind}/{{}}/", _ABOVE, protocol, **_PLAIN),
            Skin(f"{kind} CSRF below", f"/plain/{kind}/{{}}/", _CSRF_BELOW, protocol, **_PLAIN),
            Skin(
                f"{kind} LoginRequired",
                f"/plain/{kind}/{{}}/",
                (*_BELOW, LOGIN),
                protocol,
                **_BARRED,
            ),
            Skin(
                f"{kind} LoginRequired above",
                f"/plain/{kind}/{{}}/",
                (*SESSION, AUTHENTICATION, LOGIN, OURS),
                protocol,
                **_BARRED,
            ),
            Skin(f"{kind} decorator", f"/decorated/{kind}/{{}}/", (), protocol),
            Skin(
                f"{kind} decorator, cookies",
                f"/decorated/{kind}/{{}}/",
                (*SESSION, AUTHENTICATION, LOGIN),
                protocol,
            ),
            Skin(f"{kind} decorator and middleware", f"/decorated/{kind}/{{}}/", _BELOW, protocol),
        )
    ),
]

# Each of these runs code of ours that the others do not run.
DISTINCT = (
    "DRF",
    "DRF behind the middleware",
    "sync middleware",
    "async middleware",
    "sync decorator",
    "async decorator",
)
# One row for each way to an answer: let in, no credential, malformed, forged, expired, ended,
# refused when the user is read, a demand that is not met, and a database that fails.
REPRESENTATIVES = (
    "a POST beside a session cookie",
    "no header",
    "only a session cookie",
    "Bearer and Basic",
    "a junk POST and a cookie",
    "expired beside a cookie",
    "ended beside a cookie",
    "in bulk, and a POST",
    "no scope",
    "the database fails",
)


def cases() -> Iterator[tuple[Row, Skin, str]]:
    """Return which rows meet which skins, and over which protocol.

    The distinct skins answer every row over their own protocol. The others, and the crossed
    protocol of all skins, answer the representative rows.
    """
    for skin in SKINS:
        for protocol in ("WSGI", "ASGI"):
            everything = skin.name in DISTINCT and protocol == skin.protocol
            for row in ROWS:
                if everything or row.name in REPRESENTATIVES:
                    yield row, skin, protocol
