"""Keys of the API: shown once, kept as a hash, several at a time, and revoked without a restart."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from penchant.serve.state import Key, State

__all__ = ["Keys", "digest", "made"]


def digest(key: str) -> str:
    """What is kept of a key. A key is 256 random bits, so one plain hash is as good as many."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def made(state: State, name: str) -> tuple[Key, str]:
    """A new key: what is kept of it, and itself, which nobody can be shown again. Raises StateError."""
    key = "pk_" + secrets.token_urlsafe(32)
    return state.add_key(name, digest(key)), key


class Keys:
    """The keys that hold now. `read` looks again; a request never waits for the database."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._live: list[Key] = []
        self.read()

    def whose(self, given: str) -> str | None:
        """The id of a key that holds, None for any other. All are compared, each in constant time."""
        mine, found = digest(given), None
        for key in self._live:
            if hmac.compare_digest(key.digest, mine):
                found = key.id
        return found

    def read(self) -> None:
        """Raises StateError; the keys known before go on then."""
        found = self._state.keys()
        self._live = [key for key in found if key.revoked is None]
