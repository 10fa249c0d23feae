"""Jobs on a Ray cluster whose machines share a file system and have nacre installed: an actor a job."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nacre.errors import NacreError, imported
from nacre.runs.files import reason_of
from nacre.sweeps.core_shares import core_share
from nacre.sweeps.executor import LOST, Ended
from nacre.sweeps.job import Job
from nacre.sweeps.local import LocalProcess, available_cores

POLL_SECONDS = 0.2
KILL_SECONDS = 30.0
"""How long a job that was killed is waited for."""


class JobActor:
    """Does a job on the machine where Ray puts it. A process of nacre does the work, and ends with the actor."""

    def __init__(self) -> None:
        self._stop = False

    def do(self, arguments: list[str], folder: str, cores: int) -> tuple[int, str]:
        """Carries out `nacre ARGUMENTS` in this folder; its exit status and last words."""
        with suppress(OSError):
            os.chdir(folder)
        with core_share(available_cores(), cores) as share:
            process, asked = LocalProcess(arguments, share), False
            while (ended := process.poll()) is None:
                if self._stop and not asked:
                    asked = True
                    process.stop()
                time.sleep(POLL_SECONDS)
            return ended.status, ended.told

    def stop(self) -> None:
        """Asks it to save a checkpoint and end."""
        self._stop = True


class RayHandle:
    """A job of which an actor takes care."""

    def __init__(self, ray: Any, actor: Any, answer: Any):
        self._ray, self._actor, self._answer = ray, actor, answer
        self._how: Ended | None = None

    def poll(self) -> Ended | None:
        """How it ended; None while it continues, or waits for a machine."""
        if self._how is None and self._ray.wait([self._answer], timeout=0)[0]:
            try:
                self._how = Ended(*self._ray.get(self._answer))
            except self._ray.exceptions.RayError:
                self._how = Ended(LOST, "its machine, or Ray's process on it, is gone")
            self._ray.kill(self._actor)
        return self._how

    def stop(self) -> None:
        """Asks it to save a checkpoint and end."""
        self._actor.stop.remote()

    def kill(self) -> None:
        """Asks for its end at once, and waits until Ray says so."""
        self._ray.kill(self._actor)
        self._ray.wait([self._answer], timeout=KILL_SECONDS)


class RayExecutor:
    """As many jobs at a time as the cluster has cores and GPUs for, now and when machines come or go."""

    def __init__(self, address: str | None, jobs: int | None, cores: int, gpus: float):
        """`address`: HOST:PORT of the cluster's head, or auto on one of its machines."""
        if address is None:
            raise NacreError(
                "name the Ray cluster by --address: HOST:PORT of its head, or auto on one of its machines."
            )
        if address.startswith("ray://"):
            raise NacreError(f"{address} is an address of Ray Client; name the cluster itself, HOST:6379 or auto.")
        self._ray: Any = import_ray()
        self._address, self._jobs, self._cores, self._gpus = address, jobs, cores, gpus
        self._handles: list[RayHandle] = []

    def __enter__(self) -> RayExecutor:
        host = self._address.rpartition(":")[0]
        try:
            # With the host as its own address where the driver is on the head's machine: Ray would take another one.
            here = {"_node_ip_address": host} if host in _own_addresses(self._ray) else {}
            self._ray.init(address=self._address, log_to_driver=False, logging_level="ERROR", **here)
        except Exception as error:
            raise NacreError(
                f"there is no Ray cluster at {self._address} ({reason_of(error)}); start one with 'ray start --head'."
            ) from error
        if self._room() < 1:
            self._ray.shutdown()
            raise NacreError(
                f"no machine of the Ray cluster at {self._address} has {self._cores} cores and {self._gpus:g} GPUs; "
                "change --cores or --gpus."
            )
        return self

    def __exit__(self, *error: object) -> None:
        self._ray.shutdown()

    def is_free(self) -> bool:
        """Whether the cluster has room for another job."""
        self._handles = [handle for handle in self._handles if handle.poll() is None]
        return len(self._handles) < min(self._room(), self._jobs or self._room())

    def start(self, job: Job, flags: Sequence[str] = ()) -> RayHandle:
        """Starts the job's command on a machine that has room."""
        actor = (
            self._ray.remote(JobActor)
            .options(num_cpus=self._cores, num_gpus=self._gpus, max_concurrency=2, max_restarts=0)
            .remote()
        )
        answer = actor.do.remote([*job.command(), *flags], str(Path.cwd()), self._cores)
        self._handles.append(RayHandle(self._ray, actor, answer))
        return self._handles[-1]

    def _room(self) -> int:
        """How many jobs the machines that are there can do at a time."""
        room = 0
        for node in self._ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                of_gpus = [has.get("GPU", 0.0) / self._gpus] if self._gpus else []
                room += int(min([has.get("CPU", 0.0) / self._cores, *of_gpus]) + 1e-9)
        return room


def _own_addresses(ray: Any) -> set[str]:
    """The addresses by which a cluster on this machine may be named."""
    found = {f"127.0.0.{last}" for last in range(1, 255)}
    with suppress(Exception):
        found.add(ray.util.get_node_ip_address())
    return found


def import_ray() -> Any:
    """Ray, or a NacreError where it is not installed."""
    return imported("ray", "Ray is not installed; install nacre with its extra: pip install 'nacre[ray]'.")
