"""RL2: what the network is shown, what actions are credited with, and that it learns to learn."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.algorithms import rl2
from nacre.families.family import JaxFamily, JaxStep
from nacre.families.point import PointRobot
from nacre.learning import on_policy
from nacre.presets.rl2 import Rl2Settings
from nacre.simulation import rollout
from nacre.types import Tasks

FAMILY = PointRobot()
SMALL = Rl2Settings(num_train_tasks=3, num_test_tasks=2, tasks_per_iteration=3, hidden_dim=6, backpropagation_steps=7)
TRIALS = dataclasses.replace(SMALL, tasks_per_iteration=2, trials_per_task=3)


assess = jax.jit(rl2.assess, static_argnums=1)


@dataclasses.dataclass(frozen=True)
class Bandit(JaxFamily):
    """Two arms that pay 1 with probabilities of the task; an action pulls the arm of its larger number.

    An episode ends early where `end_at` says so.
    """

    end_at: int = 99

    name: ClassVar[str] = "bandit"
    obs_dim: ClassVar[int] = 1
    action_dim: ClassVar[int] = 2
    horizon: ClassVar[int] = 10
    can_terminate: ClassVar[bool] = True
    parameters: ClassVar[dict[str, int]] = {"chances": 2}
    task_range: ClassVar[str] = "chances in [0, 1]"

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        return {"chances": rng.uniform(size=(num, 2))}

    def in_range(self, task: Tasks) -> np.ndarray:
        return np.asarray(((task["chances"] >= 0) & (task["chances"] <= 1)).all(axis=-1))

    def reset(self, key: Any) -> Any:
        return (key, jnp.zeros((), jnp.int32)), jnp.zeros(1)

    def step(self, state: Any, action: Any, task: Any) -> JaxStep:
        key, time = state
        reward = jax.random.bernoulli(jax.random.fold_in(key, time), task["chances"][jnp.argmax(action)]) * 1.0
        return JaxStep((key, time + 1), jnp.zeros(1), reward, reward, time + 1 >= self.end_at)


def played(family: JaxFamily, config: Rl2Settings, policy: Any, explore: bool, num_tasks: int = 3) -> list[Any]:
    agent = rl2.make_agent(family, config)._replace(explores=lambda index, scored: explore)
    task = family.sample_tasks(np.random.default_rng(0), num_tasks)
    return list(rollout.trial(family, agent, policy, task, jax.random.key(1), 2))


@functools.partial(jax.jit, static_argnums=2)
def log_densities(policy: Any, trials: rl2.Trials, config: Rl2Settings) -> Any:
    return rl2.densities(policy, trials.seen, trials.action, trials.real, config.backpropagation_steps)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("end_at", [99, 4])
def test_learning_sees_what_the_agent_saw(cell: str, end_at: int):
    """The network over whole sequences gives the densities of the actions that the agent took step by step, with
    episodes of full length and shorter ones, and the hidden state carried from one to the next."""
    family, config = Bandit(end_at), dataclasses.replace(SMALL, cell=cell)
    policy = rl2.init(family, config, 0).policy
    trial = played(family, config, policy, explore=True)
    gathered = rl2.without_padding(rl2.gather([one.episode for one in trial], config))
    old = log_densities(policy, gathered, config)
    agent = rl2.make_agent(family, config)
    act, observe = jax.jit(agent.act, static_argnums=4), jax.jit(agent.observe)

    @jax.jit
    def density_of(seen: Any, hidden: Any, action: Any) -> Any:
        return on_policy.log_density(policy(seen, hidden)[0], action)

    memory, at = agent.begin(policy, {"chances": np.zeros((3, 2))}, jax.random.key(0)), 0
    for one in trial:
        for time in range(min(family.horizon, end_at)):
            step = jax.tree.map(lambda x, t=time: x[:, t], one.episode.transitions)
            seen = rl2.what_is_seen(step.obs, memory.action, memory.reward, memory.ended)
            np.testing.assert_allclose(gathered.seen[:, at], seen, atol=1e-6)
            density = density_of(seen, memory.hidden, step.action)
            np.testing.assert_allclose(old[:, at], density, rtol=1e-4, atol=1e-5)
            _, memory = act(policy, memory, step.obs, jax.random.key(0), False)
            memory, at = observe(policy, memory, step), at + 1
        memory = agent.end_episode(policy, memory, jax.random.key(0))
    assert int(gathered.real.sum()) == 3 * 2 * min(family.horizon, end_at)


def test_padding_is_left_out_and_changes_nothing():
    """Of trials whose episodes end after 1 to 10 steps, what is NaN in the padding: the update is the same without."""
    family = Bandit()
    state = rl2.init(family, SMALL, 0)
    length = np.array([[1, 3], [4, 2], [2, 5]])
    episodes = []
    for index, one in enumerate(played(family, SMALL, state.policy, explore=True)):
        real = np.arange(family.horizon) < length[:, index, None]
        steps = one.episode.transitions
        blank = steps._replace(
            reward=np.where(real, steps.reward, np.nan), obs=np.where(real[..., None], steps.obs, np.nan)
        )
        episodes.append(one.episode._replace(transitions=blank, length=length[:, index]))
    whole = rl2.gather(episodes, SMALL)
    short = rl2.without_padding(whole)
    assert whole.real.shape == (3, 20) and short.real.shape == (3, 10)  # half holds the longest trial's 7 steps
    np.testing.assert_array_equal(short.real.sum(axis=1), length.sum(axis=1))
    trained = [rl2._train(state.policy, state.optimiser, trials, SMALL) for trials in (whole, short)]
    for ours, theirs in zip(*map(jax.tree.leaves, trained), strict=True):
        assert np.isfinite(ours).all()
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_an_iteration_trains_on_no_more_than_the_steps_taken(monkeypatch: pytest.MonkeyPatch):
    family, seen, train = Bandit(end_at=4), [], rl2._train
    monkeypatch.setattr(rl2, "_train", lambda *args: (seen.append(args[2]), train(*args))[1])
    next(rl2.meta_train(family, SMALL, family.task_set(0, 3, 2), [rl2.init(family, SMALL, 0)]))
    assert [trials.real.shape for trials in seen] == [(3, 10)]  # of 20 steps; 8 are taken
    assert int(seen[0].real.sum()) == 3 * 8


def test_the_hidden_state_and_the_last_reward_outlive_an_episode_but_not_a_trial():
    policy = rl2.init(FAMILY, SMALL, 0).policy
    trial = played(FAMILY, SMALL, policy, explore=True)
    second = trial[1].memory_before
    np.testing.assert_array_equal(second.ended, 1.0)
    np.testing.assert_array_equal(second.reward, trial[0].episode.transitions.reward[:, -1])
    assert all((np.asarray(h) != 0).any() for h in second.hidden)
    first = trial[0].memory_before
    assert all((np.asarray(h) == 0).all() for h in jax.tree.leaves(first))


def advantages_by_hand(sequences: list[np.ndarray], gamma: float, lam: float) -> np.ndarray:
    """Of rewards, one array a sequence over which they are summed: the advantages of all steps, one after another.

    Discounted sums less their ridge regression on time, generalised over steps, then normalised over all sequences."""
    rows, sums = [], []
    for rewards in sequences:
        for t in range(len(rewards)):
            rows.append([t / 100, (t / 100) ** 2, (t / 100) ** 3, 1.0])
            sums.append(sum(gamma ** (k - t) * rewards[k] for k in range(t, len(rewards))))
    x, y, found = np.array(rows), np.array(sums), []
    values = x @ np.linalg.solve(x.T @ x + 1e-5 * np.eye(4), x.T @ y)
    for rewards in sequences:
        own, values = np.append(values[: len(rewards)], 0.0), values[len(rewards) :]
        errors = rewards + gamma * own[1:] - own[:-1]
        found += [sum((gamma * lam) ** (k - t) * errors[k] for k in range(t, len(errors))) for t in range(len(errors))]
    return (np.array(found) - np.mean(found)) / (np.std(found) + 1e-8)


@pytest.mark.parametrize("credit", ["trial", "episode"])
@pytest.mark.parametrize("lengths", [(9, 9), (4, 7)])
def test_credit_is_for_the_trial_or_for_the_episode(credit: Any, lengths: tuple[int, int]):
    """Against sums by hand in float64, over the whole trial or over each episode, with padding behind both."""
    rng = np.random.default_rng(0)
    real, reward = np.arange(9) < np.array(lengths)[:, None], rng.normal(size=(2, 9))
    reward[~real] = 99.0
    sequences = [reward[i, : lengths[i]] for i in range(2)]
    sequences = [np.concatenate(sequences)] if credit == "trial" else sequences
    expected = np.zeros((2, 9))
    expected[real] = advantages_by_hand(sequences, 0.9, 0.7)
    config = dataclasses.replace(SMALL, credit=credit, discount=0.9, gae_lambda=0.7)
    with jax.enable_x64(True):
        given = on_policy.Rollouts(rng.normal(size=(2, 9, 3)), rng.normal(size=(2, 9, 2)), reward, real)
        found = assess(jax.tree.map(lambda x: x[None], given), config)[0]
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_a_trial_that_went_better_than_another_of_its_task_pays():
    """Two trials alike, but that one has 1 more reward in every step: alone both are worth 0, together they differ."""
    rng = np.random.default_rng(0)
    reward = np.broadcast_to(rng.normal(size=(1, 2, 9)), (2, 2, 9)) + np.array([0.0, 1.0])[:, None, None]
    shared = [np.broadcast_to(rng.normal(size=(1, 2, 9, dim)), (2, 2, 9, dim)) for dim in (3, 2)]
    given = on_policy.Rollouts(*shared, reward, np.ones((2, 2, 9), bool))
    config = dataclasses.replace(SMALL, credit="trial")
    alone = [assess(jax.tree.map(lambda x, i=i: x[i : i + 1], given), config)[0] for i in range(2)]
    np.testing.assert_allclose(alone[0].mean(), 0.0, atol=1e-5)
    np.testing.assert_allclose(alone[1].mean(), 0.0, atol=1e-5)
    worse, better = assess(given, config).mean(axis=(1, 2))
    assert better > 0.2 and worse < -0.2
    np.testing.assert_allclose(better + worse, 0.0, atol=1e-5)


def test_trials_of_a_task_are_assessed_together():
    policy = rl2.init(FAMILY, TRIALS, 0).policy
    episodes = [one.episode for one in played(FAMILY, TRIALS, policy, True, num_tasks=6)]
    each = [on_policy.as_rollouts(one, 2) for one in episodes]  # [task, trial, time]
    together = [assess(jax.tree.map(lambda *x, i=i: np.stack([y[i] for y in x], 1), *each), TRIALS) for i in range(2)]
    found = rl2.gather(episodes, config=TRIALS).advantage
    np.testing.assert_allclose(found, np.concatenate(together).reshape(6, -1), atol=1e-6)


def test_gradients_go_back_as_many_steps_as_they_may():
    """Of the density at one time with respect to what was seen before it."""
    policy = rl2.init(FAMILY, SMALL, 0).policy
    rng = np.random.default_rng(0)
    seen, action = jnp.asarray(rng.normal(size=(1, 20, 6))), jnp.asarray(rng.normal(size=(1, 20, 2)))
    real = jnp.ones((1, 20), bool)

    def last(seen: Any) -> Any:
        return rl2.densities(policy, seen, action, real, 7)[0, 19]

    reached = np.asarray(jnp.abs(jax.jit(jax.grad(last))(seen)).sum(axis=-1))[0] > 0
    assert reached.tolist() == [False] * 14 + [True] * 6


def test_ppo_pays_no_more_beyond_its_clip_and_its_first_gradient_is_the_policy_gradient():
    policy = rl2.init(FAMILY, SMALL, 0).policy
    gathered = rl2.gather([one.episode for one in played(FAMILY, SMALL, policy, explore=True)], SMALL)
    old = log_densities(policy, gathered, SMALL)

    def plain(policy: Any) -> Any:
        new = rl2.densities(policy, gathered.seen, gathered.action, gathered.real, SMALL.backpropagation_steps)
        return -on_policy.masked_mean(gathered.advantage * new, gathered.real)

    both = jax.jit(jax.value_and_grad(lambda p, data, old: rl2.ppo_loss(p, data, old, SMALL), has_aux=True))
    first, expected = both(policy, gathered, old)[1], jax.jit(jax.grad(plain))(policy)
    for ours, theirs in zip(jax.tree.leaves(first), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    far = gathered._replace(advantage=jnp.ones_like(gathered.advantage))
    (loss, metrics), gradient = both(policy, far, old - 5.0)
    np.testing.assert_allclose(loss, -1.2, rtol=1e-5)
    assert metrics["clipped_share"] == 1.0
    assert all((np.asarray(g) == 0).all() for g in jax.tree.leaves(gradient))


def test_an_iteration_counts_its_steps_and_the_agent_explores_as_configured():
    tasks = FAMILY.task_set(0, 3, 2)
    state = rl2.init(FAMILY, TRIALS, 0)
    (after,), (metrics,) = next(rl2.meta_train(FAMILY, TRIALS, tasks, [state]))
    assert after.env_steps == 2 * 3 * 2 * FAMILY.horizon and after.grad_steps == 5 and after.meta_iterations == 1
    assert np.isfinite(metrics["policy_loss"]).all()
    assert metrics["policy_loss"].shape == metrics["return_last"].shape == (5,)
    for samples in (False, True):
        agent = rl2.make_agent(FAMILY, dataclasses.replace(SMALL, sample_in_trials=samples))
        assert agent.explores(0, 2) is agent.explores(2, 2) is samples


def optimum(pulls: int) -> float:
    """Expected reward of the best way to pull two arms of unknown chance U(0, 1), by recursion over counts."""

    @functools.cache
    def value(wins_a: int, losses_a: int, wins_b: int, losses_b: int) -> float:
        if wins_a + losses_a + wins_b + losses_b == pulls:
            return 0.0
        arms = []
        for wins, losses, won, lost in (
            (wins_a, losses_a, (wins_a + 1, losses_a, wins_b, losses_b), (wins_a, losses_a + 1, wins_b, losses_b)),
            (wins_b, losses_b, (wins_a, losses_a, wins_b + 1, losses_b), (wins_a, losses_a, wins_b, losses_b + 1)),
        ):
            chance = (wins + 1) / (wins + losses + 2)
            arms.append(chance * (1 + value(*won)) + (1 - chance) * value(*lost))
        return max(arms)

    return value(0, 0, 0, 0)


@pytest.mark.slow
def test_it_learns_a_bandit_near_the_optimum_of_its_horizon():
    """Two episodes of ten pulls are one trial of twenty; a random puller earns 10."""
    family = Bandit()
    config = Rl2Settings(
        num_train_tasks=1000, tasks_per_iteration=500, iterations=300, learning_rate=3e-3, discount=1.0, cell="gru"
    )
    tasks, start = family.task_set(0, 1000, 2), rl2.init(family, config, 0)
    *_, ((state,), _) = rl2.meta_train(family, config, tasks, [start])
    fresh = family.sample_tasks(np.random.default_rng(5), 4000)
    agent = rl2.make_agent(family, config)
    returns = rollout.evaluate(family, fresh, agent, state.policy, jax.random.key(9), 2, 1)
    earned, best = returns.sum(axis=-1).mean(), optimum(20)
    assert best == pytest.approx(12.43, abs=0.01)
    assert earned > 10 + 0.85 * (best - 10), f"{earned:.2f} of {best:.2f}"
