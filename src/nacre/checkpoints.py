"""Checkpoints: one pytree to disk and back with Orbax, exactly. No code is executed on loading."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from nacre import replay
from nacre.errors import NacreError
from nacre.replay import Replay

logging.getLogger("absl").setLevel(logging.ERROR)


def _is_special(x: Any) -> bool:
    return isinstance(x, Replay) or (isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key))


def _to_host(x: Any) -> Any:
    """What is written for a leaf: of a replay only the filled part, of a key its words."""
    if isinstance(x, Replay):
        return replay.filled(x)
    return np.asarray(jax.random.key_data(x) if _is_special(x) else x)


def _to_device(template: Any, saved: Any) -> Any:
    """The inverse of `_to_host`, with the template's kind, type and sizes."""
    if isinstance(template, Replay):
        return replay.refill(template, saved)
    if _is_special(template):
        return jax.random.wrap_key_data(jnp.asarray(saved))
    if np.shape(template) != np.shape(saved):
        raise ValueError(f"an array has shape {np.shape(saved)}, expected {np.shape(template)}")
    if isinstance(template, jax.Array):
        return jnp.array(saved, template.dtype)
    return np.asarray(saved).astype(np.asarray(template).dtype)[()]


def _named(tree: Any) -> dict[str, Any]:
    """Leaves by name: 'state.networks.encoder.weights.0'."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


class Checkpoints:
    """The checkpoints of one run, numbered by gradient updates. A save becomes visible only when it is complete."""

    def __init__(self, directory: Path, keep: int = 2):
        self._directory = directory.absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, grad_steps: int, tree: Any) -> None:
        """Writes the tree unless this number is there already."""
        if self._manager.latest_step() != grad_steps:
            host = jax.tree.map(_to_host, tree, is_leaf=_is_special)
            self._manager.save(grad_steps, args=ocp.args.StandardSave(_named(host)))

    def latest(self) -> int | None:
        """The number of the newest complete checkpoint; None before the first."""
        return self._manager.latest_step()

    def restore(self, template: Any) -> Any:
        """The newest checkpoint, in the shape of `template`. Raises NacreError where it cannot be read."""
        grad_steps = self._manager.latest_step()
        where = self._directory / str(grad_steps)
        try:
            saved = self._manager.restore(grad_steps, args=ocp.args.StandardRestore())
            host = jax.tree.map(_to_host, template, is_leaf=_is_special)
            names = list(_named(host))
            if set(names) != set(saved):
                raise ValueError(f"it lacks or adds '{min(set(names) ^ set(saved))}'")
            leaves = [np.asarray(saved[name]) for name in names]
            host = jax.tree.unflatten(jax.tree.structure(host), leaves)
            return jax.tree.map(_to_device, template, host, is_leaf=_is_special)
        except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file
            older = [step for step in self._manager.all_steps() if step != grad_steps]
            hint = f"remove it to go on from update {max(older)}" if older else "there is no older one, so train anew"
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise NacreError(f"the checkpoint {where} is damaged ({reason}); {hint}.") from error

    def close(self) -> None:
        """Releases Orbax's resources."""
        self._manager.close()
