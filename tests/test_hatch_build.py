"""The build hook: where npm is, the page gets into what is built; where it isn't, what is there is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="the package hatchling is not installed")

ROOT = Path(__file__).parents[1]
STATIC = Path("transport", "threadwire", "endpoints", "static")
IN_WHEEL = "threadwire/endpoints/static/index.html"

NPM = """#!/bin/sh
[ "$1" = ci ] && exit 0
[ -z "$BROKEN" ] || exit 1
mkdir -p "$THREADWIRE_WEB_OUT/assets"
echo "built by npm" > "$THREADWIRE_WEB_OUT/index.html"
echo "code" > "$THREADWIRE_WEB_OUT/assets/index.js"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As much of a checkout as the build looks at."""
    checkout = tmp_path / "checkout"
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        checkout.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    for package in ("transport/threadwire", "agents/threadwire_agents", "transport/threadwire/endpoints"):
        (checkout / package).mkdir(parents=True, exist_ok=True)
        (checkout / package / "__init__.py").touch()
    shutil.copy(ROOT / "transport/threadwire/version.py", checkout / "transport/threadwire/version.py")
    (checkout / "web" / "node_modules").mkdir(parents=True)
    (checkout / "web" / "package.json").write_text("{}")
    return checkout


@pytest.fixture
def with_npm(tmp_path: Path) -> Path:
    folder = tmp_path / "with-npm"
    folder.mkdir()
    (folder / "npm").write_text(NPM)
    (folder / "npm").chmod(0o755)
    return folder


def build(source: Path, target: str, npm: Path | None = None, **environment: str) -> Path:
    """Builds a wheel or an sdist, on a machine whose only npm is in the folder `npm`."""
    tools = [str(Path(found).parent) for found in (shutil.which("sh"), shutil.which("mkdir")) if found]
    paths = [str(npm), *tools] if npm else [str(source / "nowhere")]
    finished = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(source / "dist")],
        cwd=source,
        env={**os.environ, "PATH": os.pathsep.join(paths), "THREADWIRE_PLAYGROUND": "", **environment},
        capture_output=True,
        text=True,
    )
    if finished.returncode != 0:
        raise RuntimeError(finished.stdout + finished.stderr)
    (built,) = (source / "dist").glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


def page_in(wheel: Path) -> str | None:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(IN_WHEEL).decode().strip() if IN_WHEEL in archive.namelist() else None


def test_wheel_of_a_checkout_has_the_page_that_npm_built(checkout: Path, with_npm: Path) -> None:
    wheel = build(checkout, "wheel", with_npm)
    assert page_in(wheel) == "built by npm"
    assert "threadwire/endpoints/static/assets/index.js" in zipfile.ZipFile(wheel).namelist()


def test_wheel_of_the_sdist_has_the_page_without_npm(checkout: Path, with_npm: Path, tmp_path: Path) -> None:
    sdist = build(checkout, "sdist", with_npm)
    with tarfile.open(sdist) as archive:
        assert not [name for name in archive.getnames() if "node_modules" in name]
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert page_in(build(unpacked, "wheel")) == "built by npm"


def test_without_npm_there_is_a_wheel_without_the_page_but_no_release(checkout: Path) -> None:
    assert page_in(build(checkout, "wheel")) is None
    with pytest.raises(RuntimeError, match="npm or the folder web is missing"):
        build(checkout, "wheel", THREADWIRE_PLAYGROUND="build")


def test_page_that_is_there_is_kept_unless_a_release_wants_it_anew(checkout: Path, with_npm: Path) -> None:
    (checkout / STATIC).mkdir()
    (checkout / STATIC / "index.html").write_text("from before")
    (checkout / STATIC / "stale.js").touch()
    assert page_in(build(checkout, "wheel", with_npm)) == "from before"
    assert page_in(build(checkout, "wheel", with_npm, THREADWIRE_PLAYGROUND="build")) == "built by npm"
    assert not (checkout / STATIC / "stale.js").exists()


def test_broken_npm_fails_the_build_and_says_how_to_do_without(checkout: Path, with_npm: Path) -> None:
    with pytest.raises(RuntimeError, match="THREADWIRE_PLAYGROUND=skip does without"):
        build(checkout, "wheel", with_npm, BROKEN="1")
    assert page_in(build(checkout, "wheel", with_npm, BROKEN="1", THREADWIRE_PLAYGROUND="skip")) is None
    with pytest.raises(RuntimeError, match="neither skip nor build"):
        build(checkout, "wheel", with_npm, THREADWIRE_PLAYGROUND="no")
