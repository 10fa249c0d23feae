"""Exploration by hypotheses: beliefs in train tasks, tried in an order in which each is far from those before.

Farthest-first traversal (Gonzalez 1985): after k trials no hypothesis is farther from one that was tried than twice
what the best choice of k could do. Distances are in standard deviations of the two beliefs, so that they count what
the agent tells apart, whatever the scale of z. nacre's own; the paper explores with z from the prior.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

if TYPE_CHECKING:
    from nacre.types import Belief, Key


class Hypotheses(NamedTuple):
    """Points in the space of tasks, and the order in which they are tried."""

    z: Float[Array, "hypothesis latent_dim"]
    order: Int[Array, "hypothesis turn"]  # order[i]: the numbers of all of them in turn, where i comes first

    def begin(self, num_lanes: int, key: Key) -> tuple[Array, Array]:
        """(z [lane, latent_dim], the number of the first [lane]): a random hypothesis in each lane."""
        first = jax.random.randint(key, (num_lanes,), 0, len(self.z))
        return jnp.asarray(self.z)[first], first

    def at(self, first: Int[Array, " lane"], turn: Int[Array, " lane"]) -> Float[Array, "lane latent_dim"]:
        """z of this turn, from 0, where `first` came first. After the last of them it begins again."""
        z, order = jnp.asarray(self.z), jnp.asarray(self.order)
        return z[order[first, turn % order.shape[1]]]


def ordered(beliefs: Belief) -> Hypotheses:
    """The means of these beliefs [hypothesis, latent_dim]; the next is the one that is told best from those before."""
    mean, variance = beliefs.mean, beliefs.variance

    def from_one(one: tuple[Array, Array]) -> Array:
        spread = variance + one[1]  # 0 where the encoder infers a point: then distances of z
        return jnp.sum((mean - one[0]) ** 2 / jnp.where(spread > 0.0, spread, 1.0), axis=1)

    return Hypotheses(mean, farthest_first(jax.lax.map(from_one, (mean, variance))))


def farthest_first(distance: Float[Array, "hypothesis hypothesis"]) -> Int[Array, "hypothesis turn"]:
    """For every first: all numbers, each the farthest from the nearest of those before it; the lowest of equals."""

    def step(nearest: Array, _: None) -> tuple[Array, Array]:
        chosen = jnp.argmax(nearest)
        return jnp.minimum(nearest, distance[chosen]).at[chosen].set(-1.0), chosen

    def beginning_with(first: Array) -> Array:
        untried = jnp.full(len(distance), jnp.finfo(distance.dtype).max).at[first].set(jnp.inf)
        return jax.lax.scan(step, untried, None, len(distance))[1]

    return jax.vmap(beginning_with)(jnp.arange(len(distance)))
