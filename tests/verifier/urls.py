"""Views of a service without users."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, JsonResponse
from django.urls import path
from rest_framework.permissions import (
    BasePermission,
    DjangoModelPermissions,
    IsAdminUser,
    IsAuthenticated,
    IsAuthenticatedOrReadOnly,
)
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle, UserRateThrottle
from rest_framework.views import APIView

from jwt_auth.decorators import jwt_required, recent_login_required, role_required
from jwt_auth.permissions import ActiveUser, HasRole, RecentLogin


class Orders(APIView):
    """Answers whom it sees."""

    def get(self, request: Any) -> Response:
        """Answer 200."""
        return Response({"pk": request.user.pk, "roles": request.auth.roles})

    post = get


def wanting(*permissions: Any) -> Any:
    """Return the view for whoever has *permissions*."""
    return type("Wanting", (Orders,), {"permission_classes": permissions}).as_view()


class ModelPermissions(DjangoModelPermissions):
    """Asks the user for the permission on a model."""

    def get_required_permissions(self, method: str, model_cls: Any) -> list[str]:
        """Return one."""
        return ["orders.add_order"]

    def _queryset(self, view: Any) -> Any:
        from django.contrib.auth.models import Permission

        return Permission.objects.none()


class TwoPerHour(UserRateThrottle):
    """Counts by user."""

    rate = "2/hour"


class Scoped(ScopedRateThrottle):
    """Counts by user and scope."""

    THROTTLE_RATES = {"orders": "2/hour"}


class Throttled(Orders):
    """Wants pauses."""

    throttle_classes = (TwoPerHour,)


class ThrottledByScope(Orders):
    """Wants pauses."""

    throttle_classes = (Scoped,)
    throttle_scope = "orders"


class OnlyMine(BasePermission):
    """Asks an object."""

    def has_permission(self, request: Any, view: Any) -> bool:
        """Compare users."""
        return bool(request.user == request.user and hash(request.user))


@jwt_required
def plain(request: HttpRequest) -> JsonResponse:
    """Answer whom it sees."""
    user: Any = request.user
    return JsonResponse({"pk": user.pk, "name": user.get_username()})


@jwt_required
async def awaited(request: HttpRequest) -> JsonResponse:
    """Answer whom it sees."""
    user: Any = await request.auser()
    return JsonResponse({"pk": user.pk, "perm": await user.ahas_perm("x")})


def public(request: HttpRequest) -> JsonResponse:
    """Answer anybody."""
    user: Any = request.user
    return JsonResponse({"pk": user.pk})


urlpatterns = [
    path("orders/", Orders.as_view()),
    path("open/", wanting(IsAuthenticatedOrReadOnly)),
    path("authenticated/", wanting(IsAuthenticated)),
    path("admin/", wanting(IsAdminUser)),
    path("model/", wanting(ModelPermissions)),
    path("active/", wanting(ActiveUser)),
    path("role/", wanting(HasRole("editors"))),
    path("recent/", wanting(RecentLogin(minutes=10))),
    path("mine/", wanting(OnlyMine)),
    path("throttled/", Throttled.as_view()),
    path("scoped/", ThrottledByScope.as_view()),
    path("plain/", plain),
    path("awaited/", awaited),
    path("public/", public),
    path("plain-role/", role_required("editors")(plain)),
    path("plain-recent/", recent_login_required(minutes=10)(plain)),
]
