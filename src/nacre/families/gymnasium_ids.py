"""Families as environments of Gymnasium, known to it as soon as a program has imported both it and nacre.

Gymnasium is not imported for that: it takes longer to load than all of nacre that short commands need.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nacre.families.family import Family


def environment_id(family: str) -> str:
    """The family's name for gymnasium.make: 'nacre/CheetahVel-v0' for 'cheetah-vel'."""
    return f"nacre/{''.join(word.capitalize() for word in family.split('-'))}-v0"


def register(family: type[Family]) -> None:
    """Makes a family known to Gymnasium, which is imported."""
    import gymnasium

    gymnasium.registry.pop(environment_id(family.name), None)
    gymnasium.register(
        environment_id(family.name), entry_point="nacre.simulation.environment:TaskEnvironment",
        vector_entry_point="nacre.simulation.vector_environment:TaskVectorEnv",
        max_episode_steps=family.horizon, kwargs={"family": family.name},
    )  # fmt: skip


def register_unseen(name: str) -> None:
    """Makes a family known to Gymnasium that nobody has loaded yet: gymnasium.make loads it."""
    import gymnasium

    if environment_id(name) not in gymnasium.registry:
        gymnasium.register(
            environment_id(name), entry_point="nacre.simulation.environment:make_unseen",
            vector_entry_point="nacre.simulation.vector_environment:TaskVectorEnv", kwargs={"family": name},
        )  # fmt: skip


def is_imported() -> bool:
    """Whether Gymnasium is, to its last line."""
    return hasattr(sys.modules.get("gymnasium"), "make_vec")


def once_imported(act: Callable[[], Any]) -> None:
    """Calls `act` when Gymnasium has been imported: now, or at the end of its import."""
    if is_imported():
        act()
    else:
        sys.meta_path.insert(0, _Finder(act))


class _Finder:
    """Finds Gymnasium where it would be found without, and acts when it has been executed."""

    def __init__(self, act: Callable[[], Any]):
        self._act, self._is_asking = act, False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "gymnasium" or self._is_asking:
            return None
        self._is_asking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._is_asking = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_act(module: ModuleType) -> None:
                execute(module)
                if self in sys.meta_path:  # who only looked for it, rather than imported it, has a spec as well
                    sys.meta_path.remove(self)
                    self._act()

            spec.loader.exec_module = execute_and_act  # type: ignore[method-assign]
        return spec
