# SPDX-License-Identifier: GPL-2.0-or-later
"""Containers and images of a node: exec, logs, ps, rm, load, pull; and what survives the daemon."""
import json
import os
import re
import subprocess
import sys

import pytest

from meshlab import IMAGE, IMAGES, MESHCTL, wait_for


def cid(task):
    return task["Status"]["ContainerStatus"]["ContainerID"]


def test_ps_exec_rm(lab, cli):
    t = lab.create("--name", "web", IMAGE)[0]
    k, c = lab.node_number(t), cid(t)
    rows = cli(lab, k, "ps", "--no-trunc", "--format", "{{.ID}} {{.Image}} {{.Names}} {{.Status}}").stdout
    assert re.fullmatch(rf"{c} {IMAGE}(?:@sha256:[0-9a-f]+)? web\.1\.{t['ID']} Up .*\n", rows)
    assert cli(lab, k, "exec", c, "sh", "-c", "echo out; echo err >&2; exit 9", rc=9).stdout == "out\n"
    assert cli(lab, k, "exec", "-i", c[:12], "cat", stdin="through\n").stdout == "through\n"
    assert cli(lab, k, "exec", "-e", "X=y", "-w", "/tmp", "-u", "nobody", c, "sh", "-c", "echo $X $(pwd) $(id -u)").stdout == "y /tmp 65534\n"
    big = "x" * 300000
    assert cli(lab, k, "exec", "-i", c, "cat", stdin=big).stdout == big
    assert cli(lab, k, "exec", c, "/nonexistent", rc=None).returncode in (126, 127)
    assert "listening on port 8000" in cli(lab, k, "logs", c).stdout
    assert "echo-server" in cli(lab, k, "top", c).stdout
    assert "No such container: nope" in cli(lab, k, "exec", "nope", "true", rc=1).stderr
    assert "running" in cli(lab, k, "rm", c, rc=1).stderr
    assert cli(lab, k, "rm", "-f", c).stdout == c + "\n"
    wait_for(lambda: c not in cli(lab, k, "ps", "-q", "--no-trunc").stdout, 10, "the container to go")


def test_exit_codes_and_logs_survive_the_daemon(lab):
    """Killed before the container ends; started again it knows how it ended and what it said meanwhile."""
    t = lab.create("--name", "job", "--restart-condition", "none", "--constraint", "node.hostname==n2", IMAGE, "sh", "-c",
                   "echo before; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo after; exit 42")[0]
    wait_for(lambda: "before" in lab.meshctl(2, "logs", cid(t)).stdout, 5, "the first line")
    lab.verb("kill", 2)
    pid = t["Status"]["ContainerStatus"]["PID"]
    lab.run(["touch", f"/proc/{pid}/root/tmp/go"])
    wait_for(lambda: not os.path.exists(f"/proc/{pid}/root/tmp"), 10, "the container to end")
    lab.verb("start", 2)
    t = wait_for(lambda: [x for x in lab.tasks("job") if x["Status"]["State"] == "failed"], 20, "the end to be reported")[0]
    assert t["Status"]["ContainerStatus"]["ExitCode"] == 42
    assert lab.meshctl(2, "logs", cid(t)).stdout == "before\nafter\n"
    assert lab.docker(1, "service", "logs", "--raw", "job").stdout == "before\nafter\n"


def test_service_logs(lab, cli):
    lab.create("--name", "talk", "--replicas", "2", "--stop-signal", "SIGKILL", IMAGE, "sh", "-c",
               "for i in 1 2 3 4 5; do echo line $i; done; echo bad >&2; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo late; sleep 100000",
               n=2)
    wait_for(lambda: cli(lab, 1, "service", "logs", "talk").stdout.count("line 5") == 2, 10, "the lines")
    p = cli(lab, 1, "service", "logs", "talk")
    assert len(re.findall(r"^talk\.[12]\.[0-9a-z]+@n[123] +\| line 3$", p.stdout, re.M)) == 2
    assert len(re.findall(r"^talk\.[12]\.[0-9a-z]+@n[123] +\| bad$", p.stderr, re.M)) == 2
    p = cli(lab, 1, "service", "logs", "--raw", "--tail", "2", "talk")
    assert len(p.stdout.splitlines()) + len(p.stderr.splitlines()) == 4
    stamped = cli(lab, 1, "service", "logs", "--timestamps", "talk").stdout.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ", line) for line in stamped)
    last = max(line.split()[0] for line in stamped)
    assert cli(lab, 1, "service", "logs", "--raw", "--since", "1s", "nothing", rc=1).stderr
    follow = lab.spawn(None, cli.name if cli.name == "docker" else MESHCTL, "service", "logs", "--raw", "-f",
                       "--since", last[:-1][:-1] + "9Z", "talk", stdout=subprocess.PIPE, env=lab._env(1))
    for t in lab.running("talk"):
        lab.exec(t, "touch", "/tmp/go")
    got = [follow.stdout.readline() for _ in range(2)]
    while got[-2:] != ["late\n"] * 2 and len(got) < 8:
        got.append(follow.stdout.readline())
    assert got[-2:] == ["late\n"] * 2


@pytest.fixture
def image_forms(tmp_path):
    """The demo image as a docker archive, an OCI archive and an OCI layout (as a tar), each with a name of its own."""
    forms = {}
    for form, dest in (("docker-archive", "docker-archive:{}:form/docker-archive:1"), ("oci-archive", "oci-archive:{}:form/oci-archive:1")):
        path = str(tmp_path / form)
        subprocess.run(["skopeo", "copy", "-q", f"docker-archive:{IMAGES}:{IMAGE}", dest.format(path)], check=True)
        forms[form] = path
    layout = str(tmp_path / "layout")
    subprocess.run(["skopeo", "copy", "-q", f"docker-archive:{IMAGES}:{IMAGE}", f"oci:{layout}:form/layout:1"], check=True)
    subprocess.run(["tar", "-C", layout, "-cf", layout + ".tar", "."], check=True)
    forms["layout"] = layout + ".tar"
    return forms


def test_images(lab, cli, image_forms):
    assert IMAGE in cli(lab, 3, "images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    for form, path in image_forms.items():
        assert f"form/{form}:1" in cli(lab, 3, "load", "-i", path, timeout=60).stdout
        assert f"form/{form}:1" in cli(lab, 3, "images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
        assert json.loads(cli(lab, 3, "image", "inspect", f"form/{form}:1").stdout)[0]["Config"]["Cmd"] == ["/bin/echo-server"]
        cli(lab, 3, "rmi", f"form/{form}:1")
        assert f"form/{form}:1" not in cli(lab, 3, "images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    bad = lab.config + "/bad.tar"
    with open(bad, "w") as f:
        f.write("this is no archive" * 1000)
    assert cli(lab, 3, "load", "-i", bad, rc=1).stderr
    assert "nope:1" in cli(lab, 3, "rmi", "nope:1", rc=1).stderr


REGISTRY = """version: 0.1
storage: {{filesystem: {{rootdirectory: {0}}}}}
http: {{addr: "127.0.0.1:5000"}}
"""


def test_pull_from_a_registry(lab, cli, tmp_path):
    """A registry on 127.0.0.1 of node n2, plain HTTP: a pull by hand, and a service that pulls by itself."""
    (tmp_path / "config.yml").write_text(REGISTRY.format(tmp_path))
    lab.spawn(2, "docker-registry", "serve", str(tmp_path / "config.yml"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: lab.curl("http://127.0.0.1:5000/v2/", where=2, rc=None).returncode == 0, 20, "the registry")
    name = f"127.0.0.1:5000/team/{cli.name}:3"
    lab.node_exec(2, "skopeo", "copy", "-q", "--dest-tls-verify=false", f"docker-archive:{IMAGES}:{IMAGE}", f"docker://{name}")
    cli(lab, 2, "pull", name, timeout=60)
    assert name in cli(lab, 2, "images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    cli(lab, 2, "rmi", name)
    t = lab.create("--name", "web", "--constraint", "node.hostname==n2", name, cli=lambda *a: cli(lab, *a))[0]
    assert "version=1" in lab.exec(t, "wget", "-q", "-O", "-", "http://127.0.0.1:8000/").stdout
    p = cli(lab, 2, "pull", "127.0.0.1:5000/team/none:1", rc=1, timeout=60)
    assert re.search("manifest|not found|unknown|No such image: 127.0.0.1:5000/team/none:1", p.stderr + p.stdout)
    lab.meshctl(1, "service", "rm", "web")
    wait_for(lambda: not lab.get(2, "/containers/json?all=1"), 20, "the task to go")
    cli(lab, 2, "rmi", name)
