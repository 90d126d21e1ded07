# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab itself: what it makes, what its verbs do, and that nothing of it is left.

    client ──┐
    n1 ──────┤ switch (br0)     each in a network namespace mesh-<lab>-<name>, 172.31.<i>.0/24
    n2 ──────┘
"""
import glob
import json
import os
import signal
import subprocess
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("MESH_BUILD") or os.path.join(ROOT, "build")
MESHCTL = os.path.join(BUILD, "meshctl")
pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists(os.path.join(BUILD, "meshd")),
                                reason="needs root and a built meshd (probed: euid, %s/meshd)" % BUILD)
NAME = "tlab%d" % os.getpid()
OTHER = NAME + "b"


def meshctl(*args, check=True, host=None, **kw):
    env = {k: v for k, v in os.environ.items() if k not in ("MESH_HOST", "DOCKER_HOST")}
    if host:
        env["MESH_HOST"] = host
    p = subprocess.run([MESHCTL, *args], capture_output=True, text=True, timeout=150, env=env, **kw)
    if check and p.returncode:
        logs = "".join("\n== %s\n%s" % (f, open(f).read()[-2000:]) for f in glob.glob("/var/lib/mesh/%s*/*/meshd.log" % NAME))
        raise AssertionError("%s: rc %d\n%s%s%s" % (args, p.returncode, p.stdout, p.stderr, logs))
    return p


def until(what, condition, timeout=20):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)  # between looks at a condition, which alone decides
    raise AssertionError("never happened within %d s: %s" % (timeout, what))


def traces(name):
    """Everything on this machine that bears the lab's name."""
    found = [p for pattern in ("/run/netns/mesh-%s-*", "/run/mesh/%s", "/var/lib/mesh/%s", "/sys/fs/cgroup/mesh-%s-*",
                               "/sys/fs/cgroup/*/mesh-%s-*") for p in glob.glob(pattern % name)]
    found += [line for line in open("/proc/self/mountinfo") if "/%s/" % name in line or "mesh-%s-" % name in line]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = open("/proc/%s/cmdline" % pid).read()
        except OSError:
            continue
        if "mesh-%s-" % name in text or "mesh/%s/" % name in text:
            found.append("process %s: %s" % (pid, text.replace("\0", " ")))
    return found


def nodes(name):
    out = meshctl("lab", "ls", "--name", name, "--format", "json").stdout
    return {n["name"]: n for n in map(json.loads, out.splitlines())}


@pytest.fixture
def lab():
    try:
        meshctl("lab", "up", "--name", NAME, "--nodes", "2")
        yield NAME
    finally:
        for name in (NAME, OTHER):
            meshctl("lab", "down", "--name", name, check=False)


def test_up_down_leaves_nothing():
    before = sorted(glob.glob("/run/netns/*")), os.path.exists("/run/netns")
    try:
        p = meshctl("lab", "up", "--name", NAME, "--nodes", "2")
        assert "n1" in p.stdout and "Try it" in p.stdout
        assert [n["role"] for n in nodes(NAME).values()] == ["manager", "worker"]
        assert traces(NAME)
    finally:
        meshctl("lab", "down", "--name", NAME)
    assert traces(NAME) == []
    # others may come and go at the same time; ours must not stay
    assert not [n for n in glob.glob("/run/netns/*") if NAME in n and n not in before[0]]


def test_ls_tells_the_contract(lab):
    n = nodes(lab)["n2"]
    assert n["socket"] == "/run/mesh/%s/n2.sock" % lab and n["netns"] == "mesh-%s-n2" % lab
    assert n["address"].startswith("172.31.") and n["address"].endswith(".12")
    assert (n["state"], n["role"]) == ("running", "worker")
    assert "Ready" in meshctl("node", "ls", host="unix://" + n["socket"].replace("n2", "n1")).stdout


def test_up_again_leaves_it_as_it_is(lab):
    pids = [open("/run/mesh/%s/n%d/meshd.pid" % (lab, k)).read() for k in (1, 2)]
    p = meshctl("lab", "up", "--name", lab, "--nodes", "2")
    assert "already up" in p.stderr
    assert pids == [open("/run/mesh/%s/n%d/meshd.pid" % (lab, k)).read() for k in (1, 2)]


def test_exec_and_client_stand_where_they_should(lab):
    address = nodes(lab)["n2"]["address"]
    out = meshctl("lab", "exec", "--name", lab, "n2", "--", "sh", "-c", "ip -br addr; echo $MESH_HOST; grep -c cgroup "
                  "/proc/self/mountinfo; exit 7", check=False)
    assert out.returncode == 7 and address + "/24" in out.stdout and "/n2.sock" in out.stdout
    assert int(out.stdout.split()[-1]) > 0  # unlike under "ip netns exec"
    out = meshctl("lab", "client", "--name", lab, "--", "ip", "-br", "addr").stdout
    assert address.rsplit(".", 1)[0] + ".10/24" in out
    assert meshctl("lab", "exec", "--name", lab, "n9", "--", "true", check=False).returncode == 1
    assert meshctl("lab", "exec", "--name", lab, "n1", "--", "/no/such", check=False).returncode == 127


def test_stop_start_kill(lab):
    for verb in ("stop", "kill"):
        meshctl("lab", verb, "--name", lab, "n2")
        assert nodes(lab)["n2"]["state"] == "stopped"
        meshctl("lab", "start", "--name", lab, "n2")
        assert nodes(lab)["n2"]["state"] == "running"
    until("n2 is ready again", lambda: meshctl(
        "node", "ls", "--filter", "name=n2", "--format", "{{.Status}}",
        host="unix:///run/mesh/%s/n1.sock" % lab).stdout.strip() == "Ready")


def reaches(lab, address):
    """One UDP datagram there and the ICMP error back: no program has to be installed."""
    code = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)\n"
            "s.connect(('%s', 9))\n"
            "try:\n s.send(b'x'); s.recv(1)\n"
            "except ConnectionRefusedError: raise SystemExit(0)\n"
            "except OSError: pass\nraise SystemExit(1)" % address)
    return meshctl("lab", "client", "--name", lab, "--", "/usr/bin/python3", "-c", code, check=False).returncode == 0


def test_start_of_a_daemon_behind_wrappers(lab, tmp_path):
    """While a process execs it has no command line for a moment: that is no death."""
    wrapper = tmp_path / "meshd"
    real = os.environ.get("MESHD") or os.path.join(BUILD, "meshd")
    wrapper.write_text(f'#!/bin/sh\nexport N=$((N + 1))\n[ $N -gt 300 ] && exec {real} "$@"\nexec "$0" "$@"\n')
    wrapper.chmod(0o755)
    meshctl("lab", "stop", "--name", NAME, "n2")
    env = dict(os.environ, MESHD=str(wrapper))
    subprocess.run([MESHCTL, "lab", "start", "--name", NAME, "n2"], check=True, env=env, timeout=60)


def test_cut_and_heal(lab):
    address = nodes(lab)["n2"]["address"]
    until("n2 is reached", lambda: reaches(lab, address))
    meshctl("lab", "cut", "--name", lab, "n2")
    assert nodes(lab)["n2"]["link"] == "cut" and not reaches(lab, address)
    meshctl("lab", "heal", "--name", lab, "n2")
    until("n2 is reached again", lambda: reaches(lab, address))


def test_down_takes_everything_but_the_other_lab(lab):
    meshctl("lab", "up", "--name", OTHER, "--nodes", "1", "--no-init")
    # a process in the node's network that no cgroup of the lab holds
    stray = subprocess.Popen([MESHCTL, "lab", "exec", "--name", lab, "n1", "--", "sleep", "1000"])
    until("it sleeps", lambda: "sleep" in open("/proc/%d/cmdline" % stray.pid).read())
    try:
        meshctl("lab", "down", "--name", lab)
        assert stray.wait(10) == -signal.SIGKILL
    finally:
        stray.kill()
        stray.wait()
    assert traces(lab) == []
    assert nodes(OTHER)["n1"]["state"] == "running"
    meshctl("lab", "down", "--name", OTHER)
    assert traces(OTHER) == []


def test_what_an_interrupted_up_left_is_cleaned(lab):
    """Half a lab: no lab.json, daemons and namespaces there; up removes them and makes a whole one."""
    pid = int(open("/run/mesh/%s/n1/meshd.pid" % lab).read())
    os.unlink("/run/mesh/%s/lab.json" % lab)
    meshctl("lab", "up", "--name", lab, "--nodes", "1")
    assert list(nodes(lab)) == ["n1"]
    assert not os.path.exists("/proc/%d/cmdline" % pid) or NAME not in open("/proc/%d/cmdline" % pid).read()
    meshctl("lab", "down", "--name", lab)
    assert traces(lab) == []


def test_down_without_a_lab_is_no_error():
    assert meshctl("lab", "down", "--name", NAME + "none").returncode == 0


def test_bad_names_are_refused():
    for name in ("", "A", "-x", "a/b", "..", "a" * 40):
        p = meshctl("lab", "up", "--name", name, check=False)
        assert p.returncode == 1 and "cannot name a lab" in p.stderr
