"""Pictures where MPLBACKEND names what is not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BACKENDS = {"module://not_there.backend_inline": None, "inline": None, "svg": "svg", "": None}
"""MPLBACKEND -> the backend that is used, where it is one."""
PROGRAM = f"""
import os, sys
import jax, mujoco  # what takes long, once
assert "matplotlib" not in sys.modules
for number, (backend, used) in enumerate({BACKENDS}.items()):
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0, backend
        continue
    os.environ["MPLBACKEND"] = backend
    from nacre.report import curves
    from matplotlib import rcParams
    from matplotlib.figure import Figure
    Figure().savefig(f"picture-{{number}}.png")
    assert os.environ["MPLBACKEND"] == backend
    assert used is None or rcParams["backend"] == used
    break
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_picture_is_saved_whatever_the_backend_and_the_variable_stays(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"picture-{n}.png" for n in range(len(BACKENDS))]
    assert all(path.stat().st_size > 0 for path in tmp_path.iterdir())
