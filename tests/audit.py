"""Asks for the known weaknesses of what the package brings along, with every extra.

Run by ``tox -e audit``. The newest versions have to be clean. Those at the floors are told of
and fail nothing: a floor is what the tests pass on, and which patch of it is good, the advisories
know better than our metadata; see SECURITY.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

# Where pip finds packages, unless it is told otherwise.
from pip._internal.models.index import PyPI

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
# Its authors do not mend a weakness that is known since 2024: who hears nothing of it has asked
# somebody who does not tell.
CONTROL = "ecdsa"


def resolved(source: str, *options: str, requirements: str = "") -> list[str]:
    """Return the pins for *source*, and for whatever that needs."""
    command = ["uv", "pip", "compile", source, "--no-header", "--no-annotate", "--quiet", *options]
    done = subprocess.run(
        command, check=True, input=requirements, stdout=subprocess.PIPE, text=True
    )
    return [line for line in done.stdout.splitlines() if "==" in line]


def weaknesses(pins: list[str]) -> dict[str, list[str] | None]:
    """Return by pin what is known to be wrong with it; `None` where nobody can say."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(
        [*command, "--no-deps", "--disable-pip", "-r", "/dev/stdin"],
        check=False,
        input="\n".join(pins),
        capture_output=True,
        text=True,
    )
    # 1 is for weaknesses as well; without an answer there is nothing to read.
    if done.returncode not in (0, 1) or not done.stdout:
        raise SystemExit(f"pip-audit failed:\n{done.stderr}")
    answered = {one["name"].lower(): one for one in json.loads(done.stdout)["dependencies"]}
    found: dict[str, list[str] | None] = {}
    for pin in pins:
        name, _, version = pin.partition(" ")[0].partition("==")
        told = answered.get(name.lower(), {})
        found[pin] = _ids(told["vulns"], "fix_versions") if "vulns" in told else None
        if found[pin] is None:
            found[pin] = of_the_newest(name, version)
    return found


def of_the_newest(name: str, version: str) -> list[str] | None:
    """Ask the index itself: it knows the newest version where it keeps no page of each."""
    try:
        with urlopen(f"{PyPI.pypi_url}/{name}/json", timeout=30) as answer:  # noqa: S310
            document = json.load(answer)
    except (URLError, ValueError):
        return None
    if document["info"]["version"] != version or "vulnerabilities" not in document:
        return None
    known = [one for one in document["vulnerabilities"] if not one.get("withdrawn")]
    return _ids(known, "fixed_in")


def _ids(known: list[dict[str, Any]], fixed: str) -> list[str]:
    return [f"{one['id']} (fixed in {', '.join(one[fixed]) or 'none'})" for one in known]


def report(pins: list[str], *, fail: bool) -> bool:
    """Print what is known of *pins*; tell whether nothing of it is bad.

    A version that is younger than the index's page of it fails nothing: who was asked does
    tell, as the control has shown.
    """
    found = weaknesses(pins)
    for pin, known in found.items():
        said = "nobody can say" if known is None else "; ".join(known) or "nothing known"
        print(f"{'FAILED' if fail and known else ''} {pin}: {said}".strip())
    return not any(found.values()) and any(known is not None for known in found.values())


if __name__ == "__main__":
    control = resolved("-", requirements=CONTROL)
    if not any(weaknesses(control[:1]).values()):
        raise SystemExit(f"FAILED: who was asked tells nothing of {control[0]}.")
    everything = (str(PROJECT), "--all-extras")
    floors = resolved(*everything, "--resolution", "lowest-direct", "--python-version", "3.11")
    print("The lowest that the metadata allows, which fail nothing:")
    report(floors, fail=False)
    print("The newest:")
    sys.exit(not report(resolved(*everything), fail=True))
