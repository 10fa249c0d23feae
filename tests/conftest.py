"""What tests share: a compilation cache and smoke runs, with all workers and processes that they start."""

from __future__ import annotations

import atexit
import fcntl
import gc
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import jaxtyping
import pytest

# Read by JAX when it is imported, here and in the processes that tests start: what one compiles, the others load.
# pytest-xdist's workers have it from the process that starts them. (JAX writes an entry in place: a worker that reads
# half of one warns, and compiles.) NACRE_TESTS_CACHE names a folder that outlives the tests, for who runs them often.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _cache = os.environ.get("NACRE_TESTS_CACHE") or tempfile.mkdtemp(prefix="nacre-tests-")
    if "NACRE_TESTS_CACHE" not in os.environ:
        atexit.register(shutil.rmtree, _cache, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    # Most of the tests' time is the compilation of programs that run once. Where `make test` has switched most
    # optimisations off, so is what else takes long: the search for kernels that can run beside each other, the newer
    # emitter of kernels, with which programs take more than twice as long to compile (jaxlib 0.11 has no other), and
    # 32 modules to a program, each with mappings of its own.
    if "JAX_DISABLE_MOST_OPTIMIZATIONS" in os.environ:
        _flags = [
            "--xla_cpu_parallel_codegen_split_count=1",
            "--xla_cpu_enable_concurrency_optimized_scheduler=false",
        ]
        if metadata.version("jaxlib").startswith("0.10."):
            _flags += [
                "--xla_cpu_use_fusion_emitters=false",
                "--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE",
                "--xla_cpu_copy_insertion_use_region_analysis=false",
            ]
        os.environ["XLA_FLAGS"] = " ".join([*_flags, os.environ.get("XLA_FLAGS", "")])

# In the modules that write shapes beside their arrays, every call is checked against them while tests run; under
# jax.jit that happens in tracing. A NumPy array serves wherever a JAX array does, as in JAX itself.
SOURCES = Path(__file__).parents[1] / "src"
WITH_SHAPES = [
    ".".join(path.relative_to(SOURCES).with_suffix("").parts)
    for path in sorted(SOURCES.rglob("*.py"))
    if "from jaxtyping import" in path.read_text()
]


def check_shapes() -> None:
    import jax
    import numpy as np

    jax.devices()  # the usual ones: a command that a test calls can no longer ask for more
    jaxtyping.Array = jax.Array | np.ndarray
    jaxtyping.install_import_hook(WITH_SHAPES, "beartype.beartype")


# The process that hands tests out to pytest-xdist's workers runs none: it does without JAX.
HANDS_OUT = re.search(r"(^| )(-n ?|--numprocesses[ =])([1-9]|auto|logical)", " ".join(sys.argv[1:]))
if "PYTEST_XDIST_WORKER" in os.environ or not HANDS_OUT:
    check_shapes()

# Tracing makes many small objects, few of them cycles: what is garbage is collected at the end of a module.
gc.set_threshold(100_000, 50, 100)


MAX_MAPPINGS = 30_000
"""Of the 65,530 that Linux allows a process, unless it is told otherwise."""


@pytest.fixture(scope="module", autouse=True)
def forget_what_was_compiled() -> Iterator[None]:
    """Every compiled program maps memory of its own, and a process may have only so many mappings. Until they become
    many, modules that need the same program share it.

    Every run collects garbage twice: what stays, of what was imported and compiled before, is not looked through.
    """
    gc.collect()
    gc.freeze()
    yield
    import jax

    mappings = Path("/proc/self/maps")
    if not mappings.exists() or mappings.read_bytes().count(b"\n") > MAX_MAPPINGS:
        gc.unfreeze()
        jax.clear_caches()


@pytest.fixture(scope="session", autouse=True)
def garbage_is_left_to_the_module() -> Iterator[None]:
    """A run collects garbage when it has compiled, which takes long beside all that tests have compiled before."""
    from nacre.runs import memory

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nacre.runs.trainer.release_memory", memory.hand_back_memory)
        yield


@pytest.fixture(scope="session", autouse=True)
def an_empty_working_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests see nothing of the runs/ and the data that lie where they were started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("working-directory"))
        yield


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """family -> the run directory of its smoke preset, trained on first use. Shared with the other workers: copy it
    before changing it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "smoke-runs"
    folder.mkdir(exist_ok=True)

    def trained(family: str) -> Path:
        from nacre.cli import main as cli

        path, begun = folder / family, folder / f"{family}-begun"
        with (folder / f"{family}-lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                arguments = ["train", "pearl", family, "--preset", "smoke", "--checkpoint-minutes", "0", "--overwrite"]
                assert cli.main([*arguments, "--out", str(begun)]) == 0
                begun.rename(path)
        return path

    return trained


@pytest.fixture
def float64() -> Iterator[None]:
    """JAX computes in float64."""
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture
def gl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips where MuJoCo has no library to render with; MUJOCO_GL is afterwards what it was."""
    from nacre.errors import NacreError
    from nacre.simulation import rendering

    monkeypatch.setenv("MUJOCO_GL", os.environ.get("MUJOCO_GL", "unset"))  # put back in the end
    if os.environ["MUJOCO_GL"] == "unset":
        monkeypatch.delenv("MUJOCO_GL")
    try:
        rendering.prepare_mujoco_rendering("rgb_array")
    except NacreError as error:
        pytest.skip(str(error))
