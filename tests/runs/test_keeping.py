"""Which checkpoints are kept and taken, when a run is evaluated, and whose tasks it is evaluated on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nacre
from nacre.cli import main as cli
from nacre.runs import tables, trainer
from nacre.runs.loading import load_state

QUICK = dict(preset="smoke", checkpoint_minutes=0.0)
"""Runs of `random`, whose scores go up and down, with a checkpoint after every iteration."""


def saved_steps(run: nacre.RunDirectory) -> list[int]:
    return sorted(int(entry.name) for entry in run.checkpoints.iterdir())


def best_of(run: nacre.RunDirectory) -> int:
    scores = tables.scores_by_update(run.evaluations())
    return max(scores, key=lambda step: scores[step])


@pytest.fixture(scope="module")
def best_kept(tmp_path_factory: pytest.TempPathFactory) -> nacre.RunDirectory:
    path = tmp_path_factory.mktemp("best") / "run"
    return nacre.train("random", "point-robot", **QUICK, seed=5, iterations=6, keep="best", out=path)


def test_the_best_checkpoint_is_kept_beside_the_two_newest(best_kept: nacre.RunDirectory) -> None:
    best = best_of(best_kept)
    assert best == 4  # with this seed, better than the first three
    assert saved_steps(best_kept) == [4, 5, 6]


def test_the_best_is_saved_when_it_is_evaluated_even_where_no_checkpoint_is_due(
    best_kept: nacre.RunDirectory, tmp_path: Path
) -> None:
    run = nacre.train("random", "point-robot", preset="smoke", seed=5, iterations=6, keep="best", out=tmp_path / "run")
    assert best_of(run) == best_of(best_kept)
    assert best_of(run) in saved_steps(run) and saved_steps(run)[-1] == 6


def test_a_run_that_was_stopped_and_resumed_keeps_the_same_best(best_kept: nacre.RunDirectory, tmp_path: Path) -> None:
    run = nacre.train(
        "random", "point-robot", **QUICK, seed=5, iterations=6, keep="best", time_limit=1e-9, out=tmp_path / "run"
    )
    while saved_steps(run)[-1] < 6:
        nacre.resume(run.path, time_limit=1e-9)
    assert saved_steps(run) == saved_steps(best_kept)


def test_seeds_side_by_side_have_checkpoints_at_the_same_updates_and_their_best(tmp_path: Path) -> None:
    runs = nacre.train_seeds("random", "point-robot", (1, 2), preset="smoke", iterations=6, keep="best", out=tmp_path)
    for run in runs:
        assert best_of(run) in saved_steps(run)
    assert [saved_steps(run)[-2:] for run in runs] == [saved_steps(runs[0])[-2:]] * 2


def test_a_checkpoint_is_taken_by_name(best_kept: nacre.RunDirectory) -> None:
    taken = {
        name: int(load_state(best_kept, with_buffers=False, checkpoint=name).grad_steps)
        for name in ("latest", "best", "5", 5)
    }
    assert taken == {"latest": 6, "best": 4, "5": 5, 5: 5}
    with pytest.raises(nacre.NacreError, match=r"no checkpoint '3'; write latest, best, or one of: 4, 5, 6\."):
        nacre.load(best_kept.path, checkpoint="3")
    assert cli.main(["evaluate", str(best_kept.path), "--checkpoint", "best"]) == 0
    assert cli.main(["evaluate", str(best_kept.path), "--checkpoint", "bets"]) == 2


def test_a_damaged_best_gives_way_to_the_next_best_but_a_number_is_meant(
    best_kept: nacre.RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = nacre.RunDirectory(Path(shutil.copytree(best_kept.path, tmp_path / "run")))
    scores, best = tables.scores_by_update(run.evaluations()), best_of(run)
    shutil.rmtree(run.checkpoints / str(best) / "state")
    state = load_state(run, with_buffers=False, checkpoint="best")
    assert int(state.grad_steps) == max((5, 6), key=lambda step: scores[step])
    assert f"{run.checkpoints / str(best) / 'state'}" in capsys.readouterr().err
    with pytest.raises(nacre.NacreError, match="damaged"):
        load_state(run, with_buffers=False, checkpoint=best)


def test_test_tasks_are_evaluated_every_interval_and_after_the_last_iteration(tmp_path: Path) -> None:
    run = nacre.train(
        "random", "point-robot", preset="smoke", iterations=7, evaluation_interval=3, train_evaluation_interval=2,
        out=tmp_path / "run",
    )  # fmt: skip
    evaluations = run.evaluations()
    at = {split: evaluations["grad_steps"][evaluations["split"] == split] for split in ("test", "train")}
    assert {split: np.unique(steps).tolist() for split, steps in at.items()} == {"test": [3, 6, 7], "train": [2, 4, 6]}
    with pytest.raises(nacre.NacreError, match="--evaluation-interval"):
        nacre.resolve("random", "point-robot", "smoke", evaluation_interval=0)


# ----------------------------------------------------------------------------------------------------------------------
# --overwrite


def test_overwrite_removes_a_run_and_nothing_but_a_run(tmp_path: Path) -> None:
    path, mine = tmp_path / "run", tmp_path / "mine"
    nacre.train("random", "point-robot", preset="smoke", out=path)
    (path / "notes.txt").write_text("old")
    run = nacre.train("random", "point-robot", preset="smoke", seed=4, overwrite=True, out=path)
    assert run.experiment.options.seed == 4 and not (path / "notes.txt").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    with pytest.raises(nacre.NacreError, match="--overwrite removes nothing but runs"):
        nacre.train("random", "point-robot", preset="smoke", overwrite=True, out=mine)
    assert (mine / "thesis.txt").read_text() == "mine"
    with run.locked(), pytest.raises(nacre.NacreError, match="another process is training"):
        nacre.train("random", "point-robot", preset="smoke", overwrite=True, out=path)
    assert nacre.RunDirectory(path).experiment.options.seed == 4


def test_where_a_new_run_cannot_be_made_the_old_ones_are_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two is refused: the first has been made by then, and goes again."""
    paths = [tmp_path / "seed-1", tmp_path / "seed-2"]
    for path in paths:
        nacre.train("random", "point-robot", preset="smoke", out=path)
    before = [(path / "config.json").read_text() for path in paths]
    make, made = nacre.RunDirectory.create.__func__, []  # type: ignore[attr-defined]

    def full(cls: Any, path: Path, *rest: Any) -> Any:
        if made:
            raise nacre.NacreError("the disk is full.")
        made.append(make(cls, path, *rest))
        return made[0]

    monkeypatch.setattr(nacre.RunDirectory, "create", classmethod(full))
    experiments = [nacre.resolve("random", "point-robot", "smoke", seed=seed) for seed in (1, 2)]
    with pytest.raises(nacre.NacreError, match="the disk is full"):
        trainer.train(experiments, paths, overwrite=True)
    assert len(made) == 1 and [(path / "config.json").read_text() for path in paths] == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["seed-1", "seed-2"]


# ----------------------------------------------------------------------------------------------------------------------
# Tasks


def test_a_digit_changed_in_a_test_task_is_refused_by_everybody_in_the_same_words(
    smoke_run: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(smoke_run("point-robot"), tmp_path / "run"))
    text = (run / "tasks.json").read_text()
    digit = text.rindex("0.") + 4
    (run / "tasks.json").write_text(text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :])
    sentence = f"nacre: the tasks in {run / 'tasks.json'} are not the checkpoint's; restore that file."
    uses: list[list[Any]] = [
        ["resume", run], ["evaluate", run], ["adapt", run, "--task", "goal=0,0.5"],
        ["report", run, "-o", tmp_path / "curves.png"], ["report", run, "--kind", "trials", "-o", tmp_path / "t.png"],
        ["report", run, "-o", tmp_path / "page.html"],
    ]  # fmt: skip
    for use in uses:
        capsys.readouterr()
        assert cli.main([str(part) for part in use]) == 2, use
        assert capsys.readouterr().err.splitlines()[-1] == sentence, use
    with pytest.raises(nacre.NacreError, match="are not the checkpoint's"):
        nacre.load(run)


def test_what_stopped_a_run_is_told(tmp_path: Path) -> None:
    experiment = nacre.resolve("random", "point-robot", "smoke", iterations=3)
    stopped = trainer.train([experiment], [tmp_path / "run"], time_limit=1e-9)
    assert stopped.stopped_by == "the time limit"
    assert trainer.resume([tmp_path / "run"]).stopped_by is None
