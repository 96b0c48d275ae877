"""The user's life: deactivated, deleted, or with a new password, the sessions end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import is_password_usable
from django.db import models, router, transaction
from django.db.models.signals import post_save, pre_delete, pre_save

from jwt_auth import sessions
from jwt_auth.models import LoginSession
from jwt_auth.runtime import current
from jwt_auth.users import is_active

_REVEALING = frozenset({"password", "is_active"})


def connect() -> None:
    """Connect the receivers. Called once, when all models are loaded."""
    pre_save.connect(user_about_to_be_saved, dispatch_uid="jwt_auth.user_about_to_be_saved")
    post_save.connect(user_saved, dispatch_uid="jwt_auth.user_saved")
    # By sender, for the user model and its proxies: a receiver of every model's
    # pre_delete would make Django load rows that it can delete by one statement.
    user_model = get_user_model()
    for model in apps.get_models(include_auto_created=True):
        # Not for children in tables of their own: with one of those the user is
        # deleted as well and has a signal of its own, or stays.
        if model._meta.concrete_model is user_model._meta.concrete_model:
            pre_delete.connect(
                user_deleted,
                sender=model,
                dispatch_uid=f"jwt_auth.user_deleted.{model._meta.label}",
            )


def user_about_to_be_saved(
    sender: type[models.Model],
    instance: models.Model,
    raw: bool,
    update_fields: frozenset[str] | None,
    using: str,
    **kwargs: Any,
) -> None:
    """Note the new hash of the same password, before anybody can see it.

    Afterwards would be too late: a refresh between the two would find another
    password. Sessions that were opened under an older password stay what they are.
    """
    if raw or not _is_rehash(instance, update_fields) or not _sessions_are_ours(using):
        return
    stored = sender._base_manager.using(using).filter(pk=instance.pk)
    for old_hash in stored.values_list("password", flat=True):
        sessions.note_rehash(instance, old_hash)


def user_saved(
    instance: models.Model,
    created: bool,
    raw: bool,
    update_fields: frozenset[str] | None,
    using: str,
    **kwargs: Any,
) -> None:
    """End the sessions that a saved user may no longer have.

    One query, and none for a save that names its fields and names neither
    ``password`` nor ``is_active``. Without sender: children and proxies of the user
    model send their own class.
    """
    if created or raw or not isinstance(instance, get_user_model()):
        return
    if update_fields is not None and _REVEALING.isdisjoint(update_fields):
        return
    if not _sessions_are_ours(using):
        return
    if _is_rehash(instance, update_fields):
        # Said once: what is stored later by the same fields is another password.
        instance.__dict__.pop("_password", None)
    elif not is_active(instance):
        _now_and_after_commit(
            using, lambda: sessions.end_all(instance, reason=sessions.USER_INACTIVE)
        )
    else:
        sessions.end_with_another_password(instance)


def user_deleted(instance: models.Model, using: str, **kwargs: Any) -> None:
    """End the sessions of a user about to be deleted. Their rows stay, without a user."""
    if _sessions_are_ours(using):
        sessions.forget_user(instance)
        # A login may have come in between, and lost its user with the others.
        transaction.on_commit(sessions.end_of_nobody, using=using, robust=True)


def _now_and_after_commit(using: str, end: Callable[[], object]) -> None:
    end()
    if transaction.get_connection(using).in_atomic_block:
        # Until the commit others see the user as before, and a login may come in.
        transaction.on_commit(end, using=using, robust=True)


def _sessions_are_ours(using: str) -> bool:
    # A service that only verifies has no table of sessions, and a copy of a user in
    # another database is not the user.
    settings = current().settings
    return (
        settings.sessions_on
        and settings.load_user != "never"
        and using == router.db_for_write(LoginSession)
    )


def _is_rehash(instance: Any, update_fields: frozenset[str] | None) -> bool:
    # AbstractBaseUser.check_password() stores the same password under a newer hash
    # in exactly this way; set_password() leaves the raw password in `_password`. An
    # instance that was saved after set_password(), and is then given another hash by
    # hand and saved by `update_fields=["password"]`, looks alike.
    return (
        update_fields == frozenset({"password"})
        and isinstance(instance, get_user_model())
        and instance.__dict__.get("_password", "") is None
        and is_password_usable(instance.password)
    )
