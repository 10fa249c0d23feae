"""Runs that start from another run's networks, and from nothing else of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import nacre
from nacre.cli import main as cli
from nacre.runs.loading import load_state

METHODS = ("pearl", "rl2", "maml-trpo", "promp", "maesn", "oracle")
SMOKE: dict[str, Any] = dict(preset="smoke", iterations=1)


def acting(path: Path, checkpoint: str = "latest") -> list[np.ndarray]:
    """What the agent of a checkpoint acts by; of MAESN without the latents, which are of train tasks."""
    run = nacre.RunDirectory(path)
    params = run.experiment.algorithm.agent_params(load_state(run, with_buffers=False, checkpoint=checkpoint))
    if run.experiment.algorithm_name == "maesn" and hasattr(params, "latents"):
        params = params._replace(latents=None)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(one, other, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_a_run_starts_with_the_networks_of_another_and_learns_on(method: str, tmp_path: Path) -> None:
    first, warm = tmp_path / "first", tmp_path / "warm"
    nacre.train(method, "point-robot", out=first, **SMOKE)
    nacre.train(method, "point-robot", out=warm, from_run=first, seed=1, **SMOKE)
    assert same(acting(warm, "0"), acting(first))
    begun = load_state(nacre.RunDirectory(warm), with_buffers=False, checkpoint="0")
    assert (begun.env_steps, begun.grad_steps, begun.meta_iterations) == (0, 0, 0)
    assert not same(acting(warm), acting(first)), "it was trained on"
    record = json.loads((warm / "config.json").read_text())["started_from"]
    assert record["run"] == str(first) and record["grad_steps"] > 0 and len(record["networks_sha256"]) == 64


def test_it_goes_on_without_the_other_run_and_remembers_it(tmp_path: Path) -> None:
    first, warm, whole = (tmp_path / name for name in ("first", "warm", "whole"))
    nacre.train("rl2", "point-robot", out=first, **SMOKE)
    for path in (warm, whole):
        nacre.train("rl2", "point-robot", out=path, from_run=first, seed=1, preset="smoke", iterations=2)
    shutil.rmtree(first)
    for step in (warm / "checkpoints").iterdir():  # as if it had been killed before its second checkpoint
        if step.name != "0":
            shutil.rmtree(step)
    run = nacre.resume(warm)
    assert same(acting(warm), acting(whole))
    assert run.started_from == nacre.RunDirectory(whole).started_from is not None


def test_a_run_that_was_stopped_before_its_first_checkpoint_does_not_begin_with_fresh_networks(tmp_path: Path) -> None:
    first, warm = tmp_path / "first", tmp_path / "warm"
    nacre.train("rl2", "point-robot", out=first, **SMOKE)
    nacre.train("rl2", "point-robot", out=warm, from_run=first, **SMOKE)
    shutil.rmtree(warm / "checkpoints")
    with pytest.raises(nacre.NacreError, match="was to start from another run"):
        nacre.resume(warm)


def test_other_methods_sizes_and_nothing_are_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, out = tmp_path / "first", tmp_path / "out"
    nacre.train("rl2", "point-robot", out=first, **SMOKE)
    chance = nacre.train("random", "point-robot", out=tmp_path / "random", **SMOKE)
    command = ["--preset", "smoke", "--out", str(out)]
    for arguments, part in (
        (["promp", "point-robot", "--from", str(first)], "is of rl2, so promp cannot start from it"),
        (["random", "point-robot", "--from", str(chance.path)], "random has no networks to start from"),
        (["rl2", "point-robot", "--from", str(tmp_path / "none")], "there is no run"),
        (["rl2", "point-robot", "--hidden-dim", "7", "--from", str(first)], "the networks of the run"),
        (["rl2", "cheetah-vel", "--from", str(first)], "the networks of the run"),
    ):
        assert cli.main(["train", *arguments, *command]) == 2
        assert part in capsys.readouterr().err
        assert not out.exists()
