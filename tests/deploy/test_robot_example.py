"""examples/robot: a policy that is killed in a trial continues with its belief when it is started again."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from exported import untrained

from nacre.families.catalog import FAMILIES

EXAMPLE = Path(__file__).parents[2] / "examples" / "robot"


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    __import__("pendulum")
    untrained("pearl", family="pendulum-mass", encoder_hidden_dim=8).export(tmp_path / "policy")
    yield tmp_path / "policy"
    FAMILIES.pop("pendulum-mass", None)
    sys.modules.pop("pendulum", None)


@pytest.fixture
def port() -> Iterator[str]:
    plant = subprocess.Popen(
        [sys.executable, EXAMPLE / "plant.py", "--port", "0", "--rate", "0"], stdout=subprocess.PIPE, text=True
    )
    assert plant.stdout is not None
    yield plant.stdout.readline().split()[-1]
    plant.kill()
    plant.wait()
    plant.stdout.close()


def test_a_policy_that_was_killed_continues_with_its_belief(policy: Path, port: str, tmp_path: Path) -> None:
    line = [sys.executable, str(EXAMPLE / "drive.py"), str(policy), "--port", port, "--no-guards"]
    line += ["--belief", str(tmp_path / "belief.npz")]
    first = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline().startswith("episode 1: return -")
    first.kill()
    first.wait()
    first.stdout.close()
    saved = dict(np.load(tmp_path / "belief.npz"))
    steps, episodes, _ = saved["counters"]
    assert 100 <= steps < 300 and episodes >= 1 and saved["memory.precision"].all()
    done = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    assert done.startswith(f"restored after {steps} steps")
    assert "episode 1:" not in done and "episode 3: return -" in done
    total = int(re.findall(r"done after (\d+) steps", done)[0])
    assert 299 <= total <= 300  # the step that was carried out when the policy was killed may be lost
    after = dict(np.load(tmp_path / "belief.npz"))
    assert (after["memory.precision"] > saved["memory.precision"]).all() or steps == 300
