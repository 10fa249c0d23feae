"""Pictures where MPLBACKEND names what is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("backend", "used"), [("module://not_there.backend_inline", None), ("inline", None), ("svg", "svg"), ("", None)]
)
def test_a_picture_is_saved_whatever_the_backend_and_the_variable_stays(
    backend: str, used: str | None, tmp_path: Path
) -> None:
    code = f"""
import os
from nacre.report import curves
from matplotlib import rcParams
from matplotlib.figure import Figure
Figure().savefig("picture.png")
assert os.environ["MPLBACKEND"] == {backend!r}
if {used!r}:
    assert rcParams["backend"] == {used!r}
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=os.environ | {"MPLBACKEND": backend}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "picture.png").stat().st_size > 0
