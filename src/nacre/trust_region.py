"""Trust-region policy optimisation (Schulman et al. 2015): a step against the loss that keeps a divergence small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

RESIDUAL = 1e-10
"""Squared residual at which the conjugate gradient is done."""


class TrustRegion(NamedTuple):
    """How a step is found."""

    max_kl: float = 0.01
    cg_iterations: int = 10
    damping: float = 1e-5
    """Added to the divergence's Hessian, times the identity."""
    backtrack_ratio: float = 0.8
    max_backtracks: int = 15


def conjugate_gradient(
    product: Callable[[Array], Array], b: Float[Array, " n"], num_iterations: int
) -> Float[Array, " n"]:
    """x with A x = b nearly, for the positive definite A of `product`, from x = 0 (Hestenes and Stiefel 1952)."""

    def iterate(_: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, residual, direction = carry
        before = residual @ residual
        image = product(direction)
        going = before > RESIDUAL
        length = jnp.where(going, before / jnp.where(going, direction @ image, 1.0), 0.0)
        x, left = x + length * direction, residual - length * image
        share = jnp.where(going, left @ left / jnp.where(going, before, 1.0), 0.0)
        return x, left, left + share * direction

    return jax.lax.fori_loop(0, num_iterations, iterate, (jnp.zeros_like(b), b, b))[0]


def hessian_product(
    function: Callable[[Array], Array], x: Float[Array, " n"], v: Float[Array, " n"]
) -> Float[Array, " n"]:
    """The Hessian of `function` at x, times v, exactly."""
    return jax.jvp(jax.grad(function), (x,), (v,))[1]


def step(
    loss: Callable[[Any], Array], kl: Callable[[Any], Array], params: Any, region: TrustRegion
) -> tuple[Any, dict[str, Array]]:
    """The parameters after one step, and what came of it.

    Down the natural gradient, sqrt(2 max_kl / d.Hd) far, H the exact Hessian of `kl` at `params`; then shorter by
    `backtrack_ratio` until the loss has fallen and the divergence holds. If that never happens, `params` stay.
    """
    flat, unravel = ravel_pytree(params)

    def flat_kl(x: Array) -> Array:
        return kl(unravel(x))

    before, gradient = jax.value_and_grad(lambda x: loss(unravel(x)))(flat)

    def damped(v: Array) -> Array:
        return hessian_product(flat_kl, flat, v) + region.damping * v

    direction = conjugate_gradient(damped, gradient, region.cg_iterations)
    curvature = direction @ damped(direction)
    full = jnp.sqrt(2 * region.max_kl / jnp.maximum(curvature, 1e-12))

    def tried(k: Array) -> tuple[Array, Array, Array]:
        x = flat - full * region.backtrack_ratio**k * direction
        after, divergence = loss(unravel(x)), flat_kl(x)
        return x, after, divergence

    def fits(after: Array, divergence: Array) -> Array:
        return (after < before) & (divergence <= region.max_kl)

    def shorten(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        return carry[0] + 1, *tried(carry[0] + 1)

    def goes_on(carry: tuple[Any, ...]) -> Array:
        k, _, after, divergence = carry
        return ~fits(after, divergence) & (k + 1 < region.max_backtracks)

    k, x, after, divergence = jax.lax.while_loop(goes_on, shorten, (jnp.zeros((), jnp.int32), *tried(jnp.zeros(()))))
    accepted = fits(after, divergence)
    metrics = {
        "outer_loss": before,
        "outer_loss_change": jnp.where(accepted, after - before, 0.0),
        "outer_kl": jnp.where(accepted, divergence, 0.0),
        "backtracks": k.astype(flat.dtype),
        "step_accepted": accepted.astype(flat.dtype),
    }
    return unravel(jnp.where(accepted, x, flat)), metrics
