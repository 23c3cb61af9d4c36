"""The examples under deploy/ are whole: our own check accepts the configs, the platforms' tools the rest."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd/range-adapter.service"
CONTAINERFILE = DEPLOY / "container/Containerfile"
COMPOSE = DEPLOY / "container/compose.yaml"
SIDECAR = DEPLOY / "kubernetes/sidecar.yaml"
LOCKS = sorted([*DEPLOY.glob("*.lock"), *ROOT.glob("tests/**/*.lock")])

MAX_EXPOSURE = 15  # in tenths, on systemd's scale of 0 (confined) to 10

SIZES = {"KiB": 2**10, "Ki": 2**10, "MiB": 2**20, "Mi": 2**20, "GiB": 2**30, "Gi": 2**30}


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Run a command that must succeed; its whole output."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd, env=env, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.args} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def tool(name: str) -> str:
    """A program beside the interpreter or on the path. Missing: a failure under CI, a skip elsewhere."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None and not os.environ.get("CI"):
        pytest.skip(f"{name} is not installed")
    assert found is not None, f"{name} is not installed"
    return found


def documents(path: Path) -> dict[str, Any]:
    """Kubernetes documents of a file, by kind."""
    return {document["kind"]: document for document in yaml.safe_load_all(path.read_text())}


def config_texts() -> dict[str, str]:
    """All configs that we hand out, those inside of ConfigMaps included."""
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in sorted(DEPLOY.rglob("config.yaml"))}
    texts[str(SIDECAR.relative_to(ROOT))] = documents(SIDECAR)["ConfigMap"]["data"]["config.yaml"]
    return texts


CONFIGS = {name: yaml.safe_load(text) for name, text in config_texts().items()}


@pytest.fixture(params=config_texts().items(), ids=list(config_texts()))
def config_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, text = request.param
    path = tmp_path.joinpath(name.replace("/", "-"))
    path.write_text(text)
    return path


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]+)", text).groups()  # type: ignore[union-attr]
    return int(number) * SIZES[unit]


def seconds(text: str) -> int:
    number = re.fullmatch(r"(\d+)s", text)
    assert number is not None, text
    return int(number[1])


def unit_settings(text: str) -> dict[str, list[str]]:
    """`Name=value` lines of a unit, in order; systemd allows a name several times."""
    settings: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and line[0] not in "#;[":
            name, _, value = line.partition("=")
            settings.setdefault(name, []).append(value)
    return settings


def adapter_container() -> dict[str, Any]:
    pod = documents(SIDECAR)["Deployment"]["spec"]["template"]["spec"]
    (container,) = [each for each in pod["initContainers"] if each["name"] == "range-adapter"]
    return dict(container)


# Plain Python ------------------------------------------------------------------------------------------


def test_configs_pass_our_own_check(config_file: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CACHE_DIRECTORY"}
    run(sys.executable, "-m", "proxy", "check", "--no-probe", config_file, env=environment)


def test_whoever_stops_us_waits_longer_than_the_drain() -> None:
    def drain(name: str) -> int:
        return seconds(CONFIGS[name]["server"]["timeouts"]["drain"])

    unit = unit_settings(UNIT.read_text())
    assert seconds(unit["TimeoutStopSec"][0]) > drain("deploy/systemd/config.yaml")

    adapter = yaml.safe_load(COMPOSE.read_text())["services"]["adapter"]
    assert seconds(adapter["stop_grace_period"]) > drain("deploy/container/config.yaml")

    pod = documents(SIDECAR)["Deployment"]["spec"]["template"]["spec"]
    (app,) = pod["containers"]
    before = app["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > before + drain("deploy/kubernetes/sidecar.yaml")


def test_the_volume_is_larger_than_the_spool() -> None:
    spool = CONFIGS["deploy/kubernetes/sidecar.yaml"]["spool"]
    pod = documents(SIDECAR)["Deployment"]["spec"]["template"]["spec"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "spool"]
    limit = size(volume["emptyDir"]["sizeLimit"])
    assert limit >= size(spool["max_size"]) * 1.2
    resources = adapter_container()["resources"]
    assert size(resources["requests"]["ephemeral-storage"]) >= limit
    assert size(resources["limits"]["ephemeral-storage"]) > limit
    mounts = {each["name"]: each["mountPath"] for each in adapter_container()["volumeMounts"]}
    assert mounts["spool"] == spool["path"]


def test_probes_reach_the_admin_listener() -> None:
    container = adapter_container()
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    config = CONFIGS["deploy/kubernetes/sidecar.yaml"]
    assert config["admin"]["listen"] == f"0.0.0.0:{ports['admin']}"
    assert config["server"]["listen"] == [f"0.0.0.0:{ports['adapted']}"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "admin"
    assert [each["targetPort"] for each in documents(SIDECAR)["Service"]["spec"]["ports"]] == ["adapted"]


def test_image_compose_and_pod_agree() -> None:
    image = CONTAINERFILE.read_text()
    uid = adapter_container()["securityContext"]["runAsUser"]
    assert f"\nUSER {uid}:{uid}\n" in image
    config = CONFIGS["deploy/container/config.yaml"]
    for address in (*config["server"]["listen"], config["admin"]["listen"]):
        host, port = address.rsplit(":", 1)
        assert host == "0.0.0.0"
        assert re.search(rf"^EXPOSE.*\b{port}\b", image, re.MULTILINE)
    compose = yaml.safe_load(COMPOSE.read_text())
    adapter = compose["services"]["adapter"]
    assert f"spool:{config['spool']['path']}" in adapter["volumes"]
    published = [port.rsplit(":", 1)[1] for port in adapter["ports"]]
    assert published == ["8080"], "the admin port is never published"
    # The health check stands twice, since not every image format carries it: it must be the same.
    assert adapter["healthcheck"]["test"][-1].replace('"', '\\"') in image


def test_containers_are_confined() -> None:
    adapter = yaml.safe_load(COMPOSE.read_text())["services"]["adapter"]
    assert adapter["read_only"] is True
    assert adapter["cap_drop"] == ["ALL"]
    assert adapter["security_opt"] == ["no-new-privileges:true"]
    context = adapter_container()["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_locks_name_versions_and_hashes_and_no_host(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"(?m)^\s*-(?:-(?!hash=)|[a-z])", text), "an option of pip, such as an index"
    requirements = re.split(r"(?<!\\)\n", re.sub(r"(?m)^#.*\n", "", text).strip())
    for requirement in requirements:
        assert re.match(r"[a-z0-9-]+==\S+ ", requirement), requirement
        assert "--hash=sha256:" in requirement, requirement


def test_what_is_deployed_is_what_was_tested() -> None:
    def pins(lock: Path) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), re.MULTILINE))

    tested = pins(ROOT / "tests/requirements.lock")
    assert pins(DEPLOY / "requirements.lock").items() <= tested.items()
    assert pins(DEPLOY / "build.lock").items() <= tested.items()
    clients = pins(ROOT / "tests/clients/requirements.lock")
    assert all(tested.get(name, version) == version for name, version in clients.items())


# By the platforms' own tools ---------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with its program in a place that exists here: `verify` looks for it."""
    program = tmp_path / "bin/range-adapter"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/opt/range-adapter/", f"{tmp_path}/"))
    return path


@pytest.mark.clients
def test_systemd_accepts_the_unit(unit: Path) -> None:
    assert run(tool("systemd-analyze"), "verify", "--man=no", unit).strip() == ""


@pytest.mark.clients
def test_systemd_finds_the_unit_confined(unit: Path) -> None:
    analyze = tool("systemd-analyze")
    run(analyze, "security", "--offline=true", "--no-pager", f"--threshold={MAX_EXPOSURE}", unit)


@pytest.mark.clients
def test_hadolint_accepts_the_containerfile() -> None:
    assert run(tool("hadolint"), "--failure-threshold", "style", CONTAINERFILE).strip() == ""


@pytest.mark.clients
def test_compose_file_matches_its_schema() -> None:
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE)


@pytest.mark.clients
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_kubernetes_accepts_the_manifests(version: str) -> None:
    output = run(tool("kubernetes-validate"), "--strict", "-k", version, SIDECAR)
    assert output.count(" passed for resource ") == len(documents(SIDECAR))


@pytest.mark.clients
def test_configs_match_the_published_schema(config_file: Path, tmp_path: Path) -> None:
    schema = tmp_path / "config.schema.json"
    schema.write_text(run(sys.executable, "-m", "proxy", "schema"))
    run(tool("check-jsonschema"), "--check-metaschema", schema)
    run(tool("check-jsonschema"), "--schemafile", schema, config_file)


@pytest.mark.clients
def test_the_scripts_are_sound() -> None:
    run(tool("bash"), "-n", ROOT / ".ci/run")
    listed = run(tool("make"), "-s", "help")
    for target in ("demo", "serve", "test", "test-clients", "bench", "lock"):
        assert re.search(rf"^  make {target} ", listed, re.MULTILINE), target
