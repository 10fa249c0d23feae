"""A sweep whose runs Optuna chooses: it keeps its study in a journal file, and stops runs that others surpass."""

from __future__ import annotations

import json
import time
import warnings
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nacre.errors import NacreError, imported, shown
from nacre.runs.files import notice, writing
from nacre.sweeps.job import Job, scores_of
from nacre.sweeps.plan import Planned, make
from nacre.sweeps.source import Outcome
from nacre.sweeps.spec import Choices, Optuna, Range, Spec
from nacre.sweeps.training import with_plugins

JOURNAL = "optuna.journal"
LOOK_SECONDS = 1.0
"""Between looks at the evaluations of a run."""
STARTUP_TRIALS = 5
"""Trials that are never stopped: there must be others to compare with."""
STATES = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed"}


class OptunaSearch:
    """Jobs that a study suggests. A trial is a run, scored by its last evaluation on test tasks.

    Everything is in the journal and in the run directories: whoever opens them resumes, with the unfinished
    trials first.
    """

    def __init__(self, spec: Spec, flags: tuple[str, ...] = ()):
        """`flags`: of every command of a job, such as --wandb."""
        search = _checked(spec)
        self._spec, self._search, self._optuna, self._flags = spec, search, import_optuna(), flags
        self.total, self.values = search.trials, dict[Path, dict[str, Any]]()
        self._study = self._open_study()
        self._trials: dict[Path, Any] = {}
        self._told: dict[Path, int] = {}  # evaluations of which the study knows
        self._looked: dict[Path, float] = {}
        self._under_way = deque[Any]()
        self.known, self.before = list[Job](), list[Outcome]()
        runs = sorted(spec.out.glob("*/*/trial-*/seed-*"))  # before the study is read, which another process may lead
        trials = self._study.get_trials(deepcopy=False)
        jobs = [self._job_of(trial) for trial in trials]
        self._check_places(runs, [job for job in jobs if job is not None])
        for trial, job in zip(trials, jobs, strict=True):
            state = STATES.get(trial.state.name)
            if state is None:
                self._under_way.append(self._optuna.trial.Trial(self._study, trial._trial_id))
            elif job is not None:
                self.known.append(job)
                self.before.append(Outcome(job, state))  # type: ignore[arg-type]

    def _job_of(self, trial: Any) -> Job | None:
        """The run of a trial of the study; None where not all values were suggested, or they do not go together."""
        if trial.params.keys() != self._search.fields.keys():
            return None
        try:
            return self._planned(trial.number, trial.params).job
        except NacreError:
            return None

    def _check_places(self, runs: Sequence[Path], jobs: Sequence[Job]) -> None:
        """Raises NacreError where a run in a trial's place is not the trial's. A run that was removed is no fault: the
        study has its score."""
        known = {job.path for job in jobs}
        strangers = [path for path in runs if path not in known]
        if strangers:
            raise NacreError(
                f"the study in {self._spec.out / JOURNAL} does not know the run at {strangers[0]}; restore that file, "
                "move the run away, or choose another place with --out."
            )
        for job in jobs:
            job.check()

    def has_more(self) -> bool:
        """Whether there are trials under way that nobody does, or left to suggest."""
        return bool(self._under_way) or len(self._study.get_trials(deepcopy=False)) < self.total

    def take(self) -> Job | None:
        """The run of the next trial."""
        while self.has_more():
            trial = self._under_way.popleft() if self._under_way else self._ask()
            suggested = {name: _suggest(trial, name, choices) for name, choices in self._search.fields.items()}
            try:
                job = with_plugins(self._planned(trial.number, suggested).job._replace(flags=self._flags))
            except NacreError as error:  # values that do not go together
                notice(f"trial {trial.number} cannot be run: {error}")
                self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
                continue
            job.check()  # somebody may have put another run there since
            self._trials[job.path] = trial
            frozen = self._study.get_trials(deepcopy=False)[trial.number]
            self._told[job.path] = len(frozen.intermediate_values)
            return job
        return None

    def gives_up(self, job: Job) -> bool:
        """Whether the pruner stops the run, by its evaluations so far."""
        now = time.monotonic()
        if now - self._looked.get(job.path, 0.0) < LOOK_SECONDS:
            return False
        self._looked[job.path] = now
        return self._report(job) and self._trials[job.path].should_prune()

    def ended(self, outcome: Outcome) -> None:
        """The study is told the score, or that there will be none; a run that was stopped is under way still."""
        job, states = outcome.job, self._optuna.trial.TrialState
        if outcome.state == "stopped":
            return
        self._report(job)
        scores, trial = scores_of(job.path), self._trials[job.path]
        if outcome.state == "done" and scores:
            self._study.tell(trial, scores[-1])
        else:
            self._study.tell(trial, state=states.PRUNED if outcome.state == "pruned" else states.FAIL)

    def _report(self, job: Job) -> bool:
        """Tells the study of evaluations that it does not know; whether there were any. They are counted from 1."""
        scores, told = scores_of(job.path), self._told[job.path]
        for number in range(told, len(scores)):
            self._trials[job.path].report(scores[number], number + 1)
        self._told[job.path] = max(told, len(scores))
        return len(scores) > told

    def _ask(self) -> Any:
        """A new trial. What is suggested follows from the seed, the trial's number and what is known by then."""
        number = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = self._optuna.samplers.TPESampler(seed=(self._search.seed + number) % 2**32)
        return self._study.ask()

    def _planned(self, number: int, suggested: dict[str, Any]) -> Planned:
        planned = make(self._spec, f"trial-{number:03d}", self._spec.experiments[0] | suggested, self._spec.seeds[0])
        self.values[planned.job.path] = planned.values
        return planned

    def _open_study(self) -> Any:
        spec, optuna = self._spec, self._optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruners = {
            "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
            "successive-halving": lambda: optuna.pruners.SuccessiveHalvingPruner(),
            "none": lambda: optuna.pruners.NopPruner(),
        }
        with writing(spec.out, "choose another place with --out"):
            spec.out.mkdir(parents=True, exist_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(spec.out / JOURNAL))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is called experimental
            study = optuna.create_study(
                study_name="sweep", storage=optuna.storages.JournalStorage(backend), direction="maximize",
                load_if_exists=True, pruner=pruners[self._search.pruner](),
            )  # fmt: skip
        written = json.dumps([spec.fields, spec.experiments, spec.seeds, self._search._replace(trials=0)])
        if study.user_attrs.setdefault("sweep", written) != written:
            raise NacreError(
                f"the sweep at {spec.out} was begun with other settings than {spec.source} has; restore them, or "
                "choose another place with --out (more trials may be asked for)."
            )
        study.set_user_attr("sweep", written)
        return study


def import_optuna() -> Any:
    """Optuna, or a NacreError where it is not installed."""
    return imported("optuna", "Optuna is not installed; install nacre with its extra: pip install 'nacre[optuna]'.")


def _checked(spec: Spec) -> Optuna:
    """The search. NacreError for what it cannot do, and for every value that a run refuses."""
    search = spec.optuna
    if search is None:
        raise NacreError(f"{spec.source} has no [optuna].")
    if len(spec.seeds) > 1 or len(spec.experiments) > 1:
        raise NacreError(
            f"{spec.source}: a trial of [optuna] is one run, so name one seed and no more than one [[experiment]]; "
            "train the best settings with more seeds afterwards."
        )
    for name, choices in search.fields.items():
        where, values = f"{spec.source}: [optuna.fields] {name}", _ends(choices)
        if any(isinstance(value, list | tuple | dict) for value in values):
            raise NacreError(f"{where} has lists as values, of which Optuna cannot choose; write numbers or texts.")
        if len(set(map(str, values))) < len(values):
            raise NacreError(f"{where} has a value twice: {shown(values)}; leave one out.")
    firsts = {name: _ends(choices)[0] for name, choices in search.fields.items()}
    for name, choices in search.fields.items():
        for value in _ends(choices):
            make(spec, "trial-000", spec.experiments[0] | firsts | {name: value}, spec.seeds[0])
    return search


def _ends(choices: Choices) -> tuple[Any, ...]:
    """All values, or the lowest and the highest."""
    return (choices.low, choices.high) if isinstance(choices, Range) else choices


def _suggest(trial: Any, name: str, choices: Choices) -> Any:
    """The value that the study suggests; of a trial that was under way, the one that it had."""
    if not isinstance(choices, Range):
        return trial.suggest_categorical(name, list(choices))
    low, high, log, step = choices
    if choices.whole:
        return trial.suggest_int(name, int(low), int(high), log=log, step=int(step or 1))
    return trial.suggest_float(name, float(low), float(high), log=log, step=step)
