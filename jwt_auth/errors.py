"""What can be said to a caller whose credential was not taken.

Three faults never share a class: the caller's (`Rejected`), ours (`Unavailable`)
and the developer's (`django.core.exceptions.ImproperlyConfigured`).
"""

from __future__ import annotations

from typing import ClassVar

REALM = "api"


class Rejected(Exception):
    """A credential was refused. The class decides code, status and challenge.

    The argument is a reason for whoever debugs: a fixed text of ours, never a
    token, a claim or a library's wording. It is not part of the answer.
    """

    code: ClassVar[str]
    status: ClassVar[int] = 401
    detail: ClassVar[str]
    # RFC 6750 section 3.1: what the challenge adds to the bare realm, if anything.
    error: ClassVar[str] = ""

    @property
    def body(self) -> dict[str, str]:
        """The JSON object to answer with."""
        return {"detail": self.detail, "code": self.code}

    @property
    def challenge(self) -> str:
        """The value for ``WWW-Authenticate`` (RFC 6750 section 3)."""
        return f'{BARE_CHALLENGE}, error="{self.error}"' if self.error else BARE_CHALLENGE

    @property
    def headers(self) -> dict[str, str]:
        """The headers to answer with (RFC 6750 section 3; no cache keeps a refusal)."""
        challenge = {"WWW-Authenticate": self.challenge} if self.challenge else {}
        return {**challenge, "Cache-Control": "no-store"}


BARE_CHALLENGE = f'Bearer realm="{REALM}"'


class NotAuthenticated(Rejected):
    """No credential where one is needed."""

    # RFC 6750 section 3.1: no error code for a request without any credential.
    code = "not_authenticated"
    detail = "Authentication credentials were not provided."


class InvalidRequest(Rejected):
    """The ``Authorization`` header is not `Bearer`, spaces and one token."""

    code = error = "invalid_request"
    status = 400
    detail = "The Authorization header is malformed."


class TokenNotValid(Rejected):
    """The access token is not genuine, whatever the reason."""

    code = "token_not_valid"
    error = "invalid_token"
    detail = "The access token is not valid."


class TokenExpired(Rejected):
    """The access token is genuine but past its ``exp``."""

    code = "token_expired"
    error = "invalid_token"
    detail = "The access token has expired."


class SessionEnded(Rejected):
    """The credential is genuine, but its session is over or its user refused.

    Said of a refresh token the challenge has no ``error``: RFC 6750 speaks of the
    token in the header alone.
    """

    code = "session_ended"
    error = "invalid_token"
    detail = "The session has ended."


class InsufficientScope(Rejected):
    """The access token is genuine, but lacks a role or a scope."""

    code = error = "insufficient_scope"
    status = 403
    detail = "The access token does not grant this."


class InsufficientUserAuthentication(Rejected):
    """The access token is genuine, but the login behind it is too long ago (RFC 9470).

    *max_age* is how many seconds ago it may have been.
    """

    code = error = "insufficient_user_authentication"
    detail = "A more recent login is required."

    def __init__(self, max_age: int) -> None:
        super().__init__(f"the login is older than {max_age} s, or its time is not known")
        self.max_age = max_age

    @property
    def challenge(self) -> str:
        """The challenge with ``max_age`` (RFC 9470 section 3)."""
        return f'{super().challenge}, max_age="{self.max_age}"'


class InvalidCredentials(Rejected):
    """Wrong password, unknown user or inactive user: one answer for all."""

    code = "invalid_credentials"
    detail = "No active account matches these credentials."


class RefreshNotValid(Rejected):
    """The refresh token is not genuine, whatever the reason."""

    code = "refresh_not_valid"
    detail = "The refresh token is not valid."


class RefreshReused(Rejected):
    """A replaced refresh token came back; its session has just been ended for it."""

    code = "refresh_reused"
    detail = "The refresh token was used before; the session has been ended."


class CSRFFailed(Rejected):
    """The credential came in a cookie, and nothing shows that the site itself has sent it."""

    code = "csrf_failed"
    status = 403
    detail = "The request was not sent by this site, or lacks the CSRF token."
    # Another credential would not help.
    challenge = ""


class Throttled(Rejected):
    """Too many tries. Nothing was consumed; the caller repeats after `wait` seconds."""

    code = "throttled"
    status = 429
    detail = "Too many tries; wait before the next one."
    challenge = ""

    def __init__(self, wait: int) -> None:
        super().__init__(f"the next try is in {wait} s")
        self.wait = wait

    @property
    def headers(self) -> dict[str, str]:
        """The headers to answer with (RFC 6585 section 4)."""
        return {**super().headers, "Retry-After": str(self.wait)}


class Unavailable(Exception):
    """We cannot tell: the database, a key or a callable of the project failed.

    No token was consumed. The caller keeps the tokens and repeats after `retry_after`
    seconds: the least that the header can say, and shorter than the default
    ``REFRESH_GRACE``.
    """

    code: ClassVar[str] = "unavailable"
    status: ClassVar[int] = 503
    detail: ClassVar[str] = "The service is temporarily unavailable."
    retry_after: ClassVar[int] = 1

    @property
    def body(self) -> dict[str, str]:
        """The JSON object to answer with."""
        return {"detail": self.detail, "code": self.code}

    @property
    def headers(self) -> dict[str, str]:
        """The headers to answer with (RFC 9110 section 10.2.3)."""
        return {"Retry-After": str(self.retry_after), "Cache-Control": "no-store"}


class CookieTooLong(Unavailable):
    """A token does not fit into a cookie, which browsers would drop without a word.

    Fewer or shorter claims are the way out, or the access token in the body.
    """

    def __init__(self, name: str, length: int) -> None:
        super().__init__(f"the cookie {name} would have {length} bytes; browsers keep 4096")
