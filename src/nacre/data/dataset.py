"""A data set: logged episodes of a family's tasks, with all that is known about them.

It is a Minari data set (docs/data.md). `Writer` makes one, `open_data_set` finds it again, `DataSet.logs` gives what
training reads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nacre.data import cache
from nacre.data.episodes import SPLITS, ContentHash, EpisodeFile, LoggedEpisode, checked, offline_extra
from nacre.data.layout import EPISODES, METADATA, all_ids, begin, cannot_write, exists, folder_of, nested, publish
from nacre.data.statistics import Counts, Statistics
from nacre.data.table import FILE as TABLE
from nacre.data.table import Rows, Table, save
from nacre.data.verification import verify
from nacre.errors import NacreError, shown, unknown
from nacre.families import plugins
from nacre.families.catalog import is_known, make_family, registered_by
from nacre.families.family import Family, num_tasks, task_text
from nacre.families.gymnasium_ids import environment_id
from nacre.learning.offline import Logs
from nacre.types import Tasks

__all__ = ["SPLITS", "DataSet", "LoggedEpisode", "Writer", "environment_spec", "open_data_set"]

SCHEMA = 1
"""Rises when nacre's part of the metadata changes its meaning."""

References = Mapping[str, Mapping[str, Iterable[float]]]
"""'train' and 'test' -> 'random' and 'reference': the return of a random and of a good policy on each task."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """Logged episodes of the tasks of a family. Opening one reads its metadata only."""

    id: str  # Minari's name for it, 'nacre/cheetah-vel/mixed-v0'
    path: Path  # its folder
    content_hash: str  # of the tasks and the logged arrays
    family: Family  # with its options
    train: Tasks  # [task, ...]
    test: Tasks
    quality: str
    recipe: dict[str, Any]  # how it was made
    versions: dict[str, str]  # with which programs
    statistics: Statistics
    references: dict[str, dict[str, list[float]]]  # as `References`; {} where there are none
    num_episodes: int
    num_steps: int
    identity: dict[str, Any]  # family, options and tasks as they are hashed

    def logs(self, split: str, discount: float) -> Logs:
        """All transitions of a split, in the order task, episode, time, memory-mapped. 'train': the train tasks'
        data; 'test': the test tasks' own; 'other': data in test tasks by policies of other tasks. NacreError where a
        task has none, or files are damaged."""
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        counts = self.statistics[split]["episodes"]
        empty = [task for task, count in enumerate(counts) if count == 0]
        if empty or not counts:
            whose = {"train": "train tasks", "test": "test tasks", "other": "test tasks by other tasks' policies"}
            which = "no data" if len(empty) == len(counts) else f"no data (task {empty[0]})"
            raise NacreError(f"{self.id} has {which} in its {whose[split]}; choose a data set that has.")
        return cache.logs(self._source, split, float(discount))

    def episodes(self) -> Iterator[LoggedEpisode]:
        """Every episode, in the order it was added. NacreError where files are damaged, at the end at the latest."""
        yield from cache.read(self._source, cache.known(self._source))

    def known(self) -> Table:
        """What is known of each episode, beside its arrays."""
        return cache.known(self._source)

    def verify(self) -> None:
        """Reads all of it again; NacreError, which names the file, where it is not what was written."""
        verify(self._source, _texts(self.train, self.test), self.statistics)

    def tasks(self, split: str) -> Tasks:
        """The tasks of a split."""
        return self.train if split == "train" else self.test

    def remove(self) -> None:
        """Deletes it, and what was made from it. NacreError where other data sets lie in its folder."""
        below = nested(self.path)
        if below:
            raise NacreError(
                f"other data sets lie in the folder of {self.id}, such as {self.id}/{below[0]}; remove these first."
            )
        for folder in (self.path, *cache.folders(self._source)):
            try:
                shutil.rmtree(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise cannot_write(folder, error) from error

    def returns(self, split: str) -> dict[str, list[float | None]]:
        """`return_min`, `return_mean` and `return_max` of each task's episodes; None where a task has no episode."""
        of_split = self.statistics[split]
        return {
            name: [
                value if number else None for value, number in zip(of_split[name], of_split["episodes"], strict=True)
            ]
            for name in ("return_min", "return_mean", "return_max")
        }

    def normalised(self, split: str) -> list[float | None] | None:
        """The mean return of each task, 0 being that of a random policy and 100 that of the reference; None where
        these are not known, the reference is not the better one, or the task has no episode."""
        known = self.references.get("train" if split == "train" else "test", {})
        if not {"random", "reference"} <= set(known):
            return None
        return _percentages(self.returns(split)["return_mean"], known["random"], known["reference"])

    def policies(self, split: str) -> dict[str, list[Any]]:
        """What policies earn in each 'train' or 'test' task: `random` actions, the `reference`, and the `last`
        checkpoint as a percentage of the way between them; {} where this is not known.

        `last` is None in each task where it is not known, or the reference is no better than random actions.
        """
        known = self.references.get(split, {})
        if not {"random", "reference"} <= set(known):
            return {}
        low, high = known["random"], known["reference"]
        last = self.recipe.get("last_checkpoint", {}).get(split, [])
        shares = _percentages(last, low, high) if len(last) == len(low) else [None] * len(low)
        return {"random": low, "reference": high, "last": shares}

    @property
    def _source(self) -> cache.Source:
        return cache.Source(
            self.path, self.id, self.content_hash, self.identity, _counts(self.train, self.test), self.num_episodes,
            self.num_steps, self.family.obs_dim, self.family.action_dim,
        )  # fmt: skip


def _percentages(values: Sequence[float | None], low: Sequence[float], high: Sequence[float]) -> list[float | None]:
    each = zip(values, low, high, strict=True)
    return [None if value is None or b <= a else 100 * (value - a) / (b - a) for value, a, b in each]


def open_data_set(id_or_path: str | Path) -> DataSet:
    """The data set of that name, or in that folder. NacreError where it is missing, damaged, or not nacre's."""
    path = Path(id_or_path)
    if not os.path.isfile(path / METADATA):  # unlike Path.is_file, no error for a name that is too long
        path = folder_of(str(id_or_path))
    file = path / METADATA
    if not file.is_file():
        known = all_ids()
        if not known:
            raise NacreError(f"there is no data set '{id_or_path}' in {path.parent}; make one with 'nacre collect'.")
        raise unknown("data set", str(id_or_path), known, "see 'nacre data list'.")
    try:
        metadata = json.loads(file.read_bytes())
        told = metadata.get("nacre")
    except PermissionError as error:
        raise NacreError(f"this user may not read {file}; change its permissions, or ask its owner.") from error
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise NacreError(f"{file} is damaged (no JSON object); restore it, or collect the data set again.") from error
    if told is None:
        raise NacreError(f"{path} is a data set that nacre did not write; import it with 'nacre data import'.")
    try:
        return _from_metadata(path, metadata, json.loads(told))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NacreError(
            f"{file} is damaged (nacre's part of it: {shown(error)}); restore it, or collect the data set again."
        ) from error


class Writer:
    """Writes a new data set, episode by episode; it gets its name when all of it is there.

        with Writer("nacre/point-robot/mixed-v0", family, train, test, "mixed", recipe) as writer:
            writer.add(episodes)
        data_set = writer.close()

    What is left of an interrupted one has no data set's name, and goes when the same one is written again.
    """

    def __init__(
        self, id: str, family: Family, train: Tasks, test: Tasks, quality: str, recipe: dict[str, Any], *,
        versions: dict[str, str] | None = None, references: References | None = None, description: str = "",
    ):  # fmt: skip
        """Raises NacreError where there is a data set of that name, or the extra 'offline' is not installed."""
        self._storage = offline_extra("minari.dataset.minari_storage").MinariStorage
        self.folder = folder_of(id)
        if self.folder.exists():
            raise exists(self.folder)
        self.id, self.family, self.train, self.test = id, family, _as_arrays(train), _as_arrays(test)
        self.quality, self.recipe, self.description = quality, recipe, description
        self.versions = {**_versions(), **(versions or {})}
        self.references: References = references or {}
        """May be set until `close`."""
        self._identity = _identity(family, self.train, self.test)
        self._num_tasks, self._texts = _counts(self.train, self.test), _texts(self.train, self.test)
        self._hash, self._rows, self._counts = ContentHash(self._identity), Rows(), Counts(self._num_tasks)
        self._done: DataSet | None = None
        self._draft, self._lock = begin(self.folder)
        self._file = EpisodeFile(self._draft / EPISODES)

    def add(self, episodes: Iterable[LoggedEpisode]) -> None:
        """Appends episodes, one at a time. NacreError for what no data set can hold, or a full disk: then all that
        was written is given up."""
        try:
            for episode in episodes:
                self._add(checked(episode, self.family, self._num_tasks))
        except (OSError, RuntimeError) as error:  # h5py has both for a full disk
            self.abandon()
            raise cannot_write(self.folder, error) from error
        except BaseException:
            self.abandon()
            raise

    def _add(self, episode: LoggedEpisode) -> None:
        two_rewards = not np.array_equal(episode.reward, episode.training_reward)
        text = self._texts[episode.split][episode.task]
        self._file.write(len(self._rows), episode, text, two_rewards)
        self._hash.add(episode)
        self._rows.add(episode._asdict(), episode.steps, two_rewards)
        self._counts.add(episode)

    def close(self) -> DataSet:
        """Gives the data set its name, and opens it."""
        if self._done is None:
            try:
                if len(self._rows) == 0:
                    raise NacreError(f"{self.id} would have no episodes; nothing is written.")
                self._file.close()
                self._write_metadata()
            except (OSError, RuntimeError) as error:
                self.abandon()
                raise cannot_write(self.folder, error) from error
            except BaseException:
                self.abandon()
                raise
            publish(self._draft, self.folder, self._lock)
            self._done = open_data_set(self.folder)
        return self._done

    def abandon(self) -> None:
        """Removes what was written."""
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self._file.close()
        self._lock.close()
        shutil.rmtree(self._draft, ignore_errors=True)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _write_metadata(self) -> None:
        """Minari's metadata by Minari, nacre's part in it."""
        from gymnasium import spaces

        episodes_file, aside = self._draft / EPISODES, self._draft / "episodes"
        episodes_file.rename(aside)  # Minari begins a file of its own
        storage = self._storage.new(
            self._draft / "data",
            observation_space=spaces.Box(-np.inf, np.inf, (self.family.obs_dim,), np.float32),
            action_space=spaces.Box(-1.0, 1.0, (self.family.action_dim,), np.float32),
            env_spec=environment_spec(self.family, self.train, self.test),
        )
        aside.replace(episodes_file)
        save(self._rows.table(), self._draft / TABLE)
        told = {
            "schema": SCHEMA, "content_hash": self._hash.hexdigest(), **self._identity,
            "plugins": plugins.remembered([registered_by(self.family.name)]),
            "quality": self.quality, "recipe": self.recipe, "versions": self.versions,
            "statistics": self._counts.told(),
            "references": {split: {kind: [float(v) for v in values] for kind, values in of.items()}
                           for split, of in self.references.items()},
        }  # fmt: skip
        storage.update_metadata(
            {
                "dataset_id": self.id, "minari_version": importlib.metadata.version("minari"),
                "total_episodes": len(self._rows), "total_steps": self._counts.steps,
                "dataset_size": round(episodes_file.stat().st_size / 1e6, 1), "author": {"nacre"},
                "author_email": set(), "code_permalink": "", "requirements": ["nacre"],
                "algorithm_name": str(self.recipe.get("algorithm", "")),
                "description": self.description or f"Logged episodes of tasks of {self.family.name}, {self.quality}.",
                "nacre": json.dumps(told),
            }
        )  # fmt: skip


def _texts(train: Tasks, test: Tasks) -> dict[str, list[str]]:
    """The tasks of each split as an environment's reset takes them."""
    splits = {"train": train, "test": test, "other": test}
    return {split: [task_text(tasks, index) for index in range(num_tasks(tasks))] for split, tasks in splits.items()}


def _as_arrays(tasks: Tasks) -> Tasks:
    return {name: np.array(values) for name, values in tasks.items()}


def _counts(train: Tasks, test: Tasks) -> dict[str, int]:
    return {"train": num_tasks(train), "test": num_tasks(test), "other": num_tasks(test)}


def _identity(family: Family, train: Tasks, test: Tasks) -> dict[str, Any]:
    """Family and tasks as JSON, exactly."""

    def plain(tasks: Tasks) -> dict[str, Any]:
        return {name: {"dtype": str(values.dtype), "values": values.tolist()} for name, values in tasks.items()}

    return {"family": family.name, "family_options": dataclasses.asdict(family),
            "tasks": {"train": plain(train), "test": plain(test)}}  # fmt: skip


def environment_spec(family: Family, train: Tasks, test: Tasks) -> Any:
    """The family's Gymnasium environment, the task being left to the reset."""
    import gymnasium

    spec = gymnasium.spec(environment_id(family.name))
    outside = not (family.in_range(train).all() and family.in_range(test).all())
    kwargs = {"family": family.name, **dataclasses.asdict(family), **({"allow_ood": True} if outside else {})}
    return dataclasses.replace(spec, kwargs=kwargs)


def _versions() -> dict[str, str]:
    found = {}
    for package in ("nacre", "minari", "gymnasium", "jax", "mujoco", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _from_metadata(path: Path, metadata: dict[str, Any], told: dict[str, Any]) -> DataSet:
    if told["schema"] > SCHEMA:
        raise NacreError(f"{path} was written by a newer nacre ({told['versions'].get('nacre')}); install that.")
    if not is_known(told["family"]):
        for module in told.get("plugins", []):
            plugins.import_plugin(str(module))
    tasks = {
        split: {name: np.array(of["values"], dtype=of["dtype"]) for name, of in told["tasks"][split].items()}
        for split in ("train", "test")
    }
    family, counts = make_family(told["family"], **told["family_options"]), _counts(tasks["train"], tasks["test"])
    if not re.fullmatch("[0-9a-f]{64}", str(told["content_hash"])):
        raise ValueError("no hash of its content")
    if any(len(each) != counts[split] for split in SPLITS for each in told["statistics"][split].values()):
        raise ValueError("statistics of other tasks")
    return DataSet(
        str(metadata["dataset_id"]), path, str(told["content_hash"]), family, tasks["train"], tasks["test"],
        str(told["quality"]), dict(told["recipe"]), dict(told["versions"]), dict(told["statistics"]),
        dict(told["references"]), int(metadata["total_episodes"]), int(metadata["total_steps"]),
        {name: told[name] for name in ("family", "family_options", "tasks")},
    )  # fmt: skip
