"""The noise of collected actions: white or pink, of the same distribution at every step, and in collections alone."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nacre
from nacre.algorithms import oracle, pearl
from nacre.families.point import PointRobot
from nacre.learning import action_noise
from nacre.presets.oracle import OracleSettings
from nacre.presets.pearl import PearlSettings
from nacre.simulation import rollout

NUM_LANES = 2000
FAMILY = PointRobot()
SMALL = PearlSettings(hidden_dim=8, encoder_hidden_dim=8, num_hidden_layers=1)


def lag(noise: np.ndarray, steps: int) -> float:
    """The correlation of what is drawn with what is drawn so many steps later; noise is [step, ...]."""
    return float((noise[steps:] * noise[:-steps]).mean() if steps else (noise**2).mean())


def test_white_noise_remembers_nothing_and_is_of_the_key_alone():
    remembered = action_noise.begin("white", (3, 2), jax.random.key(0))
    noise, after = action_noise.draw(remembered, (3, 2), jax.random.key(1))
    np.testing.assert_array_equal(noise, jax.random.normal(jax.random.key(1), (3, 2)))
    assert remembered == after == ()


def test_pink_noise_is_standard_normal_at_every_step_and_its_correlation_falls_with_every_doubling():
    remembered, drawn = action_noise.begin("pink", (NUM_LANES, 2), jax.random.key(0)), []
    for step in range(200):
        noise, remembered = action_noise.draw(remembered, (NUM_LANES, 2), jax.random.key(step + 1))
        drawn.append(np.asarray(noise))
    noise = np.stack(drawn)
    np.testing.assert_allclose(noise.std(axis=(1, 2)), 1.0, atol=0.06)  # the first step too
    np.testing.assert_allclose(noise.mean(axis=(1, 2)), 0.0, atol=0.08)
    assert np.mean(noise**4) == pytest.approx(3.0, abs=0.1)
    lags = [lag(noise, steps) for steps in (0, 1, 2, 4, 8, 16, 32, 64)]
    falls = -np.diff(lags)
    assert np.all((falls > 0.06) & (falls < 0.28)), lags
    assert abs(float((noise[:, 1:] * noise[:, :-1]).mean())) < 0.02  # lanes are independent
    assert abs(float((noise[..., 0] * noise[..., 1]).mean())) < 0.02  # and so are the parts of an action


def noise_of(agent, params, policy, z_of) -> np.ndarray:
    """The noise [step, lane, action_dim] of the actions of one exploring episode."""
    task = FAMILY.sample_tasks(np.random.default_rng(0), NUM_LANES)
    begun = rollout.begin(agent, params, task, jax.random.key(1))
    _, played = rollout.episode(FAMILY, agent, params, begun, task, jax.random.key(2), explore=True)
    obs, action = (jnp.asarray(x).swapaxes(0, 1) for x in (played.transitions.obs, played.transitions.action))
    output = policy(obs, jnp.broadcast_to(z_of(begun), (*obs.shape[:2], z_of(begun).shape[-1])))
    return np.asarray((jnp.arctanh(jnp.clip(action, -0.9999, 0.9999)) - output.mean) / jnp.exp(output.log_std))


@pytest.mark.parametrize(("kind", "least", "most"), [("white", -0.05, 0.05), ("pink", 0.65, 0.8)])
def test_collections_of_pearl_and_the_oracle_have_it(kind: str, least: float, most: float) -> None:
    config = dataclasses.replace(SMALL, action_noise=kind)
    params = pearl.agent_params(pearl.init(FAMILY, config, 0))
    noise = noise_of(pearl.procedure(FAMILY, config).agent, params, params.policy, lambda memory: memory.z)
    assert least < lag(noise, 1) < most
    told = OracleSettings(hidden_dim=8, num_hidden_layers=1)
    policy = oracle.agent_params(oracle.init(FAMILY, told, 0))
    noise = noise_of(oracle._agent(FAMILY, kind), policy, policy, lambda memory: memory.z)
    assert least < lag(noise, 1) < most


def test_trials_do_not_depend_on_it():
    assert pearl.make_agent(FAMILY, dataclasses.replace(SMALL, action_noise="pink")) is pearl.make_agent(FAMILY, SMALL)
    pink, white = (oracle.make_agent(FAMILY, OracleSettings(action_noise=kind)) for kind in ("pink", "white"))
    assert pink is white


def test_a_run_of_robots_that_fall_has_the_noise_that_it_would_have_alone():
    """Two seeds side by side in MuJoCo, with episodes that end early, and each of them alone."""
    experiments = [nacre.resolve("oracle", "walker-params", "smoke", seed=seed, action_noise="pink") for seed in (0, 1)]
    states = [oracle.init(one.family, one.settings, one.options.seed) for one in experiments]
    family, settings = experiments[0].family, experiments[0].settings
    tasks = experiments[0].draw_tasks()
    together, _ = next(oracle.meta_train(family, settings, tasks, states))
    alone = oracle.init(family, settings, 1)
    (alone,), _ = next(oracle.meta_train(family, settings, tasks, [alone]))
    for ours, theirs in zip(jax.tree.leaves(together[1].rl_buffer), jax.tree.leaves(alone.rl_buffer), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
