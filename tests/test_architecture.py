"""The layers import each other in one direction only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRANSPORT = ROOT / "transport" / "threadwire"
AGENTS = ROOT / "agents" / "threadwire_agents"

ALLOWED = {
    "core": {"core"},
    "engine": {"core", "engine"},
    "stores": {"core", "engine", "stores"},
    "endpoints": {"core", "engine", "stores", "endpoints", "version"},
    "messages": {"core", "messages"},
    "client": {"core", "messages", "client", "version"},
    "cli": {"core", "engine", "stores", "endpoints", "messages", "client", "cli", "version", ""},
}
"""By layer, the layers it may import; "" is the package itself."""

SANS_IO = {"asyncio", "anyio", "socket", "time", "random", "secrets", "uuid"}


def imports(file: Path, root: Path = TRANSPORT.parent) -> set[tuple[str, ...]]:
    """The modules a file imports, as absolute dotted names split at the dots."""
    package = file.relative_to(root).parts[:-1]
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            found.add((*base, *(node.module.split(".") if node.module else ())))
    return found


def files(layer: str) -> list[Path]:
    return sorted((TRANSPORT / layer).rglob("*.py"))


@pytest.mark.parametrize("layer", sorted(ALLOWED))
def test_layer_imports_only_what_is_below_it(layer: str) -> None:
    assert files(layer)
    for file in files(layer):
        for module in imports(file):
            if module[0] == "threadwire":
                target = module[1] if len(module) > 1 else ""
                assert target in ALLOWED[layer], f"{file.relative_to(ROOT)} imports {'.'.join(module)}"
            assert module[0] != "threadwire_agents" or layer == "cli", f"{file} imports an agent package"


def test_agents_import_nothing_of_clients_stores_and_endpoints() -> None:
    for file in sorted(AGENTS.rglob("*.py")):
        for module in imports(file, AGENTS.parent):
            if module[0] == "threadwire":
                target = module[1] if len(module) > 1 else ""
                assert target in {"core", "engine", "messages", ""}, f"{file} imports {'.'.join(module)}"


def test_core_knows_no_clock_no_socket_and_no_event_loop() -> None:
    for file in files("core"):
        used = {module[0] for module in imports(file)} & SANS_IO
        assert not used, f"{file.relative_to(ROOT)} imports {used}"


def test_every_layer_is_listed() -> None:
    folders = {path.name for path in TRANSPORT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(ALLOWED)
