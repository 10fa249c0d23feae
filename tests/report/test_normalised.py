"""Scores on the scale of each task: from runs with made-up returns, by hand; and where a page shows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nacre.report import evaluated_runs, page
from nacre.report.comparison import compare
from nacre.report.family_charts import Group, looks, scores
from nacre.report.normalised import normalised, scale_notices, scale_of
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import resolve
from nacre.runs.tables import EVAL_COLUMNS, eval_rows

TASKS = dict(num_train_tasks=4, num_test_tasks=3, num_evaluation_repeats=2)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A run directory whose last evaluation has these scores [task], as the mean of two repeats."""

    def make(algorithm: str, scores: list[float], **fields: Any) -> Path:
        number = len(list(tmp_path.iterdir()))
        run = RunDirectory.create(
            tmp_path / f"run-{number}", resolve(algorithm, "point-robot", "smoke", **TASKS, **fields)
        )
        for offset, steps in ((-100.0, 1), (0.0, 2)):  # the first evaluation must not count
            returns = np.full((2, len(scores), run.experiment.settings.num_evaluation_episodes), 77.0)
            returns[..., -1] = np.array([[-1.0], [1.0]]) + scores + offset
            run.append("eval.csv", EVAL_COLUMNS, eval_rows(returns, "test", 10 * steps, steps, 1.0))
        return run.path

    return make


def test_a_score_is_where_it_lies_between_random_actions_and_training_on_the_task(make_run: Callable[..., Path]):
    runs = [
        make_run("random", [-10.0, -20.0, -30.0]),
        make_run("oracle", [-2.0], single_task=0),
        make_run("oracle", [-4.0], single_task=0, seed=1),  # another seed: the mean, -3
        make_run("oracle", [-6.0], single_task=2),
        make_run("pearl", [-6.5, -1.0, 0.0], seed=5),
    ]
    ((_, groups),) = evaluated_runs.read_families(runs).items()
    scale = scale_of([run for group in groups.values() for run in group])
    assert list(scale.values()) == [(-10.0, -3.0), (-30.0, -6.0)]
    random, pearl = normalised(groups)
    assert random.scores == {0: 0.0, 1: 0.0} and random.mean == 0.0
    assert pearl.seed == 5 and pearl.label.startswith("pearl")
    assert pearl.scores == {0: 0.5, 1: 1.25} and pearl.mean == 0.875  # one task has no scale


def test_runs_of_a_single_task_are_no_scores_of_their_family(make_run: Callable[..., Path]):
    runs = [make_run("oracle", [50.0], single_task=1), make_run("oracle", [-6.0, -5.0, -4.0])]
    ((family, groups),) = evaluated_runs.read_families([*runs, make_run("random", [-10.0, -20.0, -30.0])]).items()
    group = Group(family, groups, looks(list(groups)))
    kept = group.in_all_tasks
    assert [runs[0].experiment.single_task for runs in group.runs.values()] == [1, -1, -1]
    assert [runs[0].experiment.single_task for runs in kept.runs.values()] == [-1, -1]
    levels = {one.label: one.y for one in scores(kept, {}).views[0].levels}
    assert levels["oracle, at the end"] == -5.0 and 50.0 not in levels.values()
    alone = group._replace(runs=dict([next(iter(group.runs.items()))]))
    assert alone.in_all_tasks.runs == alone.runs


def test_a_scale_goes_by_the_longest_run_of_a_task_and_seed_and_tells_of_unlike_ones(make_run: Callable[..., Path]):
    longest, again = make_run("oracle", [-4.0], single_task=0), make_run("oracle", [-2.0], single_task=0)
    RunDirectory(longest).append("eval.csv", EVAL_COLUMNS, eval_rows(np.full((2, 1, 3), -3.0), "test", 90, 9, 1.0))
    random, other = make_run("random", [-10.0, -20.0, -30.0]), make_run("oracle", [-6.0], single_task=2)
    run = make_run("pearl", [-6.5, -1.0, 0.0])

    def of_family(*paths: Path) -> list[evaluated_runs.Run]:
        ((_, groups),) = evaluated_runs.read_families(paths).items()
        return [run for group in groups.values() for run in group]

    runs = of_family(random, longest, again, other, run)
    assert list(scale_of(runs).values()) == [(-10.0, -3.0), (-30.0, -6.0)]
    left_out, unlike = scale_notices(runs)
    assert f"the run at {again.resolve()} is of the same task and seed as another that is at least" in left_out
    assert "differ in settings or in length" in unlike and "has 9 updates" in unlike and str(other.resolve()) in unlike
    assert scale_notices(of_family(random, again, other, run)) == []
    slow = make_run("oracle", [-6.0], single_task=1, learning_rate=1e-5)
    assert "differ in settings" in scale_notices(of_family(random, again, slow))[0]
    assert unlike in compare([random, longest, other, run]).notices
    ((family, groups),) = evaluated_runs.read_families([random, longest, again, run]).items()
    shown = "".join(page._normalised(family, groups))
    assert left_out in shown and "differ" not in shown


def test_tasks_are_told_apart_by_their_parameters(make_run: Callable[..., Path]):
    runs = [
        make_run("random", [-10.0, -20.0, -30.0]),
        make_run("oracle", [0.0], single_task=1),
        make_run("oracle", [0.0, -10.0, 0.0]),
    ]
    ((_, groups),) = evaluated_runs.read_families(runs).items()
    assert [one.scores for one in normalised(groups)] == [{0: 0.0}, {0: 0.5}]
    elsewhere = make_run("pearl", [0.0, 0.0, 0.0], task_seed=8)
    ((_, groups),) = evaluated_runs.read_families([*runs, elsewhere]).items()
    assert len(normalised(groups)) == 2  # none of its tasks has a scale


def test_tasks_on_which_training_was_no_better_than_chance_have_no_scale(make_run: Callable[..., Path]):
    runs = [make_run("random", [0.0, 1.0, -1.0]), make_run("pearl", [1.0, 1.0, 1.0])]
    runs += [make_run("oracle", [score], single_task=task) for task, score in enumerate([0.0, 0.5, 3.0])]
    ((_, groups),) = evaluated_runs.read_families(runs).items()
    assert [one.scores for one in normalised(groups)] == [{0: 0.0}, {0: 0.5}]  # the third task alone


def test_without_both_kinds_of_runs_there_is_no_scale(make_run: Callable[..., Path]):
    runs = [make_run("random", [-10.0] * 3), make_run("pearl", [-1.0] * 3)]
    ((_, groups),) = evaluated_runs.read_families(runs).items()
    assert normalised(groups) == []
    assert page._normalised("point-robot", groups) == []


def test_a_page_has_a_table_of_them(make_run: Callable[..., Path]):
    runs = [make_run("random", [-10.0] * 3), make_run("oracle", [0.0], single_task=1), make_run("pearl", [-4.0] * 3)]
    ((family, groups),) = evaluated_runs.read_families(runs).items()
    heading, table, _ = page._normalised(family, groups)
    assert heading == "<h2>Normalised scores, point-robot</h2>"
    assert "<th scope='col'>task 1</th>" in table and "task 2" not in table
    assert table.count("<td class=number>0.600</td>") == 2  # pearl: its mean, and the task
