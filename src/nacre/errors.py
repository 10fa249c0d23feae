"""What nacre tells a person who asked for something that cannot be done."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable
from typing import Any

MAX_LISTED = 30
"""Names that an error lists at most."""


class NacreError(Exception):
    """One sentence that says what is wrong and what to do; the command line prints it and exits with `status`."""

    status = 2


class FailedError(NacreError):
    """What was asked for is possible, but the process that did it came to a bad end; exit status 1."""

    status = 1


class DivergedError(NacreError):
    """An agent's actions are not finite: its networks diverged, in training or in adaptation."""


def imported(module: str, otherwise: str) -> Any:
    """A module that not every installation has. Where it is missing, NacreError with the sentence `otherwise`."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NacreError(otherwise) from error


def unknown(kind: str, name: str, known: Iterable[str], otherwise: str = "") -> NacreError:
    """The error for a name that is not in a table, with the nearest name that is.

    Where no name is near, `otherwise` says what to do, else all names are listed.
    """
    known = sorted(known)
    near = other_word(name, known) or _nearest(name, known)
    if near:
        hint = f"did you mean '{near}'?"
    else:
        hint = otherwise or f"choose one of: {', '.join(known[:MAX_LISTED])}{', ...' * (len(known) > MAX_LISTED)}."
    return NacreError(f"unknown {kind} '{shown(name)}'; {hint}")


def other_word(name: str, known: Iterable[str]) -> str | None:
    """The known name of what other programs call so, be it a flag (--lr) or a field (lr)."""
    words = {found.lstrip("-").replace("-", "_"): found for found in known}
    meant = OTHER_WORDS.get(name.lstrip("-").replace("-", "_").lower(), ())
    return next((words[word] for word in meant if word in words), None)


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is spelled most alike, else the only one that begins so; dashes in front do not count."""
    words, asked = {found.lstrip("-"): found for found in known}, name.lstrip("-")[:100]
    near = difflib.get_close_matches(asked, words, n=1, cutoff=0.55)
    if not near and len(asked) > 1:
        begun = [word for word in words if word.startswith(asked)]
        near = begun if len(begun) == 1 else []
    return words[near[0]] if near else None


def shown(text: object, most: int = 60) -> str:
    """`text` for a message: what a terminal would obey is escaped, and the middle of what is long is left out."""
    whole = str(text)
    short = whole if len(whole) <= most else f"{whole[: most - 23]}...{whole[-20:]}"
    return escaped(short)


def escaped(text: str) -> str:
    r"""`text` with newlines and control characters written as \n, \x1b and so on."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def on_a_line(message: str) -> str:
    """A message as one line for a terminal: escaped, long words and what exceeds 2,000 characters shortened."""
    return shown(re.sub(r"\S{301,}", lambda word: shown(word[0], 300), message), 2000)


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python or the device ran out of memory; JAX has no type of its own for it."""
    told = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")
    of_jax = type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError")
    return isinstance(error, MemoryError) or (of_jax and any(words in str(error) for words in told))


OTHER_WORDS: dict[str, tuple[str, ...]] = {
    "lr": ("learning_rate",),
    "actor_lr": ("learning_rate",),
    "critic_lr": ("learning_rate",),
    "qf_lr": ("learning_rate",),
    "policy_lr": ("learning_rate",),
    "step_size": ("learning_rate",),
    "inner_lr": ("inner_learning_rate",),
    "fast_lr": ("inner_learning_rate",),
    "gamma": ("discount",),
    "tau": ("soft_target_tau",),
    "polyak": ("soft_target_tau",),
    "lambda": ("gae_lambda", "kl_weight"),
    "lam": ("gae_lambda",),
    "kl_lambda": ("kl_weight",),
    "beta": ("kl_weight",),
    "kl_coef": ("kl_weight",),
    "alpha": ("automatic_temperature",),
    "temperature": ("automatic_temperature",),
    "autotune": ("automatic_temperature",),
    "clip": ("clip_ratio",),
    "clip_range": ("clip_ratio",),
    "clip_eps": ("clip_ratio",),
    "delta": ("max_kl",),
    "target_kl": ("max_kl", "inner_kl_target"),
    "epochs": ("num_epochs", "iterations"),
    "num_iterations": ("iterations",),
    "n_iter": ("iterations",),
    "itr": ("iterations",),
    "steps": ("iterations", "episodes"),
    "num_steps": ("iterations",),
    "max_steps": ("iterations",),
    "timesteps": ("iterations",),
    "total_timesteps": ("iterations",),
    "total_steps": ("iterations",),
    "n_episodes": ("episodes", "num_evaluation_episodes"),
    "num_episodes": ("episodes", "num_evaluation_episodes"),
    "episodes": ("num_evaluation_episodes",),
    "trials": ("repeats", "num_evaluation_repeats"),
    "num_trials": ("repeats", "num_evaluation_repeats"),
    "repeats": ("num_evaluation_repeats",),
    "num_tasks": ("num_train_tasks", "tasks"),
    "n_tasks": ("num_train_tasks", "tasks"),
    "batch": ("batch_size", "tasks_per_iteration"),
    "minibatch_size": ("batch_size",),
    "meta_batch_size": ("meta_batch", "tasks_per_iteration"),
    "buffer_size": ("replay_capacity",),
    "replay_size": ("replay_capacity",),
    "hidden_size": ("hidden_dim",),
    "net_size": ("hidden_dim",),
    "width": ("hidden_dim",),
    "num_layers": ("num_hidden_layers",),
    "depth": ("num_hidden_layers",),
    "latent_size": ("latent_dim",),
    "z_dim": ("latent_dim",),
    "dtype": ("precision",),
    "random_seed": ("seed",),
    "num_seeds": ("seeds",),
    "num_workers": ("jobs",),
    "workers": ("jobs",),
    "num_jobs": ("jobs",),
    "config": ("preset",),
    "profile": ("preset",),
    "output": ("out",),
    "output_dir": ("out",),
    "out_dir": ("out",),
    "log_dir": ("out",),
    "logdir": ("out",),
    "save_dir": ("out",),
    "dir": ("out",),
    "save_freq": ("checkpoint_minutes",),
    "checkpoint_interval": ("checkpoint_minutes",),
    "eval_freq": ("evaluation_interval", "train_evaluation_interval"),
    "eval_interval": ("evaluation_interval", "train_evaluation_interval"),
    "timeout": ("time_limit",),
    "max_time": ("time_limit",),
    "env": ("family",),
    "env_id": ("family",),
    "env_name": ("family",),
    "algo": ("algorithm",),
    "agent": ("algorithm",),
    "num_envs": ("lanes",),
    "n_envs": ("lanes",),
    "ood": ("allow_ood",),
    "gif": ("video",),
}
"""What other programs call a setting -> nacre's names for it, the first that is known being meant."""
