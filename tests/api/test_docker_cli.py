# SPDX-License-Identifier: GPL-2.0-or-later
"""The real docker client against the API over a cluster in memory (tests/api/serve.c): what it prints must have the
shape it has with the real engine. Nothing here needs privileges; tasks are simulated and run at once.
"""
import json
import time
import os
import re
import shutil
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("MESH_BUILD", os.path.join(ROOT, "build"))
ID = r"[0-9a-z]{25}"

pytestmark = pytest.mark.skipif(not shutil.which("docker"), reason="probed for the docker client: not installed")


@pytest.fixture(scope="session")
def serve(tmp_path_factory):
    """The server program, linked against the build's archives."""
    out = str(tmp_path_factory.mktemp("serve") / "serve")
    libs = subprocess.run(["pkg-config", "--libs", "libuv", "wolfssl", "libmicrohttpd", "jansson", "libnl-3.0", "libnl-route-3.0",
                           "libmnl", "libnftnl", "libbpf"], check=True, capture_output=True, text=True).stdout.split()
    flags = ["-fsanitize=address,undefined"] if "san-" in os.path.basename(BUILD) else []
    archives = [os.path.join(BUILD, f"lib{n}.a") for n in ("control", "dataplane", "base")]
    subprocess.run(["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", *flags, "-I.", "-o", out, "tests/api/serve.c",
                    "-Wl,--start-group", *archives, "-Wl,--end-group", *libs, "-lm", "-pthread"], check=True, cwd=ROOT)
    return out


class Docker:
    def __init__(self, sock, home):
        self.env = dict(os.environ, DOCKER_HOST=f"unix://{sock}", DOCKER_CONFIG=str(home), HOME=str(home))
        self.env.pop("DOCKER_CONTEXT", None)

    def run(self, *args, rc=0, stdin=None):
        p = subprocess.run(["docker", *args], env=self.env, input=stdin, capture_output=True, text=True, timeout=90)
        assert p.returncode == rc, f"docker {' '.join(args)}: {p.returncode}\n{p.stdout}\n{p.stderr}"
        return p

    def out(self, *args, **kw):
        return self.run(*args, **kw).stdout

    def json(self, *args):
        return json.loads(self.out(*args))


@pytest.fixture
def alone(serve, tmp_path):
    """A daemon that is in no swarm."""
    sock = tmp_path / "s"
    p = subprocess.Popen([serve, str(sock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert p.stdout.readline() == "listening\n"
        yield Docker(sock, tmp_path)
        p.stdin.close()
        rc, err = p.wait(timeout=30), p.stderr.read()
        assert rc == 0, err
    finally:
        if p.poll() is None:
            p.kill()
            p.wait()


@pytest.fixture
def docker(alone):
    alone.out("swarm", "init", "--advertise-addr", "127.0.0.1")
    return alone


def test_version_and_info(alone):
    assert re.search(r"Server: meshd\n Engine:\n  Version: +\S+\n  API version: +1\.47 \(minimum version 1\.24\)", alone.out("version"))
    info = alone.out("info")
    assert " Swarm: inactive\n" in info and " Data plane: ebpf\n" in info


def test_outside_a_swarm(alone):
    p = alone.run("service", "ls", rc=1)
    assert p.stderr == ('Error response from daemon: This node is not a swarm manager. Use "docker swarm init" or '
                        '"docker swarm join" to connect this node to swarm and try again.\n')
    p = alone.run("stack", "deploy", "-c", "-", "x", rc=1, stdin="services: {a: {image: b}}\n")
    assert "not a swarm manager" in p.stderr


def test_swarm_init_and_tokens(alone):
    out = alone.out("swarm", "init", "--advertise-addr", "127.0.0.1")
    assert re.fullmatch(rf"Swarm initialized: current node \({ID}\) is now a manager\.\n\nTo add a worker to this swarm, run the "
                        r"following command:\n\n    docker swarm join --token SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25} \S+:2377\n\n"
                        r"To add a manager to this swarm, run 'docker swarm join-token manager' and follow the instructions\.\n\n?", out)
    assert re.fullmatch(r"SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}\n", alone.out("swarm", "join-token", "-q", "manager"))
    assert alone.out("swarm", "update", "--task-history-limit", "3") == "Swarm updated.\n"
    assert "Task History Retention Limit: 3" in alone.out("info")
    p = alone.run("swarm", "leave", rc=1)
    assert "Removing the last manager erases all current state of the swarm" in p.stderr
    assert alone.out("swarm", "leave", "--force") == "Node left the swarm.\n"


def test_nodes(docker):
    lines = docker.out("node", "ls").splitlines()
    assert re.fullmatch(r"ID +HOSTNAME +STATUS +AVAILABILITY +MANAGER STATUS +ENGINE VERSION", lines[0])
    assert re.fullmatch(rf"{ID} \*   n0 +Ready +Active +Leader +\S*", lines[1])
    assert docker.out("node", "update", "--label-add", "disk=ssd", "n0") == "n0\n"
    assert docker.json("node", "inspect", "self")[0]["Spec"]["Labels"] == {"disk": "ssd"}
    assert "Leader:		Yes" in docker.out("node", "inspect", "--pretty", "self")
    assert "attempting to demote the last manager" in docker.run("node", "demote", "n0", rc=1).stderr


def test_service_create_waits_and_lists(docker):
    net = docker.out("network", "create", "-d", "overlay", "--attachable", "--label", "a=b", "mynet").strip()
    assert re.fullmatch(ID, net)
    out = docker.out("service", "create", "--name", "web", "--replicas", "3", "--network", "mynet", "-p", "8080:80", "--env", "A=1",
                     "--limit-memory", "64M", "--update-monitor", "100ms", "bb:1")
    assert re.match(rf"{ID}\noverall progress: \d out of 3 tasks\n", out)
    assert out.endswith("converged \n") or out.endswith("converged\n")
    lines = docker.out("service", "ls").splitlines()
    assert re.fullmatch(r"ID +NAME +MODE +REPLICAS +IMAGE +PORTS", lines[0])
    assert re.fullmatch(r"[0-9a-z]{12}   web +replicated +3/3 +bb:1 +\*:8080->80/tcp", lines[1])
    ps = docker.out("service", "ps", "web").splitlines()
    assert len(ps) == 4
    assert re.fullmatch(r"[0-9a-z]{12}   web\.\d +bb:1 +n0 +Running +Running .* ago +", ps[1])
    assert "mynet" in docker.out("service", "inspect", "--pretty", "web")
    sv = docker.json("service", "inspect", "web")[0]
    assert {v["NetworkID"] for v in sv["Endpoint"]["VirtualIPs"]} >= {net}
    assert docker.run("service", "create", "-d", "--name", "web", "bb:1", rc=1).stderr.endswith(
        "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service web already exists\n")
    assert f"network {net} is in use by service {sv['ID']}" in docker.run("network", "rm", "mynet", rc=1).stderr
    assert docker.out("node", "ps", "self").count("web.") == 3
    assert docker.out("service", "rm", "web") == "web\n"
    assert docker.run("service", "inspect", "web", rc=1).stderr.endswith("no such service: web\n")


def test_update_scale_and_rollback(docker):
    docker.out("service", "create", "-d", "--name", "web", "--replicas", "2", "--update-parallelism", "0", "--update-monitor", "100ms",
               "--rollback-parallelism", "0", "--rollback-monitor", "100ms", "bb:1")
    # The client stops waiting once it sees "completed", which may be before its first look at the verification.
    assert docker.out("service", "update", "--image", "bb:2", "web").startswith("web\noverall progress: ")
    ps = docker.out("service", "ps", "web")
    assert len(re.findall(r" \\_ web\.\d +bb:1 +n0 +Shutdown", ps)) == 2
    assert "web scaled to 4" in docker.out("service", "scale", "web=4")
    assert "4/4" in docker.out("service", "ls")
    docker.out("service", "update", "--image", "bb:3", "web")
    out = docker.out("service", "rollback", "web")
    assert out.startswith("web\n") and "rolling back update" in out or "rollback: manually requested rollback" in out
    assert docker.json("service", "inspect", "web")[0]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] == "bb:2"
    assert "renaming" not in docker.out("service", "update", "--force", "-d", "web")


def test_jobs_and_global(docker):
    docker.out("service", "create", "-d", "--name", "job", "--mode", "replicated-job", "--replicas", "5", "--max-concurrent", "2",
               "bb:1", "exit", "0")
    docker.out("service", "create", "-d", "--name", "glob", "--mode", "global", "bb:1")
    for _ in range(200):
        out = docker.out("service", "ls")
        if re.search(r"glob +global +1/1", out) and re.search(r"job +replicated job +0/2 \(5/5 completed\)", out):
            return
    pytest.fail(out)


def test_secrets_and_configs(docker, tmp_path):
    assert re.fullmatch(ID + "\n", docker.out("secret", "create", "sec1", "-", stdin="s3cret"))
    assert re.fullmatch(ID + "\n", docker.out("config", "create", "cfg1", "-", stdin="k=v\n"))
    assert "k=v" in docker.out("config", "inspect", "--pretty", "cfg1")
    assert "s3cret" not in docker.out("secret", "inspect", "sec1")
    docker.out("service", "create", "-d", "--name", "sc", "--secret", "sec1", "--config", "source=cfg1,target=/c", "bb:1")
    p = docker.run("secret", "rm", "sec1", rc=1)
    assert "secret 'sec1' is in use by the following service: sc" in p.stderr
    docker.out("service", "rm", "sc")
    assert docker.out("secret", "rm", "sec1") == "sec1\n"
    assert docker.out("config", "rm", "cfg1") == "cfg1\n"


STACK = """
version: "3.8"
services:
  web:
    image: bb:1
    ports: ["8080:80"]
    networks: [back]
    configs: [app]
    secrets: [tok]
    deploy: {replicas: 2, labels: {x: y}}
  agent:
    image: bb:1
    deploy: {mode: global}
networks: {back: {driver: overlay, attachable: true}}
configs: {app: {file: ./app.conf}}
secrets: {tok: {file: ./tok.txt}}
"""


def test_stack(docker, tmp_path):
    (tmp_path / "app.conf").write_text("a=1\n")
    (tmp_path / "tok.txt").write_text("t\n")
    (tmp_path / "stack.yml").write_text(STACK)
    out = docker.out("stack", "deploy", "-d", "-c", str(tmp_path / "stack.yml"), "demo")
    for line in ("Creating network demo_back", "Creating secret demo_tok", "Creating config demo_app", "Creating service demo_web"):
        assert line in out
    assert "Updating service demo_web (id: " in docker.out("stack", "deploy", "-d", "-c", str(tmp_path / "stack.yml"), "demo")
    assert re.search(r"demo +2", docker.out("stack", "ls"))
    assert docker.out("stack", "services", "-q", "demo").count("\n") == 2
    assert "demo_web.1" in docker.out("stack", "ps", "demo")
    for _ in range(50):
        p = docker.run("stack", "rm", "demo")
        if "Removing service demo_web" in p.stdout:
            break
    assert "Removing secret demo_tok" in p.stdout
    assert docker.out("stack", "ls").count("\n") == 1


def test_logs(docker):
    docker.out("service", "create", "-d", "--name", "lg", "--replicas", "2", "bb:1")
    for _ in range(100):
        if "2/2" in docker.out("service", "ls"):
            break
    p = docker.run("service", "logs", "lg")
    assert re.search(r"^lg\.1\.[0-9a-z]{12}@n0 +\| line 1$", p.stdout, re.M)
    assert re.search(r"^lg\.2\.[0-9a-z]{12}@n0 +\| oops$", p.stderr, re.M)
    assert re.search(r"^2026-11-20T13:01:32\.949178440Z lg\.1\.[0-9a-z]{12}@n0 +\| +line 1$", docker.out("service", "logs", "-t", "lg"),
                     re.M)


def test_network_inspect_and_generic_inspect(docker):
    docker.out("network", "create", "-d", "overlay", "--subnet", "10.77.0.0/24", "--gateway", "10.77.0.1", "n1")
    n = docker.json("network", "inspect", "n1")[0]
    assert n["IPAM"]["Config"] == [{"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.1"}] and n["Scope"] == "swarm"
    names = docker.out("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}").splitlines()
    assert {"bridge bridge local", "host host local", "none null local", "ingress overlay swarm", "n1 overlay swarm"} <= set(names)
    docker.out("service", "create", "-d", "--name", "web", "bb:1")
    assert docker.json("inspect", "web")[0]["Spec"]["Name"] == "web"
    assert "encrypted overlay networks are not supported" in docker.run("network", "create", "-d", "overlay", "--opt", "encrypted", "e",
                                                                       rc=1).stderr


def test_node_local_commands_are_empty_not_broken(docker):
    assert docker.out("ps", "-a").startswith("CONTAINER ID")
    assert docker.out("images").startswith("REPOSITORY")
    assert docker.out("volume", "ls").startswith("DRIVER")
    assert "Images" in docker.out("system", "df")
    assert "No such container: nope" in docker.run("exec", "nope", "true", rc=1).stderr
    assert "runs no containers" in docker.run("create", "bb:1", rc=1).stderr
    docker.out("service", "create", "-d", "--name", "web", "bb:1")
    # The client cuts "now" down to the second: what has just happened may be after it.
    end = time.monotonic() + 10
    while time.monotonic() < end:
        ev = docker.out("events", "--since", "10m", "--until", "0s", "--format", "{{json .}}")
        if any(json.loads(l)["Type"] == "service" for l in ev.splitlines()):
            return
    pytest.fail(ev)


def test_python_sdk(docker):
    sdk = pytest.importorskip("docker", reason="probed for the Python SDK: not installed")
    c = sdk.DockerClient(base_url=docker.env["DOCKER_HOST"], version="auto")
    try:
        net = c.networks.create("sdknet", driver="overlay")
        sv = c.services.create("bb:1", name="sdk", labels={"l": "1"}, networks=[net.id],
                               mode=sdk.types.ServiceMode("replicated", replicas=2))
        assert [n.attrs["Spec"]["Role"] for n in c.nodes.list(filters={"role": "manager"})] == ["manager"]
        sv.reload()
        sv.update(labels={"l": "2"})
        sv.reload()
        assert sv.scale(3)
        assert [s.name for s in c.services.list(filters={"label": "l=2"})] == ["sdk"]
        assert isinstance(sv.tasks(filters={"desired-state": "running"}), list)
        with pytest.raises(sdk.errors.NotFound):
            c.services.get("nope")
        assert sv.remove()
    finally:
        c.close()
