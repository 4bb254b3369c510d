"""What a factory of graphs takes: read from its signature alone, without importing LangGraph.

A factory is any callable of no arguments, of a config, of a runtime, or of both.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

_CONFIG: Final = re.compile(r"\bRunnableConfig\b")
_RUNTIME: Final = re.compile(r"\b(Server)?Runtime\b")
_RUN: Final = re.compile(r"\bRun\b")


@dataclass(frozen=True)
class Factory:
    """A callable, and how it takes its arguments.

    Attributes:
        make: the callable.
        plain: whether it takes no argument.
        declared: whether the parameters say by annotation or name that they are for a graph's factory;
            else the one it takes could be anything.
    """

    make: Callable[..., object]
    plain: bool
    declared: bool
    _positional: tuple[str, ...]
    _by_name: Mapping[str, str]

    def __call__(self, config: object, runtime: object) -> Any:
        """Calls it with what it takes of the two; what it raises is raised."""
        given = {"config": config, "runtime": runtime}
        return self.make(
            *(given[role] for role in self._positional),
            **{name: given[role] for name, role in self._by_name.items()},
        )


def read_factory(target: object) -> Factory | None:
    """How to call `target` for a graph; None where it isn't callable or needs other arguments.

    A parameter is for the config when it is annotated `RunnableConfig`, for the runtime when it is
    annotated `ServerRuntime` or `Runtime` (also in quotes, with `| None`, subscripted); else by the
    names `config` and `runtime`. A single parameter that is neither gets the config. Parameters that
    have defaults and are neither are left alone.
    """
    if not callable(target):
        return None
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return None
    roles = {parameter.name: _role(parameter) for parameter in parameters}
    taken = [role for role in roles.values() if role is not None]
    unknown = [
        parameter.name for parameter in parameters if roles[parameter.name] is None and _needed(parameter)
    ]
    if len(taken) != len(set(taken)) or len(unknown) > 1 or (unknown and taken):
        return None
    positional: list[str] = []
    by_name: dict[str, str] = {}
    named = False
    for parameter in parameters:
        role = "config" if parameter.name in unknown else roles[parameter.name]
        if role is None:
            named = True  # a default before it: what follows is passed by its name
        elif parameter.kind is parameter.KEYWORD_ONLY or named:
            if parameter.kind is parameter.POSITIONAL_ONLY:
                return None
            by_name[parameter.name] = role
        else:
            positional.append(role)
    return Factory(
        make=target,
        plain=not positional and not by_name,
        declared=bool(taken),
        _positional=tuple(positional),
        _by_name=by_name,
    )


def _role(parameter: inspect.Parameter) -> str | None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return None
    annotation = parameter.annotation
    said = "" if annotation is parameter.empty else annotation
    text = said if isinstance(said, str) else inspect.formatannotation(said)
    if _CONFIG.search(text):
        return "config"
    if _RUNTIME.search(text):
        return "runtime"
    if parameter.name in ("config", "runtime") and not _RUN.search(text):
        return parameter.name
    return None


def _needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )
