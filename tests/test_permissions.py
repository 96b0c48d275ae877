"""Roles, scopes and the active user in DRF views."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import RequestFactory
from rest_framework.generics import RetrieveAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate

from jwt_auth import sessions
from jwt_auth.permissions import HasRole
from tests import views
from tests.conftest import JSONClient


def scopes(user: Any, request: Any) -> dict[str, Any]:
    """Give every token what the user's first name says."""
    return {"scope": user.first_name}


def roles(user: Any) -> list[str]:
    """Give no role that a group would."""
    return ["admins"]


def status(client: JSONClient, path: str, user: User) -> int:
    """Call *path* with a fresh token of *user*."""
    answer = client.call("get", path, token=sessions.start(user).access_token)
    return int(answer.status_code)


def test_a_role_is_a_group_by_default(user: User, client: JSONClient) -> None:
    assert status(client, "/editors/", user) == 403
    user.groups.add(Group.objects.create(name="editors"))
    assert status(client, "/editors/", user) == 200


def test_any_of_several_roles_is_enough(user: User, client: JSONClient, settings: Any) -> None:
    settings.JWT_AUTH = {"ROLES": "tests.test_permissions.roles"}
    assert status(client, "/editors/", user) == 200
    settings.JWT_AUTH = {"ROLES": None}
    assert status(client, "/editors/", user) == 403


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("orders:read orders:write", 200),
        ("x  orders:write orders:read", 200),
        ("orders:read", 403),
        ("orders:read,orders:write", 403),
        ("", 403),
    ],
)
def test_every_scope_is_needed(
    user: User, client: JSONClient, settings: Any, scope: str, expected: int
) -> None:
    settings.JWT_AUTH = {"CLAIMS": "tests.test_permissions.scopes"}
    user.first_name = scope
    assert status(client, "/orders/", user) == expected


@pytest.mark.parametrize("scope", [None, 7, ["orders:read", "orders:write"], {"a": 1}])
def test_a_scope_that_is_no_text_is_no_scope(
    user: User, client: JSONClient, settings: Any, scope: Any
) -> None:
    settings.JWT_AUTH = {"CLAIMS": "tests.test_permissions.scopes"}
    user.first_name = scope
    assert status(client, "/orders/", user) == 403


def test_the_refusal_says_what_is_missing(user: User, client: JSONClient) -> None:
    answer = client.call("get", "/editors/", token=sessions.start(user).access_token)
    assert answer.json() == {
        "detail": "The access token does not grant this.",
        "code": "insufficient_scope",
    }
    assert "WWW-Authenticate" not in answer.headers


def test_without_a_token_the_answer_is_401(db: None, client: JSONClient) -> None:
    answer = client.call("get", "/editors/")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api"'


def test_permissions_can_be_combined(user: User, client: JSONClient, settings: Any) -> None:
    settings.JWT_AUTH = {"CLAIMS": "tests.test_permissions.scopes"}
    user.first_name = "orders:read"
    assert status(client, "/either/", user) == 200
    user.first_name = "other"
    assert status(client, "/either/", user) == 403


@pytest.mark.parametrize("view", [views.Editors, views.Orders])
def test_a_user_who_came_another_way_has_neither_roles_nor_scopes(user: User, view: Any) -> None:
    request = APIRequestFactory().get("/")
    force_authenticate(request, user=user)
    assert view.as_view()(request).status_code == 403


def test_an_active_user_is_looked_up_before_the_view(user: User, client: JSONClient) -> None:
    token = sessions.start(user).access_token
    assert client.call("get", "/active/", token=token).status_code == 200
    User.objects.update(is_active=False)
    answer = client.call("get", "/active/", token=token)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_ended")
    assert client.call("get", "/active/").status_code == 401


class Note(RetrieveAPIView):
    """A detail view for everybody but editors."""

    permission_classes = [IsAuthenticated & ~HasRole("editors")]
    queryset = User.objects.all()

    def get(self, request: Any, pk: int) -> Response:
        """Find the object, for which permissions are asked once more."""
        return Response(str(self.get_object()))


def test_a_permission_can_be_negated_on_detail_views(user: User, settings: Any) -> None:
    def call() -> int:
        headers = {"Authorization": f"Bearer {sessions.start(user).access_token}"}
        request = RequestFactory().get("/", headers=headers)
        return int(Note.as_view()(request, pk=user.pk).status_code)

    assert call() == 200
    user.groups.add(Group.objects.create(name="editors"))
    assert call() == 403
