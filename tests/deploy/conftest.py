"""The agent that tests of deployment share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import nacre


@pytest.fixture(scope="module")
def agent(smoke_run: Callable[[str], Path]) -> nacre.TrainedAgent:
    return nacre.load(smoke_run("point-robot"))
