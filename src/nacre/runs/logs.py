"""Where a run's numbers go: CSV, TensorBoard, Weights & Biases, and the person who watches."""

from __future__ import annotations

import dataclasses
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from tensorboardX import SummaryWriter

from nacre.errors import NacreError
from nacre.learning.replay import Replay
from nacre.runs.directory import COUNTERS, EVAL_COLUMNS, SUCCESS_COLUMNS, RunDirectory, eval_rows
from nacre.simulation.rollout import Evaluation, score, score_success

LINE_SECONDS = 10.0
"""Seconds between progress lines where there is no terminal."""

console = Console(stderr=True, highlight=False, soft_wrap=True)


class Sinks:
    """Receives what a run reports. Text goes to stderr: a live bar on a terminal, else a line now and then."""

    def __init__(self, run: RunDirectory, grad_steps: int, wandb: bool):
        self._run = run
        self._settings = run.experiment.settings
        self._tensorboard = SummaryWriter(str(run.path / "tensorboard"), purge_step=grad_steps + 1)
        self._wandb = _start_wandb(run) if wandb else None
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>5.1f}%"),
            TextColumn("{task.fields[numbers]}"), TimeElapsedColumn(), TextColumn("left {task.fields[left]}"),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._bar = self._progress.add_task(
            run.experiment.family.name, total=self._total, numbers="collecting", left="?"
        )
        self._first = (time.monotonic(), grad_steps)
        self._last_return = "-"
        self._last_line = time.monotonic()

    @property
    def _total(self) -> int:
        return int(self._settings.iterations * self._settings.num_train_steps_per_iteration)

    def __enter__(self) -> Sinks:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()

    def started(self, state: Any) -> None:
        """Says what runs, where, and how much memory its buffers take."""
        experiment = self._run.experiment
        megabytes = {name: part.pool.nbytes / 1e6 for name, part in state._asdict().items() if isinstance(part, Replay)}
        console.print(
            f"{experiment.algorithm_name} on {experiment.family.name} in {self._run.path} "
            f"(preset {experiment.preset}, seed {experiment.options.seed})"
        )
        kept = ", ".join(f"{name} {size:.0f} MB" for name, size in megabytes.items())
        replay = f"replay on the device: {kept}; " if kept else ""
        console.print(f"{replay}{self._settings.iterations} iterations, {self._total} updates")
        if state.grad_steps > 0:
            console.print(f"continues at {state.env_steps} env steps, update {state.grad_steps}")

    def metrics(self, state: Any, wall_seconds: float, values: dict[str, float]) -> None:
        """One row of metrics.csv: counters, then the means over the last block of updates."""
        counters = [int(state.env_steps), int(state.grad_steps), int(state.meta_iterations), f"{wall_seconds:.1f}"]
        self._run.append("metrics.csv", [*COUNTERS, *values], [[*counters, *(f"{v:.6g}" for v in values.values())]])
        self._log(state, {f"update/{name}": value for name, value in values.items()})
        started, first = self._first
        rate = (int(state.grad_steps) - first) / max(time.monotonic() - started, 1e-9)
        left = _duration((self._total - int(state.grad_steps)) / max(rate, 1e-9))
        numbers = f"env steps {state.env_steps}  updates {state.grad_steps}  test return {self._last_return}"
        self._progress.update(self._bar, completed=int(state.grad_steps), numbers=numbers, left=left)
        if not console.is_terminal and time.monotonic() - self._last_line > LINE_SECONDS:
            console.print(f"iterations {state.meta_iterations}/{self._settings.iterations}  {numbers}  left {left}")
            self._last_line = time.monotonic()

    def evaluation(self, state: Any, wall_seconds: float, split: str, evaluation: Evaluation) -> None:
        """The rows of eval.csv, of success.csv where the family reports success, and the score."""
        returns, success = evaluation
        counters = (split, int(state.env_steps), int(state.grad_steps), wall_seconds)
        self._run.append("eval.csv", EVAL_COLUMNS, eval_rows(returns, *counters))
        if success is not None:
            self._run.append("success.csv", SUCCESS_COLUMNS, eval_rows(success.astype(int), *counters))
            self._log(state, {f"{split}/success": score_success(success)})
        by_episode = returns.mean(axis=(0, 1))
        self._log(state, {f"{split}/return_episode_{i + 1}": float(value) for i, value in enumerate(by_episode)})
        if split == "test":
            solved = "" if success is None else f" ({score_success(success):.0%} solved)"
            self._last_return = f"{score(returns):.4g}{solved}"

    def stopped(self, state: Any, reason: str | None) -> None:
        """Says how the run ended and what can be done next."""
        path = self._run.path
        if reason is None:
            console.print(
                f"done: {state.env_steps} env steps, test return {self._last_return}; try 'nacre evaluate {path}'"
            )
        else:
            console.print(
                f"stopped by {reason} at update {state.grad_steps}, checkpoint saved; go on with 'nacre resume {path}'"
            )

    def _log(self, state: Any, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, int(state.grad_steps))
        if self._wandb is not None:
            self._wandb.log(values | {"env_steps": int(state.env_steps)}, step=int(state.grad_steps))


def _duration(seconds: float) -> str:
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min" if minutes else f"{int(seconds)} s"


def import_wandb() -> Any:
    """The module of Weights & Biases, or a NacreError where it is not installed."""
    try:
        import wandb
    except ImportError as error:
        raise NacreError(
            "Weights & Biases is not installed; install nacre with its extra: pip install 'nacre[wandb]'."
        ) from error
    return wandb


def _start_wandb(run: RunDirectory) -> Any:
    experiment = run.experiment
    return import_wandb().init(
        project="nacre", name=str(run.path), dir=str(run.path), resume="allow",
        reinit="create_new",  # seeds side by side are a run each
        config={"family": experiment.family.name}
        | dataclasses.asdict(experiment.settings)
        | dataclasses.asdict(experiment.options),
    )  # fmt: skip
