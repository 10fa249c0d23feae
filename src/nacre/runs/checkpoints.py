"""Checkpoints: one pytree to disk and back, exactly. No code is executed on loading.

checkpoints/GRAD_STEPS/
    state/           networks, optimisers, counters, tasks, hypotheses: an Orbax tree with leaves by name
    replay/          the filled part of the replay, a NumPy file an array, straight from memory: Orbax's own writer
                     would hold a second and a third copy of it
    tables/          metrics.csv, eval.csv, success.csv as they were
    checksums.json   of all files above
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nacre.errors import NacreError
from nacre.learning import replay
from nacre.learning.replay import Replay
from nacre.runs import checksums
from nacre.runs.checksums import Damaged
from nacre.runs.files import notice, reading, reason_of, writing

KEPT = 2
"""Newest checkpoints that a run keeps."""
UNFINISHED = ".unfinished"
_LEFTOVER = re.compile(rf"\d+({re.escape(UNFINISHED)}|\.orbax-checkpoint-tmp.*)")  # of this version, of one before

OPTIONAL = "hypotheses"
"""The part of the tree that a checkpoint need not have. A resumed run makes it anew."""

Arrays = dict[str, np.ndarray]
"""The leaves of a checkpoint by name, as in 'state.networks.encoder.weights.0'; parts of a replay are memory maps."""


class NoReplay(Damaged):
    """A checkpoint whose replay was left behind: enough to act, not to resume."""


class Checkpoints:
    """The checkpoints of one run, numbered by gradient updates. A save becomes visible only when it is complete."""

    def __init__(self, directory: Path, *, read_only: bool = False):
        """Opens them to continue saving, or only to read, which may be done beside a process that is saving."""
        self._directory = directory.absolute()
        if self._directory.exists() and not self._directory.is_dir():
            raise NacreError(f"{self._directory} is in the way: checkpoints go into a directory of that name; move it.")
        if not read_only:
            with writing(self._directory):
                self._directory.mkdir(parents=True, exist_ok=True)
                for entry in self._directory.iterdir():
                    if _LEFTOVER.fullmatch(entry.name):
                        shutil.rmtree(entry)

    def path(self, grad_steps: int) -> Path:
        """The folder of a checkpoint."""
        return self._directory / str(grad_steps)

    def steps(self) -> list[int]:
        """The numbers of all complete checkpoints, ascending."""
        if not self._directory.exists():
            return []
        with reading(self._directory):
            names = [entry.name for entry in self._directory.iterdir() if entry.is_dir()]
        return sorted(int(name) for name in names if re.fullmatch(r"0|[1-9][0-9]{0,18}", name))

    def latest(self) -> int | None:
        """The number of the newest complete checkpoint; None before the first."""
        return max(self.steps(), default=None)

    def save(self, grad_steps: int, tree: Any, tables: Sequence[Path] = ()) -> None:
        """Writes the tree, and a copy of these tables, unless this number is there already."""
        if grad_steps in self.steps():
            return
        draft = self._directory / f"{grad_steps}{UNFINISHED}"
        state, buffers = _host_arrays(tree)
        try:
            draft.mkdir()
            _write_state(draft / "state", state)
            (draft / "replay").mkdir()
            for name, values in buffers.items():
                np.save(draft / "replay" / f"{name}.npy", values, allow_pickle=False)
            (draft / "tables").mkdir()
            for file in tables:
                if file.exists():
                    shutil.copyfile(file, draft / "tables" / file.name)
            checksums.write(draft)
            os.replace(draft, self.path(grad_steps))
        except MemoryError:
            raise
        except Exception as error:  # TensorStore raises many kinds for a full disk
            _silence_other_tasks()
            shutil.rmtree(draft, ignore_errors=True)
            latest = self.latest()
            kept = "there is none before it" if latest is None else f"the one at update {latest} is kept"
            raise NacreError(
                f"the checkpoint {self.path(grad_steps)} could not be written ({reason_of(error)}); {kept}; make room "
                f"or change the permissions there, then resume with 'nacre resume {self._directory.parent}'."
            ) from error

    def prune(self, keep: Collection[int] = ()) -> None:
        """Removes all but the newest and those to keep."""
        for old in self.steps()[:-KEPT]:
            if old not in keep:
                self._remove(old)

    def cut_back(self, grad_steps: int) -> None:
        """Removes the checkpoints after this update, where a run is to resume from it."""
        for newer in [step for step in self.steps() if step > grad_steps]:
            self._remove(newer)

    def _remove(self, grad_steps: int) -> None:
        """A checkpoint that is half removed is none."""
        old = self._directory / f"{grad_steps}{UNFINISHED}"
        with writing(self._directory):
            self.path(grad_steps).rename(old)
            shutil.rmtree(old)

    def read(self, grad_steps: int, template: Any) -> Arrays:
        """What a checkpoint holds for the leaves of `template` (arrays or jax.ShapeDtypeStruct), verified.

        A template without a Replay leaves the replay unread. OPTIONAL leaves that are not there are left out. Raises
        Damaged for a checkpoint that cannot be trusted, NacreError for one of another version of nacre, or that this
        user may not read.
        """
        where = self.path(grad_steps)
        wanted = _named(template)
        plain = {name: leaf for name, leaf in wanted.items() if not isinstance(leaf, Replay)}
        buffers = {name: leaf for name, leaf in wanted.items() if isinstance(leaf, Replay)}
        with reading(where):
            listed = checksums.listed(where)
            has_replay = any((where / "replay").glob("*.npy"))
        if buffers and not has_replay:
            raise NoReplay(f"{where / 'replay'} is missing")
        if listed is not None:
            checksums.verify(where, listed.files, ["state", "tables", "replay"] if buffers else ["state"])
        with _as_damage(where / "state"):
            saved = set(_names_of_state(where / "state"))
        optional = {name for name in plain if part_of(name) == OPTIONAL}
        if not optional or not optional <= saved:
            plain = {name: leaf for name, leaf in plain.items() if name not in optional}
            saved = {name for name in saved if part_of(name) != OPTIONAL}
        _check_names(where, set(plain), saved, "0.1" if listed is None else listed.nacre, bool(buffers))
        with _as_damage(where / "state"):
            arrays = _read_state(where / "state", list(plain))
        for name, leaf in plain.items():
            _check_array(f"{where / 'state'}: {name}", arrays[name], leaf)
        for name, leaf in buffers.items():
            arrays |= _read_replay(where / "replay", name, leaf)
        return arrays

    def first_good(self, candidates: Sequence[int], template: Any) -> tuple[int, Arrays]:
        """The first of these checkpoints that can be trusted, and what it holds; says which could not.

        Raises NacreError where none can.
        """
        failed: list[Damaged] = []
        for step in candidates:
            try:
                arrays = self.read(step, template)
            except Damaged as error:
                if not self.path(step).exists():  # another process, which trains the run, has replaced it
                    raise NacreError(f"the checkpoint {self.path(step)} was removed meanwhile; try again.") from error
                failed.append(error)
                continue
            self.tell_of(failed, step)
            return step, arrays
        raise self.none_good(failed)

    @staticmethod
    def tell_of(failed: Sequence[Damaged], step: int) -> None:
        """A notice for each checkpoint that was passed over for the one at update `step`."""
        for error in failed:
            notice(f"a checkpoint is damaged ({error}); the one at update {step} is taken instead.")

    def none_good(self, failed: Sequence[Damaged]) -> NacreError:
        """The error where no checkpoint can be trusted."""
        run = self._directory.parent
        if not failed:
            return NacreError(f"the run at {run} has no checkpoint yet; continue it with 'nacre resume {run}'.")
        if all(isinstance(error, NoReplay) for error in failed):
            return NacreError(
                f"the run at {run} has no replay ({failed[0]}), so it can act, but not resume; restore it from a copy."
            )
        return NacreError(
            f"the run at {run} has a damaged checkpoint ({failed[0]}) and no good one; restore it, or train anew."
        )

    def restore(self, template: Any) -> Any:
        """The newest checkpoint that can be trusted, as a tree like `template`, whose arrays are used up."""
        return rebuilt(template, self.first_good(self.steps()[::-1], template)[1])


def rebuilt(template: Any, arrays: Arrays) -> Any:
    """The tree of a checkpoint's arrays. The buffers of `template` may be larger, and are used up."""

    def leaf_of(name: str, leaf: Any) -> Any:
        if isinstance(leaf, Replay):
            return replay.refill(leaf, {part: arrays[f"{name}.{part}"] for part in Replay._fields})
        if _is_key(leaf):
            return jax.random.wrap_key_data(jax.device_put(arrays[name], may_alias=False))
        if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
            return jax.device_put(arrays[name], may_alias=False)  # a copy, which needs no program
        return arrays[name].astype(leaf.dtype)[()]

    leaves = [leaf_of(name, leaf) for name, leaf in _named(template).items()]
    return jax.tree.unflatten(jax.tree.structure(template, is_leaf=_is_replay), leaves)


def part_of(name: str) -> str:
    """The field of the tree that a leaf is of."""
    return name.split(".")[0]


def _is_replay(x: Any) -> bool:
    return isinstance(x, Replay)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _named(tree: Any) -> dict[str, Any]:
    """Leaves by name; a Replay is one leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_replay)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _host_arrays(tree: Any) -> tuple[Arrays, Arrays]:
    """(plain leaves by name, parts of buffers by name) on the host."""
    state: Arrays = {}
    buffers: Arrays = {}
    for name, leaf in _named(tree).items():
        if isinstance(leaf, Replay):
            buffers |= {f"{name}.{part}": values for part, values in replay.filled(leaf).items()}
        else:
            state[name] = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return state, buffers


def _write_state(folder: Path, state: Arrays) -> None:
    import orbax.checkpoint as ocp  # slow to import

    with _quiet_absl():
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).save(folder, args=ocp.args.PyTreeSave(state))


def _names_of_state(folder: Path) -> list[str]:
    import orbax.checkpoint as ocp

    with _quiet_absl():
        return list(ocp.PyTreeCheckpointHandler().metadata(folder).tree)


def _read_state(folder: Path, names: Sequence[str]) -> Arrays:
    import orbax.checkpoint as ocp

    args = ocp.args.PyTreeRestore(
        item=dict.fromkeys(names, 0),
        restore_args={name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names},
        partial_restore=True,
    )
    with _quiet_absl():
        restored = ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(folder, args=args)
    return {name: np.asarray(values) for name, values in restored.items()}


def _read_replay(folder: Path, name: str, template: Replay) -> Arrays:
    """The parts of one buffer, not yet in memory, checked against the buffer that they are for."""
    arrays: Arrays = {}
    for part in Replay._fields:
        file = folder / f"{name}.{part}.npy"
        if not file.exists():
            raise Damaged(f"{file} is missing")
        with _as_damage(file):
            arrays[f"{name}.{part}"] = np.load(file, mmap_mode="r", allow_pickle=False)
    pool, pages = arrays[f"{name}.pool"], arrays[f"{name}.pages"]
    rows = int(arrays[f"{name}.next_page"].flat[0]) * replay.PAGE if arrays[f"{name}.next_page"].size == 1 else -1
    # A longer run has room for more rows of the pool, and perhaps for more pages a task.
    longer = {
        "pool": (rows, template.pool.shape[1]),
        "pages": (template.pages.shape[0], pages.shape[-1] if pages.ndim else 0),
    }
    for part, leaf in template._asdict().items():
        wanted = jax.ShapeDtypeStruct(longer.get(part, leaf.shape), leaf.dtype)
        _check_array(str(folder / f"{name}.{part}.npy"), arrays[f"{name}.{part}"], wanted)
    if len(pool) > template.pool.shape[0] or pages.shape[1] > template.pages.shape[1]:
        raise Damaged(f"{folder / name}.pool.npy has {len(pool)} rows, but the run has {template.pool.shape[0]}")
    return arrays


def _check_names(where: Path, wanted: set[str], saved: set[str], writer: str, whole: bool) -> None:
    """Refuses a checkpoint of a version of nacre whose state has other leaves. To act, leaves may be left over."""
    here = importlib.metadata.version("nacre")
    if any(name.startswith("state.optimiser") for name in wanted - saved):
        raise NacreError(
            f"the checkpoint {where} has no optimisers, so its run can act, but not resume; push it anew with --whole."
        )
    for names, what in ((wanted - saved, "lacks"), (saved - wanted if whole else set(), "has also")):
        if names:
            raise NacreError(
                f"the checkpoint {where} {what} '{min(names)}': it was written by nacre {writer}, and this is nacre "
                f"{here}; use it with the version that wrote it."
            )


def _check_array(what: str, saved: np.ndarray, wanted: Any) -> None:
    """Types count as JAX sees them: 64 bits on the host may be 32 in a template of shapes."""
    if _is_key(wanted):
        wanted = jax.eval_shape(jax.random.key_data, wanted)
    types = [jax.dtypes.canonicalize_dtype(dtype) for dtype in (saved.dtype, wanted.dtype)]
    if saved.shape != np.shape(wanted) or types[0] != types[1]:
        raise Damaged(
            f"{what} has shape {saved.shape} and type {saved.dtype}, not {np.shape(wanted)} and {wanted.dtype}"
        )


@contextmanager
def _as_damage(file: Path) -> Iterator[None]:
    """Any failure to read a file, but for a lack of memory, as Damaged: Orbax and TensorStore raise many kinds."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError):  # says nothing about the files
        raise
    except PermissionError as error:
        raise NacreError(f"this user may not read {file}; change its permissions, or ask its owner.") from error
    except Exception as error:
        _silence_other_tasks()
        raise Damaged(f"{file} cannot be read: {reason_of(error)}") from error


def _silence_other_tasks() -> None:
    """Where one of Orbax's reads or writes fails, asyncio reports later that others failed too."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


@contextmanager
def _quiet_absl() -> Iterator[None]:
    """Orbax tells of every save and of every read, through absl."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what fails is raised as well
    try:
        yield
    finally:
        logger.setLevel(level)
