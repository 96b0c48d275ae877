"""The keys among the settings: those that sign and verify, and those that encrypt."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import salted_hmac

from jwt_auth.conf.report import Report
from jwt_auth.tokens.access import Encryption
from jwt_auth.tokens.keys import (
    ALGORITHMS,
    SECRET_LENGTHS,
    Key,
    KeyForm,
    KeyRing,
    MissingExtra,
    UnusableKey,
    identify_secret,
    load_key,
    load_secret,
)

# What startproject begins a SECRET_KEY with, which may be in a repository.
_INSECURE = b"django-insecure-"
_PATH_BEGINNINGS = ("./", "../", "~/", "file:", "http:", "https:")
_KEY_FILE_ENDINGS = (".pem", ".key", ".pub", ".der", ".crt", ".cer", ".jwk", ".json", ".txt")


def derive_keys(purpose: str, algorithm: str = "sha256") -> tuple[bytes, ...]:
    """Derive a key for *purpose* from ``SECRET_KEY`` and from each of its fallbacks.

    Keys of different purposes cannot be found from one another.
    """
    secrets = (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS)
    salt = f"jwt_auth.{purpose}"
    return tuple(
        salted_hmac(salt, "key", secret=secret, algorithm=algorithm).digest() for secret in secrets
    )


def read_ring(report: Report) -> KeyRing | None:
    """Return the keys that sign and verify; `None` and a problem if none can sign."""
    algorithm = _algorithm(report)
    verifying = list(_verifying_keys(report, algorithm))
    form = report.raw.get("SIGNING_KEY")
    if form is None:
        if algorithm is not None and algorithm not in SECRET_LENGTHS:
            report.error(
                "E004",
                f"ALGORITHM is {algorithm}, and there is no SIGNING_KEY.",
                f"Set SIGNING_KEY to a private key for {algorithm}.",
            )
            return None
        signing, *fallbacks = _derived(report, algorithm)
        report.warning(
            "W001",
            "Access tokens are signed with a key derived from SECRET_KEY.",
            "Set JWT_AUTH['SIGNING_KEY'] to a key of its own.",
            deploy=True,
        )
        return _unique(report, signing, [*fallbacks, *verifying])
    key = _key(report, "SIGNING_KEY", form, algorithm, private=True)
    if key is None:
        return None
    if algorithm is not None and key.algorithm != algorithm:
        report.error(
            "E004",
            f"ALGORITHM is {algorithm}, which SIGNING_KEY cannot serve.",
            f"Leave ALGORITHM out (this key means {key.algorithm}), or change the key.",
        )
    return _unique(report, key, verifying)


def _derived(report: Report, algorithm: str | None) -> list[Key]:
    """Return the keys that are derived from ``SECRET_KEY``, and say what is wrong with it."""
    if any(one.startswith(_INSECURE) for one in _secret_keys()):
        _insecure(report, "SECRET_KEY or a fallback")
    return derived_signing_keys(_hmac_algorithm(algorithm))


def _insecure(report: Report, name: str) -> None:
    report.error(
        "E013",
        f"{name} begins with 'django-insecure-', and access tokens are trusted by it.",
        "Take a secret that nobody knows, and this one out.",
        deploy=True,
    )


def _algorithm(report: Report) -> str | None:
    value = report.raw.get("ALGORITHM")
    if value is None or (isinstance(value, str) and value in ALGORITHMS):
        return value
    report.error(
        "E004",
        "ALGORITHM is not one that signs.",
        f"Leave ALGORITHM out, or take one of {', '.join(sorted(ALGORITHMS))}.",
    )
    return None


def _verifying_keys(report: Report, algorithm: str | None) -> Iterator[Key]:
    forms = report.get(
        "VERIFYING_KEYS",
        [],
        lambda value: isinstance(value, list | tuple),
        "a list of keys",
    )
    for position, form in enumerate(forms):
        if form is None:
            # As for SIGNING_KEY: the step from or to a key of its own.
            yield from _derived(report, algorithm)
            _none_among_keys(
                report, "VERIFYING_KEYS", "SECRET_KEY can sign access tokens, with any role"
            )
            continue
        key = _key(report, f"VERIFYING_KEYS[{position}]", form, algorithm, private=False)
        if key is not None:
            yield key


def _none_among_keys(report: Report, name: str, meaning: str) -> None:
    report.warning(
        "W011",
        f"{name} has None: {meaning}.",
        "Take it out when the change of keys is over. An empty variable of the environment is "
        "None as well.",
    )


def _key(
    report: Report, name: str, form: Any, algorithm: str | None, *, private: bool
) -> Key | None:
    def load(form: KeyForm) -> Key:
        return load_key(form, algorithm, private=private)

    key: Key | None = _loaded(report, name, form, load)
    # Of whatever form, and for whatever it is there: who knows a secret that verifies can sign.
    if key is not None and isinstance(key.verifying, bytes) and key.verifying.startswith(_INSECURE):
        _insecure(report, name)
    if key is not None and key.identity in _identities_of_secret_keys():
        # RFC 8725 section 3.5: one key, one purpose. Services that verify would have SECRET_KEY.
        report.error(
            "E018",
            f"{name} is SECRET_KEY or one of its fallbacks.",
            "Make a key of its own, or leave SIGNING_KEY out: a key that is derived from "
            "SECRET_KEY then signs.",
        )
    return key


def _loaded(report: Report, name: str, form: Any, load: Callable[[Any], Any]) -> Any:
    """Return what *load* makes of *form*, or `None` and a problem."""
    if not isinstance(form, str | bytes | Path | Mapping):
        report.error(
            "E005",
            f"{name} is of type {type(form).__name__}.",
            "A key is a secret, a PEM, a pathlib.Path to either, or a JWK as a dict.",
        )
        return None
    if isinstance(form, str) and _looks_like_a_path(form):
        report.error(
            "E005",
            f"{name} looks like a path or a URL, and would be taken as the secret itself.",
            "Write pathlib.Path(…) around a path. Keys at a URL are for TRUSTED_ISSUERS.",
        )
        return None
    if isinstance(form, Path):
        _permissions(report, name, form)
    try:
        return load(form)
    except MissingExtra as error:
        report.error("E007", f"{name}: {error}.", "")
    except UnusableKey as error:
        report.error(
            "E005",
            f"{name} cannot be used: {error}.",
            "`manage.py jwt_auth_generate_key` makes a key; see also `openssl genpkey`, and "
            "secrets.token_urlsafe(64) for a secret.",
        )
    return None


def read_encryption(report: Report, ring: KeyRing | None) -> Encryption | None:
    """Return the keys that encrypt and decrypt; `None` without any, or with a problem."""
    form = report.raw.get("ENCRYPTION_KEY")
    others = report.get(
        "DECRYPTION_KEYS",
        [],
        lambda value: isinstance(value, list | tuple),
        "a list of keys",
    )
    if form is None and "ENCRYPTION_KEY" in report.raw:
        report.warning(
            "W012",
            "ENCRYPTION_KEY is None: access tokens are not encrypted.",
            "Leave it out if that is meant. An empty variable of the environment is None as well.",
            deploy=True,
        )
    if None in others:
        _none_among_keys(report, "DECRYPTION_KEYS", "access tokens in plain are accepted")
    if form is None and not others:
        return None
    try:
        from jwt_auth.tokens import jwe
    except ImportError:
        report.error(
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
    for name, one in named:
        key: Any = _loaded(report, name, one, jwe.load_encryption_key)
        if key is None:
            return None
        # RFC 8725 section 3.5: one key, one purpose.
        is_signing = ring is not None and key.identity in ring.identities
        if is_signing or key.identity in _identities_of_secret_keys():
            report.error(
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
        report.error(
            "E006",
            "Two keys that decrypt have the same kid, or are the same.",
            "List each key once, in ENCRYPTION_KEY or in DECRYPTION_KEYS.",
        )
    # `None` among them is what it is as ENCRYPTION_KEY: no encryption.
    return jwe.EncryptionRing(encrypting, keys, takes_plain=encrypting is None or None in others)


def _permissions(report: Report, name: str, path: Path) -> None:
    try:
        mode, data = path.stat().st_mode, path.read_bytes()
    except (OSError, ValueError):
        # Said when the key is loaded.
        return
    # A public key may be read by anybody, and other systems have no such bits.
    is_public = b"-----BEGIN" in data and b"PRIVATE KEY-----" not in data
    if os.name == "posix" and mode & 0o077 and not is_public:
        report.warning(
            "W005",
            f"{name}: the key file can be read by others than its owner.",
            "chmod 600 it.",
        )


def _unique(report: Report, signing: Key, others: Sequence[Key]) -> KeyRing:
    kids, identities = {signing.kid}, {signing.identity}
    for key in others:
        if key.kid in kids or key.identity in identities:
            report.error(
                "E006",
                f"Two keys have the kid {key.kid!r}, or are the same.",
                "List each key once, in SIGNING_KEY or in VERIFYING_KEYS.",
            )
        kids.add(key.kid)
        identities.add(key.identity)
    return KeyRing(signing, others)


def _hmac_algorithm(algorithm: str | None) -> str:
    return algorithm if algorithm in SECRET_LENGTHS else "HS256"


def derived_signing_keys(algorithm: str) -> list[Key]:
    """Return the HMAC keys for *algorithm* from ``SECRET_KEY`` and its fallbacks.

    A fallback that repeats ``SECRET_KEY``, as in the middle of a rotation, counts once.
    """
    derived = derive_keys("access_token", f"sha{algorithm.removeprefix('HS')}")
    return [load_secret(secret, algorithm) for secret in dict.fromkeys(derived)]


def _secret_keys() -> list[bytes]:
    """Return ``SECRET_KEY`` and its fallbacks; a verifier may have none."""
    values: list[Any] = [django_settings.SECRET_KEY] if has_secret_key() else []
    values += django_settings.SECRET_KEY_FALLBACKS
    texts = [one.encode("utf-8", "ignore") if isinstance(one, str) else one for one in values]
    return [one for one in texts if isinstance(one, bytes)]


def _identities_of_secret_keys() -> set[str]:
    """Return the identities that keys made of ``SECRET_KEY`` or a fallback have."""
    return set(map(identify_secret, _secret_keys()))


def has_secret_key() -> bool:
    """Tell whether ``SECRET_KEY`` has a value."""
    try:
        return bool(django_settings.SECRET_KEY)
    except ImproperlyConfigured:
        return False


def _looks_like_a_path(text: str) -> bool:
    if "\n" in text:
        return False
    if text.endswith(_KEY_FILE_ENDINGS) or text.startswith(_PATH_BEGINNINGS):
        return True
    # A random secret in base64 may begin with a slash; a file that is there decides.
    return text.startswith("/") and os.path.isfile(text)
