"""Rows 69, 82, 102, 112, 163: what another issuer's token is good for, and what for not."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, Group, User
from django.http import HttpRequest, JsonResponse
from django.test import AsyncClient
from django.urls import path
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView

from jwt_auth import averify, sessions, verify
from jwt_auth.decorators import jwt_required, role_required, scope_required
from jwt_auth.errors import SessionEnded, TokenNotValid
from jwt_auth.models import LoginSession
from jwt_auth.permissions import ActiveUser, HasRole, HasScope
from jwt_auth.users import TokenUser
from tests import urls as own_urls
from tests.conftest import Clock, JSONClient, private_pem
from tests.remote.provider import AUDIENCE, ISSUER, Provider, document, foreign, public_jwk


def who(request: Any) -> dict[str, Any]:
    user, claims = request.user, request.auth
    return {
        "class": type(user).__name__,
        "pk": str(user.pk),
        "str": str(user),
        "roles": list(claims.roles),
        "scopes": sorted(claims.scopes),
        "session_id": claims.session_id,
        "items": sorted(claims),
    }


class Seen(APIView):
    """Tells whom it sees."""

    permission_classes = [IsAuthenticated & ActiveUser]

    def get(self, request: Any) -> Response:
        return Response(who(request))


class ForEditors(APIView):
    """Wants a role."""

    permission_classes = [HasRole("editors")]

    def get(self, request: Any) -> Response:
        return Response(who(request))


class ForReaders(APIView):
    """Wants a scope."""

    permission_classes = [HasScope("orders:read")]

    def get(self, request: Any) -> Response:
        return Response(who(request))


class TwicePerHour(UserRateThrottle):
    """Lets two requests through."""

    rate = "2/hour"


class Throttled(APIView):
    """Counts by user."""

    throttle_classes = [TwicePerHour]

    def get(self, request: Any) -> Response:
        return Response(who(request))


@jwt_required
def plain(request: HttpRequest) -> JsonResponse:
    return JsonResponse(who(request))


@jwt_required
async def awaited(request: HttpRequest) -> JsonResponse:
    user = await request.auser()
    assert user is request.user
    return JsonResponse(who(request))


def open_to_all(request: Any) -> JsonResponse:
    return JsonResponse(who(request) if request.auth else {})


urlpatterns = [
    *own_urls.urlpatterns,
    path("seen/", Seen.as_view()),
    path("for-editors/", ForEditors.as_view()),
    path("for-readers/", ForReaders.as_view()),
    path("throttled/", Throttled.as_view()),
    path("plain/", plain),
    path("awaited/", awaited),
    path("role/", role_required("editors")(plain)),
    path("scope/", scope_required("orders:read")(plain)),
    path("open/", open_to_all),
]

MADE = "tests.remote.test_tokens."


def by_name(claims: Any) -> Any:
    """Return the local user of that name, if there is one."""
    return User.objects.filter(username=claims["preferred_username"]).first()


def with_grants(claims: Any) -> Any:
    """Return a user, and what the token is granted here."""
    user = User(username="stranger")
    return user, {"roles": claims["realm_access"]["roles"], "scope": claims["scope"]}


async def awaited_user(claims: Any) -> Any:
    """Find the user without a thread."""
    return await User.objects.filter(username=claims["preferred_username"]).afirst()


def failing(claims: Any) -> Any:
    """Fail as a function of a project may."""
    raise KeyError(claims["sub"])


zero, text, true, a_dict = (
    lambda claims: 0,
    lambda claims: "ada",
    lambda claims: True,
    lambda claims: {"roles": []},
)


def generating(claims: Any) -> Any:
    """Yield where a return was meant."""
    yield User(username="x")


def wrapped(function: Any) -> Any:
    """Decorate without a thought for coroutines."""
    return lambda claims: function(claims)


decorated = wrapped(awaited_user)


def false_for_the_inactive(claims: Any) -> Any:
    """Return what an idiom makes of an inactive user."""
    found = User.objects.filter(username=claims["preferred_username"]).first()
    return found and found.is_active and found


def anonymous(claims: Any) -> Any:
    """Return nobody, as Django has it."""
    return AnonymousUser()


def refusing(claims: Any) -> Any:
    """Refuse as a function of a project may."""
    raise SessionEnded("not in here")


def wrong_roles(claims: Any) -> Any:
    """Grant what is no list of strings."""
    return User(username="x"), {"roles": [7]}


def wrong_grants(claims: Any) -> Any:
    """Grant what cannot be granted."""
    return User(username="x"), {"sub": "1"}


@pytest.fixture(autouse=True)
def project(settings: Any) -> Any:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "jwt_auth.middleware.JWTAuthenticationMiddleware",
    ]
    return settings


PLACES = ["/seen/", "/plain/", "/open/", "/awaited/"]


@pytest.mark.parametrize("place", PLACES)
def test_a_stranger_is_a_token_user(trusted: Provider, client: JSONClient, place: str) -> None:
    # Without a mark for the database any query is an error.
    token = trusted.token(sub="7", roles=["editors"], scope="orders:read", sid="x")
    answer = client.call("get", place, token=token)
    assert answer.status_code == 200
    assert answer.json() == {
        "class": "TokenUser",
        "pk": f"{ISSUER}|7",
        "str": f"{ISSUER}|7",
        "roles": [],
        "scopes": [],
        "session_id": None,
        "items": ["aud", "exp", "iat", "iss", "sid", "sub"],
    }


@pytest.mark.parametrize("place", PLACES)
def test_and_under_asgi(trusted: Provider, place: str) -> None:
    headers = {"Authorization": f"Bearer {trusted.token(sub='7')}"}
    answer = async_to_sync(AsyncClient().get)(place, headers=headers)
    assert (answer.status_code, answer.json()["pk"]) == (200, f"{ISSUER}|7")


@pytest.mark.parametrize("place", ["/for-editors/", "/for-readers/", "/role/", "/scope/"])
def test_its_roles_and_scopes_count_for_nothing(
    trusted: Provider, client: JSONClient, place: str
) -> None:
    token = trusted.token(roles=["editors"], scope="orders:read")
    answer = client.call("get", place, token=token)
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")


def test_unless_they_are_mapped(trusted: Provider, client: JSONClient, settings: Any) -> None:
    settings.JWT_AUTH = {"TRUSTED_ISSUERS": trusted.settings(USER=MADE + "with_grants")}
    access = {"realm_access": {"roles": ["editors"]}, "scope": "orders:read", "roles": ["admins"]}
    for place in ("/for-editors/", "/for-readers/", "/role/", "/scope/"):
        answer = client.call("get", place, token=trusted.token(**access))
        assert answer.status_code == 200
        assert answer.json()["roles"] == ["editors"]
    access["realm_access"] = {"roles": []}
    assert client.call("get", "/role/", token=trusted.token(**access)).status_code == 403


@pytest.mark.django_db
def test_its_sub_opens_no_row(trusted: Provider, client: JSONClient, user: User) -> None:
    Group.objects.create(name="editors").user_set.add(user)
    answer = client.call("get", "/seen/", token=trusted.token(sub=str(user.pk)))
    assert answer.json()["class"] == "TokenUser"
    assert answer.json()["pk"] != str(user.pk)


@pytest.mark.django_db
def test_nor_where_users_are_never_loaded(
    provider: Provider, client: JSONClient, settings: Any, user: User
) -> None:
    settings.DEBUG = True
    settings.JWT_AUTH = {
        "LOAD_USER": "never",
        "SIGNING_KEY": private_pem("P-384"),
        "TRUSTED_ISSUERS": provider.settings(),
    }
    own = sessions.start(user).access_token
    foreign_token = provider.token(sub=str(user.pk))
    keys = [
        client.call("get", "/seen/", token=token).json()["pk"] for token in (own, foreign_token)
    ]
    assert keys == [str(user.pk), f"{ISSUER}|{user.pk}"]


@pytest.mark.django_db
def test_its_sid_opens_no_session(trusted: Provider, client: JSONClient, user: User) -> None:
    pair = sessions.start(user)
    token = trusted.token(sub=str(user.pk), sid=str(pair.session_id))
    assert client.call("get", "/seen/", token=token).json()["session_id"] is None
    assert verify(token).session_id is None
    for method, place in [
        ("get", "/auth/sessions/"),
        ("delete", "/auth/sessions/?keep=none"),
        ("delete", f"/auth/sessions/{pair.session_id}/"),
    ]:
        answer = client.call(method, place, token=token)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
    assert client.call("post", "/auth/logout/", token=token).status_code == 204
    assert LoginSession.objects.get().revoked_at is None
    assert client.whoami(pair.access_token).status_code == 200


@pytest.mark.django_db
def test_the_end_of_a_session_here_ends_none_there(trusted: Provider, user: User) -> None:
    pair = sessions.start(user)
    sessions.end_all(user)
    assert verify(trusted.token(sid=str(pair.session_id))).subject == "1"


def test_strangers_are_throttled_by_issuer(
    trusted: Provider, client: JSONClient, settings: Any
) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    for subject in ("a", "b"):
        codes = [
            client.call("get", "/throttled/", token=trusted.token(sub=subject)).status_code
            for _ in range(3)
        ]
        assert codes == [200, 200, 429]


@pytest.mark.django_db
class TestLocalUsers:
    """What ``USER`` makes of verified claims."""

    @pytest.mark.parametrize(
        "function", ["by_name", "awaited_user", "decorated", "false_for_the_inactive"]
    )
    @pytest.mark.parametrize("place", PLACES)
    def test_a_function_finds_them(
        self,
        trusted: Provider,
        client: JSONClient,
        settings: Any,
        user: User,
        function: str,
        place: str,
    ) -> None:
        settings.JWT_AUTH = {"TRUSTED_ISSUERS": trusted.settings(USER=MADE + function)}
        token = trusted.token(preferred_username="ada", sub="7")
        answer = client.call("get", place, token=token)
        assert (answer.json()["class"], answer.json()["pk"]) == ("User", str(user.pk))

    @pytest.mark.parametrize(
        "function", ["by_name", "decorated", "false_for_the_inactive", "anonymous"]
    )
    @pytest.mark.parametrize("place", PLACES)
    def test_nobody_and_the_inactive_are_refused(
        self,
        trusted: Provider,
        client: JSONClient,
        settings: Any,
        user: User,
        place: str,
        function: str,
    ) -> None:
        settings.JWT_AUTH = {"TRUSTED_ISSUERS": trusted.settings(USER=MADE + function)}
        User.objects.update(is_active=False)
        for name in ("ada", "nobody"):
            answer = client.call("get", place, token=trusted.token(preferred_username=name))
            assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")

    @pytest.mark.parametrize(
        "function",
        ["failing", "wrong_roles", "wrong_grants", "zero", "text", "true", "a_dict", "generating"],
    )
    @pytest.mark.parametrize("place", PLACES)
    def test_a_function_that_fails_is_our_fault(
        self,
        trusted: Provider,
        client: JSONClient,
        settings: Any,
        place: str,
        function: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        settings.JWT_AUTH = {"TRUSTED_ISSUERS": trusted.settings(USER=MADE + function)}
        answer = client.call("get", place, token=trusted.token())
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "USER of TRUSTED_ISSUERS failed" in caplog.text

    def test_function_that_fails_for_one_user_writes_a_bounded_number_of_records(
        self,
        trusted: Provider,
        client: JSONClient,
        settings: Any,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        settings.JWT_AUTH = {"TRUSTED_ISSUERS": trusted.settings(USER=MADE + "failing")}
        for _ in range(30):
            assert client.call("get", "/plain/", token=trusted.token()).status_code == 503
        records = [one for one in caplog.records if one.name == "jwt_auth"]
        assert len(records) == 11
        client.call("get", "/plain/", token=trusted.token(sub="another"))
        assert len([one for one in caplog.records if one.name == "jwt_auth"]) == 12

    def test_a_function_may_refuse(
        self, trusted: Provider, client: JSONClient, settings: Any
    ) -> None:
        settings.JWT_AUTH = {"TRUSTED_ISSUERS": trusted.settings(USER=MADE + "refusing")}
        answer = client.call("get", "/plain/", token=trusted.token())
        assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")


RULES: dict[str, tuple[dict[str, Any], bool]] = {
    "as it is": ({}, True),
    "several audiences": ({"aud": ["x", AUDIENCE]}, True),
    "another audience": ({"aud": "x"}, False),
    "no audience": ({"aud": ...}, False),
    "no subject": ({"sub": ...}, False),
    "an empty subject": ({"sub": ""}, False),
    "no exp": ({"exp": ...}, False),
    "no iat": ({"iat": ...}, True),
    "an iat that is text": ({"iat": "1790000000"}, False),
    "an iat to come": ({"iat": 4_000_000_000}, False),
    "a jti": ({"jti": "x"}, True),
    "an empty jti": ({"jti": ""}, False),
    "a long jti": ({"jti": "x" * 256}, False),
    "a sid of any kind": ({"sid": "not a UUID"}, True),
    "a sid that is a number": ({"sid": 7}, False),
    "a day long": ({"exp": 4_000_000_000}, True),
    "bound to a key": ({"cnf": {"jkt": "x"}}, False),
    "a subject of any spelling": ({"sub": "auth0|5f7c8ec7c33c6c004bbafe82"}, True),
}


@pytest.mark.parametrize(("changes", "passes"), RULES.values(), ids=RULES)
def test_the_rules_for_claims(trusted: Provider, changes: Any, passes: bool) -> None:
    token = trusted.token(**changes)
    for check in (verify, async_to_sync(averify)):
        if passes:
            assert check(token).issuer == ISSUER
        else:
            with pytest.raises(TokenNotValid):
                check(token)


@pytest.mark.parametrize(("seconds", "code"), [(299, 200), (300, 401)])
def test_it_ends_at_its_exp(
    trusted: Provider, client: JSONClient, clock: Clock, seconds: int, code: int
) -> None:
    token = trusted.token()
    assert client.call("get", "/seen/", token=token).status_code == 200
    clock.move(seconds=seconds)
    answer = client.call("get", "/seen/", token=token)
    assert answer.status_code == code
    if code == 401:
        assert answer.json()["code"] == "token_expired"


@pytest.fixture
def two(provider: Provider, settings: Any) -> tuple[Provider, str, Any]:
    """Return an issuer, and the name of a second one with another key."""
    other = foreign("EdDSA", kid="other")
    provider.answers["/other.json"] = document(
        {"keys": [public_jwk(other.setting, kid="other"), public_jwk(other.setting, kid="one")]}
    )
    name = "https://other.example"
    settings.DEBUG = True
    settings.JWT_AUTH = {
        "ISSUER": "https://own.example",
        "AUDIENCE": AUDIENCE,
        "SIGNING_KEY": private_pem("P-384"),
        "TRUSTED_ISSUERS": {
            **provider.settings(ALGORITHMS=["ES256", "EdDSA"]),
            name: {
                "JWKS_URL": f"{provider.url}/other.json",
                "AUDIENCE": AUDIENCE,
                "ALGORITHMS": ["ES256", "EdDSA"],
            },
        },
    }
    return provider, name, other


@pytest.mark.django_db
def test_own_and_foreign_tokens_side_by_side(two: Any, client: JSONClient, user: User) -> None:
    provider, name, other = two
    own = sessions.start(user).access_token
    second = other.token(provider.claims(iss=name))
    classes = [
        client.call("get", "/seen/", token=token).json()["class"]
        for token in (own, provider.token(), second, own)
    ]
    assert classes == ["LoadedUser", "TokenUser", "TokenUser", "LoadedUser"]


@pytest.mark.django_db
def test_a_key_vouches_for_its_issuer_alone(two: Any, user: User) -> None:
    provider, name, other = two
    sid = str(sessions.start(user).session_id)
    own_claims = provider.claims(iss="https://own.example", sub=str(user.pk), jti="x", sid=sid)
    # Before and after the keys of both are known.
    for _ in range(2):
        for forge, claims in [
            (provider.forge, provider.claims(iss=name)),
            (other, provider.claims()),
            (provider.forge, own_claims),
            (other, own_claims),
            (provider.forge, provider.claims(iss=["https://own.example", ISSUER])),
        ]:
            for kid in ("one", "other"):
                with pytest.raises(TokenNotValid):
                    verify(forge.token(claims, forge.header(kid=kid)))
        assert verify(provider.token()).issuer == ISSUER
        assert verify(other.token(provider.claims(iss=name))).issuer == name


@pytest.mark.django_db
def test_our_key_does_not_vouch_for_others(two: Any, user: User) -> None:
    pair = sessions.start(user)
    claims = dict(verify(pair.access_token))
    from jwt_auth.runtime import current
    from jwt_auth.tokens import jws

    key = current().settings.ring.signing
    assert verify(jws.sign(claims, key, "at+jwt")).subject == str(user.pk)
    with pytest.raises(TokenNotValid):
        verify(jws.sign({**claims, "iss": ISSUER}, key, "at+jwt"))


# As the providers document them; the names of people and tenants are made up.
AUTH0 = {
    "iss": ISSUER,
    "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
    "aud": [AUDIENCE, "https://tenant.example/userinfo"],
    "azp": "my_client_id",
    "scope": "openid profile read:orders",
    "permissions": ["read:orders"],
}
KEYCLOAK = {
    "jti": "onrtac:9a1c1c2e-36c2-4c1e-8f0e-5a7f0b9a2f10",
    "iss": ISSUER,
    "aud": [AUDIENCE, "account"],
    "sub": "4c8d9a3e-7d7f-4a5b-9a54-0fcf1d0a2c11",
    "typ": "Bearer",
    "azp": "frontend",
    "sid": "1d6f1a70-38a1-4d6b-b8a2-3a4a3c1f6a58",
    "acr": "1",
    "allowed-origins": ["https://app.example"],
    "realm_access": {"roles": ["offline_access", "editors"]},
    "resource_access": {"account": {"roles": ["manage-account"]}},
    "scope": "openid email profile",
    "email_verified": True,
    "preferred_username": "ada",
}
COGNITO = {
    "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "device_key": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "cognito:groups": ["editors"],
    "iss": ISSUER,
    "version": 2,
    "client_id": "xxxxxxxxxxxxexample",
    "origin_jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "event_id": "64f513be-32db-42b0-b78e-b02127b4f463",
    "token_use": "access",
    "scope": "aws.cognito.signin.user.admin",
    "jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "username": "ada",
}

SHAPES: dict[str, tuple[dict[str, Any], Any, list[str], bool]] = {
    # claims, typ of the header, TYPES, whether it is taken
    "Auth0": (AUTH0, "JWT", ["JWT"], True),
    "Auth0, RFC 9068 profile": ({**AUTH0, "jti": "x", "client_id": "y"}, "at+jwt", [], True),
    "Auth0 where its type is not taken": (AUTH0, "JWT", [], False),
    "Keycloak": (KEYCLOAK, "JWT", ["JWT"], True),
    "Keycloak, a token for the account console": (
        {**KEYCLOAK, "aud": "account"},
        "JWT",
        ["JWT"],
        False,
    ),
    # Neither a type nor an audience: nothing says that it is meant for this service.
    "Cognito": (COGNITO, ..., ["JWT", "at+jwt"], False),
    "Cognito with a type": (COGNITO, "JWT", ["JWT"], False),
    "Cognito with a type and an audience": ({**COGNITO, "aud": AUDIENCE}, "JWT", ["JWT"], True),
}


@pytest.mark.parametrize(("claims", "typ", "types", "passes"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("algorithm", ["RS256"])
def test_the_shapes_of_known_providers(
    provider: Provider,
    client: JSONClient,
    settings: Any,
    claims: Any,
    typ: Any,
    types: list[str],
    passes: bool,
    algorithm: str,
) -> None:
    provider.forge = foreign(algorithm, kid="pVqgX0YvHV0Qe4g2ZtF1rQ0z")
    provider.publish()
    settings.DEBUG = True
    more = {"TYPES": types} if types else {}
    settings.JWT_AUTH = {"TRUSTED_ISSUERS": provider.settings(**more)}
    header = provider.forge.header(typ=typ)
    token = provider.forge.token({**provider.claims(aud=...), **claims}, header)
    answer = client.call("get", "/plain/", token=token)
    assert answer.status_code == (200 if passes else 401)
    if passes:
        assert answer.json()["pk"] == f"{ISSUER}|{claims['sub']}"


@pytest.mark.parametrize("typ", ["application/at+jwt", "at+jwt"])
def test_the_long_spelling_of_a_type(trusted: Provider, typ: str) -> None:
    assert verify(trusted.forge.token(trusted.claims(), trusted.forge.header(typ=typ)))


def test_users_of_two_issuers_are_two() -> None:
    class One:
        issuer, subject = "a", "1"

    class Other(One):
        issuer = "b"

    one, other = (TokenUser(kind()) for kind in (One, Other))  # type: ignore[arg-type]
    assert one != other
    assert one == TokenUser(One())  # type: ignore[arg-type]
    assert len({one, other}) == 2
    assert (one.pk, TokenUser(One(), among_others=True).pk) == ("1", "a|1")  # type: ignore[arg-type]


@pytest.mark.parametrize("header", [{"typ": "JWT"}, {"alg": "HS256"}, {"kid": ""}], ids=repr)
@pytest.mark.parametrize("check", [verify, async_to_sync(averify)], ids=["sync", "async"])
def test_a_header_that_is_refused_fetches_nothing(
    trusted: Provider, header: dict[str, Any], check: Any
) -> None:
    raw = trusted.forge.token(trusted.claims(), trusted.forge.header(**header))
    with pytest.raises(TokenNotValid):
        check(raw)
    assert trusted.count() == 0
