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
    """PEARL's gradient update, the same with replay of 10 to 10,000 train tasks, collection with the policy in the
    loop, simulation without one, an evaluation of any method, an acting session's step, an iteration of any method."""
    family: str = "cheetah-vel"
    """Family whose sizes to use."""
    preset: str = "paper"
    """Preset whose sizes to use."""
    lanes: int = 64
    """Simulations side by side (collect, simulation)."""
    seeds: int = 1
    """Learners side by side (update)."""
    precision: str | None = None
    """float32, tf32 or bfloat16 (update, scaling); the preset's unless given."""
    algorithm: str | None = None
    """Method whose meta-iteration (iteration; promp unless given) or evaluation (evaluate; pearl) to time."""
    devices: int = 1
    """GPUs (or other devices of JAX) to share out seeds or tasks over (update)."""
    json: bool = False
    """Print one JSON object."""


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
