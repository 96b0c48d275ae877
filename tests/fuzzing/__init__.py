"""Inputs that nobody has thought of: made by hypothesis in the suite, by atheris beside it.

`targets` says what each parser promises of any bytes, in plain Python; ``tox -e fuzz`` feeds
them by coverage (see ``__main__.py``), and the suite replays what was worth keeping.
"""
