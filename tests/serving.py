"""A real server of a small trained run, in a process of its own, and a client: for tests that talk HTTP, hurt and kill."""

from __future__ import annotations

import fcntl
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

STORE, RUN, SHOP = "store", "run", "shop"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(eq=False)
class Server:
    """process: of `penchant serve`. key: one that holds. log: a file with all that it wrote."""

    process: subprocess.Popen[bytes]
    port: int
    key: str
    state: Path | str
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = "",
        timeout: float = 60,
    ) -> Reply:
        """body: bytes go as they are, all else as JSON. key: "" for the server's own, None for none."""
        given = self.key if key == "" else key
        sent = {} if given is None else {"Authorization": f"Bearer {given}"}
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if raw is not None:
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, raw, {**sent, **(headers or {})})
            found = connection.getresponse()
            names = {name.lower(): value for name, value in found.getheaders()}
            return Reply(found.status, names, found.read())
        finally:
            connection.close()

    def get(self, path: str, **how: Any) -> Any:
        """The JSON of a reply that has to be 200."""
        found = self.ask("GET", path, **how)
        assert found.status == 200, found
        return found.json

    def listed(self, **asked: Any) -> list[str]:
        """Ids that /recommend gives."""
        found = self.ask("POST", "/recommend", asked)
        assert found.status == 200, found
        return [item["item_id"] for item in found.json["items"]]

    def raw(self, sent: bytes, wait: float = 30) -> bytes:
        """Everything that comes back for these bytes until the server closes; what it closed early counts too."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as line:
            with suppress(BrokenPipeError, ConnectionResetError):
                line.sendall(sent)
            return read(line)

    def said(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    def memory(self) -> int:
        """Bytes resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) * 1024

    def children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]

    def kill(self) -> None:
        """As a power cut would, but for its children, which have to find out by themselves."""
        self.process.kill()
        self.process.wait(30)

    def end(self) -> None:
        """Surely, with its children."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


def read(line: socket.socket) -> bytes:
    """Until the other side closes. Raises TimeoutError if it does not."""
    parts = []
    with suppress(ConnectionResetError):
        while part := line.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(true: Any, seconds: float, what: str) -> None:
    """Wait for something to be so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def trained(temporary: pytest.TempPathFactory) -> Path:
    """A folder with shop/, store/ and run/, made once a session, also where several workers test: an Ease that knows pictures, so
    that new items come in without a language model to be loaded. Nothing may write to it: take a `copy`."""
    base = temporary.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "served"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "made").exists():
            _train(place)
            (place / "made").touch()
    return place


def _train(place: Path) -> None:
    from penchant import folder, run, shop
    from penchant.recipe import parse
    from penchant.store import Store

    folder.write(shop.make(products=48, shoppers=80, choices=8).dataset, place / SHOP)
    recipe = {
        "data": str(place / SHOP),
        "split": {"by": "by_ratio", "chronological": True},
        "model": {"name": "ease", "l2": 20.0},
        "inputs": {"image": {"from": "catalog.image", "encoder": "layout"}},
        "training": {"epochs": 1},
        "protocol": {"mask": ["train"], "history": ["train"]},
    }
    run.run(parse(recipe, "served"), place / RUN, Store(place / STORE))


def copy(made: Path, to: Path) -> Path:
    """The run folder of `trained`, to be damaged."""
    return Path(shutil.copytree(made / RUN, to / RUN))


def command(made: Path, run: Path, state: Path | str, *options: str) -> list[str]:
    kept = ["--store", str(made / STORE), "--state", str(state)]
    return [sys.executable, "-m", "penchant", "serve", str(run), "--port", "0", *kept, *options]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "400", "NO_COLOR": "1"}


def made_key(state: Path | str, name: str = "test") -> tuple[str, str]:
    """A key's id and itself."""
    from penchant.serve.keys import made
    from penchant.serve.state import State

    with State.open(str(state), hold=False) as held:
        kept, key = made(held, name)
    return kept.id, key


def start(
    made: Path, place: Path, *options: str, key: str = "", warm: bool = True, url: str = "", fallback: bool = False
) -> Server:
    """A server whose state, run and log are in `place`; what is there already is used again. Who starts one has to `end` it.

    warm: wait until a new item is taken in at once. url: of a database that is its state instead. fallback: its model can't be used.
    """
    place.mkdir(parents=True, exist_ok=True)
    state: Path | str = url or place / "state.sqlite"
    run = place / RUN
    if not run.exists():
        copy(made, place)
    key = key or made_key(state)[1]
    log = place / f"log-{time.monotonic_ns()}.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command(made, run, state, *options),
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment(),
            start_new_session=True,
        )
    server = Server(process, 0, key, state, log)
    try:
        until(lambda: process.poll() is not None or "Serving on" in server.said(), 60, "no address came")
        found = re.search(r"Serving on\s+http://[^:]+:(\d+)/", server.said())
        assert found is not None, server.said()
        server.port = int(found[1])
        until(lambda: _ready(server, warm, fallback), 60, "it was never ready")
    except BaseException:
        server.end()
        raise
    return server


def _ready(server: Server, warm: bool, fallback: bool) -> bool:
    assert server.process.poll() is None, server.said()
    with suppress(OSError, http.client.HTTPException):
        found = server.ask("GET", "/ready")
        return found.status == (503 if fallback else 200) and not (warm and found.json["warming"])
    return False


@contextmanager
def serving(made: Path, place: Path, *options: str, **how: Any) -> Iterator[Server]:
    """As `start`."""
    server = start(made, place, *options, **how)
    try:
        yield server
    finally:
        server.end()


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Of this size by its own account."""
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    whole = [head, *chunks, (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in whole
    )


def drawn(form: str, size: int = 24, **how: object) -> bytes:
    out = io.BytesIO()
    Image.radial_gradient("L").resize((size, size)).convert("RGB").save(out, form, **how)
    return out.getvalue()


def located(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "SecretCamera"
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 11.0)})
    return exif


def head(method: str, path: str, *lines: str, body: bytes = b"", key: str = "", version: str = "1.1") -> bytes:
    """A request; a line of a header that is given stands instead of the usual one."""
    usual = {
        "Host": "localhost",
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    usual |= {"Authorization": f"Bearer {key}"} if key else {}
    given = {line.partition(":")[0].strip().lower() for line in "\r\n".join(lines).split("\r\n")}
    if "transfer-encoding" in given:
        given.add("content-length")
    rest = [f"{name}: {value}" for name, value in usual.items() if name.lower() not in given or name == "Connection"]
    return "\r\n".join([f"{method} {path} HTTP/{version}", *rest, *lines, "", ""]).encode("latin-1", "replace") + body
