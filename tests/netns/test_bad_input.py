# SPDX-License-Identifier: GPL-2.0-or-later
"""What is wrong gets one clear error that names the thing and the way out; nothing is lost by it."""
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from meshlab import IMAGE, MESHD, wait_for


def one_line(p):
    """The error, which is no trace and no pile."""
    lines = [line for line in p.stderr.splitlines() if line.strip() and not line.startswith("See ")]
    assert lines and len(lines) <= 6, p.stderr
    return p.stderr


def test_unknown_flags_and_values(lab, cli):
    assert "nonsense" in one_line(cli(lab, 1, "service", "create", "--nonsense", IMAGE, rc=None))
    assert cli(lab, 1, "service", "create", "--replicas", "x", IMAGE, rc=None).returncode
    assert "nope" in one_line(cli(lab, 1, "service", "create", "--network", "nope", IMAGE, rc=1))
    assert "nope" in one_line(cli(lab, 1, "service", "create", "-d", "--secret", "nope", IMAGE, rc=1))
    assert "name must be valid" in one_line(cli(lab, 1, "service", "create", "-d", "--name", "Bad_Name!", IMAGE, rc=1))
    assert "nodes.labels" in one_line(cli(lab, 1, "service", "create", "-d", "--constraint", "nodes.labels.x=y", IMAGE, rc=1))
    assert lab.get(1, "/services") == []


@pytest.mark.parametrize("path,body,field", [
    ("/services/create", {"Name": 7}, "Name"),
    ("/services/create", {"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": IMAGE, "Env": "A=1"}}}, "Env"),
    ("/services/create", {"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}}, "Mode": {"Replicated": {"Replicas": -1}}}, "Replicas"),
    ("/services/create", {"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}}, "EndpointSpec": {"Ports": [{"TargetPort": "80"}]}}, "TargetPort"),
    ("/services/create", {"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}}, "EndpointSpec": {"Ports": [{"TargetPort": 70000}]}}, "70000|TargetPort|port"),
    ("/networks/create", {"Name": "n", "Driver": "overlay", "IPAM": {"Config": [{"Subnet": "10.1.2.3/99"}]}}, "10.1.2.3/99"),
    ("/networks/create", {"Name": "n", "Driver": "overlay", "Internal": "yes"}, "Internal"),
    ("/swarm/join", {"RemoteAddrs": "x"}, "RemoteAddrs|already part"),
])
def test_wrong_types(lab, path, body, field):
    status, said = lab.raw(1, "POST", path, body)
    assert status in (400, 503) and set(said) == {"message"} and re.search(field, said["message"]), (status, said)


def test_no_json_and_no_such_path(lab):
    status, said = lab.raw(1, "POST", "/services/create", b"{broken", {"Content-Type": "application/json"})
    assert status == 400 and "JSON" in said["message"] or "json" in said["message"].lower()
    assert lab.raw(1, "GET", "/nothing/here")[0] == 404
    status, said = lab.raw(1, "GET", "/v1.10/info")
    assert status == 400 and "1.10 is too old" in said["message"]
    assert lab.raw(1, "GET", "/_ping")[0] == 200


def test_ports_that_are_taken(lab, cli):
    lab.create("--name", "web", "-p", "8080:8000", IMAGE)
    p = cli(lab, 1, "service", "create", "-d", "--name", "other", "-p", "8080:8000", IMAGE, rc=1)
    assert re.search(r"port '?8080'? is already in use by service '?web", one_line(p)), p.stderr
    # a port a node's own program listens on is never shadowed
    own = lab.spawn(2, sys.executable, "-m", "http.server", "8099", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: lab.curl(f"http://{lab.addr(2)}:8099/", rc=None).returncode == 0, 10, "the node's own server")
    cli(lab, 1, "service", "create", "-d", "--name", "shadow", "-p", "8099:8000", IMAGE, rc=None)
    if any(s["Spec"]["Name"] == "shadow" for s in lab.get(1, "/services")):
        lab.wait_running("shadow", 1)
        lab.fields(f"http://{lab.addr(1)}:8099/")
    assert "Directory listing" in lab.curl(f"http://{lab.addr(2)}:8099/").stdout
    assert own.poll() is None


def test_subnet_over_the_underlay(lab, cli):
    under = lab.addr(1).rsplit(".", 1)[0] + ".0/24"
    p = cli(lab, 1, "network", "create", "-d", "overlay", "--subnet", under, "bad", rc=None)
    if p.returncode == 0:  # the allocator refuses it, and the network says so
        p = cli(lab, 1, "service", "create", "-d", "--name", "x", "--network", "bad", IMAGE, rc=None)
    assert p.returncode and under in p.stderr, p.stderr
    lab.meshctl(1, "network", "create", "-d", "overlay", "--subnet", "10.88.0.0/24", "one")
    p = cli(lab, 1, "network", "create", "-d", "overlay", "--subnet", "10.88.0.128/25", "two", rc=1)
    assert "10.88.0" in one_line(p)


# ---- the daemon itself ----

def meshd(*args, **kw):
    return subprocess.run([MESHD, *args], capture_output=True, text=True, timeout=30, **kw)


def dirs(path):
    return ["--state", str(path / "state"), "--run", str(path / "run"), "--name", f"t{os.getpid()}x"]


def test_daemon_refuses_what_it_cannot(machine, tmp_path):
    p = meshd("--nonsense")
    assert p.returncode and "nonsense" in p.stderr
    p = meshd("--data-plane", "magic", *dirs(tmp_path))
    assert p.returncode and "magic" in p.stderr
    shutil.copy(MESHD, "/tmp/meshd-for-nobody")
    try:
        p = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "/tmp/meshd-for-nobody", *dirs(tmp_path)],
                           capture_output=True, text=True, timeout=30)
    finally:
        os.unlink("/tmp/meshd-for-nobody")
    assert p.returncode and "root" in p.stderr and len(p.stderr.splitlines()) <= 2
    (tmp_path / "old" / "state").mkdir(parents=True)
    (tmp_path / "old" / "state" / "format").write_text("999\n")
    p = meshd(*dirs(tmp_path / "old"))
    assert p.returncode and re.search("999|version|format", p.stderr) and str(tmp_path / "old" / "state") in p.stderr
    assert (tmp_path / "old" / "state" / "format").read_text() == "999\n"


def test_second_daemon_on_the_same_state(lab):
    since = lab.log_sizes()
    p = lab.node_exec(3, MESHD, "--state", lab.state(3), "--run", f"/run/mesh/{lab.name}/n3", "--name", f"mesh-{lab.name}-n3", "--socket",
                      lab.config + "/second.sock", rc=None, timeout=30)
    assert p.returncode and re.search(f"{lab.state(3)}.*(another|running|in use|locked)|(another|running|in use|locked).*{lab.state(3)}", p.stderr)
    assert lab.get(3, "/info")["Swarm"]["LocalNodeState"] == "active" and "error" not in lab.log(3)[since[3]:]


def test_missing_runtime(fresh_lab):
    """A node without crun: its tasks are rejected with the name of what is missing; the daemon lives."""
    l = fresh_lab(nodes=1)
    l.verb("stop", 1)
    d = l.spawn(1, MESHD, "--state", l.state(1), "--run", f"/run/mesh/{l.name}/n1", "--socket", l.sock(1), "--name", f"mesh-{l.name}-n1",
                "--hostname", "n1", "--advertise-addr", l.addr(1), "--runtime", "/nonexistent", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: d.poll() is not None or l.raw(1, "GET", "/_ping")[0] == 200, 20, "the daemon")
    if d.poll() is not None:
        assert "/nonexistent" in d.stderr.read()
        return
    l.meshctl(1, "service", "create", "-d", "--name", "web", "--restart-condition", "none", IMAGE)
    t = wait_for(lambda: [t for t in l.tasks("web") if t["Status"]["State"] in ("rejected", "failed")], 30, "the task to be rejected")[0]
    assert "/nonexistent" in t["Status"]["Err"]


def test_damaged_log(fresh_lab):
    """A cut tail is a torn write: nothing that was acknowledged before it is lost. Damage in the middle stops the daemon
    with the name of the file; the log stays as it is."""
    l = fresh_lab(nodes=1, images=False)
    for i in range(20):
        l.raw(1, "POST", "/services/create", {"Name": f"s{i}", "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}}, "Mode": {"Replicated": {"Replicas": 0}}})
    l.verb("kill", 1)
    raft = l.state(1) + "/raft"
    logs = sorted((f for f in os.listdir(raft) if os.path.isfile(f"{raft}/{f}")), key=lambda f: os.path.getsize(f"{raft}/{f}"))
    path = f"{raft}/{logs[-1]}"
    data = open(path, "rb").read()
    end = len(data.rstrip(b"\0"))
    with open(path, "r+b") as f:  # torn: half of a record behind the last
        f.seek(end + 64)
        f.write(data[end - 40:end - 20])
    l.verb("start", 1)
    assert {s["Spec"]["Name"] for s in l.get(1, "/services")} == {f"s{i}" for i in range(20)}
    l.verb("kill", 1)
    data = bytearray(open(path, "rb").read())
    middle = len(bytes(data).rstrip(b"\0")) // 2
    for i in range(middle, middle + 8):
        data[i] ^= 0x55
    with open(path, "wb") as f:
        f.write(data)
    since = l.log_sizes()
    l.meshctl(0, "lab", "start", "--name", l.name, "n1", rc=1, timeout=60)
    said = l.log(1)[since[1]:]
    assert path in said or logs[-1] in said, said
    assert open(path, "rb").read() == bytes(data), "the damaged log was touched"


def test_full_disk(fresh_lab):
    """The manager's disk is full: creates are refused with the reason, what was acknowledged stays, and room is enough."""
    l = fresh_lab(nodes=1, images=False)
    name = lambda i: {"Name": f"s{i}", "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}}, "Mode": {"Replicated": {"Replicas": 0}}}
    l.verb("stop", 1)
    small, mounted = l.config + "/small", False
    os.makedirs(small)
    try:
        l.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", small])
        mounted = True
        l.run(["cp", "-a", l.state(1) + "/.", small])
        d = l.spawn(1, MESHD, "--state", small, "--run", f"/run/mesh/{l.name}/n1", "--socket", l.sock(1), "--name", f"mesh-{l.name}-n1",
                    "--hostname", "n1", "--advertise-addr", l.addr(1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: l.raw(1, "GET", "/nodes")[0] == 200, 20, "the daemon")
        acked = []
        with open(small + "/filler", "wb") as f:
            try:
                while True:
                    f.write(b"x" * 65536)
                    f.flush()
            except OSError:
                pass
        refused = None
        big = "x" * 200000
        for i in range(200):
            body = dict(name(i), Labels={"big": big})
            try:
                status, said = l.raw(1, "POST", "/services/create", body, timeout=8)
            except OSError as e:
                status, said = 0, {"message": str(e)}
            if status == 201:
                acked.append(f"s{i}")
            else:
                refused = (status, said)
                break
        assert refused, "24 MiB held 40 MB"
        os.unlink(small + "/filler")
        if d.poll() is None:
            wait_for(lambda: l.raw(1, "POST", "/services/create", name(1000), timeout=8)[0] in (201, 409), 30, "a create once there is room")
        have = {s["Spec"]["Name"] for s in l.get(1, "/services")}
        assert set(acked) <= have
    finally:
        for p in l.processes:
            p.terminate()
            p.wait()
        if mounted:
            subprocess.run(["umount", "-l", small])
