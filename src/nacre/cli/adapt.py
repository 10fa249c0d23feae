"""`nacre adapt`: a trained agent meets one task."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacre.cli.parsing import Positional, parse
from nacre.cli.trial_flags import SimulatedTrialFlags
from nacre.errors import NacreError


@dataclass(frozen=True, kw_only=True)
class Command(SimulatedTrialFlags):
    """Test a trained agent in one task: return and belief after every episode."""

    run: Positional[Path]
    """Run directory."""
    task: str
    """The task, such as velocity=1.3, direction=-1 or goal=0.6,0.8."""
    data: str | None = None
    """Takes the logged transitions that the protocol gives from this data set, which must have the task. Default: the
    data set that the run was trained on."""
    allow_ood: bool = False
    """Allows a task outside the family's distribution."""
    seed: int = 0
    """Seed of the trial."""
    video: Path | None = None
    """Writes a video of the trial to this file, with the task in the scene, the return and the belief: .gif, or .mp4
    with the extra 'video' (pip install 'nacre[video]')."""
    video_size: int | None = None
    """Width of the video in pixels, 160 to 3840. Its height is about the same. Default: 640."""
    video_fps: int | None = None
    """Frames a second of the video at most, 1 to 100. The video takes as long as the trial on the robot. Default: 25.
    """
    checkpoint: str = "latest"
    """Which checkpoint acts: 'latest', 'best' (with the highest test score in training), or its number of updates."""
    json: bool = False
    """Prints one JSON object instead of a table."""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre adapt ARGS`."""
    command = parse(Command, args, "nacre adapt")
    of_video: dict[str, Any] = {"size": command.video_size, "frames_per_second": command.video_fps}
    given = {name: value for name, value in of_video.items() if value is not None}
    if command.video is None and given:
        raise NacreError("--video-size and --video-fps are about a video; name its file by --video, or leave them out.")
    from rich.table import Table

    from nacre.cli.tables import print_table, task_text
    from nacre.deploy.trained_agent import load

    agent = load(command.run, command.checkpoint)
    options: dict[str, Any] = dict(
        allow_ood=command.allow_ood, seed=command.seed, data=command.data, **command.options()
    )
    if command.video is None:
        trial = agent.meet(command.task, command.episodes, **options)
    else:
        from nacre.report import video

        trial = video.record(
            agent, command.task, command.video, command.episodes, progress=_Progress(), **given, **options,
        )  # fmt: skip
        print(f"wrote {command.video}", file=sys.stderr)
    if command.json:
        print(json.dumps({"task": trial.task, "episodes": [episode._asdict() for episode in trial.episodes]}))
        return
    tells = trial.episodes[0].success is not None
    columns = ["episode", "return", *["solved"] * tells, "belief mean", "belief std"]
    table = Table(*columns, title=f"trial on {task_text(trial.task)}")
    for episode in trial.episodes:
        mean, std = (" ".join(f"{v:.2f}" for v in values) for values in (episode.belief_mean, episode.belief_std))
        solved = ["yes" if episode.success else "no"] * tells
        table.add_row(str(episode.episode), f"{episode.episode_return:.3f}", *solved, mean, std)
    print_table(table)


class _Progress:
    """Says on stderr how far a video is, every few seconds."""

    seconds = 10.0

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, drawn: int, most: int) -> None:
        if time.monotonic() - self._told >= self.seconds:
            self._told = time.monotonic()
            print(f"drew {drawn} of {most} frames", file=sys.stderr)
