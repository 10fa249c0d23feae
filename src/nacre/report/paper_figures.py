"""The figures of the PEARL paper: which runs each needs, at a chosen scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nacre.algorithms.registry import find_algorithm
from nacre.families.catalog import find_family
from nacre.report import curves, profiles
from nacre.report.comparison import compare
from nacre.report.comparison_table import as_markdown
from nacre.report.picture import written_whole
from nacre.report.steps import Line, RunStep


class PaperFigure(NamedTuple):
    """A figure of the paper."""

    title: str
    finding: str  # what the paper says that it shows
    lines: tuple[Line, ...]

    def steps(self, scale: str, seeds: Sequence[int], folder: Path) -> list[RunStep]:
        """Its runs, seed after seed, so that every line has one before any has two."""
        return [
            chosen(line, scale, seed, folder / line.family / line.name / f"seed-{seed}")
            for seed in seeds
            for line in self.lines
        ]

    def draw(self, done: Sequence[RunStep], picture: Path) -> None:
        """The learning curves of these runs, a table that compares their lines (.md), and their profiles."""
        runs = [step.path for step in done]
        curves.draw(runs, picture)
        compared = compare(runs)
        with written_whole(picture.with_suffix(".md")) as draft:
            draft.write_text(as_markdown(compared))
        profiles.draw(compared, picture.with_stem(f"{picture.stem}-profile"))


PAPER_EXPLORATION: dict[str, Any] = {"exploration": "prior", "predict_rewards": False}
"""The paper's agents explore with z from the prior, agents of `fast` by hypotheses; none predicts rewards."""


def _six_domains() -> Iterator[Line]:
    for family in ("cheetah-dir", "cheetah-vel", "ant-dir", "ant-goal", "humanoid-dir", "walker-params"):
        for algorithm in ("pearl", "promp", "maml-trpo", "rl2", "oracle", "random"):
            yield Line(algorithm, algorithm, family, PAPER_EXPLORATION if algorithm == "pearl" else {})


def _sparse_navigation() -> Iterator[Line]:
    for radius in (0.2, 0.8):
        for algorithm in ("pearl", "maesn"):
            fields = PAPER_EXPLORATION if algorithm == "pearl" else {}
            yield Line(
                f"{algorithm}-radius-{radius}", algorithm, "sparse-point-robot", {"goal_radius": radius, **fields}
            )


AS_COLLECTED: dict[str, Any] = {"num_relabelled_tasks": 0, **PAPER_EXPLORATION}
"""Contexts with the rewards that were collected, and exploration, as in the paper."""
PAPER_CONTEXT = {"context": "recent", "num_step_returns": 1, **AS_COLLECTED}
"""The paper's contexts and targets, at every scale: its ablations are about these, and `fast` has others."""
PAPER_FIGURES: dict[str, PaperFigure] = {
    "six-domains": PaperFigure(
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
            Line(f"context-{source}", "pearl", "cheetah-vel", {"context": source, **AS_COLLECTED})
            for source in ("recent", "replay", "batch")
        ),
    ),
    "deterministic": PaperFigure(
        "A point estimate of the task",
        "Without a belief, sparse rewards are not found.",
        (
            Line("belief", "pearl", "sparse-point-robot", PAPER_EXPLORATION),
            Line(
                "point-estimate",
                "pearl",
                "sparse-point-robot",
                PAPER_EXPLORATION | {"use_information_bottleneck": False},
            ),
        ),
    ),
}

SHORT_ITERATIONS = {"rl2": 50, "maml-trpo": 7, "promp": 7, "maesn": 500, "random": 1}
"""Iterations at scale `short` of methods without a preset `fast`: about 2M steps of the robots; MAESN's whole run."""
SHORT_BATCHES: dict[str, dict[str, Any]] = {"rl2": {"tasks_per_iteration": 20, "trials_per_task": 5}}
"""Batches at scale `short`: as many trials an iteration as the paper's 100 tasks with one trial each. With one trial of
a task, a trial gets no credit for being better than another. Better on three of six families, worse on `ant-dir`."""
FALLING = 5
"""So many times the iterations where robots fall: their first episodes take 4 to 25 % of the horizon."""


def chosen(line: Line, scale: str, seed: int, path: Path) -> RunStep:
    """The run of a line at a scale. All lines of a family are scored on the same tasks, alike."""
    if scale != "short":
        return RunStep(line, scale, seed, path, line.fields)
    if "fast" in find_algorithm(line.algorithm).presets:
        return RunStep(line, "fast", seed, path, line.fields)
    longer = FALLING if find_family(line.family).can_terminate and line.algorithm != "random" else 1
    batches = SHORT_BATCHES.get(line.algorithm, {})
    fields = {"iterations": longer * SHORT_ITERATIONS[line.algorithm], **batches, **line.fields}
    return RunStep(line, "paper", seed, path, fields)
