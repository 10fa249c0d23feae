"""Checkpoints: one pytree to disk and back with Orbax, exactly. No code is executed on loading."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from nacre.errors import NacreError
from nacre.learning import replay
from nacre.learning.replay import Replay

KEPT = 2
"""Checkpoints that a run keeps."""


def _is_replay(x: Any) -> bool:
    return isinstance(x, Replay)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _named(tree: Any) -> dict[str, Any]:
    """Leaves by name, as in 'state.networks.encoder.weights.0'; a Replay is one leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_replay)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


class NpyHandler(ocp.CheckpointHandler):
    """Lets Orbax write large host arrays straight from memory to NumPy files, and read them as memory maps.

    Its own writer would hold a second and a third copy of the replay in memory.
    """

    def save(self, directory: Any, args: NpySave) -> None:
        """One file an array."""
        for name, values in args.arrays.items():
            np.save(str(directory / f"{name}.npy"), values, allow_pickle=False)

    def restore(self, directory: Any, args: NpyRestore) -> dict[str, np.ndarray]:
        """The arrays by name, not yet in memory."""
        del args
        files = sorted(Path(directory).glob("*.npy"))
        return {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in files}


@ocp.args.register_with_handler(NpyHandler, for_save=True)
@dataclass
class NpySave(ocp.args.CheckpointArgs):
    """What NpyHandler saves."""

    arrays: dict[str, np.ndarray]


@ocp.args.register_with_handler(NpyHandler, for_restore=True)
@dataclass
class NpyRestore(ocp.args.CheckpointArgs):
    """What NpyHandler needs to restore."""


class Checkpoints:
    """The checkpoints of one run, numbered by gradient updates. A save becomes visible only when it is complete."""

    def __init__(self, directory: Path, *, read_only: bool = False):
        """Opens them to go on saving, or only to read, which may be done beside a process that is saving."""
        self._directory = directory.absolute()
        if self._directory.exists() and not self._directory.is_dir():
            raise NacreError(f"{self._directory} is in the way: checkpoints go into a directory of that name; move it.")
        handlers = {"state": ocp.PyTreeCheckpointHandler(), "replay": NpyHandler()}
        with _quiet_absl():
            options = ocp.CheckpointManagerOptions(
                max_to_keep=KEPT,
                enable_async_checkpointing=False,
                cleanup_tmp_directories=not read_only,
                create=not read_only,
                read_only=read_only,
            )
            self._manager = ocp.CheckpointManager(self._directory, options=options, item_handlers=handlers)

    def save(self, grad_steps: int, tree: Any) -> None:
        """Writes the tree unless this number is there already."""
        if self._manager.latest_step() == grad_steps:
            return
        state: dict[str, np.ndarray] = {}
        buffers: dict[str, np.ndarray] = {}
        for name, leaf in _named(tree).items():
            if isinstance(leaf, Replay):
                buffers |= {f"{name}.{part}": values for part, values in replay.filled(leaf).items()}
            else:
                state[name] = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(state), replay=NpySave(buffers))
        if not self._manager.save(grad_steps, args=items):
            raise RuntimeError(f"the checkpoint {grad_steps} was not saved: there is a newer one, {self.steps()}")

    def cut_back(self, grad_steps: int) -> None:
        """Removes the checkpoints after this update, where a run is to go on from it."""
        for newer in [step for step in self.steps() if step > grad_steps]:
            self._manager.delete(newer)

    def steps(self) -> list[int]:
        """The numbers of all complete checkpoints."""
        return list(self._manager.all_steps())

    def latest(self) -> int | None:
        """The number of the newest complete checkpoint; None before the first."""
        return self._manager.latest_step()

    def restore(self, template: Any, grad_steps: int | None = None) -> Any:
        """A checkpoint's values for the leaves of `template`, which is used up; the rest is not read.

        The newest checkpoint unless another is named. Leaves may be arrays or jax.ShapeDtypeStruct. Raises NacreError
        where one cannot be read.
        """
        grad_steps = self._manager.latest_step() if grad_steps is None else grad_steps
        if grad_steps is None:
            raise NacreError(f"there is no checkpoint in {self._directory}.")
        try:
            return self._restore(grad_steps, template)
        except (MemoryError, jax.errors.JaxRuntimeError):  # says nothing about the files
            raise
        except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # where the other reads that failed are reported
            older = [step for step in self._manager.all_steps() if step != grad_steps]
            hint = f"remove it to go on from update {max(older)}" if older else "there is no older one, so train anew"
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            where = self._directory / str(grad_steps)
            raise NacreError(f"the checkpoint {where} is damaged ({reason}); {hint}.") from error

    def _restore(self, grad_steps: int, template: Any) -> Any:
        wanted = _named(template)
        plain = [name for name, leaf in wanted.items() if not isinstance(leaf, Replay)]
        state_args = ocp.args.PyTreeRestore(
            item=dict.fromkeys(plain, 0),
            restore_args={name: ocp.RestoreArgs(restore_type=np.ndarray) for name in plain},
            partial_restore=True,
        )
        items = ocp.args.Composite(state=state_args, replay=NpyRestore())
        saved = self._manager.restore(grad_steps, args=items)

        def restored(name: str, leaf: Any) -> Any:
            if isinstance(leaf, Replay):
                return replay.refill(leaf, {part: saved["replay"][f"{name}.{part}"] for part in Replay._fields})
            return _as_template(leaf, saved["state"][name])

        leaves = [restored(name, leaf) for name, leaf in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(template, is_leaf=_is_replay), leaves)

    def close(self) -> None:
        """Releases Orbax's resources."""
        self._manager.close()


@contextmanager
def _quiet_absl() -> Iterator[None]:
    """Orbax warns, through absl, that reading neither saves nor removes anything."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _as_template(template: Any, saved: np.ndarray) -> Any:
    """A saved array as what it was: a key, an array on the device, or a NumPy value."""
    if _is_key(template):
        return jax.random.wrap_key_data(jnp.array(saved))
    if np.shape(template) != saved.shape:
        raise ValueError(f"an array has shape {saved.shape}, expected {np.shape(template)}")
    if isinstance(template, jax.Array | jax.ShapeDtypeStruct):
        return jnp.array(saved, template.dtype)
    return saved.astype(template.dtype)[()]
