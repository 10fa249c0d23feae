"""Pictures: what they show is what the runs say, and a picture that cannot be made leaves nothing behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

import nacre
from nacre.cli import main as cli
from nacre.errors import NacreError
from nacre.families.point import half_circle
from nacre.report import curves, picture, statistics, trials
from nacre.report.known import KNOWN_POINTS
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import resolve
from nacre.runs.tables import EVAL_COLUMNS, eval_rows

SHAPE = (2, 3, 3)  # repeat, task, episode of an evaluation in `make_run`
MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
MakeRun = Callable[..., Path]


def returns_of(index: int, seed: int) -> np.ndarray:
    """Made-up returns [repeat, task, episode] of an evaluation."""
    return np.round(np.random.default_rng([index, seed]).normal(index, 1.0, SHAPE), 3)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A run directory with evaluations that were never run: 3 on test tasks, at 100, 200 and 300 steps."""

    def make(
        name: str = "run",
        *,
        family: str = "point-robot",
        seed: int = 0,
        evaluations: int = 3,
        train: int = 0,
        steps: int = 100,
        seconds: float = 1.0,
        **fields: Any,
    ) -> Path:
        settings = (
            dict(num_evaluation_repeats=2, num_test_tasks=3, num_train_tasks=3) if family == "point-robot" else {}
        )
        run = RunDirectory.create(tmp_path / name, resolve("pearl", family, "smoke", seed=seed, **settings, **fields))
        for index in range(1, evaluations + 1):
            add_evaluation(run, index, "test", seed, steps, seconds)
            if index <= train:
                add_evaluation(run, index, "train", seed, steps, seconds)
        return run.path

    return make


def add_evaluation(
    run: RunDirectory, index: int, split: str, seed: int, steps: int = 100, seconds: float = 1.0
) -> None:
    shape = curves._shapes(run)[split]
    returns = returns_of(index, seed) if shape == SHAPE else np.full(shape, float(index))
    run.append("eval.csv", EVAL_COLUMNS, eval_rows(returns, split, steps * index, 10 * index, seconds * index))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, in place of files."""
    figures: list[Figure] = []
    monkeypatch.setattr(picture, "_save", lambda figure, out: figures.append(figure))
    return figures


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
    run = curves.read_run(make_run(train=1))
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
    assert curves.read_run(path).test.env_steps.tolist() == [100, 200]


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
        curves.read_run(path)


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
    pace = [item for item in middle.get_lines() if "pace" in str(item.get_label())]
    np.testing.assert_array_equal(np.array(pace[0].get_data()), [[95 * 60, 2.4 * 3600], [1000, 1400]])
    for axes in (left, middle):  # and all of it is inside the panel
        marks = np.concatenate([np.asarray(item.get_xdata(), float) for item in axes.get_lines()])
        assert axes.get_xlim()[0] == 0 and marks.max() < axes.get_xlim()[1] < 1.5 * marks.max()
    assert "the reference code" in legend(left)


def test_points_that_others_published_far_beyond_the_runs_are_told_in_words(make_run: MakeRun, drawn: list[Figure]):
    curves.draw([make_run("short", family="cheetah-dir")], Path("curves.png"))
    curves.draw([make_run("long", family="cheetah-dir", steps=100_000, seconds=200.0)], Path("curves.png"))
    short, long = (set(unwrapped(legend(figure.axes[0]))[1:]) for figure in drawn)
    pace = "the reference code's pace (its time per update on two cores, the port's returns)"
    later = "beyond the middle panel: 1000 after 95 minutes, 1400 after 2.4 hours"
    assert short == {
        "the reference code; beyond this panel: 445 at 84k steps",
        "an independent port of PEARL; beyond this panel: 1056 at 500k, 1492 at 1M, 1666 at 1.44M steps",
        f"{pace}; beyond this panel: 1000 at 520k, 1400 at 800k steps; {later}",
    }
    assert long == {
        "the reference code",
        "an independent port of PEARL; beyond this panel: 1492 at 1M, 1666 at 1.44M steps",
        f"{pace}; beyond this panel: 1400 at 800k steps; {later}",
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
    left, middle, _ = drawn[0].axes
    words = unwrapped(legend(left))
    for point in KNOWN_POINTS[family]:
        (told,) = (text for text in words if text.split("; ")[0] == point.source)
        in_steps, in_seconds = f"{point.score:g} at {picture.steps_text(point.env_steps)}", f"{point.score:g} after "
        assert is_marked(left, point.env_steps, point.score) != (in_steps in told)
        if point.wall_seconds is not None:
            assert is_marked(middle, point.wall_seconds, point.score) != (in_seconds in told)


@pytest.mark.parametrize("family", list(KNOWN_POINTS))
def test_words_about_what_others_published_fit_over_their_panel(make_run: MakeRun, family: str):
    families = curves.read_families([make_run("point"), make_run("learner", family=family)])
    with picture.figure(15.0, 3.7 * 2) as figure:
        curves.draw_families(figure, families)
        figure.draw_without_rendering()
        above, (left, middle, right) = figure.axes[:3], figure.axes[3:]
        words, panel = left.get_legend().get_window_extent(), left.get_window_extent()
        assert panel.y1 <= words.y0 and words.x1 <= panel.x1 and panel.height > 120
        assert words.x1 < min(axes.get_tightbbox().x0 for axes in (middle, right))
        assert words.y1 <= min(axes.get_tightbbox().y0 for axes in above)


def test_runs_of_very_different_lengths_share_a_logarithmic_axis(make_run: MakeRun, drawn: list[Figure]):
    long = make_run("long", steps=1000)
    curves.draw([make_run("short"), long], Path("curves.png"))
    assert [axes.get_xscale() for axes in drawn[0].axes[:2]] == ["linear", "linear"]
    curves.draw([make_run("shorter", steps=99, seconds=0.1), long], Path("curves.png"))
    assert [axes.get_xscale() for axes in drawn[1].axes[:2]] == ["log", "linear"]


def test_runs_that_are_scored_alike_are_not_said_to_differ_and_others_are(make_run: MakeRun):
    alike = [make_run("a", discount=0.5), make_run("b", seed=1)]
    ((_, groups),) = curves.read_families(alike).items()
    assert len(groups) == 2 and curves.differences(groups) == ""
    longer = make_run("c", num_evaluation_episodes=9, num_exploration_episodes=4)
    ((_, groups),) = curves.read_families([*alike, longer]).items()
    assert curves.differences(groups) == "episodes of a trial, episodes that explore"


def test_runs_on_other_test_tasks_are_not_averaged_as_seeds_of_each_other(make_run: MakeRun, drawn: list[Figure]):
    runs = [make_run("a"), make_run("b", seed=1, task_seed=5)]
    ((_, groups),) = curves.read_families(runs).items()
    usual, other = groups
    assert other == f"{usual} task_seed=5" and curves.differences(groups) == "test tasks"
    curves.draw(runs, Path("curves.png"))
    title = drawn[0].axes[0].get_legend().get_title().get_text()
    assert title == "point-robot\n(runs differ in test tasks)"
    config = runs[1] / "config.json"
    config.write_text(config.read_text().replace('"task_seed": 5', '"task_seed": 1337'))
    with pytest.raises(NacreError, match="scored on different test tasks; draw them apart"):
        curves.read_families(runs)


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


# ----------------------------------------------------------------------------------------------------------------------
# Files


@pytest.mark.parametrize("suffix", list(MAGIC))
def test_a_picture_is_written_as_its_name_ends_and_its_directory_is_made(
    make_run: MakeRun, tmp_path: Path, suffix: str
):
    out = tmp_path / "new" / "directory" / f"curves{suffix}"
    curves.draw([make_run()], out)
    assert out.read_bytes().startswith(MAGIC[suffix])
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("draw", [lambda run, out: curves.draw([run], out), trials.draw], ids=["curves", "trials"])
@pytest.mark.parametrize("name", ["picture.gif", "picture"])
def test_another_kind_of_picture_is_refused_before_the_run_is_read(tmp_path: Path, draw: Any, name: str):
    with pytest.raises(NacreError, match=r"\.png, \.svg, \.pdf"):
        draw(tmp_path / "no run", tmp_path / name)


def test_a_directory_is_no_picture(make_run: MakeRun, tmp_path: Path):
    (tmp_path / "there.png").mkdir()
    with pytest.raises(NacreError, match="is a directory"):
        curves.draw([make_run()], tmp_path / "there.png")


def test_a_picture_that_cannot_be_written_leaves_the_old_one(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "pictures" / "curves.png"
    out.parent.mkdir()
    out.write_text("old")

    def fail(figure: Figure, path: Path, **kwargs: Any) -> None:
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(NacreError, match="No space left on device"):
        curves.draw([make_run()], out)
    assert list(out.parent.iterdir()) == [out]
    assert out.read_text() == "old"


def test_a_place_that_cannot_be_made_is_refused_with_a_sentence(make_run: MakeRun, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NacreError, match="cannot write"):
        curves.draw([make_run()], tmp_path / "file" / "curves.png")


@pytest.mark.parametrize("suffix", list(MAGIC))
def test_the_same_runs_give_the_same_bytes(make_run: MakeRun, tmp_path: Path, suffix: str):
    run = make_run()
    for name in ("a", "b"):
        curves.draw([run], tmp_path / (name + suffix))
    assert (tmp_path / ("a" + suffix)).read_bytes() == (tmp_path / ("b" + suffix)).read_bytes()


def test_drawing_leaves_the_callers_matplotlib_as_it_was(make_run: MakeRun, tmp_path: Path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    curves.draw([make_run()], tmp_path / "curves.png")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (480, "480"), (21_000, "21k"), (450_000, "450k"), (1_250_000, "1.25M"), (2e6, "2M")]
)
def test_steps_are_written_short(number: float, text: str):
    assert picture.steps_text(number) == text


# ----------------------------------------------------------------------------------------------------------------------
# Trials


@pytest.fixture(scope="module")
def point_agent(smoke_run: Callable[[str], Path]) -> nacre.TrainedAgent:
    return nacre.load(smoke_run("point-robot"))


@pytest.fixture(scope="module")
def point_trials(point_agent: nacre.TrainedAgent) -> trials.Trials:
    return trials.play(point_agent, point_agent.tasks.test)


def test_the_belief_goes_from_the_prior_to_that_of_all_transitions(
    point_agent: nacre.TrainedAgent, point_trials: trials.Trials
):
    settings = point_agent.experiment.settings
    lanes = list(
        nacre.simulation.rollout.trial(
            point_agent.family, point_agent.functions, point_agent.params, point_trials.tasks, jax.random.key(0), 3
        )
    )
    for task, stds in enumerate(point_trials.belief_stds):
        assert stds.shape == (1 + 3 * 20, settings.latent_dim)
        np.testing.assert_array_equal(stds[0], 1.0)
        for index, played in enumerate(lanes):
            after = point_agent.experiment.algorithm.belief(played.memory_after, settings)
            np.testing.assert_allclose(stds[20 * (index + 1)], np.sqrt(after.variance[task]), rtol=1e-5)


def test_trials_are_those_of_an_evaluation(point_agent: nacre.TrainedAgent, point_trials: trials.Trials):
    returns, _ = point_agent.evaluate("test", seed=0, repeats=1)
    np.testing.assert_array_equal(point_trials.returns, returns[0])
    assert point_trials.num_exploration_episodes == 1


def test_goals_are_chosen_evenly_from_left_to_right():
    goals = half_circle(np.linspace(0.0, np.pi, 11))
    mixed = {"goal": np.random.default_rng(0).permutation(goals)}
    np.testing.assert_array_equal(trials.choose_tasks(mixed)["goal"], goals[::-2])


def test_plain_tasks_are_chosen_in_their_order_and_few_are_all_taken():
    chosen = trials.choose_tasks({"velocity": np.array([2.0, 0.0, 1.0])})
    assert chosen["velocity"].tolist() == [0.0, 1.0, 2.0]


def test_paths_are_those_of_the_episodes_and_end_where_they_ended(
    smoke_run: Callable[[str], Path], drawn: list[Figure], point_trials: trials.Trials, point_agent: nacre.TrainedAgent
):
    trials.draw(smoke_run("point-robot"), Path("trials.png"))
    axes = drawn[0].axes
    assert len(axes) == 3 * 3  # paths, returns, belief of three tasks
    chosen = trials.play(point_agent, trials.choose_tasks(point_agent.tasks.test))
    paths = [item for item in axes[0].get_lines() if len(item.get_xdata()) == 21]
    assert len(paths) == 3
    for path, episode in zip(paths, chosen.episodes, strict=True):
        transitions = episode.transitions
        np.testing.assert_allclose(np.array(path.get_data()).T[:-1], transitions.obs[0])
        np.testing.assert_allclose(np.array(path.get_data()).T[-1], transitions.next_obs[0, -1])
    first, last = chosen.returns[0, [0, -1]]
    assert axes[0].get_title(loc="left").endswith(f"return: first {first:.1f}, last {last:.1f}")


def test_the_last_episode_is_drawn_boldest_and_exploration_faintest():
    played = trials.Trials({"goal": np.zeros((1, 2))}, [None] * 20, [], [], 5)
    widths = [style["lw"] for style in trials._styles(played)]
    assert widths[-1] == max(widths)
    assert widths.count(max(widths)) == 1
    assert max(widths[:5]) < min(widths[5:])


def test_sparse_goals_have_their_radius(smoke_run: Callable[[str], Path], drawn: list[Figure]):
    trials.draw(smoke_run("sparse-point-robot"), Path("trials.png"))
    for axes in drawn[0].axes[:3]:
        (circle,) = [patch for patch in axes.patches if isinstance(patch, Circle)]
        assert circle.radius == 0.2
    belief = drawn[0].axes[-1]
    assert len(belief.get_lines()[0].get_xdata()) == 1 + 20 * 20


def test_a_family_without_a_plane_shows_rewards(smoke_run: Callable[[str], Path], drawn: list[Figure]):
    trials.draw(smoke_run("cheetah-dir"), Path("trials.png"))
    axes = drawn[0].axes
    assert len(axes) == 3 * 2
    assert axes[0].get_title(loc="left").startswith("direction=-1.00")
    assert [len(item.get_xdata()) for item in axes[0].get_lines()] == [200 - trials.SMOOTHED_STEPS + 1] * 3


def test_trials_of_a_run_without_a_checkpoint_are_refused(make_run: MakeRun, tmp_path: Path):
    with pytest.raises(NacreError, match="no checkpoint yet"):
        trials.draw(make_run(), tmp_path / "trials.png")
    assert not (tmp_path / "trials.png").exists()


def test_the_same_run_gives_the_same_trials(smoke_run: Callable[[str], Path], tmp_path: Path):
    copy = shutil.copytree(smoke_run("point-robot"), tmp_path / "copy")
    for out in ("a.png", "b.png"):
        assert cli.main(["report", str(copy), "--kind", "trials", "-o", str(tmp_path / out)]) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_command_draws_curves_and_refuses_other_files(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert cli.main(["report", str(make_run()), "-o", str(tmp_path / "curves.svg")]) == 0
    assert (tmp_path / "curves.svg").exists()
    assert cli.main(["report", str(tmp_path / "run"), "-o", str(tmp_path / "curves.gif")]) == 2
    assert "does not end like a picture" in capsys.readouterr().err
