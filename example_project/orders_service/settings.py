"""Settings of a service that only verifies tokens; what belongs to `jwt_auth` is marked.

It has no database. Whom it believes is in `TRUSTED_ISSUERS`: the example next door.
"""

import os

DEBUG = True  # on one's own machine, keys may be fetched by http
SECRET_KEY = os.environ.get("SECRET_KEY", "django-insecure-for-the-orders-on-your-own-machine-only")
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "jwt_auth",  # <- jwt_auth
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "jwt_auth.authentication.JWTAuthentication",  # <- jwt_auth
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
}
NOTES_URL = os.environ.get("NOTES_URL", "http://127.0.0.1:8000")
JWT_AUTH = {  # <- jwt_auth
    "LOAD_USER": "never",
    "TRUSTED_ISSUERS": {
        "https://notes.example": {
            "JWKS_URL": f"{NOTES_URL}/auth/jwks.json",
            "REVOKED_URL": f"{NOTES_URL}/auth/revoked.jwt",
            "AUDIENCE": "orders",
            "ALGORITHMS": ["EdDSA"],
            "USER": "orders_service.people.person",
        },
    },
}

ROOT_URLCONF = "orders_service.urls"
WSGI_APPLICATION = "orders_service.wsgi.application"
ASGI_APPLICATION = "orders_service.asgi.application"
DATABASES = {}
USE_TZ = True
TIME_ZONE = "UTC"
