"""What is shown to a person who may be gone."""

from __future__ import annotations

from collections.abc import Callable


class Shown:
    """Shows things on stderr. Where that is gone (a closed terminal, a pipe whose reader ended), nothing is shown any
    more, and the work continues."""

    def __init__(self) -> None:
        self._watched = True

    def __call__(self, action: Callable[[], object]) -> None:
        """Does what writes to stderr."""
        if self._watched:
            try:
                action()
            except (OSError, ValueError):
                self._watched = False
