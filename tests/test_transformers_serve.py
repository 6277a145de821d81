"""A real server: `transformers serve` with tiny models, asked by the official client and by our Endpoint.

It takes a JSON schema with status 200 and does not keep it, which is why nothing is believed of a server.
"""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from tiny_models import CHATML, PLAIN, byte_level, picture

from penchant.lm import Reply, Request, wire_schema
from penchant.lm.local import open_local
from penchant.lm.replies import Summary
from penchant.lm.wire import repaired

SERVE = Path(sys.executable).with_name("transformers")
AGAIN = repaired([], "", "", Summary)[-1]["content"].split()[-1]  # the last word when a question is asked once more
SCRIPTS = {
    "mug": '{"reasoning": "r", "summary": "An enamel mug."}',
    "lamp": "no idea at all",
    AGAIN: "still none",
    "drill": '{"reasoning":"it goes on ...',
}

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not SERVE.is_file(), reason=f"no {SERVE.name} beside {sys.executable}: pip install 'transformers[serving]'"
    ),
]


@dataclass(frozen=True)
class Server:
    """url: up to /v1. noise, seeing, scripted: folders of models, by which the server knows them."""

    url: str
    noise: Path
    seeing: Path
    scripted: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    (folder / "home" / "hub").mkdir(parents=True)  # without it /v1/models answers 500
    noise = tiny_models.llama(folder / "noise", byte_level(CHATML))
    seeing = tiny_models.llava(folder / "seeing")
    scripted = tiny_models.scripted(folder / "scripted", SCRIPTS, template=PLAIN)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log"
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    with log.open("w") as written:
        serving = subprocess.Popen(
            [str(SERVE), "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            stdout=written,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
    try:
        _wait(serving, f"http://127.0.0.1:{port}/health", log)
        yield Server(f"http://127.0.0.1:{port}/v1", noise, seeing, scripted)
    finally:
        try:
            os.killpg(serving.pid, signal.SIGTERM)
            serving.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(serving.pid, signal.SIGKILL)
            serving.wait(20)
        except ProcessLookupError:
            serving.wait(20)


def _wait(serving: subprocess.Popen[bytes], url: str, log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(600):
        assert serving.poll() is None, log.read_text()
        try:
            with direct.open(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{url} does not answer: {log.read_text()}")


def client(server: Server) -> Any:
    import httpx2
    import openai

    # No proxy of the environment stands between this machine and itself.
    return openai.OpenAI(
        base_url=server.url, api_key="none", max_retries=0, http_client=httpx2.Client(trust_env=False, timeout=120)
    )


def ask(server: Server, model: Path, *requests: Request) -> list[Reply]:
    from penchant.lm.endpoint import Endpoint

    return list(Endpoint(server.url, str(model), parallel=2, retries=1).answer(requests))


def test_the_server_answers_the_official_client(server: Server) -> None:
    said = [{"role": "system", "content": "Describe."}, {"role": "user", "content": "A mug?"}]
    format_ = {"type": "json_schema", "json_schema": {"name": "s", "schema": wire_schema(Summary), "strict": True}}
    reply = client(server).chat.completions.create(
        model=str(server.noise), messages=said, max_tokens=8, temperature=0, response_format=format_
    )
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 8
    assert "{" not in reply.choices[0].message.content[:1]  # the schema was taken, and not kept


def test_the_server_sees_what_it_is_shown(server: Server) -> None:
    said = {}
    for colour in ("red", "blue"):
        url = "data:image/png;base64," + base64.b64encode(picture(colour)).decode()
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "A mug?"}]
        reply = client(server).chat.completions.create(
            model=str(server.seeing), messages=[{"role": "user", "content": parts}], max_tokens=8, temperature=0
        )
        assert reply.usage.prompt_tokens > 9  # a picture is 9 tokens
        said[colour] = reply.choices[0].message.content
    assert said["red"] != said["blue"]


def test_an_endpoint_keeps_whatever_a_model_says(server: Server) -> None:
    free, typed = ask(
        server,
        server.noise,
        Request("Describe.", "A mug?", max_tokens=8),
        Request("Describe.", "A mug?", max_tokens=8, schema=Summary),
    )
    for reply in (free, typed):  # noise has no end
        assert (reply.status, reply.attempts, reply.parsed) == ("truncated", 1, None)
        assert reply.text
        assert "max_tokens = 8" in reply.error
        assert reply.tokens_in > 8
        assert reply.tokens_out == 8


def test_an_endpoint_shows_pictures(server: Server) -> None:
    red, blue, typed, damaged = ask(
        server,
        server.seeing,
        Request("", "A mug?", (picture("red"),), max_tokens=8),
        Request("", "A mug?", (picture("blue"),), max_tokens=8),
        Request("", "A mug?", (picture("red"),), max_tokens=8, schema=Summary),
        Request("", "A mug?", (b"no picture",), max_tokens=8),
    )
    assert red.status == blue.status == typed.status == "truncated"
    assert red.text != blue.text
    assert typed.text == red.text
    assert damaged.status == "failed"


def test_server_and_process_say_the_same_of_the_same_folder(server: Server) -> None:
    """The same scripted weights behind a real server and in this process: typed, unparsable twice, cut off, free."""
    requests = [
        Request("Describe.", "this mug", schema=Summary, max_tokens=20),
        Request("Describe.", "this lamp", schema=Summary, max_tokens=20),
        Request("Describe.", "this drill", schema=Summary, max_tokens=6),
        Request("Describe.", "this lamp", max_tokens=20),
    ]
    served = ask(server, server.scripted, *requests)
    here = list(open_local(str(server.scripted)).answer(requests))
    assert [reply.status for reply in served] == ["ok", "unparsable", "truncated", "ok"]
    assert served[0].parsed is not None
    assert served[0].parsed.text() == "An enamel mug."
    for there, local in zip(served, here, strict=True):
        assert (there.status, there.parsed, there.attempts) == (local.status, local.parsed, local.attempts)
        assert there.text.strip() == local.text
        assert (there.tokens_in, there.tokens_out) == (local.tokens_in, local.tokens_out)
