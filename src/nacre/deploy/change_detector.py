"""A detector of changes of the task for a trained agent, set by trials in its train tasks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from nacre.algorithms.protocol import Exported
from nacre.deploy.session import seed_key
from nacre.errors import NacreError
from nacre.families.family import Family, TaskSet, num_tasks, take
from nacre.learning import change_detection, exporting
from nacre.learning.change_detection import Params, Usual, Wrong
from nacre.learning.soft_actor_critic import Networks
from nacre.presets.trials import TrialSettings
from nacre.runs.experiment import Experiment
from nacre.simulation import rollout
from nacre.types import Agent, Belief

REPEATS = 2
"""Trials in each train task that say what is usual."""


class Watched(Protocol):
    """What gets a detector: a `TrainedAgent`."""

    experiment: Experiment
    family: Family
    tasks: TaskSet
    networks: Any
    believes: Callable[[Any], Belief] | None

    def functions_for(self, trials: TrialSettings) -> Agent: ...

    def params_for(self, trials: TrialSettings) -> Any: ...


def with_detector(agent: Watched, trials: TrialSettings, false_alarms: float) -> tuple[Agent, Params]:
    """Functions and parameters of the agent with a detector. `false_alarms`: the share of trials in train tasks,
    whose task stays, in which it fires; above 0 and below 1.

    Raises NacreError for methods without a belief or without the critics of a soft actor-critic.
    """
    if not 0 < false_alarms < 1:
        raise NacreError(
            f"the share of trials with a false alarm is {false_alarms}, but must be above 0 and below 1; change "
            "--detect."
        )
    settings, networks = agent.experiment.settings, agent.networks
    if networks is None or agent.believes is None or settings.reward_scale is None:
        raise NacreError(
            f"{agent!r} cannot detect changes, for which it would need a belief and critics; leave out --detect, or "
            "give a run of pearl."
        )
    if trials.meets.logs is not None:
        raise NacreError(
            f"protocol {trials.protocol} gives the agent logged transitions, and no detector can be set from them; "
            "choose another, such as --protocol online-prior."
        )
    wrong = change_detection.wrong(agent.believes, settings.reward_scale, settings.discount)
    first = first_watched(trials)
    usual = _usual(agent, trials, wrong, networks, first, false_alarms)
    watching = change_detection.watching(agent.functions_for(trials), wrong, first)
    return watching, Params(agent.params_for(trials), networks, usual)


def first_watched(trials: TrialSettings) -> int:
    """The first episode of a trial in which a detector listens, counted from 0: that which uses the belief."""
    return min(trials.exploration_episodes or 0, trials.episodes - 1)


def exported(agent: Watched, trials: TrialSettings, params: Params, false_alarms: float) -> Exported:
    """The detector of `with_detector`, for programs without JAX (deploy/numpy_detector.py)."""
    critics, arrays = exporting.critics(params.networks.critics)
    settings, usual = agent.experiment.settings, params.usual
    words = {
        "false_alarms": false_alarms, "wrong": float(usual.wrong), "threshold": float(usual.threshold),
        "reward_scale": settings.reward_scale, "discount": settings.discount,
        "first_episode": first_watched(trials), "critics": critics,
    }  # fmt: skip
    return Exported(words, arrays)


def believes_of_agent(agent: Watched) -> Any:
    """The belief in the memory of the agent with a detector."""
    believes = agent.believes
    assert believes is not None
    return lambda memory: believes(memory.of_agent)


def _usual(
    agent: Watched, trials: TrialSettings, wrong: Wrong, networks: Networks, first: int, false_alarms: float
) -> Usual:
    functions, params, train = agent.functions_for(trials), agent.params_for(trials), agent.tasks.train
    tasks = take(train, np.tile(np.arange(num_tasks(train)), REPEATS))
    errors, real = [], []
    for one in list(rollout.trial(agent.family, functions, params, tasks, seed_key(0), trials.episodes))[first:]:
        errors.append(_errors(functions, wrong, params, networks, one.memory_before, one.episode.transitions))
        real.append(np.arange(agent.family.horizon) < np.asarray(one.episode.length)[:, None])
    return change_detection.usual(np.concatenate(errors, axis=1), np.concatenate(real, axis=1), false_alarms)


def _errors(functions: Agent, wrong: Wrong, params: Any, networks: Networks, memory: Any, transitions: Any) -> Any:
    """How far the critics were wrong at every step of an episode, [lane, time]."""
    by_time = jax.tree.map(lambda x: jnp.asarray(x).swapaxes(0, 1), transitions)
    return np.asarray(_scanned(functions, wrong, params, networks, memory, by_time), np.float64).T


@functools.partial(jax.jit, static_argnames=("functions", "wrong"))
def _scanned(functions: Agent, wrong: Wrong, params: Any, networks: Networks, memory: Any, by_time: Any) -> jax.Array:
    def step(memory: Any, transition: Any) -> tuple[Any, jax.Array]:
        return functions.observe(params, memory, transition), wrong(networks, memory, transition)

    return jax.lax.scan(step, memory, by_time)[1]
