"""Returns that others have published, for scale beside a run's own."""

from __future__ import annotations

from typing import NamedTuple


class KnownPoint(NamedTuple):
    """One point of somebody's learning curve: of a single seed, read from a log or a thread."""

    source: str
    env_steps: float
    score: float  # return of the scored episode, mean over test tasks


_PORT = "an independent port of PEARL"
"""x35f/meta_rl: automatic temperature, no V network; mean of 5 episodes after 2 of exploration."""
_REFERENCE = "the reference code"
"""katerakelly/oyster on current MuJoCo, paper settings."""
_PAPER = "the PEARL paper (read off its plot)"
_USER = "somebody's run of the reference code"
_TWO_TASKS = "a port with a learnt temperature, two test tasks only"

KNOWN_POINTS: dict[str, tuple[KnownPoint, ...]] = {
    "cheetah-dir": (
        KnownPoint(_REFERENCE, 84e3, 445),
        KnownPoint(_PORT, 0.5e6, 1056),
        KnownPoint(_PORT, 1.0e6, 1492),
        KnownPoint(_PORT, 1.44e6, 1666),
    ),
    "cheetah-vel": (
        KnownPoint(_PORT, 0.25e6, -101),
        KnownPoint(_PORT, 0.345e6, -50),
        KnownPoint(_PORT, 0.395e6, -40),
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


class KnownScore(NamedTuple):
    """What somebody has published of a method on the test tasks of a benchmark of offline meta-RL."""

    source: str
    benchmark: str
    family: str
    method: str  # as it is called there
    line: str  # of nacre's table, the same method; '' where nacre has none
    protocol: str  # of presets/protocols.py, or ONLINE
    score: float  # mean return of the scored episode


ONLINE = "online"
"""The agent's own context; whether its exploration was online-prior or online-np is not known."""

_CSRO_1 = "CSRO, table 1"
_CSRO_2 = "CSRO's comparison"
_UNICORN = "UNICORN's run of MACAW on its own data, 20 test tasks"

KNOWN_SCORES: tuple[KnownScore, ...] = (
    KnownScore(_CSRO_1, "csro", "point-robot-half-circle", "PEARL", "offline-pearl", "offline-own-context", -5.1),
    KnownScore(_CSRO_1, "csro", "point-robot-half-circle", "PEARL", "offline-pearl", ONLINE, -17.8),
    KnownScore(_CSRO_1, "csro", "point-robot-half-circle", "FOCAL", "focal", "offline-own-context", -4.4),
    KnownScore(_CSRO_1, "csro", "point-robot-half-circle", "FOCAL", "focal", ONLINE, -14.9),
    KnownScore(_CSRO_2, "csro", "point-robot-half-circle", "PEARL", "offline-pearl", ONLINE, -17.0),
    KnownScore(_CSRO_2, "csro", "point-robot-half-circle", "CORRO", "", ONLINE, -7.8),
    KnownScore(_CSRO_2, "csro", "point-robot-half-circle", "CSRO", "", ONLINE, -6.4),
    KnownScore(_CSRO_2, "csro", "cheetah-vel", "PEARL", "offline-pearl", ONLINE, -133.7),
    KnownScore(_CSRO_2, "csro", "cheetah-vel", "FOCAL", "focal", ONLINE, -60.9),
    KnownScore(_CSRO_2, "csro", "cheetah-vel", "CORRO", "", ONLINE, -65.6),
    KnownScore(_CSRO_2, "csro", "cheetah-vel", "CSRO", "", ONLINE, -48.4),
    KnownScore(_CSRO_2, "csro", "walker-params", "PEARL", "offline-pearl", ONLINE, 284.5),
    KnownScore(_CSRO_2, "csro", "walker-params", "CORRO", "", ONLINE, 312.5),
    KnownScore(_CSRO_2, "csro", "walker-params", "CSRO", "", ONLINE, 344.2),
    KnownScore(_UNICORN, "macaw", "cheetah-dir", "MACAW", "macaw", "gradient-steps:1", 1155.0),
    KnownScore(_UNICORN, "macaw", "cheetah-vel", "MACAW", "macaw", "gradient-steps:1", -56.0),
)
"""MACAW's own paper has curves; nobody has published their numbers."""


def known_scores(benchmark: str, family: str) -> list[KnownScore]:
    """What is known of a benchmark on one family."""
    return [known for known in KNOWN_SCORES if (known.benchmark, known.family) == (benchmark, family)]
