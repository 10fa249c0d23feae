"""Guards of a session: how it reacts to an observation, action, delay or belief outside its limits.

This file is nacre's, and lies as guards.py in every bundle that `nacre export` writes; it needs NumPy alone.

    session = load("policy", guards={"finite": "hold", "observation": "prior", "rate": "clip"})
    session.guard_counts                   # {"finite": 0, "observation": 2, "rate": 11}

A guard that trips counts one, and follows its policy. docs/export.md has all guards, policies and numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Guards(NamedTuple):
    """The policy of each guard ('' for none), and the numbers that they go by."""

    finite: str = ""  # observations, rewards and actions carried out are finite numbers
    observation: str = ""  # observations lie within what training saw
    lateness: str = ""  # `act` comes no later after the `act` before it than the control period allows
    bounds: str = ""  # actions lie within low and high
    rate: str = ""  # actions change by no more than `change` a step
    factor: str = ""  # a transition says no more of the task than `precision`, that of its factor
    belief: str = ""  # the belief's mean lies within what training's beliefs were
    low: Any = -1.0  # a number, or one for each of the action's numbers
    high: Any = 1.0
    change: Any = None  # likewise; None: the largest change of training
    precision: Any = None  # a number, or one for each of the belief's; None: the upper quartile of training's factors
    period: float | None = None  # seconds between two calls of `act`; None: the bundle's control_period
    late: float = 1.5  # periods after which `act` is late
    margin: float = 0.1  # what training saw is widened by this share of itself, at either end


MOST = 3e38
"""Below it, a number is finite in float32."""
OF_ACTIONS = ("bounds", "rate")
NAMES = ("finite", "observation", "lateness", *OF_ACTIONS, "factor", "belief")
POLICIES = ("raise", "hold", "prior", "clip")
CLIPPED = (*OF_ACTIONS, "factor")
"""Guards that may also bring a number to the nearest one that is allowed."""


def parsed(guards: Guards | Mapping[str, Any], error: type[Exception]) -> Guards:
    """Guards, of a mapping as well. Raises `error`, with a sentence, for a guard or a policy that there is not."""
    words = guards._asdict() if isinstance(guards, Guards) else dict(guards)
    strange = sorted(set(words) - set(Guards._fields))
    if strange:
        raise error(f"there is no guard '{strange[0]}'; choose among {', '.join(Guards._fields)}.")
    given = Guards(**words)
    for name in NAMES:
        policy, allowed = getattr(given, name), POLICIES if name in CLIPPED else POLICIES[:3]
        if policy and policy not in allowed:
            raise error(f"guard '{name}' cannot '{policy}'; choose {', '.join(allowed[:-1])} or {allowed[-1]}.")
    if not (_is_number(given.margin) and given.margin >= 0 and _is_number(given.late) and given.late > 0):
        raise error("a guard's margin must be at least 0, and late above 0; change them.")
    return given


def _is_number(value: Any) -> bool:
    """Whether it is one number that is finite in float32."""
    return isinstance(value, float | int | np.floating | np.integer) and bool(np.abs(value) < MOST)


def _checked(name: str, values: Any, size: int, error: type[Exception]) -> np.ndarray:
    """The guards' low, high, change or precision, as one number or `size` of them; raises `error` for others."""
    least = {"change": 0.0, "precision": np.nextafter(0.0, 1.0)}.get(name, -np.inf)
    try:
        with np.errstate(over="ignore"):
            found = np.array(values, np.float32)
        right = found.shape in ((), (size,)) and bool((found >= least).all())  # NaN is refused
        right &= name in ("low", "high") or bool(np.isfinite(found).all())  # a side may have no bound
    except (TypeError, ValueError):
        right = False
    if not right:
        wanted = {"change": " of 0 or more", "precision": " above 0"}.get(name, "")
        raise error(f"the guards' {name} is {values}, but must be one number{wanted} or {size} of them; change it.")
    return found


def needs_training(guards: Guards) -> list[str]:
    """The guards among these that go by what training saw."""
    names = ["observation", "belief"] + (["rate"] if guards.change is None else [])
    names += ["factor"] if guards.precision is None else []
    return [name for name in names if getattr(guards, name)]


class Guarding:
    """The guards of one session, which calls `act` and `observe` here in the place of its own.

    The session has `act_unguarded`, `observe_unguarded`, `forget`, `belief`, `snapshot` and `rewind` for them.
    """

    def __init__(
        self, guards: Guards | Mapping[str, Any], about: Mapping[str, Any], error: type[Exception],
        clock: Callable[[], float] = time.monotonic,
    ):  # fmt: skip
        """`about`: agent (its kind), trial (protocol, needs_logs), action_dim, control_period, and what `training` saw,
        as in agent.json. Raises `error`, with a sentence, for guards that there are not, and for what a guard that
        raises has to tell."""
        self.guards, self._error, self._clock = parsed(guards, error), error, clock
        self._size, training = (about["action_dim"],), about.get("training") or {}
        self.counts = {name: 0 for name in NAMES if getattr(self.guards, name)}
        self._check(about, training)
        self._seen, self._believed = self._range(training.get("obs")), self._range(training.get("belief"))
        self._change = self._wide("change", self._number("change", training.get("action_change")))
        self._low, self._high = self._wide("low", self.guards.low), self._wide("high", self.guards.high)
        if not (self._low <= self._high).all():
            raise error("the guards' low is above high; set low below high.")
        self._most_wait = self.guards.late * (self._number("period", about.get("control_period")) or 0.0)
        most = self._number("precision", training.get("factor"))
        self.most_precision = None
        if "factor" in self.counts:
            self.most_precision = _checked("precision", most, about["agent"]["latent_dim"], error)
        # Acting changes what most agents remember by nothing that a second call would not set again.
        agent, policies = about["agent"], [getattr(self.guards, name) for name in NAMES]
        changes = agent["kind"] in ("of JAX", "recurrent") or "detector" in agent or "prior" in policies
        may_raise = "raise" in (self.guards.lateness, self.guards.bounds, self.guards.rate)
        self._may_undo_act = may_raise and changes
        self.begin()

    def _check(self, about: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        """Raises where a guard lacks what it goes by."""
        needed = needs_training(self.guards)
        if needed and not training:
            raise self._error(
                f"guard '{needed[0]}' needs the ranges that training saw, which this agent lacks; export its run anew, "
                "with a protocol that can be played in train tasks, or leave the guard out."
            )
        forgets = [name for name in self.counts if getattr(self.guards, name) == "prior"]
        if forgets and about["trial"]["needs_logs"]:
            raise self._error(
                f"guard '{forgets[0]}' cannot go back to the prior by protocol {about['trial']['protocol']}, which "
                "gives the agent logged transitions before it acts; choose raise or hold."
            )
        if "belief" in self.counts and training.get("belief") is None:
            raise self._error("guard 'belief' is for methods with a belief; leave it out.")
        most = self._number("precision", training.get("factor"))
        agent = about["agent"]
        if "factor" in self.counts and (agent["kind"] != "belief" or "rewards" in agent or most is None):
            raise self._error("guard 'factor' is for exported agents whose belief is made of factors; leave it out.")
        period = self._number("period", about.get("control_period"))
        if "lateness" in self.counts and not (_is_number(period) and period > 0):
            raise self._error("guard 'lateness' needs the seconds between two actions; set the guards' period.")

    def _number(self, name: str, otherwise: Any) -> Any:
        """A number of the guards; another where it was not given."""
        given = getattr(self.guards, name)
        return otherwise if given is None else given

    def _wide(self, name: str, values: Any) -> np.ndarray:
        """A number for each of the action's numbers."""
        (size,) = self._size
        found = np.array(np.inf) if values is None else _checked(name, values, size, self._error)
        return np.broadcast_to(found.astype(np.float32), self._size)

    def _range(self, of: Mapping[str, Any] | None) -> tuple[np.ndarray, np.ndarray] | None:
        if of is None:
            return None
        low, high = np.array(of["low"], np.float32), np.array(of["high"], np.float32)
        more = self.guards.margin * (high - low)
        return low - more, high + more

    def begin(self) -> None:
        """Forgets the last action and when it was; of a new trial, and of one that was restored."""
        self._last = np.clip(np.zeros(self._size, np.float32), self._low, self._high)
        self._is_first = True  # nothing is known of how the action changed
        self._acted_at: float | None = None
        self._instead: np.ndarray | None = None  # what `act` gave in the place of the session's action
        self._is_blind = False  # `act` had no observation to go by: what follows tells nothing
        self._holds_next = False
        self._odd: np.ndarray | None = None  # the observation that was counted last

    def end_episode(self) -> None:
        """Between two episodes nobody waits for an action."""
        self._acted_at = None

    # ------------------------------------------------------------------------------------------------------------------

    def act(self, session: Any, obs: Any) -> np.ndarray:
        """As the session's."""
        before = session.snapshot() if self._may_undo_act else None
        name = self._fault(obs)
        seen = np.asarray(obs, np.float32) if name else None
        is_counted = self._odd is not None and seen is not None and np.array_equal(self._odd, seen, equal_nan=True)
        late = self._wait()
        self._is_blind, self._instead, self._odd = False, None, None
        holds, self._holds_next = self._holds_next, False
        if name:
            what = f"the observation at step {session.num_steps + 1} {_WORDS[name]}"
            policy = self._trip(session, name, what, counts=not is_counted)
            if policy == "hold" or name == "finite":
                self._is_blind = True
                return self._last.copy()
        if late:
            what = f"act came {late:.3g} s after the one before it"
            holds |= self._trip(session, "lateness", what, before=before) == "hold"
        wanted = session.act_unguarded(obs)
        action = self._last if holds else self._allowed(session, obs, wanted, before)
        self._instead = None if action is wanted else action
        self._last, self._is_first = np.array(action, np.float32), False
        return action if action is wanted else action.copy()

    def observe(self, session: Any, next_obs: Any, reward: Any, terminated: bool, action: Any) -> None:
        """As the session's. A transition that trips a guard is not learnt from."""
        if self._is_blind:
            self._is_blind = False
            return
        name = self._fault(next_obs) or ("" if self._is_finite(reward) and self._is_finite(action) else "finite")
        if name and name in self.counts:
            self._odd = np.array(next_obs, np.float32)
            session.drop()
            self._trip(session, name, f"what followed step {session.num_steps + 1} {_WORDS[name]}")
            return
        may_undo = "belief" in self.counts or self.guards.factor not in ("", "clip")
        before = session.snapshot() if may_undo else None
        session.observe_unguarded(next_obs, reward, terminated, self._instead if action is None else action)
        if "factor" in self.counts and session.was_capped and self.guards.factor == "clip":
            self.counts["factor"] += 1
        elif "factor" in self.counts and session.was_capped:
            self._undo(session, "factor", before)
            return
        if "belief" in self.counts and not _within(session.belief[0], self._believed):
            self._undo(session, "belief", before)

    def _undo(self, session: Any, name: str, before: Any) -> None:
        session.rewind(before)
        self._holds_next = self._trip(session, name, f"step {session.num_steps} {_WORDS[name]}") == "hold"

    def _allowed(self, session: Any, obs: Any, wanted: np.ndarray, before: Any) -> np.ndarray:
        """The action, or what the guards of actions put in its place. `before`: the session before it acted."""
        action = wanted
        for name in OF_ACTIONS:
            nearest = self._nearest(name, action)
            if nearest is None or np.array_equal(nearest, action):
                continue
            what = f"the action at step {session.num_steps + 1} {_WORDS[name]}"
            policy = self._trip(session, name, what, before=before)
            if policy == "hold":
                return self._last
            if policy == "prior":
                again = session.act_unguarded(obs)
                nearest = self._nearest(name, again)
            assert nearest is not None
            action = nearest
        return action

    def _nearest(self, name: str, action: np.ndarray) -> np.ndarray | None:
        """The nearest action that the guard allows; None where there is no such guard."""
        if name not in self.counts or (name == "rate" and self._is_first):
            return None
        if name == "bounds":
            return np.clip(action, self._low, self._high)
        low, high = self._last - self._change, self._last + self._change
        return np.where((action < low) | (action > high), np.clip(action, low, high), action)

    def _fault(self, obs: Any) -> str:
        """The guard that an observation trips; '' where it trips none, and where it is no array of the right shape."""
        try:
            values = np.asarray(obs, np.float32)
        except (TypeError, ValueError):
            return ""
        if "finite" in self.counts and not np.isfinite(values).all():
            return "finite"
        if "observation" in self.counts and self._seen is not None and values.shape == self._seen[0].shape:
            return "" if _within(values, self._seen) else "observation"
        return ""

    @staticmethod
    def _is_finite(values: Any) -> bool:
        try:
            return values is None or bool(np.isfinite(np.asarray(values, np.float32)).all())
        except (TypeError, ValueError):
            return True  # no number at all: the session says so

    def _wait(self) -> float:
        """Seconds since the last `act` of the episode where that is too long, else 0."""
        if "lateness" not in self.counts:
            return 0.0
        now = self._clock()
        before, self._acted_at = self._acted_at, now
        return 0.0 if before is None or now - before <= self._most_wait else now - before

    def _trip(self, session: Any, name: str, what: str, *, counts: bool = True, before: Any = None) -> str:
        """Counts, and does what all guards of this policy do; the policy. `before`: what the session goes back to where
        the guard raises; None: it is as it was."""
        policy: str = getattr(self.guards, name)
        self.counts[name] += counts
        if policy == "raise":
            if before is None:
                session.drop()
            else:
                session.rewind(before)
            raise self._error(f"{what} (guard '{name}'); stop the robot, or choose another policy than 'raise'.")
        if policy == "prior":
            session.forget()
        return policy


_WORDS = {
    "finite": "is not finite", "observation": "lies outside of what training saw", "bounds": "is out of bounds",
    "rate": "changes too fast", "factor": "says more of the task than a transition may",
    "belief": "took the belief outside of what training saw",
}  # fmt: skip


def _within(values: Any, limits: tuple[np.ndarray, np.ndarray] | None) -> bool:
    """Whether all numbers lie between these; not so where one is NaN."""
    return limits is None or bool(((values >= limits[0]) & (values <= limits[1])).all())
