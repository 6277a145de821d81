"""What it saves to read somebody once and ask about many things: prefix sharing against separate prompts, in one run.

    python benchmarks/sharing_speed.py [--things 100] [--rounds 3] [--json]

ours      one person, C things: what is said of the person is read once, its keys and values serve all things (`lm.sharing`).
separate  C whole prompts, one after the other, as a loop over questions does it.
batch     C whole prompts in one padded batch: the same work twice over, but together.

The model is a Llama of random weights, 256 wide, 6 layers; a person takes --person tokens, a thing --thing. The values agree
to 1e-4, or it says so and ends.
"""

from __future__ import annotations

from penchant import machine  # isort: skip  (before torch: it sets how threads wait)

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from penchant.judge import Base
from penchant.lm.sharing import apart, padded
from penchant.lm.tiny import Tiny
from penchant.lm.tuned import Tuned


def model(folder: Path) -> Tuned:
    Tiny(words=2000, dim=256, layers=6, context=2048).write(folder, ["some words of a catalogue, and more of them"])
    return Base(str(folder), lora=None).open("", ())[0]


def questions(tuned: Tuned, person: int, thing: int, things: int) -> tuple[list[int], list[list[int]]]:
    rng = np.random.default_rng(0)
    after = [tuned.after(rng.integers(10, 200, thing).tolist()) for _ in range(things)]
    return tuned.before(rng.integers(10, 200, person).tolist(), max(map(len, after))), after


@torch.no_grad()
def separate(tuned: Tuned, before: list[int], after: list[list[int]]) -> np.ndarray:
    yes, no = (answer[0] for answer in tuned.parts.answers)
    found = []
    for a in after:
        z = tuned.model(input_ids=torch.tensor([before + a])).logits[0, -1]
        found.append(float(z[yes] - z[no]))
    return np.array(found)


@torch.no_grad()
def batch(tuned: Tuned, before: list[int], after: list[list[int]]) -> np.ndarray:
    yes, no = (answer[0] for answer in tuned.parts.answers)
    ids, mask = padded([before + a for a in after], tuned, left=False)
    h = tuned.decoder(inputs_embeds=tuned.words(ids), attention_mask=mask, use_cache=False).last_hidden_state
    z = tuned.head(h[torch.arange(len(h)), mask.sum(1) - 1])
    return (z[:, yes] - z[:, no]).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--things", type=int, default=100)
    parser.add_argument("--person", type=int, default=400)
    parser.add_argument("--thing", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    machine.keep_memory()
    with tempfile.TemporaryDirectory() as name:
        tuned = model(Path(name))
        before, after = questions(tuned, given.person, given.thing, given.things)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "ours": lambda: apart(tuned, [before], [after])[0],
        "separate": lambda: separate(tuned, before, after),
        "batch": lambda: batch(tuned, before, after),
    }
    wanted = ways["separate"]()
    for way, ask in ways.items():
        if np.abs(ask() - wanted).max() > 1e-4:
            raise SystemExit(f"{way} does not agree with separate prompts")
    rounds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(given.rounds):
        for way, ask in ways.items():
            started = time.perf_counter()
            ask()
            rounds[way].append(time.perf_counter() - started)
    seconds = {way: round(statistics.median(times), 3) for way, times in rounds.items()}
    times = {
        way: round(statistics.median(t / o for t, o in zip(rounds[way], rounds["ours"], strict=True)), 1)
        for way in ("separate", "batch")
    }
    found = {
        "things": given.things,
        "tokens": [len(before), len(after[0])],
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "times": times,
    }
    if given.json:
        print(json.dumps(found))
        return
    print(
        f"{given.things} things, {len(before)} tokens of a person and {len(after[0])} of a thing, {torch.get_num_threads()} threads"
    )
    for way, value in seconds.items():
        print(f"  {way:10} {value:8.3f} s" + (f"  {times[way]:5.1f} times ours" if way in times else ""))


if __name__ == "__main__":
    main()
