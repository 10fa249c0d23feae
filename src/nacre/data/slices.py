"""Parts of a data set as a data set of its own: some qualities, some tasks, some stages of the policies' training."""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence

from nacre.data.dataset import DataSet, LoggedEpisode, Writer
from nacre.errors import NacreError, unknown
from nacre.families.family import num_tasks, take
from nacre.types import ArrayLike

Numbers = Sequence[int] | ArrayLike
"""Of tasks, whole."""


def slice_data_set(
    data: DataSet, id: str, *, qualities: Collection[str] | None = None, train_tasks: Numbers | None = None,
    test_tasks: Numbers | None = None, policy_steps: tuple[int, int] | None = None,
) -> DataSet:  # fmt: skip
    """The episodes of these qualities, on these tasks, by policies after `policy_steps[0]` to `policy_steps[1]` steps,
    both included, written as a new data set; None: all, and for an empty list of tasks none of that split. Tasks get
    new numbers, in the order given.

    Raises NacreError where nothing is left, or a quality or task is not there.
    """
    qualities = None if qualities is None else sorted(map(str, qualities))
    for quality in qualities or ():
        if quality not in data.known().qualities:
            raise unknown("quality", quality, map(str, data.known().qualities))
    kept = {
        "train": _kept(data, "train", train_tasks),
        "test": _kept(data, "test", test_tasks),
    }
    number = {split: {old: new for new, old in enumerate(tasks)} for split, tasks in kept.items()}
    first, last = (-1, 2**63) if policy_steps is None else map(operator.index, policy_steps)

    def renumbered(episode: LoggedEpisode) -> LoggedEpisode | None:
        task = number["train" if episode.split == "train" else "test"].get(episode.task)
        if task is None or not first <= episode.policy_step <= last:
            return None
        if qualities is not None and episode.quality not in qualities:
            return None
        whose = number["test" if episode.split == "test" else "train"]
        return episode._replace(task=task, policy_task=whose.get(episode.policy_task, -1))

    asked = {
        "qualities": qualities, "train_tasks": None if train_tasks is None else kept["train"],
        "test_tasks": None if test_tasks is None else kept["test"],
        "policy_steps": None if policy_steps is None else [first, last],
    }  # fmt: skip
    recipe = {**data.recipe, "slice_of": {"id": data.id, "hash": data.content_hash, **asked}}
    references = {
        split: {name: [values[task] for task in kept[split]] for name, values in of.items()}
        for split, of in data.references.items()
    }
    if "last_checkpoint" in recipe:
        recipe["last_checkpoint"] = {
            split: [values[task] for task in kept[split]] for split, values in recipe["last_checkpoint"].items()
        }
    quality = "+".join(qualities) if qualities else data.quality
    writer = Writer(
        id, data.family, take(data.train, kept["train"]), take(data.test, kept["test"]), quality, recipe,
        versions=data.versions, references=references, description=f"Part of {data.id}.",
    )  # fmt: skip
    with writer:
        writer.add(episode for old in data.episodes() if (episode := renumbered(old)) is not None)
    return writer.close()


def _kept(data: DataSet, split: str, tasks: Numbers | None) -> list[int]:
    total = num_tasks(data.tasks(split))
    kept = list(range(total)) if tasks is None else [operator.index(task) for task in tasks]
    if kept and total == 0:
        raise NacreError(f"{data.id} has no {split} tasks; leave them out.")
    if len(set(kept)) < len(kept) or not all(0 <= task < total for task in kept):
        raise NacreError(f"{data.id} has {split} tasks 0 to {total - 1}; name different ones of these.")
    return kept
