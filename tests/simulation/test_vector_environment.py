"""A family as a Gymnasium vector environment: what Gymnasium's own vector of single environments gives."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES, register_family
from nacre.families.gymnasium_ids import environment_id
from nacre.simulation.mujoco import MujocoLanes
from nacre.simulation.vector_environment import TaskVectorEnv
from swinging import Balls


@pytest.fixture(autouse=True)
def balls(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(FAMILIES)
    register_family(Balls)
    yield
    FAMILIES.clear()
    FAMILIES.update(before)


def made(name: str, mode: str, **options: Any) -> gymnasium.vector.VectorEnv:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of metadata that lack something
        warnings.filterwarnings("ignore", message=".*infinity.*")
        return gymnasium.make_vec(environment_id(name), num_envs=3, vectorization_mode=mode, **options)


@pytest.mark.parametrize("name", ["point-robot", "cheetah-vel", "hopper-params", "balls"])
def test_it_steps_as_gymnasiums_own_vector_of_single_environments(name: str) -> None:
    """Through ends and new starts: the hopper falls, the others reach a time limit."""
    limit = {} if name == "hopper-params" else {"max_episode_steps": 7}
    ours, theirs = (made(name, mode, **limit) for mode in ("vector_entry_point", "sync"))
    assert isinstance(ours.unwrapped, TaskVectorEnv)
    for space in ("observation_space", "action_space", "single_observation_space", "single_action_space"):
        assert getattr(ours, space) == getattr(theirs, space)
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    first, info = ours.reset(seed=5)
    np.testing.assert_allclose(first, theirs.reset(seed=5)[0], rtol=1e-6)
    rng, episodes, alone = np.random.default_rng(0), np.zeros(3, int), False
    for _ in range(40):
        actions = rng.uniform(-1.0, 1.0, ours.action_space.shape).astype(np.float32)
        found, expected = ours.step(actions), theirs.step(actions)
        for one, other in zip(found[:4], expected[:4], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
            assert one.dtype == other.dtype
        info, told = found[4], expected[4]
        went = info["_training_reward"]
        np.testing.assert_array_equal(went, told.get("_training_reward", np.zeros(3, bool)))
        if went.any():
            rewards = (one["training_reward"][went] for one in (info, told))
            np.testing.assert_allclose(*rewards, rtol=1e-5, atol=1e-6)
        for parameter, values in info["task"].items():
            for env in range(3):
                np.testing.assert_array_equal(values[env], told["task"][parameter][env])
        ended = found[2] | found[3]
        episodes, alone = episodes + ended, alone or 0 < ended.sum() < 3
    assert (episodes > 0).all()
    if name == "hopper-params":
        assert alone, "they fell at different times"
    for envs in (ours, theirs):
        envs.close()


def test_an_episode_lasts_as_long_as_the_familys() -> None:
    envs = made("point-robot", "vector_entry_point")
    envs.reset(seed=0)
    for time in range(1, 21):
        _, _, terminated, truncated, _ = envs.step(np.zeros((3, 2), np.float32))
        assert not terminated.any() and truncated.all() == truncated.any() == (time == 20)


def test_tasks_are_told_as_to_a_single_environment_or_one_each() -> None:
    envs = TaskVectorEnv("cheetah-vel", 2, task="velocity=1")
    assert envs.reset()[1]["task"]["velocity"].tolist() == [1.0, 1.0]
    _, info = envs.reset(options={"task": ["velocity=0.5", "velocity=2"]})
    assert info["task"]["velocity"].tolist() == [0.5, 2.0]
    drawn = TaskVectorEnv("cheetah-vel", 4).reset(seed=0)[1]["task"]["velocity"]
    assert len(set(drawn.tolist())) == 4


def test_some_may_be_reset_alone() -> None:
    envs = TaskVectorEnv("point-robot", 3)
    envs.reset(seed=0)
    before = envs.step(np.ones((3, 2), np.float32))[0]
    mask = np.array([False, True, False])
    after, _ = envs.reset(seed=[None, 7, None], options={"reset_mask": mask})
    np.testing.assert_array_equal(after[~mask], before[~mask])
    np.testing.assert_array_equal(after[1], TaskVectorEnv("point-robot", 1).reset(seed=7)[0][0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "velocity=9"}, "outside cheetah-vel's range"),
        ({"task": ["velocity=1"]}, "1 tasks for 2 environments"),
        ({"render_mode": "rgb_array"}, "not rendered"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_sentence(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(NacreError, match=words):
        TaskVectorEnv("cheetah-vel", 2, **arguments)


def test_wrong_uses_are_refused() -> None:
    envs = TaskVectorEnv("cheetah-vel", 2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.step(np.zeros((2, 6), np.float32))
    with pytest.raises(NacreError, match="3 seeds for 2 environments"):
        envs.reset(seed=[1, 2, 3])
    envs.reset(seed=0)
    with pytest.raises(NacreError, match=r"shape \(6,\), but must have \(2, 6\)"):
        envs.step(np.zeros(6))


def test_a_limit_of_minus_one_is_none_and_others_below_one_are_refused() -> None:
    envs = TaskVectorEnv("point-robot", 2, max_episode_steps=-1)
    envs.reset(seed=0)
    for _ in range(30):
        assert not envs.step(np.zeros((2, 2), np.float32))[3].any()
    for limit in (0, -2):
        with pytest.raises(NacreError, match=f"max_episode_steps is {limit}, but must be at least 1, or -1"):
            TaskVectorEnv("point-robot", 2, max_episode_steps=limit)


def test_it_tells_whose_physics_diverged(monkeypatch: pytest.MonkeyPatch) -> None:
    envs, step = TaskVectorEnv("cheetah-vel", 3), MujocoLanes.step
    envs.reset(seed=0)
    actions = np.zeros((3, 6), np.float32)
    assert "diverged" not in envs.step(actions)[4]

    def diverging(lanes: MujocoLanes, *given: object) -> object:
        return step(lanes, *given)._replace(diverged=np.array([False, True, False]))  # type: ignore[arg-type]

    monkeypatch.setattr(MujocoLanes, "step", diverging)
    *_, truncated, info = envs.step(actions)
    assert truncated.tolist() == info["diverged"].tolist() == info["_diverged"].tolist() == [False, True, False]
