"""The project under test with a user model whose columns are those of a parent model."""

from tests.settings_derived import *  # noqa: F403

AUTH_USER_MODEL = "derived_users.Member"
