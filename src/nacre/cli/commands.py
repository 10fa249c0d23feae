"""What each command of the command line takes and does. A command is a dataclass: its fields are its arguments."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.metadata
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import tyro
from rich.console import Console
from rich.table import Column, Table

from nacre.errors import NacreError, unknown

SHOWN_COMPONENTS = 3
"""Components of a task's parameter that a table shows."""
MAX_SEEDS = 256
"""Runs that one program trains side by side, at most."""

Parsed = TypeVar("Parsed")
RunPath = tyro.conf.Positional[Path]


@dataclass(frozen=True)
class ListCommand:
    """Families, algorithms and presets."""

    json: bool = False
    """Print one JSON object instead of tables."""


@dataclass(frozen=True)
class TrainCommand:
    """Meta-train an algorithm on a family, in a new run directory. Any field of the configuration is a flag too."""

    algorithm: tyro.conf.Positional[str]
    """The algorithm, as in 'nacre list'."""
    family: tyro.conf.Positional[str]
    """The task family, as in 'nacre list'."""
    preset: str = "paper"
    """Which settings to start from."""
    seeds: str | None = None
    """Several seeds side by side in one program, a run directory each: 0:8 (0 to 7) or 0,3,5. Instead of --seed."""
    out: Path | None = None
    """Run directory; runs/FAMILY/ALGORITHM/seed-SEED unless given. With --seeds, the directory that holds seed-SEED."""
    time_limit: float | None = None
    """Stop after this many minutes, with a checkpoint."""
    wandb: bool = False
    """Log to Weights & Biases as well."""


@dataclass(frozen=True)
class ResumeCommand:
    """Continue a run exactly where its last checkpoint stands; several seeds of a run go on side by side."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directory, or several that differ in nothing but their seed."""
    iterations: int | None = None
    """New total of meta-iterations, more than before. A step size that decays does so over the new total from here."""
    time_limit: float | None = None
    """Stop after this many minutes, with a checkpoint."""
    wandb: bool = False
    """Log to Weights & Biases as well."""


@dataclass(frozen=True)
class EvaluateCommand:
    """Put a trained agent through trials on tasks: the return of every episode."""

    run: RunPath
    """Run directory."""
    episodes: int | None = None
    """Episodes of a trial, the last one scored; as the run was configured unless given."""
    tasks: str = "test"
    """'test', 'train', 'ood' for tasks outside the distribution, or 'fresh:N' for N new ones."""
    repeats: int | None = None
    """Trials per task; as the run was configured unless given."""
    seed: int = 0
    """Seed of the trials and of fresh tasks."""
    json: bool = False
    """Print one JSON object instead of a table."""


@dataclass(frozen=True)
class AdaptCommand:
    """Let a trained agent meet one task: return and belief, episode by episode."""

    run: RunPath
    """Run directory."""
    task: str
    """The task, such as velocity=1.3, direction=-1 or goal=0.6,0.8."""
    episodes: int | None = None
    """Episodes of the trial; as the run was configured unless given."""
    allow_ood: bool = False
    """Take a task outside the family's distribution."""
    seed: int = 0
    """Seed of the trial."""
    video: Path | None = None
    """Video of the trial to write, captioned with episode, return and belief: .gif, or .mp4 with the extra 'video'
    (pip install 'nacre[video]')."""
    json: bool = False
    """Print one JSON object instead of a table."""


@dataclass(frozen=True)
class ReportCommand:
    """Draw runs: one page about them, their learning curves, or the trials of one run."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Page (.html) or picture (.png, .svg or .pdf) to write. A page opens without network and holds everything."""
    kind: Literal["curves", "trials"] = "curves"
    """Of a picture: learning curves of all runs, or paths and beliefs of one run's trials on test tasks."""
    videos: int = 0
    """Trials of each run to show as moving pictures (page)."""


@dataclass(frozen=True)
class ReproduceCommand:
    """Train what a figure of the PEARL paper needs, and draw it beside the known points; go on where it was stopped."""

    figure: tyro.conf.Positional[str | None] = None
    """Which figure; without one, lists them."""
    scale: Literal["smoke", "short", "paper"] = "short"
    """smoke: whether it works, minutes. short: hours. paper: the paper's settings, days to months on one processor."""
    seeds: str = "0:3"
    """0:3 (0 to 2) or 0,3,5."""
    out: Path = Path("runs/reproduce")
    """Directory for runs and pictures."""
    time_limit: float | None = None
    """Stop after this many minutes; the same command goes on."""
    dry_run: bool = False
    """Print the runs and how long each is estimated to take here, and do nothing."""


@dataclass(frozen=True)
class BenchmarkCommand:
    """Time a part of nacre on this machine: figure, FLOP count, the machine's measured ceiling, and their ratio."""

    what: tyro.conf.Positional[Literal["update", "scaling", "collect", "simulation", "evaluate", "act", "iteration"]]
    """PEARL's gradient update, the same with replay of 10 to 10,000 train tasks, collection with the policy in the
    loop, simulation without one, one evaluation, one acting session's step; or a meta-iteration of any method."""
    family: str = "cheetah-vel"
    """Family whose sizes to use."""
    preset: str = "paper"
    """Preset whose sizes to use."""
    lanes: int = 64
    """Simulations side by side (collect, simulation)."""
    seeds: int = 1
    """Learners side by side (update)."""
    precision: str | None = None
    """float32, tf32 or bfloat16 (update, scaling); the preset's unless given."""
    algorithm: str = "promp"
    """Method whose meta-iteration to time (iteration)."""
    json: bool = False
    """Print one JSON object."""


COMMANDS: dict[str, type[Any]] = {
    "list": ListCommand,
    "train": TrainCommand,
    "resume": ResumeCommand,
    "evaluate": EvaluateCommand,
    "adapt": AdaptCommand,
    "report": ReportCommand,
    "reproduce": ReproduceCommand,
    "benchmark": BenchmarkCommand,
}


def run(argv: Sequence[str], started: float) -> int:
    """Parses and carries out one command line; raises NacreError for what cannot be done."""
    argv = _without_plugins(argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if argv[0] == "--version":
        print(f"nacre {importlib.metadata.version('nacre')}")
        return 0
    name, args = argv[0], list(argv[1:])
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    if name == "train":
        _train(args, started)
        return 0
    command = parse(COMMANDS[name], args, prog=f"nacre {name}")
    actions: dict[str, Callable[[Any, float], None]] = {
        "list": _list, "resume": _resume, "evaluate": _evaluate, "adapt": _adapt, "report": _report,
        "reproduce": _reproduce, "benchmark": _benchmark,
    }  # fmt: skip
    actions[name](command, started)
    return 0


def _without_plugins(argv: Sequence[str]) -> list[str]:
    """Imports what --plugin names, which registers families, and leaves it out."""
    kept: list[str] = []
    rest = iter(argv)
    for arg in rest:
        flag, equals, module = arg.partition("=")
        if flag != "--plugin":
            kept.append(arg)
            continue
        module = module if equals else next(rest, "")
        if os.getcwd() not in sys.path:  # a file in the working directory, as with python -m; worker processes too
            sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(module)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise NacreError(f"--plugin {module} cannot be imported ({reason}); name a Python module.") from error
    return kept


def _overview() -> str:
    lines = [f"  nacre {name:<10} {(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join(["nacre: agents that learn a new task within a few episodes.", "", *lines, "",
                      "Add --help to a command for its arguments; --plugin MODULE to import families of your own;",
                      "nacre --version."])  # fmt: skip


def parse(kind: type[Parsed], args: Sequence[str], prog: str) -> Parsed:
    """`args` as a value of this dataclass. Its help is printed on --help; what it refuses becomes one sentence."""
    known = _flags(kind)
    for arg in args:
        flag = arg.split("=")[0].replace("_", "-")
        if flag.startswith("--") and flag not in known and flag.replace("--no-", "--", 1) not in known:
            raise unknown("option", flag, known)
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            return tyro.cli(kind, args=list(args), prog=prog, config=(tyro.conf.OmitArgPrefixes,))
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise NacreError(f"{_sentence(heard.getvalue())}; see '{prog} --help'.") from None


def _sentence(drawn: str) -> str:
    """What tyro says in a box (with or without line-drawing characters): its title and its advice left out."""
    lines = [re.sub(r"\x1b\[[0-9;]*m|[╭╮╰╯│─]", "", line).strip() for line in drawn.splitlines()]
    words = [line for line in lines if line.strip("-")][1:]
    advice = [i for i, line in enumerate(words) if line.startswith(("For full helptext", "Argument helptext"))]
    return " ".join(words[: min(advice, default=len(words))]).rstrip(".")


def _flags(kind: type[Any]) -> set[str]:
    """The flags that a command dataclass understands, nested ones included."""
    found = {"--help"}
    for field in dataclasses.fields(kind):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            found |= _flags(field.type)
        else:
            found.add("--" + field.name.replace("_", "-"))
    return found


def _train(args: list[str], started: float) -> None:
    from nacre.runs import trainer
    from nacre.runs.experiment import from_preset, resolve

    if len(args) < 2 or any(arg.startswith("-") for arg in args[:2]):
        if "--help" in args or "-h" in args:
            parse(TrainCommand, ["--help"], "nacre train")
        raise NacreError(
            "write the algorithm and the family first, as in 'nacre train pearl cheetah-vel'; see 'nacre list'."
        )
    own = [field.name for field in dataclasses.fields(TrainCommand)]
    # The family and the preset decide which flags there are and what they start from.
    base = from_preset(args[0], args[1], _value_of("--preset", args) or "paper")
    parts = {"settings": base.settings, "family_options": base.family, "options": base.options}
    nested: type[Any] = dataclasses.make_dataclass(
        "TrainArguments",
        [(name, type(value), dataclasses.field(default=value)) for name, value in parts.items()],
        bases=(TrainCommand,),
        frozen=True,
    )
    nested.__doc__ = TrainCommand.__doc__
    chosen = parse(nested, args, "nacre train")
    overrides: dict[str, Any] = {}
    for name in parts:
        overrides |= dataclasses.asdict(getattr(chosen, name))
    command = TrainCommand(**{name: getattr(chosen, name) for name in own})
    if command.seeds is not None and _value_of("--seed", args) is not None:
        raise NacreError("both --seed and --seeds were given; leave one out.")
    seed = overrides.pop("seed")
    seeds = [seed] if command.seeds is None else parse_seeds(command.seeds)
    experiments = [resolve(command.algorithm, command.family, command.preset, seed=seed, **overrides) for seed in seeds]
    paths = [default_path(command.algorithm, command.family, seed) for seed in seeds]
    if command.out is not None:
        paths = [command.out] if command.seeds is None else [command.out / f"seed-{seed}" for seed in seeds]
    trainer.train(experiments, paths, time_limit=command.time_limit, wandb=command.wandb, started=started)


def parse_seeds(text: str) -> list[int]:
    """'0:8' as 0 to 7, '0,3,5' as these, '4' as this one."""
    span = re.fullmatch(r"(\d{1,10}):(\d{1,10})", text)
    seeds: Sequence[int] = []
    if span is not None:
        seeds = range(int(span[1]), int(span[2]))
    elif re.fullmatch(r"\d{1,10}(,\d{1,10})*", text):
        seeds = [int(number) for number in text.split(",")]
    if not 0 < len(seeds) <= MAX_SEEDS or len(set(seeds)) < len(seeds):
        raise NacreError(
            f"--seeds is '{text}'; write 0:8 for 0 to 7, or different numbers such as 0,3,5, at most {MAX_SEEDS}."
        )
    return list(seeds)


def default_path(algorithm: str, family: str, seed: int) -> Path:
    """Where a run goes when nothing else is said."""
    return Path("runs") / family / algorithm / f"seed-{seed}"


def _value_of(flag: str, args: Sequence[str]) -> str | None:
    """The value that follows a flag, in either form."""
    for arg, after in zip(args, [*args[1:], None], strict=True):
        if arg == flag:
            return after
        if arg.startswith(flag + "="):
            return arg.split("=", 1)[1]
    return None


def _resume(command: ResumeCommand, started: float) -> None:
    from nacre.runs import trainer

    if not command.runs:
        raise NacreError(
            "name a run directory, as in 'nacre resume runs/cheetah-vel/pearl/seed-0'; see 'nacre resume --help'."
        )
    trainer.resume(
        command.runs, iterations=command.iterations, time_limit=command.time_limit, wandb=command.wandb,
        started=started,
    )  # fmt: skip


def _list(command: ListCommand, started: float) -> None:
    from nacre.algorithms.registry import ALGORITHMS
    from nacre.families.catalog import FAMILIES

    presets = sorted({preset for algorithm in ALGORITHMS.values() for preset in algorithm.presets})
    if command.json:
        print(json.dumps({"families": list(FAMILIES), "algorithms": list(ALGORITHMS), "presets": presets}))
        return
    table = Table(Column("family", no_wrap=True), "tasks", "obs", "action", "horizon", "presets of pearl")
    for name, family in FAMILIES.items():
        having = [preset for preset, families in ALGORITHMS["pearl"].presets.items() if name in families]
        having = having or [preset for preset, families in ALGORITHMS["pearl"].presets.items() if "*" in families]
        table.add_row(
            name, family.task_range, str(family.obs_dim), str(family.action_dim), str(family.horizon), ", ".join(having)
        )
    out = Console(highlight=False)
    out.print(table)
    out.print(f"algorithms: {', '.join(ALGORITHMS)}")


def _evaluate(command: EvaluateCommand, started: float) -> None:
    from nacre.deploy.agent import load
    from nacre.simulation.rollout import score, score_success

    agent = load(command.run)
    (returns, success), tasks = agent.evaluation(command.tasks, command.episodes, command.repeats, command.seed)
    if command.json:
        data = {
            "returns": returns.tolist(),
            "tasks": tasks,
            "scored_episode": returns.shape[2],
            "score": score(returns),
        }
        if success is not None:
            data |= {"success": success.tolist(), "success_rate": score_success(success)}
        print(json.dumps(data))
        return
    shown = np.unique(np.linspace(0, returns.shape[2] - 1, 5).astype(int))  # as many as fit a line; --json has all
    names = [_task_text(task) for task in tasks]
    first = Column("task", no_wrap=True, min_width=max(map(len, names)))
    table = Table(first, *(f"episode {i + 1}" for i in shown), title=f"returns, {command.tasks} tasks")
    for name, values in zip(names, returns.mean(axis=0)[:, shown], strict=True):
        table.add_row(name, *(f"{value:.2f}" for value in values))
    table.add_section()
    table.add_row("mean", *(f"{value:.2f}" for value in returns.mean(axis=(0, 1))[shown]))
    Console(highlight=False).print(table)
    print(f"score (mean return of episode {returns.shape[2]}): {score(returns):.3f}")
    if success is not None:
        print(f"solved in episode {returns.shape[2]}: {score_success(success):.1%} of trials")


def _task_text(task: dict[str, Any]) -> str:
    def number(value: Any) -> str:
        if not isinstance(value, list):
            return f"{value:.3g}"
        text = ",".join(f"{v:.3g}" for v in value[:SHOWN_COMPONENTS])
        return text if len(value) <= SHOWN_COMPONENTS else f"{text},... ({len(value)})"

    return " ".join(f"{name}={number(value)}" for name, value in task.items())


def _adapt(command: AdaptCommand, started: float) -> None:
    from nacre.deploy.agent import load

    agent = load(command.run)
    if command.video is None:
        trial = agent.meet(command.task, command.episodes, allow_ood=command.allow_ood, seed=command.seed)
    else:
        from nacre.report import video

        trial = video.record(
            agent, command.task, command.video, command.episodes, allow_ood=command.allow_ood, seed=command.seed
        )
        print(f"wrote {command.video}", file=sys.stderr)
    if command.json:
        print(json.dumps({"task": trial.task, "episodes": [episode._asdict() for episode in trial.episodes]}))
        return
    tells = trial.episodes[0].success is not None
    columns = ["episode", "return", *["solved"] * tells, "belief mean", "belief std"]
    table = Table(*columns, title=f"trial on {_task_text(trial.task)}")
    for episode in trial.episodes:
        mean, std = (" ".join(f"{v:.2f}" for v in values) for values in (episode.belief_mean, episode.belief_std))
        solved = ["yes" if episode.success else "no"] * tells
        table.add_row(str(episode.episode), f"{episode.episode_return:.3f}", *solved, mean, std)
    Console(highlight=False).print(table)


def _report(command: ReportCommand, started: float) -> None:
    from nacre.report import curves, page, trials

    if not command.runs:
        raise NacreError(
            "name at least one run directory, as in 'nacre report runs/cheetah-vel/pearl/seed-0 -o curves.png'."
        )
    if command.videos < 0:
        raise NacreError(f"videos is {command.videos}, but must be at least 0; change --videos.")
    if command.out.suffix.lower() == ".html":
        page.write(command.runs, command.out, command.videos)
    elif command.kind == "curves":
        curves.draw(command.runs, command.out)
    elif len(command.runs) == 1:
        trials.draw(command.runs[0], command.out)
    else:
        raise NacreError(f"--kind trials draws one run, but {len(command.runs)} were named; name one.")
    print(f"wrote {command.out}", file=sys.stderr)


def _reproduce(command: ReproduceCommand, started: float) -> None:
    from nacre.report import reproduce

    out = Console(highlight=False)
    if command.figure is None:
        table = Table("figure", "title", "what the paper found", "runs a seed")
        for name, figure in reproduce.FIGURES.items():
            table.add_row(name, figure.title, figure.finding, str(len(figure.lines)))
        out.print(table)
        return
    seeds = parse_seeds(command.seeds)
    if command.dry_run:
        table, total = Table("family", "line", "seed", "env steps", "updates", "estimated"), 0.0
        for one in reproduce.planned(command.figure, command.scale, seeds, command.out):
            done = reproduce.is_done(one.experiment, one.path)
            seconds = 0.0 if done else reproduce.estimated_seconds(one.experiment)
            total += seconds
            steps, updates = reproduce.env_steps(one.experiment), reproduce.num_updates(one.experiment)
            estimated = "done" if done else _hours(seconds)
            seed = str(one.experiment.options.seed)
            table.add_row(one.line.family, one.line.name, seed, f"{steps:,}", f"{updates:,}", estimated)
        out.print(table)
        out.print(
            f"about {_hours(total)} on this machine, one run after another, in {command.out / command.figure}; of "
            "on-policy methods only the simulation of robots is counted (the policy and the updates take as long "
            "again, those of maml-trpo twice as long, and on point robots they are all that takes time)"
        )
        return
    done = reproduce.run(command.figure, command.scale, seeds, command.out, command.time_limit)
    picture = reproduce.picture_of(command.figure, command.scale, command.out)
    print(f"wrote {picture}" if done else "stopped; the same command goes on", file=sys.stderr)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _benchmark(command: BenchmarkCommand, started: float) -> None:
    from nacre import benchmark

    result = benchmark.run(
        command.what, command.family, command.preset, command.lanes, command.seeds, command.precision,
        command.algorithm,
    )  # fmt: skip
    if command.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<28} {value:.4g}" if isinstance(value, float) else f"{name:<28} {value}")
