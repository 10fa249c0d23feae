"""Training on several devices: eight, made of the CPU in a process of its own, against one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

import nacre
from nacre.errors import NacreError
from nacre.runs.device_check import check_devices
from nacre.runs.experiment import from_json, resolve, to_json

SCRIPT = Path(__file__).with_name("on_eight_devices.py")


def on_eight_devices(*arguments: Path) -> dict[str, Any]:
    """What the script finds."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_eight_seeds_on_eight_devices_and_the_tasks_of_one_are_those_on_one_device_but_for_rounding() -> None:
    found = on_eight_devices()
    assert found["learnt"] > 1e-3 and found["seeds differ"] > 1e-3  # else equality would mean nothing
    assert found["seeds"] < 1e-5 and found["metrics"] < 1e-5
    assert found["tasks"] < 1e-3
    assert found["devices"] == [[[seed]] * 3 for seed in range(8)]  # networks and both buffers
    assert found["program"] > 1000 and found["collectives"] == []


@pytest.mark.slow
def test_runs_go_on_with_another_number_of_devices(tmp_path: Path) -> None:
    found = on_eight_devices(tmp_path)
    assert found["two a device"] < 1e-5 and found["devices of pairs"] == [[i] for i in (0, 0, 1, 1, 2, 2, 3, 3)]
    assert found["alone"] < 1e-6
    assert found["all-reduce"]  # so the name is how such a program would have shown
    assert found["iterations"] == [3, 2] and found["devices"] == [8, 1]
    assert found["runs"] < 1e-2 and found["returns"] < 1e-2


@pytest.mark.parametrize(
    ("algorithm", "fields", "seeds", "sentence"),
    [
        ("pearl", {"devices": 9}, 9, "JAX sees 8 here"),
        ("pearl", {"devices": 3}, 8, "8 seeds cannot be shared out evenly over 3 devices"),
        ("pearl", {"devices": 4, "meta_batch": 6}, 1, "the 6 tasks of an update .* over 4 devices"),
        ("promp", {"devices": 2}, 2, "promp trains on one device; leave out --devices"),
    ],
)
def test_devices_that_cannot_be_used_are_refused(
    algorithm: str, fields: dict[str, int], seeds: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices() * 8)
    with pytest.raises(NacreError, match=sentence):
        check_devices([resolve(algorithm, "point-robot", "smoke", seed=seed, **fields) for seed in range(seeds)])


def test_what_can_be_shared_out_evenly_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices() * 8)
    check_devices([resolve("pearl", "point-robot", "smoke", seed=seed, devices=4) for seed in range(8)])
    check_devices([resolve("oracle", "point-robot", "smoke", meta_batch=8, devices=8)])


def test_a_run_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NacreError, match="devices is 999, but JAX sees"):
        nacre.train("pearl", "point-robot", preset="smoke", devices=999, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(NacreError, match="devices must be at least 1"):
        nacre.train("pearl", "point-robot", preset="smoke", devices=0, out=tmp_path / "run")


def test_a_configuration_of_before_is_of_one_device() -> None:
    data = json.loads(to_json(resolve("pearl", "point-robot", "smoke"), {}))
    del data["options"]["devices"]
    assert from_json(json.dumps(data)).options.devices == 1
