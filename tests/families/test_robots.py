"""Ant, humanoid, walker and hopper: against Gymnasium's robots, rewards by hand, and models that differ by task."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco.humanoid_v5 import mass_center
from robots_parts import EARTH, ENGINES

from nacre.families.ant import AntDir, AntDir360, AntGoal, AntGravity
from nacre.families.catalog import FAMILIES, make_family
from nacre.families.family import MujocoFamily, Physics
from nacre.families.humanoid import HumanoidDir
from nacre.families.inversion import ReacherInversion
from nacre.families.robots import load_model
from nacre.families.walker_hopper import HopperGravity, WalkerGravity
from nacre.simulation.mujoco import MujocoLanes

ROBOTS = {
    "Ant-v5": (AntGravity(), {}),
    "Humanoid-v5": (make_family("humanoid-gravity"), {}),
    "Walker2d-v5": (WalkerGravity(), {"xml_file": "walker2d.xml"}),
    "Hopper-v5": (HopperGravity(), {}),
}


@pytest.fixture(params=ROBOTS)
def pair(request, tmp_path, monkeypatch) -> tuple[Any, MujocoFamily]:
    """Gymnasium's environment with the family's time step, and the family."""
    monkeypatch.chdir(tmp_path)
    family, options = ROBOTS[request.param]
    env: Any = gymnasium.make(request.param, **options).unwrapped
    if family.model_timestep is not None:
        env.model.opt.timestep = family.model_timestep
    env.reset(seed=0)
    yield env, family
    env.close()


def same_start(env: Any, family: MujocoFamily, lanes: MujocoLanes, rng: np.random.Generator, speed: Any = 0.0) -> None:
    """A start of the family's, in both; `speed` is added to the velocities."""
    qpos, qvel = family.reset_state(env.init_qpos[None], env.init_qvel[None] + speed, rng)
    mujoco.mj_resetData(env.model, env.data)
    env.set_state(qpos[0], qvel[0])
    lanes.engine.reset(qpos, qvel)


def derive(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """What MuJoCo derives is that of the state now, contact forces too; the steps to come stay what they were."""
    warm_start = data.qacc_warmstart.copy()
    mujoco.mj_forward(model, data)
    mujoco.mj_rnePostConstraint(model, data)
    data.qacc_warmstart[:] = warm_start


def place(env: Any) -> float:
    """x of what Gymnasium pays the way of: the humanoid's centre of mass, the others' root."""
    return mass_center(env.model, env.data)[0] if env.spec.id == "Humanoid-v5" else env.data.qpos[0]


HIDDEN = {"Humanoid-v5": np.r_[45:55, 185:191, 269:275, 292:298]}
"""Gymnasium leaves out the world's inertia, velocity and contact forces, and the root's forces of actuators."""


@ENGINES
def test_a_robot_goes_as_gymnasiums_and_falls_where_it_falls(pair, engine):
    """Same state and actions, same next state, derived numbers, observation, reward and termination.

    Gymnasium's reward and observation are those of its own functions at the state reached, and a fall is paid the
    bonus of standing here. The last start throws the robot up at 5 m/s, beyond its greatest height where it has one.
    """
    env, family = pair
    lanes, rng = MujocoLanes(family, 1, engine), np.random.default_rng(0)
    low, high = env.model.actuator_ctrlrange.T
    up = np.zeros(env.model.nv)
    up[1 if family.model_file in ("walker2d.xml", "hopper.xml") else 2] = 5.0
    ends, largest = [], 0.0
    for speed in (0.0, 0.0, 0.0, up):
        same_start(env, family, lanes, rng, speed)
        derive(env.model, env.data)
        for _ in range(60):
            unit, before = rng.uniform(-1, 1, family.action_dim), place(env)
            action = (low + high) / 2 + (high - low) / 2 * unit
            _, _, terminated, _, _ = env.step(action)
            result = lanes.step(unit[None], EARTH)
            state = lanes.engine.physics()
            np.testing.assert_allclose(state.qpos[0], env.data.qpos, atol=1e-10, rtol=1e-10)
            np.testing.assert_allclose(state.qvel[0], env.data.qvel, atol=1e-10, rtol=1e-10)
            assert bool(result.terminated[0]) == terminated
            derive(env.model, env.data)
            shown = np.delete(result.obs[0], HIDDEN.get(env.spec.id, []))
            assert len(shown) == env.observation_space.shape[0] or isinstance(family, AntGravity)
            np.testing.assert_allclose(shown, env._get_obs()[: len(shown)], atol=1e-6, rtol=1e-6)
            reward, _ = env._get_rew((place(env) - before) / env.dt, action)
            np.testing.assert_allclose(result.reward[0], reward + terminated * env._healthy_reward, atol=1e-5)
            if family.needs_contact_forces:
                np.testing.assert_allclose(state.cfrc_ext[0], env.data.cfrc_ext, atol=1e-6, rtol=1e-6)
                largest = max(largest, np.abs(state.cfrc_ext).max())
            if terminated:
                break
        ends.append(terminated)
    assert ends[-1], "thrown up, it leaves its bounds"
    assert any(ends[:-1]) or isinstance(family, AntGravity), "an ant that flails stays within its heights"
    assert largest > 1.0 or not family.needs_contact_forces, "contact forces are real"


SEES_CONTACTS = [name for name, family in FAMILIES.items() if "cfrc_ext" in getattr(family, "physics_fields", ())]


plain_model = functools.cache(load_model)
"""A robot without nacre's accelerometer."""


def derived(lanes: MujocoLanes, lane: int, action: np.ndarray, gravity: float = 1.0) -> mujoco.MjData:
    """What MuJoCo derives of a lane's state now, by a model of its own."""
    family, state = lanes.family, lanes.engine.physics()
    model = plain_model(family.model_file, family.model_timestep)
    model.opt.gravity[2] = -9.81 * gravity
    data = mujoco.MjData(model)
    low, high = model.actuator_ctrlrange.T
    data.qpos[:], data.qvel[:] = state.qpos[lane], state.qvel[lane]
    data.ctrl[:] = (low + high) / 2 + (high - low) / 2 * np.clip(action[lane], -1, 1)
    derive(model, data)
    return data


@pytest.mark.parametrize("name", SEES_CONTACTS)
def test_every_family_that_reads_contact_forces_gets_those_of_the_state_it_is_in(name):
    """After its reset and after every step, in each lane's own gravity; they are real in every lane."""
    family, rng = make_family(name), np.random.default_rng(0)
    lanes, task = MujocoLanes(family, 2), family.sample_tasks(rng, 2)
    gravity, largest = task.get("gravity_scale", np.ones(2)), np.zeros(2)
    lanes.reset(task, rng)
    action = np.zeros((2, family.action_dim))
    for step in range(30):
        if step > 0:
            action = rng.uniform(-1.5, 1.5, action.shape)
            lanes.step(action, task)
        for lane, forces in enumerate(lanes.engine.physics().cfrc_ext):
            expected = derived(lanes, lane, action, gravity[lane]).cfrc_ext
            np.testing.assert_allclose(forces, expected, atol=1e-2, rtol=1e-4)  # the solver starts elsewhere
            largest[lane] = max(largest[lane], np.abs(forces).max())
    assert (largest > 1.0).all()


def test_the_families_that_read_contact_forces_are_ants_and_humanoids():
    robots = {
        name for name, family in FAMILIES.items() if getattr(family, "model_file", "") in ("ant.xml", "humanoid.xml")
    }
    assert robots == set(SEES_CONTACTS) and len(robots) == 6


@ENGINES
def test_an_unchanged_reacher_is_gymnasiums(engine, tmp_path, monkeypatch):
    """Links of length 1, actuators as ever: the same state, observation and reward after the same actions."""
    monkeypatch.chdir(tmp_path)
    env: Any = gymnasium.make("Reacher-v5").unwrapped
    env.reset(seed=0)
    family, task, rng = ReacherInversion(), {"robot": np.ones((1, 2))}, np.random.default_rng(0)
    lanes = MujocoLanes(family, 1, engine)
    lanes.reset(task, rng)
    for _ in range(3):
        same_start(env, family, lanes, rng)
        for _ in range(family.horizon):
            action = rng.uniform(-1, 1, family.action_dim)
            obs, reward, terminated, _, _ = env.step(action)
            result, state = lanes.step(action[None], task), lanes.engine.physics()
            np.testing.assert_allclose(state.qpos[0], env.data.qpos, atol=1e-9, rtol=1e-9)
            np.testing.assert_allclose(state.qvel[0], env.data.qvel, atol=1e-9, rtol=1e-9)
            np.testing.assert_allclose(result.obs[0], obs, atol=1e-6, rtol=1e-6)
            np.testing.assert_allclose(result.reward[0], reward, atol=1e-6, rtol=1e-6)
            assert bool(result.terminated[0]) == terminated
    env.close()


def test_humanoids_observation_has_the_parts_and_sizes_of_the_papers():
    family = HumanoidDir()
    lanes = MujocoLanes(family, 2)
    obs = lanes.reset({"angle": np.zeros(2)}, np.random.default_rng(0))
    state = lanes.engine.physics()
    parts = np.split(obs[0], np.cumsum([22, 23, 140, 84, 23]))
    assert [len(part) for part in parts] == [22, 23, 140, 84, 23, 84]
    for part, field in zip(
        parts,
        (state.qpos[0, 2:], state.qvel[0], state.cinert[0], state.cvel[0], state.qfrc_actuator[0], state.cfrc_ext[0]),
        strict=True,
    ):
        np.testing.assert_allclose(part, field.ravel(), rtol=1e-6)
    mass = lanes.model.body_mass
    data = mujoco.MjData(lanes.model)
    data.qpos[:], data.qvel[:] = state.qpos[0], state.qvel[0]
    mujoco.mj_forward(lanes.model, data)
    centre = (mass[:, None] * data.xipos).sum(axis=0) / mass.sum()
    np.testing.assert_allclose(state.subtree_com[0, 0], centre, atol=1e-12)


# ----------------------------------------------------------------------------------------------------------------------
# Rewards by hand


def ant_physics(x: float, y: float, force: float) -> Physics:
    qpos = np.zeros((1, 15))
    qpos[0, :3] = x, y, 0.5
    return Physics(qpos, np.zeros((1, 14)), cfrc_ext=np.full((1, 14, 6), force))


ACTION = np.array([[1.0, -0.5, 0, 0, 0, 0, 0, 0]])
"""Its squares add up to 1.25."""


@pytest.mark.parametrize(("angle", "progress"), [(0.0, 2.0), (np.pi, -2.0), (np.pi / 2, 1.0)])
def test_a_running_ant_is_paid_its_velocity_in_the_direction_and_1_for_being_alive(angle, progress):
    """0.1 m along x and 0.05 m along y in 0.05 s; contact forces of 3, which are clipped to 1, in all 84."""
    reward, training_reward = AntDir360().rewards(
        ant_physics(0, 0, 0), ant_physics(0.1, 0.05, 3.0), ACTION, {"angle": np.array([angle])}
    )
    np.testing.assert_allclose(reward, progress - 0.5 * 1.25 - 0.0005 * 84 + 1.0, atol=1e-12)
    np.testing.assert_array_equal(reward, training_reward)


def test_ant_goal_pays_minus_the_l1_distance_and_shows_clipped_contact_forces():
    family, after = AntGoal(), ant_physics(0.5, -0.5, 0.5)
    reward, _ = family.rewards(ant_physics(0, 0, 0), after, ACTION, {"goal": np.array([[2.0, 1.0]])})
    np.testing.assert_allclose(reward, -(1.5 + 1.5) - 0.1 * 1.25 - 0.0005 * 84 * 0.25, atol=1e-12)
    obs = family.observe(ant_physics(0.5, -0.5, -7.0))
    assert obs.shape == (1, 113) and (obs[0, 29:] == -1.0).all()
    assert not family.terminated(ant_physics(0, 0, 0)._replace(qpos=np.zeros((1, 15)))).any()


@pytest.mark.parametrize(
    ("height", "falls"), [(0.19, True), (0.21, False), (0.99, False), (1.01, True), (np.nan, True), (np.inf, True)]
)
def test_a_running_ant_ends_where_its_height_leaves_the_range_or_is_no_number(height, falls):
    physics = ant_physics(0, 0, 0)
    physics.qpos[0, 2] = height
    assert AntDir().terminated(physics).tolist() == [falls]


def test_the_humanoid_is_paid_for_the_displacement_of_its_centre_of_mass_over_a_model_step():
    def physics(x: float, y: float, force: float) -> Physics:
        com = np.zeros((1, 14, 3))
        com[0, 0] = x, y, 1.0
        return Physics(np.zeros((1, 24)), np.zeros((1, 23)), cfrc_ext=np.full((1, 14, 6), force), subtree_com=com)

    action = np.zeros((1, 17))
    action[0, :2] = 1.0, -0.5
    task = {"angle": np.array([np.pi / 2])}
    reward, _ = HumanoidDir().rewards(physics(0, 0, 0), physics(5.0, 0.003, 100.0), action, task)
    contact = 5e-7 * 84 * 100.0**2
    np.testing.assert_allclose(reward, 0.25 * 0.003 / 0.003 - 0.1 * 0.16 * 1.25 - contact + 5.0, atol=1e-9)
    capped, _ = HumanoidDir().rewards(physics(0, 0, 0), physics(5.0, 0.003, 1e4), action, task)
    np.testing.assert_allclose(capped, 0.25 - 0.02 - 10.0 + 5.0, atol=1e-9)


@pytest.mark.parametrize(("name", "size"), [("walker-params", 6), ("hopper-params", 3)])
def test_walker_and_hopper_are_paid_their_velocity_over_0_016_seconds(name, size):
    family = make_family(name)
    before, after = (Physics(np.full((1, size + 3), x), np.zeros((1, size + 3))) for x in (0.0, 0.032))
    reward, _ = family.rewards(before, after, np.full((1, size), 0.5), {})
    np.testing.assert_allclose(reward, 2.0 + 1.0 - 1e-3 * 0.25 * size, atol=1e-12)
    shown = family.observe(Physics(np.arange(size + 3.0)[None], np.full((1, size + 3), 20.0)))
    np.testing.assert_array_equal(shown[0], [*range(1, size + 3), *[10.0] * (size + 3)])


def ants_forward(speed: float, effort: float, forces: np.ndarray) -> float:
    return speed + 1.0 - 0.5 * effort - 0.0005 * (np.clip(forces, -1, 1) ** 2).sum()


def humanoids_forward(speed: float, effort: float, forces: np.ndarray) -> float:
    return 0.25 * speed * 0.015 / 0.003 + 5.0 - 0.1 * 0.4**2 * effort - min(5e-7 * (forces**2).sum(), 10.0)


def cheetahs_forward(speed: float, effort: float, forces: np.ndarray) -> float:
    return speed - 0.05 * effort


def legged_forward(speed: float, effort: float, forces: np.ndarray) -> float:
    return speed + 1.0 - 0.001 * effort


@pytest.mark.parametrize(
    ("name", "seconds", "formula"),
    [
        ("ant-gravity", 0.05, ants_forward),
        ("cheetah-gravity", 0.05, cheetahs_forward),
        ("cheetah-inversion", 0.05, cheetahs_forward),
        ("hopper-gravity", 0.016, legged_forward),
        ("humanoid-gravity", 0.015, humanoids_forward),
        ("walker-gravity", 0.016, legged_forward),
    ],
)
def test_played_steps_are_paid_by_the_formula_and_forward_is_along_x(name, seconds, formula):
    """Lanes start at 2, -2 and 0 m/s. The humanoid's speed is that of its centre of mass, the others' of the root."""
    family, rng = make_family(name), np.random.default_rng(0)
    lanes, task = MujocoLanes(family, 3), family.sample_tasks(rng, 3)
    lanes.reset(task, rng)
    state = lanes.engine.physics()
    velocity = state.qvel.copy()
    velocity[:, 0] = 2.0, -2.0, 0.0
    lanes.engine.reset(state.qpos.copy(), velocity)
    gravity, mass = task.get("gravity_scale", np.ones(3)), lanes.model.body_mass / lanes.model.body_mass.sum()
    action, speeds = np.zeros((3, family.action_dim)), []

    def look() -> tuple[np.ndarray, list[np.ndarray]]:
        """x and contact forces of every lane."""
        data = [derived(lanes, lane, action, gravity[lane]) for lane in range(3)]
        x = [mass @ each.xipos[:, 0] if name == "humanoid-gravity" else each.qpos[0] for each in data]
        return np.array(x), [each.cfrc_ext for each in data]

    before, forces = look()
    for _ in range(30):
        action = rng.uniform(-1.5, 1.5, action.shape)
        result = lanes.step(action, task)
        after, forces = look()
        speeds.append((after - before) / seconds)
        efforts = (np.clip(action, -1, 1) ** 2).sum(axis=1)
        expected = [formula(*each) for each in zip(speeds[-1], efforts, forces, strict=True)]
        np.testing.assert_allclose(result.reward, expected, atol=1e-3)  # the solver of contacts starts elsewhere
        np.testing.assert_array_equal(result.training_reward, result.reward)
        before = after
    assert np.max(speeds) > 1.0 and np.min(speeds) < -1.0


# ----------------------------------------------------------------------------------------------------------------------
# Falls


@pytest.mark.parametrize(
    ("robot", "where", "allowed", "fallen"),
    [
        ("ant", ("qpos", 2), [0.2001, 0.9999], [0.1999, 1.0001]),
        ("humanoid", ("qpos", 2), [1.0001, 1.9999], [0.9999, 2.0001]),
        ("walker", ("qpos", 1), [0.8001, 1.9999], [0.7999, 2.0001]),
        ("walker", ("qpos", 2), [-0.9999, 0.9999], [-1.0001, 1.0001]),
        ("hopper", ("qpos", 1), [0.7001, 50.0], [0.6999]),
        ("hopper", ("qpos", 2), [-0.1999, 0.1999], [-0.2001, 0.2001]),
        *(("hopper", ("qpos", joint), [-99.99, 99.99], [-100.01, 100.01, np.inf]) for joint in (3, 4, 5)),
        *(("hopper", ("qvel", joint), [-99.99, 99.99], [-100.01, 100.01, -np.inf]) for joint in range(6)),
        ("ant", ("qpos", 9), [100.0], [np.inf]),
        ("ant", ("qvel", 9), [100.0], [-np.inf]),
        ("hopper", ("qpos", 0), [-1000.0, 1000.0], [np.inf]),
        ("walker", ("qpos", 0), [-1000.0, 1000.0], []),
    ],
)  # fmt: skip
def test_a_robot_has_fallen_just_outside_its_bounds_and_not_just_inside(robot, where, allowed, fallen):
    """In every family of the robot whose episodes may end; a number that is none is a fall wherever a bound is."""
    families = [make_family(name) for name in FAMILIES if name.startswith(robot) and FAMILIES[name].can_terminate]
    field, index = where
    values = [*allowed, *fallen, *[np.nan] * bool(fallen)]
    for family in families:
        model = load_model(family.model_file)
        physics = Physics(np.tile(model.qpos0, (len(values), 1)), np.zeros((len(values), model.nv)))
        assert not family.terminated(physics).any(), "at rest"
        getattr(physics, field)[:, index] = values
        assert family.terminated(physics).tolist() == [value not in allowed for value in values]
    assert len(families) == {"ant": 3, "humanoid": 2, "walker": 2, "hopper": 2}[robot]
