"""The figures of the PEARL paper: which runs each needs, at a chosen scale, and the picture of them."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nacre.algorithms.registry import find_algorithm
from nacre.errors import NacreError, unknown
from nacre.families.family import Family
from nacre.presets.trials import TrialSettings
from nacre.report import curves
from nacre.runs import trainer
from nacre.runs.checkpoints import Checkpoints
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import Experiment, resolve
from nacre.simulation.lanes import is_compiled, lent_lanes


class Line(NamedTuple):
    """One curve of a figure: runs that differ in nothing but their seed."""

    name: str  # names its directory
    algorithm: str
    family: str
    fields: dict[str, Any] = {}  # noqa: RUF012  (changed from the preset)


class PaperFigure(NamedTuple):
    """A figure of the paper."""

    title: str
    finding: str  # what the paper says that it shows
    lines: tuple[Line, ...]


def _six_domains() -> Iterator[Line]:
    for family in ("cheetah-dir", "cheetah-vel", "ant-dir", "ant-goal", "humanoid-dir", "walker-params"):
        for algorithm in ("pearl", "promp", "maml-trpo", "rl2", "oracle", "random"):
            yield Line(algorithm, algorithm, family)


def _sparse_navigation() -> Iterator[Line]:
    for radius in (0.2, 0.8):
        for algorithm in ("pearl", "maesn"):
            yield Line(f"{algorithm}-radius-{radius}", algorithm, "sparse-point-robot", {"goal_radius": radius})


PAPER_CONTEXT = {"context": "recent"}
"""The paper's contexts, at every scale: the ablations of encoder and context are about these, and `fast` has others."""
FIGURES: dict[str, PaperFigure] = {
    "domains": PaperFigure(
        "Meta-learning on six domains",
        "PEARL needs 20 to 100 times fewer steps than ProMP, MAML-TRPO and RL2, and ends higher.",
        tuple(_six_domains()),
    ),
    "sparse": PaperFigure(
        "Sparse navigation", "PEARL explores better than MAESN, and from fewer steps.", tuple(_sparse_navigation())
    ),
    "encoder": PaperFigure(
        "Encoders",
        "A recurrent encoder is about as good with unordered transitions, though slower; with trajectories, worse.",
        (
            Line("product", "pearl", "cheetah-vel", PAPER_CONTEXT),
            Line("recurrent", "pearl", "cheetah-vel", PAPER_CONTEXT | {"encoder": "recurrent"}),
            Line(
                "recurrent-trajectories",
                "pearl",
                "cheetah-vel",
                PAPER_CONTEXT | {"encoder": "recurrent", "batch_order": "trajectories"},
            ),
        ),
    ),
    "context": PaperFigure(
        "Data of the context",
        "Off-policy context hurts a lot; the critics' batch as context lies between.",
        tuple(
            Line(f"context-{source}", "pearl", "cheetah-vel", {"context": source})
            for source in ("recent", "replay", "batch")
        ),
    ),
    "deterministic": PaperFigure(
        "A point estimate of the task",
        "Without a belief, sparse rewards are not found.",
        (
            Line("belief", "pearl", "sparse-point-robot"),
            Line("point-estimate", "pearl", "sparse-point-robot", {"use_information_bottleneck": False}),
        ),
    ),
}

SHORT_ITERATIONS = {"rl2": 50, "maml-trpo": 7, "promp": 7, "maesn": 500, "random": 1}
"""Iterations at scale `short` of methods without a preset `fast`: about 2M steps of the robots; MAESN's whole run."""
SCALES = ("smoke", "short", "paper")


def chosen(line: Line, scale: str, seed: int) -> Experiment:
    """The experiment of a line at a scale. All lines of a family are scored on the same tasks, alike."""
    if scale != "short":
        return resolve(line.algorithm, line.family, scale, seed=seed, **line.fields)
    if "fast" in find_algorithm(line.algorithm).presets:
        return resolve(line.algorithm, line.family, "fast", seed=seed, **line.fields)
    return resolve(
        line.algorithm, line.family, "paper", seed=seed, iterations=SHORT_ITERATIONS[line.algorithm], **line.fields
    )


class PlannedRun(NamedTuple):
    """One run of a figure."""

    line: Line
    experiment: Experiment
    path: Path


def planned(figure: str, scale: str, seeds: Sequence[int], out: Path) -> list[PlannedRun]:
    """The runs of a figure, seed after seed, so that every line has one before any has two."""
    if figure not in FIGURES:
        raise unknown("figure", figure, FIGURES)
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    return [
        PlannedRun(line, chosen(line, scale, seed), out / figure / scale / line.family / line.name / f"seed-{seed}")
        for seed in seeds
        for line in FIGURES[figure].lines
    ]


def run(figure: str, scale: str, seeds: Sequence[int], out: Path, time_limit: float | None = None) -> str | None:
    """Trains what is missing of a figure, resumes what was stopped, and draws it (`picture_of`) after every run.

    `time_limit` in minutes, for everything. Returns None when all runs are done; else what stopped them: the same call
    goes on.
    """
    deadline = None if time_limit is None else time.monotonic() + 60 * time_limit
    paths: list[Path] = []
    for one in planned(figure, scale, seeds, out):
        if not is_done(one.experiment, one.path):
            left = None if deadline is None else max((deadline - time.monotonic()) / 60, 1e-9)
            if one.path.exists():
                trained = trainer.resume([one.path], time_limit=left)
            else:
                trained = trainer.train([one.experiment], [one.path], time_limit=left)
            if trained.stopped_by is not None:
                return trained.stopped_by
        paths.append(one.path)
        curves.draw(paths, picture_of(figure, scale, out))
    return None


def picture_of(figure: str, scale: str, out: Path) -> Path:
    """Where the picture of a figure goes."""
    return out / figure / f"{scale}.png"


def is_done(chosen: Experiment, path: Path) -> bool:
    """Whether a run has its last checkpoint. Raises NacreError for a run there that is not the planned one."""
    if not path.exists():
        return False
    run = RunDirectory(path)
    if run.experiment != chosen:
        raise NacreError(f"the run at {path} has other settings than this figure's; move it away, or change --out.")
    return Checkpoints(run.checkpoints, read_only=True).latest() == num_updates(chosen)


# ----------------------------------------------------------------------------------------------------------------------
# How long it will take


def num_updates(chosen: Experiment) -> int:
    """Updates of a whole run."""
    return int(chosen.settings.iterations * chosen.settings.num_train_steps_per_iteration)


def estimated_seconds(chosen: Experiment) -> float:
    """Collection, evaluations and (PEARL with its product encoder, oracle) updates at this machine's rates of now."""
    config, family = chosen.settings, chosen.family
    trials = TrialSettings.of(config)
    trial = config.num_test_tasks * trials.repeats * trials.episodes * family.horizon
    seconds = (config.env_steps(family) + config.iterations * trial) / steps_per_second(family)
    flops = config.update_flops(family.obs_dim, family.action_dim, family.task_dim)
    return seconds + num_updates(chosen) * flops / product_rate() if flops else seconds


@functools.cache
def product_rate() -> float:
    """Floating-point operations a second in float32 matrix products of PEARL's size."""
    x, weight = jnp.ones((4096, 300)), jnp.ones((300, 300))
    multiply = jax.jit(lambda x: x @ weight)
    multiply(x).block_until_ready()
    started, count = time.perf_counter(), 20
    for _ in range(count):
        multiply(x).block_until_ready()
    return count * 2 * x.size * 300 / (time.perf_counter() - started)


@functools.cache
def steps_per_second(family: Family, num_lanes: int = 64, num_steps: int = 20) -> float:
    """Control steps a second that a family is simulated at, without a policy."""
    if is_compiled(family):
        return 1e6  # compiled with the policy; what it takes is the policy's time
    tasks = family.sample_tasks(np.random.default_rng(0), num_lanes)
    action = np.zeros((num_lanes, family.action_dim))
    with lent_lanes(family, num_lanes) as lanes:
        lanes.reset(tasks, np.random.default_rng(0))
        lanes.step(action, tasks)
        started = time.perf_counter()
        for _ in range(num_steps):
            lanes.step(action, tasks)
        return num_lanes * num_steps / (time.perf_counter() - started)
