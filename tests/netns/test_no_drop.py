# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing a user does to a running service costs a request: the short form of `make bench-update`.

    client ── bench/loadgen: new connections, keep-alive, slow answers, UDP ──► n1 n2 n3 :8080 ──► web on all nodes

The demo server exits at once on SIGTERM, with whatever is open; it listens only when LISTEN_DELAY_MS have passed.
"""
import os
import signal
import time

import pytest

from meshlab import IMAGE, IMAGE2, wait_for

MIX = ["new:80", "new:20:200", "keep:40:9:2000", "udp:40"]


def targets(lab, nodes=None):
    return [f"{lab.addr(k)}:8080" for k in nodes or lab.nodes]


def web(lab, replicas, *args, delay=0):
    lab.create("--name", "web", "--replicas", str(replicas), "-p", "8080:8000", "-p", "8080:8000/udp", "--restart-delay", "0s",
               "--stop-grace-period", "15s", *(["--env", f"LISTEN_DELAY_MS={delay}"] if delay else []), *args, IMAGE, n=replicas)
    known(lab, replicas)


def known(lab, n):
    """n tasks take traffic from every node."""
    wait_for(lambda: len([t for t in lab.get(1, "/_mesh/services/web")["Tasks"] if t["Known"] and t["State"] == "running"
                          and t["DesiredState"] == "running"]) == n, 60, f"{n} tasks every node sends traffic to")


def check_nothing_failed(result):
    assert result["failures"] == []
    for c in result["classes"]:
        assert c["ok"] == c["sent"] > 0, c


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
def test_update_of_tasks_that_listen_late(lab, order):
    web(lab, 3, "--update-order", order, "--update-monitor", "500ms", delay=1500)
    load = lab.loadgen(MIX, targets(lab))
    load.more(100)
    lab.meshctl(1, "service", "update", "-q", "-d", "--image", IMAGE2, "web")
    wait_for(lambda: lab.get(1, "/services/web").get("UpdateStatus", {}).get("State") == "completed", 90, "the update")
    lab.wait_running("web", 3, 60)
    r = load.stop(100)
    check_nothing_failed(r)
    assert set(r["versions"]) == {"1", "2"}


def test_connections_that_rest_through_changes(lab):
    """A keep-alive connection finds its task again however often the set changed since its last request."""
    web(lab, 4)
    load = lab.loadgen(["keep:24:24:4000", "new:50", "udp:20"], targets(lab))
    load.more(100)
    for n in (8, 2, 5, 4):
        lab.meshctl(1, "service", "scale", "-d", f"web={n}")
        lab.wait_running("web", n, 60)
        known(lab, n)
    check_nothing_failed(load.stop(100))


def test_crash_costs_what_was_open(lab):
    web(lab, 4)
    load = lab.loadgen(MIX, targets(lab))
    load.more(100)
    kills = []
    for _ in range(3):
        victim = lab.wait_running("web", 4)[0]
        known(lab, 4)
        kills.append(time.monotonic())
        os.kill(victim["Status"]["ContainerStatus"]["PID"], signal.SIGKILL)
        wait_for(lambda: victim["ID"] not in [t["ID"] for t in lab.wait_running("web", 4)], 30, "a replacement")
    r = load.stop(100)

    def belongs(f):
        """Open at a kill, or begun in the moment it takes the task's node to see the end."""
        begin = r["start"] + f["at"]
        return any(begin - 0.25 <= k <= begin + f["after_ms"] / 1000 or 0 <= begin - k < 0.25 for k in kills)

    assert [f for f in r["failures"] if not belongs(f)] == []
    assert len(r["failures"]) < 60


def test_a_connection_that_nobody_answered_gets_another_task(lab):
    """A task's own node points its sockets at a task; one that is lost before it answers is replaced under the connection."""
    lab.docker(1, "network", "create", "-d", "overlay", "blue")
    lab.create("--name", "web", "--network", "blue", "--mode", "global", "--constraint", "node.hostname!=n1", IMAGE, n=2)
    asks = lab.create("--name", "asks", "--network", "blue", "--constraint", "node.hostname==n1", IMAGE, "sleep", "1000")[0]
    known(lab, 2)
    one = "(wget -q -O- web:8000 >/tmp/o$i 2>/tmp/e$i; echo $? $(cat /tmp/e$i)) &"
    assert lab.exec(asks, "sh", "-c", f"for i in 1 2 3 4; do {one} done; wait").stdout.split() == ["0"] * 4
    lab.verb("cut", 3)
    try:
        out = lab.exec(asks, "sh", "-c", f"for i in $(seq 16); do {one} done; wait", timeout=90).stdout
    finally:
        lab.verb("heal", 3)
    assert out.split("\n")[:-1] == ["0"] * 16, out
    assert "version=1" in lab.exec(asks, "cat", "/tmp/o16").stdout
    lab.wait_nodes()


def test_cut_node_costs_others_under_two_seconds(lab):
    web(lab, 6)
    assert any(lab.node_number(t) == 3 for t in lab.running("web"))
    load = lab.loadgen(["new:80", "udp:40"], targets(lab, [1, 2]))
    load.more(100)
    cut = time.monotonic()
    lab.verb("cut", 3)
    wait_for(lambda: len([t for t in lab.running("web") if lab.node_number(t) != 3]) == 6, 60, "replacements")
    r = load.stop(300)
    late = [f for f in r["failures"] if r["start"] + f["at"] > cut + 2]
    assert late == []
    assert all(r["start"] + f["at"] + f["after_ms"] / 1000 > cut for f in r["failures"])
