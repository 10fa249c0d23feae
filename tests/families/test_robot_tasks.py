"""Tasks of robots: what they change of a model, of rewards and of where an episode starts."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from robots_parts import ENGINES

from nacre.errors import NacreError
from nacre.families.ant import AntDir, AntGoal, AntGravity
from nacre.families.catalog import make_family
from nacre.families.distributions import FACTOR_FIELDS
from nacre.families.family import Physics
from nacre.families.inversion import FINGERTIP, SCALED_FIELDS, TARGET, CheetahInversion, ReacherInversion
from nacre.families.robots import compile_spec, load_model, load_spec
from nacre.families.walker_hopper import HopperGravity, HopperParams, WalkerParams
from nacre.simulation.mujoco import MujocoLanes


def test_ant_dir_has_two_directions_and_says_so():
    train, test, *_ = AntDir().task_set(1337, 2, 2)
    assert train["angle"].tolist() == test["angle"].tolist() == [0.0, np.pi]
    with pytest.raises(NacreError, match="ant-dir has 2 tasks"):
        AntDir().task_set(1337, 3, 2)


def test_ant_goals_are_uniform_over_the_disc():
    """A quarter of the area lies within half the radius."""
    goals = AntGoal().sample_tasks(np.random.default_rng(0), 20_000)["goal"]
    radius = np.linalg.norm(goals, axis=1)
    assert radius.max() <= 3.0
    np.testing.assert_allclose((radius < 1.5).mean(), 0.25, atol=0.01)
    np.testing.assert_allclose(goals.mean(axis=0), 0.0, atol=0.04)


def test_gravity_is_a_power_of_1_5_with_a_uniform_exponent():
    scale = AntGravity().sample_tasks(np.random.default_rng(0), 20_000)["gravity_scale"]
    exponent = np.log(scale) / np.log(1.5)
    assert exponent.min() >= -3 and exponent.max() <= 3
    np.testing.assert_allclose([exponent.mean(), exponent.std()], [0.0, 6 / np.sqrt(12)], atol=0.04)


@pytest.mark.parametrize("family", [WalkerParams(), HopperParams()], ids=lambda family: family.name)
def test_every_element_of_mass_inertia_damping_and_friction_has_a_factor_of_its_own(family):
    model = load_model(family.model_file)
    sizes = [getattr(model, field).size for field, _ in FACTOR_FIELDS]
    assert list(family.field_sizes) == sizes and family.parameters["exponents"] == sum(sizes)
    task = family.sample_tasks(np.random.default_rng(0), 4)
    values = family.model_parameters(model, task)
    start = 0
    for (field, base), size in zip(FACTOR_FIELDS, sizes, strict=True):
        standard = getattr(model, field)
        for lane in range(4):
            exponents = task["exponents"][lane, start : start + size].reshape(standard.shape)
            np.testing.assert_allclose(values[field][lane], standard * base**exponents, rtol=1e-12)
        start += size
    assert [base for _, base in FACTOR_FIELDS] == [1.5, 1.5, 1.3, 1.5]


@ENGINES
@pytest.mark.parametrize("family", [WalkerParams(), HopperParams()], ids=lambda family: family.name)
def test_a_task_of_factors_is_the_robot_that_was_described_with_them(family, engine):
    """Against a model that is compiled anew from a description with these numbers: derived constants are consistent."""
    rng = np.random.default_rng(3)
    task = family.sample_tasks(rng, 2)
    # The compiler refuses principal inertias that no body can have: one factor for all three of a body.
    inertias = slice(family.field_sizes[0], sum(family.field_sizes[:2]))
    task["exponents"][:, inertias] = np.repeat(task["exponents"][:, inertias][:, ::3], 3, axis=1)
    lanes = MujocoLanes(family, 2, engine)
    lanes.reset(task, rng)
    values = family.model_parameters(lanes.model, task)
    state = lanes.engine.physics()
    qpos, qvel = state.qpos.copy(), state.qvel.copy()
    described = []
    for lane in range(2):
        spec = load_spec(family.model_file)
        for index, body in enumerate(spec.bodies):
            if index > 0:
                body.explicitinertial = True
                body.mass, body.inertia = values["body_mass"][lane, index], values["body_inertia"][lane, index]
                body.ipos, body.iquat = lanes.model.body_ipos[index], lanes.model.body_iquat[index]
        for index, geom in enumerate(spec.geoms):
            geom.friction = values["geom_friction"][lane, index]
        for joint in spec.joints:
            joint.damping[0] = values["dof_damping"][lane, lanes.model.joint(joint.name).dofadr[0]]
        spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
        spec.compiler.boundinertia = spec.compiler.boundmass = 0.0
        model = spec.compile()
        model.opt.timestep = family.model_timestep
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = qpos[lane], qvel[lane]
        described.append((model, data))
    for _ in range(25):
        action = rng.uniform(-1, 1, (2, family.action_dim))
        lanes.step(action, task)
        for lane, (model, data) in enumerate(described):
            data.ctrl[:] = action[lane]
            mujoco.mj_step(model, data, family.frame_skip)
            np.testing.assert_allclose(lanes.engine.physics().qpos[lane], data.qpos, atol=1e-8, rtol=1e-8)
    assert np.abs(described[0][1].qpos - described[1][1].qpos).max() > 1e-3


@ENGINES
@pytest.mark.parametrize("family", [CheetahInversion(), ReacherInversion()], ids=lambda family: family.name)
def test_a_robot_of_another_length_is_the_one_that_is_compiled_with_it(family, engine):
    """Step by step as a model of its own, whose actuators are turned where the sign is -1."""
    task, rng = {"robot": np.array([[0.4, 1.0], [1.6, -1.0], [1.0, 1.0]])}, np.random.default_rng(0)
    lanes = MujocoLanes(family, 3, engine)
    lanes.reset(task, rng)
    start = lanes.engine.physics()
    alone = []
    for lane, (length, sign) in enumerate(task["robot"]):
        spec = load_spec(family.model_file)
        family.scale_limbs(spec, length)
        model = compile_spec(spec)
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = start.qpos[lane], start.qvel[lane]
        alone.append((model, data, sign))
    for _ in range(60):
        action = rng.uniform(-1, 1, (3, family.action_dim))
        lanes.step(action, task)
        for lane, (model, data, sign) in enumerate(alone):
            data.ctrl[:] = sign * action[lane]
            mujoco.mj_step(model, data, family.frame_skip)
            np.testing.assert_allclose(lanes.engine.physics().qpos[lane], data.qpos, atol=1e-8, rtol=1e-8)
    standard = load_model(family.model_file)
    for field in SCALED_FIELDS:
        np.testing.assert_allclose(getattr(alone[2][0], field), getattr(standard, field), atol=1e-12)
    assert np.abs(alone[0][0].geom_size - standard.geom_size).max() > 0.01


@pytest.mark.parametrize("length", [0.4, 1.0, 1.6])
def test_a_half_cheetah_starts_on_its_feet_whatever_their_length(length):
    """At rest no limb is in the ground, and the lowest is within 10 cm of it."""
    spec = load_spec("half_cheetah.xml")
    CheetahInversion.scale_limbs(spec, length)
    model = compile_spec(spec)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert data.ncon == 0
    tips = [
        data.geom_xpos[geom][2] - abs(data.geom_xmat[geom].reshape(3, 3)[2, 2]) * model.geom_size[geom, 1]
        - model.geom_size[geom, 0]
        for geom in range(1, model.ngeom)
    ]  # fmt: skip
    assert 0.0 < min(tips) < 0.1
    np.testing.assert_allclose(model.body_mass.sum(), 14.0)


def test_an_arm_of_another_length_reaches_as_far():
    for length in (0.4, 1.6):
        spec = load_spec("reacher.xml")
        ReacherInversion.scale_limbs(spec, length)
        model = compile_spec(spec)
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(np.linalg.norm(data.xpos[FINGERTIP, :2]), 0.21 * length, atol=1e-9)


def test_reacher_is_paid_minus_distance_and_effort_and_its_target_fills_a_disc():
    family = ReacherInversion()
    xpos = np.zeros((1, 5, 3))
    xpos[0, FINGERTIP], xpos[0, TARGET] = [0.3, 0.0, 0.1], [0.0, 0.4, 0.1]
    physics = Physics(np.array([[0.5, -0.5, 0.0, 0.4]]), np.array([[1.0, 2.0, 0.0, 0.0]]), xpos)
    reward, _ = family.rewards(physics, physics, np.array([[0.5, -1.0]]), {})
    np.testing.assert_allclose(reward, -0.5 - 1.25, atol=1e-12)
    angles = [np.cos(0.5), np.cos(-0.5), np.sin(0.5), np.sin(-0.5)]
    np.testing.assert_allclose(family.observe(physics)[0], [*angles, 0.0, 0.4, 1.0, 2.0, 0.3, -0.4], atol=1e-12)
    qpos, qvel = family.reset_state(np.zeros((5000, 4)), np.zeros((5000, 4)), np.random.default_rng(0))
    radius = np.linalg.norm(qpos[:, 2:], axis=1)
    assert radius.max() <= 0.2 and (qvel[:, 2:] == 0).all() and np.abs(qpos[:, :2]).max() <= 0.1
    np.testing.assert_allclose((radius < 0.1).mean(), 0.25, atol=0.02)


@pytest.mark.parametrize("name", ["cheetah-inversion", "reacher-inversion", "point-wind"])
def test_tasks_out_of_distribution_lie_outside_it_and_follow_from_their_generator(name):
    family = make_family(name)
    tasks, again = (family.sample_ood_tasks(np.random.default_rng(0), 400) for _ in range(2))
    assert not family.in_range(tasks).any()
    ((parameter, values),) = tasks.items()
    np.testing.assert_array_equal(values, again[parameter])
    assert values.shape == (400, 2)
    if name != "point-wind":
        length, sign = values.T
        shorter, longer = (length >= 0.4) & (length < 0.8), (length > 1.2) & (length <= 1.6)
        assert (shorter | longer).all() and 0.4 < shorter.mean() < 0.6
        assert set(sign) == {-1.0, 1.0}


@ENGINES
def test_gravity_pulls_as_much_harder(engine):
    """A hopper in the air: after one model step from rest it falls at g times the step."""
    family = HopperGravity()
    lanes = MujocoLanes(family, 3, engine)
    task = {"gravity_scale": np.array([0.5, 1.0, 3.0])}
    lanes.reset(task, np.random.default_rng(0))
    qpos = np.tile(lanes.model.qpos0, (3, 1))
    qpos[:, 1] = 5.0
    lanes.engine.reset(qpos, np.zeros((3, 6)))
    lanes.engine.step(np.zeros((3, 3)), 1, None)
    np.testing.assert_allclose(lanes.engine.physics().qvel[:, 1], -9.81 * task["gravity_scale"] * 0.004, rtol=1e-6)


@pytest.mark.parametrize("name", ["ant-dir", "humanoid-dir", "walker-params", "cheetah-vel"])
def test_where_a_lane_starts_does_not_depend_on_how_many_there_are(name):
    """Seeds side by side play as many lanes as the one that needs most, and each is to start as it would alone."""
    family = make_family(name)
    task = family.sample_tasks(np.random.default_rng(0), 4)
    starts = []
    for lanes in (2, 4):
        first = {key: values[:lanes] for key, values in task.items()}
        starts.append(MujocoLanes(family, lanes).reset(first, np.random.default_rng(7)))
    np.testing.assert_array_equal(starts[0], starts[1][:2])
    assert len(np.unique(starts[1][:, 0])) == 4


@pytest.mark.parametrize("length", [0.0, -1.0])
def test_limbs_without_length_are_refused_also_out_of_distribution(length):
    with pytest.raises(NacreError, match="must be above 0"):
        make_family("cheetah-inversion").parse_task(f"robot={length},1", allow_ood=True)


def test_a_model_is_that_of_its_task_in_every_episode():
    family, rng = WalkerParams(), np.random.default_rng(0)
    tasks = [family.sample_tasks(rng, 2) for _ in range(2)]
    lanes = MujocoLanes(family, 2)

    def after_20_steps(task: dict[str, np.ndarray]) -> np.ndarray:
        lanes.reset(task, np.random.default_rng(5))
        for _ in range(20):
            obs = lanes.step(np.full((2, 6), 0.3), task).obs
        return obs

    first, second, again = (after_20_steps(task) for task in (tasks[0], tasks[1], tasks[0]))
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()
