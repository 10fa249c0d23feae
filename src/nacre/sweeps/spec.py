"""What a sweep is, as a person writes it: a TOML file, or the same as a dictionary."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nacre.errors import NacreError, shown, unknown
from nacre.runs.files import reading

KEYS = (
    "algorithm", "family", "preset", "seeds", "out", "fields", "experiment", "grid", "random", "optuna", "slurm"
)  # fmt: skip
TABLES = {
    "random": {"runs", "seed", "fields"},
    "optuna": {"trials", "seed", "pruner", "fields"},
}
RANGE_KEYS = {"low", "high", "log", "step"}
PRUNERS = ("median", "successive-halving", "none")
MAX_SEEDS = 256
MAX_DRAWN = 10_000


class Range(NamedTuple):
    """Numbers from low to high, both included; whole numbers where both are."""

    low: float
    high: float
    log: bool = False  # drawn evenly on a logarithmic scale
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Choices = tuple[Any, ...] | Range
"""What a field may be: one of these values, or a number of this range."""


class Random(NamedTuple):
    """Runs whose fields are drawn at random."""

    runs: int
    seed: int
    fields: dict[str, Choices]


class Optuna(NamedTuple):
    """Runs whose fields Optuna chooses by the scores of earlier ones."""

    trials: int
    seed: int
    pruner: str
    fields: dict[str, Choices]


class Spec(NamedTuple):
    """A sweep as it is written, checked for its form: names and values of fields are checked when runs are made."""

    source: str  # for messages: the file, or "the sweep"
    out: Path
    seeds: list[int]
    fields: dict[str, Any]  # algorithm, family and preset among them
    experiments: list[dict[str, Any]]
    grid: dict[str, tuple[Any, ...]]
    random: Random | None
    optuna: Optuna | None
    slurm: dict[str, Any]


def read_spec(spec: str | Path | Mapping[str, Any], out: str | Path | None = None) -> Spec:
    """A sweep's file or dictionary; `out` in place of its own. NacreError names the table and the key at fault."""
    if isinstance(spec, Mapping):
        return _spec("the sweep", dict(spec), Path("runs") / "sweep", out)
    path = Path(spec)
    if not path.is_file():
        raise NacreError(f"there is no file {shown(path)}; name a sweep, a TOML file (docs/sweeps.md has examples).")
    with reading(path):
        text = path.read_text()
    try:
        return _spec(shown(path), tomllib.loads(text), Path("runs") / path.stem, out)
    except tomllib.TOMLDecodeError as error:
        raise NacreError(f"{shown(path)} is not written in TOML: {shown(error, 200)}; correct that line.") from None


def _spec(source: str, data: dict[str, Any], default_out: Path, out: str | Path | None) -> Spec:
    for key in data:
        if key not in KEYS:
            raise _at(source, "", unknown("key", key, KEYS, "a field of the configuration belongs in [fields]."))
    for name in ("algorithm", "family", "preset", "out"):
        if not isinstance(data.get(name, ""), str):
            several = "; for several, write a list in [grid]" if name != "out" else ""
            raise NacreError(f"{source}: {name} is {shown(data[name])}, but must be text in quotes{several}.")
    named = {name: data[name] for name in ("algorithm", "family", "preset") if name in data}
    fields = _table(source, data, "fields")
    experiments = data.get("experiment", [{}])
    if not isinstance(experiments, list) or not all(isinstance(one, dict) for one in experiments) or not experiments:
        raise NacreError(
            f"{source}: experiment is {shown(experiments)}, but must be tables; write [[experiment]] above the "
            "fields of each experiment."
        )
    for name in named:
        if name in fields:
            raise NacreError(f"{source}: {name} stands at the top and in [fields]; leave one out.")
    return Spec(
        source,
        Path(out if out is not None else data.get("out", default_out)),
        _seeds(source, data.get("seeds", [0])),
        named | fields,
        experiments,
        {name: _listed(source, name, values) for name, values in _table(source, data, "grid").items()},
        _random(source, data),
        _optuna(source, data),
        _table(source, data, "slurm"),
    )


def _table(source: str, data: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name, {})
    if not isinstance(found, dict):
        raise NacreError(f"{source}: {name} is {shown(found)}, but must be a table, [{name}].")
    return found


def _seeds(source: str, value: Any) -> list[int]:
    span = re.fullmatch(r"(\d{1,10}):(\d{1,10})", value) if isinstance(value, str) else None
    seeds: Any = range(int(span[1]), int(span[2])) if span else [value] if isinstance(value, int) else value
    right = isinstance(seeds, list | range) and 0 < len(seeds) <= MAX_SEEDS  # a range may be far longer
    right = right and all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
    if not right or len(set(seeds)) < len(seeds):
        raise NacreError(
            f'{source}: seeds is {shown(value)}; write "0:8" for 0 to 7, or different numbers such as [0, 3, 5], at '
            f"most {MAX_SEEDS}."
        )
    return list(seeds)


def _listed(source: str, name: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple) or not values:
        raise NacreError(f"{source}: [grid] {name} is {shown(values)}, but must be a list of values, such as [1, 2].")
    if any(value in values[:place] for place, value in enumerate(values)):
        raise NacreError(f"{source}: [grid] {name} has a value twice; leave one out.")
    return tuple(values)


def _random(source: str, data: Mapping[str, Any]) -> Random | None:
    if "random" not in data:
        return None
    table = _drawn_table(source, data, "random")
    return Random(
        _number(source, "random", table, "runs", None), _number(source, "random", table, "seed", 0),
        _drawn_fields(source, "random", table),
    )  # fmt: skip


def _optuna(source: str, data: Mapping[str, Any]) -> Optuna | None:
    if "optuna" not in data:
        return None
    for other in ("random", "grid"):
        if other in data:
            raise NacreError(f"{source} has [optuna] and [{other}]; leave one of them out.")
    table = _drawn_table(source, data, "optuna")
    pruner = table.get("pruner", "median")
    if pruner not in PRUNERS:
        raise _at(source, "[optuna] pruner", unknown("pruner", str(pruner), PRUNERS))
    return Optuna(
        _number(source, "optuna", table, "trials", None), _number(source, "optuna", table, "seed", 0), pruner,
        _drawn_fields(source, "optuna", table),
    )  # fmt: skip


def _drawn_table(source: str, data: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = _table(source, data, name)
    for key in table:
        if key not in TABLES[name]:
            otherwise = f"fields belong in [{name}.fields]."
            raise _at(source, f"[{name}]", unknown("key", key, TABLES[name], otherwise))
    return table


def _number(source: str, table: str, values: Mapping[str, Any], name: str, default: int | None) -> int:
    value = values.get(name, default)
    if value is None:
        raise NacreError(f"{source}: [{table}] has no {name}; write how many, such as {name} = 20.")
    least, most = (0, 2**32 - 1) if name == "seed" else (1, MAX_DRAWN)
    if type(value) is not int or not least <= value <= most:
        raise NacreError(
            f"{source}: [{table}] {name} is {shown(value)}, but must be a whole number from {least} to {most}."
        )
    return value


def _drawn_fields(source: str, table: str, values: Mapping[str, Any]) -> dict[str, Choices]:
    fields = values.get("fields", {})
    if not isinstance(fields, dict) or not fields:
        raise NacreError(
            f"{source}: [{table}] has no fields; write [{table}.fields] with a list of values or a range, such as "
            "{low = 1e-4, high = 1e-2, log = true}, for each."
        )
    return {name: _choices(f"{source}: [{table}.fields] {name}", value) for name, value in fields.items()}


def _choices(where: str, value: Any) -> Choices:
    if isinstance(value, list | tuple) and value:
        return tuple(value)
    if not isinstance(value, Mapping) or not {"low", "high"} <= set(value) <= RANGE_KEYS:
        raise NacreError(
            f"{where} is {shown(value)}, but must be a list of values, or a range such as "
            "{low = 1e-4, high = 1e-2, log = true}, with a step if it has one."
        )
    ends = [value["low"], value["high"], *([value["step"]] if "step" in value else [])]
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in ends)
    if not numbers or not isinstance(value.get("log", False), bool):
        raise NacreError(
            f"{where} is {shown(dict(value))}, but low, high and step must be numbers, and log true or false."
        )
    found = Range(value["low"], value["high"], value.get("log", False), value.get("step"))
    if not found.low < found.high or (found.log and found.low <= 0) or (found.step is not None and found.step <= 0):
        raise NacreError(f"{where} is an impossible range; low must be below high, above 0 with log, and step above 0.")
    if found.log and found.step is not None:
        raise NacreError(f"{where} has both log and step; leave one out.")
    if found.whole and found.step is not None and not isinstance(found.step, int):
        raise NacreError(f"{where} has whole ends, but a step of {found.step}; write ends as 1.0, or a whole step.")
    return found


def _at(source: str, where: str, error: NacreError) -> NacreError:
    return NacreError(f"{source}: {where}{': ' * bool(where)}{error}")


def place_of(spec: Spec, name: str) -> str:
    """Where a field is given, for messages: '[grid] kl_weight'."""
    drawn = {"random.fields": spec.random, "optuna.fields": spec.optuna}
    tables: dict[str, Sequence[str] | Mapping[str, Any]] = {"grid": spec.grid}
    tables |= {table: found.fields for table, found in drawn.items() if found is not None}
    tables |= {"[experiment]": [key for one in spec.experiments for key in one], "fields": spec.fields}
    for table, names in tables.items():
        if name in names:
            at_top = table == "fields" and name in ("algorithm", "family", "preset")
            return name if at_top else f"[{table}] {name}"
    return name
