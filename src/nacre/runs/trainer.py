"""The one loop with side effects: iterate, evaluate, log, checkpoint, resume. Algorithms only yield."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nacre.errors import NacreError
from nacre.families.family import num_tasks
from nacre.learning.devices import placed, places
from nacre.learning.replay import Replay
from nacre.presets.trials import TrialSettings
from nacre.runs import sinks, tables
from nacre.runs.checkpoints import Arrays, Checkpoints, rebuilt
from nacre.runs.compilation_cache import use_compilation_cache
from nacre.runs.data_set import RunData, context_logs, opened, tell_of_tasks, train_logs
from nacre.runs.device_check import check_devices
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import Experiment
from nacre.runs.files import making_room, notice
from nacre.runs.loading import Saved, fresh, good_arrays
from nacre.runs.logs import Sinks
from nacre.runs.memory import check_memory, hand_back_memory, memory_errors, release_memory
from nacre.runs.pace import Pace
from nacre.runs.resuming import changed, check_alike
from nacre.runs.stopping import StopRequest
from nacre.runs.warm_start import Origin, find_origin, started_from
from nacre.runs.watching import Iteration, OnIteration, extra_metrics
from nacre.simulation.check import check_before_run
from nacre.simulation.rollout import Evaluation, evaluate_side_by_side
from nacre.types import Tasks, stream


class Trained(NamedTuple):
    """What meta-training came to."""

    runs: list[RunDirectory]
    stopped_by: str | None  # 'Ctrl-C', 'SIGTERM' or 'the time limit'; None for a run that is complete


def train(
    experiments: Sequence[Experiment],
    paths: Sequence[Path],
    *,
    time_limit: float | None = None,
    wandb: bool = False,
    overwrite: bool = False,
    from_run: Path | None = None,
    on_iteration: OnIteration | None = None,
    started: float | None = None,
) -> Trained:
    """Meta-trains in new run directories: one, or one a seed, side by side in one program.

    `time_limit` in minutes; `overwrite` removes runs that are in the way; `from_run`: the run whose networks all of
    them start from, else fresh ones; `on_iteration` sees every meta-iteration; `started` by time.monotonic().
    """
    stop = StopRequest(time_limit)
    sinks.check(wandb)
    for path in paths:
        RunDirectory.check_place(path, overwrite=overwrite)
    origin = checked(experiments, from_run)
    tell_of_tasks(experiments[0])
    runs = create(experiments, paths, overwrite, origin)
    with _training(runs):
        return Trained(runs, _run(runs, stop, wandb, started, on_iteration, origin=origin))


def resume(
    paths: Sequence[Path], *, iterations: int | None = None, devices: int | None = None,
    time_limit: float | None = None, wandb: bool = False, started: float | None = None,
    on_iteration: OnIteration | None = None,
) -> Trained:  # fmt: skip
    """Continues runs exactly where their last good checkpoints stand; `iterations` sets a new total,
    `devices` how many to train on.

    Several runs resume side by side, from the newest update of which all have a checkpoint; they must differ in
    nothing but their seed. A run that is complete is left as it is.
    """
    stop = StopRequest(time_limit)
    sinks.check(wandb)
    runs = [RunDirectory(path) for path in paths]
    resumed = [changed(run, iterations, devices) for run in runs]
    check_alike(runs, resumed)
    check_devices(resumed)
    check_memory(resumed)
    with _training(runs):
        return Trained(runs, _run(runs, stop, wandb, started, on_iteration, resumed))


def checked(experiments: Sequence[Experiment], from_run: Path | None) -> Origin | None:
    """The origin of such runs, side by side. Raises NacreError, before anything is made, where they cannot be trained
    here, or their data set, their family or that origin is not as it should be."""
    check_devices(experiments)
    check_memory(experiments)
    opened(experiments[0])
    check_before_run(experiments[0].family)
    return None if from_run is None else find_origin(from_run, experiments[0])


def create(
    experiments: Sequence[Experiment], paths: Sequence[Path], overwrite: bool, origin: Origin | None
) -> list[RunDirectory]:
    """The run directories, all of them or none; with `overwrite`, in place of the runs that stand there."""
    runs: list[RunDirectory] = []
    with making_room(paths if overwrite else (), lambda path: RunDirectory(path).unused()):
        try:
            for path, experiment in zip(paths, experiments, strict=True):
                runs.append(RunDirectory.create(path, experiment, None if origin is None else origin.record))
        except BaseException:
            for run in runs:
                shutil.rmtree(run.path, ignore_errors=True)
            raise
    return runs


@contextmanager
def _training(runs: Sequence[RunDirectory]) -> Iterator[None]:
    """Locks the runs; what does not fit into memory ends in one sentence."""
    with ExitStack() as locks:
        for run in runs:
            locks.enter_context(run.locked())
        locks.enter_context(memory_errors(runs[0]))
        yield


class _Training:
    """One run while it is trained: its files and logs, and what it had when this process took it up."""

    def __init__(
        self, run: RunDirectory, checkpoints: Checkpoints, saved: Saved, started: float, wandb: bool, named: bool
    ):
        self.run = run
        self.experiment = run.experiment
        self.checkpoints = checkpoints
        self._means: dict[str, float] = {}
        self._returns: np.ndarray | None = None
        self._earlier = float(saved.wall_seconds) - started
        checkpoints.cut_back(int(saved.state.grad_steps))
        self._scores = tables.scores_by_update(run.evaluations())
        last = self._scores[max(self._scores)] if self._scores else None
        self.sinks = Sinks(run, int(saved.state.grad_steps), wandb, last, named)

    def wall_seconds(self) -> float:
        """Seconds that processes have spent on this run so far."""
        return self._earlier + time.monotonic()

    def save(self, state: Any) -> None:
        """A checkpoint, unless the networks are spoilt."""
        _check_learnt(state, self.run)
        self.sinks.flush()
        tasks = self.run.tasks
        found = self.experiment.hypotheses(state) if int(state.env_steps) > 0 else None
        tree = Saved(state, np.float64(self.wall_seconds()), tasks.train, tasks.test, found)
        self.checkpoints.save(int(state.grad_steps), tree, self.run.table_files)
        best = self._best_kept() if self.experiment.options.keep == "best" else None
        self.checkpoints.prune([] if best is None else [best])

    def log(self, state: Any, metrics: dict[str, Any], left: float | None) -> None:
        """One row of metrics.csv; NacreError where a number is not finite."""
        num_updates = self.experiment.settings.num_train_steps_per_iteration
        values = _finite_means(metrics, int(state.grad_steps), num_updates, self.run, self.checkpoints)
        self.sinks.metrics(state, self.wall_seconds(), values, left)
        self._means, self._returns = values, None

    def evaluated(self, state: Any, split: str, evaluation: Evaluation) -> None:
        """The rows of an evaluation."""
        self.sinks.evaluation(state, self.wall_seconds(), split, evaluation)
        if split == "test":
            self._returns = evaluation.returns
            self._scores[int(state.grad_steps)] = float(evaluation.returns[..., -1].mean())

    def show(self, state: Any, on_iteration: OnIteration) -> None:
        """Shows the caller the iteration, and logs the numbers that it gives."""
        counters = int(state.meta_iterations), int(state.env_steps), int(state.grad_steps)
        returned = on_iteration(Iteration(self.run, *counters, self._means, self._returns))
        self.sinks.extra(state, extra_metrics(returned))

    def is_best(self, state: Any) -> bool:
        """Whether this state was just evaluated, better than every checkpoint that there is."""
        best, step = self._best_kept(), int(state.grad_steps)
        return step in self._scores and (best is None or self._scores[step] > self._scores[best])

    def _best_kept(self) -> int | None:
        evaluated = [step for step in self.checkpoints.steps() if step in self._scores]
        return max(evaluated, key=lambda step: (self._scores[step], -step), default=None)


def _run(
    runs: Sequence[RunDirectory], stop: StopRequest, wandb: bool, started: float | None,
    on_iteration: OnIteration | None, resumed: Sequence[Experiment] | None = None, origin: Origin | None = None,
) -> str | None:  # fmt: skip
    """From the newest checkpoints (or from nothing) to the last iteration or a request to stop, of which the reason."""
    started = time.monotonic() if started is None else started
    use_compilation_cache()
    checkpoints = [Checkpoints(run.checkpoints) for run in runs]
    for run, experiment in zip(runs, resumed or [], strict=False):
        run.experiment = experiment
    experiment = runs[0].experiment
    settings = experiment.settings
    num_updates = settings.num_train_steps_per_iteration
    begin_at, contents = good_arrays(runs, checkpoints)
    for run, one in zip(runs, checkpoints, strict=True):
        if begin_at is None and origin is None and run.started_from is not None:
            raise NacreError(
                f"the run at {run.path} was to start from another run, but was stopped before its first checkpoint; "
                "train it again with --from and --overwrite."
            )
        if begin_at is None:
            run.cut_back(0)
        else:
            run.restore_tables(one.path(begin_at), begin_at, num_updates)
    if (begin_at or 0) >= settings.iterations * num_updates:
        for run in runs:
            notice(
                f"the run at {run.path} is complete: {settings.iterations} iterations; raise --iterations to continue."
            )
        return None
    num_devices = experiment.options.devices
    if num_devices == 1:  # several compile their program when they first need it
        experiment.algorithm.compile(experiment.family, settings, len(runs))
    release_memory()
    saved = [
        placed(_beginning(run, arrays, origin), place)
        for run, arrays, place in zip(runs, contents, places(num_devices, len(runs)), strict=True)
    ]
    del contents
    if resumed is not None:
        for run in runs:
            run.record_resume(run.experiment, begin_at or 0)
    hand_back_memory()
    states = [one.state for one in saved]
    training = [
        _Training(*parts, started, wandb, named=len(runs) > 1) for parts in zip(runs, checkpoints, saved, strict=True)
    ]
    del saved
    if origin is not None:  # a run that is killed soon resumes from there too
        for each, state in zip(training, states, strict=True):
            each.save(state)
    return _train(training, states, stop, on_iteration)


def _beginning(run: RunDirectory, arrays: Arrays | None, origin: Origin | None) -> Saved:
    """What the run begins or resumes with."""
    begun = fresh(run)
    if arrays is None:
        return begun if origin is None else begun._replace(state=started_from(begun.state, origin))
    there: Saved = rebuilt(begun, arrays)
    return there


def _train(
    training: Sequence[_Training], states: list[Any], stop: StopRequest, on_iteration: OnIteration | None
) -> str | None:
    """The loop: blocks of updates, logs, evaluations, checkpoints. Why it was stopped, or None."""
    experiment, tasks = training[0].experiment, training[0].run.tasks
    settings, options = experiment.settings, experiment.options
    checkpoint_minutes = min(one.experiment.options.checkpoint_minutes for one in training)
    iterations, grad_steps = int(states[0].meta_iterations), int(states[0].grad_steps)
    pace = Pace(settings.num_train_steps_per_iteration, options.evaluation_interval)

    def save() -> float:
        for one, state in zip(training, states, strict=True):
            one.save(state)
        return time.monotonic()

    with ExitStack() as stack:
        for one, state in zip(training, states, strict=True):
            stack.enter_context(one.sinks)
            one.sinks.started(state)
        stack.enter_context(stop.listening())
        last_save = last_block = time.monotonic()
        data = opened(experiment)
        logs = [train_logs(experiment, data)] if data is not None and experiment.algorithm.offline else []
        for states, metrics in experiment.algorithm.meta_train(  # noqa: B020
            experiment.family, settings, tasks, states, *logs
        ):
            jax.block_until_ready(metrics)
            size = int(states[0].grad_steps) - grad_steps
            grad_steps += size
            pace.block(time.monotonic() - last_block, grad_steps, size)
            left = pace.left(grad_steps, training[0].sinks.total)
            for one, state, values in zip(training, states, metrics, strict=True):
                one.log(state, values, left)
            if states[0].meta_iterations > iterations:
                iterations = int(states[0].meta_iterations)
                _evaluate(training, states, iterations, pace, data)
                if on_iteration is not None:
                    try:
                        for one, state in zip(training, states, strict=True):
                            one.show(state, on_iteration)
                    except BaseException:
                        save()
                        raise
                if options.keep == "best" and any(map(_Training.is_best, training, states)):
                    last_save = save()  # of all, so that seeds side by side have checkpoints at the same updates
            if stop.reason is not None:
                break
            if time.monotonic() - last_save >= 60 * checkpoint_minutes:
                last_save = save()
            last_block = time.monotonic()
        save()
        reason = stop.reason if grad_steps < training[0].sinks.total else None
        for one, state in zip(training, states, strict=True):
            one.sinks.stopped(state, reason)
    return reason


def _evaluate(
    training: Sequence[_Training], states: Sequence[Any], iterations: int, pace: Pace, data: RunData | None
) -> None:
    """The evaluations that are due after this iteration."""
    experiment, began = training[0].experiment, time.monotonic()
    splits = _splits(iterations, experiment)
    for split in splits:
        evaluations = evaluate_states(experiment, states, getattr(training[0].run.tasks, split), split, data)
        for one, state, evaluation in zip(training, states, evaluations, strict=True):
            one.evaluated(state, split, evaluation)
    if splits == ["test"]:
        pace.evaluation(time.monotonic() - began)


def _check_learnt(state: Any, run: RunDirectory) -> None:
    """A block's last update may spoil the networks while its losses are still finite: that must not be saved."""
    for leaf in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Replay)):
        floats = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
        if floats and not np.isfinite(np.asarray(leaf)).all():  # NumPy compiles nothing
            raise NacreError(
                f"the networks are not finite after gradient update {state.grad_steps} of {run.path}; the checkpoint "
                "before is kept; train anew with a smaller --learning-rate or --reward-scale."
            )


def _splits(iterations: int, experiment: Experiment) -> list[str]:
    """What to evaluate after this iteration: test tasks after the last one in any case."""
    options, last = experiment.options, iterations == experiment.settings.iterations
    due = {
        "test": last or iterations % options.evaluation_interval == 0,
        "train": iterations % options.train_evaluation_interval == 0,
    }
    return [split for split, now in due.items() if now]


def evaluate_states(
    experiment: Experiment, states: Sequence[Any], tasks: Tasks, split: str, data: RunData | None
) -> list[Evaluation]:
    """The trials of every run on these tasks. Keys follow from the runs' own; contexts are the data set's."""

    def key(state: Any) -> jax.Array:
        of_iteration = jax.random.fold_in(stream(state.key, "evaluate"), int(state.meta_iterations))
        return jax.random.fold_in(of_iteration, ["test", "train"].index(split))

    algorithm, settings = experiment.algorithm, experiment.settings
    agent, trials = algorithm.make_agent(experiment.family, settings), TrialSettings.of(settings)
    keys = jnp.stack([key(state) for state in states])
    logged = context_logs(data, trials, split, num_tasks(tasks), keys)
    params = [algorithm.params_for(state, experiment.family, settings) for state in states]
    if experiment.options.devices > 1:
        params = jax.device_get(params)  # all trials are played side by side, on one device
    return evaluate_side_by_side(experiment.family, tasks, agent, params, keys, trials.episodes, trials.repeats, logged)


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
