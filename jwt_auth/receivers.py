"""The user's life: deactivated, deleted, or with a new password, the sessions end."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import is_password_usable
from django.core.exceptions import FieldDoesNotExist
from django.db import connections, models, router
from django.db.models.signals import post_save, pre_delete, pre_save

from jwt_auth import sessions
from jwt_auth.models import (
    LoginSession,
    LoginSessionQuerySet,
    after_commit,
    has_database,
)
from jwt_auth.runtime import current
from jwt_auth.users import is_active


def connect() -> None:
    """Connect the receivers. Called once, when all models are loaded."""
    pre_save.connect(user_about_to_be_saved, dispatch_uid="jwt_auth.user_about_to_be_saved")
    post_save.connect(user_saved, dispatch_uid="jwt_auth.user_saved")
    # By sender, for the user model and its proxies: a receiver of every model's
    # pre_delete would make Django load rows that it can delete by one statement.
    user_model = get_user_model()
    for model in apps.get_models(include_auto_created=True):
        # Not for children in tables of their own: with one of those the user is
        # deleted as well and has a signal of its own, or stays. Parents take their
        # children along.
        if model._meta.concrete_model is user_model._meta.concrete_model:
            pre_delete.connect(
                user_deleted,
                sender=model,
                dispatch_uid=f"jwt_auth.user_deleted.{model._meta.label}",
            )


def user_about_to_be_saved(
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
    if raw or not _is_rehash(instance, update_fields) or not _sessions_are_kept():
        return
    stored = type(instance)._base_manager.using(using).filter(pk=instance.pk)
    for old_hash in stored.values_list("password", flat=True):
        sessions.note_rehash(_sessions_of(instance), instance, old_hash)


def user_saved(
    instance: models.Model,
    created: bool,
    raw: bool,
    update_fields: frozenset[str] | None,
    using: str,
    **kwargs: Any,
) -> None:
    """End the sessions that a saved user may no longer have.

    One query, and none for a save that can have changed neither the password nor
    whether the user is active. Without sender: children, proxies and parents of the
    user model send their own class.
    """
    if raw or not _is_users_row(instance) or not _sessions_are_kept():
        return
    if created and not _is_child(instance):
        # A new row has no sessions. That of a child may stand beside a user's old one.
        return
    if _is_rehash(instance, update_fields):
        # Said once: what is stored later by the same fields is another password.
        instance.__dict__.pop("_password", None)
        return
    suspects = _suspects(instance, update_fields)
    if suspects is not None:
        sessions.end_refused(suspects)
        # A change by another alias counts from its commit, and is seen where the sessions are
        # once a transaction there is over too.
        alias = router.db_for_write(LoginSession)
        after_commit(lambda: sessions.end_refused(suspects), using, alias)


def user_deleted(instance: models.Model, using: str, **kwargs: Any) -> None:
    """End the sessions of a user about to be deleted. Their rows stay, without a user."""
    if not _sessions_are_kept():
        return
    alias = router.db_for_write(LoginSession)
    _lock(instance, using)
    if using == alias:
        sessions.forget_user(instance)
    # By another alias, the user is deleted in the database of the sessions, or a copy
    # elsewhere is. After the commit, the rows of the sessions tell.
    after_commit(sessions.end_of_nobody, using, alias)


def _lock(user: models.Model, using: str) -> None:
    """Lock the row of *user* until it is deleted.

    A login that inserts a session waits for the lock, and then finds that the user is
    gone. Without it, the new session would make the deletion fail.
    """
    connection = connections[using]
    if connection.in_atomic_block and connection.features.has_select_for_update:
        users = get_user_model()._base_manager.using(using).filter(pk=user.pk)
        # The key alone: of a child model, only its own table is locked.
        list(users.select_for_update().order_by().values_list("pk"))


def _sessions_are_kept() -> bool:
    # A service that only verifies has no database. Whether requests load a user says
    # nothing about the users that the project has.
    return current().settings.sessions_on and has_database()


def _is_users_row(instance: models.Model) -> bool:
    """Tell whether *instance* is a user, or the row of a parent model that a user extends."""
    return isinstance(instance, get_user_model()) or _is_parent(instance)


def _is_parent(instance: models.Model) -> bool:
    user_model, model = get_user_model(), instance._meta.concrete_model
    return model is not None and model is not user_model and issubclass(user_model, model)


def _is_child(instance: models.Model) -> bool:
    user_model: Any = get_user_model()
    model = instance._meta.concrete_model
    return isinstance(instance, user_model) and model is not user_model._meta.concrete_model


def _sessions_of(instance: models.Model) -> LoginSessionQuerySet:
    """Return the sessions of the user whose row, or whose parent's row, *instance* is."""
    user: Any = instance
    found = LoginSession.objects.on_primary()
    if _is_parent(instance):
        # A child has the fields of its parents, the key included.
        return found.filter(**{f"user__{user._meta.pk.name}": user.pk})
    return found.filter(user=user)


def _suspects(
    instance: models.Model, written: frozenset[str] | None
) -> LoginSessionQuerySet | None:
    """Return the sessions that a save of *instance* may have ended. None: it can have ended none.

    *written* names the fields that were saved, None stands for all.
    """
    if _may_be_inactive(instance, written):
        return _sessions_of(instance)
    if not _may_have_new_password(instance, written):
        return None
    password = getattr(instance, "password", None)
    if not isinstance(password, str):
        # An expression that the database computes, or a field of the child's.
        return _sessions_of(instance)
    return _sessions_of(instance).exclude(current().password_marks.condition(password))


def _may_be_inactive(instance: models.Model, written: frozenset[str] | None) -> bool:
    if _is_column(get_user_model(), "is_active"):
        value = getattr(instance, "is_active", True)
        is_surely_active = bool(value) and not hasattr(value, "resolve_expression")
        return _is_written(instance, "is_active", written) and not is_surely_active
    if _is_parent(instance) or _is_generated(get_user_model(), "is_active"):
        # The child's property or the database decides: ask the row.
        return True
    # A property may depend on any field.
    return not is_active(instance)


def _may_have_new_password(instance: models.Model, written: frozenset[str] | None) -> bool:
    if _is_column(get_user_model(), "password"):
        return _is_written(instance, "password", written)
    return hasattr(get_user_model(), "password")


def _is_written(instance: models.Model, name: str, written: frozenset[str] | None) -> bool:
    return (written is None or name in written) and _is_column(type(instance), name)


def _is_column(model: type[models.Model], name: str) -> bool:
    """Tell whether *name* is a column that changes only when it is saved by its name."""
    field = _field(model, name)
    return field is not None and field.concrete and not field.generated


def _is_generated(model: type[models.Model], name: str) -> bool:
    field = _field(model, name)
    return field is not None and field.generated


def _field(model: type[models.Model], name: str) -> Any:
    try:
        return model._meta.get_field(name)
    except FieldDoesNotExist:
        return None


def _is_rehash(instance: Any, update_fields: frozenset[str] | None) -> bool:
    # AbstractBaseUser.check_password() stores the same password under a newer hash
    # in exactly this way; set_password() leaves the raw password in `_password`. An
    # instance that was saved after set_password(), and is then given another hash by
    # hand and saved by `update_fields=["password"]`, looks alike.
    return (
        update_fields == frozenset({"password"})
        and _is_users_row(instance)
        and instance.__dict__.get("_password", "") is None
        and is_password_usable(instance.password)
    )
