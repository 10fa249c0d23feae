"""A sweep from its file to what became of every run (`nacre sweep`, `nacre.sweep`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nacre.errors import NacreError, unknown
from nacre.runs.files import locked, writing
from nacre.runs.stopping import StopRequest
from nacre.sweeps.engine import Finished, run_jobs
from nacre.sweeps.executor import Executor
from nacre.sweeps.job import Job
from nacre.sweeps.local import LocalExecutor, available_cores
from nacre.sweeps.optuna_search import OptunaSearch
from nacre.sweeps.plan import Planned, plan
from nacre.sweeps.record import Recorded, row_of, state_of
from nacre.sweeps.source import Listed, Outcome, Source
from nacre.sweeps.spec import Spec, read_spec
from nacre.sweeps.training import with_plugins
from nacre.sweeps.view import StderrView

PLACES = ("local", "ray", "slurm")


class Machines(NamedTuple):
    """Where the jobs of a sweep are done."""

    on: str = "local"
    jobs: int | None = None  # at a time; None: as many as there is room for
    cores: int = 1  # of each job
    gpus: float = 0.0  # of each job, on clusters
    address: str | None = None  # of a Ray cluster


class Swept(NamedTuple):
    """What a sweep came to."""

    path: Path
    outcomes: list[Outcome]  # not of jobs that were never started
    stopped_by: str | None  # 'Ctrl-C', 'SIGTERM' or 'the time limit'

    @property
    def runs(self) -> list[Path]:
        """The runs that are complete, for `nacre.compare`; not those of trials that somebody has removed since."""
        done = (outcome.job.path for outcome in self.outcomes if outcome.state == "done")
        return sorted(path for path in done if path.exists())


def sweep(
    spec: str | Path | Mapping[str, Any], *, out: str | Path | None = None,
    on: Literal["local", "ray", "slurm"] = "local", jobs: int | None = None, cores: int = 1, gpus: float = 0.0,
    address: str | None = None, time_limit: float | None = None,
) -> Swept:  # fmt: skip
    """Trains every run of a sweep that is not complete: `nacre.sweep("kl.toml", jobs=2)`. Then
    `nacre.compare(swept.runs)` is its table.

    `spec` is a TOML file or the same as a dictionary (docs/sweeps.md); `out` the folder of its runs, in place of the
    one that it names. `on`: processes on this machine, the Ray cluster at `address`, or SLURM. `jobs`: so many at a
    time; `cores` and `gpus` of each. `time_limit` in minutes, for everything. The same call resumes where one was
    stopped. A run that failed raises nothing: `outcomes` tells what became of each. Raises NacreError for a sweep that
    cannot be done, before anything is written.
    """
    machines = Machines(on, jobs, cores, gpus, address)
    return run_sweep(read_spec(spec, out), machines, time_limit=time_limit)


def run_sweep(
    spec: Spec, machines: Machines, *, time_limit: float | None = None, only: range | None = None, wandb: bool = False
) -> Swept:
    """As `sweep`. `only`: the numbers of the jobs to do; `wandb`: log to Weights & Biases as well."""
    StopRequest(time_limit)  # refused before a folder is made
    _check(machines)
    if spec.optuna is not None and only is not None:
        raise NacreError("the jobs of [optuna] follow from one another; leave out --only.")
    source, values = _source(spec, only, wandb)
    with _machine(machines, spec) as executor:
        with writing(spec.out, "choose another place with --out"):
            spec.out.mkdir(parents=True, exist_ok=True)
        with StderrView() as shown:
            view = shown if only is not None else Recorded(shown, spec.out, values)
            with _alone(spec):
                finished = run_jobs(source, executor, view, time_limit=time_limit)
    return Swept(spec.out, finished.outcomes, finished.stopped_by)


def finished_of(swept: Swept) -> Finished:
    """The same as the engine has it."""
    return Finished(swept.outcomes, swept.stopped_by)


def rows_of(spec: Spec, only: range | None = None) -> list[dict[str, Any]]:
    """A row for each job that is known in advance, as it stands now; see `record.row_of`. Changes nothing.

    `only`: the numbers of the jobs to tell of. Where another run stands in a job's place, the state is 'not this run'.
    """
    if spec.optuna is not None:
        raise NacreError(f"the jobs of {spec.source} follow from one another; jobs.csv in {spec.out} has those so far.")
    return [_row(*one) for one in _chosen(spec, only)]


def _row(job: Job, values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        job.check()
    except NacreError as error:
        return row_of(job, values, "not this run", str(error)) | {"score": None, "updates": 0, "env_steps": 0}
    return row_of(job, values, state_of(job))


def _chosen(spec: Spec, only: range | None) -> list[Planned]:
    """The jobs with these numbers, or all."""
    planned = plan(spec)
    if only is None:
        return planned
    if not (0 <= only.start < only.stop <= len(planned)):
        raise NacreError(f"{spec.source} has the jobs 0 to {len(planned) - 1}; change --only.")
    return planned[only.start : only.stop]


def _source(spec: Spec, only: range | None, wandb: bool) -> tuple[Source, Mapping[Path, Mapping[str, Any]]]:
    flags = ("--wandb",) * wandb
    if spec.optuna is not None:
        search = OptunaSearch(spec, flags)
        return search, search.values
    planned = _chosen(spec, only)
    for one in planned:
        one.job.check()
    jobs = [with_plugins(one.job._replace(flags=flags)) for one in planned]
    return Listed(jobs), {one.job.path: one.values for one in planned}


def _check(machines: Machines) -> None:
    if machines.on not in PLACES:
        raise unknown("place", machines.on, PLACES)
    for name in ("jobs", "cores"):
        value = getattr(machines, name)
        if value is not None and value < 1:
            raise NacreError(f"{name} is {value}, but must be at least 1; change --{name}.")
    if not machines.gpus >= 0:
        raise NacreError(f"gpus is {machines.gpus}, but must be at least 0; change --gpus.")
    if machines.gpus and machines.on == "local":
        raise NacreError("processes of this machine share its GPUs; leave out --gpus, or add --on ray or --on slurm.")
    if machines.address is not None and machines.on != "ray":
        raise NacreError("--address is the address of a Ray cluster; add --on ray, or leave out --address.")


def _alone(spec: Spec) -> AbstractContextManager[None]:
    """A study has one driver at a time. Drivers of a list of jobs wait for each other's runs."""
    if spec.optuna is None:
        return nullcontext()
    return locked(spec.out, f"another process is at work on the sweep at {spec.out}; wait for it or stop it.")


@contextmanager
def _machine(machines: Machines, spec: Spec) -> Iterator[Executor]:
    """What does the jobs, as long as the block lasts."""
    if machines.on == "local":
        room = max(len(available_cores()) // machines.cores, 1)
        yield LocalExecutor(machines.jobs or room, machines.cores)
    elif machines.on == "ray":
        from nacre.sweeps.ray_cluster import RayExecutor

        with RayExecutor(machines.address, machines.jobs, machines.cores, machines.gpus) as executor:
            yield executor
    else:
        from nacre.sweeps.slurm import SlurmExecutor

        yield SlurmExecutor(spec.out / "slurm", machines.jobs, machines.cores, machines.gpus, spec.slurm)
