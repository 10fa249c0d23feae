"""Every algorithm by name: nacre's, those of installed packages, and those that people register."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any

from nacre.algorithms.protocol import Algorithm, adapts_by_gradient
from nacre.errors import NacreError, unknown
from nacre.families import plugins
from nacre.presets import macaw, maesn, maml, multitask, offline_context, oracle, pearl_presets, random_policy, rl2
from nacre.presets.offline import OfflineSettings
from nacre.presets.pearl import PearlSettings
from nacre.presets.settings import MethodSettings, Presets, check_row

ENTRY_POINTS = "nacre.algorithms"
"""Group of entry points: `name = "module:object"`, the object an `Algorithm`."""


def _late(module: str, function: str) -> Callable[..., Any]:
    """A function of a module of `nacre.algorithms`, which is imported, and JAX with it, at the first call."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(f"nacre.algorithms.{module}"), function)(*args, **kwargs)

    return call


def _built_in(module: str, presets: Presets, settings: type[MethodSettings], **parts: Any) -> Algorithm:
    """A module of `nacre.algorithms`, with its settings and presets."""
    names = ("init", "meta_train", "make_agent", "agent_params", "transfer")
    functions: dict[str, Any] = {name: _late(module, name) for name in names}
    return Algorithm(settings=settings, presets=presets, **(functions | parts))


def _adapting(module: str) -> dict[str, Any]:
    """How a method that adapts by gradient steps is exported: not, or frozen."""
    return {"export": adapts_by_gradient, "frozen": _late(module, "frozen")}


_BUILT_IN = {
    "pearl": _built_in(
        "pearl", pearl_presets.PRESETS, PearlSettings, belief=_late("pearl", "belief"),
        compile=_late("pearl", "compile_update"), hypotheses=_late("pearl", "hypotheses"),
        exploring_params=_late("pearl", "exploring_params"), export=_late("pearl", "export"),
        critics=attrgetter("networks"), several_devices=True,
    ),
    "rl2": _built_in("rl2", rl2.PRESETS, rl2.Rl2Settings, export=_late("rl2", "export")),
    "maml-trpo": _built_in("maml", maml.PRESETS, maml.MamlTrpoSettings, **_adapting("maml")),
    "promp": _built_in("maml", maml.PRESETS, maml.PrompSettings, **_adapting("maml")),
    "maesn": _built_in(
        "maesn", maesn.PRESETS, maesn.MaesnSettings, belief=_late("maesn", "belief"), believes_at_end=True,
        export=_late("maesn", "export"),
    ),
    "macaw": _built_in(
        "macaw", macaw.PRESETS, macaw.MacawSettings, offline=True, fine_tuning=_late("macaw", "make_fine_tuning"),
        **_adapting("macaw"),
    ),
    "bc": _built_in(
        "bc", multitask.PRESETS["bc"], multitask.BcSettings, offline=True,
        export=_late("bc", "export"), frozen=_late("bc", "frozen"),
    ),
    "multitask-awr": _built_in(
        "multitask", multitask.PRESETS["multitask-awr"], multitask.MultitaskSettings, offline=True,
        fine_tuning=_late("multitask", "make_fine_tuning"), **_adapting("multitask"),
    ),
    "oracle": _built_in(
        "oracle", oracle.PRESETS, oracle.OracleSettings, needs_task=True, several_devices=True,
        export=_late("oracle", "export"),
    ),
    "offline-pearl": _built_in(
        "offline_context", offline_context.PRESETS, offline_context.OfflinePearlSettings, offline=True,
        belief=_late("offline_context", "belief"), export=_late("offline_context", "export"),
    ),
    "focal": _built_in(
        "offline_context", offline_context.PRESETS, offline_context.FocalSettings, offline=True,
        belief=_late("offline_context", "belief"), export=_late("offline_context", "export"),
    ),
    "random": _built_in("random_policy", random_policy.PRESETS, random_policy.RandomSettings, transfer=None),
}  # fmt: skip
_registered: dict[str, Algorithm] = {}
_registered_by: dict[str, str] = {}  # name -> the module that registered it


class _Algorithms(Mapping[str, Algorithm]):
    """name -> algorithm. What an installed package offers is loaded when it is asked for."""

    def __getitem__(self, name: str) -> Algorithm:
        if name in _registered:
            return _registered[name]
        if name in _BUILT_IN:
            return _BUILT_IN[name]
        offered = plugins.load_entry_point(ENTRY_POINTS, name)
        if offered is None:
            raise KeyError(name)
        _check(name, offered)
        _registered[name] = offered
        return _registered[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*_BUILT_IN, *_registered, *plugins.entry_points(ENTRY_POINTS)]))

    def __len__(self) -> int:
        return len(list(iter(self)))


ALGORITHMS: Mapping[str, Algorithm] = _Algorithms()


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of that name; NacreError, with the nearest name, where there is none."""
    try:
        return ALGORITHMS[name]
    except KeyError:
        raise unknown("algorithm", name, ALGORITHMS) from None


def register_algorithm(name: str, algorithm: Algorithm) -> None:
    """Makes an algorithm known by `name`, to the command line (with --plugin MODULE) and to Python.

    The module that calls this is remembered in config.json, so that runs find their algorithm again. Registering a
    name again replaces what it stood for, unless it is one of nacre's. Raises NacreError for a name or an algorithm
    that cannot work.
    """
    if name in _BUILT_IN:
        raise NacreError(f"'{name}' is one of nacre's algorithms; register yours under another name.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,59}", name):
        raise NacreError(f"an algorithm cannot be named {name[:60]!r}; use small letters, digits and hyphens.")
    _check(name, algorithm)
    _registered[name] = algorithm
    _registered_by[name] = plugins.caller_module()


def loaded() -> dict[str, Algorithm]:
    """All algorithms by name, but for those of installed packages that nobody has asked for yet."""
    return _BUILT_IN | _registered


def load_offered() -> None:
    """Loads the algorithms of installed packages, but for those that cannot be."""
    plugins.load_all(ENTRY_POINTS, find_algorithm)


def registered_by(name: str) -> str:
    """The module that registered an algorithm; '' for those that are found without."""
    return _registered_by.get(name, "")


def _check(name: str, algorithm: Algorithm) -> None:
    """Raises NacreError where an algorithm does not keep the contract, as far as can be told without running it."""
    if not isinstance(algorithm, Algorithm):
        raise NacreError(f"the algorithm '{name}' is a {type(algorithm).__name__}, but must be a nacre.Algorithm.")
    settings: Any = algorithm.settings
    if not (isinstance(settings, type) and issubclass(settings, MethodSettings) and settings is not MethodSettings):
        raise NacreError(f"the settings of '{name}' must be a frozen dataclass derived from nacre.MethodSettings.")
    if algorithm.offline and not issubclass(settings, OfflineSettings):
        raise NacreError(f"'{name}' is offline, so its settings must be derived from presets.offline.OfflineSettings.")
    for preset, rows in algorithm.presets.items():
        for family, row in rows.items():
            if not callable(row):  # a rule's is checked when it is asked for a family
                check_row(name, preset, family, row, settings)
