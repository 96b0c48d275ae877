"""The project under test with UUID keys and sign-in by e-mail."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*(app for app in _APPS if app != "tests.child_users"), "tests.uuid_users"]
AUTH_USER_MODEL = "uuid_users.User"
