"""``settings.JWT_AUTH`` → frozen `Settings`; every problem is found here.

The system checks show what `read_settings` finds, and `load_settings` raises it at
first use. Nothing is read when this module is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured

from jwt_auth.conf.cookies import CookieSettings, read_cookies
from jwt_auth.conf.database import check_database
from jwt_auth.conf.issuers import IssuerSettings, read_trusted_issuers
from jwt_auth.conf.keys import derive_keys, has_secret_key, read_encryption, read_ring
from jwt_auth.conf.rates import Rate, read_rates
from jwt_auth.conf.report import Problem, Report
from jwt_auth.tokens.access import Encryption
from jwt_auth.tokens.keys import KeyRing

__all__ = [
    "NAMES",
    "CookieSettings",
    "IssuerSettings",
    "Problem",
    "Rate",
    "Settings",
    "derive_keys",
    "load_settings",
    "read_settings",
]

NAMES = (
    "ISSUER",
    "AUDIENCE",
    "SIGNING_KEY",
    "VERIFYING_KEYS",
    "ALGORITHM",
    "ENCRYPTION_KEY",
    "DECRYPTION_KEYS",
    "ACCESS_TOKEN_LIFETIME",
    "REFRESH_TOKEN_LIFETIME",
    "SESSION_LIFETIME",
    "REFRESH_GRACE",
    "LEEWAY",
    "MAX_SESSIONS_PER_USER",
    "CLAIMS",
    "ROLES",
    "USER_ID_FIELD",
    "LOAD_USER",
    "REVOCATION_INTERVAL",
    "REVOCATION_MAX_AGE",
    "TOKEN_CACHE_SIZE",
    "COOKIES",
    "THROTTLE_RATES",
    "TRUSTED_ISSUERS",
)

TOKEN_CACHE_SIZE = 4096
LOAD_USER_MODES = ("lazy", "eager", "never")
LONGEST_LEEWAY = timedelta(seconds=300)
LONGEST_GRACE = timedelta(seconds=120)
LONG_ACCESS_LIFETIME = timedelta(hours=24)
LONG_REFRESH_LIFETIME = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Settings:
    """``JWT_AUTH``, parsed. A `refresh_lifetime` of `None` means: no sessions."""

    issuer: str | None
    audience: str | tuple[str, ...] | None
    ring: KeyRing
    encryption: Encryption | None
    access_lifetime: timedelta
    refresh_lifetime: timedelta | None
    session_lifetime: timedelta
    refresh_grace: timedelta
    leeway: timedelta
    claims: Callable[[Any, Any], Mapping[str, Any]] | None
    roles: Callable[[Any], Sequence[str]] | None
    user_id_field: str
    load_user: str
    max_sessions: int | None
    revocation_interval: timedelta | None
    revocation_max_age: timedelta
    token_cache_size: int
    trusted_issuers: Mapping[str, IssuerSettings]
    throttle_rates: Mapping[str, Rate]
    cookies: CookieSettings | None

    # Whether there are tokens of our own. A service that only verifies others', and was
    # given no key, believes nothing that is signed by a key derived from its SECRET_KEY.
    accepts_own: bool

    @property
    def sessions_on(self) -> bool:
        """Whether logins open sessions and answer with refresh tokens."""
        return self.refresh_lifetime is not None


def load_settings() -> Settings:
    """Return the settings in force.

    Raises:
        ImproperlyConfigured: they have an error; every one is named.
    """
    settings, problems = read_settings()
    if settings is None:
        errors = [f"{one.message} {one.hint}" for one in problems if one.is_fatal]
        raise ImproperlyConfigured("JWT_AUTH: " + " | ".join(errors))
    return settings


def read_settings() -> tuple[Settings | None, list[Problem]]:
    """Return the settings (`None` if one has an error) and every problem found."""
    reader = _Reader()
    settings = reader.read()
    if any(problem.is_fatal for problem in reader.problems):
        return None, reader.problems
    return settings, reader.problems


class _Reader(Report):
    """Reads the dict key by key and collects what is wrong on the way."""

    def __init__(self) -> None:
        super().__init__({}, [])
        self.raw = self._dict()

    def read(self) -> Settings | None:
        self._names()
        if not django_settings.USE_TZ:
            self.error(
                "E010",
                "USE_TZ is off: the hour of a clock change would revive and kill sessions.",
                "Set USE_TZ = True.",
            )
        if not has_secret_key():
            self.error(
                "E012",
                "SECRET_KEY is empty: the keys of refresh tokens are derived from it.",
                "Set SECRET_KEY.",
            )
        self._secret_key_fallbacks()
        access_lifetime = self.duration(
            "ACCESS_TOKEN_LIFETIME", timedelta(minutes=5), least=timedelta(seconds=1)
        )
        if access_lifetime > LONG_ACCESS_LIFETIME:
            self.warning(
                "W003",
                "ACCESS_TOKEN_LIFETIME is longer than 24 hours.",
                "Keep access tokens short and let clients refresh them.",
            )
        refresh_lifetime = self.optional_duration(
            "REFRESH_TOKEN_LIFETIME", timedelta(days=14), least=timedelta(seconds=1)
        )
        if refresh_lifetime is not None and refresh_lifetime > LONG_REFRESH_LIFETIME:
            self.warning(
                "W003",
                "REFRESH_TOKEN_LIFETIME is longer than a year.",
                "A device that nobody has used for so long has been lost or sold.",
            )
        if refresh_lifetime is not None:
            check_database(self)
        revocation_interval = self.optional_duration("REVOCATION_INTERVAL", timedelta(seconds=1))
        ring = read_ring(self) if has_secret_key() else None
        issuer = self.optional_text("ISSUER")
        # Every key is read before anything is returned, so that all problems show at once.
        values: dict[str, Any] = {
            "issuer": issuer,
            "audience": self.audience("AUDIENCE"),
            "ring": ring,
            "encryption": read_encryption(self, ring),
            "access_lifetime": access_lifetime,
            "refresh_lifetime": refresh_lifetime,
            "session_lifetime": self.duration(
                "SESSION_LIFETIME", timedelta(days=90), least=timedelta(seconds=1)
            ),
            "refresh_grace": self._grace(access_lifetime),
            "leeway": self.duration("LEEWAY", timedelta(0), most=LONGEST_LEEWAY),
            "max_sessions": self.get(
                "MAX_SESSIONS_PER_USER",
                None,
                lambda value: value is None or (type(value) is int and value > 0),
                "a number above 0, or None",
            ),
            "token_cache_size": self.get(
                "TOKEN_CACHE_SIZE",
                TOKEN_CACHE_SIZE,
                lambda value: type(value) is int and value >= 0,
                "a number from 0 on",
            ),
            "claims": self.callable("CLAIMS", None),
            "roles": self.callable("ROLES", "jwt_auth.users.group_names"),
            "load_user": self._load_user(),
            "user_id_field": self._user_id_field(),
            "revocation_interval": revocation_interval,
            "revocation_max_age": self._revocation_max_age(revocation_interval),
            "throttle_rates": read_rates(self),
            "cookies": read_cookies(self),
            "trusted_issuers": read_trusted_issuers(self, issuer),
        }
        values["accepts_own"] = (
            values["load_user"] != "never"
            or not values["trusted_issuers"]
            or bool(self.raw.get("SIGNING_KEY") or self.raw.get("VERIFYING_KEYS"))
        )
        if values["ring"] is None:
            return None
        return Settings(**values)

    def _dict(self) -> Mapping[str, Any]:
        raw = getattr(django_settings, "JWT_AUTH", {})
        if isinstance(raw, Mapping):
            return raw
        self.error(
            "E001", "JWT_AUTH is not a dict.", 'Write JWT_AUTH = {"ISSUER": …} in the settings.'
        )
        return {}

    def _names(self) -> None:
        # The dict of drf-jwt has the same name.
        djangos = [name for name in self.raw if str(name).startswith("JWT_")]
        for name in djangos:
            self.error(
                "E001",
                f"JWT_AUTH has an unknown key {str(name)[:100]!r}.",
                "This is a setting of drf-jwt, whose dict has the same name. The keys of "
                "jwt_auth have no prefix.",
            )
        self.names("JWT_AUTH", NAMES, without=djangos)

    def _secret_key_fallbacks(self) -> None:
        fallbacks = django_settings.SECRET_KEY_FALLBACKS
        if "" in fallbacks or b"" in fallbacks:
            self.error(
                "E012",
                "SECRET_KEY_FALLBACKS has an empty value: an attacker can derive keys from it.",
                "Take it out. It may come from an empty variable of the environment.",
            )
        if None in fallbacks:
            self.warning(
                "W011",
                "SECRET_KEY_FALLBACKS has None: no earlier SECRET_KEY counts.",
                "Take it out. It may come from an empty variable of the environment.",
            )

    def _grace(self, access_lifetime: timedelta) -> timedelta:
        # Beyond half of the access token's life a thief and a victim who refresh at
        # random phases would always meet inside the grace, and nobody would be found.
        most = access_lifetime / 2
        return self.duration("REFRESH_GRACE", min(LONGEST_GRACE, most), most=most)

    def _revocation_max_age(self, interval: timedelta | None) -> timedelta:
        value = self.duration("REVOCATION_MAX_AGE", timedelta(seconds=60))
        if interval is not None and value < interval:
            self.error(
                "E003",
                "REVOCATION_MAX_AGE is shorter than REVOCATION_INTERVAL.",
                "A list is renewed once per interval and has to last until then.",
            )
        return value

    def _load_user(self) -> str:
        value: str = self.get(
            "LOAD_USER",
            "lazy",
            lambda value: isinstance(value, str) and value in LOAD_USER_MODES,
            f"one of {', '.join(map(repr, LOAD_USER_MODES))}",
        )
        return value

    def _user_id_field(self) -> str:
        name: str = self.get(
            "USER_ID_FIELD", "pk", lambda value: isinstance(value, str), "the name of a field"
        )
        if name == "pk":
            return name
        try:
            field = get_user_model()._meta.get_field(name)
        except FieldDoesNotExist:
            self.error(
                "E009",
                f"USER_ID_FIELD: the user model has no field {name!r}.",
                "Name a unique field of the user model, or leave the default 'pk'.",
            )
        else:
            if not getattr(field, "unique", False) or getattr(field, "null", False):
                self.error(
                    "E009",
                    f"USER_ID_FIELD: the field {name!r} is not unique, or may be null.",
                    "A token must name one user: take a field that is unique and never null, "
                    "or the default 'pk'.",
                )
        return name
