"""Print what sentry-sdk reports of a project, as JSON: run by ``test_sentry.py``.

A process of its own, since sentry-sdk patches Django and logging for good.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import django
import sentry_sdk
from django.core.management import call_command
from django.db import OperationalError
from django.http import HttpRequest
from django.test import Client
from django.test.utils import override_settings
from django.urls import include, path
from sentry_sdk.transport import Transport

from jwt_auth.contrib.sentry import scrubber

MODULE = "tests.contrib.reported"
NAME, PASSWORD = "ada", "correct horse"


class Kept(Transport):
    """Keeps the events that would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Any) -> None:
        self.events += [item.payload.json for item in envelope.items]


def failing(user: Any, request: Any) -> Any:
    """Fail as ``CLAIMS``."""
    raise KeyError("tenant")


def own(request: HttpRequest) -> None:
    """Hold a token in a variable and in the text of an error, as a view of a project may."""
    anything = json.loads(request.body)["refresh_token"]
    nested = {"a": [{"b": (anything, anything.encode())}], "refresh_token": "not of our form"}
    raise ValueError(f"{anything} is of no use, {len(nested)}")


def refresh_without_claims(client: Client, pair: dict[str, str]) -> None:
    """Refresh while ``CLAIMS`` fails: the token is not spent."""
    with override_settings(JWT_AUTH={"CLAIMS": f"{MODULE}.failing"}):
        assert post(client, "/auth/refresh/", pair).status_code == 503


def log_out_without_database(client: Client, pair: dict[str, str]) -> None:
    """Log out while the database fails: the token goes on being good."""
    with patch("django.db.models.query.QuerySet._fetch_all", side_effect=OperationalError):
        assert post(client, "/auth/logout/", pair).status_code == 503


def refresh_with_an_unexpected_error(client: Client, pair: dict[str, str]) -> None:
    """Refresh while something raises what is not expected: the error leaves the view."""
    with patch("jwt_auth.sessions.is_active", side_effect=ZeroDivisionError):
        assert post(client, "/auth/refresh/", pair).status_code == 500


def refresh_by_cookie_with_an_unexpected_error(client: Client, pair: dict[str, str]) -> None:
    """Do the same by the cookie."""
    client.cookies["__Secure-refresh_token"] = pair["refresh_token"]
    with (
        override_settings(JWT_AUTH={"COOKIES": {}}),
        patch("jwt_auth.sessions.is_active", side_effect=ZeroDivisionError),
    ):
        assert client.post("/browser/refresh/").status_code == 500


def fail_in_a_view(client: Client, pair: dict[str, str]) -> None:
    """Send the tokens to a view of the project, which raises."""
    client.cookies["__Secure-refresh_token"] = pair["refresh_token"]
    client.cookies["another_name"] = pair["access_token"]
    bearer = {"Authorization": f"Bearer {pair['access_token']}"}
    assert post(client, "/own/", pair, headers=bearer).status_code == 500


def post(client: Client, where: str, pair: dict[str, str], **more: Any) -> Any:
    """Post the refresh token."""
    body = {"refresh_token": pair["refresh_token"], "device": "phone"}
    return client.post(where, body, content_type="application/json", **more)


CASES: list[Callable[[Client, dict[str, str]], None]] = [
    refresh_without_claims,
    log_out_without_database,
    refresh_with_an_unexpected_error,
    refresh_by_cookie_with_an_unexpected_error,
    fail_in_a_view,
]
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "scrubber": {"event_scrubber": scrubber()},
    "scrubber, PII": {
        "event_scrubber": scrubber(send_default_pii=True),
        "send_default_pii": True,
        "attach_stacktrace": True,
    },
}


def main() -> None:
    """Play each case with each set of options."""
    django.setup()
    from django.contrib.auth import get_user_model

    from tests import urls

    urls.urlpatterns.append(path("own/", own))
    urls.urlpatterns.append(path("browser/", include("jwt_auth.urls.browser")))
    call_command("migrate", verbosity=0)
    get_user_model().objects.create_user(NAME, password=PASSWORD)
    found: dict[str, Any] = {}
    for name, options in OPTIONS.items():
        for case in CASES:
            transport = Kept()
            sentry_sdk.init("https://key@sentry.invalid/1", transport=transport, **options)
            client = Client(raise_request_exception=False)
            body = {"username": NAME, "password": PASSWORD}
            pair = client.post("/auth/login/", body, content_type="application/json").json()
            case(client, pair)
            found[f"{name}: {case.__name__}"] = {"pair": pair, "events": transport.events}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
