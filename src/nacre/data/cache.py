"""What training reads: the transitions of a data set as flat float32 arrays in files of their own, opened in place.

    cache/logs/SPLIT-rows.npy      [row, width]  a packed transition a row (`replay.pack`): task, episode, time
    cache/logs/SPLIT-last_row.npy  [row] int32   row of the last step of its episode
    cache/logs/SPLIT-first_row.npy, SPLIT-num_rows.npy  [task] int32
    cache/returns-SPLIT-DISCOUNT/return_to_go.npy       [row] float32, of the training rewards
    cache/*/checksums.json         hash of the data set that it was made from, CRC-32 of each file

Made at the first load, verified at every one; what is damaged or of another data set is made anew.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from nacre.data import episodes as stored
from nacre.data.checksums import crc32
from nacre.data.episodes import SPLITS, ContentHash, LoggedEpisode
from nacre.data.layout import CACHE, EPISODES, METADATA, cannot_write, remove_old_drafts, user_cache
from nacre.data.table import FILE as TABLE
from nacre.data.table import Rows, Table, load, same
from nacre.errors import NacreError
from nacre.learning.offline import Logs

VERSION = 1
CHECKSUMS = "checksums.json"
RETURNS = "return_to_go.npy"
ROWS = 1 << 18
"""Rows whose returns to go are computed at a time, and those of the episode that they cut."""
TOLD_EVERY = 5.0
"""Seconds between two lines about how far the making is."""

Fill = Callable[[Path], None]


class Source(NamedTuple):
    """The data set that a cache is of."""

    folder: Path
    name: str
    content_hash: str
    tasks: Any  # as they are hashed
    num_tasks: dict[str, int]
    num_episodes: int
    num_steps: int
    obs_dim: int
    action_dim: int


def logs(source: Source, split: str, discount: float) -> Logs:
    """The logs of a split, memory-mapped."""
    files = {name: f"{split}-{name}.npy" for name in ("rows", "last_row", "first_row", "num_rows")}
    folder = _folder(source, "logs", [*files.values()], lambda into: _fill_logs(source, into))
    arrays = {name: np.load(folder / file, mmap_mode="r") for name, file in files.items()}
    action_end = source.obs_dim + source.action_dim

    def fill_returns(into: Path) -> None:
        rewards, last_row = arrays["rows"][:, action_end + 1], arrays["last_row"]
        with _begun(into / RETURNS, (len(last_row),)) as file:
            for part in returns_to_go(rewards, last_row, discount):
                file.write(part.astype(np.float32).data)

    returns = _folder(source, f"returns-{split}-{discount!r}", [RETURNS], fill_returns)
    return Logs(return_to_go=np.load(returns / RETURNS, mmap_mode="r"), **arrays)


def returns_to_go(rewards: Any, last_row: Any, discount: float) -> Iterator[np.ndarray]:
    """Discounted sums of rewards [row] from each row to the end of its episode, float64, a part after the other."""
    start, num_rows = 0, len(last_row)
    while start < num_rows:
        end = int(last_row[min(start + ROWS, num_rows) - 1]) + 1  # with the whole of the episode that they cut
        total = np.array(rewards[start:end], np.float64)
        last = np.unique(last_row[start:end]) - start
        steps = np.diff(last, prepend=-1)
        for ahead in range(1, int(steps.max())):
            at = last[steps > ahead] - ahead
            total[at] += discount * total[at + 1]
        yield total
        start = end


def read(source: Source, table: Table) -> Iterator[LoggedEpisode]:
    """Every episode in the order of the file; what is known of it from the table. NacreError, at the end of the last
    one at the latest, where they are not what was written; it names the file that is wrong."""
    with stored.opened(source.folder / EPISODES) as file:
        try:
            yield from hashed(source, file, table)
        except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
            for _ in hashed(source, file, from_attributes(file, source.num_episodes)):
                pass  # it raises where the episodes are wrong themselves
            raise table_changed(source) from error


def hashed(source: Source, file: Any, table: Table) -> Iterator[LoggedEpisode]:
    """Every episode of the open file. ValueError, at the end of the last one at the latest, where they are not what was
    written."""
    progress, found = _Progress(source), ContentHash(source.tasks)
    for number in range(source.num_episodes):
        episode = _read_one(file, table, number)
        found.add(episode)
        yield episode
        progress.tell(number + 1)
    if found.hexdigest() != source.content_hash:
        raise ValueError("other content than was written")


def _read_one(file: Any, table: Table, number: int) -> LoggedEpisode:
    obs, action, reward = (stored.read_array(file, number, name) for name in ("observations", "actions", "rewards"))
    training_reward = reward
    if table.has_training_reward[number]:
        training_reward = stored.read_array(file, number, "infos/training_reward")[1:]
    if not len(reward) == table.steps[number] == len(obs) - 1 == len(action) == len(training_reward):
        raise ValueError(f"episode {number} has another length")
    return table.episode(number, obs, action, reward, training_reward)


def known(source: Source) -> Table:
    """What is known of each episode."""
    kept = load(source.folder / TABLE, source.num_episodes)
    if kept is not None and _is_of(kept, source):
        return kept
    with stored.opened(source.folder / EPISODES) as file:
        table = from_attributes(file, source.num_episodes)
        if kept is not None and not same(kept, table):
            raise table_changed(source)
        if not _is_of(table, source):
            for _ in hashed(source, file, table):
                pass  # it raises where the episodes are wrong themselves
            raise metadata_changed(source)
    return table


def _is_of(table: Table, source: Source) -> bool:
    """Whether a table can be of this data set: its tasks are there, and there are as many steps."""
    most = np.array([source.num_tasks[split] for split in SPLITS])[table.split]
    return bool(((table.task >= 0) & (table.task < most) & (table.steps > 0)).all()) and (
        sum(map(int, table.steps)) == source.num_steps
    )


def from_attributes(file: Any, num_episodes: int) -> Table:
    """The table as the open file itself says it."""
    if len(file) != num_episodes:
        raise ValueError(f"{len(file)} episodes of {num_episodes}")
    rows = Rows()
    for number in range(num_episodes):
        group = file[f"episode_{number}"]
        rows.add(dict(group.attrs), int(group.attrs["total_steps"]), "infos" in group)
    return rows.table()


def table_changed(source: Source) -> NacreError:
    """The error for a table that says something else than the episodes."""
    return NacreError(
        f"{source.folder / TABLE} is damaged (it says something else than the episodes do); restore it, or remove it: "
        "then the episodes are asked."
    )


def metadata_changed(source: Source) -> NacreError:
    """The error for metadata that say something else than the episodes."""
    return NacreError(
        f"{source.folder / METADATA} is damaged (it tells of other steps or returns than the episodes have); restore "
        "it, or collect the data set again."
    )


def folders(source: Source) -> tuple[Path, Path]:
    """Where its cache may lie: beside it, or in the user's cache folder."""
    return source.folder / CACHE, user_cache() / source.content_hash[:32]


def _folder(source: Source, name: str, files: list[str], fill: Fill) -> Path:
    """The part of the cache of this name; made by `fill` where these files are not there or not whole."""
    places = [place / name for place in folders(source)]
    for place in places:
        if place.is_dir() and _is_whole(place, source.content_hash, files):
            return place
    chosen = next((place for place in places if _can_hold(place)), None)
    if chosen is None:
        raise NacreError(
            f"neither {places[0].parent} nor {places[1].parent} can be written, where what training reads of "
            f"{source.name} is to lie; change the permissions there, or set XDG_CACHE_HOME."
        )
    place, draft = chosen, chosen.with_name(f".{name}.writing-{os.getpid()}")
    try:
        remove_old_drafts(place)
        draft.mkdir()
        fill(draft)
        sums = {file.name: crc32(file) for file in draft.iterdir()}
        told = {"version": VERSION, "content_hash": source.content_hash, "crc32": sums}
        (draft / CHECKSUMS).write_text(json.dumps(told, indent=1))
        if not _is_whole(place, source.content_hash, files):  # else another program was faster
            shutil.rmtree(place, ignore_errors=True)
            try:
                os.rename(draft, place)
            except OSError:
                if not _is_whole(place, source.content_hash, files):
                    raise
    except OSError as error:
        raise cannot_write(place, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place


def _can_hold(place: Path) -> bool:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(place.parent, os.W_OK)


def _is_whole(folder: Path, content_hash: str, files: list[str]) -> bool:
    try:
        told = json.loads((folder / CHECKSUMS).read_bytes())
        return (told["version"], told["content_hash"]) == (VERSION, content_hash) and all(
            crc32(folder / name) == told["crc32"][name] for name in files
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _fill_logs(source: Source, into: Path) -> None:
    """Writes the logs of all splits, reading every episode once."""
    table = known(source)
    split, task, steps = table.split, table.task, table.steps
    starts = np.zeros(len(split), np.int64)
    width = 2 * source.obs_dim + source.action_dim + 3
    files = {}
    try:
        for index, name in enumerate(SPLITS):
            chosen = np.flatnonzero(split == index)
            order = chosen[np.argsort(task[chosen], kind="stable")]
            ends = np.cumsum(steps[order])
            starts[order] = ends - steps[order]
            num_rows = np.bincount(task[order], steps[order], source.num_tasks[name]).astype(np.int32)
            np.save(into / f"{name}-last_row.npy", np.repeat((ends - 1).astype(np.int32), steps[order]))
            np.save(into / f"{name}-num_rows.npy", num_rows)
            np.save(into / f"{name}-first_row.npy", np.cumsum(num_rows, dtype=np.int32) - num_rows)
            shape = (int(steps[order].sum()), width)
            files[name] = _begun(into / f"{name}-rows.npy", shape)
        _fill_rows(source, table, files, starts)
    finally:
        for file in files.values():
            file.close()


def _fill_rows(source: Source, table: Table, files: dict[str, IO[bytes]], starts: np.ndarray) -> None:
    """Writes every episode to where it starts in the file of its split."""
    first = {name: file.tell() for name, file in files.items()}
    for episode, start in zip(read(source, table), starts, strict=True):
        rows = packed(episode)
        file = files[episode.split]
        file.seek(first[episode.split] + int(start) * rows[0].nbytes)
        file.write(rows.data)


def packed(episode: LoggedEpisode) -> np.ndarray:
    """The transitions of an episode as rows [T, width], on the host: `replay.pack`."""
    discount = np.ones(episode.steps, np.float32)
    discount[-1] = not episode.terminated
    scalars = np.stack([episode.reward, episode.training_reward, discount], axis=-1)
    return np.concatenate([episode.obs[:-1], episode.action, scalars, episode.obs[1:]], axis=-1, dtype=np.float32)


def _begun(file: Path, shape: tuple[int, ...]) -> IO[bytes]:
    """A .npy file of float32 numbers, open behind its header: its content is written piece by piece. A full disk is an
    OSError then, which it would not be in a memory map."""
    handle = file.open("wb")
    np.lib.format.write_array_header_1_0(handle, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return handle


class _Progress:
    """Lines on stderr about a long reading."""

    def __init__(self, source: Source):
        self._source, self._told = source, time.monotonic()

    def tell(self, number: int) -> None:
        """A line, if the last one is long ago."""
        if time.monotonic() - self._told >= TOLD_EVERY:
            self._told = time.monotonic()
            part = 100 * number // self._source.num_episodes
            print(f"nacre: reading {self._source.name}, {part} %", file=sys.stderr)
