"""The work directory of a collection: what is to be made, the checkpoints, and where the training of them stands.

    work.json                      the plan: family, tasks, settings, seed
    checkpoints/step-0003750.npz   the policies of all tasks, and the returns of their mean actions
    checkpoints/random.npz         the returns of random actions
    state/learner.npz              networks and optimisers after a whole round; only needed to continue
    state/replay-00000-00017.npz   the episodes of those rounds

Every file is written whole or not at all. A copy of work.json and checkpoints/ is enough to roll the policies out.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nacre.collect import sac
from nacre.collect.settings import SacSettings, settings_for
from nacre.data.benchmarks import Benchmark
from nacre.errors import NacreError
from nacre.families.catalog import make_family
from nacre.families.family import Family, as_lists, num_tasks
from nacre.runs import arrays, files
from nacre.types import Episode, Tasks

FORMAT = 1


@dataclass(frozen=True, eq=False)
class TaskPlan:
    """The tasks that a data set is of."""

    family: Family
    train: Tasks
    test: Tasks
    seed: int = field(default=0, kw_only=True)
    """Of everything but the tasks."""
    benchmark: str = field(default="", kw_only=True)
    """Name of the published benchmark whose tasks these are; '' for none."""

    @property
    def test_is_train(self) -> bool:
        """Whether the test tasks are the train tasks, as in cheetah-dir: policies are then trained once."""
        return all(np.array_equal(self.train[name], self.test[name]) for name in self.train)

    @property
    def tasks(self) -> Tasks:
        """All tasks that have a policy: train tasks, then test tasks."""
        if self.test_is_train:
            return self.train
        return {name: np.concatenate([values, self.test[name]]) for name, values in self.train.items()}

    def members(self, split: str) -> np.ndarray:
        """The places of the 'train' or 'test' tasks among all."""
        number = num_tasks(self.train)
        return np.arange(number) if split == "train" or self.test_is_train else np.arange(number, len(self))

    def __len__(self) -> int:
        return num_tasks(self.tasks)

    def told(self) -> dict[str, Any]:
        """As JSON has it; numbers survive to the last bit."""
        return {
            "family": self.family.name, "family_options": dataclasses.asdict(self.family),
            "train": as_lists(self.train), "test": as_lists(self.test), "seed": self.seed, "benchmark": self.benchmark,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Plan(TaskPlan):
    """How the policies of a collection are trained."""

    settings: SacSettings

    @classmethod
    def of_benchmark(cls, entry: Benchmark, family: Family, *, task_seed: int, seed: int, **changed: Any) -> Plan:
        """Of a published benchmark's tasks; `changed` (None: is not) from the settings for this family and benchmark.
        The family's other options stay."""
        train, test = entry.tasks(task_seed)
        family = dataclasses.replace(family, **entry.options)
        given = {name: value for name, value in changed.items() if value is not None}
        settings = settings_for(family, **{**entry.policies, **given})
        return cls(family, train, test, settings, seed=seed, benchmark=entry.name)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"format": FORMAT, **self.told(), "settings": dataclasses.asdict(self.settings)}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Plan:
        """The inverse of `to_json`."""
        if told["format"] != FORMAT:
            raise NacreError(f"it has format {told['format']}, and this nacre reads {FORMAT}")
        family = make_family(told["family"], **told["family_options"])
        train, test = ({name: np.array(values) for name, values in told[split].items()} for split in ("train", "test"))
        settings = SacSettings(**told["settings"])
        return cls(family, train, test, settings, seed=told["seed"], benchmark=told["benchmark"])


class Checkpoint(NamedTuple):
    """The policies of all tasks after as many steps in each."""

    step: int
    policy: Any  # every leaf [task, ...]
    returns: np.ndarray  # [task, episode] of their mean actions


class WorkDirectory:
    """A collection's directory on disk."""

    def __init__(self, path: Path):
        """Opens one that exists."""
        self.path = path
        try:
            self.plan = Plan.from_json(json.loads((path / "work.json").read_text()))
        except FileNotFoundError as error:
            raise NacreError(f"there is no work of 'nacre collect' at {path}; check --work.") from error
        except (OSError, ValueError, KeyError, TypeError, NacreError) as error:
            raise NacreError(f"{path / 'work.json'} cannot be used ({error}); choose another --work.") from error

    @classmethod
    def open(cls, path: Path, plan: Plan) -> WorkDirectory:
        """The one at `path`, made now or begun earlier with the same plan; NacreError where it has another."""
        file, wanted = path / "work.json", plan.to_json()
        if file.exists():
            return cls(path).check(plan)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise NacreError(f"{path} is in the way, and no work of 'nacre collect'; choose another --work.")
        for folder in ("checkpoints", "state"):
            arrays.make(path / folder)
        versions = {name: importlib.metadata.version(name) for name in ("nacre", "jax", "numpy")}
        arrays.replace(file, json.dumps(wanted | {"versions": versions}, indent=1).encode())
        return cls(path)

    def check(self, plan: Plan) -> WorkDirectory:
        """Itself; NacreError where it is for another plan."""
        there, wanted = (Plan.from_json(one.to_json()).to_json() for one in (self.plan, plan))
        changed = [f"{name} {there[name]} there" for name in wanted if there[name] != wanted[name]]
        if changed:
            told = "; ".join(text if len(text) < 100 else f"{text[:97]}..." for text in changed)
            raise NacreError(f"{self.path} holds another collection ({told}); choose another --work, or remove it.")
        return self

    # ------------------------------------------------------------------------------------------------------------------
    # Checkpoints

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, rising."""
        return sorted(int(file.stem.removeprefix("step-")) for file in (self.path / "checkpoints").glob("step-*.npz"))

    @property
    def is_trained(self) -> bool:
        """Whether all checkpoints are there."""
        settings, family = self.plan.settings, self.plan.family
        wanted = {rounds * family.horizon for rounds in settings.checkpoint_rounds(family)}
        kept = self._kept_rounds()
        whole = kept is None or kept == settings.rounds(family)  # the last checkpoint is written before the last state
        return whole and wanted <= set(self.steps()) and self._random_file.exists()

    def _kept_rounds(self) -> int | None:
        """Rounds of the state that was kept last; None where none is there: a copy that has checkpoints alone."""
        file = self.path / "state" / "learner.npz"
        return int(arrays.read(file)["rounds"]) if file.exists() else None

    @property
    def _random_file(self) -> Path:
        return self.path / "checkpoints" / "random.npz"

    def save_checkpoint(self, step: int, policy: Any, returns: np.ndarray) -> None:
        """Keeps the policies of all tasks after `step` steps in each."""
        arrays.save(self.path / "checkpoints" / f"step-{step:07d}.npz", arrays.named(policy) | {"returns": returns})

    def checkpoint(self, step: int) -> Checkpoint:
        """Reads one back; its arrays are on the host."""
        saved = arrays.read(self.path / "checkpoints" / f"step-{step:07d}.npz")
        returns = saved.pop("returns")
        return Checkpoint(step, arrays.rebuilt(self._shapes().policy, saved), returns)

    def save_random_returns(self, returns: np.ndarray) -> None:
        """Keeps the returns of random actions, [task, episode]."""
        arrays.save(self._random_file, {"returns": returns})

    def random_returns(self) -> np.ndarray:
        """Returns of random actions, [task, episode]."""
        return arrays.read(self._random_file)["returns"]

    def _shapes(self) -> sac.State:
        plan = self.plan
        keys = jax.eval_shape(lambda: sac.task_keys(plan.seed, len(plan)))
        return jax.eval_shape(lambda keys: sac.begin(plan.family, plan.settings, keys), keys)

    # ------------------------------------------------------------------------------------------------------------------
    # State of the training

    def save_state(self, state: sac.State, rounds: Sequence[Sequence[Episode]]) -> None:
        """Keeps the state after a whole round, and the episodes of the rounds since it was kept last."""
        folder = self.path / "state"
        if rounds:
            first = state.rounds - len(rounds)
            arrays.save(folder / f"replay-{first:05d}-{state.rounds - 1:05d}.npz", _packed(rounds, first))
        arrays.save(folder / "learner.npz", arrays.named(state.learner) | {"rounds": np.int64(state.rounds)})

    def load_state(self) -> sac.State:
        """The state that was kept last, or the one before the first step."""
        plan = self.plan
        state = sac.begin(plan.family, plan.settings, sac.task_keys(plan.seed, len(plan)))
        file = self.path / "state" / "learner.npz"
        if not file.exists():
            for left in file.parent.glob("replay-*.npz"):  # of a first save that was cut off: it will be played again
                left.unlink()
            return state
        saved = arrays.read(file)
        rounds = int(saved.pop("rounds"))
        rows, size = np.zeros(state.replay.rows.shape, np.float32), np.zeros(len(plan), np.int32)
        for logged in self.replay(rounds):
            rows[logged.task, size[logged.task] : size[logged.task] + len(logged.rows)] = logged.rows
            size[logged.task] += len(logged.rows)
        learner = jax.tree.map(jax.numpy.asarray, arrays.rebuilt(state.learner, saved))
        return state._replace(learner=learner, replay=sac.Rows(*map(jax.numpy.asarray, (rows, size))), rounds=rounds)

    def replay(self, rounds: int | None = None) -> Iterator[ReplayEpisode]:
        """The episodes that the policies learnt from, in the order of their collection; of the first `rounds`."""
        next_round = 0
        for file in sorted((self.path / "state").glob("replay-*.npz")):
            first, last = map(int, file.stem.split("-")[1:])
            if rounds is not None and first >= rounds:
                file.unlink()  # from after the state that was kept: it will be played again
                continue
            if first != next_round:
                raise NacreError(f"{file.parent} lacks the rounds from {next_round} to {first}; restore them.")
            saved, at, next_round = arrays.read(file), 0, last + 1
            for task, round_, length in zip(saved["task"], saved["round"], saved["length"], strict=True):
                yield ReplayEpisode(int(task), int(round_), saved["rows"][at : at + length])
                at += length
        if rounds is not None and next_round != rounds:
            raise NacreError(f"{self.path / 'state'} lacks the rounds from {next_round} to {rounds}; restore them.")


def locked(path: Path) -> AbstractContextManager[None]:
    """Makes sure that no other process trains in this work directory meanwhile."""
    refusal = f"another process is training the policies at {path}; wait for it or stop it."
    return files.locked(path, refusal, arrays.AGAIN)


class ReplayEpisode(NamedTuple):
    """An episode of the training."""

    task: int  # its place among all
    round: int
    rows: np.ndarray  # [time, width], packed as in `learning/replay.py`


def _packed(rounds: Sequence[Sequence[Episode]], first: int) -> dict[str, np.ndarray]:
    """The episodes of some rounds as arrays: those of length 0 are left out."""
    task, number, length, rows = [], [], [], []
    for round_, episodes in enumerate(rounds, first):
        for played in episodes:
            packed = _pack(played)
            for lane in np.flatnonzero(played.length):
                task.append(lane)
                number.append(round_)
                length.append(int(played.length[lane]))
                rows.append(packed[lane, : length[-1]])
    return {
        "task": np.array(task, np.int32), "round": np.array(number, np.int32), "length": np.array(length, np.int32),
        "rows": np.concatenate(rows),
    }  # fmt: skip


def _pack(played: Episode) -> np.ndarray:
    """`replay.pack` on the host."""
    t = played.transitions
    scalars = np.stack([t.reward, t.training_reward, t.discount], axis=-1)
    return np.concatenate([t.obs, t.action, scalars, t.next_obs], axis=-1).astype(np.float32)
