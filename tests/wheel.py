"""Tries what is built as a user does: contents, `check`, `migrate`, a login.

Run by ``tox -e wheel``, outside of the tree, with the wheel's own dependencies alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

SOURCE = Path(__file__).resolve().parent.parent / "jwt_auth"
# What may lie in the package's folder besides modules.
DATA = {".typed", ".html", ".json", ".po", ".mo", ".js", ".css"}
# No entry points, no scripts: an installation runs nothing by itself.
METADATA = {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE"}
# What the source distribution has at its top.
AT_THE_TOP = {
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "PKG-INFO",
    "README.md",
    "SECURITY.md",
    "benchmarks",
    "docs",
    "jwt_auth",
    "pyproject.toml",
    "tests",
}
# What a working copy may hold and nobody may be sent.
LITTER = {".pyc", ".pem", ".key", ".sqlite3", ".db", ".env", ".log", ".coverage"}

SETTINGS = """
INSTALLED_APPS += ["rest_framework", "jwt_auth"]
MIDDLEWARE += ["jwt_auth.middleware.JWTAuthenticationMiddleware"]
ALLOWED_HOSTS = ["testserver"]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["jwt_auth.authentication.JWTAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
}
"""
URLS = """
from django.urls import include
urlpatterns += [path("auth/", include("jwt_auth.urls"))]
"""
LOGIN = """
import json
from django.contrib.auth.models import User
from django.test import Client
User.objects.create_user("ada", password="correct horse")
client, body = Client(), {"username": "ada", "password": "correct horse"}
pair = client.post("/auth/login/", body, content_type="application/json").json()
headers = {"Authorization": "Bearer " + pair["access_token"]}
print(json.dumps(client.get("/auth/sessions/", headers=headers).json()))
"""


def contents(wheel: Path) -> None:
    """Demand that the wheel holds the package, all of it, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        metadata = {name for name in names if ".dist-info/" in name}
        [license_text] = [archive.read(name) for name in metadata if name.endswith("LICENSE")]
    expected = {
        path.relative_to(SOURCE.parent).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and (path.suffix == ".py" or path.suffix in DATA or path.name in DATA)
    }
    assert names - metadata == expected, sorted((names - metadata) ^ expected)
    [folder] = {PurePosixPath(name).parts[0] for name in metadata}
    assert {name.removeprefix(f"{folder}/") for name in metadata} == METADATA, metadata
    assert "jwt_auth/py.typed" in names
    assert "jwt_auth/migrations/0001_initial.py" in names
    assert b"MIT" in license_text
    print(f"{wheel.name}: {len(expected)} files of the package, {len(metadata)} of metadata")


def source_distribution(directory: Path) -> None:
    """Demand that the source distribution holds the sources, and nothing that lay beside them."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(directory)],
        cwd=SOURCE.parent,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    [path] = directory.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        members = [PurePosixPath(one.name) for one in archive if not one.isdir()]
        assert all(one.isfile() for one in archive if not one.isdir())
    assert {one.parts[0] for one in members} == {path.name.removesuffix(".tar.gz")}
    assert {one.parts[1] for one in members} == AT_THE_TOP, {one.parts[1] for one in members}
    litter = [one for one in members if one.suffix in LITTER or "__pycache__" in one.parts]
    assert litter == []
    sources = {one.relative_to(SOURCE.parent).as_posix() for one in SOURCE.rglob("*.py")}
    assert sources <= {"/".join(one.parts[1:]) for one in members}
    print(f"{path.name}: {len(members)} files")


def run(directory: Path, *arguments: str) -> str:
    """Run Python in *directory* and return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    return done.stdout


def a_new_project(directory: Path) -> None:
    """Make a project by Django's own command, install the app, and sign somebody in."""
    run(directory, "-m", "django", "startproject", "site_under_test", ".")
    for name, text in (("settings", SETTINGS), ("urls", URLS)):
        with (directory / "site_under_test" / f"{name}.py").open("a") as file:
            file.write(text)
    where = run(directory, "-c", "import jwt_auth; print(jwt_auth.__file__)").strip()
    assert not where.startswith(str(SOURCE.parent / "jwt_auth")), where
    print(run(directory, "manage.py", "check", "--fail-level", "WARNING").strip())
    run(directory, "manage.py", "makemigrations", "--check", "--dry-run", "jwt_auth")
    run(directory, "manage.py", "migrate", "--verbosity", "0")
    [session] = json.loads(run(directory, "manage.py", "shell", "-v", "0", "-c", LOGIN))
    assert session["current"] is True
    print("check, migrate and a login: fine")


if __name__ == "__main__":
    contents(Path(os.environ["TOX_PACKAGE"]))
    with tempfile.TemporaryDirectory() as made:
        source_distribution(Path(made))
    with tempfile.TemporaryDirectory() as made:
        a_new_project(Path(made))
