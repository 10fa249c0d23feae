"""Exported agents as ONNX graphs: those of numpy_agents.py, with all that they remember and draw as inputs.

A class here is the graph of the class there of the same name, less 'Graph'. Memory goes in by the names that a saved
session has, such as 'memory.z', and comes out as 'next.z'. Random numbers are inputs: `noise` (normal), `uniform` (from
[-1, 1)) and `hypothesis` (a whole number), where a graph needs them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nacre.deploy.numpy_agents import AGENTS
from nacre.deploy.onnx_graph import Graph, Value

Memory = dict[str, Value]
Explores = Value | bool
"""Whether this action is sampled: said at export, or a truth value of the graph."""


def layers(
    about: dict[str, Any], arrays: dict[str, np.ndarray], x: Value, num: int | None = None,
    added: np.ndarray | None = None,
) -> Value:  # fmt: skip
    """Dense layers on x [in]; the first `num` outputs alone. Row after row where the first layer gives so much more:
    `added` [row, units]."""
    graph, name, sizes, scaled = x.graph, about["name"], about["sizes"], about["scaled"]
    if scaled:
        mean, std, limit = np.zeros(sizes[0]), np.ones(sizes[0]), np.full(sizes[0], np.finfo(np.float32).max)
        mean[:scaled], std[:scaled], limit[:scaled] = arrays[f"{name}.mean"], arrays[f"{name}.std"], about["limit"]
        x = ((x - mean) / std).at_most(limit).at_least(-limit)
    y = x.reshape(1, sizes[0])
    for index in range(len(sizes) - 1):
        weight, bias = arrays[f"{name}.{index}.weight"], arrays[f"{name}.{index}.bias"]
        if index == len(sizes) - 2:
            weight, bias = np.ascontiguousarray(weight[:, :num]), bias[:num]
        y = graph.node("Gemm", y, graph.constant(weight), graph.constant(bias))
        if index == 0 and added is not None:
            y = y + added
        if index < len(sizes) - 2:
            y = y.apply("Relu" if about["activation"] == "relu" else "Tanh")
    return y.reshape(-1)


def cell(about: dict[str, Any], arrays: dict[str, np.ndarray], x: Value, memory: Memory) -> Memory:
    """An LSTM's or GRU's hidden state and memory after x."""
    seen, kept = layers(about["of_input"], arrays, x), layers(about["of_hidden"], arrays, memory["hidden"])
    size = len(arrays[f"{about['of_hidden']['name']}.0.weight"])

    def gate(index: int) -> Value:
        return seen.part(index * size, (index + 1) * size) + kept.part(index * size, (index + 1) * size)

    if about["kind"] == "gru":
        reset, keep = (gate(index).apply("Sigmoid") for index in (0, 1))
        new = (seen.part(2 * size, 3 * size) + reset * kept.part(2 * size, 3 * size)).apply("Tanh")
        return {"hidden": new + keep * (memory["hidden"] - new), "memory": memory["memory"]}
    enter, keep, leave = (gate(index).apply("Sigmoid") for index in (0, 1, 3))
    held = memory["memory"] * keep + enter * gate(2).apply("Tanh")
    return {"hidden": leave * held.apply("Tanh"), "memory": held}


class TaskAgentGraph:
    """A policy that is given z. Also what the others have in common."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.about, self.arrays, self.policy = about, arrays, about["policy"]
        self.action_dim: int = self.policy["action_dim"]
        state = AGENTS[about["kind"]](about, arrays).state
        self.state = {name: values for name, values in state.items() if values.size}

    def begin(self, graph: Graph) -> Memory:
        """A trial of which nothing is known."""
        memory = {name: graph.constant(np.zeros_like(values)) for name, values in self.state.items()}
        if self.about["kind"] == "task" and "z" in self.state:
            memory["z"] = graph.input("task", self.state["z"].shape)
        return memory

    def act(self, memory: Memory, obs: Value, explores: Explores) -> tuple[Value, Memory]:
        """The action [action_dim], which may lie outside of [-1, 1], and what is remembered then."""
        seen = [obs, memory["z"]] if "z" in memory else [obs]
        return self.acted(obs.graph.concatenated(*seen), explores), memory

    def acted(self, x: Value, explores: Explores) -> Value:
        """What the policy does: the mean action, or a sample."""
        num, graph = self.action_dim, x.graph
        low, high = self.policy["log_std_range"]
        head, log_std = self.policy["head"], self.arrays.get("policy.log_std")
        deterministic = explores is False or log_std is not None
        output = layers(self.policy["layers"], self.arrays, x, num if deterministic else None)
        mean = output if deterministic else output.part(0, num)
        chosen = mean if head == "gaussian" else mean.apply("Tanh")
        if explores is False:
            return chosen
        noise = graph.input("noise", (num,))
        if log_std is not None:
            sample = mean + noise * np.exp(log_std)
        elif head == "tanh":
            spread = output.part(num, 2 * num).at_most(high).at_least(low).apply("Exp")
            sample = (mean + spread * noise).apply("Tanh")
        else:
            spread = ((output.part(num, 2 * num).apply("Tanh") + 1) * (0.5 * (high - low)) + low).apply("Exp")
            sample = (chosen + spread * noise).at_most(1).at_least(-1)
        return sample if explores is True else explores.where(sample, chosen)

    def observe(self, memory: Memory, obs: Value, action: Value, reward: Value, next_obs: Value) -> Memory:
        """What is remembered after a transition."""
        return memory

    def absorb(self, memory: Memory, obs: Value, action: Value, reward: Value, next_obs: Value) -> Memory:
        """After one of the logged transitions; `end_episode` follows on the last where `absorbs_an_episode`."""
        return self.observe(memory, obs, action, reward, next_obs)

    absorbs_an_episode = True

    def end_episode(self, graph: Graph, memory: Memory) -> Memory:
        """What is remembered after an episode."""
        return memory | {"counts": memory["counts"] + [0, 1]}

    def belief(self, memory: Memory) -> tuple[Value, Value] | None:
        """Mean and variance of z; None where the method has no belief."""
        return None

    def encoded(self, memory: Memory, *seen: Value) -> tuple[Value, Memory]:
        """What the encoder says of a transition, and its recurrent state then."""
        about = self.about["encoder"]
        x = seen[0].graph.concatenated(*seen)
        output = layers(about["layers"], self.arrays, x.part(0, about["layers"]["sizes"][0]))
        if "cell" not in about:
            return output, {}
        after = cell(about["cell"], self.arrays, output.apply("Relu"), {"memory": output} | memory)
        return layers(about["head"], self.arrays, after["hidden"]), after

    def with_uniform(self, memory: Memory, sample: Value, explores: Explores) -> Value:
        """Uniform actions in place of the others, in the first steps of a trial whose actions are sampled."""
        if explores is False or self.about["uniform_steps"] == 0:
            return sample
        is_first = memory["counts"].part(0, 1) < self.about["uniform_steps"]
        if isinstance(explores, Value):
            is_first = sample.graph.node("And", is_first, explores)
        return is_first.where(sample.graph.input("uniform", (self.action_dim,)), sample)


class BeliefAgentGraph(TaskAgentGraph):
    """PEARL."""

    def begin(self, graph: Graph) -> Memory:
        memory = super().begin(graph)
        if "hypotheses" in self.arrays:
            return memory | self._tried(memory["tried"] + graph.input("hypothesis", (), np.int64) * [1, 0, 0])
        noise = graph.input("noise", self.state["z"].shape)
        return memory | {"z": noise * float(self.about["bottleneck"])}

    def act(self, memory: Memory, obs: Value, explores: Explores) -> tuple[Value, Memory]:
        if self.about["re_infers"]:
            mean, _ = self.belief(memory)
            if self.about["one_episode"] or explores is True:
                memory = memory | {"z": mean}
            elif isinstance(explores, Value):
                memory = memory | {"z": explores.where(mean, memory["z"])}
        if self.about.get("resample", "episode") != "episode" and explores is not True:
            memory = memory | {"z": self._inferred(memory, explores)}
        action, memory = super().act(memory, obs, explores)
        return self.with_uniform(memory, action, explores), memory

    def observe(self, memory: Memory, obs: Value, action: Value, reward: Value, next_obs: Value) -> Memory:
        if "rewards" in self.about:
            return memory | self._judged(memory, obs, action, reward)
        output, recurrent = self.encoded(memory, obs, action, reward, next_obs)
        num = len(self.state["z"])
        mean, factor = output.part(0, num), output.graph.constant(np.ones(num, np.float32))
        if self.about["bottleneck"]:
            raw = output.part(num, 2 * num)  # softplus as it is below: the operator's overflows in some runtimes
            factor = raw.at_least(0) + ((-raw.apply("Abs")).apply("Exp") + 1).apply("Log")
            factor = factor.at_least(self.about["min_variance"]).apply("Reciprocal")
        precision, weighted_mean = factor, factor * mean
        if "cell" not in self.about["encoder"]:
            kept = [memory["precision"], memory["weighted_mean"]]
            if self.about.get("forgetting", 1) != 1:
                kept = [total * float(np.float32(self.about["forgetting"])) for total in kept]
            precision, weighted_mean = precision + kept[0], weighted_mean + kept[1]
        recurrent = {name: value for name, value in recurrent.items() if name in self.state}
        return memory | recurrent | self._seen(memory, {"precision": precision, "weighted_mean": weighted_mean})

    def _seen(self, memory: Memory, believed: Memory) -> Memory:
        """What is remembered with this belief after a transition."""
        seen = believed | {"counts": memory["counts"] + [1, 0]}
        if "hypotheses" in self.arrays:
            seen |= self._where_exploring(memory, self._after_step(memory["tried"]), memory)
        return seen

    def _judged(self, memory: Memory, obs: Value, action: Value, reward: Value) -> Memory:
        """What is remembered after a transition where the belief goes by predicted rewards."""
        graph, x = obs.graph, obs.graph.concatenated(obs, action)
        wrong = layers(self.about["rewards"], self.arrays, x, added=self.arrays["rewards.added"]) - reward
        errors = memory["errors"] * float(np.float32(self.about["forgetting"])) + wrong * wrong
        likeliest = graph.node("ArgMin", errors, dtype=np.int64, axis=0, keepdims=0)
        names = ("precision", "weighted_mean")
        believed = {name: graph.constant(self.arrays[f"beliefs.{name}"]).row(likeliest) for name in names}
        least = graph.node("ReduceMin", errors, graph.constant(np.array([0], np.int64)), keepdims=1)
        return {"errors": errors - least} | self._seen(memory, believed)

    def end_episode(self, graph: Graph, memory: Memory) -> Memory:
        memory = super().end_episode(graph, memory)
        noise = graph.input("noise", self.state["z"].shape)
        mean, variance = self.belief(memory)
        believed, num_exploring = {"z": mean + variance.apply("Sqrt") * noise}, self.about["exploration_episodes"]
        if num_exploring <= 1:
            return memory | believed
        if "hypotheses" not in self.arrays:
            tried = {"z": noise * float(self.about["bottleneck"])}
        else:
            num_steps = memory["tried"].part(2, 3)
            tried = self._after(memory["tried"], num_steps.at_most(1), num_steps * 0)
        return memory | self._where_exploring(memory, tried, memory | believed)

    def belief(self, memory: Memory) -> tuple[Value, Value]:
        precision, graph = memory["precision"], memory["precision"].graph
        if self.about["prior_factor"]:
            precision = precision + 1
        else:
            is_prior = memory["counts"].part(0, 1).equals(0)
            precision = is_prior.where(precision + 1, precision)
        variance = precision.apply("Reciprocal")
        zero = graph.constant(np.zeros(len(self.state["z"]), np.float32))
        return variance * memory["weighted_mean"], variance if self.about["bottleneck"] else zero

    def _inferred(self, memory: Memory, explores: Explores) -> Value:
        """z as it is settled at every step of the episodes that use the belief."""
        mean, variance = self.belief(memory)
        z, num_exploring = mean, self.about["exploration_episodes"]
        if self.about["resample"] == "step":
            z = mean + variance.apply("Sqrt") * mean.graph.input("z_noise", self.state["z"].shape)
        if num_exploring > 0:
            z = (memory["counts"].part(1, 2) < num_exploring).where(memory["z"], z)
        return explores.where(memory["z"], z) if isinstance(explores, Value) else z

    def _where_exploring(self, memory: Memory, exploring: Memory, otherwise: Memory) -> Memory:
        """What is remembered of these names, by whether the episode explores."""
        explores = memory["counts"].part(1, 2) < self.about["exploration_episodes"]
        return {name: explores.where(value, otherwise[name]) for name, value in exploring.items()}

    def _after_step(self, tried: Value) -> Memory:
        num_steps = tried.part(2, 3) + 1
        is_over = num_steps.equals(self.about["hypothesis_steps"])
        return self._after(tried, is_over.cast(np.int64), is_over.where(0, num_steps))

    def _after(self, tried: Value, is_over: Value, num_steps: Value) -> Memory:
        """With the next hypothesis if the turn of this one is over, after so many steps of a turn."""
        return self._tried(tried.graph.concatenated(tried.part(0, 1), tried.part(1, 2) + is_over, num_steps))

    def _tried(self, tried: Value) -> Memory:
        """What is remembered in an exploring episode: the first hypothesis, the turn and its steps are `tried`."""
        hypotheses, graph = self.arrays["hypotheses"], tried.graph
        num_turns = hypotheses.shape[1]
        turn = graph.node("Mod", tried.part(1, 2), graph.constant(np.array([num_turns], np.int64)))
        rows = graph.constant(hypotheses.reshape(-1, hypotheses.shape[-1]))
        return {"tried": tried, "z": rows.row(tried.part(0, 1) * num_turns + turn).reshape(-1)}


class EmbeddingAgentGraph(TaskAgentGraph):
    """Offline PEARL and FOCAL."""

    absorbs_an_episode = False

    def act(self, memory: Memory, obs: Value, explores: Explores) -> tuple[Value, Memory]:
        action, memory = super().act(memory, obs, explores)
        return self.with_uniform(memory, action, explores), memory

    def observe(self, memory: Memory, obs: Value, action: Value, reward: Value, next_obs: Value) -> Memory:
        num_exploring = self.about["exploration_episodes"]
        if not self.about["one_episode"] and num_exploring == 0:
            return memory
        seen = self._added(memory, obs, action, reward, next_obs)
        if self.about["re_infers"]:
            seen |= {"z": self.belief(seen)[0]}
        if self.about["one_episode"]:
            return seen
        adds = obs.graph.node("Or", memory["counts"].part(1, 2) < num_exploring, memory["anew"].equals(1))
        return {name: adds.where(value, memory[name]) for name, value in seen.items()}

    def absorb(self, memory: Memory, obs: Value, action: Value, reward: Value, next_obs: Value) -> Memory:
        seen = self._added(memory, obs, action, reward, next_obs)
        return seen | {"z": self.belief(seen)[0]}

    def end_episode(self, graph: Graph, memory: Memory) -> Memory:
        if self.about["one_episode"]:
            return self.begin(graph)
        memory = super().end_episode(graph, memory)
        if not self.about["explores"] or self.about["re_infers"]:
            return memory
        still = memory["counts"].part(1, 2) < self.about["exploration_episodes"]
        return memory | {"z": still.where(memory["z"], self.belief(memory)[0])}

    def belief(self, memory: Memory) -> tuple[Value, Value]:
        total, count = memory["total"], memory["counts"].part(0, 1).at_least(1).cast(np.float32)
        return total / count, total.graph.constant(np.zeros_like(self.state["total"]))

    def _added(self, memory: Memory, *seen: Value) -> Memory:
        total = memory["total"] + self.encoded(memory, *seen)[0].apply("Tanh")
        return memory | {"total": total, "counts": memory["counts"] + [1, 0]}


class RecurrentAgentGraph(TaskAgentGraph):
    """RL2."""

    def act(self, memory: Memory, obs: Value, explores: Explores) -> tuple[Value, Memory]:
        x = obs.graph.concatenated(obs, memory["before"])
        after = cell(self.about["cell"], self.arrays, x, {"memory": memory["hidden"]} | memory)
        memory = memory | {name: value for name, value in after.items() if name in self.state}
        return self.acted(memory["hidden"], explores), memory

    def observe(self, memory: Memory, obs: Value, action: Value, reward: Value, next_obs: Value) -> Memory:
        ended = obs.graph.constant(np.zeros(1, np.float32))
        return memory | {"before": obs.graph.concatenated(action, reward, ended)}

    def end_episode(self, graph: Graph, memory: Memory) -> Memory:
        before = graph.concatenated(
            memory["before"].part(0, self.action_dim + 1), graph.constant(np.ones(1, np.float32))
        )
        return super().end_episode(graph, memory) | {"before": before}


class LatentAgentGraph(TaskAgentGraph):
    """MAESN, its adaptation between episodes included."""

    def begin(self, graph: Graph) -> Memory:
        return super().begin(graph) | {"z": graph.input("noise", self.state["z"].shape) + 0.0}

    def observe(self, memory: Memory, obs: Value, action: Value, reward: Value, next_obs: Value) -> Memory:
        discount = obs.graph.constant(np.array(float(np.float32(self.about["discount"]))))
        power = obs.graph.node("Pow", discount, memory["counts"].part(0, 1)).cast(np.float32)
        return memory | {"reward": memory["reward"] + power * reward, "counts": memory["counts"] + [1, 0]}

    def end_episode(self, graph: Graph, memory: Memory) -> Memory:
        kept, latent_dim = self.state["past_z"].shape
        mean, log_std = memory["mean"], memory["log_std"]
        number, slots = memory["counts"].part(1, 2), graph.constant(np.arange(kept))
        is_slot = slots.equals(graph.node("Mod", number, graph.constant(np.array([kept])))).reshape(kept, 1)
        density = _density(memory["z"].reshape(1, latent_dim), mean, log_std)
        episode = graph.concatenated(density, memory["reward"]).reshape(1, 2)
        past_z, past = is_slot.where(memory["z"], memory["past_z"]), is_slot.where(episode, memory["past"])
        is_known = (slots < number + 1).cast(np.float32)  # of all slots, once there are as many episodes
        mean, log_std = mean * 0.0, log_std * 0.0
        for _ in range(self.about["adaptation_steps"]):
            mean, log_std = self._adapted(mean, log_std, past_z, past, is_known)
        z = mean + log_std.apply("Exp") * graph.input("noise", (latent_dim,))
        counts = memory["counts"] * [0, 1] + [0, 1]
        kept_now = {"past_z": past_z, "past": past, "counts": counts, "reward": memory["reward"] * 0.0}
        return memory | kept_now | {"z": z, "mean": mean, "log_std": log_std}

    def belief(self, memory: Memory) -> tuple[Value, Value]:
        return memory["mean"], (memory["log_std"] * 2.0).apply("Exp")

    def _adapted(self, mean: Value, log_std: Value, past_z: Value, past: Value, known: Value) -> tuple[Value, Value]:
        kept = len(self.state["past"])
        density, returns = (past.graph.node("Gather", past, past.graph.constant(i), axis=1) for i in np.arange(2))
        ratio = (_density(past_z, mean, log_std) - density).at_most(0).apply("Exp") * known
        share = ratio / ratio.sum(0).at_least(1e-8)
        centred = (returns - (share * returns).sum(0)) * known
        advantage = centred / ((share * centred * centred).sum(0).apply("Sqrt") + 1e-8)
        weight = (share * advantage).reshape(kept, 1)
        narrowness = (-log_std).apply("Exp")
        error = (past_z - mean) * narrowness
        to_mean, to_log_std = (weight * error * narrowness).sum(0), (weight * (error * error - 1)).sum(0)
        low, high = self.about["log_std_range"]
        moved = log_std + to_log_std * self.arrays["rates.log_std"]
        return mean + to_mean * self.arrays["rates.mean"], moved.at_most(high).at_least(low)


def _density(z: Value, mean: Value, log_std: Value) -> Value:
    """log N(z; mean, exp(log_std)), for z [number, latent_dim]."""
    error = (z - mean) * (-log_std).apply("Exp")
    return -(error * error * 0.5 + log_std + 0.5 * math.log(2 * math.pi)).sum(1)


GRAPHS: dict[str, type[TaskAgentGraph]] = {
    "task": TaskAgentGraph, "belief": BeliefAgentGraph, "embedding": EmbeddingAgentGraph,
    "recurrent": RecurrentAgentGraph, "latent": LatentAgentGraph,
}  # fmt: skip
"""By the kind that agent.json names."""
