"""Arrays in files, whole or not at all, by the names that a pytree's leaves have in it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nacre.errors import NacreError
from nacre.runs import files

AGAIN = "give the same command again"


def named(tree: Any) -> dict[str, np.ndarray]:
    """A pytree's leaves by their paths in it."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def rebuilt(template: Any, saved: dict[str, np.ndarray]) -> Any:
    """The inverse of `named`; NacreError where shapes or names differ."""
    leaves, treedef = jax.tree_util.tree_flatten_with_path(template)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    wanted = {name: leaf.shape for name, (_, leaf) in zip(names, leaves, strict=True)}
    if wanted != {name: values.shape for name, values in saved.items()}:
        raise NacreError("there are networks of other sizes; choose another directory.")
    return jax.tree.unflatten(treedef, [saved[name] for name in names])


def read(file: Path) -> dict[str, np.ndarray]:
    """Arrays by name."""
    try:
        with np.load(file, allow_pickle=False) as saved:
            return dict(saved)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise NacreError(f"{file} cannot be read ({error}); restore it, or remove it and begin again.") from error


def save(file: Path, arrays: dict[str, Any]) -> None:
    """The inverse of `read`."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    replace(file, buffer.getvalue())


def make(folder: Path) -> None:
    """The folder, and those around it."""
    with files.writing(folder, AGAIN):
        folder.mkdir(parents=True, exist_ok=True)


def replace(file: Path, content: bytes) -> None:
    """Rewrites a file, whole or not at all."""
    files.replace(file, content, AGAIN)
