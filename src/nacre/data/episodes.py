"""Episodes in a file: Minari's HDF5 layout, a group an episode, float32.

Minari reads these files. nacre writes them without Minari's own writer, which keeps every array in pieces that may
grow, so that files are larger, and opens the file anew for every few episodes.

    episode_7/observations [T + 1, obs_dim]  actions [T, action_dim]  rewards, terminations, truncations [T]
    episode_7/infos/training_reward [T + 1]  where it differs from the reward; the first, of the reset, is 0
    attributes: Minari's id, total_steps, seed, options/task; the other fields of `LoggedEpisode`
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nacre.errors import NacreError, imported, shown
from nacre.families.family import Family
from nacre.types import check_actions

SPLITS = ("train", "test", "other")
"""Data of the train tasks; of the test tasks, by their own policies; in the test tasks, by policies of other tasks.
A task of the last two is a test task."""
MOST_ATTRIBUTES = 32
"""Attributes of an episode that are kept with its name, at most."""
SMALL = 1024
"""Bytes of an array that is kept with its name, at most."""
INTEGERS = ("task", "policy_step", "policy_task", "seed")


class LoggedEpisode(NamedTuple):
    """One episode of the log of a task."""

    task: int  # its number within its split's tasks
    split: str  # of SPLITS
    quality: str  # 'random', 'medium', 'expert', ...
    policy_step: int  # updates or environment steps of the policy that acted; -1: not known
    policy_task: int  # the task that it was trained on, within its tasks: for 'other' a train task; -1: not known
    seed: int  # of the reset; -1: not known
    obs: Any  # [T + 1, obs_dim] float32
    action: Any  # [T, action_dim] float32
    reward: Any  # [T] float32
    training_reward: Any  # [T] float32
    terminated: bool  # whether the task ended it, else a time limit did

    @property
    def steps(self) -> int:
        """Transitions in it."""
        return len(self.reward)


def checked(episode: LoggedEpisode, family: Family, num_tasks: dict[str, int]) -> LoggedEpisode:
    """The episode with float32 arrays and plain numbers; NacreError for one that no data set can hold."""
    arrays: dict[str, Any] = {
        name: _float32(getattr(episode, name), f"an episode of task {episode.task} has {name}")
        for name in ("obs", "action", "reward", "training_reward")
    }
    steps, obs_dim, action_dim = arrays["reward"].size, family.obs_dim, family.action_dim
    shapes = {"obs": (steps + 1, obs_dim), "action": (steps, action_dim)}
    wrong = [name for name, array in arrays.items() if array.shape != shapes.get(name, (steps,))]
    if steps == 0 or wrong:
        name = (wrong or ["reward"])[0]
        raise NacreError(
            f"an episode of task {episode.task} has {name} of shape {arrays[name].shape}; for T steps, T at least 1, "
            f"observations are [T + 1, {obs_dim}], actions [T, {action_dim}] and rewards [T]."
        )
    if steps > family.horizon:
        raise NacreError(
            f"an episode of task {episode.task} has {steps:,} steps, but those of {family.name} have "
            f"{family.horizon:,} at most; cut it where an episode ends."
        )
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise NacreError(f"an episode of task {episode.task} has {name} that is not finite; leave it out.")
    check_actions(f"an action in an episode of task {episode.task}", arrays["action"])
    if episode.split not in SPLITS or not 0 <= episode.task < num_tasks[episode.split]:
        raise NacreError(
            f"an episode is of task {episode.task} of '{episode.split}'; the data set has {num_tasks['train']} "
            f"train tasks ('train') and {num_tasks['test']} test tasks ('test', 'other')."
        )
    quality = str(episode.quality)
    if not quality.isprintable():  # HDF5 holds neither zeros nor what is no Unicode
        raise NacreError(f"an episode has the quality '{shown(quality)}'; write one in letters.")
    numbers: dict[str, Any] = {name: int(getattr(episode, name)) for name in INTEGERS}
    return episode._replace(**arrays, **numbers, quality=quality, terminated=bool(episode.terminated))


def _float32(values: Any, what: str) -> np.ndarray:
    try:
        array = np.asarray(values)
        if array.dtype.kind in "cSUmM" or array.dtype.names is not None:
            raise ValueError(f"values of type {array.dtype}")
        return np.ascontiguousarray(array, np.float32)
    except (ValueError, TypeError) as error:
        reason = shown((str(error).splitlines() or [""])[0])
        raise NacreError(f"{what} that is no array of numbers ({reason}); write numbers.") from error


class ContentHash:
    """A hash of what a data set says: its tasks, and every episode in the order of the file."""

    def __init__(self, tasks: Any):
        self._hash = hashlib.sha256(json.dumps(tasks, sort_keys=True).encode())

    def add(self, episode: LoggedEpisode) -> None:
        """Takes one more episode in."""
        told = [*(getattr(episode, name) for name in INTEGERS), episode.split, episode.quality, episode.terminated]
        self._hash.update(json.dumps([*told, episode.steps]).encode())
        for array in (episode.obs, episode.action, episode.reward, episode.training_reward):
            self._hash.update(np.ascontiguousarray(array, "<f4").data)

    def hexdigest(self) -> str:
        """What it came to."""
        return self._hash.hexdigest()


class EpisodeFile:
    """A new file that episodes are added to. By HDF5's own calls, which are faster than h5py's and need less space:
    h5py keeps small arrays and many attributes in places of their own."""

    def __init__(self, file: Path):
        self._low = low = offline_extra("h5py")
        self._file = low.File(file, "x", track_order=True, libver=("v110", "v110"))
        self._scalar = low.h5s.create(low.h5s.SCALAR)
        self._types = {
            kind: low.h5t.py_create(np.dtype(kind), logical=True) for kind in (np.float32, np.bool_, np.int64)
        } | {str: low.h5t.py_create(low.string_dtype(), logical=True)}
        self._group = low.h5p.create(low.h5p.GROUP_CREATE)
        self._group.set_attr_phase_change(MOST_ATTRIBUTES, MOST_ATTRIBUTES - 8)
        self._array, self._small_array = (low.h5p.create(low.h5p.DATASET_CREATE) for _ in range(2))
        self._small_array.set_layout(low.h5d.COMPACT)
        for creation in (self._group, self._array, self._small_array):
            creation.set_obj_track_times(False)  # equal episodes make equal files

    def write(self, number: int, episode: LoggedEpisode, task: str, two_rewards: bool) -> None:
        """Adds an episode; `task` is its task as the environment's reset takes it, `two_rewards` says whether its
        training rewards are kept beside its rewards."""
        group = self._new_group(self._file.id, f"episode_{number}")
        arrays = {"observations": episode.obs, "actions": episode.action, "rewards": episode.reward, **ends(episode)}
        for name, array in arrays.items():
            self._add_array(group, name, array)
        if two_rewards:
            with_reset = np.append(np.float32(0), episode.training_reward)
            self._add_array(self._new_group(group, "infos"), "training_reward", with_reset)
        numbers = {name: getattr(episode, name) for name in INTEGERS} | {"id": number, "total_steps": episode.steps}
        for name, value in numbers.items():
            if name != "seed" or value >= 0:
                self._add_attribute(group, name, np.int64, np.array(value, np.int64))
        self._add_attribute(group, "terminated", np.bool_, np.array(episode.terminated))
        for name, text in {"options/task": task, "split": episode.split, "quality": episode.quality}.items():
            self._add_attribute(group, name, str, np.array(text, dtype=self._low.string_dtype()))

    def close(self) -> None:
        """Writes what is still in memory."""
        self._file.close()

    def __enter__(self) -> EpisodeFile:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _new_group(self, parent: Any, name: str) -> Any:
        return self._low.h5g.create(parent, name.encode(), gcpl=self._group)

    def _add_array(self, group: Any, name: str, array: np.ndarray) -> None:
        low, creation = self._low, self._small_array if array.nbytes < SMALL else self._array
        space = low.h5s.create_simple(array.shape)
        low.h5d.create(group, name.encode(), self._types[array.dtype.type], space, dcpl=creation).write(
            low.h5s.ALL, low.h5s.ALL, np.ascontiguousarray(array)
        )

    def _add_attribute(self, group: Any, name: str, kind: Any, value: np.ndarray) -> None:
        self._low.h5a.create(group, name.encode(), self._types[kind], self._scalar).write(value)


def ends(episode: LoggedEpisode) -> dict[str, np.ndarray]:
    """Minari's flags of an episode, [T] of bool: which step the task ended, which one a time limit."""
    none = np.zeros(episode.steps, np.bool_)
    last = np.arange(episode.steps) == episode.steps - 1
    return {"terminations": last if episode.terminated else none, "truncations": none if episode.terminated else last}


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """The file, open for reading. What it does not hold as it should becomes a NacreError."""
    h5py = offline_extra("h5py")
    if not file.is_file():
        raise NacreError(f"{file} is missing; restore it, or collect the data set again.")
    try:
        with h5py.File(file, "r") as handle:
            yield handle
    except PermissionError as error:
        raise NacreError(f"this user may not read {file}; change its permissions, or ask its owner.") from error
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise NacreError(f"{file} is damaged ({reason}); restore it, or collect the data set again.") from error


def read_array(file: Any, number: int, name: str) -> np.ndarray:
    """An array of an episode, float32. (By HDF5's own calls, which are faster than h5py's.)"""
    low = offline_extra("h5py")
    array = low.h5d.open(file.id, f"episode_{number}/{name}".encode())
    values = np.empty(array.shape, np.float32)
    array.read(low.h5s.ALL, low.h5s.ALL, values)
    return values


def read_flags(file: Any, number: int, name: str) -> np.ndarray:
    """The bytes of an array of bools of an episode, [T] of uint8: 0 and 1, where the file is not damaged."""
    array = file[f"episode_{number}/{name}"]
    if array.dtype != np.bool_:
        raise ValueError(f"episode {number} has {name} of {array.dtype}")
    low, values = offline_extra("h5py"), np.empty(array.shape, np.uint8)
    array.id.read(low.h5s.ALL, low.h5s.ALL, values, mtype=array.id.get_type())
    return values


def offline_extra(module: str) -> Any:
    """A module of the extra 'offline'."""
    return imported(
        module,
        f"data sets need {module}, which is not installed; install nacre with its extra: pip install 'nacre[offline]'.",
    )
