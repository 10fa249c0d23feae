"""How a process that does a job notices that the process that started it is gone: its stdin, a pipe, ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

VARIABLE = "NACRE_DRIVER_ON_STDIN"
"""Set in the environment of a process that is to do so."""
GRACE_SECONDS = 300.0
"""What is left to save a checkpoint; after it the process ends as if it were killed."""


def watch_driver() -> None:
    """From now on this process is asked to stop, by SIGTERM, when its stdin ends."""
    os.environ.pop(VARIABLE, None)  # not for processes that this one starts
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM warns all processes of a job; who started this one stops it
    threading.Thread(target=_wait, args=(sys.stdin.fileno(),), name="driver-watch", daemon=True).start()


def _wait(pipe: int) -> None:
    while os.read(pipe, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(128 + signal.SIGTERM)
