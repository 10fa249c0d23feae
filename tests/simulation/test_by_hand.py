"""A family stepped by hand, as a Gymnasium environment: refused as in a run; and processes that are forked."""

from __future__ import annotations

import subprocess
import sys
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

from nacre.errors import NacreError
from nacre.families.half_cheetah import CheetahVel
from nacre.families.point import PointRobot
from nacre.simulation.environment import TaskEnvironment
from nacre.simulation.vector_environment import TaskVectorEnv


class Ending(PointRobot):
    def step(self, state, action, task):
        return super().step(state, action, task)._replace(terminated=jnp.array(True))


class Lost(PointRobot):
    def reset(self, key):
        return super().reset(key)[0], jnp.full(2, jnp.nan)


class Unpaid(CheetahVel):
    name: ClassVar[str] = "unpaid"

    def rewards(self, before, after, action, task):
        return np.full(1, np.nan), np.zeros(1)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (Ending(), "point-robot terminated at step 1, but the family does not declare"),
        (Lost(), r"point-robot returned a first observation .* \[nan, nan\]"),
        (Unpaid(), "unpaid returned a reward that is not finite at step 1 .*: nan"),
    ],
    ids=["ends", "first observation", "reward"],
)
def test_what_a_run_refuses_is_refused_by_hand(family, words):
    env = TaskEnvironment(family)
    with pytest.raises(NacreError, match=words):
        env.reset(seed=0)
        env.step(np.zeros(family.action_dim, np.float32))


FORKS = """
import sys
import gymnasium, jax, nacre
if __name__ == "__main__":
    jax.numpy.zeros(3).block_until_ready()
    envs = gymnasium.vector.AsyncVectorEnv([lambda: gymnasium.make("nacre/PointRobot-v0")] * 2, context=sys.argv[1])
    print(envs.reset(seed=0)[0].shape)
    envs.close()
"""


@pytest.mark.parametrize(("context", "works"), [("fork", False), pytest.param("spawn", True, marks=pytest.mark.slow)])
def test_a_process_forked_after_jax_was_used_is_told_to_spawn_and_does_not_hang(context, works, tmp_path):
    (tmp_path / "forks.py").write_text(FORKS)
    run = subprocess.run(
        [sys.executable, "forks.py", context], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    told = "point-robot is stepped by JAX, which was used before this process was forked" in run.stderr
    assert ("(2, 2)" in run.stdout, told) == (works, not works), run.stderr
    if not works:
        assert "context='spawn'" in run.stderr


# ----------------------------------------------------------------------------------------------------------------------
# Many at once


class UnpaidTogether(CheetahVel):
    name: ClassVar[str] = "unpaid"

    def rewards(self, before, after, action, task):
        return np.array([0.0, np.nan]), np.zeros(2)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (Ending(), "point-robot terminated at step 1, but the family does not declare"),
        (Lost(), "point-robot returned a first observation that is not finite"),
        (UnpaidTogether(), "unpaid returned a reward that is not finite at step 1"),
    ],
    ids=["undeclared end", "first observation", "reward"],
)
def test_a_vector_environment_refuses_what_a_run_refuses(family, words):
    envs = TaskVectorEnv(family, 2)
    try:
        with pytest.raises(NacreError, match=words):
            envs.reset(seed=0)
            envs.step(np.zeros(envs.action_space.shape, np.float32))
    finally:
        envs.close()


def test_where_physics_diverge_a_vector_environment_cuts_that_robot_off_at_its_last_observation(monkeypatch):
    envs = TaskVectorEnv(CheetahVel(), 2, "velocity=1")
    first, _ = envs.reset(seed=0)
    step = envs._lanes.step

    def diverging(*arguments):
        return step(*arguments)._replace(diverged=np.array([False, True]))

    monkeypatch.setattr(envs._lanes, "step", diverging)
    obs, reward, terminated, truncated, _ = envs.step(np.ones(envs.action_space.shape, np.float32))
    assert truncated.tolist() == [False, True] and not terminated.any()
    np.testing.assert_array_equal(obs[1], first[1])
    assert (obs[0] != first[0]).any() and reward[1] == 0.0 != reward[0]
    envs.close()
