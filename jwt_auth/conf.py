"""``settings.JWT_AUTH`` → frozen `Settings`; every problem is found here.

The system checks show what `read_settings` finds, and `load_settings` raises it at
first use. Nothing is read when this module is imported.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.utils.crypto import salted_hmac
from django.utils.module_loading import import_string

from jwt_auth.tokens.access import Encryption
from jwt_auth.tokens.keys import (
    ALGORITHMS,
    SECRET_LENGTHS,
    Key,
    KeyForm,
    KeyRing,
    MissingExtra,
    UnusableKey,
    load_key,
    load_secret,
)

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

# What belongs to a later release: each setting with the only values it takes now.
_OFF: dict[str, Sequence[Any]] = {
    "TOKEN_CACHE_SIZE": [0],
    "COOKIES": [None],
    "THROTTLE_RATES": [None],
    "TRUSTED_ISSUERS": [{}],
}

LOAD_USER_MODES = ("lazy", "eager", "never")
LONGEST_LEEWAY = timedelta(seconds=300)
LONGEST_GRACE = timedelta(seconds=120)
# Beyond this a duration is a mistake, and `now` plus it may be no datetime.
LONGEST_DURATION = timedelta(days=36_500)
LONG_ACCESS_LIFETIME = timedelta(hours=24)
_KEY_FILE_ENDINGS = (".pem", ".key", ".pub", ".der", ".crt", ".cer", ".jwk", ".json", ".txt")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the settings. `id` ends in E… (error) or W… (warning).

    With `deploy` it is wrong in production alone: ``check --deploy`` tells.
    """

    id: str
    message: str
    hint: str
    deploy: bool = False

    @property
    def is_error(self) -> bool:
        """Whether it is more than a warning."""
        return self.id.startswith("jwt_auth.E")

    @property
    def is_fatal(self) -> bool:
        """Whether the app cannot work like this."""
        return self.is_error and not self.deploy


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


def derive_keys(purpose: str, algorithm: str = "sha256") -> tuple[bytes, ...]:
    """Derive a key for *purpose* from ``SECRET_KEY`` and from each of its fallbacks.

    Keys of different purposes cannot be found from one another.
    """
    secrets = (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS)
    salt = f"jwt_auth.{purpose}"
    return tuple(
        salted_hmac(salt, "key", secret=secret, algorithm=algorithm).digest() for secret in secrets
    )


class _Reader:
    """Reads the dict key by key and collects what is wrong on the way."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.raw: Mapping[str, Any] = self._dict()

    def read(self) -> Settings | None:
        self._names()
        self._later_features()
        if not django_settings.USE_TZ:
            self._error(
                "E010",
                "USE_TZ is off: the hour of a clock change would revive and kill sessions.",
                "Set USE_TZ = True.",
            )
        has_secret_key = _has_secret_key()
        if not has_secret_key:
            self._error(
                "E012",
                "SECRET_KEY is empty: the keys of refresh tokens are derived from it.",
                "Set SECRET_KEY.",
            )
        access_lifetime = self._duration(
            "ACCESS_TOKEN_LIFETIME", timedelta(minutes=5), least=timedelta(seconds=1)
        )
        if access_lifetime > LONG_ACCESS_LIFETIME:
            self._warning(
                "W003",
                "ACCESS_TOKEN_LIFETIME is longer than 24 hours.",
                "Keep access tokens short and let clients refresh them.",
            )
        revocation_interval = self._optional_duration("REVOCATION_INTERVAL", timedelta(seconds=1))
        ring = self._ring() if has_secret_key else None
        # Every key is read before anything is returned, so that all problems show at once.
        values: dict[str, Any] = {
            "issuer": self._optional_text("ISSUER"),
            "audience": self._audience(),
            "ring": ring,
            "encryption": self._encryption(ring),
            "access_lifetime": access_lifetime,
            "refresh_lifetime": self._optional_duration(
                "REFRESH_TOKEN_LIFETIME", timedelta(days=14), least=timedelta(seconds=1)
            ),
            "session_lifetime": self._duration(
                "SESSION_LIFETIME", timedelta(days=90), least=timedelta(seconds=1)
            ),
            "refresh_grace": self._grace(access_lifetime),
            "leeway": self._duration("LEEWAY", timedelta(0), most=LONGEST_LEEWAY),
            "max_sessions": self._get(
                "MAX_SESSIONS_PER_USER",
                None,
                lambda value: value is None or (type(value) is int and value > 0),
                "a number above 0, or None",
            ),
            "claims": self._callable("CLAIMS", None),
            "roles": self._callable("ROLES", "jwt_auth.users.group_names"),
            "load_user": self._load_user(),
            "user_id_field": self._user_id_field(),
            "revocation_interval": revocation_interval,
            "revocation_max_age": self._revocation_max_age(revocation_interval),
        }
        if values["ring"] is None:
            return None
        return Settings(**values)

    def _dict(self) -> Mapping[str, Any]:
        raw = getattr(django_settings, "JWT_AUTH", {})
        if isinstance(raw, Mapping):
            return raw
        self._error(
            "E001", "JWT_AUTH is not a dict.", 'Write JWT_AUTH = {"ISSUER": …} in the settings.'
        )
        return {}

    def _names(self) -> None:
        for name in self.raw:
            if name in NAMES:
                continue
            if str(name).startswith("JWT_"):
                hint = (
                    "This is a setting of drf-jwt, whose dict has the same name. The keys of "
                    "jwt_auth have no prefix."
                )
            elif close := difflib.get_close_matches(str(name), NAMES, n=1):
                hint = f"Did you mean {close[0]}?"
            else:
                hint = f"The keys are {', '.join(NAMES)}."
            self._error("E001", f"JWT_AUTH has an unknown key {str(name)[:100]!r}.", hint)

    def _later_features(self) -> None:
        for name, values in _OFF.items():
            # By type too: `False == 0`, and False is no duration.
            if name in self.raw and not any(
                type(self.raw[name]) is type(value) and self.raw[name] == value for value in values
            ):
                self._error(
                    "E011",
                    f"{name} is not available in this release.",
                    f"Leave {name} out of JWT_AUTH.",
                )

    def _get(self, name: str, default: Any, fits: Callable[[Any], bool], expected: str) -> Any:
        value = self.raw.get(name, default)
        if fits(value):
            return value
        self._error(
            "E002", f"{name} is of type {type(value).__name__}.", f"Give {expected} for {name}."
        )
        return default

    def _optional_text(self, name: str) -> Any:
        return self._get(
            name,
            None,
            lambda value: value is None or _is_text(value),
            "a non-empty string, or None",
        )

    def _audience(self) -> str | tuple[str, ...] | None:
        def fits(value: Any) -> bool:
            if value is None or isinstance(value, str):
                return value is None or _is_text(value)
            return isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_text, value))

        value = self._get("AUDIENCE", None, fits, "a string, a list of strings, or None")
        return value if value is None or isinstance(value, str) else tuple(value)

    def _duration(
        self,
        name: str,
        default: timedelta,
        *,
        least: timedelta = timedelta(0),
        most: timedelta = LONGEST_DURATION,
    ) -> timedelta:
        value = self.raw.get(name, default)
        if type(value) is int and value == 0 and least == timedelta(0):
            value = timedelta(0)
        if not isinstance(value, timedelta):
            self._error(
                "E002",
                f"{name} is of type {type(value).__name__}.",
                f"Give a datetime.timedelta for {name}.",
            )
            return default
        if not least <= value <= most:
            self._error(
                "E003", f"{name} is {value}.", f"{name} is at least {least} and at most {most}."
            )
            return default
        return value

    def _optional_duration(
        self, name: str, default: timedelta, *, least: timedelta = timedelta(0)
    ) -> timedelta | None:
        if self.raw.get(name, default) is None:
            return None
        return self._duration(name, default, least=least)

    def _grace(self, access_lifetime: timedelta) -> timedelta:
        # Beyond half of the access token's life a thief and a victim who refresh at
        # random phases would always meet inside the grace, and nobody would be found.
        most = access_lifetime / 2
        return self._duration("REFRESH_GRACE", min(LONGEST_GRACE, most), most=most)

    def _revocation_max_age(self, interval: timedelta | None) -> timedelta:
        value = self._duration("REVOCATION_MAX_AGE", timedelta(seconds=60))
        if interval is not None and value < interval:
            self._error(
                "E003",
                "REVOCATION_MAX_AGE is shorter than REVOCATION_INTERVAL.",
                "A list is renewed once per interval and has to last until then.",
            )
        return value

    def _callable(self, name: str, default: str | None) -> Any:
        path = self._get(
            name,
            default,
            lambda value: value is None or isinstance(value, str),
            "a dotted path, or None",
        )
        if path is None:
            return None
        try:
            found = import_string(path)
        except (ImportError, ValueError) as error:
            self._error("E008", f"{name}: {error}", "Give the dotted path of a function.")
            return None
        if not callable(found):
            self._error(
                "E008", f"{name}: {path} cannot be called.", "Give the dotted path of a function."
            )
            return None
        return found

    def _load_user(self) -> str:
        value: str = self._get(
            "LOAD_USER",
            "lazy",
            lambda value: isinstance(value, str) and value in LOAD_USER_MODES,
            f"one of {', '.join(map(repr, LOAD_USER_MODES))}",
        )
        return value

    def _user_id_field(self) -> str:
        name: str = self._get(
            "USER_ID_FIELD", "pk", lambda value: isinstance(value, str), "the name of a field"
        )
        if name == "pk":
            return name
        try:
            field = get_user_model()._meta.get_field(name)
        except FieldDoesNotExist:
            self._error(
                "E009",
                f"USER_ID_FIELD: the user model has no field {name!r}.",
                "Name a unique field of the user model, or leave the default 'pk'.",
            )
        else:
            if not getattr(field, "unique", False) or getattr(field, "null", False):
                self._error(
                    "E009",
                    f"USER_ID_FIELD: the field {name!r} is not unique, or may be null.",
                    "A token must name one user: take a field that is unique and never null, "
                    "or the default 'pk'.",
                )
        return name

    def _ring(self) -> KeyRing | None:
        algorithm = self._algorithm()
        verifying = list(self._verifying_keys(algorithm))
        form = self.raw.get("SIGNING_KEY")
        if form is None:
            if algorithm is not None and algorithm not in SECRET_LENGTHS:
                self._error(
                    "E004",
                    f"ALGORITHM is {algorithm}, and there is no SIGNING_KEY.",
                    f"Set SIGNING_KEY to a private key for {algorithm}.",
                )
                return None
            self._insecure(django_settings.SECRET_KEY)
            self._warning(
                "W001",
                "Access tokens are signed with a key derived from SECRET_KEY.",
                "Set JWT_AUTH['SIGNING_KEY'] to a key of its own.",
                deploy=True,
            )
            signing, *fallbacks = derived_signing_keys(_hmac_algorithm(algorithm))
            return self._unique(signing, [*fallbacks, *verifying])
        self._insecure(form)
        key = self._key("SIGNING_KEY", form, algorithm, private=True)
        if key is None:
            return None
        if algorithm is not None and key.algorithm != algorithm:
            self._error(
                "E004",
                f"ALGORITHM is {algorithm}, which SIGNING_KEY cannot serve.",
                f"Leave ALGORITHM out (this key means {key.algorithm}), or change the key.",
            )
        return self._unique(key, verifying)

    def _insecure(self, secret: Any) -> None:
        text = secret.decode("utf-8", "ignore") if isinstance(secret, bytes) else secret
        if isinstance(text, str) and text.startswith("django-insecure-"):
            self._error(
                "E013",
                "Access tokens are trusted by, or by a key derived from, a SECRET_KEY that begins "
                "with 'django-insecure-'.",
                "Set SECRET_KEY to a secret value, or JWT_AUTH['SIGNING_KEY'].",
                deploy=True,
            )

    def _algorithm(self) -> str | None:
        value = self.raw.get("ALGORITHM")
        if value is None or (isinstance(value, str) and value in ALGORITHMS):
            return value
        self._error(
            "E004",
            "ALGORITHM is not one that signs.",
            f"Leave ALGORITHM out, or take one of {', '.join(sorted(ALGORITHMS))}.",
        )
        return None

    def _verifying_keys(self, algorithm: str | None) -> Iterator[Key]:
        forms = self._get(
            "VERIFYING_KEYS",
            [],
            lambda value: isinstance(value, list | tuple),
            "a list of keys",
        )
        for position, form in enumerate(forms):
            if form is None:
                # As for SIGNING_KEY: the step from or to a key of its own.
                self._insecure(django_settings.SECRET_KEY)
                yield from derived_signing_keys(_hmac_algorithm(algorithm))
                continue
            key = self._key(f"VERIFYING_KEYS[{position}]", form, algorithm, private=False)
            if key is not None:
                yield key

    def _key(self, name: str, form: Any, algorithm: str | None, *, private: bool) -> Key | None:
        def load(form: KeyForm) -> Key:
            return load_key(form, algorithm, private=private)

        key: Key | None = self._loaded(name, form, load)
        return key

    def _loaded(self, name: str, form: Any, load: Callable[[Any], Any]) -> Any:
        """Return what *load* makes of *form*, or `None` and a problem."""
        if not isinstance(form, str | bytes | Path | Mapping):
            self._error(
                "E005",
                f"{name} is of type {type(form).__name__}.",
                "A key is a secret, a PEM, a pathlib.Path to either, or a JWK as a dict.",
            )
            return None
        if isinstance(form, str) and _looks_like_a_path(form):
            self._error(
                "E005",
                f"{name} looks like the path of a file, and would be taken as the secret itself.",
                "Write pathlib.Path(…) around it.",
            )
            return None
        if isinstance(form, Path):
            self._permissions(name, form)
        try:
            return load(form)
        except MissingExtra as error:
            self._error("E007", f"{name}: {error}.", "")
        except UnusableKey as error:
            self._error(
                "E005",
                f"{name} cannot be used: {error}.",
                "See `openssl genpkey`, or secrets.token_urlsafe(64) for a secret.",
            )
        return None

    def _encryption(self, ring: KeyRing | None) -> Encryption | None:
        form = self.raw.get("ENCRYPTION_KEY")
        others = self._get(
            "DECRYPTION_KEYS",
            [],
            lambda value: isinstance(value, list | tuple),
            "a list of keys",
        )
        if form is None and not others:
            return None
        try:
            from jwt_auth.tokens import jwe
        except ImportError:
            self._error(
                "E007",
                "ENCRYPTION_KEY and DECRYPTION_KEYS need an extra: "
                "pip install 'django-jwt-sessions[jwe]'.",
                "",
            )
            return None
        named = [("ENCRYPTION_KEY", form)] if form is not None else []
        named += [
            (f"DECRYPTION_KEYS[{position}]", one)
            for position, one in enumerate(others)
            if one is not None
        ]
        keys = []
        secret_keys = _secret_keys()
        for name, one in named:
            key: Any = self._loaded(name, one, jwe.load_encryption_key)
            if key is None:
                return None
            # RFC 8725 section 3.5: one key, one purpose.
            is_signing = ring is not None and key.identity in ring.identities
            if is_signing or one in secret_keys:
                self._error(
                    "E014",
                    f"{name} is a signing key or SECRET_KEY as well.",
                    "Make a key of its own: whoever gets to know one must not have the other.",
                )
            keys.append(key)
        encrypting = keys.pop(0) if form is not None else None
        ring_keys = [*keys, encrypting] if encrypting else keys
        if any(
            len(set(names)) < len(ring_keys)
            for names in ([key.kid for key in ring_keys], [key.identity for key in ring_keys])
        ):
            self._error(
                "E006",
                "Two keys that decrypt have the same kid, or are the same.",
                "List each key once, in ENCRYPTION_KEY or in DECRYPTION_KEYS.",
            )
        # `None` among them is what it is as ENCRYPTION_KEY: no encryption.
        return jwe.EncryptionRing(
            encrypting, keys, takes_plain=encrypting is None or None in others
        )

    def _permissions(self, name: str, path: Path) -> None:
        try:
            mode, data = path.stat().st_mode, path.read_bytes()
        except (OSError, ValueError):
            # Said when the key is loaded.
            return
        # A public key may be read by anybody, and other systems have no such bits.
        is_public = b"-----BEGIN" in data and b"PRIVATE KEY-----" not in data
        if os.name == "posix" and mode & 0o077 and not is_public:
            self._warning(
                "W005",
                f"{name}: the key file can be read by others than its owner.",
                "chmod 600 it.",
            )

    def _unique(self, signing: Key, others: Sequence[Key]) -> KeyRing:
        kids, identities = {signing.kid}, {signing.identity}
        for key in others:
            if key.kid in kids or key.identity in identities:
                self._error(
                    "E006",
                    f"Two keys have the kid {key.kid!r}, or are the same.",
                    "List each key once, in SIGNING_KEY or in VERIFYING_KEYS.",
                )
            kids.add(key.kid)
            identities.add(key.identity)
        return KeyRing(signing, others)

    def _error(self, number: str, message: str, hint: str, *, deploy: bool = False) -> None:
        self.problems.append(Problem(f"jwt_auth.{number}", message, hint, deploy=deploy))

    def _warning(self, number: str, message: str, hint: str, *, deploy: bool = False) -> None:
        self.problems.append(Problem(f"jwt_auth.{number}", message, hint, deploy=deploy))


def _hmac_algorithm(algorithm: str | None) -> str:
    return algorithm if algorithm in SECRET_LENGTHS else "HS256"


def derived_signing_keys(algorithm: str) -> list[Key]:
    """Return the HMAC keys for *algorithm* from ``SECRET_KEY`` and its fallbacks.

    A fallback that repeats ``SECRET_KEY``, as in the middle of a rotation, counts once.
    """
    derived = derive_keys("access_token", f"sha{algorithm.removeprefix('HS')}")
    return [load_secret(secret, algorithm) for secret in dict.fromkeys(derived)]


def _secret_keys() -> list[Any]:
    """Return ``SECRET_KEY`` and its fallbacks, as text and as bytes; a verifier may have none."""
    values: list[Any] = [django_settings.SECRET_KEY] if _has_secret_key() else []
    values += django_settings.SECRET_KEY_FALLBACKS
    return values + [one.encode("utf-8", "ignore") for one in values if isinstance(one, str)]


def _has_secret_key() -> bool:
    try:
        return bool(django_settings.SECRET_KEY)
    except ImproperlyConfigured:
        return False


def _is_text(value: Any) -> bool:
    """Tell whether *value* is a non-empty string that a token can hold."""
    if not isinstance(value, str):
        return False
    # A lone surrogate is no text: it has no UTF-8.
    return value != "" and value == value.encode("utf-8", "ignore").decode("utf-8")


def _looks_like_a_path(text: str) -> bool:
    if "\n" in text:
        return False
    if text.endswith(_KEY_FILE_ENDINGS) or text.startswith(("./", "../", "~/", "file:")):
        return True
    # A random secret in base64 may begin with a slash; a file that is there decides.
    return text.startswith("/") and os.path.isfile(text)
