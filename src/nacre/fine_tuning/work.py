"""The directory of a fine-tuning: what is fine-tuned and how, where it stands, its tables.

    finetune.json    run, tasks and settings; the same command resumes it, another one is refused
    finetune.csv     returns of every round in each task
    summary.csv      returns before adaptation, after it and after fine-tuning; written at the end
    state.npz        networks, optimisers, replay and returns after a whole round

Every file is written whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nacre.errors import NacreError
from nacre.fine_tuning.loop import Round, State
from nacre.learning.fine_tuning import Replay
from nacre.runs import arrays, files, tables
from nacre.runs.migration import GONE

FORMAT = 1
COLUMNS = ("round", "env_steps", "task", "return", "noisy_return")
GROWS = "settings.rounds"
"""The one setting that a later command may raise."""


class History(NamedTuple):
    """What the rounds until now came to."""

    before: np.ndarray  # [task] returns before adaptation, of deterministic episodes as all but the noisy ones
    returns: np.ndarray  # [round, task] before the updates of that round
    noisy_returns: np.ndarray  # [round, task]
    steps: np.ndarray  # [round, task] collected in that round

    def with_round(self, round_: Round) -> History:
        """Also this one."""
        rows = (round_.returns, round_.noisy_returns, round_.steps)
        return History(self.before, *(np.concatenate([x, y[None]]) for x, y in zip(self[1:], rows, strict=True)))

    @property
    def env_steps(self) -> np.ndarray:
        """Steps that a task had collected before each round, and in all: [round + 1, task]."""
        return np.cumsum(np.concatenate([np.zeros_like(self.steps[:1]), self.steps]), axis=0)


def nothing_yet(before: np.ndarray) -> History:
    """The history before the first round."""
    none = np.zeros((0, len(before)))
    return History(before, none, none, none.astype(np.int64))


class Directory:
    """A fine-tuning's directory on disk."""

    def __init__(self, path: Path, plan: dict[str, Any]):
        """The one at `path`, made now or begun earlier with the same plan; NacreError where it has another."""
        self.path, file = path, path / "finetune.json"
        self._plan = json.loads(json.dumps({"format": FORMAT, **plan}))
        if file.exists():
            self._check(file, self._plan)
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise NacreError(f"{path} is in the way, and no work of 'nacre finetune'; choose another --out.")
        arrays.make(path)
        if not file.exists():
            self.write_plan()

    def write_plan(self) -> None:
        """finetune.json: of a directory that was begun earlier only once its state is known to fit."""
        arrays.replace(self.path / "finetune.json", json.dumps(self._plan, indent=1).encode())

    def _check(self, file: Path, told: dict[str, Any]) -> None:
        try:
            there: dict[str, Any] = json.loads(file.read_text())
            then, now = (_flat(one) for one in (there, told))
        except (OSError, ValueError, AttributeError) as error:
            raise NacreError(f"{file} cannot be used ({error}); choose another --out.") from error
        old = {"networks_sha256"} - set(then)  # begun by a version that did not record it
        old |= {name for name in set(then) - set(now) if name.rpartition(".")[2] in GONE}
        names = [name for name in {**now, **then} if name != GROWS and name not in old]
        changed = [f"{name} {then.get(name)!r}"[:80] for name in names if then.get(name) != now.get(name)]
        if changed:
            raise NacreError(
                f"{self.path} holds another fine-tuning, with {changed[0]}; choose another --out, or remove it."
            )

    def locked(self) -> AbstractContextManager[None]:
        """Makes sure that no other process fine-tunes here meanwhile."""
        refusal = f"another process is fine-tuning in {self.path}; wait for it or stop it."
        return files.locked(self.path, refusal, arrays.AGAIN)

    @property
    def _state_file(self) -> Path:
        return self.path / "state.npz"

    def save(self, state: State, history: History) -> None:
        """Keeps where it stands after a whole round."""
        size = np.asarray(state.replay.size)
        rows = np.concatenate([np.asarray(own[:number]) for own, number in zip(state.replay.rows, size, strict=True)])
        kept = {"rows": rows, "size": size, "rounds": np.int64(state.rounds)}
        learnt = arrays.named((state.networks, state.optimisers))
        arrays.save(self._state_file, {**kept, **history._asdict(), **learnt})
        self.write_returns(history)

    def load(self, begun: State, most_rounds: int) -> tuple[State, History] | None:
        """Where it stood when it was kept last; `begun` is the state before the first round. None: not kept yet."""
        if not self._state_file.exists():
            return None
        saved = arrays.read(self._state_file)
        try:
            history = History(*(saved.pop(name) for name in History._fields))
            rows, size, rounds = (saved.pop(name) for name in ("rows", "size", "rounds"))
        except KeyError as error:
            raise NacreError(f"{self._state_file} lacks {error}; choose another --out.") from error
        if rounds > most_rounds:
            raise NacreError(f"{self.path} holds {rounds} rounds already; set --rounds to as many, or to more.")
        kept = np.zeros(begun.replay.rows.shape, np.float32)
        for task, own in enumerate(np.split(rows, np.cumsum(size)[:-1])):
            kept[task, : len(own)] = own
        networks, optimisers = jax.tree.map(
            jax.numpy.asarray, arrays.rebuilt((begun.networks, begun.optimisers), saved)
        )
        replay = Replay(jax.numpy.asarray(kept), jax.numpy.asarray(size))
        return State(networks, optimisers, replay, begun.keys, int(rounds)), history

    def write_returns(self, history: History, last: np.ndarray | None = None) -> None:
        """finetune.csv; `last` [task]: returns after the last round's updates."""
        rows = []
        for number, steps in enumerate(history.env_steps):
            is_round = number < len(history.returns)
            if not is_round and last is None:
                break
            returns = history.returns[number] if is_round or last is None else last
            noisy = [f"{x:.6g}" for x in history.noisy_returns[number]] if is_round else [""] * len(returns)
            each = enumerate(zip(steps, returns, noisy, strict=True))
            rows += [(number, int(step), task, f"{value:.6g}", other) for task, (step, value, other) in each]
        _write(self.path / "finetune.csv", COLUMNS, rows)

    def write_summary(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """summary.csv."""
        _write(self.path / "summary.csv", columns, rows)


def _write(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    arrays.replace(file, tables.as_text([columns, *rows]).encode())


def _flat(told: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Without the nesting: path -> value."""
    flat: dict[str, Any] = {}
    for name, value in told.items():
        path = f"{before}{name}"
        flat |= _flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return flat
