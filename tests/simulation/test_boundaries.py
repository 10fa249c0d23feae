"""What a person's JAX or MuJoCo family may do wrong, the sentence for it, and physics that diverge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.errors import NacreError
from nacre.families.family import MujocoFamily
from nacre.families.half_cheetah import CheetahVel
from nacre.families.point import PointRobot
from nacre.simulation import rollout
from nacre.simulation.environment import TaskEnvironment
from nacre.simulation.mujoco import Batch, BatchEngine, MujocoLanes, SerialEngine
from nacre.simulation.vector_environment import TaskVectorEnv
from nacre.types import Agent, Episode

ENGINES = [SerialEngine] if Batch is None else [SerialEngine, BatchEngine]
GOALS = {"goal": np.array([[0.1, 0.0], [0.9, 0.0]])}
SPEEDS = {"velocity": np.array([0.5, 1.0, 2.0])}


def step_of(agent_memory: Any, transition: Any) -> Any:
    return {"rewards": agent_memory["rewards"] + transition.reward, "steps": agent_memory["steps"] + 1}


RESTING = Agent(
    begin=lambda params, task, key: {"rewards": jnp.zeros(len(next(iter(task.values())))), "steps": jnp.zeros(3, int)},
    act=lambda params, memory, obs, key, explore: (jnp.zeros((obs.shape[0], 6)) + params, memory),
    observe=lambda params, memory, transition: step_of(memory, transition),
    end_episode=lambda params, memory, key: memory,
    explores=lambda episode, scored_episode: False,
)
"""It does nothing (plus its parameters), and remembers the rewards and the number of steps that it was shown."""


def rested(family: Any, tasks: Any, action: float = 0.0) -> tuple[Any, Episode]:
    memory = {key: value[: len(next(iter(tasks.values())))] for key, value in RESTING.begin({}, tasks, None).items()}
    agent = RESTING
    if family.action_dim == 2:
        agent = RESTING._replace(
            act=lambda params, memory, obs, key, explore: (jnp.zeros((obs.shape[0], 2)) + params, memory)
        )
    return jax.device_get(
        rollout.episode(family, agent, jnp.float32(action), memory, tasks, jax.random.key(0), explore=False)
    )


# ----------------------------------------------------------------------------------------------------------------------
# JAX


def point_that(**changes: Any) -> PointRobot:
    """point-robot with parts of its step (or its first observation) replaced by functions of the step."""

    class Point(PointRobot):
        horizon: ClassVar[int] = 4

        def reset(self, key):
            state, obs = super().reset(key)
            return (state, jnp.int32(0)), changes.get("first", lambda obs: obs)(obs)

        def step(self, state, action, task):
            step = super().step(state[0], action, task)
            step = step._replace(state=(step.state, state[1] + 1))
            return step._replace(**{name: f(step) for name, f in changes.items() if name != "first"})

    return Point()


JAX_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"obs": lambda step: step.reward}, r"step \(obs\) gives an array of shape \(2,\) .* must give \(2, 2\)"),
    ({"reward": lambda step: step.obs[:1]}, r"step \(reward\) gives an array of shape \(2, 1\) .* must give \(2,\)"),
    ({"training_reward": lambda step: step.obs}, r"step \(training_reward\) gives"),
    ({"terminated": lambda step: step.reward}, r"step \(terminated\) gives .* float32 .* of bool"),
    ({"first": lambda obs: obs[:1]}, r"reset \(observation\) gives an array of shape \(2, 1\)"),
    ({"first": lambda obs: obs * jnp.nan}, r"first observation that is not finite, \[nan, nan\], at a reset"),
    ({"obs": lambda step: jnp.where(step.state[1] == 2, jnp.nan, step.obs)}, r"next_obs .* at step 2 .*\[nan, nan\]"),
    ({"terminated": lambda step: step.state[1] == 3}, "terminated at step 3, but the family does not declare"),
    ({"reward": lambda step: 1 / 0}, r"step failed with ZeroDivisionError: .*test_boundaries.py, line \d+"),
    ({"reward": lambda step: np.sin(step.reward)}, "step failed with TracerArrayConversionError"),
]


@pytest.mark.parametrize(("changes", "words"), JAX_FAULTS, ids=lambda value: str(value)[:30])
def test_a_wrong_jax_family_is_refused_with_a_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(NacreError, match=f"point-robot.*{words}"):
        rested(point_that(**changes), GOALS)


@pytest.mark.parametrize("field", ["reward", "training_reward", "obs"])
def test_an_environment_gives_no_number_that_is_not_finite(field: str) -> None:
    """As Gymnasium's environment of one robot, and of several."""
    family = point_that(**{field: lambda step: getattr(step, field) * jnp.nan})
    words = f"point-robot returned a {field.replace('_', ' ')} that is not finite at step 1"
    one, several = TaskEnvironment(family), TaskVectorEnv(family, 2)
    for env, action in ((one, np.zeros(2)), (several, np.zeros((2, 2)))):
        env.reset(seed=0)
        with pytest.raises(NacreError, match=words):
            env.step(action)


# ----------------------------------------------------------------------------------------------------------------------
# MuJoCo


class Short(CheetahVel):
    horizon: ClassVar[int] = 6


def cheetah_that(**methods: Any) -> MujocoFamily:
    return type("Cheetah", (Short,), methods)()


def raising(error: BaseException) -> Any:
    def function(self: Any, *args: Any) -> Any:
        raise error

    return function


def setting(field: str, shape: tuple[int, ...], value: float = 1.0) -> Any:
    return lambda self, model, task: {field: np.full(shape, value)}


MUJOCO_FAULTS: list[tuple[dict[str, Any], str]] = [
    (
        {"observe": lambda self, physics: physics.qpos},
        r"observe gives an array of shape \(3, 9\) .* must give \(3, 20\)",
    ),
    ({"rewards": lambda self, b, a, action, task: (np.zeros((3, 1)),) * 2}, r"rewards gives .* \(3, 1\)"),
    ({"rewards": lambda self, b, a, action, task: (0.0, 0.0)}, r"rewards gives an array of shape \(\)"),
    ({"terminated": lambda self, after: np.zeros(3)}, "terminated gives .* float64 .* of bool"),
    ({"terminated": lambda self, after: np.ones(3, bool)}, "terminated at step 1, but the family does not declare"),
    ({"reset_state": lambda self, qpos, qvel, rng: (qpos, qpos[:, 1:])}, "reset_state gives .*must give"),
    ({"rewards": raising(SystemExit(0))}, "rewards failed with SystemExit: 0"),
    ({"observe": raising(BrokenPipeError())}, "observe failed with BrokenPipeError"),
    ({"reset_state": raising(MemoryError())}, "reset_state failed with MemoryError"),
    ({"model_parameters": raising(KeyError("mass"))}, "model_parameters failed with KeyError: 'mass'"),
    ({"model_parameters": setting("body_mass", (3, 1))}, r"\(body_mass\) gives .* \(3, 1\) .* must give \(3, 8\)"),
    ({"model_parameters": setting("opt.gravity", (3, 1))}, r"\(opt.gravity\) gives .*must give \(3, 3\)"),
    ({"model_parameters": setting("body_mass", (3, 8), np.nan)}, r"\(body_mass\) gives values that are not finite"),
    (
        {"model_parameters": setting("body_mas", (3, 8))},
        "gives 'body_mas', which is no number or array of MuJoCo's model",
    ),
    (
        {"model_parameters": setting("geom_contype", (3, 9), 0.5)},
        r"\(geom_contype\) gives 0.5, but that field is of int32",
    ),
]


@pytest.mark.parametrize(("methods", "words"), MUJOCO_FAULTS, ids=lambda value: str(value)[:30])
def test_a_wrong_mujoco_family_is_refused_with_a_sentence(methods: dict[str, Any], words: str) -> None:
    with pytest.raises(NacreError, match=f"cheetah-vel.*{words}"):
        rested(cheetah_that(**methods), SPEEDS)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_number_of_the_model_may_differ_between_lanes(engine: Any) -> None:
    """In thick air, the half-cheetah slows down; a lane in thin air does as it did."""

    def model_parameters(self: Any, model: Any, task: Any) -> Any:
        return {"opt.viscosity": np.array([0.0, 50.0, 0.0])}

    ends = []
    for family in (Short(), cheetah_that(model_parameters=model_parameters)):
        lanes = MujocoLanes(family, 3, engine)
        lanes.reset(SPEEDS, np.random.default_rng(0))
        for _ in range(5):
            obs = lanes.step(np.ones((3, 6)), SPEEDS).obs
        ends.append(np.array(obs))
    np.testing.assert_array_equal(ends[0][[0, 2]], ends[1][[0, 2]])
    assert np.abs(ends[0][1] - ends[1][1]).max() > 0.1


@dataclass(frozen=True)
class OneBuffer(Short):
    """Its functions return views of arrays that they use again."""

    seen: ClassVar[np.ndarray] = np.zeros((3, 20), np.float32)
    paid: ClassVar[np.ndarray] = np.zeros(3, np.float32)

    def observe(self, physics):
        self.seen[:] = super().observe(physics)
        return self.seen

    def rewards(self, before, after, action, task):
        self.paid[:], _ = super().rewards(before, after, action, task)
        return self.paid, self.paid


def test_arrays_that_a_mujoco_family_uses_again_are_copied() -> None:
    memory, reused = rested(OneBuffer(), SPEEDS, action=0.5)
    right, expected = rested(Short(), SPEEDS, action=0.5)
    jax.tree.map(np.testing.assert_array_equal, (memory, reused), (right, expected))


# ----------------------------------------------------------------------------------------------------------------------
# Physics that diverge


@pytest.fixture(autouse=True)
def where_mujoco_logs(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes what diverges to a file in the working directory."""
    monkeypatch.chdir(tmp_path)


def spoilt(lanes: MujocoLanes, lane: int, value: float) -> None:
    """Gives one lane a state that MuJoCo will not continue from."""
    if isinstance(lanes.engine, SerialEngine):
        lanes.engine.lane(lane)[1].qvel[:] = value
    else:
        lanes.engine.physics().qvel[lane] = value


@pytest.mark.parametrize("value", [np.nan, 1e12, 1e300], ids=str)
@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
def test_a_diverged_lane_is_told_apart_and_leaves_the_others_alone(engine: Any, value: float) -> None:
    lanes, alone = (MujocoLanes(Short(), 3, engine) for _ in range(2))
    for each in (lanes, alone):
        each.reset(SPEEDS, np.random.default_rng(0))
    spoilt(lanes, 1, value)
    action = np.full((3, 6), 0.3, np.float32)
    step, expected = lanes.step(action, SPEEDS), alone.step(action, SPEEDS)
    assert step.diverged.tolist() == [False, True, False] and not expected.diverged.any()
    for name in ("obs", "reward", "training_reward", "terminated"):
        np.testing.assert_array_equal(getattr(step, name)[[0, 2]], getattr(expected, name)[[0, 2]])
        assert not getattr(step, name)[1].any()
    assert lanes.step(action, SPEEDS, np.array([0, 2])).diverged.tolist() == [False] * 3


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
def test_a_state_that_diverged_in_the_last_model_step_is_seen_at_once(engine: Any) -> None:
    """MuJoCo itself would find it a control step later."""
    lanes = MujocoLanes(Short(), 3, engine)
    lanes.reset(SPEEDS, np.random.default_rng(0))
    step = lanes.engine.step

    def stepping(*args: Any) -> None:
        step(*args)
        spoilt(lanes, 2, np.inf)

    lanes.engine.step = stepping
    assert lanes.step(np.zeros((3, 6), np.float32), SPEEDS).diverged.tolist() == [False, False, True]


class Diverging(Short):
    """Its lane 1 diverges at step 3, lane 2 at step 1."""

    at: ClassVar[tuple[int, ...]] = (99, 3, 1)


@pytest.fixture
def diverging(monkeypatch: pytest.MonkeyPatch) -> type[Diverging]:
    step, count = MujocoLanes.step, [0]

    def spoiling(lanes: MujocoLanes, action: Any, task: Any, which: Any = None) -> Any:
        count[0] += 1
        for lane, at in enumerate(lanes.family.at):
            if at == count[0]:
                spoilt(lanes, lane, np.nan)
        return step(lanes, action, task, which)

    monkeypatch.setattr(MujocoLanes, "step", spoiling)
    return Diverging


def test_the_transition_of_a_diverged_step_is_left_out_and_counted(diverging: Any, caplog: Any) -> None:
    memory, episode = rested(diverging(), SPEEDS, action=0.5)
    assert episode.length.tolist() == [6, 2, 0] == memory["steps"].tolist()
    assert episode.diverged.tolist() == [False, True, True]
    assert episode.transitions.discount[1, :2].tolist() == [1.0, 1.0], "its last step is followed by more, unseen"
    np.testing.assert_allclose(memory["rewards"], episode.returns(), rtol=1e-5)
    assert episode.returns()[2] == 0.0
    assert caplog.messages == ["cheetah-vel: the physics diverged in 2 of 3 episodes, which end before that step"]


def test_physics_that_always_diverge_are_refused(diverging: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diverging, "at", (1, 1, 1))
    with pytest.raises(NacreError, match="cheetah-vel diverged at the first step of every episode"):
        rested(diverging(), SPEEDS)
