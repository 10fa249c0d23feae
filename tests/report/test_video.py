"""Videos of trials: what they show, how long they last, and what is refused."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image, ImageDraw

import nacre
from nacre.cli import main as cli
from nacre.deploy.trial_reports import EpisodeReport
from nacre.errors import NacreError
from nacre.report import video

SmokeRun = Callable[[str], Path]
Words = list[list[tuple[tuple[float, ...], str]]]
"""picture -> ((left, top, right, bottom), text) of everything that is written into it"""


def seconds(gif: Path) -> float:
    """How long it lasts; frames that are the same stand in the file once, for longer."""
    image: Any = Image.open(gif)
    total = 0.0
    for frame in range(image.n_frames):
        image.seek(frame)
        total += image.info["duration"]
    return total / 1000


def test_a_trial_on_a_point_robot_is_a_gif_of_its_episodes(smoke_run: SmokeRun, tmp_path: Path):
    out = tmp_path / "new" / "trial.gif"
    trial = video.record(nacre.load(smoke_run("point-robot")), "goal=0.5,-0.5", out, episodes=2)
    assert trial.task == {"goal": [0.5, -0.5]} and len(trial.episodes) == 2
    frames = imageio.imread(out)
    assert seconds(out) == pytest.approx(2 * (20 + 6) / 10)  # 20 steps and a pause of 0.6 s, 10 frames a second
    assert frames.shape[1:] == (round(280 * (480 + 46) / 480), 280, 3)
    first, last = frames[0].astype(int), frames[-1].astype(int)
    caption = slice(0, 24)
    assert (first[caption] < 128).any() and (first[caption] != last[caption]).any(), "captions that differ"
    green = np.argwhere(np.abs(frames[0].astype(int) - (0, 158, 115)).sum(axis=-1) < 40).mean(axis=0)
    np.testing.assert_allclose(green[1] / 280 * 3 - 1.5, 0.5, atol=0.05)
    assert list(out.parent.iterdir()) == [out]


def test_a_gif_of_many_steps_a_second_renders_the_frames_it_has_and_the_last_of_an_episode(
    smoke_run: SmokeRun, tmp_path: Path, words: Words, monkeypatch: pytest.MonkeyPatch
):
    """Of 10 steps a second and at most 4 frames, every third: steps 3, 6, ... 18 and 20."""
    monkeypatch.setattr(video, "GIF_FRAMES_PER_SECOND", 4)
    rendered, render = [], nacre.simulation.environment.TaskEnvironment.render
    monkeypatch.setattr(
        nacre.simulation.environment.TaskEnvironment, "render", lambda env: rendered.append(1) or render(env)
    )
    out = tmp_path / "trial.gif"
    trial = video.record(nacre.load(smoke_run("point-robot")), "goal=0.5,-0.5", out, episodes=2)
    captions = [written[0][1] for written in words if written]
    assert len(rendered) == len(captions) == 2 * 7
    for caption, episode in zip(captions[6::7], trial.episodes, strict=True):
        assert caption.endswith(f"return {episode.episode_return:.1f}")
    assert seconds(out) == pytest.approx(2 * (7 + 2) * 0.3)


@pytest.mark.parametrize("frames_per_second", [25, 125 / 6, 67 / 3, 15, 4])
def test_a_gif_lasts_as_long_as_hundredths_of_a_second_allow(tmp_path: Path, frames_per_second: float):
    frames = [np.full((526, 480, 3), shade, np.uint8) for shade in range(0, 250, 10)]
    video._write(iter(frames), tmp_path / "trial.gif", frames_per_second)
    assert seconds(tmp_path / "trial.gif") == pytest.approx(25 / frames_per_second, abs=25 * 0.005)


def test_the_command_line_writes_the_video_of_the_trial_that_it_tells_of(
    smoke_run: SmokeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["adapt", str(smoke_run("point-robot")), "--task", "goal=0,0", "--json"]
    assert cli.main([*arguments, "--video", str(tmp_path / "trial.gif")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["episodes"]) == 3 and (tmp_path / "trial.gif").stat().st_size > 1000
    agent, env = (
        nacre.load(smoke_run("point-robot")),
        nacre.simulation.environment.TaskEnvironment("point-robot", "goal=0,0"),
    )
    by_hand = agent.adapt(env, seed=0)
    assert [episode["episode_return"] for episode in told["episodes"]] == pytest.approx(by_hand.returns)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Words:
    """What is written into each picture, and where."""
    written: Words = []
    start, write = ImageDraw.Draw, ImageDraw.ImageDraw.text

    def started(image: Image.Image) -> Any:
        written.append([])
        return start(image)

    def wrote(drawing: Any, at: tuple[float, float], text: str, *look: Any) -> None:
        written[-1].append((drawing.textbbox(at, text, look[-1]), text))
        write(drawing, at, text, *look)

    monkeypatch.setattr(ImageDraw, "Draw", started)
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", wrote)
    return written


def believing(mean: Sequence[float], std: Sequence[float]) -> EpisodeReport:
    return EpisodeReport(0, 0.0, 20, list(mean), list(std))


def test_a_frame_is_captioned_with_its_episode_the_return_so_far_and_the_belief(
    smoke_run: SmokeRun, tmp_path: Path, words: Words
):
    trial = video.record(nacre.load(smoke_run("point-robot")), "goal=0.5,-0.5", tmp_path / "trial.gif", episodes=2)
    captions = [[text for _, text in written] for written in words if written]
    first, last = captions[:20], captions[-20:]  # frames of a pause are drawn once
    assert len(captions) == 40
    assert {caption[0].split("     ")[0] for caption in first} == {"episode 1 of 2"}
    assert {caption[0].split("     ")[0] for caption in last} == {"episode 2 of 2"}
    for frames, episode in ((first, trial.episodes[0]), (last, trial.episodes[1])):
        returns = [float(caption[0].split("return ")[1]) for caption in frames]
        assert returns[-1] == round(episode.episode_return, 1)
        assert returns == sorted(returns, reverse=True) and len(set(returns)) > 10, "distances add up"
    assert {tuple(caption[1:]) for caption in first} == {("belief", *["+0.00±1.00"] * 5)}, "the prior"
    after = zip(trial.episodes[0].belief_mean, trial.episodes[0].belief_std, strict=True)
    assert {tuple(caption[1:]) for caption in last} == {("belief", *(f"{mean:+.2f}±{std:.2f}" for mean, std in after))}
    assert first[0][1:] != last[0][1:]


def test_the_return_and_the_belief_are_seen_in_the_caption():
    frame = np.full((480, 480, 3), 200, np.uint8)

    def caption(total: float, mean: float, std: float) -> np.ndarray:
        return video._captioned(frame, 1, 3, total, believing([mean] * 5, [std] * 5)).astype(int)

    def changed(other: np.ndarray) -> np.ndarray:
        """Rows of pixels."""
        return np.flatnonzero(np.abs(other - caption(1.0, 0.0, 1.0)).max(axis=(1, 2)) > 30)

    headline = changed(caption(8.0, 0.0, 1.0))
    assert len(headline) > 3 and headline.max() < 24
    for belief in (changed(caption(1.0, 8.0, 1.0)), changed(caption(1.0, 0.0, 8.0))):
        assert len(belief) > 3 and belief.min() > 24 and belief.max() < 46


@pytest.mark.parametrize("size", [480, 200])
@pytest.mark.parametrize("value", [0.0, -8.888, 9.996, 88.888, -888.8, float("nan")])
def test_beliefs_of_any_number_up_to_ten_fit_over_the_frame(size: int, value: float, words: Words):
    for latent_dim in range(11):
        frame = np.full((size, size, 3), 200, np.uint8)
        captioned = video._captioned(frame, 1, 3, -8.8, believing([value] * latent_dim, [abs(value)] * latent_dim))
        top = len(captioned) - size
        assert (captioned[top:] == frame).all() and top % 2 == 0
        assert top == 46 if latent_dim <= (size - 44) // 68 else top > 46
        written = words[-1]
        assert len(written) == 1 + bool(latent_dim) + latent_dim
        for (left, above, right, below), _ in written:
            assert min(left, above) >= 0 and right <= size and below <= top
        for ((left, above, right, below), _), (other, _) in itertools.combinations(written, 2):
            assert right <= other[0] or other[2] <= left or below <= other[1] or other[3] <= above, "none over another"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "+0.00"), (-0.126, "-0.13"), (9.994, "+9.99"), (9.996, "+10.0"), (-99.96, "-100"), (1234.5, "+1234")],
)
def test_a_belief_has_three_digits(number: float, text: str):
    assert video._short(number, "+") == text


def test_an_mp4_has_every_frame_and_is_written_without_a_warning(
    smoke_run: SmokeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra 'video' is not installed")
    agent, out, frames = nacre.load(smoke_run("point-robot")), tmp_path / "trial.mp4", []
    captioned = video._captioned
    monkeypatch.setattr(video, "_captioned", lambda *args: frames.append(captioned(*args)) or frames[-1])
    before = dict(os.environ)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        trial = video.record(agent, "goal=0.5,-0.5", out, episodes=2)
    assert [str(warning.message) for warning in told if "fork" in str(warning.message)] == []
    assert dict(os.environ) == before and len(trial.episodes) == 2
    assert list(tmp_path.iterdir()) == [out]
    expected = np.stack([*frames[:20], *[frames[19]] * 6, *frames[20:], *[frames[39]] * 6])
    count, lasts = ffmpeg.count_frames_and_secs(str(out))
    assert count == len(expected) == 52 and lasts == pytest.approx(5.2)  # 10 frames a second
    with video._started_without_fork():
        shown = imageio.imread(out, plugin="FFMPEG")
    assert shown.shape == expected.shape
    distances = np.abs(shown[:, None, ::8, ::8].astype(float) - expected[None, :, ::8, ::8]).mean(axis=(2, 3, 4))
    assert np.diag(distances).max() < 6, "but for compression"
    assert all(distances[index, index] <= distances[index].min() + 0.1 for index in range(52)), "in their order"


def test_while_a_video_is_written_ffmpeg_is_started_without_a_fork(monkeypatch: pytest.MonkeyPatch):
    for before in (None, "0"):
        monkeypatch.setenv(video.NO_FORK, before or "")
        if before is None:
            monkeypatch.delenv(video.NO_FORK)
        with pytest.raises(KeyError), video._started_without_fork():
            assert os.environ[video.NO_FORK] == "1"
            raise KeyError
        assert os.environ.get(video.NO_FORK) == before


@pytest.mark.usefixtures("gl")
def test_a_robot_is_seen_moving(smoke_run: SmokeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every 20th of its 200 steps of 0.05 s: without a graphics card, a picture takes a quarter of a second."""
    monkeypatch.setattr(video, "GIF_FRAMES_PER_SECOND", 1)
    out = tmp_path / "trial.gif"
    video.record(nacre.load(smoke_run("cheetah-dir")), "direction=1", out, episodes=1, exploration_episodes=0)
    frames = imageio.imread(out)
    assert seconds(out) == pytest.approx(10 + 1)
    robot = frames[:, 40:].astype(int)
    assert robot.std() > 30, "not one colour"
    assert np.abs(robot - robot[0]).max() > 100, "it moves"


def test_without_a_library_to_render_with_the_command_line_says_what_to_install(
    smoke_run: SmokeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run = str(smoke_run("cheetah-dir"))
    monkeypatch.setattr(nacre.simulation.rendering, "_has_display", lambda: False)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setitem(sys.modules, "mujoco.egl", None)
    capsys.readouterr()
    assert cli.main(["adapt", run, "--task", "direction=1", "--video", str(tmp_path / "trial.gif")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("nacre: MuJoCo cannot render by egl") and told.count("\n") == 1
    assert "install libegl1 or libosmesa6" in told and "MUJOCO_GL" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", [pytest.param("nonsense", marks=pytest.mark.slow), "osmesa"])
def test_a_library_that_is_not_there_is_told_by_who_renders_not_by_the_import(
    smoke_run: SmokeRun, tmp_path: Path, library: str
):
    if library == "osmesa" and find_library("OSMesa"):
        pytest.skip("OSMesa is installed here")
    run = str(smoke_run("cheetah-dir"))

    adapt = ["adapt", run, "--task", "direction=1", "--episodes", "1", "--exploration-episodes", "0"]
    filmed = [*adapt, "--video", str(tmp_path / "trial.gif")]
    told = subprocess.run(
        [sys.executable, "-c", f"from nacre.cli.main import main; print('status', main({adapt}), main({filmed}))"],
        env=os.environ | {"MUJOCO_GL": library}, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert told.stdout.endswith("status 0 2\n") and told.stderr.startswith(f"nacre: MuJoCo cannot render by {library}")
    assert told.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "words"), [("trial.avi", "ends in .mp4 or .gif"), ("trial", "ends in .mp4 or .gif")])
def test_another_kind_of_file_is_refused_before_anything_is_run(tmp_path: Path, name: str, words: str):
    with pytest.raises(NacreError, match=words):
        video.record(None, "goal=0,0", tmp_path / name)  # type: ignore[arg-type]


def test_a_trial_without_episodes_is_refused(smoke_run: SmokeRun, tmp_path: Path, capsys: Any):
    arguments = ["adapt", str(smoke_run("point-robot")), "--task", "goal=0,0", "--episodes", "0"]
    assert cli.main([*arguments, "--video", str(tmp_path / "trial.gif")]) == 2
    assert "episodes is 0" in capsys.readouterr().err


def test_mp4_without_its_extra_is_refused_with_the_way_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(NacreError, match=r"nacre\[video\]"):
        video.check_path(tmp_path / "trial.mp4")


def test_a_video_that_cannot_be_written_is_one_sentence(smoke_run: SmokeRun, tmp_path: Path, capsys: Any):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "trial.gif"
    arguments = ["adapt", str(smoke_run("point-robot")), "--task", "goal=0,0", "--video", str(out)]
    assert cli.main(arguments) == 2
    assert "cannot write" in capsys.readouterr().err
