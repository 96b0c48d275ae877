"""Two services: the second believes the first one's tokens, and hears of its logouts."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from typing import Any, Protocol

from django.urls import reverse

from notes.tour import BARE, Tour, login

# What orders_service/urls.py has: other settings, and so no reverse() from here.
ORDERS, SHIPPING, WHOAMI = "/orders/", "/shipping/", "/whoami/"
# From a logout here to the refusal there, in seconds.
LONGEST = 10.0


class Deployment(Protocol):
    """The two services while they run."""

    orders_port: int

    def stop_notes(self) -> None:
        """Stop the first service."""

    def start_notes(self, *, rotated: bool) -> None:
        """Start it again; *rotated* says that the second key signs."""


def play(tour: Tour, deployment: Deployment) -> None:
    """Play what a service without users sees of logins, rotations, logouts and outages."""
    tour.say(f"\nA second service, on port {deployment.orders_port}, without users and database.")
    port = deployment.orders_port
    alice = login(tour, "Alice signs in at the first service.", "alice", device="laptop")
    eve = login(tour, "So does Eve, who is an editor.", "eve")["access_token"]
    _verify(tour, port, alice["access_token"], eve)
    alice = _rotate(tour, deployment, alice)
    _log_out(tour, port, alice)
    _go_on_alone(tour, deployment, eve)


def _verify(tour: Tour, port: int, alice: str, eve: str) -> None:
    tour.call(
        "The second service takes her token: it has fetched the published keys.",
        "GET",
        ORDERS,
        token=alice,
        port=port,
        also=lambda answer: len(answer.data["orders"]) == 2,
    )
    tour.call("An async view of it.", "GET", WHOAMI, token=alice, port=port)
    tour.call(
        "No token.", "GET", WHOAMI, port=port, status=401, code="not_authenticated", challenge=BARE
    )
    head, _, signature = alice.rpartition(".")
    tour.call(
        "A tampered token.",
        "GET",
        ORDERS,
        token=f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}",
        port=port,
        status=401,
        code="token_not_valid",
        challenge=f'{BARE}, error="invalid_token"',
    )
    tour.call(
        "Another issuer's roles count as far as they are mapped: not hers,",
        "POST",
        SHIPPING,
        token=alice,
        port=port,
        status=403,
        code="insufficient_scope",
    )
    tour.call("but Eve's.", "POST", SHIPPING, token=eve, port=port)


def _rotate(tour: Tour, deployment: Deployment, alice: Any) -> Any:
    port = deployment.orders_port
    tour.say("\n   … the first service is deployed anew: its second key signs, the first verifies")
    deployment.stop_notes()
    deployment.start_notes(rotated=True)
    old = alice["access_token"]
    new = tour.call(
        "Alice refreshes, and gets a token that is signed by the new key.",
        "POST",
        reverse("jwt_auth:refresh"),
        {"refresh_token": alice["refresh_token"]},
        also=lambda answer: _kid(answer.data["access_token"]) != _kid(old),
    ).data
    for name, token in (("old", old), ("new", new["access_token"])):
        tour.call(f"The {name} token at the first service,", "GET", reverse("titles"), token=token)
        tour.call("and at the second.", "GET", ORDERS, token=token, port=port)
    return new


def _log_out(tour: Tour, port: int, alice: Any) -> None:
    token = alice["access_token"]
    tour.call(
        "Alice signs out at the first service.",
        "POST",
        reverse("jwt_auth:logout"),
        {"refresh_token": alice["refresh_token"]},
        status=204,
    )
    began = time.monotonic()
    # As a client that calls all the time would find out.
    while time.monotonic() - began < LONGEST:
        if tour.ask("GET", ORDERS, None, f"Bearer {token}", port).status != 200:
            break
        time.sleep(0.1)
    seconds = time.monotonic() - began
    tour.call(
        f"The second service refuses her, {seconds:.1f} s later (at most {LONGEST:g}).",
        "GET",
        ORDERS,
        token=token,
        port=port,
        status=401,
        code="session_ended",
        challenge=f'{BARE}, error="invalid_token"',
    )


def _go_on_alone(tour: Tour, deployment: Deployment, eve: str) -> None:
    port = deployment.orders_port
    tour.say("\n   … the first service is stopped")
    deployment.stop_notes()
    tour.call("The second service goes on with what it knows,", "GET", ORDERS, token=eve, port=port)
    tour.wait(6, "the list of ended sessions would have been fetched again")
    # Of which this request makes the attempt, in the background.
    tour.ask("GET", ORDERS, None, f"Bearer {eve}", port)
    tour.call(
        "and still does: for as long as the last list is good, a minute by default.",
        "GET",
        ORDERS,
        token=eve,
        port=port,
    )
    tour.say("\n   … the first service is started again")
    deployment.start_notes(rotated=True)
    pair = login(tour, "Alice signs in.", "alice", device="laptop")
    tour.call(
        "Her token, at the second service.", "GET", ORDERS, token=pair["access_token"], port=port
    )


def _kid(token: str) -> Any:
    header = token.partition(".")[0]
    return json.loads(urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]
