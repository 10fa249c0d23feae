"""`nacre benchmark`: timings of this machine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from nacre.cli.parsing import Positional, parse


@dataclass(frozen=True)
class Command:
    """Time a part of nacre on this machine: figure, FLOP count, the machine's measured ceiling, and their ratio."""

    what: Positional[Literal["update", "scaling", "collect", "simulation", "evaluate", "act", "iteration"]]
    """What is timed. update: PEARL's gradient update. scaling: the same with replay of 10 to 10,000 train tasks.
    collect: collection with the policy in the loop. simulation: simulation without a policy. evaluate: an evaluation.
    act: a step of an acting session. iteration: an iteration of any method."""
    family: str = "cheetah-vel"
    """Takes the sizes of this family."""
    preset: str = "paper"
    """Takes the sizes of this preset."""
    lanes: int | None = None
    """Simulations side by side (collect, simulation). Default: 64."""
    seeds: int | None = None
    """Learners side by side (update). Default: 1."""
    precision: str | None = None
    """Rounds the inputs of matrix products to float32, tf32 or bfloat16 (all but simulation;
    iteration and evaluate: of methods with this setting). Default: as in the preset."""
    algorithm: str | None = None
    """Method that is timed (iteration, evaluate). Default: promp for iteration, pearl for evaluate."""
    devices: int | None = None
    """Splits seeds or tasks over this many GPUs or other devices of JAX (update). Default: 1."""
    json: bool = False
    """Prints one JSON object instead of lines."""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre benchmark ARGS`."""
    command = parse(Command, args, "nacre benchmark")
    from nacre import benchmark
    from nacre.runs.compilation_cache import use_compilation_cache

    use_compilation_cache()
    result = benchmark.run(
        command.what, command.family, command.preset, command.lanes, command.seeds, command.precision,
        command.algorithm, command.devices,
    )  # fmt: skip
    if command.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<28} {value:.4g}" if isinstance(value, float) else f"{name:<28} {value}")
