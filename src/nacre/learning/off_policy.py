"""Blocks of gradient updates: many updates of one or more learners in one compiled scan, no Python between them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from nacre.types import Key, stacked, stream

UPDATES_PER_CALL = 50
"""Updates in one block: few enough to show progress and stop soon, enough that Python costs nothing."""


@functools.partial(jax.jit, static_argnames=("draw", "learn", "num_updates"), donate_argnames="learners")
def block(
    *, learners: list[Any], data: list[Any], keys: list[Key], first: Any, draw: Callable[..., Any],
    learn: Callable[..., tuple[Any, Any]], num_updates: int,
) -> tuple[list[Any], list[Any]]:  # fmt: skip
    """(learners, metrics [update] of each) after `num_updates` updates, of which the first has number `first`.

    `draw` (data, key) -> what one update learns from; `learn` (learner, drawn) -> (learner, metrics). The learners of
    all seeds are one, with a leading axis; what each learns from is drawn from its own data, with its own key. The
    learners given are used up. `draw` and `learn` must be the same objects at every call, or this compiles anew.
    """
    num_seeds = len(learners)

    def body(carry: Any, number: jax.Array) -> tuple[Any, Any]:
        draws = [
            draw(own, jax.random.fold_in(stream(key, "train"), number)) for own, key in zip(data, keys, strict=True)
        ]
        return jax.vmap(learn)(carry, stacked(draws))

    numbers = first + jnp.arange(num_updates, dtype=jnp.int32)
    after, metrics = jax.lax.scan(body, stacked(learners), numbers)

    def of_seed(tree: Any, axis: int = 0) -> list[Any]:
        return [jax.tree.map(lambda x, i=i: jnp.take(x, i, axis), tree) for i in range(num_seeds)]

    return of_seed(after), of_seed(metrics, axis=1)
