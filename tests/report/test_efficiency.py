"""Steps for the same return: from runs with made-up curves, by hand; and where a page shows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nacre.algorithms.registry import ALGORITHMS
from nacre.report import evaluated_runs, page
from nacre.report.efficiency import Race, Reached, compare, curve
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import Experiment, resolve
from nacre.runs.tables import EVAL_COLUMNS, eval_rows

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


def groups_of(runs: list[Path]) -> dict[str, list[evaluated_runs.Run]]:
    ((_, groups),) = evaluated_runs.read_families(runs).items()
    return groups


def test_a_curve_averages_three_evaluations_and_the_seeds(make_run: Callable[..., Path]):
    runs = [make_run("pearl", [-9.0, -6.0, -3.0, 0.0], 10), make_run("pearl", [-7.0, -4.0, -1.0, 2.0], 10, seed=1)]
    (group,) = groups_of(runs).values()
    found = curve(group)
    assert found.points.tolist() == [20, 30]  # in the middle of 10, 20, 30 and of 20, 30, 40
    assert found.scores.tolist() == [-5.0, -2.0]
    assert (
        found.reach(-6.0) == (20, "at most")
        and found.reach(-4.0) == (30, "")
        and found.reach(-1.0) == (30, "more than")
    )


def test_a_curve_of_few_evaluations_and_of_seeds_of_different_length(make_run: Callable[..., Path]):
    def of(*runs: Path) -> Any:
        (group,) = groups_of(list(runs)).values()
        return curve(group)

    assert of(make_run("pearl", [-9.0], 10)) == (np.array([10.0]), np.array([-9.0]))
    two = of(make_run("rl2", [-9.0, -5.0], 10))
    assert (two.points.tolist(), two.scores.tolist()) == ([15.0], [-7.0])
    uneven = of(make_run("promp", [-8.0] * 4, 10), make_run("promp", [-4.0] * 6, 10, seed=1))
    assert (uneven.points.tolist(), uneven.scores.tolist()) == ([20.0, 30.0], [-6.0, -6.0])  # as far as both
    apart = of(make_run("random", [-8.0], 100), make_run("random", [-8.0], 110, seed=1))
    assert len(apart.scores) == 0


def test_ratios_by_hand(make_run: Callable[..., Path]):
    runs = [
        make_run("pearl", [-9.0, -9.0, -6.0, -3.0, -3.0, -3.0], 10),  # means -8, -6, -4, -3 at 20, 30, 40, 50
        make_run("rl2", [-9.0, -9.0, -9.0, -3.0, -3.0, -3.0, 0.0], 100),  # -9, -7, -5, -3, -2 at 200 to 600
        make_run("promp", [-9.0, -8.0, -7.0, -6.0], 100),  # -8, -7 at 200, 300
        make_run("maml-trpo", [-20.0, -20.0, -20.0], 100),  # -20 at 200
        make_run("random", [-30.0], 1),
        make_run("oracle", [0.0] * 5, 10, single_task=1),
    ]
    found = compare(groups_of(runs))
    assert found is not None and found.label.startswith("pearl") and found.score == -3.0
    rl2, promp, maml = found.others
    assert rl2.label.startswith("rl2") and (rl2.num_runs, rl2.env_steps, rl2.score) == (1, 600, -2.0)
    assert rl2.to_pearls == Race(-3.0, Reached(500, ""), Reached(50, "")) and rl2.to_pearls.ratio == "10"
    assert rl2.to_its_own == Race(-2.0, Reached(600, ""), Reached(50, "more than"))
    assert rl2.to_its_own.ratio == "at most 12"
    assert promp.to_pearls.method == (300, "more than") and promp.to_pearls.ratio == "more than 6"
    assert promp.to_its_own == Race(-7.0, Reached(300, ""), Reached(30, "")) and promp.to_its_own.ratio == "10"
    # Both were there at their first evaluations, so nothing is known of what either needs.
    assert maml.to_its_own == Race(-20.0, Reached(200, "at most"), Reached(20, "at most"))
    assert maml.to_its_own.ratio == ""


def test_a_method_that_is_there_at_its_first_evaluation_has_a_bound():
    assert Race(0.0, Reached(100, "at most"), Reached(50, "")).ratio == "at most 2"
    assert Race(0.0, Reached(100, ""), Reached(50, "at most")).ratio == "more than 2"
    assert Race(0.0, Reached(1, ""), Reached(60, "")).ratio == "0.017"


def test_of_several_pearls_the_best_is_compared_with(make_run: Callable[..., Path]):
    runs = [
        make_run("pearl", [-5.0] * 4, 10),
        make_run("pearl", [-4.0] * 4, 20, kl_weight=7.0),
        make_run("rl2", [-4.5] * 4, 100),
    ]
    found = compare(groups_of(runs))
    assert found is not None and "kl_weight=7.0" in found.label and found.score == -4.0
    assert [one.label.split()[0] for one in found.others] == ["pearl", "rl2"]


def test_without_pearl_or_without_another_there_is_no_table(make_run: Callable[..., Path]):
    pearl, rl2 = make_run("pearl", [-1.0], 10), make_run("rl2", [-1.0], 10)
    assert compare(groups_of([rl2])) is None and compare(groups_of([pearl])) is None
    assert page._efficiency("point-robot", groups_of([pearl])) == []
    early = [make_run("rl2", [-1.0], 500, seed=1), make_run("rl2", [-1.0], 510, seed=2)]  # no common step yet
    assert compare(groups_of([pearl, *early])) is None


def test_a_method_that_learns_from_logs_takes_no_environment_steps_and_has_no_row(
    make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    groups = groups_of([make_run("pearl", [-4.0] * 4, 10), make_run("rl2", [-5.0] * 4, 0)])
    assert compare(groups) is not None
    logs_alone = {name: dataclasses.replace(ALGORITHMS[name], offline=name == "rl2") for name in ("pearl", "rl2")}
    monkeypatch.setattr(Experiment, "algorithm", property(lambda self: logs_alone[self.algorithm_name]))
    assert compare(groups) is None


def test_the_page_says_what_was_reached_when(make_run: Callable[..., Path]):
    runs = [make_run("pearl", [-3.0, -1.0, -1.0, -1.0], 10), make_run("rl2", [-2.0, -2.0, -2.0], 100)]
    heading, table, note = page._efficiency("point-robot", groups_of(runs))
    assert "point-robot" in heading and "pearl (smoke)" in note
    assert table.count("<tr>") == 2 and "PEARL&#x27;s return, -1.00" in table
    cells = table.split("<td")[1:]
    texts = [cell.split(">")[1].removesuffix("</td") for cell in cells]
    assert texts.pop(0).startswith("rl2 (smoke)")
    assert texts == ["1", "200", "-2.00", "more than 200", "30", "more than 6.7", "at most 200",
                     "at most 20", ""]  # fmt: skip
