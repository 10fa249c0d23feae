"""nacre push and nacre.load by the client of the Hugging Face Hub, which speaks to a made-up Hub over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import nacre
from hub_endpoint import SHA, Hub, hub


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub on this machine, whose address the client reads when it is imported."""
    pytest.importorskip("huggingface_hub", reason="the Hub's client is not installed (extra hub)")
    with hub() as made:
        values = {"HF_ENDPOINT": made.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_none"}
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        for name in [name for name in sys.modules if name.split(".")[0] == "huggingface_hub"]:
            monkeypatch.delitem(sys.modules, name)
        yield made
        for name in [name for name in sys.modules if name.split(".")[0] == "huggingface_hub"]:
            del sys.modules[name]


def first_action(agent: nacre.TrainedAgent) -> np.ndarray:
    return np.asarray(agent.session(seed=3).act(np.zeros(agent.experiment.family.obs_dim)))


def test_a_run_goes_to_the_hub_and_comes_back(smoke_run: Callable[[str], Path], endpoint: Hub):
    run = smoke_run("point-robot")
    assert nacre.push(run, "hf://somebody/agent") == "hf://somebody/agent"
    agent = nacre.load("hf://somebody/agent")
    assert np.array_equal(first_action(agent), first_action(nacre.load(run)))
    there = endpoint.files["somebody/agent"]
    assert {"README.md", "config.json", "eval.csv"} <= set(there) and there["README.md"].startswith(
        b"---\nlibrary_name"
    )
    assert f"/somebody/agent/resolve/{SHA}/config.json" in endpoint.asked
    there["checkpoints/1/old"] = b"of an earlier push"
    nacre.push(run, "hf://somebody/agent")
    assert "checkpoints/1/old" not in endpoint.files["somebody/agent"]
    with pytest.raises(nacre.NacreError, match="hf://somebody/else cannot be fetched"):
        nacre.load("hf://somebody/else")


def test_a_private_push_reaches_no_public_repository(smoke_run: Callable[[str], Path], endpoint: Hub):
    run = smoke_run("point-robot")
    nacre.push(run, "hf://somebody/open")
    before = dict(endpoint.files["somebody/open"])
    assert endpoint.private == {"somebody/open": False}
    endpoint.asked.clear()
    with pytest.raises(nacre.NacreError, match="hf://somebody/open is public, so nothing was pushed there"):
        nacre.push(run, "hf://somebody/open", private=True)
    assert endpoint.files["somebody/open"] == before and not any("/commit/" in path for path in endpoint.asked)
    for _ in range(2):
        nacre.push(run, "hf://somebody/closed", private=True)
    assert endpoint.private["somebody/closed"] and "config.json" in endpoint.files["somebody/closed"]
