"""infra/k8s: valid for Kubernetes, and of one mind with the code, the images and the compose file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import kubernetes_validate
import pytest
import yaml
from pydantic import SecretStr

from pipeline.keys import Keys
from pipeline.settings import INGEST_PORT, PREFIX, VIEWER_PORT, PipelineSettings
from pipeline.web.health import ROUTES
from tests.support.services import SETTINGS

INFRA = Path(__file__).resolve().parents[3] / "infra"
K8S = INFRA / "k8s"
COMPOSE: dict[str, Any] = yaml.safe_load((INFRA / "docker-compose.yml").read_text())["services"]
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((INFRA / "kustomization.yaml").read_text())
DOCUMENTS: list[dict[str, Any]] = [
    document for path in sorted(K8S.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())
]
BY_HAND = {"secret.example.yaml", "fetch-model.yaml"}
"""Applied one by one, not with the rest."""
VERSIONS = ("1.25", "1.37")
"""Of Kubernetes: the oldest whose schemas are kept, the newest at hand."""
REDIS_PORT = 6379
METRICS_PORT = int(COMPOSE["processor"]["environment"]["CORESTREAM_METRICS_PORT"])
PORTS = {"ingest": INGEST_PORT, "viewer": VIEWER_PORT, "notifier": METRICS_PORT, "processor": METRICS_PORT}
ANSWERS, WORKS, _METRICS = ROUTES
(USER,) = map(int, re.findall(r"^USER (\d+):\1$", (INFRA / "Dockerfile").read_text(), re.MULTILINE))


def named(kind: str) -> dict[str, dict[str, Any]]:
    """Return the objects of a kind by name."""
    return {each["metadata"]["name"]: each for each in DOCUMENTS if each["kind"] == kind}


WORKLOADS = named("Deployment") | named("StatefulSet")
PODS: dict[str, dict[str, Any]] = {
    name: each["spec"]["template"] for name, each in (WORKLOADS | named("Job")).items()
}


def container(name: str) -> dict[str, Any]:
    """Return the one container of a workload's pods."""
    (only,) = PODS[name]["spec"]["containers"]
    return dict(only)


def environment(name: str) -> dict[str, dict[str, Any]]:
    """Return what a container's own variables are, by name without prefix."""
    return {each["name"].removeprefix(PREFIX).lower(): each for each in container(name).get("env", [])}


def is_secret(settings: type[PipelineSettings], name: str) -> bool:
    """Tell whether a setting is never shown."""
    return settings.model_fields[name].annotation in (SecretStr, SecretStr | None)


def selects(selector: dict[str, Any], app: str) -> bool:
    """Tell whether a label selector takes the pods of an app; this knows no more than the files use."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    expressions = selector.get("matchExpressions", [])
    assert all(each["key"] == "app" and each["operator"] == "In" for each in expressions)
    return selector.get("matchLabels", {"app": app}) == {"app": app} and all(
        app in each["values"] for each in expressions
    )


def allowed(app: str, direction: Literal["ingress", "egress"]) -> list[dict[str, Any]]:
    """Return the rules of all policies that let an app's pods be reached, or reach."""
    return [
        rule
        for policy in named("NetworkPolicy").values()
        if selects(policy["spec"]["podSelector"], app)
        for rule in policy["spec"].get(direction, [])
    ]


def test_a_kustomization_takes_in_every_file_but_those_that_are_applied_by_hand() -> None:
    """A file that nobody applies helps nobody."""
    here = {path.name for path in K8S.glob("*.yaml")} - BY_HAND
    assert set(KUSTOMIZATION["resources"]) == {f"k8s/{name}" for name in here}
    assert KUSTOMIZATION["namespace"] in named("Namespace")
    for kind in ("Secret", "Job"):
        assert {each["metadata"]["namespace"] for each in named(kind).values()} == {
            KUSTOMIZATION["namespace"]
        }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "document",
    [
        pytest.param(each, id=f"{each['kind']} {each['metadata']['name']}")
        for each in DOCUMENTS
        if each["kind"] != "ScaledObject"  # KEDA's own, and held below to the last word
    ],
)
def test_a_document_is_what_kubernetes_takes(document: dict[str, Any], version: str) -> None:
    """By its own schema, which knows every field there is: a misspelt one would be ignored or refused."""
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_a_workload_is_that_of_the_compose_file(name: str) -> None:
    """The same image, command, memory and time to drain, and labels by which its pods are found."""
    compose, pod = COMPOSE[name], PODS[name]
    assert container(name)["image"] == compose["image"]
    assert container(name).get("args") == compose.get("command")
    limit = container(name)["resources"]["limits"]["memory"]
    assert limit.lower().removesuffix("i") == compose["mem_limit"]
    assert pod["spec"]["terminationGracePeriodSeconds"] == int(compose["stop_grace_period"].removesuffix("s"))
    assert pod["metadata"]["labels"] == {"app": name}
    assert WORKLOADS[name]["spec"]["selector"] == {"matchLabels": {"app": name}}


def test_the_workloads_are_the_services_and_redis() -> None:
    """Whoever adds one adds it to every rule here. Mails are not caught: a cluster has a mail server."""
    assert set(WORKLOADS) == set(SETTINGS) | {"redis"} == set(COMPOSE) - {"mail-catcher"}


@pytest.mark.parametrize("name", sorted(PODS))
def test_a_pod_may_do_nothing_but_its_work(name: str) -> None:
    """Its own user without root, a read-only root, no capability, no privilege, no token of the cluster's."""
    pod, only = PODS[name]["spec"], container(name)
    user = 999 if name == "redis" else USER
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        **dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), user),
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(only["resources"]["requests"]) == {"cpu", "memory"}


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_volumes_lie_where_the_compose_file_has_them(name: str) -> None:
    """The same volumes on the same paths, as read-only as there; the tmpfs is as large."""
    mounts = {
        f"{each['name']}:{each['mountPath']}{':ro' if each.get('readOnly') else ''}"
        for each in container(name)["volumeMounts"]
    }
    ours = {each for each in COMPOSE[name]["volumes"] if not each.startswith("./")}
    assert mounts - {"conf:/etc/corestream:ro"} == ours | {"tmp:/tmp"}
    volumes = {each["name"]: each for each in PODS[name]["spec"]["volumes"]}
    tmp = volumes.pop("tmp")["emptyDir"]
    assert tmp == {"medium": "Memory", "sizeLimit": "256Mi"}
    assert [each.partition("size=")[2][:4] for each in COMPOSE[name]["tmpfs"]] == ["256m"]
    for volume in set(volumes) - {"conf"}:
        assert volumes[volume]["persistentVolumeClaim"] == {"claimName": volume}
        assert named("PersistentVolumeClaim")[volume]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_redis_is_configured_by_the_one_file() -> None:
    """What compose mounts is what kustomize makes a ConfigMap of, on the path that the command names."""
    assert {"name": "redis", "files": ["redis.conf"]} in KUSTOMIZATION["configMapGenerator"]
    assert {"name": "conf", "configMap": {"name": "redis"}} in PODS["redis"]["spec"]["volumes"]
    assert "./redis.conf:/etc/corestream/redis.conf:ro" in COMPOSE["redis"]["volumes"]
    (claim,) = WORKLOADS["redis"]["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "redis"


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_service_is_asked_where_it_answers(name: str) -> None:
    """It is begun anew when it does not answer at all, never because Redis is away.

    Ingest is reachable as long as it answers: it has words for a Redis that is away and a disk that is full.
    """
    only = container(name)
    (port,) = only["ports"]
    assert port["containerPort"] == PORTS[name]
    assert only["livenessProbe"]["httpGet"] == {"path": ANSWERS, "port": port["name"]}
    ready = ANSWERS if name == "ingest" else WORKS
    assert only["readinessProbe"]["httpGet"] == {"path": ready, "port": port["name"]}
    if name in ("ingest", "viewer"):
        service = named("Service")[name]["spec"]
        assert only["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "5"]}}}
        assert PODS[name]["spec"]["terminationGracePeriodSeconds"] > 5 + 30  # to end its running requests
        assert service["selector"] == {"app": name}
        assert service["ports"] == [{"name": "http", "port": PORTS[name], "targetPort": port["name"]}]


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_service_is_told_settings_of_its_own_and_no_other_s_secrets(name: str) -> None:
    """What is required is there, what is secret comes from the Secret, and nothing is misspelt."""
    own, settings = environment(name), SETTINGS[name]
    fields = settings.model_fields
    assert set(own) <= set(fields)
    assert {field for field in fields if fields[field].is_required()} <= set(own)
    assert {field for field in own if "valueFrom" in own[field]} == {
        field for field in fields if is_secret(settings, field)
    }
    (secret,) = named("Secret").values()
    example = (K8S / "secret.example.yaml").read_text()
    for field in own:
        if is_secret(settings, field):
            assert own[field]["valueFrom"]["secretKeyRef"]["name"] == secret["metadata"]["name"]
            assert own[field]["valueFrom"]["secretKeyRef"]["key"] == own[field]["name"]
            assert re.search(rf'^  #?{own[field]["name"]}: ""$', example, re.MULTILINE)
        elif field != "redis_url":
            assert own[field]["value"] == str(COMPOSE[name]["environment"][own[field]["name"]])


def test_what_all_services_are_told_is_a_setting_and_no_secret() -> None:
    """settings.env reaches every container: a misspelt name would be ignored, a secret known to all."""
    text = (K8S / "settings.env").read_text()
    told = {name.lower() for name in re.findall(rf"^#?{PREFIX}(\w+)=", text, re.MULTILINE)}
    assert {"name": "settings", "envs": ["k8s/settings.env"]} in KUSTOMIZATION["configMapGenerator"]
    for name in SETTINGS:
        assert container(name)["envFrom"] == [{"configMapRef": {"name": "settings"}}]
    assert {"public_url", "viewer_url"} <= told
    assert told <= {field for settings in SETTINGS.values() for field in settings.model_fields}
    for settings in SETTINGS.values():
        assert not [field for field in told & set(settings.model_fields) if is_secret(settings, field)]


def test_processors_are_as_many_as_the_stream_of_scans_is_long() -> None:
    """By its length and not by a group's lag, which does not count what runs; nobody else sets the number."""
    keys = Keys(str(PipelineSettings.model_fields["stream_prefix"].default))
    scaled = named("ScaledObject")["processor"]
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    (trigger,) = scaled["spec"]["triggers"]
    assert {key: value for key, value in scaled["spec"].items() if key != "triggers"} == {
        "scaleTargetRef": {"name": "processor"},
        "pollingInterval": 5,
        "minReplicaCount": 0,
        "maxReplicaCount": 4,
        "fallback": {"failureThreshold": 3, "replicas": 1},
    }
    assert trigger == {
        "type": "redis-streams",
        "metadata": {
            "address": f"redis.{KUSTOMIZATION['namespace']}.svc:{REDIS_PORT}",
            "stream": keys.scans,
            "streamLength": "4",
        },
    }
    assert "replicas" not in WORKLOADS["processor"]["spec"]


def test_what_reads_uploads_reaches_redis_alone_and_redis_nobody() -> None:
    """No patient data leaves the house by way of a parser's hole, nor by a question to DNS."""
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in [
        policy["spec"] for policy in named("NetworkPolicy").values()
    ]
    redis_alone = {
        "to": [{"podSelector": {"matchLabels": {"app": "redis"}}}],
        "ports": [{"port": REDIS_PORT}],
    }
    assert allowed("processor", "egress") == allowed("ingest", "egress") == [redis_alone]
    assert allowed("viewer", "egress") == allowed("redis", "egress") == []
    assert allowed("notifier", "egress") == [redis_alone, {}]
    host, port = "$(REDIS_SERVICE_HOST)", "$(REDIS_SERVICE_PORT)"
    for name in ("ingest", "notifier", "processor"):
        assert environment(name)["redis_url"]["value"] == f"redis://{host}:{port}/0"


def test_redis_hears_from_the_services_that_use_it_and_from_the_autoscaler() -> None:
    """It asks for no password."""
    (rule,) = allowed("redis", "ingress")
    assert rule["ports"] == [{"port": REDIS_PORT}]
    service = named("Service")["redis"]["spec"]
    assert service["ports"] == [{"name": "redis", "port": REDIS_PORT, "targetPort": "redis"}]
    assert container("redis")["ports"] == [{"name": "redis", "containerPort": REDIS_PORT}]
    services, autoscaler = rule["from"]
    users = {name for name in PODS if "redis_url" in environment(name)}
    assert {name for name in PODS if selects(services["podSelector"], name)} == users
    assert set(services) == {"podSelector"}
    assert autoscaler == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}},
        "podSelector": {"matchLabels": {"app": "keda-operator"}},
    }


def test_pages_and_metrics_are_all_that_can_be_asked_of_a_service() -> None:
    """Pages from everywhere, metrics from within the cluster."""
    pages = [{"ports": [{"port": INGEST_PORT}, {"port": VIEWER_PORT}]}]
    metrics = [{"from": [{"namespaceSelector": {}}], "ports": [{"port": METRICS_PORT}]}]
    assert allowed("ingest", "ingress") == allowed("viewer", "ingress") == pages
    assert allowed("processor", "ingress") == allowed("notifier", "ingress") == metrics
    assert allowed("fetch-model", "ingress") == []
