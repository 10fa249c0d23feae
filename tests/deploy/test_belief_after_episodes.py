"""The belief that reports tell of an episode is the one after it, also where it changes when the episode ends."""

from __future__ import annotations

import gymnasium
import jax
import numpy as np
import pytest
from exported import untrained

from nacre.report.beliefs import beliefs
from nacre.report.trials import play
from nacre.simulation import rollout


@pytest.mark.parametrize("method", ["maesn", "pearl"])
def test_a_report_tells_what_the_next_episode_begins_with(method: str) -> None:
    agent = untrained(method)
    episodes, tasks, believes = agent.trials.episodes, agent.tasks.test, agent.believes
    assert believes is not None and episodes >= 2
    played = list(rollout.trial(agent.family, agent.functions, agent.params, tasks, jax.random.key(5), episodes))
    told, drawn = beliefs(agent, tasks, 1, 5), play(agent, tasks, 5)
    for index in range(episodes - 1):
        mean, variance = believes(played[index + 1].memory_before)
        changed = not np.allclose(mean, believes(played[index].memory_before).mean)
        assert changed or (method == "maesn" and index == 0)  # there is nothing to compare one episode with
        np.testing.assert_allclose(told.mean[index], mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(told.std[index], np.sqrt(variance), rtol=1e-4, atol=1e-5)
        for task, (means, stds) in enumerate(zip(drawn.belief_means, drawn.belief_stds, strict=True)):
            at = (index + 1) * agent.family.horizon  # the prior comes first
            np.testing.assert_allclose(means[at], mean[task], rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(stds[at], np.sqrt(variance)[task], rtol=1e-3, atol=1e-4)
    last = rollout.end_episode(agent.functions, agent.params, played[-1].memory_after, jax.random.key(9))
    np.testing.assert_allclose(told.mean[-1], believes(last).mean, rtol=1e-4, atol=1e-5)


def test_a_trial_of_maesn_tells_the_adaptation_to_each_of_its_episodes() -> None:
    """Nothing changes after one episode, which there is nothing to compare with."""
    agent = untrained("maesn")
    for trial in (agent.meet("goal=0.6,0.8", 4), agent.adapt(gymnasium.make("nacre/PointRobot-v0"), 4)):
        means = [tuple(one.belief_mean) for one in trial.episodes]
        assert means[0] == (0.0, 0.0) and len(set(means)) == 4
