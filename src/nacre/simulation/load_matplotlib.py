"""Loads Matplotlib, also where MPLBACKEND names a backend that is not there, as that of a notebook often is not.

Matplotlib reads that variable when it is imported, and fails. Pictures that go into files need no backend; the variable
stays what it is, and is obeyed where it can be.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

_chosen = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib as matplotlib
finally:
    if _chosen is not None:
        os.environ["MPLBACKEND"] = _chosen
if _chosen:
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = _chosen
