"""MACAW's baselines: behaviour cloning, and multi-task advantage-weighted regression with fine-tuning."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import made_up_data as made_up
import nacre
from documented import undocumented
from logged_tasks import FAMILY, TASKS, logs_of_two_tasks, mean_returns, tasks_of
from nacre.algorithms import bc, multitask
from nacre.families.half_cheetah import CheetahVel
from nacre.learning import advantage_weighting as awr
from nacre.learning import offline
from nacre.learning.weight_transform import all_weights
from nacre.presets.multitask import PRESETS, BcSettings, MultitaskSettings
from nacre.presets.settings import row_of

TINY: dict[str, Any] = dict(hidden_dim=6, num_hidden_layers=1)
MULTI = MultitaskSettings(**row_of(PRESETS["multitask-awr"]["smoke"], CheetahVel) | TINY | dict(num_train_tasks=2))
BC = BcSettings(**row_of(PRESETS["bc"]["smoke"], CheetahVel) | TINY)


def drawn() -> Any:
    """Logged transitions of the two tasks, [task, 8]."""
    return drawn_from(logs_of_two_tasks(4))


@jax.jit
def drawn_from(logs: offline.Logs) -> Any:
    return offline.logged(logs, offline.uniform_rows(logs, jnp.arange(2), 8, jax.random.key(0)), 2)


def test_the_task_stands_behind_every_observation() -> None:
    named = jax.jit(jax.vmap(multitask.told))(drawn(), np.eye(2, dtype=np.float32))
    for obs in (named.transition.obs, named.last_obs):
        np.testing.assert_array_equal(obs[:, :, 2:], np.broadcast_to(np.eye(2)[:, None], (2, 8, 2)))
    np.testing.assert_array_equal(named.transition.obs[..., :2], drawn().transition.obs)


def test_a_new_task_is_told_nothing_and_the_networks_are_tuned_to_it() -> None:
    networks, context = multitask.init(FAMILY, MULTI, 0).networks, drawn()
    obs, key = jnp.array([[0.3, -0.2], [0.3, -0.2]]), jax.random.key(0)
    agents = {
        steps: multitask.make_agent(FAMILY, dataclasses.replace(MULTI, protocol=f"gradient-steps:{steps}"))
        for steps in (0, 5)
    }

    @jax.jit
    def actions(networks: multitask.Networks) -> Any:
        found = []
        for agent in agents.values():
            before = agent.begin(networks, tasks_of([0, 1]), key)
            memories = (before, agent.absorb(networks, before, context, key))
            found.append([agent.act(networks, memory, obs, key, False)[0] for memory in memories])
        return found

    (start, unchanged), (same_start, tuned) = actions(networks)
    untold = jnp.concatenate([obs, jnp.zeros((2, 2))], axis=-1)
    np.testing.assert_allclose(start, awr.act_and_features(networks.policy, untold)[0], rtol=1e-5)
    np.testing.assert_array_equal(start, unchanged)
    np.testing.assert_array_equal(start, same_start)
    assert not np.allclose(tuned, start) and not np.allclose(tuned[0], tuned[1])

    @jax.jit
    def losses(networks: multitask.Networks) -> Any:
        """On one task's transitions, before and after 20 steps on them."""
        own = jax.tree.map(lambda x: x[0], context)
        named = multitask.told(own, jnp.zeros(2))
        after = multitask.fine_tune(networks, own, 20, MULTI)
        return [multitask.value_loss(weights, named, MULTI) for weights in (networks.value, after.value)]

    before, after = losses(networks)
    assert after < before


def test_the_number_of_train_tasks_must_be_known() -> None:
    with pytest.raises(nacre.NacreError, match="--num-train-tasks"):
        multitask.init(FAMILY, MultitaskSettings(), 0)


def test_every_logged_action_weighs_the_same_in_cloning() -> None:
    weights = all_weights(bc.init(FAMILY, BC, 0).networks.policy)
    transition = jax.tree.map(lambda x: x[0], drawn().transition)
    mean, _ = awr.act_and_features(weights, transition.obs)
    off = (np.clip(transition.action, -1, 1) - mean) / BC.policy_std
    expected = np.mean(np.sum(0.5 * off**2 + np.log(BC.policy_std) + 0.5 * np.log(2 * np.pi), axis=-1))
    assert float(bc.loss(weights, transition, BC)) == pytest.approx(float(expected), rel=1e-5)


def test_cloning_all_tasks_together_does_not_adapt_in_training() -> None:
    networks, transition = bc.init(FAMILY, BC, 0).networks, drawn().transition
    other = jax.tree.map(lambda x: x[::-1], transition)

    def loss(inner: Any, meta: bool) -> float:
        config = dataclasses.replace(BC, meta=meta)
        return float(jax.jit(lambda inner: bc.meta_loss(networks, (inner, transition), config))(inner))

    assert loss(transition, False) == loss(other, False)
    assert loss(transition, True) < loss(transition, False)  # a step on the same transitions makes them likelier
    assert dataclasses.replace(BC, meta=False, protocol="offline-own-context").num_test_steps == 0


@pytest.mark.parametrize(  # macaw learns in test_macaw.py, and adapts there and in tests/deploy/test_frozen.py
    "method", ["multitask-awr", *(pytest.param(name, marks=pytest.mark.slow) for name in ("macaw", "bc"))]
)
def test_a_run_on_a_data_set_is_scored_before_and_after_adaptation(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    made_up.write()
    run = nacre.train(
        method, "point-robot", preset="smoke", data=made_up.ID, out=tmp_path / "run", iterations=1, hidden_dim=4
    )
    table = run.metrics()
    assert np.isfinite(table["policy_loss"]).all() and int(table["grad_steps"][-1]) == 2
    assert not undocumented(run.path)
    agent = nacre.load(run.path)
    scores = {k: agent.evaluate(protocol=f"gradient-steps:{k}")[0] for k in (0, 1)}
    assert scores[0].shape == scores[1].shape == (1, 2, 1)
    assert not np.array_equal(scores[0], scores[1])


def trained(method: Any, config: Any, logs: Any) -> Any:
    *_, (states, _) = method.meta_train(FAMILY, config, TASKS, [method.init(FAMILY, config, 0)], logs)
    return states[0]


@pytest.mark.slow
def test_what_the_baselines_reach_on_two_opposite_tasks() -> None:
    """Cloning all behaviour is worse than imitating what turned out well; a policy that is told nothing has to tune."""
    common: dict[str, Any] = dict(
        hidden_dim=32, num_train_steps_per_iteration=500, iterations=1, learning_rate=1e-3, batch_size=128,
        discount=0.9, num_context_transitions=128,
    )  # fmt: skip
    logs = logs_of_two_tasks(100)
    cloning = BcSettings(**common, latent_dim=32, inner_batch_size=128)
    multi = MultitaskSettings(**common, num_train_tasks=2)
    states = {bc: trained(bc, cloning, logs), multitask: trained(multitask, multi, logs)}
    found = {
        (method.__name__.split(".")[-1], steps): mean_returns(method, config, states[method], logs, steps)
        for method, config in ((bc, cloning), (multitask, multi))
        for steps in (0, 1, 5, 20)
    }
    for name, returns in found.items():
        print(name, returns.round(2))
    assert (found["bc", 1] > found["bc", 0] + 1).all()
    assert (found["multitask", 20] > found["multitask", 0]).all()
