"""What an agent sees, does and believes in trials of its train tasks: what guards and detectors go by."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nacre.families.family import Family, num_tasks
from nacre.simulation import rollout
from nacre.types import Agent, Belief, Logged, Tasks, Transition

SHARE_OF_FACTORS = 0.75
"""A factor's precision is capped at the one that so many of the factors in train tasks do not exceed. The sharpest of
them are as sharp as factors may be, so a cap at these would be none."""


class Believed(NamedTuple):
    """What an agent believed after each step of an episode, [lane, time, latent_dim]."""

    mean: np.ndarray
    precision: np.ndarray


def statistics(
    family: Family, functions: Agent, params: Any, tasks: Tasks, key: jax.Array, num_episodes: int,
    believes: Callable[[Any], Belief] | None, logged: Logged | None = None, *, has_factors: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """One trial in each of these tasks, as JSON says it: `trials`, `transitions`, `obs` {low, high} [obs_dim],
    `action_change` [action_dim] (largest of a step); of methods with a belief, `belief` {low, high} of its mean and
    `factor`, the cap of a factor's precision, [latent_dim] (None where no transition adds to a precision, or the
    belief has no factors)."""
    played = list(rollout.trial(family, functions, params, tasks, key, num_episodes, logged))
    obs = _bounds(part for one in played for part in _observations(one.episode))
    words: dict[str, Any] = {
        "trials": num_tasks(tasks),
        "transitions": int(sum(np.asarray(one.episode.length).sum() for one in played)),
        "obs": obs, "action_change": _shown(np.max([_action_change(one.episode) for one in played], axis=0)),
        "belief": None, "factor": None,
    }  # fmt: skip
    if believes is None:
        return words
    believed = [beliefs(functions, params, one, believes) for one in played]
    real = [_is_real(one.episode) for one in played]
    words["belief"] = _bounds(one.mean[mask] for one, mask in zip(believed, real, strict=True))
    added = [(np.diff(one.precision, axis=1), mask[:, 1:]) for one, mask in zip(believed, real, strict=True)]
    precisions = np.concatenate([values[mask] for values, mask in added])  # each is what a transition added
    if has_factors and (precisions > 0).any():
        words["factor"] = _shown(np.quantile(precisions, SHARE_OF_FACTORS, axis=0))
    return words


def beliefs(functions: Agent, params: Any, one: rollout.Played, believes: Callable[[Any], Belief]) -> Believed:
    """The belief after every step of an episode that was played. Precisions are 0 of beliefs without variance."""
    scanned = _scanned(functions, believes, params, one.memory_before, one.episode.transitions)
    mean, variance = (np.asarray(x, np.float64).swapaxes(0, 1) for x in scanned)
    return Believed(mean, np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0))


@functools.partial(jax.jit, static_argnames=("functions", "believes"))
def _scanned(functions: Agent, believes: Any, params: Any, memory: Any, transitions: Transition) -> Belief:
    """[time, lane, latent_dim]."""
    by_time = jax.tree.map(lambda x: jnp.asarray(x).swapaxes(0, 1), transitions)

    def step(memory: Any, transition: Transition) -> tuple[Any, Belief]:
        memory = functions.observe(params, memory, transition)
        return memory, believes(memory)

    return jax.lax.scan(step, memory, by_time)[1]


def _is_real(episode: Any) -> np.ndarray:
    """Which steps are no padding, [lane, time]."""
    return np.arange(np.shape(episode.transitions.reward)[1]) < np.asarray(episode.length)[:, None]


def _observations(episode: Any) -> Iterable[np.ndarray]:
    for values in (episode.transitions.obs, episode.transitions.next_obs):
        yield np.asarray(values)[_is_real(episode)]


def _action_change(episode: Any) -> np.ndarray:
    """The largest change of each number of the (clipped) action from a step to the next, [action_dim]."""
    actions, real = np.clip(np.asarray(episode.transitions.action), -1, 1), _is_real(episode)
    change = np.abs(np.diff(actions, axis=1))[real[:, 1:]]
    return np.asarray(change.max(axis=0, initial=0.0))


def _bounds(parts: Iterable[np.ndarray]) -> dict[str, list[float]]:
    """The smallest and the largest of each number, over parts [number, width]."""
    each = [(part.min(axis=0), part.max(axis=0)) for part in parts if len(part)]
    lows, highs = zip(*each, strict=True)
    return {"low": _shown(np.min(lows, axis=0)), "high": _shown(np.max(highs, axis=0))}


def _shown(values: np.ndarray) -> list[float]:
    """float32 numbers for JSON, each with as few digits as tell it from the others."""
    return [float(str(value)) for value in np.asarray(values, np.float32)]
