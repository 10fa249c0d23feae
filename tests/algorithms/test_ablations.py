"""The ablations of PEARL that its paper reports, as settings: the encoder, and where its context comes from."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.algorithms import pearl
from nacre.families.point import PointRobot
from nacre.learning import replay, soft_actor_critic
from nacre.learning.collection import Buffers
from nacre.presets.pearl import PearlSettings
from nacre.simulation import rollout
from nacre.types import Episode, Transition

FAMILY = PointRobot()
SMALL = PearlSettings(
    num_train_tasks=3, num_test_tasks=2, iterations=2, num_initial_episodes=2, num_tasks_sample=2, num_prior_episodes=2,
    num_extra_rl_episodes=2, num_train_steps_per_iteration=4, meta_batch=3, batch_size=6, context_batch_size=8,
    latent_dim=2, hidden_dim=8, encoder_hidden_dim=8, num_hidden_layers=1,
)  # fmt: skip
ONE_NUMBER = type("OneNumber", (PointRobot,), {"obs_dim": 1})()
"""A family whose observations are one number, for rings that count."""
RECURRENT = dataclasses.replace(SMALL, encoder="recurrent")
insert = jax.jit(replay.insert)
sample_sequences = jax.jit(replay.sample_sequences, static_argnums=(2, 3))
draw = jax.jit(pearl.draw, static_argnames=("family", "config"))
infer_posterior = jax.jit(pearl.infer_posterior, static_argnames="config")
critic_loss = functools.partial(soft_actor_critic.critic_loss, objective=pearl.OBJECTIVE)


def numbered(first: int, length: int, num_tasks: int = 1) -> Episode:
    """Episodes whose observations count transitions, from `first`; the action is the task."""
    count = first + np.arange(length, dtype=np.float32)
    obs = np.broadcast_to(count[:, None], (num_tasks, length, 1))
    action = np.broadcast_to(np.arange(num_tasks, dtype=np.float32)[:, None, None], (num_tasks, length, 1))
    zero = np.zeros((num_tasks, length), np.float32)
    return Episode(Transition(obs, action, zero, zero, zero, obs + 1), np.full(num_tasks, length))


@pytest.mark.parametrize("episodes", [1, 2, 5])
def test_sequences_are_in_the_order_of_collection_and_of_one_task(episodes: int):
    """Rings of 400 that hold 150, 300 and, having wrapped, the latest 400 of 750."""
    ring = replay.empty(2, 400, 2000, 1, 1)
    for index in range(episodes):
        ring = insert(ring, np.arange(2), numbered(150 * index, 150, 2))
    task = np.array([0, 1] * 40)
    drawn = sample_sequences(ring, task, 60, 1, jax.random.key(0))
    counts = np.asarray(drawn.obs[..., 0])
    assert (np.diff(counts, axis=1) == 1).all()
    np.testing.assert_array_equal(drawn.action[..., 0], np.asarray(task)[:, None] * np.ones(60))
    oldest = max(0, 150 * episodes - 400)
    assert counts.min() >= oldest and counts.max() < 150 * episodes
    assert len(np.unique(counts[:, 0])) > 20, "from random places"


def test_a_ring_that_holds_too_few_begins_again():
    ring = insert(replay.empty(1, 200, 200, 1, 1), np.zeros(1, int), numbered(0, 5))
    drawn = sample_sequences(ring, np.zeros(1, int), 12, 1, jax.random.key(0))
    np.testing.assert_array_equal(drawn.obs[0, :, 0], [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1])


def a_context(length: int = 9) -> Transition:
    rng = np.random.default_rng(0)
    obs, action, following = rng.normal(size=(3, 2, length, 2)).astype(np.float32)
    reward = rng.normal(size=(2, length)).astype(np.float32)
    return Transition(obs, action, reward, reward, np.ones_like(reward), following)


@pytest.mark.parametrize("use_prior_factor", [False, True])
@pytest.mark.parametrize("config", [SMALL, RECURRENT], ids=["product", "recurrent"])
def test_step_by_step_the_agent_believes_what_the_whole_context_says(config: PearlSettings, use_prior_factor: bool):
    config = dataclasses.replace(config, use_prior_factor=use_prior_factor)
    networks = pearl.init_learner(2, 2, config, jax.random.key(0))[0]
    params, context = pearl.Params(networks.encoder, networks.policy), a_context()
    agent = pearl.make_agent(FAMILY, config)
    memory = agent.begin(params, {"goal": np.zeros((2, 2))}, jax.random.key(1))
    np.testing.assert_array_equal(pearl.belief(memory, config).variance, 1.0)
    observe = jax.jit(agent.observe)
    for time in range(9):
        memory = observe(params, memory, jax.tree.map(lambda x, t=time: x[:, t], context))
        if time not in (0, 1, 8):
            continue
        whole = infer_posterior(networks.encoder, jax.tree.map(lambda x, t=time: x[:, : t + 1], context), config)
        for ours, theirs in zip(pearl.belief(memory, config), whole, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_order_matters_to_the_recurrent_encoder_alone():
    backwards = jax.tree.map(lambda x: x[:, ::-1], a_context())
    for config, same in ((SMALL, True), (RECURRENT, False)):
        encoder = pearl.init_learner(2, 2, config, jax.random.key(0))[0].encoder
        means = [infer_posterior(encoder, context, config).mean for context in (a_context(), backwards)]
        assert np.allclose(*means, rtol=1e-4, atol=1e-6) == same


def test_the_critic_loss_reaches_every_parameter_of_the_recurrent_encoder():
    networks = pearl.init_learner(2, 2, RECURRENT, jax.random.key(0))[0]
    context, noise = a_context(), pearl.Noise(jnp.ones((2, 2)), jnp.ones((2, 9, 2)))

    def loss(encoder: Any) -> Any:
        return critic_loss((encoder, networks.critics), networks, context, context, noise, RECURRENT)[0]

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(networks.encoder)):
        assert np.isfinite(leaf).all() and (np.asarray(leaf) != 0).any()


def test_the_context_is_drawn_from_where_it_is_said_to_come():
    """The context buffer counts from 0, the RL buffer from 1000."""
    context_ring = insert(replay.empty(3, 200, 600, 1, 1), np.arange(3), numbered(0, 100, 3))
    rl_ring = insert(replay.empty(3, 200, 600, 1, 1), np.arange(3), numbered(1000, 100, 3))
    for source, order, encoder in (
        ("recent", "transitions", "product"),
        ("recent-in-order", "transitions", "product"),
        ("collected", "transitions", "product"),
        ("collected-windows", "transitions", "product"),
        ("replay", "transitions", "product"),
        ("replay", "trajectories", "product"),
        ("batch", "transitions", "product"),
        ("recent", "trajectories", "recurrent"),
        ("collected-windows", "transitions", "recurrent"),
        ("batch", "transitions", "recurrent"),
        ("batch", "trajectories", "product"),
    ):
        config = dataclasses.replace(SMALL, context=source, batch_order=order, encoder=encoder)
        batch, context, _ = draw((Buffers(rl_ring, context_ring), None), jax.random.key(0), ONE_NUMBER, config)
        assert (np.asarray(batch.obs) >= 1000).all()
        assert (np.asarray(context.obs) >= 1000).all() == (source in ("replay", "batch"))
        assert np.array_equal(batch.obs, context.obs) == (source == "batch")
        in_order = encoder == "recurrent" or source == "recent-in-order" or (source, order) == ("batch", "trajectories")
        batch_in_order = order == "trajectories" or (source, encoder) == ("batch", "recurrent")
        assert (np.diff(np.asarray(batch.obs)[..., 0]) == 1).all() == batch_in_order
        assert (np.diff(np.asarray(context.obs)[..., 0]) == 1).all() == in_order
        np.testing.assert_array_equal(batch.action[:, 0], context.action[:, 0])  # of the same tasks


def test_a_context_of_a_window_is_of_transitions_collected_one_after_another():
    """The rings hold the last 400 of each task's transitions 0 to 599, having wrapped, on two pages each."""
    ring = replay.empty(3, 400, 1200, 1, 1)
    for first in (0, 150, 300, 450):
        ring = insert(ring, np.arange(3), numbered(first, 150, 3))
    buffers = Buffers(ring, ring)
    config = dataclasses.replace(
        SMALL, meta_batch=40, context_batch_size=50, context="collected-windows", num_exploration_episodes=1
    )  # of a trial that explores for one episode, 20 steps
    draws = [draw((buffers, None), jax.random.key(i), ONE_NUMBER, config)[:2] for i in range(60)]
    for batch, context in draws:
        assert (np.asarray(context.action) == np.asarray(batch.action[:, :1])).all(), "of the batch's tasks"
    assert set(np.unique(draws[0][1].action)) == {0, 1, 2}
    seen = np.concatenate([np.asarray(context.obs)[..., 0] for _, context in draws])  # [draw, context]
    seen = seen - 200
    assert set(seen.ravel()) == set(range(400))
    assert (np.ptp(seen, axis=1) < 20).all() and (np.ptp(seen, axis=1) >= 15).mean() > 0.9
    assert len(np.unique(seen[0])) > 10 and not (np.diff(seen[0]) == 1).all()
    first = set(seen.min(axis=1))
    assert len(first) > 350 and min(first) < 5 and 375 < max(first) < 390  # from everywhere to the newest, none beyond
    wide = dataclasses.replace(config, num_exploration_episodes=50, num_evaluation_episodes=51)
    seen = np.asarray(draw((buffers, None), jax.random.key(0), ONE_NUMBER, wide)[1].obs)
    assert (np.ptp(seen[..., 0], axis=1) > 190).all()  # of all that there is


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        dict(encoder="recurrent"),
        dict(encoder="recurrent", batch_order="trajectories", context="batch"),
        dict(context="replay", num_critics=1, use_prior_factor=True),
        dict(context="batch", use_value_network=False, num_critics=1),
    ],
    ids=str,
)
def test_meta_training_runs_with_every_ablation(changes: dict[str, Any]):
    """The other sources of a context, and a recurrent encoder, are among the runs below."""
    config = dataclasses.replace(SMALL, **changes)
    tasks, states = FAMILY.task_set(0, 3, 2), [pearl.init(FAMILY, config, 0)]
    for states, (metrics,) in pearl.meta_train(FAMILY, config, tasks, states):  # noqa: B007, B020
        assert all(np.isfinite(values).all() for values in metrics.values())
    assert_plays(states[0], config)


def assert_plays(state: pearl.State, config: PearlSettings) -> None:
    params, agent = pearl.agent_params(state), pearl.make_agent(FAMILY, config)
    returns = rollout.evaluate(FAMILY, FAMILY.task_set(0, 3, 2).test, agent, params, jax.random.key(0), 3, 1)
    assert np.isfinite(returns).all()


@pytest.mark.parametrize(
    "changes",
    [
        dict(normalise_inputs="encoder", encoder="recurrent", batch_order="trajectories", context="batch"),
        dict(normalise_inputs="all", context="collected-windows"),
        pytest.param(
            dict(normalise_inputs="all", context="recent-in-order", use_value_network=False), marks=pytest.mark.slow
        ),
    ],
    ids=["encoder", "V", "no V"],
)
def test_inputs_are_scaled_by_all_that_was_collected_and_by_nothing_else(changes: dict[str, Any]):
    """After every collection; updates leave the scales as they are."""
    config = dataclasses.replace(SMALL, use_next_obs_in_context=True, learning_rate=0.1, **changes)
    tasks = FAMILY.task_set(0, 3, 2)
    for (state,), (metrics,) in pearl.meta_train(FAMILY, config, tasks, [pearl.init(FAMILY, config, 0)]):
        assert all(np.isfinite(values).all() for values in metrics.values())
        rows = [pool_of(state.rl_buffer, task)[:size] for task, size in enumerate(np.asarray(state.rl_buffer.size))]
        held = replay.unpack(np.concatenate(rows), FAMILY.obs_dim)
        assert len(held.reward) == state.env_steps
        seen = np.concatenate([held.obs, held.action, held.reward[:, None], held.next_obs], axis=1)
        networks = state.networks
        assert_scale(getattr(networks.encoder, "mlp", networks.encoder), seen)
        if config.normalise_inputs == "encoder":
            assert networks.policy.mlp.scale is None and networks.critics[0].scale is None
            continue
        assert_scale(networks.policy.mlp, held.obs)
        for critic in (*networks.critics, *(networks.target_critics or ())):
            assert_scale(critic, np.concatenate([held.obs, held.action], axis=1))
        for value in (networks.value, networks.target_value):
            assert (value is None) == (not config.use_value_network)
            if value is not None:
                assert_scale(value, held.obs)
    assert_plays(state, config)


def pool_of(ring: replay.Replay, task: int) -> np.ndarray:
    """A task's part of the pool, page after page."""
    pages = np.asarray(ring.pages[task])[: int(ring.pages_taken[task])]
    return np.asarray(ring.pool).reshape(-1, replay.PAGE, ring.pool.shape[1])[pages].reshape(-1, ring.pool.shape[1])


def assert_scale(network: Any, seen: np.ndarray) -> None:
    np.testing.assert_allclose(network.scale.mean, seen.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(network.scale.std, seen.std(axis=0), rtol=1e-4, atol=1e-5)
