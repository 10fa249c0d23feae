"""Published benchmarks of offline meta-RL by name: their tasks as they were published, on nacre's families.

An entry says which tasks train and which test, how methods are scored, and where nacre differs. Data are made by
`nacre collect FAMILY --benchmark NAME`; the published sets are not part of nacre.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nacre.errors import unknown
from nacre.families.catalog import make_family
from nacre.families.family import Family, take
from nacre.families.point import half_circle
from nacre.types import Tasks

Split = tuple[Tasks, Tasks]
"""(train tasks, test tasks)."""


@dataclass(frozen=True)
class Benchmark:
    """The tasks of one family in a published benchmark, and how it is scored."""

    name: str
    family: str
    tasks: Callable[[int], Split]
    """Task seed -> tasks; published grids do not depend on it."""
    num_train: int
    num_test: int
    horizon: int
    protocols: tuple[str, ...]
    """How the publication scores, first what its main table has."""
    data: str
    """How the publication made its data."""
    text: str
    """What it is, and where nacre differs."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the family."""
    policies: dict[str, Any] = field(default_factory=dict)
    """Settings of the policies that `nacre collect` trains, where the benchmark has others than the family."""

    @property
    def is_fixed(self) -> bool:
        """Whether its tasks are the same by every task seed."""
        parts = zip(self.tasks(0), self.tasks(1), strict=True)
        return all(np.array_equal(one[name], other[name]) for one, other in parts for name in one)

    def make_family(self) -> Family:
        """The family with its options."""
        return make_family(self.family, **self.options)


def split(tasks: Tasks, test: Sequence[int]) -> Split:
    """Tasks apart by the places of the test tasks, which keep the order in which they are named."""
    number = len(next(iter(tasks.values())))
    return take(tasks, np.setdiff1d(np.arange(number), test)), take(tasks, np.array(test))


CSRO_TEST = tuple(range(2, 40, 4))
MACAW_CHEETAH_VEL_TEST = (2, 7, 15, 23, 26)
MACAW_ANT_DIR_TEST = (6, 17, 23, 30, 41)
MACAW_WALKER_TEST = (43, 15, 12, 39, 2)


def _csro_points(seed: int) -> Split:
    return split({"goal": half_circle(np.linspace(0.0, np.pi, 40))}, CSRO_TEST)


def _csro_velocities(seed: int) -> Split:
    return split({"velocity": np.linspace(1.0, 3.0, 40)}, CSRO_TEST)


def _csro_walkers(seed: int) -> Split:
    return split({"exponents": np.random.RandomState(1234).uniform(-3.0, 3.0, (40, 65))}, CSRO_TEST)


def _macaw_directions(seed: int) -> Split:
    both = {"direction": np.array([-1.0, 1.0])}
    return both, both


def _macaw_velocities(seed: int) -> Split:
    return split({"velocity": np.linspace(0.075, 3.0, 40)}, MACAW_CHEETAH_VEL_TEST)


def _drawn(family: str, number: int, test: Sequence[int]) -> Callable[[int], Split]:
    def tasks(seed: int) -> Split:
        return split(make_family(family).sample_tasks(np.random.default_rng(seed), number), test)

    return tasks


def _last(number: int, num_test: int) -> range:
    return range(number - num_test, number)


def _unicorn_walkers(seed: int) -> Split:
    """Masses and frictions alone: the exponents of inertias and dampings are 0."""
    exponents = make_family("walker-params").sample_tasks(np.random.default_rng(seed), 40)["exponents"]
    exponents[:, 8 : 8 + 24 + 9] = 0.0
    return split({"exponents": exponents}, _last(40, 20))


_CSRO = "CSRO (Gao et al., NeurIPS 2023). "
_CSRO_SCORE = ("online-np", "online-prior", "offline-own-context")
_MACAW = "MACAW (Mitchell et al., ICML 2021). "
_MACAW_DATA = "the whole replay of a soft actor-critic in every task, 2.5 million steps in cheetah-vel"
_UNICORN = "UNICORN (Li et al., NeurIPS 2024). "
_UNICORN_SCORE = ("offline-own-context", "offline-other-context")

_OURS = "Here 256 logged transitions are given at once, unless --context-transitions says otherwise"


def _csro_amounts(context: int, explored: int) -> str:
    """How much an agent is given and how often it is scored, there and here."""
    episodes = "1 episode" if explored == 1 else f"{explored} episodes"
    return (
        f"Scored there on {context} transitions, added up from episode to episode (online-prior: after {episodes} of "
        f"exploration), the last episode, 2 repeats of each task. {_OURS}; `nacre reproduce offline` makes 4 repeats."
    )


_MACAW_AMOUNTS = (
    "Scored there by 1 step on 256 transitions of the whole replay. Here the same number, of the data set; "
    "`nacre reproduce macaw` makes 8 repeats of each task."
)
_UNICORN_AMOUNTS = (
    "Scored there on one logged episode, for offline-other-context one by every checkpoint of every task. "
    f"{_OURS}, drawn from many episodes."
)

_ENTRIES = (
    Benchmark(
        "csro", "point-robot-half-circle", _csro_points, 30, 10, 20, _CSRO_SCORE,
        "soft actor-critic, 5,000 steps a task; 50 episodes at each of 2,200, 2,400 ... 4,800 steps",
        _CSRO + "Point-Robot: 40 goals evenly on the half circle; start at 0, steps of at most 0.1 an axis, reward "
        "minus the distance. The best possible on the test tasks is -3.9, a straight line that knows no goal "
        "gets -15.1, standing still -20.0. Ours is the same but for the checkpoints, which run to 5,000 steps. The "
        "first of them has -4.4 already, the last -4.0: medium data are nearly expert. " + _csro_amounts(400, 1),
        policies=dict(first_checkpoint=0.44),
    ),
    Benchmark(
        "csro", "cheetah-vel", _csro_velocities, 30, 10, 200, _CSRO_SCORE,
        "soft actor-critic of 1024 x 2, batch 1024, 1 million steps a task; 50 episodes at each of 18 checkpoints",
        _CSRO + "Half-Cheetah-Vel: 40 velocities evenly from 1 to 3 m/s. Reward and horizon are the same; the data are "
        "made by smaller networks in fewer steps. " + _csro_amounts(600, 2),
    ),
    Benchmark(
        "csro", "walker-params", _csro_walkers, 30, 10, 200, _CSRO_SCORE,
        "soft actor-critic of 1024 x 2, batch 1024, 1 million steps a task; 50 episodes at each of 19 checkpoints",
        _CSRO + "Walker-Rand-Params: 40 bodies of NumPy's seed 1234. The released code draws the test tasks anew with "
        "every run's seed; here they are places 2, 6 ... 38, as in its other benchmarks. The robot is Gymnasium's, so "
        "bodies and returns compare roughly. " + _csro_amounts(600, 2),
    ),
    Benchmark(
        "macaw", "cheetah-dir", _macaw_directions, 2, 2, 200, ("gradient-steps:1",), _MACAW_DATA,
        _MACAW + "Half-Cheetah-Dir: forward and backward. The test tasks are the train tasks. " + _MACAW_AMOUNTS,
    ),
    Benchmark(
        "macaw", "cheetah-vel", _macaw_velocities, 35, 5, 200, ("gradient-steps:1",), _MACAW_DATA,
        _MACAW + "Half-Cheetah-Vel: 40 velocities evenly from 0.075 to 3 m/s; test tasks 2, 7, 15, 23, 26. Data from a "
        "hundredth of the steps. " + _MACAW_AMOUNTS,
    ),
    Benchmark(
        "macaw", "ant-dir-360", _drawn("ant-dir-360", 50, MACAW_ANT_DIR_TEST), 45, 5, 200, ("gradient-steps:1",),
        _MACAW_DATA,
        _MACAW + "Ant-Dir: 50 directions uniform over the circle; test tasks 6, 17, 23, 30, 41. The published "
        "directions are in files that are not part of nacre: these are drawn anew, by the task seed. " + _MACAW_AMOUNTS,
    ),
    Benchmark(
        "macaw", "walker-params", _drawn("walker-params", 50, MACAW_WALKER_TEST), 45, 5, 200, ("gradient-steps:1",),
        _MACAW_DATA,
        _MACAW + "Walker-2D-Params: 50 bodies; test tasks 43, 15, 12, 39, 2. The published bodies are in files that "
        "are not part of nacre: these are drawn anew, by the task seed. MuJoCo 1.31 there, Gymnasium's robot here. "
        + _MACAW_AMOUNTS,
    ),
    Benchmark(
        "unicorn", "cheetah-dir",
        lambda seed: split({"direction": np.random.default_rng(seed).choice([-1.0, 1.0], 40)}, _last(40, 20)),
        20, 20, 200, _UNICORN_SCORE,
        "soft actor-critic of 128 x 2, batch 256, two episodes an iteration; its replay",
        _UNICORN + "HalfCheetah-Dir: 40 tasks, each forward or backward by chance, so tasks are alike. "
        + _UNICORN_AMOUNTS,
    ),
    Benchmark(
        "unicorn", "cheetah-vel", _drawn("cheetah-vel", 40, _last(40, 20)), 20, 20, 200, _UNICORN_SCORE,
        "soft actor-critic of 128 x 2, batch 256, 500 iterations of two episodes and 200 updates; its replay",
        _UNICORN + "HalfCheetah-Vel: 40 velocities uniform from 0 to 3 m/s, drawn by the task seed. "
        + _UNICORN_AMOUNTS,
    ),
    Benchmark(
        "unicorn", "ant-dir-360", _drawn("ant-dir-360", 40, _last(40, 20)), 20, 20, 200, _UNICORN_SCORE,
        "soft actor-critic of 128 x 2, batch 256, 200 iterations of two episodes and 200 updates; its replay",
        _UNICORN + "Ant-Dir: 40 directions uniform over the circle, drawn by the task seed. " + _UNICORN_AMOUNTS,
    ),
    Benchmark(
        "unicorn", "hopper-params", _drawn("hopper-params", 40, _last(40, 20)), 20, 20, 200, _UNICORN_SCORE,
        "soft actor-critic of 128 x 2, batch 256; its replay",
        _UNICORN + "Hopper-Param: 40 bodies, drawn by the task seed. There a hopper that falls continues to 200 steps, "
        "gets no reward for being alive and sees its place (12 numbers); here it is nacre's hopper-params, which ends. "
        + _UNICORN_AMOUNTS,
    ),
    Benchmark(
        "unicorn", "walker-params", _unicorn_walkers, 20, 20, 200, _UNICORN_SCORE,
        "soft actor-critic of 128 x 2, batch 256, 3,000 iterations of two episodes and 200 updates; its replay",
        _UNICORN + "Walker-Param: 40 bodies whose masses and frictions differ, drawn by the task seed. There a walker "
        "ends at a height of 0.5 and sees its place (18 numbers); here it is nacre's walker-params. "
        + _UNICORN_AMOUNTS,
    ),
)  # fmt: skip

BENCHMARKS: dict[str, dict[str, Benchmark]] = {}
"""Name -> family -> entry."""
for _entry in _ENTRIES:
    BENCHMARKS.setdefault(_entry.name, {})[_entry.family] = _entry


def find(name: str, family: str) -> Benchmark:
    """The entry of that name for a family; NacreError where there is none."""
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS)
    if family not in BENCHMARKS[name]:
        raise unknown(f"family of the benchmark {name}", family, BENCHMARKS[name])
    return BENCHMARKS[name][family]
