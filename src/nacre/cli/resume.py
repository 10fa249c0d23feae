"""`nacre resume`: a run goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nacre.cli.parsing import Positional, parse
from nacre.errors import NacreError


@dataclass(frozen=True)
class Command:
    """Continue a run exactly where its last checkpoint stands; several seeds of a run go on side by side."""

    runs: Positional[tuple[Path, ...]]
    """Run directory, or several that differ in nothing but their seed."""
    iterations: int | None = None
    """New total of meta-iterations, more than before. A decaying learning rate decays over the new total from here."""
    devices: int | None = None
    """GPUs (or other devices of JAX) to train on from now on."""
    time_limit: float | None = None
    """Stop after this many minutes, with a checkpoint."""
    wandb: bool = False
    """Log to Weights & Biases as well."""


def run(args: list[str], started: float) -> int:
    """Carries out the command line `nacre resume ARGS`; its exit status tells of a signal that stopped it."""
    command = parse(Command, args, "nacre resume")
    if not command.runs:
        raise NacreError(
            "name a run directory, as in 'nacre resume runs/cheetah-vel/pearl/seed-0'; see 'nacre resume --help'."
        )
    from nacre.runs import stopping, trainer

    trained = trainer.resume(
        command.runs, iterations=command.iterations, devices=command.devices, time_limit=command.time_limit,
        wandb=command.wandb, started=started,
    )  # fmt: skip
    return stopping.exit_status(trained.stopped_by)
