"""Soft actor-critic in every task at once: as alone, as without a stop, better than random; the work directory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from nacre.collect import sac, training
from nacre.collect.settings import SacSettings, settings_for
from nacre.collect.work import Plan, WorkDirectory
from nacre.data.benchmarks import find
from nacre.errors import NacreError
from nacre.families.catalog import make_family
from nacre.families.family import take
from nacre.families.point import half_circle
from nacre.runs import arrays

FAMILY = make_family("point-robot-half-circle")
GOALS = {"goal": half_circle(np.array([0.5, 2.0]))}
SETTINGS = SacSettings(
    num_steps=300, num_random_steps=60, num_checkpoints=3, hidden_dim=24, num_hidden_layers=1, batch_size=32,
    learning_rate=3e-3, discount=0.8,
)  # fmt: skip
PLAN = Plan(FAMILY, take(GOALS, [0]), take(GOALS, [1]), SETTINGS, seed=3)


def never() -> None:
    return None


def after(rounds: int) -> Callable[[], str | None]:
    """Asks to stop after as many rounds."""
    asked = iter([None] * (rounds - 1))
    return lambda: next(asked, "the time limit")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> WorkDirectory:
    """Two tasks, trained without a stop."""
    made = WorkDirectory.open(tmp_path_factory.mktemp("collect") / "work", PLAN)
    assert training.train(made, never, lambda line: None)
    return made


def test_tasks_learn_side_by_side_what_they_learn_alone() -> None:
    def trained(tasks: list[int]) -> sac.State:
        state = sac.begin(FAMILY, SETTINGS, sac.task_keys(3, 2)[np.array(tasks)])
        for _ in range(4):
            state, _ = sac.train_round(FAMILY, SETTINGS, take(GOALS, tasks), state)
        return state

    both, second = trained([0, 1]), trained([1])
    of_second = jax.tree.map(lambda x: x[1:], (both.learner, both.replay))
    for joint, alone in zip(jax.tree.leaves(of_second), jax.tree.leaves((second.learner, second.replay)), strict=True):
        np.testing.assert_allclose(joint, alone, rtol=2e-3, atol=2e-5)
    differ = jax.tree.map(lambda x: bool(np.any(x[0] != x[1])), both.policy)
    assert all(jax.tree.leaves(differ))


def test_few_hundred_updates_beat_random_actions(work: WorkDirectory) -> None:
    assert work.steps() == [100, 200, 300]
    last, random = work.checkpoint(300).returns, work.random_returns()
    assert last.shape == random.shape == (2, training.EVALUATION_EPISODES)
    assert (last.mean(axis=1) > random.mean(axis=1) + 5).all()


def test_a_training_that_was_stopped_continues_to_the_same_checkpoints(work: WorkDirectory, tmp_path: Path) -> None:
    lines: list[str] = []
    for rounds in (4, 5):
        stopped = WorkDirectory.open(tmp_path, PLAN)
        assert not training.train(stopped, after(rounds), lines.append)
    (tmp_path / "state" / "replay-00009-00011.npz").write_bytes(b"of rounds after the state that was kept")
    assert training.train(WorkDirectory.open(tmp_path, PLAN), never, lines.append)
    assert "resumes from 180 steps" in lines
    for step in work.steps():
        whole, resumed = work.checkpoint(step), stopped.checkpoint(step)
        for x, y in zip(jax.tree.leaves(whole.policy), jax.tree.leaves(resumed.policy), strict=True):
            np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(whole.returns, resumed.returns)
    for one, other in zip(work.replay(), stopped.replay(), strict=True):
        assert one[:2] == other[:2]
        np.testing.assert_array_equal(one.rows, other.rows)


def test_a_training_that_ended_between_its_last_checkpoint_and_its_last_state_is_not_over(
    work: WorkDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = WorkDirectory(Path(shutil.copytree(work.path, tmp_path / "work")))
    files = sorted((killed.path / "state").glob("replay-*.npz"))
    saved = arrays.read(killed.path / "state" / "learner.npz")
    arrays.save(killed.path / "state" / "learner.npz", saved | {"rounds": saved["rounds"] - 1})
    assert work.is_trained and not killed.is_trained and files
    shutil.rmtree(killed.path / "state")
    assert killed.is_trained, "a copy without the state has all that is needed to log episodes"


def test_the_replay_holds_all_episodes_in_their_order(work: WorkDirectory) -> None:
    episodes = list(work.replay())
    assert [(one.task, one.round) for one in episodes] == [(task, round_) for round_ in range(15) for task in range(2)]
    assert {len(one.rows) for one in episodes} == {FAMILY.horizon}
    for one in episodes:
        np.testing.assert_array_equal(one.rows[0, :2], 0.0)
        np.testing.assert_array_equal(one.rows[1:, :2], one.rows[:-1, -2:])


def test_a_work_directory_is_for_one_plan(work: WorkDirectory, tmp_path: Path) -> None:
    assert WorkDirectory.open(work.path, PLAN).is_trained
    with pytest.raises(NacreError, match="seed 3 there"):
        WorkDirectory.open(work.path, replace(PLAN, seed=4))
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(NacreError, match="in the way"):
        WorkDirectory.open(tmp_path, PLAN)
    with pytest.raises(NacreError, match="no work of 'nacre collect'"):
        WorkDirectory(tmp_path)


def test_the_disk_that_is_told_is_what_is_taken(work: WorkDirectory) -> None:
    files = [np.load(file) for file in work.path.rglob("*.npz")]
    taken = sum(x.nbytes for file in files for x in file.values() if x.dtype == np.float32)
    assert training.disk(PLAN) == pytest.approx(taken, rel=0.03)  # scales of inputs are not counted


def test_checkpoints_are_evenly_spaced() -> None:
    entry = find("csro", FAMILY.name)  # after 2,200 to 4,800 steps by 200 in the paper; ours end with the training
    csro = Plan.of_benchmark(entry, FAMILY, task_seed=0, seed=0, num_checkpoints=None).settings
    assert [rounds * 20 for rounds in csro.checkpoint_rounds(FAMILY)][::13] == [2200, 5000]
    changed = Plan.of_benchmark(entry, FAMILY, task_seed=0, seed=0, num_checkpoints=2, first_checkpoint=0.1).settings
    assert [rounds * 20 for rounds in changed.checkpoint_rounds(FAMILY)] == [500, 5000]
    for points in ("point-robot", "sparse-point-robot", "point-robot-half-circle", "point-wind"):
        assert settings_for(make_family(points)).first_checkpoint == 0, "bad policies are in the data, too"
    assert SETTINGS.checkpoint_rounds(FAMILY) == [5, 10, 15]
    with pytest.raises(NacreError, match="leaves none to learn in"):
        replace(SETTINGS, num_random_steps=300)
    with pytest.raises(NacreError, match="batch_size is 0"):
        replace(SETTINGS, batch_size=0)
