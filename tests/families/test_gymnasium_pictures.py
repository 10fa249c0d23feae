"""Gymnasium environments as families, seen: rendered, filmed, told to be solved, and refused without a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import jax
import numpy as np
import pytest

import nacre
from nacre.cli import main as cli
from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES, register_family
from nacre.report import page
from nacre.simulation import rollout
from nacre.simulation.environment import TaskEnvironment
from swinging import Ball, Balls, Solved

pytestmark = pytest.mark.usefixtures("balls")


class Unseen(Balls):
    """Its make_env takes no render_mode."""

    name: ClassVar[str] = "unseen"

    def make_env(self, task):
        return Ball()


class Blank(Balls):
    """It has no picture."""

    name: ClassVar[str] = "blank"

    def make_env(self, task, render_mode=None):
        env = Ball()
        env.render = lambda: None
        return env


class Uninstalled(Balls):
    """It renders with a package that is not there."""

    name: ClassVar[str] = "uninstalled"

    def make_env(self, task, render_mode=None):
        def render():
            raise gymnasium.error.DependencyNotInstalled("pygame is not installed, run `pip install pygame`")

        env = Ball()
        env.render = render
        return env


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (Unseen(), "make_env takes no render_mode"),
        (Blank(), "no picture"),
        (Uninstalled(), "cannot be rendered here: .*pip install pygame"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_an_environment_that_cannot_be_rendered_is_refused_with_a_sentence(family, words):
    TaskEnvironment(family).reset(seed=0)
    with pytest.raises(NacreError, match=words):
        env = TaskEnvironment(family, render_mode="rgb_array")
        env.reset(seed=0)
        env.render()


def test_an_environment_in_human_mode_shows_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Ball, "render", lambda ball: pytest.fail("rendered a second time"))
    env = TaskEnvironment(Balls(), render_mode="human")
    assert env._lane._environments.env(0, {}).render_mode == "human"
    env.reset(seed=0)
    env.step(np.zeros(1, np.float32))


@pytest.fixture(scope="module")
def solved_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on `solved`, which must be registered anew to be loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, Solved.name, Solved)
        return nacre.train("random", "solved", preset="smoke", out=tmp_path_factory.mktemp("solved") / "run").path


def test_videos_of_it_are_made_for_one_trial_and_for_a_page(
    solved_run: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(page, "VIDEO_RATE", 2)
    register_family(Solved)
    capsys.readouterr()
    film = tmp_path / "trial.gif"
    arguments = ["adapt", str(solved_run), "--task", "place=0.5", "--episodes", "3", "--json"]
    assert cli.main([*arguments, "--video", str(film), "--video-fps", "2"]) == 0
    episodes = json.loads(capsys.readouterr().out)["episodes"]
    assert len(episodes) == 3 and all(episode["success"] in (True, False) for episode in episodes)
    assert film.read_bytes().startswith(b"GIF8")
    assert cli.main(["report", str(solved_run), "-o", str(tmp_path / "page.html"), "--videos", "1"]) == 0
    assert "data:image/gif" in (tmp_path / "page.html").read_text()


def test_success_is_reported_beside_the_return(solved_run: Path, capsys: Any):
    """An episode succeeds when one of its steps does: here, when its best reward is above -0.5."""
    register_family(Solved)
    agent = nacre.load(solved_run)
    near_and_far = {"place": np.array([0.0, 2.5])}
    trial = rollout.trial(agent.family, agent.functions, agent.params, near_and_far, jax.random.key(0), num_episodes=2)
    seen = set()
    for played in trial:
        real = np.arange(Solved.horizon) < played.episode.length[:, None]
        best = np.where(real, played.episode.transitions.reward, -9).max(axis=1)
        np.testing.assert_array_equal(played.episode.success, best > -0.5)
        seen |= set(played.episode.success.tolist())
    assert seen == {True, False}
    evaluation, _ = agent.evaluation(episodes=3)
    assert evaluation.success is not None and evaluation.success.shape == evaluation.returns.shape
    capsys.readouterr()
    assert cli.main(["evaluate", str(solved_run), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["success_rate"] == np.mean([task[-1] for task in data["success"][0]])
    assert cli.main(["evaluate", str(solved_run)]) == 0
    assert "solved in episode 3: " in capsys.readouterr().out
    assert cli.main(["adapt", str(solved_run), "--task", "place=0.5"]) == 0
    assert "solved" in capsys.readouterr().out
    logged = (solved_run / "success.csv").read_text().splitlines()
    assert logged[0].endswith("episode,success") and {line[-2:] for line in logged[1:]} <= {",0", ",1"}
    assert len(logged) == len((solved_run / "eval.csv").read_text().splitlines())
