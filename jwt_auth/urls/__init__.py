"""``path("auth/", include("jwt_auth.urls"))``: tokens in bodies and headers, no cookies."""

from django.urls import path

from jwt_auth import views

app_name = "jwt_auth"

urlpatterns = [
    path("login/", views.LoginView.as_view(), name="login"),
    path("refresh/", views.RefreshView.as_view(), name="refresh"),
    path("logout/", views.LogoutView.as_view(), name="logout"),
    path("sessions/", views.SessionListView.as_view(), name="session-list"),
    path("sessions/<str:id>/", views.SessionDetailView.as_view(), name="session-detail"),
    path("jwks.json", views.JWKSView.as_view(), name="jwks"),
    path("revoked.jwt", views.RevokedView.as_view(), name="revoked"),
]
