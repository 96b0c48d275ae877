"""What the middleware does beyond the contract: order, phases, exemptions, threads."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asgiref.sync
import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied, SynchronousOnlyOperation
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.test import AsyncClient, AsyncRequestFactory, RequestFactory
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.generic import TemplateView
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from jwt_auth import sessions
from jwt_auth.checks import check_middleware_order
from jwt_auth.decorators import jwt_exempt, jwt_required
from jwt_auth.middleware import JWTAuthenticationMiddleware
from jwt_auth.users import LazyUser, LoadedUser, TokenUser
from tests.conftest import Clock, JSONClient
from tests.skins.contract import AUTHENTICATION, LOGIN, OURS, SESSION

BELOW = [*SESSION, AUTHENTICATION, OURS]


def during(request: HttpRequest) -> HttpResponse:
    """Deactivate the user behind everybody's back, then look at them."""
    User.objects.update(is_active=False)
    return HttpResponse(request.user.get_username())


def after(request: HttpRequest) -> HttpResponse:
    """Deactivate the user behind everybody's back, and leave."""
    User.objects.update(is_active=False)
    return HttpResponse("done")


def persistent(request: HttpRequest) -> HttpResponse:
    """Go on after a refusal."""
    User.objects.update(is_active=False)
    try:
        request.user.get_username()
    except PermissionDenied:
        return HttpResponse(f"hello {request.user}")
    return HttpResponse("never")


def template(request: HttpRequest) -> HttpResponse:
    """Look at the user when the view is over and the template is rendered."""
    User.objects.update(is_active=False)
    return TemplateResponse(request, "tests/user.html", {"user": request.user})


def streaming(request: HttpRequest) -> StreamingHttpResponse:
    """Look at the user when the middleware is over too."""
    User.objects.update(is_active=False)
    return StreamingHttpResponse(str(part) for part in [request.user])


def everything(request: Any) -> HttpResponse:
    """Say what the request has."""
    return JsonResponse(
        {
            "user": type(request.user).__name__,
            "pk": str(request.user.pk),
            "auth": None if request.auth is None else request.auth.subject,
        }
    )


async def aeverything(request: Any) -> HttpResponse:
    """Say what the request has, on the event loop."""
    return everything(request)


class ByCookie(APIView):
    """A DRF view that knows nothing of tokens."""

    authentication_classes = [SessionAuthentication]
    permission_classes = [IsAuthenticated]

    def get(self, request: Request) -> Response:
        """Say who it is."""
        return Response(str(request.user))


class Public(APIView):
    """A DRF view without authentication."""

    authentication_classes: Any = ()
    permission_classes: Any = ()

    def get(self, request: Request) -> Response:
        """Say who it is."""
        return Response(str(request.user))


class Classic(View):
    """A class-based Django view."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Say who it is."""
        return HttpResponse(str(request.user))


@method_decorator(jwt_required, name="dispatch")
class Guarded(Classic):
    """A class-based view that demands a token."""

    post = Classic.get


@method_decorator(jwt_required, name="dispatch")
class AGuarded(View):
    """The same with an async handler."""

    async def get(self, request: Any) -> HttpResponse:
        """Say who it is."""
        return HttpResponse((await request.auser()).get_username())


def boom(request: HttpRequest) -> HttpResponse:
    """Deactivate the user behind everybody's back, and fail."""
    User.objects.update(is_active=False)
    raise ZeroDivisionError


def missing(request: HttpRequest) -> HttpResponse:
    """Deactivate the user behind everybody's back, and find nothing."""
    User.objects.update(is_active=False)
    raise Http404


@method_decorator(jwt_exempt, name="dispatch")
class Exempt(Classic):
    """A class-based view with tokens of its own."""


urlpatterns = [
    path("auth/", include("jwt_auth.urls")),
    path("during/", during),
    path("after/", after),
    path("persistent/", persistent),
    path("template/", template),
    path("streaming/", streaming),
    path("everything/", everything),
    path("aeverything/", aeverything),
    path("by-cookie/", ByCookie.as_view()),
    path("public/", Public.as_view()),
    path("classic/", Classic.as_view()),
    path("guarded/", Guarded.as_view()),
    path("aguarded/", AGuarded.as_view()),
    path("boom/", boom),
    path("missing/", missing),
    path("exempt/", Exempt.as_view()),
    path("page/", TemplateView.as_view(template_name="tests/user.html")),
]


@pytest.fixture(autouse=True)
def project(settings: Any) -> Any:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = BELOW
    settings.TEMPLATES = [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [
                    (
                        "django.template.loaders.locmem.Loader",
                        {"tests/user.html": "{{ user.get_username }}", "403.html": "{{ user }}"},
                    )
                ]
            },
        }
    ]
    return settings


@pytest.fixture
def token(user: User) -> str:
    return str(sessions.start(user).access_token)


class Outer:
    """A middleware that looks at the user before and after all others."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response["X-User"] = request.user.get_username()
        return response


class Early(Outer):
    """A middleware that looks at the user before the view."""

    def __call__(self, request: HttpRequest) -> HttpResponse:
        User.objects.update(is_active=False)
        assert request.user.get_username() == ""
        return self.get_response(request)


class EarlyInProcessView(Outer):
    """A middleware that looks at the user just before the view."""

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *args: Any) -> None:
        User.objects.update(is_active=False)
        request.user.get_username()


def middleware(cls: type) -> str:
    """Return the dotted path of *cls*."""
    return f"{cls.__module__}.{cls.__qualname__}"


@pytest.mark.parametrize("view", ["during", "template", "persistent"])
def test_a_late_refusal_while_the_view_runs_is_401(
    token: str, client: JSONClient, view: str
) -> None:
    answer = client.call("get", f"/{view}/", token=token)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'


@pytest.mark.parametrize("view", ["during", "after", "by-cookie", "everything"])
@pytest.mark.parametrize("where", [0, 3, 4])
def test_no_middleware_that_looks_at_the_user_makes_a_500(
    token: str, client: JSONClient, project: Any, view: str, where: int
) -> None:
    project.MIDDLEWARE = [*BELOW[:where], middleware(Outer), *BELOW[where:]]
    status = client.call("get", f"/{view}/", token=token).status_code
    # Below ours, the refusal after the view is still ours to answer.
    assert status == (401 if view == "during" or (view == "after" and where == 4) else 200)


@pytest.mark.parametrize("early", [Early, EarlyInProcessView])
@pytest.mark.parametrize("view", ["everything", "guarded"])
def test_a_refusal_before_the_view_is_answered_instead_of_it(
    token: str, client: JSONClient, project: Any, early: type, view: str
) -> None:
    project.MIDDLEWARE = [*BELOW, middleware(early)]
    answer = client.call("get", f"/{view}/", token=token)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")


def test_after_the_middleware_a_refused_user_is_anonymous(token: str, client: JSONClient) -> None:
    answer = client.call("get", "/streaming/", token=token)
    assert answer.status_code == 200
    assert answer.getvalue() == b"AnonymousUser"


def test_a_failing_database_in_the_view_is_503(
    token: str, client: JSONClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise OperationalError("gone away")

    monkeypatch.setattr("django.db.models.query.QuerySet.get", fail)
    answer = client.call("get", "/classic/", token=token)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("view", ["everything", "aeverything"])
@pytest.mark.parametrize(
    ("load_user", "kind"), [("lazy", LazyUser), ("eager", LoadedUser), ("never", TokenUser)]
)
def test_what_a_request_has(
    user: User, client: JSONClient, project: Any, view: str, load_user: str, kind: type
) -> None:
    project.JWT_AUTH = {"LOAD_USER": load_user}
    project.MIDDLEWARE = [OURS]
    token = sessions.start(user).access_token
    expected = {"user": kind.__name__, "pk": str(user.pk), "auth": str(user.pk)}
    assert client.call("get", f"/{view}/", token=token).json() == expected
    nobody = {"user": "AnonymousUser", "pk": "None", "auth": None}
    assert client.get(f"/{view}/").json() == nobody


def test_without_a_token_the_session_stays(user: User, client: JSONClient) -> None:
    client.force_login(user)
    assert client.get("/everything/").json() == {
        "user": "SimpleLazyObject",
        "pk": str(user.pk),
        "auth": None,
    }


def test_a_verified_token_costs_no_query_however_many_skins_look(
    clock: Clock, token: str, client: JSONClient, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        # The list of ended sessions, once an interval.
        assert client.call("get", "/everything/", token=token).status_code == 200
    with django_assert_num_queries(0):
        assert client.call("get", "/everything/", token=token).status_code == 200
    with django_assert_num_queries(1):
        assert client.call("get", "/guarded/", token=token).status_code == 200
    with django_assert_num_queries(1):
        assert client.call("get", "/auth/sessions/", token=token).status_code == 200
    with django_assert_num_queries(0):
        assert client.call("get", "/everything/", token="x").status_code == 401


class TestViewsThatAnswerForThemselves:
    """Exempt views, our own and those of DRF."""

    @pytest.mark.parametrize("token", ["somebody-elses", "a.b.c"])
    def test_an_exempt_view_gets_its_own_bearer(
        self, db: None, client: JSONClient, token: str
    ) -> None:
        assert client.call("get", "/exempt/", token=token).content == b"AnonymousUser"
        assert client.call("get", "/classic/", token=token).status_code == 401

    def test_not_the_sessions_user_either(self, user: User, client: JSONClient) -> None:
        client.force_login(user)
        assert client.call("get", "/exempt/", token="x").content == b"AnonymousUser"
        assert client.get("/exempt/").content == b"ada"

    def test_our_own_views_ignore_a_stale_token(self, user: User, client: JSONClient) -> None:
        pair = client.login().json()
        body = {"username": "ada", "password": " correct horse battery "}
        assert client.call("post", "/auth/login/", body, token="x").status_code == 200
        body = {"refresh_token": pair["refresh_token"]}
        assert client.call("post", "/auth/refresh/", body, token="x").status_code == 200
        assert client.call("post", "/auth/logout/", body, token="x").status_code == 204
        assert client.call("get", "/auth/jwks.json", token="x").status_code == 200

    def test_a_drf_view_by_cookie_does_not_see_the_cookie_beside_a_refused_token(
        self, user: User, client: JSONClient
    ) -> None:
        client.force_login(user)
        assert client.get("/by-cookie/").status_code == 200
        assert client.call("get", "/by-cookie/", token="x").status_code == 403
        assert client.call("get", "/public/", token="x").json() == "AnonymousUser"

    @pytest.mark.parametrize("path", ["/exempt/../classic/", "/Exempt/", "//exempt/"])
    def test_it_is_the_view_that_is_exempt_and_not_the_path(
        self, db: None, client: JSONClient, path: str
    ) -> None:
        assert client.call("get", path, token="x").status_code == 404

    def test_a_preflight_passes(self, db: None, client: JSONClient) -> None:
        assert client.options("/classic/").status_code == 200
        assert client.call("options", "/classic/", token="x").status_code == 200
        # A decorator lets nobody in, whatever the method.
        assert client.options("/guarded/").status_code == 401


def test_a_path_without_a_view_is_404(db: None, client: JSONClient) -> None:
    assert client.call("get", "/nowhere/", token="x").status_code == 404


def test_csrf_is_waived_for_verified_bearers_only(user: User, token: str, project: Any) -> None:
    client = JSONClient(enforce_csrf_checks=True)
    client.force_login(user)
    project.MIDDLEWARE = BELOW
    assert client.call("post", "/everything/", token=token).status_code == 200
    assert client.post("/everything/").status_code == 403
    assert client.call("post", "/exempt/", token="x").status_code == 403
    assert client.call("post", "/everything/", token="x").json()["code"] == "token_not_valid"
    assert client.call("post", "/guarded/", token=token).status_code == 200
    assert client.post("/guarded/").status_code == 401


@pytest.mark.parametrize(
    ("order", "ids"),
    [
        ([*SESSION, AUTHENTICATION, OURS], []),
        ([OURS], []),
        ([*SESSION, AUTHENTICATION], []),
        ([*SESSION, OURS, AUTHENTICATION], ["jwt_auth.W004"]),
        ([AUTHENTICATION, "no.such.middleware", "tests.skins.urls.who", OURS, LOGIN], []),
    ],
)
def test_a_wrong_order_is_named(project: Any, order: list[str], ids: list[str]) -> None:
    project.MIDDLEWARE = order
    assert [one.id for one in check_middleware_order()] == ids


class Cached(Outer):
    """A middleware that answers from a cache without coming to the view."""

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("cached for ada")


def test_a_refused_token_gets_nothing_from_a_cache(
    token: str, client: JSONClient, project: Any
) -> None:
    project.MIDDLEWARE = [*BELOW, middleware(Cached)]
    assert client.call("get", "/classic/", token=token).content == b"cached for ada"
    assert client.call("get", "/classic/", token="x").status_code == 401
    assert client.call("get", "/exempt/", token="x").status_code == 200
    assert client.call("get", "/nowhere/", token="x").status_code == 200


class Impersonation(Outer):
    """A middleware that makes the request somebody else's."""

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.user.is_authenticated:
            request.user = User(username="grace")
        return self.get_response(request)


def test_a_middleware_below_may_set_another_user(
    token: str, client: JSONClient, project: Any
) -> None:
    project.MIDDLEWARE = [*BELOW, middleware(Impersonation)]
    assert client.call("get", "/classic/", token=token).content == b"grace"
    assert client.call("get", "/classic/", token="x").status_code == 401


class Counting(JWTAuthenticationMiddleware):
    """A subclass with a `process_view` of its own."""

    def process_view(self, request: HttpRequest, *args: Any) -> Any:
        """Answer before the view."""
        return HttpResponse("mine", status=418)


class ACounting(JWTAuthenticationMiddleware):
    """A subclass whose `process_view` is a coroutine, for ASGI."""

    async def process_view(self, request: HttpRequest, *args: Any) -> Any:  # type: ignore[override]
        """Answer before the view."""
        return HttpResponse("mine", status=418)


def test_a_subclass_is_asked_for_its_own_process_view(
    token: str, client: JSONClient, project: Any
) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    project.MIDDLEWARE = [middleware(Counting)]
    assert client.get("/classic/", headers=headers).status_code == 418
    for one in (Counting, ACounting):
        project.MIDDLEWARE = [middleware(one)]
        answer = async_to_sync(AsyncClient().get)("/aeverything/", headers=headers)
        assert answer.status_code == 418


class TestErrors:
    """What looks at the user while an error is answered."""

    @pytest.fixture(autouse=True)
    def handlers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def handler(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            return HttpResponse(f"sorry, {request.user}", status=500 if not args else 404)

        for name in ("handler404", "handler500", "handler403"):
            monkeypatch.setattr(sys.modules[__name__], name, handler, raising=False)

    @pytest.mark.parametrize("path", ["boom", "missing"])
    def test_an_error_page_may_look_at_the_user(
        self, token: str, client: JSONClient, path: str
    ) -> None:
        client.raise_request_exception = False
        answer = client.call("get", f"/{path}/", token=token)
        assert answer.status_code == 401
        assert answer.json()["code"] == "session_ended"

    def test_a_late_refusal_is_no_error(
        self, token: str, client: JSONClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert client.call("get", "/during/", token=token).status_code == 401
        assert "Forbidden" not in caplog.text


def test_views_that_answer_for_themselves_see_nobody_late(token: str, client: JSONClient) -> None:
    User.objects.update(is_active=False)
    assert client.call("get", "/exempt/", token=token).content == b"AnonymousUser"
    answer = client.call("get", "/by-cookie/", token=token)
    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["aguarded", "guarded"])
def test_a_class_based_view_can_be_guarded(user: User, client: JSONClient, path: str) -> None:
    token = sessions.start(user).access_token
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get(f"/{path}/", headers=headers).content == b"ada"
    assert async_to_sync(AsyncClient().get)(f"/{path}/", headers=headers).content == b"ada"
    assert client.get(f"/{path}/").status_code == 401


def test_touching_the_user_on_the_event_loop_says_what_is_wrong(token: str) -> None:
    async def view(request: Any) -> HttpResponse:
        with pytest.raises(SynchronousOnlyOperation):
            request.user.get_username()
        # And the user knows as much as before.
        assert request.user.is_authenticated
        return HttpResponse(str(request.user.pk))

    @async_to_sync
    async def main() -> Any:
        handler: Any = JWTAuthenticationMiddleware(view)
        headers = {"Authorization": f"Bearer {token}"}
        return await handler(AsyncRequestFactory().get("/", headers=headers))

    assert main().status_code == 200


class Hops:
    """Counts what leaves the event loop for a thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        original = asgiref.sync.SyncToAsync.__call__

        async def counted(hop: Any, *args: Any, **kwargs: Any) -> Any:
            self.names.append(getattr(hop.func, "__qualname__", type(hop.func).__name__))
            return await original(hop, *args, **kwargs)

        monkeypatch.setattr(asgiref.sync.SyncToAsync, "__call__", counted)


class TestOnTheEventLoop:
    """The middleware alone before an async view."""

    @staticmethod
    def run(token: str, cls: Any = JWTAuthenticationMiddleware) -> tuple[set[int], str]:
        """Send one request to an async view; return the threads and the user."""
        threads = set()

        async def view(request: Any) -> HttpResponse:
            threads.add(threading.get_ident())
            return HttpResponse((await request.auser()).get_username())

        @async_to_sync
        async def main() -> str:
            threads.add(threading.get_ident())
            handler: Any = cls(view)
            assert iscoroutinefunction(handler)
            request = AsyncRequestFactory().get("/", headers={"Authorization": f"Bearer {token}"})
            response = await handler(request)
            assert await handler.process_view(request, view, (), {}) is None
            return str(response.content.decode())

        return threads, main()

    def test_one_thread_and_the_orms_own_hops(
        self, clock: Clock, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hops = Hops(monkeypatch)
        threads, name = self.run(token)
        assert name == "ada"
        assert len(threads) == 1
        # The list of ended sessions, once an interval, and the row of the user.
        assert hops.names == ["_DatabaseList.renew", "QuerySet.get"]
        hops.names.clear()
        self.run(token)
        assert hops.names == ["QuerySet.get"]

    def test_no_hop_at_all_where_nothing_is_asked(
        self, user: User, project: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        project.JWT_AUTH = {"LOAD_USER": "never", "REVOCATION_INTERVAL": None}
        token = sessions.start(user).access_token
        hops = Hops(monkeypatch)
        assert self.run(token)[1] == str(user.pk)
        assert hops.names == []

    def test_a_sync_middleware_would_cost_a_hop(
        self, user: User, client: JSONClient, project: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        project.JWT_AUTH = {"LOAD_USER": "never", "REVOCATION_INTERVAL": None}
        token = sessions.start(user).access_token
        path, headers = "/aeverything/", {"Authorization": f"Bearer {token}"}

        def hops_with(name: str) -> list[str]:
            project.MIDDLEWARE = [name]
            hops = Hops(monkeypatch)
            answer = async_to_sync(AsyncClient().get)(path, headers=headers)
            assert answer.status_code == 200
            # The test client looks at templates in a thread by itself.
            return [one for one in hops.names if "middleware" in one.lower()]

        assert hops_with(OURS) == []
        assert hops_with(middleware(SyncOnly)) != []


class SyncOnly(JWTAuthenticationMiddleware):
    """What the middleware would be without its async half."""

    async_capable = False


def test_requests_do_not_share_state(user: User, make_user: Any, project: Any) -> None:
    project.JWT_AUTH = {"LOAD_USER": "never", "REVOCATION_INTERVAL": None}
    tokens = [sessions.start(one).access_token for one in (user, make_user("grace"))]
    expected = [str(user.pk), str(User.objects.get(username="grace").pk)]
    handler = JWTAuthenticationMiddleware(lambda request: HttpResponse(request.user.pk))  # type: ignore[attr-defined]

    def call(number: int) -> bool:
        header = {"Authorization": f"Bearer {tokens[number % 2]}"}
        response: Any = handler(RequestFactory().get("/", headers=header))
        return bool(response.content.decode() == expected[number % 2])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(1000)))

    async def view(request: Any) -> HttpResponse:
        await asyncio.sleep(0)
        return HttpResponse((await request.auser()).pk)

    ahandler: Any = JWTAuthenticationMiddleware(view)

    async def acall(number: int) -> bool:
        header = {"Authorization": f"Bearer {tokens[number % 2]}"}
        response = await ahandler(AsyncRequestFactory().get("/", headers=header))
        return bool(response.content.decode() == expected[number % 2])

    @async_to_sync
    async def main() -> list[bool]:
        return await asyncio.gather(*(acall(number) for number in range(1000)))

    assert all(main())


def test_awaiting_the_user_of_a_refused_token(db: None) -> None:
    async def view(request: Any) -> HttpResponse:
        assert isinstance(await request.auser(), AnonymousUser)
        return HttpResponse("fine")

    @async_to_sync
    async def main(authorization: str) -> Any:
        handler: Any = JWTAuthenticationMiddleware(view)
        headers = {"Authorization": authorization}
        return await handler(AsyncRequestFactory().get("/", headers=headers))

    assert main("Bearer x").status_code == 200
    assert main("Basic x").status_code == 200
