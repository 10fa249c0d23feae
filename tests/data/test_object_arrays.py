"""Object arrays in NumPy files, which are pickles: read without calling anything that they name."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_importing import EPISODES, object_rows

from nacre.data import object_arrays


class Command:
    """Unpickled the usual way, it makes a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> Any:
        return (Path.touch, (self.file,))


def test_nothing_in_an_object_array_is_called(tmp_path: Path) -> None:
    rows = np.empty((1, 4), object)
    rows[0, 0] = Command(tmp_path / "called")
    np.save(tmp_path / "trj_1.npy", rows)
    with pytest.raises(ValueError, match="it names pathlib"):
        object_arrays.load(tmp_path / "trj_1.npy")
    assert not (tmp_path / "called").exists()


VALUES = (np.float32(2.5), np.int64(-3), True, 7, -1.5, np.arange(6.0).reshape(2, 3).T, np.array(3.0),
          np.zeros((0, 2)), np.arange(3, dtype=">i2"), [1, 2], (1.0, 2.0))  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_an_object_array_comes_back_as_it_was(tmp_path: Path, value: Any) -> None:
    rows = np.empty((2, 1), object)
    rows[0, 0], rows[1, 0] = value, value
    np.save(tmp_path / "x.npy", rows)
    found = object_arrays.load(tmp_path / "x.npy")
    assert found.shape == (2, 1)
    for item in found[:, 0]:
        np.testing.assert_array_equal(item, value)


def test_a_cut_object_array_is_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    np.save(whole, object_rows(EPISODES[0], 4))
    content = whole.getvalue()
    for size in range(0, len(content), 37):
        (tmp_path / "x.npy").write_bytes(content[:size])
        with pytest.raises((ValueError, EOFError, struct.error)):
            object_arrays.load(tmp_path / "x.npy")
