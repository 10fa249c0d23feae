"""Checksums of files: how damage is told from what was written."""

from __future__ import annotations

import zlib
from pathlib import Path

PIECE = 1 << 22
"""Bytes that are read at a time."""


def crc32(file: Path) -> int:
    """CRC-32 of a file's bytes. Raises OSError for a file that cannot be read."""
    crc = 0
    with file.open("rb") as handle:
        while piece := handle.read(PIECE):
            crc = zlib.crc32(piece, crc)
    return crc
