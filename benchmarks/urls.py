"""What is asked for.

One view for each contender, at ``/view/<name>/``; an async one of Django's at ``/async/``; the
logins of ours and simplejwt's.
"""

from django.http import JsonResponse
from django.urls import include, path
from django.utils.module_loading import import_string
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from benchmarks.contenders import Contender
from benchmarks.settings import CONTENDERS


def view_of(contender: Contender):
    """Return the view that *contender* guards: who calls is asked, and no row is touched."""
    if contender.authentication is None:
        classes, permissions = [], [AllowAny]
    else:
        classes, permissions = [import_string(contender.authentication)], [IsAuthenticated]

    class View(APIView):
        authentication_classes = classes
        permission_classes = permissions

        def get(self, request):
            return Response({"ok": True})

    return View.as_view()


async def an_async_view(request):
    return JsonResponse({"ok": True})


urlpatterns = [
    path("async/", an_async_view),
    path("auth/", include("jwt_auth.urls")),
    path("simplejwt/login/", TokenObtainPairView.as_view()),
    path("simplejwt/refresh/", TokenRefreshView.as_view()),
    *(path(f"view/{one.name}/", view_of(one)) for one in CONTENDERS),
]
