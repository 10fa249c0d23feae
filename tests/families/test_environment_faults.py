"""What a person's Gymnasium environment may do wrong, and the sentence for it: in lanes, in workers, by hand."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces, wrappers

from nacre.errors import NacreError
from nacre.simulation.environment import TaskEnvironment
from nacre.simulation.gymnasium import GymnasiumLanes
from swinging import Balls

TASKS = {"place": np.array([-0.5, 0.5])}


class Plain(gymnasium.Env):
    """Its observation is (place, last action) in the box, in float32; every part of an answer may be replaced."""

    observation_space = spaces.Box(-9, 9, (2,))
    action_space = spaces.Box(-1, 1, (1,))
    place = 0.0
    answers: ClassVar[dict[str, Any]] = {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.time, self.action = 0, 0.0
        return self.answer("first", self._obs()), {}

    def step(self, action: np.ndarray):
        self.time, self.action = self.time + 1, float(action[0])
        return (
            self.answer("obs", self._obs()), self.answer("reward", self.place), self.answer("terminated", False),
            self.answer("truncated", False), self.answer("info", {}),
        )  # fmt: skip

    def answer(self, name: str, right: Any) -> Any:
        """What is right, but at step 3 (`first`: at a reset) what the test answers instead."""
        wrong = self.answers.get(name) if name == "first" or self.time == 3 else None
        if isinstance(wrong, BaseException):
            raise wrong
        return right if wrong is None else wrong

    def _obs(self) -> np.ndarray:
        return np.array([self.place, self.action], np.float32)


class PlainFamily(Balls):
    """It has no ends of its own."""

    name: ClassVar[str] = "plain"
    can_terminate: ClassVar[bool] = False
    horizon: ClassVar[int] = 5
    answers: ClassVar[dict[str, Any]] = {}

    def make_env(self, task, render_mode=None):
        env = Plain()
        env.answers = self.answers
        return env


class InWorkers(PlainFamily):
    num_workers: ClassVar[int] = 1


def family_that(base: type[PlainFamily] = PlainFamily, **answers: Any) -> PlainFamily:
    return type("Answering", (base,), {"answers": answers})()


def play(family: PlainFamily, steps: int = 5, action: float = 0.5) -> list[Any]:
    lanes = GymnasiumLanes(family)
    lanes.reset(TASKS, np.random.default_rng(0))
    return [lanes.step(np.full((2, 1), action, np.float32), TASKS) for _ in range(steps)]


def play_by_hand(family: PlainFamily) -> None:
    env = TaskEnvironment(family)
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.full(1, 0.5, np.float32))


F32 = np.float32
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"obs": 0.0}, r"observation 0.0 at step 3 .* has shape \(\) where its space says \(2,\)"),
    ({"obs": np.zeros(3, F32)}, r"at step 3 .* has shape \(3,\)"),
    ({"obs": np.zeros((2, 1), F32)}, r"has shape \(2, 1\)"),
    ({"obs": np.zeros(2)}, "is of float64 where its space says float32"),
    ({"obs": np.zeros(2, object)}, "is of object"),
    ({"obs": np.array([np.nan, 0], F32)}, r"observation \[nan, 0.0\] at step 3 of an episode, which is not finite"),
    ({"first": np.array([np.inf, 0], F32)}, r"observation \[inf, 0.0\] at a reset, which is not finite"),
    ({"first": 0.0}, r"at a reset, which has shape \(\)"),
    ({"reward": np.array([1.0])}, r"reward \[1.0\] at step 3 of an episode, which is not one number"),
    ({"reward": "1"}, "reward 1 at step 3 .* not one number"),
    ({"reward": np.nan}, "reward nan at step 3 .* not finite"),
    ({"reward": 1e39}, r"reward 1e\+39 at step 3 .* not finite"),
    ({"info": {"training_reward": np.array([1.0])}}, "training_reward .* at step 3 .* not one number"),
    ({"info": {"training_reward": np.inf}}, "training_reward inf at step 3 .* not finite"),
    ({"info": [1]}, r"info \[1\] at step 3 .* no dictionary"),
    ({"terminated": np.array([False])}, r"terminated \[False\] at step 3 .* not True or False"),
    ({"terminated": True}, "terminated at step 3, but the family does not declare .*can_terminate = True"),
    ({"terminated": True, "truncated": True}, "terminated at step 3, but the family does not declare"),
    ({"truncated": True}, "at step 3 by a time limit, before the family's horizon of 5"),
    ({"obs": BrokenPipeError()}, r"step failed with BrokenPipeError \(test_environment_faults.py, line \d+\)"),
    ({"obs": SystemExit(0)}, "step failed with SystemExit: 0"),
    ({"obs": MemoryError("none left")}, "step failed with MemoryError: none left"),
    ({"first": SystemExit(0)}, "reset failed with SystemExit: 0"),
]


@pytest.mark.parametrize(("answers", "words"), FAULTS, ids=lambda value: str(value)[:40])
def test_a_wrong_answer_is_refused_with_family_step_and_value(answers: dict[str, Any], words: str) -> None:
    for way in (play, play_by_hand):
        with pytest.raises(NacreError, match=f"plain.*{words}"):
            way(family_that(**answers))


def test_answers_of_other_kinds_that_mean_the_same_are_taken() -> None:
    fine = {"reward": np.array(0.25), "terminated": np.False_, "truncated": 0}
    assert play(family_that(**fine))[2].reward.tolist() == [0.25, 0.25]


class Leaving(InWorkers):
    """Its environment fails as if the pipe of the worker had gone."""

    answers: ClassVar[dict[str, Any]] = {"obs": BrokenPipeError("gone")}


def test_what_fails_in_a_worker_is_told_as_here() -> None:
    with pytest.raises(NacreError, match="plain's step failed with BrokenPipeError: gone"):
        play(Leaving())


def test_ctrl_c_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        play(family_that(obs=KeyboardInterrupt()))


class Reusing(Plain):
    """All environments write all their observations into one array."""

    seen = np.zeros(2, F32)

    def _obs(self) -> np.ndarray:
        self.seen[:] = super()._obs()
        return self.seen


def test_an_array_that_is_used_again_is_copied() -> None:
    family = type("Family", (PlainFamily,), {"make_env": lambda self, task: Reusing()})()
    lanes = GymnasiumLanes(family)
    first = lanes.reset(TASKS, np.random.default_rng(0))
    steps = [lanes.step(np.full((2, 1), action, F32), TASKS) for action in (0.25, 0.5)]
    assert first.tolist() == [[-0.5, 0.0], [0.5, 0.0]]
    assert [step.obs.tolist() for step in steps] == [[[-0.5, a], [0.5, a]] for a in (0.25, 0.5)]
    env = TaskEnvironment(family, "place=0.5")
    seen = [env.reset(seed=0)[0], *(env.step(np.full(1, action, F32))[0] for action in (0.25, 0.5))]
    assert [obs.tolist() for obs in seen] == [[0.5, 0.0], [0.5, 0.25], [0.5, 0.5]]


class OneLevelUp(gymnasium.Wrapper):
    """A wrapper that has a place of its own."""

    place = 7.0


@pytest.mark.parametrize("wrapped", [lambda env: env, lambda env: wrappers.TimeLimit(env, 99)], ids=["bare", "wrapped"])
def test_an_attribute_set_on_what_make_env_made_reaches_the_environment(wrapped: Any) -> None:
    class Setting(PlainFamily):
        def make_env(self, task):
            return wrapped(Plain())

        def set_task(self, env, task):
            env.place = task["place"]
            env.new = env.place + env.get_wrapper_attr("place")
            assert env.unwrapped.new == 2 * task["place"]

    assert play(Setting(), 1)[0].reward.tolist() == [-0.5, 0.5]


def test_an_attribute_of_a_wrapper_stays_the_wrappers() -> None:
    class Setting(PlainFamily):
        def make_env(self, task):
            return wrappers.TimeLimit(OneLevelUp(Plain()), 99)

        def set_task(self, env, task):
            env.place = task["place"]
            assert env.unwrapped.place == 0.0 and env.env.env.place == env.place == task["place"]

    play(Setting(), 1)


def boxed(low: Any, high: Any, dtype: type = F32) -> PlainFamily:
    sent: list[np.ndarray] = []

    class Strict(Plain):
        action_space = spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)
        observation_space = spaces.Box(-9, 9, (1,))

        def step(self, action):
            assert self.action_space.contains(action) and action.dtype == dtype
            sent.append(action)
            return super().step(action)

        def _obs(self):
            return np.zeros(1, F32)

    return type("Boxed", (PlainFamily,), {
        "obs_dim": 1, "action_dim": len(low), "make_env": lambda self, task: Strict(), "sent": sent,
    })()  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_actions_stay_within_the_box_to_the_last_bit(dtype: type) -> None:
    family = boxed([-0.3, 0.1, 2.0], [0.9, 0.7, 2.0], dtype)
    lanes = GymnasiumLanes(family)
    lanes.reset({"place": np.zeros(1)}, np.random.default_rng(0))
    for action in ([1, 1, 1], [-1, -1, -1], [0, 0.5, -0.5], [5, -5, np.nextafter(1, 0)]):
        lanes.step(np.array([action], F32), {})
    expected = [[0.9, 0.7, 2], [-0.3, 0.1, 2], [0.3, 0.55, 2], [0.9, 0.1, 2]]
    np.testing.assert_allclose(family.sent, np.array(expected), rtol=2e-3 if dtype == np.float16 else 1e-6)
    assert np.array(family.sent)[:, 2].tolist() == [2.0] * 4


def test_the_widest_box_of_a_dtype_gives_no_infinity() -> None:
    widest = float(np.finfo(np.float64).max)
    family = boxed([-widest], [widest], np.float64)
    play(family, 1, action=1.0)
    assert family.sent[0].tolist() == [widest]


def test_the_advice_for_actions_without_bounds_is_right() -> None:
    endless = spaces.Box(-np.inf, np.inf, (1,))
    for made in (lambda env: wrappers.TransformAction(env, lambda action: action, endless), wrappers.ClipAction):
        family = type("Endless", (PlainFamily,), {"make_env": lambda self, task, made=made: made(Plain())})()
        with pytest.raises(NacreError, match=r"without bounds; give them bounds .* leave ClipAction out") as told:
            play(family)
    code = str(told.value).split("as in ")[1].split(", and leave")[0]
    names = {"gymnasium": gymnasium}

    class Advised(PlainFamily):
        def make_env(self, task):
            return eval(code, names | {"env": wrappers.TransformAction(Plain(), lambda action: action, endless)})

    assert play(Advised(), 1)[0].obs[:, 1].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("wrapper", [wrappers.NormalizeObservation, wrappers.NormalizeReward])
def test_running_statistics_are_refused(wrapper: Any) -> None:
    def make_env(self, task):
        return wrappers.TimeLimit(wrapper(Plain()), 99)

    family = type("Scaled", (PlainFamily,), {"make_env": make_env})()
    for way in (play, play_by_hand):
        with pytest.raises(NacreError, match=rf"wrapped in {wrapper.__name__}, .* leave that wrapper out"):
            way(family)


def test_what_is_no_environment_is_refused() -> None:
    family = type("None", (PlainFamily,), {"make_env": lambda self, task: None})()
    with pytest.raises(NacreError, match=r"make_env returned None, but must return a gymnasium.Env"):
        play(family)
