"""Keeps what XLA compiles in the user's cache folder, so that the next process starts with it."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

import jax
import jaxlib.version
from jax.experimental.compilation_cache import compilation_cache

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def use_compilation_cache() -> None:
    """Turns JAX's compilation cache on, unless the user has chosen or forbidden one (JAX_ENABLE_COMPILATION_CACHE=0).

    The folder is nacre/xla under the user's cache folder, with a part for each kind of machine: compiled programs hold
    instructions that another CPU may lack, and a home may be shared. Safe to remove at any time.
    """
    chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if VARIABLE in os.environ or chosen is not None:
        return
    folder = _user_cache() / "nacre" / "xla" / _machine()
    with suppress(OSError):  # a home that cannot be written to: compile anew every time
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        compilation_cache.reset_cache()  # JAX looks for a cache once, which may be behind us


def num_cores() -> int:
    """Cores that this process may use, which is how many threads JAX and MuJoCo start on a CPU."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _user_cache() -> Path:
    """Where this system keeps a user's caches."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _machine() -> str:
    """A name for what compiled programs depend on: XLA's version, the CPU's instructions and number of cores."""
    parts = [jaxlib.version.__version__, platform.machine(), platform.processor(), str(num_cores())]
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        parts += sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
