"""The URLs of the example: the API of notes, and one line for `jwt_auth`."""

from django.urls import include, path

urlpatterns = [
    path("auth/", include("jwt_auth.urls")),  # <- jwt_auth
    path("api/", include("notes.urls")),
]
