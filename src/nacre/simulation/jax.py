"""Lanes of a pure-JAX family: its one-lane functions over a leading axis [lane].

`reset` and `step` are called inside compiled code, where whole episodes run; `JaxLanes` steps from outside.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nacre.families.blame import check_array, failure
from nacre.families.family import JaxFamily, JaxStep
from nacre.families.forked import refuse_after_fork
from nacre.simulation.lane_step import LaneStep
from nacre.simulation.look import Look
from nacre.simulation.point_picture import PointPicture
from nacre.types import Key, Tasks, select, split


def reset(family: JaxFamily, num_lanes: int, key: Key) -> tuple[Any, jax.Array]:
    """(states, observations [lane, obs_dim]) at the start of an episode in every lane.

    `key` may be an array of keys: each then starts an equal share of the lanes.
    """
    keys = split(key, num_lanes // key.size)
    try:
        state, obs = jax.vmap(family.reset)(keys.T.reshape(num_lanes))
    except (Exception, SystemExit) as error:
        raise failure(family.name, "reset", error) from error
    check_array(family.name, "reset (observation)", obs, (num_lanes, family.obs_dim), float)
    return state, obs


def step(family: JaxFamily, state: Any, action: jax.Array, task: Any) -> JaxStep:
    """One control step of every lane; actions [lane, action_dim] are clipped to [-1, 1]."""
    try:
        result = jax.vmap(family.step)(state, jnp.clip(action, -1.0, 1.0), task)
        obs, reward, training_reward, terminated = result[1:]
    except (Exception, SystemExit) as error:
        raise failure(family.name, "step", error) from error
    num_lanes = len(action)
    check_array(family.name, "step (obs)", obs, (num_lanes, family.obs_dim), float)
    check_array(family.name, "step (reward)", reward, (num_lanes,), float)
    check_array(family.name, "step (training_reward)", training_reward, (num_lanes,), float)
    check_array(family.name, "step (terminated)", terminated, (num_lanes,), bool)
    return result


class JaxLanes:
    """`num_lanes` robots, stepped by a call."""

    def __init__(self, family: JaxFamily, num_lanes: int):
        refuse_after_fork(family.name)
        self.family = family
        self.num_lanes = num_lanes
        self.frames_per_second = PointPicture.frames_per_second
        self.look = Look()
        self._picture: PointPicture | None = None
        self._state: Any = None

        def restart(old: Any, seeds: jax.Array, starts: jax.Array) -> tuple[Any, jax.Array]:
            state, obs = reset(family, num_lanes, jax.vmap(jax.random.key)(seeds))
            return (state if old is None else select(starts, state, old)), obs

        def advance(state: Any, action: jax.Array, task: Any, goes: jax.Array) -> JaxStep:
            result = step(family, state, action, task)
            return result._replace(state=select(goes, result.state, state))

        self._reset, self._step = jax.jit(restart), jax.jit(advance)

    def reset(self, task: Tasks, *rngs: np.random.Generator, lanes: np.ndarray | None = None) -> np.ndarray:
        """As `Lanes.reset`; the starts follow from the generators alone."""
        starting = np.arange(self.num_lanes) if lanes is None else lanes
        seeds = np.zeros(self.num_lanes, np.uint32)
        seeds[starting] = np.concatenate([rng.integers(2**32, size=len(starting) // len(rngs)) for rng in rngs])
        if self._picture is not None:
            self._picture.restart()
        self._state, obs = self._reset(self._state, seeds, _mask(self.num_lanes, starting))
        return np.array(obs)

    def step(self, action: np.ndarray, task: Tasks, lanes: np.ndarray | None = None) -> LaneStep:
        """As `Lanes.step`."""
        goes = np.ones(self.num_lanes, bool) if lanes is None else _mask(self.num_lanes, lanes)
        result = self._step(self._state, action, task, goes)
        self._state = result.state
        return LaneStep(*map(np.array, (result.obs, result.reward, result.training_reward, result.terminated)))

    def change(self, task: Tasks) -> None:
        """As `Lanes.change`: a step is given the task, so nothing is to be done."""

    def render(self, task: Tasks, mode: str) -> Any:
        """As `DrawnLane.render`: the first two numbers of the state are where the point is."""
        return self._drawn().render(task, np.asarray(self._state[0]), mode)

    def reading(self, task: Tasks) -> str:
        """As `DrawnLane.reading`."""
        return self._drawn().reading(task, np.asarray(self._state[0])[:2])

    def _drawn(self) -> PointPicture:
        if self._picture is None:
            goal = self.family.goal
            place = None if goal is None else np.asarray(goal)
            self._picture = PointPicture(self.look, self.family.goal_radius, place)
        return self._picture

    def close(self) -> None:
        """Closes the window, where there is one."""
        if self._picture is not None:
            self._picture.close()
            self._picture = None


def _mask(num_lanes: int, lanes: np.ndarray) -> np.ndarray:
    mask = np.zeros(num_lanes, bool)
    mask[lanes] = True
    return mask


def make_lanes(family: JaxFamily, num_lanes: int) -> JaxLanes:
    """As `lanes.make_lanes`."""
    return JaxLanes(family, num_lanes)


def make_drawn_lane(family: JaxFamily, render_mode: str | None) -> JaxLanes:
    """As `lanes.make_drawn_lane`."""
    return JaxLanes(family, 1)
