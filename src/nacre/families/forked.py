"""Whether this process was forked from one in which JAX had threads: it would wait for them for ever."""

from __future__ import annotations

import os
import sys

from nacre.errors import NacreError

_lost_threads = False


def _in_child() -> None:
    global _lost_threads
    bridge = sys.modules.get("jax._src.xla_bridge")
    _lost_threads = _lost_threads or (bridge is not None and bool(bridge.backends_are_initialized()))


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_in_child)


def refuse_after_fork(name: str) -> None:
    """Raises NacreError where this process cannot use JAX, which a family of this name needs."""
    if _lost_threads:
        raise NacreError(
            f"{name} is stepped by JAX, which was used before this process was forked from another, and would hang "
            "here; start such processes with spawn, as in gymnasium.vector.AsyncVectorEnv(envs, context='spawn')."
        )
