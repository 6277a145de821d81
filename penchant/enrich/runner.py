"""Runner: questions in, answers out. Each question that the store can answer is taken from there, equal ones are asked
once, and every reply is committed in the moment it arrives.

`answers` is a pure function of a batch (given a model and a store): however the questions are cut into batches, the answers
are the same. One machine gives it everything as one stream; a cluster engine can give it a partition at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from penchant.calls import Call, Calls, Kept, Mention
from penchant.enrich.material import Question
from penchant.enrich.prompt import Prompt
from penchant.lm import Answer, LanguageModel, Reply, Request
from penchant.lm.fence import blocks_of, clean
from penchant.lm.replies import Aspect, ReviewMotives

__all__ = ["Answered", "answers", "ask"]

CHUNK = 64  # questions looked up at once; small, because nobody sends anything meanwhile
PATIENCE = 0.3  # seconds between two looks at what another process is asking
QUICK = 0.02  # seconds; replies that take less than that to make, in this process,
GATHER, WHILE = 256, 0.5  # are committed so many at a time, or after so many seconds


@dataclass(frozen=True)
class Answered:
    """What became of one question. answer, reply: the typed answer, and the same as JSON; None and "" for a bad reply.
    cached: it was not asked now; tokens and dollars are what it cost when it was. dropped: aspects whose evidence was not
    in the review."""

    question: Question
    key: str
    status: str
    answer: Answer | None
    reply: str = ""
    error: str = ""
    cached: bool = False
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    dropped: int = 0


def answers(
    questions: Iterable[Question],
    prompt: Prompt,
    category: str,
    lm: LanguageModel,
    calls: Calls,
    again: Sequence[str] = (),
) -> list[Answered]:
    """The answers to a batch, in the order of the questions."""
    found: list[Answered] = []
    batch = list(questions)
    ask(batch, prompt, category, lm, calls, found.append, again)
    place = {id(question): n for n, question in enumerate(batch)}
    return sorted(found, key=lambda answered: place[id(answered.question)])


def ask(
    questions: Iterable[Question],
    prompt: Prompt,
    category: str,
    lm: LanguageModel,
    calls: Calls,
    collect: Callable[[Answered], None],
    again: Sequence[str] = (),
    keep: bool = True,
    ready: Callable[[], None] | None = None,
) -> None:
    """Has every question answered and hands each answer to `collect` as it comes; memory does not grow with their number.

    again: statuses of kept bad replies ("refused", ...) that are asked anew; "failed" ones, which never were replies,
    always are. keep: False commits nothing (for plans). ready: called before anything is sent; raises where nothing
    more could be kept.
    """
    work = _Work(prompt, category, lm, calls, collect, (*again, "failed"), keep, ready)
    try:
        while True:
            for _ in lm.answer(work.missing(questions), work.arrived):
                pass
            if not work.left:
                return
            questions, work.left = work.left, []  # another process was asking these; by now it may have the answers
            time.sleep(PATIENCE)
    finally:
        work.flush()
        if lm.where and keep:
            calls.release()


class _Work:
    """One call of `ask`: who waits for which key, and what has arrived."""

    def __init__(
        self,
        prompt: Prompt,
        category: str,
        lm: LanguageModel,
        calls: Calls,
        collect: Callable[[Answered], None],
        again: Sequence[str],
        keep: bool,
        ready: Callable[[], None] | None,
    ) -> None:
        self.prompt, self.category, self.lm, self.calls = prompt, category, lm, calls
        self.collect, self.again, self.keep, self.ready = collect, set(again), keep, ready
        self.label = f"{prompt.name}@{prompt.version}"
        self.sent: dict[int, tuple[str, Request]] = {}  # by place in the order of sending
        self.waiting: dict[str, list[Question]] = {}
        # What this run has asked, and is not going to ask again. Good replies are in the store, where there is one.
        self.done: dict[str, Kept | None] = {}
        self.left: list[Question] = []  # that another process is asking now
        self.unsaved: list[tuple[Call, Sequence[Mention], dict[str, bytes]]] = []
        self.saved_at = self.began = time.monotonic()

    def missing(self, questions: Iterable[Question]) -> Iterator[Request]:
        """The questions that have to be asked, found chunk by chunk while others are being answered."""
        stream = iter(questions)
        place = 0
        while chunk := list(islice(stream, CHUNK)):
            asked = [(q, self._request(q)) for q in chunk]
            keyed = [(request.key(self.lm.name, self.lm.revision), q, request) for q, request in asked]
            kept = self.calls.known([key for key, *_ in keyed])
            self._mention([(key, q) for key, q, _ in keyed if key in kept])
            late: dict[str, list[Mention]] = {}
            mine = self._claimed([key for key, *_ in keyed if self._open(key, kept)])
            for key, question, request in keyed:
                known = self._done(key) if key in self.done else kept.get(key)
                if known is not None and (known.status not in self.again or key in self.done):
                    self._answered(key, question, request, known, cached=True)
                    if key not in kept:
                        late.setdefault(key, []).extend(question.mentions)
                elif key in self.waiting:
                    self.waiting[key].append(question)
                elif mine is not None and key not in mine:
                    self.left.append(question)
                else:
                    if self.ready is not None:
                        self.ready()
                    if (known := self._meanwhile(key)) is not None:
                        self._answered(key, question, request, known, cached=True)
                        late.setdefault(key, []).extend(question.mentions)
                        continue
                    self.waiting[key] = [question]
                    self.sent[place] = (key, request)
                    place += 1
                    yield request
            if late and self.keep:
                self.calls.mention(late)

    def arrived(self, place: int, reply: Reply) -> None:
        """Commits a reply, then hands it to everybody who waits for it."""
        key, request = self.sent.pop(place)
        waiting = self.waiting.pop(key)
        parsed = reply.parsed.model_dump_json() if reply.parsed is not None else None
        kept = Kept(reply.status, parsed, reply.error, reply.tokens_in, reply.tokens_out, reply.usd)
        if self.keep:
            call = Call(
                key=key,
                model=self.lm.name,
                revision=self.lm.revision,
                prompt=self.label,
                status=reply.status,
                text=reply.text,
                parsed=parsed,
                error=reply.error,
                tokens_in=reply.tokens_in,
                tokens_out=reply.tokens_out,
                usd=reply.usd,
                attempts=reply.attempts,
                seconds=reply.seconds,
                created="",
                request={**request.facts(self.lm.name, self.lm.revision), "context": self.lm.context},
            )
            pictures = dict(zip(request.pictures, request.images, strict=True))
            self.unsaved.append((call, [m for q in waiting for m in q.mentions], pictures))
            # What was paid for, or took its time, is kept at once; what is made in no time is kept in handfuls.
            now = time.monotonic()
            slow = now - self.began > QUICK * (len(self.done) + 1)
            if self.lm.where or slow or len(self.unsaved) >= GATHER or now - self.saved_at > WHILE:
                self.flush()
        self.done[key] = None if self.keep and reply.status == "ok" else kept
        for n, question in enumerate(waiting):
            self._answered(key, question, request, kept, cached=n > 0)

    def _open(self, key: str, kept: dict[str, Kept]) -> bool:
        known = kept.get(key)
        return key not in self.done and key not in self.waiting and (known is None or known.status in self.again)

    def _claimed(self, keys: list[str]) -> set[str] | None:
        """Of these questions, those that no other process is asking; None where nothing is paid and nobody claims."""
        if not (self.lm.where and self.keep):
            return None
        return self.calls.claim(keys) if keys else set()

    def _meanwhile(self, key: str) -> Kept | None:
        """The good answer that another process has got since this chunk was looked up."""
        known = self.calls.known([key]).get(key) if self.lm.where else None
        return known if known is not None and known.status == "ok" else None

    def _done(self, key: str) -> Kept | None:
        """What this run got for a question: it may have been committed after others had been looked up."""
        if self.done[key] is None:
            self.flush()
            return self.calls.known([key]).get(key)
        return self.done[key]

    def flush(self) -> None:
        """Commits what has arrived."""
        if self.unsaved:
            self.calls.put_all(self.unsaved)
            self.unsaved = []
        self.saved_at = time.monotonic()

    def _request(self, question: Question) -> Request:
        about = (question.about.kind, question.about.key)
        return self.prompt.render(question.blocks, self.category, question.images, about)

    def _mention(self, cached: list[tuple[str, Question]]) -> None:
        """Somebody may ask a question that was answered for somebody else: that is kept, too."""
        if not cached or not self.keep:
            return
        kind = cached[0][1].about.kind
        known = self.calls.asked(kind, [q.about.key for _, q in cached])
        new: dict[str, list[Mention]] = {}
        for key, question in cached:
            if (question.about.key, key) not in known:
                new.setdefault(key, []).extend(question.mentions)
        if new:
            self.calls.mention(new)

    def _answered(self, key: str, question: Question, request: Request, kept: Kept, cached: bool) -> None:
        answer, reply, dropped = None, "", 0
        if kept.status == "ok" and kept.parsed is not None:
            answer, reply = self.prompt.reply.model_validate_json(kept.parsed), kept.parsed
        if isinstance(answer, ReviewMotives):
            answer, dropped = _grounded(answer, request)
            reply = answer.model_dump_json() if dropped else reply
        paid = kept.tokens_in, kept.tokens_out, kept.usd
        self.collect(Answered(question, key, kept.status, answer, reply, kept.error, cached, *paid, dropped))


def _grounded(answer: ReviewMotives, request: Request) -> tuple[ReviewMotives, int]:
    """Without the aspects whose evidence is not in the review, and how many those were. Case and spaces don't count."""
    said = " ".join(
        value
        for block in blocks_of(request.user)
        for entry in block.entries
        for name, value in entry
        if name == "review"
    ).casefold()

    def there(aspects: list[Aspect]) -> list[Aspect]:
        return [a for a in aspects if (words := clean(a.evidence).casefold()) and words in said]

    positive, negative = there(answer.positive), there(answer.negative)
    dropped = len(answer.positive) + len(answer.negative) - len(positive) - len(negative)
    return answer.model_copy(update={"positive": positive, "negative": negative}), dropped
