"""Pictures of trials: the belief, the paths and the returns are those of the episodes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from made_runs import MakeRun
from matplotlib.figure import Figure
from matplotlib.patches import Circle

import nacre
from nacre.cli import main as cli
from nacre.errors import NacreError
from nacre.families.point import half_circle
from nacre.report import run_charts, trials
from nacre.runs.checkpoints import Checkpoints
from nacre.runs.loading import fresh


@pytest.fixture(scope="module")
def point_agent(smoke_run: Callable[[str], Path]) -> nacre.TrainedAgent:
    return nacre.load(smoke_run("point-robot"))


@pytest.fixture(scope="module")
def point_trials(point_agent: nacre.TrainedAgent) -> trials.Trials:
    return trials.play(point_agent, point_agent.tasks.test)


def test_the_belief_goes_from_the_prior_to_that_of_all_transitions(
    point_agent: nacre.TrainedAgent, point_trials: trials.Trials
):
    settings = point_agent.experiment.settings
    lanes = list(
        nacre.simulation.rollout.trial(
            point_agent.family, point_agent.functions, point_agent.params, point_trials.tasks, jax.random.key(0), 3
        )
    )
    for task, stds in enumerate(point_trials.belief_stds):
        assert stds.shape == (1 + 3 * 20, settings.latent_dim)
        np.testing.assert_array_equal(stds[0], 1.0)
        for index, played in enumerate(lanes):
            after = point_agent.experiment.algorithm.belief(played.memory_after, settings)
            np.testing.assert_allclose(stds[20 * (index + 1)], np.sqrt(after.variance[task]), rtol=1e-5)


def test_trials_are_those_of_an_evaluation(point_agent: nacre.TrainedAgent, point_trials: trials.Trials):
    returns, _ = point_agent.evaluate("test", seed=0, repeats=1)
    np.testing.assert_array_equal(point_trials.returns, returns[0])
    assert point_trials.num_exploration_episodes == 1


def test_goals_are_chosen_evenly_from_left_to_right():
    goals = half_circle(np.linspace(0.0, np.pi, 11))
    mixed = {"goal": np.random.default_rng(0).permutation(goals)}
    np.testing.assert_array_equal(trials.choose_tasks(mixed)["goal"], goals[::-2])


def test_plain_tasks_are_chosen_in_their_order_and_few_are_all_taken():
    chosen = trials.choose_tasks({"velocity": np.array([2.0, 0.0, 1.0])})
    assert chosen["velocity"].tolist() == [0.0, 1.0, 2.0]


def test_paths_are_those_of_the_episodes_and_end_where_they_ended(
    smoke_run: Callable[[str], Path], drawn: list[Figure], point_trials: trials.Trials, point_agent: nacre.TrainedAgent
):
    trials.draw(smoke_run("point-robot"), Path("trials.png"))
    axes = drawn[0].axes
    assert len(axes) == 3 * 3  # paths, returns, belief of three tasks
    chosen = trials.play(point_agent, trials.choose_tasks(point_agent.tasks.test))
    paths = [item for item in axes[0].get_lines() if len(item.get_xdata()) == 21]
    assert len(paths) == 3
    for path, episode in zip(paths, chosen.episodes, strict=True):
        transitions = episode.transitions
        np.testing.assert_allclose(np.array(path.get_data()).T[:-1], transitions.obs[0])
        np.testing.assert_allclose(np.array(path.get_data()).T[-1], transitions.next_obs[0, -1])
    first, last = chosen.returns[0, [0, -1]]
    assert axes[0].get_title(loc="left").endswith(f"return: first {first:.1f}, last {last:.1f}")


def test_the_last_episode_is_drawn_boldest_and_exploration_faintest():
    played = trials.Trials({"goal": np.zeros((1, 2))}, [None] * 20, [], [], 5)
    widths = [style["lw"] for style in trials._styles(played)]
    assert widths[-1] == max(widths)
    assert widths.count(max(widths)) == 1
    assert max(widths[:5]) < min(widths[5:])


def test_sparse_goals_have_their_radius(tmp_path: Path, drawn: list[Figure]):
    run = nacre.RunDirectory.create(tmp_path / "run", nacre.resolve("pearl", "sparse-point-robot", "smoke"))
    Checkpoints(run.checkpoints).save(0, fresh(run))
    trials.draw(run.path, Path("trials.png"))
    for axes in drawn[0].axes[:3]:
        (circle,) = [patch for patch in axes.patches if isinstance(patch, Circle)]
        assert circle.radius == 0.2
    belief = drawn[0].axes[-1]
    assert len(belief.get_lines()[0].get_xdata()) == 1 + 20 * 20


def test_a_family_without_a_plane_shows_rewards(smoke_run: Callable[[str], Path], drawn: list[Figure]):
    trials.draw(smoke_run("cheetah-dir"), Path("trials.png"))
    axes = drawn[0].axes
    assert len(axes) == 3 * 2
    assert axes[0].get_title(loc="left").startswith("direction=-1.00")
    assert [len(item.get_xdata()) for item in axes[0].get_lines()] == [200 - trials.SMOOTHED_STEPS + 1] * 3


def test_trials_of_a_run_without_a_checkpoint_are_refused(make_run: MakeRun, tmp_path: Path):
    with pytest.raises(NacreError, match="no checkpoint yet"):
        trials.draw(make_run(), tmp_path / "trials.png")
    assert not (tmp_path / "trials.png").exists()


def test_the_same_run_gives_the_same_trials(smoke_run: Callable[[str], Path], tmp_path: Path):
    copy = shutil.copytree(smoke_run("point-robot"), tmp_path / "copy")
    for out in ("a.png", "b.png"):
        assert cli.main(["report", str(copy), "--kind", "trials", "-o", str(tmp_path / out)]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_an_episode_that_ended_at_its_first_step_has_no_rewards_to_draw(smoke_run: Callable[[str], Path]):
    """As where the physics diverged."""
    agent = nacre.load(smoke_run("cheetah-dir"))
    played = trials.play(agent, agent.tasks.test)
    first = played.episodes[0]
    cut = played._replace(episodes=[first._replace(length=np.array([0, *first.length[1:]])), *played.episodes[1:]])
    shorter, whole = (run_charts.trial_charts(agent, one)[0].views[0].lines for one in (cut, played))
    assert len(shorter[0].x) == len(shorter[0].y) == 0 < len(whole[0].x) and len(shorter) == len(whole)
    assert trials.smoothed(np.array([3.0, 5.0])).tolist() == [4.0]


def test_a_goal_is_drawn_where_a_family_in_the_plane_has_one(point_agent: nacre.TrainedAgent):
    (disc,) = run_charts._goals(point_agent, {"goal": np.array([[0.6, 0.8]])}, 0)
    assert (disc.x, disc.y) == (0.6, 0.8)
    for nowhere in ({"goal": np.zeros((1, 3))}, {"goal": np.zeros(1)}, {"wind": np.zeros((1, 2))}):
        assert run_charts._goals(point_agent, nowhere, 0) == []
