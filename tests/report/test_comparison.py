"""nacre compare: numbers of runs with made-up evaluations, by hand; what is left out and said; every format."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import nacre
from command_line import output, refusal, run
from nacre.errors import NacreError
from nacre.report import comparison_table, profiles, statistics
from nacre.report.comparison import compare
from nacre.report.short_names import short_names
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import resolve
from nacre.runs.tables import EVAL_COLUMNS, eval_rows

MakeRun = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
TASKS = dict(num_train_tasks=4, num_test_tasks=2, num_evaluation_repeats=2)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A run directory with these scores [evaluation] on its first test task, on the second 10 more; an evaluation every
    `steps` environment steps, 10 updates and 60 seconds."""

    def make(algorithm: str, scores: list[float], steps: int = 100, family: str = "point-robot", **fields: Any) -> Path:
        name = f"runs/run-{len(list((tmp_path / 'runs').glob('*')))}"
        chosen = resolve(algorithm, family, "smoke", **TASKS, **fields)
        made = RunDirectory.create(tmp_path / name, chosen)
        tasks = np.zeros(1) if "single_task" in fields else np.array([0.0, 10.0])
        for count, score in enumerate(scores, start=1):
            returns = np.full((2, len(tasks), chosen.settings.num_evaluation_episodes), 77.0)
            returns[..., -1] = np.array([[-1.0], [1.0]]) + tasks + score
            made.append("eval.csv", EVAL_COLUMNS, eval_rows(returns, "test", count * steps, 10 * count, 60.0 * count))
        return made.path

    return make


# ----------------------------------------------------------------------------------------------------------------------
# Statistics


def test_the_pooled_interquartile_mean_is_the_trimmed_mean_of_all_seeds_and_tasks():
    from scipy.stats import trim_mean  # which takes long to import

    scores = np.random.default_rng(0).normal(size=(4, 3))
    assert statistics.pooled_interquartile_mean(scores).value == pytest.approx(trim_mean(scores, 0.25, axis=None))
    assert statistics.pooled_interquartile_mean(np.array([[1.0, 2.0], [3.0, 9.0]])).value == 2.5


def test_its_interval_is_of_the_seeds_drawn_anew_with_all_their_tasks():
    equal = np.tile([1.0, 5.0, 9.0], (4, 1))  # seeds alike, tasks not
    assert statistics.pooled_interquartile_mean(equal) == pytest.approx((5.0, 5.0, 5.0))
    found = statistics.pooled_interquartile_mean(np.repeat([[0.0], [1.0]], 5, axis=1))  # two seeds, tasks alike
    assert found == (0.5, 0.0, 1.0)  # a quarter of the resamples are of one seed alone, at either end
    one = statistics.pooled_interquartile_mean(np.array([[1.0, 2.0, 3.0, 4.0]]))
    assert one.value == 2.5 and np.isnan(one.low) and np.isnan(one.high)


def test_the_probability_of_improvement_counts_pairs_of_seeds_task_by_task():
    from scipy.stats import mannwhitneyu

    better, worse = np.array([[1.0, 2.0]]), np.array([[0.0, 2.0]])  # ahead on one task, a tie on the other
    assert statistics.probability_of_improvement(better, worse).value == 0.75
    assert statistics.probability_of_improvement(worse, better).value == 0.25
    ahead = statistics.probability_of_improvement(np.ones((3, 2)), np.zeros((2, 2)))
    assert ahead == (1.0, 1.0, 1.0)
    x, y = np.random.default_rng(0).normal(size=(2, 5, 3)).round(1)
    by_task = [mannwhitneyu(x[:, task], y[:, task]).statistic / 25 for task in range(3)]
    assert statistics.probability_of_improvement(x, y).value == pytest.approx(np.mean(by_task))
    mixed = statistics.probability_of_improvement(np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]]))
    assert mixed == (0.5, 0.0, 1.0)


def test_a_profile_is_the_share_of_seeds_and_tasks_above_each_level():
    share, low, high = statistics.share_above([np.array([[0.0, 2.0], [2.0, 4.0]])], np.array([-1.0, 1.0, 3.0, 5.0]))
    assert share.tolist() == [1.0, 0.75, 0.25, 0.0]
    assert low.tolist() == [1.0, 0.5, 0.0, 0.0] and high.tolist() == [1.0, 1.0, 0.5, 0.0]
    assert np.isnan(statistics.share_above([np.zeros((1, 2))], np.zeros(1))[1]).all()
    many_tasks, few = np.ones((2, 9)), np.zeros((2, 1))  # a family counts once, however many tasks it has
    assert [one.tolist() for one in statistics.share_above([many_tasks, few], np.array([0.5]))] == [[0.5]] * 3


# ----------------------------------------------------------------------------------------------------------------------
# Rows


def test_seeds_of_a_method_are_one_row_with_its_last_scores_and_its_cost(make_run: MakeRun):
    for seed, last in enumerate([1.0, 3.0]):
        make_run("pearl", [-50.0, last], seed=seed)
    folder = make_run("rl2", [-9.0, 0.0, 2.0], 1000).parent
    found = nacre.compare(folder)
    pearl, rl2 = found.rows
    assert pearl.method.startswith("pearl (smoke)") and pearl.family == "point-robot" and pearl.seeds == (0, 1)
    assert pearl.scores.tolist() == [[1.0, 11.0], [3.0, 13.0]]
    assert (pearl.iqm.value, pearl.mean) == (7.0, 7.0)
    assert (pearl.env_steps, pearl.grad_steps, pearl.minutes) == ((200, 200), (20, 20), 2.0)
    assert (rl2.iqm.value, rl2.env_steps, rl2.minutes) == (7.0, (3000, 3000), 3.0) and np.isnan(rl2.iqm.low)
    (improvement,) = found.improvements
    assert (improvement.method, improvement.over) == (pearl.method, rl2.method)
    assert improvement.probability.value == 0.5
    assert found.notices == ["the runs on point-robot are scored after 200 to 3,000 environment steps."]
    make_run("promp", [0.0] * 5, 100)
    (notice,) = compare(folder).notices
    assert "--at" not in notice  # rl2 has no evaluation within 200 steps
    (notice,) = compare([folder / name for name in ("run-0", "run-3")]).notices
    assert notice.endswith("200 to 500 environment steps (--at 200 scores all there).")


def test_runs_are_scored_within_as_many_steps(make_run: MakeRun):
    make_run("pearl", [1.0, 2.0, 3.0], 100)
    make_run("promp", [7.0, 8.0], 290)
    folder = make_run("rl2", [5.0], 1000).parent
    found = compare(folder, at=299)
    assert [(row.method.split()[0], row.mean, row.env_steps[0]) for row in found.rows] == [
        ("promp", 12.0, 290), ("pearl", 7.0, 200),
    ]  # fmt: skip
    late, uneven = found.notices
    assert "no evaluation within 299 steps" in late and "200 to 290 environment steps." in uneven
    with pytest.raises(NacreError, match="change --at"):
        compare(folder, at=10)
    with pytest.raises(NacreError, match="at least 0"):
        compare(folder, at=-1)


def test_steps_and_minutes_to_a_threshold_are_those_of_the_curve_over_seeds(make_run: MakeRun):
    make_run("pearl", [-30.0, -27.0, -24.0, -21.0, -18.0])  # with the task's 5 more, means of three: -22, -19, -16
    make_run("pearl", [-30.0, -27.0, -24.0, -21.0, -18.0], seed=1)
    folder = make_run("random", [-40.0], 0).parent
    pearl, random = compare(folder, threshold=-19.0).rows
    assert (pearl.to_threshold, pearl.minutes_to_threshold) == ((300, ""), 3.0)
    assert random.to_threshold is None  # it takes none
    pearl, _ = compare(folder, threshold={"point-robot": 0.0}).rows
    assert (pearl.to_threshold, pearl.minutes_to_threshold) == ((400, "more than"), 4.0)
    assert compare(folder, threshold={}).rows[0].threshold is None
    with pytest.raises(NacreError, match="did you mean 'point-robot'"):
        compare(folder, threshold={"point-robots": 0.0})
    with pytest.raises(NacreError, match="finite"):
        compare(folder, threshold=float("nan"))


def test_normalised_scores_stand_beside_where_runs_give_a_scale(make_run: MakeRun):
    make_run("random", [-10.0], 0)  # -10 and 0 on the two tasks
    make_run("oracle", [10.0], single_task=0)
    make_run("oracle", [20.0], single_task=1)
    folder = make_run("pearl", [0.0]).parent
    pearl, random = compare(folder).rows  # the oracles are the scale, not rows
    assert pearl.normalised_scores is not None and random.normalised_iqm is not None
    assert pearl.normalised_scores.tolist() == [[0.5, 0.5]] and random.normalised_iqm.value == 0.0
    with pytest.raises(NacreError, match="no run is left to compare"):
        compare([folder / "run-1", folder / "run-2"])


def say_data(path: Path, name: str, content: str) -> None:
    config = json.loads((path / "config.json").read_text())
    config["options"]["data"], config["data_hash"] = name, content
    (path / "config.json").write_text(json.dumps(config))


def test_runs_on_a_data_set_that_was_collected_anew_are_no_seeds_of_the_old_ones(make_run: MakeRun):
    """Its id is the same, its contents are not."""
    runs = [make_run("pearl", [0.0]), make_run("pearl", [1.0], seed=1), make_run("pearl", [2.0], seed=2)]
    for path, content in zip(runs, ("a" * 64, "b" * 64, "b" * 64), strict=True):
        say_data(path, "same", content)
    anew, old = compare(runs).rows
    assert old.method.endswith("data=same (hash aaaaaaaa)") and old.seeds == (0,)
    assert anew.method.endswith("data=same (hash bbbbbbbb)") and anew.seeds == (1, 2)


def test_runs_on_other_data_sets_are_no_seeds_of_each_other(make_run: MakeRun):
    runs = [make_run("pearl", [0.0]), make_run("pearl", [1.0], seed=1), make_run("pearl", [2.0], seed=2)]
    for path, data in zip(runs, ("first", "second", "second"), strict=True):
        say_data(path, data, data)
    second, first = compare(runs).rows
    assert first.method.endswith("data=first") and first.seeds == (0,)
    assert second.method.endswith("data=second") and second.seeds == (1, 2)


def test_what_is_not_on_equal_terms_is_said_and_not_paired(make_run: MakeRun):
    make_run("pearl", [0.0])
    folder = make_run("pearl", [1.0], task_seed=5).parent
    found = compare(folder)
    assert len(found.rows) == 2 and found.improvements == []
    assert found.notices == ["the runs on point-robot differ in test tasks: their scores are not of equal trials."]


def test_runs_of_nacre_reproduce_are_found_and_a_search_that_was_cut_off_is_told(
    make_run: MakeRun, capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    run_path = make_run("pearl", [0.0])
    folder, deep = run_path.parent, run_path.parent / "reproduce/figure/short/point-robot/pearl"
    deep.mkdir(parents=True)
    run_path.rename(deep / "seed-0")
    other = make_run("rl2", [0.0])
    found = compare(folder)
    assert len(found.rows) == 2 and found.notices == []
    monkeypatch.setattr("nacre.runs.below.MAX_FOLDERS", 4)
    (notice,) = compare(folder).notices
    assert "ended after 4 folders" in notice
    assert run("compare", str(folder)) == 0 and notice in capsys.readouterr().err
    (other / "tasks.json").unlink()
    monkeypatch.undo()
    (notice,) = compare(folder).notices
    assert notice.startswith(f"left out: the run at {other} is damaged") and "tasks.json" in notice


def test_what_cannot_be_compared_is_left_out_with_a_notice(make_run: MakeRun, tmp_path: Path, capsys: Capture):
    good, twin, empty, damaged = (make_run("pearl", [0.0] * count, seed=seed) for count, seed in
                                  ((2, 0), (1, 0), (0, 1), (1, 2)))  # fmt: skip
    (damaged / "eval.csv").write_text("nonsense\n1\n")
    found = compare([good.parent])
    assert [row.seeds for row in found.rows] == [(0,)]
    assert len(found.notices) == 3 and all(text.startswith("left out: ") for text in found.notices)
    assert any(str(twin) in text and "same method and seed" in text for text in found.notices)
    assert run("compare", str(good.parent)) == 0
    assert capsys.readouterr().err.count("nacre: left out: ") == 3
    told = refusal(capsys, "compare", str(empty), str(damaged))
    assert "no evaluation" in told and "none of the 2 runs can be compared" in told
    assert "has no evaluation" in refusal(capsys, "compare", str(empty))
    assert "no run at" in refusal(capsys, "compare", str(tmp_path / "nothing"))
    assert "at least one run" in refusal(capsys, "compare")
    assert "write a score" in refusal(capsys, "compare", str(good), "--threshold", "high")


# ----------------------------------------------------------------------------------------------------------------------
# Formats


def test_names_are_as_short_as_tells_methods_apart():
    labels = [
        ("a", "pearl (fast) kl_weight=0.1 hidden_dim=64"),
        ("a", "pearl (fast) kl_weight=0.5 hidden_dim=64"),
        ("a", "rl2 (paper) span=(0.5, 2)"),
        ("b", "rl2 (fast)"),
        ("b", "promp (paper), from runs/a b"),
        ("b", "promp (paper)"),
        ("b", "oracle (fast) discount=0.9"),
        ("a", "oracle (paper)"),
        ("a", "oracle (fast)"),
    ]
    assert list(short_names(labels).items()) == [
        (labels[0], "pearl (fast) kl_weight=0.1"), (labels[1], "pearl (fast) kl_weight=0.5"), (labels[2], "rl2"),
        (labels[3], "rl2"), (labels[4], "promp (paper) from runs/a b"), (labels[5], "promp (paper)"),
        (labels[6], "oracle (fast)"), (labels[7], "oracle (paper)"), (labels[8], "oracle (fast)"),
    ]  # fmt: skip


@pytest.fixture
def folder(make_run: MakeRun) -> Path:
    """Two methods on point-robot, of two seeds and of one; one method on another family."""
    for seed, last in enumerate([-101.0, -99.0]):
        make_run("pearl", [-200.0, last], 1000, seed=seed, kl_weight=0.5)
    make_run("pearl", [3.0], 1000, family="point-robot-half-circle", kl_weight=0.5)
    return make_run("promp", [-150.0, -140.0], 1000).parent


def test_text_fits_eighty_columns_and_says_what_was_measured(folder: Path, capsys: Capture):
    text = output(capsys, "compare", str(folder), "--threshold", "point-robot=-120")
    assert max(map(len, text.splitlines())) <= 80
    for part in ("pearl  ", "kl_weight=0.5", "-95.0", "-96.0 to -94.0", "2k", "2.0", "IQM", "probability of",
                 "1.00", "interquartile mean"):  # fmt: skip
        assert part in text, part
    assert "\x1b" not in text


def test_every_format_holds_the_same_numbers(folder: Path, tmp_path: Path, capsys: Capture):
    found = compare(folder, threshold={"point-robot": -120.0})
    markdown = output(capsys, "compare", str(folder), "--format", "markdown")
    assert "## Interquartile mean (95 % interval)\n\n| method | point-robot | point-robot-half-circle |" in markdown
    assert "| -95.0 (-96.0 to -94.0) | 8.00 |" in markdown
    latex = comparison_table.as_latex(found)
    assert r"95 \% interval" in latex and "$-$95.0 & $-$96.0 to $-$94.0" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 4
    rows = list(csv.DictReader(io.StringIO(comparison_table.as_csv(found))))
    assert [(row["family"], row["seeds"], float(row["iqm"])) for row in rows] == [
        ("point-robot", "0 1", -95.0), ("point-robot", "0", -135.0), ("point-robot-half-circle", "0", 8.0),
    ]  # fmt: skip
    assert (rows[0]["threshold"], rows[0]["steps_to_threshold"], rows[2]["threshold"]) == ("-120.0", "1500", "")
    told = json.loads(output(capsys, "compare", str(folder), "--format", "json", "--threshold", "-120"))
    assert told["rows"][0]["iqm_low"] == -96.0 and told["rows"][2]["iqm_low"] is None
    assert told["improvements"][0]["probability"] == 1.0
    out = tmp_path / "new" / "table.tex"
    assert output(capsys, "compare", str(folder), "-o", str(out)) == ""
    assert r"\toprule" in out.read_text()


def test_profiles_have_a_panel_for_each_family_and_a_band_where_there_are_seeds(folder: Path, drawn: list[Figure]):
    profiles.draw(compare(folder), Path("profile.png"))
    left, right = drawn[0].axes
    assert [len(axes.get_lines()) for axes in (left, right)] == [2, 1]
    assert [len(axes.collections) for axes in (left, right)] == [1, 0]
    levels, share = left.get_lines()[0].get_data()
    assert share[0] == 1.0 and share[-1] == 0.0
    assert share[np.searchsorted(levels, -95.0)] == 0.5  # both seeds on the second task
    assert left.get_xlabel() == "return of the scored episode"
    assert left.get_lines()[0].get_color() == right.get_lines()[0].get_color()  # of pearl


def test_where_all_families_are_normalised_the_first_panel_is_all_of_them(make_run: MakeRun):
    for family in ("point-robot", "point-robot-half-circle"):
        make_run("random", [-10.0], 0, family=family)
        for task in (0, 1):
            make_run("oracle", [10.0 + 10.0 * task], family=family, single_task=task)
    make_run("pearl", [0.0])
    folder = make_run("pearl", [10.0], family="point-robot-half-circle").parent
    everything, *each = profiles.panels_of(compare(folder))
    assert [panel.title for panel in each] == ["point-robot", "point-robot-half-circle"]
    assert everything.title == "all families" and everything.scored == "normalised score"
    scores = {line.name: sorted(matrix.tolist() for matrix in line.families) for line in everything.lines}
    assert scores == {"pearl": [[[0.5, 0.5]], [[1.0, 1.0]]], "random": [[[0.0, 0.0]]] * 2}


def test_a_profile_is_written_beside_the_table_or_refused_before_any_work(
    folder: Path, tmp_path: Path, capsys: Capture
):
    picture = tmp_path / "profile.svg"
    output(capsys, "compare", str(folder), "--profile", str(picture))
    assert picture.read_bytes().startswith(b"<?xml")
    assert "does not end like a picture" in refusal(capsys, "compare", str(folder), "--profile", "profile.txt")
