"""Fields of settings and of families: which types they may have, and values from a command line, Python or JSON."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nacre.errors import NacreError, unknown

if TYPE_CHECKING:
    from nacre.families.family import Family

_field_types: dict[type[Any], Mapping[str, Any]] = {}  # of those asked for: every field's type is written as a string


def field_types(config: type[Any]) -> Mapping[str, Any]:
    """The fields of a configuration dataclass and their types."""
    if config not in _field_types:
        hints = typing.get_type_hints(config)
        _field_types[config] = {field.name: hints[field.name] for field in dataclasses.fields(config)}
    return _field_types[config]


def is_option_type(kind: Any) -> bool:
    """Whether a field of this type can be given on a command line, in Python and in config.json."""
    if typing.get_origin(kind) is tuple:
        parts = [part for part in typing.get_args(kind) if part is not ...]
        return bool(parts) and all(is_option_type(part) for part in parts)
    return kind in (bool, int, float, str) or typing.get_origin(kind) is typing.Literal


def check_option_types(family: type[Family]) -> None:
    """Raises NacreError where an option of a family has a type that cannot be written on a command line."""
    for name, kind in field_types(family).items():
        if not is_option_type(kind):
            raise NacreError(
                f"the option '{name}' of {family.name} is of type {getattr(kind, '__name__', kind)}, which cannot be "
                "written on a command line; use int, float, bool, str, a Literal, or a tuple of these such as "
                "tuple[float, float], or declare a constant with ClassVar."
            )


def checked_option(name: str, value: Any, kind: Any) -> Any:
    """`value` as the field's type, or a NacreError. A tuple may be a list, as JSON has it, or an array."""
    value = value.item() if isinstance(value, np.generic) else value
    if typing.get_origin(kind) is tuple:
        return _tuple_of(name, value, typing.get_args(kind))
    if typing.get_origin(kind) is typing.Literal:
        choices = typing.get_args(kind)
        if any(value == choice and type(value) is type(choice) for choice in choices):
            return value
        if isinstance(choices[0], str):
            raise unknown(name, str(value), choices)
        among = " or ".join(str(choice) for choice in choices)
        raise NacreError(f"{name} is {value!r}, but must be {among}; change --{name.replace('_', '-')}.")
    right = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value, right = float(value), True
    if not right or (kind is float and not math.isfinite(value)):
        what = {int: "a whole number", float: "a finite number", bool: "True or False"}.get(kind, kind.__name__)
        raise NacreError(f"{name} is {value!r}, but must be {what}; change --{name.replace('_', '-')}.")
    return value


def _tuple_of(name: str, value: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    """A tuple, from a list or an array too, as config.json has one."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(value, list | tuple) or (kinds[-1] is not ... and len(value) != len(kinds)):
        number = "some" if kinds[-1] is ... else str(len(kinds))
        raise NacreError(f"{name} is {value!r}, but must be {number} values; change --{name.replace('_', '-')}.")
    kinds = kinds[:1] * len(value) if kinds[-1] is ... else kinds
    return tuple(checked_option(name, part, kind) for part, kind in zip(value, kinds, strict=True))


def checked_options(family: type[Family], options: Mapping[str, Any]) -> dict[str, Any]:
    """The family's options as its fields' types; what is no field of it, or of a type of its own, as it is."""
    kinds = {name: kind for name, kind in field_types(family).items() if is_option_type(kind)} if options else {}
    return {
        name: checked_option(name, value, kinds[name]) if name in kinds else value for name, value in options.items()
    }
