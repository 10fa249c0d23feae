"""Where a run's numbers go: the tables, which are its record, sinks, each of which may fail by itself, and the person
who watches."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from nacre.learning.replay import Replay
from nacre.runs.directory import RunDirectory
from nacre.runs.files import reason_of
from nacre.runs.pace import duration
from nacre.runs.shown import Shown
from nacre.runs.sinks import Sink, TensorBoard, starters
from nacre.runs.tables import COUNTERS, EVAL_COLUMNS, EXTRA_COLUMNS, SUCCESS_COLUMNS, eval_rows
from nacre.simulation.rollout import Evaluation, score, score_success

LINE_SECONDS = 10.0
"""Seconds between progress lines where there is no terminal."""

console = Console(stderr=True, highlight=False, soft_wrap=True)


class Sinks:
    """Receives what a run reports. Text goes to stderr: a live bar on a terminal, else a line now and then."""

    def __init__(self, run: RunDirectory, grad_steps: int, wandb: bool, test_score: float | None, named: bool):
        """`test_score`: of the last evaluation, where there was one. `named`: lines name the seed."""
        self._run = run
        self._settings = run.experiment.settings
        self._prefix = f"seed {run.experiment.options.seed}: " if named else ""
        self._watch = Shown()
        self._sinks: dict[str, Sink] = {}
        for name, start in starters(run, grad_steps, wandb).items():
            self._attempt(name, partial(self._start, name, start))
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>5.1f}%"),
            TextColumn("{task.fields[numbers]}"), TimeElapsedColumn(), TextColumn("left {task.fields[left]}"),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._bar = self._progress.add_task(
            self._prefix + run.experiment.family.name, total=self.total, numbers="collecting", left="?"
        )
        self._test_return = "" if test_score is None else f"test return {test_score:.4g}"
        self._last_line = time.monotonic()

    @property
    def total(self) -> int:
        """Updates of the whole run."""
        return self._settings.num_updates

    def __enter__(self) -> Sinks:
        self._watch(self._progress.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch(self._progress.stop)
        for name, sink in list(self._sinks.items()):
            self._attempt(name, sink.close)

    def started(self, state: Any) -> None:
        """Says what runs, where, and how much memory its buffers take."""
        experiment = self._run.experiment
        megabytes = {name: part.pool.nbytes / 1e6 for name, part in state._asdict().items() if isinstance(part, Replay)}
        self._say(
            f"{experiment.algorithm_name} on {experiment.family.name} in {self._run.path} "
            f"(preset {experiment.preset}, seed {experiment.options.seed})"
        )
        kept = ", ".join(f"{name} {size:.0f} MB" for name, size in megabytes.items())
        replay = f"replay on the device: {kept}; " if kept else ""
        self._say(f"{replay}{self._settings.iterations} iterations, {self.total} updates")
        if state.grad_steps > 0:
            self._say(f"continues at {state.env_steps} env steps, update {state.grad_steps}")

    def metrics(self, state: Any, wall_seconds: float, values: dict[str, float], left: float | None) -> None:
        """One row of metrics.csv: counters, then the means over the last block of updates. `left`: seconds to go."""
        counters = [int(state.env_steps), int(state.grad_steps), int(state.meta_iterations), f"{wall_seconds:.1f}"]
        self._run.append("metrics.csv", [*COUNTERS, *values], [[*counters, *(f"{v:.6g}" for v in values.values())]])
        self._log(state, {f"update/{name}": value for name, value in values.items()})
        to_go = "?" if left is None else duration(left)
        numbers = f"env steps {state.env_steps}  updates {state.grad_steps}  {self._test_return}".rstrip()
        self._watch(
            lambda: self._progress.update(self._bar, completed=int(state.grad_steps), numbers=numbers, left=to_go)
        )
        if not console.is_terminal and time.monotonic() - self._last_line > LINE_SECONDS:
            told = "" if left is None else f"  left {to_go}"
            self._say(f"iterations {state.meta_iterations}/{self._settings.iterations}  {numbers}{told}")
            self._last_line = time.monotonic()

    def evaluation(self, state: Any, wall_seconds: float, split: str, evaluation: Evaluation) -> None:
        """The rows of eval.csv, of success.csv where the family reports success, and the score."""
        returns, success = evaluation.returns, evaluation.success
        counters = (split, int(state.env_steps), int(state.grad_steps), wall_seconds)
        self._run.append("eval.csv", EVAL_COLUMNS, eval_rows(returns, *counters))
        if success is not None:
            self._run.append("success.csv", SUCCESS_COLUMNS, eval_rows(success.astype(int), *counters))
            self._log(state, {f"{split}/success": score_success(success)})
        by_episode = returns.mean(axis=(0, 1))
        self._log(state, {f"{split}/return_episode_{i + 1}": float(value) for i, value in enumerate(by_episode)})
        if split == "test":
            solved = "" if success is None else f" ({score_success(success):.0%} solved)"
            self._test_return = f"test return {score(returns):.4g}{solved}"

    def extra(self, state: Any, values: dict[str, float]) -> None:
        """Rows of extra.csv: numbers that are not nacre's."""
        counters = int(state.env_steps), int(state.grad_steps), int(state.meta_iterations)
        if values:
            self._run.append("extra.csv", EXTRA_COLUMNS, [(*counters, *item) for item in values.items()])
            self._log(state, {f"extra/{name}": value for name, value in values.items()})

    def flush(self) -> None:
        """Brings to disk what would be lost by a kill after the checkpoint that follows."""
        for name, sink in list(self._sinks.items()):
            self._attempt(name, sink.flush)

    def stopped(self, state: Any, reason: str | None) -> None:
        """Says how the run ended and what can be done next."""
        path = self._run.path
        if reason is None:
            score = f", {self._test_return}" if self._test_return else ""
            self._say(f"done: {state.env_steps} env steps{score}; try 'nacre evaluate {path}'")
        else:
            self._say(
                f"stopped by {reason} at update {state.grad_steps}, checkpoint saved; resume with 'nacre resume {path}'"
            )

    def _log(self, state: Any, values: dict[str, float]) -> None:
        for name, sink in list(self._sinks.items()) if values else ():
            self._attempt(name, partial(sink.log, values, int(state.grad_steps), int(state.env_steps)))

    def _start(self, name: str, start: Callable[[], Sink]) -> None:
        self._sinks[name] = start()

    def _attempt(self, name: str, action: Callable[[], object]) -> None:
        """A sink that fails is told of once, and left alone from then on: it never stops a run."""
        try:
            action()
        except Exception as error:
            self._say(f"{name} failed ({reason_of(error)}); the run continues without it; its CSV tables hold all.")
            failed = self._sinks.pop(name, None)
            if isinstance(failed, TensorBoard):  # others may wait for the network
                with suppress(Exception):
                    failed.close()

    def _say(self, text: str) -> None:
        self._watch(lambda: console.print(self._prefix + text, markup=False))
