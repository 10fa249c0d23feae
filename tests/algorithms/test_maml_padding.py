"""Updates of MAML-TRPO and ProMP leave out the steps that are not real, and come to the same."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import nacre
from made_up_rollouts import SMALL, a_policy, gathered, some_rollouts
from nacre.algorithms import maml
from nacre.learning import on_policy
from nacre.presets.maml import MamlTrpoSettings, PrompSettings

trpo_update = jax.jit(maml.trpo_update, static_argnames="config")
promp_update = jax.jit(maml.promp_update, static_argnames="config")


@pytest.mark.parametrize("num_inner_steps", [1, 2])
@pytest.mark.parametrize("settings", [PrompSettings, MamlTrpoSettings])
def test_updates_come_to_the_same_without_the_padding(float64: None, settings: Any, num_inner_steps: int):
    """Where episodes end early: the steps of a task stand together, and few that are not real come after them."""
    config, policy = settings(**SMALL, num_inner_steps=num_inner_steps), a_policy()
    padded = [some_rollouts(inner, 3, 4, 60) for inner in range(num_inner_steps + 1)]
    padded = [one._replace(real=one.real & (jnp.arange(60) < 11)) for one in padded]
    steps = gathered(policy, padded, config)
    short = on_policy.without_padding(steps, [step.rollouts.real for step in steps])
    for step, whole in zip(short, steps, strict=True):
        assert step.rollouts.real.shape == (3, 1, 60) and jnp.sum(step.rollouts.real) == jnp.sum(whole.rollouts.real)
        for packed, all_steps in zip(jax.tree.leaves(step), jax.tree.leaves(whole), strict=True):
            for task in range(3):  # in their order
                np.testing.assert_array_equal(
                    packed[task][step.rollouts.real[task]], all_steps[task][whole.rollouts.real[task]]
                )
    by_adam = isinstance(config, PrompSettings)
    update = promp_update if by_adam else trpo_update
    learner = maml.Learner(policy, optax.adam(1e-3).init(policy) if by_adam else None, jnp.ones(num_inner_steps))
    found, wanted = (update(learner, one, config) for one in (short, steps))
    assert by_adam or wanted[1]["step_accepted"] == 1
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
    assert not np.allclose(found[0].policy.weights[0], policy.weights[0], atol=1e-6)


def test_an_iteration_with_a_robot_that_falls_updates_without_the_padding(monkeypatch: pytest.MonkeyPatch):
    family, config = nacre.make_family("hopper-gravity"), PrompSettings(**SMALL)
    tasks = family.task_set(0, 3, 2)
    state, outer = maml.init(family, config, 0), maml._outer
    seen = []

    def noting(learner: Any, steps: Any, config: Any) -> Any:
        seen.append([step.rollouts.real.shape for step in steps])
        return outer(learner, steps, config)

    monkeypatch.setattr(maml, "_outer", noting)
    short, metrics = maml.iteration(family, config, tasks.train, state)
    monkeypatch.setattr(on_policy, "without_padding", lambda data, real: data)
    whole, whole_metrics = maml.iteration(family, config, tasks.train, state)
    assert seen[1] == [(3, 4, 200)] * 2
    assert seen[0] == [(3, 1, seen[0][0][2])] * 2 and short.env_steps / 6 <= seen[0][0][2] <= 4 * 200 / 2
    for one, other in zip(jax.tree.leaves(short.learner), jax.tree.leaves(whole.learner), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(metrics["inner_kl"], whole_metrics["inner_kl"], rtol=1e-3, atol=1e-6)


def test_padding_stays_where_a_task_has_more_than_half_of_its_steps():
    full = some_rollouts(0, 3, 4, 60)._replace(real=jnp.ones((3, 4, 60), bool))
    short = full._replace(real=full.real.at[:, :, 1:].set(False))
    of_one = full._replace(real=full.real.at[:2, :, 1:].set(False))
    for rollouts in ([full], [of_one], [short, of_one]):
        found = on_policy.without_padding(rollouts, [one.real for one in rollouts])
        assert all(one is given for one, given in zip(found, rollouts, strict=True))
    (found,) = on_policy.without_padding([short], [short.real])
    assert found.real.shape == (3, 1, 7) and jnp.sum(found.real) == 3 * 4  # 240 rows, halved while they hold 4
