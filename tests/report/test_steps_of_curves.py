"""What curves count: offline methods have taken gradient steps, the others steps of their environment."""

from __future__ import annotations

from pathlib import Path

from made_runs import MakeRun, add_evaluation
from matplotlib.figure import Figure

from nacre.report import curves
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import from_preset


def counted(figure: Figure) -> tuple[list[float], str]:
    """(x of the first curve, label of the axis) in the panel of scores."""
    axes = figure.axes[0]
    return [float(x) for x in axes.get_lines()[0].get_xdata()], axes.get_xlabel()


def offline_run(path: Path) -> Path:
    """A run of focal with evaluations after 10, 20 and 30 gradient steps; it never acted while it trained."""
    run = RunDirectory.create(path, from_preset("focal", "point-robot", "smoke", num_train_tasks=3, num_test_tasks=3))
    for index in (1, 2, 3):
        add_evaluation(run, index, "test", seed=0, steps=0)
    return run.path


def test_curves_of_offline_runs_count_gradient_steps(tmp_path: Path, drawn: list[Figure]):
    curves.draw([offline_run(tmp_path / "focal")], tmp_path / "a.png")
    assert counted(drawn[0]) == ([10.0, 20.0, 30.0], "gradient steps")


def test_curves_of_other_runs_count_steps_of_the_environment(make_run: MakeRun, tmp_path: Path, drawn: list[Figure]):
    curves.draw([make_run()], tmp_path / "a.png")
    assert counted(drawn[0]) == ([100.0, 200.0, 300.0], "environment steps")


def test_beside_an_offline_run_all_count_gradient_steps(make_run: MakeRun, tmp_path: Path, drawn: list[Figure]):
    curves.draw([make_run("pearl"), offline_run(tmp_path / "focal")], tmp_path / "a.png")
    x, label = counted(drawn[0])
    assert (x, label) == ([10.0, 20.0, 30.0], "gradient steps")
    assert all(list(line.get_xdata()) == x for line in drawn[0].axes[0].get_lines() if len(line.get_xdata()) == 3)
