"""A real PostgreSQL for tests: a server of our own, or the one that THREADWIRE_TEST_POSTGRESQL names.

Each test gets a schema of its own. Where there is no PostgreSQL such tests are skipped, unless
THREADWIRE_TEST_REQUIRES has the word postgresql in it: then they fail.
"""

from __future__ import annotations

import asyncio
import functools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

GIVEN: Final = os.environ.get("THREADWIRE_TEST_POSTGRESQL")
REQUIRED: Final = "postgresql" in os.environ.get("THREADWIRE_TEST_REQUIRES", "").split()

_START_S: Final = 120


class Server:
    """A PostgreSQL of the tests' own, which can be crashed and started again at the same place.

    Args:
        settings: beside those of the tests, as `name=value`.
    """

    def __init__(self, *settings: str, standby_of: Server | None = None) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="threadwire-pg-"))
        self._data = self._home / "data"
        self._user = _plain_user()
        if self._user is not None:
            shutil.chown(self._home, self._user)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = settings
        if standby_of is not None:
            source = ("-h", "127.0.0.1", "-p", standby_of.port, "-U", "postgres")
            _run(self._user, "pg_basebackup", *source, "-D", self._data, "-R", "--no-sync", "-c", "fast")
            self.start()
            return
        _run(
            self._user, "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"
        )
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        settings = [
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self._home}",
            "fsync=off",  # tests crash the server, never the machine
            "shared_buffers=32MB",
            "max_connections=200",
            "autovacuum_naptime=5s",
            *self._settings,
        ]
        flags = [part for setting in settings for part in ("-c", setting)]
        command = [_program("postgres"), "-D", str(self._data), "-p", str(self.port), *flags]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, user=self._user, stdout=log, stderr=log, cwd=self._home, start_new_session=True
            )
        deadline = time.monotonic() + _START_S
        while not _answers(self.url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(self._home / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def promote(self) -> None:
        """Makes a standby a primary."""
        _run(self._user, "pg_ctl", "promote", "-D", self._data)

    def crash(self) -> None:
        """Ends it at once, as a failure of its process would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(_START_S)

    def remove(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.crash()
        shutil.rmtree(self._home, ignore_errors=True)


@functools.cache
def _shared_server() -> Server:
    return Server()


def remove_shared_server() -> None:
    """At the end of all tests."""
    if _shared_server.cache_info().currsize:
        _shared_server().remove()


def url_or_skip() -> str:
    """Of a server for all tests, in which databases can be made."""
    return GIVEN or own_server_or_skip(_shared_server).url


def own_server_or_skip(make: Callable[[], Server] = Server) -> Server:
    if _program_directory() is None:
        reason = "there is no PostgreSQL (Debian: apt-get install postgresql), nor THREADWIRE_TEST_POSTGRESQL"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    return make()


def new_database(server: str | None = None) -> str:
    """A URL that leads to an empty schema, which is as good as a database of its own and made sooner."""
    url = server or url_or_skip()
    name = f"t{uuid.uuid4().hex[:16]}"

    async def create() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(f"CREATE SCHEMA {name}")
        await connection.close()

    _run_apart(create)
    option = f"options=-csearch_path%3D{name}"
    return f"{url}{'&' if '?' in url else '?'}{option}"


def _answers(url: str) -> bool:
    async def ask() -> None:
        await (await asyncpg.connect(url, timeout=5)).close()

    try:
        _run_apart(ask)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    return True


def _run_apart(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a coroutine function where the test may have an event loop of its own that goes on."""
    failures: list[BaseException] = []

    def call() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(_START_S)
    if failures:
        raise failures[0]


@functools.cache
def _program_directory() -> Path | None:
    # Debian keeps them apart, by version.
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def _program(name: str) -> str:
    directory = _program_directory()
    assert directory is not None
    return str(directory / name)


def _plain_user() -> str | None:
    """PostgreSQL doesn't run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise RuntimeError("no user to run PostgreSQL as")


def _run(user: str | None, name: str, *args: object) -> None:
    subprocess.run(
        [_program(name), *map(str, args)],
        user=user,
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
        timeout=_START_S,
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
