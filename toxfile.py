"""Lets tox run `tests` and `quick` on the newest Python of the machine, as tox.ini cannot say."""

from __future__ import annotations

import subprocess
from functools import cache

from tox.config.loader.memory import MemoryLoader
from tox.config.sets import EnvConfigSet
from tox.plugin import impl
from tox.session.state import State

ENVIRONMENTS = {"tests", "quick", "coverage"}
# The newest that the matrix has comes first. Another one is better than none.
PYTHONS = ("python3.13", "python3.12", "python3.11", "python3.14")


@cache
def newest_python() -> str:
    """Return the first of `PYTHONS` that runs. A version manager may have names that do not."""
    for name in PYTHONS:
        try:
            subprocess.run([name, "-c", ""], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return name
    return "python3"


@impl
def tox_add_env_config(env_conf: EnvConfigSet, state: State) -> None:
    """Set ``base_python`` where tox.ini leaves the choice to this file."""
    if env_conf.env_name in ENVIRONMENTS:
        env_conf.loaders.insert(0, MemoryLoader(base_python=[newest_python()]))
