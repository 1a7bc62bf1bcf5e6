"""What a service counts, in the form that Prometheus reads."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1.0, 5.0)
"""Seconds."""


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(name, what, labels, registry=self._registry)

        self._requests = counter("lago_requests_total", "Questions by way and outcome", "way", "status")
        self._states = counter("lago_states_total", "States answered")
        self._unfamiliar = counter("lago_unfamiliar_states_total", "States unlike the training's")
        self._late = counter("lago_late_total", "Answers that would have been too late")
        self._reloads = counter("lago_reloads_total", "Bundles that took over")
        self._refused = counter("lago_reloads_refused_total", "Bundles that could not be used")
        self._seconds = Histogram(
            "lago_answer_seconds", "From a question to its answer", ["way"], buckets=BUCKETS, registry=self._registry
        )
        self._connections = Gauge("lago_connections", "Open websockets", registry=self._registry)
        self._bundle = Info("lago_bundle", "The bundle that is served", registry=self._registry)
        self._by_outcome: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._n_served = 0

    def serves(self, digest: str) -> None:
        """Another bundle is served from now on."""
        self._bundle.info({"digest": digest})
        self._n_served += 1
        if self._n_served > 1:
            self._reloads.inc()

    def reload_refused(self) -> None:
        """A bundle could not be used."""
        self._refused.inc()

    def answered(self, n_states: int, n_unfamiliar: int) -> None:
        """So many states were answered."""
        self._states.inc(n_states)
        if n_unfamiliar:
            self._unfamiliar.inc(n_unfamiliar)

    def late(self) -> None:
        """An answer would have been too late."""
        self._late.inc()

    def request(self, way: str, status: str, seconds: float) -> None:
        """One question is done with."""
        known = self._by_outcome.get((way, status))
        if known is None:
            known = self._requests.labels(way, status), self._seconds.labels(way)
            self._by_outcome[way, status] = known
        known[0].inc()
        known[1].observe(seconds)

    def connections(self, change: int) -> None:
        """So many websockets more."""
        self._connections.inc(change)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self._registry)
