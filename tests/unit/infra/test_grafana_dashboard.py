"""The Grafana dashboard asks for what the services export, and for nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import ProcessCollector

from pipeline.ledger import SPANS
from tests.support.metrics import every_metric

DASHBOARD: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[3] / "infra/grafana/corestream.json").read_text()
)
OF_PROMETHEUS = {"le", "job", "instance"}
"""Labels that it adds or buckets have."""
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]


def exported() -> dict[str, set[str]]:
    """Return the labels of every sample by its name."""
    own = {name: set(metric._labelnames) for metric, names in every_metric().items() for name in names}
    process = {
        sample.name: set(sample.labels)
        for metric in ProcessCollector(registry=None).collect()
        for sample in metric.samples
    }
    return own | process


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_metrics_and_labels_that_exist(query: str) -> None:
    """A panel that asks for anything else stays empty and looks like peace."""
    samples = exported()
    named = set(re.findall(r"\b(?:corestream|process)_\w+", query))
    assert named
    assert named <= set(samples)
    labels = set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", query))
    for by in re.findall(r"by \(([^)]*)\)", query):
        labels |= set(by.split(", "))
    assert labels <= OF_PROMETHEUS.union(*(samples[name] for name in named))


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_stretches_of_the_ledger_that_exist(query: str) -> None:
    """Stages are values of a label, which Prometheus never complains of."""
    for stages in re.findall(r"stage[=!]~?\"([^\"]*)\"", query):
        assert set(stages.split("|")) <= set(SPANS)


def test_no_panel_lies_on_another() -> None:
    """Grafana would move them, and everybody's dashboard would look different."""
    taken = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(taken) == len(set(taken))
    assert {x for x, _ in taken} == set(range(24))
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
