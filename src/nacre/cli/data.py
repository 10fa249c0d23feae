"""`nacre data`: data sets of logged episodes."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nacre.cli.parsing import Positional, parse, refuse
from nacre.errors import NacreError, shown, unknown

if TYPE_CHECKING:
    from nacre.data.dataset import DataSet

USES = {
    "list": "list", "show": "show ID", "verify": "verify ID", "remove": "remove ID", "slice": "slice ID --id NEW",
    "import": "import macaw|npy|d4rl FOLDER --family FAMILY --tasks FILE --id NEW", "export": "export ID FOLDER",
}  # fmt: skip
NAMES = {"show": 1, "verify": 1, "remove": 1, "slice": 1, "import": 2, "export": 2}
"""How many words follow an action."""


FLAGS = {
    "list": {"json"}, "show": {"json"}, "slice": {"id", "quality", "train_tasks", "test_tasks", "policy_steps"},
    "import": {"id", "quality", "family", "tasks"}, "export": {"layout"},
}  # fmt: skip
"""The flags of an action; the others have none."""


@dataclass(frozen=True)
class Command:
    """List, show, verify, slice, import, export and remove data sets of logged episodes."""

    action: Positional[str] = "list"
    """list, show ID, verify ID, remove ID, slice ID, import macaw|npy|d4rl FOLDER, or export ID FOLDER."""
    names: Positional[tuple[str, ...]] = ()
    """The data set's id or folder. import: the layout and the folder to read. export: the data set and the folder to
    write."""
    id: str | None = None
    """slice, import: the name of the new data set, such as nacre/cheetah-vel/expert-v0."""
    quality: str | None = None
    """slice: keeps only these qualities, as in random,medium. import: the quality that all episodes are said to have
    ('imported' by default)."""
    train_tasks: str | None = None
    """slice: keeps only these train tasks, 0:5 (0 to 4) or 0,3."""
    test_tasks: str | None = None
    """slice: keeps only these test tasks."""
    policy_steps: str | None = None
    """slice: keeps only episodes of policies that were trained for this many steps, as in 10000:50000. Both ends are
    included."""
    family: str | None = None
    """import: the family of the tasks."""
    tasks: Path | None = None
    """import: a JSON file that gives the task of each file or folder (docs/data.md)."""
    layout: Literal["minari", "d4rl"] = "minari"
    """export: 'minari' writes a Minari data set for each task, 'd4rl' a file for each task in the layout of D4RL."""
    json: bool = False
    """list, show: prints one JSON object instead of tables."""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre data ARGS`."""
    command = parse(Command, args, "nacre data")
    if command.action not in USES:
        raise unknown("action", command.action, USES)
    if len(command.names) != NAMES.get(command.action, 0):
        raise NacreError(f"write 'nacre data {USES[command.action]}'; see 'nacre data --help'.")
    others = {field.name for field in dataclasses.fields(Command)} - FLAGS.get(command.action, set())
    refuse(command, others - {"action", "names"}, f"has no effect on 'nacre data {command.action}'")
    actions: dict[str, Callable[[Command], None]] = {
        "list": _list, "show": _show, "verify": _verify, "remove": _remove, "slice": _slice, "import": _import,
        "export": _export,
    }  # fmt: skip
    actions[command.action](command)


def _list(command: Command) -> None:
    from nacre.data.dataset import open_data_set
    from nacre.data.layout import all_ids, root, unfinished

    rows: list[dict[str, Any]] = []
    others: list[dict[str, str]] = []
    for id in all_ids():
        try:
            data = open_data_set(root() / id)
        except NacreError as error:
            others.append({"id": id, "fault": str(error)})
            continue
        counts = {split: len(data.statistics[split]["episodes"]) for split in ("train", "test")}
        rows.append({"id": id, "family": data.family.name, "quality": data.quality, "train_tasks": counts["train"],
                     "test_tasks": counts["test"], "episodes": data.num_episodes, "steps": data.num_steps,
                     "bytes": _bytes(data.path)})  # fmt: skip
    left = [str(folder) for folder in unfinished()]
    if command.json:
        print(json.dumps({"root": str(root()), "data_sets": rows, "others": others, "unfinished": left}))
        return
    print(f"{len(rows)} data set{'' if len(rows) == 1 else 's'} in {root()}")
    for row in rows:
        print(f"{row['id']}\n    {row['train_tasks']} + {row['test_tasks']} tasks, {row['episodes']:,} episodes, "
              f"{row['steps']:,} steps, {_megabytes(row['bytes'])}")  # fmt: skip
    for other in others:
        print(f"{other['id']}\n    not nacre's, or damaged; 'nacre data show {other['id']}' says more")
    for folder in left:
        print(f"{folder}\n    what an interrupted writer left; may be removed")


def _show(command: Command) -> None:
    from nacre.data.dataset import open_data_set

    data = open_data_set(command.names[0])
    told = _told(data)
    if command.json:
        print(json.dumps(told))
        return
    from rich.table import Table

    from nacre.cli.tables import print_table
    from nacre.cli.tables import task_text as short
    from nacre.families.family import take

    print(f"{data.id}: {data.quality}, of {data.family!r}")
    print(f"  {data.num_episodes:,} episodes, {data.num_steps:,} steps, {_megabytes(told['bytes'])} of data, "
          f"{_megabytes(told['cache_bytes'])} of cache")  # fmt: skip
    print(f"  {data.path}")
    print(f"  content {data.content_hash[:16]}")
    versions = ", ".join(f"{name} {version}" for name, version in data.versions.items())
    print(textwrap.fill(versions, 80, initial_indent="  by ", subsequent_indent="     "))
    for name, value in data.recipe.items():
        print(f"  {name}: {shown(value, 74 - len(name))}")
    titles = {"train": "train tasks", "test": "test tasks", "other": "test tasks, by policies of other tasks"}
    for split, statistics in data.statistics.items():
        if not any(statistics["episodes"]):
            continue
        known = {} if split == "other" else data.policies(split)
        normalised = data.normalised(split)
        table = Table(title=titles[split], title_justify="left", box=None, pad_edge=False)
        table.add_column("task", justify="right")
        table.add_column("", max_width=26)
        for column in ("episodes", "steps", "min", "mean", "best", *(["normalised"] if normalised else [])):
            table.add_column(column, justify="right")
        for task in range(len(statistics["episodes"])):
            values = {name: value.tolist() for name, value in take(data.tasks(split), task).items()}
            known_returns = (of_tasks[task] for of_tasks in data.returns(split).values())
            returns = ["-" if value is None else f"{value:.1f}" for value in known_returns]
            score = [_score(normalised[task])] if normalised else []
            counts = [f"{statistics[name][task]:,}" for name in ("episodes", "steps")]
            table.add_row(str(task), short(values), *counts, *returns, *score)
        print()
        print_table(table)
        if known:
            table = Table(title=f"policies, {titles[split]}", title_justify="left", box=None, pad_edge=False)
            for column in ("task", *known):
                table.add_column(column, justify="right")
            for task, row in enumerate(zip(*known.values(), strict=True)):
                *returns, last = row
                table.add_row(str(task), *(f"{value:.1f}" for value in returns), _score(last))
            print()
            print_table(table)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _told(data: DataSet) -> dict[str, Any]:
    from nacre.families.family import task_text

    splits = {}
    for split, statistics in data.statistics.items():
        tasks = [task_text(data.tasks(split), task) for task in range(len(statistics["episodes"]))]
        splits[split] = {"tasks": tasks, **statistics, **data.returns(split), "normalised": data.normalised(split)}
        if split != "other":
            splits[split] |= {"last": data.policies(split).get("last")}
    cached = _bytes(data.path / "cache")
    return {"id": data.id, "path": str(data.path), "hash": data.content_hash, "family": data.family.name,
            "quality": data.quality, "episodes": data.num_episodes, "steps": data.num_steps, "splits": splits,
            "references": data.references, "recipe": data.recipe, "versions": data.versions,
            "bytes": _bytes(data.path) - cached, "cache_bytes": cached}  # fmt: skip


def _verify(command: Command) -> None:
    from nacre.data.dataset import open_data_set

    data = open_data_set(command.names[0])
    data.verify()
    print(f"{data.id} is whole: {data.num_episodes:,} episodes, {data.num_steps:,} steps, as they were written.")


def _remove(command: Command) -> None:
    from nacre.data.dataset import open_data_set

    data = open_data_set(command.names[0])
    data.remove()
    print(f"{data.id} is removed from {data.path}.")


def _slice(command: Command) -> None:
    from nacre.data.dataset import open_data_set
    from nacre.data.slices import slice_data_set

    steps = None
    if command.policy_steps is not None:
        first, colon, last = command.policy_steps.partition(":")
        if not (colon and all(word.isdecimal() and len(word) < 19 for word in (first, last))):
            raise NacreError(f"--policy-steps is '{shown(command.policy_steps)}'; write FIRST:LAST, as in 10000:50000.")
        steps = int(first), int(last)
    data = slice_data_set(
        open_data_set(command.names[0]), _new_id(command), policy_steps=steps,
        qualities=None if command.quality is None else command.quality.split(","),
        train_tasks=_numbers("--train-tasks", command.train_tasks),
        test_tasks=_numbers("--test-tasks", command.test_tasks),
    )  # fmt: skip
    _print_made(data)


def _import(command: Command) -> None:
    from nacre.data.importing import import_data_set
    from nacre.families.catalog import make_family

    if command.family is None or command.tasks is None:
        raise NacreError(
            "an import needs the family and the tasks of its episodes; add --family and --tasks (docs/data.md)."
        )
    layout, folder = command.names
    data = import_data_set(layout, Path(folder), _new_id(command), make_family(command.family), command.tasks,
                           quality=command.quality or "imported")  # fmt: skip
    _print_made(data)


def _export(command: Command) -> None:
    from nacre.data.dataset import open_data_set
    from nacre.data.exporting import export_data_set

    data, folder = open_data_set(command.names[0]), Path(command.names[1])
    made = export_data_set(data, folder, command.layout)
    print(f"{data.id} is exported to {folder}, {len(made)} tasks.")


def _new_id(command: Command) -> str:
    if command.id is None:
        raise NacreError("name the new data set, as in --id nacre/cheetah-vel/expert-v0.")
    return command.id


def _numbers(flag: str, text: str | None) -> Sequence[int] | None:
    """'0:5' as 0 to 4, '0,3' as these."""
    if text is None:
        return None
    first, colon, end = text.partition(":")
    words = [first, end] if colon else text.split(",")
    if not all(word.isdecimal() and len(word) < 8 for word in words):
        raise NacreError(f"{flag} is '{shown(text)}'; write 0:5 for 0 to 4, or numbers such as 0,3.")
    numbers = range(int(first), int(end)) if colon else [int(word) for word in words]
    if not numbers:
        raise NacreError(f"{flag} is '{shown(text)}', which names no task; write 0:5 for 0 to 4, or 0,3.")
    return numbers


def _print_made(data: DataSet) -> None:
    print(f"{data.id}: {data.num_episodes:,} episodes, {data.num_steps:,} steps, in {data.path}.")


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
