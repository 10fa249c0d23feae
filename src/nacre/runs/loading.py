"""What a run's checkpoints hold, read back: to act, to continue, and to check that its tasks are still its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from nacre.errors import NacreError
from nacre.learning.replay import Replay
from nacre.runs import tables
from nacre.runs.checkpoints import OPTIONAL, Arrays, Checkpoints, part_of, rebuilt
from nacre.runs.checksums import Damaged
from nacre.runs.directory import RunDirectory
from nacre.types import Tasks

OF_TRAINING = ("optimisers", "optimiser")
"""Fields of a method's state that acting does not need, where they are there."""


class Saved(NamedTuple):
    """What a checkpoint holds."""

    state: Any
    wall_seconds: np.float64
    train_tasks: Tasks
    test_tasks: Tasks
    hypotheses: Any = None  # about tasks, of methods whose trials can explore by them; not needed to continue


def fresh(run: RunDirectory) -> Saved:
    """The beginning of a run."""
    experiment, tasks = run.experiment, run.tasks
    state = experiment.algorithm.init(experiment.family, experiment.settings, experiment.options.seed)
    return Saved(state, np.float64(0.0), tasks.train, tasks.test)


def shapes(run: RunDirectory) -> Saved:
    """The same without its contents: jax.ShapeDtypeStruct for arrays."""
    shaped: Saved = jax.eval_shape(lambda: fresh(run))
    return shaped


def load_state(run: RunDirectory, *, with_buffers: bool = True, checkpoint: str | int = "latest") -> Any:
    """The state at a checkpoint: 'latest', 'best' (by the test score of the evaluation at it) or a number of updates.

    Acting does not need the replay buffers: without, they are None and stay unread, and so do optimisers. 'latest' and
    'best' pass over a damaged checkpoint, with a notice. Raises NacreError where none is good, or where
    tasks.json has other tasks.

    Another process may train the run meanwhile: a checkpoint that it replaces while it is read is left for the newest.
    """
    template = shapes(run) if with_buffers else _to_act(shapes(run))
    arrays = _read(run, template, checkpoint)
    return rebuilt(fresh(run) if with_buffers else template, arrays).state


def load_to_act(run: RunDirectory, checkpoint: str | int = "latest") -> Saved:
    """What acting needs of a checkpoint: as `load_state` without buffers, with the hypotheses that it keeps.

    These are None where the method has none, and where the checkpoint does not keep them, as those of older versions.
    """
    template, experiment = _to_act(shapes(run)), run.experiment
    template = template._replace(hypotheses=jax.eval_shape(lambda: experiment.hypotheses(fresh(run).state)))
    arrays = _read(run, template, checkpoint)
    if not any(part_of(name) == OPTIONAL for name in arrays):
        template = template._replace(hypotheses=None)
    loaded: Saved = rebuilt(template, arrays)
    return loaded


def hypotheses_of(run: RunDirectory, saved: Saved) -> Any:
    """What trials explore by: what the checkpoint keeps, or its replay makes. NacreError where it has neither."""
    if saved.hypotheses is not None:
        return saved.hypotheses
    if int(saved.state.env_steps) == 0:
        raise NacreError(
            "this agent has no hypotheses about tasks, since nothing was collected yet; train on, or set "
            "--exploration prior."
        )
    checkpoint = run.checkpoints / str(saved.state.grad_steps)
    if not any((checkpoint / "replay").glob("*.npy")):
        raise NacreError(
            f"the checkpoint {checkpoint} has no hypotheses about tasks, and no replay to make them of; set "
            "--exploration prior."
        )
    return run.experiment.hypotheses(load_state(run, checkpoint=int(saved.state.grad_steps)))


def _to_act(template: Saved) -> Saved:
    template = jax.tree.map(lambda x: None if _is_replay(x) else x, template, is_leaf=_is_replay)
    unread = [name for name in OF_TRAINING if name in template.state._fields]
    return template._replace(state=template.state._replace(**dict.fromkeys(unread)))


def _read(run: RunDirectory, template: Saved, checkpoint: str | int) -> Arrays:
    checkpoints = Checkpoints(run.checkpoints, read_only=True)
    while True:
        before = checkpoints.steps()
        try:
            arrays = checkpoints.first_good(_candidates(run, before, checkpoint), template)[1]
        except NacreError:
            if checkpoints.steps() == before:
                raise
            continue
        check_tasks(run, arrays)
        return arrays


def good_arrays(
    runs: Sequence[RunDirectory], checkpoints: Sequence[Checkpoints]
) -> tuple[int | None, Sequence[Arrays | None]]:
    """(update, what each run's checkpoint there holds): the newest update of which every run has a good checkpoint.

    None where no run has any checkpoint. Says which checkpoints are damaged. Raises NacreError where none is common or
    good, and where tasks.json has other tasks.
    """
    steps = [set(one.steps()) for one in checkpoints]
    if not any(steps):
        return None, [None] * len(runs)
    common = set.intersection(*steps)
    if not common:
        raise NacreError(
            f"the runs at {runs[0].path} and its neighbours have no checkpoint at the same update; resume them apart."
        )
    templates = [shapes(run) for run in runs]
    failed: list[Damaged] = []
    blamed = checkpoints[0]
    for step in sorted(common, reverse=True):
        found: list[Arrays] = []
        for one, template in zip(checkpoints, templates, strict=True):
            try:
                found.append(one.read(step, template))
            except Damaged as error:
                blamed = blamed if failed else one
                failed.append(error)
                break
        if len(found) == len(runs):
            Checkpoints.tell_of(failed, step)
            for run, arrays in zip(runs, found, strict=True):
                check_tasks(run, arrays)
            return step, found
    raise blamed.none_good(failed)


def check_run(run: RunDirectory) -> None:
    """Refuses a run whose tasks.json has other tasks than its newest good checkpoint. Reads little; may find none."""
    checkpoints = Checkpoints(run.checkpoints, read_only=True)
    names = Saved(None, np.float64(0.0), run.tasks.train, run.tasks.test)
    while before := checkpoints.steps():
        try:
            return check_tasks(run, checkpoints.first_good(before[::-1], names)[1])
        except NacreError:
            if checkpoints.steps() == before:
                raise


def check_tasks(run: RunDirectory, arrays: Arrays) -> None:
    """Refuses a run whose tasks.json has other tasks than these arrays of a checkpoint."""
    for split, here in (("train_tasks", run.tasks.train), ("test_tasks", run.tasks.test)):
        if not all(np.array_equal(arrays[f"{split}.{name}"], values) for name, values in here.items()):
            raise NacreError(f"the tasks in {run.path / 'tasks.json'} are not the checkpoint's; restore that file.")


def _candidates(run: RunDirectory, steps: Sequence[int], checkpoint: str | int) -> list[int]:
    """The checkpoints that may be taken, the wanted one first."""
    if checkpoint == "latest":
        return sorted(steps, reverse=True)
    if checkpoint == "best":
        scores = tables.scores_by_update(tables.read(run.path / "eval.csv"))
        evaluated = [step for step in steps if step in scores]
        if steps and not evaluated:
            raise NacreError(
                f"no checkpoint of the run at {run.path} was evaluated, so none is the best; train with --keep best, "
                "or take --checkpoint latest."
            )
        return sorted(evaluated, key=lambda step: (-scores[step], step))
    if isinstance(checkpoint, str) and checkpoint.isascii() and checkpoint.isdecimal():
        checkpoint = int(checkpoint[:20])
    if checkpoint not in steps:
        there = ", ".join(map(str, sorted(steps))) or "none"
        raise NacreError(
            f"the run at {run.path} has no checkpoint {str(checkpoint)[:30]!r}; write latest, best, or one of: {there}."
        )
    return [int(checkpoint)]


def _is_replay(x: Any) -> bool:
    return isinstance(x, Replay)
