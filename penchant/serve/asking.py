"""Asking: requests made ready, scored several at a time, and put into words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from starlette.concurrency import run_in_threadpool

from penchant import topk
from penchant.data import Queries
from penchant.errors import BadSetting, PenchantError, UnknownId
from penchant.likeness import scores_of
from penchant.serve import lists, wire
from penchant.serve.album import Album
from penchant.serve.goods import Goods
from penchant.serve.listing import Brief, Listing
from penchant.serve.lists import Wish
from penchant.serve.served import Served
from penchant.serve.service import Service, row_of
from penchant.serve.sieve import Later

__all__ = ["Asking", "Job"]

UNKNOWN = "nothing is known of this user: popular items, not personal"
EVERYBODY = "popular items, the same for everybody"
MOST_BRIEFS = 20_000  # that are kept
STANDS_IN = "the model can't be used now: popular items stand in, not personal"


@dataclass(frozen=True, eq=False)
class Job:
    """A request, made ready to be scored. plain: by popularity, for this reason."""

    asked: wire.Asked
    served: Served
    queries: Queries
    wish: Wish
    plain: str


class Briefs:
    """What lists say of items, made once for each state of the catalogue and its pictures."""

    def __init__(self, album: Album) -> None:
        self._album = album
        self._kept: tuple[Goods | None, int, dict[int, Brief]] = (None, 0, {})

    def of(self, goods: Goods, rows: Sequence[int]) -> list[Brief]:
        version = self._album.version
        of, then, kept = self._kept
        if of is not goods or then != version or len(kept) > MOST_BRIEFS:
            kept = {}
            self._kept = (goods, version, kept)
        try:
            return [kept[row] for row in rows]
        except KeyError:
            keys, has = goods.rec.items.keys, self._album.has
            for row in rows:
                if row not in kept:
                    kept[row] = Brief(keys[row], goods.title(keys[row]), has(keys[row]))
            return [kept[row] for row in rows]


class Asking:
    """Reads alone; several threads may."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._briefs = Briefs(service.album)

    async def ready(self, asked: wire.Asked) -> Job:
        """As `job`, without keeping an event loop waiting."""
        try:
            return self.job(asked, wait=False)
        except Later:
            return await run_in_threadpool(self.job, asked)

    def job(self, asked: wire.Asked, wait: bool = True) -> Job:
        """wait: False for Later where filters take a while. Raises BadSetting, UnknownId, UnknownKey."""
        served = self._service.served
        if asked.user is not None and asked.history is not None:
            raise BadSetting("give `user`, or `history` for someone new, who is judged by that alone; not both")
        if asked.history is not None:
            rows = self._rows(served, asked.history)
            queries, past = served.stranger(rows), rows
        elif asked.user is not None:
            queries, past = served.queries(asked.user), served.seen(asked.user)
        else:
            queries, past = served.stranger([]), []
        only = served.goods.sieve.mask(dict(asked.filters), len(served.rec.items), wait)
        banned = [*served.rows(asked.exclude), *(() if asked.chosen else past)]
        hidden = served.goods.hidden
        away = np.concatenate([hidden, np.array(banned, np.int64)]) if len(hidden) else np.array(banned, np.int64)
        wish = Wish(asked.k, away, only, asked.diversity, asked.per_category, asked.seed)
        plain = STANDS_IN if served.problem else "" if served.rec.scorer.personal else EVERYBODY
        return Job(asked, served, queries, wish, plain or ("" if len(queries.history_items) else UNKNOWN))

    def many(self, jobs: Sequence[Job]) -> list[Listing | PenchantError]:
        """Answers of several at once: whoever has the same model is scored together."""
        found: dict[int, Listing | PenchantError] = {}
        together: dict[int, list[int]] = {}
        for place, job in enumerate(jobs):
            if job.plain:
                scores = np.array(job.served.popular, np.float32)
                found[place] = self._listed(
                    job, *lists.picked(job.served.rec, scores, job.queries, job.wish, self._caps(job))
                )
            else:
                together.setdefault(id(job.served), []).append(place)
        for places in together.values():
            self._scored([jobs[place] for place in places], places, found)
        return [found[place] for place in range(len(jobs))]

    def _scored(self, jobs: Sequence[Job], places: Sequence[int], found: dict[int, Listing | PenchantError]) -> None:
        served = jobs[0].served
        nearby = served.nearby
        left = []
        for job, place in zip(jobs, places, strict=True):
            near = nearby.best(served.rec, job.queries, job.wish) if nearby is not None else None
            if near is None:
                left.append((job, place))
            else:
                found[place] = self._listed(job, *near)
        for start in range(0, len(left), 16):
            part = left[start : start + 16]
            try:
                scores = lists.scored(served.rec, [job.queries for job, _ in part])
            except PenchantError as error:
                found |= {place: error for _, place in part}
                continue
            for (job, place), row in zip(part, scores, strict=True):
                found[place] = self._listed(job, *lists.picked(served.rec, row, job.queries, job.wish, self._caps(job)))

    def _caps(self, job: Job) -> Callable[[int], Sequence[str]] | None:
        return job.served.goods.categories if job.asked.per_category is not None else None

    def _listed(self, job: Job, rows: np.ndarray, scores: np.ndarray) -> Listing:
        served = job.served
        items = self._briefs.of(served.goods, rows.tolist())
        note = job.plain
        if len(items) < job.asked.k:
            few = "no item" if not items else f"only {len(items)} item{'s' if len(items) > 1 else ''}"
            caps = ", caps" if job.asked.per_category is not None else ""
            note = (
                f"{note + '; ' if note else ''}{few} left after filters, exclusions{caps} and what was chosen already"
            )
        return Listing(job.asked.user, served.rec.name, not job.plain, note, items, scores.tolist())

    def similar(self, key: str, k: int, by: str) -> tuple[list[tuple[str, float]], str]:
        """Items most like one, with scores, and a note. Raises UnknownId, MissingInput."""
        served = self._service.served
        row = row_of(served, key)
        queries = Queries.of([-1], [[row]])
        scores = np.array(
            scores_of(served.rec, "content" if by == "content" else "behaviour").score(queries)[0], np.float32
        )
        scores[served.goods.hidden] = -np.inf
        scores[row] = -np.inf
        rows, value = topk.best(scores, k, topk.who(queries)[0])
        personal = served.rec.scorer.personal or by == "content"
        note = "" if personal else "popular items: this model knows no likeness"
        return [(served.rec.items.keys[r], float(v)) for r, v in zip(rows, value, strict=True)], note

    def _rows(self, served: Served, keys: Sequence[str]) -> list[int]:
        get = served.rec.items.rows_by_key.get
        for key in keys:
            if get(key) is None:
                raise UnknownId("item", key, (), "It is not in the catalogue. Look:  GET /items?search=WORD")
        return [served.rec.items.rows_by_key[key] for key in keys]
