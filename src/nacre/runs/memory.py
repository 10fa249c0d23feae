"""Whether a run fits into memory, and what is told when it does not."""

from __future__ import annotations

import ctypes
import gc
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import jax
import numpy as np

from nacre.errors import NacreError, is_out_of_memory
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import Experiment


def check_memory(experiments: Sequence[Experiment]) -> None:
    """Refuses runs whose state alone is larger than the memory that is to hold it, before anything is made."""
    experiment = experiments[0]
    init, settings = experiment.algorithm.init, experiment.settings
    shapes = jax.eval_shape(lambda: init(experiment.family, settings, experiment.options.seed))
    each = sum(math.prod(leaf.shape) * np.dtype(np.float32).itemsize for leaf in jax.tree.leaves(shapes))
    needed = each * len(experiments)
    limit = memory_limit()
    if needed > limit:
        raise NacreError(
            f"this run would need {needed / 1e9:,.1f} GB for its replay and networks, but the machine has "
            f"{limit / 1e9:,.1f} GB; ask for fewer seeds, iterations, train tasks or steps, or smaller networks."
        )


def memory_limit() -> float:
    """Bytes of memory that the device has for a run: the accelerator's, or the machine's."""
    return (jax.devices()[0].memory_stats() or {}).get("bytes_limit", _machine_memory())


@contextmanager
def memory_errors(run: RunDirectory) -> Iterator[None]:
    """What did not fit into memory, in one sentence."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise NacreError(
            f"the run at {run.path} did not fit into memory; close other programs and resume it, or remove it and "
            "train anew with a smaller --meta-batch, --batch-size, --context-batch-size or smaller networks."
        ) from error


def release_memory() -> None:
    """Hands freed memory back to the system where the C library can: compilation leaves 100 MB and more behind."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _machine_memory() -> float:
    """Bytes of memory that this machine or container has, as far as the system tells."""
    limits = [math.inf]
    with suppress(AttributeError, OSError, ValueError):
        limits.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    with suppress(OSError, ValueError):  # "max" where a container has no limit
        limits.append(float(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits)
