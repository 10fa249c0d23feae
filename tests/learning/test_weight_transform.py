"""Layers whose weights are generated: their sizes and starts, and that descent without generators of tasks is exact."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.learning.weight_transform import (
    Layers,
    Weights,
    all_weights,
    descend,
    init_bias_layer,
    init_layer,
    init_layers,
    linear,
    mlp,
    num_parameters,
)

DIMS = (3, 4, 2)


def a_loss(seed: int = 0, num: int = 7) -> Any:
    """Mean squared error on data that the seed gives, a function of weights."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(num, DIMS[0])), rng.normal(size=(num, DIMS[-1]))
    return lambda weights: jnp.mean((mlp(weights, jnp.asarray(x)) - y) ** 2)


def some_rates(layers: Layers) -> Layers:
    leaves, shape = jax.tree.flatten(layers)
    return shape.unflatten([jnp.asarray(0.05 + 0.03 * i) for i in range(len(leaves))])


def descended_plainly(layers: Layers, rates: Layers, loss: Any, num_steps: int) -> Weights:
    """Gradient descent on the parameters themselves."""
    for _ in range(num_steps):
        gradient = jax.grad(lambda layers: loss(all_weights(layers)))(layers)
        layers = jax.tree.map(lambda p, r, g: p - r * g, layers, rates, gradient)
    return all_weights(layers)


@pytest.mark.parametrize(
    ("latent_dim", "num_steps", "bias"), [(5, 1, False), (5, 3, False), (0, 3, False), (0, 3, True)]
)
def test_descent_is_that_of_all_parameters_and_so_is_its_gradient(
    float64, latent_dim: int, num_steps: int, bias: bool
) -> None:
    layers = init_layers(DIMS, latent_dim, jax.random.key(0), bias_transform=bias)
    layers = jax.tree.map(lambda x: x.astype(jnp.float64), layers)
    rates = some_rates(layers)

    def judged(how: Any) -> Any:
        def loss(layers: Layers, rates: Layers) -> Any:
            return a_loss(1)(how(layers, rates, a_loss(0), num_steps))

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(layers, rates)

    found, expected = judged(descend), judged(descended_plainly)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_a_bias_transform_adds_what_it_generates_to_the_bias() -> None:
    layer = init_bias_layer(3, 4, jax.random.key(0))
    x = np.arange(6.0).reshape(2, 3)
    plain = linear(layer.offset, x)
    np.testing.assert_allclose(linear(layer.weights(), x), plain + layer.latent @ layer.generator, rtol=1e-5, atol=1e-6)
    assert (layer.latent.shape, layer.generator.shape) == ((4,), (4, 4))


def test_each_step_may_have_data_of_its_own() -> None:
    layers, x = init_layers((1, 1), 0, jax.random.key(0)), jnp.array([[1.0], [3.0]])
    rates = jax.tree.map(lambda _: jnp.asarray(0.1), layers)
    (after,) = descend(layers, rates, lambda weights, x: linear(weights[0], x)[0], 2, x)
    np.testing.assert_allclose(after, layers[0].offset - 0.1 * np.array([4.0, 2.0]), rtol=1e-6)


def test_no_step_leaves_the_weights() -> None:
    layers = init_layers(DIMS, 5, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, descend(layers, some_rates(layers), a_loss(), 0), all_weights(layers))


@pytest.mark.parametrize(("latent_dim", "rank"), [(0, 1), (100, 6)])
def test_one_step_on_one_sample_changes_a_dense_layer_by_rank_one_and_a_generated_one_by_more(
    float64, latent_dim: int, rank: int
) -> None:
    layer = init_layer(8, 6, latent_dim, jax.random.key(1))
    layer = jax.tree.map(lambda x: x.astype(jnp.float64), layer)
    x, y = jax.random.normal(jax.random.key(2), (8,)), jax.random.normal(jax.random.key(3), (6,))
    rates = jax.tree.map(lambda _: jnp.asarray(0.1), (layer,))
    (after,) = jax.jit(
        lambda layer: descend((layer,), rates, lambda weights: jnp.sum((linear(weights[0], x) - y) ** 2), 1)
    )(layer)
    change = (after - layer.weights())[:48].reshape(8, 6)
    assert np.linalg.matrix_rank(change, tol=1e-6 * np.linalg.norm(change)) == rank


def test_generated_weights_begin_within_a_tenth_whatever_the_inputs() -> None:
    for in_dim in (10, 1000):
        weights = np.asarray(init_layer(in_dim, 100, 100, jax.random.key(4)).weights())
        assert 0.09 < np.abs(weights).max() < 0.13
        assert abs(np.std(weights) - 0.1 / np.sqrt(3)) < 3e-3
    dense = init_layer(1000, 100, 0, jax.random.key(4)).weights()
    assert np.abs(dense).max() <= 1 / np.sqrt(1000) + 1e-6


@pytest.mark.parametrize(
    ("obs_dim", "action_dim", "policy", "value"),
    [(20, 6, 2_663_263, 2_262_901), (27, 8, 2_760_829, 2_333_601), (17, 6, 2_632_963, 2_232_601)],
)
def test_networks_are_as_large_as_the_published_ones(obs_dim: int, action_dim: int, policy: int, value: int) -> None:
    """Of cheetah, ant and walker."""
    hidden = (100, 100, 100)
    head = num_parameters((100 + action_dim, 32, 1), 100)
    assert num_parameters((obs_dim, *hidden, action_dim), 100) + head == policy
    assert num_parameters((obs_dim, *hidden, 1), 100) == value
    layers = init_layers((3, 4, 2), 5, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(layers)) == num_parameters((3, 4, 2), 5)
