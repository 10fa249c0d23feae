"""A meta-trained agent, one step at a time, with nothing but NumPy: what acts on a robot.

This file is nacre's, and lies as session.py in every bundle that `nacre export` writes, beside agent.json (what the
agent is) and weights.npz. Copy the folder to a machine with Python and NumPy, and there:

    from session import load
    session = load("policy")               # a trial begins: nothing is known of the task
    action = session.act(obs)              # [action_dim] in [-1, 1]
    session.observe(next_obs, reward)      # what the action led to
    session.end_episode()                  # the next episode uses what was learnt of the task

`python policy/session.py` replays the trial that was recorded at export and tells how long a step takes.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":  # before NumPy is loaded: products of a step are too small for several threads
    for _library in ("OPENBLAS", "OMP", "MKL"):
        os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import numpy as np

FORMAT, SCHEMA = "nacre-policy", 2
"""Bundles of schema 1, which say nothing of what training saw, are read as well."""
TOLERANCE, LARGER = 1e-5, {"latent": 1e-3}
"""How far actions of the self-test may be from the recorded ones; larger for a kind that magnifies rounding."""
ABSORBING = 2**31 - 1
"""Folded into a trial's key for what absorbing draws; no episode has this number."""
RESTARTING = 2**31 - 1
"""Folded into the key of a trial's actions for what going back to the prior draws; no step has this number."""


class SessionError(ValueError):
    """One sentence that says what is wrong with a bundle, a call or a saved session, and what to do."""


# ----------------------------------------------------------------------------------------------------------------------
# Random numbers: JAX's own (threefry2x32, partitionable), so that trials are those of nacre. A key is two words


def key_of(seed: int) -> np.ndarray:
    """The key of a seed, [2] uint32, as `jax.random.key`."""
    return np.array([0, seed], np.uint32)


def _threefry(key: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hash Threefry-2x32 (Salmon et al. 2011) of the words (0, count), for counts [n] of uint32."""
    words = (key[:1], key[1:], key[:1] ^ key[1:] ^ np.uint32(0x1BD11BDA))
    x, y = np.zeros_like(count) + words[0], count + words[1]
    for block in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[block % 2]:
            x = x + y
            y = x ^ (y << np.uint32(turn) | y >> np.uint32(32 - turn))
        x, y = x + words[(block + 1) % 3], y + words[(block + 2) % 3] + np.uint32(block + 1)
    return x, y


def split(key: np.ndarray, num: int = 2) -> np.ndarray:
    """`num` new keys, [num, 2]."""
    return np.stack(_threefry(key, np.arange(num, dtype=np.uint32)), axis=1)


def fold_in(key: np.ndarray, number: int) -> np.ndarray:
    """A new key that follows from this one and a number."""
    return np.concatenate(_threefry(key, np.array([number], np.uint32)))


def bits(key: np.ndarray, size: int) -> np.ndarray:
    """Random words, [size] of uint32."""
    x, y = _threefry(key, np.arange(size, dtype=np.uint32))
    return x ^ y


def randint(key: np.ndarray, number: int) -> int:
    """A whole number from 0 to number - 1."""
    high, low = (int(bits(part, 1)[0]) for part in split(key))
    factor = (2**16 % number) ** 2 % 2**32 % number
    return (high % number * factor + low % number) % 2**32 % number


def uniform(key: np.ndarray, size: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Uniform numbers from [low, high), [size] of float32."""
    unit = (bits(key, size) >> np.uint32(9) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)
    return np.maximum(np.float32(low), unit * (np.float32(high) - np.float32(low)) + np.float32(low))


def normal(key: np.ndarray, size: int) -> np.ndarray:
    """Standard normal numbers, [size] of float32: the inverse error function of uniform ones (Giles 2010)."""
    x = uniform(key, size, float(np.nextafter(np.float32(-1), np.float32(0))))
    w = -np.log1p(-x * x)
    central = np.polyval(_CENTRAL, w - np.float32(2.5))
    tail = np.polyval(_TAIL, np.sqrt(w) - np.float32(3))
    return np.float32(math.sqrt(2)) * np.where(w < 5, central, tail) * x


_CENTRAL = np.array([
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
], np.float32)  # fmt: skip
_TAIL = np.array([
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
    1.00167406, 2.83297682,
], np.float32)  # fmt: skip

# ----------------------------------------------------------------------------------------------------------------------
# Networks, for one input at a time. Buffers are made once: a step allocates next to nothing


class Layers:
    """Dense layers. Inputs are written into `input`; a last input of 1 stands for the biases."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]):
        """`about`: name, sizes from input to output, activation between layers, scaled: first inputs with a scale."""
        name, sizes, self.num_scaled = about["name"], about["sizes"], about["scaled"]
        parts = [[arrays[f"{name}.{i}.weight"], arrays[f"{name}.{i}.bias"][None]] for i in range(len(sizes) - 1)]
        matrices = [np.ascontiguousarray(np.concatenate(part), np.float32) for part in parts]
        buffers = [np.ones(size + 1, np.float32) for size in sizes[:-1]]
        self.input, self.output = buffers[0][:-1], np.empty(sizes[-1], np.float32)
        self._hidden = [(x, w, y[:-1]) for x, w, y in zip(buffers, matrices, buffers[1:], strict=False)]
        self._last = (buffers[-1], matrices[-1], self.output)
        self._narrow: dict[int, tuple[np.ndarray, ...]] = {}
        self._is_relu, self._zero = about["activation"] == "relu", np.zeros((), np.float32)
        if self.num_scaled:
            self._mean, self._std, self._limit = (
                arrays[f"{name}.mean"],
                arrays[f"{name}.std"],
                np.float32(about["limit"]),
            )

    def first(self, num: int) -> None:
        """Makes `run(num)` compute the first `num` outputs alone."""
        x, matrix, _ = self._last
        self._narrow[num] = (x, np.ascontiguousarray(matrix[:, :num]), np.empty(num, np.float32))

    def run(self, num: int | None = None) -> np.ndarray:
        """The outputs for what `input` holds, in a buffer that the next run overwrites."""
        if self.num_scaled:
            part = self.input[: self.num_scaled]
            np.subtract(part, self._mean, part)
            np.divide(part, self._std, part)
            np.maximum(np.minimum(part, self._limit, out=part), -self._limit, out=part)
        for x, matrix, y in self._hidden:
            np.dot(x, matrix, y)
            np.maximum(y, self._zero, out=y) if self._is_relu else np.tanh(y, y)
        x, matrix, y = self._last if num is None else self._narrow[num]
        return np.dot(x, matrix, y)


class Cell:
    """An LSTM or GRU; `hidden` is its output, `state` all that it remembers."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]):
        self._of_input, self._of_hidden = Layers(about["of_input"], arrays), Layers(about["of_hidden"], arrays)
        self._is_lstm, self.input, self.hidden = about["kind"] == "lstm", self._of_input.input, self._of_hidden.input
        self.memory = np.zeros(len(self.hidden) if self._is_lstm else 0, np.float32)
        self.state = {"hidden": self.hidden, "memory": self.memory}
        # All gates are tanh at once: a sigmoid is 0.5 tanh(0.5 x) + 0.5; an LSTM's new content, third of four, is tanh.
        names = ("enter", "keep", "new", "leave") if self._is_lstm else ("reset", "keep", "new")
        num, size = len(self.hidden), len(names) * len(self.hidden)
        self._gates = dict(zip(names, np.split(self._of_input.output, len(names)), strict=True))
        self._kept_new, self._num_gates = self._of_hidden.output[2 * num :], size if self._is_lstm else 2 * num
        self._slope, self._shift = np.full((2, size), 0.5, np.float32)
        self._slope[2 * num : 3 * num], self._shift[2 * num : 3 * num] = 1, 0

    def step(self) -> np.ndarray:
        """Takes in what `input` holds; the new `hidden`."""
        seen, kept, gates, end = self._of_input.run(), self._of_hidden.run(), self._gates, self._num_gates
        together = seen[:end]
        np.add(together, kept[:end], together)
        np.multiply(together, self._slope[:end], together)
        np.tanh(together, together)
        np.multiply(together, self._slope[:end], together)
        np.add(together, self._shift[:end], together)
        if self._is_lstm:
            np.multiply(self.memory, gates["keep"], self.memory)
            np.add(self.memory, np.multiply(gates["enter"], gates["new"], gates["enter"]), self.memory)
            return np.multiply(gates["leave"], np.tanh(self.memory), self.hidden)
        new = np.tanh(gates["new"] + gates["reset"] * self._kept_new)
        return np.add(new, gates["keep"] * (self.hidden - new), self.hidden)


class Policy:
    """A Gaussian over actions. heads: 'tanh' (squashed), 'clipped' (tanh of the mean, samples clipped), 'gaussian'
    (as it is, its deviation the same in all states)."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.layers, self.head, self.action_dim = Layers(about["layers"], arrays), about["head"], about["action_dim"]
        self.input, self.low, self.high = self.layers.input, *map(np.float32, about["log_std_range"])
        self.log_std = arrays.get("policy.log_std")
        self.layers.first(self.action_dim)

    def act(self, key: np.ndarray | None) -> np.ndarray:
        """The mean action for what `input` holds, or with a key a sample."""
        if key is None:
            mean = self.layers.run(self.action_dim)
            return mean if self.head == "gaussian" else np.tanh(mean, mean)
        noise, output = normal(key, self.action_dim), self.layers.run()
        mean, log_std = output[: self.action_dim], output[self.action_dim :]
        if self.log_std is not None:
            return mean + np.exp(self.log_std) * noise
        if self.head == "tanh":
            return np.tanh(mean + np.exp(np.clip(log_std, self.low, self.high)) * noise)
        log_std = self.low + np.float32(0.5) * (self.high - self.low) * (np.tanh(log_std) + np.float32(1))
        return np.clip(np.tanh(mean) + np.exp(log_std) * noise, -1.0, 1.0)


# ----------------------------------------------------------------------------------------------------------------------
# Agents: what a method remembers of a trial, and how it acts on it. `state` names every array of that memory


class TaskAgent:
    """A policy that is given z: of the oracle, which is told the task. Also what the others have in common."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.about, self.policy = about, Policy(about["policy"], arrays)
        self.obs, self.z = self.policy.input[: about["obs_dim"]], self.policy.input[about["obs_dim"] :]
        self.counts = np.zeros(2, np.int64)  # of transitions and of episodes
        self.state: dict[str, np.ndarray] = {"z": self.z, "counts": self.counts}
        self.most: np.ndarray | None = None  # what a factor's precision is capped at, where the method has factors
        self.was_capped = False  # whether the last one was

    def begin(self, key: np.ndarray, task: np.ndarray) -> None:
        """A trial of which nothing is known but, in the oracle's case, the task."""
        for values in self.state.values():
            values[...] = 0
        if self.about["kind"] == "task":
            self.z[:] = task

    def act(self, obs: np.ndarray, key: np.ndarray | None) -> np.ndarray:
        """The mean action, or with a key a sample."""
        self.obs[:] = obs
        return self.policy.act(key)

    def observe(self, obs: np.ndarray, action: np.ndarray, reward: float, next_obs: np.ndarray) -> None:
        """Takes in a transition."""

    def end_episode(self, key: np.ndarray) -> None:
        """Settles what the next episode acts on."""
        self.counts[1] += 1

    def absorb(self, rows: list[Any], key: np.ndarray) -> None:
        """Takes in logged transitions, as an episode of them."""
        for row in rows:
            self.observe(*row)
        self.end_episode(key)

    def restart(self, key: np.ndarray, task: np.ndarray) -> None:
        """Nothing is known of the task again, inside an episode."""
        self.begin(key, task)

    def belief(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of z; empty where the method has no belief."""
        return np.zeros(0, np.float32), np.zeros(0, np.float32)


class Encoder:
    """What a transition, or with a recurrent cell all of them, tells of the task."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray], obs_dim: int, action_dim: int):
        self.layers, self.cell, row = Layers(about["layers"], arrays), None, obs_dim + action_dim
        if "cell" in about:
            self.cell, self.head = Cell(about["cell"], arrays), Layers(about["head"], arrays)
        x = self.layers.input
        self.obs, self.action, self.reward, self.next_obs = x[:obs_dim], x[obs_dim:row], x[row : row + 1], x[row + 1 :]
        self.sees_next_obs = len(self.next_obs) > 0

    def see(self, obs: np.ndarray, action: np.ndarray, reward: float, next_obs: np.ndarray) -> np.ndarray:
        """The outputs after one more transition, in a buffer that the next one overwrites."""
        self.obs[:], self.action[:], self.reward[0] = obs, action, reward
        if self.sees_next_obs:
            self.next_obs[:] = next_obs
        output = self.layers.run()
        if self.cell is None:
            return output
        np.maximum(output, 0, out=self.cell.input)
        self.head.input[:] = self.cell.step()
        return self.head.run()


class BeliefAgent(TaskAgent):
    """PEARL: z is drawn, after every episode, from a product of one Gaussian factor a transition."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]):
        super().__init__(about, arrays)
        self.encoder = Encoder(about["encoder"], arrays, about["obs_dim"], about["policy"]["action_dim"])
        self.precision, self.weighted_mean = np.zeros((2, len(self.z)), np.float32)
        self.hypotheses = arrays.get("hypotheses")
        self.state |= {"precision": self.precision, "weighted_mean": self.weighted_mean}
        if self.encoder.cell is not None:
            self.state |= self.encoder.cell.state
        if self.hypotheses is not None:
            self.distance = np.zeros(len(self.hypotheses), np.float32)
            self.state["distance"] = self.distance
        self._factor, self._zero = np.ones(len(self.z), np.float32), np.zeros((), np.float32)
        self._least = np.array(about["min_variance"], np.float32)

    def begin(self, key: np.ndarray, task: np.ndarray) -> None:
        super().begin(key, task)
        self._draw(*self._prior(), key)
        if self.hypotheses is not None:
            self.distance[:] = 3e38
            self._try(randint(key, len(self.hypotheses)))

    def restart(self, key: np.ndarray, task: np.ndarray) -> None:
        num_episodes = int(self.counts[1])  # those that explored count as done
        self.begin(key, task)
        self.counts[1] = num_episodes

    def act(self, obs: np.ndarray, key: np.ndarray | None) -> np.ndarray:
        if self.about["re_infers"] and (key is not None or self.about["one_episode"]):
            self.z[:] = self.belief()[0]
        if key is None or self.about["uniform_steps"] == 0:
            return super().act(obs, key)
        uniform_key, key = split(key)
        if self.counts[0] < self.about["uniform_steps"]:
            return uniform(uniform_key, self.policy.action_dim, -1.0, 1.0)
        return super().act(obs, key)

    def observe(self, obs: np.ndarray, action: np.ndarray, reward: float, next_obs: np.ndarray) -> None:
        self.counts[0] += 1
        output, factor = self.encoder.see(obs, action, reward, next_obs), self._factor
        mean = output[: len(factor)]
        if self.encoder.cell is not None:  # what it says is of all transitions
            self.precision[:], self.weighted_mean[:] = 0, 0
        if self.about["bottleneck"]:
            np.logaddexp(output[len(factor) :], self._zero, factor)  # softplus
            np.reciprocal(np.maximum(factor, self._least, out=factor), factor)
        if self.most is not None:
            self.was_capped = bool((factor > self.most).any())
            np.minimum(factor, self.most, out=factor)
        np.add(self.precision, factor, self.precision)
        np.add(self.weighted_mean, np.multiply(factor, mean, mean), self.weighted_mean)

    def end_episode(self, key: np.ndarray) -> None:
        super().end_episode(key)
        explores = self.counts[1] < self.about["exploration_episodes"]
        if explores and self.hypotheses is not None:
            self._try(int(np.argmax(self.distance)))
        else:
            self._draw(*(self._prior() if explores else self.belief()), key)

    def belief(self) -> tuple[np.ndarray, np.ndarray]:
        precision, zero = self.precision, np.zeros_like(self.precision)
        if self.about["prior_factor"] or self.counts[0] == 0:
            precision = precision + np.float32(1)
        variance = np.float32(1) / precision
        return variance * self.weighted_mean, variance if self.about["bottleneck"] else zero

    def _prior(self) -> tuple[np.ndarray, np.ndarray]:
        zero = np.zeros_like(self.z)
        return zero, zero + np.float32(self.about["bottleneck"])

    def _draw(self, mean: np.ndarray, variance: np.ndarray, key: np.ndarray) -> None:
        self.z[:] = mean + np.sqrt(variance) * normal(key, len(mean))

    def _try(self, number: int) -> None:
        """Acts on a hypothesis: what was believed of a train task."""
        assert self.hypotheses is not None
        self.z[:] = self.hypotheses[number]
        np.minimum(self.distance, np.sum((self.hypotheses - self.z) ** 2, axis=1), out=self.distance)
        self.distance[number] = -1


class EmbeddingAgent(TaskAgent):
    """Offline PEARL and FOCAL: z is the mean of what the encoder says of every transition of the context."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]):
        super().__init__(about, arrays)
        self.encoder = Encoder(about["encoder"], arrays, about["obs_dim"], about["policy"]["action_dim"])
        self.total = np.zeros(len(self.z), np.float32)
        self.state["total"] = self.total

    def act(self, obs: np.ndarray, key: np.ndarray | None) -> np.ndarray:
        if key is None:
            return super().act(obs, None)
        key, uniform_key = split(key)
        if self.counts[0] < self.about["uniform_steps"]:
            return uniform(uniform_key, self.policy.action_dim, -1.0, 1.0)
        return super().act(obs, key)

    def observe(self, obs: np.ndarray, action: np.ndarray, reward: float, next_obs: np.ndarray) -> None:
        if self.about["one_episode"] or self.counts[1] < self.about["exploration_episodes"]:
            self._add(obs, action, reward, next_obs)
            if self.about["re_infers"]:
                self.z[:] = self.belief()[0]

    def end_episode(self, key: np.ndarray) -> None:
        if self.about["one_episode"]:  # every episode is a trial of its own
            self.begin(key, self.z)
            return
        self.counts[1] += 1
        is_explored = self.about["explores"] and self.counts[1] >= self.about["exploration_episodes"]
        if is_explored and not self.about["re_infers"]:
            self.z[:] = self.belief()[0]

    def absorb(self, rows: list[Any], key: np.ndarray) -> None:
        for row in rows:
            self._add(*row)
        self.z[:] = self.belief()[0]

    def belief(self) -> tuple[np.ndarray, np.ndarray]:
        return self.total / np.float32(max(self.counts[0], 1)), np.zeros_like(self.total)

    def _add(self, obs: np.ndarray, action: np.ndarray, reward: float, next_obs: np.ndarray) -> None:
        self.counts[0] += 1
        self.total += np.tanh(self.encoder.see(obs, action, reward, next_obs))


class RecurrentAgent(TaskAgent):
    """RL2: the hidden state of a recurrent policy, which is told the last action and reward, is all it knows."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]):
        super().__init__(about, arrays)
        self.cell = Cell(about["cell"], arrays)
        self.obs, self.before = self.cell.input[: about["obs_dim"]], self.cell.input[about["obs_dim"] :]
        self.state = {"counts": self.counts, "before": self.before, **self.cell.state}

    def act(self, obs: np.ndarray, key: np.ndarray | None) -> np.ndarray:
        self.obs[:] = obs
        self.policy.input[:] = self.cell.step()
        return self.policy.act(key)

    def observe(self, obs: np.ndarray, action: np.ndarray, reward: float, next_obs: np.ndarray) -> None:
        self.before[:-2], self.before[-2], self.before[-1] = action, reward, 0

    def end_episode(self, key: np.ndarray) -> None:
        super().end_episode(key)
        self.before[-1] = 1


class LatentAgent(TaskAgent):
    """MAESN: z is drawn, for every episode, from a Gaussian that adapts to the trial's returns by policy gradient."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]):
        super().__init__(about, arrays)
        self.rates, latent_dim, kept = (arrays["rates.mean"], arrays["rates.log_std"]), len(self.z), about["kept"]
        self.mean, self.log_std = np.zeros((2, latent_dim), np.float32)
        self._discount = float(np.float32(about["discount"]))
        self.past_z, self.past = np.zeros((kept, latent_dim), np.float32), np.zeros((kept, 2), np.float32)
        self.reward = np.zeros(1, np.float32)  # discounted, of the episode that goes on; counts[0] are its steps
        self.state |= {"mean": self.mean, "log_std": self.log_std, "past_z": self.past_z, "past": self.past}
        self.state["reward"] = self.reward

    def begin(self, key: np.ndarray, task: np.ndarray) -> None:
        super().begin(key, task)
        self.z[:] = normal(key, len(self.z))

    def observe(self, obs: np.ndarray, action: np.ndarray, reward: float, next_obs: np.ndarray) -> None:
        self.reward += np.float32(self._discount ** int(self.counts[0])) * np.float32(reward)
        self.counts[0] += 1

    def end_episode(self, key: np.ndarray) -> None:
        slot = self.counts[1] % len(self.past)
        self.past_z[slot], self.past[slot] = self.z, (self._density(self.z), self.reward[0])
        self.counts[:] = 0, self.counts[1] + 1
        self.mean[:], self.log_std[:], self.reward[:] = 0, 0, 0
        for _ in range(self.about["adaptation_steps"]):
            self._adapt(min(int(self.counts[1]), len(self.past)))
        self.z[:] = self.mean + np.exp(self.log_std) * normal(key, len(self.z))

    def belief(self) -> tuple[np.ndarray, np.ndarray]:
        return self.mean.copy(), np.exp(2 * self.log_std)

    def _density(self, z: np.ndarray) -> np.ndarray:
        """log N(z; mean, exp(log_std)), for z [..., latent_dim]."""
        error = (z - self.mean) * np.exp(-self.log_std)
        return -np.sum(0.5 * error**2 + self.log_std + np.float32(0.5 * math.log(2 * math.pi)), axis=-1)

    def _adapt(self, num: int) -> None:
        """A step up mean(w A log N(z)) over the kept episodes, w the truncated importance weight, A the advantage."""
        z, (density, returns) = self.past_z[:num], self.past[:num].T
        centred = returns - np.mean(returns)
        advantage = centred / (np.sqrt(np.mean(centred**2)) + np.float32(1e-8))
        weight = (np.exp(np.minimum(self._density(z) - density, 0)) * advantage)[:, None]
        error = (z - self.mean) * np.exp(-self.log_std)
        to_mean, to_log_std = np.mean(weight * error * np.exp(-self.log_std), 0), np.mean(weight * (error**2 - 1), 0)
        self.mean += self.rates[0] * to_mean
        self.log_std[:] = np.clip(self.log_std + self.rates[1] * to_log_std, *self.about["log_std_range"])


AGENTS = {
    "task": TaskAgent, "belief": BeliefAgent, "embedding": EmbeddingAgent, "recurrent": RecurrentAgent,
    "latent": LatentAgent,
}  # fmt: skip
"""By the kind that agent.json names."""

# ----------------------------------------------------------------------------------------------------------------------
# Bundles


class Bundle(NamedTuple):
    """What `nacre export` wrote."""

    folder: Path
    about: dict[str, Any]  # agent.json
    arrays: dict[str, np.ndarray]  # weights.npz


def read_bundle(folder: str | Path) -> Bundle:
    """The bundle in a folder, checked. Raises SessionError where a file is missing, of another version or changed."""
    folder = Path(folder)
    about = _read_about(folder / "agent.json")
    content = {name: _exported(folder / name, digest) for name, digest in about["files"].items()}
    file = folder / "weights.npz"
    arrays = _arrays_of(file, content[file.name])
    _check_arrays(file, arrays, {name: tuple(shape) for name, shape in about["arrays"].items()})
    return Bundle(folder, about, arrays)


def _exported(file: Path, wanted: str) -> bytes:
    """What is in a file, if its SHA-256 is this one. What other programs act by need not be there."""
    if file.suffix == ".py" or (file.name != "weights.npz" and not file.exists()):
        return b""
    data = read(file)
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        raise SessionError(f"{file} is not what was exported (SHA-256 {found[:12]}, not {wanted[:12]}); copy it anew.")
    return data


def seal_of(about: dict[str, Any]) -> str:
    """The SHA-256 of all that sessions read in agent.json."""
    names = ["family", "obs_dim", "action_dim", "horizon", "trial", "agent", "arrays", "files", "self_test"]
    names += [] if about.get("schema") == 1 else ["training"]
    return hashlib.sha256(json.dumps([about.get(name) for name in names], sort_keys=True).encode()).hexdigest()


def _read_about(file: Path) -> dict[str, Any]:
    try:
        about = json.loads(read(file))
    except ValueError as error:
        raise SessionError(f"{file} is no JSON ({error}); copy the bundle anew.") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise SessionError(f"{file} is not of a bundle that 'nacre export' wrote; name such a folder.")
    if about.get("schema") not in (1, SCHEMA):
        raise SessionError(
            f"{file} has schema {about.get('schema')!r}, but this program reads schemas 1 to {SCHEMA}; use the "
            "session.py that lies beside it."
        )
    if about.get("seal") != seal_of(about):
        raise SessionError(f"{file} is not what was exported: its seal is another; copy the bundle anew.")
    return about


def read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SessionError(f"cannot read {file} ({error.strerror}); check the path.") from error


def _arrays_of(file: Path, data: bytes) -> dict[str, np.ndarray]:
    """The arrays in an archive, such as NumPy's `savez` writes, by name."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:  # damaged archives fail in many ways
        raise SessionError(f"{file} is no archive of arrays ({error}); copy it anew.") from error


def _check_arrays(file: Path, arrays: dict[str, np.ndarray], wanted: dict[str, tuple[int, ...]]) -> None:
    strange = sorted(set(arrays) ^ set(wanted))
    if strange:
        raise SessionError(f"{file} {'has' if strange[0] in arrays else 'lacks'} the array {strange[0]}; copy it anew.")
    for name, shape in wanted.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind not in "fiu":
            raise SessionError(f"{file} has {name} of shape {arrays[name].shape}, not {shape}; copy the bundle anew.")
        if not np.isfinite(arrays[name]).all():
            raise SessionError(f"{file} has numbers in {name} that are not finite; use another checkpoint, or copy.")


# ----------------------------------------------------------------------------------------------------------------------
# Sessions


class Transitions(NamedTuple):
    """Logged transitions of a task, for `Session.absorb`."""

    obs: Any  # [number, obs_dim]
    action: Any  # [number, action_dim]
    reward: Any  # [number]
    next_obs: Any  # [number, obs_dim]


class Session:
    """One trial, one step at a time: act, observe, ... end_episode, act, ... A step costs the same throughout."""

    error: type[ValueError] = SessionError

    def __init__(
        self, bundle: Bundle, seed: int = 0, task: str | Mapping[str, Any] | None = None,
        guards: Mapping[str, Any] | None = None,
    ):  # fmt: skip
        self.bundle, self.about = bundle, bundle.about
        self._agent = self._agent_of(bundle)
        self._obs, self._next_obs = np.zeros((2, self.about["obs_dim"]), np.float32)
        self._action = np.zeros(self.about["action_dim"], np.float32)
        self._num_sampled, self._needs_logs = self.about["trial"]["sampled"], self.about["trial"]["needs_logs"]
        words = [self.about["agent"], self.about["trial"], self.about["files"]["weights.npz"]]
        described = json.dumps(words, sort_keys=True)
        self._identity = np.frombuffer(hashlib.sha256(described.encode()).digest(), np.uint8)
        self._guarding: Any = None
        if guards is not None:
            if __package__:
                from nacre.deploy.numpy_guards import Guarding
            else:  # in a bundle
                from guards import Guarding  # type: ignore[import-not-found,no-redef]
            self._guarding = Guarding(guards, self.about, self.error)
            self._agent.most = self._guarding.most_precision
        self.begin(seed, task)

    def _agent_of(self, bundle: Bundle) -> TaskAgent:
        return AGENTS[self.about["agent"]["kind"]](self.about["agent"], bundle.arrays)

    def __repr__(self) -> str:
        episode = f"episode {self.num_episodes + 1} of {self.about['trial']['episodes']}"
        return f"Session({self.about['name']}, {episode}, {self.num_steps} steps so far)"

    def begin(self, seed: int = 0, task: str | Mapping[str, Any] | None = None) -> None:
        """Begins a new trial, of which nothing is known. `task`, as in 'velocity=1.3' or {"velocity": 1.3}, is for the
        oracle, which is told it; SessionError where it needs one."""
        if not 0 <= seed < 2**32:
            raise self.error(f"seed is {seed}, but must be from 0 to 2^32 - 1; choose another.")
        self._told = self._parsed(task)
        begin_key, self._act_key, self._end_key = split(key_of(seed), 3)
        self._agent.begin(begin_key, self._told)
        self.num_steps = self.num_episodes = self.num_absorbed = 0
        self._has_acted = False
        if self._guarding is not None:
            self._guarding.begin()

    @property
    def guard_counts(self) -> dict[str, int]:
        """How often each guard has tripped since the session was made."""
        return {} if self._guarding is None else dict(self._guarding.counts)

    def act(self, obs: Any) -> np.ndarray:
        """The action [action_dim] in [-1, 1] for an observation [obs_dim]."""
        return self.act_unguarded(obs) if self._guarding is None else self._guarding.act(self, obs)

    def act_unguarded(self, obs: Any) -> np.ndarray:
        """As `act`, whatever guards there are."""
        if self._needs_logs and self.num_absorbed == 0:
            raise self.error(
                f"protocol {self.about['trial']['protocol']} gives the agent logged transitions of the task; call "
                "absorb before the first act."
            )
        self._take("an observation", obs, self._obs)
        is_sampled = self._num_sampled is None or self.num_episodes < self._num_sampled
        key = fold_in(self._act_key, self.num_steps) if is_sampled else None
        self._action[:] = self._agent.act(self._obs, key)
        self._has_acted = True
        return np.minimum(np.maximum(self._action, _LOW), _HIGH)

    def observe(self, next_obs: Any, reward: Any, *, terminated: bool = False, action: Any = None) -> None:
        """What the last action led to: the true next observation and the reward. A time limit is not a termination.

        `action` [action_dim]: what was carried out, where that is not the action that `act` gave.
        """
        if self._guarding is None:
            self.observe_unguarded(next_obs, reward, terminated, action)
        else:
            self._guarding.observe(self, next_obs, reward, terminated, action)

    def observe_unguarded(self, next_obs: Any, reward: Any, terminated: bool, action: Any) -> None:
        """As `observe`, whatever guards there are."""
        if not self._has_acted:
            raise self.error("observe was called before act; call act first, then observe what it led to.")
        if not isinstance(reward, float) or not -3e38 < reward < 3e38:
            reward = self._number(reward)
        self._take("an observation", next_obs, self._next_obs)
        if action is not None:
            self._take("an action", action, self._action)
        self._agent.observe(self._obs, self._action, reward, self._next_obs)
        self.num_steps += 1
        self._has_acted = False

    def end_episode(self) -> None:
        """Ends the episode: the agent settles what it will believe and try in the next one."""
        self._agent.end_episode(fold_in(self._end_key, self.num_episodes))
        self.num_episodes += 1
        self._has_acted = False
        if self._guarding is not None:
            self._guarding.end_episode()

    def forget(self) -> None:
        """Goes back to the prior inside an episode; those that explored count as done."""
        key = fold_in(fold_in(self._act_key, RESTARTING), self.num_steps)
        self._agent.restart(key, self._told)
        self._has_acted = False

    def absorb(self, logged: Any) -> None:
        """Logged `Transitions` of the task, before the first act: by protocols that give the agent some."""
        if not self._needs_logs:
            raise self.error(
                f"protocol {self.about['trial']['protocol']} gives the agent no logged transitions; export it with "
                "another protocol, such as --protocol offline-own-context."
            )
        if self.num_absorbed or self.num_steps or self.num_episodes:
            raise self.error("the session has begun already; absorb all logged transitions at once, before act.")
        given = getattr(logged, "transition", logged)
        number, obs_dim, action_dim = len(given.reward), self.about["obs_dim"], self.about["action_dim"]
        shapes = ((number, obs_dim), (number, action_dim), (number,), (number, obs_dim))
        parts = zip(("obs", "action", "reward", "next_obs"), shapes, strict=True)
        columns = [self._checked(f"{name} of the log", getattr(given, name), shape) for name, shape in parts]
        self._agent.absorb(list(zip(*columns, strict=True)), fold_in(self._end_key, ABSORBING))
        self.num_absorbed = number

    @property
    def belief(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean, variance) of the task variable z, each [latent_dim]; empty of a method without a belief."""
        return self._agent.belief()

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all that the session knows between two steps, by name, and which agent's it is."""
        memory = {f"memory.{name}": values.copy() for name, values in self._agent.state.items()}
        counters = np.array([self.num_steps, self.num_episodes, self.num_absorbed], np.int64)
        return memory | {
            "agent": self._identity, "counters": counters, "keys": np.stack([self._act_key, self._end_key]),
        }  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Writes the state to a file of arrays (.npz), whole or not at all. What was acted but not yet observed is not
        part of it."""
        draft = Path(f"{path}.new")
        try:
            with draft.open("wb") as file:
                np.savez(file, **self.state())  # type: ignore[arg-type]
            draft.replace(path)
        except OSError as error:
            raise self.error(f"cannot write {path} ({error.strerror}); choose another place.") from error

    def restore(self, path: str | Path) -> None:
        """Goes on where a session of the same bundle was saved; act comes next. SessionError for anything else."""
        try:
            saved, now = _arrays_of(Path(path), read(Path(path))), self.state()
            _check_arrays(Path(path), saved, {name: values.shape for name, values in now.items()})
        except SessionError as error:
            raise self.error(f"the session cannot be restored: {error}") from error
        if not np.array_equal(saved["agent"], self._identity):
            raise self.error(f"{path} is of another agent or other weights; restore what this bundle's session saved.")
        self._set(saved)
        if self._guarding is not None:
            self._guarding.begin()

    def drop(self) -> None:
        """The last action led to nothing that is to be learnt from."""
        self._has_acted = False

    @property
    def was_capped(self) -> bool:
        """Whether the last transition said more of the task than the guard 'factor' allows."""
        return self._agent.was_capped

    def _set(self, state: dict[str, np.ndarray]) -> None:
        self.num_steps, self.num_episodes, self.num_absorbed = map(int, state["counters"])
        self._act_key, self._end_key = state["keys"].astype(np.uint32)
        for name, values in self._agent.state.items():
            values[...] = state[f"memory.{name}"]
        self._has_acted = False

    kept, put_back = state, _set  # what is known now, and how it is known again

    def warm_up(self, num_steps: int = 100) -> None:
        """Takes steps that are forgotten again, so that the first real one is as fast as the others."""
        before, guarding, self._guarding = self.state(), self._guarding, None
        step_times(self, num_steps)
        self._set(before)
        self._guarding = guarding

    def self_test(self) -> float:
        """Replays the trial that was recorded at export: the largest difference of an action. SessionError where it is
        more than 1e-5 (maesn: 1e-3). This session stays as it is."""
        recorded, largest, kind = self.about["self_test"], 0.0, self.about["agent"]["kind"]
        trial = type(self)(self.bundle, recorded["seed"], recorded["task"])
        if recorded["absorbed"] is not None:
            trial.absorb(Transitions(**recorded["absorbed"]))
        for index, episode in enumerate(recorded["episodes"]):
            obs = episode["obs"]
            for step, (action, reward) in enumerate(zip(episode["action"], episode["reward"], strict=True)):
                difference = float(np.max(np.abs(trial.act(obs[step]) - np.array(action, np.float32))))
                if not difference <= LARGER.get(kind, TOLERANCE):
                    raise self.error(
                        f"the self-test failed: the action at step {step + 1} of episode {index + 1} is "
                        f"{difference:.2g} from the recorded one; copy the bundle anew."
                    )
                largest = max(largest, difference)
                trial.observe(obs[step + 1], reward)
            trial.end_episode()
        return largest

    def _take(self, what: str, values: Any, into: np.ndarray) -> None:
        """Copies an array; SessionError where it has another shape or is not finite, and then nothing is changed."""
        is_plain = type(values) is np.ndarray and values.dtype.kind == "f" and values.shape == into.shape
        if is_plain and values.dot(values) < 1e37:  # not so where one is NaN or infinite
            into[:] = values
        else:
            into[:] = self._checked(what, values, into.shape)

    def _checked(self, what: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
        try:
            with np.errstate(over="ignore"):
                array = np.array(values, np.float32)
        except (TypeError, ValueError) as error:
            raise self.error(f"{what} is no array of numbers ({error}); it must have shape {shape}.") from error
        if array.shape != shape:
            raise self.error(f"{what} has shape {array.shape}, but {self.about['family']} has {shape}.")
        if not np.isfinite(array).all():
            raise self.error(f"{what} at step {self.num_steps + 1} is not finite: {array.tolist()}; check the sensors.")
        return array

    def _number(self, reward: Any) -> float:
        if np.ndim(reward) > 0 or np.asarray(reward).dtype.kind not in "biuf":
            raise self.error(f"the reward at step {self.num_steps + 1} is {reward!r}, which is not one number.")
        if not abs(float(reward)) < 3e38:
            raise self.error(f"the reward at step {self.num_steps + 1} is {reward}, which is not finite.")
        return float(reward)

    def _parsed(self, task: str | Mapping[str, Any] | None) -> np.ndarray:
        """The numbers that describe a task, in the order of their names."""
        wanted: dict[str, int] = self.about["agent"].get("task", {})
        expected = " ".join(f"{name}={','.join(['NUMBER'] * max(1, size))}" for name, size in wanted.items())
        if not wanted:
            return np.zeros(0, np.float32)
        if task is None:
            raise self.error(f"this agent is told its task; give one, as in task='{expected}'.")
        try:
            parts = dict(part.split("=") for part in task.split()) if isinstance(task, str) else dict(task)
            listed = {name: text.split(",") if isinstance(text, str) else text for name, text in parts.items()}
            given = {name: np.ravel(np.array(values, np.float32)) for name, values in listed.items()}
        except (TypeError, ValueError):
            given = {}
        if {name: len(values) for name, values in given.items()} != {n: max(1, size) for n, size in wanted.items()}:
            raise self.error(f"{task!r} is not a task of {self.about['family']}; write {expected}.")
        values = np.concatenate([given[name] for name in sorted(wanted)])
        return self._checked("the task", values, values.shape)


_LOW, _HIGH = np.array(-1.0, np.float32), np.array(1.0, np.float32)


def load(
    folder: str | Path, seed: int = 0, task: str | Mapping[str, Any] | None = None,
    guards: Mapping[str, Any] | None = None,
) -> Session:  # fmt: skip
    """A session of the bundle in a folder, at the beginning of a trial; `task` is for the oracle, which is told it.

    `guards`: what is done with what should not be, as in {"observation": "hold"}: guards.py has them. Raises
    SessionError for a bundle that is damaged, changed or of another version, and for guards that it cannot have.
    """
    return Session(read_bundle(folder), seed, task, guards)


def step_times(session: Session, num_steps: int) -> np.ndarray:
    """Microseconds of `num_steps` steps, act and observe, on random observations."""
    rng, horizon = np.random.default_rng(0), session.about["horizon"]
    obs = list(rng.standard_normal((64, session.about["obs_dim"])).astype(np.float32))
    rewards, times = rng.standard_normal(64).tolist(), np.empty(num_steps)
    if session.about["trial"]["needs_logs"] and session.num_absorbed == 0:
        session.absorb(Transitions(obs[:1], np.zeros((1, session.about["action_dim"])), [0.0], obs[1:2]))
    for index in range(num_steps):
        started = time.perf_counter()
        session.act(obs[index % 64])
        session.observe(obs[(index + 1) % 64], rewards[index % 64])
        times[index] = 1e6 * (time.perf_counter() - started)
        if session.num_steps % horizon == 0:
            session.end_episode()
    return times


def main() -> int:
    """Tests the bundle that this file lies in, and times it; the exit status is 0 where it is sound."""
    try:
        bundle = read_bundle(Path(__file__).parent)
        session = Session(bundle, task=bundle.about["self_test"]["task"])
        difference = session.self_test()
    except SessionError as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        return 2
    session.warm_up()
    p50, p99 = np.percentile(step_times(session, 2000), (50, 99))
    print(
        f"self-test passed (largest difference {difference:.1e}); a step takes {p50:.0f} us (p50), {p99:.0f} us (p99)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
