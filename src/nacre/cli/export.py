"""`nacre export`: a trained agent as a folder that acts without nacre."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from nacre.cli.parsing import Positional, parse
from nacre.cli.trial_flags import TrialFlags


@dataclass(frozen=True, kw_only=True)
class Command(TrialFlags):
    """Write a trained agent as a folder that acts with NumPy alone: weights, a description, and one program."""

    run: Positional[Path]
    """Run directory."""
    out: Annotated[Path, "-o"] = Path("policy")
    """Folder to write."""
    overwrite: bool = False
    """Replaces an exported agent that is already in the folder."""
    onnx: bool = False
    """Writes ONNX graphs as well: act, observe, end_episode, and a whole step. Needs the extra 'onnx' (pip install
    'nacre[onnx]')."""
    c: bool = False
    """Writes C99 code as well: one header and its weights. The code allocates no memory and needs no library but libm.
    """
    adapted_from: str | None = None
    """Adapts the agent in a simulated trial on this task, such as velocity=1.3, and writes the adapted policy, which
    learns no more. For methods that adapt by gradient steps: maml-trpo, promp, macaw, multitask-awr, bc."""
    detect: float | None = None
    """Writes the critics as well, so that the session begins anew when it detects that the task has changed (PEARL).
    The number is the share of trials in train tasks that may raise a false alarm, such as 0.1."""
    licence: str | None = None
    """Writes this licence of the agent into agent.json, such as MIT or CC-BY-4.0."""
    checkpoint: str = "latest"
    """Which checkpoint is written: 'latest', 'best' (with the highest test score in training), or its number of
    updates."""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre export ARGS`."""
    command = parse(Command, args, "nacre export")
    from nacre.deploy.bundles import check_place
    from nacre.deploy.trained_agent import load

    check_place(command.out, overwrite=command.overwrite)
    session = load(command.run, command.checkpoint).export(
        command.out, overwrite=command.overwrite, licence=command.licence, onnx=command.onnx, c=command.c,
        adapted_from=command.adapted_from, detect=command.detect, episodes=command.episodes, **command.options(),
    )  # fmt: skip
    size = sum(file.stat().st_size for file in command.out.iterdir())
    print(f"wrote {command.out} ({size / 1e6:.2f} MB): {session}")
    print(f"test it where it is to act, with 'python {command.out}/session.py'")
    if command.c:
        print(f"and in {command.out}: cc -std=c99 -O3 -march=native policy_test.c -o policy_test -lm && ./policy_test")
