"""App: the routes. Each is small: it takes types, calls the service, and gives types."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import AfterValidator, BeforeValidator, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from penchant.errors import BadInput, PenchantError, UnknownId
from penchant.serve import replies, wire
from penchant.serve.asking import Asking, Job
from penchant.serve.browse import Browse
from penchant.serve.failures import failure, invalid, refused, told
from penchant.serve.gather import Gather
from penchant.serve.gauges import Gauges
from penchant.serve.guard import Rules
from penchant.serve.paths import exactly, item_of, key_of
from penchant.serve.pulse import Pulse
from penchant.serve.service import Service
from penchant.serve.telling import Telling

__all__ = ["make"]

T = TypeVar("T")
WRITING, PUTTING = CapacityLimiter(8), CapacityLimiter(4)  # threads; those that put wait for encoders
PAGE = Path(__file__).parent / "page"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
ItemId = Annotated[str, InPath(min_length=1, max_length=512), BeforeValidator(item_of), AfterValidator(wire.clean)]
UserId = Annotated[str, InPath(min_length=1, max_length=512), BeforeValidator(key_of), AfterValidator(wire.clean)]
Asked = Annotated[str, Query(min_length=1, max_length=512), AfterValidator(wire.clean)]
Word = Annotated[str, Query(max_length=200), AfterValidator(wire.clean)]
K = Annotated[int, Query(ge=1, le=wire.MOST_ITEMS)]
Once = Annotated[Annotated[str, Field(min_length=1, max_length=200)] | None, Header(alias="Idempotency-Key")]


def fails(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": replies.Failure} for status in sorted({*statuses, 401, 408, 413, 421, 422, 429, 500, 503})
    }


def make(
    service: Service,
    asking: Asking,
    gather: Gather,
    telling: Telling,
    browse: Browse,
    rules: Rules,
    gauges: Gauges,
    pulse: Pulse,
) -> FastAPI:
    """The whole application but its guard, which is put around it."""
    said = "Recommends from interactions, words and pictures, and says why."
    app = FastAPI(
        title="Penchant",
        version=metadata.version("penchant"),
        description=said,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(_only_known)],
    )
    app.add_exception_handler(PenchantError, told)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(Exception, told)

    def trusted(request: Request) -> bool:
        """Whether the caller has a key, or needs none for what is known of people."""
        return bool(request.scope["penchant.trusted"])

    @app.post("/recommend", response_model=replies.Recommended, responses=fails(404))
    async def recommend(asked: wire.Asked, request: Request) -> Response:
        """The best items for somebody, best first; equal scores in an order that `seed` gives, the same every time."""
        if not trusted(request) and asked.user is not None:  # what is left out of the list tells what she chose
            return failure(
                401, "no_key", "a list for `user` tells of this person: it needs a key. For anybody give a `history`"
            )
        job = await asking.ready(asked)
        found = (await gather.ask(job)).reply()
        gauges.listed("personal" if found.personal else "popular")
        if asked.why:
            found = await run_in_threadpool(_reasoned, telling, job, found)
        return _plain(found)

    @app.get("/items", responses=fails())
    async def items(
        search: Word = "", k: K = 24, offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0
    ) -> replies.Items:
        """Items by words of their titles; what most people chose comes first."""
        return await run_in_threadpool(browse.items, search, k, offset)

    @app.get(
        "/items/{item_id:path}/picture",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}, **fails(404)},
    )
    async def picture(item_id: ItemId, size: Annotated[int, Query(ge=1, le=4_000)] = 320, turn: Word = "") -> Response:
        """A JPEG of about `size` pixels. turn: any word, by which a browser takes it for another address than the one it has kept."""
        there = item_id in service.served.goods
        raw = await run_in_threadpool(service.album.read, item_id, size) if there else None
        if raw is None:
            return failure(404, "no_picture", "this item has no picture")
        return Response(raw, media_type="image/jpeg", headers={"cache-control": "private, max-age=300"})

    @app.get("/items/{item_id:path}/similar", responses=fails(404, 409))
    async def similar(item_id: ItemId, k: K = 10, by: Literal["behaviour", "content"] = "behaviour") -> replies.Similar:
        """Items most like one: by what people chose, or by words and pictures."""
        return await run_in_threadpool(browse.similar, item_id, k, by)

    @app.get("/items/{item_id:path}", responses=fails(404))
    async def item(item_id: ItemId, request: Request) -> replies.Whole:
        """Everything about one item, and which texts about it the model was given."""
        found = await run_in_threadpool(telling.whole, service.served, item_id)
        if not trusted(request):
            return found.model_copy(update={"lineage": []})  # prompts may hold what people wrote
        return found

    @app.put("/items/{item_id:path}", responses=fails(409))
    async def put(item_id: ItemId, new: wire.New) -> replies.Put:
        """A new or changed item: recommended from the next request on, where the model can."""
        if not item_id.strip() or item_id in (".", ".."):
            raise BadInput(f"{item_id!r} can't be an id: no address could name it")
        return await _write(PUTTING, service.put, item_id, new)

    @app.delete("/items/{item_id:path}", responses=fails(404))
    async def delete(item_id: ItemId) -> replies.Deleted:
        """Never recommended again, from this reply on."""
        await _write(WRITING, service.delete, item_id)
        return replies.Deleted(deleted=True)

    @app.post("/events", responses=fails(404, 409))
    async def events(events: wire.Events, request: Request, once: Once = None) -> replies.Accepted:
        """Choices. Once answered they are on disk; the next list of these people knows them. With an Idempotency-Key, the same
        request sent again adds nothing."""
        own = None if once is None else f"{request.scope.get('penchant.key')}/{once}"  # two callers may count alike
        new = await _write(WRITING, service.add, events.events, own)
        return replies.Accepted(accepted=len(events.events) if new else 0, repeated=not new)

    @app.get("/users", responses=fails())
    async def users(prefix: Word = "", k: K = 20) -> replies.People:
        """People whose id begins so."""
        return await run_in_threadpool(browse.people, prefix, k)

    @app.get("/users/{user_id:path}", responses=fails())
    async def user(user_id: UserId) -> replies.History:
        """What is known of a person."""
        return await run_in_threadpool(telling.history, service.served, user_id)

    @app.delete("/users/{user_id:path}", responses=fails())
    async def forget(user_id: UserId) -> replies.Forgotten:
        """Forget a person; the reply says what is left elsewhere, and how it goes."""
        return replies.Forgotten(forgotten=True, remains=await _write(WRITING, service.forget, user_id))

    @app.get("/why", responses=fails(404))
    async def why(user: Asked, item: Asked) -> replies.Why:
        """Why an item is for a person: the reason and its evidence."""
        return await run_in_threadpool(_why, telling, service, user, None, item)

    @app.post("/why", responses=fails(404))
    async def why_new(asked: wire.WhyAsked) -> replies.Why:
        """Why an item is for someone with this history."""
        return await run_in_threadpool(_why, telling, service, None, asked.history, asked.item)

    @app.post("/reload", responses=fails(409))
    async def reload() -> replies.Reloaded:
        """Serve the newest run of the folder that the server was started with. Requests go on meanwhile."""
        changed = await _write(WRITING, service.reload)
        return replies.Reloaded(run=service.served.folder.name, model=service.served.rec.name, changed=changed)

    @app.get("/about", responses=fails())
    async def about(request: Request) -> replies.About:
        """What is served."""
        reads = not rules.reads or request.scope.get("penchant.key") is not None
        return await run_in_threadpool(browse.about, rules.people, pulse.problem, trusted(request), reads)

    @app.get("/runs", responses=fails())
    async def runs() -> replies.Runs:
        """Runs beside the served one, with their numbers."""
        return await run_in_threadpool(browse.runs)

    @app.get("/health")
    async def health() -> replies.Health:
        """Whether the process answers."""
        return replies.Health()

    @app.get("/ready", responses={503: {"model": replies.Ready}})
    async def ready(request: Request) -> Response:
        """Whether the model answers and choices can be kept; why not, if not."""
        found = browse.ready(pulse.problem, trusted(request))
        return _plain(found, 200 if found.status == "ready" else 503)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """In Prometheus' format."""
        served = service.served
        sizes = {"items": len(served.goods), "people": len(served.people), "ready": float(not served.problem)}
        return Response(gauges.text(**sizes), media_type="text/plain; version=0.0.4")

    for file in PAGE.iterdir():
        for path in (f"/{file.name}", *(["/"] if file.name == "index.html" else [])):
            app.add_api_route(path, _static(file), include_in_schema=False)
    exactly(app.routes)
    return app


async def _only_known(request: Request) -> None:
    """A mistyped parameter is a mistake and not passed over."""
    known = {one.alias for one in request.scope["route"].dependant.query_params}
    if not known and request.method == "GET":  # an address that somebody put a word behind
        return
    for name in request.query_params:
        if name not in known:
            raise BadInput(f"{name[:60]!r} is no parameter of this route; it has: {', '.join(sorted(known)) or 'none'}")


async def _write(limiter: CapacityLimiter, work: Callable[..., T], *given: Any) -> T:
    """In threads of their own, so that writers that wait leave those of readers alone."""
    return await to_thread.run_sync(work, *given, limiter=limiter)


def _reasoned(telling: Telling, job: Job, found: replies.Recommended) -> replies.Recommended:
    """With the reason of each item."""
    asked = job.asked
    history = None if asked.user is not None else asked.history or []
    reasons = telling.reasons(job.served, asked.user, history, [one.item_id for one in found.items])
    for one, why in zip(found.items, reasons, strict=True):
        one.why = why
    return found


def _why(telling: Telling, service: Service, user: str | None, history: list[str] | None, item: str) -> replies.Why:
    served = service.served
    for key in history or ():
        if key not in served.rec.items.rows_by_key:
            raise UnknownId("item", key, (), "It is not in the catalogue.")
    found = telling.reasons(served, user, history, [item])[0]
    return replies.Why(user=user, item=item, title=served.goods.title(item), **dict(found))


def _plain(found: wire.Wire, status: int = 200) -> Response:
    return Response(found.model_dump_json(), status, media_type="application/json")


def _static(file: Path) -> Callable[[], Any]:
    async def page() -> Response:
        return Response(file.read_bytes(), media_type=TYPES[file.suffix], headers={"cache-control": "no-cache"})

    return page
