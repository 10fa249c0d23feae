"""The oracle: it is told the task, learns by PEARL's losses, and trains on one task where it is asked to."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nacre
from documented import undocumented
from nacre.algorithms import oracle
from nacre.errors import NacreError
from nacre.families.point import PointRobot
from nacre.families.walker_hopper import HopperParams
from nacre.learning import replay, soft_actor_critic
from nacre.presets.oracle import PRESETS, OracleSettings
from nacre.runs.loading import load_state
from nacre.simulation import rollout
from nacre.simulation.environment import TaskEnvironment
from warm_starts import assert_starts_from

FAMILY, KEY = PointRobot(), jax.random.key(0)
SMALL = OracleSettings(
    num_train_tasks=4, num_test_tasks=3, iterations=2, num_initial_episodes=1, num_tasks_sample=2, num_episodes=2,
    num_train_steps_per_iteration=7, meta_batch=3, batch_size=5, hidden_dim=8, num_hidden_layers=1,
)  # fmt: skip


def test_it_acts_on_the_task_and_on_nothing_else_that_is_hidden():
    agent, params = oracle.make_agent(FAMILY, SMALL), oracle.init(FAMILY, SMALL, 0).networks.policy
    goals = {"goal": np.array([[0.5, -0.5], [0.0, 1.0]])}
    memory = agent.begin(params, goals, jax.random.key(0))
    np.testing.assert_allclose(memory.z, goals["goal"])
    obs = jnp.ones((2, 2))
    action, after = agent.act(params, memory, obs, jax.random.key(0), False)
    np.testing.assert_allclose(action, jnp.tanh(params(obs, jnp.asarray(goals["goal"], jnp.float32)).mean))
    assert (np.asarray(action[0]) != np.asarray(action[1])).any()
    trial = list(rollout.trial(FAMILY, agent, params, goals, jax.random.key(1), 2))
    np.testing.assert_array_equal(trial[1].memory_before.z, after.z)


def test_a_task_of_several_parameters_is_all_of_them():
    tasks = HopperParams().sample_tasks(np.random.default_rng(0), 2)
    assert oracle.features(tasks).shape == (2, HopperParams().task_dim)


def test_an_update_is_soft_actor_critic_with_the_task_for_z():
    """The critics' target and the policy's objective by hand; the encoder is not there to be trained."""
    state = oracle.init(FAMILY, SMALL, 0)
    tasks = FAMILY.task_set(0, 4, 3)
    (state,), _ = next(oracle.meta_train(FAMILY, SMALL, tasks, [state]))
    draw, learn = map(jax.jit, oracle._draw_and_learn(FAMILY, SMALL))
    described = oracle.features(tasks.train)
    batch, task, noise = draw((state.rl_buffer, described), jax.random.key(3))
    # A reward is that of the task that the batch is told to belong to.
    expected = -np.linalg.norm(np.asarray(batch.next_obs) - np.asarray(task)[:, None], axis=-1)
    np.testing.assert_allclose(batch.reward, expected, rtol=1e-4, atol=1e-5)

    @jax.jit
    def loss_value_and_q(networks: Any, batch: Any, task: Any, noise: Any) -> Any:
        _, (z, metrics) = soft_actor_critic.critic_loss(
            (None, networks.critics), networks, batch, task, noise, SMALL, oracle.OBJECTIVE
        )
        value = networks.target_value(batch.next_obs, task[:, None])[..., 0]
        acted = jnp.concatenate([batch.obs, batch.action], -1)
        q = [critic(acted, task[:, None])[..., 0] for critic in networks.critics]
        return z, metrics["critic_loss"], value, q

    z, loss, value, q = jax.device_get(loss_value_and_q(state.networks, batch, task, noise))
    np.testing.assert_array_equal(z[:, 0], task)
    target = 5.0 * np.asarray(batch.reward) + 0.99 * value
    np.testing.assert_allclose(loss, sum(((one - target) ** 2).mean() for one in q), rtol=1e-4)
    (after, _), told = learn((state.networks, state.optimisers), (batch, task, noise))
    assert after.encoder is None and "kl" not in told
    assert not np.array_equal(after.policy.mlp.weights[0], state.networks.policy.mlp.weights[0])


def test_its_inputs_are_scaled_by_all_that_was_collected_but_the_task_is_taken_as_it_is():
    as_they_come = oracle.init(FAMILY, SMALL, 0).networks
    assert as_they_come.policy.mlp.scale is None and as_they_come.critics[0].scale is None
    config = dataclasses.replace(SMALL, normalise_inputs="all", use_value_network=False)
    tasks = FAMILY.task_set(0, 4, 3)
    for (state,), _ in oracle.meta_train(FAMILY, config, tasks, [oracle.init(FAMILY, config, 0)]):
        policy, critic = state.networks.policy.mlp, state.networks.critics[0]
        mean, std = replay.moments(state.rl_buffer, FAMILY.obs_dim)
        np.testing.assert_array_equal(policy.scale.mean, mean.obs)
        np.testing.assert_array_equal(policy.scale.std, std.obs)
        np.testing.assert_array_equal(critic.scale.mean, np.concatenate([mean.obs, mean.action]))
        assert len(policy.weights[0]) == len(policy.scale.mean) + FAMILY.task_dim
        assert policy.task_scale is None and critic.task_scale is None


@pytest.mark.parametrize("use_value_network", [False, True])
def test_the_task_is_scaled_by_the_train_tasks_in_every_network(use_value_network: bool):
    config = dataclasses.replace(SMALL, normalise_inputs="all-and-task", use_value_network=use_value_network)
    tasks = FAMILY.task_set(0, 4, 3)
    goals = np.asarray(tasks.train["goal"])
    mean, std = goals.mean(axis=0), goals.std(axis=0) * np.sqrt(2)  # of two coordinates, each half of the variance
    for (state,), _ in oracle.meta_train(FAMILY, config, tasks, [oracle.init(FAMILY, config, 0)]):
        networks = state.networks
        scaled = [networks.policy.mlp, *networks.critics]
        scaled += [networks.value, networks.target_value] if use_value_network else networks.target_critics
        for network in scaled:
            np.testing.assert_allclose(network.task_scale.mean, mean, rtol=1e-6)
            np.testing.assert_allclose(network.task_scale.std, std, rtol=1e-6)
    obs, goal = jnp.ones((3, 2)), jnp.asarray(tasks.test["goal"], jnp.float32)
    as_it_comes = eqx.tree_at(lambda x: x.task_scale, networks.policy.mlp, None)
    np.testing.assert_allclose(networks.policy.mlp(obs, goal), as_it_comes(obs, (goal - mean) / std), rtol=1e-5)


def test_scaled_parameters_have_one_size_together_whatever_their_units_and_number():
    config = dataclasses.replace(SMALL, normalise_inputs="all-and-task")
    networks = soft_actor_critic.init_networks(2, 1, 4, config, KEY)
    drawn = np.random.default_rng(0).uniform(-1.0, 1.0, (50, 3)) * [1e3, 1.0, 1e-4] + [5e3, 0.0, 1e-2]
    tasks = np.column_stack([drawn, np.full(50, 7.0)])  # the last does not vary
    scale = soft_actor_critic.with_task_scale(networks, tasks).policy.mlp.task_scale
    z = np.asarray(scale(tasks))
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(z.var(axis=0), [1 / 3, 1 / 3, 1 / 3, 0.0], rtol=1e-3)
    alone = soft_actor_critic.with_task_scale(networks, tasks[:1]).policy.mlp.task_scale
    np.testing.assert_allclose(alone(tasks[:1]), 0.0, atol=1e-3)


def test_a_scale_that_was_set_stays_whatever_the_tasks():
    config = dataclasses.replace(SMALL, normalise_inputs="all-and-task")
    networks = soft_actor_critic.init_networks(2, 1, 3, config, KEY)
    tasks = np.random.default_rng(0).normal(size=(2, 20, 3))
    once = soft_actor_critic.with_task_scale(networks, tasks[0])
    jax.tree.map(np.testing.assert_array_equal, once, soft_actor_critic.with_task_scale(once, tasks[1]))


def test_scaled_parameters_stay_scaled_through_checkpoints_updates_and_another_runs_start(tmp_path: Path):
    """No gradient reaches the scale. A resumed run becomes what it would have been, and a run on other tasks
    that starts from these networks keeps their scale."""
    settings: dict[str, Any] = dict(preset="smoke", normalise_inputs="all-and-task", learning_rate_decay=0.5)
    whole = nacre.train("oracle", "point-robot", out=tmp_path / "whole", **settings)
    parts = nacre.train("oracle", "point-robot", out=tmp_path / "parts", time_limit=1e-9, **settings)
    assert load_state(parts).meta_iterations < load_state(whole).meta_iterations
    nacre.resume(parts.path)
    first, second = (load_state(run).networks for run in (whole, parts))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    goals = np.asarray(whole.tasks.train["goal"])
    np.testing.assert_allclose(first.policy.mlp.task_scale.mean, goals.mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(nacre.load(whole.path).evaluate()[0], nacre.load(parts.path).evaluate()[0])
    assert_starts_from(whole, tmp_path / "warm", seed=1, task_seed=5, **settings)
    warm = load_state(nacre.RunDirectory(tmp_path / "warm")).networks
    jax.tree.map(np.testing.assert_array_equal, warm.policy.mlp.task_scale, first.policy.mlp.task_scale)


def test_single_task_training_is_on_that_test_task_alone():
    config = dataclasses.replace(SMALL, single_task=1)
    experiment = dataclasses.replace(nacre.resolve("oracle", "point-robot", "smoke"), settings=config)
    whole, tasks = FAMILY.task_set(1337, 4, 3), experiment.draw_tasks()
    for split in (tasks.train, tasks.test):
        np.testing.assert_array_equal(split["goal"], whole.test["goal"][[1]])
    with pytest.raises(NacreError, match="single_task is 3"):
        nacre.resolve("oracle", "point-robot", "smoke", num_test_tasks=3, single_task=3)


def test_single_task_sac_is_a_run_that_is_scored_on_its_task(tmp_path: Path):
    run = nacre.train("oracle", "point-robot", preset="smoke", single_task=2, out=tmp_path / "run", time_limit=1e-9)
    nacre.resume(run.path)
    state, settings = load_state(run), run.experiment.settings
    episodes = settings.num_initial_episodes + settings.iterations * settings.num_tasks_sample * settings.num_episodes
    assert state.rl_buffer.written.tolist() == [20 * episodes] and state.env_steps == 20 * episodes
    returns, tasks = nacre.load(run.path).evaluate(repeats=2)
    assert returns.shape == (2, 1, 3) and len(tasks) == 1
    whole = nacre.make_family("point-robot").task_set(1337, 4, 3)
    assert tasks[0]["goal"] == whole.test["goal"][2].tolist()


SETTINGS: dict[str, Any] = dict(preset="smoke", checkpoint_minutes=0.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> nacre.RunDirectory:
    return nacre.train("oracle", "point-robot", out=tmp_path_factory.mktemp("oracle") / "run", **SETTINGS)


def test_a_session_is_told_the_task_and_refuses_to_guess(whole: nacre.RunDirectory):
    agent = nacre.load(whole.path)
    with pytest.raises(NacreError, match="is told its task"):
        agent.session()
    told = agent.session(task="goal=0.5,-0.25")
    np.testing.assert_allclose(told.memory.z, [[0.5, -0.25]])
    env = TaskEnvironment("point-robot", "goal=0.5,-0.25")
    assert np.isfinite(agent.adapt(env, task="goal=0.5,-0.25").returns).all()


def test_parameters_have_one_order_whatever_the_order_of_the_family():
    a, b = np.ones(2), np.zeros((2, 2))
    np.testing.assert_array_equal(oracle.features({"b": b, "a": a}), oracle.features({"a": a, "b": b}))


def test_it_collects_as_many_steps_as_pearl():
    for preset in PRESETS:
        told, pearl = (nacre.resolve(method, "ant-goal", preset) for method in ("oracle", "pearl"))
        assert told.settings.env_steps(told.family) == pearl.settings.env_steps(pearl.family), preset
    assert nacre.resolve("oracle", "cheetah-vel").settings.num_episodes == 2 + 3
    assert nacre.resolve("oracle", "sparse-point-robot").settings.num_episodes == 5 + 45


def test_another_run_starts_from_its_networks(whole: nacre.RunDirectory, tmp_path: Path):
    assert_starts_from(whole, tmp_path / "warm", preset="smoke", seed=1)


def test_it_continues_exactly_where_it_was_stopped(whole: nacre.RunDirectory, tmp_path: Path):
    parts = nacre.train("oracle", "point-robot", out=tmp_path / "parts", time_limit=1e-9, **SETTINGS)
    nacre.resume(parts.path)
    columns = [
        [row.split(",")[:2] + row.split(",")[3:] for row in (run.path / "eval.csv").read_text().splitlines()]
        for run in (whole, parts)
    ]
    assert columns[0] == columns[1] and len(columns[0]) > 3
    assert not undocumented(whole.path)
