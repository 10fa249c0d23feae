"""What test_devices.py starts in a process of its own, with eight devices: prints what it found as one line of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import nacre
from nacre.algorithms import pearl
from nacre.learning import devices, off_policy
from nacre.learning.collection import Phases
from nacre.learning.off_policy import State
from nacre.runs.experiment import resolve
from nacre.runs.loading import load_state

NUMBER = 1 << (min(8, jax.local_device_count()).bit_length() - 1)
"""Eight, or the largest power of two that there is: benchmarks/gpu.sh runs this on GPUs."""
UPDATES = 3
SMALL: dict[str, Any] = dict(
    preset="smoke", meta_batch=8, batch_size=4, hidden_dim=8, context_batch_size=4, num_train_tasks=4,
    normalise_inputs="none",
)  # fmt: skip
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def arrays(states: list[State]) -> list[list[np.ndarray]]:
    """Networks and optimisers of each run."""
    return [[np.asarray(x) for x in jax.tree.leaves((one.networks, one.optimisers))] for one in states]


def furthest(some: list[list[np.ndarray]], others: list[list[np.ndarray]]) -> float:
    """The largest difference of two numbers."""
    pairs = [pair for both in zip(some, others, strict=True) for pair in zip(*both, strict=True)]
    return max(float(np.abs(x - y).max()) for x, y in pairs if x.size)


def collected(seeds: int) -> tuple[list[State], off_policy.Procedure]:
    """States before the first update, with some transitions of every task."""
    experiment = resolve("pearl", "point-robot", **SMALL)
    family, config = experiment.family, experiment.settings
    procedure = pearl.procedure(family, config)  # type: ignore[arg-type]
    states = [pearl.init(family, config, seed) for seed in range(seeds)]  # type: ignore[arg-type]
    every = np.tile(np.arange(config.num_train_tasks), (seeds, 1))
    tasks = experiment.draw_tasks().train
    return off_policy.collect(family, config, tasks, states, every, Phases(prior=1), procedure), procedure  # type: ignore[arg-type]


def trained(
    states: list[State], procedure: off_policy.Procedure, num_devices: int
) -> tuple[list[State], list[dict[str, Any]]]:
    """A block of updates of copies of these states, on so many devices."""
    own = [jax.tree.map(jnp.copy, state) for state in states]  # an update uses them up
    places = devices.places(num_devices, len(own))
    own = [devices.placed(state, place) for state, place in zip(own, places, strict=True)]
    return off_policy.train(own, procedure, UPDATES)


def of_updates() -> dict[str, Any]:
    """Blocks of updates on NUMBER devices against those of each seed alone on one: a program for all of them on one
    takes many times as long to compile."""
    states, procedure = collected(NUMBER)
    spread, spread_metrics = trained(states, procedure, NUMBER)
    each_alone = [trained([state], procedure, 1) for state in states]
    alone, metrics = [state for (state,), _ in each_alone], [one for _, (one,) in each_alone]
    shared, _ = trained(states[-1:], procedure, NUMBER)
    mesh = devices.mesh_of([state.networks for state in spread])
    assert mesh is not None
    given = off_policy.joined_learning(off_policy.learning(spread, procedure, UPDATES, UPDATES), mesh)
    text = off_policy.groups_block.lower(**given, mesh=mesh).compile().as_text() or ""
    of_metrics = [[[np.asarray(x) for x in one.values()] for one in each] for each in (spread_metrics, metrics)]
    return {
        "devices": [[on(state.networks), on(state.rl_buffer), on(state.context_buffer)] for state in spread],
        "learnt": furthest(arrays(alone), arrays(states)),
        "seeds differ": furthest(arrays(spread[:1]), arrays(spread[1:2])),
        "seeds": furthest(arrays(spread), arrays(alone)),
        "metrics": furthest(*of_metrics),
        "tasks": furthest(arrays(shared), arrays(alone[-1:])),
        "program": len(text),
        "collectives": [one for one in COLLECTIVES if one in text],
    }


def on(tree: Any) -> list[int]:
    """Numbers of the devices that the first array lies on."""
    return sorted(device.id for device in jax.tree.leaves(tree)[0].devices())


def of_groups() -> dict[str, Any]:
    """Several seeds a device; a seed alone; and the program whose devices do tell each other something."""
    states, procedure = collected(8)
    (pairs, _), (group, _) = (trained(states, procedure, number) for number in (4, 1))
    (alone, _), (spread, _) = trained(states[3:4], procedure, 1), trained(states, procedure, 8)
    shared, _ = trained(states[3:4], procedure, 8)
    mesh = devices.mesh_of([shared[0].networks])
    given = off_policy.learning(shared, procedure, UPDATES, UPDATES)
    text = off_policy.block.lower(**given, mesh=mesh).compile().as_text()
    return {
        "two a device": furthest(arrays(pairs), arrays(group)),
        "devices of pairs": [on(state.networks) for state in pairs],
        "alone": furthest(arrays(spread[3:4]), arrays(alone)),
        "all-reduce": "all-reduce" in (text or ""),
    }


def of_runs(folder: Path) -> dict[str, Any]:
    """Whole runs: two seeds on two devices, resumed on one, against two on one."""
    moved = nacre.train_seeds("pearl", "point-robot", (0, 1), **SMALL, iterations=1, devices=2, out=folder / "moved")
    moved = nacre.resume_seeds([run.path for run in moved], iterations=2, devices=1)
    stayed = nacre.train_seeds("pearl", "point-robot", (0, 1), **SMALL, iterations=2, out=folder / "stayed")
    (nacre.resume(moved[0].path, iterations=3, devices=8), nacre.resume(stayed[0].path, iterations=3))
    final = [arrays([load_state(run) for run in runs]) for runs in (moved, stayed)]
    return {
        "runs": furthest(*final),
        "returns": float(np.abs(moved[0].evaluations()["return"] - stayed[0].evaluations()["return"]).max()),
        "iterations": [int(load_state(run).meta_iterations) for run in moved],
        "devices": [nacre.RunDirectory(run.path).experiment.options.devices for run in moved],
    }


if __name__ == "__main__":
    found = of_groups() | of_runs(Path(sys.argv[1])) if len(sys.argv) > 1 else of_updates()
    print(json.dumps(found))
