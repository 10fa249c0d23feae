"""Settings that all offline methods share: how long they train on a data set, and by which protocol they are tested."""

from __future__ import annotations

from dataclasses import dataclass

from nacre.families.family import Family
from nacre.presets import rules
from nacre.presets.settings import ANY_FAMILY, MethodSettings, Row, Rule


def of_short_episodes(family: type[Family]) -> Row:
    """The discount where episodes are short, as those of point robots."""
    return {"discount": 0.9} if family.horizon < rules.SHORT else {}


def rows(**fields: object) -> dict[str, Rule]:
    """A preset: for every family these fields, and the discount of short episodes."""
    return {ANY_FAMILY: lambda family: {**of_short_episodes(family), **fields}}


@dataclass(frozen=True)
class OfflineSettings(MethodSettings):
    """The base of an offline method's settings. Its tasks are those of the data set."""

    num_train_tasks: int = 0
    """Learns from the first N train tasks of the data set. 0: all."""
    num_test_tasks: int = 0
    """Scores the run on the first N test tasks of the data set. 0: all."""
    iterations: int = 100
    """Meta-iterations of the whole run, each with a number of gradient updates. `resume --iterations` raises it."""
    num_train_steps_per_iteration: int = 1000
    """Gradient updates of an iteration."""
    meta_batch: int = 16
    """Train tasks in one update, drawn with replacement."""
    batch_size: int = 256
    """Transitions per task in one update."""
    discount: float = 0.99
    """Discount factor gamma."""
    num_evaluation_episodes: int = 1
    """Episodes of a trial. The last one is scored."""
    protocol: str = "offline-own-context"
    """What the agent is given of a task before the scored episode in a test (docs/protocols.md)."""
    num_context_transitions: int = 256
    """Logged transitions of a test task that the agent is given, in protocols with logged transitions."""

    @property
    def protocols(self) -> tuple[str, ...]:
        return ("offline-own-context", "offline-other-context")
