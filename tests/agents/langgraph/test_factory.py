"""What a factory's parameters are for, by annotation and by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, Optional

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime
from langgraph_sdk.runtime import ServerRuntime

import threadwire
from threadwire_agents.langgraph.factory import read_factory

# Annotations of functions in this file are strings, those of the lambdas' table below are objects.


def nothing() -> str:
    return ""


def by_config(settings: RunnableConfig) -> Any:
    return settings


def by_runtime(server: ServerRuntime) -> Any:
    return server


def by_both(config: RunnableConfig, runtime: ServerRuntime[int]) -> Any:
    return config, runtime


def turned(runtime: Runtime[int], config: RunnableConfig | None = None) -> Any:
    return runtime, config


def optional(config: Optional[RunnableConfig] = None) -> Any:  # noqa: UP045
    return config


def keyword(*, runtime: ServerRuntime, config: RunnableConfig) -> Any:
    return runtime, config


def after_a_default(model: str = "small", config: RunnableConfig | None = None) -> Any:
    return model, config


def positional(config: RunnableConfig, /) -> Any:
    return config


def by_name(config, runtime):  # type: ignore[no-untyped-def]
    return config, runtime


def of_a_dict(config: dict[str, Any]) -> Any:
    return config


def anything(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def other(x: int) -> Any:
    return x


class Maker:
    def __call__(self, config: RunnableConfig) -> Any:
        return config

    def make(self, runtime: ServerRuntime) -> Any:
        return runtime


CONFIG, RUNTIME = {"configurable": {}}, object()


@pytest.mark.parametrize(
    ("make", "made", "plain", "declared"),
    [
        (nothing, "", True, False),
        (by_config, CONFIG, False, True),
        (by_runtime, RUNTIME, False, True),
        (by_both, (CONFIG, RUNTIME), False, True),
        (turned, (RUNTIME, CONFIG), False, True),
        (optional, CONFIG, False, True),
        (keyword, (RUNTIME, CONFIG), False, True),
        (after_a_default, ("small", CONFIG), False, True),
        (functools.partial(after_a_default, "large"), ("large", CONFIG), False, True),
        (positional, CONFIG, False, True),
        (by_name, (CONFIG, RUNTIME), False, True),
        (of_a_dict, CONFIG, False, True),
        (anything, ((), {}), True, False),
        (other, CONFIG, False, False),
        (Maker(), CONFIG, False, True),
        (Maker().make, RUNTIME, False, True),
    ],
)
def test_arguments_are_passed_where_they_belong(
    make: Callable[..., object], made: object, plain: bool, declared: bool
) -> None:
    factory = read_factory(make)
    assert factory is not None
    assert (factory.plain, factory.declared) == (plain, declared)
    assert factory(CONFIG, RUNTIME) == made


@pytest.mark.parametrize(
    ("annotation", "role"),
    [
        (RunnableConfig, CONFIG),
        (RunnableConfig | None, CONFIG),
        (Annotated[RunnableConfig, "mine"], CONFIG),
        ("RunnableConfig", CONFIG),
        ("config_module.RunnableConfig | None", CONFIG),
        (ServerRuntime, RUNTIME),
        (ServerRuntime[int], RUNTIME),
        (Runtime[int], RUNTIME),
        ("ServerRuntime[NotImported]", RUNTIME),
        ("Optional[Runtime]", RUNTIME),
    ],
)
def test_annotations_are_read_as_objects_and_as_strings(annotation: object, role: object) -> None:
    def make(x: Any) -> object:
        return x

    make.__annotations__["x"] = annotation
    factory = read_factory(make)
    assert factory is not None
    assert factory.declared
    assert factory(CONFIG, RUNTIME) is role


@pytest.mark.parametrize(
    "target",
    [
        "text",
        lambda a, b: None,
        lambda config, other: None,
        lambda config, /, other: None,
        lambda first=1, config=None, /: None,
        lambda *, key: key,
        dict.get,
    ],
)
def test_what_needs_other_arguments_is_no_factory(target: object) -> None:
    factory = read_factory(target)
    assert factory is None or not factory.declared


def test_two_configs_are_one_too_many() -> None:
    def make(config: RunnableConfig, other: RunnableConfig) -> None: ...

    assert read_factory(make) is None


def test_an_agents_run_is_no_config_whatever_its_name() -> None:
    def agent(config: threadwire.Run) -> None: ...

    factory = read_factory(agent)
    assert factory is not None
    assert not factory.declared
