"""`nacre push`: a run for other people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nacre.cli.parsing import Positional, parse
from nacre.errors import NacreError


@dataclass(frozen=True)
class Command:
    """Share the run of a trained agent, with a model card, in a folder or on the Hugging Face Hub."""

    run: Positional[Path]
    """Run directory."""
    to: str | None = None
    """Where the run is copied to: a folder, or hf://USER/NAME on the Hugging Face Hub (needs the extra 'hub', and 'hf
    auth login' once). nacre.load reads both."""
    checkpoint: str = "latest"
    """Which checkpoint is shared: 'latest', 'best' (with the highest test score in training), or its number of updates.
    """
    whole: bool = False
    """Copies optimisers and replay buffers as well, so that training can continue. The copy is many times larger."""
    picture: Path | None = None
    """Picture of the model card. Default: trials.png of the run directory, where there is one."""
    licence: str | None = None
    """Writes this licence of the agent into the model card, such as MIT or CC-BY-4.0."""
    private: bool = False
    """Makes a new repository on the Hub private, and pushes to no public one."""
    overwrite: bool = False
    """Replaces the folder of an earlier push. On the Hub, a push is always a new commit, without this flag."""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre push ARGS`."""
    command = parse(Command, args, "nacre push")
    if command.to is None:
        raise NacreError("nacre push needs a place to copy the run to; add --to FOLDER, or --to hf://USER/NAME.")
    from nacre.deploy.sharing import push

    place = push(
        command.run, command.to, checkpoint=command.checkpoint, whole=command.whole, picture=command.picture,
        licence=command.licence, private=command.private, overwrite=command.overwrite,
    )  # fmt: skip
    print(f"pushed {command.run} to {place}; nacre.load('{place}') acts")
