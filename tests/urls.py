"""The URLs of the project under test."""

from django.contrib import admin
from django.urls import include, path

from tests import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("auth/", include("jwt_auth.urls")),
    path("whoami/", views.Whoami.as_view()),
    path("profile/", views.Profile.as_view()),
    path("editors/", views.Editors.as_view()),
    path("orders/", views.Orders.as_view()),
    path("either/", views.EditorsOrOrders.as_view()),
    path("active/", views.Active.as_view()),
    path("eager/", views.Eager.as_view()),
    path("stateless/", views.Stateless.as_view()),
]
