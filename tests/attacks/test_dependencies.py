"""Rows 66 and 193 to 196: what is built upon, and what the source may never say.

The gates read the source itself. Each is first shown what it is there to find.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import jwt_auth
from tests.conftest import private_pem

PACKAGE = Path(jwt_auth.__file__).parent
ROOT = PACKAGE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def required() -> dict[str, SpecifierSet]:
    """Return which versions the metadata allows, with every extra."""
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    return {one.name: one.specifier for one in map(Requirement, lines)}


# The last version that may not be installed, and the first that may.
FLOORS = {
    # 2.14 takes no public key for a secret and follows no redirect; 2.15 survives a payload
    # of brackets.
    "pyjwt": ("2.14.1", "2.15.0"),
    # The oldest whose gaps were measured. It reads no claim for us.
    "joserfc": ("1.7.6", "1.7.7"),
    "djangorestframework": ("3.15.2", "3.16.0"),
    "django": ("5.1.15", "5.2"),
    "cryptography": ("42.0.8", "43.0.0"),
}


def test_floors() -> None:
    found = required()
    assert found.keys() == FLOORS.keys()
    for name, (below, first) in FLOORS.items():
        assert below not in found[name], name
        assert first in found[name], name
        # Nothing keeps a fix out.
        assert "999" in found[name], name
    # joserfc 1.8 needs it: no Python falls back to a version that nobody mends.
    assert "3.10" not in SpecifierSet(PROJECT["requires-python"])


Gate = Callable[[ast.Module], Iterator[str]]


def named(node: ast.AST) -> str:
    """Return the last name of an expression, as the reader sees it."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return node.attr
        case ast.Call():
            return named(node.func)
        case ast.Subscript():
            return named(node.value)
    return ""


KEPT = re.compile(
    r"secret|password|digest|signature|proof|csrf|handle|hash|^mac$|_mac$|^tag$|mark$"
)


def equality_of_secrets(tree: ast.Module) -> Iterator[str]:
    """Find ``==`` on what is kept secret: it ends at the first difference, and that shows."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = (node.left, *node.comparators)
            is_equality = any(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops)
            if is_equality and any(KEPT.search(named(one).lower()) for one in sides):
                yield ast.unparse(node)


SWITCHES = re.compile(r"verify_\w+|decode_complete|get_unverified_\w+")


def checks_turned_off(tree: ast.Module) -> Iterator[str]:
    """Find PyJWT's decoders and their switches, whatever they are set to."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) | ast.keyword(arg=str(text)):
                found = SWITCHES.fullmatch(text) is not None
            case ast.Attribute():
                decodes = ast.unparse(node) in {"jwt.decode", "jws.decode"}
                found = decodes or SWITCHES.fullmatch(node.attr) is not None
            case _:
                continue
        if found:
            yield ast.unparse(node)


OF_A_TOKEN = {"header", "raw", "token", "claims", "payload", "members", "unsafe_members"}


def algorithms_of_a_token(tree: ast.Module) -> Iterator[str]:
    """Find an algorithm that whoever made a token has chosen, under a name or at once."""
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        values = {
            target.id: node.value
            for node in ast.walk(scope)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(scope):
            if not isinstance(node, ast.Call):
                continue
            chosen = [one.value for one in node.keywords if one.arg in {"algorithm", "algorithms"}]
            if named(node) == "get_algorithm_by_name":
                chosen += node.args
            said = {named(part) for one in chosen for part in ast.walk(one)}
            for name in said & values.keys():
                said |= {named(part) for part in ast.walk(values[name])}
            if said & OF_A_TOKEN:
                yield ast.unparse(node)


SQL_CALLS = {"execute", "executemany", "cursor", "RawSQL", "raw", "extra"}
SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|DROP)\s.*\b(FROM|INTO|SET|TABLE)\b", re.DOTALL)


def written_sql(tree: ast.Module) -> Iterator[str]:
    """Find SQL that is written by hand: there is none, put together or not."""
    for node in ast.walk(tree):
        match node:
            case ast.Call() if named(node) in SQL_CALLS:
                yield ast.unparse(node)
            case ast.Constant(value=str(text)) if SQL.match(text):
                yield text


LIBRARIES = {"jwt", "joserfc", "cryptography"}


def private_names(tree: ast.Module) -> Iterator[str]:
    """Find names of the libraries that begin with an underscore: nobody documents those."""
    ours = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                full = {one.asname or one.name: one.name for one in node.names}
            case ast.ImportFrom(module=str(module)):
                full = {one.asname or one.name: f"{module}.{one.name}" for one in node.names}
            case _:
                continue
        for name, path in full.items():
            parts = path.split(".")
            if parts[0] in LIBRARIES:
                ours.add(name.partition(".")[0])
                if any(part.startswith("_") for part in parts):
                    yield path
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr):
            root: ast.AST = node.value
            while isinstance(root, ast.Attribute | ast.Call):
                root = root.value if isinstance(root, ast.Attribute) else root.func
            if isinstance(root, ast.Name) and root.id in ours:
                yield ast.unparse(node)


FOUND: list[tuple[Gate, str]] = [
    (equality_of_secrets, "mac == hmac.digest(key, body, 'sha256')"),
    (equality_of_secrets, "if user.password != given: pass"),
    (equality_of_secrets, "ok = csrf_token == request.POST['x']"),
    (equality_of_secrets, "row.password_mark == mark"),
    (checks_turned_off, "jwt.decode(raw, options={'verify_signature': False})"),
    (checks_turned_off, "f(verify_exp=False)"),
    (checks_turned_off, "jwt.get_unverified_header(raw)"),
    (algorithms_of_a_token, "f(raw, key, algorithms=[header['alg']])"),
    (algorithms_of_a_token, "f(raw, key, algorithms=token.header.get('alg'))"),
    (
        algorithms_of_a_token,
        "def g(raw):\n    one = header['alg']\n    return f(raw, algorithms=[one])",
    ),
    (algorithms_of_a_token, "jwt.get_algorithm_by_name(header['alg']).verify(signed, key, proof)"),
    (written_sql, "cursor.execute('SELECT 1')"),
    (written_sql, "LoginSession.objects.raw(f'{x}')"),
    (written_sql, "sql = f'SELECT * FROM {table}'"),
    (written_sql, "sql = 'UPDATE x SET y = %s' % z"),
    (private_names, "import jwt._x"),
    (private_names, "from joserfc._rfc7516 import models"),
    (private_names, "import jwt\njwt.api_jws._decode()"),
    (private_names, "from joserfc import jwe\njwe.default_registry._check()"),
]


@pytest.mark.parametrize(("gate", "source"), FOUND, ids=[source for _, source in FOUND])
def test_a_gate_finds_what_it_is_there_for(gate: Gate, source: str) -> None:
    assert list(gate(ast.parse(source)))


# Two statements the ORM writes once (`compiler.as_sql()`), and they are run as they were written:
# no text of ours is in them, and what a client sends is a parameter. See docs/decisions/0014.
OF_THE_ORM = {
    "models.py: connection.cursor()",
    "models.py: cursor.execute(sql, values)",
    "models.py: cursor.execute(sql, [*fixed, pk.get_db_prep_value(session_id, connection)])",
}

GATES: list[Gate] = [
    equality_of_secrets,
    checks_turned_off,
    algorithms_of_a_token,
    written_sql,
    private_names,
]


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.__name__)
def test_the_source_has_none_of_it(gate: Gate) -> None:
    sources = sorted(PACKAGE.rglob("*.py"))
    assert len(sources) > 40
    found = {
        f"{source.relative_to(PACKAGE)}: {one}"
        for source in sources
        for one in gate(ast.parse(source.read_text("utf-8")))
    }
    assert found == (OF_THE_ORM if gate is written_sql else set())


def test_the_statements_that_are_run_are_the_orms_own() -> None:
    tree = ast.parse((PACKAGE / "models.py").read_text("utf-8"))
    # Wherever something of that name comes from.
    sources = {
        ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if "sql" in {name.id for name in ast.walk(target) if isinstance(name, ast.Name)}
    }
    assert sources == {
        "query.get_compiler(alias).as_sql()",
        "self._inserts.get(alias) or self._written_insert(session, alias)",
        "compiler.as_sql()",
        "self._selects.get(alias) or self._written_select(alias)",
    }


def used(module: str, library: str) -> set[str]:
    """Return what a module uses of a library, by the names that the library has for it."""
    tree = ast.parse((PACKAGE / module).read_text("utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == library:
            names |= {f"{node.module}.{one.name}" for one in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.add(f"{node.value.id}.{node.attr}")
    return {one for one in names if one.partition(".")[0] in {library, "jwe"}}


def test_libraries_compute_and_decide_nothing() -> None:
    # Neither reads a token's claims or times for us, and so none can loosen that.
    assert used("tokens/jws.py", "jwt") == {"jwt.get_algorithm_by_name"}
    assert used("tokens/jwe.py", "joserfc") == {
        "joserfc.jwe",
        "joserfc.errors.JoseError",
        "joserfc.jwk.ECKey",
        "joserfc.jwk.OctKey",
        "joserfc.jwk.RSAKey",
        "jwe.encrypt_compact",
        "jwe.decrypt_compact",
    }


WITHOUT_JOSERFC = """
import sys
sys.modules["joserfc"] = None
import django
from django.conf import settings
settings.DATABASES["default"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": DATABASE}
django.setup()
from django.core.checks import run_checks
from django.core.management import call_command
from django.test import Client, override_settings

SECRET = "q8Zr-3nVQm4sT0xW7bKf2LhYc9Ea6DjGu1RpNi5o"
for wrong in ({"ENCRYPTION_KEY": SECRET}, {"DECRYPTION_KEYS": [SECRET]}):
    with override_settings(JWT_AUTH=wrong):
        (error,) = run_checks(tags=["security"])
        assert error.id == "jwt_auth.E007", error
        assert "django-jwt-sessions[jwe]" in error.msg, error
        assert SECRET not in str(error)
assert run_checks(tags=["security"]) == []

call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
User.objects.create_user("ada", password="correct horse")
json = {"content_type": "application/json"}
for right in ({}, {"SIGNING_KEY": SECRET}, {"SIGNING_KEY": KEY}):
    with override_settings(JWT_AUTH=right):
        client, body = Client(), {"username": "ada", "password": "correct horse"}
        pair = client.post("/auth/login/", body, **json).json()
        body = {"refresh_token": pair["refresh_token"]}
        token = client.post("/auth/refresh/", body, **json).json()["access_token"]
        seen = client.get("/whoami/", headers={"Authorization": f"Bearer {token}"})
        assert seen.status_code == 200, seen.content
        sealed = ".".join([*token.split("."), "AAAA", "AAAA"])
        seen = client.get("/whoami/", headers={"Authorization": f"Bearer {sealed}"})
        assert (seen.status_code, seen.json()["code"]) == (401, "token_not_valid")
        assert client.get("/auth/jwks.json").status_code == 200
        assert client.post("/auth/logout/", body, **json).status_code == 204
assert not [name for name in sys.modules if name.startswith("joserfc.")]
print("works")
"""


def test_without_joserfc_all_but_encryption_works(tmp_path: Path) -> None:
    names = f"KEY = {private_pem('P-256')!r}\nDATABASE = {str(tmp_path / 'db.sqlite3')!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", names + WITHOUT_JOSERFC],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
    )
    assert done.stdout == "works\n", done.stderr[-2000:]
