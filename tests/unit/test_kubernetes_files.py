"""deploy/kubernetes: valid for the versions of Kubernetes in use, guarded, as the images, profiles and code need it."""

from __future__ import annotations

import copy
import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Mapping

import pytest
import yaml

from stdc.errors import InputError, StoppedError
from stdc.machine import watcher
from stdc.machine.nodes import find_nodes

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy" / "kubernetes"
FOLDERS = sorted(path.name for path in DEPLOY.iterdir())
RUNS = [name for name in FOLDERS if name != "claim"]
OVER_NODES = [name for name in RUNS if not name.startswith("job")]
#: The newest that the validator knows, those that are still cared for, and an older one.
VERSIONS = ("1.30", "1.34", "1.35", "1.36", "1.37")
#: What the training operator adds to the pods of a PaddleJob of two workers, as its source says.
OPERATOR = {"PADDLE_NNODES": "2", "PADDLE_JOB_ID": "stdc-nodes"}


@functools.lru_cache(maxsize=None)
def text_of(name: str) -> str:
    if shutil.which("kubectl") is None:
        pytest.skip("manifests are not rendered: no kubectl on this machine")
    command = ["kubectl", "kustomize", str(DEPLOY / name)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def rendered(name: str) -> List[Dict[str, Any]]:
    return list(yaml.safe_load_all(text_of(name)))


def run_of(name: str) -> Dict[str, Any]:
    (run,) = (each for each in rendered(name) if each["kind"] in ("Job", "PaddleJob"))
    return run


def template_of(run: Mapping[str, Any]) -> Dict[str, Any]:
    spec = run["spec"]
    return dict(spec["template"] if run["kind"] == "Job" else spec["paddleReplicaSpecs"]["Worker"]["template"])


def pod_of(name: str) -> Dict[str, Any]:
    return dict(template_of(run_of(name))["spec"])


def container_of(name: str) -> Dict[str, Any]:
    (container,) = pod_of(name)["containers"]
    return dict(container)


def environment_of(name: str) -> Dict[str, Any]:
    return {each["name"]: each.get("value") for each in container_of(name).get("env", [])}


def dockerfile_of(name: str) -> str:
    image = re.fullmatch(r"stdc:(\w+)", container_of(name)["image"])
    assert image is not None
    return (REPOSITORY / "docker" / f"{image[1]}.Dockerfile").read_text(encoding="utf-8")


# ---- valid


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid_and_hold_no_unknown_field(version: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="manifests are not validated: no kubernetes-validate")
    for name in FOLDERS:
        for document in rendered(name):
            if document["kind"] == "PaddleJob":
                # Its own definition is the operator's. What it makes are pods, which a Job holds too.
                pod = {"restartPolicy": "OnFailure", **template_of(document)["spec"]}
                job = {"template": {"spec": pod}}
                document = {"apiVersion": "batch/v1", "kind": "Job", "metadata": document["metadata"], "spec": job}
            validator.validate(document, version, strict=True)


def test_misspelt_field_is_refused() -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="manifests are not validated: no kubernetes-validate")
    run = copy.deepcopy(run_of("job"))
    run["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = True
    with pytest.raises(validator.ValidationError):
        validator.validate(run, VERSIONS[-1], strict=True)


# ---- guarded


@pytest.mark.parametrize("name", RUNS)
def test_pods_have_no_right_that_they_do_not_need(name: str) -> None:
    pod, container = pod_of(name), container_of(name)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not any(pod.get(field) for field in ("hostNetwork", "hostPID", "hostIPC"))
    # `--cores all` would mean every core of the machine without a limit.
    assert container["resources"]["limits"].keys() >= {"cpu", "memory"}


@pytest.mark.parametrize("name", RUNS)
def test_what_must_be_writable_is_and_the_dataset_is_not(name: str) -> None:
    pod, container, image = pod_of(name), container_of(name), dockerfile_of(name)
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in mounts.values()} == set(volumes)
    # Home, caches and temporary files of the image.
    places = set(re.findall(r"\b(?:HOME|XDG_CACHE_HOME|MPLCONFIGDIR)=(/\w+)", image))
    assert places == {"/tmp"} and "emptyDir" in volumes[mounts["/tmp"]["name"]]
    (results,) = re.findall(r"STDC_DIRECTORY=(\S+)", image)
    assert volumes[mounts[results]["name"]]["persistentVolumeClaim"]["claimName"] == "stdc-results"
    assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"]["medium"] == "Memory"
    if "/data" in mounts:
        assert mounts["/data"]["readOnly"] is True


# ---- in agreement with the images, the profiles and the code


@pytest.mark.parametrize("name", RUNS)
def test_user_is_the_images_own(name: str) -> None:
    user, group = re.findall(r"^USER (\d+):(\d+)$", dockerfile_of(name), re.MULTILINE)[-1]
    context = pod_of(name)["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (int(user), int(group), int(group))


@pytest.mark.parametrize("name", RUNS)
def test_arguments_name_recipes_and_folders_that_are_there(name: str) -> None:
    container = container_of(name)
    # The image's entrypoint is the command.
    assert "command" not in container
    words = container["args"]
    assert words[:2] == ["--cores", "all"]
    for option, value in zip(words, words[1:]):
        if option == "--configfile":
            assert (REPOSITORY / value).is_file()
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert all(word.partition("=")[2] in mounts for word in words if word.startswith("dataset="))


@pytest.mark.parametrize("name", [name for name in RUNS if "-" in name])
def test_devices_come_with_the_cores_of_their_profile_and_the_memory_of_the_rule(name: str) -> None:
    limits = container_of(name)["resources"]["limits"]
    resource = {"nvidia": "nvidia.com/gpu", "iluvatar": "iluvatar.com/gpu"}[name.partition("-")[2]]
    devices = int(limits[resource])
    (profile,) = re.findall(r"SNAKEMAKE_PROFILE=/opt/stdc/(\S+)", dockerfile_of(name))
    asked = (REPOSITORY / profile / "config.yaml").read_text(encoding="utf-8")
    (threads,) = re.findall(r"^  train: \?devices \* (\d+)$", asked, re.MULTILINE)
    rule = (REPOSITORY / "workflow" / "rules" / "train.smk").read_text(encoding="utf-8")
    (megabytes,) = map(int, re.findall(r"^ +mem_mb=(\d+) \* HARDWARE", rule, re.MULTILINE))
    assert int(limits["cpu"]) >= devices * int(threads)
    assert int(limits["memory"][: -len("Gi")]) * 2**30 >= devices * megabytes * 10**6
    # Shared memory for NCCL counts as memory of the container.
    (shared,) = (each["emptyDir"] for each in pod_of(name)["volumes"] if each["name"] == "shared-memory")
    assert shared["sizeLimit"] == "8Gi"


@pytest.mark.parametrize("name", RUNS)
def test_end_of_a_pod_leaves_time_for_a_checkpoint(name: str) -> None:
    assert pod_of(name)["terminationGracePeriodSeconds"] >= watcher._STOP_GRACE_S


@pytest.mark.parametrize("name", [name for name in RUNS if not name.startswith("paddlejob")])
def test_exit_codes_mean_what_they_mean_in_the_programs(name: str) -> None:
    spec = run_of(name)["spec"]
    rules = {
        code: rule["action"]
        for rule in spec["podFailurePolicy"]["rules"]
        for code in rule.get("onExitCodes", {}).get("values", [])
    }
    assert rules == {InputError.exit_code: "FailJob", StoppedError.exit_code: "Ignore"}
    names = {
        rule["onExitCodes"]["containerName"] for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule
    }
    assert names == {container_of(name)["name"]}
    assert {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]} in spec[
        "podFailurePolicy"
    ]["rules"]
    # The policy needs pods that are not started again in place.
    assert pod_of(name)["restartPolicy"] == "Never" and spec["backoffLimit"] > 0


@pytest.mark.parametrize("name", OVER_NODES)
def test_pods_find_out_which_node_they_are(name: str) -> None:
    run, variables = run_of(name), environment_of(name)
    if run["kind"] == "Job":
        spec = run["spec"]
        count = spec["completions"]
        assert spec["completionMode"] == "Indexed" and spec["parallelism"] == count
        variables["PADDLE_JOB_ID"] = "a-uid"
        pods = [{**variables, "JOB_COMPLETION_INDEX": str(index)} for index in range(count)]
    else:
        count = run["spec"]["paddleReplicaSpecs"]["Worker"]["replicas"]
        # The first worker is given its own address, the others its name.
        masters = ["10.0.0.7:37777", "stdc-nodes-worker-0:37777"]
        pods = [
            {**variables, **OPERATOR, "PADDLE_MASTER": masters[index], "POD_NAME": f"stdc-nodes-worker-{index}"}
            for index in range(count)
        ]
        assert container_of(name)["name"] == "paddle", "the operator looks for this name"
    assert f"hardware={{nodes: {count}}}" in container_of(name)["args"]
    found = [find_nodes(count, pod) for pod in pods]
    assert [nodes.number for nodes in found] == list(range(count))
    # All of them agree that it is one start.
    assert len({nodes.launch for nodes in found}) == 1


@pytest.mark.parametrize("name", [name for name in OVER_NODES if name.startswith("indexed")])
def test_the_first_pod_has_the_name_that_the_others_call(name: str) -> None:
    run = run_of(name)
    (service,) = (each for each in rendered(name) if each["kind"] == "Service")
    host, _, port = environment_of(name)["PADDLE_MASTER"].partition(":")
    assert host == f"{run['metadata']['name']}-0.{service['metadata']['name']}"
    assert pod_of(name)["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= template_of(run)["metadata"]["labels"].items()
    assert [each["containerPort"] for each in container_of(name)["ports"]] == [int(port)]


def test_claim_can_be_shared_by_pods_of_several_nodes() -> None:
    (claim,) = rendered("claim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
