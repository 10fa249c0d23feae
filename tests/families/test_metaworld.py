"""Meta-World's benchmarks as families. All but the refusal need the extra, which has an environment of its own."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import nacre
from nacre.cli import main as cli
from nacre.errors import NacreError
from nacre.families import metaworld_environments
from nacre.families.family import num_tasks, take
from nacre.families.metaworld import ML1
from nacre.families.metaworld_environments import (
    MAX_IDLE,
    environment_classes,
    environment_names,
    give_back,
    idle_or_new,
)
from nacre.families.sawyer import Sawyer
from nacre.simulation.gymnasium import GymnasiumLanes

installed = importlib.util.find_spec("metaworld") is not None
needs_meta_world = pytest.mark.skipif(not installed, reason="Meta-World is not installed: make test-metaworld")


@pytest.mark.skipif(installed, reason="Meta-World is installed")
def test_without_the_extra_one_sentence_says_what_to_install():
    with pytest.raises(NacreError, match=r"pip install 'nacre\[metaworld\]'"):
        nacre.resolve("pearl", "ml1")
    with pytest.raises(NacreError, match="Meta-World is not installed"):
        nacre.families.metaworld.ML1()


@needs_meta_world
@pytest.mark.parametrize("name", ["ml1", "ml10"])
def test_the_split_is_meta_worlds_own(name: str):
    import pickle

    import metaworld

    family = nacre.make_family(name)
    own = metaworld.ML1("reach-v3", seed=7) if name == "ml1" else metaworld.ML10(seed=7)
    tasks = family.task_set(7, len(own.train_tasks), len(own.test_tasks))
    for ours, theirs in ((tasks.train, own.train_tasks), (tasks.test, own.test_tasks)):
        assert num_tasks(ours) == len(theirs) == 50 * len({task.env_name for task in theirs})
        for index, task in enumerate(theirs):
            assert environment_names()[int(ours["environment"][index])] == task.env_name
            vector = pickle.loads(task.data)["rand_vec"]
            np.testing.assert_array_equal(ours["rand_vec"][index][: len(vector)], vector)
        assert family.in_range(ours).all()
    assert not {tuple(row) for row in tasks.train["rand_vec"]} & {tuple(row) for row in tasks.test["rand_vec"]}
    fewer = family.task_set(7, len(own.train_tasks) // 50 * 2, len(own.test_tasks) // 50)
    assert len(set(fewer.train["environment"])) == len(set(tasks.train["environment"]))
    with pytest.raises(NacreError, match="change --num-test-tasks"):
        family.task_set(7, len(own.train_tasks), len(own.test_tasks) + 1)


@needs_meta_world
def test_lanes_step_as_meta_worlds_own_environments_with_the_goal_hidden():
    import metaworld

    family = nacre.make_family("ml10")
    tasks = take(family.task_set(3, 10, 5).train, [0, 3, 6])
    lanes, own = GymnasiumLanes(family), metaworld.ML10(seed=3)
    rng = np.random.default_rng(0)
    obs = lanes.reset(tasks, rng)
    envs = []
    for lane, name in enumerate(["reach-v3", "door-open-v3", "peg-insert-side-v3"]):
        env = own.train_classes[name]()
        env.set_task(next(task for task in own.train_tasks if task.env_name == name))
        np.testing.assert_allclose(obs[lane], env.reset()[0], rtol=1e-6, atol=1e-6)
        envs.append(env)
    for _ in range(20):
        action = rng.uniform(-1, 1, (3, 4)).astype(np.float32)
        result = lanes.step(action, tasks)
        for lane, env in enumerate(envs):
            wanted, reward, _, _, info = env.step(action[lane])
            np.testing.assert_allclose(result.obs[lane], wanted, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(result.reward[lane], reward, rtol=1e-5, atol=1e-5)
            assert result.success[lane] == bool(info["success"])
    assert (result.obs[:, -3:] == 0).all()
    lanes.close()


@needs_meta_world
def test_an_arm_that_goes_to_the_goal_succeeds_and_one_that_stands_still_does_not():
    family = nacre.make_family("ml1", environment="reach-v3")
    task = take(family.sample_tasks(np.random.default_rng(5), 1), [0, 0])
    goal, lanes = task["rand_vec"][0, 3:], GymnasiumLanes(family)
    obs, solved = lanes.reset(task, np.random.default_rng(0)), np.zeros(2, bool)
    for _ in range(100):
        action = np.zeros((2, 4))
        action[0, :3] = 10 * (goal - obs[0, :3])
        result = lanes.step(action, task)
        obs, solved = result.obs, solved | result.success
    assert solved.tolist() == [True, False] and result.reward[0] > 9.0
    lanes.close()


@needs_meta_world
@pytest.mark.usefixtures("gl")
def test_it_is_a_gymnasium_environment_with_pictures():
    env = gymnasium.make("nacre/Ml1-v0", environment="push-v3", render_mode="rgb_array")
    first, info = env.reset(seed=0)
    assert first.shape == (39,) and info["task"]["environment"] == environment_names().index("push-v3")
    before = env.render()
    for _ in range(10):
        *_, terminated, truncated, info = env.step(np.array([1.0, 0.0, 1.0, 0.0], np.float32))
    assert not terminated and not truncated and info["success"] is False
    frame = env.render()
    assert frame.shape == (480, 480, 3) and frame.dtype == np.uint8 and frame.std() > 20
    assert 0.005 < (frame != before).any(axis=-1).mean() < 0.5, "the arm moves"
    np.testing.assert_array_equal(env.reset(seed=0)[0], first)
    env.close()


@needs_meta_world
def test_tasks_outside_the_bounds_are_refused():
    family = nacre.make_family("ml1", environment="door-open-v3")
    index = environment_names().index("door-open-v3")
    assert family.parse_task(f"environment={index} rand_vec=0.05,0.9,0.15,0,0,0")
    for text in (
        f"environment={index} rand_vec=0.05,2,0.15,0,0,0",
        f"environment={index} rand_vec=0.05,0.9,0.15,1,0,0",
        f"environment={index + 1} rand_vec=0.05,0.9,0.15,0,0,0",
        "environment=99 rand_vec=0.05,0.9,0.15,0,0,0",
    ):
        with pytest.raises(NacreError, match="outside ml1's range"):
            family.parse_task(text)


@needs_meta_world
@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_object_too_near_its_goal_for_the_environment_is_refused(num_workers: int, monkeypatch: pytest.MonkeyPatch):
    """Meta-World would look for another vector for ever."""
    family = nacre.make_family("ml1", environment="push-v3")
    monkeypatch.setattr(ML1, "num_workers", num_workers)
    lanes, rng = GymnasiumLanes(family), np.random.default_rng(0)
    task = family.parse_task(f"environment={environment_names().index('push-v3')} rand_vec=0,0.7,0.02,0,0.8,0.01")
    with pytest.raises(NacreError, match=r"rand_vec=0,0\.7,.* object and goal of push-v3 are too near"):
        lanes.reset(task, rng)
    assert lanes.reset(family.sample_tasks(rng, 1), rng).shape == (1, 39)
    lanes.close()


def test_few_environments_wait_for_a_next_use(monkeypatch: pytest.MonkeyPatch):
    """Each takes 22 MB. Lanes that go through ml10's environments would leave as many of each as there are lanes."""
    made = []

    class Made:
        closed = False

        def close(self) -> None:
            self.closed = True

    def make(name: str) -> Made:
        made.append((name, Made()))
        return made[-1][1]

    names = ("reach-v3", "push-v3", "door-open-v3")
    classes = {name: functools.partial(make, name) for name in names}
    monkeypatch.setattr(metaworld_environments, "environment_classes", lambda: classes)
    monkeypatch.setattr(metaworld_environments, "IDLE", [])
    for name in names:
        for env in [idle_or_new(name) for _ in range(MAX_IDLE)]:
            give_back(name, env)
    assert [env.closed for _, env in made] == [True] * (2 * MAX_IDLE) + [False] * MAX_IDLE
    assert idle_or_new("door-open-v3") is made[-1][1], "the one used last"
    assert idle_or_new("reach-v3") is made[-1][1] and len(made) == 3 * MAX_IDLE + 1, "a new one"


@needs_meta_world
def test_new_tasks_are_of_the_train_environments_alike_and_no_task_sets():
    family = nacre.make_family("ml10")
    tasks = family.sample_tasks(np.random.default_rng(0), 200)
    names, counts = np.unique([environment_names()[int(index)] for index in tasks["environment"]], return_counts=True)
    assert sorted(names) == sorted(family.environments("train"))
    assert counts.min() >= 8 and counts.max() <= 36  # of 20, four standard deviations
    vectors = {tuple(row) for row in tasks["rand_vec"]}
    assert len(vectors) == 200 and not vectors & {tuple(row) for row in family.task_set(0, 500, 250).train["rand_vec"]}


@needs_meta_world
def test_an_environment_that_drew_tasks_continues_as_a_new_one():
    """The environments that a process has stay the same objects, whatever they were used for."""
    family = nacre.make_family("ml1", environment="push-v3")
    task = family.sample_tasks(np.random.default_rng(5), 1)
    env = Sawyer()
    family.set_task(env, {name: values[0] for name, values in task.items()})
    used = [env.reset()[0], *(env.step(np.full(4, 0.5))[0] for _ in range(5))]
    own = metaworld_environment("push-v3", task["rand_vec"][0])
    fresh = [own.reset()[0], *(own.step(np.full(4, 0.5))[0] for _ in range(5))]
    np.testing.assert_array_equal(used, fresh)
    again = family.sample_tasks(np.random.default_rng(5), 1)
    np.testing.assert_array_equal(again["rand_vec"], task["rand_vec"])
    env.close()


def metaworld_environment(name: str, vector: np.ndarray) -> Any:
    """A new one of Meta-World's own, placed by this vector."""
    env = environment_classes()[name]()
    env._set_task_called = env._freeze_rand_vec = True
    env._last_rand_vec = vector
    return env


@needs_meta_world
@pytest.mark.parametrize("name", ["ml1", "ml10"])
def test_it_trains_resumes_and_reports_success(name: str, tmp_path: Path, capsys: Any):
    run = tmp_path / "run"
    assert cli.main(["train", "pearl", name, "--preset", "smoke", "--time-limit", "1e-9", "--out", str(run)]) == 0
    assert cli.main(["resume", str(run)]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", str(run), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert np.shape(data["success"]) == np.shape(data["returns"]) and 0 <= data["success_rate"] <= 1
    assert (run / "success.csv").read_text().count("\n") == (run / "eval.csv").read_text().count("\n")
