"""How the command line begins and ends: its streams, and what becomes of every error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from typer.exceptions import Abort, TyperException

from penchant.errors import Approximate, BadInput, BadSetting, PenchantError

__all__ = ["guarded"]

TOO_LARGE = ("allocate memory", "out of memory", "size calculation overflow", "array is too big", "is too large")
"""What torch and numpy say of a table that cannot be."""

STOPPED = "penchant: stopped; call the same command again to go on"


def guarded(app: Callable[..., Any]) -> NoReturn:
    """Call the command line and leave the process: 0, 2 for what the user can mend, 130 for Ctrl-C, 141 for a closed pipe.

    With --json a mistake is an object on standard output as well as a sentence on standard error.
    """
    _open_streams()
    warnings.showwarning = _warned
    stdout, code = sys.stdout, 0
    try:
        code = app(standalone_mode=False) or 0
        if not sys.stdout.closed:
            sys.stdout.flush()
    except PenchantError as error:
        code = _failed(type(error).__name__, str(error))
    except TyperException as error:  # a misspelt option, a missing argument
        code = _misused(error)
    except (KeyboardInterrupt, Abort):
        code = 130
    except BrokenPipeError:
        code = 141
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
        if sys.stdout is not stdout:  # typer has put it aside: its reader went away
            code = 141
        elif isinstance(left.code, str):
            _say(left.code, sys.stderr)
    except MemoryError as error:
        code = _too_large(error)
    except OSError as error:
        what = error.filename or "a file or the output"
        code = _failed(
            BadInput.__name__, f"cannot read or write {what}: {error.strerror or error}. Choose another place."
        )
    except (RuntimeError, ValueError) as error:
        if not any(said in str(error).lower() for said in TOO_LARGE):
            raise
        code = _too_large(error)
    if code == 130:
        _say(STOPPED, sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        _close(stream)
    sys.exit(code)


def _open_streams() -> None:
    """A closed stream becomes the null device; a letter that a terminal cannot show becomes a question mark."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open as long as the process)
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Ours as a sentence, others as Python has them."""
    if issubclass(category, Approximate):
        _say(f"penchant: {message}", sys.stderr)
    else:
        _say(warnings.formatwarning(message, category, filename, lineno, line).rstrip(), file or sys.stderr)


def _failed(kind: str, message: str) -> int:
    shown = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in message)  # ids may hold anything
    _say(f"penchant: {kind}: {shown}", sys.stderr)
    _as_json(kind, message)
    return 2


def _misused(error: TyperException) -> int:
    with contextlib.suppress(OSError, AttributeError):  # a full standard error must not hide the object
        error.show()  # type: ignore[attr-defined]
    said = getattr(error, "format_message", lambda: str(error))()
    _as_json("Usage", said or "no command was given; see  penchant --help")
    return int(getattr(error, "exit_code", 2))


def _too_large(error: Exception) -> int:
    said = str(error).strip().splitlines()
    return _failed(
        BadSetting.__name__,
        f"not enough memory{': ' + said[0][:200] if said else ''}. Try smaller values of dim, negatives and neighbours in [model] or of "
        "batch_size in [training], e.g.  --set model.dim=16",
    )


def _as_json(kind: str, message: str) -> None:
    if "--json" in sys.argv:
        _say(json.dumps({"error": kind, "message": message}), sys.stdout)


def _say(text: str, stream: TextIO) -> None:
    try:
        print(text, file=stream, flush=True)
    except (OSError, ValueError):
        _close(stream)


def _close(stream: TextIO) -> None:
    """What is left unsaid goes to the null device, so that the interpreter has nothing to complain about at its end."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except ValueError:  # closed already
        pass
