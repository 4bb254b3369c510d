"""What the benchmarks share: interleaved measuring, what their figures are held to, how these are shown.

A figure worth comparing is a ratio of two things measured in turn in the same run: absolute times
move with the machine and its neighbours, ratios far less. CPU time is meant throughout, not time
on the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

TIME_LIMIT_S = 180.0
"""When a benchmark is given up: several times what it takes."""

TOKEN = " token"


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs on uvloop where it can be imported, as the server does."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def raise_file_limit() -> None:
    """Lets this process open as many sockets as the system allows it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def installed(module: str) -> bool:
    """Whether a peer is there to compare with; the extra `bench` brings them all."""
    return importlib.util.find_spec(module) is not None


def conversation(messages: int, length: int = 0, *, size: int = 600) -> dict[str, Any]:
    """A state of so many messages of about `size` characters; the last one's text has `length`."""
    text = "Lorem ipsum dolor sit amet. " * (size // 28)
    state: dict[str, Any] = {
        "messages": [
            {"id": f"message-{number}", "role": ("user", "assistant")[number % 2], "content": text}
            for number in range(messages)
        ]
    }
    state["messages"][-1]["content"] = "x" * length
    return state


# measuring

Block: TypeAlias = Callable[[], Awaitable[float]]
"""Does some work and returns what a unit of it cost."""


async def interleave(blocks: Mapping[str, Block], rounds: int) -> dict[str, list[float]]:
    """What each block returned, round by round; each round begins with the next block, one more warms up."""
    names = list(blocks)
    costs: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            gc.collect()
            cost = await blocks[name]()
            if number:
                costs[name].append(cost)
    return costs


def timed(work: Callable[[], object], count: int) -> Block:
    """A block that does `work` once, which is `count` units: µs each."""

    async def block() -> float:
        begun = time.process_time()
        work()
        return (time.process_time() - begun) / count * 1e6

    return block


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def ratio(costs: Sequence[float], base: Sequence[float]) -> float:
    """How many times `base`: rounds are compared one by one, as what is close in time drifts less."""
    return median(cost / other for cost, other in zip(costs, base, strict=True))


# figures


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One number, and the bound it is held to, where there is one."""

    name: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        if self.at_most is not None:
            return self.value <= self.at_most
        if self.at_least is not None:
            return self.value >= self.at_least
        return None

    def row(self) -> list[str]:
        """What it is, the value, what was to be reached, whether it was."""
        target = ""
        if self.at_most is not None:
            target = f"≤ {_number(self.at_most)}"
        elif self.at_least is not None:
            target = f"≥ {_number(self.at_least)}"
        met = {None: "", True: "met", False: "not met"}[self.met]
        return [self.name, f"{_number(self.value)} {self.unit}".strip(), target, met]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    benchmark: str
    machine: dict[str, Any]
    figures: list[Figure]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def show(figures: Iterable[Figure]) -> None:
    """Prints a table, the first column to the left, the others to the right."""
    table = [["", "measured", "target", ""], *(figure.row() for figure in figures)]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for row in table:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
        ]
        print("  ".join(cells).rstrip())


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": multiprocessing.cpu_count(),
    }


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds: seconds, and rougher figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    return parser


def command_line(
    name: str, description: str | None, measure: Callable[[bool], Coroutine[Any, Any, list[Figure]]]
) -> None:
    """Runs `measure(quick)`, prints its figures and writes them where asked to."""
    options = arguments(description).parse_args()
    raise_file_limit()

    async def bounded() -> list[Figure]:
        async with asyncio.timeout(TIME_LIMIT_S):
            return await measure(options.quick)

    figures = run(bounded())
    show(figures)
    if options.json is not None:
        report = Report(benchmark=name, machine=machine(), figures=figures)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
