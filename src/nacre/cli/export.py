"""`nacre export`: a trained agent as a folder that acts without nacre."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from nacre.cli.parsing import Positional, parse


@dataclass(frozen=True)
class Command:
    """Write a trained agent as a folder that acts with NumPy alone: weights, a description, and one program."""

    run: Positional[Path]
    """Run directory."""
    out: Annotated[Path, "-o"] = Path("policy")
    """Folder to write."""
    overwrite: bool = False
    """Replace the bundle that stands there."""
    onnx: bool = False
    """Write ONNX graphs beside the rest: act, observe, end_episode, and a whole step (extra 'onnx': pip install
    'nacre[onnx]')."""
    c: bool = False
    """Write C99 code beside the rest: one header and its weights, without allocation or dependencies."""
    adapted_from: str | None = None
    """A task, such as velocity=1.3, in whose trial in the simulator a method that adapts by gradient steps (maml-trpo,
    promp, macaw, multitask-awr, bc) becomes the policy that is written, which learns no more."""
    licence: str | None = None
    """Licence of the agent, for agent.json, such as MIT or CC-BY-4.0."""
    checkpoint: str = "latest"
    """Which checkpoint: 'latest', 'best' (by the test score that the run had at it), or its number of updates."""
    episodes: int | None = None
    """Episodes of a trial, of which the last is scored; as the run was configured unless given."""
    exploration_episodes: int | None = None
    """Episodes of a trial that explore, of methods that count them (PEARL); as configured unless given."""
    exploration: str | None = None
    """What these episodes act on: 'prior', or 'hypotheses': beliefs about train tasks (PEARL); as configured unless
    given."""
    protocol: str | None = None
    """What the agent is given of a task before the scored episode, as for `evaluate`; as configured unless given."""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre export ARGS`."""
    command = parse(Command, args, "nacre export")
    from nacre.deploy.bundles import check_place
    from nacre.deploy.trained_agent import load

    check_place(command.out, overwrite=command.overwrite)
    session = load(command.run, command.checkpoint).export(
        command.out, overwrite=command.overwrite, licence=command.licence, onnx=command.onnx, c=command.c,
        adapted_from=command.adapted_from, episodes=command.episodes,
        exploration_episodes=command.exploration_episodes, exploration=command.exploration, protocol=command.protocol,
    )  # fmt: skip
    size = sum(file.stat().st_size for file in command.out.iterdir())
    print(f"wrote {command.out} ({size / 1e6:.2f} MB): {session}")
    print(f"test it where it is to act, with 'python {command.out}/session.py'")
    if command.c:
        print(f"and in {command.out}: cc -std=c99 -O3 -march=native policy_test.c -o policy_test -lm && ./policy_test")
