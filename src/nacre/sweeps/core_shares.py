"""Cores for a job on a machine where jobs of others run too: each takes a share that nobody else has taken."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def core_share(cores: Sequence[int], size: int) -> Iterator[list[int]]:
    """`size` of these cores that no other process of this user has taken so; [], for all, where none are left.

    A share is a lock on a file in the system's temporary folder, so it ends with the process that has it.
    """
    folder = Path(tempfile.gettempdir()) / f"nacre-cores-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as stack:
        for first in range(0, len(cores) - size + 1, size):
            share = list(cores[first : first + size])
            handle = stack.enter_context((folder / "-".join(map(str, share))).open("w"))
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield share
            return
        yield []
