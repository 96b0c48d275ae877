"""Which credential schemathesis sends along: it loads this file beside the document.

One session does not last for long, since what is tested ends sessions: the next request
after some seconds has another.
"""

from __future__ import annotations

import json
import os
from http.cookies import SimpleCookie
from typing import Any
from urllib.request import Request, urlopen

import schemathesis

SITE = os.environ["JWT_AUTH_TEST_SITE"]
CREDENTIAL = os.environ["JWT_AUTH_TEST_CREDENTIAL"]
# Who may publish notes, so that nothing is refused for a role.
BODY = {"username": "eve", "password": "eve edits everything"}
SECONDS = 5


def sign_in(path: str) -> tuple[dict[str, Any], SimpleCookie]:
    """Return the body and the cookies of a login."""
    request = Request(  # noqa: S310
        f"{SITE}{path}", json.dumps(BODY).encode(), {"Content-Type": "application/json"}
    )
    with urlopen(request) as response:  # noqa: S310
        cookies = SimpleCookie()
        for field in response.headers.get_all("Set-Cookie", []):
            cookies.load(field)
        return json.load(response), cookies


class Bearer:
    """Sends an access token in the header."""

    def get(self, case: Any, context: Any) -> str:
        """Sign in."""
        return str(sign_in("/auth/login/")[0]["access_token"])

    def set(self, case: Any, data: str, context: Any) -> None:
        """Send the token."""
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


class Cookies:
    """Sends what a browser has after a login, and the CSRF token."""

    def get(self, case: Any, context: Any) -> tuple[str, dict[str, str]]:
        """Sign in."""
        body, cookies = sign_in("/auth/browser/login/")
        return body["csrf_token"], {name: one.value for name, one in cookies.items()}

    def set(self, case: Any, data: tuple[str, dict[str, str]], context: Any) -> None:
        """Send cookies and token."""
        token, cookies = data
        case.headers = {**(case.headers or {}), "X-CSRFToken": token}
        case.cookies = {**(case.cookies or {}), **cookies}


if CREDENTIAL == "bearer":
    schemathesis.auth(refresh_interval=SECONDS)(Bearer)
elif CREDENTIAL == "cookies":
    schemathesis.auth(refresh_interval=SECONDS)(Cookies)
