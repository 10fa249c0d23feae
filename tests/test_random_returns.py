"""What uniformly random actions earn in every family: ranges that a changed reward, reset or physics would leave."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from nacre import rollout
from nacre.algorithms import random_policy
from nacre.families.catalog import FAMILIES, OPTIONAL, make_family
from nacre.presets.random_policy import RandomConfig

NUM_TASKS = 50

# Mean return of an episode and its spread over tasks (standard deviation), of 100 episodes on as many tasks, on
# MuJoCo 4.0.
GOLDEN = {
    "point-robot": (-19.83, 10.57),
    "sparse-point-robot": (0.0, 0.5),
    "cheetah-dir": (-28.25, 37.18),
    "cheetah-vel": (-377.6, 168.7),
    "ant-dir": (-31.14, 36.36),
    "ant-goal": (-758.8, 325.6),
    "humanoid-dir": (116.2, 34.59),
    "walker-params": (-0.449, 4.49),
    "hopper-params": (7.399, 6.16),
    "ant-dir-360": (-27.66, 33.29),
    "cheetah-vel-wide": (-811.1, 416.1),
    "ant-gravity": (-40.34, 37.12),
    "cheetah-gravity": (-26.84, 36.84),
    "hopper-gravity": (7.506, 8.97),
    "walker-gravity": (-0.475, 2.90),
    "humanoid-gravity": (116.8, 49.64),
    "cheetah-inversion": (-37.71, 36.58),
    "reacher-inversion": (-42.53, 3.41),
    "point-wind": (-21.20, 6.89),
}


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - set(OPTIONAL)))
def test_a_random_policy_earns_what_it_always_has(name: str):
    """Within five standard errors of the difference between the two means."""
    family, config = make_family(name), RandomConfig()
    tasks = family.sample_tasks(np.random.default_rng(1), NUM_TASKS)
    agent = random_policy.make_agent(family, config)
    returns = rollout.evaluate(family, tasks, agent, np.zeros(()), jax.random.key(1), 1, 1)
    mean, spread = GOLDEN[name]
    assert abs(returns.mean() - mean) < 5 * spread * (1 / NUM_TASKS + 1 / 100) ** 0.5
