"""The URLs of the example: the API of notes, and one line for `jwt_auth`."""

from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path
from notes import pages

urlpatterns = [
    path("", pages.index, name="index"),
    path("auth/", include("jwt_auth.urls")),  # <- jwt_auth
    path("auth/browser/", include("jwt_auth.urls.browser")),  # <- jwt_auth, for the page
    path(".well-known/", include("jwt_auth.urls.well_known")),  # <- jwt_auth, for verifiers
    path("api/", include("notes.urls")),
    path("titles.txt", pages.titles, name="titles"),
    path("summary/", pages.summary, name="summary"),
    path("export/", pages.export, name="export"),
    # The page's script and style, for servers that do not serve them themselves.
    *staticfiles_urlpatterns(),
]
