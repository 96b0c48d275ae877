"""Rows 22 to 35: what the ``Authorization`` header may look like."""

from __future__ import annotations

from typing import Any

import pytest

from tests.attacks.conftest import Target
from tests.conftest import JSONClient

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


LOOK_ALIKES = ["X_AUTHORIZATION", "PROXY_AUTHORIZATION", "HTTP_AUTHORIZATION", "X_ACCESS_TOKEN"]


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_other_headers_do_not_count(target: Target, client: JSONClient, name: str) -> None:
    header = f"Bearer {target.forge.token(target.claims)}"
    assert client.get("/whoami/", **{f"HTTP_{name}": header}).status_code == 401


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
