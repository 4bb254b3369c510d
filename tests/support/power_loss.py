"""What a disk holds after a power failure: a process's writes are journaled, un-synced ones dropped.

`kill -9` can't show whether a program syncs what it must, since the operating system still writes
what it was given. A library that is loaded before libc notes each write, truncation, sync and
removal of the files of a directory, in order; `Disk` replays them up to any moment.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import pytest

SOURCE: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name, result, ...) ((result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  /* one order for all operations */
static int journal = -1;

static void put(const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        ssize_t n = REAL("write", ssize_t, int, const void *, size_t)(journal, at, size);
        if (n <= 0) abort();  /* a journal with a hole would prove nothing */
        at += n, size -= (size_t)n;
    }
}

static void note(char what, const char *path, uint64_t at, uint64_t size, const void *data) {
    const char *directory = getenv("POWER_LOSS_DIRECTORY");
    size_t length = directory ? strlen(directory) : 0;
    if (!length || strncmp(path, directory, length) || path[length] != '/') return;
    const char *name = path + length + 1;
    if (strlen(name) > 4 && !strcmp(name + strlen(name) - 4, "-shm")) return;  /* never synced, rebuilt */
    if (journal < 0) {
        journal = open(getenv("POWER_LOSS_JOURNAL"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (journal < 0) abort();
    }
    uint64_t sizes[3] = {strlen(name), at, size};
    put(&what, 1), put(sizes, sizeof sizes), put(name, sizes[0]);
    if (data) put(data, size);
}

static void note_fd(char what, int fd, uint64_t at, uint64_t size, const void *data) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return;
    path[n] = 0;
    note(what, path, at, size, data);
}

ssize_t write(int fd, const void *data, size_t size) {
    pthread_mutex_lock(&lock);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t n = REAL("write", ssize_t, int, const void *, size_t)(fd, data, size);
    if (n > 0 && at >= 0) note_fd('w', fd, (uint64_t)at, (uint64_t)n, data);
    pthread_mutex_unlock(&lock);
    return n;
}

static ssize_t written_at(const char *name, int fd, const void *data, size_t size, off_t at) {
    pthread_mutex_lock(&lock);
    ssize_t n = REAL(name, ssize_t, int, const void *, size_t, off_t)(fd, data, size, at);
    if (n > 0) note_fd('w', fd, (uint64_t)at, (uint64_t)n, data);
    pthread_mutex_unlock(&lock);
    return n;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return written_at("pwrite", fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) {
    return written_at("pwrite64", fd, data, size, at);
}

static int truncated(const char *name, int fd, off_t size) {
    pthread_mutex_lock(&lock);
    int result = REAL(name, int, int, off_t)(fd, size);
    if (!result) note_fd('t', fd, (uint64_t)size, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int ftruncate(int fd, off_t size) { return truncated("ftruncate", fd, size); }
int ftruncate64(int fd, off_t size) { return truncated("ftruncate64", fd, size); }

static int synced(const char *name, int fd) {
    pthread_mutex_lock(&lock);
    int result = REAL(name, int, int)(fd);
    if (!result) note_fd('s', fd, 0, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }

int unlink(const char *path) {
    char full[PATH_MAX];
    pthread_mutex_lock(&lock);
    const char *known = realpath(path, full);
    int result = REAL("unlink", int, const char *)(path);
    if (!result && known) note('u', full, 0, 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}
"""


def build(directory: Path) -> Path:
    """The library to put into LD_PRELOAD; skips the test where it can't be built."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("journaling writes takes Linux and a C compiler")
    source, library = directory / "power_loss.c", directory / "power_loss.so"
    source.write_text(SOURCE)
    subprocess.run(
        [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", str(source), "-o", str(library), "-ldl"],
        check=True,
        timeout=60,
    )
    return library


def environment(library: Path, directory: Path, journal: Path) -> dict[str, str]:
    """For a process whose writes to the files of `directory` are to be journaled."""
    return {
        **os.environ,
        "LD_PRELOAD": str(library),
        "POWER_LOSS_DIRECTORY": str(directory.resolve()),
        "POWER_LOSS_JOURNAL": str(journal),
    }


@dataclass(frozen=True)
class Operation:
    """`what`: "w" (write `data` at `at`), "t" (truncate to `at`), "s" (sync) or "u" (unlink)."""

    what: str
    file: str
    at: int
    data: bytes


def operations(journal: Path) -> Iterator[Operation]:
    """All of them, in order. A last record that its process did not finish is left out."""
    raw, at = journal.read_bytes(), 0
    while at + 25 <= len(raw):
        what = chr(raw[at])
        length, place, size = struct.unpack_from("=QQQ", raw, at + 1)
        name, end = at + 25, at + 25 + length + size
        if end > len(raw):
            return
        yield Operation(what, raw[name : name + length].decode(), place, raw[name + length : end])
        at = end


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[Operation] = field(default_factory=list)


@dataclass
class Disk:
    """The files as `operations` leave them, what was synced apart from what was not.

    Names are durable at once: of a lost directory entry nothing is simulated.
    """

    files: dict[str, _File] = field(default_factory=dict)

    def apply(self, operation: Operation) -> None:
        if operation.what == "u":
            self.files.pop(operation.file, None)
            return
        file = self.files.setdefault(operation.file, _File())
        if operation.what == "s":
            for each in file.unsynced:
                _perform(file.durable, each)
            file.unsynced.clear()
        else:
            file.unsynced.append(operation)

    def content(self, name: str) -> bytes:
        """Of a file as programs saw it, synced or not."""
        content = bytearray()
        if name in self.files:
            content += self.files[name].durable
            for each in self.files[name].unsynced:
                _perform(content, each)
        return bytes(content)

    def lose_power(self, directory: Path, lucky: Random | None = None) -> None:
        """Writes the files as they are found when the power is back.

        What was not synced is lost; with `lucky`, a random part of it had reached the disk all
        the same, in any order and in pages torn at sectors.
        """
        directory.mkdir(parents=True, exist_ok=True)
        for name, file in self.files.items():
            image = bytearray(file.durable)
            if lucky is not None:
                for each in file.unsynced:
                    for piece in _sectors(each):
                        if lucky.random() < 0.5:
                            _perform(image, piece)
            (directory / name).write_bytes(image)


def _perform(image: bytearray, operation: Operation) -> None:
    end = operation.at + len(operation.data)
    if len(image) < end:
        image.extend(bytes(end - len(image)))
    if operation.what == "t":
        del image[operation.at :]
    else:
        image[operation.at : end] = operation.data


def _sectors(operation: Operation) -> Iterator[Operation]:
    if operation.what == "t":
        yield operation
    for start in range(0, len(operation.data), 512):
        piece = operation.data[start : start + 512]
        yield Operation("w", operation.file, operation.at + start, piece)
