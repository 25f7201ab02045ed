"""What the server tells Prometheus."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from .following import Serving

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counts requests; what serves is asked when somebody looks."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        here = {"registry": self._registry}
        self.requests = Counter("serving_requests", "Requests for predictions", ["status", "version"], **here)
        self.rows = Counter("serving_rows", "Rows that were predicted", ["version"], **here)
        self.seconds = Histogram("serving_request_seconds", "How long an answer took", buckets=SECONDS, **here)
        self.shadow_rows = Counter("serving_shadow_rows", "Rows that the shadow predicted, too", ["version"], **here)
        self.differ = Counter("serving_shadow_rows_differ", "Rows of which it said something else", ["version"], **here)
        self.failed = Counter("serving_shadow_failures", "Requests on which the shadow failed", ["version"], **here)
        self._version = Gauge("serving_model_version", "The version that serves; 0: none", **here)
        self._since = Gauge("serving_model_since_seconds", "When it began to serve, in seconds since 1970", **here)
        self._switches = Gauge("serving_switches", "How often the version was exchanged, the first one too", **here)
        self._refused = Gauge("serving_version_refused", "1 if the version that is wanted cannot serve", **here)
        self._age = Gauge("serving_registry_age_seconds", "How long ago the registry answered; NaN: unknown", **here)

    def text(self) -> bytes:
        serving = self._serving
        self._version.set(serving.current.version if serving.current else 0)
        self._since.set(serving.since)
        self._switches.set(serving.switches)
        self._refused.set("current" in serving.refused)
        answered = serving.registry.get("answered")
        self._age.set(time.time() - answered if isinstance(answered, int | float) else float("nan"))
        return generate_latest(self._registry)
