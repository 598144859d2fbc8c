"""The manifests for Kubernetes, against its own schemas and JobSet's, and what they say against the command line."""

import json
import pathlib
import re

import pytest
import yaml

from stgrpo.cli import parse
from stgrpo.processes.join import of_environment

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = REPOSITORY.parent / "shared" / "scale" / "jobset.schema.json"
FILES = ("tpu.yaml", "gpu_vllm.yaml")


def documents(file: str) -> list[dict]:
    return list(yaml.safe_load_all((REPOSITORY / "launch" / "kubernetes" / file).read_text()))


def jobset(file: str) -> dict:
    (found,) = (d for d in documents(file) if d["kind"] == "JobSet")
    return found


def jobs(file: str) -> dict[str, dict]:
    return {job["name"]: job["template"]["spec"] for job in jobset(file)["spec"]["replicatedJobs"]}


def container(job: dict) -> dict:
    (found,) = job["template"]["spec"]["containers"]
    return found


def values(job: dict) -> dict[str, str]:
    """The variables of a container, `$(NAME)` of others replaced."""
    found = {v["name"]: v.get("value", "stgrpo") for v in container(job).get("env", ())}  # the one field is the name
    return {name: replaced(value, found) for name, value in found.items()}


def replaced(text: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda match: variables[match[1]], text)


def unknown(value: object, schema: dict, where: str = "") -> list[str]:
    """Fields that a schema does not have: jsonschema lets them pass, Kubernetes would drop them."""
    if isinstance(value, list):
        return [name for v in value for name in unknown(v, schema.get("items", {}), where)]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    known = schema["properties"]
    strange = [f"{where}.{name}" for name in value if name not in known]
    return strange + [
        n for name in known.keys() & value.keys() for n in unknown(value[name], known[name], f"{where}.{name}")
    ]


@pytest.mark.parametrize("file", FILES)
def test_kubernetes_takes_what_a_jobset_is_made_of(file):
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    inner = [
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": job}
        for name, job in jobs(file).items()
    ]
    for document in inner + [d for d in documents(file) if d["kind"] != "JobSet"]:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("file", FILES)
def test_a_jobset_has_its_form(file):
    jsonschema = pytest.importorskip("jsonschema", reason="pip install jsonschema")
    if not SCHEMA.is_file():
        pytest.skip("the schema of JobSet is not here")
    schema = json.loads(SCHEMA.read_text())
    jsonschema.validate(jobset(file), schema)
    assert unknown(jobset(file), schema) == []


@pytest.mark.parametrize("file", FILES)
def test_processes_find_each_other(file):
    trainer = jobs(file)["trainer"]
    assert jobset(file)["metadata"]["name"] == "stgrpo"
    count = trainer["completions"]
    assert trainer["completionMode"] == "Indexed" and trainer["parallelism"] == count
    for index in range(count):
        address = of_environment({**values(trainer), "JOB_COMPLETION_INDEX": str(index)})
        assert (address.coordinator, address.count, address.index) == ("stgrpo-trainer-0-0.stgrpo:1234", count, index)
    assert {"containerPort": 1234} in container(trainer)["ports"]


@pytest.mark.parametrize("file", FILES)
def test_the_command_line_takes_the_arguments(file, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    trainer = jobs(file)["trainer"]
    command = parse([replaced(a, values(trainer)) for a in container(trainer)["args"]])
    assert (command.stage, command.distributed, command.distributed_timeout) == ("run", "auto", 600)
    mounts = {m["name"]: m["mountPath"] for m in container(trainer)["volumeMounts"]}
    for path in (command.workdir, command.config.model.path, command.config.rollout.folder or mounts["work"]):
        assert pathlib.Path(path).is_relative_to(mounts["work"])


def test_the_trainer_knows_its_servers(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    trainer, server = jobs("gpu_vllm.yaml")["trainer"], jobs("gpu_vllm.yaml")["server"]
    train = parse([replaced(a, values(trainer)) for a in container(trainer)["args"]])
    serve = parse(container(server)["args"])
    addresses = tuple(f"http://stgrpo-server-0-{i}.stgrpo:{serve.port}" for i in range(server["completions"]))
    assert tuple(train.config.rollout.servers) == addresses and server["parallelism"] == len(addresses)
    assert (serve.stage, serve.host, serve.config.rollout.backend) == ("serve", "0.0.0.0", "vllm")
    assert {"containerPort": serve.port} in container(server)["ports"]
    for section in ("model", "limits"):
        assert train.config[section].to_dict() == serve.config[section].to_dict()
    assert container(trainer)["image"] == container(server)["image"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    ("status", "action"),
    [
        (75, "RestartJobSetAndIgnoreMaxRestarts"),
        (2, "FailJobSet"),
        (1, "RestartJobSet"),
        (137, "RestartJobSet"),
        (7, "RestartJobSet"),
    ],
)
def test_an_exit_status_has_its_consequence(file, status, action):
    """What the controllers of Job and JobSet do with a pod that ends with a status, by their documentation."""
    trainer, policy = jobs(file)["trainer"], jobset(file)["spec"]["failurePolicy"]
    assert (trainer["backoffLimit"], trainer["template"]["spec"]["restartPolicy"], policy["maxRestarts"]) == (
        0,
        "Never",
        10,
    )
    reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    for number, rule in enumerate(trainer["podFailurePolicy"]["rules"]):
        assert rule["onExitCodes"]["containerName"] == container(trainer)["name"]
        if status in rule["onExitCodes"]["values"]:
            reason = "PodFailurePolicy"
            message = f"Container c for pod a/b failed with exit code {status} matching FailJob rule at index {number}"
            break
    matching = [
        rule["action"]
        for rule in policy["rules"]
        if reason in rule["onJobFailureReasons"]
        and all(re.search(p, message) for p in rule.get("onJobFailureMessagePatterns", ()))
    ]
    assert [*matching, "RestartJobSet"][0] == action


def test_servers_end_with_the_trainer_and_answer_nobody_else():
    spec = jobset("gpu_vllm.yaml")["spec"]
    assert spec["successPolicy"] == {"operator": "All", "targetReplicatedJobs": ["trainer"]}
    (policy,) = (d for d in documents("gpu_vllm.yaml") if d["kind"] == "NetworkPolicy")
    chosen = policy["spec"]["podSelector"]["matchLabels"]
    (rule,) = policy["spec"]["ingress"]
    (source,) = rule["from"]
    prefix = "jobset.sigs.k8s.io"
    assert chosen == {f"{prefix}/jobset-name": "stgrpo", f"{prefix}/replicatedjob-name": "server"}
    assert source["podSelector"]["matchLabels"] == {**chosen, f"{prefix}/replicatedjob-name": "trainer"}
