"""Runs that start from another run's networks: resumed, and refused. What they take over: warm_starts.py."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import nacre
from nacre.cli import main as cli
from warm_starts import acting, same

SMOKE: dict[str, Any] = dict(preset="smoke")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to start from. Shared: copy it before changing it."""
    return nacre.train("rl2", "point-robot", out=tmp_path_factory.mktemp("first") / "run", **SMOKE).path


def test_it_continues_without_the_other_run_and_remembers_it(trained: Path, tmp_path: Path) -> None:
    first, warm, whole = (tmp_path / name for name in ("first", "warm", "whole"))
    shutil.copytree(trained, first)
    for path in (warm, whole):
        nacre.train("rl2", "point-robot", out=path, from_run=first, seed=1, **SMOKE)
    shutil.rmtree(first)
    for step in (warm / "checkpoints").iterdir():  # as if it had been killed before its second checkpoint
        if step.name != "0":
            shutil.rmtree(step)
    run = nacre.resume(warm)
    assert same(acting(warm), acting(whole))
    assert run.started_from == nacre.RunDirectory(whole).started_from is not None


def test_a_run_that_was_stopped_before_its_first_checkpoint_does_not_begin_with_fresh_networks(
    trained: Path, tmp_path: Path
) -> None:
    warm = tmp_path / "warm"
    nacre.train("rl2", "point-robot", out=warm, from_run=trained, **SMOKE)
    shutil.rmtree(warm / "checkpoints")
    with pytest.raises(nacre.NacreError, match="was to start from another run"):
        nacre.resume(warm)


def test_networks_of_the_same_shapes_that_compute_something_else_are_refused(tmp_path: Path) -> None:
    """Layer normalisation has no weights: the same weights with and without it are two functions."""
    first = nacre.train("pearl", "point-robot", out=tmp_path / "first", normalise_critics=True, **SMOKE).path
    for settings in (dict(normalise_critics=False), {}):
        with pytest.raises(nacre.NacreError, match=r"critics\S*normalised is True in them, but False in the new run's"):
            nacre.train("pearl", "point-robot", out=tmp_path / "out", from_run=first, **settings, **SMOKE)
    assert not (tmp_path / "out").exists()
    nacre.train(
        "pearl", "point-robot", out=tmp_path / "out", from_run=first, normalise_critics=True, precision="tf32", **SMOKE
    )


def test_other_methods_sizes_and_nothing_are_refused_before_anything_is_made(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, out = trained, tmp_path / "out"
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
