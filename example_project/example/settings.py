"""Settings of a project that uses `jwt_auth`; what belongs to it is marked."""

import os
from datetime import timedelta
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = True
# Good enough on one's own machine. Keys of refresh tokens are derived from it.
SECRET_KEY = os.environ.get(
    "SECRET_KEY", "django-insecure-for-the-example-on-your-own-machine-only"
)
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.staticfiles",
    "rest_framework",
    "jwt_auth",  # <- jwt_auth
    "notes",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "jwt_auth.middleware.JWTAuthenticationMiddleware",  # <- jwt_auth, for plain Django views
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "jwt_auth.authentication.JWTAuthentication",  # <- jwt_auth
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
}
# Made by `manage.py demo`. The second one is published before it signs anything, so that
# other services know it by then; EXAMPLE_ROTATED is the deployment in which it does.
KEYS = [BASE_DIR / "keys" / "first.pem", BASE_DIR / "keys" / "second.pem"]
SIGNING_KEY, VERIFYING_KEY = reversed(KEYS) if "EXAMPLE_ROTATED" in os.environ else KEYS
JWT_AUTH = {  # <- jwt_auth; every key has a default. Other services need the first four.
    "ISSUER": "https://notes.example",
    "AUDIENCE": ["notes", "orders"],
    "SIGNING_KEY": SIGNING_KEY,
    "VERIFYING_KEYS": [VERIFYING_KEY],
    # For the page: both tokens in cookies. Other clients go on with bodies and headers.
    "COOKIES": {"ACCESS": "__Host-access_token"},
    # Too short for lost answers on phones: only so that the tour need not wait for the
    # default, two minutes, until a replayed refresh token is found out.
    "REFRESH_GRACE": timedelta(seconds=2),
}

ROOT_URLCONF = "example.urls"
WSGI_APPLICATION = "example.wsgi.application"
ASGI_APPLICATION = "example.asgi.application"
TEMPLATES = [
    {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True},
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "example.sqlite3",
        # Two requests that write at once wait for each other instead of failing.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
