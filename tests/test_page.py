"""The page about runs: that it stands alone, shows what it promises, and opens in a browser without a complaint."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nacre import cli
from nacre.errors import NacreError
from nacre.families.catalog import make_family
from nacre.report import page, picture

SmokeRun = Callable[[str], Path]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def report(smoke_run: SmokeRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page about a run on the points, with one video, and one on the half-cheetah."""
    out = tmp_path_factory.mktemp("page") / "new" / "report.html"
    runs = [str(smoke_run(family)) for family in ("point-robot", "cheetah-dir")]
    assert cli.main(["report", runs[0], "-o", str(out), "--videos", "1"]) == 0
    assert out.stat().st_size > 50_000
    assert cli.main(["report", *runs, "-o", str(out)]) == 0
    assert list(out.parent.iterdir()) == [out]
    return out


def images(text: str) -> list[tuple[str, bytes]]:
    """(kind, content) of the images that stand in the page."""
    return [
        (kind, base64.b64decode(data)) for kind, data in re.findall(r"src='data:image/([a-z+]+);base64,([^']+)'", text)
    ]


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


def test_a_video_stands_in_the_page_where_it_was_asked_for(smoke_run: SmokeRun, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    page.write([smoke_run("point-robot")], out, num_videos=2)
    gifs = [content for kind, content in images(out.read_text()) if kind == "gif"]
    assert len(gifs) == 2 and all(content.startswith(b"GIF8") for content in gifs)


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


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_opens_the_page_without_a_complaint_and_shows_its_plots(report: Path, tmp_path: Path) -> None:
    """Headless, without network: the console stays empty, and every plot has a size."""
    sizes = "JSON.stringify([...document.images].map(image => [image.complete, image.naturalWidth]))"
    probe = report.read_text().replace("</body>", f"<script>onload = () => document.title = {sizes}</script></body>")
    (tmp_path / "report.html").write_text(probe)
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
        f"--disable-component-update --disable-quic --enable-logging=stderr --user-data-dir={tmp_path / 'profile'} "
        "--virtual-time-budget=10000 --dump-dom"
    ).split()
    browser = subprocess.run(
        [str(BROWSER), *flags, (tmp_path / "report.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    assert browser.returncode == 0, browser.stderr
    assert "CONSOLE" not in browser.stderr, browser.stderr
    (title,) = re.findall(r"<title>(.*?)</title>", browser.stdout)
    assert title.count("true") == 5, title
    assert all(int(width) > 400 for width in re.findall(r"\d+", title))


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
