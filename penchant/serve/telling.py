"""Telling: reasons, histories and items in words, as they go over the wire."""

from __future__ import annotations

from collections.abc import Sequence

from penchant.errors import UnknownId
from penchant.reasons import Reason, explain
from penchant.serve import replies
from penchant.serve.lineage import Lineage
from penchant.serve.served import Served
from penchant.serve.service import Service

__all__ = ["Telling"]

SHOWN = 500  # choices of a history on the page, the newest


class Telling:
    def __init__(self, service: Service, lineage: Lineage) -> None:
        self._service, self._lineage = service, lineage

    def reasons(
        self, served: Served, user: str | None, history: list[str] | None, items: Sequence[str]
    ) -> list[replies.Reason]:
        """Why each of some items is for somebody. history: of someone new. Raises UnknownId."""
        goods = served.goods
        for item in items:
            if item not in goods:
                raise UnknownId("item", item, (), "It is not in the catalogue, or was deleted.")
        if served.problem:
            return [self._plain("The model can't be used now: popular items stand in for it.") for _ in items]
        past, live = history or [], history is not None
        if history is None and user is not None:
            past = [c.item_id for c in served.people.choices(user) if c.item_id in served.rec.items.rows_by_key]
            live = bool(served.people.live(user)) or served.people.row(user) < 0
        known = tuple(past) if live else None
        catalog, within, drives = goods.excerpt([*past, *items]), goods.base.catalog, goods.base.drives
        who = user or "(someone new)"
        return [
            self._told(explain(served.rec, who, item, catalog, known, drives=drives, within=within)) for item in items
        ]

    def _told(self, found: Reason) -> replies.Reason:
        heard = None
        if found.heard is not None:
            notes = [replies.Noted(text=n.text, begin=n.begin, end=n.end) for n in found.heard.notes]
            lately = list(found.heard.lately)
            heard = replies.Heard(
                probability=found.heard.probability, profile=found.heard.profile, notes=notes, lately=lately
            )
        has = self._service.album.has
        evidence = [
            replies.Evidence(item_id=e.item_id, title=e.title, picture=has(e.item_id), weight=e.weight, span=e.span)
            for e in found.evidence
        ]
        motives = [replies.Moved(phrases=list(m.phrases), lift=m.lift) for m in found.motives]
        return replies.Reason(
            sentence=found.sentence,
            evidence=evidence,
            words=list(found.words),
            motives=motives,
            share=found.share,
            exact=found.exact,
            heard=heard,
        )

    @staticmethod
    def _plain(sentence: str) -> replies.Reason:
        return replies.Reason(sentence=sentence, evidence=[], words=[], motives=[], share=0.0, exact=False)

    def whole(self, served: Served, key: str) -> replies.Whole:
        """Everything about one item. Raises UnknownId."""
        goods = served.goods
        if key not in goods and key not in goods.gone:
            raise UnknownId("item", key, (), "It is not in the catalogue. Look:  GET /items?search=WORD")
        words, row = goods.words(key), served.rec.items.rows_by_key.get(key, -1)
        gone = key in goods.gone
        return replies.Whole(
            item_id=key,
            title=key if gone else words.title,
            picture=not gone and self._service.album.has(key),
            fields={} if gone else dict(words.fields),
            numbers={} if gone else dict(words.numbers),
            came=goods.came(key),
            deleted=gone,
            chosen_by=int(served.popular[row]) if row >= 0 else 0,
            lineage=[] if gone else self._lineage.of("item", key, served),
        )

    def history(self, served: Served, user: str) -> replies.History:
        """What is known of a person; nothing for who is not known."""
        choices = served.people.choices(user)[-SHOWN:]
        has, title = self._service.album.has, served.goods.title
        told = []
        for c in choices:
            review = c.review or served.reviews.get((user, c.item_id), "")
            there = c.item_id in served.goods
            told.append(
                replies.Past(
                    item_id=c.item_id,
                    title=title(c.item_id) if there else c.item_id,
                    picture=there and has(c.item_id),
                    at=c.at,
                    live=c.live,
                    review=review,
                )
            )
        lineage = self._lineage.of("user", user, served) if served.people.row(user) >= 0 else []
        motives = self._motives(served, user)
        if not motives:  # of a model that knows none, what was written of her, if anything was
            motives = [replies.Moved(phrases=[phrase], lift=0.0) for told in lineage for phrase in told.phrases][:4]
        return replies.History(
            user_id=user,
            known=served.people.known(user),
            history=told,
            motives=motives,
            lineage=lineage,
        )

    def _motives(self, served: Served, user: str) -> list[replies.Moved]:
        """What moves a person more than others, where the model says so."""
        from penchant.reasons import moved

        if served.problem or not served.people.known(user):
            return []
        queries = served.queries(user)
        return [
            replies.Moved(phrases=list(m.phrases), lift=m.lift)
            for m in moved(served.rec, queries, served.goods.base.drives)
        ]
