"""`nacre check`: a family held to its contract."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from nacre.cli.names import names_in
from nacre.cli.parsing import Positional, parse
from nacre.errors import NacreError
from nacre.families.catalog import find_family


@dataclass(frozen=True)
class Command:
    """Check a family against the contract of docs/add-a-family.md, rule by rule. Its options are flags."""

    family: Positional[str]
    """The task family, as in 'nacre list'. For your own family, add --plugin MODULE."""
    json: bool = False
    """Prints one JSON object instead of lines."""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre check ARGS`."""
    names = names_in(args, [Command], algorithm=False)
    if not names:
        if {"--help", "-h"} & set(args):
            parse(Command, ["--help"], "nacre check")
        raise NacreError("name a family, as in 'nacre check point-robot'; see 'nacre list'.")
    family = find_family(names[0])()
    arguments = dataclasses.make_dataclass(
        "CheckArguments", [("options", type(family), dataclasses.field(default=family))], bases=(Command,), frozen=True
    )
    arguments.__doc__ = Command.__doc__
    chosen: Any = parse(arguments, args, "nacre check")
    from nacre.simulation.check import check_family

    report = check_family(chosen.options)
    if chosen.json:
        lines = [line._asdict() for line in report.lines]
        print(json.dumps({"family": report.family, "ok": report.ok, "lines": lines}))
    else:
        for number, line in enumerate(report.lines, start=1):
            told = line.fault or ("ok" if line.checked else "not checked, because of what is wrong above or below")
            print(f"{number:2} {line.line:<15} {told}")
    if not report.ok:
        broken = ", ".join(line.line for line in report.faults)
        raise NacreError(f"{report.family} breaks its contract ({broken}); see docs/add-a-family.md.")
