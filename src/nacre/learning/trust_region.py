"""Trust-region policy optimisation (Schulman et al. 2015): a step against the loss that keeps a divergence small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from nacre.learning.networks import full_precision
from nacre.learning.on_policy import mean_over_tasks

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

    with full_precision():
        return jax.lax.fori_loop(0, num_iterations, iterate, (jnp.zeros_like(b), b, b))[0]


def curvature_product(
    outputs: Callable[[Array], Any], divergence: Callable[[Any], Array], x: Float[Array, " n"], v: Float[Array, " n"]
) -> Float[Array, " n"]:
    """The Hessian of `divergence(outputs(.))` at x, times v, exactly, where the divergence has its minimum, 0, at x.

    There its slope in the outputs is 0, and with it the share of their own curvature in the Hessian: what is left is
    J' H J, J of the outputs and H of the divergence in them. So no derivative of a third order is taken where `outputs`
    takes one itself.
    """
    found, moved = jax.jvp(outputs, (x,), (v,))
    curved = jax.jvp(jax.grad(divergence), (found,), (moved,))[1]
    return jax.vjp(outputs, x)[1](curved)[0]


def step(
    loss: Callable[[Any], Array], outputs: Callable[[Any, Any], Any], divergence: Callable[[Any, Any], Array],
    tasks: Any, params: Any, region: TrustRegion,
) -> tuple[Any, dict[str, Array]]:  # fmt: skip
    """The parameters after one step, and what came of it.

    The divergence that is limited is the mean over `tasks` (leading axis of every leaf) of
    `divergence(outputs(params, task), task)`, and must be 0 at `params`. Down the natural gradient,
    sqrt(2 max_kl / d.Hd) far, H its exact Hessian at `params`; then shorter by `backtrack_ratio` until the loss has
    fallen and the divergence holds. If that never happens, `params` stay.
    """
    flat, unravel = ravel_pytree(params)

    def flat_kl(x: Array) -> Array:
        kl: Array = mean_over_tasks(lambda task: divergence(outputs(unravel(x), task), task), tasks)
        return kl

    before, gradient = jax.value_and_grad(lambda x: loss(unravel(x)))(flat)

    def damped(v: Array) -> Array:
        def of_task(task: Any) -> Array:
            return curvature_product(
                lambda x: outputs(unravel(x), task), lambda output: divergence(output, task), flat, v
            )

        product: Array = mean_over_tasks(of_task, tasks)
        return product + region.damping * v

    direction = conjugate_gradient(damped, gradient, region.cg_iterations)
    with full_precision():
        curvature = direction @ damped(direction)
    full = jnp.sqrt(2 * region.max_kl / jnp.maximum(curvature, 1e-12))

    def tried(k: Array) -> tuple[Array, Array, Array]:
        x = flat - full * region.backtrack_ratio**k * direction
        after, kl = loss(unravel(x)), flat_kl(x)
        return x, after, kl

    def fits(after: Array, kl: Array) -> Array:
        return (after < before) & (kl <= region.max_kl)

    def shorten(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        return carry[0] + 1, *tried(carry[0] + 1)

    def continues(carry: tuple[Any, ...]) -> Array:
        k, _, after, kl = carry
        return ~fits(after, kl) & (k + 1 < region.max_backtracks)

    k, x, after, kl = jax.lax.while_loop(continues, shorten, (jnp.zeros((), jnp.int32), *tried(jnp.zeros(()))))
    accepted = fits(after, kl)
    metrics = {
        "outer_loss": before,
        "outer_loss_change": jnp.where(accepted, after - before, 0.0),
        "outer_kl": jnp.where(accepted, kl, 0.0),
        "backtracks": k.astype(flat.dtype),
        "step_accepted": accepted.astype(flat.dtype),
    }
    return unravel(jnp.where(accepted, x, flat)), metrics
