"""The data collection of PEARL's Algorithm 1: phases of episodes into a task's two buffers, many lanes side by side."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nacre.errors import NacreError
from nacre.families.family import Family, num_tasks, take
from nacre.learning import replay as rings
from nacre.learning.replay import Replay
from nacre.presets.soft_actor_critic import most_steps
from nacre.simulation.rollout import begin, episode, side_by_side
from nacre.types import Agent, Key, Tasks, fold_in, split, stacked, with_fixed_memory

INITIAL_STEPS = 50_000
"""Environment steps of the initial collection that run side by side, for the sake of memory."""


class Phases(NamedTuple):
    """Episodes per drawn task of a collection. An episode stands for `horizon` environment steps: whole episodes are
    played until as many steps are reached."""

    straight: int = 0  # one random action held for an episode; both buffers
    prior: int = 0  # z from the prior; both buffers
    posterior: int = 0  # z from the posterior; both buffers
    extra_rl_posterior: int = 0  # z from the posterior; RL buffer only
    extra_context_prior: int = 0  # z from the prior; context buffer only. It comes before the posterior

    def in_order(self) -> list[tuple[int, str, int]]:
        """(number, name, episodes) of every phase, as they are played. The number makes a phase's random numbers."""
        numbered = [(number, name, episodes) for number, (name, episodes) in enumerate(self._asdict().items())]
        return sorted(numbered, key=lambda phase: phase[1].endswith("posterior"))


class Buffers(NamedTuple):
    """What one run has collected."""

    rl: Replay  # the critics' data: everything but `extra_context_prior`
    context: Any  # a Replay: the encoder's data, all or the latest of each task; None for methods without one


PosteriorZ = Callable[[Any, Replay, Any, Key], Any]
"""(params, replay, rings [lane], key) -> z [lane, latent_dim] from the posterior of a context drawn from each ring."""


def collect(
    family: Family, agent: Agent, posterior_z: PosteriorZ | None, params: Sequence[Any], tasks: Tasks,
    buffers: Sequence[Buffers], drawn: np.ndarray, phases: Phases, key: Key, *, keep_all_context: bool = False,
) -> tuple[list[Buffers], np.ndarray]:  # fmt: skip
    """Collects for the drawn tasks [seed, draw] of every run, all side by side: (buffers, environment steps [seed]).

    Each draw infers its posterior from its own context; the first episode of a posterior phase is of the prior, as in
    the reference, unless there are `extra_context_prior` episodes. A task keeps the context of its last draw, or of all
    draws ever with `keep_all_context`, and all of its RL data. The runs have a key each, and draw the random numbers
    that they would draw alone.
    """
    num_seeds, num_draws = drawn.shape
    params_of_all = stacked(params)
    rl = [one.rl for one in buffers]
    context = [one.context for one in buffers if one.context is not None]
    if context and not keep_all_context:
        context = [_clear(one, task) for one, task in zip(context, drawn, strict=True)]
    capacity = collected_as_context(family, phases)
    own = [rings.empty(num_draws, capacity, num_draws * capacity, family.obs_dim, family.action_dim) for _ in context]
    is_last_draw = np.array([[task not in row[i + 1 :] for i, task in enumerate(row)] for row in drawn])
    counts_as_context = is_last_draw | keep_all_context
    env_steps = np.zeros(num_seeds, int)

    for phase, kind, num_phase_episodes in phases.in_order():
        acting = side_by_side(_straight_agent(family.action_dim) if kind == "straight" else agent, num_seeds)
        from_posterior = kind.endswith("posterior")
        into_rl, into_context = kind != "extra_context_prior", bool(context) and kind != "extra_rl_posterior"
        missing, rounds = np.full(drawn.shape, num_phase_episodes * family.horizon), 0
        while (missing > 0).any():
            begin_key, context_key, episode_key = split(fold_in(fold_in(key, phase), rounds), 3)
            # With z from the prior, the episodes of a draw do not depend on each other; with the posterior they do.
            num_episodes = (missing > 0) if from_posterior else -(-np.maximum(missing, 0) // family.horizon)
            lanes, wanted = _lanes(num_episodes, few_sizes=family.can_terminate)
            task = take(tasks, np.take_along_axis(drawn, lanes, axis=1).ravel())
            memory = begin(acting, params_of_all, task, begin_key)
            if from_posterior and (rounds > 0 or phases.extra_context_prior > 0):
                assert posterior_z is not None
                z = [posterior_z(*of_seed) for of_seed in zip(params, own, lanes, context_key, strict=True)]
                memory = memory._replace(z=jnp.concatenate(z))
            _, result = episode(family, acting, params_of_all, memory, task, episode_key, explore=True)

            length = np.where(wanted, np.asarray(result.length).reshape(lanes.shape), 0)
            if not family.can_terminate:  # an episode that the physics ended is made up for, and no more than that
                length = np.stack([_at_most(*of_seed) for of_seed in zip(length, lanes, missing, strict=True)])
            for seed, (lane, steps) in enumerate(zip(lanes, length, strict=True)):
                of_seed = slice(seed * len(lane), (seed + 1) * len(lane))
                played = jax.tree.map(lambda x, s=of_seed: x[s], result)._replace(length=steps)
                if into_rl:
                    rl[seed] = _insert(rl[seed], drawn[seed, lane], played)
                if into_context:
                    own[seed] = _insert(own[seed], lane, played)
                    kept = played._replace(length=np.where(counts_as_context[seed, lane], steps, 0))
                    context[seed] = _insert(context[seed], drawn[seed, lane], kept)
                missing[seed] -= np.bincount(lane, steps, num_draws).astype(int)
            env_steps += length.sum(axis=1)
            rounds += 1
    for one in (*rl, *context, *own):
        if rings.is_full(one):
            raise NacreError(
                f"{family.name} gave more transitions than a run of these settings has room for; this is a fault of "
                "nacre: please report it with the run's config.json."
            )
    return [Buffers(*both) for both in zip(rl, context or [None] * num_seeds, strict=True)], env_steps


def collected_as_context(family: Family, phases: Phases) -> int:
    """The most transitions that a draw of these phases collects for the context."""
    return sum(most_steps(family, number) for number in phases._replace(extra_rl_posterior=0))


def _at_most(length: np.ndarray, lane: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """The lengths of a seed's episodes [lane], cut where a draw would get more steps than it misses [draw]."""
    kept, left = length.copy(), np.maximum(missing, 0)
    for index, draw in enumerate(lane):
        kept[index] = min(kept[index], left[draw])
        left[draw] -= kept[index]
    return kept


def _lanes(num_episodes: np.ndarray, few_sizes: bool) -> tuple[np.ndarray, np.ndarray]:
    """The draw of every lane [seed, lane], from the episodes of every draw [seed, draw]; and which lanes are wanted.

    All seeds get as many lanes as the one that needs most; what is played in the others is dropped. `few_sizes` rounds
    that up to a power of two: robots that fall leave another number of steps missing after every round, and each number
    of lanes is a program to compile.
    """
    num_lanes = int(num_episodes.sum(axis=1).max())
    if few_sizes:
        num_lanes = 1 << (num_lanes - 1).bit_length()
    wanted = np.arange(num_lanes) < num_episodes.sum(axis=1, keepdims=True)
    lanes = np.zeros(wanted.shape, int)
    for row, is_wanted, number in zip(lanes, wanted, num_episodes, strict=True):
        row[is_wanted] = np.repeat(np.arange(len(number)), number)
    return lanes, wanted


@functools.cache
def _straight_agent(action_dim: int) -> Agent:
    """Holds one random action, tanh of a standard normal, for a whole episode; its memory is that action."""

    def begin(params: Any, task: Any, key: Key) -> Any:
        return jnp.tanh(jax.random.normal(key, (num_tasks(task), action_dim)))

    return with_fixed_memory(lambda params, memory, *given: memory, begin, explores=True)


@functools.cache
def without_observing(agent: Agent) -> Agent:
    """The agent, which takes its belief from the context buffer and not from what it meets."""
    return agent._replace(observe=lambda params, memory, transition: memory)


_insert = jax.jit(rings.insert, donate_argnums=0)
_clear = jax.jit(rings.clear, donate_argnums=0)
