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
    if len(experiments) > 1 and jax.default_backend() != "cpu":  # CPU devices share the machine's memory
        needed //= experiment.options.devices
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
    """Frees what nobody refers to any more, and hands it back: compilation leaves memory behind."""
    gc.collect()
    hand_back_memory()


def hand_back_memory() -> None:
    """Hands freed memory back to the system where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _machine_memory() -> float:
    """Bytes of memory that this process may have, as far as the system tells: the machine's, or less where a container
    or a job scheduler allows less."""
    limits = [math.inf, *control_group_limits()]
    with suppress(AttributeError, OSError, ValueError):
        limits.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    return min(limits)


def control_group_limits(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> Iterator[float]:
    """Bytes of memory that this process's Linux control group, and every one above it, may have.

    Both versions of control groups are read. In a container, the groups above its own are not there to read.
    """
    with suppress(OSError, ValueError):  # no Linux, or "max" for no limit
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                top, name = root, "memory.max"
            elif "memory" in controllers.split(","):
                top, name = root / "memory", "memory.limit_in_bytes"
            else:
                continue
            group = top / path.lstrip("/")
            for each in (group, *group.parents):
                with suppress(OSError, ValueError):
                    yield float((each / name).read_text())
                if each == top:
                    break
