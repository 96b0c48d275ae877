"""Rows 68 to 84: what a genuine signature may and may not say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import RequestFactory
from rest_framework.request import Request

from jwt_auth import sessions, verify
from jwt_auth.authentication import JWTAuthentication
from tests.attacks.conftest import Target
from tests.attacks.corpus import IDS, NO_TIMES, TYPES
from tests.attacks.forge import mac
from tests.conftest import Clock, JSONClient

ISSUER = "https://issuer.example"


@pytest.mark.parametrize("name", ["exp", "iat", "sub", "jti", "sid"])
def test_claims_that_have_to_be_there(target: Target, name: str) -> None:
    target.refuses(target.forge.token(target.having(**{name: ...})))


@pytest.mark.parametrize("typ", [*TYPES, ["at+jwt"], {"at+jwt": 1}, ...], ids=repr)
def test_a_token_says_that_it_is_an_access_token(target: Target, typ: Any) -> None:
    target.refuses(target.forge.token(target.claims, target.forge.header(typ=typ)))


def test_the_long_spelling_of_the_type_passes(target: Target) -> None:
    header = target.forge.header(typ="application/at+jwt")
    target.accepts(target.forge.token(target.claims, header))


NO_ISSUER: list[Any] = [
    ISSUER,
    "",
    None,
    7,
    [ISSUER],
]
ALMOST: list[Any] = [
    ...,
    ISSUER + "/",
    ISSUER.upper(),
    ISSUER[:-1],
    " " + ISSUER,
    "https://issuer.examplе",
    [ISSUER],
    {ISSUER: 1},
    None,
    7,
    "",
]


@pytest.mark.parametrize("issuer", NO_ISSUER, ids=repr)
def test_without_an_issuer_of_ours_none_may_be_named(target: Target, issuer: Any) -> None:
    target.refuses(target.forge.token(target.having(iss=issuer)))


@pytest.mark.parametrize("issuer", ALMOST, ids=ascii)
def test_the_issuer_is_exactly_ours(target: Target, settings: Any, user: Any, issuer: Any) -> None:
    settings.JWT_AUTH = {"SIGNING_KEY": target.forge.setting, "ISSUER": ISSUER}
    target._genuine = sessions.start(user).access_token
    target.accepts(target.forge.token(target.having(iss=ISSUER)))
    target.refuses(target.forge.token(target.having(iss=issuer)))


@pytest.mark.parametrize("audience", ["api", ["api"], "", [], None, 7], ids=repr)
def test_without_an_audience_of_ours_none_may_be_named(target: Target, audience: Any) -> None:
    target.refuses(target.forge.token(target.having(aud=audience)))


@pytest.mark.parametrize(
    ("audience", "passes"),
    [
        ("api", True),
        ("web", True),
        (["api"], True),
        (["other", "web"], True),
        (..., False),
        ("other", False),
        ("ap", False),
        ("api web", False),
        (["other"], False),
        ([], False),
        (["api", 7], False),
        (["api", ""], False),
        ([["api"]], False),
        ({"api": 1}, False),
        (None, False),
        (True, False),
    ],
)
def test_the_audience_is_one_of_ours(
    target: Target, settings: Any, user: Any, audience: Any, passes: bool
) -> None:
    settings.JWT_AUTH = {"SIGNING_KEY": target.forge.setting, "AUDIENCE": ["api", "web"]}
    target._genuine = sessions.start(user).access_token
    raw = target.forge.token(target.having(aud=audience))
    (target.accepts if passes else target.refuses)(raw)


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", NO_TIMES.values(), ids=NO_TIMES)
def test_times_are_finite_numbers(target: Target, name: str, value: bytes) -> None:
    import json

    payload = json.dumps(target.having(**{name: "@"})).encode().replace(b'"@"', value)
    target.refuses(target.forge.token(payload))


@pytest.mark.parametrize(("seconds", "code"), [(299, None), (300, "token_expired")])
def test_a_token_ends_at_its_expiry(
    target: Target, clock: Clock, user: Any, seconds: int, code: str | None
) -> None:
    raw = target.forge.token(target.claims)
    clock.move(seconds=seconds)
    target._genuine = sessions.start(user).access_token
    if code is None:
        target.accepts(raw)
    else:
        target.refuses(raw, code)


@pytest.mark.parametrize(("seconds", "code"), [(309, None), (310, "token_expired")])
def test_leeway_moves_the_end(
    target: Target, settings: Any, clock: Clock, user: Any, seconds: int, code: str | None
) -> None:
    settings.JWT_AUTH = {
        "SIGNING_KEY": target.forge.setting,
        "LEEWAY": timedelta(seconds=10),
    }
    test_a_token_ends_at_its_expiry(target, clock, user, seconds, code)


@pytest.mark.parametrize(("life", "passes"), [(360, True), (361, False), (10**9, False)])
def test_no_token_outlives_what_we_issue(target: Target, life: int, passes: bool) -> None:
    raw = target.forge.token(target.having(exp=target.claims["iat"] + life))
    (target.accepts if passes else target.refuses)(raw)


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize(("ahead", "passes"), [(60, True), (61, False), (10**9, False)])
def test_a_token_from_the_future_waits(target: Target, name: str, ahead: int, passes: bool) -> None:
    raw = target.forge.token(target.having(**{name: target.claims["iat"] + ahead}))
    (target.accepts if passes else target.refuses)(raw)


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize(("ahead", "passes"), [(120, True), (121, False)])
def test_a_longer_leeway_waits_as_long(
    target: Target, settings: Any, name: str, ahead: int, passes: bool
) -> None:
    settings.JWT_AUTH = {
        "SIGNING_KEY": target.forge.setting,
        "LEEWAY": timedelta(seconds=120),
    }
    raw = target.forge.token(target.having(**{name: target.claims["iat"] + ahead}))
    (target.accepts if passes else target.refuses)(raw)


SUBJECTS: list[Any] = [
    "",
    None,
    1,
    True,
    ["1"],
    {"a": 1},
    "x",
    " 1",
    "01",
    "+1",
    "١",
    "1\x00",
    "9e9",
]


@pytest.mark.parametrize("subject", SUBJECTS, ids=ascii)
def test_a_subject_names_a_user_in_one_spelling(
    target: Target, client: JSONClient, subject: Any
) -> None:
    answer = client.whoami(target.forge.token(target.having(sub=subject)))
    assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")


def test_a_subject_of_another_session_opens_no_row(target: Target, client: JSONClient) -> None:
    raw = target.forge.token(target.having(sub="999999"))
    answer = client.call("get", "/profile/", token=raw)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")


# In its one spelling, and still nobody: SQLite, PostgreSQL and Django's fields each refuse
# some of these in a way of their own.
IMPOSSIBLE = {
    "pk": ["0", "-1", "2147483648", "9223372036854775808", "9" * 40, "9" * 4000],
    "username": ["nobody", "a\x00b", "x" * 5000, "é" * 300, "a'; --", "%s"],
}


@pytest.mark.parametrize(
    ("field", "subject"),
    [(field, one) for field, subjects in IMPOSSIBLE.items() for one in subjects],
    ids=lambda text: ascii(text)[:15],
)
@pytest.mark.parametrize("path", ["/profile/", "/active/", "/eager/"])
@pytest.mark.parametrize("lifetime", [timedelta(days=14), None], ids=["sessions", "no sessions"])
def test_an_impossible_subject_is_nobody(
    target: Target,
    client: JSONClient,
    settings: Any,
    user: Any,
    path: str,
    field: str,
    subject: str,
    lifetime: timedelta | None,
) -> None:
    settings.JWT_AUTH = {
        "SIGNING_KEY": target.forge.setting,
        "USER_ID_FIELD": field,
        "REFRESH_TOKEN_LIFETIME": lifetime,
    }
    target._genuine = sessions.start(user).access_token
    claims = dict(verify(target._genuine))
    good = target.forge.token(claims)
    assert client.call("get", path, token=good).status_code == 200
    raw = target.forge.token({**claims, "sub": subject})
    answer = target.survives(lambda: client.call("get", path, token=raw), secrets=[raw])
    assert answer.status_code == 401
    assert answer.json()["code"] in {"token_not_valid", "session_ended"}


@pytest.mark.parametrize("value", IDS, ids=lambda value: ascii(value)[:10])
def test_a_jti_is_a_short_text(target: Target, value: Any) -> None:
    target.accepts(target.forge.token(target.having(jti="x" * 255)))
    target.refuses(target.forge.token(target.having(jti=value)))


@pytest.mark.parametrize("name", ["iss", "sub", "jti", "sid", "aud"])
@pytest.mark.parametrize("target", ["HS256", "ES256 foreign"], indirect=True)
def test_no_registered_claim_has_a_nul(target: Target, name: str) -> None:
    for text in ("{}\x00", "\x00{}", "\x00"):
        value: Any = text.format(target.claims.get(name, ""))
        target.refuses(target.forge.token(target.having(**{name: value})))
    if name == "aud" and "aud" in target.claims:
        value = [target.claims["aud"], "x\x00"]
        target.refuses(target.forge.token(target.having(aud=value)))


@pytest.mark.parametrize("value", [*IDS, "x", "{sid}", "SID", "'; --"], ids=lambda v: ascii(v)[:10])
def test_a_sid_is_a_uuid_in_one_spelling(target: Target, value: Any) -> None:
    sid = target.claims["sid"]
    spelled = {"{sid}": f"{{{sid}}}", "SID": sid.upper(), "x": sid.replace("-", "")}
    hostile = spelled.get(value, value) if isinstance(value, str) else value
    target.refuses(target.forge.token(target.having(sid=hostile)))


@pytest.mark.parametrize("value", [{"jkt": "x"}, {}, None, "x"], ids=repr)
def test_a_token_bound_to_a_key_is_refused(target: Target, value: Any) -> None:
    target.refuses(target.forge.token(target.having(cnf=value)))


def test_claims_grant_nothing_by_themselves(target: Target, client: JSONClient, user: Any) -> None:
    granted = {
        "is_staff": True,
        "is_superuser": True,
        "is_active": True,
        "groups": ["x"],
        "permissions": ["auth.delete_user"],
        "pk": 7,
        "id": 7,
        "user_id": 7,
        "username": "x",
        "__class__": "x",
        "_state": {},
    }
    raw = target.forge.token(target.having(**granted))
    answer = target.survives(lambda: client.call("get", "/profile/", token=raw), secrets=[raw])
    assert answer.json() == {"name": "ada"}
    request = RequestFactory().get("/", headers={"Authorization": f"Bearer {raw}"})
    found, _ = JWTAuthentication().authenticate(Request(request)) or (None, None)
    assert (found.pk, found.username, type(found).__name__) == (user.pk, "ada", "LoadedUser")
    assert (found.is_staff, found.is_superuser) == (False, False)
    assert not found.has_perm("auth.delete_user")
    answer = client.call("get", "/stateless/", token=raw)
    assert answer.json() == {"name": str(user.pk)}


@pytest.mark.parametrize("roles", ["editors", {"editors": 1}, ["editors", 7], None, 7, True])
def test_roles_that_are_no_list_of_names_are_none(
    target: Target, client: JSONClient, roles: Any
) -> None:
    raw = target.forge.token(target.having(roles=roles))
    assert client.call("get", "/editors/", token=raw).status_code == 403


def test_codes_tell_apart_only_after_the_signature(target: Target, clock: Clock, user: Any) -> None:
    raw = target.forge.token(target.claims)
    foreign = target.forge.token(target.having(iss="x"))
    clock.move(hours=1)
    target._genuine = sessions.start(user).access_token
    target.refuses(raw, "token_expired")
    target.refuses(raw[:-3] + "AAA", "token_not_valid")
    target.refuses(foreign, "token_not_valid")
    target.refuses(target.forge.token(target.having(aud="x")), "token_not_valid")
    target.refuses(target.forge.token(target.claims, sign=mac(b"x" * 40)), "token_not_valid")
    header = target.forge.header(typ="JWT")
    target.refuses(target.forge.token(target.claims, header), "token_not_valid")


def test_a_refresh_token_is_no_access_token_and_the_reverse(
    target: Target, client: JSONClient, user: Any
) -> None:
    pair = sessions.start(user)
    target.refuses(str(pair.refresh_token))
    assert client.refresh(pair.access_token).json()["code"] == "refresh_not_valid"
