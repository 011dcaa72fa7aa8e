"""docs/operations.md names every setting as the code has it."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic.fields import FieldInfo

from pipeline.keys import NOTIFIERS, PROCESSORS, Keys
from pipeline.settings import PREFIX, PipelineSettings
from tests.support.metrics import every_metric
from tests.support.services import SETTINGS

PAGE = (Path(__file__).resolve().parents[3] / "docs/operations.md").read_text()


def shown(field: FieldInfo) -> str:
    """Return a setting's default as the page writes it."""
    if field.is_required():
        return "required"
    return "none" if field.default is None else f"`{field.default}`"


def test_the_table_of_settings_is_the_code_s() -> None:
    """Every variable with its default and its services, and none that nobody reads."""
    table = {
        name: (default, of)
        for name, default, of in re.findall(rf"^\| `{PREFIX}(\w+)` \| (.+?) \| (.+?) \|", PAGE, re.MULTILINE)
    }
    expected: dict[str, tuple[str, str]] = {}
    for service, settings in SETTINGS.items():
        for name, field in settings.model_fields.items():
            _, of = expected.get(name.upper(), ("", ""))
            everybody = name in PipelineSettings.model_fields
            services = "all" if everybody else ", ".join(filter(None, [of, service]))
            expected[name.upper()] = (shown(field), services)
    assert table == expected


def test_the_keys_to_look_at_are_the_code_s() -> None:
    """A command that is copied from the page finds something."""
    keys = Keys(str(PipelineSettings.model_fields["stream_prefix"].default))
    named = set(re.findall(rf"{re.escape(keys.prefix)}[a-z]\S*?(?=[ `])", PAGE))
    assert named == {
        keys.scans,
        keys.results,
        keys.dead,
        keys.workers,
        keys.job("<job_id>"),
        keys.timeline("<job_id>"),
    }
    assert f"XPENDING {keys.scans} {PROCESSORS} " in PAGE
    assert f"XPENDING {keys.results} {NOTIFIERS} " in PAGE


def test_the_table_of_metrics_is_the_code_s() -> None:
    """Every metric with its type and its labels, and none that nobody counts."""
    expected = {}
    for metric in every_metric():
        name = f"{metric._name}_total" if metric._type == "counter" else metric._name
        expected[name] = (metric._type, ", ".join(f"`{label}`" for label in metric._labelnames))
    rows = re.findall(r"^\| `(corestream_\w+)` \| (\w+) \| (.*?) ?\|", PAGE, re.MULTILINE)
    assert {name: (kind, labels) for name, kind, labels in rows} == expected
