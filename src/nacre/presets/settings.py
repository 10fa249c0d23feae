"""What the settings of every method have in common: task set, length of a run, evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from nacre.errors import NacreError
from nacre.families.family import Family, TaskSet, take
from nacre.presets import protocols

HYPOTHESES = "hypotheses"
"""Exploration by what the agent believed of train tasks."""
RESAMPLES = ("episode", "step", "mean")
"""When a belief's z is drawn anew: after every episode, after every step, or never: its mean at every step."""
DISCOUNT = 0.99
"""Discount factor where a method's settings say nothing else."""

Row = Mapping[str, object]
"""The fields of a method's settings that differ from the defaults, in a preset on a family."""
Rule = Callable[[type[Family]], Row]
"""Such a row as a function of what a family is."""
Presets = Mapping[str, Mapping[str, Row | Rule]]
"""preset -> family, or ANY_FAMILY -> row, or a rule that gives it."""
ANY_FAMILY = "*"
"""In a preset, what holds for families that have no row of their own: those that people have registered, too."""


def row_of(rows: Mapping[str, Row | Rule], family: type[Family]) -> Row | None:
    """What a preset changes for a family; None where it has nothing for it."""
    row = rows.get(family.name, rows.get(ANY_FAMILY))
    return row(family) if callable(row) else row


def check_row(algorithm: str, preset: str, family: str, row: Row, settings: type[MethodSettings]) -> None:
    """Raises NacreError where a row sets what the settings do not have."""
    strangers = sorted(set(row) - {field.name for field in dataclasses.fields(settings)})
    if strangers:
        raise NacreError(
            f"preset '{preset}' of '{algorithm}' sets '{strangers[0]}' for {family}, which its settings do not have."
        )


@dataclass(frozen=True)
class MethodSettings:
    """The base of every method's settings. A method adds fields and says how many updates an iteration has.

    Public fields are flags of the command line; their docstrings are the help texts.
    """

    # Task set
    num_train_tasks: int = 100
    """Tasks to meta-train on."""
    num_test_tasks: int = 30
    """Held-out tasks that score the run (cheetah-dir: its two train tasks)."""

    # Length of the run
    iterations: int = 500
    """Meta-iterations of the whole run. `resume --iterations` raises it."""

    # Meta-test
    num_evaluation_episodes: int = 3
    """Episodes of a trial. The last one is scored."""
    num_evaluation_repeats: int = 1
    """Independent trials of each task in an evaluation."""

    @property
    def num_train_steps_per_iteration(self) -> int:
        """Gradient updates of an iteration."""
        raise NotImplementedError(f"{type(self).__name__} does not say how many updates an iteration has")

    @property
    def num_updates(self) -> int:
        """Gradient updates of the whole run."""
        return int(self.iterations * self.num_train_steps_per_iteration)

    @property
    def num_exploration_episodes(self) -> int | None:
        """Episodes of a trial that explore, from the first on; None of methods that have no such number."""
        return None

    @property
    def exploration(self) -> str:
        """How those episodes choose z: 'prior', or another of `explorations` if a method has a field of this name."""
        return "prior"

    @property
    def by_hypotheses(self) -> bool:
        """Whether the exploring episodes of a trial act on hypotheses about tasks."""
        explores = protocols.parse(self.protocol).acts_on_prior and (self.num_exploration_episodes or 0) > 0
        return explores and self.exploration == HYPOTHESES

    @property
    def by_rewards(self) -> bool:
        """Whether the belief of a trial goes by the rewards that hypotheses about tasks predict."""
        return False

    @property
    def explorations(self) -> tuple[str, ...]:
        """Values that `exploration` can have."""
        return ("prior",)

    @property
    def forgetting(self) -> float:
        """Multiplies the belief's earlier factors at every step; a method whose belief can fade has a field of this
        name."""
        return 1.0

    @property
    def resample(self) -> str:
        """When z is drawn anew: 'episode', or what a method's field of this name says, which is one of RESAMPLES."""
        return "episode"

    @property
    def protocol(self) -> str:
        """What the agent is given of a task before the scored episode: a name of presets/protocols.py.

        A method that can be tested by several protocols may have a field of this name.
        """
        return "online-prior"

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols that the method can be tested by; 'gradient-steps' stands for gradient-steps:K with any K."""
        return ("online-prior",)

    @property
    def num_context_transitions(self) -> int:
        """Logged transitions of a task that the agent is given, in the protocols that give it some."""
        return 256

    @property
    def context_in_order(self) -> bool:
        """Whether these are a stretch of the log, in the order of time, rather than single transitions."""
        return False

    @property
    def usual_steps(self) -> int:
        """Gradient steps on the logged transitions of a task, in protocols that do not say how many."""
        return 1

    @property
    def reward_scale(self) -> float | None:
        """What a method's critics multiply rewards by, where it is a soft actor-critic; None of others."""
        return None

    @property
    def uniform_actions(self) -> float | None:
        """Half-width a of [-a, a], from which the random policy draws actions; None for methods that learn."""
        return None

    @property
    def discount(self) -> float:
        """Discount factor gamma of the method's returns; 0.99 where it has none of its own."""
        return DISCOUNT

    @property
    def single_task(self) -> int:
        """Number of the only test task that the method trains on and is scored on; -1: trains on the train tasks."""
        return -1

    @property
    def tasks_shared_out(self) -> int:
        """Tasks of an update, of which each of several devices can take as many; 0 where none are shared out."""
        return 0

    @property
    def first_test_task(self) -> int:
        """Number of the first test task in the family's sequence of tasks."""
        return self.num_train_tasks

    def draw_tasks(self, family: Family, task_seed: int) -> TaskSet:
        """The train and test tasks of a run, as they follow from `task_seed`."""
        return self.choose_tasks(family.task_set(task_seed, self.first_test_task, self.num_test_tasks))

    def choose_tasks(self, given: TaskSet) -> TaskSet:
        """Those of some train and test tasks that a run has: the first `num_train_tasks` and `num_test_tasks`."""
        train, test = take(given.train, slice(self.num_train_tasks)), take(given.test, slice(self.num_test_tasks))
        return given._replace(train=train, test=test)

    def env_steps(self, family: Family) -> int:
        """Environment steps of a whole run, at most; 0 where that is not known beforehand. For estimates of time."""
        return 0

    def update_flops(self, obs_dim: int, action_dim: int, task_dim: int = 1) -> int:
        """Floating-point operations of the matrix products that an update needs; 0 where nobody counted them."""
        return 0

    def check_family(self, family: Family) -> None:
        """Raises NacreError where these settings cannot be used on `family`, or name a protocol that they cannot do."""
        protocols.chosen(self.protocol, self.protocols)

    def shortened(self, iterations: int) -> Self:
        """Settings of a run of `iterations` with as little collection before the first as possible, for timing."""
        return dataclasses.replace(self, iterations=iterations)
