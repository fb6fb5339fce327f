"""Prometheus metrics of one server, on a registry of its own: counters, gauges and histograms by the usual names."""

from __future__ import annotations

import resource
import sys

import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "dimoo_requests", "Finished requests by task and status", ["task", "status"], registry=self.registry
        )
        self.request_seconds = self._histogram("dimoo_request_seconds", "From arrival to answer", BUCKETS)
        self.queue_seconds = self._histogram("dimoo_queue_seconds", "From arrival to the start of the work", BUCKETS)
        self.step_seconds = self._histogram("dimoo_step_seconds", "One step of a batch", STEP_BUCKETS)
        self.batch_size = self._histogram("dimoo_batch_size", "Requests filled together", (1, 2, 4, 8, 16, 32))
        self.depth = Gauge("dimoo_queue_depth", "Requests that wait", registry=self.registry)
        self.running = Gauge("dimoo_requests_running", "Requests being filled", registry=self.registry)
        self.images = Counter("dimoo_images", "Pictures drawn", registry=self.registry)
        self.tokens = Counter("dimoo_tokens", "Positions filled, of pictures and of text", registry=self.registry)
        memory = Gauge("dimoo_peak_memory_bytes", "Largest memory use so far", registry=self.registry)
        memory.set_function(peak_memory)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)


def peak_memory() -> float:
    """Bytes: of the accelerator where torch tells, else of the process."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)
