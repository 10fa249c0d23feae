"""What asks a run to stop: Ctrl-C, SIGTERM, its time limit."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nacre.errors import NacreError


def exit_status(stopped_by: str | None) -> int:
    """Of a command whose run was stopped by this: a signal's as shells have it, 0 for the time limit or nothing."""
    return {"Ctrl-C": 128 + signal.SIGINT, "SIGTERM": 128 + signal.SIGTERM}.get(stopped_by or "", 0)


class StopRequest:
    """Whether something asked the run to stop: Ctrl-C, SIGTERM, or its time limit."""

    def __init__(self, time_limit_minutes: float | None):
        if time_limit_minutes is not None and not 0 < time_limit_minutes < math.inf:
            raise NacreError(
                f"the time limit is {time_limit_minutes} minutes, but must be above 0; change --time-limit."
            )
        self._deadline = None if time_limit_minutes is None else time.monotonic() + 60 * time_limit_minutes
        self._signal: str | None = None

    @property
    def reason(self) -> str | None:
        """Why to stop ('Ctrl-C', 'SIGTERM' or 'the time limit'), or None."""
        if self._signal is None and self._deadline is not None and time.monotonic() >= self._deadline:
            return "the time limit"
        return self._signal

    @property
    def signalled(self) -> str | None:
        """Which signal asked to stop ('Ctrl-C', 'SIGTERM'), or None; the time limit does not count."""
        return self._signal

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turns the first Ctrl-C or SIGTERM into a request; a second one stops at once, without a checkpoint."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self._signal is not None:
                raise KeyboardInterrupt
            self._signal = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
