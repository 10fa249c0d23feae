"""The contract that every family of the catalog satisfies, then task sets and rewards of each by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from playing import LANES, play

from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES, make_family
from nacre.families.family import Family, JaxFamily, MujocoFamily, num_tasks, take
from nacre.families.gymnasium import GymnasiumFamily
from nacre.presets.pearl import PearlSettings
from nacre.presets.pearl_presets import PRESETS
from nacre.presets.settings import row_of
from nacre.types import Episode, Tasks


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request) -> Family:
    return make_family(request.param)


def task_set(family: Family, task_seed: int = 1337) -> Any:
    """The family's task set in the sizes of the paper preset."""
    config = PearlSettings(**row_of(PRESETS["paper"], type(family)))
    return family.task_set(task_seed, config.num_train_tasks, config.num_test_tasks)


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
    config = PearlSettings(**row_of(PRESETS["paper"], type(family)))
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
