"""`nacre train`: a new run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from nacre.cli.parsing import parse, parse_seeds, value_of
from nacre.errors import NacreError
from nacre.runs.directory import default_path
from nacre.runs.experiment import from_preset, resolve


@dataclass(frozen=True)
class Command:
    """Meta-train an algorithm on a family, in a new run directory. Any field of the configuration is a flag too."""

    algorithm: Positional[str]
    """The algorithm, as in 'nacre list'."""
    family: Positional[str]
    """The task family, as in 'nacre list'."""
    preset: str = "paper"
    """Which settings to start from."""
    seeds: str | None = None
    """Several seeds side by side in one program, a run directory each: 0:8 (0 to 7) or 0,3,5. Instead of --seed."""
    out: Path | None = None
    """Run directory; runs/FAMILY/ALGORITHM/seed-SEED unless given. With --seeds, the directory that holds seed-SEED."""
    time_limit: float | None = None
    """Stop after this many minutes, with a checkpoint."""
    wandb: bool = False
    """Log to Weights & Biases as well."""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre train ARGS`."""
    if len(args) < 2 or any(arg.startswith("-") for arg in args[:2]):
        if "--help" in args or "-h" in args:
            parse(Command, ["--help"], "nacre train")
        raise NacreError(
            "write the algorithm and the family first, as in 'nacre train pearl cheetah-vel'; see 'nacre list'."
        )
    own = [field.name for field in dataclasses.fields(Command)]
    # The family and the preset decide which flags there are and what they start from.
    base = from_preset(args[0], args[1], value_of("--preset", args) or "paper")
    parts = {"settings": base.settings, "family_options": base.family, "options": base.options}
    nested: type[Any] = dataclasses.make_dataclass(
        "TrainArguments",
        [(name, type(value), dataclasses.field(default=value)) for name, value in parts.items()],
        bases=(Command,),
        frozen=True,
    )
    nested.__doc__ = Command.__doc__
    chosen = parse(nested, args, "nacre train")
    overrides: dict[str, Any] = {}
    for name in parts:
        overrides |= dataclasses.asdict(getattr(chosen, name))
    command = Command(**{name: getattr(chosen, name) for name in own})
    if command.seeds is not None and value_of("--seed", args) is not None:
        raise NacreError("both --seed and --seeds were given; leave one out.")
    seed = overrides.pop("seed")
    seeds = [seed] if command.seeds is None else parse_seeds(command.seeds)
    experiments = [resolve(command.algorithm, command.family, command.preset, seed=seed, **overrides) for seed in seeds]
    paths = [default_path(command.algorithm, command.family, seed) for seed in seeds]
    if command.out is not None:
        paths = [command.out] if command.seeds is None else [command.out / f"seed-{seed}" for seed in seeds]

    from nacre.runs import trainer

    trainer.train(experiments, paths, time_limit=command.time_limit, wandb=command.wandb, started=started)
