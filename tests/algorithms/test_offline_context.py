"""Offline PEARL and FOCAL: encoder objectives, who trains the encoder, learning from logs, the agent by protocol."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.algorithms import offline_context
from nacre.algorithms.offline_context import OBJECTIVES, EncoderObjective, Params
from nacre.algorithms.registry import ALGORITHMS
from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES, make_family
from nacre.families.family import TaskSet
from nacre.families.point import PointRobot
from nacre.learning import backbones
from nacre.learning.offline import Logs, logged, placed, uniform_rows
from nacre.learning.replay import pack
from nacre.presets.offline_context import FocalSettings, OfflineContextSettings, OfflinePearlSettings
from nacre.presets.pearl import PearlSettings
from nacre.runs.experiment import from_preset
from nacre.simulation import rollout
from nacre.types import Tasks, Transition

FAMILY = PointRobot()
SIZES: dict[str, Any] = dict(
    latent_dim=2, encoder_hidden_dim=8, num_encoder_hidden_layers=1, hidden_dim=8, num_hidden_layers=1, meta_batch=4,
    batch_size=6, context_batch_size=5, iterations=4, num_train_steps_per_iteration=2, discount=0.9,
)  # fmt: skip
FOCAL, PEARL = FocalSettings(**SIZES), OfflinePearlSettings(**SIZES)
choose = jax.jit(offline_context.choose, static_argnums=2)
encode = jax.jit(offline_context.encode, static_argnums=2)


def point_logs(goals: np.ndarray, num_episodes: int, seed: int = 0) -> Logs:
    """Episodes of controllers that step towards the goal, each with noise of its own size."""
    rng, horizon, num = np.random.default_rng(seed), FAMILY.horizon, len(goals)
    at = rng.uniform(-1, 1, (num, num_episodes, 2))
    size = rng.uniform(0, 0.8, (num, num_episodes, 1))
    steps = []
    for _ in range(horizon):
        action = np.clip((goals[:, None] - at) / 0.1 + size * rng.normal(size=at.shape), -1, 1)
        after = at + 0.1 * action
        reward = -np.linalg.norm(after - goals[:, None], axis=-1)
        steps.append(Transition(at, action, reward, reward, np.ones_like(reward), after))
        at = after
    episodes = Transition(*(np.stack(field, axis=2).astype(np.float32) for field in zip(*steps, strict=True)))
    rows = np.asarray(pack(episodes)).reshape(num * num_episodes * horizon, -1)
    each, row = num_episodes * horizon, np.arange(len(rows))
    last, first = row // horizon * horizon + horizon - 1, np.arange(num) * each
    return Logs(
        rows,
        np.zeros(len(rows), np.float32),
        last.astype(np.int32),
        first.astype(np.int32),
        np.full(num, each, np.int32),
    )


def some_context(tasks: int = 3, number: int = 5) -> Transition:
    rng = np.random.default_rng(1)
    return Transition(
        *(jnp.asarray(rng.normal(size=(tasks, number, *s)), jnp.float32) for s in ((2,), (2,), (), (), (), (2,)))
    )


# ----------------------------------------------------------------------------------------------------------------------
# Encoder objectives


def test_the_metric_loss_is_the_released_codes() -> None:
    z = jnp.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    terms = offline_context.metric_terms(z, jnp.array([0, 1, 0]), FOCAL)
    assert float(sum(terms)) == pytest.approx(0.9402, abs=1e-4)


@pytest.mark.parametrize(("power", "distances"), [(1.0, (0.5, 0.5, 1.0)), (2.0, (0.25, 0.25, 1.0))])
def test_repulsion_goes_by_a_power_of_the_distance(power: float, distances: tuple[float, ...]) -> None:
    """Pairs of three tasks whose mean squared differences are 0.25, 0.25 and 1."""
    config = dataclasses.replace(FOCAL, focal_power=power)
    z = jnp.array([[0.0, 0.0], [0.5, 0.5], [-0.5, -0.5]])
    _, repulsion = offline_context.metric_terms(z, jnp.array([0, 1, 2]), config)
    expected = sum(1.0 / (distance + config.focal_epsilon) for distance in distances) / 3.001
    assert float(repulsion) == pytest.approx(expected, rel=1e-5)


def test_distinct_tasks_do_not_attract() -> None:
    z = jax.random.normal(jax.random.key(0), (3, 2))
    attraction, repulsion = offline_context.metric_terms(z, jnp.array([0, 1, 2]), FOCAL)
    assert attraction == 0 and repulsion > 0
    one = offline_context.metric_terms(z, jnp.array([4, 4, 4]), FOCAL)
    assert one[0] > 0 and one[1] == 0


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_metric_losss_gradient_is_finite_where_contexts_coincide(power: float) -> None:
    config = dataclasses.replace(FOCAL, focal_power=power)
    slope = jax.grad(lambda z: sum(offline_context.metric_terms(z, jnp.array([0, 0, 1]), config)))(jnp.zeros((3, 2)))
    assert np.isfinite(slope).all()


def test_z_does_not_depend_on_the_order_of_the_context() -> None:
    encoder = offline_context.init_encoder(2, 2, FOCAL, jax.random.key(0))
    context = some_context()
    shuffled = jax.tree.map(lambda x: x[:, ::-1], context)
    for objective in OBJECTIVES.values():
        z = [objective.loss(encoder, c, jnp.arange(3), jax.random.key(0), FOCAL)[0] for c in (context, shuffled)]
        np.testing.assert_allclose(*z, atol=1e-7)


def test_the_encoder_sees_the_next_observation_where_dynamics_differ() -> None:
    def z(config: OfflineContextSettings, context: Transition) -> Any:
        encoder = offline_context.init_encoder(2, 2, config, jax.random.key(0))
        return offline_context.encode(encoder, context, config)

    context = some_context()
    moved = context._replace(next_obs=context.next_obs + 1)
    np.testing.assert_array_equal(z(FOCAL, context), z(FOCAL, moved))
    sees = dataclasses.replace(FOCAL, use_next_obs_in_context=True)
    assert (z(sees, context) != z(sees, moved)).any()


def test_the_critics_train_offline_pearls_encoder_and_not_focals() -> None:
    batch, context, task = some_context(3, 4), some_context(), jnp.arange(3)

    state = offline_context.init(FAMILY, FOCAL, 0)

    def gradient(objective: EncoderObjective) -> float:
        def loss(encoder: Any) -> Any:
            def infer(encoder: Any) -> Any:
                z, _, metrics = objective.loss(encoder, context, task, jax.random.key(0), FOCAL)
                without_own = objective._replace(loss=lambda *_: (z, jnp.zeros(()), metrics))
                return offline_context.infer(encoder, context, task, jax.random.key(0), FOCAL, without_own)

            trained = (encoder, state.networks.critics)
            return backbones.critic_loss(trained, state.networks, batch, infer, jax.random.key(0), FOCAL)[0]

        return float(sum(jnp.abs(x).sum() for x in jax.tree.leaves(jax.jit(jax.grad(loss))(state.networks.encoder))))

    assert gradient(OBJECTIVES["critic"]) > 1e-6
    assert gradient(OBJECTIVES["focal"]) == 0


# ----------------------------------------------------------------------------------------------------------------------
# Training


GOALS = np.random.default_rng(0).uniform(-1, 1, (3, 2))


def trained(config: OfflineContextSettings, logs: Logs, state: Any = None) -> Any:
    state = offline_context.init(FAMILY, config, 0) if state is None else state
    tasks = TaskSet({"goal": GOALS}, {"goal": GOALS}, 0)
    for states, _ in offline_context.meta_train(FAMILY, config, tasks, [state], logs):
        (state,) = states
    return state


def assert_equal(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_resumed_run_is_the_whole_one_and_logs_in_a_file_are_logs_in_memory(tmp_path: Path) -> None:
    logs = point_logs(GOALS, 2)
    on_device = placed(logs, 10**9)
    whole = trained(FOCAL, on_device)
    begun = trained(dataclasses.replace(FOCAL, iterations=2), on_device)
    assert begun.meta_iterations == 2 and whole.grad_steps == 8
    resumed = trained(FOCAL, on_device, begun)
    assert_equal((whole.networks, whole.optimisers), (resumed.networks, resumed.optimisers))
    np.save(tmp_path / "rows.npy", logs.rows)
    in_file = trained(FOCAL, placed(logs._replace(rows=np.load(tmp_path / "rows.npy", mmap_mode="r")), 1))
    for a, b in zip(jax.tree.leaves(whole.networks), jax.tree.leaves(in_file.networks), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_rewards_are_scaled_by_the_range_of_a_tasks_returns() -> None:
    """Returns 1 and 5 in one task, 2 and 2 in the other: the mean range is 2, and 20 steps make 10 of it."""
    reward = np.array([0.5, 0.5, 5.0, 1.0, 1.0, 2.0], np.float32)
    zero = np.zeros((6, 2), np.float32)
    rows = np.asarray(pack(Transition(zero, zero, reward + 9, reward, np.ones(6, np.float32), zero)))
    logs = Logs(rows, reward, np.array([1, 1, 2, 4, 4, 5]), np.array([0, 3]), np.array([3, 3]))
    assert offline_context.reward_scale(logs, FAMILY) == pytest.approx(20 / 2)
    still = logs._replace(rows=np.zeros_like(rows))
    assert offline_context.reward_scale(still, FAMILY) == 1.0


def test_a_run_that_starts_from_another_has_the_reward_scale_of_its_own_settings() -> None:
    logs = point_logs(GOALS, 2)
    state = offline_context.init(FAMILY, FOCAL, 0)
    source = state._replace(networks=state.networks._replace(reward_scale=jnp.float32(3.0)))
    started = offline_context.transfer(state, source)
    for normalise, wanted in ((True, offline_context.reward_scale(logs, FAMILY)), (False, 1.0)):
        config = dataclasses.replace(FOCAL, normalise_rewards=normalise)
        begun = offline_context.with_reward_scales(config, logs, FAMILY, [started])
        assert float(begun[0].networks.reward_scale) == pytest.approx(wanted)
        later = [started._replace(grad_steps=np.int64(1))]
        assert offline_context.with_reward_scales(config, logs, FAMILY, later) == later


def test_tasks_are_drawn_with_replacement_unless_they_shall_be_distinct() -> None:
    logs, config = point_logs(GOALS, 1), dataclasses.replace(FOCAL, meta_batch=3, task_draw="distinct")
    for seed in range(3):
        _, (task, _) = choose(logs, jax.random.key(seed), config)
        assert sorted(task.tolist()) == [0, 1, 2]
    usual = dataclasses.replace(FOCAL, meta_batch=3)
    drawn = [choose(logs, jax.random.key(seed), usual)[1][0].tolist() for seed in range(10)]
    assert any(len(set(tasks)) < 3 for tasks in drawn) and len(set(map(tuple, drawn))) > 1
    rows, (task, _) = choose(logs, jax.random.key(0), dataclasses.replace(FOCAL, meta_batch=4))
    assert rows["batch"].shape == (4, 6) and rows["context"].shape == (4, 5)
    assert (rows["context"] // 20 == task[:, None]).all()
    with pytest.raises(NacreError, match="4 distinct tasks, but the data set has 3"):
        trained(dataclasses.replace(config, meta_batch=4), logs)


# ----------------------------------------------------------------------------------------------------------------------
# The agent


def test_an_absorbed_context_is_the_mean_of_its_encodings_and_episodes_leave_it_alone() -> None:
    agent, params = offline_context.make_agent(FAMILY, FOCAL), agent_params()
    tasks: Tasks = {"goal": GOALS}
    memory = rollout.begin(agent, params, tasks, jax.random.key(0))
    assert not memory.z.any()
    logs = placed(point_logs(GOALS, 2), 10**9)
    at = uniform_rows(logs, jnp.arange(3), 7, jax.random.key(1))
    given = jax.jit(logged, static_argnums=2)(logs, at, 2)
    memory = jax.jit(agent.absorb)(params, memory, given, jax.random.key(2))
    expected = encode(params.encoder, given.transition, FOCAL).mean(axis=1)
    np.testing.assert_allclose(memory.z, expected, rtol=1e-5)
    belief = offline_context.belief(memory, FOCAL)
    np.testing.assert_allclose(belief.mean, expected, rtol=1e-5)
    assert not belief.variance.any() and not any(agent.explores(i, 2) for i in range(3))
    step = jax.tree.map(lambda x: x[:, 0], given.transition)
    after = jax.jit(agent.end_episode)(params, jax.jit(agent.observe)(params, memory, step), jax.random.key(3))
    np.testing.assert_array_equal(after.z, memory.z)


def agent_params() -> Params:
    return offline_context.agent_params(offline_context.init(FAMILY, FOCAL, 0))


def played(protocol: str, num_exploration: int, episode_lengths: tuple[int, ...]) -> list[list[Any]]:
    """z [episode][step] of one lane, by which every action of a trial is chosen, and the actions."""
    config = dataclasses.replace(FOCAL, protocol=protocol, num_exploration_episodes=num_exploration)
    agent, params = offline_context.make_agent(FAMILY, config), agent_params()
    memory = agent.begin(params, {"goal": GOALS[:1]}, jax.random.key(0))
    steps, key, shown = some_context(1, 99), jax.random.key(1), []
    at = 0
    for index, length in enumerate(episode_lengths):
        shown.append([])
        explore = agent.explores(index, len(episode_lengths) - 1)
        for _ in range(length):
            step = jax.tree.map(lambda x, at=at: x[:, at], steps)
            action, memory = agent.act(params, memory, step.obs, jax.random.fold_in(key, at), explore)
            shown[-1].append((memory.z[0], action[0], int(memory.num_transitions[0])))
            memory = agent.observe(params, memory, step)
            at += 1
        memory = agent.end_episode(params, memory, key)
    return shown


def encodings() -> Any:
    return np.asarray(offline_context.encode(agent_params().encoder, some_context(1, 99), FOCAL)[0])


def test_online_prior_explores_with_z_0_and_the_scored_episode_never_enters_z() -> None:
    episodes = played("online-prior", 2, (3, 2, 4))
    assert not any(z.any() for episode in episodes[:2] for z, _, _ in episode)
    for z, _, _ in episodes[2]:
        np.testing.assert_allclose(z, encodings()[:5].mean(axis=0), rtol=1e-5)
    config = dataclasses.replace(FOCAL, protocol="online-prior")
    assert [offline_context.make_agent(FAMILY, config).explores(i, 2) for i in range(3)] == [True, True, False]
    straight = dataclasses.replace(config, stochastic_exploration=False)
    assert not offline_context.make_agent(FAMILY, straight).explores(0, 2)


def test_online_np_is_uniform_for_half_of_the_exploration_and_infers_z_at_every_step() -> None:
    """A point robot's episode has 20 steps: with one exploration episode 10 steps are uniform."""
    exploration, scored = played("online-np", 1, (20, 3))
    e = encodings()
    assert not exploration[0][0].any()
    for number, (z, action, seen) in enumerate(exploration):
        assert seen == number
        np.testing.assert_allclose(z, e[:number].sum(axis=0) / max(number, 1), rtol=1e-4, atol=1e-6)
        # the policy's own actions, mean 0 at the start and of deviation exp(-1.5), seldom reach so far
        uniform = jax.random.uniform(
            jax.random.split(jax.random.fold_in(jax.random.key(1), number))[1], (1, 2), jnp.float32, -1.0, 1.0
        )[0]
        assert bool((action == uniform).all()) == (number < 10)
    for z, _, seen in scored:
        assert seen == 20
        np.testing.assert_allclose(z, e[:20].mean(axis=0), rtol=1e-4)


def test_zero_shot_begins_with_z_0_and_infers_it_at_every_step() -> None:
    first, second = played("zero-shot", 0, (3, 2))
    e = encodings()
    assert not first[0][0].any() and not second[0][0].any()
    np.testing.assert_allclose(first[2][0], e[:2].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(second[1][0], e[3], rtol=1e-5)


# ----------------------------------------------------------------------------------------------------------------------
# Settings


@pytest.mark.parametrize("name", ["offline-pearl", "focal"])
def test_settings_of_families_follow_pearls(name: str) -> None:
    """Whether the encoder sees next observations, in every family; the discount is their own."""
    algorithm = ALGORITHMS[name]
    known = ALGORITHMS["pearl"].presets["paper"].keys()
    assert algorithm.offline and len(FAMILIES.keys() & known) >= 20
    for family in FAMILIES.keys() & known - {"ml1", "ml10"}:  # Meta-World is not installed
        own, pearls = (from_preset(method, family, "paper").settings for method in (name, "pearl"))
        assert own.use_next_obs_in_context == pearls.use_next_obs_in_context, family
        assert own.discount == (0.9 if make_family(family).horizon == 20 else 0.99), family


def test_an_expectile_of_1_is_refused() -> None:
    with pytest.raises(NacreError, match="expectile is 1"):
        OfflinePearlSettings(expectile=1.0)


def test_an_update_with_iql_takes_no_more_products_than_pearls() -> None:
    sizes: dict[str, Any] = dict(batch_size=256, meta_batch=16, hidden_dim=300, num_hidden_layers=3)
    online = PearlSettings(**sizes).update_flops(20, 6)
    flops = {
        b: OfflinePearlSettings(**sizes, backbone=b, context_batch_size=100).update_flops(20, 6)  # type: ignore[arg-type]
        for b in backbones.BACKBONES
    }
    assert flops["iql"] < online < 1.3 * flops["iql"]
    assert flops["iql"] < flops["awac"] and flops["sac"] < flops["brac"]


# ----------------------------------------------------------------------------------------------------------------------
# Learning


@pytest.mark.slow
@pytest.mark.parametrize("settings", [OfflinePearlSettings, FocalSettings])
def test_own_context_leads_to_goals_never_seen(settings: type[OfflineContextSettings]) -> None:
    """20 goals, 50 episodes of noisy controllers each, whose mean return is about -6. With z = 0, hence without a
    task, both stay below -16."""
    tasks = FAMILY.task_set(1, 20, 20)
    power = {"focal_power": 1.0} if settings is FocalSettings else {}
    config = settings(
        **power, hidden_dim=64, encoder_hidden_dim=64, batch_size=32, context_batch_size=64, learning_rate=1e-3,
        discount=0.9, iterations=16, num_train_steps_per_iteration=250, num_context_transitions=256,
    )  # type: ignore[arg-type]  # fmt: skip
    (state,) = [offline_context.init(FAMILY, config, 0)]
    logs, test_logs = (placed(point_logs(t["goal"], 50, s), 10**9) for s, t in enumerate((tasks.train, tasks.test)))
    for states, _ in offline_context.meta_train(FAMILY, config, tasks, [state], logs):
        (state,) = states
    agent, params, lanes = (
        offline_context.make_agent(FAMILY, config),
        offline_context.agent_params(state),
        np.arange(100) % 20,
    )
    key, goals = jax.random.key(7), {"goal": tasks.test["goal"][lanes]}
    blind = rollout.begin(agent, params, goals, key)
    context = logged(test_logs, uniform_rows(test_logs, jnp.asarray(lanes), 256, key), 2)
    told = agent.absorb(params, blind, context, key)
    returns = [
        rollout.episode(FAMILY, agent, params, m, goals, key, explore=False)[1].returns().mean() for m in (blind, told)
    ]
    print(f"without a context {returns[0]:.2f}, with the task's own {returns[1]:.2f}")
    assert returns[1] > -10.0 and returns[1] > returns[0] + 5.0
