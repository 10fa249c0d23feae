"""nacre reproduce: what each figure needs, the plan without doing it, and a figure made, stopped and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from command_line import Capture, refusal
from fake_executor import DONE, KILLED, CommandsHere
from nacre.algorithms.registry import ALGORITHMS
from nacre.cli import main as cli
from nacre.report import estimates, reproduce
from nacre.report.paper_figures import FALLING, PAPER_FIGURES, SHORT_ITERATIONS
from nacre.report.steps import Line, RunStep
from nacre.sweeps import engine


def planned(figure: str, scale: str, seeds: list[int], out: Path) -> list[RunStep]:
    """The runs of a figure of the paper."""
    return [step for step in reproduce.planned(figure, scale, seeds, out) if isinstance(step, RunStep)]


@pytest.mark.parametrize("figure", PAPER_FIGURES)
@pytest.mark.parametrize("scale", reproduce.SCALES)
def test_every_figure_can_be_planned_at_every_scale(figure: str, scale: str, tmp_path: Path):
    runs = planned(figure, scale, [0, 1], tmp_path)
    assert len({run.path for run in runs}) == len(runs) == 2 * len(PAPER_FIGURES[figure].lines)
    for run in runs:
        assert run.experiment.options.seed == int(run.path.name.removeprefix("seed-"))
        for name, value in run.line.fields.items():
            holder = run.experiment.settings if hasattr(run.experiment.settings, name) else run.experiment.family
            assert getattr(holder, name) == value
        assert (run.experiment.settings.env_steps(run.experiment.family) > 0) == (run.line.algorithm != "random")
        assert run.experiment.settings.num_updates > 0
    assert set(SHORT_ITERATIONS) <= set(ALGORITHMS)


@pytest.mark.parametrize("scale", reproduce.SCALES)
def test_all_lines_of_a_family_are_scored_on_the_same_tasks_alike(scale: str, tmp_path: Path):
    for figure in PAPER_FIGURES:
        met: dict[str, list[Any]] = {}
        for run in planned(figure, scale, [0], tmp_path):
            settings, tasks = run.experiment.settings, run.experiment.draw_tasks().test
            scored = (settings.num_evaluation_episodes, settings.num_evaluation_repeats)
            met.setdefault(run.line.family, []).append((jax.tree.map(lambda x: np.asarray(x).tolist(), tasks), scored))
        for family, lines in met.items():
            assert all(line == lines[0] for line in lines), family


def test_steps_of_a_plan_are_those_of_the_settings(tmp_path: Path):
    """ProMP: 501 iterations of 40 tasks x 20 rollouts x 200 steps, twice; RL2: 100 x 2 x 200."""
    steps = {
        run.line.name: run.experiment.settings.env_steps(run.experiment.family)
        for run in planned("six-domains", "paper", [0], tmp_path)
        if run.line.family == "cheetah-vel"
    }
    assert steps["promp"] == steps["maml-trpo"] == 501 * 320_000 and steps["rl2"] == 501 * 40_000
    assert steps["pearl"] == 100 * 2000 + 500 * 5 * 1000


def test_short_runs_of_on_policy_methods_are_longer_where_robots_fall(tmp_path: Path):
    """Their episodes end early, and lines are compared at equal steps."""
    runs = {(run.line.family, run.line.name): run.experiment for run in planned("six-domains", "short", [0], tmp_path)}
    for method in ("rl2", "promp", "maml-trpo"):
        few, many = (runs[family, method].settings.iterations for family in ("cheetah-vel", "walker-params"))
        assert few == SHORT_ITERATIONS[method] and many == FALLING * few
    assert runs["walker-params", "random"].settings.iterations == 1


def test_short_runs_of_rl2_compare_trials_of_a_task_at_the_steps_of_the_paper(tmp_path: Path):
    runs = {
        scale: [
            run.experiment.settings for run in planned("six-domains", scale, [0], tmp_path) if run.line.name == "rl2"
        ]
        for scale in ("short", "paper")
    }
    assert {(rl2.tasks_per_iteration, rl2.trials_per_task) for rl2 in runs["short"]} == {(20, 5)}
    assert {(rl2.tasks_per_iteration, rl2.trials_per_task) for rl2 in runs["paper"]} == {(100, 1)}


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "figures"
    assert cli.main(["reproduce"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in reproduce.FIGURES)
    arguments = ["reproduce", "deterministic", "--scale", "smoke", "--seeds", "0:2", "--out", str(out), "--dry-run"]
    assert cli.main(arguments) == 0
    table, _, total = capsys.readouterr().out.partition("about ")
    assert "one run after another" in total and not out.exists()
    for line in ("belief", "point-estimate"):
        assert [row.split()[2:5:2] for row in table.splitlines() if f" {line} " in row] == [[line, "0"], [line, "1"]]
    assert cli.main(["reproduce", "encoders"]) == 2
    assert "did you mean 'encoder'?" in capsys.readouterr().err
    assert cli.main(["reproduce", "encoder", "--seeds", "x"]) == 2


def test_an_estimate_counts_what_a_line_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """At 1e9 operations a second, simulation for nothing: what the LSTM has more than the product."""
    monkeypatch.setattr(estimates, "product_rate", lambda: 1e9)
    monkeypatch.setattr(estimates, "steps_per_second", lambda family: np.inf)
    product, recurrent, *_ = (run.experiment for run in planned("encoder", "short", [0], tmp_path))
    config, rows = product.settings, product.settings.meta_batch * product.settings.context_batch_size
    # The LSTM: four gates of its input and its state, once forward and twice backward; the product's head on every row
    # is the recurrent encoder's on the last of them.
    gates, head = 8 * config.encoder_hidden_dim**2, config.encoder_hidden_dim * 2 * config.latent_dim
    more = 2 * 3 * rows * (gates - head) * product.settings.num_updates / 1e9
    found = [estimates.estimated_seconds(one) for one in (product, recurrent)]
    np.testing.assert_allclose(found[1] - found[0], more, rtol=1e-9)


def test_a_figure_is_made_and_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    belief, _ = PAPER_FIGURES["deterministic"].lines
    lines = (belief, Line("chance", "random", belief.family))
    monkeypatch.setitem(reproduce.FIGURES, "deterministic", PAPER_FIGURES["deterministic"]._replace(lines=lines))
    arguments = ["reproduce", "deterministic", "--scale", "smoke", "--seeds", "0", "--out", str(tmp_path)]
    assert cli.main([*arguments, "--time-limit", "1e-9"]) == 0
    assert "the same command resumes it" in capsys.readouterr().err
    first = next(iter(planned("deterministic", "smoke", [0], tmp_path)))
    assert first.path.exists() and not first.is_done()
    assert cli.main(arguments) == 0
    runs = planned("deterministic", "smoke", [0], tmp_path)
    assert all(run.is_done() for run in runs)
    picture = tmp_path / "deterministic" / "smoke.png"
    assert picture.stat().st_size > 10_000
    assert "sparse-point-robot" in picture.with_suffix(".md").read_text()
    before = {run.path: (run.path / "eval.csv").stat().st_mtime_ns for run in runs}
    assert cli.main(arguments) == 0  # nothing is left to do but the picture
    assert before == {run.path: (run.path / "eval.csv").stat().st_mtime_ns for run in runs}
    capsys.readouterr()
    assert cli.main([*arguments, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("done") == len(runs)


@pytest.fixture
def two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure of two lines that learn nothing."""
    family = "sparse-point-robot"
    lines = (Line("chance", "random", family), Line("still", "random", family, {"action_scale": 0.0}))
    monkeypatch.setitem(reproduce.FIGURES, "deterministic", PAPER_FIGURES["deterministic"]._replace(lines=lines))


def test_runs_of_a_figure_are_trained_side_by_side(
    two_lines: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    executor = CommandsHere(1, {"seed-1": [KILLED, KILLED, KILLED, DONE]})
    monkeypatch.setattr(reproduce, "LocalExecutor", lambda jobs: executor)
    monkeypatch.setattr(engine, "POLL_SECONDS", 0.0)
    arguments = ["reproduce", "deterministic", "--scale", "smoke", "--seeds", "0:2", "--out", str(tmp_path)]
    assert cli.main([*arguments, "--jobs", "1"]) == 1
    told = capsys.readouterr().err
    assert "chance/seed-1 failed: killed by SIGKILL 3 times; the same command resumes it." in told
    runs = planned("deterministic", "smoke", [0, 1], tmp_path)
    assert [run.is_done() for run in runs] == [True, True, False, True]
    picture = tmp_path / "deterministic" / "smoke.png"
    assert picture.stat().st_size > 10_000  # of those that are done
    executor.started.clear()
    executor.ends = {}
    assert cli.main([*arguments, "--jobs", "1", "--time-limit", "1e-9"]) == 0 and executor.started == []
    assert "stopped; the same command resumes it" in capsys.readouterr().err
    assert cli.main([*arguments, "--jobs", "1"]) == 0
    assert [started[:2] for started in executor.started] == [["resume", "seed-1"]]
    assert all(run.is_done() for run in runs)
    assert picture.with_suffix(".md").read_text().count("| 2 |") == 2  # seeds of each line


@pytest.mark.parametrize("flags", [[], ["--jobs", "1"]], ids=" ".join)
@pytest.mark.parametrize("figure", ["deterministic", "offline"])
def test_a_time_limit_that_is_none_is_refused_before_anything_is_done(
    figure: str, flags: list[str], tmp_path: Path, capsys: Capture
):
    arguments = ["reproduce", figure, "--scale", "smoke", "--seeds", "0", "--out", str(tmp_path / "out"), *flags]
    for limit in ("0", "-5", "inf"):
        assert "minutes, but must be above 0; change" in refusal(capsys, *arguments, f"--time-limit={limit}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("figure", PAPER_FIGURES)
def test_pearl_explores_in_the_papers_figures_as_in_the_paper(figure: str, tmp_path: Path):
    runs = [run for run in planned(figure, "short", [0], tmp_path) if run.line.algorithm == "pearl"]
    assert runs and {run.experiment.settings.exploration for run in runs} == {"prior"}


def test_a_run_with_other_settings_is_refused_and_one_that_saves_more_often_is_not(
    two_lines: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["reproduce", "deterministic", "--scale", "smoke", "--seeds", "0", "--out", str(tmp_path)]
    first, second = planned("deterministic", "smoke", [0], tmp_path)
    for step, flags in ((first, ["--checkpoint-minutes", "1"]), (second, [])):
        assert (
            cli.main(["train", "random", "sparse-point-robot", "--preset", "smoke", "--out", str(step.path), *flags])
            == 0
        )
    assert first.is_done()
    capsys.readouterr()
    assert cli.main([*arguments, "--dry-run"]) == 2
    assert f"the run at {second.path} has other settings than this figure's; move it away" in capsys.readouterr().err
