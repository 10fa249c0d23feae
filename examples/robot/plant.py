"""The pendulum as a process of its own, spoken to over a socket: a line of JSON each way.

    python plant.py --port 7000 --mass 1.4 --rate 100

{"reset": true} begins an episode, {"action": 0.3} is carried out until the next control step. Either is answered by
obs, reward, done, and the action that was carried out. With --rate 0 the plant does not wait for the clock.
"""

from __future__ import annotations

import argparse
import json
import math
import socket
import time
from contextlib import suppress
from typing import Any

from pendulum import HORIZON, advance, reward

MOST_MISSED = 1000


class Plant:
    """The state of the pendulum, which continues when the other side dies."""

    def __init__(self, mass: float, rate: float):
        self.mass, self.rate = mass, rate
        self.angle = self.speed = 0.0
        self.steps, self.due = 0, time.monotonic()

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What a line is answered by."""
        self.fall()
        if asked.get("reset"):
            self.angle = self.speed = 0.0
            self.steps, self.due = 0, time.monotonic()
        action = 0.0
        if "action" in asked:
            action = min(max(float(asked["action"]), -1.0), 1.0)
            self.wait()
            self.angle, self.speed = advance(self.angle, self.speed, action, self.mass)
            self.steps += 1
        obs = [math.sin(self.angle), math.cos(self.angle), self.speed / 10]
        earned = reward(self.angle, self.speed)
        return {"obs": obs, "reward": earned, "done": self.steps >= HORIZON, "action": action, "steps": self.steps}

    def fall(self) -> None:
        """Nobody spoke for some control steps, by the clock: the pendulum continued without torque."""
        missed = int((time.monotonic() - self.due) * self.rate)
        for _ in range(min(missed, MOST_MISSED)):
            self.angle, self.speed = advance(self.angle, self.speed, 0.0, self.mass)
        self.due += max(missed, 0) / self.rate if self.rate > 0 else 0.0

    def wait(self) -> None:
        """Until the control step is over, by the clock."""
        if self.rate > 0:
            self.due = max(self.due + 1 / self.rate, time.monotonic())
            time.sleep(self.due - time.monotonic() if self.due > time.monotonic() else 0)


def main() -> None:
    """Serves one client after another."""
    parser = argparse.ArgumentParser(description="A pendulum of unknown mass.")
    parser.add_argument("--port", type=int, default=7000)
    parser.add_argument("--mass", type=float, default=1.4)
    parser.add_argument("--rate", type=float, default=100.0, help="control steps a second; 0: as fast as it can")
    arguments = parser.parse_args()
    plant = Plant(arguments.mass, arguments.rate)
    with socket.create_server(("127.0.0.1", arguments.port)) as server:
        print(f"listening on port {server.getsockname()[1]}", flush=True)
        while True:
            connection, _ = server.accept()
            with suppress(ConnectionError), connection, connection.makefile("rw") as stream:  # a client may be killed
                for line in stream:
                    stream.write(json.dumps(plant.answer(json.loads(line))) + "\n")
                    stream.flush()


if __name__ == "__main__":
    main()
