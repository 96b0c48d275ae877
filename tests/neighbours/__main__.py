"""Compares this app with its neighbours on hostile tokens, and keeps the page that says so.

``tox -e neighbours`` runs it with pinned versions and fails when the page is not what was
measured; ``tox -e neighbours -- --write`` writes the page anew.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "neighbours.md"
ALGORITHMS = ["HS256", "RS256", "ES256", "EdDSA"]
NEIGHBOURS = ["jwt_auth", "simplejwt", "PyJWT", "joserfc"]
WORTH_TELLING = ("accepted", "crashed")
PACKAGES = {
    "simplejwt": "djangorestframework-simplejwt",
    "PyJWT": "pyjwt",
    "joserfc": "joserfc",
    "Django": "django",
    "DRF": "djangorestframework",
}
# What begins so belongs to a group; the first that fits. `None`: a rule of this app alone,
# which nobody else has to keep.
GROUPS: list[tuple[str, str, str | None]] = [
    (r"alg |no alg", "`alg` that is not the key's", "RFC 8725, 3.1"),
    (r"kid ", "an unknown or malformed `kid`", None),
    (r"typ |no typ", "another `typ` than `at+jwt`", "RFC 9068, 4"),
    (r"crit ", "`crit`, in any shape", "RFC 7515, 4.1.11"),
    (r"b64 ", "`b64`", None),
    (r"cty |nested", "a nested token", None),
    (r"(header|payload) (b'|b\")", "no JSON object", "RFC 7515, 5.2"),
    (r"(header|payload) in ", "no UTF-8", "RFC 7519, 7.2"),
    (r"(header|payload) with .*duplicate", "duplicate names", "RFC 7515, 4, or the last wins"),
    (r"(header|payload) with ", "no strict JSON, or nested too deep", "RFC 8259; depth: *ours*"),
    (r"(exp|nbf|iat): ", "times that are no numbers, or absurd", "RFC 7519, 2"),
    (r"expired|not valid yet|issued tomorrow", "out of its time", "RFC 7519, 4.1"),
    (r"longer than any life", "longer than any life", None),
    (r"iss ", "an issuer where none is expected", None),
    (r"aud ", "an audience where none is expected", "RFC 7519, 4.1.3"),
    (r"no (exp|iat|sub|jti)", "a claim is missing", "RFC 9068, 2.2"),
    (r"no sid|sid ", "`sid` missing or malformed", None),
    (r"sub ", "`sub` that is no text", "RFC 7519, 4.1.2"),
    (r"jti ", "`jti` that is no short text", "RFC 7519, 4.1.7"),
    (r"cnf ", "bound to a key, without proof", "RFC 9449, 7.2"),
    (r"HMAC by ", "a guessed secret, a public key as secret", "RFC 8725, 3.1"),
    (r"j(wk|ku) |x5", "keys that the token brings", "RFC 8725, 3.10"),
    (r"no signature|zeros|signature: ", "no signature of the key", "RFC 7515, 5.2"),
    (r"", "another spelling of a good token", "RFC 7515, 2 and 7.1"),
]
HEAD = """# The neighbours on the same hostile tokens

Who takes a token that should be refused, and who falls over it? This table is measured, not
copied: `tox -e neighbours` makes the tokens of `tests/attacks/corpus.py` for HS256, RS256, ES256
and EdDSA, sends each to all four, and fails when this page says anything else.
`tox -e neighbours -- --write` writes the page.

{versions}

simplejwt and `jwt_auth` stand in one project with the same key, each before a DRF view; a
*crash* is an answer of 500. PyJWT and joserfc are asked with the algorithm given and with `exp`,
`iat`, `sub` and `jti` demanded; a crash is an exception that is not one of their own. Each has
first let in a good token of the same key.

A library below a framework has fewer rules to keep, and what it takes is not always a fault of
its own: *whose rule* names the standard that says so, and *ours* where no standard does.
simplejwt knows the user by `user_id` and has no use for `sub`. Still, whoever puts a library into
a project has to write the missing rules.

A cell is *accepted / crashed*; nothing at all is a dash.

"""


def group_of(name: str) -> str:
    """Return the title of the group of a token."""
    return next(title for pattern, title, _ in GROUPS if re.match(pattern, name))


def measure() -> dict[str, dict[str, dict[str, str]]]:
    """Return algorithm → neighbour → token → verdict."""
    return {
        one: json.loads(
            subprocess.run(
                [sys.executable, "-m", "tests.neighbours.one_key", one],
                check=True,
                cwd=ROOT,
                stdout=subprocess.PIPE,
            ).stdout
        )
        for one in ALGORITHMS
    }


def page(found: dict[str, dict[str, dict[str, str]]]) -> str:
    """Write what was found as a page."""
    totals: dict[str, int] = defaultdict(int)
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    for verdicts in found.values():
        for neighbour, by_name in verdicts.items():
            for name, verdict in by_name.items():
                counts[group_of(name), neighbour, verdict] += 1
                totals[group_of(name)] += neighbour == NEIGHBOURS[0]

    def cell(group: str, neighbour: str) -> str:
        accepted, crashed = (counts[group, neighbour, one] for one in WORTH_TELLING)
        return f"{accepted} / {crashed}" if accepted or crashed else "–"

    versions = ", ".join(f"{name} {version(package)}" for name, package in PACKAGES.items())
    lines = [
        f"| tokens | whose rule | number | {' | '.join(NEIGHBOURS)} |",
        "|---|---|---:|" + "---:|" * len(NEIGHBOURS),
    ]
    for _, title, source in GROUPS:
        cells = " | ".join(cell(title, one) for one in NEIGHBOURS)
        lines.append(f"| {title} | {source or '*ours*'} | {totals[title]} | {cells} |")
    groups = [title for _, title, _ in GROUPS]
    sums = [
        " / ".join(str(sum(counts[one, who, what] for one in groups)) for what in WORTH_TELLING)
        for who in NEIGHBOURS
    ]
    lines.append(f"| **all** | | {sum(totals.values())} | {' | '.join(sums)} |")
    return HEAD.format(versions=f"Versions: {versions}.") + "\n".join(lines) + "\n" + details(found)


def details(found: dict[str, dict[str, dict[str, str]]]) -> str:
    """List each token that somebody took, or fell over, with HS256."""
    lines = ["", "## One by one, with HS256", "", f"| token | {' | '.join(NEIGHBOURS)} |"]
    lines.append("|---|" + "---|" * len(NEIGHBOURS))
    verdicts = found["HS256"]
    for name in verdicts[NEIGHBOURS[0]]:
        row = [verdicts[one][name] for one in NEIGHBOURS]
        if set(row) != {"refused"}:
            shown = name.replace("|", "\\|")
            cells = (one if one != "refused" else "–" for one in row)
            lines.append(f"| `` {shown} `` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, and write the page or compare it."""
    found = measure()
    written = page(found)
    print(written)
    ours = [
        name
        for by_neighbour in found.values()
        for name, verdict in by_neighbour["jwt_auth"].items()
        if verdict != "refused"
    ]
    if ours:
        print(f"jwt_auth does not refuse: {sorted(ours)}")
        return 1
    if "--write" in sys.argv:
        PAGE.write_text(written)
        return 0
    if PAGE.read_text() != written:
        print(f"{PAGE.relative_to(ROOT)} says something else: run tox -e neighbours -- --write")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
