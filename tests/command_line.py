"""What tests of the command line share: run one command in this process, and see what it prints."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nacre.cli import main as cli

Capture = pytest.CaptureFixture[str]


def run(*arguments: str) -> int:
    """The exit status of one command line."""
    return cli.main(list(arguments))


def output(capsys: Capture, *arguments: str) -> str:
    """What a command that succeeds prints on stdout."""
    capsys.readouterr()
    assert run(*arguments) == 0
    return capsys.readouterr().out


def json_output(capsys: Capture, *arguments: str) -> dict[str, Any]:
    """The one JSON object on stdout, and nothing else there."""
    printed = output(capsys, *arguments)
    value, end = json.JSONDecoder().raw_decode(printed)
    assert printed[end:] == "\n"
    assert isinstance(value, dict)
    return value


def refusal(capsys: Capture, *arguments: str) -> str:
    """The one line on stderr with which a command stops, exit status 2 and nothing on stdout."""
    capsys.readouterr()
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nacre: ")
    assert err.count("\n") == 1 and err.endswith("\n"), err
    assert "Traceback" not in err
    assert not any(rule in err for rule in ("---", "│", "─", "╭")), f"drawing characters in: {err}"
    return err.removeprefix("nacre: ").removesuffix("\n")
