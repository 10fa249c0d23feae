"""Whether the files of a data set hold what was written: all that nacre and Minari read of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from nacre.data import cache, statistics
from nacre.data import episodes as stored
from nacre.data.episodes import LoggedEpisode
from nacre.data.layout import EPISODES
from nacre.data.statistics import Counts, Statistics
from nacre.data.table import FILE as TABLE
from nacre.data.table import load, same


def verify(source: cache.Source, task_texts: dict[str, list[str]], told: Statistics) -> None:
    """Reads all of it. `task_texts` are the tasks of each split as environments take them, `told` the statistics.

    Raises NacreError, which names the file, where one holds something else.
    """
    counts = Counts(source.num_tasks)
    with stored.opened(source.folder / EPISODES) as file:
        table = cache.from_attributes(file, source.num_episodes)
        for number, episode in enumerate(cache.hashed(source, file, table)):
            _check_for_minari(file, number, episode, task_texts)
            counts.add(episode)
    kept = load(source.folder / TABLE, source.num_episodes)
    if (kept is None and (source.folder / TABLE).exists()) or (kept is not None and not same(kept, table)):
        raise cache.table_changed(source)
    if not statistics.same(counts.told(), told) or counts.steps != source.num_steps:
        raise cache.metadata_changed(source)


def _check_for_minari(file: Any, number: int, episode: LoggedEpisode, task_texts: dict[str, list[str]]) -> None:
    """ValueError where what Minari alone reads of an episode does not say the same."""
    group = file[f"episode_{number}"]
    if int(group.attrs["id"]) != number:
        raise ValueError(f"episode {number} has the id {group.attrs['id']}")
    if group.attrs["options/task"] != task_texts[episode.split][episode.task]:
        raise ValueError(f"episode {number} has the options of another task")
    for name, values in stored.ends(episode).items():
        if not np.array_equal(stored.read_flags(file, number, name), values.view(np.uint8)):
            raise ValueError(f"episode {number} has other {name} than were written")
    if "infos" in group and group["infos/training_reward"][0] != 0:
        raise ValueError(f"episode {number} has a training reward at its reset")
