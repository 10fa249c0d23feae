"""Networks as pytrees: perceptrons, the recurrent encoder, policies; the precision of matrix products."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nacre.types import Key

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
TANH_EPSILON = 1e-6
MIN_LOG_STD = math.log(1e-6)
"""Floor of a Gaussian policy's log standard deviation."""
NORMALISATION_EPSILON = 1e-5

PRECISIONS = ("float32", "tf32", "bfloat16")
"""What a matrix product rounds its inputs to. Parameters, sums and everything between products stay in float32.

float32: not at all (float64 inputs stay so). tf32: to 10 bits of mantissa, on NVIDIA GPUs; on CPUs as float32.
bfloat16: to 7 bits, gradients too; faster on GPUs and on CPUs with AVX512-BF16 or AMX.
"""


def product(x: Float[Array, "*rows in"], weight: Float[Array, "in out"], precision: str) -> Float[Array, "*rows out"]:
    """x @ weight in one of `PRECISIONS`, and so are the products of its gradient."""
    if precision == "bfloat16":
        return _bfloat16_product(x, weight)
    exact = precision == "float32"
    return jnp.matmul(x, weight, precision=jax.lax.Precision.HIGHEST if exact else jax.lax.Precision.DEFAULT)


def full_precision() -> AbstractContextManager[None]:
    """Within it, products that do not go through `product`, such as those of Equinox's cells, and their gradients' are
    traced so that they round nothing; GPUs round unasked."""
    manager: AbstractContextManager[None] = jax.default_matmul_precision("highest")
    return manager


@jax.custom_vjp
def _bfloat16_product(x: Array, weight: Array) -> Array:
    return _bfloat16_forward(x, weight)[0]


def _bfloat16_forward(x: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
    x, weight = x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16)
    return jnp.matmul(x, weight, preferred_element_type=jnp.float32), (x, weight)


def _bfloat16_backward(rounded: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, weight = rounded
    gradient = gradient.astype(jnp.bfloat16)
    to_x = jax.lax.dot_general(
        gradient, weight, (((gradient.ndim - 1,), (1,)), ((), ())), preferred_element_type=jnp.float32
    )
    rows, row_gradients = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    return to_x, jnp.matmul(_transposed(rows), row_gradients, preferred_element_type=jnp.float32)


def _transposed(x: Float[Array, "rows in"]) -> Float[Array, "in rows"]:
    """x.T, on CPUs laid out anew in memory: XLA's bfloat16 products there are faster than float32 products, but
    not where their left side is transposed."""
    if jax.default_backend() != "cpu":
        return x.T
    return jax.lax.optimization_barrier(x.T.reshape(-1)).reshape(x.shape[1], -1)


_bfloat16_product.defvjp(_bfloat16_forward, _bfloat16_backward)


@jax.custom_vjp
def standardise(h: Float[Array, "*rows units"]) -> Float[Array, "*rows units"]:
    """Each row less its mean, over its standard deviation (Ba et al. 2016).

    Means are products with a column of 1/units: XLA adds up rows on a CPU one number at a time, products do not.
    """
    return _standardise_forward(h)[0]


def _row_means(x: Array) -> Array:
    return product(x, jnp.full((x.shape[-1], 1), 1 / x.shape[-1], x.dtype), "float32")


def _standardise_forward(h: Array) -> tuple[Array, tuple[Array, Array]]:
    centred = h - _row_means(h)
    scale = jax.lax.rsqrt(_row_means(centred**2) + NORMALISATION_EPSILON)
    return centred * scale, (centred * scale, scale)


def _standardise_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    y, scale = saved
    return (scale * (gradient - _row_means(gradient) - y * _row_means(gradient * y)),)


standardise.defvjp(_standardise_forward, _standardise_backward)


MIN_STD = 1e-3
"""Of an input that hardly varies, so that it is not blown up."""
MAX_SCALED = 10.0
"""Limit of a scaled input, for what is far beyond anything seen before."""


class Scale(NamedTuple):
    """Mean and standard deviation of a network's inputs, which turn them into numbers around 0, of the order of 1 and
    at most 10. Data, not learnt: no gradient reaches them."""

    mean: Float[Array, " x_dim"]
    std: Float[Array, " x_dim"]

    def __call__(self, x: Float[Array, "*rows x_dim"]) -> Float[Array, "*rows x_dim"]:
        mean, std = jax.lax.stop_gradient((self.mean, self.std))
        return jnp.clip((x - mean) / jnp.maximum(std, MIN_STD), -MAX_SCALED, MAX_SCALED)


class TaskScale(NamedTuple):
    """Mean and standard deviation that bring a z which is given, not learnt, to the order of 1. Without a limit, so
    that the scale can become a part of the first layer. Data, not learnt: no gradient reaches them."""

    mean: Float[Array, " z_dim"]
    std: Float[Array, " z_dim"]

    def __call__(self, z: Float[Array, "*zrows z_dim"]) -> Float[Array, "*zrows z_dim"]:
        mean, std = jax.lax.stop_gradient((self.mean, self.std))
        return (z - mean) / std


def uniform(keys: Key, shapes: Sequence[tuple[int, ...]], bounds: Sequence[float]) -> list[Array]:
    """For every key an array of that shape, uniform between minus and plus its bound: the numbers that
    `jax.random.uniform` draws with this key.

    All are drawn at once, each as long as the longest: a number follows from its key and its place alone, and one
    generator compiles faster than one for each array.
    """
    longest = max(map(math.prod, shapes))
    drawn = jax.vmap(lambda key, bound: jax.random.uniform(key, (longest,), minval=-bound, maxval=bound))(
        keys, jnp.asarray(bounds)
    )
    return [x[: math.prod(shape)].reshape(shape) for x, shape in zip(drawn, shapes, strict=True)]


class MLP(eqx.Module):
    """Hidden layers with ReLU, then a linear layer. Weights are [in, out], so that a layer is `x @ weight + bias`.

    A network that is conditioned on z takes it as a second argument: its share of the first product is computed once
    per z and broadcast over the rows that share it, instead of being repeated in every row.
    """

    weights: tuple[Float[Array, "in out"], ...]
    biases: tuple[Float[Array, " out"], ...]
    scale: Scale | None  # of the inputs but z; None: they are taken as they come
    task_scale: TaskScale | None  # of z; None: it is taken as it comes
    normalised: bool = eqx.field(static=True)
    precision: str = eqx.field(static=True)

    def __init__(
        self, in_dim: int, hidden_dim: int, num_layers: int, out_dim: int, out_scale: float,
        *, scaled: int = 0, scaled_z: int = 0, normalised: bool = False, precision: str = "float32", key: Key,
    ):  # fmt: skip
        """As the reference: hidden weights U(+-1/sqrt(hidden_dim)), hidden biases 0.1, last layer U(+-out_scale).

        `scaled`: how many inputs (all but z) have a `scale`, which begins as its limit alone; 0 for none. `scaled_z`:
        the size of z if it has a `task_scale`, which begins as no scale; 0 if it has none. `normalised`:
        every hidden layer has mean 0 and variance 1 over its units before ReLU, in each row (layer normalisation, Ba et
        al. 2016, without scale and shift of its own). `precision`: one of `PRECISIONS`.
        """
        dims = [in_dim] + [hidden_dim] * num_layers
        shapes = [*itertools.pairwise(dims), (dims[-1], out_dim), (out_dim,)]
        bounds = [1.0 / math.sqrt(hidden_dim)] * num_layers + [out_scale, out_scale]
        *hidden, last, last_bias = uniform(jax.random.split(key, len(shapes)), shapes, bounds)
        self.weights = (*hidden, last)
        self.biases = (*(jnp.full((hidden_dim,), 0.1, last.dtype) for _ in hidden), last_bias)
        self.scale = Scale(jnp.zeros(scaled), jnp.ones(scaled)) if scaled else None
        self.task_scale = TaskScale(jnp.zeros(scaled_z), jnp.ones(scaled_z)) if scaled_z else None
        self.normalised, self.precision = normalised, precision

    def __call__(
        self, x: Float[Array, "*rows x_dim"], z: Float[Array, "*zrows latent_dim"] | None = None
    ) -> Float[Array, "*rows out"]:
        x_dim = x.shape[-1]
        if self.scale is not None:
            x = self.scale(x)
        h = product(x, self.weights[0][:x_dim], self.precision) + self.biases[0]
        if z is not None and z.shape[-1] > 0:
            z = z if self.task_scale is None else self.task_scale(z)
            h = h + product(z, self.weights[0][x_dim:], self.precision)
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            if self.normalised:
                h = standardise(h)
            h = product(jax.nn.relu(h), weight, self.precision) + bias
        return h


def in_float32(networks: Any) -> Any:
    """A pytree with its perceptrons' products in float32, whatever precision they were trained in."""

    def of_node(node: Any) -> Any:
        if not isinstance(node, MLP) or node.precision == "float32":
            return node
        changed = copy.copy(node)
        object.__setattr__(changed, "precision", "float32")  # modules are immutable, a fresh copy is nobody's yet
        return changed

    return jax.tree.map(of_node, networks, is_leaf=lambda node: isinstance(node, MLP))


class RecurrentEncoder(eqx.Module):
    """An MLP on every transition, an LSTM over them in their order, and a linear layer on its last state."""

    mlp: MLP
    cell: eqx.nn.LSTMCell
    weight: Float[Array, "hidden_dim out"]
    bias: Float[Array, " out"]

    def __init__(
        self, in_dim: int, hidden_dim: int, num_layers: int, out_dim: int, out_scale: float,
        *, scaled: int = 0, precision: str = "float32", key: Key,
    ):  # fmt: skip
        """The MLP as `MLP`, its inputs `scaled` too, with an output of `hidden_dim`; the last layer U(+-out_scale)."""
        mlp_key, cell_key, weight_key, bias_key = jax.random.split(key, 4)
        bound = 1.0 / math.sqrt(hidden_dim)
        sizes = (in_dim, hidden_dim, num_layers - 1, hidden_dim)
        self.mlp = MLP(*sizes, bound, scaled=scaled, precision=precision, key=mlp_key)
        self.cell = eqx.nn.LSTMCell(hidden_dim, hidden_dim, key=cell_key)
        self.weight = jax.random.uniform(weight_key, (hidden_dim, out_dim), minval=-out_scale, maxval=out_scale)
        self.bias = jax.random.uniform(bias_key, (out_dim,), minval=-out_scale, maxval=out_scale)

    def start(self, lanes: tuple[int, ...]) -> tuple[Array, Array]:
        """The LSTM's state before the first transition."""
        zero = jnp.zeros((*lanes, self.cell.hidden_size), self.weight.dtype)
        return zero, zero

    def step(
        self, x: Float[Array, "lane in"], hidden: tuple[Array, Array]
    ) -> tuple[Float[Array, "lane out"], tuple[Array, Array]]:
        """The output after one more transition of every lane, and the LSTM's state."""
        hidden = self._after(jax.nn.relu(self.mlp(x)), hidden)
        return product(hidden[0], self.weight, self.mlp.precision) + self.bias, hidden

    def __call__(self, x: Float[Array, "lane time in"]) -> Float[Array, "lane out"]:
        """The output after whole sequences."""
        seen = jax.nn.relu(self.mlp(x)).swapaxes(0, 1)
        hidden, _ = jax.lax.scan(lambda h, now: (self._after(now, h), None), self.start(x.shape[:1]), seen)
        return product(hidden[0], self.weight, self.mlp.precision) + self.bias

    def _after(self, x: Float[Array, "lane hidden_dim"], hidden: tuple[Array, Array]) -> tuple[Array, Array]:
        """The LSTM's state after one more input. Its products are Equinox's own, so their precision is set around them:
        as in `product`, but that bfloat16 is what the device takes for it (tf32 on GPUs, float32 on CPUs)."""
        precision = {"float32": "highest", "tf32": "default", "bfloat16": "bfloat16"}[self.mlp.precision]
        with jax.default_matmul_precision(precision):
            return jax.vmap(self.cell)(x, hidden)


class PolicyOutput(NamedTuple):
    """The policy's Gaussian before tanh."""

    mean: Float[Array, "*rows action_dim"]
    log_std: Float[Array, "*rows action_dim"]


class TanhGaussianPolicy(eqx.Module):
    """pi(a | s, z): a diagonal Gaussian squashed by tanh, so that actions lie in (-1, 1). One MLP with two heads."""

    mlp: MLP

    def __init__(
        self, obs_dim: int, latent_dim: int, action_dim: int, hidden_dim: int, num_layers: int,
        *, scaled: bool = False, scaled_z: bool = False, precision: str = "float32", key: Key,
    ):  # fmt: skip
        """`scaled`: whether observations have a `Scale`. `scaled_z`: whether z has a `TaskScale`."""
        self.mlp = MLP(
            obs_dim + latent_dim, hidden_dim, num_layers, 2 * action_dim, 1e-3, scaled=obs_dim * scaled,
            scaled_z=latent_dim * scaled_z, precision=precision, key=key,
        )  # fmt: skip

    def __call__(self, obs: Float[Array, "*rows obs_dim"], z: Float[Array, "*zrows latent_dim"]) -> PolicyOutput:
        mean, log_std = jnp.split(self.mlp(obs, z), 2, axis=-1)
        return PolicyOutput(mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX))


class GaussianPolicy(eqx.Module):
    """pi(a | s): a diagonal Gaussian, its mean an MLP, its log standard deviation learnt but the same in all states.

    What on-policy methods act with. Actions are not squashed: the family clips them.
    """

    weights: tuple[Float[Array, "in out"], ...]
    biases: tuple[Float[Array, " out"], ...]
    log_std: Float[Array, " action_dim"]
    activation: str = eqx.field(static=True)

    def __init__(
        self, in_dim: int, action_dim: int, hidden_dim: int, num_layers: int, *, activation: str = "tanh", key: Key
    ):
        """Weights U(+-sqrt(6 / (in + out))) (Glorot and Bengio 2010), biases 0, standard deviation 1. `activation`:
        tanh or relu."""
        dims = [in_dim] + [hidden_dim] * num_layers + [action_dim]
        sizes = list(itertools.pairwise(dims))
        drawn = uniform(jax.random.split(key, len(sizes)), sizes, [1.0] * len(sizes))
        self.weights = tuple(x * math.sqrt(6 / sum(size)) for x, size in zip(drawn, sizes, strict=True))
        self.biases = tuple(jnp.zeros(out) for _, out in sizes)
        self.log_std = jnp.zeros(action_dim)
        self.activation = activation

    def __call__(self, x: Float[Array, "*rows in"]) -> PolicyOutput:
        activation = {"tanh": jnp.tanh, "relu": jax.nn.relu}[self.activation]
        *hidden, (last, last_bias) = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            x = activation(product(x, weight, "float32") + bias)
        mean = product(x, last, "float32") + last_bias
        return PolicyOutput(mean, jnp.broadcast_to(jnp.maximum(self.log_std, MIN_LOG_STD), mean.shape))


def sample_action(
    policy: PolicyOutput, noise: Float[Array, "*rows action_dim"]
) -> tuple[Float[Array, "*rows action_dim"], Float[Array, "*rows"]]:
    """The action tanh(mean + std * noise) for standard normal noise, and its log density (SAC, appendix C)."""
    action = jnp.tanh(policy.mean + jnp.exp(policy.log_std) * noise)
    gaussian = -0.5 * noise**2 - policy.log_std - 0.5 * math.log(2 * math.pi)
    return action, jnp.sum(gaussian - jnp.log(1 - action**2 + TANH_EPSILON), axis=-1)
