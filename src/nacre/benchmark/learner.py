"""The update, against the machine's matrix products; and with replay of many tasks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from nacre.algorithms import pearl
from nacre.benchmark import sizes
from nacre.benchmark.result import Result, pearl_settings
from nacre.learning import off_policy, relabelling
from nacre.learning import replay as rings
from nacre.learning.collection import Phases
from nacre.learning.devices import placed, places
from nacre.learning.networks import product
from nacre.learning.off_policy import Procedure, State
from nacre.runs.device_check import check_devices
from nacre.runs.experiment import Experiment, RunOptions


def update(experiment: Experiment, seeds: int, devices: int = 1) -> Result:
    """Blocks of updates on transitions that a fresh policy collected, in turns with the ceiling's products."""
    check_devices([dataclasses.replace(experiment, options=RunOptions(devices=devices))] * seeds)
    family, paper = experiment.family, pearl_settings(experiment)
    # A short run sizes and fills the buffers, smaller than a real one; an update's own sizes are the preset's.
    config = paper.shortened(iterations=1)
    states = [pearl.init(family, config, seed) for seed in range(seeds)]
    everything, phases = np.tile(np.arange(config.num_train_tasks), (seeds, 1)), Phases(prior=1)
    tasks = experiment.draw_tasks()
    procedure = relabelling.with_relabelling(
        pearl.procedure(family, config), family, config.num_relabelled_tasks, tasks
    )
    states = off_policy.collect(family, config, tasks.train, states, everything, phases, procedure)
    states = [placed(state, place) for state, place in zip(states, places(devices, seeds), strict=True)]
    flops = seeds * config.update_flops(family.obs_dim, family.action_dim)
    ceiling = _product_rate(config.meta_batch * config.batch_size, config.hidden_dim, config.precision)
    seconds_of_one = _update_seconds(states, procedure)

    seconds, ceilings = [], []
    for _ in range(sizes.ROUNDS):
        seconds.append(seconds_of_one())
        ceilings.append(ceiling())
    return {
        "ms_per_update": 1e3 * float(np.median(seconds)),
        "flops_per_update": flops,
        "ceiling_flops_per_s": float(np.median(ceilings)),
        "fraction_of_ceiling": float(np.median(flops / np.array(seconds) / np.array(ceilings))),
        "seeds": seeds,
        "devices": devices,
        "precision": config.precision,
    }


def _update_seconds(states: list[State], procedure: Procedure) -> Callable[[], float]:
    """A function that measures seconds per update of all states together, compiled already.

    On an accelerator in blocks as long as training's: an update is so short there that the call of a block counts.
    """
    num_updates = sizes.UPDATES_PER_ROUND if _on_cpu() else off_policy.UPDATES_PER_CALL

    def measure() -> float:
        nonlocal states
        started = time.perf_counter()
        states, metrics = off_policy.train(states, procedure, num_updates)
        jax.block_until_ready(([(state.networks, state.optimisers) for state in states], metrics))
        return (time.perf_counter() - started) / num_updates

    measure()
    return measure


def scaling(experiment: Experiment) -> Result:
    """The update with replay of few and of many train tasks; made-up transitions, as many a task."""
    family, preset = experiment.family, pearl_settings(experiment)
    updates: dict[int, Callable[[], float]] = {}
    for num_train in sizes.SCALING_TASKS:
        config = dataclasses.replace(
            preset, num_train_tasks=num_train, test_tasks_from=0, iterations=1, num_initial_episodes=1,
            num_relabelled_tasks=0,
        )  # fmt: skip
        dims = (num_train, rings.PAGE, num_train * rings.PAGE, family.obs_dim, family.action_dim)
        networks, optimisers = pearl.init_learner(family.obs_dim, family.action_dim, config, jax.random.key(0))
        buffers = [_made_up_replay(rings.empty(*dims), seed) for seed in range(2)]
        counters = (jax.random.key(0), np.int64(0), np.int64(0), np.int64(0))
        state = State(networks, optimisers, buffers[0], buffers[1], *counters)
        updates[num_train] = _update_seconds([state], pearl.procedure(family, config))
    seconds = np.array([[one() for one in updates.values()] for _ in range(sizes.ROUNDS)])
    result: Result = {
        f"ms_per_update_{number}": 1e3 * float(each)
        for number, each in zip(updates, np.median(seconds, axis=0), strict=True)
    }
    result["slowest_over_fastest"] = float(np.median(seconds.max(axis=1) / seconds.min(axis=1)))
    transitions = -(-preset.num_initial_episodes * family.horizon // rings.PAGE) * rings.PAGE
    row_bytes = 4 * rings.row_width(family.obs_dim, family.action_dim)
    result["kilobytes_per_task"] = 2 * transitions * row_bytes / 1e3
    return result


def _made_up_replay(empty: rings.Replay, seed: int) -> rings.Replay:
    """Rings of one page each, full of random numbers; the pages lie in the pool in random order."""
    num_rings, order = len(empty.pages), np.random.default_rng(seed).permutation(len(empty.pages))
    return empty._replace(
        pool=jax.random.normal(jax.random.key(seed), empty.pool.shape),
        pages=jnp.asarray(order[:, None], jnp.int32),
        written=jnp.full(num_rings, rings.PAGE, jnp.int32),
        pages_taken=jnp.ones(num_rings, jnp.int32),
        next_page=jnp.asarray(num_rings, jnp.int32),
    )


def _product_rate(rows: int, width: int, precision: str) -> Callable[[], float]:
    """A function that measures operations per second: the best of 5 products [rows, width] x [width, width].

    A product that is over in microseconds is repeated inside the compiled call, so that calling it costs nothing.
    """
    flops = 2 * rows * width * width
    work, in_a_row = (sizes.CEILING_FLOPS, 1) if _on_cpu() else (sizes.CEILING_FLOPS_OF_ACCELERATORS, 10)
    num_products = max(1, round(work / flops / in_a_row)) * in_a_row
    x_key, weight_key = jax.random.split(jax.random.key(0))
    x = jax.random.normal(x_key, (rows, width))
    weight = jax.random.normal(weight_key, (width, width)) / width**0.5

    @jax.jit
    def products(x: jax.Array, weight: jax.Array) -> jax.Array:
        if num_products == 1:
            return product(x, weight, precision)
        multiplied = lambda _, x: product(x, weight, precision)  # noqa: E731
        return jax.lax.fori_loop(0, num_products, multiplied, x, unroll=in_a_row)

    products(x, weight).block_until_ready()

    def measure() -> float:
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            products(x, weight).block_until_ready()
            seconds.append(time.perf_counter() - started)
        return num_products * flops / min(seconds)

    return measure


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"
