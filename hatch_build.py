"""Builds the playground into the package, where it is not there yet and npm is.

`THREADWIRE_PLAYGROUND=skip` leaves it as it is; `THREADWIRE_PLAYGROUND=build` builds it anew, and fails
where it can't, which is for releases. Otherwise nobody needs npm: a source distribution carries the
built page, and a server without it says how to get it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STATIC = ("transport", "threadwire", "endpoints", "static")


class PlaygroundHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        out = Path(self.root, *STATIC)
        self._ensure(version, Path(self.root, "web"), out)
        if self.target_name == "sdist" and out.is_dir():
            # It is a folder that git ignores, into which the builder doesn't look.
            build_data["force_include"][str(out)] = "/".join(STATIC)

    def _ensure(self, version: str, web: Path, out: Path) -> None:
        wish = os.environ.get("THREADWIRE_PLAYGROUND", "")
        if wish not in ("", "skip", "build"):
            raise ValueError(f"THREADWIRE_PLAYGROUND: {wish!r} is neither skip nor build")
        if wish == "skip" or (wish == "" and (out / "index.html").exists()):
            return
        npm = shutil.which("npm")
        if npm is None or not web.is_dir():
            if wish == "build":
                raise RuntimeError("the playground can't be built: npm or the folder web is missing")
            self.app.display_warning("The playground isn't built, since npm is not here.")
            return
        try:
            self._build(npm, web, out)
        except (OSError, subprocess.CalledProcessError) as error:
            if wish == "build" or version != "editable":
                raise RuntimeError(
                    f"the playground can't be built ({error}); THREADWIRE_PLAYGROUND=skip does without"
                ) from error
            self.app.display_warning(f"The playground isn't built: {error}")

    def _build(self, npm: str, web: Path, out: Path) -> None:
        environment = {**os.environ, "THREADWIRE_WEB_OUT": str(out), "CI": "true"}
        quiet = {"cwd": web, "env": environment, "check": True, "stdout": subprocess.DEVNULL}
        shutil.rmtree(out, ignore_errors=True)
        subprocess.run([npm, "ci", "--silent", "--no-audit", "--no-fund"], **quiet)
        subprocess.run([npm, "run", "--silent", "build", "-w", "playground"], **quiet)
