"""PEARL's updates on an accelerator against the same on the CPU. Run where there is one: pytest -m gpu."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.algorithms import pearl
from nacre.families.half_cheetah import CheetahVel
from nacre.learning import off_policy
from nacre.learning import replay as rings
from nacre.presets.pearl import PearlSettings
from nacre.simulation import rollout
from nacre.types import Episode, Transition

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(jax.default_backend() == "cpu", reason="no accelerator"),
]

FAMILY = CheetahVel()
NUM_TASKS = 4
NUM_UPDATES = 3


def settings(precision: str = "float32") -> PearlSettings:
    """An update of the paper's size; few tasks."""
    return PearlSettings(num_train_tasks=NUM_TASKS, num_test_tasks=2, iterations=1, precision=precision)


def made_up_state(config: PearlSettings, seed: int = 0) -> pearl.State:
    """As after a collection: one episode a task, of random numbers of a robot's size, in both buffers."""
    rng = np.random.default_rng(0)

    def normal(*dims: int) -> np.ndarray:
        return rng.standard_normal((NUM_TASKS, FAMILY.horizon, *dims)).astype(np.float32)

    obs, action, reward = normal(FAMILY.obs_dim), np.tanh(normal(FAMILY.action_dim)), normal()
    transitions = Transition(obs, action, reward, reward, np.ones_like(reward), obs + 0.1 * normal(FAMILY.obs_dim))
    episodes = Episode(transitions, np.full(NUM_TASKS, FAMILY.horizon))
    fresh = pearl.init(FAMILY, config, seed)
    insert = jax.jit(rings.insert)
    return fresh._replace(
        rl_buffer=insert(fresh.rl_buffer, np.arange(NUM_TASKS), episodes),
        context_buffer=insert(fresh.context_buffer, np.arange(NUM_TASKS), episodes),
    )


def updated(*states: pearl.State, config: PearlSettings) -> tuple[list[pearl.State], list[dict[str, np.ndarray]]]:
    """A block of updates on the device that holds the states, which stay usable; all results on the host."""
    copies = [state._replace(**_copied(state)) for state in states]
    return jax.device_get(off_policy.train(copies, pearl.procedure(FAMILY, config), NUM_UPDATES))


def _copied(state: pearl.State) -> dict[str, Any]:
    return {name: jax.tree.map(jnp.copy, getattr(state, name)) for name in ("networks", "optimisers")}


def moved(before: Any, after: Any) -> np.ndarray:
    """What every parameter of the networks has changed by, in one vector."""
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return np.concatenate([np.ravel(np.asarray(y, np.float64) - np.asarray(x, np.float64)) for x, y in pairs])


def assert_metrics_close(ours: dict[str, np.ndarray], cpu: dict[str, np.ndarray], tolerance: float) -> None:
    for name, expected in cpu.items():
        error = np.max(np.abs(ours[name] - expected) / np.maximum(np.abs(expected), 1.0))
        assert error <= tolerance, f"{name}: off by {error:.2g}"


@pytest.fixture(scope="module")
def on_cpu() -> tuple[pearl.State, dict[str, np.ndarray]]:
    """(state after the block, metrics), computed on the CPU in float32."""
    config = settings()
    host = jax.local_devices(backend="cpu")[0]
    with jax.default_device(host):
        (after,), (metrics,) = updated(jax.device_put(made_up_state(config), host), config=config)
    return after, metrics


@pytest.mark.parametrize(
    ("precision", "of_metrics", "of_steps"), [("float32", 1e-4, 0.02), ("tf32", 1e-2, 0.4), ("bfloat16", 5e-2, 0.8)]
)
def test_a_block_of_updates_is_that_of_the_cpu_but_for_rounding(
    on_cpu: tuple[pearl.State, dict[str, np.ndarray]], precision: str, of_metrics: float, of_steps: float
) -> None:
    """Adam's first steps are the signs of gradients: where one is nearly 0, rounding turns it over."""
    state = made_up_state(settings(precision))
    (after,), (metrics,) = updated(state, config=settings(precision))
    cpu_after, cpu_metrics = on_cpu
    assert_metrics_close(metrics, cpu_metrics, of_metrics)
    ours, expected = moved(state.networks, after.networks), moved(state.networks, cpu_after.networks)
    error = np.linalg.norm(ours - expected) / np.linalg.norm(expected)
    print(f"{precision}: steps differ by {error:.2g} of their length")
    assert error <= of_steps


def test_the_same_block_twice_gives_the_same_numbers() -> None:
    """What `resume` promises, as far as one process can tell."""
    config = settings()
    state = made_up_state(config)
    one, other = updated(state, config=config), updated(state, config=config)
    keyless = [[after._replace(key=None) for after in states] for states, _ in (one, other)]
    jax.tree.map(np.testing.assert_array_equal, (keyless[0], one[1]), (keyless[1], other[1]))


def test_seeds_side_by_side_are_single_runs_but_for_rounding() -> None:
    config = settings()
    states = [made_up_state(config, seed) for seed in range(2)]
    _, together = updated(*states, config=config)
    for state, metrics in zip(states, together, strict=True):
        _, (alone,) = updated(state, config=config)
        assert_metrics_close(metrics, alone, 1e-4)


def test_robots_and_sessions_are_acted_for_on_the_host() -> None:
    config = settings()
    agent, params = pearl.make_agent(FAMILY, config), pearl.agent_params(pearl.init(FAMILY, config, 0))
    tasks = FAMILY.sample_tasks(np.random.default_rng(0), 2)
    memory = rollout.begin(agent, params, tasks, jax.random.key(0))
    assert {device.platform for device in memory.z.devices()} == {jax.devices()[0].platform}
    after, _ = rollout.episode(FAMILY, agent, params, memory, tasks, jax.random.key(1), explore=True)
    assert {device.platform for device in after.z.devices()} == {"cpu"}
    ended = rollout.end_episode(agent, params, after, jax.random.key(2))
    assert np.isfinite(np.asarray(ended.z)).all()
