"""The URLs of the second service; `jwt_auth` has none here."""

from django.urls import path

from orders_service import views

urlpatterns = [
    path("orders/", views.OrderList.as_view(), name="orders"),
    path("shipping/", views.Shipping.as_view(), name="shipping"),
    path("whoami/", views.whoami, name="whoami"),
]
