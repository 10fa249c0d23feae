"""Files of a run: what the system refuses becomes one sentence; what is rewritten is there whole or not at all."""

from __future__ import annotations

import glob
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from nacre.errors import NacreError


def notice(text: str) -> None:
    """One sentence on stderr about what was mended or left out, while the command continues."""
    print(f"nacre: {text}", file=sys.stderr)


def reason_of(error: Exception) -> str:
    """Why the system or a library refused, in one short line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    of_tensorstore = re.search(r"os_error_code='(\d+)'", str(error))
    if of_tensorstore:
        return os.strerror(int(of_tensorstore[1]))
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__


@contextmanager
def writing(file: Path, then: str = "resume with 'nacre resume'") -> Iterator[None]:
    """Turns a refusal to write this file (full disk, no permission) into a NacreError; `then`: how to continue."""
    try:
        yield
    except OSError as error:
        raise NacreError(
            f"cannot write {file} ({reason_of(error)}); make room or change the permissions there, then {then}."
        ) from error


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turns a refusal to read this file (no permission, a directory in its place) into a NacreError."""
    try:
        yield
    except PermissionError as error:
        raise NacreError(f"this user may not read {file}; change its permissions, or ask its owner.") from error
    except OSError as error:
        raise NacreError(f"cannot read {file} ({reason_of(error)}); restore it.") from error
    except UnicodeDecodeError as error:
        raise NacreError(f"{file} is damaged ({reason_of(error)}); restore it.") from error


DAY = 86_400.0
"""Seconds."""


def is_draft(name: str) -> bool:
    """Whether a file of this name is a draft of `replace`, which a killed process has left."""
    return name.startswith(".") and name.endswith(".new")


def replace(file: Path, content: bytes, then: str = "resume with 'nacre resume'") -> None:
    """Rewrites a file, whole or not at all, whoever else does so at the same time; `then` as in `writing`. Drafts of
    processes that were killed are removed a day later."""
    draft = file.with_name(f".{file.name}-{os.getpid()}-{secrets.token_hex(4)}.new")
    try:
        with writing(file, then):
            draft.write_bytes(content)
            os.replace(draft, file)
            for left in file.parent.glob(f".{glob.escape(file.name)}-*.new"):
                if time.time() - left.stat().st_mtime > DAY:
                    left.unlink(missing_ok=True)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


@contextmanager
def making_room(
    paths: Iterable[Path], unused: Callable[[Path], AbstractContextManager[Any]] = nullcontext
) -> Iterator[None]:
    """Sets aside the folders at these paths, for those that the block puts there. They are removed once it has ended
    well, and else put back. `unused` holds a folder while it gets its other name, or refuses."""
    aside: dict[Path, Path] = {}
    try:
        for path in paths:
            if path.exists():
                with unused(path):
                    aside[path] = path.rename(path.with_name(f".replaced-{path.name[:40]}-{secrets.token_hex(4)}"))
        yield
    except BaseException:
        for path, old in aside.items():
            try:
                old.rename(path)
            except OSError:
                notice(f"what stood at {path} is at {old} now; move it back.")
        raise
    for old in aside.values():
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def locked(folder: Path, refusal: str, then: str = "resume with 'nacre resume'") -> Iterator[None]:
    """Makes sure that no other process works in this folder meanwhile: NacreError with `refusal` where another does.

    The lock ends with the process, however that ends; `then` as in `writing`.
    """
    import fcntl  # not on Windows, where everything but training works

    with ExitStack() as stack:
        with writing(folder / "lock", then):
            handle = stack.enter_context((folder / "lock").open("w"))
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise NacreError(refusal) from error
        yield


def is_locked(folder: Path) -> bool:
    """Whether another process has locked the folder, by `locked`."""
    import fcntl

    try:
        with (folder / "lock").open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
