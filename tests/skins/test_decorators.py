"""What the decorators do beyond the contract, and `RecentLogin` in DRF."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.contrib.auth.models import Group, User
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.test import AsyncRequestFactory, RequestFactory
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from jwt_auth import sessions
from jwt_auth.authentication import JWTAuthentication
from jwt_auth.decorators import (
    jwt_exempt,
    jwt_required,
    recent_login_required,
    role_required,
    scope_required,
)
from jwt_auth.middleware import LateRefusal
from jwt_auth.permissions import HasRole, HasScope, RecentLogin
from tests.conftest import Clock, JSONClient

DECORATORS = [
    jwt_required,
    jwt_exempt,
    role_required("editors"),
    scope_required("notes:read"),
    recent_login_required(minutes=10),
]


def view(request: HttpRequest, number: int = 0) -> HttpResponse:
    """Answer with a name and a number."""
    return HttpResponse(f"{request.user.get_username()} {number}")


async def aview(request: HttpRequest, number: int = 0) -> HttpResponse:
    """Answer with a name and a number, on the event loop."""
    return HttpResponse(f"{(await request.auser()).get_username()} {number}")


def bearer(token: str, factory: type = RequestFactory) -> Any:
    """Return a request with *token*."""
    return factory().get("/", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("decorator", DECORATORS)
def test_a_decorated_view_is_still_itself(decorator: Any) -> None:
    for one in (view, aview):
        decorated = decorator(one)
        assert decorated.__name__ == one.__name__
        assert decorated.__doc__ == one.__doc__
        assert decorated.__wrapped__ is one
        assert iscoroutinefunction(decorated) == iscoroutinefunction(one)
        assert decorated is not one


def test_arguments_of_the_url_come_through(user: User) -> None:
    token = sessions.start(user).access_token
    assert jwt_required(view)(bearer(token), number=7).content == b"ada 7"
    call = async_to_sync(jwt_required(aview))
    assert call(bearer(token, AsyncRequestFactory), 7).content == b"ada 7"


def test_stacked_decorators_judge_once(user: User, django_assert_num_queries: Any) -> None:
    stacked = jwt_required(recent_login_required(minutes=1)(jwt_required(view)))
    token = sessions.start(user).access_token
    with django_assert_num_queries(2):
        assert stacked(bearer(token)).content == b"ada 0"


def test_what_marks_an_exempt_view_is_not_left_on_the_view_itself() -> None:
    jwt_exempt(view)
    assert not hasattr(view, "jwt_exempt")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_view_that_goes_on_after_a_refusal_is_not_heard(user: User, is_async: bool) -> None:
    token = sessions.start(user).access_token

    def stubborn(request: Any) -> HttpResponse:
        User.objects.update(is_active=False)
        with pytest.raises(LateRefusal):
            str(request.user)
        return HttpResponse("went on")

    async def astubborn(request: Any) -> HttpResponse:
        await User.objects.aupdate(is_active=False)
        with pytest.raises(LateRefusal):
            await request.auser()
        return HttpResponse("went on")

    if is_async:
        answer = async_to_sync(jwt_required(astubborn))(bearer(token, AsyncRequestFactory))
    else:
        answer = jwt_required(stubborn)(bearer(token))
    assert answer.status_code == 401
    assert b"session_ended" in answer.content


def test_a_template_rendered_after_the_view_sees_nobody(user: User) -> None:
    @jwt_required
    def rendered_later(request: Any) -> HttpResponse:
        User.objects.update(is_active=False)
        return TemplateResponse(request, "x.html", {"user": request.user})

    answer = rendered_later(bearer(sessions.start(user).access_token))
    assert answer.context_data["user"].get_username() == ""


def test_an_error_of_the_view_is_the_views(user: User) -> None:
    @jwt_required
    def broken(request: Any) -> HttpResponse:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken(bearer(sessions.start(user).access_token))


class Transfer(APIView):
    """Wants a recent login."""

    authentication_classes = [JWTAuthentication]
    permission_classes: Any = [IsAuthenticated & RecentLogin(minutes=10)]

    def get(self, request: Request) -> Response:
        """Answer."""
        return Response("done")


class EditorsOrRecent(Transfer):
    """Wants an editor, or else a recent login."""

    permission_classes: Any = [HasRole("editors") | RecentLogin(minutes=10)]


class Open(Transfer):
    """Lets in by other means than a token."""

    authentication_classes: Any = ()
    permission_classes: Any = [RecentLogin(minutes=10)]


def test_a_refresh_does_not_make_a_login_recent(user: User, clock: Clock) -> None:
    pair = sessions.start(user)
    clock.move(minutes=10)
    pair = sessions.refresh(pair.refresh_token or "")
    assert Transfer.as_view()(bearer(pair.access_token)).status_code == 200

    clock.move(seconds=121)
    pair = sessions.refresh(pair.refresh_token or "")
    answer = Transfer.as_view()(bearer(pair.access_token))
    assert answer.status_code == 401
    assert answer.data["code"] == "insufficient_user_authentication"
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer realm="api", error="insufficient_user_authentication", max_age="600"'
    )
    assert answer.headers["Cache-Control"] == "no-store"


def test_recent_login_right_of_an_or(user: User, clock: Clock) -> None:
    pair = sessions.start(user)
    clock.move(minutes=4)
    answer = EditorsOrRecent.as_view()(bearer(pair.access_token))
    assert answer.status_code == 200


def test_recent_login_without_a_token(db: None) -> None:
    assert Open.as_view()(RequestFactory().get("/")).status_code == 403
    assert Transfer.as_view()(RequestFactory().get("/")).status_code == 401


@pytest.mark.parametrize("misused", [role_required, scope_required, HasRole, HasScope])
def test_forgotten_parentheses_are_said_at_once(misused: Any) -> None:
    with pytest.raises(TypeError, match="Name at least one"):
        misused(view)
    with pytest.raises(TypeError, match="Name at least one"):
        misused()


def test_a_view_that_returns_nothing_is_told_so_by_django(user: User) -> None:
    assert jwt_required(lambda request: None)(bearer(sessions.start(user).access_token)) is None


def test_a_late_refusal_undoes_what_the_view_has_done(user: User, client: JSONClient) -> None:
    def act(request: Any) -> HttpResponse:
        Group.objects.create(name="made by the view")
        User.objects.update(is_active=False)
        return HttpResponse(request.user.get_username())

    token = sessions.start(user).access_token
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        with transaction.atomic():
            assert jwt_required(act)(bearer(token)).status_code == 401
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert not Group.objects.exists()
    assert User.objects.get().is_active


def test_a_request_by_hand_has_nobody_to_raise_to(user: User) -> None:
    found, _ = JWTAuthentication().authenticate(  # type: ignore[misc]
        Request(bearer(sessions.start(user).access_token))
    )
    User.objects.update(is_active=False)
    assert found.get_username() == ""


def test_a_late_refusal_out_of_a_task_group(user: User) -> None:
    async def grouped(request: Any) -> HttpResponse:
        await User.objects.aupdate(is_active=False)
        async with asyncio.TaskGroup() as group:
            group.create_task(request.auser())
            group.create_task(request.auser())
        return HttpResponse("never")

    async def broken(request: Any) -> HttpResponse:
        raise ExceptionGroup("several", [ZeroDivisionError()])

    token = sessions.start(user).access_token
    with pytest.raises(ExceptionGroup):
        async_to_sync(jwt_required(broken))(bearer(token, AsyncRequestFactory))
    answer = async_to_sync(jwt_required(grouped))(bearer(token, AsyncRequestFactory))
    assert answer.status_code == 401


def test_whoever_signs_in_another_user_means_auser_too(user: User, make_user: Any) -> None:
    async def switching(request: Any) -> HttpResponse:
        assert await request.auser() == user
        request.user = grace
        return HttpResponse((await request.auser()).get_username())

    grace = make_user("grace")
    request = bearer(sessions.start(user).access_token, AsyncRequestFactory)
    assert async_to_sync(jwt_required(switching))(request).content == b"grace"
