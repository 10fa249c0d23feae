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


def of_updates() -> dict[str, Any]:
    """Blocks of updates on eight devices against the same on one."""
    states, procedure = collected(8)

    def trained(which: list[int], num_devices: int) -> tuple[list[State], Any]:
        own = [jax.tree.map(jnp.copy, states[seed]) for seed in which]  # an update uses them up
        places = devices.places(num_devices, len(own))
        own = [devices.placed(state, place) for state, place in zip(own, places, strict=True)]
        return off_policy.train(own, procedure, UPDATES)

    (spread, spread_metrics), (group, metrics) = trained([*range(8)], 8), trained([*range(8)], 1)
    pairs, alone, shared = trained([*range(8)], 4)[0], trained([3], 1)[0], trained([3], 8)[0]
    mesh, tasks = devices.mesh_of([state.networks for state in spread]), devices.mesh_of([shared[0].networks])
    assert mesh is not None and tasks is not None
    learning = off_policy._learning(spread, procedure) | {"first": np.int32(0), "num_updates": UPDATES}
    parts: dict[str, Any] = {name: devices.joined(learning[name], mesh) for name in ("learners", "data")}
    parts["keys"] = [jnp.stack(learning["keys"])]
    own = off_policy._learning(shared, procedure) | {"first": np.int32(0), "num_updates": UPDATES}
    texts = {
        "seeds": off_policy.groups_block.lower(**learning | parts, mesh=mesh).compile().as_text(),
        "tasks": off_policy.block.lower(**own, mesh=tasks).compile().as_text(),
    }
    return {
        "devices of networks": [str(jax.tree.leaves(state.networks)[0].devices()) for state in spread],
        "devices of replay": [str(state.rl_buffer.pool.devices()) for state in spread],
        "learnt": furthest(arrays(group), arrays(states)),
        "seeds differ": furthest(arrays(spread[:1]), arrays(spread[1:2])),
        "one a device": furthest(arrays(spread), arrays(group)),
        "two a device": furthest(arrays(pairs), arrays(group)),
        "against alone": furthest(arrays(spread[3:4]), arrays(alone)),
        "metrics": furthest(
            *([[np.asarray(x) for x in jax.tree.leaves(one)] for one in each] for each in (spread_metrics, metrics))
        ),
        "tasks": furthest(arrays(shared), arrays(alone)),
        "collectives": {
            name: [one for one in COLLECTIVES if text is None or one in text] for name, text in texts.items()
        },
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
        "devices": [run.experiment.options.devices for run in moved],
    }


if __name__ == "__main__":
    found = of_runs(Path(sys.argv[1])) if len(sys.argv) > 1 else of_updates()
    print(json.dumps(found))
