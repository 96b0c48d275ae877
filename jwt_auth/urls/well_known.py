"""``path(".well-known/", include("jwt_auth.urls.well_known"))``: what verifiers look for."""

from django.urls import path

from jwt_auth import views

app_name = "jwt_auth_well_known"

urlpatterns = [
    path("jwks.json", views.JWKSView.as_view(), name="jwks"),
    path("oauth-authorization-server", views.MetadataView.as_view(), name="metadata"),
]
