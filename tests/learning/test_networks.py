"""Networks: the product that is split between observation and z, initial ranges, the density of squashed actions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.algorithms import pearl
from nacre.learning import soft_actor_critic
from nacre.learning.networks import (
    MLP,
    PRECISIONS,
    PolicyOutput,
    RecurrentEncoder,
    Scale,
    TanhGaussianPolicy,
    product,
    sample_action,
    uniform,
)
from nacre.presets.pearl import PearlSettings


def initialised(kind: Any, *sizes: Any, **options: Any) -> Any:
    """A network of this kind, made in one compiled program."""
    return eqx.filter_jit(lambda key: kind(*sizes, **options, key=key))(jax.random.key(0))


@eqx.filter_jit
def called(network: Any, *inputs: Any) -> Any:
    return network(*inputs)


def test_z_as_second_input_gives_what_z_beside_the_first_gives():
    """[task, batch, x] and one z a task: every row of a task sees the same z."""
    mlp = initialised(MLP, 7, 16, 2, 3, out_scale=1.0)
    rng = np.random.default_rng(0)
    x, z = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 6, 5), (4, 2)))
    split = called(mlp, x, z[:, None])
    rows = np.concatenate([x, np.repeat(z[:, None], 6, axis=1)], axis=-1)
    np.testing.assert_allclose(split, called(mlp, rows), rtol=1e-4, atol=1e-5)

    h = np.asarray(rows, np.float64)
    for layer in range(3):
        h = h @ np.asarray(mlp.weights[layer], np.float64) + np.asarray(mlp.biases[layer], np.float64)
        h = np.maximum(h, 0.0) if layer < 2 else h
    np.testing.assert_allclose(split, h, rtol=1e-4, atol=1e-5)


def test_a_normalised_network_has_mean_0_and_variance_1_over_the_units_of_every_hidden_layer():
    mlp = initialised(MLP, 5, 16, 2, 3, out_scale=1.0, normalised=True)
    x = 10 * np.random.default_rng(0).standard_normal((4, 6, 5))
    h = x
    for layer in range(3):
        h = h @ np.asarray(mlp.weights[layer], np.float64) + np.asarray(mlp.biases[layer], np.float64)
        if layer < 2:
            h = (h - h.mean(axis=-1, keepdims=True)) / np.sqrt(h.var(axis=-1, keepdims=True) + 1e-5)
            h = np.maximum(h, 0.0)
    np.testing.assert_allclose(called(mlp, x.astype(np.float32)), h, rtol=1e-3, atol=1e-4)
    plain = initialised(MLP, 5, 16, 2, 3, out_scale=1.0)
    assert jax.tree.map(jnp.shape, plain.weights) == jax.tree.map(jnp.shape, mlp.weights)


def test_a_scaled_network_sees_inputs_around_0_and_no_gradient_reaches_its_scale():
    plain = initialised(MLP, 7, 16, 2, 3, out_scale=1.0)
    scaled = initialised(MLP, 7, 16, 2, 3, out_scale=1.0, scaled=5)
    rng = np.random.default_rng(0)
    mean, std = np.array([3, -40, 0, 1, 0], np.float32), np.array([2, 9, 0.1, 0, 1], np.float32)
    x, z = mean + std * rng.standard_normal((4, 5)).astype(np.float32), rng.standard_normal((4, 2)).astype(np.float32)
    x[0, 4] = -300  # far beyond what was ever seen
    near = x[1:] / 9, z[1:]
    np.testing.assert_array_equal(called(scaled, *near), called(plain, *near), "begins as no change up to 10")
    scaled = eqx.tree_at(lambda mlp: mlp.scale, scaled, Scale(jnp.asarray(mean), jnp.asarray(std)))
    by_hand = (x - mean) / np.array([2, 9, 0.1, 1, 1], np.float32)  # what does not vary is 0
    by_hand[0, 4] = -10
    np.testing.assert_allclose(called(scaled, x, z), called(plain, by_hand, z), rtol=1e-4, atol=1e-5)

    gradient = eqx.filter_jit(eqx.filter_grad(lambda mlp: jnp.sum(mlp(x, z) ** 2)))(scaled)
    assert not np.any(gradient.scale.mean) and not np.any(gradient.scale.std)
    assert all(np.any(weight) for weight in gradient.weights)


def rounded(x: np.ndarray) -> np.ndarray:
    """To the nearest number with 8 significant bits, as bfloat16 has them."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(mantissa * 2**8) / 2**8, exponent)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_product_and_both_its_gradients_round_their_inputs_and_add_in_float32(precision):
    rng = np.random.default_rng(0)
    x, weight, gradient = (
        jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((2, 64, 40), (40, 30), (2, 64, 30))
    )

    @jax.jit
    def product_and_gradients(x, weight, gradient):
        y, back = jax.vjp(lambda x, weight: product(x, weight, precision), x, weight)
        return y, *back(gradient)

    y, to_x, to_weight = product_and_gradients(x, weight, gradient)
    assert y.dtype == to_x.dtype == to_weight.dtype == jnp.float32
    inputs = [np.asarray(a, np.float64) for a in (x, weight, gradient)]
    a, w, g = map(rounded, inputs) if precision == "bfloat16" else inputs
    for ours, by_hand in (
        (y, a @ w), (to_x, g @ w.T), (to_weight, np.einsum("tbi,tbo->io", a, g)),
    ):  # fmt: skip
        np.testing.assert_allclose(ours, by_hand, rtol=1e-5, atol=1e-4)
    if precision == "bfloat16":
        assert np.abs(np.asarray(y) - inputs[0] @ inputs[1]).max() > 1e-3, "the rounding is there to be seen"


@pytest.mark.parametrize("network", [MLP, RecurrentEncoder])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_product_of_a_network_and_its_gradient_asks_for_the_chosen_precision(precision, network):
    """What XLA is asked for: in float32 full precision, which a GPU does not give unasked; otherwise never that."""
    encoder = initialised(network, 4, 8, 2, 3, out_scale=0.1, precision=precision)
    gradient = eqx.filter_grad(lambda encoder, x: encoder(x).sum())
    program = str(jax.make_jaxpr(lambda x: gradient(encoder, x))(jnp.ones((2, 5, 4))))
    products = program.count("dot_general[")
    assert products > 5
    assert program.count("Precision.HIGHEST") == (2 * products if precision == "float32" else 0)  # of either side


def test_a_product_in_float32_leaves_float64_alone():
    with jax.enable_x64(True):
        x, weight = (np.random.default_rng(i).standard_normal((8, 8)) for i in range(2))
        np.testing.assert_allclose(product(jnp.asarray(x), jnp.asarray(weight), "float32"), x @ weight, rtol=1e-14)


@pytest.fixture(scope="module")
def fresh() -> soft_actor_critic.Networks:
    """The paper's networks for the half-cheetah."""
    return jax.jit(lambda key: pearl.init_learner(20, 6, PearlSettings(), key)[0])(jax.random.key(0))


def uniform_within(x: jax.Array, bound: float) -> None:
    """Fills +-bound: reaches nearly to both ends, with the deviation of a uniform distribution."""
    x = np.asarray(x)
    assert (np.abs(x) <= bound).all()
    assert x.size < 100 or (x.max() > 0.95 * bound and x.min() < -0.95 * bound)
    assert x.size < 100 or abs(x.std() / (bound / math.sqrt(3)) - 1) < 0.15
    assert len(np.unique(x)) > 0.9 * x.size


@pytest.mark.parametrize(
    ("net", "in_dim", "width", "out_dim", "last"),
    [
        ("encoder", 20 + 6 + 1, 200, 10, 3e-3),
        ("q1", 20 + 6 + 5, 300, 1, 3e-3),
        ("q2", 20 + 6 + 5, 300, 1, 3e-3),
        ("value", 20 + 5, 300, 1, 3e-3),
        ("policy", 20 + 5, 300, 12, 1e-3),
    ],
)
def test_every_layer_starts_in_the_papers_range(fresh, net, in_dim, width, out_dim, last):
    """Hidden weights +-1/sqrt(width), hidden biases 0.1; last layer +-3e-3, of the policy's heads +-1e-3."""
    mlp = {
        "encoder": fresh.encoder,
        "q1": fresh.critics[0],
        "q2": fresh.critics[1],
        "value": fresh.value,
        "policy": fresh.policy.mlp,
    }[net]
    dims = [in_dim, width, width, width, out_dim]
    assert [w.shape for w in mlp.weights] == list(itertools.pairwise(dims))
    for weight, bias in zip(mlp.weights[:-1], mlp.biases[:-1], strict=True):
        uniform_within(weight, 1 / math.sqrt(width))
        assert bias.shape == (width,) and (np.asarray(bias) == np.float32(0.1)).all()
    uniform_within(mlp.weights[-1], last)
    uniform_within(mlp.biases[-1], last)
    assert all(leaf.dtype == jnp.float32 and not leaf.weak_type for leaf in jax.tree.leaves(mlp))


def test_log_density_of_a_squashed_action_is_that_of_the_change_of_variables():
    """The derivative of P(action <= a) = Phi((artanh a - mean) / std), by central differences; dimensions multiply."""
    mean, log_std = np.array([0.3, -0.5, 0.0]), np.array([-0.7, 0.2, -1.5])
    noise = np.array([[0.4, -1.0, 0.1], [-1.3, 0.2, 0.9], [0.0, 0.0, 0.0], [0.8, -0.9, -2.0]])
    output = PolicyOutput(jnp.asarray(mean, jnp.float32), jnp.asarray(log_std, jnp.float32))
    action, log_density = jax.jit(sample_action)(output, noise.astype(np.float32))
    np.testing.assert_allclose(action, np.tanh(mean + np.exp(log_std) * noise), rtol=1e-5, atol=1e-6)

    @np.vectorize
    def cdf(a: float, mean: float, log_std: float) -> float:
        return 0.5 * (1 + math.erf((math.atanh(a) - mean) / math.exp(log_std) / math.sqrt(2)))

    a, step = np.tanh(mean + np.exp(log_std) * noise), 1e-6
    density = (cdf(a + step, mean, log_std) - cdf(a - step, mean, log_std)) / (2 * step)
    np.testing.assert_allclose(log_density, np.log(density).sum(axis=-1), rtol=1e-3, atol=1e-3)


def test_log_density_stays_finite_where_tanh_saturates():
    output = PolicyOutput(jnp.array([30.0]), jnp.array([0.0]))
    action, log_density = sample_action(output, jnp.zeros(1))
    assert float(action[0]) == 1.0
    np.testing.assert_allclose(log_density, -0.5 * math.log(2 * math.pi) - math.log(1e-6), rtol=1e-5)


def test_log_std_is_clipped_to_its_range():
    policy = initialised(TanhGaussianPolicy, 2, 1, 3, 4, 1)
    biases = (policy.mlp.biases[0], jnp.array([50.0, -50.0, 0.0, 100.0, -100.0, 1.0]))
    policy = eqx.tree_at(lambda p: p.mlp.biases, policy, biases)
    output = called(policy, np.zeros(2, np.float32), np.zeros(1, np.float32))
    np.testing.assert_allclose(output.log_std, [2.0, -20.0, 1.0], atol=0.01)
    assert float(output.log_std[0]) == 2.0 and float(output.log_std[1]) == -20.0
    np.testing.assert_allclose(output.mean, [50.0, -50.0, 0.0], atol=0.01)


def test_numbers_drawn_at_once_are_those_that_each_key_draws_alone():
    keys = jax.random.split(jax.random.key(7), 3)
    shapes, bounds = [(4, 5), (2, 30), (3,)], [0.5, 1.0, 3e-3]
    drawn = uniform(keys, shapes, bounds)
    for key, shape, bound, got in zip(keys, shapes, bounds, drawn, strict=True):
        np.testing.assert_array_equal(got, jax.random.uniform(key, shape, minval=-bound, maxval=bound))
