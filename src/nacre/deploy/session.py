"""One trial of a trained agent, one step at a time, in a loop that is not nacre's."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nacre.deploy.numpy_guards import Guarding
from nacre.errors import NacreError
from nacre.families.family import Family
from nacre.presets.trials import TrialSettings
from nacre.runs.experiment import check_seed
from nacre.simulation import rollout
from nacre.simulation.change import RESTARTING
from nacre.types import Agent, Belief, Logged, Tasks, Transition, check_actions

MOST = 3e38
"""Below it, a number is finite in float32 too."""
_LOW, _HIGH = np.array(-1.0, np.float32), np.array(1.0, np.float32)


class Session:
    """One trial, one step at a time: act, observe, ... end_episode, act, ... A step costs the same throughout."""

    def __init__(
        self, name: str, family: Family, functions: Agent, params: Any, trials: TrialSettings, seed: int, told: Tasks,
        believes: Callable[[Any], Belief] | None = None, guarding: Guarding | None = None,
    ):  # fmt: skip
        """`TrainedAgent.session` makes them. `told` [1, ...]: the task, for a method that is told it. `believes`: the
        belief in a memory, of a method that has one. `guarding`: its guards."""
        self._name = name
        self._family = family
        self._functions, self._params = functions, rollout.on_host(params)
        self._arrays, self._of_params = jax.tree.flatten(self._params)
        self._trials, self._believes = trials, believes
        self._alive = rollout.on_host(jnp.ones(1, bool))
        begin_key, self._act_key, self._end_key = rollout.on_host(jax.random.split(seed_key(seed), 3))
        self._told = told
        self.memory = rollout.begin(functions, self._params, told, begin_key)
        self.num_steps = 0
        self._steps_before = 0  # those that the memory holds of this episode
        self.num_episodes = 0
        self.num_absorbed = 0
        self._episodes_forgotten = 0
        self._obs: np.ndarray | None = None
        self._action: np.ndarray | None = None
        self._guarding = guarding

    def __repr__(self) -> str:
        return (
            f"Session({self._name}, episode {self.num_episodes + 1} of {self._trials.episodes}, "
            f"{self.num_steps} steps so far)"
        )

    @property
    def name(self) -> str:
        """Which agent's it is: 'promp on cheetah-vel'."""
        return self._name

    @property
    def memory(self) -> Any:
        """What the agent remembers of the trial, [1, ...]."""
        return jax.tree.unflatten(self._of_memory, self._remembered)

    @memory.setter
    def memory(self, memory: Any) -> None:
        self._remembered, self._of_memory = jax.tree.flatten(memory)
        self._steps = rollout.steps(self._functions, self._of_params, self._of_memory)

    def _remember(self, changed: list[Any]) -> None:
        """Takes in what a step has changed of the memory, whose other arrays are None."""
        pairs = zip(self._remembered, changed, strict=True)
        self._remembered = [old if new is None else new for old, new in pairs]

    def go_on(self, memory: Any) -> None:
        """Continues in the scored episode of a trial, with this memory of the others."""
        self.memory, self.num_episodes, self.num_absorbed = rollout.on_host(memory), self._trials.episodes - 1, 1

    def absorb(self, logged: Logged) -> None:
        """Logged transitions of the task, [number], before the first act and that after `forget`: by protocols that
        give the agent some.

        `TrainedAgent.contexts` draws them from a data set, `TrainedAgent.logged_episode` makes them of an episode
        of one's own. Raises NacreError where the protocol gives none, where they do not fit the family, and where
        the session has begun.
        """
        if self._trials.meets.logs is None:
            raise NacreError(
                f"protocol {self._trials.protocol} gives the agent no logged transitions; make the session with "
                "another protocol, such as protocol='offline-own-context'."
            )
        if self.num_absorbed or (not self._trials.needs_logs and (self.num_steps or self.num_episodes)):
            raise NacreError("the session has begun already; absorb all logged transitions at once, before act.")
        self._check_logged(logged)
        key = jax.random.fold_in(self._end_key, rollout.ABSORBING)
        key = jax.random.fold_in(key, self.num_steps) if self.num_steps else key
        lane = rollout.on_host(jax.tree.map(lambda x: np.array(x, np.float32)[None], logged))
        self.memory = rollout.absorb(self._functions, self._params, self.memory, lane, key)
        self.num_absorbed = len(logged.transition.reward)

    def act(self, obs: Any) -> np.ndarray:
        """The action [action_dim] in [-1, 1] for an observation [obs_dim]."""
        return self.act_unguarded(obs) if self._guarding is None else self._guarding.act(self, obs)

    def act_unguarded(self, obs: Any) -> np.ndarray:
        """As `act`, whatever guards there are."""
        if self.num_absorbed == 0 and self._trials.needs_logs:
            raise NacreError(
                f"protocol {self._trials.protocol} gives the agent logged transitions of the task; call absorb before "
                "the first act."
            )
        self._obs = self._checked_obs(obs)
        action, changed = self._steps.act(
            self._arrays, self._remembered, self._obs[None], self._act_key, np.int32(self.num_steps),
            explore=self._functions.explores(self.num_episodes, self._trials.episodes - 1),
        )  # fmt: skip
        self._remember(changed)
        self._action = np.asarray(action)[0]
        return np.minimum(np.maximum(self._action, _LOW), _HIGH)

    def observe(self, next_obs: Any, reward: Any, *, terminated: bool = False, action: Any = None) -> None:
        """What the last action led to: the true next observation and the reward. A time limit is not a termination.

        `action` [action_dim]: what was carried out, where that is not the action that `act` gave.
        """
        if self._guarding is None:
            self.observe_unguarded(next_obs, reward, terminated, action)
        else:
            self._guarding.observe(self, next_obs, reward, terminated, action)

    def observe_unguarded(self, next_obs: Any, reward: Any, terminated: bool, action: Any) -> None:
        """As `observe`, whatever guards there are."""
        if self._action is None or self._obs is None:
            raise NacreError("observe was called before act; call act first, then observe what it led to.")
        if self.num_steps - self._steps_before == self._functions.most_steps:
            warnings.warn(
                f"an episode of this session has more than {self._functions.most_steps} steps, the horizon of "
                f"{self._family.name}: {self._name} adapts to its first {self._functions.most_steps}; call end_episode "
                "there.",
                stacklevel=3,
            )
        if not isinstance(reward, float) or not -MOST < reward < MOST:
            reward = self._checked_reward(reward)
        next_obs = self._checked_obs(next_obs)
        done = self._action
        if action is not None:
            done = self._checked("an action", action, self._family.action_dim)
            check_actions("the action that was carried out", done)
        rewards, discount = np.array([reward], np.float32), np.array([0.0 if terminated else 1.0], np.float32)
        transition = Transition(self._obs[None], done[None], rewards, rewards, discount, next_obs[None])
        self._remember(self._steps.observe(self._arrays, self._remembered, transition, self._alive))
        self.num_steps += 1
        self._action = None

    def end_episode(self) -> None:
        """Ends the episode: the agent settles what it will believe and try in the next one."""
        key = jax.random.fold_in(self._end_key, self.num_episodes)
        self.memory = rollout.end_episode(self._functions, self._params, self.memory, key)
        self.num_episodes += 1
        self._steps_before = self.num_steps
        self._action = None
        if self._guarding is not None:
            self._guarding.end_episode()

    def forget(self) -> None:
        """Goes back to the prior inside an episode; those that explored count as done. By protocols that give the agent
        logged transitions, `absorb` comes again before the next act."""
        key = jax.random.fold_in(jax.random.fold_in(self._act_key, RESTARTING), self.num_steps)
        self.memory = rollout.restart(self._functions, self._params, self.memory, self._told, key)
        self._steps_before = self.num_steps
        self.num_absorbed, self._episodes_forgotten = 0, self.num_episodes
        self._action = None

    @property
    def has_adapted(self) -> bool:
        """Whether it knows more than the prior: of logged transitions where there are any, else of an episode."""
        return self.num_absorbed > 0 or (not self._trials.needs_logs and self.num_episodes > self._episodes_forgotten)

    def snapshot(self) -> Any:
        """The memory and the counters of steps and forgotten episodes, for `rewind`."""
        return self._remembered, self.num_steps, self._steps_before, self._episodes_forgotten

    def rewind(self, snapshot: Any) -> None:
        """Goes back to a snapshot."""
        self._remembered, self.num_steps, self._steps_before, self._episodes_forgotten = snapshot
        self._action = None

    def drop(self) -> None:
        """The last action led to nothing that is to be learnt from."""
        self._action = None

    @property
    def num_detected(self) -> int:
        """How often a detector has said that the task has changed; 0 without one."""
        return int(getattr(self.memory, "num_fired", np.zeros(1))[0])

    @property
    def guard_counts(self) -> dict[str, int]:
        """How often each guard has tripped."""
        return {} if self._guarding is None else dict(self._guarding.counts)

    @property
    def belief(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean, variance) of the task variable z, each [latent_dim]; empty of a method without a belief."""
        if self._believes is None:
            return np.zeros(0, np.float32), np.zeros(0, np.float32)
        mean, variance = self._believes(self.memory)
        return np.asarray(mean[0]), np.asarray(variance[0])

    def _check_logged(self, logged: Logged) -> None:
        """Raises NacreError where these are not logged transitions of the family."""
        obs_dim, action_dim = self._family.obs_dim, self._family.action_dim
        wanted = Transition((obs_dim,), (action_dim,), (), (), (), (obs_dim,))
        count = len(np.atleast_1d(logged.transition.reward))
        for name, values in (logged.transition._asdict() | logged._asdict()).items():
            if name == "transition":
                continue
            shape = (count, *getattr(wanted, name, (obs_dim,) if name == "last_obs" else ()))
            if np.shape(values) != shape or count == 0:
                raise NacreError(
                    f"{name} of the logged transitions has shape {np.shape(values)}, but must have {shape} for {count} "
                    f"transitions of {self._family.name}; give at least 1, all in such arrays."
                )
            if not np.isfinite(np.asarray(values)).all():
                raise NacreError(
                    f"{name} of the logged transitions has a number that is not finite; leave that episode out."
                )
        check_actions("an action of the logged transitions", np.asarray(logged.transition.action))

    def _checked_reward(self, reward: Any) -> float:
        """As a float32."""
        if not isinstance(reward, numbers.Real) and (
            np.ndim(reward) > 0 or np.asarray(reward).dtype.kind not in "biuf"
        ):
            raise NacreError(
                f"the reward at step {self.num_steps + 1} is {reward!r}, which is not one number; check "
                "the environment."
            )
        with np.errstate(over="ignore"):
            number = np.float32(reward)
        if not np.isfinite(number):
            raise NacreError(
                f"the reward at step {self.num_steps + 1} is {reward}, which is not finite; check the environment."
            )
        return float(number)

    def _checked_obs(self, obs: Any) -> np.ndarray:
        """As [obs_dim] float32, a copy."""
        return self._checked("an observation", obs, self._family.obs_dim)

    def _checked(self, what: str, values: Any, width: int) -> np.ndarray:
        """As [width] float32, a copy."""
        is_plain = type(values) is np.ndarray and values.dtype.kind == "f" and values.shape == (width,)
        if is_plain and values.dot(values) < MOST:  # not so where a number is NaN or infinite
            return np.array(values, np.float32)
        try:
            with np.errstate(over="ignore"):
                array = np.array(values, dtype=np.float32)  # a copy: the environment may use its array again
        except (TypeError, ValueError) as error:
            raise NacreError(f"{what} is no array of numbers ({error}); it must have shape {(width,)}.") from error
        if array.shape != (width,):
            raise NacreError(
                f"{what} has shape {array.shape}, but must have {(width,)} in {self._family.name}; check what is "
                "passed."
            )
        if not np.isfinite(array).all():
            raise NacreError(
                f"{what.replace('an ', 'the ')} at step {self.num_steps + 1} is {array.tolist()}, which is not finite; "
                "check the environment."
            )
        return array


def seed_key(seed: int) -> jax.Array:
    """The key of a trial's random numbers. Raises NacreError for a number that is no seed."""
    check_seed("seed", seed)
    return jax.random.key(seed)
