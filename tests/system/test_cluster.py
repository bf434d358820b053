"""What the files of ``deploy/cluster`` must agree on: with each other, and with the hub."""

import os
import re
import subprocess

import psycopg
import yaml

from muster_hub.settings.parts import EVERY, parse
from support.cluster import CLUSTER, HEALTH, ROLES, compose, manifests, pods
from support.hub_kit import open_kit


def role(command: list[str]) -> frozenset[str]:
    return parse(command[command.index("--role") + 1])


def test_every_role_runs_twice_and_no_other_is_named():
    for commands in (
        [compose()[name]["command"] for name in ROLES],
        [pods()[name]["containers"][0]["args"] for name in ROLES],
    ):
        assert frozenset().union(*map(role, commands)) == EVERY
    assert {compose()[name]["deploy"]["replicas"] for name in ROLES} == {2}
    assert {manifests()["Deployment", name]["spec"]["replicas"] for name in ROLES} == {2}


def test_both_run_the_same_commands_of_one_image():
    for name in ROLES:
        container = pods()[name]["containers"][0]
        assert container["args"] == compose()[name]["command"]
        assert container["image"] == compose()[name]["image"]
    assert pods()["setup"]["containers"][0]["args"] == compose()["setup"]["command"]


def test_every_image_says_its_version():
    images = [service["image"] for service in compose().values()]
    images += [each["image"] for pod in pods().values() for each in pod["containers"]]
    for image in images:
        assert re.fullmatch(r"[a-z-]+:\d+(\.\d+)+", image), image


def test_no_pod_has_more_rights_than_it_needs():
    for name, pod in pods().items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["allowPrivilegeEscalation"] is False, name
            assert rights["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


def test_the_probes_ask_what_the_hub_answers_without_a_token(tmp_path):
    paths = {
        container[probe]["httpGet"]["path"]
        for name in ROLES
        for container in pods()[name]["containers"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert paths == {HEALTH}
    assert compose()["api"]["healthcheck"]["test"][-1].endswith(HEALTH)
    kit = open_kit(tmp_path)
    try:
        assert kit.http.get(HEALTH).status_code == 200
    finally:
        kit.close()


def test_of_each_role_one_pod_stays_while_nodes_are_drained():
    for name in ROLES:
        budget = manifests()["PodDisruptionBudget", name]["spec"]
        labels = manifests()["Deployment", name]["spec"]["template"]["metadata"]["labels"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"]["matchLabels"].items() <= labels.items()


def test_every_volume_secret_and_setting_that_a_pod_names_is_there():
    made = manifests()
    kustomization = yaml.safe_load((CLUSTER / "kubernetes" / "kustomization.yaml").read_text())
    generated = {each["name"]: each["files"] for each in kustomization["configMapGenerator"]}
    for files in generated.values():
        assert all((CLUSTER / "kubernetes" / file).is_file() for file in files), files
    listed = {CLUSTER / "kubernetes" / file for file in kustomization["resources"]}
    assert listed == set((CLUSTER / "kubernetes").glob("*.yaml")) - {
        CLUSTER / "kubernetes" / "kustomization.yaml"
    }
    for name, pod in pods().items():
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        claimed = {
            claim["metadata"]["name"]
            for kind in ("StatefulSet",)
            for claim in made.get((kind, name), {}).get("spec", {}).get("volumeClaimTemplates", [])
        }
        for container in pod["containers"]:
            for mount in container["volumeMounts"]:
                assert mount["name"] in volumes.keys() | claimed, (name, mount)
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                key = "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
                assert key in made
            if "configMap" in volume:
                assert volume["configMap"]["name"] in generated


def test_the_password_of_the_database_stands_in_no_file():
    text = (CLUSTER / "hub.toml").read_text()
    (url,) = re.findall(r'^database = "(.*)"$', text, re.MULTILINE)
    assert "password" not in psycopg.conninfo.conninfo_to_dict(url)
    for name in (*ROLES, "setup"):
        assert compose()[name]["environment"]["PGPASSWORD"].startswith("${")
        (variable,) = pods()[name]["containers"][0]["env"]
        assert variable["valueFrom"]["secretKeyRef"] == {"name": "database", "key": "password"}


def test_the_scripts_are_understood_by_a_plain_shell():
    for script in ("setup", "broker"):
        subprocess.run(["sh", "-n", CLUSTER / script], check=True, timeout=30)
        assert os.access(CLUSTER / script, os.X_OK)
