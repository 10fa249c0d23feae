"""Videos of trials: what they show, how long they last, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image

import nacre
from nacre import cli
from nacre.errors import NacreError
from nacre.report import video

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


def test_the_command_line_writes_the_video_of_the_trial_that_it_tells_of(
    smoke_run: SmokeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["adapt", str(smoke_run("point-robot")), "--task", "goal=0,0", "--json"]
    assert cli.main([*arguments, "--video", str(tmp_path / "trial.gif")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["episodes"]) == 3 and (tmp_path / "trial.gif").stat().st_size > 1000
    agent, env = nacre.load(smoke_run("point-robot")), nacre.environment.TaskEnvironment("point-robot", "goal=0,0")
    by_hand = agent.adapt(env, seed=0)
    assert [episode["episode_return"] for episode in told["episodes"]] == pytest.approx(by_hand.returns)


@pytest.mark.usefixtures("gl")
def test_a_robot_is_seen_moving(smoke_run: SmokeRun, tmp_path: Path):
    out = tmp_path / "trial.gif"
    video.record(nacre.load(smoke_run("cheetah-dir")), "direction=1", out, episodes=1)
    frames = imageio.imread(out)
    assert seconds(out) == pytest.approx((200 + 12) / 20)
    robot = frames[:, 40:].astype(int)
    assert robot.std() > 30, "not one colour"
    assert np.abs(robot[-1] - robot[0]).max() > 100, "it moves"


def test_without_a_library_to_render_with_the_command_line_says_what_to_install(
    smoke_run: SmokeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run = str(smoke_run("cheetah-dir"))
    monkeypatch.setattr(nacre.environment, "_has_display", lambda: False)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setitem(sys.modules, "mujoco.egl", None)
    capsys.readouterr()
    assert cli.main(["adapt", run, "--task", "direction=1", "--video", str(tmp_path / "trial.gif")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("nacre: MuJoCo cannot render by egl") and told.count("\n") == 1
    assert "install libegl1 or libosmesa6" in told and "MUJOCO_GL" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", ["nonsense", "osmesa"])
def test_a_library_that_is_not_there_is_told_by_who_renders_not_by_the_import(
    smoke_run: SmokeRun, tmp_path: Path, library: str
):
    if library == "osmesa" and find_library("OSMesa"):
        pytest.skip("OSMesa is installed here")
    run = str(smoke_run("cheetah-dir"))

    def nacre_command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "nacre.cli", *arguments],
            env=os.environ | {"MUJOCO_GL": library}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    adapt = ("adapt", run, "--task", "direction=1", "--episodes", "1")
    assert nacre_command(*adapt).returncode == 0
    told = nacre_command(*adapt, "--video", str(tmp_path / "trial.gif"))
    assert told.returncode == 2 and told.stderr.startswith(f"nacre: MuJoCo cannot render by {library}")
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
    arguments = ["adapt", str(smoke_run("point-robot")), "--task", "goal=0,0", "--episodes", "1", "--video", str(out)]
    assert cli.main(arguments) == 2
    assert "cannot write" in capsys.readouterr().err
