"""How Sphinx builds these pages."""

import tomllib
from pathlib import Path

from jwt_auth import __version__

project = "django-jwt-sessions"
release = __version__
html_title = f"jwt_auth {release}"
html_show_copyright = False

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
# A reference that leads nowhere is an error.
nitpicky = True


def setup(app):
    """Write the table of requirements out of the file that the tests read."""
    app.connect("source-read", _requirements)


def _requirements(app, page, source):
    if page != "reference/requirements":
        return
    path = Path(app.srcdir, "reference", "requirements.toml")
    table = [":::{list-table}", ":header-rows: 1", ":widths: 6 34 60", ""]
    table += ["* - Row", "  - What it asks for", "  - Tests"]
    for row in tomllib.loads(path.read_text("utf-8"))["row"]:
        shown = [f"`{name}`" for name in row.get("tests", [])]
        shown += [row["does_not_apply"]] if "does_not_apply" in row else []
        table += [f"* - {row['number']}", f"  - {row['title']}", f"  - - {shown[0]}"]
        table += [f"    - {one}" for one in shown[1:]]
    source[0] = source[0].replace("<!-- requirements -->", "\n".join([*table, ":::"]))
