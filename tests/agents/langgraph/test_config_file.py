"""What `langgraph.json` says, and the one line where it is wrong."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from threadwire_agents.langgraph import config_file
from threadwire_agents.langgraph.config_file import ConfigFile, find

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file of a working directory: `write("langgraph.json", {...})`."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, content: Any = "") -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def read(write: Write, **fields: object) -> ConfigFile:
    found = find(write("langgraph.json", {"graphs": {"agent": "agent.py:graph"}} | fields))
    assert found is not None
    return found


def wrong(write: Write, content: object) -> str:
    """What is said of a file's content; its name is not repeated."""
    with pytest.raises(ValueError, match=r"^langgraph\.json: ") as error:
        find(write("langgraph.json", content))
    said = str(error.value).removeprefix("langgraph.json: ")
    assert "\n" not in said
    return said


def test_a_file_a_directory_and_another_name_are_found(write: Write) -> None:
    content = {"graphs": {"agent": "./agent.py:graph"}}
    write("langgraph.json", content)
    write("other/langgraph.json", content)
    write("other.json", content)
    for path, file, target in (
        (".", "langgraph.json", "agent.py:graph"),
        ("langgraph.json", "langgraph.json", "agent.py:graph"),
        ("other", "other/langgraph.json", "other/agent.py:graph"),
        ("other.json", "other.json", "agent.py:graph"),
    ):
        found = find(Path(path))
        assert found is not None
        assert (found.file, dict(found.targets)) == (Path(file), {"agent": target})


def test_what_is_no_project_is_left_alone(write: Write) -> None:
    write("empty/nothing.txt")
    for path in ("empty", "empty/nothing.txt", "nowhere", "nowhere.json"):
        assert find(Path(path)) is None


def test_graphs_are_in_files_and_modules(write: Write) -> None:
    graphs = {
        "a": "./src/agent.py:graph",
        "b": "agent.py:make",
        "c": "my_package.agent:graph",
        "d": {"path": "../other/agent.py:graph", "description": "another"},
        "e": {"path": "my_package:graph", "description": None},
        "f": "/somewhere/agent.py:graph",
    }
    assert dict(read(write, graphs=graphs).targets) == {
        "a": "src/agent.py:graph",
        "b": "agent.py:make",
        "c": "my_package.agent:graph",
        "d": "../other/agent.py:graph",
        "e": "my_package:graph",
        "f": "/somewhere/agent.py:graph",
    }


@pytest.mark.parametrize(
    ("graphs", "said"),
    [
        (None, "'graphs' must be an object that names at least one graph"),
        ({}, "'graphs' must be an object that names at least one graph"),
        (["agent.py:graph"], "'graphs' must be an object that names at least one graph"),
        ({"a": 1}, "'graphs.a' must be a string such as './agent.py:graph'"),
        ({"a": {"description": "x"}}, "'graphs.a' must be a string such as './agent.py:graph'"),
        ({"a": {"path": "x.py:y", "descripton": ""}}, "'graphs.a' has an unknown key 'descripton'"),
        ({"a": {"path": "x.py:y", "description": 1}}, "'graphs.a': 'description' must be a string"),
        ({"a": "agent.py"}, "'graphs.a': 'agent.py' doesn't say what to serve; write FILE.py:NAME"),
        ({"a": ":graph"}, "'graphs.a': ':graph' doesn't say what to serve"),
        ({"a": "./agent:graph"}, "'graphs.a': './agent:graph' names no .py file"),
        ({"a": "./agent.ts:graph"}, "'graphs.a': './agent.ts:graph' is not Python"),
        ({"a": "./agent.mjs"}, "'graphs.a': './agent.mjs' is not Python"),
    ],
)
def test_a_graph_that_cannot_be_read_is_named(write: Write, graphs: object, said: str) -> None:
    assert wrong(write, {"graphs": graphs}).startswith(said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "line 1, column 1: Expecting value"),
        ('{\n  "graphs": {\n    "a": "b"\n  },\n}', "line 5, column 1: "),
        ('{"graphs": }', "line 1, column 12: Expecting value"),
        ("[]", "expected an object"),
        (b"\xff\xfe", "not UTF-8"),
        ("[" * 100_000, "too deeply nested"),
        ('{"graphs": {"a": "x.py:y", "a": "z.py:y"}}', "the key 'a' is there twice"),
    ],
)
def test_a_file_that_cannot_be_read_is_said(write: Write, content: object, said: str) -> None:
    assert wrong(write, content).startswith(said)


def test_a_byte_order_mark_is_no_content(write: Write) -> None:
    found = find(write("langgraph.json", b'\xef\xbb\xbf{"graphs": {"a": "x.py:y"}}'))
    assert found is not None
    assert dict(found.targets) == {"a": "x.py:y"}


# keys


def test_what_builds_images_is_passed_over(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "threadwire"):
        read(
            write,
            **{"$schema": "https://example.com/schema.json"},
            python_version="3.12",
            dockerfile_lines=["RUN true"],
            image_distro="wolfi",
            node_version=None,
        )
    (record,) = caplog.records
    assert record.getMessage() == (
        "langgraph.json: python_version, dockerfile_lines, image_distro: of no meaning here"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"auth": None, "store": None, "checkpointer": None},
        {"http": {}, "store": {"index": None}, "checkpointer": {}},
        {"http": {"disable_mcp": True, "disable_a2a": True, "app": None}},
    ],
)
def test_keys_that_say_nothing_are_accepted(write: Write, fields: dict[str, Any]) -> None:
    assert read(write, **fields).targets


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"auth": {"path": "./auth.py:auth"}}, "'auth.path' is not supported"),
        ({"encryption": {"path": "./e.py:e"}}, "'encryption.path' is not supported"),
        ({"http": {"app": "./app.py:app"}}, "'http.app' is not supported"),
        (
            {"http": {"disable_mcp": True, "cors": {"allow_origins": ["*"]}}},
            "'http.cors' is not supported; --allow-origin names the pages that may connect",
        ),
        (
            {"store": {"index": {"embed": "x", "dims": 3}}},
            "'store.index' is not supported; a graph may be compiled with a store of its own",
        ),
        (
            {"checkpointer": {"path": "./c.py:c"}},
            "'checkpointer.path' is not supported; the server keeps checkpoints itself",
        ),
        ({"webhooks": {"headers": {}}}, "'webhooks.headers' is not supported"),
        ({"ui": {"agent": "./ui.tsx"}}, "'ui.agent' is not supported"),
        ({"auth": "./auth.py:auth"}, "'auth' is not supported"),
        ({"graph": {}}, "there is no key 'graph'; did you mean 'graphs'?"),
        ({"dependancies": ["."]}, "there is no key 'dependancies'; did you mean 'dependencies'?"),
        ({"zzz": 1}, "there is no key 'zzz'"),
    ],
)
def test_keys_that_would_change_something_are_refused(
    write: Write, fields: dict[str, Any], said: str
) -> None:
    assert wrong(write, {"graphs": {"agent": "agent.py:graph"}} | fields) == said


def test_every_key_has_one_meaning() -> None:
    tables = (config_file._READ, config_file._PASSED_OVER, set(config_file._REFUSED))
    assert sum(len(table) for table in tables) == len(set().union(*tables))


# dependencies


def test_local_dependencies_are_imported_from_first(write: Write, tmp_path: Path) -> None:
    write("flat/module.py")
    write("packed/pyproject.toml")
    write("packed/src/packed/__init__.py")
    write("inner/package/__init__.py")
    paths = read(write, dependencies=["./flat", "./packed", "./inner/package", "."]).paths
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "flat",
        "packed/src",
        "packed",
        "inner",
        "inner/package",
        ".",
    ]


def test_the_files_own_directory_is_imported_from(write: Write, tmp_path: Path) -> None:
    assert read(write).paths == (tmp_path,)
    write("src/package/__init__.py")
    assert read(write).paths == (tmp_path / "src", tmp_path)


def test_dependencies_that_are_installed_are_accepted(write: Write) -> None:
    dependencies = [
        "pytest",
        "PyTest>=8",
        "langchain_core[extra]",
        "langchain.core ~= 1.0",
        "pytest @ git+https://example.com/pytest.git",
        "git+https://example.com/something.git",
        "https://example.com/something-1.0-py3-none-any.whl",
        "no-such-package; python_version < '3'",
    ]
    assert read(write, dependencies=dependencies).targets


@pytest.mark.parametrize(
    ("dependencies", "said"),
    [
        (["pytest", "no-such-package>=1"], "'dependencies': no-such-package>=1 is not installed"),
        (["no-such-a", "no_such_b[c]"], "'dependencies': no-such-a, no_such_b[c] are not installed"),
        (["./nowhere"], "'dependencies': './nowhere' is no directory"),
        (["./langgraph.json"], "'dependencies': './langgraph.json' is no directory"),
        (".", "'dependencies' must be a list of strings"),
        ([1], "'dependencies' must be a list of strings"),
    ],
)
def test_dependencies_that_are_missing_are_named(write: Write, dependencies: object, said: str) -> None:
    assert wrong(write, {"graphs": {"a": "x.py:y"}, "dependencies": dependencies}) == said


# environment


def test_the_environment_is_in_the_file_or_in_another(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME_OF_ALL", "/home")
    assert read(write).environment == {}
    assert read(write, env={"A": "1", "B": ""}).environment == {"A": "1", "B": ""}
    write("conf/.env", "A=1\nexport B='2'\nC=${HOME_OF_ALL}/c\n")
    assert read(write, env="./conf/.env").environment == {"A": "1", "B": "2", "C": "/home/c"}


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ("./nowhere.env", "'env': there is no file nowhere.env"),
        ("./wrong.env", "'env': wrong.env: line 2: expected KEY=VALUE"),
        ("./binary.env", "'env': binary.env: not UTF-8"),
        (".", "'env': there is no file ."),
        (["A"], "'env' must be an object of strings, or the path of a file"),
        ({"A": 1}, "'env.A' must be a string"),
        ({"": "x"}, "'env': '' can't be a variable"),
        ({"A=B": "x"}, "'env': 'A=B' can't be a variable"),
        ({"A": "x\0"}, "'env': 'A' can't be a variable"),
    ],
)
def test_an_environment_that_cannot_be_read_is_said(write: Write, env: object, said: str) -> None:
    write("wrong.env", "A=1\nsecret\n")
    write("binary.env", b"A=\xff\n")
    assert wrong(write, {"graphs": {"a": "x.py:y"}, "env": env}) == said


def test_reading_changes_nothing(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import sys

    before = dict(os.environ), list(sys.path)
    read(write, env={"A_KEY_OF_NOBODY": "1"}, dependencies=["."])
    assert (dict(os.environ), sys.path) == before
