"""Who `request.user` is, what it knows without a query, and when it is refused."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.signals import got_request_exception
from django.db import OperationalError
from django.http import Http404
from django.test import RequestFactory
from django.views.debug import ExceptionReporter
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.versioning import AcceptHeaderVersioning
from rest_framework.views import APIView

from jwt_auth import sessions
from jwt_auth.authentication import JWTAuthentication, Refusal
from jwt_auth.authenticator import Verdict
from jwt_auth.errors import Rejected, Unavailable
from jwt_auth.models import LoginSession
from jwt_auth.permissions import RecentLogin
from jwt_auth.runtime import current
from jwt_auth.serializers import LoginSerializer
from jwt_auth.tokens.access import IssuedToken
from jwt_auth.tokens.claims import Claims, VerifiedClaims
from jwt_auth.users import LazyUser, TokenUser, group_names
from tests.conftest import Clock, JSONClient


class Late(Exception):
    """What the skin of these tests answers to a late refusal."""


class OnStage:
    """Where these tests look at the user."""

    def answer_late(self, refusal: Rejected | Unavailable) -> NoReturn:
        """Translate a late refusal."""
        raise Late(refusal.code)


def bearer(raw: str) -> Any:
    """Return a request with the access token *raw*."""
    return RequestFactory().get("/", headers={"Authorization": f"Bearer {raw}"})


def judge(raw: str) -> Verdict:
    """Return the verdict on the access token *raw*."""
    verdict = current().authenticator.judge(bearer(raw), "lazy")
    assert verdict is not None
    return verdict


@pytest.fixture
def verdict(user: Any) -> Verdict:
    return judge(sessions.start(user).access_token)


@pytest.fixture
def claims(verdict: Verdict) -> VerifiedClaims:
    assert verdict.claims is not None
    return verdict.claims


@pytest.fixture
def lazy(verdict: Verdict) -> Any:
    verdict.stage = OnStage()
    return verdict.user


def test_what_a_lazy_user_knows_without_a_query(
    lazy: LazyUser, user: User, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        assert bool(lazy)
        assert lazy.pk == lazy.id == user.pk
        assert lazy.is_authenticated is True
        assert lazy.is_anonymous is False
        assert isinstance(lazy, User)
        assert lazy.__class__ is User
        assert "LazyUser" in repr(lazy)
    with django_assert_num_queries(1):
        sessions_of_user = LoginSession.objects.filter(user=lazy).count()
    assert sessions_of_user == 1


TOUCHES: dict[str, Callable[[Any], Any]] = {
    "name": lambda user: user.username,
    "equality": lambda user: user == User(pk=user.pk),
    "hash": hash,
    "str": str,
    "active": lambda user: user.is_active,
    "set": lambda user: setattr(user, "first_name", "Ada"),
    "pickle": pickle.dumps,
    "copy": lambda user: copy.copy(user).username,
    "deep copy": lambda user: copy.deepcopy(user).username,
}


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_the_first_other_touch_loads_it_once(
    lazy: LazyUser, user: User, touch: Callable[[Any], Any], django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        touch(lazy)
        touch(lazy)
        assert lazy.pk == user.pk
        assert lazy.is_authenticated
        assert lazy == user


def test_a_loaded_copy_is_a_copy(lazy: LazyUser) -> None:
    str(lazy)
    for other in (copy.copy(lazy), copy.deepcopy(lazy)):
        other.first_name = "Grace"
        assert lazy.first_name == ""


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copy_of_a_user_that_is_not_loaded_keeps_its_values(
    lazy: Any, copied: Callable[[Any], Any]
) -> None:
    before = copied(lazy)
    assert before is not lazy
    lazy.first_name = "Grace"
    lazy.save()
    assert (before.first_name, lazy.first_name) == ("", "Grace")
    assert type(before) is User


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copy_of_a_refused_user_is_refused(lazy: Any, copied: Callable[[Any], Any]) -> None:
    User.objects.update(is_active=False)
    with pytest.raises(Late, match="session_ended"):
        copied(lazy)
    assert copied(lazy).is_anonymous


def test_a_changed_key_is_the_new_one(lazy: LazyUser) -> None:
    lazy.pk = 7
    assert lazy.pk == lazy.id == 7


def test_writing_by_a_lazy_user_works(lazy: LazyUser, user: User) -> None:
    lazy.first_name = "Ada"
    lazy.save()
    user.refresh_from_db()
    assert user.first_name == "Ada"


FATES: dict[str, tuple[Callable[[User], Any], str]] = {
    "deactivated in bulk": (lambda user: User.objects.update(is_active=False), "session_ended"),
    "deleted": (lambda user: user.delete(), "session_ended"),
    "deleted in bulk": (lambda user: User.objects.all().delete(), "session_ended"),
    "session ended": (lambda user: sessions.end_all(user), "session_ended"),
    "session of somebody else": (
        lambda user: LoginSession.objects.update(user=User.objects.create(username="grace")),
        "token_not_valid",
    ),
}


@pytest.mark.parametrize(("fate", "code"), FATES.values(), ids=FATES)
def test_a_late_refusal_is_the_skins_to_answer(
    lazy: LazyUser, user: User, fate: Callable[[User], Any], code: str
) -> None:
    fate(user)
    with pytest.raises(Late, match=code):
        str(lazy)
    # Said once. Who goes on holds nobody.
    assert not lazy.is_authenticated
    assert str(lazy) == "AnonymousUser"


def test_without_an_answer_to_give_the_user_is_anonymous(verdict: Verdict, user: User) -> None:
    lazy = verdict.user
    User.objects.update(is_active=False)

    assert lazy.username == ""
    assert lazy.is_authenticated is False
    assert lazy.is_anonymous is True
    assert lazy.pk is None
    assert isinstance(lazy, AnonymousUser)
    assert verdict.refusal is not None
    assert (verdict.refusal.code, verdict.claims) == ("session_ended", None)
    assert repr(verdict) == "<Verdict: session_ended>"


def test_who_comes_after_a_refusal_finds_nobody(lazy: LazyUser, verdict: Verdict) -> None:
    User.objects.update(is_active=False)
    with pytest.raises(Late):
        str(lazy)
    # As another thread does that was about to read the row.
    assert verdict.load_late().is_anonymous


def test_a_database_that_fails_late_is_no_refusal(
    lazy: LazyUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OperationalError("gone away")

    monkeypatch.setattr("django.db.models.query.QuerySet.get", fail)
    with pytest.raises(Late, match="unavailable"):
        str(lazy)


class UnderTest(APIView):
    """A DRF view whose steps a test chooses."""

    authentication_classes = [JWTAuthentication]
    permission_classes: Any = []
    during: Callable[[Request], Any] = staticmethod(lambda request: None)

    def get(self, request: Request) -> Response:
        """Do what the test wants."""
        type(self).during(request)
        return Response("fine")


def call(user: User, during: Callable[[Request], Any]) -> tuple[Any, Any]:
    """Call a view with a token of *user*; return the request and the answer."""
    request = bearer(sessions.start(user).access_token)
    view = type("View", (UnderTest,), {"during": staticmethod(during)})
    return request, view.as_view()(request)


def test_a_late_refusal_in_a_drf_view_is_401(user: User) -> None:
    def during(request: Request) -> None:
        User.objects.update(is_active=False)
        str(request.user)

    request, answer = call(user, during)

    assert (answer.status_code, answer.data["code"]) == (401, "session_ended")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'
    assert answer.headers["Cache-Control"] == "no-store"
    # An outer middleware that looks afterwards gets an answer too.
    assert request.user.is_authenticated is False


def test_after_the_view_a_refused_user_is_anonymous(user: User) -> None:
    request, answer = call(user, lambda request: User.objects.update(is_active=False))

    assert answer.status_code == 200
    assert request.user.username == ""


def deactivated(request: Request) -> None:
    """Deactivate the user unseen."""
    User.objects.update(is_active=False)


def swallow(request: Request) -> None:
    """Go on as if nothing had been."""
    deactivated(request)
    with suppress(Refusal):
        str(request.user)


def test_a_late_refusal_cannot_be_swallowed(user: User) -> None:
    _, answer = call(user, swallow)
    assert (answer.status_code, answer.data["code"]) == (401, "session_ended")


def test_a_view_that_was_called_by_another_leaves_the_others_stage(user: User) -> None:
    def during(request: Request) -> None:
        # As a view that is made of others does.
        assert UnderTest.as_view()(request._request).status_code == 200
        deactivated(request)
        assert request.user.is_staff is False, "not reached: this is refused"

    _, answer = call(user, during)
    assert (answer.status_code, answer.data["code"]) == (401, "session_ended")


@pytest.mark.parametrize("by_cookie", [False, True], ids=["header", "cookie"])
def test_a_view_cannot_swallow_the_late_refusal_of_one_it_called(
    user: User, settings: Any, by_cookie: bool
) -> None:
    settings.JWT_AUTH = {"COOKIES": {"ACCESS": "__Host-token"}}

    class Inner(UnderTest):
        def get(self, request: Request) -> Response:
            deactivated(request)
            str(request.user)
            return Response("not reached")

    class Outer(UnderTest):
        def get(self, request: Request) -> Response:
            assert Inner.as_view()(request._request).status_code == 401
            return Response("fine")

    raw = sessions.start(user).access_token
    request = RequestFactory().get("/", headers={"Cookie": f"__Host-token={raw}"})
    answer = Outer.as_view()(request if by_cookie else bearer(raw))
    assert (answer.status_code, answer.data["code"]) == (401, "session_ended")
    assert answer.headers["Cache-Control"] == "no-store"
    if by_cookie:
        assert answer.cookies["__Host-token"]["max-age"] == 0


def test_what_is_called_a_view_need_not_be_one(user: User) -> None:
    raw = sessions.start(user).access_token
    request = Request(bearer(raw), parser_context={"view": object()})
    found, _ = JWTAuthentication().authenticate(request) or (None, None)
    assert found == user


def test_what_a_cookie_showed_is_private(user: User, settings: Any) -> None:
    settings.JWT_AUTH = {"COOKIES": {"ACCESS": "__Host-token"}}
    raw = sessions.start(user).access_token
    request = RequestFactory().get("/", headers={"Cookie": f"__Host-token={raw}"})
    answer = UnderTest.as_view()(request)
    assert answer.headers["Cache-Control"] == "private"
    assert answer.headers["Vary"] == "Accept, Authorization, Cookie"
    assert "Cache-Control" not in UnderTest.as_view()(bearer(raw)).headers


def test_headers_of_a_class_stay_as_they_are(user: User) -> None:
    class Own(UnderTest):
        default_response_headers: Any = {"Vary": "Accept", "X-Mine": "1"}

    raw = sessions.start(user).access_token
    for _ in range(2):
        answer = Own.as_view()(bearer(raw))
        assert (answer.headers["X-Mine"], answer.headers["Vary"]) == ("1", "Accept, Authorization")
    with pytest.raises(ZeroDivisionError):
        type("View", (Own,), {"during": staticmethod(lambda _: 1 / 0)}).as_view()(bearer(raw))
    refused = Own.as_view()(bearer(f"{raw}x"))
    assert (refused.status_code, refused.headers["Cache-Control"]) == (401, "no-store")
    assert Own.default_response_headers == {"Vary": "Accept", "X-Mine": "1"}


def test_what_a_view_adds_to_its_headers_is_answered(user: User) -> None:
    class Adding(UnderTest):
        def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
            headers = self.headers
            super().initial(request, *args, **kwargs)
            headers["X-Mine"] = "1"

    answer = Adding.as_view()(bearer(sessions.start(user).access_token))
    assert (answer.headers["X-Mine"], answer.headers["Vary"]) == ("1", "Accept, Authorization")


def test_so_they_do_when_a_view_asks_before_it_has_any(user: User) -> None:
    class Early(UnderTest):
        default_response_headers: Any = {"X-Mine": "1"}
        permission_classes = [RecentLogin(minutes=0)]

        def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
            made = super().initialize_request(request, *args, **kwargs)
            assert made.user.is_authenticated
            return made

    answer = Early.as_view()(bearer(sessions.start(user).access_token))
    assert (answer.status_code, answer.headers["Cache-Control"]) == (401, "no-store")
    assert Early.default_response_headers == {"X-Mine": "1"}


def test_a_view_may_have_a_response_of_its_own(user: User) -> None:
    """`dispatch()` calls what it has answered by that name."""

    class Own(UnderTest):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.response: Any = None

        def get(self, request: Request) -> Response:
            self.response = Response("fine")
            deactivated(request)
            str(request.user)
            return self.response

    answer = Own.as_view()(bearer(sessions.start(user).access_token))
    assert (answer.status_code, answer.data["code"]) == (401, "session_ended")


def test_a_renderers_context_may_look_at_the_user(user: User) -> None:
    class Own(UnderTest):
        during = staticmethod(deactivated)

        def get_renderer_context(self) -> dict[str, Any]:
            return {**super().get_renderer_context(), "name": self.request.user.username}

    assert Own.as_view()(bearer(sessions.start(user).access_token)).status_code == 200


def test_many_views_that_were_called_before_leave_nothing(user: User) -> None:
    def during(request: Request) -> None:
        for _ in range(1500):
            UnderTest.as_view()(request._request)
        deactivated(request)
        str(request.user)

    _, answer = call(user, during)
    assert (answer.status_code, answer.data["code"]) == (401, "session_ended")


def test_a_view_may_call_its_own_exception_handler(user: User) -> None:
    class Own(UnderTest):
        def get(self, request: Request) -> Response:
            return self.handle_exception(exc=Http404())

    answer = Own.as_view()(bearer(sessions.start(user).access_token))
    assert answer.status_code == 404


def test_two_classes_of_one_view_raise_once(user: User) -> None:
    class Twice(Logging):
        def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
            super().initial(request, *args, **kwargs)
            JWTAuthentication().authenticate(request)

    request = bearer(sessions.start(user).access_token)
    view = type("View", (Twice,), {"during": staticmethod(not_found)})
    answer = view.as_view()(request)
    assert answer.status_code == 404
    assert request.user.is_authenticated is False


def test_a_renderer_may_be_the_first_to_ask_who_calls(user: User) -> None:
    """DRF: without `perform_authentication()` it is done at the first touch."""
    named = []

    class Renderer(JSONRenderer):
        def render(self, data: Any, media_type: Any = None, context: Any = None) -> Any:
            named.append(context["request"].user.username)
            return super().render(data, media_type, context)

    class Lazy(UnderTest):
        renderer_classes: Any = [Renderer]
        during = staticmethod(deactivated)

        def perform_authentication(self, request: Request) -> None:
            """Wait for the first touch."""

    answer = Lazy.as_view()(bearer(sessions.start(user).access_token)).render()
    assert (answer.status_code, named) == (200, [""])


class Early(UnderTest):
    """A view that looks at the user before DRF answers exceptions."""

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        made = super().initialize_request(request, *args, **kwargs)
        type(self).during(made)
        type(self).seen = made.user.username
        return made

    def get(self, request: Request) -> Response:
        """Answer with the user."""
        return Response(request.user.username)

    seen: str | None = None


class Rendered(UnderTest):
    """A view whose renderer is the first to look at the user."""

    class Renderer(JSONRenderer):
        """Looks at the user."""

        def render(self, data: Any, media_type: Any = None, context: Any = None) -> Any:
            context["view"].seen = context["request"].user.username
            return super().render(data, media_type, context)

    renderer_classes: Any = [Renderer]

    def perform_authentication(self, request: Request) -> None:
        """Leave it to the first touch, as DRF suggests."""


PLACES = [Early, Rendered]


@pytest.mark.parametrize("place", PLACES)
def test_refused_token_is_answered_wherever_it_is_met(
    user: User, place: type[UnderTest], clock: Clock
) -> None:
    expired, ended = sessions.start(user).access_token, sessions.start(user)
    clock.move(seconds=301)
    fresh = sessions.start(user)
    assert ended.session_id is not None
    assert fresh.session_id is not None
    sessions.end(fresh.session_id)
    tokens = {
        "x": "token_not_valid",
        "a b": "invalid_request",
        expired: "token_expired",
        fresh.access_token: "session_ended",
    }
    for raw, code in tokens.items():
        answer = place.as_view()(bearer(raw)).render()
        assert json.loads(answer.content)["code"] == code
        assert answer.status_code == (400 if code == "invalid_request" else 401)
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="api", error=')
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Authorization" in answer.headers["Vary"]


@pytest.mark.parametrize("place", PLACES)
def test_refused_cookie_is_deleted_wherever_it_is_met(
    db: None, settings: Any, place: type[UnderTest]
) -> None:
    settings.JWT_AUTH = {"COOKIES": {"ACCESS": "__Host-token"}}
    request = RequestFactory().get("/", headers={"Cookie": "__Host-token=x"})
    answer = place.as_view()(request).render()
    assert answer.status_code == 401
    deletion = answer.headers.get("Set-Cookie") or answer.cookies["__Host-token"].OutputString()
    assert "Max-Age=0" in deletion


@pytest.mark.parametrize("place", PLACES)
def test_unanswered_question_is_503_wherever_it_is_met(
    user: User, place: type[UnderTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> NoReturn:
        raise Unavailable

    monkeypatch.setattr("jwt_auth.authenticator.Authenticator._check", fail)
    answer = place.as_view()(bearer(sessions.start(user).access_token)).render()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_user_refused_before_a_view_begins_is_401(user: User) -> None:
    class Refused(Early):
        during = staticmethod(deactivated)

    answer = Refused.as_view()(bearer(sessions.start(user).access_token))
    assert (answer.status_code, answer.data["code"]) == (401, "session_ended")
    assert Refused.seen == ""


def test_good_token_passes_wherever_it_is_met(user: User) -> None:
    answer = Early.as_view()(bearer(sessions.start(user).access_token))
    assert (answer.status_code, answer.data, Early.seen) == (200, "ada", "ada")
    assert answer.headers["Vary"] == "Accept, Authorization"
    answer = Early.as_view()(RequestFactory().get("/"))
    assert (answer.status_code, answer.data, Early.seen) == (200, "", "")
    assert answer.headers["Vary"] == "Accept, Authorization"
    answer = Rendered.as_view()(bearer(sessions.start(user).access_token)).render()
    assert (answer.status_code, answer.content) == (200, b'"fine"')


def test_refused_token_replaces_an_earlier_error_that_is_rendered(db: None) -> None:
    class OneVersion(AcceptHeaderVersioning):
        allowed_versions = ["1"]

    class Versioned(UnderTest):
        renderer_classes: Any = [BrowsableAPIRenderer, JSONRenderer]
        versioning_class = OneVersion

    request = bearer("x")
    request.META["HTTP_ACCEPT"] = "text/html; version=no-such"
    answer = Versioned.as_view()(request).render()
    assert answer.status_code == 401
    assert b"token_not_valid" in answer.content


def test_request_of_a_view_that_never_runs_is_refused_by_hand(db: None) -> None:
    request = UnderTest().initialize_request(bearer("x"))
    with pytest.raises(Refusal):
        _ = request.user


def test_answer_of_another_view_is_not_the_own_answer(user: User) -> None:
    class Outer(Rendered):
        def get(self, request: Request) -> Response:
            self.response = UnderTest.as_view()(RequestFactory().get("/"))
            str(request.user)
            return Response("not reached")

    answer = Outer.as_view()(bearer("x"))
    assert (answer.status_code, answer.data["code"]) == (401, "token_not_valid")


def test_middleware_that_asks_a_rendered_response_finds_anonymous(db: None) -> None:
    class Lazy(Rendered):
        renderer_classes: Any = [JSONRenderer]

    answer = Lazy.as_view()(bearer("x")).render()
    assert answer.status_code == 200
    assert answer.renderer_context["request"].user.is_anonymous


def test_a_database_that_fails_late_in_a_drf_view_is_503(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OperationalError("gone away")

    def during(request: Request) -> None:
        monkeypatch.setattr("django.db.models.query.QuerySet.get", fail)
        str(request.user)

    _, answer = call(user, during)
    assert (answer.status_code, answer.data["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"


def test_a_request_made_by_hand_is_authenticated_too(user: User) -> None:
    raw = sessions.start(user).access_token
    found, claims = JWTAuthentication().authenticate(Request(bearer(raw))) or (None, None)
    assert found.pk == user.pk
    assert claims is not None
    sessions.end_all(user)
    with pytest.raises(Refusal):
        JWTAuthentication().authenticate(Request(bearer(raw)))


def test_eager_loading_refuses_before_the_view(user: User, client: JSONClient) -> None:
    token = sessions.start(user).access_token
    assert client.call("get", "/eager/", token=token).status_code == 200
    User.objects.update(is_active=False)
    assert client.call("get", "/eager/", token=token).json()["code"] == "session_ended"


def test_eager_loading_is_a_setting_too(
    user: User, client: JSONClient, settings: Any, django_assert_num_queries: Any
) -> None:
    settings.JWT_AUTH = {"LOAD_USER": "eager"}
    token = sessions.start(user).access_token
    with django_assert_num_queries(2):
        assert client.whoami(token).status_code == 200


def test_a_stateless_user_asks_for_no_row(
    user: User, client: JSONClient, django_assert_num_queries: Any
) -> None:
    token = sessions.start(user).access_token
    with django_assert_num_queries(1):
        answer = client.call("get", "/stateless/", token=token)
    assert answer.json() == {"name": str(user.pk)}


def test_a_token_user_has_no_rights(claims: VerifiedClaims, user: User) -> None:
    one = TokenUser(claims)
    assert (one.pk, one.id, str(one), one.get_username()) == (str(user.pk),) * 4
    assert one == TokenUser(claims)
    assert one != user
    assert len({one, TokenUser(claims)}) == 1
    assert one.is_authenticated
    assert [one.is_anonymous, one.is_staff, one.is_superuser] == [False] * 3
    assert [one.has_perm("a.b"), one.has_perms(["a.b"]), one.has_module_perms("a")] == [False] * 3
    asked = [one.ahas_perm("a.b"), one.ahas_perms(["a.b"]), one.ahas_module_perms("a")]
    assert [async_to_sync(_awaited)(answer) for answer in asked] == [False] * 3
    assert not hasattr(one, "no_such_thing")


async def _awaited(answer: Any) -> Any:
    return await answer


@pytest.mark.parametrize("subject", [" 1 ", "+1", "01", "1_0", "\u0661", "1.0", "x", "1" * 5000])
def test_a_user_has_one_spelling(verdict: Verdict, subject: str) -> None:
    other = VerifiedClaims(Claims({**(verdict.claims or {}), "sub": subject}))
    with pytest.raises(Rejected) as refused:
        current().accounts.lazy(other, verdict)
    assert refused.value.code == "token_not_valid"


def test_another_field_can_be_the_subject(
    user: User, settings: Any, client: JSONClient, django_assert_num_queries: Any
) -> None:
    settings.JWT_AUTH = {"USER_ID_FIELD": "username"}
    token = sessions.start(user).access_token
    claims = current().authenticator.verify(token)
    assert claims.subject == "ada"
    lazy = current().accounts.lazy(claims, judge(token))
    with django_assert_num_queries(0):
        assert lazy.username == "ada"
    assert client.whoami(token).json()["pk"] == str(user.pk)
    User.objects.update(username="countess")
    assert client.call("get", "/profile/", token=token).json()["code"] == "token_not_valid"


@pytest.fixture
def renamed(user: User, make_user: Any, settings: Any) -> Callable[[], tuple[str, User]]:
    """Return a function that returns a token of a user whose name has gone to another one."""

    def rename() -> tuple[str, User]:
        token = sessions.start(user).access_token
        User.objects.update(username="countess")
        return token, make_user("ada")

    settings.JWT_AUTH = {"USER_ID_FIELD": "username"}
    return rename


def test_name_of_a_token_is_shown_until_the_row_is_read(
    renamed: Any, client: JSONClient, django_assert_num_queries: Any
) -> None:
    """The promises name this limit: values of ``USER_ID_FIELD`` should never change hands."""
    token, _ = renamed()
    verdict = judge(token)
    verdict.stage = OnStage()
    with django_assert_num_queries(0):
        assert verdict.user.username == "ada"
    with pytest.raises(Late, match="token_not_valid"):
        str(verdict.user.email)
    for place in ("/profile/", "/active/", "/eager/"):
        answer = client.call("get", place, token=token)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")


def test_without_sessions_a_name_is_whose_it_is_now(
    renamed: Any, client: JSONClient, settings: Any
) -> None:
    """The promises name this limit: values of ``USER_ID_FIELD`` should never change hands."""
    settings.JWT_AUTH = {**settings.JWT_AUTH, "REFRESH_TOKEN_LIFETIME": None}
    token, other = renamed()
    lazy = judge(token).user
    str(lazy)
    assert lazy.pk == other.pk


def test_group_names_are_sorted(user: User) -> None:
    for name in ("b", "a"):
        user.groups.add(Group.objects.create(name=name))
    assert group_names(user) == ["a", "b"]
    assert group_names(object()) == []


class Logging(UnderTest):
    """A view whose answers are logged with the user's name."""

    def get_exception_handler(self) -> Any:
        """Look at the user in the exception handler."""
        original = super().get_exception_handler()

        def handler(error: Exception, context: Any) -> Any:
            str(context["request"].user)
            return original(error, context)

        return handler

    def finalize_response(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Look at the user when the answer is there."""
        str(request.user)
        return super().finalize_response(request, *args, **kwargs)


def not_found(request: Request) -> None:
    """Deactivate the user unseen, and fail for another reason."""
    User.objects.update(is_active=False)
    raise Http404


@pytest.mark.parametrize(
    ("during", "status"),
    [
        (lambda request: (User.objects.update(is_active=False), str(request.user)), 401),
        (not_found, 404),
        (lambda request: User.objects.update(is_active=False), 200),
    ],
    ids=["in the view", "in the exception handler", "in finalize_response"],
)
def test_who_looks_at_the_user_outside_of_the_view_makes_no_500(
    user: User, during: Callable[[Request], Any], status: int
) -> None:
    view = type("View", (Logging,), {"during": staticmethod(during)})
    answer = view.as_view()(bearer(sessions.start(user).access_token))
    assert answer.status_code == status


def test_no_token_is_in_an_error_report(
    user: User, client: JSONClient, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = sessions.start(user).access_token
    settings.DEBUG = False

    def fail(*args: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("jwt_auth.tokens.policy.Policy.check_content", fail)
    reports = []
    got_request_exception.connect(
        report := lambda sender, request, **kwargs: reports.append(
            ExceptionReporter(request, *sys.exc_info()).get_traceback_text()
        )
    )
    client.raise_request_exception = False
    assert client.whoami(token).status_code == 500
    got_request_exception.disconnect(report)
    assert "broken" in reports[0]
    assert token not in reports[0]
    assert token.split(".")[2] not in reports[0]


def test_no_key_is_in_an_error_report(
    user: User, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raw = sessions.start(user).refresh_token or ""

    def fail(*args: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("jwt_auth.tokens.jws.sign", fail)
    for call in (lambda: sessions.refresh(raw), lambda: sessions.start(user)):
        with pytest.raises(Unavailable) as failed:
            call()
        cause = failed.value.__cause__
        text = ExceptionReporter(None, type(cause), cause, cause.__traceback__).get_traceback_text()
        assert raw not in text


def test_no_repr_shows_a_secret(user: User) -> None:
    serializer = LoginSerializer(data={"username": "ada", "password": "secret words"})
    token = IssuedToken("aaa.bbb.ccc", 300)
    for one in (serializer, token, sessions.start(user)):
        text = repr(one)
        assert "secret words" not in text
        assert "aaa" not in text
        assert "eyJ" not in text
