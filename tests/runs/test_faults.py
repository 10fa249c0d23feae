"""Runs that cannot continue: numbers that are not finite, memory that does not suffice."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from small_runs import BLOCK, SMALL, assert_same_run, flags, saved_steps

import nacre
from nacre.algorithms import pearl, registry
from nacre.algorithms.registry import ALGORITHMS
from nacre.cli import main as cli
from nacre.families.half_cheetah import CheetahVel
from nacre.learning import off_policy


def poisoned(name: str, update: int) -> Callable[..., Iterator[tuple[Any, Any]]]:
    """PEARL's meta-training, but with one metric of one update that is not finite."""
    meta_train = ALGORITHMS["pearl"].meta_train

    def train(*args: Any) -> Iterator[tuple[Any, Any]]:
        for states, (metrics,) in meta_train(*args):
            first = int(states[0].grad_steps) - BLOCK + 1
            if first <= update <= states[0].grad_steps:
                metrics = metrics | {name: metrics[name].at[update - first].set(np.nan)}
            yield states, [metrics]

    return train


@pytest.mark.parametrize(("name", "update", "iteration", "kept"), [("kl", 18, 2, 15), ("value_loss", 6, 1, 5)])
def test_a_loss_that_is_not_finite_stops_the_run_names_the_place_and_keeps_the_last_good_checkpoint(
    uninterrupted: nacre.RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    name: str, update: int, iteration: int, kept: int,
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        pearl_poisoned = dataclasses.replace(ALGORITHMS["pearl"], meta_train=poisoned(name, update))
        patch.setitem(registry._BUILT_IN, "pearl", pearl_poisoned)
        with pytest.raises(nacre.NacreError) as raised:
            nacre.train("pearl", "point-robot", **SMALL, checkpoint_minutes=0.0, out=tmp_path / "run")
    message = str(raised.value)
    assert f"{name} is not finite at gradient update {update} (iteration {iteration})" in message
    assert f"checkpoint at update {kept} is kept" in message
    run = nacre.RunDirectory(tmp_path / "run")
    assert saved_steps(run)[-1] == kept
    nacre.resume(run.path)  # the poison is gone: what was kept is good
    assert_same_run(run, uninterrupted)


class Diverged(NamedTuple):
    """What a run came to whose learning rate is much too large."""

    status: int
    error: str  # on stderr
    log: list[str]  # what JAX compiled, and where the buffers were made


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory) -> Diverged:
    log: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: log.append(record.getMessage())  # type: ignore[method-assign]

    def tracked_init(*args: Any) -> pearl.State:
        state = pearl.init(*args)
        if not isinstance(state.rl_buffer.pool, jax.core.Tracer):
            log.append("buffers made")
        return state

    flags = ["--preset", "smoke", "--learning-rate", "1e30", "--out", str(tmp_path_factory.mktemp("diverged") / "run")]
    error = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(error), jax.log_compiles():
        patch.setattr(off_policy, "UPDATES_PER_CALL", BLOCK)
        patch.setitem(registry._BUILT_IN, "pearl", dataclasses.replace(ALGORITHMS["pearl"], init=tracked_init))
        logging.getLogger("jax").addHandler(listener)
        try:
            status = cli.main(["train", "pearl", "point-robot", *flags])
        finally:
            logging.getLogger("jax").removeHandler(listener)
    return Diverged(status, error.getvalue(), log)


def test_a_learning_rate_that_diverges_ends_in_one_sentence_that_names_a_metric_and_an_update(
    diverged: Diverged,
) -> None:
    assert diverged.status == 2
    lines = [line for line in diverged.error.splitlines() if line.startswith("nacre: ")]
    assert len(lines) == 1
    found = re.search(r"nacre: (\w+) is not finite at gradient update (\d+) \(iteration 1\)", lines[0])
    assert found
    assert (found[1], found[2]) == ("policy_loss", "1")  # the policy is the first to see the new critics
    assert "no checkpoint" in lines[0]


def test_the_update_is_compiled_once_and_before_the_buffers_take_memory(diverged: Diverged) -> None:
    start = "Finished XLA compilation of jit(block)"
    compiled = [i for i, message in enumerate(diverged.log) if message.startswith(start)]
    assert len(compiled) == 1
    assert compiled[0] < diverged.log.index("buffers made")


@pytest.mark.parametrize(
    "flags",
    [
        ("--hidden-dim", "65536", "--num-hidden-layers", "100"),
        ("--replay-capacity", "1000000000000"),
        ("--encoder-hidden-dim", "65536", "--num-hidden-layers", "100"),
    ],
)
def test_a_run_that_no_memory_holds_is_refused_before_anything_is_made(
    flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert cli.main(["train", "pearl", "point-robot", "--preset", "smoke", "--out", str(out), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(
        r"nacre: this run would need [\d,.]+ GB for its replay and networks, but the machine has [\d.]+ GB", line
    )
    assert not out.exists()


def test_running_out_of_memory_ends_in_one_sentence_and_the_run_can_go_on(
    small_blocks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def exhausted(*args: Any) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 6970800034328 bytes.")

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(off_policy, "train", exhausted)
        assert cli.main(["train", "pearl", "point-robot", *flags(SMALL), "--out", str(out)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nacre: ")]
    assert len(lines) == 1
    assert f"the run at {out} did not fit into memory" in lines[0]
    assert cli.main(["resume", str(out)]) == 0


def test_another_failure_of_the_device_is_not_taken_for_a_lack_of_memory(
    small_blocks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def failing(*args: Any) -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: an illegal memory access was encountered")

    monkeypatch.setattr(off_policy, "train", failing)
    with pytest.raises(jax.errors.JaxRuntimeError, match="illegal"):
        nacre.train("pearl", "point-robot", **SMALL, out=tmp_path / "run")


def test_a_reward_that_is_not_finite_stops_the_run_and_names_the_family_and_the_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(CheetahVel, "progress", lambda self, velocity, task: np.full_like(velocity, np.nan))
    with pytest.raises(nacre.NacreError, match="cheetah-vel returned a reward that is not finite at step 1"):
        nacre.train("random", "cheetah-vel", preset="smoke", out=tmp_path / "run")
