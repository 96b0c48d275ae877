"""``path("auth/browser/", include("jwt_auth.urls.browser"))``: tokens in cookies."""

from django.urls import path

from jwt_auth import browser

app_name = "jwt_auth_browser"

urlpatterns = [
    path("csrf/", browser.BrowserCSRFView.as_view(), name="csrf"),
    path("login/", browser.BrowserLoginView.as_view(), name="login"),
    path("refresh/", browser.BrowserRefreshView.as_view(), name="refresh"),
    path("logout/", browser.BrowserLogoutView.as_view(), name="logout"),
    path("sessions/", browser.BrowserSessionListView.as_view(), name="session-list"),
    path("sessions/<str:id>/", browser.BrowserSessionDetailView.as_view(), name="session-detail"),
]
