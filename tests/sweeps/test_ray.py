"""Jobs on a Ray cluster of two nodes on this machine, one of which is killed in mid-run. Slow: make test-slow."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nacre
from fake_executor import Told
from nacre.errors import NacreError
from nacre.sweeps import ray_cluster
from nacre.sweeps.core_shares import core_share
from nacre.sweeps.engine import run_jobs
from nacre.sweeps.job import Job, progress_of, saved_at
from nacre.sweeps.ray_cluster import RayExecutor
from nacre.sweeps.source import Listed

PATIENCE = 300.0


def test_addresses_that_cannot_be_are_refused():
    with pytest.raises(NacreError, match="name the Ray cluster by --address"):
        RayExecutor(None, None, 1, 0)
    with pytest.raises(NacreError, match="an address of Ray Client"):
        RayExecutor("ray://head:10001", None, 1, 0)


def test_shares_of_cores_are_not_taken_twice_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    with core_share([0, 1, 2, 3, 4], 2) as first, core_share([0, 1, 2, 3, 4], 2) as second:
        assert (first, second) == ([0, 1], [2, 3])
        with core_share([0, 1, 2, 3, 4], 2) as third:
            assert third == []
    with core_share([0, 1, 2, 3, 4], 2) as again:
        assert again == [0, 1]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one core each, at one address, which is this machine's own."""
    pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    from ray.cluster_utils import Cluster

    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("RAY_agent_register_timeout_ms", "120000")  # on a busy machine
    address = own_address()
    monkeypatch.setattr(ray_cluster, "_own_addresses", lambda ray: {address})
    head = {"num_cpus": 1, "node_ip_address": address, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made
    made.shutdown()


def own_address() -> str:
    """The address of this machine, not 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.2"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sends signals to processes")
def test_a_run_continues_when_its_node_is_killed(cluster: Any, tmp_path: Path):
    node = cluster.add_node(num_cpus=1, node_ip_address=cluster.head_node.node_ip_address)
    cluster.wait_for_nodes()
    jobs = [slow_job(tmp_path / name) for name in ("a", "b")]
    killed: list[int] = []

    def look() -> None:
        saved = [saved_at(job.path) or 0 for job in jobs]
        if not killed and min(saved) > 2:
            killed.extend(saved)
            cluster.remove_node(node, allow_graceful=False)

    told = Told(look)
    began = time.monotonic()
    with RayExecutor(cluster.address, None, 1, 0) as executor:
        assert executor._room() == 2
        finished = run_jobs(Listed(jobs), executor, told)
    assert time.monotonic() - began < PATIENCE
    assert [outcome.state for outcome in finished.outcomes] == ["done", "done"] and finished.stopped_by is None
    lost = [line for line in told.lines if "lost" in line]
    assert len(lost) == 1 and killed
    for job in jobs:
        assert saved_at(job.path) == progress_of(job.path).grad_steps == job.total
        steps = nacre.RunDirectory(job.path).metrics()["grad_steps"].tolist()
        assert steps == list(range(1, job.total + 1))


def slow_job(path: Path) -> Job:
    """A run of seconds, with a checkpoint after every update."""
    flags = ("--iterations", "100", "--evaluation-interval", "100", "--train-evaluation-interval", "100")
    begin = ("--plugin", "slow_method", "train", "slow", "point-robot", "--preset", "smoke", *flags,
             "--checkpoint-minutes", "0", "--out", str(path))  # fmt: skip
    options = {"evaluation_interval": 100, "train_evaluation_interval": 100, "checkpoint_minutes": 0.0}
    return Job(path, nacre.resolve("random", "point-robot", "smoke", iterations=100, **options), begin)
