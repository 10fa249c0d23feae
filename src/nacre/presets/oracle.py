"""Settings of the oracle, soft actor-critic that is told the task, and its presets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from nacre.errors import NacreError
from nacre.families.family import Family, TaskSet, take
from nacre.presets.pearl import PearlSettings
from nacre.presets.pearl_presets import PRESETS as PEARL_PRESETS
from nacre.presets.settings import Presets, Row, Rule
from nacre.presets.soft_actor_critic import SoftActorCriticSettings


@dataclass(frozen=True)
class OracleSettings(SoftActorCriticSettings):
    """The oracle's settings: those of PEARL that still mean something when the task is known."""

    single_task: int = -1
    """Trains on this test task alone (single-task SAC). -1: trains on the train tasks."""
    num_episodes: int = 5
    """Episodes collected per drawn task and iteration."""
    normalise_inputs: Literal["none", "all", "all-and-task"] = "none"  # type: ignore[assignment]
    """Scales the inputs of all networks. all: observations and actions get mean 0 and variance 1 over all data that the
    run has collected. all-and-task: the task's parameters, too, get mean 0, and variances that sum to 1, over the train
    tasks, so that many of them weigh no more than one. none: everything is taken as it is."""

    def check_family(self, family: Family) -> None:
        super().check_family(family)  # once the number of test tasks is known, which may be a data set's
        if not -1 <= self.single_task < self.num_test_tasks:
            raise NacreError(
                f"single_task is {self.single_task}, but must be the number of a test task, 0 to "
                f"{self.num_test_tasks - 1}, or -1 for the train tasks; change --single-task."
            )

    @property
    def normalise_task(self) -> bool:
        return self.normalise_inputs == "all-and-task"

    @property
    def protocols(self) -> tuple[str, ...]:
        """All in which what the agent is given makes no difference to it."""
        return ("online-prior", "offline-own-context", "offline-other-context", "zero-shot")

    @property
    def num_trained(self) -> int:
        return self.num_train_tasks if self.single_task < 0 else 1

    @property
    def episodes_per_draw(self) -> tuple[int, ...]:
        return (self.num_episodes,)

    def choose_tasks(self, given: TaskSet) -> TaskSet:
        chosen = super().choose_tasks(given)
        if self.single_task < 0:
            return chosen
        one = take(chosen.test, [self.single_task])
        return chosen._replace(train=one, test=one)


def _row(of_pearl: Row) -> Row:
    """PEARL's row of a family, as far as it concerns the oracle; as many episodes an iteration."""
    shared = {field.name for field in dataclasses.fields(OracleSettings)}
    pearl = PearlSettings(**of_pearl)  # type: ignore[arg-type]
    kept = {name: value for name, value in of_pearl.items() if name in shared}
    if pearl.normalise_inputs == "all":
        kept["normalise_inputs"] = "all-and-task"
    return kept | {"num_episodes": sum(pearl.episodes_per_draw)}


def _row_or_rule(of_pearl: Row | Rule) -> Row | Rule:
    return (lambda family: _row(of_pearl(family))) if callable(of_pearl) else _row(of_pearl)


PRESETS: Presets = {
    preset: {family: _row_or_rule(row) for family, row in rows.items()} for preset, rows in PEARL_PRESETS.items()
}
"""preset -> family -> the fields that differ from the defaults."""
