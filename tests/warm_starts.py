"""What tests of every method share: a run that starts from another run's networks, and from nothing else of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

import nacre
from nacre.runs.loading import load_state


def acting(path: Path, checkpoint: str = "latest") -> list[np.ndarray]:
    """What the agent of a checkpoint acts by; of MAESN without the latents, which are of train tasks."""
    run = nacre.RunDirectory(path)
    params = run.experiment.algorithm.agent_params(load_state(run, with_buffers=False, checkpoint=checkpoint))
    if run.experiment.algorithm_name == "maesn" and hasattr(params, "latents"):
        params = params._replace(latents=None)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(one, other, strict=True))


def assert_starts_from(first: nacre.RunDirectory, out: Path, **settings: Any) -> None:
    """Trains another run of the method, with these settings of the first: it begins with its networks and learns on."""
    experiment = first.experiment
    nacre.train(experiment.algorithm_name, experiment.family.name, out=out, from_run=first.path, **settings)
    assert same(acting(out, "0"), acting(first.path))
    begun = load_state(nacre.RunDirectory(out), with_buffers=False, checkpoint="0")
    assert (begun.env_steps, begun.grad_steps, begun.meta_iterations) == (0, 0, 0)
    assert not same(acting(out), acting(first.path)), "it was trained on"
    record = json.loads((out / "config.json").read_text())["started_from"]
    assert record["run"] == str(first.path) and record["grad_steps"] > 0 and len(record["networks_sha256"]) == 64
