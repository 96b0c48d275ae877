"""``manage.py jwt_auth_inspect``: what a token is, and why it would be refused."""

from __future__ import annotations

import sys
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.views.decorators.debug import sensitive_variables

from jwt_auth.errors import Rejected, TokenNotValid, Unavailable
from jwt_auth.models import LoginSession, database_answers
from jwt_auth.runtime import Runtime, current
from jwt_auth.tokens.claims import read_object
from jwt_auth.tokens.jws import MAX_LENGTH
from jwt_auth.tokens.refresh import PREFIX

LONGEST_VALUE = 100
_TIMES = ("iat", "nbf", "exp", "auth_time")


class Command(BaseCommand):
    """Shows what a token says and what would be answered. It lets nobody in."""

    help = "Say what an access or refresh token is, and why it would be refused."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the token."""
        parser.add_argument("token", help="the token; - reads it, so that no shell remembers it")

    @sensitive_variables()
    def handle(self, *args: Any, **options: Any) -> None:
        """Show it."""
        raw = options["token"]
        if raw == "-":
            # Bytes, for what is no text is no token either; and not without end.
            line = sys.stdin.buffer.readline(MAX_LENGTH + 2)
            raw = line.decode("utf-8", "replace").strip()
        if len(raw) > MAX_LENGTH:
            raise CommandError(f"A token has at most {MAX_LENGTH} characters.")
        try:
            # Said before half of an answer is.
            current()
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        lines = _refresh_token(raw) if raw.startswith(PREFIX) else _access_token(raw)
        for line in lines:
            self.stdout.write(line)


def _access_token(raw: str) -> Iterator[str]:
    signed = raw
    if raw.count(".") == 4:
        yield "Encrypted. The header, as the token says and nobody has checked:"
        yield from _members(raw.partition(".")[0])
        encryption = current().access_tokens.encryption
        try:
            if encryption is None:
                raise TokenNotValid("no key decrypts")
            signed = encryption.open(raw)
        except Rejected as rejected:
            yield f"It would be refused: {rejected.status} {rejected.code} ({rejected})."
            return
    parts = signed.split(".")
    if len(parts) != 3:
        yield f"Not a compact JWS: it has {len(parts)} parts, not 3."
        return
    for name, part in (("header", parts[0]), ("claims", parts[1])):
        yield f"The {name}, as the token says and nobody has checked:"
        yield from _members(part)
    try:
        claims = current().authenticator.verify(raw)
    except Rejected as rejected:
        yield f"It would be refused: {rejected.status} {rejected.code} ({rejected})."
    except Unavailable:
        yield "It cannot be judged: the database, or what its issuer publishes, cannot be had."
    else:
        yield f"It would be accepted until {_time(claims.expires)}, unless its user is refused."


def _members(part: str) -> Iterator[str]:
    try:
        members: Mapping[str, Any] = read_object(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (TokenNotValid, ValueError):
        yield "  not strict JSON in base64url"
        return
    for name, value in members.items():
        shown = _short(value)
        if name in _TIMES and type(value) in (int, float):
            shown += f"  {_time(value)}"
        yield f"  {_short(name)[1:-1]}: {shown}"


def _refresh_token(raw: str) -> Iterator[str]:
    runtime = current()
    try:
        token = runtime.refresh_tokens.read(raw)
    except Rejected as rejected:
        yield f"A refresh token that would be refused: {rejected.code} ({rejected})."
        return
    yield f"A genuine refresh token of generation {token.generation}."
    yield f"  session: {token.session_id}"
    try:
        with database_answers():
            row = LoginSession.objects.on_primary().filter(pk=token.session_id).first()
    except Unavailable:
        yield "It cannot be judged further: the database does not answer."
        return
    yield from _session(runtime, row)


def _session(runtime: Runtime, row: LoginSession | None) -> Iterator[str]:
    idle_limit = runtime.settings.refresh_lifetime
    if row is None:
        yield "The session is not in the database: it is over, or never was."
        return
    yield f"  the row is at generation {row.generation}, last used {row.rotated_at:%F %T} UTC"
    if row.revoked_at is not None:
        yield f"The session was ended {row.revoked_at:%F %T} UTC: {row.revoked_reason}."
    elif idle_limit is None or runtime.clock() >= row.ends_at(idle_limit):
        yield "The session has run out."
    else:
        yield f"The session lives until {row.ends_at(idle_limit):%F %T} UTC, unless it is used."


def _short(value: Any) -> str:
    # One line, and nothing that a terminal would obey.
    text = ascii(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _time(seconds: float) -> str:
    try:
        return f"({datetime.fromtimestamp(seconds, UTC):%F %T} UTC)"
    except (ValueError, OverflowError, OSError):
        return "(no time)"
