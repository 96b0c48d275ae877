"""Views of a project that uses the app."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from jwt_auth.authentication import JWTAuthentication
from jwt_auth.permissions import ActiveUser, HasRole, HasScope


class Whoami(APIView):
    """Answers without touching the user row."""

    permission_classes: Any = [IsAuthenticated]

    def get(self, request: Request) -> Response:
        """Answer with what the token says."""
        claims = request.auth
        return Response({"pk": str(request.user.pk), "claims": dict(claims or {})})

    post = get


class Profile(APIView):
    """Touches the user row."""

    permission_classes: Any = [IsAuthenticated]

    def get(self, request: Request) -> Response:
        """Answer with the user's name."""
        return Response({"name": request.user.get_username()})


class Editors(Whoami):
    """Wants a role."""

    permission_classes = [HasRole("editors", "admins")]


class Orders(Whoami):
    """Wants two scopes."""

    permission_classes = [HasScope("orders:read", "orders:write")]


class EditorsOrOrders(Whoami):
    """Wants one or the other."""

    permission_classes = [HasRole("editors") | HasScope("orders:read")]


class Active(Whoami):
    """Wants the row to be there and active."""

    permission_classes = [ActiveUser]


class _EagerAuthentication(JWTAuthentication):
    LOAD_USER = "eager"


class Eager(Whoami):
    """Loads the user at once."""

    authentication_classes = [_EagerAuthentication]


class _TokenUserAuthentication(JWTAuthentication):
    LOAD_USER = "never"


class Stateless(Profile):
    """Takes the user from the claims alone."""

    authentication_classes = [_TokenUserAuthentication]
