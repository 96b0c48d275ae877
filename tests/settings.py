"""The project under test: Django's own user model, every setting at its default."""

import os

SECRET_KEY = "tests-only-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJ"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "tests.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# One fast hasher: what is hashed how often is counted, not timed.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.admin",
    "rest_framework",
    "jwt_auth",
    "tests.child_users",
]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    },
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["jwt_auth.authentication.JWTAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
}


def _databases() -> dict[str, dict[str, object]]:
    """Return the one database that the variable ``JWT_AUTH_TEST_DATABASE`` names."""
    engine = os.environ.get("JWT_AUTH_TEST_DATABASE", "sqlite")
    if engine == "sqlite":
        return {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    if engine == "postgresql":
        return {
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "postgres",
                "USER": os.environ.get("JWT_AUTH_TEST_POSTGRESQL_USER", "postgres"),
                "PASSWORD": os.environ.get("JWT_AUTH_TEST_POSTGRESQL_PASSWORD", ""),
                "HOST": os.environ.get("JWT_AUTH_TEST_POSTGRESQL_HOST", "127.0.0.1"),
                "PORT": os.environ.get("JWT_AUTH_TEST_POSTGRESQL_PORT", "5432"),
            }
        }
    if engine == "mariadb":
        import pymysql

        # Django asks for a version of mysqlclient, for which PyMySQL stands in: it
        # needs no compiler.
        pymysql.version_info = (2, 2, 7, "final", 0)
        pymysql.install_as_MySQLdb()
        return {
            "default": {
                "ENGINE": "django.db.backends.mysql",
                "NAME": "test",
                "USER": os.environ.get("JWT_AUTH_TEST_MARIADB_USER", "root"),
                "PASSWORD": os.environ.get("JWT_AUTH_TEST_MARIADB_PASSWORD", ""),
                "HOST": os.environ.get("JWT_AUTH_TEST_MARIADB_HOST", "127.0.0.1"),
                "PORT": os.environ.get("JWT_AUTH_TEST_MARIADB_PORT", "3306"),
                "OPTIONS": {"charset": "utf8mb4"},
            }
        }
    raise ValueError(f"JWT_AUTH_TEST_DATABASE is {engine!r}; it is sqlite, postgresql or mariadb")


DATABASES = _databases()

# A cache that processes share; without it, Django's own in memory.
if "JWT_AUTH_TEST_REDIS" in os.environ:
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": os.environ["JWT_AUTH_TEST_REDIS"],
        }
    }
