"""The project under test with UUID keys and sign-in by e-mail."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "tests.uuid_users"]
AUTH_USER_MODEL = "uuid_users.User"
