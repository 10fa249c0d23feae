"""The conjugate gradient and the trust-region step, on problems whose solution is known (MAML's: test_maml.py)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from nacre.learning import trust_region
from nacre.learning.trust_region import TrustRegion

conjugate_gradient = jax.jit(trust_region.conjugate_gradient, static_argnums=(0, 2))


def test_the_conjugate_gradient_solves_what_a_direct_solver_solves(float64: None):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(12, 12))
    matrix, b = root @ root.T + np.eye(12), rng.normal(size=12)
    product = lambda v: matrix @ v  # noqa: E731
    found = conjugate_gradient(product, b, 30)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, b), rtol=1e-6)
    few = conjugate_gradient(product, b, 3)
    assert np.linalg.norm(matrix @ few - b) < 0.8 * np.linalg.norm(b)
    np.testing.assert_array_equal(conjugate_gradient(product, 0 * b, 30), 0 * b)


def test_a_trust_region_step_goes_as_far_as_the_divergence_allows_down_the_natural_gradient(float64: None):
    """A linear loss under a quadratic divergence has an answer in closed form."""
    rng = np.random.default_rng(1)
    root = rng.normal(size=(6, 6))
    hessian, g, x = root @ root.T + np.eye(6), rng.normal(size=6), rng.normal(size=6)
    region = TrustRegion(max_kl=0.02, cg_iterations=20, damping=0.0)
    quadratic = lambda y, task: 0.5 * task * (y - x) @ hessian @ (y - x)  # noqa: E731
    tasks = np.array([0.5, 1.5])  # whose mean is 1
    step = jax.jit(lambda y: trust_region.step(lambda y: g @ y, lambda y, task: y, quadratic, tasks, y, region))
    found, metrics = step(x)
    natural = np.linalg.solve(hessian, g)
    wanted = x - np.sqrt(2 * 0.02 / (g @ natural)) * natural
    # The first try reaches the limit itself, up to rounding; the second is 0.8 of the way.
    share = 0.8 ** float(metrics["backtracks"])
    np.testing.assert_allclose(found, x + share * (wanted - x), rtol=1e-6)
    assert metrics["backtracks"] <= 1 and metrics["step_accepted"] == 1 and metrics["outer_kl"] <= 0.02


def test_a_step_that_no_length_makes_better_is_not_taken():
    flat = np.ones(3, np.float32)
    loss = lambda x: jnp.where((x == flat).all(), 0.0, 1.0) + x.sum() * 1e-3  # noqa: E731  (better only at 1)
    square = lambda x, task: ((x - flat) ** 2).sum()  # noqa: E731
    step = jax.jit(lambda x: trust_region.step(loss, lambda x, task: x, square, np.zeros(1), x, TrustRegion()))
    found, metrics = step(flat)
    np.testing.assert_array_equal(found, flat)
    assert metrics["step_accepted"] == 0 and metrics["outer_loss_change"] == 0
