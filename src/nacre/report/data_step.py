"""The step of a figure that makes its data sets: policies for a published benchmark's tasks, and their episodes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nacre.collect import making, rollouts, training
from nacre.collect.work import Plan, WorkDirectory
from nacre.data.benchmarks import Benchmark
from nacre.data.dataset import open_data_set
from nacre.data.episodes import offline_extra
from nacre.data.layout import METADATA, folder_of
from nacre.errors import NacreError
from nacre.families.family import num_tasks, take
from nacre.learning.replay import row_width
from nacre.report.estimates import product_rate, steps_per_second
from nacre.report.steps import Cost, minutes_left
from nacre.runs.files import notice
from nacre.runs.stopping import StopRequest

TASK_SEED = 1337
BYTES_OF_AN_EPISODE = 3600
"""On disk, beside its numbers."""


@dataclass(frozen=True)
class DataStep:
    """The data sets of a benchmark's tasks that are missing, made as `nacre collect --benchmark` makes them."""

    entry: Benchmark
    ids: Mapping[str, str]
    """Quality -> name of its data set."""
    num_episodes: int
    """Of every checkpoint in its task."""
    folder: Path
    """The work directory of the training."""
    most_tasks: tuple[int, int] | None = None
    """Train and test tasks, the first so many; None: all."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Changed from the settings of the policies for this family."""

    @functools.cached_property
    def plan(self) -> Plan:
        """How the policies are trained."""
        family = self.entry.make_family()
        plan = Plan.of_benchmark(self.entry, family, task_seed=TASK_SEED, seed=0, **self.settings)
        if self.most_tasks is None:
            return plan
        train, test = (take(tasks, slice(n)) for tasks, n in zip((plan.train, plan.test), self.most_tasks, strict=True))
        return dataclasses.replace(plan, train=train, test=test)

    @property
    def num_tasks(self) -> dict[str, int]:
        """How many train and test tasks the data sets have."""
        return {"train": num_tasks(self.plan.train), "test": num_tasks(self.plan.test)}

    @property
    def told(self) -> tuple[str, str, str]:
        return self.entry.family, f"data of {self.entry.name}: {', '.join(self.ids)}", ""

    def is_done(self) -> bool:
        return not self._missing()

    def cost(self) -> Cost:
        plan, settings, family = self.plan, self.plan.settings, self.plan.family
        steps = settings.rounds(family) * family.horizon
        updates = steps - settings.random_rounds(family) * family.horizon
        episodes = self._num_logged()
        simulated = len(plan) * steps + len(self.ids) * episodes * family.horizon
        seconds = updates * len(plan) * settings.update_flops(family) / product_rate()
        numbers = family.obs_dim + family.action_dim + 1 + row_width(family.obs_dim, family.action_dim) + 2
        logged = len(self.ids) * episodes * (BYTES_OF_AN_EPISODE + 4 * family.horizon * numbers)
        return Cost(simulated, updates, seconds + simulated / steps_per_second(family), training.disk(plan) + logged)

    def job(self) -> None:
        return None

    def work(self, deadline: float | None) -> str | None:
        for module in ("h5py", "minari.dataset.minari_storage"):
            offline_extra(module)  # before hours of training, not after them
        stop = StopRequest(minutes_left(deadline))
        with stop.listening():
            work = WorkDirectory.open(self.folder, self.plan)
            if not training.train(work, lambda: stop.reason, notice):
                return stop.reason
            policies = rollouts.SacPolicies(work)
            making.tell_of_quality(policies, notice)
            for quality, id in self._missing().items():
                if making.make(policies, quality, id, self.num_episodes, stopped=lambda: stop.signalled) is None:
                    return stop.reason
                notice(f"wrote {id}")
                if stop.reason is not None and self._missing():
                    return stop.reason
        return None

    def _missing(self) -> dict[str, str]:
        """Quality -> name of the data sets that are not there. NacreError for others in their place."""
        missing = {}
        for quality, id in self.ids.items():
            if not is_there(id):
                missing[quality] = id
                continue
            found = open_data_set(id)
            if not (making.same_tasks(found.train, self.plan.train) and making.same_tasks(found.test, self.plan.test)):
                raise NacreError(
                    f"the data set {id} has other tasks than the benchmark {self.entry.name}; remove it with "
                    f"'nacre data remove {id}', or set MINARI_DATASETS_PATH to another folder."
                )
            _tell_once(id, self._differences(found.recipe))
        return missing

    def _differences(self, recipe: Mapping[str, Any]) -> tuple[str, ...]:
        """In what a data set was made otherwise than this step would make it."""
        wanted = {"algorithm": "sac", "episodes_of_a_checkpoint": self.num_episodes}
        wanted |= dataclasses.asdict(self.plan.settings)
        there = {**recipe, **recipe.get("settings", {})}
        return tuple(
            f"{name} {there.get(name)} instead of {value}" for name, value in wanted.items() if there.get(name) != value
        )

    def _num_logged(self) -> int:
        """Episodes of a data set."""
        tasks, plan = self.num_tasks, self.plan
        own = len(plan.settings.checkpoint_rounds(plan.family)) * self.num_episodes * sum(tasks.values())
        return own + rollouts.OTHER_EPISODES * tasks["test"]


@functools.cache
def _tell_once(id: str, differences: tuple[str, ...]) -> None:
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        notice(f"the data set {id} is used as it is, though it was made with {', '.join(differences[:3])}{more}")


def is_there(id: str) -> bool:
    """Whether there is a data set of this name."""
    return (folder_of(id) / METADATA).is_file()
