"""Server: everything put together and run under uvicorn, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import threading
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from penchant.errors import BadSetting, PenchantError
from penchant.serve.app import make
from penchant.serve.asking import Asking
from penchant.serve.browse import Browse
from penchant.serve.gather import Gather, cost
from penchant.serve.gauges import Gauges
from penchant.serve.guard import HEADERS, Guard, Rules, is_local
from penchant.serve.keys import Keys
from penchant.serve.lineage import Lineage
from penchant.serve.memory import keep_little
from penchant.serve.pulse import Pulse
from penchant.serve.quick import Quick
from penchant.serve.service import Service
from penchant.serve.state import State
from penchant.serve.telling import Telling
from penchant.store import Store

__all__ = ["Server", "Settings"]

log = logging.getLogger("penchant.serve")
SILENT = 15.0  # seconds in which a connection must have sent a request
CONNECTIONS = 1_000
HEAD = 65_536  # bytes of a request before its body


@dataclass(frozen=True)
class Settings:
    """hosts: names by which it may be called beside its own. people, reads: need a key. rate: requests a second of one caller."""

    host: str = "127.0.0.1"
    port: int = 8000
    hosts: tuple[str, ...] = ()
    people: bool = False
    reads: bool = False
    rate: float | None = None
    index_from: int = 200_000

    @property
    def local(self) -> bool:
        """Whether only this machine is to reach it: no other name is allowed that a proxy might send."""
        return is_local(self.host) and all(map(is_local, self.hosts))

    @property
    def rules(self) -> Rules:
        own = {"localhost", "127.0.0.1", "::1", self.host.strip("[]").lower(), *(name.lower() for name in self.hosts)}
        anywhere = self.host in ("0.0.0.0", "::") and not self.hosts  # whoever opens it to all names need not list them
        rate = self.rate if self.rate is not None else None if self.local else 50.0
        return Rules(self.people or not self.local, self.reads, rate or None, None if anywhere else frozenset(own))


class Protocol(HttpToolsProtocol):
    """Lets go of a connection whose next head does not come in time, or has no end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head, self._in_head = 0, True
        self._limit = self.loop.call_later(SILENT, self._close)

    def data_received(self, data: bytes) -> None:
        if self._in_head and not self._head:
            self._limit.cancel()
            self._limit = self.loop.call_later(SILENT, self._close)
        self._head += len(data) if self._in_head else 0
        if self._in_head and self._head > HEAD + len(data):
            self._close()
            return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._limit.cancel()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head, self._in_head = 0, True

    def connection_lost(self, exc: Exception | None) -> None:
        self._limit.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        body = json.dumps({"error": {"code": "no_http", "message": "this is no request that can be read"}}).encode()
        own = [
            *HEADERS,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        head = b"".join(b"%s: %s\r\n" % pair for pair in own)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%s\r\n%s" % (head, body))
        self.transport.close()

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


class Server:
    """Opens a run and its state; `run` answers until a signal ends it. Everything is released by `close`."""

    def __init__(self, folder: Path, state: State, store: Store, settings: Settings) -> None:
        keep_little()
        self.settings = settings
        self.service = Service(folder, state, settings.index_from)
        self.keys = Keys(state)
        self.gauges = Gauges()
        self.pulse = Pulse(self.service, self.keys)
        self._store = store
        self._counted: object = None  # people of the run whose choices were counted from its data
        self.lineage = Lineage(store)
        telling = Telling(self.service, self.lineage)
        asking = Asking(self.service)
        browse = Browse(self.service, asking, folder.resolve().parent)
        self.gather = Gather(asking.many, cost)
        routes = make(self.service, asking, self.gather, telling, browse, settings.rules, self.gauges, self.pulse)
        self.app = Guard(
            Quick(routes, asking, self.gather, self.gauges, settings.rules.people),
            settings.rules,
            self.keys,
            self.gauges,
        )

    def listen(self) -> socket.socket:
        """The socket, bound. Raises BadSetting where the port is taken or the host is none of this machine."""
        family = socket.AF_INET6 if ":" in self.settings.host else socket.AF_INET
        try:
            found = socket.socket(family, socket.SOCK_STREAM)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((self.settings.host.strip("[]"), self.settings.port))
        except (OSError, OverflowError) as error:
            raise BadSetting(
                f"cannot listen on {self.settings.host}:{self.settings.port}: {error}. Choose another:  --port N, --host ADDRESS"
            ) from None
        return found

    def run(self, listening: socket.socket) -> None:
        """Blocks until SIGINT or SIGTERM; requests in work are answered first."""
        self.pulse.start()
        self.service.renewed = self._look
        self._look()
        config = uvicorn.Config(
            self.app,
            http=Protocol,
            loop="uvloop",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            backlog=1024,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=10,
        )
        gc.collect()
        gc.freeze()  # what is loaded stays: the collector need not walk through it again and again
        gc.set_threshold(20_000, 20, 50)
        gc.enable()
        uvicorn.Server(config).run([listening])

    def _look(self) -> None:
        threading.Thread(target=self._source, name="penchant-source", daemon=True).start()

    def _source(self) -> None:
        """The data that the run was made from, for pictures and for where texts come from; read beside, and not missed where gone."""
        from penchant.inputs import make_split, open_data
        from penchant.recipe import SplitSpec
        from penchant.typed import made

        served = self.service.served
        try:
            raw = tomllib.loads((served.folder / "recipe.lock.toml").read_text("utf-8"))
            data = open_data(
                str(raw["data"]), self._store, raw.get("interactions", "interactions"), raw.get("min_rating")
            )
            self.service.settle(served.newest, lambda: self.service.album.open(data.catalog.pictures))
            parted = make_split(data, made("split", SplitSpec, raw.get("split", {})))
            seen = frozenset((parted.train.hash, parted.known(("train", "valid", "test")).hash))
            counts = np.bincount(parted.train.item, minlength=len(data.items))

            def take() -> None:
                self.lineage.data, self.lineage.train = data.name, seen
                now = self.service.served
                # Nothing of the model can be read, not even what was chosen.
                if now.problem and not now.rec.popularity.any() and self._counted is not now.people:
                    now.add_counts(data.items.keys, counts)
                    self._counted = now.people

            self.service.settle(served.newest, take)
        except (PenchantError, OSError, LookupError, ValueError) as error:
            self.service.album.open(None)
            log.warning("the data of the run can't be read, so items have no pictures: %s", error)

    def close(self) -> None:
        self.pulse.stop()
        self.gather.close()
        self.service.close()
        self.service.state.close()
