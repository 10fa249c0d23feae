"""MuJoCo lanes against Gymnasium's half-cheetah, the two engines against each other, and episodes that end early."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from nacre.errors import NacreError
from nacre.families.catalog import make_family
from nacre.families.family import JaxStep, num_tasks
from nacre.families.half_cheetah import TORSO, CheetahDir, CheetahVel
from nacre.families.point import PointRobot
from nacre.families.robots import load_model
from nacre.families.walker_hopper import WalkerGravity
from nacre.simulation import rollout
from nacre.simulation.mujoco import BatchEngine, MujocoLanes, SerialEngine
from nacre.types import Agent, Episode

FORWARD = {"direction": np.array([1.0])}
ENGINES = pytest.mark.parametrize("engine", [BatchEngine, SerialEngine])


@pytest.fixture
def gym_env(tmp_path, monkeypatch):
    """Gymnasium's own HalfCheetah-v5 (whose loading writes a log file where it happens)."""
    monkeypatch.chdir(tmp_path)
    env = gymnasium.make("HalfCheetah-v5").unwrapped
    env.reset(seed=0)
    yield env
    env.close()


@ENGINES
def test_half_cheetah_goes_as_gymnasiums_from_the_same_state_by_the_same_actions(gym_env, engine):
    rng = np.random.default_rng(0)
    lanes = MujocoLanes(CheetahDir(), 1, engine)
    for _ in range(2):
        qpos = gym_env.init_qpos + rng.uniform(-0.1, 0.1, 9)
        qvel = 0.1 * rng.standard_normal(9)
        mujoco.mj_resetData(gym_env.model, gym_env.data)
        gym_env.set_state(qpos, qvel)
        lanes.engine.reset(qpos[None], qvel[None])
        for _ in range(150):
            action = rng.uniform(-1, 1, 6).astype(np.float32)
            gym_obs, _, _, _, info = gym_env.step(action)
            result = lanes.step(action[None], FORWARD)
            state = lanes.engine.physics()
            np.testing.assert_allclose(state.qpos[0], gym_env.data.qpos, atol=1e-10, rtol=1e-10)
            np.testing.assert_allclose(state.qvel[0], gym_env.data.qvel, atol=1e-10, rtol=1e-10)
            # Ours: positions without the root's x, velocities (Gymnasium's 17), then the torso's position.
            np.testing.assert_allclose(result.obs[0, :17], gym_obs, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(result.obs[0, 17:], gym_env.data.xpos[TORSO], rtol=1e-6, atol=1e-6)
            control_cost = 0.05 * (action.astype(np.float64) ** 2).sum()
            np.testing.assert_allclose(result.reward[0], info["x_velocity"] - control_cost, rtol=1e-5, atol=1e-6)
    assert np.abs(gym_env.data.qpos[0]) > 0.1, "it has moved"


def test_torso_is_the_second_body_and_its_position_lags_one_substep():
    family, rng = CheetahVel(), np.random.default_rng(0)
    lanes = MujocoLanes(family, 1)
    model = load_model("half_cheetah.xml")
    assert model.body(TORSO).name == "torso" and model.opt.timestep * family.frame_skip == family.time_step
    by_substeps, kinematics = mujoco.MjData(model), mujoco.MjData(model)
    lanes.reset({"velocity": np.ones(1)}, rng)
    start = lanes.engine.physics()
    by_substeps.qpos[:], by_substeps.qvel[:] = start.qpos[0], start.qvel[0]
    for _ in range(10):
        action = rng.uniform(-1, 1, 6)
        by_substeps.ctrl[:] = action
        for _ in range(5):
            kinematics.qpos[:] = by_substeps.qpos
            mujoco.mj_step(model, by_substeps)
        mujoco.mj_kinematics(model, kinematics)
        obs = lanes.step(action[None], {"velocity": np.array([1.0])}).obs[0]
        np.testing.assert_allclose(obs[:8], by_substeps.qpos[1:], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(obs[8:17], by_substeps.qvel, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(obs[17:], kinematics.xpos[TORSO], rtol=1e-6, atol=1e-6)
        mujoco.mj_kinematics(model, by_substeps)
        assert np.abs(obs[17:] - by_substeps.xpos[TORSO]).max() > 1e-4


@pytest.mark.parametrize("name", ["cheetah-vel", "ant-goal", "humanoid-gravity"])
def test_the_two_engines_agree_bit_for_bit(name: str):
    """Two episodes, in which after a while only some lanes step; also of robots with a forward pass after each step."""
    family, rng = make_family(name), np.random.default_rng(0)
    task = family.sample_tasks(np.random.default_rng(1), 4)
    batch, serial = (MujocoLanes(family, 4, engine) for engine in (BatchEngine, SerialEngine))
    for episode in range(2):
        starts = [lanes.reset(task, np.random.default_rng(episode)) for lanes in (batch, serial)]
        np.testing.assert_array_equal(*starts)
        for time in range(60):
            stepping = None if time < 30 else np.array([0, 2])
            action = rng.uniform(-1.5, 1.5, (4, family.action_dim)).astype(np.float32)
            results = [lanes.step(action, task, stepping) for lanes in (batch, serial)]
            for ours, theirs in zip(*results, strict=True):
                np.testing.assert_array_equal(ours, theirs)
            states = (jax.tree.leaves(lanes.engine.physics()) for lanes in (batch, serial))
            for ours, theirs in zip(*states, strict=True):
                np.testing.assert_array_equal(ours, theirs)


@ENGINES
@pytest.mark.parametrize("family", [CheetahVel(), WalkerGravity()], ids=lambda family: family.name)
def test_a_lane_that_mujoco_puts_back_to_its_defaults_has_diverged(engine, family, tmp_path, monkeypatch):
    """Whether or not episodes may end: what happened is no end of the task."""
    monkeypatch.chdir(tmp_path)  # where MuJoCo logs it
    tasks = family.sample_tasks(np.random.default_rng(0), 3)
    lanes, still = MujocoLanes(family, 3, engine), np.zeros((3, family.action_dim))
    lanes.reset(tasks, np.random.default_rng(0))
    assert not lanes.step(still, tasks).terminated.any()
    lane = lanes.engine.lane(1)[1] if isinstance(lanes.engine, SerialEngine) else lanes.engine.physics()
    (lane.qpos if lane.qpos.ndim == 1 else lane.qpos[1])[0] = 50.0
    (lane.qvel if lane.qvel.ndim == 1 else lane.qvel[1])[:] = 1e12
    result = lanes.step(still, tasks)
    assert np.abs(lanes.engine.physics().qpos[1, 0]) < 1, "back from 50 m"
    assert result.diverged.tolist() == [False, True, False] and not result.terminated.any()
    assert result.reward[1] == result.training_reward[1] == 0
    assert (result.reward[[0, 2]] != 0).all() and np.isfinite(result.obs).all()
    assert not lanes.step(still, tasks).terminated.any()


@ENGINES
def test_lanes_that_are_not_listed_stand_still_and_the_others_go_as_ever(engine):
    rng = np.random.default_rng(0)
    velocity = {"velocity": np.ones(3)}
    all_lanes, some_lanes = (MujocoLanes(CheetahVel(), 3, engine) for _ in range(2))
    for lanes in (all_lanes, some_lanes):
        lanes.reset(velocity, np.random.default_rng(1))
    before = jax.tree.leaves(jax.tree.map(np.copy, some_lanes.engine.physics()))
    for _ in range(20):
        action = rng.uniform(-1, 1, (3, 6))
        expected = all_lanes.step(action, velocity)
        result = some_lanes.step(action, velocity, np.array([0, 2]))
        np.testing.assert_array_equal(result.obs[[0, 2]], expected.obs[[0, 2]])
        np.testing.assert_array_equal(result.reward[[0, 2]], expected.reward[[0, 2]])
    for was, now in zip(before, jax.tree.leaves(some_lanes.engine.physics()), strict=True):
        np.testing.assert_array_equal(now[1], was[1])
        assert (now[[0, 2]] != was[[0, 2]]).any(axis=tuple(range(1, now.ndim))).all()


@ENGINES
def test_a_reset_leaves_nothing_of_the_episode_before(engine):
    velocity, action = {"velocity": np.ones(2)}, np.full((2, 6), 0.7)
    used, fresh = (MujocoLanes(CheetahVel(), 2, engine) for _ in range(2))
    used.reset(velocity, np.random.default_rng(5))
    for _ in range(30):
        used.step(-action, velocity)
    np.testing.assert_array_equal(*(lanes.reset(velocity, np.random.default_rng(1)) for lanes in (used, fresh)))
    for _ in range(30):
        np.testing.assert_array_equal(*(lanes.step(action, velocity).obs for lanes in (used, fresh)))


def test_loading_a_robot_writes_nothing_and_lets_later_warnings_through(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = load_model("half_cheetah.xml")
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_allclose(model.body_mass.sum(), 14.0)
    assert mujoco.get_mju_user_warning() is None


# ----------------------------------------------------------------------------------------------------------------------
# Episodes that end early, in both kinds of family: lane 0 after 3 steps, lane 1 never, lane 2 after 7

HORIZON = 12
ENDS = (3, 99, 7)


class FallingCheetah(CheetahVel):
    """A half-cheetah whose lanes end on cue."""

    can_terminate: ClassVar[bool] = True
    horizon: ClassVar[int] = HORIZON
    ends: ClassVar[tuple[int, ...]] = ENDS
    steps: ClassVar[int] = 0

    def reset_state(self, qpos, qvel, rng):
        type(self).steps = 0
        return super().reset_state(qpos, qvel, rng)

    def terminated(self, after):
        type(self).steps += 1
        return np.array(self.ends) == self.steps


class SoonFallingCheetah(FallingCheetah):
    """All lanes end before the horizon."""

    ends: ClassVar[tuple[int, ...]] = (3, 1, 7)


class LeavingPoint(PointRobot):
    """A point robot from the origin whose episode ends when it passes its goal's x."""

    can_terminate: ClassVar[bool] = True
    horizon: ClassVar[int] = HORIZON

    def reset(self, key):
        return jnp.zeros(2), jnp.zeros(2)

    def step(self, state: Any, action: Any, task: Any) -> JaxStep:
        result = super().step(state, action, task)
        return result._replace(terminated=result.state[0] > task["goal"][0])


def _count(memory, name, amount=1.0):
    return memory | {name: memory[name] + amount}


COUNTING = Agent(
    begin=lambda params, task, key: {name: jnp.zeros(num_tasks(task)) for name in ("acted", "observed", "rewards")},
    act=lambda params, memory, obs, key, explore: (jnp.tile(params, (obs.shape[0], 1)), _count(memory, "acted")),
    observe=lambda params, memory, transition: _count(_count(memory, "observed"), "rewards", transition.reward),
    end_episode=lambda params, memory, key: memory,
    explores=lambda episode, scored_episode: False,
)
"""An agent that goes straight on (its params are its action) and counts what happens to it."""


def straight_on(family: Any, tasks: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Episode]:
    action = np.eye(family.action_dim, dtype=np.float32)[0]
    memory = rollout.begin(COUNTING, action, tasks, jax.random.key(0))
    return jax.device_get(rollout.episode(family, COUNTING, action, memory, tasks, jax.random.key(1), explore=False))


@pytest.fixture(scope="module", params=["mujoco", "jax"])
def ending(request) -> tuple[dict[str, np.ndarray], Episode]:
    if request.param == "mujoco":
        return straight_on(FallingCheetah(), {"velocity": np.array([0.5, 1.0, 2.0])})
    return straight_on(LeavingPoint(), {"goal": np.array([[0.25, 0.1], [9.9, 0.2], [0.65, 0.3]])})


def test_beside_an_accelerator_the_agent_of_a_robot_acts_on_the_host_and_does_the_same(monkeypatch):
    """There is none here: what is tested is the branch, not the device."""
    tasks = {"velocity": np.array([0.5, 1.0])}
    plain = straight_on(CheetahVel(), tasks)
    asked = []
    monkeypatch.setattr(jax, "default_backend", lambda: asked.append("gpu") or "gpu")
    jax.tree.map(np.testing.assert_array_equal, straight_on(CheetahVel(), tasks), plain)
    assert asked


def test_platforms_without_a_cpu_are_refused_in_a_sentence(monkeypatch):
    def none(backend: str) -> list[Any]:
        raise RuntimeError(f"Unknown backend: '{backend}' requested")

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", none)
    with pytest.raises(NacreError, match="JAX_PLATFORMS leaves the CPU out"):
        rollout.on_host(jnp.zeros(2))


def test_lanes_end_where_their_task_ends_them(ending):
    _, episode = ending
    assert episode.length.tolist() == [3, HORIZON, 7]
    assert episode.transitions.reward.shape == (3, HORIZON)


def test_discount_is_zero_at_a_termination_and_one_at_the_time_limit(ending):
    discount = ending[1].transitions.discount
    assert discount[0, :3].tolist() == [1, 1, 0]
    assert discount[1].tolist() == [1] * HORIZON
    assert discount[2, :7].tolist() == [1, 1, 1, 1, 1, 1, 0]


def test_returns_leave_out_the_padding(ending):
    _, episode = ending
    reward = episode.transitions.reward.astype(np.float64)
    expected = [reward[0, :3].sum(), reward[1].sum(), reward[2, :7].sum()]
    np.testing.assert_allclose(episode.returns(), expected, rtol=1e-12)
    assert episode.returns().dtype == np.float64
    assert (reward[0, 3:] != 0).any(), "there is something to leave out"


def test_the_memory_of_a_lane_stops_with_its_episode(ending):
    memory, episode = ending
    assert memory["observed"].tolist() == [3, HORIZON, 7]
    assert memory["acted"].tolist() == [3, HORIZON, 7]
    np.testing.assert_allclose(memory["rewards"], episode.returns(), rtol=1e-5)


def test_point_robots_rewards_up_to_the_end_are_the_hand_computed_ones():
    """From the origin along x in steps of 0.1, goal at (0.25, 0.1): distances after 1, 2, 3 steps."""
    _, episode = straight_on(LeavingPoint(), {"goal": np.array([[0.25, 0.1], [9.9, 0.2], [0.65, 0.3]])})
    expected = -np.hypot([0.15, 0.05, -0.05], 0.1)
    np.testing.assert_allclose(episode.transitions.reward[0, :3], expected, rtol=1e-5)


def test_an_episode_whose_lanes_have_all_ended_is_padded_to_the_horizon():
    memory, episode = straight_on(SoonFallingCheetah(), {"velocity": np.array([0.5, 1.0, 2.0])})
    assert episode.length.tolist() == memory["observed"].tolist() == [3, 1, 7]
    assert SoonFallingCheetah.steps == 7, "nothing is simulated after the last lane has ended"
    for values in episode.transitions:
        assert values.shape[:2] == (3, HORIZON)
        assert (values[:, 7:] == 0).all()
    whole, _ = straight_on(FallingCheetah(), {"velocity": np.array([0.5, 1.0, 2.0])})
    np.testing.assert_array_equal(memory["rewards"][[0, 2]], whole["rewards"][[0, 2]])
