"""The contract that every family of the catalog satisfies, then task sets and rewards of each by hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.algorithms.registry import ALGORITHMS
from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES, OPTIONAL, make_family
from nacre.families.family import Family, JaxFamily, MujocoFamily, Physics, num_tasks, take
from nacre.families.gymnasium import GymnasiumFamily
from nacre.families.half_cheetah import CheetahDir, CheetahVel
from nacre.families.point import PointRobot, SparsePointRobot
from nacre.families.robots import load_model
from nacre.presets.pearl import PearlSettings
from nacre.presets.pearl_presets import PRESETS
from nacre.runs.experiment import resolve
from nacre.simulation import rollout
from nacre.simulation.mujoco import MujocoLanes
from nacre.types import Agent, Episode, Tasks

LANES = 3


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request) -> Family:
    return make_family(request.param)


def task_set(family: Family, task_seed: int = 1337) -> Any:
    """The family's task set in the sizes of the paper preset."""
    config = PearlSettings(**PRESETS["paper"][family.name])
    return family.task_set(task_seed, config.num_train_tasks, config.num_test_tasks)


@functools.cache
def flailing(action_dim: int) -> Agent:
    """An agent of random actions, uniform in [-2, 2] and then within +-params; it remembers nothing."""

    def act(params, memory, obs, key, explore):
        action = jax.random.uniform(key, (obs.shape[0], action_dim), minval=-2.0, maxval=2.0)
        return jnp.clip(action, -params, params), memory

    return Agent(
        begin=lambda params, task, key: jnp.zeros(num_tasks(task)),
        act=act,
        observe=lambda params, memory, transition: memory,
        end_episode=lambda params, memory, key: memory,
        explores=lambda episode, scored_episode: True,
    )


def play(family: Family, tasks: Tasks, key: int = 0, bound: float = 2.0) -> Episode:
    """One episode of random actions in each of these tasks."""
    memory, agent = jnp.zeros(num_tasks(tasks)), flailing(family.action_dim)
    _, result = rollout.episode(family, agent, np.float32(bound), memory, tasks, jax.random.key(key), explore=True)
    return jax.device_get(result)


@pytest.fixture(scope="module")
def tasks(family) -> Tasks:
    return family.sample_tasks(np.random.default_rng(0), LANES)


@pytest.fixture(scope="module")
def played(family, tasks) -> Episode:
    return play(family, tasks)


def real(episode: Episode) -> np.ndarray:
    """Which rows of an episode are no padding, [lane, time]."""
    return np.arange(episode.transitions.reward.shape[1]) < episode.length[:, None]


# ----------------------------------------------------------------------------------------------------------------------
# The contract: episodes


def test_family_is_stepped_by_one_of_the_simulators_and_known_by_its_name(family):
    assert isinstance(family, JaxFamily | MujocoFamily | GymnasiumFamily)
    assert FAMILIES[family.name] is type(family)
    assert family == make_family(family.name) and hash(family) == hash(make_family(family.name))


def test_episodes_have_the_declared_shapes_in_finite_float32(family, played):
    shape = (LANES, family.horizon)
    for name, dims in (
        ("obs", (family.obs_dim,)),
        ("action", (family.action_dim,)),
        ("reward", ()),
        ("training_reward", ()),
        ("discount", ()),
        ("next_obs", (family.obs_dim,)),
    ):
        values = getattr(played.transitions, name)
        assert values.shape == shape + dims, name
        assert values.dtype == np.float32, name
        assert np.isfinite(values).all(), name


def test_next_obs_is_the_obs_of_the_next_step(played):
    within = real(played)[:, 1:]
    np.testing.assert_array_equal(played.transitions.next_obs[:, :-1][within], played.transitions.obs[:, 1:][within])


def test_a_time_limit_is_no_termination(family, played):
    """discount is 0 at the last transition of an episode that ended before its horizon, and 1 everywhere else."""
    ends_early = played.length < family.horizon
    assert family.can_terminate or not ends_early.any()
    last = np.arange(family.horizon) == played.length[:, None] - 1
    terminal = played.transitions.discount == 0.0
    np.testing.assert_array_equal((last & terminal).any(axis=1)[ends_early], True)
    assert not (terminal & real(played) & ~last).any()
    if not family.can_terminate:
        assert (played.transitions.discount == 1.0).all()


def test_same_key_same_episode_and_another_key_another(family, tasks, played):
    again, other = play(family, tasks), play(family, tasks, key=1)
    for first, second in zip(played.transitions, again.transitions, strict=True):
        np.testing.assert_array_equal(first, second)
    assert (played.transitions.action != other.transitions.action).any()
    assert (played.transitions.next_obs[:, 0] != other.transitions.next_obs[:, 0]).any(axis=-1).all()


def test_actions_beyond_one_act_as_one_and_are_recorded_as_emitted(family, tasks, played):
    clipped = play(family, tasks, bound=1.0)
    assert np.abs(played.transitions.action).max() > 1.5
    np.testing.assert_array_equal(np.clip(played.transitions.action, -1, 1), clipped.transitions.action)
    for name in ("obs", "reward", "training_reward", "next_obs"):
        unclipped = getattr(played.transitions, name)
        np.testing.assert_allclose(unclipped, getattr(clipped.transitions, name), rtol=1e-6, err_msg=name)


def test_every_lane_is_in_its_own_task(family, tasks, played):
    """Lane i of a batch goes as lane i does where all lanes are in its task; in another task it does not."""
    for lane in range(LANES):
        alone, length = play(family, take(tasks, np.full(LANES, lane))), played.length[lane]
        assert alone.length[lane] == length
        for together, by_itself in zip(played.transitions, alone.transitions, strict=True):
            np.testing.assert_allclose(together[lane, :length], by_itself[lane, :length], rtol=1e-5, atol=1e-6)
    test = task_set(family).test
    there, here = (play(family, take(test, np.full(LANES, index))) for index in (0, -1))
    differs = [(x != y).any() for x, y in zip(there.transitions, here.transitions, strict=True)]
    assert any(differs), "tasks that cannot be told apart"


def test_families_neither_use_nor_move_numpys_global_random_state(family, tasks, played):
    np.random.seed(99)
    before = np.random.get_state()
    again = play(family, tasks)
    first = task_set(family)
    family.sample_tasks(np.random.default_rng(0), LANES)
    after = np.random.get_state()
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    np.testing.assert_array_equal(again.transitions.obs, played.transitions.obs)
    np.random.seed(98)
    assert_same_tasks(task_set(family).train, first.train)


# ----------------------------------------------------------------------------------------------------------------------
# The contract: tasks


def assert_same_tasks(a: Tasks, b: Tasks) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def table(tasks: Tasks) -> np.ndarray:
    """One row of numbers a task."""
    return np.concatenate([values.reshape(len(values), -1) for values in tasks.values()], axis=1)


def test_tasks_have_the_declared_parameters_and_numbers(family):
    train, test, task_seed, version = task_set(family)
    config = PearlSettings(**PRESETS["paper"][family.name])
    for tasks, number in (
        (train, config.num_train_tasks),
        (test, config.num_test_tasks),
        (family.sample_tasks(np.random.default_rng(0), 7), 7),
    ):
        assert num_tasks(tasks) == number
        assert tasks.keys() == family.parameters.keys()
        for name, size in family.parameters.items():
            assert tasks[name].shape == ((number, size) if size else (number,))
            assert np.isfinite(tasks[name]).all()
        assert family.in_range(tasks).shape == (number,)
        assert family.in_range(tasks).all()
    assert task_seed == 1337
    assert version >= 1


def test_task_sets_follow_from_their_seed(family):
    first, again, other = (task_set(family, seed) for seed in (5, 5, 6))
    assert_same_tasks(first.train, again.train)
    assert_same_tasks(first.test, again.test)
    if family.disjoint:
        assert (table(first.test) != table(other.test)).any(axis=1).mean() > 0.5


def test_sampled_tasks_follow_from_their_generator(family):
    first, again, other = (family.sample_tasks(np.random.default_rng(seed), 20) for seed in (1, 1, 2))
    assert_same_tasks(first, again)
    assert (table(first) != table(other)).any()
    assert len(np.unique(table(first), axis=0)) > 1


def test_train_and_test_tasks_are_disjoint_where_the_family_says_so(family):
    tasks = task_set(family)
    shared = {tuple(row) for row in table(tasks.train)} & {tuple(row) for row in table(tasks.test)}
    assert (not shared) == family.disjoint


def written(parameters: dict[str, Any]) -> str:
    """A task's parameters as a person writes them."""
    return " ".join(f"{name}=" + ",".join(map(str, np.atleast_1d(values))) for name, values in parameters.items())


def test_a_task_that_is_written_down_reads_back_the_same(family):
    test = task_set(family).test
    for index in range(num_tasks(test)):
        text = written({name: values[index].tolist() for name, values in test.items()})
        assert_same_tasks(family.parse_task(text), take(test, [index]))


def test_what_is_no_task_is_refused_with_the_way_to_write_one(family):
    right = {name: [0.5] * max(1, size) for name, size in family.parameters.items()}
    for name, numbers in right.items():
        others = written({other: values for other, values in right.items() if other != name})
        for wrong in (
            "",
            name,
            f"{name}=",
            f"{name}=fast",
            written({name: [*numbers, 0.5]}),
            written({name: [*numbers[:-1], "nan"]}),
            written({name: [*numbers[:-1], "inf"]}),
            written({name: numbers, "colour": numbers}),
            written({"colour": numbers}),
            ",".join(map(str, numbers)),
            f"{written({name: numbers})} {written({name: numbers})}",
        ):
            for allow_ood in (False, True):
                with pytest.raises(NacreError, match=f"is not a task of {family.name}; write {next(iter(right))}=NUM"):
                    family.parse_task(f"{wrong} {others}", allow_ood=allow_ood)


def test_a_task_outside_the_range_is_refused_unless_asked_for(family):
    text = written({name: [1e6] * max(1, size) for name, size in family.parameters.items()})
    with pytest.raises(NacreError, match=f"outside {family.name}'s range, .*--allow-ood"):
        family.parse_task(text)
    task = family.parse_task(text, allow_ood=True)
    assert all((values == 1e6).all() for values in task.values()) and not family.in_range(task).any()


def test_an_unknown_family_is_named_with_the_nearest_known():
    with pytest.raises(NacreError, match="'cheetah-val'; did you mean 'cheetah-vel'"):
        make_family("cheetah-val")


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
