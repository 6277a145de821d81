"""Gauges: what /metrics tells, in Prometheus' format; without anybody's id."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Gauges"]

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Gauges:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "requests",
            "Requests by route and status",
            ("route", "status"),
            namespace="penchant",
            registry=self.registry,
        )
        self._seconds = Histogram(
            "request_seconds",
            "Seconds by route",
            ("route",),
            buckets=BUCKETS,
            namespace="penchant",
            registry=self.registry,
        )
        self._lists = Counter(
            "lists", "Lists by what they rest on", ("kind",), namespace="penchant", registry=self.registry
        )
        self._known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._kinds = {kind: self._lists.labels(kind) for kind in ("personal", "popular")}
        self._sizes = {
            name: Gauge(name, said, namespace="penchant", registry=self.registry)
            for name, said in (
                ("items", "Items shown"),
                ("people", "People known"),
                ("ready", "1 where the model answers"),
            )
        }

    def answered(self, route: str, status: int, seconds: float) -> None:
        key = (route, status)
        if key not in self._known:  # looking a label up costs more than counting
            self._known[key] = (self._requests.labels(route, str(status)), self._seconds.labels(route))
        count, time = self._known[key]
        count.inc()
        time.observe(seconds)

    def listed(self, kind: str) -> None:
        """kind: "personal" or "popular"."""
        self._kinds[kind].inc()

    def text(self, **sizes: float) -> bytes:
        for name, value in sizes.items():
            self._sizes[name].set(value)
        return generate_latest(self.registry)
