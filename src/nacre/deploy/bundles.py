"""Writing bundles: an agent as a folder that acts without nacre.

agent.json and weights.npz say what the agent is; deploy/numpy_session.py reads them, and is session.py, with its parts
(deploy/session_program.py); deploy/numpy_guards.py is guards.py. What an agent is in words and arrays, its method says
(`Algorithm.export`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Unpack

import jax
import numpy as np

from nacre.algorithms.protocol import Exported
from nacre.deploy import NumpySession, c_files, freezing, load, numpy_bundle, numpy_guards, onnx_files, session_program
from nacre.deploy.change_detector import Watched, with_detector
from nacre.deploy.change_detector import exported as exported_detector
from nacre.deploy.onnx_graph import IR_VERSION, OPSET, onnx_module
from nacre.deploy.session import Session
from nacre.errors import NacreError
from nacre.families.family import Family, MujocoFamily, num_tasks, take, task_text
from nacre.families.robots import load_model
from nacre.learning.networks import in_float32
from nacre.presets.trials import TrialOptions, TrialSettings
from nacre.runs.directory import RunDirectory, versions
from nacre.runs.experiment import to_json
from nacre.runs.files import making_room, reason_of
from nacre.simulation.environment import TaskEnvironment
from nacre.types import Agent, Logged, Tasks, Transition

MOST_EPISODES, MOST_STEPS = 4, 10
"""Most episodes and steps of the trial that is recorded for the self-test."""
_GRAPHS = tuple(f"{name}.onnx" for name in onnx_files.NAMES)
_BUILT = ("__pycache__", "policy_test")
FILES = {"agent.json", "weights.npz", "session.py", "guards.py", *_GRAPHS, *c_files.NAMES, *_BUILT}
"""What may lie in a bundle."""
MOST_SAMPLED = 1000
"""An agent that samples its actions in so many episodes samples them in all."""


def robot_words(family: Family) -> dict[str, Any]:
    """What a family tells of the machine that acts; None for what it does not. Raises NacreError for names that are not
    as many as the numbers that they are of."""
    sizes = {"observation": family.obs_dim, "action": family.action_dim}
    words: dict[str, Any] = {}
    for kind, size in sizes.items():
        names = getattr(family, f"{kind}_names")
        if names and len(names) != size:
            raise NacreError(
                f"{family.name} has {len(names)} {kind}_names, but {kind}s of {size} numbers; name each number."
            )
        words[f"{kind}s"] = list(names) or None
    words["control_period"] = family.control_period
    if isinstance(family, MujocoFamily):
        model = load_model(type(family).model_file, family.model_timestep)
        words["actions"] = words["actions"] or _actuators(model)
        words["control_period"] = words["control_period"] or float(model.opt.timestep * family.frame_skip)
    return words


def _actuators(model: Any) -> list[str] | None:
    """Names of a robot's actuators, or of the joints that they drive; None where one has neither."""
    joint, each = 0, [model.actuator(index) for index in range(model.nu)]  # 0: mjTRN_JOINT
    names = [one.name or (model.joint(one.trnid[0]).name if one.trntype[0] == joint else "") for one in each]
    return names if all(names) else None


def trial_words(trials: TrialSettings, functions: Agent) -> dict[str, Any]:
    """How the agent's trials go."""
    scored = trials.episodes - 1
    sampled = next((index for index in range(MOST_SAMPLED) if not functions.explores(index, scored)), None)
    return {
        "protocol": trials.protocol, "episodes": trials.episodes, "scored_episode": trials.episodes,
        "exploration_episodes": trials.exploration_episodes, "exploration": trials.exploration,
        "sampled": sampled, "needs_logs": trials.needs_logs,
    }  # fmt: skip


def record(family: Family, session: Session, task: Tasks, seed: int, trial: dict[str, Any]) -> dict[str, Any]:
    """A short trial of this session in a task: what it saw and did. Where its protocol gives it logged transitions,
    they are those of random actions. `seed` is the session's, and that of the environment."""
    text = task_text(task)
    env, rng = TaskEnvironment(family, text, allow_ood=True), np.random.default_rng(seed)
    try:
        absorbed = None
        if trial["needs_logs"]:
            random_actions = (rng.uniform(-1, 1, family.action_dim).astype(np.float32) for _ in range(MOST_STEPS))
            obs, action, reward = _episode(env, family, lambda _: next(random_actions), None, seed)
            log = Transition(obs[:-1], action, reward, reward, np.ones_like(reward), obs[1:])
            end = np.ones_like(reward)
            session.absorb(Logged(log, end, end, obs[1:], end))
            absorbed = {name: shortest(getattr(log, name)) for name in ("obs", "action", "reward", "next_obs")}
        episodes = []
        for index in range(min(trial["episodes"], MOST_EPISODES)):
            played = _episode(env, family, session.act, session.observe, seed + index)
            session.end_episode()
            episodes.append(dict(zip(("obs", "action", "reward"), map(shortest, played), strict=True)))
    finally:
        env.close()
    return {"seed": seed, "task": text, "absorbed": absorbed, "episodes": episodes}


def _episode(
    env: TaskEnvironment, family: Family, act: Any, observe: Any, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """obs [step + 1, obs_dim], actions [step, action_dim] and rewards [step] of the beginning of an episode."""
    seen: list[Any] = [env.reset(seed=seed)[0]]
    actions: list[Any] = []
    rewards: list[Any] = []
    for _ in range(min(family.horizon, MOST_STEPS)):
        action = act(seen[-1])
        obs, reward, terminated, truncated, info = env.step(action)
        if info.get("diverged"):
            break
        if observe is not None:
            observe(obs, np.float32(reward), terminated=terminated)
        seen, actions, rewards = [*seen, obs], [*actions, action], [*rewards, reward]
        if terminated or truncated:
            break
    width = (len(actions), family.action_dim)
    return np.array(seen, np.float32), np.array(actions, np.float32).reshape(width), np.array(rewards, np.float32)


def shortest(values: np.ndarray) -> list[Any]:
    """float32 numbers for JSON, each with as few digits as tell it from the others."""
    return [shortest(row) if row.ndim else float(str(row)) for row in np.asarray(values, np.float32)]


def write(
    path: Path, about: dict[str, Any], arrays: dict[str, np.ndarray], *, onnx: bool = False, c: bool = False
) -> None:
    """Writes a bundle that passes its self-test, whole or not at all, in place of what `check_place` lets go."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    files = {"weights.npz": buffer.getvalue(), "session.py": session_program.text().encode()}
    files["guards.py"] = Path(numpy_guards.__file__).read_bytes()
    models = onnx_files.models(about, arrays) if onnx else {}
    files |= models | (c_files.files(about, arrays) if c else {})
    if onnx:
        about = about | {"onnx": {"opset": OPSET, "ir_version": IR_VERSION}}
    about = about | {"files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}}
    files["agent.json"] = (as_text(about | {"seal": numpy_bundle.seal_of(about)}) + "\n").encode()
    draft = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}-", dir=path.parent))
        for name, data in files.items():
            (draft / name).write_bytes(data)
        session = load(draft, task=about["self_test"]["task"])
        session.self_test()
        if onnx:
            onnx_files.check(session.bundle, models, about["self_test"]["task"])
        draft.chmod(0o755)
        with making_room([path]):
            draft.rename(path)
    except OSError as error:
        raise NacreError(f"cannot write {path} ({reason_of(error)}); choose another place with --out.") from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def as_text(about: dict[str, Any]) -> str:
    """agent.json: a line for each entry, those of large objects a line each as well."""

    def entries(words: dict[str, Any], indent: str) -> list[str]:
        return [f"{indent}{json.dumps(name)}: {json.dumps(value)}" for name, value in words.items()]

    lines = []
    for name, value in about.items():
        if isinstance(value, dict) and value:
            inside = ",\n".join(entries(value, "    "))
            lines.append(f"  {json.dumps(name)}: {{\n{inside}\n  }}")
        else:
            lines += entries({name: value}, "  ")
    return "{\n" + ",\n".join(lines) + "\n}"


def check_place(path: Path, *, overwrite: bool) -> Path:
    """The path, without '..'. Raises NacreError where something stands already; with `overwrite`, where that is no
    bundle, or has more in it."""
    path = path.resolve() if ".." in path.parts or path == Path(".") else path
    try:
        taken = path.exists() or path.is_symlink()
    except (OSError, ValueError) as error:
        raise NacreError(
            f"cannot write {str(path)[:200]} ({reason_of(error)}); choose another place with --out."
        ) from error
    if taken and not overwrite:
        raise NacreError(f"{path} exists; choose another place with --out, or replace a bundle with --overwrite.")
    if taken:
        _check_bundle(path)
    return path


def _check_bundle(path: Path) -> None:
    """Raises NacreError where a folder is not a bundle and nothing else."""
    refused = f"{path} is not an exported agent, so --overwrite leaves it alone; choose another place with --out."
    try:
        is_bundle = json.loads((path / "agent.json").read_text())["format"] == numpy_bundle.FORMAT
        names = {entry.name for entry in path.iterdir()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NacreError(refused) from error
    if path.is_symlink() or not is_bundle:
        raise NacreError(refused)
    if names - FILES:
        raise NacreError(
            f"{path} has {min(names - FILES)} in it, which --overwrite would delete; move that away, or choose another "
            "place with --out."
        )


# ----------------------------------------------------------------------------------------------------------------------
# Exporting


class Trained(Watched, Protocol):
    """What is exported: a `TrainedAgent`."""

    grad_steps: int | None
    run: RunDirectory | None
    trials: TrialSettings

    def training_statistics(self, trials: TrialSettings) -> dict[str, Any] | None: ...


def export(
    agent: Trained, path: str | Path, *, overwrite: bool = False, licence: str | None = None, seed: int = 0,
    onnx: bool = False, c: bool = False, adapted_from: str | Session | None = None, detect: float | None = None,
    episodes: int | None = None, **options: Unpack[TrialOptions],
) -> NumpySession:  # fmt: skip
    """As `TrainedAgent.export`."""
    path = check_place(Path(path), overwrite=overwrite)
    if onnx:
        onnx_module()
    if detect is not None and (onnx or c):
        raise NacreError("ONNX graphs and C code have no detector of changes; leave out --detect, or --onnx and --c.")
    generator = getattr(jax.config, "jax_default_prng_impl", "threefry2x32")
    if generator != "threefry2x32" or not getattr(jax.config, "jax_threefry_partitionable", True):
        raise NacreError(
            "JAX is set to another random number generator than exported agents have; unset JAX_DEFAULT_PRNG_IMPL and "
            "JAX_THREEFRY_PARTITIONABLE."
        )
    trials, family = agent.trials.changed(episodes, **options), agent.experiment.family
    task, params = first_task([agent.tasks.test, agent.tasks.train]), in_float32(agent.params_for(trials))
    became = None if adapted_from is None else freezing.adapted(agent, trials, adapted_from, seed)
    functions, detector = agent.functions_for(trials), None
    if detect is not None:
        functions, watching = with_detector(agent, trials, detect)
        params, detector = in_float32(watching), exported_detector(agent, trials, watching, detect)
    about, arrays = described(agent, trials, became, detector)
    session = Session(about["name"], family, functions, params, trials, seed, task)
    if became is not None:
        session.go_on(became.memory)
    recorded = record(family, session, task, seed, about["trial"])
    about |= {"training": None if became is not None else agent.training_statistics(trials)}
    about |= {"licence": licence, "provenance": provenance(agent), "self_test": recorded}
    write(path, about, arrays, onnx=onnx, c=c)
    return load(path, task=recorded["task"])


def described(
    agent: Trained, trials: TrialSettings, became: freezing.Adapted | None = None, detector: Exported | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What agent.json says of an agent in trials like these, or of what it became in one, and its arrays; with those
    of a detector of changes."""
    experiment, family = agent.experiment, agent.experiment.family
    settings = trials.applied_to(experiment.settings)
    if became is None:
        exported = experiment.algorithm.export(agent.params_for(trials), family, settings)
        trial = trial_words(trials, agent.functions_for(trials))
    else:
        assert experiment.algorithm.frozen is not None
        exported = experiment.algorithm.frozen(in_float32(became.memory), family, settings)
        trial = freezing.WORDS | {"protocol": trials.protocol}
    if detector is not None:
        exported = Exported(exported.words | {"detector": detector.words}, exported.arrays | detector.arrays)
    about = {
        "format": numpy_bundle.FORMAT, "schema": numpy_bundle.SCHEMA, "nacre": importlib.metadata.version("nacre"),
        "name": f"{experiment.algorithm_name} on {family.name}", "method": experiment.algorithm_name,
        "family": family.name, "obs_dim": family.obs_dim, "action_dim": family.action_dim,
        "action_bounds": [-1.0, 1.0], **robot_words(family), "horizon": family.horizon,
        "trial": trial, "agent": exported.words, "adapted_from": None if became is None else became.about,
        "arrays": {name: list(values.shape) for name, values in exported.arrays.items()},
    }  # fmt: skip
    return about, exported.arrays


def provenance(agent: Trained) -> dict[str, Any]:
    """Where the parameters come from: the run's name, the checkpoint, config.json."""
    if agent.run is None:
        text, name = to_json(agent.experiment, versions()), None
    else:
        text, name = (agent.run.path / "config.json").read_text(), agent.run.path.resolve().name
    return {"run": name, "grad_steps": agent.grad_steps, "config": json.loads(text)}


def first_task(tasks: Sequence[Tasks]) -> Tasks:
    """The first task of the first of these that has any."""
    return next(take(some, slice(1)) for some in tasks if num_tasks(some))
