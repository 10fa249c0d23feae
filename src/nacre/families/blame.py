"""What a person's own code does wrong, in one sentence that names it."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nacre.errors import NacreError

if TYPE_CHECKING:
    from nacre.families.family import Family

CONTRACT = (
    "declarations", "tasks", "range", "task sets", "text", "exceptions", "shapes", "finite numbers", "actions", "ends",
    "seeds", "difference", "relabelling",
)  # fmt: skip
"""The lines of the contract in docs/add-a-family.md, in their order."""


class BrokenContract(NacreError):
    """What is wrong with a family, and the line of the contract that says so."""

    def __init__(self, sentence: str, line: str):
        number = CONTRACT.index(line) + 1
        super().__init__(f"{sentence} (A family's contract, line {number}: {line}.)")
        self.line = line


LONGEST = 200
"""Characters of a value or of another's message that a sentence quotes, at most."""


def failure(name: str, what: str, error: BaseException) -> NacreError:
    """The error for an exception that a family's own code raised: family, function, exception, and the line.

    Raise it from the exception, whose traceback Python then shows. What nacre itself refused stays as it is.
    """
    if isinstance(error, NacreError):
        return error
    outside = [frame for frame in traceback.extract_tb(error.__traceback__) if not _installed(frame.filename)]
    where = f" ({Path(outside[-1].filename).name}, line {outside[-1].lineno})" if outside else ""
    said = (f"{type(error).__name__}: {error}".splitlines() or [""])[0].strip(": ")
    return BrokenContract(f"{name}'s {what} failed with {short(said)}{where}; mend it there.", "exceptions")


def _installed(file: str) -> bool:
    """Whether a file is nacre's, Python's or an installed package's, and no code of the person."""
    path = Path(file)
    ours = Path(__file__).parents[1]
    return file.startswith("<") or ours in path.parents or "site-packages" in path.parts or _STANDARD in path.parents


_STANDARD = Path(traceback.__file__).parent


def short(value: Any) -> str:
    """A value as a sentence quotes it."""
    text = str(value.tolist()) if isinstance(value, np.ndarray | np.generic) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def one_number(value: Any) -> bool:
    """Whether a value is a number without axes."""
    if isinstance(value, float | int | np.floating | np.integer | np.bool_):
        return True
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return False
    return array.ndim == 0 and array.dtype.kind in "biuf"


def check_finite(name: str, what: str, values: Any, step: int) -> None:
    """Raises NacreError where what a family's robot gave at this step of an episode (0: its reset) is not finite."""
    if not np.isfinite(values).all():
        raise BrokenContract(
            f"{name} returned a {what} that is not finite at step {step} of an episode: {short(values)}; check the "
            "environment and the actions that it was sent.",
            "finite numbers",
        )


def undeclared_end(name: str, time: int) -> NacreError:
    """The error for an episode that terminated in a family without `can_terminate`."""
    return BrokenContract(
        f"an episode of {name} terminated at step {time}, but the family does not declare that its episodes may end "
        "early; write can_terminate = True in its class, or let the environment continue to the horizon.",
        "ends",
    )


def check_array(name: str, what: str, array: Any, shape: tuple[int, ...], dtype: type) -> None:
    """Raises NacreError where what a family's function gave for all lanes has another shape, or is of another kind."""
    kinds = "b" if dtype is bool else "biuf"
    if array.shape != shape or array.dtype.kind not in kinds:
        wanted = "bool" if dtype is bool else "numbers"
        raise BrokenContract(
            f"{name}'s {what} gives an array of shape {array.shape} of {array.dtype} for {shape[0]} lanes, but must "
            f"give {shape} of {wanted}; mend that function.",
            "shapes",
        )


def check_finite_values(name: str, what: str, array: np.ndarray) -> None:
    """Raises NacreError where what a family's function gave for all lanes [lane, ...] is not finite."""
    bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if bad.any():
        raise BrokenContract(
            f"{name}'s {what} gives values that are not finite: {short(array[bad][0])}; mend that function.",
            "finite numbers",
        )


def array_of(name: str, what: str, value: Any, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """What a family's function returned for all lanes, checked, as a new array."""
    array = np.asarray(value)
    check_array(name, what, array, shape, dtype)
    with np.errstate(over="ignore"):
        return np.array(array, dtype)


def check_tasks(family: Family, what: str, tasks: Any, num: int, line: str) -> None:
    """Raises BrokenContract where a family's function gives no `num` tasks of finite numbers in its shapes."""
    if not isinstance(tasks, dict) or set(tasks) != set(family.parameters):
        raise BrokenContract(
            f"{family.name}'s {what} gives {short(tasks)}, but must give an array for each of "
            f"{', '.join(family.parameters)}.",
            line,
        )
    for name, size in family.parameters.items():
        array, shape = np.asarray(tasks[name]), (num, size) if size else (num,)
        if array.shape != shape or array.dtype.kind not in "iuf":
            raise BrokenContract(
                f"{family.name}'s {what} gives {name} as an array of shape {array.shape} of {array.dtype}, but {num} "
                f"tasks need shape {shape} of numbers.",
                line,
            )
        if not np.isfinite(array).all():
            raise BrokenContract(f"{family.name}'s {what} gives {name} that is not finite: {short(array)}.", line)
