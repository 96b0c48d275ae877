"""The project under test with a user model that has next to nothing."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*(app for app in _APPS if app != "tests.child_users"), "tests.bare_users"]
AUTH_USER_MODEL = "bare_users.User"
