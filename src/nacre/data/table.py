"""What is known of each episode beside its arrays, in one small file: reading it from the episodes' attributes is
slow.

    data/episodes.npz    an array a field, [episode]; qualities by number, and their names

The attributes count: where the table is missing or no table, it is read from them, and `nacre data verify` reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nacre.data.episodes import INTEGERS, SPLITS, LoggedEpisode

FILE = Path("data") / "episodes.npz"


class Table(NamedTuple):
    """Fields of `LoggedEpisode` by episode, and sizes; each [episode]."""

    task: np.ndarray
    policy_step: np.ndarray
    policy_task: np.ndarray
    seed: np.ndarray
    split: np.ndarray  # number in SPLITS
    quality: np.ndarray  # number in qualities
    terminated: np.ndarray
    steps: np.ndarray
    has_training_reward: np.ndarray  # whether it differs from the reward somewhere
    qualities: np.ndarray  # [quality] of str

    def episode(self, number: int, obs: Any, action: Any, reward: Any, training_reward: Any) -> LoggedEpisode:
        """That episode, with these arrays."""
        numbers: dict[str, Any] = {name: int(getattr(self, name)[number]) for name in INTEGERS}
        return LoggedEpisode(
            split=SPLITS[self.split[number]], quality=str(self.qualities[self.quality[number]]), obs=obs, action=action,
            reward=reward, training_reward=training_reward, terminated=bool(self.terminated[number]), **numbers,
        )  # fmt: skip


class Rows:
    """A table that grows."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, ...]] = []
        self._qualities: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, known: Any, steps: int, has_training_reward: bool) -> None:
        """One more episode; `known` has the other fields by name."""
        quality = self._qualities.setdefault(str(known["quality"]), len(self._qualities))
        numbers = [int(known.get(name, -1)) for name in ("task", "policy_step", "policy_task", "seed")]
        split, ended = SPLITS.index(str(known["split"])), int(bool(known["terminated"]))
        self._rows.append((*numbers, split, quality, ended, steps, int(has_training_reward)))

    def table(self) -> Table:
        """What it came to."""
        columns = np.array(self._rows, np.int64).reshape(-1, 9).T
        return Table(*[*columns, np.array([*self._qualities], dtype=str)])


def save(table: Table, file: Path) -> None:
    """Writes the file."""
    with file.open("wb") as handle:
        np.savez(handle, **table._asdict())


def same(one: Table, other: Table) -> bool:
    """Whether two say the same of every episode."""
    numbers = [name for name in Table._fields if name not in ("quality", "qualities")]
    return np.array_equal(one.qualities[one.quality], other.qualities[other.quality]) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in numbers
    )


def load(file: Path, num_episodes: int) -> Table | None:
    """What the file holds; None where it holds no table of so many episodes."""
    try:
        with np.load(file) as arrays:
            table = Table(*(arrays[name] for name in Table._fields))
    except Exception:  # np.load has many ways to say that a file is damaged; the episodes tell the same
        return None
    sizes = [array.shape for array in table[:-1]]
    ranges = ((table.split, len(SPLITS)), (table.quality, len(table.qualities)))
    whole = all(size == (num_episodes,) for size in sizes) and all(
        array.dtype == np.int64 and array.min(initial=0) >= 0 and array.max(initial=0) < most for array, most in ranges
    )
    return table if whole else None
