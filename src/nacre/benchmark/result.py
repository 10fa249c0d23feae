"""What the benchmarks share."""

from __future__ import annotations

import jax

from nacre.algorithms import pearl
from nacre.learning import soft_actor_critic
from nacre.runs.experiment import Experiment

Result = dict[str, float | int | str]
"""The figures of a benchmark, by name."""


def untrained(experiment: Experiment) -> pearl.Params:
    """What acting needs, before any update."""
    family, config = experiment.family, experiment.settings
    networks = soft_actor_critic.init_networks(family.obs_dim, family.action_dim, config, jax.random.key(0))
    return pearl.Params(networks.encoder, networks.policy)
