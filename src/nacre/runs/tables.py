"""The tables of a run, CSV files all of them: their columns, and how rows are added, cut back, restored and read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nacre.errors import NacreError
from nacre.runs.files import notice, reading, replace, writing

COUNTERS = ("env_steps", "grad_steps", "meta_iterations", "wall_seconds")
"""The first columns of metrics.csv; the others are the metrics of a method."""
EVAL_COLUMNS = ("env_steps", "grad_steps", "wall_seconds", "split", "task", "repeat", "episode", "return")
SUCCESS_COLUMNS = (*EVAL_COLUMNS[:-1], "success")
EXTRA_COLUMNS = ("env_steps", "grad_steps", "meta_iterations", "name", "value")
"""Of extra.csv: numbers that a caller of `nacre.train` adds."""
TABLES = ("metrics.csv", "eval.csv", "success.csv", "extra.csv")
WHOLE_NUMBERS = frozenset({"env_steps", "grad_steps", "meta_iterations", "task", "repeat", "episode", "success"})


def eval_rows(
    returns: np.ndarray, split: str, env_steps: int, grad_steps: int, wall_seconds: float
) -> Iterator[tuple[Any, ...]]:
    """The rows of eval.csv for returns[repeat, task, episode] (or success.csv); episodes count from 1."""
    for (repeat, task, episode), value in np.ndenumerate(returns):
        yield env_steps, grad_steps, f"{wall_seconds:.1f}", split, task, repeat, episode + 1, f"{value:.6g}"


def append(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Adds rows below the header. A new table gets these columns; a table with other columns (of another version of
    nacre) is first rewritten with the columns of both, empty where a row has none."""
    header = _header(file)
    if header is None:
        text = as_text([columns, *rows])
    else:
        more = [name for name in columns if name not in header]
        if more:
            _add_columns(file, more)
        named = (dict(zip(columns, row, strict=True)) for row in rows)
        text = as_text([[row.get(name, "") for name in (*header, *more)] for row in named])
    with writing(file), file.open("a", newline="") as handle:
        handle.write(text)


def cut_back(file: Path, grad_steps: int) -> None:
    """Drops the rows that were logged after this update, and a last line that was not finished."""
    if not _exists(file):
        return
    header, *rows = _text(file).splitlines(keepends=True) or [""]
    if not rows:  # perhaps not even the header was finished
        with writing(file):
            file.unlink()
        return
    try:
        rows = [row for row in rows if row.endswith("\n")]
        column = header.strip().split(",").index("grad_steps")
        kept = [row for row in rows if int(row.split(",")[column]) <= grad_steps]
    except (ValueError, IndexError) as error:
        raise damaged(file, str(error)) from error
    replace(file, "".join([header, *kept]).encode())


def restore(file: Path, copy: Path) -> None:
    """Sets a table to what it was at a checkpoint, of which `copy` is kept there; says so where it lacked rows."""
    then = copy.read_bytes() if copy.exists() else b""
    if not _exists(file):
        now = b""
    else:
        with reading(file):
            now = file.read_bytes()
    if not now.startswith(then):
        notice(f"{file} lacked rows, or had others, and was restored from {copy.parent.parent}.")
    if not then and _exists(file):
        with writing(file):
            file.unlink()
    elif now != then:
        replace(file, then)


def check_complete(file: Path, grad_steps: int) -> None:
    """Refuses a table whose last row is older than this update, where its run has no copy of it.

    An empty file in its place is accepted: somebody who cannot restore it wants to continue without its rows.
    """
    if _exists(file) and not _text(file):
        return
    steps = read(file).get("grad_steps", np.zeros(0, np.int64))
    if grad_steps > 0 and (len(steps) == 0 or steps[-1] < grad_steps):
        last = f"ends at update {steps[-1]}" if len(steps) else "has no rows"
        raise NacreError(
            f"{file} {last}, but the checkpoint is of update {grad_steps}; restore that file, or put an empty file in "
            "its place to continue without those rows."
        )


def read(file: Path) -> dict[str, np.ndarray]:
    """The columns of a table by name, [row], without a last line that was not finished; {} where it has no rows.

    Whole numbers are int64, `split` and `name` are text, everything else float64, NaN where a cell is empty. Raises
    NacreError.
    """
    if not _exists(file):
        return {}
    text = _text(file)
    try:
        header, *rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))) or [[]]
    except csv.Error as error:
        raise damaged(file, str(error)) from error
    if header and (len(set(header)) < len(header) or "grad_steps" not in header):
        raise damaged(file, f"its first line is {','.join(header)[:80]!r}")
    if not rows:
        return {}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise damaged(file, f"line {number} has {len(row)} cells instead of {len(header)}")
    return {name: _column(file, name, cells) for name, cells in zip(header, zip(*rows, strict=True), strict=True)}


def scores_by_update(evaluations: dict[str, np.ndarray]) -> dict[int, float]:
    """Mean return of the last episode on test tasks, by `grad_steps`, out of the columns of eval.csv."""
    if not evaluations:
        return {}
    test = evaluations["split"] == "test"
    last = test & (evaluations["episode"] == evaluations["episode"][test].max(initial=0))
    steps, at = np.unique(evaluations["grad_steps"][last], return_inverse=True)
    means = np.bincount(at, weights=evaluations["return"][last]) / np.bincount(at)
    return dict(zip(steps.tolist(), means.tolist(), strict=True))


def damaged(file: Path, reason: str) -> NacreError:
    """The error for a table that cannot be understood."""
    return NacreError(f"{file} is damaged ({reason}); restore it, or move it away.")


def _exists(file: Path) -> bool:
    with reading(file):
        return file.exists()


def _text(file: Path) -> str:
    with reading(file):
        return file.read_bytes().decode()


def _header(file: Path) -> list[str] | None:
    """The columns of a table; None where there is none yet."""
    if not _exists(file):
        return None
    with reading(file), file.open(newline="") as handle:
        return next(csv.reader(handle), None)


def _add_columns(file: Path, names: Sequence[str]) -> None:
    first, *rows = _text(file).splitlines(keepends=True)
    empty = "," * len(names)
    lines = [",".join([first.rstrip("\n"), *names]) + "\n", *(row.rstrip("\n") + empty + "\n" for row in rows)]
    replace(file, "".join(lines).encode())


def as_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows of cells, the header among them, as the text of a CSV file."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _column(file: Path, name: str, cells: Sequence[str]) -> np.ndarray:
    if name in ("split", "name"):
        return np.array(cells)
    try:
        if name in WHOLE_NUMBERS:
            return np.array([int(cell) for cell in cells], np.int64)
        return np.array([float(cell or "nan") for cell in cells], np.float64)
    except (ValueError, OverflowError) as error:
        raise damaged(file, f"column {name}: {error}") from error
