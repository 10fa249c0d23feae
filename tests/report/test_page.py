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
from xml.etree import ElementTree

import imageio.v3 as imageio
import numpy as np
import pytest
from matplotlib.figure import Figure

import nacre
from nacre.cli import main as cli
from nacre.errors import NacreError
from nacre.families.catalog import make_family
from nacre.report import page, picture, video

SmokeRun = Callable[[str], Path]
SVG = "{http://www.w3.org/2000/svg}"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
LOOK = """
const seen = image => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  if (!canvas.width || !canvas.height) return [image.complete, 0, 0, 0];
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0);
  const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
  let [dark, coloured] = [0, 0];
  for (let at = 0; at < data.length; at += 4) {
    const pixel = data.slice(at, at + 3);
    dark += Math.min(...pixel) < 128;
    coloured += Math.max(...pixel) - Math.min(...pixel) > 60;
  }
  return [image.complete, canvas.width, dark, coloured];
};
onload = () => { document.title = JSON.stringify([...document.images].map(seen)); };
"""
"""Writes into the title of every image whether it is loaded, its width, and its numbers of dark and coloured pixels."""


@pytest.fixture(scope="module")
def report(smoke_run: SmokeRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page about a run on the points and one on the half-cheetah."""
    out = tmp_path_factory.mktemp("page") / "new" / "report.html"
    runs = [str(smoke_run(family)) for family in ("point-robot", "cheetah-dir")]
    assert cli.main(["report", *runs, "-o", str(out)]) == 0
    assert list(out.parent.iterdir()) == [out]
    return out


def images(text: str) -> list[tuple[str, bytes]]:
    """(kind, content) of the images that stand in the page."""
    return [
        (kind, base64.b64decode(data)) for kind, data in re.findall(r"src='data:image/([a-z+]+);base64,([^']+)'", text)
    ]


def panels(svg: bytes) -> list[list[str]]:
    """Of every panel of a plot the kinds of what is drawn in it: its axes, frame, words and legend do not count."""
    root = ElementTree.fromstring(svg)
    return [drawn_in(part) for part in root.iter(f"{SVG}g") if re.fullmatch(r"axes_\d+", part.get("id", ""))]


def drawn_in(panel: ElementTree.Element) -> list[str]:
    """A line (or the edge of an area), use (a mark or an area that was defined before) or image for each."""
    kinds = []
    for part in panel:
        if re.match(r"patch|matplotlib\.axis|text|legend", part.get("id", "")):
            continue
        unseen = {item for definitions in part.iter(f"{SVG}defs") for item in definitions.iter()}
        seen = [item for item in part.iter() if item not in unseen]
        kinds += ["line" for item in seen if item.tag == f"{SVG}path" and re.search("[LC]", item.get("d", ""))]
        kinds += [item.tag.removeprefix(SVG) for item in seen if item.tag in (f"{SVG}use", f"{SVG}image")]
    return kinds


def browse(text: str, folder: Path) -> tuple[list[str], list[list[Any]]]:
    """(what a headless browser without network tells of on its console as it opens the page, what `LOOK` sees)."""
    folder.mkdir(exist_ok=True)
    (folder / "page.html").write_text(text.replace("</body>", f"<script>{LOOK}</script></body>"))
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
        f"--disable-component-update --disable-quic --enable-logging=stderr --user-data-dir={folder / 'profile'} "
        "--virtual-time-budget=10000 --dump-dom"
    ).split()
    browser = subprocess.run(
        [str(BROWSER), *flags, "--host-resolver-rules=MAP * ~NOTFOUND", (folder / "page.html").as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert browser.returncode == 0, browser.stderr
    (title,) = re.findall(r"<title>(.*?)</title>", browser.stdout)
    return [line for line in browser.stderr.splitlines() if "CONSOLE" in line], json.loads(html.unescape(title))


def test_the_page_needs_nothing_from_anywhere(report: Path) -> None:
    text = report.read_text()
    assert re.findall(r"(?:src|href)='(?!data:)", text) == []
    assert "http" not in re.sub(r"data:[^']*", "", text) and "<script" not in text


def test_the_page_shows_curves_beliefs_tasks_settings_and_versions_of_every_run(report: Path) -> None:
    text = report.read_text()
    kinds = [kind for kind, _ in images(text)]
    assert kinds == ["svg+xml"] * (1 + 2 * 2)  # curves; beliefs and tasks of each run
    assert all(content.startswith(b"<?xml") and b"</svg>" in content for _, content in images(text))
    for heading in ("Learning curves", "Belief", "Return of the scored episode, by task", "Versions", "Settings"):
        assert heading in text
    assert text.count("&quot;kl_weight&quot;") == 2 and "nacre" in text and "jaxlib" in text
    assert text.count("<h2>") == 3


def test_every_run_is_headed_by_its_method_family_and_seed(smoke_run: SmokeRun, tmp_path: Path) -> None:
    pearl, random = smoke_run("point-robot"), tmp_path / "random"
    nacre.train("random", "point-robot", preset="smoke", iterations=1, seed=3, num_test_tasks=2, out=random)
    page.write([pearl, random, pearl], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    headings = re.findall(r"<h2>(.*?, seed \d+)</h2>", text)
    assert headings == [
        "pearl (smoke) on point-robot, seed 0",
        "random (smoke) num_test_tasks=2 on point-robot, seed 3",
    ]
    alts = re.findall(r"<img alt='([^']*)'", text)
    assert alts[0] == "learning curves, point-robot" and all(alts) and len(set(alts)) == len(alts)
    assert f"returns by task of {headings[0]}" in alts and f"returns by task of {headings[1]}" in alts
    assert "The runs on point-robot differ in test tasks" in text, "two test tasks are not three"


def test_every_panel_of_every_plot_has_something_drawn_in_it(report: Path) -> None:
    found = [panels(content) for _, content in images(report.read_text())]
    assert [len(plot) for plot in found] == [2 * 3, 3, 1, 3, 1]  # beliefs have a bar of their colours
    assert all(kinds for plot in found for kinds in plot)
    for (means, stds, bar), (tasks,), num_tasks in ((*found[1:3], 3), (*found[3:5], 2)):
        assert means == ["use"] * num_tasks and stds == ["line"] * num_tasks and bar == ["image"]
        assert tasks.count("use") == 2 * num_tasks, "the first and the scored episode of every task"


def test_a_plot_without_data_has_nothing_drawn_in_it() -> None:
    def empty(figure: Figure) -> None:
        left, middle, right = figure.subplots(1, 3)
        left.set(xlabel="steps", title="nothing")
        middle.plot([], [], label="nothing")
        middle.legend()
        right.plot([np.nan, np.nan], [1.0, 2.0])
        right.scatter([], [])

    ((_, content),) = images(page._svg(9.0, 3.0, empty, "words"))
    assert panels(content) == [[], [], []]
    ((_, content),) = images(page._svg(3.0, 3.0, lambda figure: figure.subplots().plot([0, 1], [1, 2], "o-"), "words"))
    assert panels(content) == [["line", "use", "use"]]


def test_a_video_stands_in_the_page_where_it_was_asked_for(
    smoke_run: SmokeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the place of an older page. The plots beside it are those of the other pages."""
    monkeypatch.setattr(page, "_svg", lambda *arguments: "")
    monkeypatch.setattr(video, "GIF_FRAMES_PER_SECOND", 5)
    out = tmp_path / "report.html"
    out.write_text("an older page")
    assert cli.main(["report", str(smoke_run("point-robot")), "-o", str(out), "--videos", "2"]) == 0
    assert list(tmp_path.iterdir()) == [out]
    gifs = [content for kind, content in images(out.read_text()) if kind == "gif"]
    assert len(gifs) == 2 and all(content.startswith(b"GIF8") for content in gifs)
    for frames in map(imageio.imread, map(io.BytesIO, gifs)):
        assert len(frames) > 3 * 5 and frames.shape[2:] == (280, 3)
        coloured = np.ptp(frames[:, 30:].astype(int), axis=-1) > 60  # under the caption
        assert (coloured.sum(axis=(1, 2)) > 50).all(), "no frame is blank"
        assert (frames[0] != frames[-1]).any(), "it moves"
    assert gifs[0] != gifs[1]


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_posterior_means_are_shown_in_the_plane_in_which_they_differ_most(latent_dim: int) -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(50, latent_dim)) * np.array([0.1, 4.0, 0.1, 1.0, 0.1])[:latent_dim]
    plane, names = page._plane(means)
    assert plane.shape == (50, 2) and len(names) == 2
    if latent_dim == 5:
        spread = means - means.mean(axis=0)
        np.testing.assert_allclose(np.abs(np.corrcoef(plane[:, 0], spread[:, 1])[0, 1]), 1.0, atol=0.05)
        np.testing.assert_allclose(np.abs(np.corrcoef(plane[:, 1], spread[:, 3])[0, 1]), 1.0, atol=0.05)
    if latent_dim == 2:
        np.testing.assert_array_equal(plane, means)
    one, _ = page._plane(means[:1])
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
    values, name, is_cyclic = page._parameter(tasks)
    assert name == words and values.shape == (40,) and len(set(values)) > 20
    assert is_cyclic == ("rad" in name)
    if family == "cheetah-inversion":
        np.testing.assert_array_equal(np.sign(values), tasks["robot"][:, 1])


def test_of_meta_worlds_numbers_the_one_that_differs_most_is_shown() -> None:
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.uniform(0, (0.1, 0.3, 0), (5, 3)), np.zeros((5, 3))], axis=1)
    values, name, is_cyclic = page._parameter({"environment": np.full(5, 40.0), "rand_vec": places})
    np.testing.assert_array_equal(values, places[:, 1])
    assert name == "rand_vec, number 2 of 6, which differs most" and not is_cyclic
    assert page._parameter({"environment": np.array([1.0, 2.0]), "rand_vec": places[:2]}).name == "environment"
    assert page._parameter({"place": np.zeros((1, 1))}).name == "place"


def test_directions_that_are_nearly_the_same_have_nearly_the_same_colour() -> None:
    angles = np.array([0.01, 2 * np.pi - 0.01, np.pi])
    with picture.figure(3, 3) as figure:
        dots = figure.subplots().scatter(angles, angles, **page._parameter({"angle": angles}).colours)
        first, around, opposite = dots.to_rgba(page._parameter({"angle": angles}).values)
    assert np.abs(first - around).max() < 0.1 < np.abs(first - opposite).max()


@needs_browser
def test_a_browser_opens_the_page_without_a_complaint_and_shows_its_plots(
    report: Path, smoke_run: SmokeRun, tmp_path: Path
) -> None:
    complaints, shown = browse(report.read_text(), tmp_path / "plots")
    assert complaints == [] and len(shown) == 5
    page.write([smoke_run("point-robot")], tmp_path / "report.html", num_videos=1)
    complaints, with_video = browse((tmp_path / "report.html").read_text(), tmp_path / "video")
    assert complaints == [] and len(with_video) == 4 and with_video[-1][1] == 280
    assert all(width > 400 for _, width, _, _ in shown + with_video[:-1])
    assert all(loaded and dark > 300 and coloured > 100 for loaded, _, dark, coloured in shown + with_video)


@needs_browser
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("console.error('on purpose')", "on purpose"),
        ("throw new Error('on purpose')", "on purpose"),
        ("nothing.to.be.found", "nothing is not defined"),
    ],
)
def test_a_complaint_of_the_browser_would_be_noticed(report: Path, tmp_path: Path, script: str, words: str) -> None:
    complaints, shown = browse(report.read_text().replace("</body>", f"<script>{script}</script></body>"), tmp_path)
    assert len(complaints) == 1 and words in complaints[0]
    assert len(shown) == 5


@needs_browser
def test_a_plot_that_is_not_shown_would_be_noticed(tmp_path: Path) -> None:
    bare = base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg' width='500' height='300'/>").decode()
    kinds = [
        f"<img src='data:image/svg+xml;base64,{bare}'>",
        "<img src='data:image/svg+xml;base64,AAAA'>",
        page._svg(6.0, 3.0, lambda figure: figure.subplots(), "words"),
    ]
    text = f"<!doctype html><title></title><body>{''.join(kinds)}</body>"
    complaints, (blank, broken, without_data) = browse(text, tmp_path)
    assert complaints == []
    assert blank == [True, 500, 0, 0] and broken == [True, 0, 0, 0]
    assert without_data[2] > 300 and without_data[3] == 0, "axes are dark, and only data have a colour"


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
