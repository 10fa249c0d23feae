"""Returns that others have published, for scale beside a run's own: single seeds, read from logs and threads."""

from __future__ import annotations

from typing import NamedTuple


class KnownPoint(NamedTuple):
    """One point of somebody's learning curve."""

    source: str
    env_steps: float
    score: float  # return of the scored episode, mean over test tasks
    wall_seconds: float | None = None


_PORT = "an independent port of PEARL"
"""x35f/meta_rl: automatic temperature, no V network; mean of 5 episodes after 2 of exploration."""
_REFERENCE = "the reference code"
"""katerakelly/oyster on current MuJoCo, paper settings."""
_PAPER = "the PEARL paper (read off its plot)"
_USER = "somebody's run of the reference code"
_TWO_TASKS = "a port with a learnt temperature, two test tasks only"
_PACE = "the reference code's pace (its time per update on two cores, the port's returns)"
"""An update takes it 55 ms on cheetah-dir and 185 ms on cheetah-vel, 2000 of them an iteration."""

KNOWN_POINTS: dict[str, tuple[KnownPoint, ...]] = {
    "cheetah-dir": (
        KnownPoint(_REFERENCE, 84e3, 445),
        KnownPoint(_PORT, 0.5e6, 1056),
        KnownPoint(_PORT, 1.0e6, 1492),
        KnownPoint(_PORT, 1.44e6, 1666),
        KnownPoint(_PACE, 0.52e6, 1000, 95 * 60),
        KnownPoint(_PACE, 0.8e6, 1400, 2.4 * 3600),
    ),
    "cheetah-vel": (
        KnownPoint(_PORT, 0.25e6, -101),
        KnownPoint(_PORT, 0.345e6, -50),
        KnownPoint(_PORT, 0.395e6, -40),
        KnownPoint(_PACE, 0.37e6, -45, 3.4 * 3600),
    ),
    "ant-dir": (
        KnownPoint(_PORT, 0.5e6, 692),
        KnownPoint(_PORT, 1.0e6, 895),
        KnownPoint(_PORT, 2.0e6, 1051),
    ),
    "ant-goal": (
        KnownPoint(_USER, 1.0e6, -440),
        KnownPoint(_PAPER, 10e6, -200),
    ),
    "humanoid-dir": (
        KnownPoint(_USER, 1.12e6, 900),
        KnownPoint(_USER, 1.3e6, 1000),
    ),
    "walker-params": (
        KnownPoint(_USER, 2.0e6, 530),
        KnownPoint(_TWO_TASKS, 0.5e6, 462),
        KnownPoint(_TWO_TASKS, 1.0e6, 713),
    ),
}
"""family -> points, by source."""
