"""The one loop with side effects: iterate, evaluate, log, checkpoint, resume. Algorithms only yield."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nacre.errors import NacreError, is_out_of_memory
from nacre.learning.replay import Replay
from nacre.runs.checkpoints import Checkpoints
from nacre.runs.compilation_cache import use_compilation_cache
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import Experiment
from nacre.runs.logs import Sinks, import_wandb
from nacre.simulation.rollout import Evaluation, evaluate_side_by_side
from nacre.types import Tasks, stream


class Saved(NamedTuple):
    """What a checkpoint holds."""

    state: Any
    wall_seconds: np.float64
    train_tasks: Tasks
    test_tasks: Tasks


class StopRequest:
    """Whether something asked the run to stop: Ctrl-C, SIGTERM, or its time limit."""

    def __init__(self, time_limit_minutes: float | None):
        if time_limit_minutes is not None and not 0 < time_limit_minutes < math.inf:
            raise NacreError(
                f"the time limit is {time_limit_minutes} minutes, but must be above 0; change --time-limit."
            )
        self._deadline = None if time_limit_minutes is None else time.monotonic() + 60 * time_limit_minutes
        self._signal: str | None = None

    @property
    def reason(self) -> str | None:
        """Why to stop, or None."""
        if self._signal is None and self._deadline is not None and time.monotonic() >= self._deadline:
            return "the time limit"
        return self._signal

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turns the first Ctrl-C or SIGTERM into a request; a second one stops at once, without a checkpoint."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self._signal is not None:
                raise KeyboardInterrupt
            self._signal = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def train(
    experiments: Sequence[Experiment],
    paths: Sequence[Path],
    *,
    time_limit: float | None = None,
    wandb: bool = False,
    started: float | None = None,
) -> list[RunDirectory]:
    """Meta-trains from nothing in new run directories: one, or one a seed, side by side in one program.

    `time_limit` in minutes; `started` by time.monotonic().
    """
    stop = StopRequest(time_limit)
    if wandb:
        import_wandb()
    _check_memory(experiments)
    for path in paths:
        RunDirectory.check_free(path)
    runs = [RunDirectory.create(path, experiment) for path, experiment in zip(paths, experiments, strict=True)]
    with _training(runs):
        _run(runs, stop, wandb, started)
    return runs


def resume(
    paths: Sequence[Path], *, iterations: int | None = None, time_limit: float | None = None, wandb: bool = False,
    started: float | None = None,
) -> list[RunDirectory]:  # fmt: skip
    """Continues runs exactly where their last checkpoints stand; `iterations` sets a new total.

    Several runs go on side by side, from the newest update of which all have a checkpoint; they must differ in
    nothing but their seed.
    """
    stop = StopRequest(time_limit)
    runs = [RunDirectory(path) for path in paths]
    resumed = []
    for run in runs:
        experiment = run.experiment
        if iterations is not None:
            if iterations < experiment.settings.iterations:
                raise NacreError(
                    f"the run at {run.path} is set to {experiment.settings.iterations} iterations; "
                    "--iterations can only raise that."
                )
            settings = dataclasses.replace(experiment.settings, iterations=iterations)
            experiment = dataclasses.replace(experiment, settings=settings)
        resumed.append(experiment)
    _check_alike(runs, resumed)
    _check_memory(resumed)
    with _training(runs):
        _run(runs, stop, wandb, started, resumed)
    return runs


def _check_alike(runs: Sequence[RunDirectory], experiments: Sequence[Experiment]) -> None:
    """Runs go on side by side only if they differ in nothing but seed and preset name."""

    def seedless(experiment: Experiment) -> Experiment:
        options = dataclasses.replace(experiment.options, seed=0)
        return dataclasses.replace(experiment, options=options, preset="")

    if len({run.path.resolve() for run in runs}) < len(runs):
        raise NacreError(f"a run was named twice among {', '.join(str(run.path) for run in runs)}; name each once.")
    for run, experiment in zip(runs, experiments, strict=True):
        if seedless(experiment) != seedless(experiments[0]):
            raise NacreError(
                f"the runs at {runs[0].path} and {run.path} differ in more than their seed; resume them apart."
            )


@contextmanager
def _training(runs: Sequence[RunDirectory]) -> Iterator[None]:
    """Locks the runs; what does not fit into memory ends in one sentence."""
    with ExitStack() as locks:
        for run in runs:
            locks.enter_context(run.locked())
        locks.enter_context(_memory_errors(runs[0]))
        yield


def load_state(run: RunDirectory, *, with_buffers: bool = True) -> Any:
    """The state at a run's newest checkpoint. Acting does not need the replay buffers: without, they are None.

    Another process may train the run meanwhile: a checkpoint that it replaces while it is read is left for the newest.
    """
    while True:
        before = _checkpoint_numbers(run)
        if not before:
            raise NacreError(
                f"the run at {run.path} has no checkpoint yet; continue it with 'nacre resume {run.path}'."
            )
        try:
            return _load_newest(run, with_buffers)
        except (OSError, NacreError):
            if _checkpoint_numbers(run) == before:
                raise


def _checkpoint_numbers(run: RunDirectory) -> list[str]:
    """The complete checkpoints that a run has now."""
    return sorted(path.name for path in run.checkpoints.glob("*") if path.name.isdigit())


def _load_newest(run: RunDirectory, with_buffers: bool) -> Any:
    template = _fresh(run) if with_buffers else jax.eval_shape(lambda: _fresh(run))
    if not with_buffers:
        is_replay = lambda x: isinstance(x, Replay)  # noqa: E731
        template = jax.tree.map(lambda x: None if is_replay(x) else x, template, is_leaf=is_replay)
    checkpoints = Checkpoints(run.checkpoints, read_only=True)
    try:
        return checkpoints.restore(template).state
    finally:
        checkpoints.close()


def _fresh(run: RunDirectory) -> Saved:
    experiment, tasks = run.experiment, run.tasks
    state = experiment.algorithm.init(experiment.family, experiment.settings, experiment.options.seed)
    return Saved(state, np.float64(0.0), tasks.train, tasks.test)


def _newest(run: RunDirectory, checkpoints: Checkpoints, grad_steps: int | None) -> Saved:
    """The checkpoint at this update, or (None) the beginning of the run."""
    fresh = _fresh(run)
    if grad_steps is None:
        return fresh
    saved = checkpoints.restore(fresh, grad_steps)
    for there, here in ((saved.train_tasks, run.tasks.train), (saved.test_tasks, run.tasks.test)):
        if not all(np.array_equal(there[name], here[name]) for name in here):
            raise NacreError(f"the tasks in {run.path / 'tasks.json'} are not the checkpoint's; restore that file.")
    return saved


def _newest_common(runs: Sequence[RunDirectory], checkpoints: Sequence[Checkpoints]) -> int | None:
    """The newest update of which every run has a checkpoint; None if none has any."""
    steps = [set(one.steps()) for one in checkpoints]
    common = set.intersection(*steps)
    if not common and any(steps):
        raise NacreError(
            f"the runs at {runs[0].path} and its neighbours have no checkpoint at the same update; resume them apart."
        )
    return max(common, default=None)


class _Trained:
    """One run while it is trained: its files and logs, and what it had when this process took it up."""

    def __init__(self, run: RunDirectory, checkpoints: Checkpoints, saved: Saved, started: float, wandb: bool):
        self.run = run
        self.experiment = run.experiment
        self.checkpoints = checkpoints
        self._earlier = float(saved.wall_seconds) - started
        run.cut_back(int(saved.state.grad_steps))
        checkpoints.cut_back(int(saved.state.grad_steps))
        self.sinks = Sinks(run, int(saved.state.grad_steps), wandb)

    def wall_seconds(self) -> float:
        """Seconds that processes have spent on this run so far."""
        return self._earlier + time.monotonic()

    def save(self, state: Any) -> None:
        """A checkpoint, unless the networks are spoilt."""
        _check_learnt(state, self.run)
        tasks = self.run.tasks
        tree = Saved(state, np.float64(self.wall_seconds()), tasks.train, tasks.test)
        self.checkpoints.save(int(state.grad_steps), tree)

    def log(self, state: Any, metrics: dict[str, Any]) -> None:
        """One row of metrics.csv; NacreError where a number is not finite."""
        num_updates = self.experiment.settings.num_train_steps_per_iteration
        values = _finite_means(metrics, int(state.grad_steps), num_updates, self.run, self.checkpoints)
        self.sinks.metrics(state, self.wall_seconds(), values)


def _run(
    runs: Sequence[RunDirectory], stop: StopRequest, wandb: bool, started: float | None,
    resumed: Sequence[Experiment] | None = None,
) -> None:  # fmt: skip
    """From the newest checkpoints (or from nothing) to the last iteration or a request to stop."""
    started = time.monotonic() if started is None else started
    use_compilation_cache()
    checkpoints = [Checkpoints(run.checkpoints) for run in runs]
    begin_at = _newest_common(runs, checkpoints)
    for run, experiment in zip(runs, resumed or [], strict=False):
        run.experiment = experiment
    experiment = runs[0].experiment
    settings = experiment.settings
    if (begin_at or 0) < settings.iterations * settings.num_train_steps_per_iteration:
        experiment.algorithm.compile(experiment.family, settings, len(runs))
        _release_memory()
    saved = [_newest(run, one, begin_at) for run, one in zip(runs, checkpoints, strict=True)]
    for run, one in zip(runs, saved, strict=True):
        if resumed is not None:
            run.record_resume(run.experiment, int(one.state.grad_steps))
    _release_memory()
    states = [one.state for one in saved]
    trained = [_Trained(*parts, started, wandb) for parts in zip(runs, checkpoints, saved, strict=True)]
    del saved
    _train(trained, states, stop)
    for manager in checkpoints:
        manager.close()


def _train(trained: Sequence[_Trained], states: list[Any], stop: StopRequest) -> None:
    """The loop: blocks of updates, logs, evaluations, checkpoints."""
    experiment, tasks = trained[0].experiment, trained[0].run.tasks
    iterations = int(states[0].meta_iterations)
    last_save = time.monotonic()

    def save() -> None:
        for one, state in zip(trained, states, strict=True):
            one.save(state)

    with ExitStack() as stack:
        for one, state in zip(trained, states, strict=True):
            stack.enter_context(one.sinks)
            one.sinks.started(state)
        stack.enter_context(stop.listening())
        for states, metrics in experiment.algorithm.meta_train(experiment.family, experiment.settings, tasks, states):  # noqa: B020
            for one, state, values in zip(trained, states, metrics, strict=True):
                one.log(state, values)
            if states[0].meta_iterations > iterations:
                iterations = int(states[0].meta_iterations)
                for split in _splits(iterations, experiment):
                    evaluations = evaluate_states(experiment, states, getattr(tasks, split), split)
                    for one, state, evaluation in zip(trained, states, evaluations, strict=True):
                        one.sinks.evaluation(state, one.wall_seconds(), split, evaluation)
            if stop.reason is not None:
                break
            if time.monotonic() - last_save >= 60 * experiment.options.checkpoint_minutes:
                save()
                last_save = time.monotonic()
        save()
        for one, state in zip(trained, states, strict=True):
            one.sinks.stopped(state, stop.reason)


def _check_learnt(state: Any, run: RunDirectory) -> None:
    """A block's last update may spoil the networks while its losses are still finite: that must not be saved."""
    for leaf in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Replay)):
        floats = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
        if floats and not np.isfinite(np.asarray(leaf)).all():  # NumPy compiles nothing
            raise NacreError(
                f"the networks are not finite after gradient update {state.grad_steps} of {run.path}; the checkpoint "
                "before is kept; train anew with a smaller --learning-rate or --reward-scale."
            )


def _check_memory(experiments: Sequence[Experiment]) -> None:
    """Refuses runs whose state alone is larger than the memory that is to hold it, before anything is made."""
    experiment = experiments[0]
    init, settings = experiment.algorithm.init, experiment.settings
    shapes = jax.eval_shape(lambda: init(experiment.family, settings, experiment.options.seed))
    each = sum(math.prod(leaf.shape) * np.dtype(np.float32).itemsize for leaf in jax.tree.leaves(shapes))
    needed = each * len(experiments)
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", _machine_memory())
    if needed > limit:
        raise NacreError(
            f"this run would need {needed / 1e9:,.1f} GB for its replay and networks, but the machine has "
            f"{limit / 1e9:,.1f} GB; ask for fewer seeds, iterations, train tasks or steps, or smaller networks."
        )


@contextmanager
def _memory_errors(run: RunDirectory) -> Iterator[None]:
    """What did not fit into memory, in one sentence."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise NacreError(
            f"the run at {run.path} did not fit into memory; close other programs and resume it, or remove it and "
            "train anew with a smaller --meta-batch, --batch-size, --context-batch-size or smaller networks."
        ) from error


def _machine_memory() -> float:
    """Bytes of memory that this machine or container has, as far as the system tells."""
    limits = [math.inf]
    with suppress(AttributeError, OSError, ValueError):
        limits.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    with suppress(OSError, ValueError):  # "max" where a container has no limit
        limits.append(float(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits)


def _release_memory() -> None:
    """Hands freed memory back to the system where the C library can: compilation leaves 100 MB and more behind."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _splits(iterations: int, experiment: Experiment) -> list[str]:
    """What to evaluate after this iteration."""
    return ["test"] if iterations % experiment.options.train_evaluation_interval else ["test", "train"]


def evaluate_states(experiment: Experiment, states: Sequence[Any], tasks: Tasks, split: str) -> list[Evaluation]:
    """The trials of every run on these tasks. Keys follow from the runs' own."""

    def key(state: Any) -> jax.Array:
        of_iteration = jax.random.fold_in(stream(state.key, "evaluate"), int(state.meta_iterations))
        return jax.random.fold_in(of_iteration, ["test", "train"].index(split))

    algorithm, settings = experiment.algorithm, experiment.settings
    agent = algorithm.make_agent(experiment.family, settings)
    return evaluate_side_by_side(
        experiment.family, tasks, agent, [algorithm.agent_params(state) for state in states],
        jnp.stack([key(state) for state in states]), settings.num_evaluation_episodes, settings.num_evaluation_repeats,
    )  # fmt: skip


def _finite_means(
    metrics: dict[str, Any], grad_steps: int, num_updates: int, run: RunDirectory, checkpoints: Checkpoints
) -> dict[str, float]:
    """The block's mean of every metric; a NacreError that names the first update where one is not finite."""
    host = {name: np.asarray(values) for name, values in metrics.items()}
    finite = np.all([np.isfinite(values) for values in host.values()], axis=0)
    if not finite.all():
        first = int(np.argmin(finite))
        name = next(name for name, values in host.items() if not np.isfinite(values[first]))
        update = grad_steps - len(finite) + first + 1
        good = checkpoints.latest()
        kept = "there is no checkpoint yet" if good is None else f"the checkpoint at update {good} is kept"
        raise NacreError(
            f"{name} is not finite at gradient update {update} (iteration {(update - 1) // num_updates + 1}) "
            f"of {run.path}; {kept}; train anew with a smaller --learning-rate or --reward-scale."
        )
    return {name: float(values.mean()) for name, values in host.items()}
