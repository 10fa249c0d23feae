"""From what a sweep says to its jobs: which values are tried, what each run is, and where it lies."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nacre.errors import NacreError
from nacre.runs.experiment import Experiment, resolve
from nacre.sweeps.job import Job
from nacre.sweeps.spec import MAX_DRAWN, Choices, Range, Spec, place_of

NAMES = ("algorithm", "family", "preset")
FEWEST_VALUES = 20
"""Values of a range that the digits of drawn numbers tell apart, at least."""
MOST_DIGITS = 17
"""Digits with which a float is exact."""
MOST_IN_A_NAME = 100
"""Characters of a folder's name; of a longer one the end is a hash."""


class Planned(NamedTuple):
    """A job of a sweep, and what distinguishes it from others."""

    job: Job
    values: dict[str, Any]  # of the fields that differ in the sweep, algorithm, family and preset among them


def plan(spec: Spec) -> list[Planned]:
    """All jobs of a grid or of random draws, seeds next to each other.

    Raises NacreError for a field or value that a run refuses, and where two jobs are the same run.
    """
    planned = [
        make(spec, label, values, seed)
        for label, values in _combinations(spec)
        for seed in spec.seeds
    ]  # fmt: skip
    check_places(spec, planned)
    return planned


def check_places(spec: Spec, planned: Sequence[Planned]) -> None:
    """Raises NacreError where two jobs have one run directory."""
    seen = set[Path]()
    for one in planned:
        if one.job.path in seen:
            raise NacreError(f"{spec.source} has the run {one.job.path} twice; leave one out.")
        seen.add(one.job.path)


def make(spec: Spec, label: str, values: Mapping[str, Any], seed: int) -> Planned:
    """The job with these values, and with those that all runs share. `label`: the folder that tells it from others."""
    given: dict[str, Any] = {"preset": "paper"} | spec.fields | dict(values)
    for name in ("algorithm", "family"):
        if name not in given:
            raise NacreError(f"{spec.source} has no {name}; write {name} = ... at its top (see 'nacre list').")
    experiment = _resolved(spec, given, seed)
    names = tuple(str(given[name]) for name in NAMES)
    path = spec.out / names[1] / names[0] / label / f"seed-{seed}"
    fields = {name: value for name, value in given.items() if name not in NAMES}
    return Planned(job_of(path, experiment, names, fields), dict(values))


def job_of(path: Path, experiment: Experiment, names: Sequence[str], fields: Mapping[str, Any]) -> Job:
    """The job that trains this run. `names`: algorithm, family and preset; `fields`: changed from the preset."""
    algorithm, family, preset = names
    flags = [flag for name, value in fields.items() for flag in as_flags(name, value)]
    seed = str(experiment.options.seed)
    begin = ("train", algorithm, family, "--preset", preset, *flags, "--seed", seed, "--out", str(path))
    return Job(path, experiment, begin)


def _resolved(spec: Spec, given: Mapping[str, Any], seed: int) -> Experiment:
    for name, at_top in (("seed", "seeds"), ("out", "out")):
        if name in given:
            raise NacreError(f"{spec.source}: {place_of(spec, name)} is no field; write {at_top} at the top.")
    for name in NAMES:
        if not isinstance(given[name], str):
            raise NacreError(f"{spec.source}: {place_of(spec, name)} is {given[name]!r}, but must be text in quotes.")
    fields = {name: value for name, value in given.items() if name not in NAMES}
    try:
        return resolve(given["algorithm"], given["family"], given["preset"], seed=seed, **fields)
    except NacreError as error:
        about = str(error)
        names = [name for name, value in given.items() if re.search(rf"\b{re.escape(name)}\b", about)]
        names += [name for name in NAMES if f"'{given[name]}'" in about]
        where = f"{place_of(spec, names[-1])}: " if names else ""
        raise NacreError(f"{spec.source}: {where}{error}") from error


def as_flags(name: str, value: Any) -> list[str]:
    """A field as the command line has it."""
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, list | tuple):
        return [flag, *map(_text, value)]
    return [f"{flag}={_text(value)}"]


def _text(value: Any) -> str:
    return str(value) if not isinstance(value, float) else repr(value)


def label_of(values: Mapping[str, Any]) -> str:
    """The name of the folder of the runs with these values: kl_weight=0.1,latent_dim=5."""
    parts = [f"{name}={_shown(value)}" for name, value in values.items() if name not in ("algorithm", "family")]
    label = ",".join(parts)
    if len(label) <= MOST_IN_A_NAME:
        return label
    digest = hashlib.sha256(label.encode()).hexdigest()[:8]
    return f"{label[: MOST_IN_A_NAME - 9]}-{digest}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(_shown, value))
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"[^\w.+-]+", "-", text)


# ----------------------------------------------------------------------------------------------------------------------
# Which values


def _combinations(spec: Spec) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every folder of runs and the values in it: experiments, times the grid, times what is drawn."""
    drawn = [("", {})] if spec.random is None else list(_draws(spec.random.fields, spec.random.runs, spec.random.seed))
    number = len(spec.experiments) * math.prod(map(len, spec.grid.values())) * len(drawn) * len(spec.seeds)
    if number > MAX_DRAWN:
        raise NacreError(f"{spec.source} has {number:,} runs, but at most {MAX_DRAWN:,} are possible; leave some out.")
    for experiment in spec.experiments:
        for row in itertools.product(*spec.grid.values()):
            listed = experiment | dict(zip(spec.grid, row, strict=True))
            for name, values in drawn:
                label = ",".join(filter(None, [label_of(listed), name]))
                yield label, listed | values


def _draws(fields: Mapping[str, Choices], runs: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Draw number i follows from the seed and i alone, so that more runs leave those before as they are."""
    for run in range(runs):
        generator = np.random.default_rng([seed, run])
        yield f"draw-{run:03d}", {name: _drawn(choices, generator) for name, choices in fields.items()}


def _drawn(choices: Choices, generator: np.random.Generator) -> Any:
    if not isinstance(choices, Range):
        return choices[int(generator.integers(len(choices)))]
    low, high = choices.low, choices.high
    if choices.step is not None:
        number = low + choices.step * int(generator.integers(math.floor((high - low) / choices.step + 1e-9) + 1))
        return int(number) if choices.whole else _rounded(number, choices, 12)
    if choices.log:
        ends = (low, high + 1) if choices.whole else (low, high)
        number = math.exp(generator.uniform(math.log(ends[0]), math.log(ends[1])))
        return min(int(number), int(high)) if choices.whole else _rounded(number, choices, 4)
    if choices.whole:
        return int(generator.integers(int(low), int(high) + 1))
    return _rounded(generator.uniform(low, high), choices, 4)


def _rounded(number: float, choices: Range, digits: int) -> float:
    """The number with so many digits; with more in a narrow range, and where it would leave the range."""
    low, high = float(choices.low), float(choices.high)
    apart = choices.step or (high - low) / FEWEST_VALUES
    before_point = math.floor(math.log10(max(abs(low), abs(high)))) + 1
    for more in range(max(digits, before_point - math.floor(math.log10(apart))), MOST_DIGITS):
        rounded = float(f"{number:.{more}g}")
        if low <= rounded <= high:
            return rounded
    return min(max(float(number), low), high)
