"""The compilation cache: where it is, when it is left alone, and that a second process finds what one compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from nacre.runs import compilation_cache

PROGRAM = """
import jax, jax.numpy as jnp
jax.jit(lambda x: x + 1)(jnp.ones(3))  # compiled before anybody asked for a cache
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
from nacre.runs.compilation_cache import use_compilation_cache
use_compilation_cache()
with jax.log_compiles():
    jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((30, 30))).block_until_ready()
print(jax.config.jax_compilation_cache_dir)
"""


def run(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    variables = inherited | {"XDG_CACHE_HOME": str(home), "HOME": str(home)} | environment
    return subprocess.run([sys.executable, "-c", PROGRAM], env=variables, capture_output=True, text=True, check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME is of Linux")
def test_a_second_process_finds_what_the_first_has_compiled(tmp_path: Path) -> None:
    first = run(tmp_path)
    folder = Path(first.stdout.strip())
    assert folder.parent == tmp_path / "nacre" / "xla"
    compiled = sorted(path.name for path in folder.iterdir() if path.name.startswith("jit__lambda"))
    assert compiled
    second = run(tmp_path)
    assert "Persistent compilation cache hit" not in first.stderr
    assert "Persistent compilation cache hit" in second.stderr
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith("jit__lambda")) == compiled


def test_a_cache_that_the_user_has_chosen_is_left_alone(tmp_path: Path) -> None:
    chosen = tmp_path / "chosen"
    assert run(tmp_path / "home", JAX_COMPILATION_CACHE_DIR=str(chosen)).stdout.strip() == str(chosen)
    assert not (tmp_path / "home").exists()


def test_where_no_folder_can_be_made_there_is_no_cache_and_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv(compilation_cache.VARIABLE)
    monkeypatch.setattr(compilation_cache, "_user_cache", lambda: tmp_path / "file")
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        compilation_cache.use_compilation_cache()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux confines processes to cores")
def test_machines_that_compile_differently_have_a_folder_each(monkeypatch: pytest.MonkeyPatch) -> None:
    here = compilation_cache._machine()
    assert here == compilation_cache._machine()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert compilation_cache._machine() != here
