"""Steps for the same return: from runs with made-up curves, by hand; and where a page shows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nacre.config import resolve
from nacre.report import curves, page
from nacre.report.efficiency import curve, efficiencies
from nacre.run_directory import EVAL_COLUMNS, RunDirectory, eval_rows

TASKS = dict(num_train_tasks=4, num_test_tasks=3, num_evaluation_repeats=2)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A run directory with these mean scores [evaluation], the first after `steps` environment steps."""

    def make(algorithm: str, scores: list[float], steps: int, **fields: Any) -> Path:
        number = len(list(tmp_path.iterdir()))
        run = RunDirectory.create(
            tmp_path / f"run-{number}", resolve(algorithm, "point-robot", "smoke", **TASKS, **fields)
        )
        for count, score in enumerate(scores, start=1):
            spread = np.zeros(1) if "single_task" in fields else np.array([-3.0, 0.0, 3.0])  # over tasks
            returns = np.full((2, len(spread), run.experiment.settings.num_evaluation_episodes), 77.0)
            returns[..., -1] = np.array([[-1.0], [1.0]]) + spread + score
            run.append("eval.csv", EVAL_COLUMNS, eval_rows(returns, "test", count * steps, count, 1.0))
        return run.path

    return make


def groups_of(runs: list[Path]) -> dict[str, list[curves.Run]]:
    ((_, groups),) = curves.read_families(runs).items()
    return groups


def test_a_curve_averages_three_evaluations_and_the_seeds(make_run: Callable[..., Path]):
    runs = [make_run("pearl", [-9.0, -6.0, -3.0, 0.0], 10), make_run("pearl", [-7.0, -4.0, -1.0, 2.0], 10, seed=1)]
    (group,) = groups_of(runs).values()
    found = curve(group)
    assert found.env_steps.tolist() == [10, 20, 30, 40]
    assert found.scores.tolist() == [-8.0, -6.5, -5.0, -2.0]  # (-8), (-8-5)/2, (-8-5-2)/3, (-5-2+1)/3
    assert found.steps_to(-6.5) == 20 and found.steps_to(-4.9) == 40 and found.steps_to(-1.9) is None


def test_ratios_by_hand(make_run: Callable[..., Path]):
    runs = [
        make_run("pearl", [-9.0, -3.0, -3.0, -3.0, -3.0], 10),  # averages -9, -6, -5, -3, -3
        make_run("rl2", [-9.0, -9.0, -3.0, -3.0, -3.0, 0.0], 100),  # -9, -9, -7, -5, -3, -2
        make_run("promp", [-9.0, -8.0, -7.0], 100),  # ends at -8
        make_run("maml-trpo", [-20.0, -20.0], 100),
        make_run("random", [-30.0], 1),
        make_run("oracle", [0.0] * 5, 10, single_task=1),
    ]
    rl2, promp, maml = efficiencies(groups_of(runs))
    assert rl2.label.startswith("rl2") and (rl2.env_steps, rl2.score) == (600, -2.0)
    assert (rl2.steps_to_pearl, rl2.pearl_steps, rl2.ratio) == (500, 40, 12.5)
    assert rl2.pearl_steps_to_this is None and rl2.ratio_at_this is None
    assert promp.steps_to_pearl is None and promp.ratio == 300 / 40
    assert (promp.steps_to_this, promp.pearl_steps_to_this, promp.ratio_at_this) == (300, 20, 15.0)
    assert (maml.steps_to_this, maml.pearl_steps_to_this, maml.ratio_at_this) == (100, 10, 10.0)  # there long before


def test_of_several_pearls_the_best_is_compared_with(make_run: Callable[..., Path]):
    runs = [
        make_run("pearl", [-5.0] * 4, 10),
        make_run("pearl", [-4.0] * 4, 20, kl_weight=7.0),
        make_run("rl2", [-4.5] * 4, 100),
    ]
    worse, rl2 = efficiencies(groups_of(runs))
    assert worse.label.startswith("pearl") and worse.pearl_steps == 20 and worse.ratio == 2.0
    assert (rl2.pearl_steps_to_this, rl2.ratio_at_this) == (20, 5.0)


def test_without_pearl_or_without_another_there_is_no_table(make_run: Callable[..., Path]):
    pearl, rl2 = make_run("pearl", [-1.0], 10), make_run("rl2", [-1.0], 10)
    assert efficiencies(groups_of([rl2])) == [] and efficiencies(groups_of([pearl])) == []
    assert page._efficiency("point-robot", groups_of([pearl])) == []
    heading, table, _ = page._efficiency("point-robot", groups_of([pearl, rl2]))
    assert "point-robot" in heading
    assert table.count("<tr>") == 2 and "<td class=number>1.0</td>" in table and "rl2 (smoke)" in table


def test_the_page_says_where_a_return_was_not_reached(make_run: Callable[..., Path]):
    runs = [make_run("pearl", [-1.0, -1.0], 10), make_run("rl2", [-2.0, -2.0], 100)]
    _, table, _ = page._efficiency("point-robot", groups_of(runs))
    assert "not reached" in table and "more than 20.0" in table
