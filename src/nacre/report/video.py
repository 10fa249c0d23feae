"""A trial as a video: its episodes one after another, captioned with episode, return so far and belief."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import imageio.v2 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nacre.deploy.session import Session
from nacre.deploy.trained_agent import TrainedAgent
from nacre.deploy.trial_reports import EpisodeReport, TrialReport
from nacre.errors import NacreError
from nacre.presets.trials import TrialOptions
from nacre.report import picture
from nacre.simulation.environment import TaskEnvironment

if TYPE_CHECKING:
    from nacre.data.dataset import DataSet

SUFFIXES = (".mp4", ".gif")
GIF_SIZE = 280
"""Pixels of a side of a .gif, which is stored without much compression; .mp4 has the renderer's."""
GIF_FRAMES_PER_SECOND = 25
CAPTION_HEIGHT, LINE_HEIGHT = 46, 16
"""Pixels of a caption, and of every further line of beliefs in it."""
MARGIN, BELIEF_LEFT, BELIEF_WIDTH = 8, 44, 68
"""Pixels to the left of a caption and of its beliefs, and those that one belief takes."""
BACKGROUND, INK = (255, 255, 255), (38, 38, 38)
PAUSE_SECONDS = 0.6
"""How long the last frame of an episode stands."""
NO_FORK = "IMAGEIO_FFMPEG_NO_PREVENT_SIGINT"
"""The variable by which imageio-ffmpeg is told how to start ffmpeg."""


def record(
    agent: TrainedAgent, task: str, out: Path, episodes: int | None = None, *, allow_ood: bool = False, seed: int = 0,
    data: DataSet | str | Path | None = None, **options: Unpack[TrialOptions],
) -> TrialReport:  # fmt: skip
    """Lets the agent meet a task, one step at a time, and writes what that looks like to `out` (.mp4 or .gif).

    Needs no display. Raises NacreError for another kind of file, before anything is run, for .mp4 where the extra
    'video' is not installed, and where nothing can be rendered.
    """
    check_path(out)
    trials = agent.trials.changed(episodes, **options)
    session, episodes = agent.session(seed, episodes, task=task, **options), trials.episodes
    if trials.needs_logs:
        session.absorb(agent.contexts(task, trials.context_transitions, seed, protocol=trials.protocol, data=data))
    env = TaskEnvironment(agent.family, task, allow_ood=allow_ood, render_mode="rgb_array")
    steps_per_second = env.metadata["render_fps"]
    every = -(-steps_per_second // GIF_FRAMES_PER_SECOND) if out.suffix.lower() == ".gif" else 1
    reports: list[EpisodeReport] = []
    try:
        _write(_frames(agent, session, env, episodes, seed, every, reports), out, steps_per_second / every)
    finally:
        env.close()
    return TrialReport(env.task, reports)


def check_path(out: Path) -> None:
    """Raises NacreError unless `out` ends like a video that can be written here."""
    if out.suffix.lower() not in SUFFIXES:
        raise NacreError(f"{out} does not end like a video; write a name that ends in {' or '.join(SUFFIXES)}.")
    if out.suffix.lower() == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise NacreError("writing .mp4 needs the extra 'video': pip install 'nacre[video]'; or write a .gif.")


def _frames(
    agent: TrainedAgent,
    session: Session,
    env: TaskEnvironment,
    episodes: int,
    seed: int,
    every: int,
    reports: list[EpisodeReport],
) -> Iterator[np.ndarray]:
    """Captioned frames of the trial [height, width, 3], of every so many steps and of the last of an episode.

    `reports` gets one entry an episode.
    """
    pause = round(PAUSE_SECONDS * env.metadata["render_fps"] / every)
    for index in range(episodes):
        obs, _ = env.reset(seed=seed) if index == 0 else env.reset()
        before = agent.report_episode(index, 0.0, 0, session.memory)
        total, solved = 0.0, False
        for length in range(1, agent.family.horizon + 1):
            obs, reward, terminated, _, info = env.step(session.act(obs))
            session.observe(obs, reward, terminated=terminated)
            total, solved = total + reward, solved or info.get("success", False)
            last = terminated or length == agent.family.horizon
            if last or length % every == 0:
                frame = _captioned(env.render(), index + 1, episodes, total, before)
                yield frame
            if terminated:
                break
        yield from [frame] * pause
        report = agent.report_episode(index, total, length, session.memory)
        report = report._replace(ended_by="terminated" if terminated else "horizon")
        reports.append(report._replace(success=solved) if "success" in info else report)
        session.end_episode()


def _captioned(frame: np.ndarray, episode: int, episodes: int, total: float, belief: EpisodeReport) -> np.ndarray:
    """The frame under a caption: where the trial stands, and what was believed when the episode began."""
    height, width = frame.shape[:2]
    beliefs = [
        f"{_short(mean, '+')}±{_short(std)}" for mean, std in zip(belief.belief_mean, belief.belief_std, strict=True)
    ]
    columns = max(1, (width - BELIEF_LEFT) // BELIEF_WIDTH)
    top = CAPTION_HEIGHT + LINE_HEIGHT * (max(0, len(beliefs) - 1) // columns)
    image = Image.new("RGB", (width, height + top), BACKGROUND)
    image.paste(Image.fromarray(frame), (0, top))
    drawing, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    headline = f"episode {episode} of {episodes}     return {total:.1f}"
    drawing.text((MARGIN, 4), headline, INK, ImageFont.load_default(15))
    if beliefs:
        drawing.text((MARGIN, 25), "belief", INK, font)
    for index, text in enumerate(beliefs):
        line, column = divmod(index, columns)
        drawing.text((BELIEF_LEFT + column * BELIEF_WIDTH, 25 + line * LINE_HEIGHT), text, INK, font)
    return np.asarray(image)


def _short(number: float, sign: str = "-") -> str:
    """Three digits, or as many as stand before the point."""
    decimals = next((places for places in (2, 1) if abs(round(number, places)) < 10 ** (3 - places)), 0)
    return f"{number:{sign}.{decimals}f}"


@contextmanager
def _started_without_fork() -> Iterator[None]:
    """Lets imageio start ffmpeg without os.fork, which may hang beside JAX's threads, as JAX warns.

    A Ctrl-C then reaches ffmpeg as well, which does no harm: a video that was not finished is none.
    """
    before = os.environ.get(NO_FORK)
    os.environ[NO_FORK] = "1"
    try:
        yield
    finally:
        os.environ.pop(NO_FORK)
        if before is not None:
            os.environ[NO_FORK] = before


def _write(frames: Iterator[np.ndarray], out: Path, frames_per_second: float) -> None:
    """To a draft beside `out`, which then takes its place: whole or not at all. Frames are written as they come."""
    options: dict[str, Any] = {"fps": frames_per_second, "macro_block_size": 2}
    if out.suffix.lower() == ".gif":
        options = {"duration": 10 * round(100 / frames_per_second), "loop": 0}  # which a .gif counts in hundredths
        frames = map(_small, frames)
    with picture.written_whole(out) as draft, _started_without_fork(), imageio.get_writer(draft, **options) as writer:
        for frame in frames:
            writer.append_data(frame)  # type: ignore[attr-defined]  # which all writers have


def _small(frame: np.ndarray) -> np.ndarray:
    height = round(GIF_SIZE * frame.shape[0] / frame.shape[1])
    return np.asarray(Image.fromarray(frame).resize((GIF_SIZE, height)))
