"""The Kubernetes example fits together, and fits the server."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    text = (ROOT / "docker" / "kubernetes.yaml").read_text()
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


@pytest.fixture(scope="module")
def pod(objects: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


def test_the_service_finds_the_pods(objects: dict[str, Any]) -> None:
    template = objects["Deployment"]["spec"]["template"]
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    assert objects["Service"]["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    names = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] in names


def test_the_server_listens_where_probes_and_scrapers_look(
    objects: dict[str, Any], pod: dict[str, Any]
) -> None:
    (server,) = pod["containers"]
    environment = {each["name"]: each.get("value") for each in server["env"]}
    assert environment["PORT"] == str(server["ports"][0]["containerPort"])
    annotations = objects["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == environment["PORT"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[probe]["httpGet"] == {"path": "/health", "port": "http"}


def test_open_requests_have_time_to_finish(pod: dict[str, Any]) -> None:
    pause = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + 90


def test_every_mount_has_its_volume_and_models_lie_where_the_image_keeps_them(pod: dict[str, Any]) -> None:
    mounts = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert mounts == {"models": "/data", "shared-memory": "/dev/shm"}
    assert {each["name"] for each in pod["volumes"]} == mounts.keys()


def test_it_does_not_run_as_root(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False
