"""What the benchmarks share."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from nacre.algorithms import pearl
from nacre.presets.pearl import PearlSettings
from nacre.runs.experiment import Experiment

Result = dict[str, float | int | str]
"""The figures of a benchmark, by name."""


def pearl_settings(experiment: Experiment) -> PearlSettings:
    """The experiment's settings, which are PEARL's."""
    assert isinstance(experiment.settings, PearlSettings)
    return experiment.settings


def made_up_hypotheses(experiment: Experiment) -> Any:
    """Random numbers in the place of what an agent would believe of its train tasks."""
    state = jax.eval_shape(lambda: experiment.algorithm.init(experiment.family, experiment.settings, 0))
    shapes, rng = jax.eval_shape(experiment.hypotheses, state), np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 1.0, leaf.shape).astype(leaf.dtype), shapes)


def untrained(experiment: Experiment) -> pearl.Params:
    """What acting needs, before any update."""
    family, config = experiment.family, pearl_settings(experiment)
    networks, _ = pearl.init_learner(family.obs_dim, family.action_dim, config, jax.random.key(0))
    return pearl.Params(networks.encoder, networks.policy, rewards=networks.rewards)
