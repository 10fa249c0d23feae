"""Where data sets lie, and what their names look like: as Minari has it.

ROOT/nacre/cheetah-vel/mixed-v0/data/main_data.hdf5     the episodes
ROOT/nacre/cheetah-vel/mixed-v0/data/metadata.json      what is known about them; nacre's own part under "nacre"
ROOT/nacre/cheetah-vel/mixed-v0/cache/                  the same numbers for training (`cache.py`); may be removed
ROOT/nacre/cheetah-vel/.mixed-v0.writing-*/             a data set that is not finished
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from nacre.errors import NacreError, shown

VARIABLE = "MINARI_DATASETS_PATH"
EPISODES = Path("data") / "main_data.hdf5"
METADATA = Path("data") / "metadata.json"
CACHE = "cache"
LOCK = "lock"

MOST_LETTERS = 200
"""Letters of a part of a name, at most: a file's may have 255."""
_ID = re.compile(r"([-\w]+/)*[-\w]+-v\d+")


def root() -> Path:
    """The folder of all data sets."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen) if chosen else Path.home() / ".minari" / "datasets"


def folder_of(id: str) -> Path:
    """Where the data set of this name lies, be it there or not. NacreError for what is no name."""
    if not _ID.fullmatch(id) or max(map(len, id.split("/"))) > MOST_LETTERS:
        raise NacreError(
            f"'{shown(id)}' is no name of a data set; write NAMESPACE/NAME-vNUMBER, such as nacre/cheetah-vel/mixed-v0."
        )
    return root() / id


def all_ids(below: Path | None = None) -> list[str]:
    """Names of all data sets there, nacre's and others."""
    top = below or root()
    found = [file.parent.parent for file in top.rglob(METADATA.as_posix())] if top.is_dir() else []
    ids = [folder.relative_to(top).as_posix() for folder in found]
    return sorted(id for id in ids if _ID.fullmatch(id))


def nested(folder: Path) -> list[str]:
    """Data sets whose folders lie within this data set's, finished or being written."""
    written = [draft for draft in folder.rglob(".*.writing-*") if (draft / "data").is_dir() and _is_written(draft)]
    return [*all_ids(folder), *(draft.name[1:].partition(".writing-")[0] for draft in written)]


def unfinished() -> list[Path]:
    """Folders of data sets whose writer ended before it was done."""
    folders = root().rglob(".*.writing-*") if root().is_dir() else iter(())
    return sorted(folder for folder in folders if folder.is_dir() and not _is_written(folder))


def begin(folder: Path) -> tuple[Path, IO[Any]]:
    """A hidden folder beside `folder` to write a data set in, and the open file that holds its lock.

    What an interrupted writer of the same data set left is removed.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".{folder.name}.writing-*"):
            if not _is_written(left):
                shutil.rmtree(left)
        draft = folder.with_name(f".{folder.name}.writing-{os.getpid()}-{os.urandom(3).hex()}")
        (draft / "data").mkdir(parents=True)
        handle = (draft / LOCK).open("w")
    except OSError as error:
        raise cannot_write(folder, error) from error
    _locked(handle)
    return draft, handle


def publish(draft: Path, folder: Path, lock: IO[Any]) -> None:
    """Gives a finished data set its name."""
    try:
        for file in (draft / "data").iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        (draft / LOCK).unlink()
        os.rename(draft, folder)
    except OSError as error:
        if folder.exists():
            raise exists(folder) from error
        raise cannot_write(folder, error) from error
    finally:
        lock.close()


def exists(folder: Path) -> NacreError:
    """The error for a name that is taken."""
    return NacreError(
        f"{folder} exists already; give the new data set another name, or remove the old one with 'nacre data remove'."
    )


def remove_old_drafts(place: Path) -> None:
    """What programs left here that were killed in the making: a day old, so that none of them is at work still."""
    for left in place.parent.glob(f".{glob.escape(place.name)}.writing-*"):
        if time.time() - left.stat().st_mtime > 86_400:
            shutil.rmtree(left, ignore_errors=True)


def cannot_write(file: Path, error: Exception) -> NacreError:
    """The error for what the system refused to write."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
    return NacreError(f"cannot write {file} ({reason}); make room, change the permissions there, or set {VARIABLE}.")


def user_cache() -> Path:
    """Where caches of data sets lie that nothing can be written beside."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nacre" / "data"


def _is_written(folder: Path) -> bool:
    """Whether a writer that still runs holds the folder's lock."""
    with suppress(OSError), (folder / LOCK).open("r") as handle:
        return not _locked(handle)
    return False


def _locked(handle: IO[Any]) -> bool:
    """Takes the lock of this file; whether it could."""
    try:
        import fcntl  # not on Windows
    except ImportError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
