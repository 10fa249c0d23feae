"""A trial as a video: its episodes one after another, with the task in the scene, a caption, and the belief."""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import imageio.v2 as imageio
import numpy as np
from PIL import Image

from nacre.deploy.logged_tasks import check_wanted
from nacre.deploy.session import Session
from nacre.deploy.trained_agent import TrainedAgent
from nacre.deploy.trial_reports import EpisodeReport, TrialReport
from nacre.errors import NacreError
from nacre.presets.trials import TrialOptions
from nacre.report import picture
from nacre.report.caption import WIDTH, Caption, captioned
from nacre.runs.outputs import check_output
from nacre.simulation.environment import TaskEnvironment
from nacre.simulation.look import Look

if TYPE_CHECKING:
    from nacre.data.dataset import DataSet

SUFFIXES = (".mp4", ".gif")
FRAMES_PER_SECOND = 25
"""At most, unless asked for otherwise; robots with fewer control steps a second have a frame for each."""
SIZES = (160, 3840)
"""Pixels across, at least and at most."""
COLOURS = 128
"""Of a frame of a .gif."""
PAUSE_SECONDS = 0.6
"""How long the last frame of an episode stands."""
NO_FORK = "IMAGEIO_FFMPEG_NO_PREVENT_SIGINT"
"""The variable by which imageio-ffmpeg is told how to start ffmpeg."""

Progress = Callable[[int, int], None]
"""Called with the number of frames that are drawn, and how many there will be at most."""


def record(
    agent: TrainedAgent, task: str, out: Path, episodes: int | None = None, *, allow_ood: bool = False, seed: int = 0,
    data: DataSet | str | Path | None = None, size: int = WIDTH, frames_per_second: int = FRAMES_PER_SECOND,
    progress: Progress | None = None, **options: Unpack[TrialOptions],
) -> TrialReport:  # fmt: skip
    """Lets the agent meet a task, one step at a time, and writes what that looks like to `out` (.mp4 or .gif).

    `size`: pixels across. `frames_per_second`: at most; a video takes as long as the trial on the robot, and leaves
    steps out where the robot has more of them a second. `progress` is told after every frame. Needs no display.
    Raises NacreError for another kind of file, before anything is run, for .mp4 where the extra 'video' is not
    installed, and where nothing can be rendered.
    """
    check_path(out)
    check_size(size, frames_per_second)
    trials = agent.trials.changed(episodes, **options)
    check_wanted(data, trials)
    session, episodes = agent.session(seed, episodes, task=task, **options), trials.episodes
    if trials.needs_logs:
        session.absorb(agent.contexts(task, trials.context_transitions, seed, protocol=trials.protocol, data=data))
    size -= size % 2
    look = Look(size, 2 * round(size * 3 / 8), trail=True)
    env = TaskEnvironment(agent.family, task, allow_ood=allow_ood, render_mode="rgb_array", look=look)
    steps_per_second = env.metadata["render_fps"]
    every = max(1, math.ceil(steps_per_second / frames_per_second))
    explored = trials.exploration_episodes or 0
    filming = _Filming(agent, session, env, task, episodes, explored, every, size, progress or (lambda done, of: None))
    reports: list[EpisodeReport] = []
    try:
        _write(_frames(filming, seed, reports), out, steps_per_second / every, filming.most_frames)
    finally:
        env.close()
    return TrialReport(env.task, reports)


def check_path(out: Path) -> None:
    """Raises NacreError unless `out` ends like a video that can be written here, and is no file of a run."""
    check_output(out)
    if out.suffix.lower() not in SUFFIXES:
        raise NacreError(f"{out} does not end like a video; write a name that ends in {' or '.join(SUFFIXES)}.")
    if out.suffix.lower() == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise NacreError("writing .mp4 needs the extra 'video': pip install 'nacre[video]'; or write a .gif.")


def check_size(size: int, frames_per_second: int) -> None:
    """Raises NacreError for a video of no use."""
    low, high = SIZES
    if not low <= size <= high:
        raise NacreError(f"video_size is {size}, but must be {low} to {high} pixels; change --video-size.")
    if not 1 <= frames_per_second <= 100:
        raise NacreError(f"video_fps is {frames_per_second}, but must be 1 to 100; change --video-fps.")


class _Filming(NamedTuple):
    """What a trial is filmed with."""

    agent: TrainedAgent
    session: Session
    env: TaskEnvironment
    task: str
    episodes: int
    explored: int  # episodes that explore
    every: int  # steps from one frame to the next
    size: int
    progress: Progress

    @property
    def pause(self) -> int:
        """Frames for which an episode's last one stands."""
        return round(PAUSE_SECONDS * self.env.metadata["render_fps"] / self.every)

    @property
    def most_frames(self) -> int:
        """Frames of the whole trial, at most."""
        return self.episodes * (math.ceil(self.agent.family.horizon / self.every) + 1 + self.pause)

    def frame(self, index: int, total: float) -> np.ndarray:
        """The scene now, in episode `index` after rewards that add up to `total`."""
        scene = self.env.render()
        if scene.shape[1] != self.size:  # of an environment that has a size of its own
            height = 2 * round(self.size * scene.shape[0] / scene.shape[1] / 2)
            scene = np.asarray(Image.fromarray(scene).resize((self.size, height)))
        purpose = "exploring" if index < self.explored else "acting on what it knows"
        purpose = "scored" if index + 1 == self.episodes else purpose
        mean, variance = self.session.belief
        caption = Caption(index + 1, self.episodes, purpose, total, self.task, self.env.reading(), mean, variance**0.5)
        return captioned(scene, caption)


def _frames(filming: _Filming, seed: int, reports: list[EpisodeReport]) -> Iterator[np.ndarray]:
    """Captioned frames of the trial [height, width, 3], of every so many steps and of the last of an episode.

    `reports` gets one entry an episode.
    """
    agent, session, env = filming.agent, filming.session, filming.env
    drawn = 0
    for index in range(filming.episodes):
        obs, _ = env.reset(seed=seed) if index == 0 else env.reset()
        total, solved, ended_by, frame = 0.0, False, "horizon", None
        for length in range(1, agent.family.horizon + 1):
            obs, reward, terminated, _, info = env.step(session.act(obs))
            if info.get("diverged"):  # that step is left out, as in every trial
                length, ended_by = length - 1, "truncated"
                break
            session.observe(obs, reward, terminated=terminated)
            total, solved = total + reward, solved or info.get("success", False)
            last = terminated or length == agent.family.horizon
            if last or length % filming.every == 0:
                frame = filming.frame(index, total)
                drawn += 1
                filming.progress(drawn, filming.episodes * -(-agent.family.horizon // filming.every))
                yield frame
            if terminated:
                ended_by = "terminated"
                break
        yield from [filming.frame(index, total) if frame is None else frame] * filming.pause
        report = agent.report_episode(index, total, length, session.memory)._replace(ended_by=ended_by)
        reports.append(report._replace(success=solved) if "success" in info else report)
        session.end_episode()


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


def _write(frames: Iterator[np.ndarray], out: Path, frames_per_second: float, most_frames: int) -> None:
    """To a draft beside `out`, which then takes its place: whole or not at all. Frames are written as they come."""
    with picture.written_whole(out) as draft:
        if out.suffix.lower() == ".gif":
            images = map(_few_colours, frames)
            each = durations(frames_per_second, most_frames)
            next(images).save(draft, save_all=True, append_images=images, duration=each, loop=0, optimize=False)
            return
        options: dict[str, Any] = {"fps": frames_per_second, "macro_block_size": 2}
        with _started_without_fork(), imageio.get_writer(draft, **options) as writer:
            for frame in frames:
                writer.append_data(frame)  # type: ignore[attr-defined]  # which all writers have


def durations(frames_per_second: float, num_frames: int) -> list[int]:
    """Milliseconds of each frame of a .gif, which counts in hundredths of a second: the whole does not drift."""
    ends = [round(100 * frame / frames_per_second) for frame in range(num_frames + 1)]
    return [10 * (end - start) for start, end in itertools.pairwise(ends)]


def _few_colours(frame: np.ndarray) -> Image.Image:
    """As a .gif has them: without dithering, which moves from frame to frame."""
    image = Image.fromarray(frame)
    return image.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
