"""The page about runs: that it stands alone, shows what it promises, and opens in a browser without a complaint."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from matplotlib.colors import to_rgb

import nacre
from nacre.cli import main as cli
from nacre.errors import NacreError
from nacre.families.catalog import make_family
from nacre.families.point import half_circle
from nacre.report import chart, family_charts, page, run_charts, task_numbers
from nacre.report.levels import lower_levels

SmokeRun = Callable[[str], Path]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
LOOK = """
const press = (figure, key) => figure.box.dispatchEvent(new KeyboardEvent("keydown", { key }));
const seen = figure => {
  const marks = figure.box.querySelectorAll("path, circle, rect").length;
  press(figure, "ArrowRight");
  return [figure.box.clientWidth, marks, figure.output.textContent];
};
const first = figures[0], lines = () => first.box.querySelectorAll("path").length;
const all = figures.map(seen), before = lines(), box = document.querySelector("input[data-method]");
box.click();
const without = lines();
box.click();
document.title = JSON.stringify([all, document.documentElement.scrollWidth, before, without, lines()]);
"""
"""Writes into the title: of every chart its width, how much is drawn in it, and what it says of the point that a key
goes to; the width of the page; and the lines of the first chart before, while and after its method is hidden."""


@pytest.fixture(scope="module")
def report(smoke_run: SmokeRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page about a run on the points and one on the half-cheetah."""
    out = tmp_path_factory.mktemp("page") / "new" / "report.html"
    runs = [str(smoke_run(family)) for family in ("point-robot", "cheetah-dir")]
    assert cli.main(["report", *runs, "-o", str(out)]) == 0
    assert list(out.parent.iterdir()) == [out]
    return out


def charts(text: str) -> list[dict[str, Any]]:
    """The charts that stand in the page."""
    found = re.findall(r"<figure.*?<script type='application/json'>(.*?)</script></figure>", text, re.S)
    return [json.loads(one.replace("<\\/", "</")) for one in found]


def browse(text: str, folder: Path, width: int) -> tuple[list[str], list[Any]]:
    """(what a headless browser without network tells of on its console as it opens the page, what `LOOK` sees)."""
    folder.mkdir(exist_ok=True)
    (folder / "page.html").write_text(text.replace("</body>", f"<script>{LOOK}</script></body>"))
    frame = f"<iframe src='page.html' style='width: {width}px; height: 900px; border: 0'></iframe>"
    title = "<script>onload = () => { document.title = frames[0].document.title; }</script>"
    (folder / "frame.html").write_text(f"<!doctype html><title></title>{frame}{title}")
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
        f"--disable-component-update --disable-quic --enable-logging=stderr --user-data-dir={folder / 'profile'} "
        "--virtual-time-budget=10000 --dump-dom --allow-file-access-from-files"
    ).split()
    browser = subprocess.run(
        [str(BROWSER), *flags, "--host-resolver-rules=MAP * ~NOTFOUND", (folder / "frame.html").as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert browser.returncode == 0, browser.stderr
    (title,) = re.findall(r"<title>(.*?)</title>", browser.stdout)
    return [line for line in browser.stderr.splitlines() if "CONSOLE" in line], json.loads(html.unescape(title))


def test_the_page_needs_nothing_from_anywhere(report: Path) -> None:
    text = report.read_text().replace('"http://www.w3.org/2000/svg"', "")  # a name, not an address
    assert re.findall(r"(?:src|href)=['\"](?!data:)", text) == []
    assert "http" not in re.sub(r"data:[^']*", "", text) and "import(" not in text and "fetch(" not in text


def test_every_run_is_headed_by_its_method_family_and_seed(smoke_run: SmokeRun, tmp_path: Path) -> None:
    pearl, random = smoke_run("point-robot"), tmp_path / "random"
    nacre.train("random", "point-robot", preset="smoke", iterations=1, seed=3, num_test_tasks=2, out=random)
    page.write([pearl, random, pearl], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    names = ["pearl (smoke) on point-robot, seed 0", "random (smoke) num_test_tasks=2 on point-robot, seed 3"]
    assert re.findall(r"<h2>(.*?, seed \d+)</h2>", text) == names
    for name in names:
        headings = re.findall(rf"<h3>(.*?seed {name[-1]})</h3>", text)
        assert headings and all(name in heading for heading in headings)
    assert "The runs on point-robot differ in test tasks" in text, "two test tasks are not three"
    methods = ["pearl (smoke)", "random (smoke) num_test_tasks=2"]
    assert re.findall(r"data-method='(.*?)'", text) == methods, "one legend, of all charts"
    levels = [level["label"] for level in charts(text)[0]["views"][0]["levels"]]
    assert sorted(levels) == ["doing nothing", methods[1]], "random actions have a run of their own"
    assert text.count("one seed") == 2 and text.count(f"<td>{methods[0]}</td>") == 2  # of the method, of the run


def test_charts_have_the_numbers_of_the_run_and_say_them_in_words(smoke_run: SmokeRun, report: Path) -> None:
    found = charts(report.read_text())
    assert all(len(one["alt"]) > 30 for one in found) and len({one["alt"] for one in found}) == len(found)
    evaluations = nacre.RunDirectory(smoke_run("point-robot")).evaluations()
    last = (evaluations["split"] == "test") & (evaluations["episode"] == 3)
    steps = evaluations["env_steps"][last]
    scores = [evaluations["return"][last][steps == at].mean() for at in np.unique(steps)]
    by_steps, by_minutes = found[0]["views"]
    np.testing.assert_allclose(by_steps["lines"][0]["y"], scores, rtol=1e-4)
    np.testing.assert_array_equal(by_steps["lines"][0]["x"], np.unique(steps))
    assert (by_steps["name"], by_minutes["name"]) == ("steps", "minutes")
    assert f"to {scores[-1]:.4g} at" in found[0]["alt"]


def test_the_page_shows_all_parts_of_every_run(report: Path) -> None:
    text = report.read_text()
    titles = [one["title"] for one in charts(text)]
    for title in ("Posterior means", "The posterior narrows", "Return by task"):
        assert titles.count(title) == 2
    for family in ("point-robot", "cheetah-dir"):
        assert f"policy_loss, {family}" in titles and f"Return by episode of a trial on {family}" in titles
    by_title = {one["title"]: one["views"][0] for one in charts(text) if one["title"].startswith("goal=")}
    assert len(by_title) == 3, "the paths to three goals"
    assert len({(view["x"]["low"], view["x"]["high"]) for view in by_title.values()}) == 1, "on the same scale"
    for title, view in by_title.items():
        (disc,), goal = view["discs"], [float(part) for part in title.removeprefix("goal=").split(",")]
        np.testing.assert_allclose([disc["x"], disc["y"]], goal, atol=0.006)
        assert [len(line["x"]) for line in view["lines"]] == [21] * 3, "20 steps from the start, in every episode"
    assert text.count("&quot;kl_weight&quot;") == 2 and "nacre" in text and "jaxlib" in text
    assert "goal 1" in text and "goal 2" in text, "all parameters of the tasks"


def test_a_chart_holds_numbers_that_are_not_finite_and_words_that_close_a_script() -> None:
    line = chart.Line("</script>", [0.0, 1.0], np.array([np.nan, 1.234567]), "#000000")
    (found,) = charts(
        chart.figure(chart.Chart("a < b", "words", [chart.View(chart.Axis("x"), chart.Axis("y"), lines=[line])]))
    )
    assert found["views"][0]["lines"][0]["y"] == [None, 1.2346]
    assert found["views"][0]["lines"][0]["label"] == "</script>"


def test_doing_nothing_at_the_origin_earns_minus_the_distance_to_the_goal_at_every_step() -> None:
    family, tasks = make_family("point-robot-half-circle"), {"goal": half_circle(np.linspace(0.0, np.pi, 5))}
    levels = lower_levels(family, tasks)
    assert levels["doing nothing"] == pytest.approx(-20.0, abs=1e-4)
    assert levels["random actions"] != levels["doing nothing"]


def luminance(colour: str) -> float:
    """Relative, of WCAG 2.1."""
    parts = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))


def test_colours_stand_out_from_white_and_scales_are_even_and_cyclic() -> None:
    assert all(1.05 / (luminance(colour) + 0.05) > 3.0 for colour in (*chart.COLOURS, chart.GREY))
    scales = json.loads(chart.palettes())
    lightness = [luminance(colour) ** (1 / 3) for colour in scales["even"]]  # about L* of CIELAB
    assert (np.diff(lightness) > 0).all() and np.diff(lightness).max() < 2 * np.diff(lightness).min()
    ends = np.array([to_rgb(scales["cyclic"][at]) for at in (0, -1)])
    assert np.abs(ends[0] - ends[1]).max() < 0.02, "0 and 2 pi are the same direction"


def test_looks_tell_methods_apart() -> None:
    found = family_charts.looks([f"method {index}" for index in range(8)])
    assert len({(look.colour, look.dash) for look in found.values()}) == 8


def test_a_video_stands_in_the_page_where_it_was_asked_for(
    smoke_run: SmokeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the place of an older page. The plots beside it are those of the other pages."""
    monkeypatch.setattr(page, "VIDEO_RATE", 5)
    out = tmp_path / "report.html"
    out.write_text("an older page")
    assert cli.main(["report", str(smoke_run("point-robot")), "-o", str(out), "--videos", "2"]) == 0
    assert list(tmp_path.iterdir()) == [out]
    gifs = [base64.b64decode(data) for data in re.findall(r"data:image/gif;base64,([^']+)'", out.read_text())]
    assert len(gifs) == 2 and all(content.startswith(b"GIF8") for content in gifs)
    for frames in map(imageio.imread, map(io.BytesIO, gifs)):
        assert len(frames) > 3 * 5 and frames.shape[2:] == (480, 3)
        coloured = np.ptp(frames[:, 50:-50].astype(int), axis=-1) > 60  # under the caption
        assert (coloured.sum(axis=(1, 2)) > 50).all(), "no frame is blank"
        assert (frames[0] != frames[-1]).any(), "it moves"
    assert gifs[0] != gifs[1]


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_posterior_means_are_shown_in_the_plane_in_which_they_differ_most(latent_dim: int) -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(50, latent_dim)) * np.array([0.1, 4.0, 0.1, 1.0, 0.1])[:latent_dim]
    plane, names = run_charts.plane(means)
    assert plane.shape == (50, 2) and len(names) == 2
    if latent_dim == 5:
        spread = means - means.mean(axis=0)
        np.testing.assert_allclose(np.abs(np.corrcoef(plane[:, 0], spread[:, 1])[0, 1]), 1.0, atol=0.05)
        np.testing.assert_allclose(np.abs(np.corrcoef(plane[:, 1], spread[:, 3])[0, 1]), 1.0, atol=0.05)
    if latent_dim == 2:
        np.testing.assert_array_equal(plane, means)
    one, _ = run_charts.plane(means[:1])
    assert one.shape == (1, 2) and np.isfinite(one).all()


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("cheetah-vel", "velocity"),
        ("humanoid-dir", "angle (rad)"),
        ("ant-goal", "direction of the goal (rad)"),
        ("cheetah-inversion", "length of the limbs, negative: actuators turned"),
        ("walker-params", "mean of the 65 exponents"),
    ],
)
def test_a_task_is_coloured_by_a_number_that_differs_and_is_named(family: str, words: str) -> None:
    tasks = make_family(family).sample_tasks(np.random.default_rng(0), 40)
    name, values, is_cyclic = task_numbers.telling(tasks)
    assert name == words and values.shape == (40,) and len(set(values)) > 20
    assert is_cyclic == ("rad" in name)
    if family == "cheetah-inversion":
        np.testing.assert_array_equal(np.sign(values), tasks["robot"][:, 1])


def test_of_meta_worlds_numbers_the_one_that_differs_most_is_shown() -> None:
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.uniform(0, (0.1, 0.3, 0), (5, 3)), np.zeros((5, 3))], axis=1)
    name, values, is_cyclic = task_numbers.telling({"environment": np.full(5, 40.0), "rand_vec": places})
    np.testing.assert_array_equal(values, places[:, 1])
    assert name == "rand_vec, number 2 of 6, which differs most" and not is_cyclic
    assert task_numbers.telling({"environment": np.array([1.0, 2.0]), "rand_vec": places[:2]}).name == "environment"
    assert task_numbers.telling({"place": np.zeros((1, 1))}).name == "place"


@needs_browser
@pytest.mark.parametrize("width", [1280, 420])
def test_a_browser_opens_the_page_without_a_complaint_and_draws_its_charts(
    report: Path, tmp_path: Path, width: int
) -> None:
    complaints, (seen, wide, before, without, after) = browse(report.read_text(), tmp_path, width)
    assert complaints == [] and wide <= width
    shown = [one for one in seen if one[0]]  # the others are folded up
    assert len(shown) >= 2 * 7 and all(marks > 1 for _, marks, _ in shown)
    assert all(re.search(r": .* at .*\d", words) for *_, words in shown), "keys walk along the points"
    assert without < before == after


@needs_browser
@pytest.mark.parametrize(
    ("script", "words"),
    [("console.error('on purpose')", "on purpose"), ("nothing.to.be.found", "nothing is not defined")],
)
def test_a_complaint_of_the_browser_would_be_noticed(report: Path, tmp_path: Path, script: str, words: str) -> None:
    complaints, _ = browse(report.read_text().replace("</body>", f"<script>{script}</script></body>"), tmp_path, 800)
    assert len(complaints) == 1 and words in complaints[0]


def test_a_page_about_no_run_or_a_negative_number_of_videos_is_refused(
    smoke_run: SmokeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"
    assert cli.main(["report", str(tmp_path / "nothing"), "-o", str(out)]) == 2
    assert "there is no run" in capsys.readouterr().err
    assert cli.main(["report", str(smoke_run("point-robot")), "-o", str(out), "--videos", "-1"]) == 2
    assert "--videos" in capsys.readouterr().err
    with pytest.raises(NacreError, match="cannot write"):
        (tmp_path / "file").touch()
        page.write([smoke_run("point-robot")], tmp_path / "file" / "report.html")
    assert not out.exists()
