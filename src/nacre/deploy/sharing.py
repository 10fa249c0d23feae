"""Runs for other people: a run directory with what is needed to act, and a model card; in a folder, or on the Hugging
Face Hub."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nacre.deploy.model_card import model_card
from nacre.errors import NacreError, imported, shown
from nacre.runs import tables
from nacre.runs.checkpoints import Checkpoints
from nacre.runs.directory import RunDirectory
from nacre.runs.files import is_draft, is_locked, making_room, notice, reading, reason_of, writing
from nacre.runs.loading import Saved, hypotheses_of, load_state, load_to_act

HUB = "hf://"
PUSHED = {"config.json", "tasks.json", "README.md", "checkpoints", "lock", *tables.TABLES}
"""All that a folder has that was pushed to, beside a picture; a lock from a resumption."""
PICTURE = "trials.png"
"""The picture of a run directory that is shared with it, where it is there."""


def push(
    run: str | Path, to: str | Path, *, checkpoint: str | int = "latest", whole: bool = False,
    picture: str | Path | None = None, licence: str | None = None, private: bool = False, overwrite: bool = False,
) -> str:  # fmt: skip
    """Shares a run: `nacre.push("runs/vel/seed-0", "hf://user/name")`, or a folder. Returns where it is.

    It is a run directory with one checkpoint, without optimisers and replay (`whole`: with both, to train on), the
    tables, and a model card, README.md. `picture` goes into the card: trials.png of the run directory unless given.
    `licence`: of the agent, such as MIT. `private`: a repository on the Hub that nobody else sees; one that is there
    already and is public is refused. `overwrite`: a folder that was pushed to before is replaced; on the Hub each push
    is a commit. Raises NacreError.
    """
    place = str(to)
    if private and not place.startswith(HUB):
        raise NacreError(f"{shown(place)} is a folder, which --private does not protect; leave out --private.")
    if overwrite and place.startswith(HUB):
        raise NacreError("--overwrite has no effect on the Hub, where each push is a commit; leave out --overwrite.")
    source = RunDirectory(Path(run))
    chosen = picture if picture is not None else source.path / PICTURE
    drawn = Path(chosen) if picture is not None or Path(chosen).is_file() else None
    if drawn is not None and not drawn.is_file():
        raise NacreError(f"there is no picture {shown(drawn)}; draw one by 'nacre report {source.path} --kind trials'.")
    if place.startswith(HUB):
        repository, revision = parse_hub(place)
        if revision is not None:
            raise NacreError(f"{place} names a revision, and a push is a new one; leave '@{revision}' out.")
        return _to_hub(source, repository, private, checkpoint, whole, drawn, licence)
    _check_place(Path(place), source, overwrite)
    with writing(Path(place), "push again"):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        with _draft(Path(place).parent) as draft:
            write_shared(source, draft, place, checkpoint, whole, drawn, licence)
            with making_room([Path(place)]):
                draft.rename(place)
    return place


def write_shared(
    run: RunDirectory, folder: Path, place: str, checkpoint: str | int, whole: bool, picture: Path | None,
    licence: str | None,
) -> None:  # fmt: skip
    """Writes what is shared of a run into an empty folder."""
    acting = load_to_act(run, checkpoint)
    # Of a whole copy, all that it takes to resume is checked.
    state = load_state(run, checkpoint=checkpoint) if whole else acting.state
    grad_steps = int(state.grad_steps)
    files = ["config.json", "tasks.json", *(name for name in tables.TABLES if (run.path / name).exists())]
    with reading(run.path):
        for name in files:
            shutil.copyfile(run.path / name, folder / name)
        if picture is not None:
            shutil.copyfile(picture, folder / f"trials{picture.suffix}")
    for name in files[2:]:  # a table tells of no later networks than are there
        if max(tables.read(run.path / name).get("grad_steps", ()), default=0) > grad_steps:
            tables.cut_back(folder / name, grad_steps)
    copies = run.path / "checkpoints" / str(grad_steps)
    if whole:
        shutil.copytree(copies, folder / "checkpoints" / str(grad_steps))
    else:
        seconds, tasks = _wall_seconds(run, grad_steps), run.tasks
        saved = Saved(state, seconds, tasks.train, tasks.test, _hypotheses(run, acting))
        Checkpoints(folder / "checkpoints").save(grad_steps, saved, [folder / name for name in tables.TABLES])
    named = None if picture is None else f"trials{picture.suffix}"
    (folder / "README.md").write_text(
        model_card(run, grad_steps, place=place, picture=named, licence=licence), encoding="utf-8"
    )


def _hypotheses(run: RunDirectory, saved: Saved) -> Any:
    """What trials explore by, as far as the run still knows it; says where it is lost."""
    experiment = run.experiment
    try:
        return hypotheses_of(run, saved) if experiment.algorithm.has_hypotheses else None
    except NacreError as error:
        if experiment.settings.by_hypotheses:
            notice(f"pushed without hypotheses, so it acts with --exploration prior alone: {error}")
        return None


def parse_hub(place: str) -> tuple[str, str | None]:
    """hf://user/name or hf://user/name@revision as (user/name, revision)."""
    found = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", place)
    if found is None:
        raise NacreError(f"{shown(place)} is no place on the Hub; write hf://USER/NAME, or hf://USER/NAME@REVISION.")
    return found[1], found[2]


def fetched(place: str) -> Path:
    """The run directory of a repository on the Hub, in the Hub's own cache; what is there already is not fetched anew.

    The replay stays where it is. Raises NacreError.
    """
    repository, revision = parse_hub(place)
    hub = import_hub()
    try:
        return Path(
            hub.snapshot_download(repo_id=repository, revision=revision, ignore_patterns=["checkpoints/*/replay/*"])
        )
    except Exception as error:
        raise NacreError(
            f"{place} cannot be fetched ({reason_of(error)}); check the name, the network, and, for what is private, "
            "'hf auth login'."
        ) from error


def _to_hub(
    run: RunDirectory, repository: str, private: bool, checkpoint: str | int, whole: bool, picture: Path | None,
    licence: str | None,
) -> str:  # fmt: skip
    hub, place = import_hub(), f"{HUB}{repository}"
    with _draft(None) as draft:
        write_shared(run, draft, place, checkpoint, whole, picture, licence)
        try:
            api = hub.HfApi()
            # Without --private a new one is what its owner's settings say; one that is there stays as it is.
            api.create_repo(repo_id=repository, private=private or None, exist_ok=True)
            if private and not api.repo_info(repository).private:
                raise NacreError(
                    f"{place} is public, so nothing was pushed there; make it private on the Hub, choose another name, "
                    "or leave out --private."
                )
            api.upload_folder(
                repo_id=repository, folder_path=str(draft), commit_message=f"nacre push {run.path.name}",
                delete_patterns=["checkpoints/*", *tables.TABLES, "trials.*"],
            )  # fmt: skip
        except NacreError:
            raise
        except Exception as error:
            raise NacreError(
                f"{place} cannot be pushed to ({reason_of(error)}); check the name, the network, and 'hf auth login'."
            ) from error
    return place


@contextmanager
def _draft(beside: Path | None) -> Iterator[Path]:
    """An empty folder, which is gone afterwards unless it was renamed."""
    draft = Path(tempfile.mkdtemp(prefix=".nacre-push-", dir=beside))
    draft.chmod(0o755)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_place(folder: Path, run: RunDirectory, overwrite: bool) -> None:
    """Raises NacreError where something stands already; with `overwrite`, where that is no run that was pushed, or has
    more than was pushed."""
    if not folder.exists():
        return
    if folder.samefile(run.path):
        raise NacreError(f"{folder} is the run itself, which a push would replace by its copy; choose another place.")
    if not overwrite:
        raise NacreError(f"{folder} exists; choose another place, or replace it with --overwrite.")
    refused = f"{folder} is no run that was pushed, so --overwrite leaves it alone; choose another place."
    try:
        card = (folder / "README.md").read_text(encoding="utf-8")
        names = {entry.name for entry in folder.iterdir()}
    except (OSError, ValueError) as error:
        raise NacreError(refused) from error
    if folder.is_symlink() or "config.json" not in names or "library_name: nacre" not in card:
        raise NacreError(refused)
    pictures = {name for name in names if name.startswith("trials.") and f"({name})" in card}
    strange = sorted(name for name in names - PUSHED - pictures if not is_draft(name))
    if strange:
        raise NacreError(
            f"{folder} has {strange[0]} in it, which --overwrite would delete; move that away, or choose another place."
        )
    pushed = re.search(r"^\| update \| ([\d,]+) \|$", card, re.M)
    newest = Checkpoints(folder / "checkpoints", read_only=True).latest() or 0
    if pushed is not None and newest > int(pushed[1].replace(",", "")):
        raise NacreError(
            f"{folder} was trained on since it was pushed, from update {pushed[1]} to {newest:,}, which --overwrite "
            "would delete; choose another place."
        )
    if "lock" in names and is_locked(folder):
        raise NacreError(f"another process is training in {folder}; wait for it, or choose another place.")


def _wall_seconds(run: RunDirectory, grad_steps: int) -> Any:
    import numpy as np

    metrics = run.metrics()
    until = metrics["wall_seconds"][metrics["grad_steps"] <= grad_steps] if metrics else []
    return np.float64(until[-1] if len(until) else 0.0)


def import_hub() -> Any:
    """The client of the Hugging Face Hub, or a NacreError where it is not installed."""
    return imported(
        "huggingface_hub",
        "the client of the Hugging Face Hub is not installed; install nacre with its extra: pip install 'nacre[hub]'.",
    )
