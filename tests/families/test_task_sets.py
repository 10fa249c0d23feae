"""The paper's task sets, and rewards by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from playing import LANES, play

from nacre.algorithms.registry import ALGORITHMS
from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES, OPTIONAL, make_family
from nacre.families.family import MujocoFamily, Physics
from nacre.families.half_cheetah import CheetahDir, CheetahVel
from nacre.families.point import PointRobot, SparsePointRobot
from nacre.families.robots import load_model
from nacre.presets.pearl import PearlSettings
from nacre.presets.pearl_presets import PRESETS
from nacre.runs.experiment import resolve
from nacre.simulation.mujoco import MujocoLanes

# ----------------------------------------------------------------------------------------------------------------------
# The paper's task sets


def test_cheetah_vel_has_the_references_velocities():
    tasks = CheetahVel().task_set(1337, 100, 30)
    velocities = np.random.RandomState(1337).uniform(0, 3, 130)
    np.testing.assert_array_equal(tasks.train["velocity"], velocities[:100])
    np.testing.assert_array_equal(tasks.test["velocity"], velocities[100:])
    np.testing.assert_allclose(tasks.train["velocity"][:3], [0.7860740, 0.4760519, 0.8343796], atol=1e-6)


def test_sparse_goals_are_spread_evenly_over_the_half_circle_and_shuffled():
    tasks = SparsePointRobot().task_set(1337, 80, 20)
    angle = np.linspace(0.0, np.pi, 100)
    np.random.RandomState(1337).shuffle(angle)
    expected = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.testing.assert_allclose(tasks.train["goal"], expected[:80], atol=1e-12)
    np.testing.assert_allclose(tasks.test["goal"], expected[80:], atol=1e-12)


def test_cheetah_dir_has_two_tasks_and_says_so():
    train, test, *_ = CheetahDir().task_set(1337, 2, 2)
    assert train["direction"].tolist() == test["direction"].tolist() == [-1.0, 1.0]
    with pytest.raises(NacreError, match="cheetah-dir has 2 tasks, but 10 train and 2 test"):
        CheetahDir().task_set(1337, 10, 2)


def test_point_robot_goals_fill_the_square():
    goals = PointRobot().task_set(1337, 80, 20).train["goal"]
    assert (np.abs(goals) <= 1).all() and (np.abs(goals).max(axis=0) > 0.9).all()
    assert (np.abs(goals.mean(axis=0)) < 0.25).all()


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("ant-dir-360", 0, 2 * np.pi), ("humanoid-dir", 0, 2 * np.pi), ("walker-params", -3, 3),
        ("hopper-params", -3, 3), ("cheetah-vel-wide", 0, 7), ("cheetah-inversion", 0.8, 1.2),
        ("reacher-inversion", 0.8, 1.2), ("point-wind", -0.05, 0.05),
    ],
)  # fmt: skip
def test_a_parameter_is_uniform_over_its_range_and_independent_of_the_others(name: str, low: float, high: float):
    """Kolmogorov's distance to the uniform distribution, of tasks that are sampled and of a run's."""
    family, num = make_family(name), 5000
    for tasks in (family.sample_tasks(np.random.default_rng(0), num), family.task_set(1337, num, 0).train):
        (values,) = (each.reshape(num, -1) for each in tasks.values())
        if name.endswith("inversion"):  # the other number is a sign
            signs, values = values[:, 1], values[:, :1]
            assert set(signs) == {-1.0, 1.0} and abs(signs.mean()) < 0.05
            assert abs(np.corrcoef(signs, values[:, 0])[0, 1]) < 0.05
        share = np.sort((values - low) / (high - low), axis=0)
        assert share.min() >= 0 and share.max() <= 1
        assert np.abs(share - (np.arange(num)[:, None] + 0.5) / num).max() < 2.7 / np.sqrt(num)  # one in a million
        together = np.corrcoef(values.T).reshape(values.shape[1], -1) - np.eye(values.shape[1])
        assert np.abs(together).max() < 5 / np.sqrt(num)


@pytest.mark.parametrize("algorithm", [name for name, one in ALGORITHMS.items() if not one.offline])
@pytest.mark.parametrize("robot", ["ant", "cheetah", "hopper", "walker", "humanoid"])
def test_gravities_are_40_to_train_on_and_20_to_test_for_every_method(algorithm: str, robot: str):
    assert resolve(algorithm, f"{robot}-gravity").num_tasks == {"train": 40, "test": 20}


def test_the_page_of_families_has_the_sizes_of_every_one():
    page = (Path(__file__).parents[2] / "docs" / "families.md").read_text()
    lines = page.split("## Sizes, task counts, starts")[1].split("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `")]
    written = {name.strip("`"): row[1:6] for row in cells for name in row[0].split(", ")}
    expected = {}
    for name in set(FAMILIES) - set(OPTIONAL):
        family, dt = make_family(name), "-"
        if isinstance(family, MujocoFamily):
            model = load_model(family.model_file, family.model_timestep)
            dt = f"{family.frame_skip * model.opt.timestep:.4g}"
        config = PearlSettings(**PRESETS["paper"][name])
        split = f"{config.num_train_tasks} / {config.num_test_tasks}"
        expected[name] = [str(family.obs_dim), str(family.action_dim), str(family.horizon), dt, split]
    assert written == expected


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("cheetah-vel", ["velocity=0", "velocity=3"], ["velocity=-0.01", "velocity=3.01"]),
        ("cheetah-dir", ["direction=1", "direction=-1"], ["direction=0", "direction=0.5"]),
        ("point-robot", ["goal=1,-1", "goal=0,0"], ["goal=1.01,0", "goal=0,-1.01"]),
        ("cheetah-vel-wide", ["velocity=0", "velocity=7"], ["velocity=-0.01", "velocity=7.01"]),
        ("ant-dir", ["angle=0", "angle=3.1416"], ["angle=1.57", "angle=6.28"]),
        ("ant-dir-360", ["angle=0", "angle=6.28"], ["angle=-0.01", "angle=6.29"]),
        ("humanoid-dir", ["angle=0", "angle=6.28"], ["angle=-0.01", "angle=6.29"]),
        ("ant-goal", ["goal=0,0", "goal=1.8,-2.4"], ["goal=3.01,0", "goal=2.2,2.2"]),
        ("ant-gravity", ["gravity_scale=0.2963", "gravity_scale=3.375"], ["gravity_scale=0.29", "gravity_scale=3.38"]),
        ("sparse-point-robot", ["goal=0.6,0.8", "goal=-1,0"], ["goal=0.6,-0.8", "goal=0.5,0.5", "goal=0,1.01"]),
        ("point-robot-half-circle", ["goal=0.6,0.8", "goal=-1,0"], ["goal=0.6,-0.8", "goal=0.5,0.5", "goal=0,1.01"]),
    ],
)
def test_ranges_end_where_the_paper_says(name, inside, outside):
    family = make_family(name)
    for text in inside:
        assert family.in_range(family.parse_task(text)).all()
    for text in outside:
        with pytest.raises(NacreError, match="outside"):
            family.parse_task(text)


# ----------------------------------------------------------------------------------------------------------------------
# Rewards by hand


def test_point_robot_moves_a_tenth_of_the_action_and_is_paid_minus_the_distance():
    family = PointRobot()
    goals = {"goal": np.array([[0.5, -0.5], [1.0, 1.0], [0.0, 0.0]])}
    t = play(family, goals).transitions
    np.testing.assert_allclose(t.next_obs, t.obs + 0.1 * np.clip(t.action, -1, 1), atol=1e-6)
    offset = t.next_obs.astype(np.float64) - goals["goal"][:, None]
    distance = np.sqrt(offset[..., 0] ** 2 + offset[..., 1] ** 2)
    np.testing.assert_allclose(t.reward, -distance, rtol=1e-5)
    np.testing.assert_array_equal(t.training_reward, t.reward)
    assert (np.abs(t.obs[:, 0]) <= 1).all() and len(np.unique(t.obs[:, 0])) == 2 * LANES, "each lane starts elsewhere"


@pytest.mark.parametrize(
    ("radius", "expected"),
    [(0.2, [1.0, 0.9, 0.85, 0.0, 0.0, 0.0, 0.0]), (0.8, [1.0, 0.9, 0.85, 0.75, 0.5, 0.25, 0.0])],
)
def test_sparse_point_robot_pays_one_minus_distance_within_the_radius_and_trains_on_the_distance(radius, expected):
    family = make_family("sparse-point-robot", goal_radius=radius)
    distance = np.array([0.0, 0.1, 0.15, 0.25, 0.5, 0.75, 0.85])
    positions = np.stack([0.6 + distance * 0.6, 0.8 - distance * 0.8], axis=1)  # along a direction of length 1
    reward, training_reward = family.rewards(positions, {"goal": np.array([0.6, 0.8])})
    np.testing.assert_allclose(reward, expected, atol=1e-12)
    np.testing.assert_allclose(training_reward, -distance, atol=1e-12)


def test_the_wind_drives_the_point_robot_and_the_goal_stays():
    family = make_family("point-wind")
    winds = {"wind": np.array([[0.05, -0.02], [0.0, 0.0], [-0.03, 0.04]])}
    t = play(family, winds).transitions
    moved = 0.1 * np.clip(t.action, -1, 1) + winds["wind"][:, None]
    np.testing.assert_allclose(t.next_obs, t.obs + moved, atol=1e-6)
    np.testing.assert_allclose(t.reward, -np.hypot(t.next_obs[..., 0], t.next_obs[..., 1] - 1.0), rtol=1e-5)
    assert (t.obs[:, 0] == 0).all()


def test_sparse_point_robot_starts_at_the_origin_and_keeps_both_rewards_apart():
    family = make_family("sparse-point-robot", goal_radius=0.8)
    near = {"goal": np.array([[0.3, 0.4], [0.6, 0.8], [-1.0, 0.0]])}
    t = play(family, near).transitions
    assert (t.obs[:, 0] == 0.0).all()
    distance = np.linalg.norm(t.next_obs - near["goal"][:, None], axis=-1)
    np.testing.assert_allclose(t.training_reward, -distance, rtol=1e-5)
    clear = np.abs(distance - 0.8) > 1e-5
    np.testing.assert_allclose(t.reward[clear], np.where(distance <= 0.8, 1 - distance, 0)[clear], atol=1e-6)
    assert (t.reward[0] > 0).all() and (t.reward != t.training_reward).all()


@pytest.mark.parametrize("radius", [0.0, -0.2, 1.5])
def test_a_goal_radius_that_cannot_be_is_refused(radius):
    with pytest.raises(NacreError, match="change --goal-radius"):
        make_family("sparse-point-robot", goal_radius=radius)


def cheetah_physics(x: list[float]) -> Physics:
    lanes = len(x)
    qpos = np.zeros((lanes, 9))
    qpos[:, 0] = x
    return Physics(qpos, np.full((lanes, 9), 0.3), np.zeros((lanes, 8, 3)))


BEFORE, AFTER = cheetah_physics([1.0, 1.0, -2.0]), cheetah_physics([1.1, 0.95, -2.0])
"""A control step lasts 0.05 s: forward velocities of 2, -1 and 0 m/s."""


ACTION = np.array([[1.0, 0, 0, 0, 0, 0], [0.5, -0.5, 0, 0, 0, 0], [0.0, 0, 0, 0, 0, 0]])
"""Control costs of 0.05, 0.025 and 0."""


def test_cheetah_vel_pays_minus_the_velocity_error_minus_the_control_cost():
    reward, training_reward = CheetahVel().rewards(BEFORE, AFTER, ACTION, {"velocity": np.array([1.5, 1.0, 3.0])})
    np.testing.assert_allclose(reward, [-0.5 - 0.05, -2.0 - 0.025, -3.0], atol=1e-12)
    np.testing.assert_array_equal(training_reward, reward)


def test_cheetah_dir_pays_the_velocity_in_its_direction_minus_the_control_cost():
    reward, training_reward = CheetahDir().rewards(BEFORE, AFTER, ACTION, {"direction": np.array([1.0, -1.0, -1.0])})
    np.testing.assert_allclose(reward, [2.0 - 0.05, 1.0 - 0.025, 0.0], atol=1e-12)
    np.testing.assert_array_equal(training_reward, reward)


STARTS = {
    "ant.xml": (0.1, "normal"),
    "half_cheetah.xml": (0.1, "normal"),
    "humanoid.xml": (0.01, 0.01),
    "walker2d.xml": (0.005, 0.005),
    "hopper.xml": (0.005, 0.005),
    "reacher.xml": (0.1, 0.005),
}
"""Positions are off by U(-this, this), velocities by 0.1 N(0, 1) or U(-this, this)."""


def assert_distribution(values: np.ndarray, cumulative: Callable[[np.ndarray], np.ndarray]) -> None:
    """Kolmogorov's distance of every column [sample, column], one in a million."""
    num = len(values)
    distance = np.abs(cumulative(np.sort(values, axis=0)) - (np.arange(num)[:, None] + 0.5) / num)
    assert distance.max() < 2.7 / np.sqrt(num)


@pytest.mark.parametrize("name", [name for name in sorted(FAMILIES) if issubclass(FAMILIES[name], MujocoFamily)])
def test_robots_start_near_their_rest_every_number_off_by_a_draw_of_its_own(name: str):
    """The reacher's target, the last two numbers, has a test of its own."""
    family, num = make_family(name), 4000
    model = load_model(family.model_file)
    rest = np.tile(model.qpos0, (num, 1)), np.full((num, model.nv), 0.5)
    start, speed = family.reset_state(*rest, np.random.default_rng(0))
    own = slice(2 if name == "reacher-inversion" else None)
    off, pushed = (start - rest[0])[:, own], (speed - rest[1])[:, own]
    width, push = STARTS[family.model_file]
    assert np.abs(off).max() <= width + 1e-12
    assert_distribution(off, lambda x: (x / width + 1) / 2)
    if push == "normal":
        assert_distribution(pushed, np.vectorize(NormalDist(0.0, 0.1).cdf))
    else:
        assert np.abs(pushed).max() <= push + 1e-12
        assert_distribution(pushed, lambda x: (x / push + 1) / 2)
    together = np.corrcoef(np.concatenate([off, pushed], axis=1).T)
    assert np.abs(together - np.eye(len(together))).max() < 5.5 / np.sqrt(num), "draws are independent"


@pytest.mark.parametrize("name", ["ant-goal", "cheetah-vel", "hopper-gravity", "humanoid-dir", "walker-gravity"])
def test_an_episode_starts_where_the_family_says(name: str):
    """At the model's rest, off by the family's draw, both positions and velocities, in every lane another."""
    family, lanes = make_family(name), MujocoLanes(make_family(name), LANES)
    lanes.reset(family.sample_tasks(np.random.default_rng(0), LANES), np.random.default_rng(1))
    state, rest = lanes.engine.physics(), load_model(family.model_file).qpos0
    draws = np.random.default_rng(1).spawn(LANES)
    starts = [family.reset_state(rest[None], np.zeros((1, state.qvel.shape[1])), own) for own in draws]
    for values, expected in zip((state.qpos, state.qvel), zip(*starts, strict=True), strict=True):
        np.testing.assert_allclose(values, np.concatenate(expected), atol=1e-12)
        assert len(np.unique(values)) == values.size
