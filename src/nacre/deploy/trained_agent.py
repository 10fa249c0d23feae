"""A trained agent meets new tasks: in the family's simulator, or in anybody's environment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import jax
import numpy as np

from nacre.data import contexts
from nacre.deploy import NumpySession, logged_tasks
from nacre.deploy.chosen_tasks import chosen_tasks
from nacre.deploy.numpy_guards import Guarding, needs_training, parsed
from nacre.deploy.persons_environment import check_spaces, warn_of_cut_episodes
from nacre.deploy.session import Session, seed_key
from nacre.deploy.sharing import HUB, fetched
from nacre.deploy.trial_reports import EpisodeReport, TrialReport
from nacre.errors import NacreError
from nacre.families.checked_environment import refuse_running_statistics
from nacre.families.family import TaskSet, describe, num_tasks
from nacre.presets.settings import MethodSettings
from nacre.presets.trials import TrialOptions, TrialSettings
from nacre.runs.compilation_cache import use_compilation_cache
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import Experiment
from nacre.runs.files import notice
from nacre.runs.loading import Saved, hypotheses_of, load_to_act
from nacre.simulation import rollout
from nacre.types import Agent, ArrayLike, Belief, Logged, Tasks

if TYPE_CHECKING:
    from nacre.data.dataset import DataSet


class TrainedAgent:
    """The agent of a run's checkpoint. Immutable: every trial and session starts from knowing nothing.

    `episodes`, `repeats` and the fields of `TrialOptions` say how it is tested, here and on the command line. None: as
    the run was configured.
    A trial must have more episodes than explore; NacreError otherwise.
    """

    def __init__(
        self, experiment: Experiment, tasks: TaskSet, params: Any, grad_steps: int | None = None,
        hypotheses: Callable[[], Any] | None = None, run: RunDirectory | None = None, networks: Any = None,
    ):  # fmt: skip
        """`grad_steps`: the number of the checkpoint; None where the parameters are of none. `hypotheses` reads
        those about tasks, which are asked for once they are needed. `run`: whose checkpoint it is.
        `networks`: all of the checkpoint's, critics too, for a detector of changes."""
        self.experiment = experiment
        self.family = experiment.family
        self.tasks = tasks
        self.params = params
        self.grad_steps = grad_steps
        self.run = run
        self.networks = networks
        self._read_hypotheses, self._hypotheses = hypotheses, None
        self._exploring: dict[MethodSettings, Any] = {}  # parameters by the settings of trials
        self.trials = TrialSettings.of(experiment.settings)
        self.functions = self.functions_for(self.trials)
        belief, settings = experiment.algorithm.belief, experiment.settings
        self.believes = None if belief is None else lambda memory: belief(memory, settings)

    def __repr__(self) -> str:
        run, trials = self.experiment, self.trials
        at = "no checkpoint" if self.grad_steps is None else f"checkpoint at update {self.grad_steps}"
        exploring = f" ({trials.exploration_episodes} explore)" if trials.exploration_episodes else ""
        by = "" if trials.protocol == "online-prior" else f" by {trials.protocol}"
        return (
            f"TrainedAgent({self._name}, preset {run.preset}, seed {run.options.seed}, {at}, "
            f"trials of {trials.episodes} episode{'s' * (trials.episodes != 1)}{exploring}{by})"
        )

    @property
    def _name(self) -> str:
        return f"{self.experiment.algorithm_name} on {self.family.name}"

    def functions_for(self, trials: TrialSettings) -> Agent:
        """The agent's functions for trials like these."""
        experiment = self.experiment
        return experiment.algorithm.make_agent(experiment.family, trials.applied_to(experiment.settings))

    def params_for(self, trials: TrialSettings) -> Any:
        """The parameters for trials like these. NacreError where hypotheses are needed and there are none."""
        experiment, settings = self.experiment, trials.applied_to(self.experiment.settings)
        if not settings.by_hypotheses:
            return self.params
        if self._hypotheses is None:
            if self._read_hypotheses is None:
                raise NacreError(
                    "this agent has no hypotheses about tasks, since it is not of a checkpoint; load it from its run, "
                    "or set --exploration prior."
                )
            self._hypotheses = self._read_hypotheses()
        if settings not in self._exploring:
            plan = experiment.algorithm.exploring_params
            self._exploring[settings] = plan(self.params, self._hypotheses, experiment.family, settings)
        return self._exploring[settings]

    def evaluate(
        self, tasks: str = "test", episodes: int | None = None, repeats: int | None = None, seed: int = 0,
        *, data: DataSet | str | Path | None = None, **options: Unpack[TrialOptions],
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:  # fmt: skip
        """(returns[repeat, task, episode], the tasks) on 'test', 'train', 'ood' or 'fresh:N'."""
        evaluation, chosen = self.evaluation(tasks, episodes, repeats, seed, data=data, **options)
        return evaluation.returns, chosen

    def evaluation(
        self, tasks: str = "test", episodes: int | None = None, repeats: int | None = None, seed: int = 0,
        *, data: DataSet | str | Path | None = None, **options: Unpack[TrialOptions],
    ) -> tuple[rollout.Evaluation, list[dict[str, Any]]]:  # fmt: skip
        """As `evaluate`, with what the family says of success, and how much of each task the agent had seen.

        `data`: a data set, its id or its path, whose 'test' or 'train' tasks are those of the evaluation; None: the
        run's tasks. Where the protocol gives the agent logged transitions, they are the data set's, else the run's own.
        Raises NacreError where nothing was logged of the tasks.
        """
        trials = self.trials.changed(episodes, repeats, **options)
        found = logged_tasks.opened(data, self.experiment) if data is not None or trials.meets.logs else None
        if data is not None and found is not None:
            chosen = logged_tasks.tasks_of(found, tasks)
            self.tell_of_tasks_trained_on(chosen, tasks, found)
        else:
            chosen = self.choose_tasks(tasks, seed)
        logged, key = None, seed_key(seed)
        if trials.meets.logs is not None:
            logged_tasks.check_logged(tasks, trials, "--tasks test")
            numbers = np.arange(num_tasks(chosen))
            logged = contexts.for_trials(found, trials, tasks, numbers, key[None])
        evaluation, *_ = rollout.evaluate_side_by_side(
            self.family, chosen, self.functions_for(trials), [self.params_for(trials)], key[None], trials.episodes,
            trials.repeats, logged,
        )  # fmt: skip
        return evaluation, [describe(chosen, index) for index in range(num_tasks(chosen))]

    def contexts(
        self, task: str | Tasks, context_transitions: int | None = None, seed: int = 0, *,
        protocol: str | None = None, data: DataSet | str | Path | None = None,
    ) -> Logged:  # fmt: skip
        """Logged transitions of a task as a trial gets them, [number], for `Session.absorb`.

        `task` as in 'velocity=1.3', or parameters of several, [task, ...], which give [task, number]. Raises NacreError
        where the protocol gives none and where the data set has none of the task.
        """
        trials = self.trials.changed(protocol=protocol, context_transitions=context_transitions)
        several = self.family.parse_task(task, allow_ood=True) if isinstance(task, str) else task
        logged = self._contexts(trials, several, seed, data)
        if logged is None:
            raise NacreError(f"protocol {trials.protocol} gives the agent no logged transitions; choose another.")
        return jax.tree.map(lambda x: x[0], logged) if isinstance(task, str) else logged

    def logged_episode(
        self, obs: ArrayLike, action: ArrayLike, reward: ArrayLike, *, terminated: bool = False
    ) -> Logged:
        """An episode that somebody logged in a task, as `Session.absorb` and `adapt` take it, [step].

        `obs` [step + 1, obs_dim] ends with the last observation; `action` [step, action_dim] in [-1, 1]; `reward`
        [step]; `terminated`: whether the task ended it, rather than a time limit. NacreError where these do not fit.
        """
        discount = self.experiment.settings.discount
        return contexts.of_episode(obs, action, reward, terminated=terminated, discount=discount)

    def lines(
        self, tasks: str = "test", data: DataSet | str | Path | None = None, *, beside: Sequence[str | Path] = (),
        repeats: int | None = None, seed: int = 0,
    ) -> logged_tasks.Lines | None:  # fmt: skip
        """What others earn in the tasks of such an evaluation; None where there is no data set that tells it.

        `beside`: further runs, such as behaviour cloning's and the oracle's. Each is evaluated in the same tasks as it
        was configured, with these `repeats` and this `seed`. Raises NacreError where one of them has another family or
        other tasks.
        """
        found = logged_tasks.opened(data, self.experiment) if tasks in ("test", "train") else None
        given = None if data is None else found
        chosen = self.choose_tasks(tasks, seed) if given is None else logged_tasks.tasks_of(given, tasks)
        known = None if found is None else logged_tasks.lines(found, tasks, chosen)
        if not beside:
            return known
        scores: dict[str, np.ndarray] = {}
        taken = {} if known is None else known.named()
        for path in beside:
            other = load(path)
            if other.family != self.family:
                raise NacreError(f"the run at {path} is on {other.family!r}, not on {self.family!r}; leave it out.")
            evaluation, own = other.evaluation(tasks, repeats=repeats, seed=seed, data=data)
            if own != [describe(chosen, index) for index in range(num_tasks(chosen))]:
                raise NacreError(f"the run at {path} has other {tasks} tasks than {self!r}; name a data set by --data.")
            name = other.experiment.algorithm_name
            name = f"{name} at {path}" if name in taken or name in scores else name
            scores[name] = evaluation.returns[:, :, -1].mean(axis=0)
        return (known or logged_tasks.Lines(None, None, None, None))._replace(beside=scores)

    def _contexts(
        self, trials: TrialSettings, tasks: Tasks, seed: int, data: DataSet | str | Path | None = None
    ) -> Logged | None:
        """[task, number]; None where the protocol gives none, and then `data` is refused."""
        logged_tasks.check_wanted(data, trials)
        if trials.meets.logs is None:
            return None
        found, split, numbers = logged_tasks.opened(data, self.experiment), "test", [0]
        if found is not None:
            split, numbers = logged_tasks.find(found, tasks)
            logged_tasks.check_logged(split, trials, f"one of the test tasks of {found.id}")
        return contexts.for_trials(found, trials, split, numbers, seed_key(seed)[None], repeats=1)

    def tell_of_tasks_trained_on(self, tasks: Tasks, which: str, data: DataSet) -> None:
        """A notice where a data set's test tasks are among those that an agent of another task set was trained on."""
        if which != "test" or not self.family.disjoint or self.experiment.single_task >= 0:
            return
        shared = logged_tasks.num_shared(tasks, self.tasks.train)
        if shared:
            notice(f"{shared} of the test tasks of {data.id} are among those that this agent was trained on.")

    def choose_tasks(self, which: str, seed: int = 0) -> Tasks:
        """The run's 'test' or 'train' tasks, 'fresh:N' new ones from the family's distribution, or 'ood'.

        The out-of-distribution tasks of a run are as many as its test tasks and follow from its task_seed.
        """
        return chosen_tasks(self.family, self.tasks, which, seed)

    def meet(
        self, task: str, episodes: int | None = None, *, allow_ood: bool = False, seed: int = 0,
        data: DataSet | str | Path | None = None, **options: Unpack[TrialOptions],
    ) -> TrialReport:  # fmt: skip
        """A trial on one task in the family's simulator. `task` as in 'velocity=1.3' or 'goal=0.6,0.8'."""
        parsed = self.family.parse_task(task, allow_ood=allow_ood)
        trials = self.trials.changed(episodes, **options)
        logged = self._contexts(trials, parsed, seed, data)
        functions, reports = self.functions_for(trials), []
        lanes = rollout.trial(
            self.family, functions, self.params_for(trials), parsed, seed_key(seed), trials.episodes, logged
        )
        for index, (episode, _, memory) in enumerate(lanes):
            length = int(episode.length[0])
            ended_by = "horizon"
            if episode.diverged is not None and episode.diverged[0]:
                ended_by = "truncated"
            elif float(episode.transitions.discount[0, length - 1]) == 0.0:
                ended_by = "terminated"
            report = self.report_episode(index, float(episode.returns()[0]), length, memory)
            solved = None if episode.success is None else bool(episode.success[0])
            reports.append(report._replace(success=solved, ended_by=ended_by))
        return TrialReport(describe(parsed, 0), reports)

    def adapt(
        self, env: Any, episodes: int | None = None, seed: int = 0, *, task: str | None = None,
        logged: Logged | None = None, **options: Unpack[TrialOptions],
    ) -> TrialReport:  # fmt: skip
        """A trial in any object with Gymnasium's `reset` and `step` whose spaces are the family's (actions in [-1, 1]).

        An episode ends where the environment says so, and is cut at the family's horizon: `ended_by` tells which it
        was, and a warning where the environment declares a later time limit. The environment is seeded by `seed` at the
        first reset. `task` is for the oracle, which is told it. Raises NacreError when the spaces differ or the
        environment returns a number that is not finite.

        `logged` [number]: transitions of the environment's task, where the protocol gives the agent some (`contexts`).
        """
        trials = self.trials.changed(episodes, **options)
        if trials.needs_logs and logged is None:
            raise NacreError(
                f"protocol {trials.protocol} gives the agent logged transitions of the environment's task; give them "
                "as logged=..."
            )
        check_spaces(env, self.family)
        refuse_running_statistics(env, self.family.name)
        warn_of_cut_episodes(env, self.family)
        session, reports = self.session(seed, episodes, task=task, **options), []
        if logged is not None:
            session.absorb(logged)
        for index in range(trials.episodes):
            obs, _ = env.reset(seed=seed) if index == 0 else env.reset()
            total, ended_by = 0.0, "horizon"
            for length in range(1, self.family.horizon + 1):
                obs, reward, terminated, truncated, info = env.step(session.act(obs))
                if isinstance(info, dict) and info.get("diverged"):  # nacre's robots say so: that step is left out
                    length, ended_by = length - 1, "truncated"
                    break
                session.observe(obs, reward, terminated=bool(terminated))
                total += float(reward)
                if terminated or truncated:
                    ended_by = "terminated" if terminated else "truncated"
                    break
            report = self.report_episode(index, total, length, session.memory)
            reports.append(report._replace(ended_by=ended_by))
            session.end_episode()
        return TrialReport({}, reports)

    def session(
        self, seed: int = 0, episodes: int | None = None, *, task: str | None = None,
        guards: Mapping[str, Any] | None = None, detect: float | None = None, **options: Unpack[TrialOptions],
    ) -> Session:  # fmt: skip
        """A trial, one step at a time, for a loop of your own.

        Methods that sample their actions until the scored episode need to know which that is: the last of `episodes`.
        A session may continue after it. If the protocol gives the agent logged transitions, call `absorb` first.
        `guards`: how to react to values outside the limits, as in {"observation": "hold"} (docs/export.md). For guards
        that need ranges, trials in the train tasks are played first. `detect`: the belief goes back to the prior when
        the task seems to have changed; the number is the intended share of false alarms (docs/changing-tasks.md).
        """
        trials = self.trials.changed(episodes, **options)
        told = {"unknown": np.zeros(1)}
        if self.experiment.algorithm.needs_task:
            if task is None:
                raise NacreError(
                    f"{self.experiment.algorithm_name} is told its task; give one, as in task='velocity=1'."
                )
            told = self.family.parse_task(task, allow_ood=True)
        functions, params, believes = self.functions_for(trials), self.params_for(trials), self.believes
        if detect is not None:
            from nacre.deploy.change_detector import believes_of_agent, with_detector

            functions, params = with_detector(self, trials, detect)
            believes = believes_of_agent(self)
        guarding = None if guards is None else self._guarding(guards, trials)
        return Session(self._name, self.family, functions, params, trials, seed, told, believes, guarding)

    def _guarding(self, guards: Mapping[str, Any], trials: TrialSettings) -> Guarding:
        """Guards of a session, which cannot cap a factor with JAX. Raises NacreError for guards that there are not."""
        from nacre.deploy.bundles import robot_words

        needs = needs_training(parsed(guards, NacreError))
        about = {
            "agent": {"kind": "of JAX"}, "trial": {"needs_logs": trials.needs_logs, "protocol": trials.protocol},
            "action_dim": self.family.action_dim, **robot_words(self.family),
            "training": self.training_statistics(trials) if needs else None,
        }  # fmt: skip
        return Guarding(guards, about, NacreError)

    def training_statistics(self, trials: TrialSettings) -> dict[str, Any] | None:
        """What it sees, does and believes in trials of its train tasks (training_statistics.py); None where the
        protocol gives it logged transitions."""
        from nacre.deploy.training_statistics import statistics

        if trials.meets.logs is not None:
            return None
        return statistics(
            self.family, self.functions_for(trials), self.params_for(trials), self.tasks.train, seed_key(0),
            trials.episodes, self.believes,
            has_factors=not trials.applied_to(self.experiment.settings).by_rewards,
        )  # fmt: skip

    def export(
        self, path: str | Path, *, overwrite: bool = False, licence: str | None = None, seed: int = 0,
        onnx: bool = False, c: bool = False, adapted_from: str | Session | None = None, detect: float | None = None,
        episodes: int | None = None, **options: Unpack[TrialOptions],
    ) -> NumpySession:  # fmt: skip
        """Writes a folder with which the agent acts where there is no JAX (docs/export.md); a session of it.

        `overwrite`: replace the bundle that stands there. `licence`: for agent.json. `seed`: of the trial that is
        recorded for the self-test. `onnx`, `c`: with ONNX graphs, with C99 code. `adapted_from`: needed for
        methods that adapt by gradient steps. It is a task ('velocity=1.3') in which a trial is played, or a session
        that has adapted. The bundle acts with the adapted policy and learns no more. `detect`: writes a
        detector of changes and the critics that it needs, as in `session`.
        """
        from nacre.deploy import bundles

        return bundles.export(
            self, path, overwrite=overwrite, licence=licence, seed=seed, onnx=onnx, c=c, adapted_from=adapted_from,
            detect=detect, episodes=episodes, **options,
        )  # fmt: skip

    def report_episode(self, index: int, episode_return: float, length: int, memory: Any) -> EpisodeReport:
        """What is told of an episode, given what the agent remembers of it. `index` counts from 0."""
        if self.believes is None:
            return EpisodeReport(index + 1, episode_return, length, [], [])
        mean, variance = (np.asarray(x[0]) for x in self.belief_after(memory))
        return EpisodeReport(index + 1, episode_return, length, mean.tolist(), np.sqrt(variance).tolist())

    def belief_after(self, memory: Any) -> Belief:
        """The belief after an episode, [lane, latent_dim], given what the agent remembers of all its steps."""
        assert self.believes is not None
        if self.experiment.algorithm.believes_at_end:
            memory = rollout.end_episode(self.functions, self.params, memory, seed_key(0))
        return self.believes(memory)


def load(path: str | Path, checkpoint: str | int = "latest") -> TrainedAgent:
    """The trained agent of a run directory, which needs no replay there, or of 'hf://USER/NAME' on the Hugging Face
    Hub, where `nacre push` wrote it ('hf://USER/NAME@REVISION': as it was then). Turns on the compilation cache.

    `checkpoint`: 'latest', 'best' (by the test score of the run's evaluation at it) or its number of updates. Where the
    latest or best is damaged, the next good one is taken, with a notice on stderr.
    """
    use_compilation_cache()
    run = RunDirectory(fetched(str(path)) if str(path).startswith(HUB) else Path(path))
    return agent_of(run, load_to_act(run, checkpoint))


def agent_of(run: RunDirectory, saved: Saved) -> TrainedAgent:
    """The trained agent of one of a run's checkpoints, read to act."""
    experiment, state = run.experiment, saved.state
    params, grad_steps = experiment.algorithm.agent_params(state), int(state.grad_steps)
    networks = None if experiment.algorithm.critics is None else experiment.algorithm.critics(state)
    known = functools.partial(hypotheses_of, run, saved)
    return TrainedAgent(experiment, run.tasks, params, grad_steps, known, run, networks)
