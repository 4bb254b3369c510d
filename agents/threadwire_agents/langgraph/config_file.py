"""`langgraph.json`: which graphs a directory has, where they import from, and their environment.

It is read and checked here; the command line imports the graphs. What the file says about building
images or about LangGraph's own platform means nothing here and is passed over; what would change how
graphs run and isn't supported is refused, so that nobody believes it is in force.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

from .env_file import parse_env
from .hosting import host_entry

logger = logging.getLogger("threadwire")

NAME: Final = "langgraph.json"

_PASSED_OVER: Final = frozenset(
    {
        "$schema",
        "_INTERNAL_docker_tag",
        "api_version",
        "base_image",
        "dockerfile_lines",
        "image_distro",
        "keep_pkg_tools",
        "node_version",
        "pip_config_file",
        "pip_installer",
        "python_version",
        "source",
    }
)
_REFUSED: Final = {
    "auth": "",
    "checkpointer": "the server keeps checkpoints itself",
    "encryption": "",
    "http": "",
    "http.cors": "--allow-origin names the pages that may connect",
    "store": "a graph may be compiled with a store of its own",
    "ui": "",
    "ui_config": "",
    "webhooks": "",
}
"""By key (of `http` also the key in it), what to do instead."""
_READ: Final = frozenset({"dependencies", "env", "graphs"})

_OTHER_LANGUAGES: Final = (".ts", ".mts", ".cts", ".tsx", ".js", ".mjs", ".cjs", ".jsx")
_DISTRIBUTION: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_LOCAL: Final = re.compile(r"\.|[/\\]|[A-Za-z]:[/\\]")


@dataclass(frozen=True)
class ConfigFile:
    """What a `langgraph.json` says, in the terms of the command line's projects.

    Attributes:
        file: the file itself.
        targets: by graph id, `FILE.py:ATTRIBUTE` or `MODULE:ATTRIBUTE`; files are found from here.
        paths: directories to import from.
        environment: variables to set.
    """

    file: Path
    targets: Mapping[str, str]
    paths: tuple[Path, ...]
    environment: Mapping[str, str]

    host = staticmethod(host_entry)
    expected = (
        "a graph, a StateGraph, a LangChain runnable, or a function of a config, a runtime, both or nothing "
        "that returns one"
    )


def find(path: Path) -> ConfigFile | None:
    """The entry point of `threadwire.projects`: a .json file, or a directory with a `langgraph.json`.

    Raises:
        ValueError: one line that says what is wrong and where.
    """
    file = path / NAME if path.is_dir() else path
    if not file.is_file() or file.suffix != ".json":
        return None
    try:
        return _read(file)
    except _WrongError as error:
        raise ValueError(f"{file}: {error}") from None


class _WrongError(Exception):
    """What is wrong with a file, without its name."""


def _read(file: Path) -> ConfigFile:
    config = _load(file)
    passed_over = []
    for key, value in config.items():
        if value is None or key in _READ:
            continue
        if key in _PASSED_OVER:
            if key != "$schema":
                passed_over.append(key)
        elif key in _REFUSED:
            _refuse(key, value)
        else:
            close = difflib.get_close_matches(key, _READ | _PASSED_OVER | set(_REFUSED), n=1, cutoff=0.7)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise _WrongError(f"there is no key {key!r}{hint}")
    read = ConfigFile(
        file=file,
        targets=_graphs(config.get("graphs"), file.parent),
        paths=_paths(config.get("dependencies"), file.parent),
        environment=_environment(config.get("env"), file.parent),
    )
    if passed_over:
        logger.debug("%s: %s: of no meaning here", file, ", ".join(passed_over))
    return read


def _load(file: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            raise _WrongError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
        return found

    try:
        config = json.loads(_text(file), object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise _WrongError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise _WrongError("too deeply nested") from None
    if not isinstance(config, dict):
        raise _WrongError("expected an object")
    return config


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _WrongError("not UTF-8") from None
    except OSError as error:
        raise _WrongError(error.strerror or str(error)) from None


def _refuse(key: str, value: object) -> None:
    """Raises where a key says something that isn't done here."""
    if isinstance(value, dict):
        # The routes that can be switched off are those of LangGraph's own server.
        said = [inner for inner in value if value[inner] is not None and not inner.startswith("disable_")]
        if not said:
            return
        inner = f"{key}.{said[0]}"
        hint = _REFUSED.get(inner, _REFUSED[key])
        key = inner
    else:
        hint = _REFUSED[key]
    raise _WrongError(f"{key!r} is not supported" + (f"; {hint}" if hint else ""))


# graphs


def _graphs(graphs: object, directory: Path) -> dict[str, str]:
    if not isinstance(graphs, dict) or not graphs:
        raise _WrongError("'graphs' must be an object that names at least one graph")
    return {name: _graph(f"'graphs.{name}'", graph, directory) for name, graph in graphs.items()}


def _graph(key: str, graph: object, directory: Path) -> str:
    if isinstance(graph, dict):
        unknown = set(graph) - {"path", "description"}
        if unknown:
            raise _WrongError(
                f"{key} has an unknown key {min(unknown)!r}; there are 'path' and 'description'"
            )
        if not isinstance(graph.get("description"), str | None):
            raise _WrongError(f"{key}: 'description' must be a string")
        graph = graph.get("path")
    if not isinstance(graph, str):
        raise _WrongError(
            f"{key} must be a string such as './agent.py:graph', or an object with such a 'path'"
        )
    source, _, attribute = graph.rpartition(":")
    if source.endswith(_OTHER_LANGUAGES) or attribute.endswith(_OTHER_LANGUAGES):
        raise _WrongError(f"{key}: {graph!r} is not Python; only graphs in Python can be served")
    if not source or not attribute:
        raise _WrongError(f"{key}: {graph!r} doesn't say what to serve; write FILE.py:NAME or MODULE:NAME")
    if "/" in source or source.endswith(".py"):
        source = str(directory / source)
        if not source.endswith(".py"):
            raise _WrongError(f"{key}: {graph!r} names no .py file")
    return f"{source}:{attribute}"


# dependencies


def _paths(dependencies: object, directory: Path) -> tuple[Path, ...]:
    """The directories to import from: those of local dependencies, and the file's own."""
    if dependencies is None:
        dependencies = []
    if not isinstance(dependencies, list) or not all(isinstance(one, str) for one in dependencies):
        raise _WrongError("'dependencies' must be a list of strings")
    local = [one for one in dependencies if _LOCAL.match(one)]
    missing = [one for one in dependencies if one not in local and not _is_installed(one)]
    if missing:
        raise _WrongError(
            f"'dependencies': {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
        )
    paths: dict[Path, None] = {}
    for one in (*local, "."):
        root = (directory / one).resolve()
        if not root.is_dir():
            raise _WrongError(f"'dependencies': {one!r} is no directory")
        if (root / "__init__.py").is_file():
            paths[root.parent] = None  # a package itself
        elif (root / "src").is_dir() and not (root / "src" / "__init__.py").is_file():
            paths[root / "src"] = None
        paths[root] = None
    return tuple(paths)


def _is_installed(dependency: str) -> bool:
    """Whether a requirement's distribution is there, in whatever version; True where it has no name."""
    name = _DISTRIBUTION.match(dependency.strip())
    rest = dependency.strip()[name.end() :].lstrip() if name else ""
    if name is None or rest[:1] in (":", "+", "/") or ";" in rest:
        return True  # an address; or needed on some systems only
    try:
        distribution(name.group())
    except PackageNotFoundError:
        return False
    return True


# environment


def _environment(env: object, directory: Path) -> dict[str, str]:
    if env is None:
        return {}
    if isinstance(env, dict):
        for name, value in env.items():
            if not isinstance(value, str):
                raise _WrongError(f"'env.{name}' must be a string")
            if not name or "=" in name or "\0" in name + value:
                raise _WrongError(f"'env': {name!r} can't be a variable")
        return env
    if not isinstance(env, str):
        raise _WrongError("'env' must be an object of strings, or the path of a file")
    file = directory / env
    if not file.is_file():
        raise _WrongError(f"'env': there is no file {file}")
    try:
        return parse_env(_text(file), os.environ)
    except (ValueError, _WrongError) as error:
        raise _WrongError(f"'env': {file}: {error}") from None
