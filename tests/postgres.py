"""A real PostgreSQL in a folder of its own, for tests: started, stopped and started again.

PostgreSQL refuses to run as root, so there it runs as the user `postgres` that Debian's package makes.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Postgres", "running"]

ROLE, PASSWORD = "penchant", "s3cret-p@ss"


@dataclass(frozen=True)
class Postgres:
    programs: Path
    folder: Path
    port: int
    owner: list[str]

    def url(self, name: str) -> str:
        return f"postgresql://{ROLE}:s3cret-p%40ss@127.0.0.1:{self.port}/{name}"

    def make(self, name: str, *more: str) -> str:
        """A new database; its url."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", ROLE]
        self._run(self.programs / "createdb", *where, *more, name)
        return self.url(name)

    def start(self) -> None:
        plain = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c shared_buffers=16MB"
        quick = "-c fsync=off"  # no test cuts the power, and every database made would be flushed to the drive
        self._run(*self._control("start"), "-l", self.folder / "log", "-o", f"{plain} {quick}")

    def stop(self, how: str = "fast") -> None:
        self._run(*self._control("stop"), "-m", how)

    def _control(self, verb: str) -> list[str | Path]:
        return [self.programs / "pg_ctl", "-D", self.folder / "data", "-w", verb]

    def _run(self, *words: str | Path) -> None:
        command = [*self.owner, *map(str, words)]
        log = self.folder / "commands.log"
        with log.open("w") as out:  # not a pipe: the server would keep it open
            env = os.environ | {"PGPASSWORD": PASSWORD, "LC_ALL": "C.UTF-8"}
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=60, env=env, cwd="/"
            )
        assert done.returncode == 0, log.read_text("utf-8", "replace")


@contextmanager
def running() -> Iterator[Callable[[], Postgres]]:
    """Gives one that is started when it is first asked for."""
    made: list[Postgres] = []

    def one() -> Postgres:
        if not made:
            memory = Path("/dev/shm")  # where it can be had: a new database for each test is much to write
            above = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
            made.append(_started(above / f"penchant-{secrets.token_hex(4)}"))
        return made[0]

    yield one
    for server in made:
        server.stop("immediate")
        shutil.rmtree(server.folder, ignore_errors=True)


def _started(folder: Path) -> Postgres:
    """Make and start one below `folder`, or skip loudly."""
    programs = _programs()
    owner: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("NOT TESTED ON POSTGRESQL: running as root and there is no user `postgres`. useradd postgres")
        owner = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        os.chown(folder, user.pw_uid, user.pw_gid)
        for above in folder.parents:  # pytest's folders are private; the other user has to pass through them
            if above.stat().st_uid == 0 and not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Postgres(programs, folder, port, owner)
    word = folder / "password"
    word.write_text(PASSWORD)
    word.chmod(0o644)
    how = ["--auth=scram-sha-256", f"--pwfile={word}", "-U", ROLE, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    server._run(programs / "initdb", "-D", folder / "data", *how)
    server.start()
    return server


def _programs() -> Path:
    for place in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (place / "initdb").exists():
            return place
    found = shutil.which("initdb")
    if found is None:
        pytest.skip("NOT TESTED ON POSTGRESQL: no server is installed here. Install one: apt-get install postgresql")
    return Path(found).resolve().parent
