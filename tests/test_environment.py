"""Families as Gymnasium environments: Gymnasium's own checks, and that they are the families that trainers step."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from nacre.environment import TaskEnvironment, environment_id, register_environments
from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES, make_family
from nacre.families.family import JaxFamily, MujocoFamily
from nacre.simulators.mujoco import MujocoLanes

register_environments()


@pytest.fixture(params=sorted(FAMILIES))
def env(request: pytest.FixtureRequest) -> Iterator[gymnasium.Env]:
    made = gymnasium.make(environment_id(request.param))
    yield made
    made.close()


def test_names_are_those_of_the_families_in_one_word() -> None:
    assert environment_id("cheetah-vel") == "nacre/CheetahVel-v0"
    assert environment_id("ant-dir-360") == "nacre/AntDir360-v0"
    assert {environment_id(name) for name in FAMILIES} <= set(gymnasium.registry)


def test_gymnasium_finds_the_families_without_an_import_of_nacre() -> None:
    from importlib.metadata import entry_points

    (plugin,) = entry_points(group="gymnasium.envs", name="__root__").select(module="nacre.environment")
    assert plugin.load() is register_environments


def test_gymnasiums_own_checks_pass(env: gymnasium.Env) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*infinity.*")  # observations have no bounds
        check_env(env.unwrapped, skip_render_check=True)


def test_an_episode_lasts_to_the_horizon_unless_it_ends_early(env: gymnasium.Env) -> None:
    family = env.unwrapped.family
    env.reset(seed=0)
    for length in range(1, family.horizon + 1):  # noqa: B007
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert np.isfinite(reward) and np.isfinite(info["training_reward"])
        if terminated or truncated:
            break
    assert terminated or (truncated and length == family.horizon)
    assert family.can_terminate or not terminated


def test_without_a_task_every_reset_draws_one_and_with_one_it_stays(env: gymnasium.Env) -> None:
    family = env.unwrapped.family
    drawn = [str(env.reset(seed=seed)[1]["task"]) for seed in range(8)]
    assert len(set(drawn)) > 1
    assert str(env.reset(seed=3)[1]["task"]) == drawn[3]
    ((name, values),) = family.sample_tasks(np.random.default_rng(5), 1).items()
    text = f"{name}=" + ",".join(repr(float(x)) for x in np.atleast_1d(values[0]))
    assert env.reset(options={"task": text})[1]["task"] == {name: values[0].tolist()}
    assert env.reset()[1]["task"] == {name: values[0].tolist()}


@pytest.mark.parametrize("name", ["cheetah-vel", "ant-goal", "walker-params"])
def test_a_robot_goes_as_in_training(name: str) -> None:
    family = make_family(name)
    assert isinstance(family, MujocoFamily)
    env, lanes = TaskEnvironment(family), MujocoLanes(family, 1)
    obs, _ = env.reset(seed=0)
    task = env._task
    assert task is not None
    rng = np.random.default_rng(0)
    lanes.reset(task, rng)
    state = env._robot._lanes.engine.physics()
    lanes.engine.reset(state.qpos, state.qvel)
    np.testing.assert_allclose(obs, family.observe(lanes.engine.physics())[0], rtol=1e-5, atol=1e-6)
    for _ in range(30):
        action = rng.uniform(-1.5, 1.5, family.action_dim).astype(np.float32)
        expected = lanes.step(action[None], task)
        obs, reward, terminated, _, info = env.step(action)
        np.testing.assert_array_equal(obs, expected.obs[0])
        assert (reward, terminated) == (expected.reward[0], expected.terminated[0])
        assert info["training_reward"] == expected.training_reward[0]
        if terminated:
            break


@pytest.mark.parametrize("name", ["point-robot", "sparse-point-robot"])
def test_a_point_robot_is_drawn_with_its_goal(name: str) -> None:
    assert issubclass(FAMILIES[name], JaxFamily)
    env = gymnasium.make(environment_id(name), task="goal=-0.6,0.8", render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(3):
        obs, *_ = env.step(np.array([1.0, -1.0], np.float32))
    frame = env.render()
    assert frame.shape == (480, 480, 3) and frame.dtype == np.uint8
    blue, green = (
        np.argwhere((frame == colour).all(axis=-1)).mean(axis=0) for colour in ((0, 114, 178), (0, 158, 115))
    )
    for (row, column), position in ((blue, obs), (green, (-0.6, 0.8))):
        np.testing.assert_allclose((column / 479 * 3 - 1.5, 1.5 - row / 479 * 3), position, atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "velocity=9"}, "outside"),
        ({"task": "speed=1"}, "is not a task"),
        ({"render_mode": "ansi"}, "rgb_array"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_sentence(arguments: dict[str, str], words: str) -> None:
    with pytest.raises(NacreError, match=words):
        TaskEnvironment("cheetah-vel", **arguments)


def test_a_task_outside_the_range_is_taken_where_asked_for() -> None:
    env = TaskEnvironment("cheetah-vel", task="velocity=9", allow_ood=True)
    assert env.reset()[1]["task"] == {"velocity": 9.0}


def test_a_step_before_the_first_reset_is_refused() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        TaskEnvironment("cheetah-vel").step(np.zeros(6, np.float32))
