"""A progress bar for terminals."""

from __future__ import annotations

from django.core.management.base import OutputWrapper

WIDTH = 30


class ProgressBar:
    """One line that is written over again. Nothing is written where no terminal is."""

    def __init__(self, output: OutputWrapper) -> None:
        self._output = output
        self._is_shown = output.isatty()

    def show(self, share: float, text: str) -> None:
        """Show that *share* of the work (0 to 1) is done, and *text* behind it."""
        if self._is_shown:
            done = round(share * WIDTH)
            bar = "#" * done + "." * (WIDTH - done)
            self._output.write(f"\r[{bar}] {share:4.0%} {text} ", ending="")
            self._output.flush()

    def close(self) -> None:
        """Begin a new line for what is written next."""
        if self._is_shown:
            self._output.write("")
