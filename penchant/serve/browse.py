"""Browse: looking around in what is served: items by words, people by id, runs by their numbers."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from penchant.serve import replies
from penchant.serve.asking import Asking
from penchant.serve.goods import Goods
from penchant.serve.service import Service

__all__ = ["Browse"]

CATEGORIES = 30
RUNS = 200
Status = Literal["ready", "fallback", "no database"]


class Browse:
    def __init__(self, service: Service, asking: Asking, beside: Path) -> None:
        self._service, self._asking, self._beside = service, asking, beside
        self._lock = threading.Lock()
        self._titles: tuple[Goods, pl.Series] | None = None

    def items(self, search: str, k: int, offset: int) -> replies.Items:
        """Items in whose titles every word stands, the most chosen first."""
        served = self._service.served
        with self._lock:
            if self._titles is None or self._titles[0] is not served.goods:
                titles = pl.Series(
                    [served.goods.title(key).casefold() for key in served.rec.items.keys], dtype=pl.String
                )
                self._titles = (served.goods, titles)
            titles = self._titles[1]
        there = np.ones(len(titles), bool)
        there[served.goods.hidden] = False
        for word in search.casefold().split():
            there &= titles.str.contains(word, literal=True).to_numpy()
        found = np.flatnonzero(there)
        found = found[np.argsort(-served.popular[found], kind="stable")]
        keys = served.rec.items.keys
        part = [keys[row] for row in found[offset : offset + k].tolist()]
        return replies.Items(items=[self._item(key) for key in part], total=len(found))

    def _item(self, key: str) -> replies.Item:
        return replies.Item(
            item_id=key, title=self._service.served.goods.title(key), picture=self._service.album.has(key)
        )

    def similar(self, key: str, k: int, by: str) -> replies.Similar:
        """Raises UnknownId, MissingInput."""
        from penchant.attributes import shared

        found, note = self._asking.similar(key, k, by)
        goods = self._service.served.goods
        catalog = goods.excerpt([key, *(other for other, _ in found)])
        near = []
        for other, score in found:
            both = [
                replies.SharedOf(field=one.field, value=one.value)
                for one in shared(catalog, key, other, within=goods.base.catalog)
            ]
            near.append(replies.Near(**dict(self._item(other)), score=score, shared=both))
        return replies.Similar(items=near, note=note)

    def people(self, prefix: str, k: int) -> replies.People:
        people = self._service.served.people
        found = people.starting(prefix, k)
        return replies.People(users=[replies.Person(user_id=user, choices=people.count(user)) for user in found])

    def about(self, private: bool, problem: str, trusted: bool, reads: bool) -> replies.About:
        """problem: of the database. trusted: whether the caller may read names of folders and machines; reads: whether what is in the
        catalogue."""
        served, service = self._service.served, self._service
        problems = self._problems(problem, trusted)
        data = str(_report(served.folder).get("data", {}).get("name", ""))
        catalog, why_not = served.goods.base.catalog, service.why_not()
        return replies.About(
            model=served.rec.name,
            run=served.folder.name,
            data=data if trusted else Path(data).name,
            items=len(served.goods),
            users=len(served.people),
            ready=not served.problem and not problem,
            not_ready=problems[0] if problems else "",
            reasons=served.rec.scorer.personal,
            takes_new_items=not why_not,
            why_not=why_not
            if trusted or not why_not
            else "this model takes in no new items; asked with a key, this says why",
            private=private,
            writes_need_key=True,
            pictures_coming=service.album.coming,
            fields=list(catalog.fields) if reads else [],
            numbers=list(catalog.numbers) if reads else [],
            categories=[
                replies.Category(value=v, items=n)
                for v, n in (served.goods.sieve.values("categories", CATEGORIES) if reads else ())
            ],
        )

    def _problems(self, problem: str, trusted: bool) -> list[str]:
        model = self._service.served.problem
        if trusted:
            return [text for text in (model, problem) if text]
        said = ("the model can't be used", model), ("choices can't be kept", problem)
        return [f"{text}; the log says why, and so does this, asked with a key" for text, true in said if true]

    def ready(self, problem: str, trusted: bool) -> replies.Ready:
        """As `about`."""
        served, service = self._service.served, self._service
        problems = self._problems(problem, trusted)
        left = served.goods.left
        if left:
            example = f", e.g. {next(iter(left.values()))[:300]}" if trusted else ""
            problems.append(f"{len(left)} items that were put are left out by this model{example}")
        status: Status = "fallback" if served.problem else "no database" if problem else "ready"
        return replies.Ready(
            status=status, model=served.rec.name, problems=problems, warming=not service.encoders.ready
        )

    def runs(self) -> replies.Runs:
        """Runs in the folder that the served one lies in; nobody's request names a folder."""
        served = self._service.served.folder.resolve()
        found = []
        for file in sorted(self._beside.glob("*/report.json"))[:RUNS]:
            row = _row(file.parent, _report(file.parent), file.parent.resolve() == served)
            if row is not None:
                found.append(row)
        return replies.Runs(runs=found)


def _report(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "report.json").read_text("utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _row(folder: Path, report: dict[str, Any], served: bool) -> replies.RunRow | None:
    try:
        data, protocol = report["data"], report["protocol"]
        same = {k: protocol.get(k) for k in ("part", "ranking", "mask", "history", "split", "min_test")}
        metrics = {
            str(name): replies.Mean(mean=value["mean"], ci95=list(value.get("ci95") or [None, None]))
            for name, value in report["metrics"].items()
        }
        return replies.RunRow(
            folder=folder.name,
            model=str(report["model"]),
            data=str(data["name"]),
            split=str(protocol.get("split", "")),
            protocol=str(protocol.get("ranking", "")),
            mask=list(protocol.get("mask", ())),
            history=list(protocol.get("history", ())),
            selected_by=str(protocol.get("selected_by", "")),
            seeds=len(report.get("seeds", ())),
            users=int(report.get("users_evaluated", 0)),
            seconds=report.get("seconds", {}).get("train"),
            parameters=int(report.get("parameters", 0)),
            metrics=metrics,
            served=served,
            comparable=json.dumps([data.get("hash"), same], sort_keys=True),
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
