"""deploy/kubernetes on a real cluster of one node: the weights of the local run, with a pod deleted on the way.

`make kubernetes-test`. Needs what up.sh names, and the image stdc:cpu in the engine's folder, which DOCKER_DATA names.
What is changed in the manifests for such a cluster: pods use the host's network, the claim is a folder of this machine,
and fields that Kubernetes 1.20 does not know (podFailurePolicy, completionMode) are left out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
import yaml

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
DEPLOY = REPOSITORY / "deploy" / "kubernetes"
USER = 10001
LIMIT_S = 1800.0
NODES = "{device: cpu, devices: 1, threads: 1, workers: 0, nodes: 2}"
TWO_DEVICES = "{device: cpu, devices: 2, threads: 1, workers: 0}"

pytestmark = [pytest.mark.image, pytest.mark.timeout(3600)]


class Cluster:
    """A running cluster, the folder that its claims are, and kubectl."""

    def __init__(self, started: str, folder: Path) -> None:
        self.environment = {**os.environ, **dict(line.split("=", 1) for line in started.split())}
        self.folder = folder

    def kubectl(self, *words: object, given: str = "", check: bool = True) -> str:
        result = subprocess.run(
            ["kubectl", *map(str, words)],
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or result.returncode == 0, result.stderr
        return result.stdout

    def apply(self, documents: List[Dict[str, Any]]) -> None:
        # What 1.20 does not know is dropped, and reported, by hand: `fit`.
        self.kubectl("apply", "--validate=false", "-f", "-", given=yaml.safe_dump_all(documents))

    def volume(self, name: str) -> Path:
        """A folder of this machine as the volume that the claim of the manifests binds."""
        folder = self.folder / name
        folder.mkdir(mode=0o755)
        os.chown(folder, USER, USER)
        storage = {"capacity": {"storage": "20Gi"}, "accessModes": ["ReadWriteMany"], "hostPath": {"path": str(folder)}}
        self.apply([{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": storage}])
        return folder

    def pods(self, job: str) -> List[Dict[str, Any]]:
        return list(json.loads(self.kubectl("get", "pods", "-l", f"job-name={job}", "-o", "json"))["items"])

    def wait(self, what: str, condition: Callable[[], bool], job: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(1)
        logs = [self.kubectl("logs", pod["metadata"]["name"], check=False)[-3000:] for pod in self.pods(job)]
        pytest.fail(f"{what}: not within {LIMIT_S:.0f} s; {logs} {self.kubectl('get', 'events', check=False)[-3000:]}")

    def succeeded(self, job: str) -> bool:
        status = json.loads(self.kubectl("get", "job", job, "-o", "json"))["status"]
        return bool(status.get("succeeded"))

    @contextlib.contextmanager
    def running(self, documents: List[Dict[str, Any]], volume: str) -> Iterator[None]:
        """What a test needs, removed behind it: the claim has one name, and would bind another test's volume."""
        self.apply(documents)
        try:
            yield
        finally:
            self.kubectl("delete", "--ignore-not-found", "-f", "-", given=yaml.safe_dump_all(documents))
            self.kubectl("delete", "pv", volume)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if os.environ.get("STDC_KUBERNETES_TEST") != "1":
        pytest.skip("no cluster is started: STDC_KUBERNETES_TEST is not 1 (make kubernetes-test)")
    if os.geteuid() != 0:
        pytest.skip("no cluster is started: only root can")
    folder = tmp_path_factory.mktemp("cluster")
    started = subprocess.run([HERE / "up.sh", "start", folder], capture_output=True, text=True, check=False)
    if started.returncode != 0:
        subprocess.run([HERE / "up.sh", "stop", folder], check=False)
        pytest.skip(f"no cluster on this machine: {started.stderr.strip()[-500:]}")
    try:
        made = Cluster(started.stdout, folder)
        if subprocess.run(
            ["docker", "image", "inspect", "stdc:cpu"], env=made.environment, capture_output=True
        ).returncode:
            pytest.skip(
                "the engine of this cluster has no image stdc:cpu (DOCKER_DATA names the folder of one that has)"
            )
        yield made
    finally:
        subprocess.run([HERE / "up.sh", "stop", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def rendered(name: str) -> List[Dict[str, Any]]:
    text = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / name)], capture_output=True, text=True, check=True
    ).stdout
    return list(yaml.safe_load_all(text))


def recipe_map(recipe: str) -> Dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "recipe"}, "data": {"recipe.yaml": recipe}}


def fit(job: Dict[str, Any], hardware: str) -> Dict[str, Any]:
    """A Job of ours for this cluster and a recipe that takes seconds."""
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    for name in ("podFailurePolicy", "completionMode"):
        spec.pop(name, None)
    (container,) = pod["containers"]
    pod["hostNetwork"] = True
    # On the host's network a port is the host's, which two pods cannot both have.
    container.pop("ports", None)
    # Two cores are all there is.
    container["resources"] = {"requests": {"cpu": "900m", "memory": "500Mi"}, "limits": {"memory": "4Gi"}}
    container["args"] = ["--cores", "1", "--configfile", "/recipe/recipe.yaml", "--config", f"hardware={hardware}"]
    container["volumeMounts"].append({"name": "recipe", "mountPath": "/recipe"})
    pod["volumes"].append({"name": "recipe", "configMap": {"name": "recipe"}})
    return job


def node(job: Dict[str, Any], number: int) -> Dict[str, Any]:
    """One pod of an Indexed Job as a Job of its own, a stand-in for a controller that Kubernetes 1.20 does not have."""
    job = json.loads(json.dumps(job))
    job["metadata"]["name"] = f"stdc-nodes-{number}"
    job["spec"].update(completions=1, parallelism=1)
    environment = job["spec"]["template"]["spec"]["containers"][0]["env"]
    for variable in environment:
        if variable["name"] == "PADDLE_MASTER":
            variable["value"] = "127.0.0.1:37777"
        if variable["name"] == "PADDLE_JOB_ID":
            del variable["valueFrom"]
            variable["value"] = "one-job"
    environment += [
        {"name": "JOB_COMPLETION_INDEX", "value": str(number)},
        {"name": "GLOO_SOCKET_IFNAME", "value": "lo"},
    ]
    return job


def weights(place: Path) -> Dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in place.glob("results/*/seed0/*.pdparams")
    }


def run_here(folder: Path, recipe: str, hardware: str) -> Dict[str, str]:
    """Weights of the same recipe from this checkout."""
    folder.mkdir()
    (folder / "recipe.yaml").write_text(recipe)
    python = os.environ.get("STDC_SNAKEMAKE_PYTHON") or str(REPOSITORY / ".venv" / "workflow" / "bin" / "python")
    command = [
        python,
        "-m",
        "snakemake",
        "--snakefile",
        str(REPOSITORY / "Snakefile"),
        "--cores",
        "2",
        "--until",
        "train",
    ]
    command += ["--configfile", "recipe.yaml", "--config", f"hardware={hardware}"]
    environment = {**os.environ, "STDC_PYTHON": sys.executable}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return weights(folder)


def long_recipe(iterations: int) -> str:
    recipe = yaml.safe_load((REPOSITORY / "tests" / "workflow" / "tiny.yaml").read_text(encoding="utf-8"))
    recipe["train"].update(iterations=iterations, save_interval=20, eval_interval=iterations // 2, log_interval=10)
    return yaml.safe_dump(recipe)


def test_job_whose_pod_is_deleted_gives_the_weights_of_the_local_run(cluster: Cluster, tmp_path: Path) -> None:
    recipe, one = long_recipe(120), "{device: cpu, devices: 1, threads: 1, workers: 0}"
    volume = cluster.volume("one-pod")
    documents = [fit(each, one) if each["kind"] == "Job" else each for each in rendered("job")]
    documents.append(recipe_map(recipe))
    with cluster.running(documents, "one-pod"):
        cluster.wait("a checkpoint", lambda: bool(list(volume.glob("runs/*/checkpoints/*/manifest.json"))), "stdc")
        (pod,) = cluster.pods("stdc")
        name = pod["metadata"]["name"]
        logs = subprocess.Popen(
            ["kubectl", "logs", "-f", name],
            env=cluster.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        begun = time.monotonic()
        cluster.kubectl("delete", "pod", name, "--wait=true")
        seconds, said = time.monotonic() - begun, logs.communicate(timeout=60)[0]
        assert "the state is saved" in said, said[-3000:]
        # The next pod may have come to its end meanwhile; this one had not.
        assert "wrote results" not in said
        cluster.wait("the end", lambda: cluster.succeeded("stdc"), "stdc")
        again = "".join(cluster.kubectl("logs", pod["metadata"]["name"]) for pod in cluster.pods("stdc"))
        assert "resum" in again and (volume / "results/tiny/report.html").is_file()
        assert {path.stat().st_uid for path in volume.rglob("*")} == {USER}
    expected = run_here(tmp_path / "here", recipe, one)
    print(f"\none pod, deleted and resumed after {seconds:.0f} s: {expected}")
    assert weights(volume) == expected != {}


def test_nodes_of_a_job_give_the_weights_of_two_ranks_on_one_machine(cluster: Cluster, tmp_path: Path) -> None:
    recipe = long_recipe(40)
    volume = cluster.volume("two-pods")
    documents = [each for each in rendered("indexed") if each["kind"] != "Job"]
    (job,) = (fit(each, NODES) for each in rendered("indexed") if each["kind"] == "Job")
    documents += [recipe_map(recipe), node(job, 0), node(job, 1)]
    with cluster.running(documents, "two-pods"):
        cluster.wait("the end of node 0", lambda: cluster.succeeded("stdc-nodes-0"), "stdc-nodes-0")
        cluster.wait("the end of node 1", lambda: cluster.succeeded("stdc-nodes-1"), "stdc-nodes-1")
        (other,) = cluster.pods("stdc-nodes-1")
        assert "joins the training" in cluster.kubectl("logs", other["metadata"]["name"])
    expected = run_here(tmp_path / "here", recipe, TWO_DEVICES)
    print(f"\ntwo pods: {expected}")
    assert weights(volume) == expected != {}
