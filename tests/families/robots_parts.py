"""What tests of robots share."""

from __future__ import annotations

import numpy as np
import pytest

from nacre.simulation.mujoco import BatchEngine, SerialEngine

EARTH = {"gravity_scale": np.ones(1)}
ENGINES = pytest.mark.parametrize("engine", [BatchEngine, SerialEngine])
