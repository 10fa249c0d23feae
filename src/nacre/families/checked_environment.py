"""A person's Gymnasium environment as nacre steps it: actions in [-1, 1], flat float32 copies, every number checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces

from nacre.families.blame import BrokenContract, one_number, short, undeclared_end

if TYPE_CHECKING:
    from nacre.families.family import Family

RUNNING_STATISTICS = ("NormalizeObservation", "NormalizeReward", "VecNormalize")
"""Wrappers that scale by what they have seen so far, which no checkpoint holds."""


class CheckedEnvironment(gymnasium.Wrapper):
    """Scales actions to the environment's box and flattens observations; refuses what breaks the contract.

    Attributes that are read or set on it are those of whichever environment below has them, so that a setter may write
    `env.goal = ...` however the environment is wrapped.
    """

    def __init__(self, env: Any, family: Family):
        super().__init__(env)
        refuse_running_statistics(env, family.name)
        box = _bounded_box(env.action_space, family.name)
        low, high = box.low.astype(np.float64), box.high.astype(np.float64)
        self._nacre_family = family
        self._nacre_box = box
        self._nacre_low, self._nacre_high = low, high
        self._nacre_middle, self._nacre_half = high / 2 + low / 2, high / 2 - low / 2
        self._nacre_space = env.observation_space
        self._nacre_step = 0
        sizes = (spaces.flatdim(env.observation_space), int(np.prod(box.shape)))
        if sizes != (family.obs_dim, family.action_dim):
            raise BrokenContract(
                f"{family.name} declares obs_dim {family.obs_dim} and action_dim {family.action_dim}, but its "
                f"environment has {sizes[0]} and {sizes[1]}; declare these.",
                "declarations",
            )
        self.observation_space = spaces.Box(-np.inf, np.inf, (family.obs_dim,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (family.action_dim,), np.float32)
        self._nacre_is_made = True

    def __setattr__(self, name: str, value: Any) -> None:
        if "_nacre_is_made" not in self.__dict__ or name in self.__dict__:
            super().__setattr__(name, value)
            return
        below = self.env
        while isinstance(below, gymnasium.Wrapper) and name not in vars(below) and not hasattr(type(below), name):
            below = below.env
        setattr(below, name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_nacre_is_made" not in self.__dict__:
            raise AttributeError(name)
        return self.env.get_wrapper_attr(name)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._nacre_step = 0
        return self._flat(obs), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One control step with an action [action_dim] in [-1, 1]."""
        obs, reward, terminated, truncated, info = self.env.step(self.scaled(action))
        self._nacre_step += 1
        family = self._nacre_family
        flat, number = self._flat(obs), self.number("reward", reward)
        if not isinstance(info, dict):
            raise self._refusal("info", info, "is no dictionary")
        terminated, truncated = self._flag("terminated", terminated), self._flag("truncated", truncated)
        if terminated and not family.can_terminate:
            raise undeclared_end(family.name, self._nacre_step)
        if truncated and not terminated and self._nacre_step < family.horizon:
            raise BrokenContract(
                f"{family.name}'s environment ended an episode at step {self._nacre_step} by a time limit, "
                f"before the family's horizon of {family.horizon} steps; lift that limit or declare a shorter horizon.",
                "ends",
            )
        return flat, number, terminated, truncated, info

    def scaled(self, action: np.ndarray) -> np.ndarray:
        """An action [action_dim] in [-1, 1] in the environment's box: within its bounds in the box's own dtype."""
        wanted = self._nacre_middle + self._nacre_half * np.reshape(action, self._nacre_box.shape)
        inside = np.minimum(np.maximum(wanted, self._nacre_low), self._nacre_high)
        return inside.astype(self._nacre_box.dtype)

    def number(self, name: str, value: Any) -> float:
        """A reward of the last step, which must be one finite number."""
        if not one_number(value):
            raise self._refusal(name, value, "is not one number")
        with np.errstate(over="ignore"):
            if not np.isfinite(np.float32(value)):
                raise self._refusal(name, value, "is not finite")
        return float(value)

    def success(self, info: dict[str, Any]) -> bool:
        """Whether the last step's info says that the task is solved."""
        name = self._nacre_family.name
        if "success" not in info:
            near = [key for key in info if "success" in str(key).lower()]
            raise BrokenContract(
                f"{name} declares reports_success, but its environment's info has no 'success' at step "
                f"{self._nacre_step} of an episode{f' (it has {short(near[0])!r})' if near else ''}; put it there at "
                "every step, or declare reports_success = False.",
                "declarations",
            )
        return self._flag("success", info["success"])

    def _flag(self, name: str, value: Any) -> bool:
        """Refuses what is neither a bool nor 0 or 1; NaN would count as True."""
        if not isinstance(value, bool) and not (one_number(value) and value in (0, 1)):
            raise self._refusal(name, value, "is not True or False")
        return bool(value)

    def _flat(self, obs: Any) -> np.ndarray:
        """An observation as a new array [obs_dim] of float32."""
        fault = _fault(self._nacre_space, obs)
        if fault:
            raise self._refusal("observation", obs, fault)
        if not isinstance(self._nacre_space, spaces.Box):
            obs = spaces.flatten(self._nacre_space, obs)
        with np.errstate(over="ignore"):
            flat = np.array(obs, np.float32).reshape(-1)
        if not np.isfinite(flat).all():
            raise self._refusal("observation", obs, "is not finite")
        return flat

    def _refusal(self, what: str, value: Any, fault: str) -> BrokenContract:
        when = f"step {self._nacre_step} of an episode" if self._nacre_step else "a reset"
        return BrokenContract(
            f"{self._nacre_family.name}'s environment returned the {what} {short(value)} at {when}, which {fault}; "
            "mend the environment.",
            "finite numbers" if fault == "is not finite" else "shapes",
        )


def refuse_running_statistics(env: Any, name: str) -> None:
    """Raises BrokenContract where an environment is wrapped in running statistics."""
    while env is not None:
        for kind in type(env).__mro__:
            if kind.__name__ in RUNNING_STATISTICS:
                raise BrokenContract(
                    f"{name}'s environment is wrapped in {kind.__name__}, whose running statistics are in no "
                    "checkpoint; leave that wrapper out, or scale by constants.",
                    "seeds",
                )
        env = getattr(env, "env", None)


def _bounded_box(actions: Any, name: str) -> spaces.Box:
    if not isinstance(actions, spaces.Box) or not np.issubdtype(actions.dtype, np.floating):
        raise BrokenContract(
            f"{name}'s actions are {short(actions)}, but an agent of nacre acts with numbers in a box; "
            "wrap the environment so that it takes continuous actions.",
            "actions",
        )
    if not actions.is_bounded():
        raise BrokenContract(
            f"{name}'s actions are {short(actions)}, without bounds; give them bounds in make_env, as in "
            f"gymnasium.wrappers.TransformAction(env, lambda action: action, gymnasium.spaces.Box(-1.0, 1.0, "
            f"{actions.shape})), and leave ClipAction out: nacre keeps actions within their bounds.",
            "actions",
        )
    return actions


def _fault(space: Any, obs: Any) -> str:
    """What is wrong with an observation of this space, by Gymnasium's rule for dtypes; '' where nothing is.

    Bounds of a box are not enforced: rounding crosses them.
    """
    if isinstance(space, spaces.Box):
        array = obs if isinstance(obs, np.ndarray) else np.asarray(obs)
        if array.shape != space.shape:
            return f"has shape {array.shape} where its space says {space.shape}"
        exact = isinstance(obs, np.ndarray | np.generic)  # a list of numbers has no dtype
        if not np.can_cast(array.dtype, space.dtype, "safe" if exact else "same_kind"):
            return f"is of {array.dtype} where its space says {space.dtype}"
        return ""
    if isinstance(space, spaces.Dict):
        if not isinstance(obs, dict) or set(obs) != set(space.spaces):
            return f"is no dictionary of {', '.join(map(str, space.spaces))} as its space says"
        return next(filter(None, (_fault(part, obs[name]) for name, part in space.spaces.items())), "")
    if isinstance(space, spaces.Tuple):
        if not isinstance(obs, tuple) or len(obs) != len(space.spaces):
            return f"is no tuple of {len(space.spaces)} as its space says"
        return next(filter(None, map(_fault, space.spaces, obs)), "")
    return "" if space.contains(obs) else f"is not in its space, {short(space)}"
