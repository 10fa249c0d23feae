"""What the benchmarks share."""

from __future__ import annotations

import jax

from nacre.algorithms import pearl
from nacre.errors import NacreError
from nacre.presets.pearl import PearlSettings
from nacre.runs.experiment import Experiment

Result = dict[str, float | int | str]
"""The figures of a benchmark, by name."""


def pearl_settings(experiment: Experiment) -> PearlSettings:
    """The experiment's settings, which must be PEARL's."""
    if not isinstance(experiment.settings, PearlSettings):
        raise NacreError(f"this benchmark is of PEARL, not of {experiment.algorithm_name}; leave --algorithm out.")
    return experiment.settings


def untrained(experiment: Experiment) -> pearl.Params:
    """What acting needs, before any update."""
    family, config = experiment.family, pearl_settings(experiment)
    networks, _ = pearl.init_learner(family.obs_dim, family.action_dim, config, jax.random.key(0))
    return pearl.Params(networks.encoder, networks.policy)
