"""The loop of offline methods: which rows an update gets, and that logs in a file give what logs in memory give."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.learning import offline
from nacre.learning.offline import Logs, Procedure, placed
from nacre.learning.replay import pack
from nacre.types import Transition

uniform_rows = jax.jit(offline.uniform_rows, static_argnums=2)
contiguous_rows = jax.jit(offline.contiguous_rows, static_argnums=2, static_argnames="stride")
logged = jax.jit(offline.logged, static_argnums=2)
OBS_DIM, DISCOUNT = 2, 0.9
LENGTHS = [(3, 2), (4,), (1, 1, 5)]  # of the episodes of three tasks
FELL = {(0, 1), (2, 2)}  # episodes (task, episode) that the task terminated


def written_logs() -> Logs:
    """Episodes whose observations are (task, row), and whose rewards are 1, 2, 3, ... over all rows."""
    rows, returns, last, first, number = [], [], [], [], []
    at = 0
    for task, lengths in enumerate(LENGTHS):
        first.append(at)
        for episode, length in enumerate(lengths):
            reward = np.arange(at + 1, at + 1 + length, dtype=np.float32)
            obs = np.stack([np.full(length + 1, task), at + np.arange(length + 1)], axis=-1).astype(np.float32)
            discount = np.ones(length, np.float32)
            discount[-1] = (task, episode) not in FELL
            step = Transition(obs[:-1], np.zeros((length, 1), np.float32), reward, reward, discount, obs[1:])
            rows.append(np.asarray(pack(step)))
            returns += [sum(DISCOUNT**k * r for k, r in enumerate(reward[t:])) for t in range(length)]
            last += [at + length - 1] * length
            at += length
        number.append(at - first[-1])
    kinds = (np.float32, np.float32, np.int32, np.int32, np.int32)
    return Logs(
        *(
            np.asarray(x, kind)
            for x, kind in zip((np.concatenate(rows), returns, last, first, number), kinds, strict=True)
        )
    )


def test_rows_are_of_the_task_that_was_asked_for() -> None:
    logs, task = written_logs(), np.array([2, 0, 1, 2])
    for draw in (uniform_rows, contiguous_rows):
        at = draw(logs, task, 50, jax.random.key(0))
        assert (np.asarray(logged(logs, at, OBS_DIM).transition.obs)[..., 0] == task[:, None]).all()
    everywhere = np.unique(np.asarray(uniform_rows(logs, task, 200, jax.random.key(1)))[0])
    np.testing.assert_array_equal(everywhere, np.arange(9, 16))  # all of task 2


def test_contiguous_rows_follow_each_other_and_begin_again() -> None:
    at = np.asarray(contiguous_rows(written_logs(), np.array([2]), 3, jax.random.key(3), stride=2))[0]
    assert (np.diff(at) == 2).all() and at.min() >= 9 and at.max() < 16
    again = np.asarray(contiguous_rows(written_logs(), np.array([1]), 6, jax.random.key(3)))[0]
    np.testing.assert_array_equal(again, [5, 6, 7, 8, 5, 6])


def test_what_lies_ahead_of_a_logged_transition() -> None:
    found = logged(written_logs(), np.array([0, 3, 5, 11, 15]), OBS_DIM)
    np.testing.assert_allclose(
        found.return_to_go, [1 + 0.9 * 2 + 0.81 * 3, 4 + 0.9 * 5, 25.341, 56.4726, 16], rtol=1e-5
    )
    np.testing.assert_array_equal(found.steps_to_end, [3, 2, 4, 5, 1])
    np.testing.assert_array_equal(found.last_obs, [[0, 3], [0, 5], [1, 9], [2, 16], [2, 16]])
    np.testing.assert_array_equal(found.last_discount, [1, 0, 1, 0, 0])


def choose(logs: Logs, key: Any) -> tuple[Any, Any]:
    task_key, row_key, noise_key = jax.random.split(key, 3)
    task = jax.random.randint(task_key, (2,), 0, 3)
    return {"batch": uniform_rows(logs, task, 4, row_key)}, jax.random.normal(noise_key, (2,))


def learn(learner: Any, drawn: Any, noise: Any) -> tuple[Any, dict[str, Any]]:
    weight, steps = learner
    found = drawn["batch"]
    change = jnp.mean(found.return_to_go * found.transition.obs[..., 1]) + noise.sum()
    return (0.9 * weight + change, steps + 1), {"change": change}


def trained(logs: Logs, seeds: tuple[int, ...], iterations: int) -> tuple[list[Any], list[Any]]:
    config = SimpleNamespace(num_train_steps_per_iteration=3, iterations=iterations)
    begun = [offline.begun(jnp.zeros(()), jnp.zeros((), jnp.int32), jax.random.key(seed)) for seed in seeds]
    blocks = list(offline.meta_train(config, logs, begun, Procedure(choose, learn, OBS_DIM, True)))
    return blocks[-1][0], [np.asarray(metrics[0]["change"]) for _, metrics in blocks]


def test_rows_are_read_in_rising_order_and_come_in_the_order_asked_for() -> None:
    class Noted(np.ndarray):
        def __getitem__(self, index: Any) -> Any:
            read.append(np.asarray(index))
            return np.asarray(self)[index]

    read: list[np.ndarray] = []
    rows, at = np.arange(12.0).reshape(6, 2), np.array([[5, 0, 5], [2, 1, 0]])
    np.testing.assert_array_equal(offline.read(rows.view(Noted), at), rows[at])
    assert [index.tolist() for index in read] == [[0, 0, 1, 2, 5, 5]]


def test_logs_in_a_file_give_the_numbers_of_logs_in_memory(tmp_path: Path) -> None:
    logs = written_logs()
    np.save(tmp_path / "rows.npy", logs.rows)
    in_file = logs._replace(rows=np.load(tmp_path / "rows.npy", mmap_mode="r"))
    (state,), metrics = trained(placed(logs, 10**6), (5,), 2)
    (other,), others = trained(placed(in_file, 10), (5,), 2)
    assert placed(in_file, 10).on_host and not placed(in_file, 10**6).on_host
    assert state.networks == other.networks and state.optimisers == 6
    np.testing.assert_array_equal(metrics, others)


@pytest.mark.parametrize("most_bytes", [10, 10**6], ids=["file", "memory"])
def test_seeds_side_by_side_are_those_alone(most_bytes: int) -> None:
    logs = placed(written_logs(), most_bytes)
    both, _ = trained(logs, (5, 6), 1)
    alone = [trained(logs, (seed,), 1)[0][0] for seed in (5, 6)]
    np.testing.assert_allclose([s.networks for s in both], [s.networks for s in alone], rtol=1e-6)
    assert both[0].networks != both[1].networks


def test_a_run_continues_as_if_it_had_not_stopped() -> None:
    logs = placed(written_logs(), 10**6)
    whole = trained(logs, (5,), 2)[0][0]
    config = SimpleNamespace(num_train_steps_per_iteration=3, iterations=2)
    procedure = Procedure(choose, learn, OBS_DIM, True)
    states, _ = offline.train(
        [offline.begun(jnp.zeros(()), jnp.zeros((), jnp.int32), jax.random.key(5))], logs, procedure, 2
    )
    assert states[0].meta_iterations == 0
    *_, (last, _) = offline.meta_train(config, logs, states, procedure)
    assert last[0].networks == whole.networks
    assert (last[0].grad_steps, last[0].meta_iterations, last[0].env_steps) == (6, 2, 0)
