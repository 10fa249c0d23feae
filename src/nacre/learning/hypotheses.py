"""Exploration by hypotheses: beliefs in train tasks, tried one after another in the exploring episodes of a trial.

Those of a trial are chosen farthest first (Gonzalez 1985): after k choices no hypothesis is farther from a chosen one
than twice what the best choice of k could do. Distances are in standard deviations of the two beliefs, so that they
count what the agent tells apart, whatever the scale of z. An exploring episode tries several that are near each other.
nacre's own; the paper explores with z from the prior, one z an episode.

Where an agent predicts rewards, it also infers a task by the hypotheses: `Hypotheses.judged`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

if TYPE_CHECKING:
    from nacre.learning.networks import MLP
    from nacre.types import Belief, Key, Transition

LEAST_STEPS = 10
"""Steps for which a hypothesis is tried at least, in episodes that have so many."""


class Tried(NamedTuple):
    """What a trial has tried, each [lane]."""

    first: Int[Array, " lane"]  # the number of the hypothesis that came first
    turn: Int[Array, " lane"]  # from 0
    num_steps: Int[Array, " lane"]  # of this turn so far


class Hypotheses(NamedTuple):
    """What the exploring episodes of a trial try, in turn."""

    # z of every turn, by the number of the hypothesis that comes first. After the last turn the first comes again.
    z: Float[Array, "first turn latent_dim"]
    num_steps: Int[Array, ""]  # of a turn
    beliefs: Belief  # whose means they are, [hypothesis, latent_dim]

    def begin(self, num_lanes: int, key: Key) -> Tried:
        """Before the first step: a random hypothesis comes first in each lane."""
        zero = jnp.zeros(num_lanes, jnp.int32)
        return Tried(jax.random.randint(key, (num_lanes,), 0, len(self.z)), zero, zero)

    def now(self, tried: Tried) -> Float[Array, "lane latent_dim"]:
        """z of this turn."""
        return jnp.asarray(self.z)[tried.first, tried.turn % self.z.shape[1]]

    def after_step(self, tried: Tried) -> Tried:
        """After one more step of an exploring episode."""
        num_steps = tried.num_steps + 1
        is_over = num_steps >= self.num_steps
        return tried._replace(turn=tried.turn + is_over, num_steps=jnp.where(is_over, 0, num_steps))

    def after_episode(self, tried: Tried) -> Tried:
        """The turn is over, unless it has just begun."""
        return tried._replace(turn=tried.turn + (tried.num_steps > 0), num_steps=jnp.zeros_like(tried.num_steps))

    def judged(
        self, errors: Float[Array, "lane hypothesis"], rewards: MLP, transition: Transition
    ) -> tuple[Float[Array, "lane hypothesis"], Belief]:
        """After one more transition [lane]: (the squared errors of the rewards that every hypothesis predicts, summed
        over the trial, less the least sum; the belief about the train task with the least). `errors`: before it."""
        seen = jnp.concatenate([transition.obs, transition.action], axis=-1)
        of_each = jnp.broadcast_to(seen[:, None], (*errors.shape, seen.shape[-1]))
        predicted = rewards(of_each, self.beliefs.mean)[..., 0]
        errors = errors + (predicted - transition.reward[:, None]) ** 2
        likeliest = jnp.argmin(errors, axis=1)
        errors = errors - errors.min(axis=1, keepdims=True)  # so that small differences count after large errors
        return errors, jax.tree.map(lambda x: x[likeliest], self.beliefs)


def turns(num_hypotheses: int, num_episodes: int, horizon: int) -> tuple[int, int]:
    """(turns of an episode of `horizon` steps, steps of a turn): no hypothesis comes twice if there are enough of them.

    The last turn of an episode may be shorter.
    """
    num_steps = -(-horizon // max(1, min(horizon // LEAST_STEPS, num_hypotheses // num_episodes)))
    return -(-horizon // num_steps), num_steps


@functools.partial(jax.jit, static_argnames=("num_episodes", "horizon"))
def planned(known: Belief, num_episodes: int, horizon: int) -> Hypotheses:
    """What so many exploring episodes of a trial try, out of these beliefs [hypothesis, latent_dim]: their means."""
    num = len(known.mean)
    per_episode, num_steps = turns(num, num_episodes, horizon)
    distance = told_apart(known)

    def of_first(first: Array) -> Array:
        chosen = farthest_first(distance, first, min(per_episode * num_episodes, num))
        return known.mean[in_groups(chosen, distance, per_episode)]

    return Hypotheses(jax.lax.map(of_first, jnp.arange(num)), jnp.asarray(num_steps, jnp.int32), known)


def of_telling(known: Belief, reward: Float[Array, "hypothesis context"]) -> Belief:
    """Beliefs of contexts [hypothesis, ...] with these rewards; of those that tell nothing others in their place.

    A context whose rewards are all alike missed the sparse rewards of its task. What is believed then fits any trial
    without rewards.
    """
    tells = reward.max(axis=1) > reward.min(axis=1)
    in_order = jnp.argsort(~tells)  # stable: those that tell come first
    chosen = jnp.where(tells | ~tells.any(), jnp.arange(len(tells)), in_order[jnp.arange(len(tells)) % tells.sum()])
    return jax.tree.map(lambda x: x[chosen], known)


def told_apart(known: Belief) -> Float[Array, "hypothesis hypothesis"]:
    """Distances of means in standard deviations of the two beliefs, squared; of z where the encoder infers points."""

    def from_one(one: tuple[Array, Array]) -> Array:
        spread = known.variance + one[1]
        return jnp.sum((known.mean - one[0]) ** 2 / jnp.where(spread > 0.0, spread, 1.0), axis=1)

    return jax.lax.map(from_one, (known.mean, known.variance))


def farthest_first(
    distance: Float[Array, "hypothesis hypothesis"], first: Int[Array, ""], num: int
) -> Int[Array, " turn"]:
    """`num` numbers from `first` on, each the farthest from the nearest of those before it; the lowest of equals."""

    def step(nearest: Array, _: None) -> tuple[Array, Array]:
        chosen = jnp.argmax(nearest)
        return jnp.minimum(nearest, distance[chosen]).at[chosen].set(-1.0), chosen

    untried = jnp.full(len(distance), jnp.finfo(distance.dtype).max).at[first].set(jnp.inf)
    return jax.lax.scan(step, untried, None, num)[1]


def in_groups(
    numbers: Int[Array, " turn"], distance: Float[Array, "hypothesis hypothesis"], size: int
) -> Int[Array, " turn"]:
    """The same numbers in groups: the first of those left, the nearest to it, the nearest to that, and so on."""
    among, in_order = distance[numbers[:, None], numbers], jnp.arange(len(numbers))

    def step(carry: tuple[Array, Array], turn: Array) -> tuple[tuple[Array, Array], Array]:
        left, previous = carry
        far = jnp.where(turn % size == 0, in_order.astype(among.dtype), among[previous])
        chosen = jnp.argmin(jnp.where(left, far, jnp.inf))
        return (left.at[chosen].set(False), chosen), chosen

    start = (jnp.ones(len(numbers), bool), in_order[0])
    return numbers[jax.lax.scan(step, start, in_order)[1]]
