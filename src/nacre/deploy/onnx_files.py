"""The ONNX files of a bundle, and a session that acts by them (docs/export.md)."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nacre.deploy import NumpySession, numpy_networks, read_bundle
from nacre.deploy.numpy_bundle import Bundle, read
from nacre.deploy.onnx_agents import GRAPHS, Memory, TaskAgentGraph
from nacre.deploy.onnx_graph import Graph, Value, onnx_module
from nacre.errors import NacreError, imported

NAMES = ("begin", "act", "observe", "end_episode", "step", "belief", "absorb")
"""Of the files, less '.onnx'. 'belief' where the method has one, 'absorb' where its protocol gives it logs."""
COUNTER = "num_episodes"
"""Of the session, part of the memory where it says which actions are sampled."""


def models(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """File name -> content, for a bundle with this agent.json and these weights. NacreError without onnx."""
    agent, files = GRAPHS[about["agent"]["kind"]](about["agent"], arrays), {}
    for name in NAMES:
        if name != "absorb" or about["trial"]["needs_logs"]:
            graph = _Drawing(about, agent, name).graph
            if graph.outputs:
                files[f"{name}.onnx"] = graph.model(_metadata(about, name))
    return files


class _Drawing:
    """One of the graphs. Memory that it does not need is no input, what it does not change no output."""

    def __init__(self, about: dict[str, Any], agent: TaskAgentGraph, name: str):
        self.about, self.agent, self.graph = about, agent, Graph(name)
        state = agent.state | ({COUNTER: np.zeros(1, np.int64)} if about["trial"]["sampled"] else {})
        self._shapes = {key: values.shape for key, values in state.items()}
        memory = {key: self.graph.input(f"memory.{key}", values.shape, values.dtype) for key, values in state.items()}
        self._before = dict(memory)
        getattr(self, name)(memory)

    def begin(self, _: Memory) -> None:
        after = self.agent.begin(self.graph)
        self._remember(after | ({COUNTER: self.graph.constant(np.zeros(1, np.int64))} if COUNTER in _ else {}))

    def act(self, memory: Memory) -> None:
        self._remember(self._acted(memory, self._obs("obs")))

    def observe(self, memory: Memory) -> None:
        self._remember(self.agent.observe(memory, *self._transition()))

    def absorb(self, memory: Memory) -> None:
        self._remember(self.agent.absorb(memory, *self._transition()))

    def end_episode(self, memory: Memory) -> None:
        count = {COUNTER: memory[COUNTER] + 1} if COUNTER in memory else {}
        self._remember(self.agent.end_episode(self.graph, memory) | count)

    def step(self, memory: Memory) -> None:
        transition = self._transition()
        self._remember(self._acted(self.agent.observe(memory, *transition), transition[-1]))

    def belief(self, memory: Memory) -> None:
        believed = self.agent.belief(memory)
        for name, value in zip(("belief_mean", "belief_variance"), believed or (), strict=False):
            self.graph.output(name, value, (self.about["agent"]["latent_dim"],))

    def _obs(self, name: str) -> Value:
        return self.graph.input(name, (self.about["obs_dim"],))

    def _transition(self) -> tuple[Value, Value, Value, Value]:
        action, reward = self.graph.input("action", (self.agent.action_dim,)), self.graph.input("reward", (1,))
        return self._obs("obs"), action, reward, self._obs("next_obs")

    def _acted(self, memory: Memory, obs: Value) -> Memory:
        """Names the outputs of acting; what is remembered then."""
        sampled = self.about["trial"]["sampled"]
        explores = memory[COUNTER] < sampled if sampled else sampled is None
        drawn, memory = self.agent.act(memory, obs, explores)
        self.graph.output("drawn_action", drawn, (self.agent.action_dim,))
        self.graph.output("sent_action", drawn.at_most(1).at_least(-1), (self.agent.action_dim,))
        return memory

    def _remember(self, memory: Memory) -> None:
        """Names the outputs of what has changed."""
        for name, value in memory.items():
            if value is not self._before[name]:
                self.graph.output(f"next.{name}", value, self._shapes[name])


def _metadata(about: dict[str, Any], name: str) -> dict[str, str]:
    """What a file says of itself."""
    texts = {key: str(about[key]) for key in ("format", "schema", "nacre", "name", "method", "family")}
    lists = {key: json.dumps(about.get(key)) for key in ("observations", "actions", "control_period")}
    return texts | lists | {"graph": name}


# ----------------------------------------------------------------------------------------------------------------------
# Acting by them

Runner = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
"""Inputs by name -> outputs by name."""


def by_onnxruntime(model: bytes) -> Runner:
    """A model run by onnxruntime, in one thread. NacreError where it is not installed."""
    runtime = imported(
        "onnxruntime", "acting by ONNX files needs a runtime; install one with pip install onnxruntime."
    )  # fmt: skip
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs, outputs = ([each.name for each in some] for some in (session.get_inputs(), session.get_outputs()))
    return lambda given: dict(zip(outputs, session.run(outputs, {name: given[name] for name in inputs}), strict=True))


def by_reference(model: bytes) -> Runner:
    """A model run by the reference implementation that onnx has: slow, and as the standard says."""
    onnx = onnx_module()
    evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator(onnx.load_from_string(model))
    inputs, outputs = evaluator.input_names, evaluator.output_names
    return lambda given: dict(zip(outputs, evaluator.run(None, {name: given[name] for name in inputs}), strict=True))


class OnnxAgent:
    """The agent of a bundle by its ONNX files, with the functions of the agents in numpy_agents.py. It draws the noise
    that they would draw."""

    has_fired, num_fired, is_last = False, 0, False  # graphs have no detector of changes

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray], graphs: dict[str, Runner]):
        self.about, self._graphs = about, graphs
        graph = GRAPHS[about["kind"]](about, arrays)
        self.state = {name: np.zeros_like(values) for name, values in graph.state.items()}
        self.state[COUNTER] = np.zeros(1, np.int64)
        self._action_dim, self._num_hypotheses = graph.action_dim, len(arrays.get("hypotheses", ()))
        self._z_noise = np.zeros(about.get("latent_dim", 0), np.float32)
        self._num_drawn, self._absorbs_an_episode = about.get("latent_dim", 0), graph.absorbs_an_episode
        if about["kind"] == "latent":
            self._num_drawn = len(graph.state["z"])

    def begin(self, key: np.ndarray, task: np.ndarray) -> None:
        number = numpy_networks.randint(key, self._num_hypotheses) if self._num_hypotheses else 0
        self._run("begin", task=task, hypothesis=np.array(number), noise=numpy_networks.normal(key, self._num_drawn))

    def restart(self, key: np.ndarray, task: np.ndarray) -> None:
        """Begins anew inside an episode; `begin` knows of no episode before it."""
        session_counts, num_episodes = int(self.state[COUNTER][0]), int(self.state["counts"][1])
        self.begin(key, task)
        self.state[COUNTER][0] = session_counts
        if self.about["kind"] in ("belief", "embedding"):  # those that explored count as done
            self.state["counts"][1] = num_episodes
        if "anew" in self.state:
            self.state["anew"][0] = 1

    def infer(self, key: np.ndarray, step: int) -> None:
        """Draws what z is drawn by, where that is done at every step."""
        if self.about.get("resample") == "step":
            self._z_noise = numpy_networks.normal(numpy_networks.fold_in(key, step), self._num_drawn)

    def act(self, obs: np.ndarray, key: np.ndarray | None) -> np.ndarray:
        noise, uniform = np.zeros((2, self._action_dim), np.float32)
        if key is not None:
            keys = numpy_networks.split(key)
            splits = self.about["kind"] == "embedding" or self.about.get("uniform_steps", 0) > 0
            noise_key, uniform_key = keys if self.about["kind"] == "embedding" else keys[::-1]
            noise = numpy_networks.normal(noise_key if splits else key, self._action_dim)
            uniform = numpy_networks.uniform(uniform_key, self._action_dim, -1.0, 1.0)
        given = {"obs": obs, "noise": noise, "uniform": uniform, "z_noise": self._z_noise}
        return self._run("act", **given)["drawn_action"]

    def observe(self, *transition: Any) -> None:
        self._take("observe", transition)

    def end_episode(self, key: np.ndarray) -> None:
        self._run("end_episode", noise=numpy_networks.normal(key, self._num_drawn))

    def absorb(self, rows: list[Any], key: np.ndarray) -> None:
        for row in rows:
            self._take("absorb", row)
        if self._absorbs_an_episode:
            self.end_episode(key)

    def belief(self) -> tuple[np.ndarray, np.ndarray]:
        empty = np.zeros(0, np.float32)
        found = self._run("belief")
        return found.get("belief_mean", empty), found.get("belief_variance", empty)

    def _take(self, name: str, transition: tuple[Any, ...]) -> None:
        obs, action, reward, next_obs = (np.float32(values) for values in transition)
        self._run(name, obs=obs, action=action, reward=np.reshape(reward, 1), next_obs=next_obs)

    def _run(self, name: str, **given: Any) -> dict[str, np.ndarray]:
        """The outputs of a graph, where there is one; what it changes is remembered."""
        if name not in self._graphs:
            return {}
        found = self._graphs[name]({f"memory.{key}": values for key, values in self.state.items()} | given)
        for key, values in self.state.items():
            if f"next.{key}" in found:
                values[...] = found[f"next.{key}"]
        return found


class OnnxBundle(NamedTuple):
    """A bundle, and its graphs by name."""

    folder: Path
    about: dict[str, Any]
    arrays: dict[str, np.ndarray]
    graphs: dict[str, Runner]


def with_graphs(
    bundle: Bundle, files: Mapping[str, bytes], runner: Callable[[bytes], Runner] = by_onnxruntime
) -> OnnxBundle:
    """A bundle with its ONNX files, as `models` gives them."""
    return OnnxBundle(*bundle, {name.removesuffix(".onnx"): runner(model) for name, model in files.items()})


class OnnxSession(NumpySession):
    """A trial of an exported agent by its ONNX files: the same calls, and the same random numbers."""

    def __init__(self, bundle: OnnxBundle, seed: int = 0, task: str | Mapping[str, Any] | None = None):
        super().__init__(bundle, seed, task)  # type: ignore[arg-type]

    def _agent_of(self, bundle: Any) -> Any:
        return OnnxAgent(bundle.about["agent"], bundle.arrays, bundle.graphs)


def check(bundle: Bundle, files: Mapping[str, bytes], task: str) -> None:
    """Replays the recorded trial by ONNX's reference implementation. NacreError where it acts otherwise."""
    OnnxSession(with_graphs(bundle, files, by_reference), task=task).self_test()


def load(folder: str | Path, seed: int = 0, task: str | Mapping[str, Any] | None = None) -> OnnxSession:
    """A session by the ONNX files of a bundle, run by onnxruntime. NacreError where it has none."""
    bundle = read_bundle(folder)
    files = {name: bundle.folder / name for name in bundle.about["files"] if name.endswith(".onnx")}
    if not files:
        raise NacreError(f"{folder} has no ONNX files; export it with --onnx.")
    contents = {name: read(file) for name, file in files.items()}
    return OnnxSession(with_graphs(bundle, contents), seed, task)
