"""What is asked for.

One view for each contender, at ``/view/<name>/``, and with all of DRF's own renderers at
``/rendered/<name>/``; an async one of Django's at ``/async/``; the logins of ours and simplejwt's.
"""

from collections.abc import Callable

from django.http import HttpResponseBase, JsonResponse
from django.urls import include, path
from django.utils.module_loading import import_string
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from benchmarks.contenders import Contender
from benchmarks.settings import CONTENDERS


def view_of(contender: Contender, *renderers: type):
    """Return the view that *contender* guards: who calls is asked, and no row is touched."""
    if contender.authentication is None:
        classes, permissions = [], [AllowAny]
    else:
        classes, permissions = [import_string(contender.authentication)], [IsAuthenticated]

    class View(APIView):
        authentication_classes = classes
        permission_classes = permissions
        renderer_classes = renderers

        def get(self, request):
            return Response({"ok": True})

    return View.as_view()


def views_by_name(*renderers: type) -> Callable[..., HttpResponseBase]:
    """Return what calls the view of the contender that the path names.

    Django tries the patterns of a project in turn. With one for each contender, whoever comes
    later in the list would be charged for those before.
    """
    views = {one.name: view_of(one, *renderers) for one in CONTENDERS}
    return lambda request, name: views[name](request)


async def an_async_view(request):
    return JsonResponse({"ok": True})


urlpatterns = [
    path("async/", an_async_view),
    path("auth/", include("jwt_auth.urls")),
    path("simplejwt/login/", TokenObtainPairView.as_view()),
    path("simplejwt/refresh/", TokenRefreshView.as_view()),
    path("view/<name>/", views_by_name(JSONRenderer)),
    path("rendered/<name>/", views_by_name(JSONRenderer, BrowsableAPIRenderer)),
]
