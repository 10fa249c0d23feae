"""The policy's process: acts on the plant by an exported agent, and continues where it was after it was killed.

    python drive.py policy --port 7000 --belief belief.npz

It saves what it knows after every step. Started again, it restores that, asks the plant where it stands, and continues.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from pathlib import Path
from typing import Any

GUARDS = {"finite": "hold", "observation": "hold", "lateness": "hold", "late": 3.0}


def main() -> None:
    """One trial."""
    parser = argparse.ArgumentParser(description="Drives the pendulum.")
    parser.add_argument("policy", type=Path)
    parser.add_argument("--port", type=int, default=7000)
    parser.add_argument("--belief", type=Path, default=Path("belief.npz"))
    parser.add_argument("--no-guards", action="store_true")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.policy))
    from session import load  # type: ignore[import-not-found]

    session = load(arguments.policy, seed=0, guards=None if arguments.no_guards else GUARDS)
    session.warm_up()
    if arguments.belief.exists():
        session.restore(arguments.belief)
        print(f"restored after {session.num_steps} steps", flush=True)
    with socket.create_connection(("127.0.0.1", arguments.port)) as plant, plant.makefile("rw") as stream:

        def tell(**what: Any) -> dict[str, Any]:
            stream.write(json.dumps(what) + "\n")
            stream.flush()
            return dict(json.loads(stream.readline()))

        now = tell()  # where the plant stands
        for episode in range(session.num_episodes, session.about["trial"]["episodes"]):
            total = 0.0
            if now["done"] or now["steps"] == 0:
                now = tell(reset=True)
            while not now["done"]:
                after = tell(action=float(session.act(now["obs"])[0]))
                session.observe(after["obs"], after["reward"], action=[after["action"]])
                session.save(arguments.belief)
                now, total = after, total + after["reward"]
            session.end_episode()
            session.save(arguments.belief)
            print(f"episode {episode + 1}: return {total:.2f} {session.guard_counts}", flush=True)
    print(f"done after {session.num_steps} steps", flush=True)


if __name__ == "__main__":
    main()
