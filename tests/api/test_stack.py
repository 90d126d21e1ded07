# SPDX-License-Identifier: GPL-2.0-or-later
"""Stacks: what meshctl makes of a stack file is what docker's own client makes of it, and what it does beyond that."""
import json
import os
import re
import shutil
import subprocess

import pytest

from meshlab import IMAGE, IMAGE2, MESHCTL, ROOT, wait_for

GOLDEN = os.path.join(ROOT, "tests", "golden", "compose")
NS = "com.docker.stack.namespace"
needs_docker = pytest.mark.skipif(not shutil.which("docker"), reason="probed for the docker client: not installed")


@pytest.fixture
def stack(lab, tmp_path):
    """deploy(text, *flags): writes the file and deploys it as stack 'st'; removed in the end."""
    def deploy(text, *flags, cli=None, rc=0, env=None, name="st"):
        (tmp_path / "stack.yml").write_text(text)
        argv = ["stack", "deploy", "-c", str(tmp_path / "stack.yml"), *flags, name]
        return lab.run([cli or MESHCTL, *argv], rc=rc, env=dict(lab._env(1), **(env or {})), timeout=120)

    yield deploy
    lab.meshctl(1, "stack", "rm", "st", rc=None, timeout=150)


def services(lab, name="st"):
    return {s["Spec"]["Name"]: s for s in lab.get(1, "/services") if s["Spec"]["Labels"].get(NS) == name}


def task_ids_of(tasks):
    return sorted(t["ID"] for t in tasks)


def task_ids(lab, service):
    return sorted(t["ID"] for t in lab.running(service))


# ---- the same file, the same services ----------------------------------------------------------------

# Where meshctl does more than the engine's client, or says it in its own words.
BEYOND = {"tmpfs", "shm_size", "security_opt", "oom_score_adj", "networks: host", "credential_spec", "ports (long)"}


def cases(name):
    text = open(os.path.join(GOLDEN, name + ".in"), encoding="utf-8").read()
    for block in re.split(r"^### ", text, flags=re.M)[1:]:
        title, _, body = block.partition("\n")
        if "--- over" not in body:
            yield title, body


def both_configs(path, env):
    env = dict(os.environ, **env)
    return [subprocess.run([tool, "stack", "config", "-c", path], capture_output=True, text=True, env=env, timeout=20)
            for tool in ("docker", MESHCTL)]


@needs_docker
@pytest.mark.parametrize("name", ["keys", "language"])
def test_config_prints_what_docker_prints(name, tmp_path):
    if not os.path.exists(MESHCTL):
        pytest.fail(f"{MESHCTL} was not built: make all")
    for f in os.listdir(os.path.join(GOLDEN, "files")):
        shutil.copy(os.path.join(GOLDEN, "files", f), tmp_path)
    different, compared = [], 0
    for title, body in cases(name):
        path = tmp_path / "stack.yml"
        path.write_text(body, encoding="utf-8")
        variables = dict(re.findall(r"(\w+)=([^\s\]]*)", title[title.index("["):])) if "[" in title else {}
        theirs, ours = both_configs(str(path), dict(variables, HOME=str(tmp_path)))
        if theirs.returncode:
            continue  # what docker refuses is in the goldens
        compared += 1
        if ours.returncode or ours.stdout != theirs.stdout:
            different.append(title)
    assert compared > 20
    assert different == KNOWN_DIFFERENT[name]


# What meshctl prints more of, or resolves at once: env files, addresses of ports, keys that docker's printer forgets.
KNOWN_DIFFERENT = {
    "keys": ["env_file", "oom_score_adj", "ports", "volumes (long)", "build", "shm_size"],
    "language": ["an unset variable is empty, and said", "variables inside a default [B=b]", "env files, in order, under environment",
                 "one env file", "ports with an address", "volumes, short", "an update_config without values", "small things",
                 "what asks for nothing is not warned about"],
}


def plain(v):
    """Without what says nothing, and ids."""
    if isinstance(v, dict):
        return {k: plain(x) for k, x in v.items() if x not in (None, "", [], {}, False, 0) or k in ("Global", "GlobalJob")}
    if isinstance(v, list):
        return [plain(x) for x in v]
    return v


def specs(lab, name):
    nets = {n["Id"]: n["Name"] for n in lab.get(1, "/networks")}
    out = {}
    for key, s in services(lab, name).items():
        spec = plain(s["Spec"])
        for n in spec["TaskTemplate"].get("Networks", []):
            n["Target"] = nets[n["Target"]]
        for kind in ("Secret", "Config"):
            for ref in spec["TaskTemplate"]["ContainerSpec"].get(kind + "s", []):
                ref.pop(kind + "ID")
        out[key] = spec
    return out


def objects(lab, kind, name):
    found = [o for o in lab.get(1, "/" + kind) if (o.get("Labels") or o.get("Spec", {}).get("Labels") or {}).get(NS) == name]
    for o in found:
        for k in ("ID", "Id", "CreatedAt", "UpdatedAt", "Created", "Version"):
            o.pop(k, None)
        if kind == "networks":
            o.pop("IPAM")
            o.pop("Options")
    return sorted(found, key=lambda o: json.dumps(o, sort_keys=True))


def one_file_of_all_keys(tmp_path):
    """Every row of the key table that docker takes, as one service each."""
    doc = {"services": {}, "networks": {}, "volumes": {}, "secrets": {}, "configs": {}}
    n = 0
    for title, body in cases("keys"):
        if title in BEYOND or not body.lstrip().startswith("{") or "external" in body or "bridge" in body or "depends_on" in body:
            continue
        path = tmp_path / "one.yml"
        path.write_text(body)
        if subprocess.run(["docker", "stack", "config", "-c", str(path)], capture_output=True).returncode:
            continue
        one = json.loads(body)
        if set(one) == {"services"} and "secrets" in one["services"]["s"]:
            continue  # names a secret that nothing defines
        one["services"]["s"]["image"] = IMAGE
        one["services"]["s"].setdefault("deploy", {"replicas": 0})
        if one["services"]["s"]["deploy"].get("mode", "").startswith("global"):
            one["services"]["s"]["deploy"]["placement"] = {"constraints": ["node.role==nobody"]}
        n += 1
        doc["services"][f"k{n}"] = json.loads(json.dumps(one["services"]["s"]).replace('"n1"', f'"n{n}x"').replace('"z"', f'"z{n}"'))
        for section in ("networks", "secrets", "configs"):
            for key, v in one.get(section, {}).items():
                doc[section][f"n{n}x" if key == "n1" else f"z{n}"] = v
        doc["volumes"].update(one.get("volumes", {}))
    shutil.copy(os.path.join(GOLDEN, "files", "env.f"), tmp_path)
    assert n > 40
    return json.dumps(doc)


def through_both(lab, stack, text, env=None):
    """What docker's client and meshctl make of a file: (specs, networks, secrets, configs) each."""
    seen = []
    for tool in ("docker", MESHCTL):
        stack(text, cli=tool, env=env)
        seen.append([specs(lab, "st")] + [objects(lab, kind, "st") for kind in ("networks", "secrets", "configs")])
        lab.meshctl(1, "stack", "rm", "st", timeout=150)
    return seen


@needs_docker
def test_every_key_gives_the_spec_that_docker_gives(lab, stack, tmp_path):
    theirs, ours = through_both(lab, stack, one_file_of_all_keys(tmp_path))
    # The one thing ours makes more of: docker drops the host address of a port.
    beyond = [s["Labels"].pop("mesh.publish.addresses") for s in ours[0].values() if "mesh.publish.addresses" in s["Labels"]]
    assert beyond == ["127.0.0.1"]
    for name in theirs[0]:
        assert ours[0][name] == theirs[0][name], name
    assert ours[0].keys() == theirs[0].keys()
    assert ours[1:] == theirs[1:]


RICH = """
services:
  web:
    image: mesh-demo:1
    environment: {A: "1", B: }
    ports: ["8095:8000", "8096:8000/udp"]
    secrets: [tok]
    configs: [{source: app, target: /etc/app.conf, mode: 0440}]
    cap_add: [net_admin]
    volumes: ["./x:/x:ro", "data:/data", "/anon"]
    networks: {default: {aliases: [w]}, b: }
    healthcheck: {test: "true", interval: 3s}
    deploy: {replicas: 0, update_config: {order: start-first}, resources: {limits: {memory: 50M}}}
  back: {image: "mesh-demo:1", restart: always, deploy: {mode: global, placement: {constraints: [node.role == nobody]}}}
networks: {b: {attachable: true, ipam: {config: [{subnet: 10.213.0.0/24}]}}}
volumes: {data: {}}
secrets: {tok: {file: ./s.txt}}
configs: {app: {file: ./s.txt}}
"""


@needs_docker
def test_a_rich_file_gives_what_docker_gives(lab, stack, tmp_path):
    (tmp_path / "s.txt").write_text("secret\n")
    theirs, ours = through_both(lab, stack, RICH)
    assert ours == theirs


@needs_docker
def test_each_client_goes_on_with_what_the_other_made(lab, stack, tmp_path):
    text = "services: {a: {image: 'mesh-demo:1', networks: {default: {aliases: [x]}, z: }}}\nnetworks: {z: }"
    stack(text, cli="docker")
    lab.wait_running("st_a", 1)
    before = task_ids(lab, "st_a")
    assert "Service st_a is up to date" in stack(text).stdout
    stack(text, cli="docker")
    assert task_ids(lab, "st_a") == before and len(lab.tasks("st_a")) == 1


# ---- deploying again ---------------------------------------------------------------------------------

TWO = """
services:
  web: {image: "mesh-demo:1", ports: ["8097:8000"], deploy: {replicas: 2}, secrets: [tok], configs: [{source: app, target: /app.conf}]}
  back: {image: "mesh-demo:1", environment: {X: "%s"}, deploy: {replicas: 2}}
secrets: {tok: {environment: TOKEN}}
configs: {app: {content: "conf ${CONF:-1}\\n"}}
"""


def test_deploying_again_changes_only_what_changed(lab, stack):
    out = stack(TWO % 1, env={"TOKEN": "t1"}).stdout
    assert out.splitlines()[:3] == ["Creating network st_default", "Creating secret st_tok", "Creating config st_app"]
    web, back = (lab.wait_running(f"st_{s}", 2) for s in ("web", "back"))
    out = stack(TWO % 1, env={"TOKEN": "t1"}).stdout
    assert [line.split(" (")[0] for line in out.splitlines()] == ["Service st_web is up to date", "Service st_back is up to date"]
    assert task_ids(lab, "st_web") == sorted(t["ID"] for t in web)
    assert len(lab.tasks("st_web")) + len(lab.tasks("st_back")) == 4

    stack(TWO % 2, "--detach=false", "-q", env={"TOKEN": "t1"})
    assert task_ids(lab, "st_web") == sorted(t["ID"] for t in web)
    assert not set(task_ids(lab, "st_back")) & {t["ID"] for t in back} and len(task_ids(lab, "st_back")) == 2


JOB = f"""services:
  web: {{image: {IMAGE}}}
  job: {{image: {IMAGE}, command: "true", deploy: {{mode: replicated-job, restart_policy: {{condition: none}}}}}}
"""


@needs_docker
def test_docker_deploying_the_same_again_restarts_nothing(lab, stack):
    """Docker's client sends every spec every time; a job that has run does not run once more for it."""
    stack(JOB, cli="docker")
    lab.wait_running("st_web", 1)
    wait_for(lambda: [t["Status"]["State"] for t in lab.tasks("st_job")] == ["complete"], what="the job to be done")
    before = {t["ID"] for t in lab.tasks("st_job") + lab.tasks("st_web")}
    stack(JOB, cli="docker")
    run = lab.get(1, "/services/st_job")["JobStatus"]
    assert not run["JobIteration"].get("Index") and {t["ID"] for t in lab.tasks("st_job") + lab.tasks("st_web")} == before


def test_a_changed_secret_or_config_rolls_its_services(lab, stack):
    stack(TWO % 1, env={"TOKEN": "t1"})
    lab.wait_running("st_web", 2)
    back = {t["ID"] for t in lab.wait_running("st_back", 2)}
    for n, env in enumerate(({"TOKEN": "t2"}, {"TOKEN": "t2", "CONF": "2"}, {"TOKEN": "t3", "CONF": "2"})):
        stack(TWO % 1, "--detach=false", "-q", env=env)
        task = lab.wait_running("st_web", 2)[0]
        assert lab.exec(task, "cat", "/run/secrets/tok").stdout == env["TOKEN"]
        assert lab.exec(task, "cat", "/app.conf").stdout == f"conf {env.get('CONF', 1)}\n"
    assert set(task_ids(lab, "st_back")) == back
    # The version before the current one is kept for a rollback; older ones go.
    stack(TWO % 1, env={"TOKEN": "t3", "CONF": "2"})
    assert sorted(s["Spec"]["Name"] for s in lab.get(1, "/secrets")) == ["st_tok.2", "st_tok.3"]
    assert sorted(s["Spec"]["Name"] for s in lab.get(1, "/configs")) == ["st_app", "st_app.2"]
    lab.meshctl(1, "service", "rollback", "-q", "st_web", timeout=90)
    assert lab.exec(lab.wait_running("st_web", 2)[0], "cat", "/run/secrets/tok").stdout == "t2"


def test_prune_removes_what_the_file_no_longer_names(lab, stack):
    stack("services: {a: {image: 'mesh-demo:1'}, b: {image: 'mesh-demo:1'}}")
    one = "services: {a: {image: 'mesh-demo:1'}}"
    stack(one)
    assert set(services(lab)) == {"st_a", "st_b"}
    assert "Removing service st_b" in stack(one, "--prune").stdout
    assert set(services(lab)) == {"st_a"}


def test_rm_returns_when_all_is_gone(lab, stack):
    text = TWO % 1
    for _ in range(2):  # at once again: nothing of the first may be in the way
        stack(text, env={"TOKEN": "t1"})
        lab.wait_running("st_web", 2)
        out = lab.meshctl(1, "stack", "rm", "st", timeout=150).stdout
        assert out.splitlines() == ["Removing service st_back", "Removing service st_web", "Removing secret st_tok",
                                    "Removing config st_app", "Removing network st_default"]
        assert not [t for t in lab.tasks() if t["Status"]["State"] in ("running", "starting")]
        assert "st_default" not in [n["Name"] for n in lab.get(1, "/networks")]
        assert not lab.get(1, "/secrets") and not lab.get(1, "/configs")
    assert "Nothing found in stack: st" in lab.meshctl(1, "stack", "rm", "st").stderr


# ---- what one service waits for ----------------------------------------------------------------------

HEALTH = """
services:
  front: {image: "mesh-demo:1", depends_on: {db: {condition: service_healthy}, setup: {condition: service_completed_successfully}}}
  db:
    image: mesh-demo:1
    command: sh -c "sleep 1; touch /tmp/ok; exec echo-server"
    healthcheck: {test: "[ -f /tmp/%s ]", interval: 200ms, timeout: 2s, retries: 50}
  setup: {image: "mesh-demo:1", command: sh -c "sleep 0.5", deploy: {mode: replicated-job}}
"""


def test_depends_on_waits_for_health_and_completion(lab, stack):
    out = stack(HEALTH % "ok").stdout
    assert [line for line in out.splitlines() if line.startswith("Creating service")][-1] == "Creating service st_front"
    made = services(lab)["st_front"]["CreatedAt"]
    healthy = lab.running("st_db")[0]["Status"]["Timestamp"]
    done = [t for t in lab.tasks("st_setup") if t["Status"]["State"] == "complete"][0]["Status"]["Timestamp"]
    assert healthy < made and done < made


def test_depends_on_gives_up(lab, stack):
    p = stack(HEALTH % "never", "--wait-timeout", "1s", rc=1)
    assert re.search(r"service front: depends_on db: not healthy after 1 s \(0 of 1 tasks\)", p.stderr)
    assert "st_front" not in services(lab)


# ---- the other commands ------------------------------------------------------------------------------

def test_listing_and_logs(lab, stack):
    stack("services: {a: {image: 'mesh-demo:1'}, b: {image: 'mesh-demo:1', deploy: {replicas: 2}}}", "--detach=false", "-q")
    assert re.search(r"^NAME +SERVICES\nst +2$", lab.meshctl(1, "stack", "ls").stdout, re.M)
    assert lab.meshctl(1, "stack", "ls", "--format", "{{.Name}} {{.Services}}").stdout == "st 2\n"
    rows = lab.meshctl(1, "stack", "services", "st", "--format", "{{.Name}} {{.Replicas}}").stdout
    assert rows == "st_a 1/1\nst_b 2/2\n"
    assert lab.meshctl(1, "stack", "services", "--filter", "name=st_b", "--format", "{{.Name}}", "st").stdout == "st_b\n"
    tasks = lab.meshctl(1, "stack", "ps", "--format", "{{.Name}}", "st").stdout.split()
    assert tasks == ["st_a.1", "st_b.1", "st_b.2"]
    lines = wait_for(lambda: [x for x in [lab.meshctl(1, "stack", "logs", "st").stdout.splitlines()] if len(x) == 3],
                     what="a line of every task")[0]
    assert {line.split(".")[0] for line in lines} == {"st_a", "st_b"}
    assert all("listening on port 8000" in line for line in lines)
    stamped = [line.split(" ")[0] for line in lab.meshctl(1, "stack", "logs", "-t", "st").stdout.splitlines()]
    assert stamped == sorted(stamped) and all(re.match(r"\d{4}-\d\d-\d\dT", s) for s in stamped)
    p = lab.meshctl(1, "stack", "ps", "nosuch", rc=1)
    assert p.stderr == "nothing found in stack: nosuch\n"
    assert lab.meshctl(1, "stack", "services", "nosuch").stderr == "Nothing found in stack: nosuch\n"


def test_refusals(lab, stack):
    assert lab.meshctl(1, "stack", "deploy", "st", rc=1).stderr == "specify a Compose file (with --compose-file)\n"
    assert "open nosuch.yml: No such file or directory" in lab.meshctl(1, "stack", "deploy", "-c", "nosuch.yml", "st", rc=1).stderr
    assert 'invalid stack name: "a b"' in lab.meshctl(1, "stack", "deploy", "-c", "-", "a b", rc=1, stdin="").stderr
    p = stack("services: {s: {image: 'mesh-demo:1', networks: [n]}}\nnetworks: {n: {external: true}}", rc=1)
    assert re.match(r".*/stack\.yml:2: networks\.n: ", p.stderr)
    assert p.stderr.endswith('network "n" is declared as external, but could not be found. You need to create a swarm-scoped network '
                        "before the stack is deployed\n")
    start_of_an_id = lab.meshctl(1, "network", "inspect", "-f", "{{.Id}}", "ingress").stdout[:8]
    p = stack(f"services: {{s: {{image: 'mesh-demo:1', networks: [n]}}}}\nnetworks: {{n: {{external: true, name: '{start_of_an_id}'}}}}", rc=1)
    assert (f'network "{start_of_an_id}" is declared as external, but could not be found.') in p.stderr
    assert not services(lab)
    p = stack("services: {s: {image: 'mesh-demo:1', secrets: [z]}}\nsecrets: {z: {external: true}}", rc=1)
    assert ":1: services.s: secret not found: z" in p.stderr
    p = stack("services:\n  s:\n    image: mesh-demo:1\n    hostname: '{{.Nope}}'\n", rc=1)
    assert re.match(r".*/stack\.yml:2: services\.s: failed to create service st_s: Error response from daemon: .*expanding hostname", p.stderr)
    p = lab.meshctl(2, "stack", "deploy", "-c", "-", "st", rc=1, stdin="services: {s: {image: a}}")
    assert "this node is not a swarm manager" in p.stderr
    p = stack("services:\n  s:\n    image: mesh-demo:1\n    prots: []\n", rc=1)
    assert re.fullmatch(r".*/stack\.yml:4: services\.s Additional property prots is not allowed\n", p.stderr)


def test_from_standard_input_and_over(lab, stack, tmp_path):
    (tmp_path / "over.yml").write_text(f"services: {{s: {{image: '{IMAGE2}'}}}}")
    lab.meshctl(1, "stack", "deploy", "-c", "-", "-c", str(tmp_path / "over.yml"), "st", stdin=f"services: {{s: {{image: '{IMAGE}'}}}}")
    assert services(lab)["st_s"]["Spec"]["Labels"]["com.docker.stack.image"] == IMAGE2


def test_a_host_address_opens_the_port_there_only(lab, stack):
    own = lab.node_exec(1, "sh", "-c", "ip -4 -o addr show lo").stdout
    assert "127.0.0.1" in own
    p = stack(f"services: {{s: {{image: '{IMAGE}', ports: ['127.0.0.1:8099:8000']}}}}")
    assert "host_ip" not in p.stderr and "ignored" not in p.stderr
    lab.wait_running("st_s", 1)
    assert services(lab)["st_s"]["Spec"]["Labels"]["mesh.publish.addresses"] == "127.0.0.1"
    wait_for(lambda: lab.curl("http://127.0.0.1:8099/", where=1, rc=None).returncode == 0, what="the port on n1's loopback")
    assert lab.curl(f"http://{lab.addr(1)}:8099/", rc=None, m=2).returncode != 0


# ---- files that people wrote ------------------------------------------------------------------------

SEEDS = {
    "prod": (["app"], [], "backend"), "coupon": (["app"], [], "backend"), "front": (["app"], [], "backend"),
    "web": (["web", "visualizer", "redis"], [("web", 5)], None), "api": (["api"], [], None),
    "dailylog": (["mongodb", "frontend", "backend"], [("mongodb", 1), ("frontend", 2), ("backend", 2)], "dailylog-net"),
}


@pytest.mark.parametrize("name", SEEDS)
def test_a_stack_file_as_written(lab, name):
    names, running, network = SEEDS[name]
    path = os.path.join(GOLDEN, "seeds", name + ".yml")
    images = re.findall(r"^\W*image: (\S+)", open(path, encoding="utf-8").read(), re.M)
    for image in images:
        for k in lab.nodes:
            lab.meshctl(k, "tag", IMAGE, image.replace("${IMG_TAG:-latest}", "latest"))
    if network:
        lab.meshctl(1, "network", "create", "-d", "overlay", network)
    try:
        lab.meshctl(1, "stack", "deploy", "-c", path, "st", timeout=120)
        assert set(services(lab)) == {"st_" + n for n in names}
        before = [task_ids_of(lab.wait_running("st_" + service, n)) for service, n in running]
        lab.meshctl(1, "stack", "deploy", "-c", path, "st", timeout=120)
        for (service, n), ids in zip(running, before):
            assert task_ids_of(lab.wait_running("st_" + service, n)) == ids  # the same file restarts nothing
    finally:
        lab.meshctl(1, "stack", "rm", "st", rc=None, timeout=150)
        for image in images:
            for k in lab.nodes:
                lab.meshctl(k, "rmi", image.replace("${IMG_TAG:-latest}", "latest"), rc=None)
