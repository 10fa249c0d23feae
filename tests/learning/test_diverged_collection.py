"""Collections in which the physics diverge: made up for, and no more than the replay has room for."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.families.half_cheetah import CheetahVel
from nacre.learning import collection
from nacre.learning import replay as rings
from nacre.learning.collection import Buffers, Phases
from nacre.simulation.mujoco import MujocoLanes
from nacre.types import with_fixed_memory

AGENT = with_fixed_memory(lambda params, memory, obs, key, explore: jnp.zeros((obs.shape[0], 6)), explores=True)


class Short(CheetahVel):
    horizon: ClassVar[int] = 6


def test_lengths_are_cut_where_a_draw_would_get_more_than_it_misses() -> None:
    cut = collection._at_most(np.array([6, 6, 2, 6]), np.array([0, 0, 1, 1]), np.array([8, 7]))
    assert cut.tolist() == [6, 2, 2, 5]


def test_an_episode_that_the_physics_ended_is_made_up_for_to_the_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)  # where MuJoCo logs it
    step, count = MujocoLanes.step, [0]

    def spoiling(lanes: MujocoLanes, action: Any, task: Any, which: Any = None) -> Any:
        result = step(lanes, action, task, which)
        count[0] += 1
        result.diverged[0] |= count[0] in (3, 9)  # the first lane of the first two rounds
        return result

    monkeypatch.setattr(MujocoLanes, "step", spoiling)
    family, drawn = Short(), np.array([[1, 0]])
    room = rings.empty(2, 12, 2 * 12, family.obs_dim, family.action_dim)
    tasks = {"velocity": np.array([0.5, 1.0])}
    (buffers,), env_steps = collection.collect(
        family, AGENT, None, [{}], tasks, [Buffers(room, None)], drawn, Phases(prior=2), jax.random.key(0)[None]
    )
    assert np.asarray(buffers.rl.written).tolist() == [12, 12] and env_steps.tolist() == [24]
    assert count[0] > 12 and not rings.is_full(buffers.rl)
