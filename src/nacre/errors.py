"""What nacre tells a person who asked for something that cannot be done."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NacreError(Exception):
    """One sentence that says what is wrong and what to do; the command line prints it and exits with status 2."""


def unknown(kind: str, name: str, known: Iterable[str]) -> NacreError:
    """The error for a name that is not in a table, with the nearest name that is."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"choose one of: {', '.join(known)}."
    return NacreError(f"unknown {kind} '{name}'; {hint}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python or the device ran out of memory; JAX has no type of its own for it."""
    told = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")
    of_jax = type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError")
    return isinstance(error, MemoryError) or (of_jax and any(words in str(error) for words in told))
