# SPDX-License-Identifier: GPL-2.0-or-later
"""Containers run by hand: docker run and meshctl run, on the manager (n1) and on a worker (n2)."""
import json

import pytest

from meshlab import IMAGE, wait_for


@pytest.fixture
def tidy(lab):
    yield lab
    for k in (1, 2):
        for cid in lab.docker(k, "ps", "-aq", "--filter", "is-task=false").stdout.split():
            lab.docker(k, "rm", "-f", cid, rc=None)


def ours(lab, k):
    return lab.docker(k, "ps", "-aq", "--filter", "is-task=false").stdout.split()


@pytest.mark.parametrize("k", [1, 2])
def test_output_exit_code_and_removal(tidy, cli, k):
    p = cli(tidy, k, "run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3", rc=3)
    assert (p.stdout, p.stderr) == ("out\n", "err\n")
    assert ours(tidy, k) == []


def test_standard_input(tidy, cli):
    text = "".join(f"line {i}\n" for i in range(20000))
    assert cli(tidy, 2, "run", "-i", "--rm", IMAGE, "cat", stdin=text).stdout == text


def test_life(tidy):
    lab = tidy
    cid = lab.docker(2, "run", "-d", "--name", "one", IMAGE, "sh", "-c", "echo run >>/runs; cat /runs; sleep 1000").stdout.strip()
    assert len(cid) == 64
    p = lab.docker(2, "run", "-d", "--name", "one", IMAGE, rc=125)
    assert f'The container name "/one" is already in use by container "{cid}"' in p.stderr
    lab.docker(2, "rename", "one", "two")
    assert lab.docker(2, "ps", "--format", "{{.Names}}", "--filter", "is-task=false").stdout == "two\n"
    lab.docker(2, "restart", "-t", "0", "two")
    # The same container: its id, what it wrote, what it said.
    assert lab.docker(2, "inspect", "-f", "{{.Id}} {{.State.Status}}", "two").stdout == f"{cid} running\n"
    wait_for(lambda: lab.docker(2, "logs", "two").stdout == "run\nrun\nrun\n", what="the output of both runs")
    p = lab.docker(2, "rm", "two", rc=1)
    assert "container is running" in p.stderr
    lab.docker(2, "stop", "-t", "0", "two")
    assert lab.docker(2, "inspect", "-f", "{{.State.Status}}", "two").stdout == "exited\n"
    lab.docker(2, "rm", "two")
    assert ours(lab, 2) == []


def test_refusals(tidy):
    lab = tidy
    lab.docker(1, "network", "create", "-d", "overlay", "closed")
    for argv, rc, text in [
            (["--network", "closed", IMAGE], 125, "network closed not manually attachable"),
            (["--network", "nowhere", IMAGE], 125, "network nowhere not found"),
            (["--restart", "always", IMAGE], 125, 'restart policy "always"'),
            (["--privileged", IMAGE], 125, "HostConfig.Privileged is not supported"),
            (["--name", "a b", IMAGE], 125, "Invalid container name (a b)"),
            ([IMAGE, "/nosuch"], 127, "not found"),
            ([IMAGE, "/etc/passwd"], 126, "ermission denied")]:
        p = lab.docker(2, "run", *([] if "--restart" in argv else ["--rm"]), *argv, rc=rc)
        assert text in p.stderr, p.stderr
    wait_for(lambda: ours(lab, 2) == [], what="nothing left of them")
    lab.docker(1, "network", "rm", "closed")


def test_on_an_attachable_network(tidy):
    lab = tidy
    lab.docker(1, "network", "create", "-d", "overlay", "--attachable", "att")
    lab.create("--name", "web", "--network", "att", IMAGE)
    lab.docker(2, "run", "-d", "--name", "tool", "--network", "att", "--network-alias", "nick", IMAGE)
    # Both ways, by name, from another node.
    for name in ("web", "tool", "nick"):
        out = lab.docker(1, "run", "--rm", "--network", "att", IMAGE, "sh", "-c",
                         f"for i in 1 2 3 4 5 6 7 8 9 10; do wget -q -O- {name}:8000 && exit 0; done; exit 1").stdout
        assert "version=1" in out
    lab.docker(1, "service", "rm", "web")
    wait_for(lambda: not lab.tasks(), what="the service's tasks to be gone")
    p = lab.docker(1, "network", "rm", "att", rc=1)
    assert "has active endpoints" in p.stderr
    lab.docker(2, "rm", "-f", "tool")
    wait_for(lambda: lab.docker(1, "network", "rm", "att", rc=None).returncode == 0, what="the network to go")


def test_published_port_and_none(tidy):
    lab = tidy
    lab.docker(2, "run", "-d", "--name", "pub", "-p", "9097:8000", IMAGE)
    assert lab.docker(2, "port", "pub").stdout == "8000/tcp -> 0.0.0.0:9097\n"
    got = wait_for(lambda: lab.fields(f"http://{lab.addr(2)}:9097/"), what="an answer on the node's port")
    assert got["client"].startswith(lab.client_addr + ":")
    p = lab.docker(2, "run", "--rm", "-p", "9097:8000", IMAGE, rc=125)
    assert "host-mode port already in use" in p.stderr
    out = lab.docker(2, "run", "--rm", "--network", "none", IMAGE, "sh", "-c", "ls /sys/class/net").stdout
    assert out.split() == ["lo"]


def test_outlives_the_daemon(tidy):
    lab = tidy
    lab.docker(2, "run", "-d", "--name", "stays", IMAGE)
    pid = lab.docker(2, "inspect", "-f", "{{.State.Pid}}", "stays").stdout
    lab.verb("stop", 2)
    lab.verb("start", 2)
    wait_for(lambda: lab.docker(2, "inspect", "-f", "{{.State.Pid}}", "stays").stdout == pid, what="the same process")
    lab.wait_nodes()
    assert lab.docker(2, "exec", "stays", "echo", "here").stdout == "here\n"
    lab.docker(2, "rm", "-f", "stays")


def test_are_no_tasks_of_services(tidy):
    lab = tidy
    lab.docker(2, "run", "-d", "--name", "mine", IMAGE)
    assert lab.tasks() == []
    assert lab.docker(1, "node", "ps", "-q", *[lab.node_id(k) for k in lab.nodes]).stdout == ""
    labels = json.loads(lab.docker(2, "inspect", "mine").stdout)[0]["Config"]["Labels"]
    assert not any(x.startswith("com.docker.swarm") for x in labels)


def test_rebalance_after_a_drain(lab):
    lab.docker(1, "node", "update", "--availability", "drain", lab.node_id(3))
    lab.create("--name", "even", "--replicas", "6", "-p", "8097:8000", IMAGE, n=6)
    lab.docker(1, "node", "update", "--availability", "active", lab.node_id(3))
    load = lab.load(*[f"{a}:8097" for a in lab.addresses])
    out = lab.meshctl(1, "service", "rebalance", "even").stdout
    assert out.splitlines()[-1] == "even: 2 tasks moved"
    assert load.stop()["failed"] == []
    tasks = lab.wait_running("even", 6)
    assert sorted([t["NodeID"] for t in tasks].count(lab.node_id(k)) for k in lab.nodes) == [2, 2, 2]
    assert lab.meshctl(1, "service", "rebalance", "even").stdout == "even: even already\n"
    lab.create("--name", "everywhere", "--mode", "global", IMAGE, n=3)
    p = lab.meshctl(1, "service", "rebalance", "everywhere", rc=1)
    assert "only replicated services can be rebalanced" in p.stderr
