"""`nacre push`: a run for other people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nacre.cli.parsing import Positional, parse
from nacre.errors import NacreError


@dataclass(frozen=True)
class Command:
    """Share a trained agent: its run, ready to act, with a model card; in a folder or on the Hugging Face Hub."""

    run: Positional[Path]
    """Run directory."""
    to: str | None = None
    """A folder, or hf://USER/NAME (extra hub; 'hf auth login' first). nacre.load takes both."""
    checkpoint: str = "latest"
    """Which checkpoint: 'latest', 'best' (by the test score that the run had at it), or its number of updates."""
    whole: bool = False
    """With optimisers and replay, so that the run can go on; many times larger."""
    picture: Path | None = None
    """A picture for the card; trials.png of the run directory, where it is there, unless given."""
    licence: str | None = None
    """Licence of the agent, for the card, such as MIT or CC-BY-4.0."""
    private: bool = False
    """A repository on the Hub that nobody else sees, where it is new."""
    overwrite: bool = False
    """Replace the folder, if it was pushed to before. (On the Hub a push is a new commit.)"""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre push ARGS`."""
    command = parse(Command, args, "nacre push")
    if command.to is None:
        raise NacreError("say where: --to FOLDER, or --to hf://USER/NAME.")
    from nacre.deploy.sharing import push

    place = push(
        command.run, command.to, checkpoint=command.checkpoint, whole=command.whole, picture=command.picture,
        licence=command.licence, private=command.private, overwrite=command.overwrite,
    )  # fmt: skip
    print(f"pushed {command.run} to {place}; nacre.load('{place}') acts")
