"""Logged transitions of a task that an agent is given before it acts there, by the protocols that give it some."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from nacre.errors import NacreError
from nacre.families.family import Family
from nacre.learning import offline
from nacre.learning.offline import Logs
from nacre.presets.settings import DISCOUNT
from nacre.presets.trials import TrialSettings
from nacre.types import ArrayLike, Key, Logged, Transition, check_actions

CONTEXTS = 2**31 - 1
"""Folded into an evaluation's key for what contexts draw; its trials split that key."""


class HasLogs(Protocol):
    """A data set, as far as contexts need it: a `DataSet`, or whatever keeps one's logs open."""

    @property
    def family(self) -> Family:
        """The family of its tasks."""

    def logs(self, split: str, discount: float) -> Logs:
        """The logs of a split."""


def for_trials(
    data: HasLogs | None,
    trials: TrialSettings,
    split: str,
    tasks: Sequence[int] | ArrayLike,
    key: Key,
    *,
    repeats: int | None = None,
) -> Logged | None:
    """What agents absorb in trials of these tasks, [seed * repeat * task, number]; None where the protocol gives none.

    `tasks` [task] are numbers in the data set's `split`, 'train' or 'test'; `key` [seed] is that of the evaluation.
    Train tasks have no data by policies of other tasks: in offline-other-context they get their own.
    Raises NacreError where the protocol needs logged transitions and there is no data set.
    """
    if trials.meets.logs is None:
        return None
    data, logs = _logs(data, trials, split)
    lanes = np.tile(np.asarray(tasks, np.int32), trials.repeats if repeats is None else repeats)
    in_order = trials.settings is not None and trials.settings.context_in_order
    return draw(logs, lanes, trials.context_transitions, key, data.family.obs_dim, in_order=in_order)


def check(data: HasLogs | None, trials: TrialSettings) -> None:
    """Raises NacreError where trials in test tasks would lack the logged transitions that the protocol gives."""
    if trials.meets.logs is not None:
        _logs(data, trials, "test")


def _logs(data: HasLogs | None, trials: TrialSettings, split: str) -> tuple[HasLogs, Logs]:
    """The data set, and its logs that the protocol gives in these tasks."""
    if data is None:
        raise NacreError(
            f"protocol {trials.protocol} gives the agent logged transitions, but there is no data set; name one by "
            "--data (in Python data='ID')."
        )
    by_others = trials.meets.logs == "other" and split == "test"
    return data, data.logs("other" if by_others else split, _discount(trials))


def draw(logs: Logs, tasks: ArrayLike, number: int, key: Key, obs_dim: int, *, in_order: bool = False) -> Logged:
    """`number` logged transitions for every lane of every seed, [seed * lane, number].

    `tasks` [lane] are numbers of tasks of the logs, `key` [seed]. Transitions are drawn uniformly with replacement;
    `in_order`: they are a stretch of the log. What a seed draws does not depend on the others.
    """
    sizes = logs._replace(rows=None, return_to_go=None, last_row=None)
    at = _rows(sizes, jnp.asarray(tasks), key, number=number, in_order=in_order)
    return offline.logged(logs, np.asarray(at) if logs.on_host else at, obs_dim)


@functools.partial(jax.jit, static_argnames=("number", "in_order"))
def _rows(sizes: Logs, tasks: Any, key: Key, *, number: int, in_order: bool) -> jax.Array:
    rows = offline.contiguous_rows if in_order else offline.uniform_rows
    of_seeds = jax.vmap(lambda own: rows(sizes, tasks, number, jax.random.fold_in(own, CONTEXTS)))(key)
    return of_seeds.reshape(key.shape[0] * tasks.shape[0], number)


def of_episode(
    obs: ArrayLike, action: ArrayLike, reward: ArrayLike, *, discount: float, terminated: bool = False
) -> Logged:
    """An episode that somebody logged: [step], of as many as there are rewards. `discount`: of its returns to go, as
    the agent's method learnt with; `TrainedAgent.logged_episode` knows it.

    `obs` [step + 1, obs_dim] ends with the last observation; `action` [step, action_dim] in [-1, 1]; `reward` [step];
    `terminated`: whether the task ended it, rather than a time limit. Raises NacreError where these do not fit.
    """
    obs, action, reward = (np.asarray(values, np.float32) for values in (obs, action, reward))
    if reward.ndim != 1 or action.ndim != 2 or obs.ndim != 2 or not len(obs) - 1 == len(action) == len(reward) > 0:
        raise NacreError(
            f"obs {obs.shape}, action {action.shape} and reward {reward.shape} are no episode; give them as "
            "[step + 1, obs_dim], [step, action_dim] and [step]."
        )
    check_actions("an action of the episode", action)
    steps = len(reward)
    to_go, ahead = np.zeros(steps, np.float32), 0.0
    for time in reversed(range(steps)):
        ahead = float(reward[time]) + discount * ahead
        to_go[time] = ahead
    alive = np.ones(steps, np.float32)
    alive[-1] = 0.0 if terminated else 1.0
    transition = Transition(obs[:-1], action, reward, reward, alive, obs[1:])
    last_obs = np.broadcast_to(obs[-1], (steps, obs.shape[1]))
    return Logged(
        transition, to_go, np.arange(steps, 0, -1).astype(np.float32), last_obs, np.full(steps, alive[-1], np.float32)
    )


def _discount(trials: TrialSettings) -> float:
    return DISCOUNT if trials.settings is None else trials.settings.discount
