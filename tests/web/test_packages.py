"""The TypeScript packages as npm packs them: complete, and fit for Node and for strict TypeScript."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.browser import require_browser
from threadwire.endpoints.playground import FOLDER

WEB = Path(__file__).parents[2] / "web"
MODULES = WEB / "node_modules"

USE = """
import { type Connection, HttpClient, type Thread, apply, connect, decodeMessage } from "@threadwire/client";

const state = apply({ text: "a" }, [{ type: "append-text", path: ["text"], value: "b" }]);
console.log(JSON.stringify(state), typeof connect, typeof HttpClient);
console.log(decodeMessage('{"type":"pong"}', "json").length);

export const open = (connection: Connection): Thread => connection.open("t", { agent: "a" });
// @ts-expect-error a command has a type
export const wrong = (thread: Thread) => thread.send({ text: "x" });
"""
PAGE = """
import { ThreadwireProvider, stateConverter, useSendCommand, useThreadState } from "@threadwire/react";

declare module "@threadwire/react" {
  interface ThreadwireCommands {
    "add-todo": { title: string };
  }
}

function Todos() {
  const count = useThreadState((state: { todos?: readonly string[] } | null) => state?.todos?.length ?? 0);
  const send = useSendCommand();
  // @ts-expect-error a title is missing
  void (() => send({ type: "add-todo" }));
  return <button onClick={() => send({ type: "add-todo", title: "x" })}>{count.toFixed()}</button>;
}

export const App = () => (
  <ThreadwireProvider url="ws://127.0.0.1:8000/ws" thread={null} converter={stateConverter()}>
    <Todos />
  </ThreadwireProvider>
);
"""
OPTIONS = {
    "strict": True,
    "exactOptionalPropertyTypes": True,
    "noUncheckedIndexedAccess": True,
    "skipLibCheck": False,
    "target": "ES2022",
    "lib": ["ES2023", "DOM", "DOM.Iterable"],
    "jsx": "react-jsx",
    "types": ["node"],
    "outDir": "out",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has both packages installed as they are packed, and what they depend on."""
    if not MODULES.is_dir() or shutil.which("npm") is None:
        pytest.skip("npm, or the packages of web/, are missing")
    project = tmp_path_factory.mktemp("project")
    modules = project / "node_modules"
    (modules / "@threadwire").mkdir(parents=True)
    for name in ("client", "react"):
        packed = _run(WEB / "packages" / name, "npm", "pack", "--json", "--pack-destination", str(project))
        archive = next(project.glob(f"threadwire-{name}-*.tgz"), None)
        assert archive is not None, packed
        with tarfile.open(archive) as files:
            files.extractall(project / name, filter="data")
        (project / name / "package").rename(modules / "@threadwire" / name)
    for module in MODULES.iterdir():
        if module.name not in ("@threadwire", ".bin") and module.is_dir():
            (modules / module.name).symlink_to(module)
    (project / "package.json").write_text('{"type": "module", "private": true}')
    (project / "use.ts").write_text(USE)
    (project / "page.tsx").write_text(PAGE)
    return project


def _run(folder: Path, *command: str) -> str:
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.mark.parametrize("name", ["client", "react"])
def test_package_has_what_it_exports_and_its_licence(project: Path, name: str) -> None:
    package = project / "node_modules" / "@threadwire" / name
    described = json.loads((package / "package.json").read_text())
    for path in described["exports"]["."].values():
        assert (package / path).is_file()
    assert "MIT" in (package / "LICENSE").read_text()
    assert (package / "README.md").is_file()


@pytest.mark.parametrize(("module", "resolution"), [("NodeNext", "NodeNext"), ("ESNext", "Bundler")])
def test_types_hold_in_strict_projects_and_node_runs_what_comes_of_them(
    project: Path, module: str, resolution: str
) -> None:
    options = {**OPTIONS, "module": module, "moduleResolution": resolution}
    settings = {"compilerOptions": options, "include": ["use.ts", "page.tsx"]}
    (project / "tsconfig.json").write_text(json.dumps(settings))
    _run(project, str(MODULES / ".bin" / "tsc"), "-p", ".")
    assert _run(project, "node", "out/use.js").split() == ['{"text":"ab"}', "function", "function", "1"]


def test_page_is_small() -> None:
    require_browser()
    sizes = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in (FOLDER / "assets").iterdir()}
    assert sum(sizes.values()) <= 250 * 1024, sizes
