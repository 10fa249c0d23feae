"""MACAW: its losses, what each gradient reaches, adaptation, disjoint batches, the agent, and that it learns."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import nacre
from logged_tasks import FAMILY, TASKS, logs_of_two_tasks, mean_returns, tasks_of
from nacre.algorithms import macaw
from nacre.families.half_cheetah import CheetahVel
from nacre.learning import advantage_weighting as awr
from nacre.learning import inner_loop
from nacre.learning.offline import Logs
from nacre.learning.weight_transform import Layer, all_weights
from nacre.presets.macaw import PRESETS, MacawSettings
from nacre.presets.settings import row_of
from nacre.types import Logged, Transition

SMALL = MacawSettings(**row_of(PRESETS["smoke"], CheetahVel))
TINY = dataclasses.replace(SMALL, hidden_dim=3, latent_dim=2, num_hidden_layers=1, inner_learning_rate=0.05)


@functools.cache
def some_networks(config: MacawSettings = SMALL) -> macaw.Networks:
    networks: macaw.Networks = macaw.init(FAMILY, config, 0).networks
    return networks


def some_logged(seed: int, *axes: int) -> Logged:
    rng = np.random.default_rng(seed)
    obs, action, reward = rng.normal(size=(*axes, 2)), rng.uniform(-1, 1, (*axes, 2)), rng.normal(size=axes)
    step = Transition(obs, action, reward, reward, np.ones(axes), rng.normal(size=(*axes, 2)))
    last_discount = rng.integers(0, 2, axes).astype(float)
    return jax.tree.map(
        jnp.asarray, Logged(step, rng.normal(size=axes), rng.integers(1, 9, axes), obs + 1, last_discount)
    )


def test_weights_of_actions() -> None:
    advantages = jnp.array([0.0, 1.0])
    np.testing.assert_allclose(awr.action_weights(advantages, SMALL), [0.4931, 2.0281], atol=1e-4)
    plain = dataclasses.replace(SMALL, normalise_advantages=False, temperature=2.0)
    np.testing.assert_allclose(awr.action_weights(advantages, plain), np.exp([0, 0.5]), rtol=1e-6)
    np.testing.assert_allclose(np.log(awr.action_weights(advantages + 500, plain)), 2.9957, atol=1e-4)
    np.testing.assert_allclose(awr.action_weights(jnp.full(3, -700.0), SMALL), 1)  # all equal: none is better
    for scale in (1e-2, 1e3):  # a family's rewards may be of any size
        same = awr.action_weights(scale * jnp.array([1.0, 2.0, 5.0]), SMALL)
        np.testing.assert_allclose(same, awr.action_weights(jnp.array([1.0, 2.0, 5.0]), SMALL), rtol=1e-4)


def test_learnt_rates_begin_at_a_thousandth() -> None:
    rates = inner_loop.rates(some_networks().policy, some_networks().policy_rates, SMALL)
    for rate in jax.tree.leaves(rates):
        assert rate.shape == () and float(rate) == pytest.approx(9.995e-4, abs=1e-7)
    latent_only = dataclasses.replace(SMALL, adapt="latent")
    layer, *_ = inner_loop.rates(some_networks().policy, some_networks().policy_rates, latent_only)
    assert (float(layer.offset), float(layer.generator)) == (0, 0) and layer.latent > 0


def test_nothing_is_expected_after_a_fall() -> None:
    networks, logged = some_networks(), some_logged(0, 6)
    weights = all_weights(networks.value)
    at_end = awr.value(weights, logged.last_obs)
    ahead = {
        kind: np.asarray(awr.expected_after_end(weights, logged, dataclasses.replace(SMALL, bootstrap=kind)))
        for kind in ("masked", "unmasked")
    }
    np.testing.assert_allclose(ahead["unmasked"], 0.99**logged.steps_to_end * at_end, rtol=1e-5)
    assert {0.0, 1.0} == set(np.asarray(logged.last_discount).tolist())
    np.testing.assert_array_equal(ahead["masked"], np.where(logged.last_discount == 0, 0, ahead["unmasked"]))
    without = awr.advantage(weights, logged, dataclasses.replace(SMALL, bootstrap="none"))
    np.testing.assert_allclose(without, logged.return_to_go - awr.value(weights, logged.transition.obs), rtol=1e-6)
    np.testing.assert_allclose(awr.advantage(weights, logged, SMALL), without + ahead["masked"], rtol=1e-5)


def test_each_loss_reaches_its_own_networks() -> None:
    inner, outer = some_logged(1, 8), some_logged(2, 8)

    @jax.jit
    def reached(networks: macaw.Networks) -> list[macaw.Networks]:
        """For each loss, the largest entry of its gradient in every part of the networks."""
        found = []
        for which in range(2):
            gradient = jax.grad(lambda x, i=which: macaw.outer_losses(x, inner, outer, TINY)[i])(networks)
            parts = [[jnp.max(jnp.abs(x)) for x in jax.tree.leaves(part)] for part in gradient]
            found.append(macaw.Networks(*(jnp.max(jnp.stack(part)) for part in parts)))
        return found

    by_value, by_policy = ({n for n, x in g._asdict().items() if x > 0} for g in reached(some_networks(TINY)))
    assert by_value == {"value", "value_rates"}
    assert by_policy == {"policy", "policy_rates", "head", "head_weight"}  # the adapted head is not used again


def test_the_meta_gradient_is_that_of_finite_differences(float64) -> None:
    """Of the policy, with weights of actions that do not depend on it."""
    networks = jax.tree.map(lambda x: x.astype(jnp.float64), some_networks(TINY))
    drawn = (some_logged(3, 2, 5), some_logged(4, 2, 5))
    flat, unravel = ravel_pytree((networks.policy, networks.head, networks.policy_rates, networks.head_weight))

    @jax.jit
    def loss(flat: Any) -> Any:
        policy, head, policy_rates, head_weight = unravel(flat)
        changed = networks._replace(policy=policy, head=head, policy_rates=policy_rates, head_weight=head_weight)
        return macaw.meta_loss(changed, drawn, TINY)[0]

    gradient = jax.jit(jax.grad(loss))(flat)
    for direction in np.random.default_rng(0).normal(size=(5, len(flat))):
        step = 1e-5 * direction
        slope = (loss(flat + step) - loss(flat - step)) / 2e-5
        assert float(gradient @ direction) == pytest.approx(float(slope), rel=1e-5)


def numbered_logs(sizes: tuple[int, ...]) -> Logs:
    first = np.cumsum((0, *sizes[:-1]))
    return Logs(None, None, None, first.astype(np.int32), np.asarray(sizes, np.int32))


def test_no_row_is_in_both_batches_and_every_row_comes_into_both() -> None:
    sizes = (2, 7, 25, 100)
    logs, task = numbered_logs(sizes), jnp.arange(4)
    config = dataclasses.replace(SMALL, inner_batch_size=64, batch_size=64)
    draw = jax.jit(lambda key: inner_loop.inner_and_outer_rows(logs, task, 10, config, key))
    seen: list[tuple[set[int], set[int]]] = [(set(), set()) for _ in sizes]
    for seed in range(40):
        inner, outer = map(np.asarray, draw(jax.random.key(seed)))
        for number, size in enumerate(sizes):
            own_inner, own_outer = set(inner[number].tolist()), set(outer[number].tolist())
            assert not own_inner & own_outer
            assert own_inner | own_outer <= set(range(logs.first_row[number], logs.first_row[number] + size))
            seen[number][0].update(own_inner)
            seen[number][1].update(own_outer)
    assert all(len(inner) == len(outer) == size for (inner, outer), size in zip(seen, sizes, strict=True))


def test_contiguous_rows_are_of_one_stretch() -> None:
    config = dataclasses.replace(SMALL, inner_rows="contiguous", inner_stride=7)
    inner, outer = inner_loop.inner_and_outer_rows(
        numbered_logs((300,)), jnp.zeros(1, int), 10, config, jax.random.key(0)
    )
    assert set(np.diff(np.asarray(inner)[0]).tolist()) == {7}
    assert outer.shape == (1, config.batch_size)


@pytest.mark.parametrize("transform", ["none", "none-equal-size"])
def test_networks_without_the_transform_are_as_wide_or_as_large(transform: Any) -> None:
    def sizes(config: MacawSettings) -> tuple[int, int]:
        networks = jax.eval_shape(lambda: macaw.init(FAMILY, config, 0)).networks
        return sum(x.size for x in jax.tree.leaves(networks.policy)), networks.policy[-1].offset.size

    whole, last = sizes(SMALL)
    other, other_last = sizes(dataclasses.replace(SMALL, weight_transform=transform))
    if transform == "none":
        assert other_last == last and other < whole
    else:
        assert 1 <= other / whole < 1.2 and other_last > last


def test_a_split_batch_gives_each_step_a_part_of_it() -> None:
    """Two steps on two parts are one on the first, then one on the second; what is left over counts for nothing."""
    plain = dataclasses.replace(TINY, weight_transform="none", split_inner_batch=True, bootstrap="none")
    networks, logged = some_networks(plain), some_logged(6, 9)

    def after_one(networks: macaw.Networks, logged: Logged) -> macaw.Networks:
        rows = macaw.adapt_value(networks, logged, 1, plain)
        return networks._replace(value=tuple(Layer(row, None, None) for row in rows))

    @jax.jit
    def values(networks: macaw.Networks) -> tuple[Any, Any]:
        first, second = (jax.tree.map(lambda x, s=s: x[s : s + 4], logged) for s in (0, 4))
        one_by_one = after_one(after_one(networks, first), second)
        return macaw.adapt_value(networks, logged, 2, plain), all_weights(one_by_one.value)

    @jax.jit
    def policy(logged: Logged) -> Any:
        return macaw.adapt(networks, logged, 2, plain).policy

    for found, expected in zip(*values(networks), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    last, swapped = (np.r_[:8, 0], np.r_[4:8, :4, 8])
    first, same, other = (policy(jax.tree.map(lambda x, at=at: x[at], logged)) for at in (np.arange(9), last, swapped))
    for x, y, z in zip(first, same, other, strict=True):
        np.testing.assert_array_equal(x, y)
        assert not np.array_equal(x, z), "the parts come one after another"
    with pytest.raises(nacre.NacreError, match="9 transitions cannot be cut into 10 parts"):
        inner_loop.in_parts(logged, 10)


def test_with_a_bias_transform_layers_are_as_wide_and_their_biases_have_a_latent_vector() -> None:
    bias = dataclasses.replace(TINY, weight_transform="bias")
    networks = jax.eval_shape(lambda: macaw.init(FAMILY, bias, 0)).networks
    assert [(x.offset.size, x.latent.shape, x.generator.shape) for x in networks.policy] == [
        (3 * 3, (3,), (3, 3)), (4 * 2, (2,), (2, 2))
    ]  # fmt: skip
    logged = some_logged(7, 6)
    adapted = jax.eval_shape(lambda x: macaw.adapt(x, logged, 3, bias), networks)
    assert [x.shape for x in adapted.policy] == [(9,), (8,)]


def test_the_agent_acts_as_the_meta_policy_until_it_has_adapted() -> None:
    lanes = jax.tree.map(lambda x: jnp.stack([x, x]), some_logged(5, 8))
    obs, key, networks = jnp.array([[0.3, -0.2], [0.3, -0.2]]), jax.random.key(0), some_networks(TINY)
    agents = {
        steps: macaw.make_agent(FAMILY, dataclasses.replace(TINY, protocol=f"gradient-steps:{steps}"))
        for steps in (0, 1, 3)
    }

    @jax.jit
    def actions(networks: macaw.Networks) -> dict[int, Any]:
        """By each agent, without and with logged transitions, [lane, 2]."""
        found = {}
        for steps, agent in agents.items():
            before = agent.begin(networks, tasks_of([0, 1]), key)
            after = agent.absorb(networks, before, lanes, key)
            assert sum(x.size for x in jax.tree.leaves(after)) == 2 * (3 * 3 + 4 * 2)  # weights, no generators
            found[steps] = tuple(agent.act(networks, memory, obs, key, False)[0] for memory in (before, after))
        return found

    by_steps = actions(networks)
    meta_policy, _ = awr.act_and_features(all_weights(networks.policy), obs)
    for before, after in by_steps.values():
        np.testing.assert_allclose(before, meta_policy, rtol=1e-5)
        np.testing.assert_array_equal(after[0], after[1])  # the same context in two lanes
    np.testing.assert_allclose(*by_steps[0], rtol=1e-5)
    assert not np.allclose(by_steps[1][1], meta_policy) and not np.allclose(by_steps[3][1], by_steps[1][1])


def test_protocols_without_logged_transitions_are_refused() -> None:
    with pytest.raises(nacre.NacreError, match="gradient-steps:K"):
        MacawSettings(protocol="online-prior").check_family(FAMILY)
    assert MacawSettings(protocol="gradient-steps:20").num_test_steps == 20
    assert MacawSettings(protocol="offline-other-context", num_inner_steps=2).num_test_steps == 2


@pytest.mark.slow
def test_a_run_of_four_updates_is_two_runs_of_two() -> None:
    config = dataclasses.replace(TINY, **row_of(PRESETS["released"], CheetahVel))
    logs = logs_of_two_tasks(3)
    both = trained(config, logs, iterations=2)
    config = dataclasses.replace(config, iterations=2)
    (first,), _ = next(macaw.meta_train(FAMILY, config, TASKS, [macaw.init(FAMILY, config, 0)], logs))
    assert config.split_inner_batch
    assert (int(first.grad_steps), int(first.meta_iterations)) == (2, 1)
    *_, (states, _) = macaw.meta_train(FAMILY, config, TASKS, [first], logs)
    assert int(states[0].grad_steps) == 4
    jax.tree.map(np.testing.assert_array_equal, states[0].networks, both[0].networks)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(states[0].networks))


def trained(config: MacawSettings, logs: Logs, iterations: int) -> list[Any]:
    config = dataclasses.replace(config, iterations=iterations)
    *_, (states, _) = macaw.meta_train(FAMILY, config, TASKS, [macaw.init(FAMILY, config, 0)], logs)
    return states


@pytest.mark.slow
def test_adapted_policies_of_both_tasks_beat_the_one_before() -> None:
    """Two point robots with goals on opposite sides, logged by controllers of every quality."""
    config = MacawSettings(
        hidden_dim=32, latent_dim=32, num_train_steps_per_iteration=500, iterations=1, learning_rate=1e-3,
        value_learning_rate=1e-3, batch_size=128, inner_batch_size=128, discount=0.9, num_context_transitions=128,
    )  # fmt: skip
    logs = logs_of_two_tasks(100)
    (state,) = trained(config, logs, iterations=1)
    after, before = (mean_returns(macaw, config, state, logs, steps) for steps in (1, 0))
    print("after one step", after, "before", before)
    assert (after > before + 3).all()
