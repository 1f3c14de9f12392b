"""The reference of the metrics: docs/metrics.md, generated from `kvip.metrics`. Input: the module. Output: Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from prometheus_client.metrics import MetricWrapperBase

from kvip import metrics

_HEAD = """# Metrics

Generated from `kvip/metrics.py`; edit that (`make docs`). `/metrics` on `metrics-address` (`:2112`) serves them in the text format
of Prometheus. [deploy/alerts.yaml](../deploy/alerts.yaml) has rules for them, [deploy/grafana.json](../deploy/grafana.json) a dashboard.
Labels are bounded: nothing grows with Services or VIPs, but for `kvip_vip_announced`, which there is only with `vip-metrics`.

| metric | kind | labels | meaning |
|--|--|--|--|
"""
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """One metric."""

    name: str
    """As it is called in the module's own words: a counter's ends in `_total`, a histogram's has no suffix."""
    kind: str
    labels: tuple[str, ...]
    help: str
    series: tuple[str, ...]
    """The names that a query may use."""


def described() -> Iterator[Described]:
    """Every metric, in the order of the module."""
    yield from (_of(metric) for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase))
    series = metrics.vip_series
    yield Described(name=series.name, kind="gauge", labels=series.labels, help=series.help, series=(series.name,))


def metrics_markdown() -> str:
    """docs/metrics.md."""
    rows = [f"| `{item.name}` | {item.kind} | {', '.join(f'`{label}`' for label in item.labels)} | {item.help} |" for item in described()]
    return _HEAD + "\n".join(rows) + "\n"


def _of(metric: MetricWrapperBase) -> Described:
    (family,) = metric.describe()
    suffixes = _SUFFIXES[family.type]
    return Described(
        name=family.name + (suffixes[0] if family.type == "counter" else ""),
        kind=family.type,
        # The library has no public way to the names of labels.
        labels=tuple(metric._labelnames),
        help=family.documentation,
        series=tuple(family.name + suffix for suffix in suffixes),
    )
