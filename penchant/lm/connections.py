"""Connections: HTTP/1.1 as far as questions and replies need it. Each is kept open, and carries one question at a time.

They are what the official client sends through, in place of connections of its own, which take longer for a call than
everything else on this side together. A reply is read whole or not at all: a body that ends early is no reply.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

__all__ = ["BadReply", "Connections", "Reader"]

IDLE = 1.5  # seconds after which a connection is not used again, because the server may be closing it
MOST_HEAD = 1 << 16  # bytes
MOST_BODY = 1 << 26  # bytes; no answer of a language model is so long
BLANK = re.compile(rb"\r?\n\r?\n")
BREAK = re.compile(rb"\r?\n")
STATUS = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: [^\r\n]*)?")
HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\x00\r]*)")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")


class BadReply(ValueError):
    """Bytes that are no reply of HTTP/1.1."""


class Reader:
    """One reply, put together from whatever pieces it comes in. keep: whether the connection can be used again."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.keep = True
        self._rest = bytearray()
        self._length: int | None = None  # bytes that the body will have, where its head tells
        self._chunked = False

    def feed(self, data: bytes) -> bool:
        """Takes the next piece; True when the reply is whole. Raises BadReply."""
        self._rest += data
        while self.status < 200:  # replies below 200 say that another one is to come
            if not self._read_head():
                return False
        whole = self._read_chunks() if self._chunked else self._read_plain()
        if whole and self._rest:
            self.keep = False  # more than was asked for
        return whole

    def end(self) -> bool:
        """The connection is closed; True when the reply is whole, which only one without a length can be now."""
        self.keep = False
        return self.status >= 200 and not self._chunked and self._length is None

    def _read_head(self) -> bool:
        found = BLANK.search(self._rest)
        if found is None or found.end() > MOST_HEAD:
            if len(self._rest) > MOST_HEAD:
                raise BadReply("its head does not end")
            return False
        first, *lines = BREAK.split(bytes(self._rest[: found.start()]))
        del self._rest[: found.end()]
        status, headers = STATUS.fullmatch(first), [HEADER.fullmatch(line) for line in lines]
        if status is None or status.group(2) == b"101" or None in headers:
            raise BadReply("its head is not of HTTP/1.1")
        self.status = int(status.group(2))
        self.headers = [(header.group(1), header.group(2).strip(b" \t")) for header in headers if header]
        self.keep = status.group(1) == b"1" and b"close" not in self._values(b"connection")
        lengths, encodings = set(self._values(b"content-length")), self._values(b"transfer-encoding")
        if (
            encodings not in ([], [b"chunked"])
            or len(lengths) > 1
            or not all(re.fullmatch(rb"\d{1,12}", n) for n in lengths)
        ):
            raise BadReply("its length is not told in a way that can be understood")
        self._chunked = bool(encodings)
        self._length = 0 if self.status in (204, 304) else int(lengths.pop()) if lengths else None
        if (self._length or 0) > MOST_BODY:
            raise BadReply("its body is too long")
        return True

    def _values(self, name: bytes) -> list[bytes]:
        """What headers of this name list, in small letters."""
        found = [value for key, value in self.headers if key.lower() == name]
        return [part.strip().lower() for value in found for part in value.split(b",")]

    def _read_plain(self) -> bool:
        if self._length is None:
            self._take(len(self._rest))
            return False
        if len(self._rest) < self._length:
            return False
        self._take(self._length)
        return True

    def _read_chunks(self) -> bool:
        while True:
            size = CHUNK.match(self._rest)
            if size is None:
                if len(self._rest) > 1000 or b"\n" in self._rest:
                    raise BadReply("it comes in chunks that have no size")
                return False
            length, start = int(size.group(1), 16), size.end()
            if not length:  # then come headers once more, usually none
                trailers = BLANK.search(self._rest, start - 2)
                if trailers is None and len(self._rest) > MOST_HEAD:
                    raise BadReply("its last chunk does not end")
                del self._rest[: trailers.end() if trailers else 0]
                return trailers is not None
            close = BREAK.match(self._rest, start + length)
            if close is None:
                if len(self._rest) > start + length + 2:
                    raise BadReply("it comes in chunks of wrong sizes")
                self._check(length)
                return False
            del self._rest[:start]
            self._take(length)
            del self._rest[: close.end() - close.start()]

    def _take(self, length: int) -> None:
        self._check(length)
        self.body += self._rest[:length]
        del self._rest[:length]

    def _check(self, length: int) -> None:
        if len(self.body) + length > MOST_BODY:
            raise BadReply("its body is too long")


class _Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.idle_since = time.monotonic()
        self._reader: Reader | None = None
        self._whole: asyncio.Future[Reader] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def ask(self, raw: bytes) -> Reader:
        """Sends a request, waits for the whole reply. Raises BadReply, or OSError where the connection breaks."""
        if self.closed.done():
            raise ConnectionResetError
        self._reader, self._whole = Reader(), asyncio.get_running_loop().create_future()
        self.transport.write(raw)
        reader = await self._whole
        self._reader, self.idle_since = None, time.monotonic()
        return reader

    @property
    def fresh(self) -> bool:
        return not self.transport.is_closing() and time.monotonic() - self.idle_since < IDLE

    def data_received(self, data: bytes) -> None:
        if self._reader is None or self._whole.done():
            self.transport.abort()  # nobody asked
            return
        try:
            if self._reader.feed(data):
                self._whole.set_result(self._reader)
        except BadReply as error:
            self._whole.set_exception(error)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        if self._reader is not None and not self._whole.done():
            if error is None and self._reader.end():
                self._whole.set_result(self._reader)
            else:
                self._whole.set_exception(error or ConnectionResetError())


class Connections:
    """A transport for httpx2: connections to one server, made when all others are busy. httpx2: that module.

    Failures are raised as its errors: ConnectError and ConnectTimeout where nothing was sent, ReadError and
    RemoteProtocolError where the server may have worked. tls: None for plain http.
    """

    def __init__(self, httpx2: Any, tls: Any, connect: float) -> None:
        self._httpx, self._tls, self._connect = httpx2, tls, connect
        self._all: set[_Connection] = set()
        self._free: list[_Connection] = []
        if tls is not None:
            tls.set_alpn_protocols(["http/1.1"])

    async def handle_async_request(self, request: Any) -> Any:
        raw = _raw(request, self._httpx.LocalProtocolError)
        connection = await self._open(request.url)
        try:
            reader = await connection.ask(raw)
        except BadReply as error:
            self._drop(connection)
            raise self._httpx.RemoteProtocolError(str(error)) from None
        except OSError as error:
            self._drop(connection)
            raise self._httpx.ReadError(str(error)) from None
        except BaseException:  # given up, so whatever may still come belongs to nobody
            self._drop(connection)
            raise
        if reader.keep:
            self._free.append(connection)
        else:
            self._drop(connection)
        return self._httpx.Response(reader.status, headers=reader.headers, content=bytes(reader.body))

    async def aclose(self) -> None:
        closing = [connection.closed for connection in self._all]
        for connection in list(self._all):
            self._drop(connection)
        if closing:
            await asyncio.wait(closing, timeout=1.0)

    async def __aenter__(self) -> Connections:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _open(self, url: Any) -> _Connection:
        while self._free:
            connection = self._free.pop()
            if connection.fresh:
                return connection
            self._drop(connection)
        host = url.raw_host.decode("ascii")
        port = url.port or (443 if self._tls is not None else 80)
        try:
            async with asyncio.timeout(self._connect):
                _, connection = await asyncio.get_running_loop().create_connection(
                    _Connection, host, port, ssl=self._tls, happy_eyeballs_delay=0.25
                )
        except TimeoutError:
            raise self._httpx.ConnectTimeout("timed out") from None
        except (OSError, UnicodeError) as error:  # of TLS, too; and of names that can be none
            raise self._httpx.ConnectError(str(error)) from error
        self._all.add(connection)
        return connection

    def _drop(self, connection: _Connection) -> None:
        connection.transport.abort()
        self._all.discard(connection)


def _raw(request: Any, fault: Any) -> bytes:
    """A request as it is sent. Nothing in its head may begin a line of its own."""
    head = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    head += [b"%s: %s" % header for header in request.headers.raw]
    if any(b"\n" in line or b"\r" in line for line in head):
        raise fault("a header holds a line break")
    return b"\r\n".join([*head, b"", request.content])
