"""Videos of trials: what they show, how long they last, and what is refused."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image, ImageDraw

import nacre
from nacre.cli import main as cli
from nacre.errors import NacreError
from nacre.report import video
from nacre.report.caption import BELIEF, Caption, captioned
from nacre.simulation.environment import TaskEnvironment
from nacre.simulation.look import TASK_COLOUR

SmokeRun = Callable[[str], Path]


def seconds(gif: Path) -> float:
    """How long it lasts; frames that are the same stand in the file once, for longer."""
    image: Any = Image.open(gif)
    total = 0.0
    for frame in range(image.n_frames):
        image.seek(frame)
        total += image.info["duration"]
    return total / 1000


def test_a_trial_on_a_point_robot_is_a_gif_of_its_episodes(smoke_run: SmokeRun, tmp_path: Path):
    out, seen = tmp_path / "new" / "trial.gif", []
    agent = nacre.load(smoke_run("point-robot"))
    trial = video.record(agent, "goal=0.5,-0.5", out, episodes=2, progress=lambda *frames: seen.append(frames))
    assert trial.task == {"goal": [0.5, -0.5]} and len(trial.episodes) == 2
    assert seen == [(drawn, 40) for drawn in range(1, 41)], "it tells how far it is"
    frames = imageio.imread(out)
    assert seconds(out) == pytest.approx(2 * (20 + 6) / 10)  # 20 steps and a pause of 0.6 s, 10 frames a second
    assert frames.shape[1:] == (66 + 480 + 64, 640, 3)
    first, last = frames[0].astype(int), frames[-1].astype(int)
    assert (first[:66] < 128).any() and (first[:66] != last[:66]).any(), "captions that differ"
    green = np.argwhere(np.abs(first - TASK_COLOUR).sum(axis=-1) < 40).mean(axis=0)
    np.testing.assert_allclose((green[1] - 319.5) / 479 * 3, 0.5, atol=0.05)
    assert list(out.parent.iterdir()) == [out]


@pytest.fixture
def captions(monkeypatch: pytest.MonkeyPatch) -> list[Caption]:
    """What is told of each frame that is drawn."""
    told: list[Caption] = []
    write = video.captioned
    monkeypatch.setattr(video, "captioned", lambda scene, caption: told.append(caption) or write(scene, caption))
    return told


class Diverging:
    """A point robot whose physics diverge at step 4 of every episode, as those of a MuJoCo robot may."""

    def __init__(self, *args: Any, **options: Any):
        self._env, self._steps = TaskEnvironment(*args, **options), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset(self, **options: Any) -> Any:
        self._steps = 0
        return self._env.reset(**options)

    def step(self, action: Any) -> Any:
        self._steps += 1
        obs, _, terminated, truncated, info = self._env.step(action)
        if self._steps == 4:
            return obs, 0.0, False, True, info | {"diverged": True}
        return obs, -1.0, terminated, truncated, info


def test_an_episode_ends_before_the_step_at_which_its_physics_diverge(
    smoke_run: SmokeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(video, "TaskEnvironment", Diverging)
    trial = video.record(nacre.load(smoke_run("point-robot")), "goal=0.5,-0.5", tmp_path / "trial.gif", episodes=2)
    assert [(one.episode_return, one.length, one.ended_by) for one in trial.episodes] == [(-3.0, 3, "truncated")] * 2


def test_a_video_of_few_frames_a_second_has_every_third_and_the_last_of_an_episode(
    smoke_run: SmokeRun, tmp_path: Path, captions: list[Caption]
):
    """Of 10 steps a second and at most 4 frames, every third: steps 3, 6, ... 18 and 20."""
    out = tmp_path / "trial.gif"
    agent = nacre.load(smoke_run("point-robot"))
    trial = video.record(agent, "goal=0.5,-0.5", out, episodes=2, frames_per_second=4, size=320)
    assert len(captions) == 2 * 7 and imageio.imread(out).shape[2] == 320
    for caption, episode in zip(captions[6::7], trial.episodes, strict=True):
        assert caption.total == pytest.approx(episode.episode_return)
    assert seconds(out) == pytest.approx(2 * (7 + 2) * 0.3)


def test_a_frame_tells_its_episode_the_return_so_far_the_task_and_the_belief(
    smoke_run: SmokeRun, tmp_path: Path, captions: list[Caption]
):
    agent = nacre.load(smoke_run("point-robot"))
    trial = video.record(agent, "goal=0.5,-0.5", tmp_path / "trial.gif", episodes=2, size=160)
    first, last = captions[:20], captions[20:]
    assert {(one.episode, one.episodes, one.purpose) for one in first} == {(1, 2, "exploring")}
    assert {(one.episode, one.episodes, one.purpose) for one in last} == {(2, 2, "scored")}
    assert {one.task for one in captions} == {"goal=0.5,-0.5"}
    for frames, episode in ((first, trial.episodes[0]), (last, trial.episodes[1])):
        totals = [one.total for one in frames]
        assert totals == sorted(totals, reverse=True) and len(set(totals)) == 20, "distances add up"
        distance = float(frames[-1].reading.removeprefix("distance to the goal "))
        assert distance == pytest.approx(totals[-2] - totals[-1], abs=0.006)
        np.testing.assert_allclose(frames[-1].mean, episode.belief_mean, rtol=1e-5)
        np.testing.assert_allclose(frames[-1].std, episode.belief_std, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "frames_per_second", "words"),
    [(100, 25, "--video-size"), (5000, 25, "--video-size"), (640, 0, "--video-fps"), (640, 101, "--video-fps")],
)
def test_a_size_or_rate_of_no_use_is_refused_before_anything_is_run(
    tmp_path: Path, size: int, frames_per_second: int, words: str
):
    with pytest.raises(NacreError, match=words):
        video.record(None, "goal=0,0", tmp_path / "a.gif", size=size, frames_per_second=frames_per_second)  # type: ignore[arg-type]


@pytest.mark.parametrize("frames_per_second", [25, 125 / 6, 67 / 3, 15, 4])
def test_a_gif_lasts_as_long_as_hundredths_of_a_second_allow(tmp_path: Path, frames_per_second: float):
    frames = [np.full((526, 480, 3), shade, np.uint8) for shade in range(0, 250, 10)]
    video._write(iter(frames), tmp_path / "trial.gif", frames_per_second, len(frames) + 3)
    assert seconds(tmp_path / "trial.gif") == pytest.approx(25 / frames_per_second, abs=0.006)


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


def caption_of(mean: list[float], std: list[float], **fields: Any) -> Caption:
    whole: dict[str, Any] = dict(
        episode=1, episodes=3, purpose="exploring", total=-8.8, task="velocity=1.5", reading=""
    )
    return Caption(**whole | fields, mean=np.array(mean), std=np.array(std))


@pytest.mark.parametrize("size", [640, 1280, 160])
@pytest.mark.parametrize("task", ["velocity=1.5", "exponents=" + ",".join(["-0.123"] * 65)])
def test_words_are_in_the_frame_and_none_stands_over_another(size: int, task: str, monkeypatch: pytest.MonkeyPatch):
    boxes = list[Any]()
    write = ImageDraw.ImageDraw.text

    def wrote(drawing: Any, at: Any, text: str, fill: Any, font: Any, anchor: Any = None) -> None:
        boxes.append(drawing.textbbox(at, text, font, anchor=anchor)) if text else None
        write(drawing, at, text, fill, font, anchor=anchor)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", wrote)
    scene = np.full((size * 3 // 4, size, 3), 200, np.uint8)
    about = caption_of([0.5] * 5, [0.2] * 5, task=task, reading="speed 1.32 m/s (blue), target 1.50 (green)")
    frame = captioned(scene, about)
    assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0 and len(boxes) >= 4
    if size == 640:
        np.testing.assert_array_equal(frame[66:546], scene)
    for left, above, right, below in boxes:
        assert left >= 0 and above >= 0 and right <= size and below <= len(frame)
    for one, other in itertools.combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_belief_is_a_bar_of_a_standard_deviation_to_both_sides_of_the_mean():
    """One number: the strip goes from -3 to 3 over 0.88 of the width within the margins, 271 pixels to each side."""
    strip = captioned(np.zeros((480, 640, 3), np.uint8), caption_of([1.5], [0.5]))[66 + 480 + 44 - 5].astype(int)
    (blue,) = np.nonzero(np.abs(strip - BELIEF).sum(axis=-1) < 10)
    half = 0.44 * (640 - 24)
    np.testing.assert_allclose([blue.min(), blue.max()], [320 + half * 1.0 / 3, 320 + half * 2.0 / 3], atol=2)
    without = captioned(np.zeros((480, 640, 3), np.uint8), caption_of([], []))
    assert len(without) == 66 + 480, "no strip without a belief"
    assert len(captioned(np.zeros((480, 640, 3), np.uint8), caption_of([np.nan], [1.0]))) == 66 + 480 + 64


def test_an_mp4_has_every_frame_and_is_written_without_a_warning(
    smoke_run: SmokeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra 'video' is not installed")
    agent, out, frames = nacre.load(smoke_run("point-robot")), tmp_path / "trial.mp4", []
    monkeypatch.setattr(video, "captioned", lambda *args: frames.append(captioned(*args)) or frames[-1])
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
def test_a_robot_is_seen_moving(smoke_run: SmokeRun, tmp_path: Path):
    """Every 20th of its 200 steps of 0.05 s: without a graphics card, a picture takes a while."""
    out = tmp_path / "trial.gif"
    agent = nacre.load(smoke_run("cheetah-dir"))
    video.record(agent, "direction=1", out, episodes=1, exploration_episodes=0, frames_per_second=1, size=320)
    frames = imageio.imread(out)
    assert seconds(out) == pytest.approx(10 + 1)
    robot = frames[:, 40:-40].astype(int)
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
