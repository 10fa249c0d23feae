"""README.md of a shared run: what it is, what it reaches, how it was made. Its head is for the Hugging Face Hub."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from nacre.deploy.logged_tasks import num_shared
from nacre.presets.trials import TrialSettings
from nacre.runs.directory import RunDirectory

USED = """## Use

```python
import nacre

agent = nacre.load("{place}")
returns, tasks = agent.evaluate()  # [repeat, task, episode]
print(nacre.score(returns))
session = agent.session()  # act, observe, end_episode
```

`pip install nacre`. Nothing in these files is executed when they are loaded."""


def model_card(run: RunDirectory, grad_steps: int, *, place: str, picture: str | None, licence: str | None) -> str:
    """`grad_steps`: of the checkpoint that is shared; `place`: what `nacre.load` is given; `picture`: a file beside
    it."""
    experiment = run.experiment
    name = f"{experiment.algorithm_name}-{experiment.family.name}"
    scores = scores_at(run, grad_steps)
    what = f"meta-trained on `{experiment.family.name}` (preset {experiment.preset}, seed {experiment.options.seed})"
    parts = [
        _head(run, name, scores, licence),
        f"# {name}\n\nAn agent of nacre, a library for meta-reinforcement learning in JAX: "
        f"{experiment.algorithm_name}, {what}. It learns a new task within a few episodes.",
        _results(run, grad_steps, scores),
        f"![Trials on test tasks]({picture})" if picture else "",
        USED.format(place=place),
        _settings(run),
        _provenance(run, grad_steps),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def scores_at(run: RunDirectory, grad_steps: int) -> np.ndarray | None:
    """Return of the scored episode, [test task], mean over repeats, in the evaluation at this update; None without."""
    table: Mapping[str, np.ndarray] = run.evaluations()
    if not table:
        return None
    rows = (table["split"] == "test") & (table["grad_steps"] == grad_steps)
    rows &= table["episode"] == table["episode"][rows].max(initial=0)
    tasks = np.unique(table["task"][rows])
    return np.array([table["return"][rows & (table["task"] == task)].mean() for task in tasks]) if len(tasks) else None


def _head(run: RunDirectory, name: str, scores: np.ndarray | None, licence: str | None) -> str:
    family = run.experiment.family.name
    tags = ["reinforcement-learning", "meta-reinforcement-learning", "jax", run.experiment.algorithm_name, family]
    lines = ["library_name: nacre", *([f"license: {json.dumps(licence.lower())}"] if licence else [])]
    lines += ["pipeline_tag: reinforcement-learning", "tags:", *(f"- {json.dumps(tag)}" for tag in tags)]
    if scores is not None:
        lines += [
            "model-index:", f"- name: {json.dumps(name)}", "  results:", "  - task:",
            "      type: reinforcement-learning", "      name: reinforcement-learning", "    dataset:",
            f"      name: {json.dumps(family)}", f"      type: {json.dumps(family)}", "    metrics:",
            "    - type: mean_reward", f"      value: {scores.mean():.2f} +/- {scores.std():.2f}",
            "      name: mean_reward", "      verified: false",
        ]  # fmt: skip
    return "\n".join(["---", *lines, "---"])


def _results(run: RunDirectory, grad_steps: int, scores: np.ndarray | None) -> str:
    if scores is None:
        return f"## Results\n\nThe agent was not evaluated at its update {grad_steps:,}."
    trials, shared = TrialSettings.of(run.experiment.settings), num_shared(run.tasks.test, run.tasks.train)
    some = f"{shared} of which are train tasks" if shared < len(scores) else "which are train tasks"
    trained_on = some if shared else "none of which is a train task"
    return (
        "## Results\n\n| return of the scored episode | over test tasks |\n|---|---|\n"
        f"| mean | {scores.mean():.4g} |\n| standard deviation | {scores.std():.4g} |\n"
        f"| lowest, highest | {scores.min():.4g}, {scores.max():.4g} |\n\n"
        f"{len(scores)} test tasks, {trained_on}; {trials.repeats} trials of each, of {trials.episodes} episodes, the "
        "last of which is scored. `eval.csv` has all evaluations."
    )


def _settings(run: RunDirectory) -> str:
    groups = (run.experiment.settings, run.experiment.family, run.experiment.options)
    rows = [f"| `{name}` | `{value}` |" for group in groups for name, value in dataclasses.asdict(group).items()]
    return "\n".join(["## Configuration", "", "| field | value |", "|---|---|", *rows])


def _provenance(run: RunDirectory, grad_steps: int) -> str:
    data: dict[str, Any] = json.loads((run.path / "config.json").read_text())
    metrics = run.metrics()
    here = metrics["grad_steps"] <= grad_steps if metrics else np.array([], bool)
    rows = {"update": f"{grad_steps:,}", "times resumed": str(len(data.get("resumed", [])))}
    if here.any():
        last = int(np.flatnonzero(here)[-1])
        rows |= {"environment steps": f"{int(metrics['env_steps'][last]):,}"}
        rows |= {"hours": f"{metrics['wall_seconds'][last] / 3600:.2f}"}
    if run.experiment.data_hash:
        rows |= {"hash of the data set": run.experiment.data_hash}
    if run.started_from is not None:
        rows |= {"started from networks with the hash": str(run.started_from.get("networks_sha256", "unknown"))}
    rows |= {f"version of {name}": version for name, version in data.get("versions", {}).items()}
    return "\n".join(["## Provenance", "", "| | |", "|---|---|", *(f"| {name} | {rows[name]} |" for name in rows)])
