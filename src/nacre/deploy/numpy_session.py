"""A meta-trained agent, one step at a time, with nothing but NumPy: what acts on a robot.

This program is nacre's, and lies as session.py in every bundle that `nacre export` writes, beside agent.json (what the
agent is) and weights.npz. Copy the folder to a machine with Python and NumPy, and there:

    from session import load
    session = load("policy")               # a trial begins: nothing is known of the task
    action = session.act(obs)              # [action_dim] in [-1, 1]
    session.observe(next_obs, reward)      # what the action led to
    session.end_episode()                  # the next episode uses what was learnt of the task

`python policy/session.py` replays the trial that was recorded at export and tells how long a step takes.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":  # before NumPy is loaded: products of a step are too small for several threads
    for _library in ("OPENBLAS", "OMP", "MKL"):
        os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import numpy as np

from nacre.deploy.numpy_agents import AGENTS, TaskAgent
from nacre.deploy.numpy_bundle import Bundle, SessionError, arrays_of, check_arrays, read, read_bundle, task_numbers
from nacre.deploy.numpy_detector import WatchingAgent
from nacre.deploy.numpy_networks import fold_in, key_of, split

TOLERANCE, LARGER = 1e-5, {"latent": 1e-3}
"""How far actions of the self-test may be from the recorded ones; larger for a kind that magnifies rounding."""
ABSORBING = 2**31 - 1
"""Folded into a trial's key for what absorbing draws; no episode has this number."""
RESTARTING = 2**31 - 1
"""Folded into the key of a trial's actions for what going back to the prior draws; no step has this number."""

MOST_ACTION = 1 + 1e-4
"""The largest size of a number of an action that is taken for one in [-1, 1]."""
SINCE_EARLIER_VERSIONS = ("memory.anew",)
"""Arrays of a saved session that earlier versions did not have, as 0."""


class Transitions(NamedTuple):
    """Logged transitions of a task, for `Session.absorb`."""

    obs: Any  # [number, obs_dim]
    action: Any  # [number, action_dim]
    reward: Any  # [number]
    next_obs: Any  # [number, obs_dim]


class Session:
    """One trial, one step at a time: act, observe, ... end_episode, act, ... A step costs the same throughout."""

    error: type[ValueError] = SessionError

    def __init__(
        self, bundle: Bundle, seed: int = 0, task: str | Mapping[str, Any] | None = None,
        guards: Mapping[str, Any] | None = None,
    ):  # fmt: skip
        self.bundle, self.about = bundle, bundle.about
        self._agent = self._agent_of(bundle)
        self._obs, self._next_obs = np.zeros((2, self.about["obs_dim"]), np.float32)
        self._action = np.zeros(self.about["action_dim"], np.float32)
        self._num_sampled, self._needs_logs = self.about["trial"]["sampled"], self.about["trial"]["needs_logs"]
        words = [self.about["agent"], self.about["trial"], self.about["files"]["weights.npz"]]
        described = json.dumps(words, sort_keys=True)
        self._identity = np.frombuffer(hashlib.sha256(described.encode()).digest(), np.uint8)
        self._guarding: Any = None
        if guards is not None:
            if __package__:
                from nacre.deploy.numpy_guards import Guarding
            else:  # in a bundle
                from guards import Guarding  # type: ignore[import-not-found,no-redef]
            self._guarding = Guarding(guards, self.about, self.error)
            self._agent.most = self._guarding.most_precision
        self.begin(seed, task)

    def _agent_of(self, bundle: Bundle) -> TaskAgent:
        about = self.about["agent"]
        return (WatchingAgent if "detector" in about else AGENTS[about["kind"]])(about, bundle.arrays)

    def __repr__(self) -> str:
        episode = f"episode {self.num_episodes + 1} of {self.about['trial']['episodes']}"
        return f"Session({self.about['name']}, {episode}, {self.num_steps} steps so far)"

    def begin(self, seed: int = 0, task: str | Mapping[str, Any] | None = None) -> None:
        """Begins a new trial, of which nothing is known. `task`, as in 'velocity=1.3' or {"velocity": 1.3}, is for the
        oracle, which is told it; SessionError where it needs one."""
        if not 0 <= seed < 2**32:
            raise self.error(f"seed is {seed}, but must be from 0 to 2^32 - 1; choose another.")
        self._told = self._parsed(task)
        begin_key, self._act_key, self._end_key = split(key_of(seed), 3)
        self._agent.begin(begin_key, self._told)
        self.num_steps = self.num_episodes = self.num_absorbed = 0
        self._has_acted = False
        if self._guarding is not None:
            self._guarding.begin()

    @property
    def guard_counts(self) -> dict[str, int]:
        """How often each guard has tripped since the session was made."""
        return {} if self._guarding is None else dict(self._guarding.counts)

    def act(self, obs: Any) -> np.ndarray:
        """The action [action_dim] in [-1, 1] for an observation [obs_dim]."""
        return self.act_unguarded(obs) if self._guarding is None else self._guarding.act(self, obs)

    def act_unguarded(self, obs: Any) -> np.ndarray:
        """As `act`, whatever guards there are."""
        if self._needs_logs and self.num_absorbed == 0:
            raise self.error(
                f"protocol {self.about['trial']['protocol']} gives the agent logged transitions of the task; call "
                "absorb before the first act."
            )
        self._take("an observation", obs, self._obs)
        if self._agent.has_fired:
            self._begin_anew(fold_in(self._act_key, self.num_steps))
        is_sampled = self._num_sampled is None or self.num_episodes < self._num_sampled
        if not is_sampled:
            self._agent.infer(self._act_key, self.num_steps)
        key = fold_in(self._act_key, self.num_steps) if is_sampled else None
        self._action[:] = self._agent.act(self._obs, key)
        self._has_acted = True
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
        if not self._has_acted:
            raise self.error("observe was called before act; call act first, then observe what it led to.")
        if not isinstance(reward, float) or not -3e38 < reward < 3e38:
            reward = self._number(reward)
        self._take("an observation", next_obs, self._next_obs)
        if action is not None:
            done = self._checked("an action", action, self._action.shape)
            self._check_size("the action that was carried out", done)
            self._action[:] = done
        self._agent.is_last = terminated
        self._agent.observe(self._obs, self._action, reward, self._next_obs)
        self.num_steps += 1
        self._has_acted = False

    def end_episode(self) -> None:
        """Ends the episode: the agent settles what it will believe and try in the next one."""
        key = fold_in(self._end_key, self.num_episodes)
        if self._agent.has_fired:
            self._begin_anew(key)
        self._agent.end_episode(key)
        self.num_episodes += 1
        self._has_acted = False
        if self._guarding is not None:
            self._guarding.end_episode()

    def forget(self) -> None:
        """Goes back to the prior inside an episode; those that explored count as done. By protocols that give the agent
        logged transitions, `absorb` comes again before the next act."""
        key = fold_in(fold_in(self._act_key, RESTARTING), self.num_steps)
        self._agent.restart(key, self._told)
        self.num_absorbed = 0
        self._has_acted = False

    def _begin_anew(self, key: np.ndarray) -> None:
        """Goes back to the prior, since the detector has fired; `key` is that of the act or the end that follows."""
        self._agent.restart(fold_in(key, RESTARTING), self._told)

    @property
    def num_detected(self) -> int:
        """How often a detector has said that the task has changed, in this trial; 0 without one."""
        return self._agent.num_fired

    def absorb(self, logged: Any) -> None:
        """Logged `Transitions` of the task, before the first act and that after `forget`: by protocols that give the
        agent some."""
        if not self._needs_logs:
            raise self.error(
                f"protocol {self.about['trial']['protocol']} gives the agent no logged transitions; export it with "
                "another protocol, such as --protocol offline-own-context."
            )
        if self.num_absorbed:
            raise self.error("the session has begun already; absorb all logged transitions at once, before act.")
        given = getattr(logged, "transition", logged)
        obs_dim, action_dim, number = self.about["obs_dim"], self.about["action_dim"], np.size(given.reward)
        if number == 0:
            raise self.error("the log has no transitions; give at least 1.")
        shapes = ((number, obs_dim), (number, action_dim), (number,), (number, obs_dim))
        parts = zip(("obs", "action", "reward", "next_obs"), shapes, strict=True)
        columns = [self._checked(f"{name} of the log", getattr(given, name), shape) for name, shape in parts]
        self._check_size("an action of the log", columns[1])
        key = fold_in(self._end_key, ABSORBING)
        self._agent.absorb(list(zip(*columns, strict=True)), fold_in(key, self.num_steps) if self.num_steps else key)
        self.num_absorbed = number

    @property
    def belief(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean, variance) of the task variable z, each [latent_dim]; empty of a method without a belief."""
        return self._agent.belief()

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all that the session knows between two steps, by name, and which agent's it is."""
        memory = {f"memory.{name}": values.copy() for name, values in self._agent.state.items()}
        counters = np.array([self.num_steps, self.num_episodes, self.num_absorbed], np.int64)
        return memory | {
            "agent": self._identity, "counters": counters, "keys": np.stack([self._act_key, self._end_key]),
        }  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Writes the state to a file of arrays (.npz), whole or not at all. What was acted but not yet observed is not
        part of it."""
        draft = Path(f"{path}.new")
        try:
            with draft.open("wb") as file:
                np.savez(file, **self.state())  # type: ignore[arg-type]
            draft.replace(path)
        except OSError as error:
            raise self.error(f"cannot write {path} ({error.strerror}); choose another place.") from error

    def restore(self, path: str | Path) -> None:
        """Continues where a session of the same bundle was saved; act comes next. SessionError for anything else."""
        try:
            now = self.state()
            since = {name: np.zeros_like(now[name]) for name in SINCE_EARLIER_VERSIONS if name in now}
            saved = since | arrays_of(Path(path), read(Path(path)))
            check_arrays(Path(path), saved, {name: values.shape for name, values in now.items()})
        except SessionError as error:
            raise self.error(f"the session cannot be restored: {error}") from error
        if not np.array_equal(saved["agent"], self._identity):
            raise self.error(f"{path} is of another agent or other weights; restore what this bundle's session saved.")
        self._set(saved)
        if self._guarding is not None:
            self._guarding.begin()

    def drop(self) -> None:
        """The last action led to nothing that is to be learnt from."""
        self._has_acted = False

    @property
    def was_capped(self) -> bool:
        """Whether the last transition said more of the task than the guard 'factor' allows."""
        return self._agent.was_capped

    def _set(self, state: dict[str, np.ndarray]) -> None:
        self.num_steps, self.num_episodes, self.num_absorbed = map(int, state["counters"])
        self._act_key, self._end_key = state["keys"].astype(np.uint32)
        for name, values in self._agent.state.items():
            values[...] = state[f"memory.{name}"]
        if self._told.size:
            self._told = self._agent.state["z"].copy()  # what an oracle was told; its agent changes nothing of it
        self._has_acted = False

    snapshot, rewind = state, _set  # the state of now, and a return to it, for guards

    def warm_up(self, num_steps: int = 100) -> None:
        """Takes steps that are forgotten again, so that the first real one is as fast as the others."""
        before, guarding, self._guarding = self.state(), self._guarding, None
        step_times(self, num_steps)
        self._set(before)
        self._guarding = guarding

    def self_test(self) -> float:
        """Replays the trial that was recorded at export: the largest difference of an action. SessionError where it is
        more than 1e-5 (maesn: 1e-3). This session stays as it is."""
        recorded, largest, kind = self.about["self_test"], 0.0, self.about["agent"]["kind"]
        trial = type(self)(self.bundle, recorded["seed"], recorded["task"])
        if recorded["absorbed"] is not None:
            trial.absorb(Transitions(**recorded["absorbed"]))
        for index, episode in enumerate(recorded["episodes"]):
            obs = episode["obs"]
            for step, (action, reward) in enumerate(zip(episode["action"], episode["reward"], strict=True)):
                difference = float(np.max(np.abs(trial.act(obs[step]) - np.array(action, np.float32))))
                if not difference <= LARGER.get(kind, TOLERANCE):
                    raise self.error(
                        f"the self-test failed: the action at step {step + 1} of episode {index + 1} is "
                        f"{difference:.2g} from the recorded one; copy the bundle anew."
                    )
                largest = max(largest, difference)
                trial.observe(obs[step + 1], reward)
            trial.end_episode()
        return largest

    def _take(self, what: str, values: Any, into: np.ndarray) -> None:
        """Copies an array; SessionError where it has another shape or is not finite, and then nothing is changed."""
        is_plain = type(values) is np.ndarray and values.dtype.kind == "f" and values.shape == into.shape
        if is_plain and values.dot(values) < 1e37:  # not so where one is NaN or infinite
            into[:] = values
        else:
            into[:] = self._checked(what, values, into.shape)

    def _checked(self, what: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
        try:
            with np.errstate(over="ignore"):
                array = np.array(values, np.float32)
        except (TypeError, ValueError) as error:
            raise self.error(f"{what} is no array of numbers ({error}); it must have shape {shape}.") from error
        if array.shape != shape:
            raise self.error(
                f"{what} has shape {array.shape}, but must have {shape} in {self.about['family']}; check what is "
                "passed."
            )
        if not np.isfinite(array).all():
            raise self.error(f"{what} at step {self.num_steps + 1} is not finite: {array.tolist()}; check the sensors.")
        return array

    def _check_size(self, what: str, action: np.ndarray) -> None:
        """SessionError for actions that do not lie in [-1, 1]."""
        largest = np.abs(action).max()
        if largest > MOST_ACTION:
            raise self.error(
                f"{what} has {largest:.4g}, but actions lie in [-1, 1]; scale them from the robot's own units, or clip "
                "them as it did."
            )

    def _number(self, reward: Any) -> float:
        if np.ndim(reward) > 0 or np.asarray(reward).dtype.kind not in "biuf":
            raise self.error(f"the reward at step {self.num_steps + 1} is {reward!r}, not a number; pass one number.")
        if not abs(float(reward)) < 3e38:
            raise self.error(
                f"the reward at step {self.num_steps + 1} is {reward}, which is not finite; check the sensors."
            )
        return float(reward)

    def _parsed(self, task: str | Mapping[str, Any] | None) -> np.ndarray:
        return task_numbers(task, self.about, self.error)


_LOW, _HIGH = np.array(-1.0, np.float32), np.array(1.0, np.float32)


def load(
    folder: str | Path, seed: int = 0, task: str | Mapping[str, Any] | None = None,
    guards: Mapping[str, Any] | None = None,
) -> Session:  # fmt: skip
    """A session of the bundle in a folder, at the beginning of a trial; `task` is for the oracle, which is told it.

    `guards`: how to react to values outside the limits, as in {"observation": "hold"}; guards.py has them. Raises
    SessionError for a bundle that is damaged, changed or of another version, and for guards that it cannot have.
    """
    return Session(read_bundle(folder), seed, task, guards)


def step_times(session: Session, num_steps: int) -> np.ndarray:
    """Microseconds of `num_steps` steps, act and observe, on random observations."""
    rng, horizon = np.random.default_rng(0), session.about["horizon"]
    obs = list(rng.standard_normal((64, session.about["obs_dim"])).astype(np.float32))
    rewards, times = rng.standard_normal(64).tolist(), np.empty(num_steps)
    if session.about["trial"]["needs_logs"] and session.num_absorbed == 0:
        session.absorb(Transitions(obs[:1], np.zeros((1, session.about["action_dim"])), [0.0], obs[1:2]))
    for index in range(num_steps):
        started = time.perf_counter()
        session.act(obs[index % 64])
        session.observe(obs[(index + 1) % 64], rewards[index % 64])
        times[index] = 1e6 * (time.perf_counter() - started)
        if session.num_steps % horizon == 0:
            session.end_episode()
    return times


def main() -> int:
    """Tests the bundle that this file lies in, and times it; the exit status is 0 where it is sound."""
    try:
        bundle = read_bundle(Path(__file__).parent)
        session = Session(bundle, task=bundle.about["self_test"]["task"])
        difference = session.self_test()
    except SessionError as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        return 2
    session.warm_up()
    p50, p99 = np.percentile(step_times(session, 2000), (50, 99))
    print(
        f"self-test passed (largest difference {difference:.1e}); a step takes {p50:.0f} us (p50), {p99:.0f} us (p99)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
