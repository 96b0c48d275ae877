"""What a refusal is in the source below the skins, and that source without one of them.

Plain `ast`: nothing of the app is imported here. A refusal is

1. a ``raise``, whatever it raises and wherever it stands. Taken out: ``pass``;
2. a ``return`` of the answer by which a function of `REFUSING` refuses: ``None``, ``False``,
   no roles … Taken out: the other answer of a function that says yes or no, else ``pass``,
   and of ``x if fits else None`` the ``x`` alone. What such a function of two answers
   computes is a refusal as a whole, too;
3. a ``return`` of what was asked to answer a refusal: see `_ANSWERS`. Taken out: ``pass``;
4. a call for nothing but what it may raise: see `_ASKED`. Taken out: ``pass``;
5. one of several reasons of one of these: an operand of the ``or`` in ``if a or b: raise``,
   of the ``and`` in ``return a and b`` where `False` refuses, a half of ``0 <= x <= 9``.
   Taken out: that operand.

Whether a returned ``None`` refuses, no program can tell. So each function with an answer
that might be one is named in `REFUSING` or in `NOT_REFUSING`, and who adds one without
saying which it is finds `find()` raising.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    *sorted(str(one.relative_to(ROOT)) for one in (ROOT / "jwt_auth/tokens").glob("*.py")),
    "jwt_auth/transports.py",
    "jwt_auth/revocation.py",
    "jwt_auth/authenticator.py",
    "jwt_auth/sessions.py",
]

# By which answer a function refuses, as it is written there; "…" is any but `None`.
REFUSING: dict[str, dict[str, str]] = {
    "jwt_auth/tokens/claims.py": {
        "is_too_deep": "True",
        # A login of which no time is known is not recent.
        "Claims.authenticated_at": "None",
        # What grants nothing.
        "Claims.roles": "()",
        "Claims.scopes": "frozenset()",
        "_uuid": "None",
        "_is_text": "False",
    },
    "jwt_auth/tokens/fetching.py": {
        "_Reach.is_over": "True",
        # An unknown key is then a 503.
        "Followed.in_doubt": "True",
    },
    "jwt_auth/tokens/jwe.py": {"_is_public_point": "False"},
    "jwt_auth/tokens/jws.py": {"_holds": "False"},
    "jwt_auth/tokens/keys.py": {
        "KeySet.get": "None",
        "_is_of_roca": "True",
        # A key in another form is not a secret.
        "_is_der": "True",
        "_is_encoded_key": "True",
    },
    "jwt_auth/tokens/policy.py": {
        "has_role": "False",
        "has_scopes": "False",
        "has_recent_login": "False",
    },
    "jwt_auth/tokens/remote.py": {
        # Too old to serve.
        "RemoteKeys._known": "None",
        "_load": "None",
        "is_kid": "False",
    },
    "jwt_auth/transports.py": {
        # A safe request needs no CSRF token, an unsafe one is refused without.
        "is_unsafe": "True",
        "_CSRFCheck._reject": "…",
        "_CSRFCheck.failure": "…",
        "_CSRFCheck._failure": "…",
        "_CSRFCheck.trusts_origin": "False",
        # Another scheme is no credential of ours.
        "bearer_token": "None",
        # A form that is not parsed.
        "_is_refused_form": "True",
        "is_empty_form": "False",
    },
    "jwt_auth/revocation.py": {
        # A list that may not serve before it was renewed, and one that may not meanwhile.
        "_DatabaseList.fresh": "None",
        "_DatabaseList._serves_late": "False",
        # The database has to say.
        "_DatabaseList.is_pending": "True",
        # Who is not vouched for is asked about.
        "Lookups.vouch": "False",
        "RevocationList.vouch": "False",
    },
    "jwt_auth/authenticator.py": {
        # A verdict on another token.
        "kept": "None",
        "Verdict.is_about": "False",
        "_needs_csrf_token": "True",
        # One of several tokens that does not count.
        "Authenticator._tried": "None",
        "Authenticator._atried": "None",
        # What is not plainly good goes the long way.
        "Authenticator._at_once": "None",
    },
    "jwt_auth/sessions.py": {
        # Refresh tokens of different users.
        "newest": "None",
        "_why_refused": "…",
        # Not young: the replaced token is reuse.
        "_is_young": "False",
    },
}
# Functions that answer `None`, `False` and the like, and refuse nobody by it.
NOT_REFUSING: dict[str, set[str]] = {
    # The claim is not there: who demands it says so.
    "jwt_auth/tokens/claims.py": {"_optional_text", "_optional_time", "_audiences"},
    # When to fetch, and whether to wait for it.
    "jwt_auth/tokens/fetching.py": {
        "_Bounded.readable",
        "_watch",
        "Followed.value",
        "Followed.renewal",
        "Followed._is_awaited",
    },
    # Too long to be remembered.
    "jwt_auth/tokens/memory.py": {"TokenMemory.keep"},
    # No credential is none that was refused; a safe request passes; an address is for counting.
    "jwt_auth/transports.py": {
        "demand_csrf_token",
        "_address",
        "_countable",
        "client_address",
        "countable_address",
        "number_of_proxies",
        "view_of",
    },
    # When to read, and whether to wait for it.
    "jwt_auth/revocation.py": {
        "Timing.wait",
        "Timing.async_wait",
        "Timing.take",
        "Revocations.vouch",
        "_DatabaseList.renew",
        "_DatabaseList.wait",
        "_DatabaseList.await_",
        "_DatabaseList._add",
        "_DatabaseList._start_reader",
        "_DatabaseList._work",
        "_DatabaseList._next",
        "_DatabaseList._claim",
        "_DatabaseList._keep",
        "_is_due",
        "_are_tests_running",
    },
    # No credential, somebody else's token, a user that is there already; what to do with
    # the cookie of a token that was refused.
    "jwt_auth/authenticator.py": {
        "Verdict.has_dead_cookie",
        "Verdict.admit",
        "Authenticator.judge",
        "Authenticator.ajudge",
        "Authenticator._read",
        "Authenticator._aread",
        "Authenticator._foreign",
    },
    # What was ended, and what a database said.
    "jwt_auth/sessions.py": {
        "end",
        "_date_end",
        "_date_rotation",
        "_is_in_a_transaction",
        "_is_unanswered",
        "_is_conflict",
    },
}
# Functions that answer a refusal that they are handed.
_ANSWERS = {"answer_late"}
# Functions that a statement calls for nothing but what they raise, or mark as refused.
_ASKED = {
    "_cryptography",
    "look_at",
    "_optional_id",
    "_refuse_if",
    "acheck",
    "aload",
    "check",
    "check_content",
    "check_header",
    "_demand_autocommit",
    "_demand_csrf_token",
    "_demand_same_user",
    "demand_csrf_token",
    "demand_own_site",
    "demand_secrecy",
    "load",
    "prepare_secret",
    "refuse",
    # sign() reads what it is about to hand out, read_object() writes what it has read.
    "Claims",
    "encode",
}
_OPPOSITE = {"True": "False", "False": "True"}
# What a function may say no by.
_NOTHING = {"None", "True", "False", "()", "frozenset()"}
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


# Of a file.
Line = tuple[str, int]


@dataclass(frozen=True)
class Mutant:
    """The source without one refusal.

    `function` and `refusal`, the source text with the condition under which it stands, tell
    it from all others of `file`, wherever in it they move. A test tells the difference only
    if it has reached one line of each of `lines`.
    """

    file: str
    function: str
    refusal: str
    lines: tuple[frozenset[Line], ...]
    # The function as it is found in the running app: its qualified name and first line.
    host: tuple[str, int]
    _change: _Change = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """What it is called in reports; unique."""
        return f"{self.file} {self.function}: {self.refusal}"

    def code(self) -> CodeType:
        """Return what `host` is without the refusal."""
        whole = self._change.compiled(str(ROOT / self.file))
        return next(
            one for one in _codes(whole) if (one.co_qualname, one.co_firstlineno) == self.host
        )


@dataclass(frozen=True)
class _Change:
    """A node of a tree, and what stands there instead."""

    tree: ast.Module
    parent: ast.AST
    place: str
    number: int | None
    instead: ast.AST

    def compiled(self, path: str) -> CodeType:
        before = self._put(self.instead)
        try:
            return compile(ast.fix_missing_locations(self.tree), path, "exec")
        finally:
            self._put(before)

    def _put(self, node: Any) -> Any:
        if self.number is None:
            before = getattr(self.parent, self.place)
            setattr(self.parent, self.place, node)
        else:
            nodes = getattr(self.parent, self.place)
            before, nodes[self.number] = nodes[self.number], node
        return before


def find() -> list[Mutant]:
    """Return a mutant for each refusal in `FILES`, in the order of the source.

    Raises:
        ValueError: a function is in neither list above or is there no more, or two refusals
            cannot be told apart.
    """
    sources = {file: _Source(file) for file in FILES}
    asked = _Asked(sources.values())
    mutants = [one for source in sources.values() for one in source.mutants(asked)]
    names = [one.name for one in mutants]
    if twice := sorted({one for one in names if names.count(one) > 1}):
        raise ValueError(f"cannot be told apart: {twice}")
    return mutants


class _Source:
    """One file: its functions, and the refusals in them."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._text = (ROOT / file).read_text(encoding="utf-8")
        self.tree = ast.parse(self._text)
        self.functions: dict[str, _Function] = {}
        for name, function in _functions(self.tree, ""):
            if name in self.functions:
                raise ValueError(f"{file}: there are two functions {name}")
            self.functions[name] = function
        self._refusing = REFUSING.get(file, {})
        self._check_lists()

    def _check_lists(self) -> None:
        named = {*self._refusing, *NOT_REFUSING.get(self.file, ())}
        might = {name for name, one in self.functions.items() if _might_refuse(one)}
        if unknown := sorted(might - named):
            raise ValueError(f"{self.file}: does it refuse by what it returns? {unknown}")
        if gone := sorted(named - self.functions.keys()):
            raise ValueError(f"{self.file}: there is no such function any more: {gone}")

    def mutants(self, asked: _Asked) -> Iterator[Mutant]:
        for name, function in self.functions.items():
            # A function within another does not exist before that one is called.
            host_name, host = next(
                (outer, one)
                for outer, one in self.functions.items()
                if f"{name}.".startswith(f"{outer}.")
            )
            first = min([host.lineno, *(one.lineno for one in host.decorator_list)])
            seen: Counter[str] = Counter()
            for refusal, lines, change in self._refusals(function, self._refusing.get(name), asked):
                seen[refusal] += 1
                # The same under the same condition: by order.
                text = refusal if seen[refusal] == 1 else f"{refusal} ({seen[refusal]})"
                yield Mutant(self.file, name, text, lines, (host_name, first), change)

    def _refusals(
        self, function: _Function, answer: str | None, asked: _Asked
    ) -> Iterator[tuple[str, tuple[frozenset[Line], ...], _Change]]:
        for parent, place, number, node in _statements(function):
            instead = _instead(node, answer, is_last=node is function.body[-1])
            if instead is None:
                continue
            text = f"{self._condition(parent, place)}{self._source(node)}"
            lines = (_lines(self.file, node),)
            if isinstance(node, ast.Expr) and (told := asked.lines(node)):
                lines = (*lines, told)
            yield text, lines, _Change(self.tree, parent, place, number, instead)
            if isinstance(parent, ast.If) and place == "body" and number == 0:
                for operand, test in _weaker(parent.test, True):
                    change = _Change(self.tree, parent, "test", None, test)
                    yield f"{text}, but not for {self._source(operand)}", lines, change
            if isinstance(node, ast.Return) and node.value is not None and answer in _OPPOSITE:
                for operand, value in _weaker(node.value, answer == "True"):
                    change = _Change(self.tree, node, "value", None, value)
                    yield f"{text}, but not for {self._source(operand)}", lines, change

    def _source(self, node: ast.AST) -> str:
        """Return the text of *node* in one line, whatever the Python that reads it."""
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            # Messages are improved now and then.
            return f"raise {self._source(node.exc.func)}(…)"
        return " ".join((ast.get_source_segment(self._text, node) or "").split())

    def _condition(self, parent: ast.AST, place: str) -> str:
        """Return under which condition a statement of *parent* stands, if there is one."""
        if isinstance(parent, ast.If):
            return f"if {self._source(parent.test)}: " if place == "body" else "else: "
        if isinstance(parent, ast.ExceptHandler):
            return f"except {self._source(parent.type)}: " if parent.type else "except: "
        return ""


class _Asked:
    """Where the functions that are asked refuse."""

    def __init__(self, sources: Iterable[_Source]) -> None:
        self._bodies: dict[str, list[tuple[str, _Function]]] = {}
        for source in sources:
            for name, function in source.functions.items():
                self._bodies.setdefault(name.rpartition(".")[2], []).append((source.file, function))

    def lines(self, node: ast.Expr) -> frozenset[Line]:
        """Return on which lines what *node* calls may raise; empty if that is not known.

        By names alone: a function of the same name may be meant or not.
        """
        found: set[Line] = set()
        waiting, done = [_called(node.value)], set()
        while waiting:
            name = waiting.pop()
            if name in done:
                continue
            done.add(name)
            for file, function in self._bodies.get(name, ()):
                for one in ast.walk(function):
                    if isinstance(one, ast.Raise):
                        found |= _lines(file, one)
                    elif isinstance(one, ast.Call):
                        waiting.append(_called(one))
        return frozenset(found)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _FUNCTIONS):
            yield f"{prefix}{child.name}", child
        inner = (
            f"{prefix}{child.name}." if isinstance(child, (*_FUNCTIONS, ast.ClassDef)) else prefix
        )
        yield from _functions(child, inner)


def _statements(block: ast.AST) -> Iterator[tuple[ast.AST, str, int, ast.stmt]]:
    """Yield each statement of a function, but for functions in it, and where it stands."""
    for place, nodes in ast.iter_fields(block):
        for number, node in enumerate(nodes if isinstance(nodes, list) else ()):
            if isinstance(node, ast.stmt):
                yield block, place, number, node
            if isinstance(node, (ast.stmt, ast.ExceptHandler)) and not isinstance(
                node, (*_FUNCTIONS, ast.ClassDef)
            ):
                yield from _statements(node)


def _might_refuse(function: _Function) -> bool:
    """Tell whether *function* returns what may mean no."""
    if function.returns is not None and ast.unparse(function.returns) == "bool":
        return True
    for _, _, _, node in _statements(function):
        if isinstance(node, ast.Return):
            value = node.value
            parts = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
            if any(one is None or ast.unparse(one) in _NOTHING for one in parts):
                return True
    return False


def _instead(node: ast.stmt, answer: str | None, *, is_last: bool) -> ast.stmt | None:
    """Return what stands for the refusal *node* when it is taken out; `None` if it is none."""
    if isinstance(node, ast.Raise):
        return ast.Pass()
    if isinstance(node, ast.Expr):
        return ast.Pass() if _called(node.value) in _ASKED else None
    if not isinstance(node, ast.Return):
        return None
    value = node.value or ast.Constant(None)
    text = ast.unparse(value)
    if _called(value) in _ANSWERS:
        return ast.Pass()
    if answer is None or text == _OPPOSITE.get(answer):
        return None
    if answer == "…":
        return None if text == "None" else ast.Pass()
    if answer in _OPPOSITE:
        return ast.Return(ast.Constant(answer == "False"))
    if text == answer:
        # At the end of a function there is nothing else to fall upon.
        return None if is_last and answer == "None" else ast.Pass()
    if isinstance(value, ast.IfExp):
        parts = [value.body, value.orelse]
        taken = [one for one in parts if ast.unparse(one) != answer]
        return ast.Return(taken[0]) if len(taken) == 1 else None
    return None


def _weaker(test: ast.expr, told: bool) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield *test* without one of several reasons for which it is *told*, and that reason."""
    if isinstance(test, ast.BoolOp):
        for number, operand in enumerate(test.values):
            before, after = test.values[:number], test.values[number + 1 :]
            if isinstance(test.op, ast.Or) is told:
                rest = [*before, *after]
                yield operand, rest[0] if len(rest) == 1 else _of(test, rest)
            for reason, weaker in _weaker(operand, told):
                yield reason, _of(test, [*before, weaker, *after])
    elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        for reason, weaker in _weaker(test.operand, not told):
            yield reason, ast.UnaryOp(ast.Not(), weaker)
    elif isinstance(test, ast.Compare) and len(test.ops) == 2 and not told:
        middle, last = test.comparators
        halves = (
            _spanning(ast.Compare(test.left, test.ops[:1], [middle]), test.left, middle),
            _spanning(ast.Compare(middle, test.ops[1:], [last]), middle, last),
        )
        yield halves
        yield halves[::-1]
    elif isinstance(test, ast.Call) and _called(test) in {"all", "any"}:
        (generator,) = test.args
        if isinstance(generator, ast.GeneratorExp):
            for reason, weaker in _weaker(generator.elt, told):
                inner = ast.GeneratorExp(weaker, generator.generators)
                yield reason, ast.Call(test.func, [inner], [])


def _spanning(node: ast.expr, first: ast.expr, last: ast.expr) -> ast.expr:
    """Return *node*, said to stand in the source from *first* to *last*."""
    node.lineno, node.col_offset = first.lineno, first.col_offset
    node.end_lineno, node.end_col_offset = last.end_lineno, last.end_col_offset
    return node


def _of(test: ast.BoolOp, operands: list[ast.expr]) -> ast.BoolOp:
    return ast.BoolOp(test.op, operands)


def _called(node: ast.expr) -> str:
    """Return the last name of the function that *node* calls, if it is a call."""
    if isinstance(node, ast.Await):
        node = node.value
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    if isinstance(function, ast.Call):
        # sync_to_async(function)(argument)
        function = function.args[0] if function.args else function
    return getattr(function, "attr", getattr(function, "id", ""))


def _lines(file: str, node: ast.stmt) -> frozenset[Line]:
    last = node.lineno if node.end_lineno is None else node.end_lineno
    return frozenset((file, number) for number in range(node.lineno, last + 1))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _codes(one)
