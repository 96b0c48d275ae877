"""How Sphinx builds these pages."""

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
