"""The same views behind every skin: what they answer is who the request's user is."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.decorators import api_view, permission_classes
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from jwt_auth.decorators import (
    jwt_exempt,
    jwt_required,
    recent_login_required,
    role_required,
    scope_required,
)
from jwt_auth.permissions import HasRole, HasScope, RecentLogin

DRF = {
    "any": IsAuthenticated,
    "role": HasRole("editors", "admins"),
    "scope": HasScope("notes:read", "notes:write"),
    "recent": RecentLogin(minutes=10),
}
DECORATORS = {
    "any": jwt_required,
    "role": role_required("editors", "admins"),
    "scope": scope_required("notes:read", "notes:write"),
    "recent": recent_login_required(minutes=10),
}


def who(request: HttpRequest) -> HttpResponse:
    """Answer with the user's name, for which the row is read."""
    return JsonResponse({"user": request.user.get_username()})


async def awho(request: HttpRequest) -> HttpResponse:
    """Answer with the user's name, on the event loop."""
    user = await request.auser()
    # A token's user, once awaited, is loaded in request.user too.
    assert request.auth is None or user.get_username() == request.user.get_username()
    return JsonResponse({"user": user.get_username()})


def _drf(permission: Any) -> Any:
    @api_view(["GET", "POST"])
    @permission_classes([permission])
    def view(request: Request) -> Response:
        return Response({"user": request.user.get_username()})

    return view


async def webhook(request: HttpRequest) -> HttpResponse:
    """Read a bearer token of its own."""
    return JsonResponse({"own": request.headers["Authorization"], "user": str(request.user)})


urlpatterns = [
    path("auth/", include("jwt_auth.urls")),
    *(path(f"drf/{name}/", _drf(permission)) for name, permission in DRF.items()),
    *(path(f"plain/sync/{name}/", who) for name in DRF),
    *(path(f"plain/async/{name}/", awho) for name in DRF),
    *(path(f"decorated/sync/{name}/", guard(who)) for name, guard in DECORATORS.items()),
    *(path(f"decorated/async/{name}/", guard(awho)) for name, guard in DECORATORS.items()),
    path("exempt/sync/", csrf_exempt(jwt_exempt(who))),
    path("exempt/async/", csrf_exempt(jwt_exempt(webhook))),
]
