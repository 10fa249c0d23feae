"""Loads MuJoCo, also where MUJOCO_GL names a library that is not there.

MuJoCo reads that variable when it is imported, and fails. Training needs no library of the kind; who renders is told in
a sentence (`rendering.prepare_mujoco_rendering`).
"""

from __future__ import annotations

import os

try:
    import mujoco as mujoco
except Exception:  # a missing library shows in many ways, an AttributeError among them
    _library = os.environ.pop("MUJOCO_GL", None)
    if _library is None:
        raise
    try:
        import mujoco as mujoco
    finally:
        os.environ["MUJOCO_GL"] = _library
