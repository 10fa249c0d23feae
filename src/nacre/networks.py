"""Networks as pytrees: multi-layer perceptrons, the tanh-Gaussian policy, the context encoder's head is in pearl.py."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nacre.types import Key

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
TANH_EPSILON = 1e-6


class MLP(eqx.Module):
    """Hidden layers with ReLU, then a linear layer. Weights are [in, out], so that a layer is `x @ weight + bias`.

    A network that is conditioned on z takes it as a second argument: its share of the first product is computed once
    per z and broadcast over the rows that share it, instead of being repeated in every row.
    """

    weights: tuple[Float[Array, "in out"], ...]
    biases: tuple[Float[Array, " out"], ...]

    def __init__(self, in_dim: int, hidden_dim: int, num_layers: int, out_dim: int, out_scale: float, *, key: Key):
        """As the reference: hidden weights U(+-1/sqrt(hidden_dim)), hidden biases 0.1, last layer U(+-out_scale)."""
        dims = [in_dim] + [hidden_dim] * num_layers
        *hidden_keys, weight_key, bias_key = jax.random.split(key, num_layers + 2)
        bound = 1.0 / math.sqrt(hidden_dim)
        hidden = [
            jax.random.uniform(k, shape, minval=-bound, maxval=bound)
            for k, shape in zip(hidden_keys, itertools.pairwise(dims), strict=True)
        ]
        last = jax.random.uniform(weight_key, (dims[-1], out_dim), minval=-out_scale, maxval=out_scale)
        last_bias = jax.random.uniform(bias_key, (out_dim,), minval=-out_scale, maxval=out_scale)
        self.weights = (*hidden, last)
        self.biases = (*(jnp.full((hidden_dim,), 0.1, last.dtype) for _ in hidden), last_bias)

    def __call__(
        self, x: Float[Array, "*rows x_dim"], z: Float[Array, "*zrows latent_dim"] | None = None
    ) -> Float[Array, "*rows out"]:
        x_dim = x.shape[-1]
        h = x @ self.weights[0][:x_dim] + self.biases[0]
        if z is not None:
            h = h + z @ self.weights[0][x_dim:]
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            h = jax.nn.relu(h) @ weight + bias
        return h


class PolicyOutput(NamedTuple):
    """The policy's Gaussian before tanh."""

    mean: Float[Array, "*rows action_dim"]
    log_std: Float[Array, "*rows action_dim"]


class TanhGaussianPolicy(eqx.Module):
    """pi(a | s, z): a diagonal Gaussian squashed by tanh, so that actions lie in (-1, 1). One MLP with two heads."""

    mlp: MLP

    def __init__(self, obs_dim: int, latent_dim: int, action_dim: int, hidden_dim: int, num_layers: int, *, key: Key):
        self.mlp = MLP(obs_dim + latent_dim, hidden_dim, num_layers, 2 * action_dim, 1e-3, key=key)

    def __call__(self, obs: Float[Array, "*rows obs_dim"], z: Float[Array, "*zrows latent_dim"]) -> PolicyOutput:
        mean, log_std = jnp.split(self.mlp(obs, z), 2, axis=-1)
        return PolicyOutput(mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX))


def sample_action(
    policy: PolicyOutput, noise: Float[Array, "*rows action_dim"]
) -> tuple[Float[Array, "*rows action_dim"], Float[Array, "*rows"]]:
    """The action tanh(mean + std * noise) for standard normal noise, and its log density (SAC, appendix C)."""
    action = jnp.tanh(policy.mean + jnp.exp(policy.log_std) * noise)
    gaussian = -0.5 * noise**2 - policy.log_std - 0.5 * math.log(2 * math.pi)
    return action, jnp.sum(gaussian - jnp.log(1 - action**2 + TANH_EPSILON), axis=-1)
