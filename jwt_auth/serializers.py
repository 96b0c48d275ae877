"""What the login view reads from its body."""

from __future__ import annotations

import traceback
from typing import Any

from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.signals import user_login_failed
from django.views.decorators.debug import sensitive_variables
from rest_framework import serializers

from jwt_auth.errors import InvalidCredentials
from jwt_auth.models import DEVICE_LENGTH
from jwt_auth.users import is_about_impossible_name, is_active

NAME_LENGTH = 254
# Hashing takes time in proportion; nobody types more.
PASSWORD_LENGTH = 4096


class _TextField(serializers.CharField):
    """Refuses lists and objects before DRF makes texts of them: that takes quadratic time."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if isinstance(data, dict | list):
            self.fail("invalid")
        return super().run_validation(data)


class LoginSerializer(serializers.Serializer[Any]):
    """Validates user name, password and device label, and finds the user.

    ``context["request"]`` is Django's own request: backends, django-axes and signal
    receivers expect that one. A subclass may ask for other fields; what the view
    takes from it is ``validated_data["user"]`` and, if present, ``["device"]``.
    """

    # Never trimmed: the whole secret is compared (NIST SP 800-63B section 5.1.1.2).
    password = _TextField(max_length=PASSWORD_LENGTH, trim_whitespace=False, write_only=True)
    device = _TextField(max_length=DEVICE_LENGTH, required=False, allow_blank=True)

    def __repr__(self) -> str:
        # DRF's own shows the data, password included.
        return f"<{type(self).__name__}>"

    def get_fields(self) -> dict[str, Any]:
        """Put the user model's ``USERNAME_FIELD`` first."""
        name = get_user_model().USERNAME_FIELD
        return {name: _TextField(max_length=NAME_LENGTH), **super().get_fields()}

    @sensitive_variables()
    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Add the user whose credentials these are.

        Raises:
            InvalidCredentials: wrong password, unknown user, or inactive user.
        """
        name = get_user_model().USERNAME_FIELD
        user = _authenticate(self.context["request"], name, attrs[name], attrs["password"])
        if user is None:
            raise InvalidCredentials("authenticate() found nobody")
        return {**attrs, "user": user}


@sensitive_variables()
def _authenticate(request: Any, field: str, name: str, password: str) -> Any:
    """Return the active user with this *name* and *password*, or `None`."""
    try:
        user = authenticate(request=request, **{field: name}, password=password)
    except Exception as error:
        forget_variables(error)
        if not is_about_impossible_name(error, name):
            raise
        # Django computes one hash for an unknown name.
        make_password(password)
        # Receivers store it, django-axes for one.
        name = name.encode("ascii", "backslashreplace").decode("ascii")[:NAME_LENGTH]
    else:
        if user is None or is_active(user):
            return user
    # An impossible name, or an inactive user whom some backends let in: Django has not sent it.
    user_login_failed.send(
        sender="django.contrib.auth",
        credentials={field: name, "password": "*" * 20},
        request=request,
    )
    return None


def forget_variables(error: BaseException) -> None:
    """Clear the variables of all functions that *error* and its causes have left.

    Django's error report shows them. `sensitive_variables` of Django's own `authenticate`
    hides the password in that function, and has the report show it in the backend below.
    """
    pending: list[BaseException | None] = [error]
    seen = set()
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        pending += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
