"""A data set for other programs: a Minari data set, or a file in D4RL's layout, for every task."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nacre.data.dataset import DataSet, LoggedEpisode, environment_spec
from nacre.data.episodes import EpisodeFile, offline_extra
from nacre.data.layout import EPISODES, cannot_write, remove_old_drafts
from nacre.errors import NacreError, unknown
from nacre.families.family import task_text

LAYOUTS = ("minari", "d4rl")
Parts = dict[tuple[str, int], Any]


def export_data_set(data: DataSet, folder: Path, layout: str) -> list[Path]:
    """Writes the episodes of each task below a new folder, and tasks.json, which says whose they are. Returns where.

    'minari': FOLDER is a root for MINARI_DATASETS_PATH; the environment of a set is in its task from the first reset.
    'd4rl': a file a task, with next_observations and infos/training_reward; 'nacre data import d4rl' reads it back.
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    if folder.exists():
        raise NacreError(f"{folder} exists already; name a new folder.")
    draft = folder.with_name(f".{folder.name}.writing-{os.getpid()}")
    try:
        remove_old_drafts(folder)
        draft.mkdir(parents=True)
        names = (_minari if layout == "minari" else _d4rl)(data, draft)
        listed = [
            {"split": split, "task": task_text(data.tasks(split), task), "path": name}
            for (split, task), name in names.items()
        ]
        (draft / "tasks.json").write_text(json.dumps(listed, indent=1))
        os.rename(draft, folder)
    except (OSError, RuntimeError) as error:  # h5py has both for a full disk
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return [folder / name for name in names.values()]


def _by_task(data: DataSet) -> Iterator[tuple[str, int, int]]:
    for split, statistics in data.statistics.items():
        for task, count in enumerate(statistics["episodes"]):
            if count:
                yield split, task, int(statistics["steps"][task])


def _minari(data: DataSet, root: Path) -> Parts:
    from gymnasium import spaces

    new = offline_extra("minari.dataset.minari_storage").MinariStorage.new
    names, written = {}, {}
    with contextlib.ExitStack() as files:
        open_files: Parts = {}
        for split, task, _ in _by_task(data):
            id = f"{data.id.rpartition('-v')[0]}/{split}-{task:03}-v{data.id.rpartition('-v')[2]}"
            names[split, task] = id
            (root / id / "data").mkdir(parents=True)
            open_files[split, task] = files.enter_context(EpisodeFile(root / id / EPISODES))
            written[split, task] = 0
        for episode in data.episodes():
            of = episode.split, episode.task
            two_rewards = not np.array_equal(episode.reward, episode.training_reward)
            text = task_text(data.tasks(episode.split), episode.task)
            open_files[of].write(written[of], episode, text, two_rewards)
            written[of] += 1
    spec = environment_spec(data.family, data.train, data.test)
    for split, task, steps in _by_task(data):
        text, place = task_text(data.tasks(split), task), root / names[split, task]
        aside = place / "aside"
        (place / EPISODES).rename(aside)  # Minari begins a file of its own
        storage = new(
            place / "data",
            observation_space=spaces.Box(-np.inf, np.inf, (data.family.obs_dim,), np.float32),
            action_space=spaces.Box(-1.0, 1.0, (data.family.action_dim,), np.float32),
            env_spec=dataclasses.replace(spec, kwargs={**spec.kwargs, "task": text}),
        )
        aside.replace(place / EPISODES)
        storage.update_metadata({
            "dataset_id": names[split, task], "minari_version": data.versions["minari"],
            "total_episodes": written[split, task], "total_steps": steps, "author": {"nacre"}, "author_email": set(),
            "dataset_size": round((place / EPISODES).stat().st_size / 1e6, 1), "code_permalink": "",
            "requirements": ["nacre"], "algorithm_name": "",
            "description": f"Task {text} of {data.family.name}, out of {data.id}.",
        })  # fmt: skip
    return names


def _d4rl(data: DataSet, root: Path) -> Parts:
    names, filled = {}, {}
    family = data.family
    with contextlib.ExitStack() as files:
        open_files: Parts = {}
        for split, task, steps in _by_task(data):
            of = split, task
            names[of], filled[of] = f"{split}-{task:03}.hdf5", 0
            file = files.enter_context(offline_extra("h5py").File(root / names[of], "x"))
            for name, width in (("observations", family.obs_dim), ("next_observations", family.obs_dim),
                                ("actions", family.action_dim)):  # fmt: skip
                file.create_dataset(name, (steps, width), np.float32)
            for name in ("rewards", "infos/training_reward"):
                file.create_dataset(name, (steps,), np.float32)
            for name in ("terminals", "timeouts"):
                file.create_dataset(name, (steps,), bool)
            file.attrs["task"] = task_text(data.tasks(split), task)
            open_files[of] = file
        for episode in data.episodes():
            of = episode.split, episode.task
            _append(open_files[of], slice(filled[of], filled[of] + episode.steps), episode)
            filled[of] += episode.steps
    return names


def _append(file: Any, at: slice, episode: LoggedEpisode) -> None:
    file["observations"][at], file["next_observations"][at] = episode.obs[:-1], episode.obs[1:]
    file["actions"][at], file["rewards"][at] = episode.action, episode.reward
    file["infos/training_reward"][at] = episode.training_reward
    file["terminals" if episode.terminated else "timeouts"][at.stop - 1] = True
