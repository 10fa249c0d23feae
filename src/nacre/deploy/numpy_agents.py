"""Exported agents, in NumPy alone: what a method remembers of a trial, and how it acts on it; a part of session.py.

`state` of an agent names every array of that memory.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nacre.deploy.numpy_networks import Cell, Layers, Policy, fold_in, normal, randint, split, uniform


class TaskAgent:
    """A policy that is given z: of the oracle, which is told the task. Also what the others have in common."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.about, self.policy = about, Policy(about["policy"], arrays)
        self.obs, self.z = self.policy.input[: about["obs_dim"]], self.policy.input[about["obs_dim"] :]
        self.counts = np.zeros(2, np.int64)  # of transitions and of episodes
        self.state: dict[str, np.ndarray] = {"z": self.z, "counts": self.counts}
        self.most: np.ndarray | None = None  # what a factor's precision is capped at, where the method has factors
        self.was_capped = False  # whether the last one was
        self.is_last = False  # whether the task ended the episode with the transition that `observe` takes in

    @property
    def has_fired(self) -> bool:
        """Whether a detector has said that the task has changed, so that the agent is to begin anew before it acts."""
        return False

    @property
    def num_fired(self) -> int:
        """How often a detector has fired in this trial."""
        return 0

    def begin(self, key: np.ndarray, task: np.ndarray) -> None:
        """A trial of which nothing is known but, in the oracle's case, the task."""
        for values in self.state.values():
            values[...] = 0
        if self.about["kind"] == "task":
            self.z[:] = task

    def infer(self, key: np.ndarray, step: int) -> None:
        """Settles z before a step whose action is the mean, where that is not done between episodes alone. `key`: of
        the trial's actions."""

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
    """PEARL: z is drawn, after every episode, from a product of one Gaussian factor a transition. Where it predicts
    rewards, from the belief about the train task whose predicted rewards are nearest to the trial's."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]):
        super().__init__(about, arrays)
        self.encoder = Encoder(about["encoder"], arrays, about["obs_dim"], about["policy"]["action_dim"])
        self.precision, self.weighted_mean = np.zeros((2, len(self.z)), np.float32)
        self.hypotheses: Any = arrays.get("hypotheses")  # [first, turn, latent_dim]
        self.state |= {"precision": self.precision, "weighted_mean": self.weighted_mean}
        if self.encoder.cell is not None:
            self.state |= self.encoder.cell.state
        if self.hypotheses is not None:
            self.tried = np.zeros(3, np.int64)  # the hypothesis that came first, the turn now, and its steps so far
            self.state["tried"] = self.tried
        self.errors = np.zeros(0, np.float32)  # squared, of the rewards that each hypothesis predicts, less the least
        if "rewards" in about:
            self.rewards, self._added = Layers(about["rewards"], arrays), arrays["rewards.added"]
            self._known = arrays["beliefs.precision"], arrays["beliefs.weighted_mean"]
            self.errors = np.zeros(len(self._added), np.float32)
            self.state["errors"] = self.errors
        self._factor, self._zero = np.ones(len(self.z), np.float32), np.zeros((), np.float32)
        self._least = np.array(about["min_variance"], np.float32)
        self._kept, self._resample = np.float32(about.get("forgetting", 1)), about.get("resample", "episode")

    def begin(self, key: np.ndarray, task: np.ndarray) -> None:
        super().begin(key, task)
        self._draw(*self._prior(), key)
        if self.hypotheses is not None:
            self._try(randint(key, len(self.hypotheses)), 0, 0)

    def restart(self, key: np.ndarray, task: np.ndarray) -> None:
        num_episodes = int(self.counts[1])  # those that explored count as done
        self.begin(key, task)
        self.counts[1] = num_episodes

    def infer(self, key: np.ndarray, step: int) -> None:
        if self._resample == "episode" or self.counts[1] < self.about["exploration_episodes"]:
            return
        if self._resample == "mean":
            self.z[:] = self.belief()[0]
        else:
            self._draw(*self.belief(), fold_in(key, step))

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
        if self.hypotheses is not None and self.counts[1] < self.about["exploration_episodes"]:
            first, turn, num_steps = self.tried
            is_over = num_steps + 1 == self.about["hypothesis_steps"]
            self._try(first, turn + is_over, 0 if is_over else num_steps + 1)
        if len(self.errors):
            self._judge(obs, action, reward)
            return
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
        if self._kept != 1:
            np.multiply(self.precision, self._kept, self.precision)
            np.multiply(self.weighted_mean, self._kept, self.weighted_mean)
        np.add(self.precision, factor, self.precision)
        np.add(self.weighted_mean, np.multiply(factor, mean, mean), self.weighted_mean)

    def end_episode(self, key: np.ndarray) -> None:
        super().end_episode(key)
        explores = self.counts[1] < self.about["exploration_episodes"]
        if explores and self.hypotheses is not None:
            first, turn, num_steps = self.tried
            self._try(first, turn + (num_steps > 0), 0)
        else:
            self._draw(*(self._prior() if explores else self.belief()), key)

    def belief(self) -> tuple[np.ndarray, np.ndarray]:
        precision, zero = self.precision, np.zeros_like(self.precision)
        if self.about["prior_factor"] or self.counts[0] == 0:
            precision = precision + np.float32(1)
        variance = np.float32(1) / precision
        return variance * self.weighted_mean, variance if self.about["bottleneck"] else zero

    def _judge(self, obs: np.ndarray, action: np.ndarray, reward: float) -> None:
        """The belief after a transition, by predicted rewards."""
        x, num = self.rewards.input, len(obs)
        x[:num], x[num:] = obs, action
        wrong = self.rewards.run_each(self._added)[:, 0] - np.float32(reward)
        self.errors *= self._kept
        self.errors += wrong * wrong
        likeliest = int(np.argmin(self.errors))
        self.errors -= self.errors[likeliest]
        self.precision[:], self.weighted_mean[:] = (part[likeliest] for part in self._known)

    def _try(self, first: Any, turn: Any, num_steps: Any) -> None:
        self.tried[:] = first, turn, num_steps
        self.z[:] = self.hypotheses[first, turn % self.hypotheses.shape[1]]

    def _prior(self) -> tuple[np.ndarray, np.ndarray]:
        zero = np.zeros_like(self.z)
        return zero, zero + np.float32(self.about["bottleneck"])

    def _draw(self, mean: np.ndarray, variance: np.ndarray, key: np.ndarray) -> None:
        self.z[:] = mean + np.sqrt(variance) * normal(key, len(mean))


class EmbeddingAgent(TaskAgent):
    """Offline PEARL and FOCAL: z is the mean of what the encoder says of every transition of the context."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]):
        super().__init__(about, arrays)
        self.encoder = Encoder(about["encoder"], arrays, about["obs_dim"], about["policy"]["action_dim"])
        self.total = np.zeros(len(self.z), np.float32)
        self.anew = np.zeros(1, np.int64)  # 1 after a restart: then all that follows is context
        self.state |= {"total": self.total, "anew": self.anew}

    def restart(self, key: np.ndarray, task: np.ndarray) -> None:
        num_episodes = int(self.counts[1])  # those that explored count as done
        self.begin(key, task)
        self.counts[1], self.anew[0] = num_episodes, 1

    def act(self, obs: np.ndarray, key: np.ndarray | None) -> np.ndarray:
        if key is None:
            return super().act(obs, None)
        key, uniform_key = split(key)
        if self.counts[0] < self.about["uniform_steps"]:
            return uniform(uniform_key, self.policy.action_dim, -1.0, 1.0)
        return super().act(obs, key)

    def observe(self, obs: np.ndarray, action: np.ndarray, reward: float, next_obs: np.ndarray) -> None:
        num_exploring = self.about["exploration_episodes"]
        if self.about["one_episode"] or self.counts[1] < num_exploring or (num_exploring and self.anew[0]):
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
        self.reward = np.zeros(1, np.float32)  # discounted, of the current episode; counts[0] are its steps
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
        """A step up sum(w A log N(z)) over the kept episodes, A the advantage, w the truncated importance weights over
        their sum, of which the mean and the standard deviation of returns are too."""
        z, (density, returns) = self.past_z[:num], self.past[:num].T
        share = np.exp(np.minimum(self._density(z) - density, 0))
        share /= np.maximum(np.sum(share), np.float32(1e-8))
        centred = returns - np.sum(share * returns)
        advantage = centred / (np.sqrt(np.sum(share * centred**2)) + np.float32(1e-8))
        weight = (share * advantage)[:, None]
        error = (z - self.mean) * np.exp(-self.log_std)
        to_mean, to_log_std = np.sum(weight * error * np.exp(-self.log_std), 0), np.sum(weight * (error**2 - 1), 0)
        self.mean += self.rates[0] * to_mean
        self.log_std[:] = np.clip(self.log_std + self.rates[1] * to_log_std, *self.about["log_std_range"])


AGENTS = {
    "task": TaskAgent, "belief": BeliefAgent, "embedding": EmbeddingAgent, "recurrent": RecurrentAgent,
    "latent": LatentAgent,
}  # fmt: skip
"""By the kind that agent.json names."""
