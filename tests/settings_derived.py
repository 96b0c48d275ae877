"""The project under test with a user model whose `is_active` is a property, and a parent model."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*(app for app in _APPS if app != "tests.child_users"), "tests.derived_users"]
AUTH_USER_MODEL = "derived_users.User"
