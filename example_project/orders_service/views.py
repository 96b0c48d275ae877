"""Orders, which are the same for everybody: what matters here is who may ask."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from jwt_auth.decorators import jwt_required
from jwt_auth.permissions import HasRole

ORDERS = [{"id": 1, "what": "Tea"}, {"id": 2, "what": "Oranges"}]


class OrderList(APIView):
    """``GET``: the orders, for whoever is signed in at the other service."""

    def get(self, request: Request) -> Response:
        """Answer 200 with the orders, and for whom."""
        return Response({"for": request.user.pk, "orders": ORDERS})


class Shipping(APIView):
    """``POST``: ship an order, if the other service says that one is an editor."""

    permission_classes = (HasRole("shippers"),)

    def post(self, request: Request) -> Response:
        """Answer 200."""
        return Response({"shipped": True})


@require_safe
@jwt_required
async def whoami(request: HttpRequest) -> JsonResponse:
    """Say who is calling, on the event loop."""
    user = await request.auser()
    return JsonResponse({"user": user.pk})
