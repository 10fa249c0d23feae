"""Any Gymnasium environment as a family: the ways to tell it its task, worker processes, and what is refused."""

from __future__ import annotations

import json
import os
import re
import signal
import warnings
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import nacre
import swinging
from nacre.cli import main as cli
from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES, register_family
from nacre.families.gymnasium import task_of_lane
from nacre.simulation.environment import TaskEnvironment
from nacre.simulation.gymnasium import GymnasiumLanes
from swinging import Ball, Balls, BallsByArguments, BallsByOptions, BallsInWorkers, Solved

pytestmark = pytest.mark.usefixtures("balls")


PLACES = {"place": np.array([-0.5, 0.0, 0.75])}


def by_hand(lane: int, seed: int, actions: np.ndarray) -> list[tuple[Any, ...]]:
    """(observation, reward) of the steps of one ball until it is lost, by the formulae."""
    ball = Ball(place=PLACES["place"][lane])
    ball.reset(seed=seed)
    x, v, rows = ball.x, 0.0, []
    for action in actions:
        v += 0.1 * 2.0 * float(np.clip(action, -1, 1))
        x += 0.1 * v
        rows.append(([v, x], -abs(x - PLACES["place"][lane]), abs(x) > 3))
        if abs(x) > 3:
            break
    return rows


@pytest.mark.parametrize(
    "family", [Balls(), BallsByOptions(), BallsByArguments(), BallsInWorkers()], ids=lambda f: f.name
)
def test_lanes_are_environments_in_their_own_tasks_however_they_are_told(family):
    """Dictionary observations are flattened in the order of their names; actions in [-1, 1] reach the box [0, 4]."""
    lanes = GymnasiumLanes(family)
    for episode in range(2):
        seeds = np.random.default_rng(episode).integers(2**31, size=3)
        actions = np.random.default_rng(9).uniform(-0.5, 1.5, (60, 3, 1)).astype(np.float32)
        expected = [by_hand(lane, int(seeds[lane]), actions[:, lane, 0]) for lane in range(3)]
        obs = lanes.reset(PLACES, np.random.default_rng(episode))
        assert obs.shape == (3, 2) and obs.dtype == np.float32
        alive = np.ones(3, bool)
        for time in range(60):
            step = lanes.step(actions[time], PLACES, None if alive.all() else np.flatnonzero(alive))
            for lane in np.flatnonzero(alive):
                wanted, reward, lost = expected[lane][time]
                np.testing.assert_allclose(step.obs[lane], wanted, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(step.reward[lane], reward, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(step.training_reward[lane], reward - 1.0, rtol=1e-4, atol=1e-5)
                assert step.terminated[lane] == lost
            alive &= ~step.terminated
            if not alive.any():
                break
        assert not alive.all(), "some ball was lost"


@pytest.mark.parametrize(
    "family", [Balls(), BallsByOptions(), BallsByArguments(), BallsInWorkers()], ids=lambda f: f.name
)
def test_as_an_environment_it_is_its_own_in_one_task_rendered_by_itself(family):
    env = TaskEnvironment(family, "place=0.75", render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*infinity.*")  # observations have no bounds
        check_env(env, skip_render_check=True)
    assert env.metadata["render_fps"] == 20
    ball = Ball(0.75)
    obs, info = env.reset(seed=3)
    ball.reset(seed=int(np.random.default_rng(3).integers(2**31)))
    assert info == {"task": {"place": 0.75}} and obs[1] == np.float32(ball.x)
    for _ in range(20):
        obs, reward, terminated, truncated, info = env.step(np.array([0.3], np.float32))
        _, wanted, *_ = ball.step(np.array([2.6]))
        np.testing.assert_allclose((obs[1], reward, info["training_reward"]), (ball.x, wanted, wanted - 1), rtol=1e-4)
        assert not terminated and not truncated
        np.testing.assert_array_equal(env.render(), ball.render())
    assert env.reset(options={"task": "place=-0.5"})[1]["task"] == {"place": -0.5}
    assert (env.render()[10, 25] == (0, 255, 0)).all()
    env.close()


def test_a_registered_family_has_a_name_in_gymnasium_too():
    env = gymnasium.make("nacre/Balls-v0", allow_ood=True, task="place=2.5")
    assert env.reset(seed=0)[1]["task"] == {"place": 2.5}
    for _ in range(Balls.horizon):
        *_, terminated, truncated, info = env.step(np.zeros(1, np.float32))
    assert truncated and not terminated and "success" not in info
    register_family(Solved)
    env = gymnasium.make("nacre/Solved-v0", task="place=0.2")
    env.reset(seed=0)
    assert env.step(np.zeros(1, np.float32))[-1]["success"] is True
    with pytest.raises(NacreError, match="is no name for a family"):
        register_family(type("Spaced", (Balls,), {"name": "my balls"}))


def test_an_environment_is_made_anew_only_where_its_task_has_changed():
    lanes, before = GymnasiumLanes(BallsByArguments()), Ball.made
    for places, made in ((PLACES, 3), (PLACES, 3), ({"place": np.array([-0.5, 0.1, 0.75])}, 4)):
        lanes.reset(places, np.random.default_rng(0))
        assert Ball.made - before == made


class Discrete(Balls):
    """Its actions are three buttons."""

    name: ClassVar[str] = "buttons"

    def make_env(self, task):
        return gymnasium.make("MountainCar-v0")


class Unbounded(Balls):
    """Its actions have no bounds."""

    name: ClassVar[str] = "unbounded"

    def make_env(self, task):
        env = Ball()
        env.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
        return env


class Larger(Balls):
    """It declares another observation than it has."""

    name: ClassVar[str] = "larger"
    obs_dim: ClassVar[int] = 3


class Impatient(Balls):
    """Its environment has a time limit of its own."""

    name: ClassVar[str] = "impatient"

    def make_env(self, task):
        return gymnasium.wrappers.TimeLimit(Ball(), 5)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (Discrete(), "takes continuous actions"),
        (Unbounded(), "without bounds"),
        (Larger(), "declares obs_dim 3 and action_dim 1, but its environment has 2 and 1"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_an_environment_that_does_not_fit_is_refused_with_a_sentence(family, words):
    with pytest.raises(NacreError, match=words):
        GymnasiumLanes(family).reset({"place": np.zeros(1)}, np.random.default_rng(0))


class Telling(Solved):
    """Its environment's info is what the test says."""

    name: ClassVar[str] = "telling"
    told: ClassVar[dict[str, Any]] = {}

    def make_env(self, task, render_mode=None):
        class Env(Ball):
            def step(self, action):
                return *super().step(action)[:-1], Telling.told

        return Env()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "telling declares reports_success, but .* no 'success' at step 1 of an episode; put it there"),
        ({"is_success": True}, r"no 'success' at step 1 of an episode \(it has 'is_success'\)"),
        ({"success": np.nan}, "returned the success nan at step 1 of an episode, which is not True or False"),
        ({"success": 2}, "which is not True or False"),
        ({"success": "yes"}, "which is not True or False"),
    ],
)
def test_a_step_that_does_not_say_whether_the_task_is_solved_is_refused(
    told: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Telling, "told", told)
    lanes = GymnasiumLanes(Telling())
    lanes.reset({"place": np.zeros(1)}, np.random.default_rng(0))
    with pytest.raises(NacreError, match=words):
        lanes.step(np.zeros((1, 1)), {})


@pytest.mark.parametrize("flag", [0, 1.0, np.float32(1), np.bool_(False), True])
def test_success_may_be_a_flag_or_0_or_1(flag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Telling, "told", {"success": flag})
    lanes = GymnasiumLanes(Telling())
    lanes.reset({"place": np.zeros(1)}, np.random.default_rng(0))
    assert lanes.step(np.zeros((1, 1)), {}).success.tolist() == [bool(flag)]


def test_an_environment_that_edits_its_task_edits_a_copy() -> None:
    tasks = {"place": np.arange(6.0).reshape(3, 2), "mass": np.ones(3)}
    own = task_of_lane(tasks, 1)
    own["place"] *= 0.0
    assert own["mass"] == 1.0 and tasks["place"][1].tolist() == [2.0, 3.0]


def test_a_time_limit_of_the_environments_own_is_refused():
    lanes = GymnasiumLanes(Impatient())
    lanes.reset({"place": np.zeros(1)}, np.random.default_rng(0))
    with pytest.raises(NacreError, match="by a time limit"):
        for _ in range(6):
            lanes.step(np.zeros((1, 1)), {})


def test_a_time_limit_at_the_horizon_is_the_familys_own():
    class Patient(Balls):
        name: ClassVar[str] = "patient"
        horizon: ClassVar[int] = 5

        def make_env(self, task):
            return gymnasium.wrappers.TimeLimit(Ball(), 5)

    lanes = GymnasiumLanes(Patient())
    for _ in range(2):
        lanes.reset({"place": np.zeros(1)}, np.random.default_rng(0))
        assert not any(lanes.step(np.zeros((1, 1)), {}).terminated[0] for _ in range(5))


@pytest.mark.parametrize(
    ("death", "said"), [(signal.SIGKILL, "memory ran out: .* play fewer at a time"), (signal.SIGTERM, "has died")]
)
def test_workers_outlive_a_ctrl_c_and_their_death_is_one_sentence(death: int, said: str):
    lanes = GymnasiumLanes(BallsInWorkers())
    first = lanes.reset(PLACES, np.random.default_rng(0))
    processes = [worker.process for worker in lanes._groups]
    for process in processes:
        os.kill(process.pid, signal.SIGINT)
    assert lanes.step(np.zeros((3, 1)), PLACES).obs.shape == (3, 2)
    os.kill(processes[1].pid, death)
    processes[1].join()
    with pytest.raises(NacreError, match=said):
        lanes.step(np.zeros((3, 1)), PLACES)
    with pytest.raises(NacreError, match="reset them"):
        lanes.step(np.zeros((3, 1)), PLACES)
    assert not any(process.is_alive() for process in processes)
    np.testing.assert_array_equal(lanes.reset(PLACES, np.random.default_rng(0)), first)  # in new workers
    lanes.close()


def test_lanes_grow_with_the_tasks_and_close_their_environments(monkeypatch: pytest.MonkeyPatch):
    closed: list[Ball] = []
    monkeypatch.setattr(Ball, "close", lambda ball: closed.append(ball))
    lanes, before = GymnasiumLanes(Balls()), Ball.made
    for places, made in (([0.1], 1), ([0.1, 0.2, 0.3], 3), ([0.5, 0.6], 3)):
        assert lanes.reset({"place": np.array(places)}, np.random.default_rng(0)).shape == (len(places), 2)
        assert Ball.made - before == made
    del lanes
    assert len(closed) == 3


def test_a_task_of_several_parameters_is_written_name_by_name():
    class Two(Balls):
        name: ClassVar[str] = "two"
        parameters: ClassVar[dict[str, int]] = {"mass": 0, "shape": 2}

        def in_range(self, task):
            return task["mass"] > 0

    task = Two().parse_task("shape=1,2 mass=3")
    assert task["mass"].tolist() == [3.0] and task["shape"].tolist() == [[1.0, 2.0]]
    for text in ("mass=1", "mass=1 mass=2 shape=1,2", "mass=1 shape=1", "mass=1 shape=1,2 size=3"):
        with pytest.raises(NacreError, match="write mass=NUMBER shape=NUMBER,NUMBER"):
            Two().parse_task(text)


def test_a_preset_that_a_registered_family_does_not_have_is_refused_with_those_it_has():
    with pytest.raises(NacreError, match="choose one of: best, fast, paper, smoke"):
        nacre.resolve("pearl", "balls", "released")


def test_a_registered_family_trains_resumes_and_is_evaluated(tmp_path: Path):
    run = nacre.train("pearl", "balls", preset="smoke", time_limit=1e-9, out=tmp_path / "run")
    nacre.resume(run.path)
    returns, tasks = nacre.load(run.path).evaluate()
    assert returns.shape == (1, 3, 3) and np.isfinite(returns).all()
    assert all(-1 <= task["place"] <= 1 for task in tasks)


def test_the_command_line_knows_it_from_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.delitem(FAMILIES, "balls")
    run = tmp_path / "run"
    train = ["train", "random", "balls", "--preset", "smoke", "--out", str(run)]
    assert cli.main(train) == 2
    assert "unknown family 'balls'" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_balls.py").write_text("import nacre, swinging\nnacre.register_family(swinging.Balls)\n")
    assert cli.main([*train, "--plugin", "my_balls"]) == 0
    monkeypatch.delitem(FAMILIES, "balls")
    capsys.readouterr()
    assert cli.main(["evaluate", str(run), "--json"]) == 2
    assert "name the module that registers it by --plugin" in capsys.readouterr().err
    register_family(swinging.Balls)
    assert cli.main(["evaluate", str(run), "--json", "--plugin=my_balls"]) == 0
    assert len(json.loads(capsys.readouterr().out)["returns"][0]) == 3


def test_a_plugin_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_plugin.py").write_text("def (")
    for plugin in (["no_such_module"], [], [".relative"], ["broken_plugin"]):
        assert cli.main(["list", "--plugin", *plugin]) == 2
        assert re.search("cannot be imported|no name of a Python module", capsys.readouterr().err)
    assert cli.main(["--plugin", "swinging"]) == 0
    assert "nacre train" in capsys.readouterr().out


def test_nacres_own_names_are_taken():
    class Impostor(Balls):
        name: ClassVar[str] = "cheetah-vel"

    with pytest.raises(NacreError, match="choose another name"):
        register_family(Impostor)


@pytest.mark.parametrize("name", ["Cheetah-vel", "cheetah-Vel", "ml-1", "Balls"])
def test_a_name_whose_id_in_gymnasium_is_another_familys_is_refused(name: str):
    known, before = set(FAMILIES), gymnasium.spec("nacre/CheetahVel-v0").kwargs
    with pytest.raises(NacreError, match=f"'{name}' would be nacre/.* in Gymnasium, as the family .* is; choose"):
        register_family(type("Other", (Balls,), {"name": name}))
    assert set(FAMILIES) == known and gymnasium.spec("nacre/CheetahVel-v0").kwargs == before
    register_family(Balls)  # anew, by its own name
