# SPDX-License-Identifier: GPL-2.0-or-later
"""A task is stopped only after every node has acknowledged that no new connection goes to it: no request of an open
loop fails while tasks come and go. The demo server exits at once on SIGTERM, so a request sent to it later fails.

    client ── open loop, each request a new connection ──► n1 n2 n3 :8080 ──► web on all nodes
"""
import pytest

from conftest import each_plane
from meshlab import IMAGE, IMAGE2, wait_for


def targets(lab, port=8080):
    return [f"{a}:{port}" for a in lab.addresses]


def settle(lab, name, n, image=None):
    ts = lab.wait_running(name, n, 60)
    if image:
        assert all(t["Spec"]["ContainerSpec"]["Image"].startswith(image) for t in ts)
    return ts


@each_plane
def test_scale_in_loses_nothing(lab):
    lab.create("--name", "web", "--replicas", "6", "-p", "8080:8000", IMAGE, n=6)
    load = lab.load(*targets(lab))
    lab.meshctl(1, "service", "scale", "-d", "web=2")
    settle(lab, "web", 2)
    lab.meshctl(1, "service", "scale", "-d", "web=5")
    settle(lab, "web", 5)
    r = load.stop()
    assert r["failed"] == [] and r["ok"] > 50


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
def test_update_loses_nothing(lab, order):
    lab.create("--name", "web", "--replicas", "3", "-p", "8080:8000", "--update-order", order, "--update-monitor", "500ms",
               IMAGE, n=3)
    load = lab.load(*targets(lab))
    lab.docker(1, "service", "update", "-q", "-d", "--image", IMAGE2, "web")
    wait_for(lambda: lab.get(1, "/services/web")["UpdateStatus"]["State"] == "completed", 60, "the update to complete")
    settle(lab, "web", 3, IMAGE2)
    r = load.stop()
    assert r["failed"] == [] and set(r["versions"]) == {"1", "2"}


@each_plane
def test_requests_in_flight_finish(lab):
    """A request that lasts longer than the update of its task is answered."""
    lab.create("--name", "web", "--replicas", "3", "-p", "8080:8000", "--stop-grace-period", "20s", IMAGE, n=3)
    load = lab.load(*targets(lab), args=["--path", "/slow?ms=2500", "--rate", "20"])
    load.more(30)
    lab.meshctl(1, "service", "scale", "-d", "web=1")
    settle(lab, "web", 1)
    r = load.stop()
    assert r["failed"] == [] and len(r["hosts"]) == 3


def test_drained_node_loses_nothing(lab):
    lab.create("--name", "web", "--replicas", "4", "-p", "8080:8000", IMAGE, n=4)
    load = lab.load(*targets(lab))
    lab.docker(1, "node", "update", "--availability", "drain", "n3")
    wait_for(lambda: all(lab.node_number(t) != 3 for t in lab.wait_running("web", 4)), 40, "n3 to be empty")
    r = load.stop()
    assert r["failed"] == []


def test_task_stopped_by_hand_loses_only_what_was_open(lab):
    """`docker stop` of a task's container is no decision of the cluster: it is a task that ends."""
    ts = lab.create("--name", "web", "--replicas", "3", "-p", "8080:8000", "--restart-delay", "0s", IMAGE, n=3)
    load = lab.load(*targets(lab))
    victim = ts[0]
    lab.docker(lab.node_number(victim), "stop", victim["Status"]["ContainerStatus"]["ContainerID"])
    wait_for(lambda: victim["ID"] not in [t["ID"] for t in lab.wait_running("web", 3)], 30, "a replacement")
    r = load.stop()
    assert len(r["failed"]) <= 2 and r["ok"] > 50


@each_plane
def test_daemon_restart_under_load_loses_nothing(lab):
    """Tasks and their traffic outlive the daemon, the manager's too."""
    before = lab.create("--name", "web", "--replicas", "3", "-p", "8080:8000", IMAGE, n=3)
    load = lab.load(*targets(lab))
    for k in (2, 1, 3):
        lab.verb("kill", k)
        lab.verb("start", k)
        lab.wait_nodes()
    after = lab.wait_running("web", 3)
    r = load.stop()
    assert r["failed"] == [] and len(r["hosts"]) == 3
    pids = lambda ts: {t["ID"]: (t["Status"]["ContainerStatus"]["ContainerID"], t["Status"]["ContainerStatus"]["PID"]) for t in ts}
    assert pids(before) == pids(after)
