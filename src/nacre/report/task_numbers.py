"""The parameters of tasks as single numbers, to colour, order and list tasks by."""

from __future__ import annotations

import numpy as np

from nacre.report.chart import Parameter
from nacre.types import Tasks


def telling(tasks: Tasks) -> Parameter:
    """The number that tells tasks apart best: the direction of angles and places, a robot's length with its sign, the
    mean of exponents; of other tasks the first parameter that differs between them, and of several numbers the one
    that differs most."""
    differing = [name for name, values in tasks.items() if (values != values[0]).any()]
    name = [*differing, *tasks][0]
    values = tasks[name]
    if name == "angle":
        return Parameter("angle (rad)", values % (2 * np.pi), True)
    if values.size == len(values):
        return Parameter(name, values.reshape(-1))
    size = values.shape[1]
    if name in ("goal", "wind") and size == 2:
        return Parameter(f"direction of the {name} (rad)", np.arctan2(values[:, 1], values[:, 0]) % (2 * np.pi), True)
    if name == "robot" and size == 2:
        return Parameter("length of the limbs, negative: actuators turned", values[:, 0] * values[:, 1])
    if name == "exponents":
        return Parameter(f"mean of the {size} exponents", values.mean(axis=1))
    most = int(values.std(axis=0).argmax())
    return Parameter(f"{name}, number {most + 1} of {size}, which differs most", values[:, most])


def all_numbers(tasks: Tasks) -> list[Parameter]:
    """`telling`, then every number of the tasks' parameters that is not the same."""
    first = telling(tasks)
    return [first, *(one for one in columns(tasks) if not np.array_equal(one.values, first.values))]


def columns(tasks: Tasks) -> list[Parameter]:
    """Every number of the tasks' parameters, by name: goal 1, goal 2."""
    found = []
    for name, values in tasks.items():
        flat = values.reshape(len(values), -1)
        for index, column in enumerate(flat.T):
            found.append(Parameter(name if values.ndim == 1 else f"{name} {index + 1}", column.astype(float)))
    return found
