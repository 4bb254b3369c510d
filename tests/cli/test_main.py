"""The command line from outside: help, and every error as one line with the right exit status."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from threadwire.cli import main as cli
from threadwire.core.schemas import frame_schemas
from threadwire.version import __version__

Project = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def _leave_logging_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "configure_logging", lambda level: None)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("THREADWIRE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def agents(project: Project) -> Project:
    project("my_agents.py", "async def agent(run): ...\n")
    return project


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr; nothing is on stdout."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("threadwire: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("threadwire: ").rstrip("\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"threadwire {__version__}\n"


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "serve" in out
    assert "schema" in out
    assert "chat" in out


def test_help_of_serve_has_examples_and_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--help"]) == 0
    out = capsys.readouterr().out
    assert "threadwire serve my_agent.py:my_agent" in out
    for flag in ("--host", "--port", "--store", "--allow-origin", "--drain-s", "--no-show-errors"):
        assert flag in out


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert capsys.readouterr().out.startswith("usage: threadwire")


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -W error -m threadwire schema | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_schema_prints_the_schemas(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(frame_schemas()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["serve", "--prot", "1"], "unrecognized arguments: --prot"),
        (["serve", "--por", "1"], "unrecognized arguments: --por"),
        (["serve", "--port"], "--port: expected one argument"),
        (["serve", "--port", "x"], "--port: 'x' is no port"),
        (["serve", "my_agents.py"], "'my_agents.py' doesn't say what to serve"),
        (["schema", "--port", "1"], "unrecognized arguments"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert message in said(capsys)


def test_a_wrong_variable_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THREADWIRE_PORT", "x")
    assert cli.main(["serve"]) == 2
    assert said(capsys).startswith("THREADWIRE_PORT: 'x' is no port")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.py:agent"], "nowhere.py:agent: there is no file nowhere.py"),
        (["nowhere:agent"], "nowhere:agent: no module 'nowhere'"),
        (["my_agents.py:agnet"], "did you mean 'agent'?"),
        (["my_agents.py:agent", "my_agents:agent"], "an agent is named 'agent' already"),
        (
            ["my_agents.py:agent", "--store", "redis://u:secret@host"],
            "--store: no store is known for 'redis'",
        ),
        (["my_agents.py:agent", "--store", "sqlite:///."], "the store sqlite:///.: "),
        (["my_agents.py:agent", "--host", "no-such-host.invalid"], "--host: 'no-such-host.invalid'"),
        (["my_agents.py:agent", "--host", "192.0.2.1"], "--host: 192.0.2.1 is no address of this machine"),
    ],
)
def test_a_failed_start_is_one_line_and_status_1(
    agents: Project, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--port", "0", *arguments]) == 1
    line = said(capsys)
    assert message in line
    assert "secret" not in line


def test_a_port_in_use_is_one_line_and_status_1(agents: Project, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert cli.main(["serve", "my_agents.py:agent", "--port", str(port), "--store", "memory:"]) == 1
    assert said(capsys).startswith(f"port {port} on 127.0.0.1 is in use by another program")


def test_the_targets_traceback_is_shown_with_debug_only(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project("broken.py", "raise RuntimeError('several\\nlines')\n")
    assert cli.main(["serve", "broken.py:agent"]) == 1
    assert said(capsys) == (
        f"broken.py:agent: importing it failed: RuntimeError: several lines ({path}, line 1);"
        " --debug shows the traceback"
    )
    assert cli.main(["serve", "broken.py:agent", "--debug"]) == 1
    first, second, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith(f"({path}, line 1)")
    assert second == "Traceback (most recent call last):"
    assert rest[0] == f'  File "{path}", line 1, in <module>'
    assert rest[-1] == "lines"


def test_ctrl_c_during_the_start_is_status_130(project: Project) -> None:
    project("slow.py", "raise KeyboardInterrupt\n")
    assert cli.main(["serve", "slow.py:agent"]) == 130
