"""One view, once behind each app's authentication class."""

from __future__ import annotations

from typing import Any

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.authentication import JWTAuthentication as SimpleJWTAuthentication

from jwt_auth.authentication import JWTAuthentication


class Whoami(APIView):
    """Answers with the user's name."""

    def get(self, request: Request) -> Response:
        """Touch the user row, as most views do."""
        return Response({"name": request.user.get_username()})


def _view(authentication: Any) -> Any:
    return Whoami.as_view(authentication_classes=[authentication])


urlpatterns = [
    path("ours/", _view(JWTAuthentication)),
    path("simplejwt/", _view(SimpleJWTAuthentication)),
]
