"""Lanes of a Gymnasium family: one environment a lane, in this process or in worker processes."""

from __future__ import annotations

import functools
import multiprocessing
import signal
import traceback
import weakref
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np

from nacre.errors import NacreError
from nacre.families.gymnasium import GymnasiumFamily, task_of_lane
from nacre.simulators.mujoco import LaneStep
from nacre.types import Tasks

Results = dict[int, tuple[np.ndarray, float, float, bool]]
"""lane -> (observation, reward, training reward, terminated)"""


class Environments:
    """Some lanes' environments, where they run."""

    def __init__(self, family: GymnasiumFamily, lanes: list[int]):
        self._family = family
        self._envs: dict[int, gymnasium.Env | None] = {
            lane: None if family.remake_for_task else family.checked_env(None) for lane in lanes
        }
        self._tasks: dict[int, dict[str, Any]] = {}
        self._steps: dict[int, int] = {}

    def reset(self, tasks: dict[int, dict[str, Any]], seeds: dict[int, int]) -> dict[int, np.ndarray]:
        """Starts an episode in every lane."""
        family, first = self._family, {}
        for lane, task in tasks.items():
            env = self._envs[lane]
            if env is None or (family.remake_for_task and not _same(task, self._tasks[lane])):
                if env is not None:
                    env.close()
                env = self._envs[lane] = family.checked_env(task)
            self._tasks[lane], self._steps[lane] = task, 0
            family.set_task(env, task)
            obs, _ = env.reset(seed=seeds[lane], options=family.reset_options(task))
            first[lane] = np.asarray(obs, np.float32)
        return first

    def step(self, actions: dict[int, np.ndarray]) -> Results:
        """One control step of these lanes."""
        results: Results = {}
        for lane, action in actions.items():
            env = self._envs[lane]
            assert env is not None
            obs, reward, terminated, truncated, info = env.step(action.reshape(env.action_space.shape))
            self._steps[lane] += 1
            if truncated and not terminated and self._steps[lane] < self._family.horizon:
                raise NacreError(
                    f"{self._family.name}'s environment ended an episode by a time limit of its own, before the "
                    f"family's horizon of {self._family.horizon} steps; lift that limit or declare a shorter horizon."
                )
            training_reward = info.get("training_reward", reward)
            results[lane] = (np.asarray(obs, np.float32), float(reward), float(training_reward), bool(terminated))
        return results

    def close(self) -> None:
        """Closes the environments."""
        for env in self._envs.values():
            if env is not None:
                env.close()


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


class GymnasiumLanes:
    """`num_lanes` environments of a family. The task is an argument of every reset."""

    def __init__(self, family: GymnasiumFamily, num_lanes: int):
        self.family = family
        self.num_lanes = num_lanes
        shares = np.array_split(np.arange(num_lanes), max(1, min(family.num_workers, num_lanes)))
        self._groups: list[Any] = [
            (_Worker if family.num_workers else Environments)(family, share.tolist()) for share in shares
        ]
        self._shares = [set(share.tolist()) for share in shares]

    def reset(self, task: Tasks, *rngs: np.random.Generator) -> np.ndarray:
        """Starts an episode in every lane; observations [lane, obs_dim], float32. Each generator serves an equal share
        of the lanes."""
        each = self.num_lanes // len(rngs)
        seeds = np.concatenate([rng.integers(2**31, size=each) for rng in rngs])
        tasks = {lane: task_of_lane(task, lane) for lane in range(self.num_lanes)}
        found = self._call("reset", tasks, dict(enumerate(seeds.tolist())))
        return np.stack([found[lane] for lane in range(self.num_lanes)])

    def step(self, action: np.ndarray, task: Tasks, lanes: np.ndarray | None = None) -> LaneStep:
        """One control step of all lanes, or of those listed (the others stand still and their rows mean nothing)."""
        del task
        stepping = range(self.num_lanes) if lanes is None else lanes.tolist()
        clipped = np.clip(action, -1.0, 1.0)
        found = self._call("step", {lane: clipped[lane] for lane in stepping})
        obs = np.zeros((self.num_lanes, self.family.obs_dim), np.float32)
        reward, training_reward = np.zeros((2, self.num_lanes), np.float32)
        terminated = np.zeros(self.num_lanes, bool)
        for lane, values in found.items():
            obs[lane], reward[lane], training_reward[lane], terminated[lane] = values
        return LaneStep(obs, reward, training_reward, terminated)

    def _call(self, method: str, *by_lane: dict[int, Any]) -> dict[int, Any]:
        """A method of all groups of environments, each with what concerns its lanes; workers run at the same time."""
        arguments = [
            [{lane: value for lane, value in part.items() if lane in share} for part in by_lane]
            for share in self._shares
        ]
        if self.family.num_workers:
            for worker, own in zip(self._groups, arguments, strict=True):
                worker.ask(method, own)
            results = [worker.answer() for worker in self._groups]
        else:
            results = [getattr(self._groups[0], method)(*arguments[0])]
        return {lane: value for result in results for lane, value in result.items()}


class _Worker:
    """Environments in a process of their own, which ends with this one."""

    def __init__(self, family: GymnasiumFamily, lanes: list[int]):
        context = multiprocessing.get_context("spawn")  # JAX has threads, which a fork would break
        self._here, there = context.Pipe()
        self.process = process = context.Process(target=_serve, args=(there, family, lanes), daemon=True)
        process.start()
        there.close()
        self._family = family
        weakref.finalize(self, process.terminate)
        self.answer()

    def ask(self, method: str, arguments: list[Any]) -> None:
        try:
            self._here.send((method, arguments))
        except OSError as error:
            raise self._dead() from error

    def _dead(self) -> NacreError:
        return NacreError(f"a process that steps {self._family.name} has died; run it with num_workers = 0 to see why.")

    def answer(self) -> Any:
        try:
            failed, result = self._here.recv()
        except (EOFError, OSError) as error:
            raise self._dead() from error
        if failed == "refused":
            raise NacreError(result)
        if failed:
            raise RuntimeError(f"a process that steps {self._family.name} failed:\n{result}")
        return result


def _serve(pipe: Connection, family: GymnasiumFamily, lanes: list[int]) -> None:
    """The loop of a worker process: one answer to every request, the first of which is its beginning."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches it too; the run decides when it ends
    try:
        environments = Environments(family, lanes)
        pipe.send(("", None))
        while True:
            method, arguments = pipe.recv()
            pipe.send(("", getattr(environments, method)(*arguments)))
    except (EOFError, OSError):  # the process that asked is gone
        return
    except NacreError as error:
        pipe.send(("refused", str(error)))
    except Exception:
        pipe.send(("failed", traceback.format_exc()))


@functools.lru_cache(maxsize=16)
def gymnasium_lanes(family: GymnasiumFamily, num_lanes: int) -> GymnasiumLanes:
    """The lanes of this family and number, made once: every use starts with a reset."""
    return GymnasiumLanes(family, num_lanes)
