"""Data sets of other programs, written anew as nacre's: which task each file is of comes from a JSON file.

    [{"task": "direction=1", "path": "task0.hdf5"},
     {"task": "direction=-1", "path": "task1.hdf5", "split": "test", "quality": "expert"}]

Paths are below the imported folder; one task may have several. `LAYOUTS` names what can be read.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nacre.data import object_arrays
from nacre.data.dataset import SPLITS, DataSet, LoggedEpisode, Writer
from nacre.data.episodes import offline_extra
from nacre.errors import NacreError, shown, unknown
from nacre.families.family import Family, num_tasks, task_text
from nacre.types import Tasks

ROWS = 1 << 17
"""Rows of a file that are read at a time."""


DAMAGE = (
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
)
"""What reading a file that is damaged, or of another layout, raises."""


class Part(NamedTuple):
    """A file or folder of episodes of one task."""

    split: str
    task: int
    path: Path
    quality: str


class Steps(NamedTuple):
    """The steps of one episode as a file has them."""

    obs: np.ndarray  # [T + 1, obs_dim]
    action: np.ndarray
    reward: np.ndarray
    terminal: bool  # as the file says, which may mean a time limit
    policy_step: int = -1
    training_reward: np.ndarray | None = None
    end_is_known: bool = True  # else the last observation is that of the last step again, its successor is not known


def import_data_set(
    layout: str, folder: Path, id: str, family: Family, tasks: Path, *, quality: str = "imported"
) -> DataSet:
    """The episodes in `folder`, as a new data set of that name. `layout` is one of LAYOUTS, `tasks` a JSON file.

    An episode counts as terminated where the file says so, the family's can terminate, and it is shorter than its
    horizon: other programs set the flag at time limits too. Raises NacreError for a file that is damaged, or not what
    the layout says.
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    parts, of_split = read_tasks(tasks, folder, family, quality)
    recipe = {"imported": {"layout": layout, "tasks": hashlib.sha256(tasks.read_bytes()).hexdigest()}}
    with Writer(id, family, of_split["train"], of_split["test"], quality, recipe,
                description=f"Imported from files in the layout of {layout}.") as writer:  # fmt: skip
        for part in parts:
            writer.add(_episodes(part, layout, family))
    return writer.close()


def read_tasks(file: Path, folder: Path, family: Family, quality: str) -> tuple[list[Part], dict[str, Tasks]]:
    """(which file is of which task, the tasks of each split) as the JSON file says."""
    try:
        entries = json.loads(file.read_text())
        told = [(str(e["task"]), str(e["path"]), e.get("split", "train"), str(e.get("quality", quality)))
                for e in entries]  # fmt: skip
    except OSError as error:
        raise NacreError(f"cannot read {file} ({error.strerror}); write which task each file is of there.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NacreError(
            f'{file} is no list such as [{{"task": "velocity=1", "path": "task0.hdf5", "split": "train"}}]; see '
            "docs/data.md."
        ) from error
    texts: dict[str, list[str]] = {"train": [], "test": []}
    found: dict[str, list[Tasks]] = {"train": [], "test": []}
    parts = []
    for text, path, split, called in told:
        if split not in SPLITS:
            raise unknown("split", str(split), SPLITS)
        if not os.path.exists(folder / path):  # unlike Path.exists, no error for a name that is too long
            raise NacreError(f"{folder / path} is missing; {file} names it.")
        side = "train" if split == "train" else "test"
        task = family.parse_task(text, allow_ood=True)
        exact = task_text(task, 0)
        if exact not in texts[side]:
            texts[side].append(exact)
            found[side].append(task)
        parts.append(Part(split, texts[side].index(exact), folder / path, called))
    if not parts:
        raise NacreError(f"{file} names no task; write which task each file is of there.")
    some = found["train"] + found["test"]
    none = {name: values[:0] for name, values in some[0].items()}
    tasks = {side: {name: np.concatenate([none[name], *(t[name] for t in of)]) for name in none}
             for side, of in found.items()}  # fmt: skip
    assert num_tasks(tasks["train"]) == len(texts["train"])
    return parts, tasks


def _episodes(part: Part, layout: str, family: Family) -> Iterator[LoggedEpisode]:
    found = False
    policy_task = -1 if part.split == "other" else part.task  # whose policies acted there, no file says
    try:
        for steps in LAYOUTS[layout](part.path):
            length = len(steps.reward)
            if length > family.horizon:
                raise NacreError(
                    f"{part.path} has an episode of {length:,} steps, but those of {family.name} have "
                    f"{family.horizon:,} at most; {_ENDS[layout]}."
                )
            terminated = bool(steps.terminal) and family.can_terminate and length < family.horizon
            steps = steps if terminated or steps.end_is_known else _without_last(steps)
            if len(steps.reward) == 0:
                continue
            found = True
            reward = steps.reward if steps.training_reward is None else steps.training_reward
            yield LoggedEpisode(part.task, part.split, part.quality, steps.policy_step, policy_task, -1,
                                steps.obs, steps.action, steps.reward, reward, terminated)  # fmt: skip
    except DAMAGE as error:
        reason = shown((str(error).splitlines() or [""])[0], 120)
        raise NacreError(
            f"{part.path} cannot be read as {layout} ({reason}); it is damaged, or of another layout."
        ) from error
    if not found:
        raise NacreError(f"{part.path} holds no episode; leave it out of the list of tasks.")


def _without_last(steps: Steps) -> Steps:
    """The steps but the last."""
    training = steps.training_reward if steps.training_reward is None else steps.training_reward[:-1]
    return steps._replace(
        obs=steps.obs[:-1], action=steps.action[:-1], reward=steps.reward[:-1], training_reward=training
    )


def _numeric(array: Any, name: str) -> Any:
    """The array itself, of a file or in memory; ValueError where it is not of real numbers or bools."""
    dtype = getattr(array, "dtype", None)
    if dtype is None or dtype.kind not in "biuf":
        raise ValueError(f"'{name}' is no array of numbers" + ("" if dtype is None else f" but of {dtype}"))
    return array


# ----------------------------------------------------------------------------------------------------------------------
# MACAW


def macaw_episodes(file: Path) -> Iterator[Steps]:
    """MACAW's replay buffer in HDF5: rows of an episode from its last step to its first, without bounds.

    `terminal_discounts` is gamma to the power of the steps to the end, so that where it is gamma an episode ends (and,
    in the order of the file, begins). A buffer that went round has cut an episode: what is left of it counts as one
    that a time limit ended. `mc_rewards`, `terminal_obs` follow from the rest and are not read.
    """
    with offline_extra("h5py").File(file, "r") as handle:
        discount = float(_numeric(handle["discount_factor"], "discount_factor")[()])
        if not 0 < discount < 1:
            raise ValueError(f"discount_factor is {discount}")
        total, kept = len(handle["obs"]), None
        for start in range(0, total, ROWS):
            rows = _macaw_rows(handle, slice(start, start + ROWS))
            if kept is not None:
                rows = {name: np.concatenate([kept[name], part]) for name, part in rows.items()}
            begins = _macaw_begins(rows, discount)
            for first, end in itertools.pairwise(begins):
                yield _macaw_episode(rows, first, end)
            kept = {name: part[begins[-1] :] for name, part in rows.items()}
        if kept is not None:
            yield _macaw_episode(kept, 0, len(kept["obs"]))


def _macaw_rows(handle: Any, at: slice) -> dict[str, np.ndarray]:
    names = ("obs", "actions", "next_obs", "rewards", "terminals", "terminal_discounts")
    rows = {name: np.asarray(_numeric(handle[name], name)[at]) for name in names}
    sizes = {len(part) for part in rows.values()}
    if len(sizes) > 1:
        raise ValueError("its arrays have different lengths")
    size = sizes.pop()
    return rows | {name: rows[name].reshape(size) for name in ("rewards", "terminals", "terminal_discounts")}


def _macaw_begins(rows: dict[str, np.ndarray], discount: float) -> list[int]:
    """Rows at which an episode begins in the order of the file: its last steps."""
    last = np.isclose(rows["terminal_discounts"], discount, rtol=1e-5, atol=0)
    cut = np.ones(len(last), bool)
    cut[1:] = (rows["next_obs"][1:] != rows["obs"][:-1]).any(axis=1)
    return [int(row) for row in np.flatnonzero(last | cut)]


def _macaw_episode(rows: dict[str, np.ndarray], first: int, end: int) -> Steps:
    at = slice(first, end)
    obs = np.concatenate([rows["obs"][at][::-1], rows["next_obs"][first : first + 1]])
    return Steps(obs, rows["actions"][at][::-1], rows["rewards"][at][::-1], bool(rows["terminals"][first]))


# ----------------------------------------------------------------------------------------------------------------------
# NumPy files


def npy_episodes(folder: Path) -> Iterator[Steps]:
    """A folder of trajectories of a task, `trj_evalsample<n>_step<k>.npy`, as FOCAL, CSRO, IDAQ and ER-TRL write them:
    rows (observation, action, reward, next observation), perhaps with a flag at the end. `k` is the policy's step.

    A folder with obs.npy, actions.npy, rewards.npy, next_obs.npy and terminals.npy (CORRO, UNICORN) holds its steps one
    after another, [step, ...] or [step, trajectory, ...]; an episode continues as long as an observation is the next
    observation of the step before.
    """
    files = sorted(folder.glob("trj_*.npy"), key=lambda file: [int(n) for n in re.findall(r"\d+", file.name)][::-1])
    if not files:
        yield from _npy_steps(folder)
    for file in files:
        rows = object_arrays.load(file)
        if rows.ndim != 2 or rows.shape[1] not in (4, 5) or not rows.dtype.hasobject:
            raise ValueError(f"{file.name} has shape {rows.shape}, not rows of four or five")
        columns = zip(("observations", "actions", "rewards", "next observations", "flags"), rows.T, strict=False)
        stacked = [_numeric(np.stack([np.ravel(x) for x in column]), name) for name, column in columns]
        obs, action, reward, next_obs = stacked[:4]
        ended = len(stacked) == 5 and bool(stacked[4][-1, 0])
        if (obs[1:] != next_obs[:-1]).any():
            raise ValueError(f"{file.name} is no single trajectory")
        step = re.search(r"step(\d{1,18})(?!\d)", file.name)
        yield Steps(np.concatenate([obs, next_obs[-1:]]), action, reward[:, 0], ended, int(step[1]) if step else -1)


def _npy_steps(folder: Path) -> Iterator[Steps]:
    names = ("obs", "actions", "rewards", "next_obs", "terminals")
    arrays = {name: _numeric(object_arrays.load(folder / f"{name}.npy"), name) for name in names}
    shapes = {array.shape[: arrays["obs"].ndim - 1] for array in arrays.values()}
    if arrays["obs"].ndim not in (2, 3) or len(shapes) > 1:
        raise ValueError(f"its arrays have shapes {', '.join(str(array.shape) for array in arrays.values())}")
    for trajectory in range(arrays["obs"].shape[1]) if arrays["obs"].ndim == 3 else [...]:
        one = {name: array[:, trajectory] if trajectory is not ... else array for name, array in arrays.items()}
        steps = len(one["obs"])
        yield from _split_steps(
            one["obs"], one["actions"].reshape(steps, -1), one["rewards"].reshape(steps), one["next_obs"],
            one["terminals"].reshape(steps) != 0, np.zeros(steps, bool),
        )  # fmt: skip


def _split_steps(
    obs: Any, action: Any, reward: Any, next_obs: Any, terminal: np.ndarray, timeout: np.ndarray, training: Any = None
) -> Iterator[Steps]:
    """Flat arrays of steps as episodes; one ends where a flag says so, or the next observation is another."""
    first, total = 0, len(terminal)
    for start in range(0, total, ROWS):
        stop = min(start + ROWS, total)
        ends = terminal[start:stop] | timeout[start:stop]
        following = np.asarray(obs[start + 1 : stop + 1])
        ends[: len(following)] |= (np.asarray(next_obs[start:stop][: len(following)]) != following).any(axis=1)
        if stop == total:
            ends[-1] = True
        for last in map(int, np.flatnonzero(ends) + start):
            at = slice(first, last + 1)
            episode = np.concatenate([obs[at], next_obs[last : last + 1]])
            yield Steps(episode, np.asarray(action[at]), np.asarray(reward[at]), bool(terminal[last]), -1,
                        None if training is None else np.asarray(training[at]))  # fmt: skip
            first = last + 1


# ----------------------------------------------------------------------------------------------------------------------
# D4RL


def d4rl_episodes(file: Path) -> Iterator[Steps]:
    """D4RL's HDF5: observations, actions, rewards, terminals, timeouts, one step after another.

    Where there is no next_observations, what follows the last step of an episode is not known: its observation stands
    for that once more.
    """
    with offline_extra("h5py").File(file, "r") as handle:
        obs, action = (_numeric(handle[name], name) for name in ("observations", "actions"))
        total = len(obs)

        def flat(name: str) -> Any:
            return np.asarray(_numeric(handle[name], name)[:]).reshape(total)

        terminal, reward = flat("terminals") != 0, flat("rewards")
        if "timeouts" not in handle and "next_observations" not in handle:
            raise ValueError("it has neither 'timeouts' nor 'next_observations', so where episodes end is not known")
        timeout = flat("timeouts") != 0 if "timeouts" in handle else np.zeros(total, bool)
        training = flat("infos/training_reward") if "infos/training_reward" in handle else None
        if "next_observations" in handle:
            next_obs = _numeric(handle["next_observations"], "next_observations")
            yield from _split_steps(obs, action, reward, next_obs, terminal, timeout, training)
            return
        first = 0
        ends = terminal | timeout
        ends[-1:] = True
        for last in map(int, np.flatnonzero(ends)):
            at = slice(first, last + 1)
            seen = np.concatenate([obs[at], obs[last : last + 1]])
            yield Steps(seen, action[at], reward[at], bool(terminal[last]), -1,
                        None if training is None else training[at], end_is_known=False)  # fmt: skip
            first = last + 1


LAYOUTS: dict[str, Callable[[Path], Iterator[Steps]]] = {
    "macaw": macaw_episodes,
    "npy": npy_episodes,
    "d4rl": d4rl_episodes,
}
_ENDS = {
    "macaw": "check that its 'terminal_discounts' and 'discount_factor' say where episodes end",
    "npy": "say where episodes end by 'terminals', or cut the trajectories",
    "d4rl": "say where episodes end by 'timeouts' or 'terminals'",
}
"""What is to be done about a file of a layout whose episodes run into each other."""
