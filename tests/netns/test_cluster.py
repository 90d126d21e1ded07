# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes come, go and are refused; managers and workers die and lose nothing that was acknowledged."""
import contextlib
import json
import os
import re
import threading
import time


from meshlab import IMAGE, SLOW, wait_for

TOKEN = r"SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}"


def containers(tasks):
    return {t["ID"]: (t["Status"]["ContainerStatus"]["ContainerID"], t["Status"]["ContainerStatus"]["PID"]) for t in tasks}


def running_pids(tasks):
    """Their processes are really there: start times by pid."""
    return {t["ID"]: open(f"/proc/{t['Status']['ContainerStatus']['PID']}/stat").read().rsplit(")", 1)[1].split()[19] for t in tasks}


def test_info_and_version(lab, cli):
    info = json.loads(cli(lab, 1, "info", "--format", "{{json .}}").stdout)
    s = info["Swarm"]
    assert (s["LocalNodeState"], s["ControlAvailable"], s["Nodes"], s["Managers"], s["NodeAddr"]) == ("active", True, 3, 1, lab.addr(1))
    assert info["Name"] == "n1" and info["NCPU"] >= 1 and info["MemTotal"] > 0
    worker = json.loads(cli(lab, 2, "info", "--format", "{{json .}}").stdout)
    assert not worker["Swarm"]["ControlAvailable"] and worker["Swarm"]["RemoteManagers"][0]["Addr"] == f"{lab.addr(1)}:2377"
    out = cli(lab, 1, "version").stdout
    assert re.search(r"Version: +\d", out) and ("meshd" in out or cli.name == "meshctl")
    assert "This node is not a swarm manager" in cli(lab, 2, "service", "ls", rc=1).stderr


def test_node_verbs(lab, cli):
    rows = cli(lab, 1, "node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}").stdout.split("\n")
    assert {r.strip() for r in rows} >= {"n1 Ready Active Leader", "n2 Ready Active", "n3 Ready Active"}
    assert cli(lab, 1, "node", "update", "--label-add", "disk=ssd", "--label-add", "x=y", "--availability", "pause", "n2").stdout == "n2\n"
    n = json.loads(cli(lab, 1, "node", "inspect", "n2").stdout)[0]
    assert n["Spec"]["Labels"] == {"disk": "ssd", "x": "y"} and n["Spec"]["Availability"] == "pause"
    assert n["Status"]["Addr"] == lab.addr(2) and n["Description"]["Hostname"] == "n2" and n["Description"]["Resources"]["NanoCPUs"] > 0
    cli(lab, 1, "node", "update", "--label-rm", "x", "--availability", "active", "n2")
    assert json.loads(cli(lab, 1, "node", "inspect", "n2").stdout)[0]["Spec"]["Labels"] == {"disk": "ssd"}
    assert "n2" in cli(lab, 1, "node", "inspect", "--pretty", "n2").stdout
    assert "not down" in cli(lab, 1, "node", "rm", "n2", rc=1).stderr
    assert "last manager" in cli(lab, 1, "node", "demote", "n1", rc=1).stderr
    assert re.search("nope.*not found|no such node: nope", cli(lab, 1, "node", "inspect", "nope", rc=1).stderr.lower())
    assert "nope" in cli(lab, 1, "node", "rm", "nope", rc=1).stderr


def test_init_join_leave_rm(fresh_lab, cli):
    """The whole life of a cluster by hand, with refusals on the way: the reason is told on both sides."""
    l = fresh_lab(nodes=3, init=False, images=False)
    assert "not a swarm manager" in cli(l, 1, "node", "ls", rc=1).stderr
    out = cli(l, 1, "swarm", "init", "--advertise-addr", l.addr(1)).stdout
    m = re.search(rf"swarm join --token ({TOKEN}) {re.escape(l.addr(1))}:2377", out)
    assert m, out
    worker = m[1]
    assert "already part of a swarm" in cli(l, 1, "swarm", "init", rc=1).stderr
    assert cli(l, 1, "swarm", "join-token", "-q", "worker").stdout.strip() == worker
    manager = cli(l, 1, "swarm", "join-token", "-q", "manager").stdout.strip()
    assert manager != worker and manager.rsplit("-", 1)[0] == worker.rsplit("-", 1)[0]
    assert worker in cli(l, 1, "swarm", "join-token", "worker").stdout
    join = lambda k, token, rc=0, to=None: cli(l, k, "swarm", "join", "--token", token, "--advertise-addr", l.addr(k),
                                               f"{to or l.addr(1)}:2377", rc=rc)

    def refused(token, said, at_manager=True, at_node=True, to=None):
        since = l.log_sizes()
        p = join(2, token, rc=1, to=to)
        assert re.search(said, p.stderr), p.stderr
        if at_node:
            wait_for(lambda: re.search(said, l.log(2)[since[2]:]), 5, f"n2's log to say {said}; it says {l.log(2)[since[2]:]}")
        if at_manager:
            wait_for(lambda: "refused" in l.log(1)[since[1]:], 5, "n1's log to say that it refused")
            assert l.addr(2) in l.log(1)[since[1]:]
        assert l.get(2, "/info")["Swarm"]["LocalNodeState"] == "inactive"

    head, digest, secret = worker.rsplit("-", 2)
    flip = lambda s: s[:-1] + ("a" if s[-1] != "a" else "b")
    refused("-".join((head, digest, flip(secret))), "token")                                # wrong secret
    refused("-".join((head, flip(digest[:-5]) + digest[-5:], secret)), "token|digest|certificate", at_manager=False)  # another cluster's root
    for malformed in ("hello", "SWMTKN-1-abc-def", worker + "x", "SWMTKN-2" + worker[8:], ""):
        if malformed:
            refused(malformed, "token", at_manager=False, at_node=False)
    new = cli(l, 1, "swarm", "join-token", "--rotate", "-q", "worker").stdout.strip()
    assert new != worker and re.fullmatch(TOKEN, new)
    refused(worker, "token")                                                                # rotated away
    refused(new, re.escape("172.31."), at_manager=False, at_node=False, to=l.client_addr)   # nobody listens there
    assert "This node joined a swarm as a worker." in join(2, new).stdout
    assert "already part of a swarm" in join(2, new, rc=1).stderr
    assert "one manager" in join(3, manager, rc=1).stderr
    join(3, new)
    l.wait_nodes(3)
    # leaving
    assert cli(l, 3, "swarm", "leave").stdout == "Node left the swarm.\n"
    wait_for(lambda: [n for n in l.get(1, "/nodes") if n["Status"]["State"] == "down"], 20, "n3 to be down")
    assert l.get(3, "/info")["Swarm"]["LocalNodeState"] == "inactive"
    cli(l, 1, "node", "rm", "n3")
    assert len(l.get(1, "/nodes")) == 2
    assert "part of a swarm" in cli(l, 3, "swarm", "leave", rc=1).stderr
    join(3, new)
    l.wait_nodes(3)
    assert "erases all current state" in cli(l, 1, "swarm", "leave", rc=1).stderr
    cli(l, 1, "swarm", "leave", "--force")
    assert l.get(1, "/info")["Swarm"]["LocalNodeState"] == "inactive"
    cli(l, 1, "swarm", "init", "--advertise-addr", l.addr(1))
    assert len(l.get(1, "/nodes")) == 1


def test_a_removed_node_and_one_of_another_cluster_are_refused(fresh_lab):
    """n2 belongs to the cluster of n1, then n1 starts another: n2's certificate is nobody's there. The reason is logged
    on both sides. n3 is removed while it is away: it may not come back."""
    l = fresh_lab(nodes=3, images=False)
    l.verb("stop", 3)
    l.wait_nodes(1, "down", timeout=40)
    l.meshctl(1, "node", "rm", "n3")
    since = l.log_sizes()
    l.verb("start", 3)
    wait_for(lambda: re.search("refused.*(removed|not part|unknown|no such)", l.log(1)[since[1]:]), 20, "n1 to say that n3 is refused")
    wait_for(lambda: re.search("removed|not part|unknown|no such|refused", l.log(3)[since[3]:]), 20, "n3 to say that it is refused")
    assert len(l.get(1, "/nodes")) == 2
    l.meshctl(1, "swarm", "leave", "--force")
    since = l.log_sizes()
    l.meshctl(1, "swarm", "init", "--advertise-addr", l.addr(1))
    wait_for(lambda: re.search("(refused|handshake|certificate|cluster)", l.log(2)[since[2]:]), 20, "n2 to say why it cannot connect")
    wait_for(lambda: re.search(f"{re.escape(l.addr(2))}.*(certificate|cluster|handshake)", l.log(1)[since[1]:]), 20,
             "n1 to say whom it refuses and why")
    assert len(l.get(1, "/nodes")) == 1


def test_manager_killed_while_creating_loses_nothing_acknowledged(fresh_lab):
    """kill -9 again and again while services are created: every acknowledged create exists afterwards, once."""
    l = fresh_lab(nodes=2)
    cluster = l.get(1, "/info")["Swarm"]["Cluster"]["ID"]
    web = l.create("--name", "web", "--replicas", "2", "-p", "8080:8000", IMAGE, n=2)
    starts = running_pids(web)
    load = l.load(f"{l.addr(1)}:8080", f"{l.addr(2)}:8080")
    acked, tried, done = [], 0, threading.Event()

    def create():
        nonlocal tried
        while not done.is_set():
            tried += 1
            spec = {"Name": f"s{tried}", "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}}, "Mode": {"Replicated": {"Replicas": 0}}}
            try:
                status, r = l.raw(1, "POST", "/services/create", spec, timeout=10)
            except OSError:
                done.wait(0.01)
                continue
            if status == 201:
                acked.append((spec["Name"], r["ID"]))

    t = threading.Thread(target=create)
    t.start()
    try:
        for turn in range(6):
            n = len(acked)
            wait_for(lambda: len(acked) > n + turn, 20, "creates to be acknowledged", every=0.001)
            l.verb("kill", 1)
            l.verb("start", 1)
    finally:
        done.set()
        t.join()
    assert l.get(1, "/info")["Swarm"]["Cluster"]["ID"] == cluster
    have = {s["ID"]: s["Spec"]["Name"] for s in l.get(1, "/services")}
    missing = [a for a in acked if have.get(a[1]) != a[0]]
    assert len(acked) > 10 and not missing and len(set(have.values())) == len(have)
    l.wait_nodes(2)
    now = l.wait_running("web", 2)
    assert containers(now) == containers(web) and running_pids(now) == starts
    assert load.stop()["failed"] == []


def test_worker_without_its_manager_keeps_tasks_and_traffic(lab):
    web = lab.create("--name", "web", "--replicas", "3", "-p", "8080:8000", IMAGE, n=3)
    starts = running_pids(web)
    load = lab.load(*[f"{a}:8080" for a in lab.addresses])
    lab.verb("kill", 1)
    load.more(300)
    lab.verb("kill", 2)  # also the worker's daemon restarts without a manager to ask
    lab.verb("start", 2)
    assert wait_for(lambda: lab.get(2, "/info")["Swarm"]["Error"], 10, "n2 to say what is missing")
    assert len(lab.get(2, "/containers/json")) == 1
    load.more(200)
    lab.verb("start", 1)
    lab.wait_nodes()
    r = load.stop()
    assert r["failed"] == [] and len(r["hosts"]) == 3
    now = lab.wait_running("web", 3)
    assert containers(now) == containers(web) and running_pids(now) == starts


def test_daemon_gone_for_long_is_not_replaced_early(lab):
    """A daemon that stopped on a machine that lives: nothing is replaced for two heartbeat periods."""
    web = lab.create("--name", "web", "--replicas", "3", "-p", "8080:8000", IMAGE, n=3)
    lab.verb("stop", 3)
    load = lab.load(*[f"{a}:8080" for a in lab.addresses[:2]])
    load.more(int(400 / SLOW))  # four seconds: where all is slow, there are fewer in a second
    lab.verb("start", 3)
    lab.wait_nodes()
    assert load.stop()["failed"] == []
    assert containers(lab.wait_running("web", 3)) == containers(web) and len(lab.tasks("web")) == 3


def test_heartbeat_period_takes_effect(lab):
    """A node that is silent is believed for as long as the period says, at once; who is heard is not lost by the change."""
    state = lambda: {n["Description"]["Hostname"]: n["Status"]["State"] for n in lab.get(1, "/nodes")}
    lab.create("--name", "web", "--replicas", "2", "-p", "8080:8000", "--constraint", "node.hostname!=n3", IMAGE, n=2)
    load = lab.load(*[f"{a}:8080" for a in lab.addresses[:2]])
    lab.meshctl(1, "swarm", "update", "--dispatcher-heartbeat", "60s")
    lab.verb("cut", 3)
    load.more(int(600 / SLOW))  # six seconds; by default three and a half say that it is down
    assert set(state().values()) == {"ready"}
    assert load.stop()["failed"] == []
    lab.meshctl(1, "swarm", "update", "--dispatcher-heartbeat", "2s")
    wait_for(lambda: state() == {"n1": "ready", "n2": "ready", "n3": "down"}, 20, "n3 to be down, and nobody else")
    lab.verb("heal", 3)
    lab.wait_nodes()


def test_dead_node_is_replaced_and_comes_back(lab):
    """A cut link: its tasks are replaced elsewhere; healed, the node stops what it should no longer run."""
    web = lab.create("--name", "web", "--replicas", "3", "-p", "8080:8000", IMAGE, n=3)
    lost = [t for t in web if lab.node_number(t) == 3]
    assert lost
    lab.verb("cut", 3)
    wait_for(lambda: len([t for t in lab.running("web") if lab.node_number(t) != 3]) == 3, 40, "replacements on n1 and n2")
    for k in (1, 2):
        for _ in range(6):
            lab.fields(f"http://{lab.addr(k)}:8080/", m=2)
    assert len(lab.running("web")) >= 3
    lab.verb("heal", 3)
    lab.wait_nodes()
    wait_for(lambda: lab.get(3, "/containers/json") == [], 30, "n3 to stop the task that was replaced")
    assert len(lab.wait_running("web", 3)) == 3


def test_certificates_renew_expire_and_are_replaced(fresh_lab):
    """Certificates of eight seconds: renewed while a node runs; a manager that was away for longer makes itself another; a
    worker that was is refused, is told what to do, and comes back by doing it."""
    l = fresh_lab(nodes=2, init=False, images=False)
    l.meshctl(1, "swarm", "init", "--advertise-addr", l.addr(1), "--cert-expiry", "8s")
    token = l.meshctl(1, "swarm", "join-token", "-q", "worker").stdout.strip()
    join = ("swarm", "join", "--token", token, "--advertise-addr", l.addr(2), f"{l.addr(1)}:2377")
    l.meshctl(2, *join)
    wait_for(lambda: all(l.log(k).count("certificate renewed") >= 2 for k in (1, 2)), 20, "both certificates to be renewed twice")
    l.wait_nodes()
    l.verb("stop", 1, 2)
    expires = time.monotonic() + 9
    since = l.log_sizes()
    wait_for(lambda: time.monotonic() > expires, 12, "the certificates to expire")
    l.verb("start", 1, 2)
    wait_for(lambda: "this manager's certificate had expired; it has a new one" in l.log(1)[since[1]:], 20, "the manager to go on")
    wait_for(lambda: "must leave the swarm and join again" in l.log(2)[since[2]:], 20, "n2 to say that its certificate expired")
    wait_for(lambda: "certificate expired" in l.log(1)[since[1]:], 20, "n1 to say that n2's certificate expired")
    l.wait_nodes(1, "down")
    l.meshctl(2, "swarm", "leave")
    l.meshctl(2, *join)
    wait_for(lambda: sorted(n["Status"]["State"] for n in l.get(1, "/nodes")) == ["down", "ready", "ready"], 20, "n2 to be back")


def holds(root, *words):
    """Files below root in which a word stands."""
    found = []
    for folder, _, names in os.walk(root):
        for path in (os.path.join(folder, name) for name in names):
            if not os.path.isfile(path) or os.path.islink(path):
                continue
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as f:
                content = f.read()
                found += [path for w in words if w.encode() in content]
    return found


def test_secrets_lie_sealed_on_disk(fresh_lab):
    """What the manager keeps in clear it keeps in memory; a worker keeps none of it. Without its key the log stays shut."""
    l = fresh_lab(nodes=2)
    words = "in-nobody's-file", "nor-this-config"
    l.docker(1, "secret", "create", "pw", "-", stdin=words[0])
    l.docker(1, "config", "create", "conf", "-", stdin=words[1])
    tasks = l.create("--name", "web", "--mode", "global", "--secret", "pw", "--config", "conf", IMAGE, n=2)
    shown = [l.docker(1, "swarm", "join-token", "-q", role).stdout.strip().rsplit("-", 1)[1] for role in ("worker", "manager")]
    here = lambda: [holds(l.state(k), *words, *shown) for k in l.nodes]
    assert here() == [[], []]
    assert os.stat(f"{l.state(1)}/identity/data.key").st_mode & 0o777 == 0o600 and not os.path.exists(f"{l.state(2)}/identity/data.key")
    l.verb("kill", 1)
    key = f"{l.state(1)}/identity/data.key"
    os.rename(key, key + ".away")
    refused = l.meshctl(0, "lab", "start", "--name", l.name, "n1", rc=1)
    assert "data.key" in refused.stderr + l.log(1) and "backup" in refused.stderr + l.log(1)
    os.rename(key + ".away", key)
    l.verb("start", 1)
    l.wait_nodes(2)
    l.docker(1, "service", "update", "-q", "-d", "--force", "web")
    wait_for(lambda: not {t["ID"] for t in tasks} & {t["ID"] for t in l.running("web")}, 30, "tasks that read the log's secret")
    for t in l.wait_running("web", 2):
        assert l.exec(t, "cat", "/run/secrets/pw", "/conf").stdout == "".join(words)
    assert here() == [[], []]
