"""Random numbers and networks of exported agents, in NumPy alone; a part of session.py in every bundle.

Random numbers are JAX's (threefry2x32, partitionable), so that trials are those of nacre. A key is two words. Networks
take one input at a time. Their buffers are made once: a step allocates next to nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


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


_EPSILON = 1e-5
"""Added to the variance by which normalised layers divide."""


class Layers:
    """Dense layers. Inputs are written into `input`; a last input of 1 stands for the biases."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]):
        """`about`: name, sizes from input to output, activation between layers, scaled: first inputs with a scale;
        perhaps normalised: hidden layers have mean 0 and variance 1 before the activation."""
        name, sizes, self.num_scaled = about["name"], about["sizes"], about["scaled"]
        parts = [[arrays[f"{name}.{i}.weight"], arrays[f"{name}.{i}.bias"][None]] for i in range(len(sizes) - 1)]
        matrices = [np.ascontiguousarray(np.concatenate(part), np.float32) for part in parts]
        buffers = [np.ones(size + 1, np.float32) for size in sizes[:-1]]
        self.input, self.output = buffers[0][:-1], np.empty(sizes[-1], np.float32)
        self._hidden = [(x, w, y[:-1]) for x, w, y in zip(buffers, matrices, buffers[1:], strict=False)]
        self._last = (buffers[-1], matrices[-1], self.output)
        self._narrow: dict[int, tuple[np.ndarray, ...]] = {}
        self._is_relu, self._zero = about["activation"] == "relu", np.zeros((), np.float32)
        self._is_normalised = about.get("normalised", False)
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
        self._scale()
        for x, matrix, y in self._hidden:
            np.dot(x, matrix, y)
            if self._is_normalised:
                y -= y.sum() / len(y)
                y *= 1 / math.sqrt(y.dot(y) / len(y) + _EPSILON)
            np.maximum(y, self._zero, out=y) if self._is_relu else np.tanh(y, y)
        x, matrix, y = self._last if num is None else self._narrow[num]
        return np.dot(x, matrix, y)

    def run_each(self, added: np.ndarray) -> np.ndarray:
        """The outputs [row, out] for what `input` holds, if the first layer gave so much more: `added` [row, units].
        For ReLU between layers that are not normalised. Allocates its results."""
        self._scale()
        (x, first, _), zero = self._hidden[0], self._zero
        y = added + np.dot(x, first)
        for _, matrix, _ in (*self._hidden[1:], self._last):
            y = np.dot(np.maximum(y, zero), matrix[:-1]) + matrix[-1]
        return y

    def _scale(self) -> None:
        if self.num_scaled:
            part = self.input[: self.num_scaled]
            np.subtract(part, self._mean, part)
            np.divide(part, self._std, part)
            np.maximum(np.minimum(part, self._limit, out=part), -self._limit, out=part)


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
