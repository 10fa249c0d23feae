"""Pictures: what they show is what the runs say, and a picture that cannot be made leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_runs import MakeRun, returns_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nacre.errors import NacreError
from nacre.report import curves, evaluated_runs, picture, statistics
from nacre.report.known import KNOWN_POINTS
from nacre.runs.tables import EVAL_COLUMNS


def line(axes: Axes, label: str) -> np.ndarray:
    """[x or y, point] of the line with this label."""
    (found,) = [line for line in axes.get_lines() if line.get_label() == label]
    return np.array(found.get_data())


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


def unwrapped(labels: list[str]) -> list[str]:
    return [label.replace("\n", " ") for label in labels]


def is_marked(axes: Axes, x: float, y: float) -> bool:
    """Whether a hollow mark stands there, inside the panel."""
    hollow = [item for item in axes.get_lines() if item.get_markerfacecolor() == "none"]
    return x < axes.get_xlim()[1] and any([x, y] in np.transpose(item.get_data()).tolist() for item in hollow)


# ----------------------------------------------------------------------------------------------------------------------
# Reading


def test_evaluations_are_read_as_they_were_written(make_run: MakeRun):
    run = evaluated_runs.read_run(make_run(train=1))
    assert run.test.env_steps.tolist() == [100, 200, 300]
    np.testing.assert_array_equal(run.test.returns, np.stack([returns_of(index, 0) for index in (1, 2, 3)]))
    assert run.train is not None
    assert run.train.env_steps.tolist() == [100]
    np.testing.assert_allclose(run.test.scores, [returns_of(index, 0)[:, :, -1].mean() for index in (1, 2, 3)])


@pytest.mark.parametrize("missing", [1, 10, 200])
def test_an_evaluation_that_is_still_being_written_is_left_out(make_run: MakeRun, missing: int):
    path = make_run()
    file = path / "eval.csv"
    file.write_text(file.read_text()[:-missing])
    assert evaluated_runs.read_run(path).test.env_steps.tolist() == [100, 200]


@pytest.mark.parametrize("content", [None, "", ",".join(EVAL_COLUMNS) + "\n", ",".join(EVAL_COLUMNS)])
def test_a_run_without_evaluations_is_refused(make_run: MakeRun, tmp_path: Path, content: str | None):
    path = make_run(evaluations=0)
    if content is not None:
        (path / "eval.csv").write_text(content)
    with pytest.raises(NacreError, match="no evaluation to draw yet"):
        curves.draw([path], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


DAMAGE: dict[str, Callable[[str], str]] = {
    "another header": lambda text: text.replace("env_steps", "steps", 1),
    "a word for a number": lambda text: text.replace("100,10,", "100,ten,", 1),
    "a column too few": lambda text: text.replace("100,10,", "100,", 1),
    "an unknown split": lambda text: text.replace("test", "tset", 1),
    "a task that the run does not have": lambda text: text.replace("test,2,", "test,3,", 1),
    "an episode 0": lambda text: text.replace("test,0,0,1,", "test,0,0,0,", 1),
    "a row missing within": lambda text: "".join(
        text.splitlines(keepends=True)[:3] + text.splitlines(keepends=True)[4:]
    ),
    "a row twice": lambda text: text + text.splitlines(keepends=True)[-1],
    "a return that is not finite": lambda text: text.replace(text.splitlines()[1].split(",")[-1], "nan", 1),
    "no text": lambda text: "\0" * 100 + "\n",
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_eval_csv_is_refused_with_a_sentence(make_run: MakeRun, tmp_path: Path, damage: str):
    path = make_run()
    file = path / "eval.csv"
    file.write_text(DAMAGE[damage](file.read_text()))
    with pytest.raises(NacreError, match="damaged") as error:
        curves.draw([path], tmp_path / "curves.png")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "curves.png").exists()


def test_bytes_that_are_no_text_are_damage(make_run: MakeRun):
    path = make_run()
    (path / "eval.csv").write_bytes(b"\xff\xfe\x80" * 10)
    with pytest.raises(NacreError, match="damaged"):
        evaluated_runs.read_run(path)


def test_a_path_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(NacreError, match="there is no run"):
        curves.draw([tmp_path / "nothing"], tmp_path / "curves.png")


# ----------------------------------------------------------------------------------------------------------------------
# Learning curves


def test_a_single_run_is_a_line_of_its_scores(make_run: MakeRun, drawn: list[Figure]):
    curves.draw([make_run()], Path("curves.png"))
    left, *_ = drawn[0].axes
    np.testing.assert_allclose(
        line(left, "pearl (smoke) num_train_tasks=3 num_evaluation_repeats=2, seed 0"),
        [[100, 200, 300], [returns_of(index, 0)[:, :, -1].mean() for index in (1, 2, 3)]],
    )


def test_seeds_of_the_same_settings_are_summed_up_by_interquartile_mean_and_interval(
    make_run: MakeRun, drawn: list[Figure]
):
    curves.draw([make_run(f"run-{seed}", seed=seed) for seed in range(3)], Path("curves.png"))
    left, *_ = drawn[0].axes
    (label,) = [text for text in legend(left) if "IQM of 3 seeds" in text]
    scores = np.array([[returns_of(index, seed)[:, :, -1].mean() for index in (1, 2, 3)] for seed in range(3)])
    np.testing.assert_allclose(line(left, label)[1], statistics.interquartile_mean(scores))
    (band,) = left.collections
    extent = band.get_paths()[0].get_extents().get_points()[:, 1]
    low, high = statistics.bootstrap_interval(scores)
    assert tuple(extent) == pytest.approx((low.min(), high.max()))
    assert "95 % bootstrap interval" in legend(left)


@pytest.mark.parametrize(
    ("num_seeds", "weights"),
    [
        (1, [1]),
        (2, [0.5, 0.5]),
        (3, [1 / 6, 2 / 3, 1 / 6]),
        (4, [0, 0.5, 0.5, 0]),
        (6, [0, 1 / 6, 1 / 3, 1 / 3, 1 / 6, 0]),
    ],
)
def test_the_interquartile_mean_weighs_the_middle_half_of_the_seeds(num_seeds: int, weights: list[float]):
    scores = np.random.default_rng(0).normal(size=(num_seeds, 5))
    expected = (np.array(weights)[:, None] * np.sort(scores, axis=0)).sum(axis=0)
    np.testing.assert_allclose(statistics.interquartile_mean(scores), expected, atol=1e-12)


def test_the_bootstrap_interval_of_many_seeds_is_that_of_the_sampling_distribution():
    """Of 40 standard normal seeds: the interquartile mean scatters with about 1.09 / sqrt(40)."""
    scores = np.random.default_rng(0).normal(size=(40, 200))
    low, high = statistics.bootstrap_interval(scores)
    np.testing.assert_allclose((high - low).mean(), 2 * 1.96 * 1.09 / np.sqrt(40), rtol=0.1)
    assert 0.88 < ((low < 0) & (high > 0)).mean() < 0.99
    again = statistics.bootstrap_interval(scores)
    np.testing.assert_array_equal(again, (low, high))


def test_runs_with_other_settings_are_no_seeds_of_each_other(make_run: MakeRun, drawn: list[Figure]):
    curves.draw([make_run("a"), make_run("b", seed=1, learning_rate=0.5), make_run("c", seed=2)], Path("curves.png"))
    labels = legend(drawn[0].axes[0])
    assert len(labels) == 3  # two groups, the band
    assert [("learning_rate=0.5" in label, "IQM of 2 seeds" in label) for label in labels[:2]].count((True, False)) == 1
    assert sum("IQM of 2 seeds" in label for label in labels) == 1


def test_a_longer_run_is_a_seed_like_the_others_and_counts_while_all_run(make_run: MakeRun, drawn: list[Figure]):
    curves.draw([make_run("a", iterations=5), make_run("b", seed=1, evaluations=2)], Path("curves.png"))
    left, *_ = drawn[0].axes
    (label,) = [text for text in legend(left) if "IQM of 2 seeds" in text]
    assert line(left, label)[0].tolist() == [100, 200]


def test_a_run_named_twice_counts_once(make_run: MakeRun, drawn: list[Figure]):
    path = make_run()
    curves.draw([path, path / ".." / path.name], Path("curves.png"))
    assert all("IQM of" not in text for text in legend(drawn[0].axes[0]))


def test_of_two_runs_with_one_seed_the_longer_counts_and_a_notice_tells_so(
    make_run: MakeRun, drawn: list[Figure], capsys: pytest.CaptureFixture[str]
):
    shorter, longer = make_run("shorter", evaluations=1), make_run("longer", iterations=5)
    curves.draw([shorter, longer, make_run("other", seed=1)], Path("curves.png"))
    (label,) = [text for text in legend(drawn[0].axes[0]) if "IQM of" in text]
    assert "IQM of 2 seeds" in label and line(drawn[0].axes[0], label)[0].tolist() == [100, 200, 300]
    assert (
        f"left out: the run at {shorter} is of the same method and seed as that at {longer}" in capsys.readouterr().err
    )


def test_a_run_of_a_preset_that_is_gone_is_named_by_it_beside_the_others(make_run: MakeRun):
    gone = make_run("gone")
    config = gone / "config.json"
    config.write_text(config.read_text().replace('"preset": "smoke"', '"preset": "demo"'))
    ((_, groups),) = evaluated_runs.read_families([gone, make_run("other")]).items()
    first, other = groups
    assert first.startswith("pearl (demo) ") and "num_test_tasks=3" in first and other.startswith("pearl (smoke)")


def test_train_tasks_are_dotted_where_they_were_evaluated(make_run: MakeRun, drawn: list[Figure]):
    curves.draw([make_run("without")], Path("curves.png"))
    curves.draw([make_run("with", train=2)], Path("curves.png"))
    without, dotted = ([item for item in figure.axes[0].get_lines() if item.get_linestyle() == ":"] for figure in drawn)
    assert without == []
    assert dotted[0].get_xdata().tolist() == [100, 200]
    assert "on train tasks" in legend(drawn[1].axes[0])


def test_return_by_episode_is_that_of_the_first_the_middle_and_the_latest_evaluation(
    make_run: MakeRun, drawn: list[Figure]
):
    curves.draw([make_run()], Path("curves.png"))
    right = drawn[0].axes[2]
    for found, index in zip(right.get_lines(), (1, 2, 3), strict=True):
        assert found.get_xdata().tolist() == [1, 2, 3]
        np.testing.assert_allclose(found.get_ydata(), returns_of(index, 0).mean((0, 1)))
    assert legend(right)[:3] == ["first, 100 steps", "middle, 200 steps", "latest, 300 steps"]


@pytest.mark.parametrize(("evaluations", "stages"), [(1, 1), (2, 2), (3, 3)])
def test_a_young_run_shows_the_evaluations_it_has(
    make_run: MakeRun, drawn: list[Figure], evaluations: int, stages: int
):
    curves.draw([make_run(evaluations=evaluations)], Path("curves.png"))
    assert len(drawn[0].axes[2].get_lines()) == stages


def test_the_middle_panel_shows_the_same_scores_against_the_time_a_run_took(make_run: MakeRun, drawn: list[Figure]):
    curves.draw([make_run()], Path("curves.png"))
    left, middle, _ = drawn[0].axes
    label = "pearl (smoke) num_train_tasks=3 num_evaluation_repeats=2, seed 0"
    np.testing.assert_array_equal(line(middle, label)[0], [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(line(middle, label)[1], line(left, label)[1])
    assert middle.get_xlabel() == "minutes since the run began"
    curves.draw([make_run(f"long-{seed}", seed=seed, seconds=5000.0) for seed in (1, 2)], Path("curves.png"))
    middle = drawn[1].axes[1]
    assert middle.get_xlabel() == "hours since the run began"
    (label,) = [str(item.get_label()) for item in middle.get_lines() if "IQM of 2" in str(item.get_label())]
    np.testing.assert_array_equal(line(middle, label)[0], [5000.0, 10000.0, 15000.0])


def test_points_that_others_published_are_marked_where_a_run_comes_near_them(make_run: MakeRun, drawn: list[Figure]):
    curves.draw([make_run("run", family="cheetah-dir", steps=100_000, seconds=2000.0)], Path("curves.png"))
    left, middle, _ = drawn[0].axes
    np.testing.assert_array_equal(line(left, "_the reference code"), [[84e3], [445]])
    np.testing.assert_array_equal(line(left, "_an independent port of PEARL"), [[0.5e6], [1056]])
    for axes in (left, middle):  # and all of it is inside the panel
        marks = np.concatenate([np.asarray(item.get_xdata(), float) for item in axes.get_lines()])
        assert axes.get_xlim()[0] == 0 and marks.max() < axes.get_xlim()[1] < 1.5 * marks.max()
    assert len(middle.get_lines()) == 1  # nobody has published how long it took
    assert "the reference code" in legend(left)


def test_points_that_others_published_far_beyond_the_runs_are_told_in_words(make_run: MakeRun, drawn: list[Figure]):
    curves.draw([make_run("short", family="cheetah-dir")], Path("curves.png"))
    curves.draw([make_run("long", family="cheetah-dir", steps=100_000, seconds=200.0)], Path("curves.png"))
    short, long = (set(unwrapped(legend(figure.axes[0]))[1:]) for figure in drawn)
    assert short == {
        "the reference code; beyond this panel: 445 at 84k steps",
        "an independent port of PEARL; beyond this panel: 1056 at 500k, 1492 at 1M, 1666 at 1.44M steps",
    }
    assert long == {
        "the reference code",
        "an independent port of PEARL; beyond this panel: 1492 at 1M, 1666 at 1.44M steps",
    }
    for figure in drawn:
        assert figure.axes[1].get_legend() is None


@pytest.mark.parametrize("steps", [100, 150_000, 10_000_000])
@pytest.mark.parametrize("family", list(KNOWN_POINTS))
def test_every_point_that_others_published_is_marked_or_told(
    make_run: MakeRun, drawn: list[Figure], family: str, steps: int
):
    run = make_run(family=family, evaluations=1, steps=steps, seconds=steps / 50)
    curves.draw([run], Path("curves.png"))
    left = drawn[0].axes[0]
    words = unwrapped(legend(left))
    for point in KNOWN_POINTS[family]:
        (told,) = (text for text in words if text.split("; ")[0] == point.source)
        in_steps = f"{point.score:g} at {picture.steps_text(point.env_steps)}"
        assert is_marked(left, point.env_steps, point.score) != (in_steps in told)


@pytest.mark.parametrize("family", list(KNOWN_POINTS))
def test_words_about_what_others_published_fit_over_their_panel(make_run: MakeRun, family: str):
    families = evaluated_runs.read_families([make_run("point"), make_run("learner", family=family)])
    with picture.figure(15.0, 3.7 * 2) as figure:
        curves.draw_families(figure, families)
        figure.draw_without_rendering()
        above, (left, middle, right) = figure.axes[:3], figure.axes[3:]
        words, panel = left.get_legend().get_window_extent(), left.get_window_extent()
        assert panel.y1 <= words.y0 and words.x1 <= panel.x1 and panel.height > 120
        assert words.x1 < min(axes.get_tightbbox().x0 for axes in (middle, right))
        assert words.y1 <= min(axes.get_tightbbox().y0 for axes in above)


def test_runs_of_very_different_lengths_share_a_logarithmic_axis(make_run: MakeRun, drawn: list[Figure]):
    long = make_run("long", steps=1000, seed=1)
    curves.draw([make_run("short"), long], Path("curves.png"))
    assert [axes.get_xscale() for axes in drawn[0].axes[:2]] == ["linear", "linear"]
    curves.draw([make_run("shorter", steps=99, seconds=0.1), long], Path("curves.png"))
    assert [axes.get_xscale() for axes in drawn[1].axes[:2]] == ["log", "linear"]


def test_runs_that_are_scored_alike_are_not_said_to_differ_and_others_are(make_run: MakeRun):
    alike = [make_run("a", discount=0.5), make_run("b", seed=1)]
    ((_, groups),) = evaluated_runs.read_families(alike).items()
    assert len(groups) == 2 and evaluated_runs.differences(groups) == ""
    longer = make_run("c", num_evaluation_episodes=9, num_exploration_episodes=4)
    ((_, groups),) = evaluated_runs.read_families([*alike, longer]).items()
    assert evaluated_runs.differences(groups) == "episodes of a trial, episodes that explore"


def test_runs_on_other_test_tasks_are_not_averaged_as_seeds_of_each_other(make_run: MakeRun, drawn: list[Figure]):
    runs = [make_run("a"), make_run("b", seed=1, task_seed=5)]
    ((_, groups),) = evaluated_runs.read_families(runs).items()
    usual, other = groups
    assert other == f"{usual} task_seed=5" and evaluated_runs.differences(groups) == "test tasks"
    curves.draw(runs, Path("curves.png"))
    title = drawn[0].axes[0].get_legend().get_title().get_text()
    assert title == "point-robot\n(runs differ in test tasks)"
    config = runs[1] / "config.json"
    config.write_text(config.read_text().replace('"task_seed": 5', '"task_seed": 1337'))
    with pytest.raises(NacreError, match="scored on different test tasks; draw them apart"):
        evaluated_runs.read_families(runs)


def test_a_method_that_trains_on_no_steps_is_a_level(make_run: MakeRun, drawn: list[Figure]):
    curves.draw([make_run("learner"), make_run("still", steps=0, seed=7, discount=0.5)], Path("curves.png"))
    for axes in drawn[0].axes[:2]:
        (level,) = [item for item in axes.get_lines() if item.get_linestyle() == "--"]
        assert list(level.get_ydata()) == [returns_of(3, 7)[..., -1].mean()] * 2
        assert axes.get_xscale() == "linear"


def test_every_family_has_a_row(make_run: MakeRun, drawn: list[Figure]):
    runs = [make_run("a"), make_run("b", family="cheetah-dir"), make_run("c", seed=1)]
    curves.draw(runs, Path("curves.png"))
    titles = [axes.get_legend().get_title().get_text() for axes in drawn[0].axes[::3]]
    assert titles == ["point-robot", "cheetah-dir"]


def test_every_radius_of_sparse_goals_has_a_row(make_run: MakeRun, drawn: list[Figure]):
    """Returns of a larger radius are of another size."""
    radii = {"a": 0.8, "b": 0.2, "c": 0.8}
    runs = [make_run(name, family="sparse-point-robot", seed=ord(name), goal_radius=radii[name]) for name in radii]
    curves.draw(runs, Path("curves.png"))
    rows = drawn[0].axes[::3]
    titles = [axes.get_legend().get_title().get_text() for axes in rows]
    assert titles == ["sparse-point-robot goal_radius=0.8", "sparse-point-robot"]
    assert ["IQM of 2 seeds" in legend(axes)[0] for axes in rows] == [True, False]
