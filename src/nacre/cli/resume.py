"""`nacre resume`: trains an interrupted run to its end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nacre.cli.parsing import Positional, parse
from nacre.errors import NacreError


@dataclass(frozen=True)
class Command:
    """Continue a run exactly from its last checkpoint, or several seeds of a run side by side."""

    runs: Positional[tuple[Path, ...]]
    """Run directory, or several that differ only in their seed."""
    iterations: int | None = None
    """Raises the total number of meta-iterations to this. A decaying learning rate then decays over the new total."""
    devices: int | None = None
    """Trains on this many GPUs (or other devices of JAX) from now on. Default: as before."""
    time_limit: float | None = None
    """Stops after this many minutes, with a checkpoint."""
    wandb: bool = False
    """Logs to Weights & Biases as well."""


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
