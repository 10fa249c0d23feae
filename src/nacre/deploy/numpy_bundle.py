"""Bundles that `nacre export` wrote, read and checked with NumPy alone; a part of session.py in each of them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FORMAT, SCHEMA = "nacre-policy", 2
"""Bundles of schema 1, which say nothing of what training saw, are read as well."""


class SessionError(ValueError):
    """One sentence that says what is wrong with a bundle, a call or a saved session, and what to do."""


class Bundle(NamedTuple):
    """What `nacre export` wrote."""

    folder: Path
    about: dict[str, Any]  # agent.json
    arrays: dict[str, np.ndarray]  # weights.npz


def read_bundle(folder: str | Path) -> Bundle:
    """The bundle in a folder, checked. Raises SessionError where a file is missing, of another version or changed."""
    folder = Path(folder)
    about = _read_about(folder / "agent.json")
    content = {name: _exported(folder / name, digest) for name, digest in about["files"].items()}
    file = folder / "weights.npz"
    arrays = arrays_of(file, content[file.name])
    check_arrays(file, arrays, {name: tuple(shape) for name, shape in about["arrays"].items()})
    if "hypotheses" in arrays and "hypothesis_steps" not in about["agent"]:
        raise SessionError(
            f"{folder} is of a version with another order of hypotheses; use the session.py that lies beside it, or "
            "export it anew."
        )
    return Bundle(folder, about, arrays)


def _exported(file: Path, wanted: str) -> bytes:
    """What is in a file, if its SHA-256 is this one. What other programs act by need not be there."""
    if file.suffix == ".py" or (file.name != "weights.npz" and not file.exists()):
        return b""
    data = read(file)
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        raise SessionError(f"{file} is not what was exported (SHA-256 {found[:12]}, not {wanted[:12]}); copy it anew.")
    return data


def seal_of(about: dict[str, Any]) -> str:
    """The SHA-256 of all that sessions read in agent.json."""
    names = ["family", "obs_dim", "action_dim", "horizon", "trial", "agent", "arrays", "files", "self_test"]
    names += [] if about.get("schema") == 1 else ["training"]
    return hashlib.sha256(json.dumps([about.get(name) for name in names], sort_keys=True).encode()).hexdigest()


def _read_about(file: Path) -> dict[str, Any]:
    try:
        about = json.loads(read(file))
    except ValueError as error:
        raise SessionError(f"{file} is no JSON ({error}); copy the bundle anew.") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise SessionError(f"{file} is not of a bundle that 'nacre export' wrote; name such a folder.")
    if about.get("schema") not in (1, SCHEMA):
        raise SessionError(
            f"{file} has schema {about.get('schema')!r}, but this program reads schemas 1 to {SCHEMA}; use the "
            "session.py that lies beside it."
        )
    if about.get("seal") != seal_of(about):
        raise SessionError(f"{file} was changed after the export (its seal differs); copy the bundle anew.")
    return about


def read(file: Path) -> bytes:
    """What is in a file; SessionError where it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise SessionError(f"cannot read {file} ({error.strerror}); check the path.") from error


def arrays_of(file: Path, data: bytes) -> dict[str, np.ndarray]:
    """The arrays in an archive, such as NumPy's `savez` writes, by name."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:  # damaged archives fail in many ways
        raise SessionError(f"{file} is no archive of arrays ({error}); copy it anew.") from error


def check_arrays(file: Path, arrays: dict[str, np.ndarray], wanted: dict[str, tuple[int, ...]]) -> None:
    """Raises SessionError where these are not arrays of those names and shapes, of finite numbers."""
    strange = sorted(set(arrays) ^ set(wanted))
    if strange:
        which = "has the unknown" if strange[0] in arrays else "lacks the"
        raise SessionError(f"{file} {which} array {strange[0]}; copy it anew.")
    for name, shape in wanted.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind not in "fiu":
            raise SessionError(f"{file} has {name} of shape {arrays[name].shape}, not {shape}; copy the bundle anew.")
        if not np.isfinite(arrays[name]).all():
            raise SessionError(f"{file} has a number in {name} that is not finite; copy it anew, or export it anew.")


def task_numbers(
    task: str | Mapping[str, Any] | None, about: Mapping[str, Any], error: type[Exception] = SessionError
) -> np.ndarray:
    """The numbers that describe a task which an oracle is told, in the order of their names; raises `error` for what is
    no task of agent.json's family. None of an agent that is told nothing."""
    wanted: dict[str, int] = about["agent"].get("task", {})
    expected = " ".join(f"{name}={','.join(['NUMBER'] * max(1, size))}" for name, size in wanted.items())
    if not wanted:
        return np.zeros(0, np.float32)
    if task is None:
        raise error(f"this agent is told its task; give one, as in task='{expected}'.")
    try:
        parts = dict(part.split("=") for part in task.split()) if isinstance(task, str) else dict(task)
        listed = {name: text.split(",") if isinstance(text, str) else text for name, text in parts.items()}
        with np.errstate(over="ignore"):
            given = {name: np.ravel(np.array(values, np.float32)) for name, values in listed.items()}
    except (TypeError, ValueError):
        given = {}
    fits = {name: len(values) for name, values in given.items()} == {n: max(1, size) for n, size in wanted.items()}
    if not fits or not all(np.isfinite(values).all() for values in given.values()):
        raise error(f"{task!r} is not a task of {about['family']}; write {expected}.")
    return np.concatenate([given[name] for name in sorted(wanted)])
