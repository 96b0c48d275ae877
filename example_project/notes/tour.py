"""The whole life of a login over real HTTP, step by step, with what each step shows."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from http.client import HTTPConnection
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.urls import reverse

from jwt_auth.runtime import current
from jwt_auth.tokens.access import SessionFacts
from notes.models import Note
from notes.seed import PASSWORDS

TITLE = "Written on the tour"
BARE = 'Bearer realm="api"'
WIDTH = 96
# Longer words are tokens, of which a beginning and an end are shown.
LONGEST_WORD = 40


@dataclass
class Answer:
    """What came back."""

    status: int
    reason: str
    headers: dict[str, str]
    text: str

    @property
    def data(self) -> Any:
        """The body, if it is JSON, else nothing."""
        is_json = self.headers.get("content-type", "").endswith("json")
        return json.loads(self.text) if is_json and self.text else {}


@dataclass
class Tour:
    """Calls a running example, prints requests and answers, and counts surprises."""

    host: str
    port: int
    say: Callable[[str], None]
    steps: int = 0
    surprises: list[str] = field(default_factory=list)

    def call(
        self,
        shows: str,
        method: str,
        path: str,
        body: Any = None,
        token: str | None = None,
        *,
        status: int = 200,
        code: str | None = None,
        challenge: str | None = None,
        header: str | None = None,
        port: int | None = None,
        also: Callable[[Answer], bool] = lambda answer: True,
    ) -> Answer:
        """Send a request and hold the answer against what is documented.

        *header* is a whole ``Authorization`` header, *token* the token of a bearer one. *port* is
        that of another service.
        """
        self.steps += 1
        if token is not None:
            header = f"Bearer {token}"
        answer = self.ask(method, path, body, header, port)
        expected = {"status": status, "code": code, "challenge": challenge, "the rest": True}
        found = {
            "status": answer.status,
            "code": answer.data.get("code") if isinstance(answer.data, dict) else None,
            "challenge": answer.headers.get("www-authenticate"),
            "the rest": answer.status != status or also(answer),
        }
        wrong = [name for name, value in expected.items() if found[name] != value]
        shown = path if port is None else f"http://{self.host}:{port}{path}"
        self._print(shows, method, shown, body, header, answer, wrong)
        if wrong:
            self.surprises.append(f"{self.steps}. {shows}: {', '.join(wrong)}")
        return answer

    def wait(self, seconds: float, why: str) -> None:
        """Let time pass."""
        self.say(f"\n   … {seconds:g} s: {why}")
        time.sleep(seconds)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        header: str | None = None,
        port: int | None = None,
    ) -> Answer:
        """Send a request and return what came back."""
        connection = HTTPConnection(self.host, port or self.port, timeout=10)
        headers = {} if header is None else {"Authorization": header}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        received = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, response.reason, received, text)

    def _print(
        self,
        shows: str,
        method: str,
        path: str,
        body: Any,
        header: str | None,
        answer: Answer,
        wrong: list[str],
    ) -> None:
        lines = [f"\n{self.steps:2}. {shows}", f"    > {method} {path}"]
        if header is not None:
            lines.append(f"    > Authorization: {_short(header)}")
        if body is not None:
            lines.append(f"    > {_as_text(body)}")
        lines.append(f"    < {answer.status} {answer.reason}")
        if "www-authenticate" in answer.headers:
            lines.append(f"    < WWW-Authenticate: {answer.headers['www-authenticate']}")
        text = _as_text(answer.data) if answer.data else answer.text.partition("\n")[0]
        lines += [f"    < {line}" for line in textwrap.wrap(text, WIDTH)[:6]]
        lines.append(f"    NOT AS DOCUMENTED: {', '.join(wrong)}" if wrong else "    as documented")
        self.say("\n".join(lines))


def _short(text: str) -> str:
    return " ".join(
        word if len(word) <= LONGEST_WORD else f"{word[:16]}…{word[-8:]}"
        for word in text.split(" ")
    )


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        value = {
            name: _short(one) if name.endswith("_token") else one for name, one in value.items()
        }
    return json.dumps(value, ensure_ascii=False)


def play(tour: Tour, further: Callable[[Tour], None]) -> list[str]:
    """Play the tour, and then what goes *further*; return what was not as documented."""
    say = tour.say
    say("A tour: every request and answer of a login's life. Long tokens are cut.")
    _page(tour)
    pair = _sign_in(tour)
    note = _call(tour, pair["access_token"])
    _be_refused(tour, pair)
    pair = _refresh(tour, pair)
    _devices(tour, pair)
    _log_out(tour, pair, note)
    further(tour)
    if tour.surprises:
        say(f"\n{len(tour.surprises)} of {tour.steps} answers were not as documented:")
        for surprise in tour.surprises:
            say(f"  {surprise}")
    else:
        say(f"\nAll {tour.steps} answers were as documented.")
    return tour.surprises


def login(tour: Tour, shows: str, name: str, password: str | None = None, **more: Any) -> Any:
    """Sign in; return the pair."""
    body = {"username": name, "password": password or PASSWORDS[name]}
    if "device" in more:
        body["device"] = more.pop("device")
    return tour.call(shows, "POST", reverse("jwt_auth:login"), body, **more).data


def _page(tour: Tour) -> None:
    tour.call(
        "The page for people: no inline script, and a policy that would stop one.",
        "GET",
        reverse("index"),
        also=lambda answer: (
            "default-src 'none'" in answer.headers["content-security-policy"]
            and answer.text.count("<script") == answer.text.count('<script type="module" src=')
        ),
    )
    for name in ("page.js", "session.js", "page.css"):
        tour.call("The page's own file.", "GET", f"{settings.STATIC_URL}notes/{name}")


def _sign_in(tour: Tour) -> Any:
    login(
        tour,
        "A wrong password.",
        "alice",
        "wrong",
        status=401,
        code="invalid_credentials",
        challenge=BARE,
    )
    login(
        tour,
        "A user whom nobody knows: the same answer.",
        "mallory",
        "wrong",
        status=401,
        code="invalid_credentials",
        challenge=BARE,
    )
    tour.call(
        "Fields that are missing.",
        "POST",
        reverse("jwt_auth:login"),
        {},
        status=400,
        also=lambda answer: set(answer.data) == {"username", "password"},
    )
    return login(
        tour,
        "Alice signs in on her laptop and gets a pair of tokens.",
        "alice",
        device="laptop",
        also=lambda answer: (
            answer.data["token_type"] == "Bearer" and answer.headers["cache-control"] == "no-store"
        ),
    )


def _call(tour: Tour, token: str) -> Any:
    note = tour.call(
        "She writes a note, by a DRF view.",
        "POST",
        reverse("note-list"),
        {"title": TITLE},
        token=token,
        status=201,
    ).data
    tour.call(
        "Another DRF view: her notes and the published ones.",
        "GET",
        reverse("note-list"),
        token=token,
        also=lambda answer: TITLE in answer.text,
    )
    tour.call(
        "A plain Django view by the middleware: it knows her too.",
        "GET",
        reverse("titles"),
        token=token,
        also=lambda answer: TITLE in answer.text,
    )
    tour.call(
        "The same view without a token: public things stay public.",
        "GET",
        reverse("titles"),
        also=lambda answer: TITLE not in answer.text,
    )
    tour.call(
        "A foreign scheme is somebody else's business and goes through.",
        "GET",
        reverse("titles"),
        header="Basic YWxpY2U6cHc=",
        also=lambda answer: TITLE not in answer.text,
    )
    tour.call(
        "An async view.",
        "GET",
        reverse("summary"),
        token=token,
        also=lambda answer: answer.data["user"] == "alice",
    )
    tour.call(
        "A view that wants a recent login: hers is some seconds old.",
        "GET",
        reverse("export"),
        token=token,
    )
    publish = reverse("note-publish", args=[_a_note_of_alice()])
    tour.call(
        "A view for editors: the token lacks the role.",
        "POST",
        publish,
        token=token,
        status=403,
        code="insufficient_scope",
    )
    eve = login(tour, 'Eve signs in, who is in the group "editors".', "eve")["access_token"]
    tour.call(
        "The same call by Eve.",
        "POST",
        publish,
        token=eve,
        also=lambda answer: answer.data["published"] is True,
    )
    return note


def _be_refused(tour: Tour, pair: Any) -> None:
    token = pair["access_token"]
    invalid = f'{BARE}, error="invalid_token"'
    tour.call(
        "No token, in a DRF view: DRF's own words, with the challenge.",
        "GET",
        reverse("note-list"),
        status=401,
        challenge=BARE,
    )
    tour.call(
        "No token, in a decorated view.",
        "GET",
        reverse("summary"),
        status=401,
        code="not_authenticated",
        challenge=BARE,
    )
    tour.call(
        "A header that is malformed.",
        "GET",
        reverse("titles"),
        header=f"Bearer {token} twice",
        status=400,
        code="invalid_request",
        challenge=f'{BARE}, error="invalid_request"',
    )
    head, _, signature = token.rpartition(".")
    tampered = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    for name, view in (("DRF", "note-list"), ("plain", "titles"), ("async", "summary")):
        tour.call(
            f"A tampered token, in the {name} view.",
            "GET",
            reverse(view),
            token=tampered,
            status=401,
            code="token_not_valid",
            challenge=invalid,
        )
    tour.call(
        "A refresh token is no access token.",
        "GET",
        reverse("summary"),
        token=pair["refresh_token"],
        status=401,
        code="token_not_valid",
        challenge=invalid,
    )
    tour.call(
        "A token that was issued an hour ago.",
        "GET",
        reverse("note-list"),
        token=_token_of_alice(token, issued_ago=timedelta(hours=1)),
        status=401,
        code="token_expired",
        challenge=invalid,
    )
    tour.call(
        "A fresh token of a login an hour ago, where a recent one is wanted.",
        "GET",
        reverse("export"),
        token=_token_of_alice(token, login_ago=timedelta(hours=1)),
        status=401,
        code="insufficient_user_authentication",
        challenge=f'{BARE}, error="insufficient_user_authentication", max_age="600"',
    )


def _refresh(tour: Tour, first: Any) -> Any:
    path = reverse("jwt_auth:refresh")
    second = tour.call(
        "The refresh token is traded for a new pair.",
        "POST",
        path,
        {"refresh_token": first["refresh_token"]},
        also=lambda answer: answer.data["refresh_token"] != first["refresh_token"],
    ).data
    tour.call(
        "The answer was lost, and the client repeats: the same successor.",
        "POST",
        path,
        {"refresh_token": first["refresh_token"]},
        also=lambda answer: answer.data["refresh_token"] == second["refresh_token"],
    )
    tour.call(
        "Something that is no refresh token.",
        "POST",
        path,
        {"refresh_token": "jwtr_forged"},
        status=401,
        code="refresh_not_valid",
        challenge=BARE,
    )
    tour.wait(
        settings.JWT_AUTH["REFRESH_GRACE"].total_seconds() + 0.2,
        "the grace of the replaced token passes (two minutes by default)",
    )
    tour.call(
        "The replaced token again: a thief, as far as anyone can tell. The session ends.",
        "POST",
        path,
        {"refresh_token": first["refresh_token"]},
        status=401,
        code="refresh_reused",
        challenge=BARE,
    )
    tour.call(
        "Its newest refresh token is over too,",
        "POST",
        path,
        {"refresh_token": second["refresh_token"]},
        status=401,
        code="session_ended",
        challenge=BARE,
    )
    tour.call(
        "and its access token, at once.",
        "GET",
        reverse("note-list"),
        token=second["access_token"],
        status=401,
        code="session_ended",
        challenge=f'{BARE}, error="invalid_token"',
    )
    return login(tour, "Alice signs in again.", "alice", device="laptop")


def _devices(tour: Tour, pair: Any) -> None:
    phone = login(tour, "And on her phone.", "alice", device="phone")
    listed = tour.call(
        "Her devices, newest first.",
        "GET",
        reverse("jwt_auth:session-list"),
        token=pair["access_token"],
        also=lambda answer: (
            [one["device"] for one in answer.data[:2]] == ["phone", "laptop"]
            and [one["current"] for one in answer.data[:2]] == [False, True]
        ),
    ).data
    session_id = listed[0]["id"] if listed else "none"
    tour.call(
        "The phone is lost: its session is ended from the laptop.",
        "DELETE",
        reverse("jwt_auth:session-detail", args=[session_id]),
        token=pair["access_token"],
        status=204,
    )
    tour.call(
        "The phone's access token, in a plain view.",
        "GET",
        reverse("titles"),
        token=phone["access_token"],
        status=401,
        code="session_ended",
        challenge=f'{BARE}, error="invalid_token"',
    )
    tour.call(
        "The laptop stays signed in.",
        "GET",
        reverse("summary"),
        token=pair["access_token"],
    )


def _log_out(tour: Tour, pair: Any, note: Any) -> None:
    tour.call(
        "Alice takes her note away.",
        "DELETE",
        reverse("note-detail", args=[note.get("id", 0)]),
        token=pair["access_token"],
        status=204,
    )
    body = {"refresh_token": pair["refresh_token"]}
    for shows in ("Alice signs out.", "Once more: an unknown token is as good as ended."):
        tour.call(shows, "POST", reverse("jwt_auth:logout"), body, status=204)
    tour.call(
        "After the logout: the access token,",
        "GET",
        reverse("summary"),
        token=pair["access_token"],
        status=401,
        code="session_ended",
        challenge=f'{BARE}, error="invalid_token"',
    )
    tour.call(
        "and the refresh token.",
        "POST",
        reverse("jwt_auth:refresh"),
        body,
        status=401,
        code="session_ended",
        challenge=BARE,
    )


def _a_note_of_alice() -> int:
    return int(Note.objects.filter(owner__username="alice").earliest("pk").pk)


def _token_of_alice(
    token: str, issued_ago: timedelta = timedelta(0), login_ago: timedelta = timedelta(0)
) -> str:
    """Make a token of the same session as the project made it some time ago.

    Nobody wants to wait an hour for an expired token. This runs in the project and has
    its key; a client could not.
    """
    runtime = current()
    session_id = runtime.authenticator.verify(token).session_id
    assert session_id is not None
    now = runtime.clock() - issued_ago
    facts = SessionFacts(session_id, now - login_ago, ["pwd"], now + timedelta(days=14))
    subject = runtime.accounts.subject(User.objects.get(username="alice"))
    issued = runtime.access_tokens.issue(subject, now=now, session=facts, roles=[], extra={})
    return issued.raw
