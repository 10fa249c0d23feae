"""PEARL in meta-training: updates, and whole runs."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pearl_parts import (
    ACTION_DIM,
    FAMILY,
    LATENT_DIM,
    OBS_DIM,
    SMALL,
    TASKS,
    assert_all_networks_changed,
    assert_trees_equal,
    change,
    copied,
    critic_loss,
    rows,
    train,
    update,
)

from nacre.algorithms import pearl
from nacre.learning import off_policy, soft_actor_critic
from nacre.learning.collection import Buffers
from nacre.learning.replay import Replay
from nacre.types import stream


class Blocks(NamedTuple):
    """The same 400 updates, as 200 + 200 and at once; what the first block started from."""

    start: pearl.State
    halfway: pearl.State
    in_two: pearl.State
    at_once: pearl.State
    metrics_in_two: list[dict[str, np.ndarray]]
    metrics_at_once: dict[str, np.ndarray]
    compilations: int


@pytest.fixture(scope="module")
def blocks(collected) -> Blocks:
    fresh = pearl.init(FAMILY, SMALL, seed=1)
    start = fresh._replace(rl_buffer=collected.after.rl_buffer, context_buffer=collected.after.context_buffer)
    compiled_before = off_policy.block._cache_size()
    halfway, first = train(copied(start), 200)
    in_two, second = train(copied(halfway), 200)
    compilations = off_policy.block._cache_size() - compiled_before
    at_once, metrics = train(copied(start), 400)
    return Blocks(
        start, halfway, in_two, at_once, jax.device_get([first, second]), jax.device_get(metrics), compilations
    )


def test_blocks_of_updates_compile_once(blocks):
    assert blocks.compilations == 1


def test_400_updates_at_once_are_twice_200_updates(blocks):
    assert_trees_equal(blocks.in_two, blocks.at_once)
    assert blocks.in_two.grad_steps == 400
    for name, at_once in blocks.metrics_at_once.items():
        assert at_once.shape == (400,)
        np.testing.assert_array_equal(np.concatenate([block[name] for block in blocks.metrics_in_two]), at_once)


def test_a_block_is_one_update_after_another_on_what_is_drawn_from_the_replay(blocks):
    """The compiled scan against a plain loop, for as long as rounding stays small."""
    start = blocks.start
    learner, losses = (start.networks, start.optimisers), []
    take_step = jax.jit(update, static_argnames="config")
    draw = jax.jit(pearl.draw, static_argnums=(2, 3))
    for grad_step in range(5):
        key = jax.random.fold_in(stream(start.key, "train"), grad_step)
        drawn = draw((Buffers(start.rl_buffer, start.context_buffer), None), key, FAMILY, SMALL)
        *learner, metrics = take_step(*learner, *drawn, config=SMALL)
        losses.append(metrics["critic_loss"])
    np.testing.assert_allclose(losses, blocks.metrics_at_once["critic_loss"][:5], rtol=1e-3)


def test_updates_change_every_network_and_leave_the_buffers_alone(blocks):
    assert_all_networks_changed(blocks.start, blocks.halfway)
    assert_trees_equal(blocks.start.rl_buffer, blocks.halfway.rl_buffer)
    assert_trees_equal(blocks.start.context_buffer, blocks.halfway.context_buffer)
    assert len(np.unique(blocks.metrics_at_once["q_target_mean"])) == 400, "every update draws its own batch"


def test_critics_learn_from_the_rl_buffer_and_the_encoder_from_the_context_buffer(blocks):
    """What the first update of a block reports when one number of every transition in one of the buffers is raised."""

    def first_metrics(**changed: Replay) -> dict[str, float]:
        _, metrics = train(copied(blocks.start._replace(**changed)), 200)
        return {name: float(values[0]) for name, values in metrics.items()}

    def raised(replay: Replay, scalar: int) -> Replay:
        """One of the scalars behind observation and action: reward 0, training reward 1."""
        return replay._replace(pool=replay.pool.at[:, OBS_DIM + ACTION_DIM + scalar].add(100.0))

    start = first_metrics()
    rl = first_metrics(rl_buffer=raised(blocks.start.rl_buffer, 1))
    np.testing.assert_allclose(rl["q_target_mean"] - start["q_target_mean"], 5.0 * 100.0, rtol=1e-4)
    assert rl["posterior_mean_abs"] == start["posterior_mean_abs"] and rl["q_mean"] == start["q_mean"]
    assert first_metrics(rl_buffer=raised(blocks.start.rl_buffer, 0)) == start, "the critics do not read the reward"
    context = first_metrics(context_buffer=raised(blocks.start.context_buffer, 0))
    assert abs(context["posterior_mean_abs"] - start["posterior_mean_abs"]) > 0.01
    assert abs(context["q_target_mean"] - start["q_target_mean"]) < 0.1
    assert first_metrics(context_buffer=raised(blocks.start.context_buffer, 1)) == start


@pytest.mark.slow
def test_a_deterministic_encoder_of_next_observations_trains(collected):
    """Both switches of the context at once; each alone is compared with the reference in test_golden.py."""
    config = change(SMALL, use_next_obs_in_context=True, use_information_bottleneck=False)
    fresh = pearl.init(FAMILY, config, seed=1)
    start = fresh._replace(rl_buffer=collected.after.rl_buffer, context_buffer=collected.after.context_buffer)
    after, metrics = train(copied(start), 200, config)
    assert all(np.isfinite(values).all() and values.shape == (200,) for values in metrics.values())
    assert (np.asarray(metrics["kl"]) == 0).all() and (np.asarray(metrics["posterior_variance"]) == 0).all()
    before, moved = fresh.networks.encoder.weights, after.networks.encoder.weights
    assert before[0].shape == (OBS_DIM + ACTION_DIM + 1 + OBS_DIM, 32) and before[-1].shape == (32, LATENT_DIM)
    for x, y in zip(before, moved, strict=True):
        assert (np.asarray(x) != np.asarray(y)).any()


@pytest.mark.parametrize("decay", [1.0, 0.1])
def test_the_learning_rate_falls_along_a_straight_line_to_its_share_at_the_end_of_the_run(decay):
    """With a gradient that stays, Adam's steps are the learning rate itself."""
    config = change(
        SMALL, learning_rate=0.01, learning_rate_decay=decay, iterations=2, num_train_steps_per_iteration=50
    )
    adam, gradient, steps = soft_actor_critic.adam(config), jnp.ones(()), []
    state = adam.init(gradient)
    for _ in range(101):
        change_, state = adam.update(gradient, state)
        steps.append(-float(change_))
    expected = 0.01 * (1.0 + (decay - 1.0) * np.arange(101) / 100)
    np.testing.assert_allclose(steps, expected, rtol=1e-3)


def finished(state: pearl.State) -> tuple[pearl.State, list[dict[str, np.ndarray]]]:
    """The end of the run from this state on, and the metrics of every block."""
    metrics = []
    for (after,), (block,) in pearl.meta_train(FAMILY, SMALL, TASKS, [state]):
        state = after
        metrics.append(jax.device_get(block))
    return state, metrics


@pytest.fixture(scope="module")
def run() -> tuple[pearl.State, list[dict[str, np.ndarray]]]:
    """A run of two iterations in blocks of 200 updates, with seed 5."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(off_policy, "UPDATES_PER_CALL", 200)
        return finished(pearl.init(FAMILY, SMALL, 5))


def test_same_seed_same_numbers(run, monkeypatch):
    monkeypatch.setattr(off_policy, "UPDATES_PER_CALL", 200)
    again = finished(pearl.init(FAMILY, SMALL, 5))
    assert_trees_equal(run, again)
    other, _ = finished(pearl.init(FAMILY, SMALL, 6))
    assert (np.asarray(run[0].networks.encoder.weights[0]) != np.asarray(other.networks.encoder.weights[0])).all()


def test_a_run_counts_its_steps_updates_and_iterations(run):
    """Two iterations of 400 updates in blocks of 200; the initial 60 steps, then 3 draws of 80 steps, twice."""
    state, metrics = run
    assert [len(block["critic_loss"]) for block in metrics] == [200, 200, 200, 200]
    assert (state.env_steps, state.grad_steps, state.meta_iterations) == (60 + 2 * 240, 800, 2)


def test_a_run_continued_in_the_middle_of_an_iteration_is_the_run_uninterrupted(run, monkeypatch):
    monkeypatch.setattr(off_policy, "UPDATES_PER_CALL", 200)
    blocks = pearl.meta_train(FAMILY, SMALL, TASKS, [pearl.init(FAMILY, SMALL, 5)])
    first, second, ((third,), _) = (next(blocks) for _ in range(3))
    del first, second
    assert (third.grad_steps, third.meta_iterations) == (600, 1)
    end, metrics = finished(copied(third))
    assert len(metrics) == 1
    assert_trees_equal(end, run[0])


def test_critics_and_encoder_learn_what_only_the_context_tells(blocks):
    """Most of Q is the scaled reward, which depends on the goal: in the end a wrong context costs dearly."""
    state, losses = copied(blocks.at_once), [blocks.metrics_at_once["critic_loss"]]
    for _ in range(3):
        state, metrics = train(state, 200)
        losses.append(np.asarray(metrics["critic_loss"]))
    loss = np.concatenate(losses)
    assert loss[-50:].mean() < 0.05 * loss[:10].mean()

    tasks = (0, 2)
    context = jax.tree.map(lambda *x: np.stack(x), *(rows(state.context_buffer, task) for task in tasks))
    batch = jax.tree.map(lambda *x: np.stack([y[:100] for y in x]), *(rows(state.rl_buffer, task) for task in tasks))
    swapped = jax.tree.map(lambda x: x[::-1], context)
    trained = (state.networks.encoder, state.networks.critics)

    @jax.jit
    def loss(context):
        no_noise = pearl.Noise(jnp.zeros((2, LATENT_DIM)), jnp.zeros(batch.action.shape))
        return critic_loss(trained, state.networks, batch, context, no_noise, SMALL)[1][1]

    assert loss(swapped)["critic_loss"] > 10 * loss(context)["critic_loss"]
