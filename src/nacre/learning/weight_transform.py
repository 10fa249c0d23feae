"""Layers whose weights are generated from a latent vector, and gradient descent on all that generates them.

A layer's weights, W [in, out] then b [out], lie in one row of n numbers. With a weight transform (Mitchell et al. 2021,
section 4) that row is linear in a latent vector: weights = offset + latent @ generator. One step of gradient descent on
one sample then changes W by more than a matrix of rank 1. A layer without one is its offset alone. With a bias
transform the generator makes a part of the bias alone: it has as many columns as b, and adds to the row's last numbers.

The generator is about a hundred times as large as the weights, and tasks differ in what adaptation adds to it. So
`descend` never forms the adapted generator of a task. Its gradient is the outer product of the latent vector and the
gradient g in the weights; after steps 0, ..., k - 1, at latent vectors z_j with gradients g_j, with learning rates
a_z, a_G, a_o of latent vector, generator G and offset o,

    weights  = o + G'z_k - sum_j (a_o + a_G z_j.z_k) g_j
    z_(k+1)  = z_k - a_z (G g_k - a_G sum_j z_j g_j.g_k)

which is exact. Two products with G a step, for all tasks at once, are all that is read of it.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nacre.learning.networks import product
from nacre.types import Key

MOST_UNROLLED = 2
"""Steps of descent that are compiled one by one; more of them are a loop."""


_dot = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class Layer(eqx.Module):
    """What a layer's weights are made of. In a pytree of learning rates each field is one number."""

    offset: Any  # [n]
    latent: Any  # [latent_dim]; None: a plain dense layer
    generator: Any  # [latent_dim, n], or [latent_dim, out] with a bias transform; None: as latent

    def weights(self) -> Float[Array, " n"]:
        """W [in, out], then b [out], in one row."""
        if self.latent is None:
            return self.offset
        return add_to_last(self.offset, _dot(self.latent, self.generator))


def add_to_last(row: Float[Array, " n"], change: Float[Array, " m"]) -> Float[Array, " n"]:
    """The row with `change` added to its last m numbers."""
    return row + jnp.pad(change, (row.shape[0] - change.shape[0], 0))


Layers = tuple[Layer, ...]
Weights = tuple[Array, ...]
"""The weights of every layer of a network, each [n]."""


def init_layer(in_dim: int, out_dim: int, latent_dim: int, key: Key) -> Layer:
    """As the released code: latent N(0, 1/out_dim^2), generator and offset U(+-1/sqrt(latent_dim)), so that weights
    begin within about 0.1 for 100 latent numbers whatever `in_dim`. With `latent_dim` 0 a plain layer,
    U(+-1/sqrt(in_dim))."""
    size = (in_dim + 1) * out_dim
    latent_key, generator_key, offset_key = jax.random.split(key, 3)
    bound = 1.0 / math.sqrt(latent_dim or in_dim)
    offset = jax.random.uniform(offset_key, (size,), minval=-bound, maxval=bound)
    if latent_dim == 0:
        return Layer(offset, None, None)
    latent = jax.random.normal(latent_key, (latent_dim,)) / out_dim
    return Layer(offset, latent, jax.random.uniform(generator_key, (latent_dim, size), minval=-bound, maxval=bound))


def init_bias_layer(in_dim: int, out_dim: int, key: Key) -> Layer:
    """A plain layer with a bias transform, as the released code's ablation: latent N(0, 1/out_dim^2), `out_dim`
    numbers, generator N(0, 1/out_dim) (Glorot and Bengio 2010)."""
    plain_key, latent_key, generator_key = jax.random.split(key, 3)
    latent = jax.random.normal(latent_key, (out_dim,)) / out_dim
    generator = jax.random.normal(generator_key, (out_dim, out_dim)) / math.sqrt(out_dim)
    return Layer(init_layer(in_dim, out_dim, 0, plain_key).offset, latent, generator)


def init_layers(dims: Sequence[int], latent_dim: int, key: Key, *, bias_transform: bool = False) -> Layers:
    """A network's layers from the width of its input, `dims[0]`, to that of its output."""
    sizes = list(itertools.pairwise(dims))
    keys = jax.random.split(key, len(sizes))
    if bias_transform:
        return tuple(init_bias_layer(*size, k) for size, k in zip(sizes, keys, strict=True))
    return tuple(init_layer(*size, latent_dim, k) for size, k in zip(sizes, keys, strict=True))


def num_parameters(dims: Sequence[int], latent_dim: int) -> int:
    """Numbers in `init_layers(dims, latent_dim)`."""
    sizes = list(itertools.pairwise(dims))
    return sum((latent_dim + 1) * (a + 1) * b for a, b in sizes) + latent_dim * len(sizes)


def all_weights(layers: Layers) -> Weights:
    """The weights of every layer."""
    return tuple(layer.weights() for layer in layers)


def linear(weights: Float[Array, " n"], x: Float[Array, "*rows in"]) -> Float[Array, "*rows out"]:
    """x W + b."""
    in_dim = x.shape[-1]
    matrix, bias = jnp.split(weights.reshape(in_dim + 1, -1), [in_dim])
    return product(x, matrix, "float32") + bias[0]


def mlp(weights: Weights, x: Float[Array, "*rows in"]) -> Float[Array, "*rows out"]:
    """Layers with ReLU between them."""
    for row in weights[:-1]:
        x = jax.nn.relu(linear(row, x))
    return linear(weights[-1], x)


# ----------------------------------------------------------------------------------------------------------------------
# Gradient descent on all that makes the weights


class Past(NamedTuple):
    """Where descent has led one layer."""

    latent: Any  # [latent_dim], now
    latents: Any  # [step, latent_dim] at which gradients were taken; zero for steps to come
    gradients: Float[Array, "step n"]  # in the weights; zero for steps to come


def descend(layers: Layers, rates: Layers, loss: Callable[..., Array], num_steps: int, batches: Any = None) -> Weights:
    """The weights after `num_steps` steps of gradient descent on `loss` in everything that makes them.

    `rates` are learning rates, one for each array of `layers`; 0 keeps that array as it is. `loss` is a function of the
    weights, and of the step's part of `batches`, [step, ...], where these are given.
    """

    def step(number: Any, past: tuple[Past, ...]) -> tuple[Past, ...]:
        given = () if batches is None else (jax.tree.map(lambda x: x[number], batches),)
        gradients = jax.grad(loss)(tuple(map(_weights, layers, rates, past)), *given)
        each = zip(layers, rates, past, gradients, strict=True)
        return tuple(_after_step(*own, number) for own in each)

    past = tuple(_nothing_yet(layer, num_steps) for layer in layers)
    if num_steps <= MOST_UNROLLED:
        for number in range(num_steps):
            past = step(number, past)
    else:
        past = jax.lax.fori_loop(0, num_steps, step, past)
    return tuple(map(_weights, layers, rates, past))


def _nothing_yet(layer: Layer, num_steps: int) -> Past:
    latents = None if layer.latent is None else jnp.zeros((num_steps, *layer.latent.shape), layer.latent.dtype)
    return Past(layer.latent, latents, jnp.zeros((num_steps, *layer.offset.shape), layer.offset.dtype))


def _weights(layer: Layer, rate: Layer, past: Past) -> Float[Array, " n"]:
    if layer.latent is None:
        return layer.offset - rate.offset * jnp.sum(past.gradients, axis=0)
    generated = _dot(past.latent, layer.generator)
    pull = rate.generator * _dot(past.latents, past.latent)
    if layer.generator.shape[1] == layer.offset.shape[0]:
        return layer.offset + generated - _dot(rate.offset + pull, past.gradients)
    generated = generated - _dot(pull, _generated_part(layer, past.gradients))
    return add_to_last(layer.offset - rate.offset * jnp.sum(past.gradients, axis=0), generated)


def _generated_part(layer: Layer, gradient: Float[Array, "*step n"]) -> Float[Array, "*step m"]:
    """What of a gradient in the weights is in those that the generator makes."""
    return gradient[..., layer.offset.shape[0] - layer.generator.shape[1] :]


def _after_step(layer: Layer, rate: Layer, past: Past, gradient: Float[Array, " n"], number: Any) -> Past:
    latent, latents = past.latent, past.latents
    if latent is not None:
        before, now = (_generated_part(layer, x) for x in (past.gradients, gradient))
        slope = _dot(layer.generator, now) - rate.generator * _dot(_dot(before, now), latents)
        latents = latents.at[number].set(latent)
        latent = latent - rate.latent * slope
    return Past(latent, latents, past.gradients.at[number].set(gradient))
