"""Pulse: what is looked at every few seconds beside the requests: keys, the database, items left out, and free memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from penchant.errors import StateError
from penchant.serve.keys import Keys
from penchant.serve.memory import give_back
from penchant.serve.service import Service

__all__ = ["Pulse"]

log = logging.getLogger("penchant.serve")
EVERY = 2.0  # seconds: for so long a revoked key may still hold
TIDY = 15  # beats after which memory is given back


class Pulse:
    """problem: why choices can't be kept now; "" where they can."""

    def __init__(self, service: Service, keys: Keys) -> None:
        self._service, self._keys = service, keys
        self._stop = threading.Event()
        self.problem = ""
        # Two, because clearing files and encoding items take longer than a revoked key may hold.
        works = (("penchant-pulse", self._look), ("penchant-tidy", self._tidy))
        self._threads = [
            threading.Thread(target=self._run, args=(work,), name=name, daemon=True) for name, work in works
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self, work: Callable[[int], None]) -> None:
        beat = 0
        while not self._stop.wait(EVERY):
            beat += 1
            try:
                work(beat)
            except Exception as error:  # it goes on: without it a revoked key would hold for ever
                log.error("%s in %s", type(error).__name__, threading.current_thread().name)

    def _look(self, _: int) -> None:
        try:
            self._keys.read()
            self._service.state.probe()
            said = ""
        except Exception as error:
            said = str(error) if isinstance(error, StateError) else f"{type(error).__name__} in the database"
        if said != self.problem:
            log.warning("%s", said or "the database is back")
        self.problem = said

    def _tidy(self, beat: int) -> None:
        if beat % TIDY == 0:
            give_back()
        if self.problem:
            return
        self._service.state.sweep()
        if self._service.unsure or (self._service.served.goods.left and self._service.encoders.ready):
            self._service.catch_up()
