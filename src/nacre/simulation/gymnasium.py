"""Lanes of a Gymnasium family: one environment a lane, in this process or in worker processes."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
import weakref
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np

from nacre.errors import NacreError
from nacre.families.blame import failure
from nacre.families.checked_environment import CheckedEnvironment
from nacre.families.family import num_tasks
from nacre.families.gymnasium import GymnasiumFamily, task_of_lane
from nacre.simulation.change import check_change
from nacre.simulation.lane_step import LaneStep
from nacre.simulation.look import Look
from nacre.simulation.rendering import prepare_mujoco_rendering
from nacre.types import Tasks

CLOSING_SECONDS = 2.0
"""How long a worker may take to close its environments."""

FRAMES_PER_SECOND = 30
"""Of an environment whose metadata has no render_fps."""

Results = dict[int, tuple[np.ndarray, float, float, bool, bool]]
"""lane -> (observation, reward, training reward, terminated, success)"""


class Environments:
    """Some lanes' environments, where they run. A lane's is made when the lane is first used."""

    def __init__(self, family: GymnasiumFamily, render_mode: str | None = None):
        self._family = family
        self._render_mode = render_mode
        self._envs: dict[int, CheckedEnvironment] = {}
        self._tasks: dict[int, dict[str, Any]] = {}

    def env(self, lane: int, task: dict[str, Any]) -> CheckedEnvironment:
        """The environment of a lane, made now where it has none that is good for this task."""
        remake = self._family.remake_for_task
        if lane in self._envs and remake and not _same(task, self._tasks[lane]):
            self._envs.pop(lane).close()
        if lane not in self._envs:
            self._envs[lane] = self._family.checked_env(task if remake else None, self._render_mode)
        self._tasks[lane] = task
        return self._envs[lane]

    def reset(self, tasks: dict[int, dict[str, Any]], seeds: dict[int, int]) -> dict[int, np.ndarray]:
        """Starts an episode in every lane."""
        family, first = self._family, {}
        for lane, task in tasks.items():
            env, what = self.env(lane, task), "set_task"
            try:
                family.set_task(env, task)
                what = "reset_options"
                options = family.reset_options(task)
                what = "reset"
                first[lane], _ = env.reset(seed=seeds[lane], options=options)
            except (Exception, SystemExit) as error:
                raise failure(family.name, what, error) from error
        return first

    def step(self, actions: dict[int, np.ndarray]) -> Results:
        """One control step of these lanes."""
        results: Results = {}
        try:
            for lane, action in actions.items():
                env = self._envs[lane]
                obs, reward, terminated, _, info = env.step(action)
                training_reward = reward
                if "training_reward" in info:
                    training_reward = env.number("training_reward", info["training_reward"])
                success = self._family.reports_success and env.success(info)
                results[lane] = (obs, reward, training_reward, terminated, success)
        except (Exception, SystemExit) as error:
            raise failure(self._family.name, "step", error) from error
        return results

    def close(self) -> None:
        """Closes the environments."""
        try:
            while self._envs:
                self._envs.popitem()[1].close()
        except (Exception, SystemExit) as error:
            raise failure(self._family.name, "close", error) from error


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


class GymnasiumLanes:
    """Environments of a family, one a lane, in this process or in its workers. The task is an argument of every reset.

    What fails in an environment closes all of them; the next reset begins with new ones.
    """

    def __init__(self, family: GymnasiumFamily):
        self.family = family
        self._groups: list[Any] = []
        weakref.finalize(self, _close, self._groups)

    def reset(self, task: Tasks, *rngs: np.random.Generator, lanes: np.ndarray | None = None) -> np.ndarray:
        """As `Lanes.reset`, in one lane a task."""
        starting = range(num_tasks(task)) if lanes is None else lanes.tolist()
        seeds = np.concatenate([rng.integers(2**31, size=len(starting) // len(rngs)) for rng in rngs])
        if not self._groups:
            workers = [_Worker(self.family) for _ in range(self.family.num_workers)]
            self._groups += workers or [_Here(self.family)]
        tasks = {lane: task_of_lane(task, lane) for lane in starting}
        found = self._call("reset", tasks, dict(zip(starting, seeds.tolist(), strict=True)))
        obs = np.zeros((num_tasks(task), self.family.obs_dim), np.float32)
        for lane, values in found.items():
            obs[lane] = values
        return obs

    def step(self, action: np.ndarray, task: Tasks, lanes: np.ndarray | None = None) -> LaneStep:
        """One control step of all lanes, or of those listed (the others stand still and their rows mean nothing)."""
        del task
        num_lanes = len(action)
        stepping = range(num_lanes) if lanes is None else lanes.tolist()
        clipped = np.clip(action, -1.0, 1.0)
        found = self._call("step", {lane: clipped[lane] for lane in stepping})
        obs = np.zeros((num_lanes, self.family.obs_dim), np.float32)
        reward, training_reward = np.zeros((2, num_lanes), np.float32)
        terminated, success = np.zeros((2, num_lanes), bool)
        for lane, values in found.items():
            obs[lane], reward[lane], training_reward[lane], terminated[lane], success[lane] = values
        return LaneStep(obs, reward, training_reward, terminated, success if self.family.reports_success else None)

    def change(self, task: Tasks) -> None:
        """As `Lanes.change`."""
        check_change(self.family)

    def close(self) -> None:
        """Closes the environments and ends the workers."""
        _close(self._groups)

    def _call(self, method: str, *by_lane: dict[int, Any]) -> dict[int, Any]:
        """A method of all groups of environments, each with what concerns its lanes; workers run at the same time."""
        if not self._groups:
            raise NacreError(f"the environments of {self.family.name} are closed; reset them before the next step.")
        num_groups = len(self._groups)
        try:
            for index, group in enumerate(self._groups):
                own = [{lane: v for lane, v in part.items() if lane % num_groups == index} for part in by_lane]
                group.ask(method, own)
            return {lane: value for group in self._groups for lane, value in group.answer().items()}
        except BaseException:
            self.close()
            raise


class DrawnEnvironment:
    """One lane in this process, which can be drawn."""

    def __init__(self, family: GymnasiumFamily, render_mode: str | None):
        self._family = family
        self.look = Look()
        self._environments = Environments(family, render_mode)
        # Made now, so that what is wrong with it is told now; with any task, where it cannot be made without.
        any_task = family.sample_tasks(np.random.default_rng(0), 1) if family.remake_for_task else {}
        env = self._environments.env(0, task_of_lane(any_task, 0))
        self.frames_per_second = float(env.metadata.get("render_fps") or FRAMES_PER_SECOND)
        if render_mode is not None and hasattr(env.unwrapped, "mujoco_renderer"):
            prepare_mujoco_rendering(render_mode)

    def reset(self, task: Tasks, *rngs: np.random.Generator, lanes: np.ndarray | None = None) -> np.ndarray:
        """As `Lanes.reset`."""
        (rng,) = rngs
        return self._environments.reset({0: task_of_lane(task, 0)}, {0: int(rng.integers(2**31))})[0][None]

    def step(self, action: np.ndarray, task: Tasks, lanes: np.ndarray | None = None) -> LaneStep:
        """As `Lanes.step`."""
        results = self._environments.step({0: np.clip(action[0], -1.0, 1.0)})[0]
        step = LaneStep(*(np.array([value]) for value in results))
        return step if self._family.reports_success else step._replace(success=None)

    def change(self, task: Tasks) -> None:
        """As `Lanes.change`."""
        check_change(self._family)

    def render(self, task: Tasks, mode: str) -> Any:
        """As `DrawnLane.render`: the picture is the environment's own."""
        if mode == "human":
            return None  # it shows itself whenever it is reset or stepped
        try:
            frame = self._environments.env(0, task_of_lane(task, 0)).render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise NacreError(f"{self._family.name} cannot be rendered here: {error}") from error
        except (Exception, SystemExit) as error:
            raise failure(self._family.name, "render", error) from error
        if not (isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.dtype == np.uint8):
            raise NacreError(
                f"{self._family.name} cannot be rendered: its environment's render gives no picture [height, width, 3] "
                "of uint8 in the mode rgb_array."
            )
        return frame

    def reading(self, task: Tasks) -> str:
        """As `DrawnLane.reading`: nothing is known of the environment's robot."""
        return ""

    def close(self) -> None:
        """Closes the environment."""
        self._environments.close()


def _close(groups: list[Any]) -> None:
    while groups:
        groups.pop().close()


class _Here:
    """Environments in this process, asked and answering like a worker."""

    def __init__(self, family: GymnasiumFamily):
        self._environments = Environments(family)
        self._answer: Any = None

    def ask(self, method: str, arguments: list[Any]) -> None:
        self._answer = getattr(self._environments, method)(*arguments)

    def answer(self) -> Any:
        return self._answer

    def close(self) -> None:
        self._environments.close()


class _Worker:
    """Environments in a process of their own, which ends with this one."""

    def __init__(self, family: GymnasiumFamily):
        context = multiprocessing.get_context("spawn")  # JAX has threads, which a fork would break
        self._here, there = context.Pipe()
        self.process = process = context.Process(target=_serve, args=(there, family), daemon=True)
        process.start()
        there.close()
        self._family = family
        weakref.finalize(self, process.terminate)

    def ask(self, method: str, arguments: list[Any]) -> None:
        try:
            self._here.send((method, arguments))
        except OSError as error:
            raise self._dead() from error

    def _dead(self) -> NacreError:
        name = self._family.name
        self.process.join(CLOSING_SECONDS)
        if self.process.exitcode == -signal.SIGKILL:  # most often from the system, which is out of memory
            return NacreError(
                f"a process that steps {name} was killed, most likely because memory ran out: every episode that is "
                "played side by side has an environment of its own; play fewer at a time (fewer tasks, episodes or "
                "repeats), or free memory."
            )
        return NacreError(f"a process that steps {name} has died; run it with num_workers = 0 to see why.")

    def close(self) -> None:
        self._here.close()  # which it takes for the end
        self.process.join(CLOSING_SECONDS)
        self.process.terminate()

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


def _serve(pipe: Connection, family: GymnasiumFamily) -> None:
    """The loop of a worker process: one answer to every request, until it fails or nobody is there to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches it too; the run decides when it ends
    try:
        environments = Environments(family)
        while True:
            method, arguments = pipe.recv()
            pipe.send(("", getattr(environments, method)(*arguments)))
    except (EOFError, OSError):  # the process that asked is gone, or needs this one no more
        environments.close()
    except NacreError as error:
        pipe.send(("refused", str(error)))
    except Exception:
        pipe.send(("failed", traceback.format_exc()))


def make_lanes(family: GymnasiumFamily, num_lanes: int) -> GymnasiumLanes:
    """As `lanes.make_lanes`; environments are made as a reset needs them."""
    return GymnasiumLanes(family)


def make_drawn_lane(family: GymnasiumFamily, render_mode: str | None) -> DrawnEnvironment:
    """As `lanes.make_drawn_lane`."""
    return DrawnEnvironment(family, render_mode)
