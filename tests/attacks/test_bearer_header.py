"""Rows 22 to 36: what the ``Authorization`` header may look like, and what is said of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.core.checks import run_checks

from jwt_auth import sessions
from tests.attacks.conftest import Target
from tests.conftest import Clock, JSONClient
from tests.skins.servers import OneThread, over_asgi

MALFORMED = {
    "scheme alone": "Bearer",
    "scheme and a space": "Bearer ",
    "three words": "Bearer {} x",
    "quoted": 'Bearer "{}"',
    "brackets": "Bearer <{}>",
    "comma": "Bearer {},",
    "two of them": "Bearer {}, Bearer {}",
    "semicolon": "Bearer {};",
    "auth-param": "Bearer token={}, x=y",
    "percent": "Bearer %20{}",
    "doubled scheme": "Bearer Bearer {}",
    "colon": "Bearer: {}",
    "tab": "Bearer\t{}",
    "tab behind a space": "Bearer \t{}",
    "vertical tab": "Bearer\x0b{}",
    "form feed": "Bearer\x0c{}",
    "line feed": "Bearer {}\n",
    "carriage return": "Bearer\r{}",
    "no-break space": "Bearer\xa0{}",
    "space in front": " Bearer {}",
    "space behind": "Bearer {} ",
    "not ASCII": "Bearer {}é",
    "beyond Latin-1": "Bearer {}☃",
    "surrogate": "Bearer {}\ud800",
    "NUL": "Bearer {}\x00",
}


@pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED)
def test_one_token_after_bearer_and_nothing_else(target: Target, header: str) -> None:
    token = target.forge.token(target.claims)
    answer = target.refuses_header(header.replace("{}", token), "invalid_request")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_request"'


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR", "Bearer  ", "Bearer     "])
def test_the_scheme_has_no_case(target: Target, client: JSONClient, scheme: str) -> None:
    header = f"{scheme} {target.forge.token(target.claims)}"
    assert client.get("/whoami/", HTTP_AUTHORIZATION=header).status_code == 200


@pytest.mark.parametrize(
    "scheme", ["Basic", "Token", "JWT", "DPoP", "Bearerx", "Bear", "", "b-earer"]
)
def test_another_scheme_is_no_credential_of_ours(target: Target, scheme: str) -> None:
    answer = target.refuses_header(f"{scheme} {target.forge.token(target.claims)}", None)
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'


AS_SENT = [
    "x-authorization",
    "x_authorization",
    "proxy-authorization",
    "http_authorization",
    "http-authorization",
    "authorization_",
    "authorization-token",
]
LOOK_ALIKES = ["X_AUTHORIZATION", "PROXY_AUTHORIZATION", "HTTP_AUTHORIZATION", "X_ACCESS_TOKEN"]


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_other_headers_do_not_count(target: Target, client: JSONClient, name: str) -> None:
    header = f"Bearer {target.forge.token(target.claims)}"
    assert client.get("/whoami/", **{f"HTTP_{name}": header}).status_code == 401


@pytest.mark.usefixtures("kept_connection")
@pytest.mark.parametrize("name", AS_SENT)
def test_nor_do_they_as_a_server_spells_them(target: Target, name: str) -> None:
    value = f"Bearer {target.forge.token(target.claims)}".encode()
    good = over_asgi("GET", "/whoami/", [(b"authorization", value)], OneThread())
    assert good[0] == 200
    status, headers, body = over_asgi("GET", "/whoami/", [(name.encode(), value)], OneThread())
    assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="api"')
    assert "code" not in json.loads(body)


def test_neither_query_nor_body_nor_cookie_count(target: Target, client: JSONClient) -> None:
    token = target.forge.token(target.claims)
    client.cookies["access_token"] = token
    for answer in (
        client.get(f"/whoami/?access_token={token}"),
        client.post("/whoami/", {"access_token": token}),
    ):
        assert answer.status_code == 401
        assert "code" not in answer.json()


@pytest.mark.parametrize("size", [8_193, 100_000, 1_000_000])
@pytest.mark.parametrize("character", ["A", ".", " ", "="])
def test_a_long_token_is_refused_by_its_length(target: Target, size: int, character: str) -> None:
    target.refuses_header(f"Bearer x{character * size}", "token_not_valid")


def test_the_longest_token_passes_and_one_byte_more_does_not(target: Target) -> None:
    # A space more in the payload is 4 characters of base64url for 3 bytes, in steps of one
    # or two; a member of the header fills up what is missing.
    found = {}
    for pad in range(4):
        header = target.forge.header(x="x" * pad)
        text = json.dumps(target.claims)
        while len(raw := target.forge.token(text.encode(), header)) <= 8200:
            found[len(raw)] = raw
            text += " " * max(1, (8190 - len(raw)) * 3 // 4)
    target.accepts(found[8192])
    target.refuses(found[8193])


@pytest.mark.parametrize("word", ["null", "undefined", "None", "[object", "{}", "x"])
def test_words_are_no_tokens(target: Target, word: str) -> None:
    target.refuses_header(f"Bearer {word}", "token_not_valid", "invalid_request")


def test_a_refused_bearer_does_not_fall_through_to_the_next_class(
    target: Target, client: JSONClient, settings: Any, user: Any
) -> None:
    # Row 90: a valid session cookie beside a refused token is nobody's login.
    from rest_framework.authentication import SessionAuthentication

    from jwt_auth.authentication import JWTAuthentication
    from tests.views import Whoami

    view = type(
        "Both", (Whoami,), {"authentication_classes": [JWTAuthentication, SessionAuthentication]}
    )
    request = client.get("/whoami/").wsgi_request
    request.user = user
    assert view.as_view()(request).status_code == 200
    request.user = user
    request.META["HTTP_AUTHORIZATION"] = "Bearer junk"
    assert view.as_view()(request).status_code == 401


# RFC 9110 sections 11.6.1 and 5.6.4: a scheme, one space, and parameters whose values are
# tokens or quoted strings, here of visible ASCII.
TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
PARAMETER = rf'{TOKEN}=(?:{TOKEN}|"[\x20\x21\x23-\x5b\x5d-\x7e]*")'
CHALLENGE = re.compile(rf"{TOKEN} {PARAMETER}(?:, {PARAMETER})*")


def test_every_challenge_is_well_formed(
    target: Target, client: JSONClient, clock: Clock, user: Any
) -> None:
    assert not CHALLENGE.fullmatch('Bearer realm="a"b"')
    assert not CHALLENGE.fullmatch('Bearer realm="a\nb"')
    expired, ended = sessions.start(user).access_token, sessions.start(user)
    headers = [None, "Bearer", "Bearer a b", 'Bearer "<script>"', "Bearer x", f"Bearer {expired}"]
    clock.move(minutes=5)
    living = sessions.start(user)
    sessions.end(living.session_id)  # type: ignore[arg-type]
    headers += [f"Bearer {living.access_token}", f"Bearer {ended.refresh_token}", 'Basic a"b']
    seen = set()
    for header in headers:
        answer = client.get("/whoami/", headers={} if header is None else {"Authorization": header})
        assert answer.status_code in {400, 401}
        seen.add(answer.headers["WWW-Authenticate"])
        assert CHALLENGE.fullmatch(answer.headers["WWW-Authenticate"])
    assert seen == {
        'Bearer realm="api"',
        'Bearer realm="api", error="invalid_request"',
        'Bearer realm="api", error="invalid_token"',
    }


@pytest.mark.parametrize("realm", ['a"b', "a\nb", "é", "api"])
def test_the_realm_is_no_setting(settings: Any, realm: str) -> None:
    settings.JWT_AUTH = {"REALM": realm}
    assert "jwt_auth.E001" in [one.id for one in run_checks(tags=["security"])]


NO_SCOPE: list[Any] = [
    ...,
    ["orders:read", "orders:write"],
    {"orders:read": 1},
    7,
    True,
    None,
    "",
    "orders:read",
    "orders:read,orders:write",
    "orders:read\torders:write",
    "ORDERS:READ ORDERS:WRITE",
    "orders:* orders",
]


@pytest.mark.parametrize("scope", NO_SCOPE, ids=repr)
def test_a_valid_token_without_the_scope_is_403(
    target: Target, client: JSONClient, scope: Any
) -> None:
    both = target.forge.token(target.having(scope="orders:write orders:read"))
    assert client.call("get", "/orders/", token=both).status_code == 200
    raw = target.forge.token(target.having(scope=scope))
    answer = target.survives(lambda: client.call("get", "/orders/", token=raw), secrets=[raw])
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
