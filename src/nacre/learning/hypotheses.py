"""Exploration by hypotheses: beliefs in train tasks, tried in an order in which each is far from those before.

Farthest-first traversal (Gonzalez 1985): after k trials no hypothesis is farther from one that was tried than twice
what the best choice of k could do. Distances are in standard deviations of the two beliefs, so that they count what
the agent tells apart, whatever the scale of z. An exploring episode tries several that are near each other, one after
another. nacre's own; the paper explores with z from the prior, one z an episode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

if TYPE_CHECKING:
    from nacre.types import Key

LEAST_STEPS = 10
"""Steps for which a hypothesis is tried at least, in episodes that have so many."""


class Turns(NamedTuple):
    """How exploring episodes are divided among hypotheses."""

    per_episode: int
    num_steps: int  # of a turn; the last of an episode may be shorter
    total: int


class Tried(NamedTuple):
    """What a trial has tried of its hypotheses, each [lane, ...]."""

    numbers: Int[Array, "lane turn"]  # of the hypotheses, in turn; after the last of them it begins again
    turn: Int[Array, " lane"]
    num_steps: Int[Array, " lane"]  # of this turn so far
    length: Int[Array, " lane"]  # steps of a turn

    def after_step(self) -> Tried:
        """After one more step of an exploring episode."""
        steps = self.num_steps + 1
        is_over = steps >= self.length
        return self._replace(turn=self.turn + is_over, num_steps=jnp.where(is_over, 0, steps))

    def after_episode(self) -> Tried:
        """The turn is over, unless it has just begun."""
        return self._replace(turn=self.turn + (self.num_steps > 0), num_steps=jnp.zeros_like(self.num_steps))


class Hypotheses(NamedTuple):
    """What the agent believes of its train tasks: the means are tried, the variances say what it tells apart."""

    z: Float[Array, "hypothesis latent_dim"]
    variance: Float[Array, "hypothesis latent_dim"]

    def turns(self, num_episodes: int, horizon: int) -> Turns:
        """How so many exploring episodes of `horizon` steps are divided: none is tried twice if they are enough."""
        num_steps = -(-horizon // max(1, min(horizon // LEAST_STEPS, len(self.z) // num_episodes)))
        per_episode = -(-horizon // num_steps)
        return Turns(per_episode, num_steps, min(per_episode * num_episodes, len(self.z)))

    def begin(self, num_lanes: int, turns: Turns, key: Key) -> Tried:
        """Before the first step: a random hypothesis comes first in each lane."""
        first = jax.random.randint(key, (num_lanes,), 0, len(self.z))
        zero = jnp.zeros(num_lanes, jnp.int32)
        return Tried(self.in_turn(first, turns), zero, zero, zero + turns.num_steps)

    def in_turn(self, first: Int[Array, " lane"], turns: Turns) -> Int[Array, "lane turn"]:
        """The numbers of the hypotheses that are tried, where `first` comes first."""
        distance = self.distance()

        def of_lane(one: Array) -> Array:
            return in_groups(farthest_first(distance, one, turns.total), distance, turns.per_episode)

        return jax.vmap(of_lane)(first)

    def distance(self) -> Float[Array, "hypothesis hypothesis"]:
        """In standard deviations of the two beliefs, squared; of z, squared, where the encoder infers points."""
        z, variance = jnp.asarray(self.z), jnp.asarray(self.variance)

        def from_one(one: tuple[Array, Array]) -> Array:
            spread = variance + one[1]
            return jnp.sum((z - one[0]) ** 2 / jnp.where(spread > 0.0, spread, 1.0), axis=1)

        return jax.lax.map(from_one, (z, variance))

    def now(self, tried: Tried) -> Float[Array, "lane latent_dim"]:
        """z of this turn."""
        turn = tried.turn % tried.numbers.shape[1]
        return jnp.asarray(self.z)[jnp.take_along_axis(tried.numbers, turn[:, None], axis=1)[:, 0]]


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
    among, in_order = distance[numbers][:, numbers], jnp.arange(len(numbers))

    def step(carry: tuple[Array, Array], turn: Array) -> tuple[tuple[Array, Array], Array]:
        left, previous = carry
        far = jnp.where(turn % size == 0, in_order.astype(among.dtype), among[previous])
        chosen = jnp.argmin(jnp.where(left, far, jnp.inf))
        return (left.at[chosen].set(False), chosen), chosen

    start = (jnp.ones(len(numbers), bool), in_order[0])
    return numbers[jax.lax.scan(step, start, in_order)[1]]
