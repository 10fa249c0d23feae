"""Checksums of all files of a checkpoint: written before it becomes visible, verified when it is read."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nacre.data.checksums import crc32
from nacre.runs.files import reading

FILE = "checksums.json"


class Damaged(Exception):
    """A checkpoint that cannot be trusted; says which file of it, and why."""


class Listed(NamedTuple):
    """What checksums.json says."""

    nacre: str  # the version that wrote the checkpoint
    files: dict[str, int]  # CRC-32 by path inside the checkpoint


def write(checkpoint: Path) -> None:
    """Lists the checksums of everything that the folder holds."""
    files = sorted(file for file in checkpoint.rglob("*") if file.is_file())
    sums = {file.relative_to(checkpoint).as_posix(): crc32(file) for file in files}
    listed = {"nacre": importlib.metadata.version("nacre"), "crc32": sums}
    (checkpoint / FILE).write_text(json.dumps(listed, indent=1))


def listed(checkpoint: Path) -> Listed | None:
    """The checksums of a checkpoint; None where nacre 0.1 wrote it, with neither them nor tables. Raises Damaged."""
    file = checkpoint / FILE
    if not file.exists():
        if (checkpoint / "tables").exists():
            raise Damaged(f"{file} is missing")
        return None
    try:
        data = json.loads(file.read_bytes())
        files = data["crc32"]
        if not all(isinstance(crc, int) for crc in files.values()):
            raise TypeError("a checksum is no number")
        return Listed(str(data["nacre"]), files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{file} cannot be read") from error


def verify(checkpoint: Path, files: dict[str, int], folders: Sequence[str]) -> None:
    """Compares the files in these folders with their checksums. Raises Damaged, or NacreError for a file that this
    user may not read."""
    there = {file.relative_to(checkpoint).as_posix() for name in folders for file in (checkpoint / name).rglob("*")}
    wanted = {name for name in files if name.partition("/")[0] in folders}
    wanted |= {name for name in there if (checkpoint / name).is_file() and not Path(name).name.startswith(".")}
    for name in sorted(wanted):
        file = checkpoint / name
        if not file.is_file():
            raise Damaged(f"{file} is missing")
        if name not in files:
            raise Damaged(f"{file} has no checksum")
        with reading(file):
            if crc32(file) != files[name]:
                raise Damaged(f"{file} has another checksum than when it was written")
