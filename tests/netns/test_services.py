# SPDX-License-Identifier: GPL-2.0-or-later
"""Services: every flag arrives in the task, tasks spread, are replaced, and say what they wait for."""
import json
import re

import pytest

from meshlab import IMAGE, IMAGE2, wait_for


def out(lab, task, *argv, **kw):
    return lab.exec(task, *argv, **kw).stdout


def test_lifecycle(lab, cli):
    """create (waiting until it runs), ls, ps, inspect, scale, update, rollback, rm."""
    text = cli(lab, 1, "service", "create", "--name", "web", "--replicas", "2", "--label", "tier=front", "--update-monitor", "100ms",
               "--rollback-monitor", "100ms", IMAGE).stdout
    assert re.match(r"[0-9a-z]{25}\n", text)
    assert len(lab.running("web")) == 2
    row = cli(lab, 1, "service", "ls", "--filter", "name=web", "--format", "{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}}").stdout
    assert row == f"web replicated 2/2 {IMAGE}\n"
    ps = cli(lab, 1, "service", "ps", "web", "--format", "{{.Name}} {{.Node}} {{.DesiredState}} {{.CurrentState}}").stdout.splitlines()
    assert len(ps) == 2 and all(re.match(r"web\.[12] n[123] Running Running", p) for p in ps)
    spec = json.loads(cli(lab, 1, "service", "inspect", "web").stdout)[0]["Spec"]
    assert spec["Labels"] == {"tier": "front"} and spec["Mode"]["Replicated"]["Replicas"] == 2
    assert "tier=front" in cli(lab, 1, "service", "inspect", "--pretty", "web").stdout
    assert "web scaled to 3" in cli(lab, 1, "service", "scale", "-d", "web=3").stdout
    lab.wait_running("web", 3)
    cli(lab, 1, "service", "update", "-d", "--image", IMAGE2, "--env-add", "A=b", "--label-rm", "tier", "--update-parallelism", "0", "web")
    wait_for(lambda: lab.get(1, "/services/web")["UpdateStatus"]["State"] == "completed", 30, "the update to complete")
    assert all(out(lab, t, "sh", "-c", "echo $VERSION $A") == "2 b\n" for t in lab.wait_running("web", 3))
    history = cli(lab, 1, "service", "ps", "web", "--format", "{{.DesiredState}}").stdout.split()
    assert history.count("Running") == 3 and history.count("Shutdown") >= 2
    cli(lab, 1, "service", "rollback", "-d", "web")
    wait_for(lambda: all(t["Spec"]["ContainerSpec"]["Image"].startswith(IMAGE) for t in lab.wait_running("web", 3)), 40, "the rollback")
    assert cli(lab, 1, "service", "rm", "web").stdout == "web\n"
    assert re.search("service web not found|no such service: web", cli(lab, 1, "service", "rm", "web", rc=1).stderr.lower())
    wait_for(lambda: not lab.tasks(), 20, "tasks to go")
    for k in lab.nodes:
        assert lab.get(k, "/containers/json?all=1") == []


def test_what_the_task_sees(lab, cli, tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "in").write_text("bound\n")
    t = lab.create("--name", "full", "--env", "A=1", "--env", "B=two words", "--hostname", "h-{{.Node.Hostname}}-{{.Task.Slot}}",
                   "--user", "nobody", "--workdir", "/tmp", "--container-label", "c=d", "--constraint", "node.hostname==n2",
                   "--mount", f"type=bind,source={tmp_path},target=/bound,readonly", "--mount", "type=volume,source=vol,target=/vol",
                   "--mount", "type=tmpfs,target=/scratch,tmpfs-size=1048576", "--limit-memory", "48M", "--limit-cpu", "0.5",
                   "--limit-pids", "40", "--reserve-memory", "16M", "--reserve-cpu", "0.1", "--stop-signal", "SIGKILL",
                   "--entrypoint", "sh", IMAGE, "-c", 'echo "$0 $1 $(pwd) $(id -u)"; exec sleep 100000', "arg0", "arg one",
                   cli=lambda *a: cli(lab, *a))[0]
    assert lab.node_number(t) == 2
    assert out(lab, t, "sh", "-c", 'echo "$A|$B"') == "1|two words\n"
    assert out(lab, t, "hostname") == "h-n2-1\n" and out(lab, t, "pwd") == "/tmp\n" and out(lab, t, "id", "-u") == "65534\n"
    wait_for(lambda: "arg0 arg one /tmp 65534" in cli(lab, 1, "service", "logs", "full").stdout, 5, "the arguments in the log")
    assert out(lab, t, "cat", "/bound/in") == "bound\n"
    assert "Read-only" in lab.exec(t, "touch", "/bound/x", rc=1).stderr
    mounts = out(lab, t, "cat", "/proc/mounts")
    assert re.search(r"^tmpfs /scratch tmpfs .*size=1024k", mounts, re.M) and " /vol " in mounts
    assert "vol" in [v["Name"] for v in lab.get(2, "/volumes")["Volumes"]]
    pid = t["Status"]["ContainerStatus"]["PID"]
    groups = dict((line.split(":", 2)[1], line.strip().split(":", 2)[2]) for line in open(f"/proc/{pid}/cgroup"))
    at = next((f"/sys/fs/cgroup/memory{g}/memory.limit_in_bytes" for c, g in groups.items() if "memory" in c),
              f"/sys/fs/cgroup{groups.get('')}/memory.max")
    assert open(at).read().strip() == str(48 << 20)
    at = next((f"/sys/fs/cgroup/pids{g}/pids.max" for c, g in groups.items() if "pids" in c), f"/sys/fs/cgroup{groups.get('')}/pids.max")
    assert open(at).read().strip() == "40"
    c = json.loads(cli(lab, 2, "inspect", t["Status"]["ContainerStatus"]["ContainerID"]).stdout)[0]
    assert c["Config"]["Labels"]["c"] == "d" and c["State"]["Pid"] == pid


def test_memory_limit_kills_and_says_so(lab):
    lab.meshctl(1, "service", "create", "-d", "--name", "fat", "--restart-condition", "none", "--limit-memory", "16M", IMAGE,
                "tail", "/dev/zero")
    t = wait_for(lambda: [t for t in lab.tasks("fat") if t["Status"]["State"] == "failed"], 30, "the task to fail")[0]
    assert t["Status"]["ContainerStatus"]["ExitCode"] == 137 and re.search("(?i)memory|oom|137", t["Status"]["Err"])


def test_spread_constraints_and_pending(lab, cli):
    web = lab.create("--name", "web", "--replicas", "6", IMAGE, n=6)
    assert sorted(lab.node_number(t) for t in web) == [1, 1, 2, 2, 3, 3]
    cli(lab, 1, "node", "update", "--label-add", "disk=ssd", "n3")
    ts = lab.create("--name", "ssd", "--replicas", "2", "--constraint", "node.labels.disk==ssd", IMAGE, n=2, cli=lambda *a: cli(lab, *a))
    assert [lab.node_number(t) for t in ts] == [3, 3]
    ts = lab.create("--name", "workers", "--replicas", "4", "--constraint", "node.role!=manager", IMAGE, n=4)
    assert {lab.node_number(t) for t in ts} == {2, 3}
    # what cannot be placed says why, and is placed when it can be
    cli(lab, 1, "service", "create", "-d", "--name", "gold", "--constraint", "node.labels.disk==gold", IMAGE)
    error = wait_for(lambda: cli(lab, 1, "service", "ps", "--no-trunc", "--format", "{{.Error}}", "gold").stdout.strip(), 10, "a reason")
    assert re.search(r"no suitable node \(.*constraint.* 3 nodes", error), error
    cli(lab, 1, "node", "update", "--label-add", "disk=gold", "n1")
    assert lab.node_number(lab.wait_running("gold", 1)[0]) == 1
    cli(lab, 1, "service", "create", "-d", "--name", "huge", "--reserve-memory", "900G", IMAGE)
    error = wait_for(lambda: cli(lab, 1, "service", "ps", "--no-trunc", "--format", "{{.Error}}", "huge").stdout.strip(), 10, "a reason")
    assert "insufficient resources on 3 nodes" in error


def test_global_and_jobs(lab, cli):
    ts = lab.create("--name", "every", "--mode", "global", IMAGE, n=3, cli=lambda *a: cli(lab, *a))
    assert sorted(lab.node_number(t) for t in ts) == [1, 2, 3]
    cli(lab, 1, "node", "update", "--availability", "drain", "n2")
    lab.wait_running("every", 2)
    cli(lab, 1, "node", "update", "--availability", "active", "n2")
    lab.wait_running("every", 3)
    cli(lab, 1, "service", "create", "-d", "--name", "job", "--mode", "replicated-job", "--replicas", "4", "--max-concurrent", "2", IMAGE,
        "true")
    wait_for(lambda: "(4/4 completed)" in cli(lab, 1, "service", "ls").stdout, 40, "the job to complete")


def test_crashing_task_is_restarted_with_its_policy(lab, cli):
    lab.meshctl(1, "service", "create", "-d", "--name", "once", "--restart-condition", "none", "-e", "EXIT_AFTER_MS=1", "-e", "EXIT_CODE=3", IMAGE)
    lab.meshctl(1, "service", "create", "-d", "--name", "twice", "--restart-max-attempts", "2", "--restart-delay", "100ms",
                "-e", "EXIT_AFTER_MS=1", "-e", "EXIT_CODE=4", IMAGE)
    lab.meshctl(1, "service", "create", "-d", "--name", "ok", "--restart-condition", "on-failure", IMAGE, "true")
    wait_for(lambda: [t["Status"]["ContainerStatus"]["ExitCode"] for t in lab.tasks("once") if t["Status"]["State"] == "failed"] == [3], 20,
             "exit code 3")
    wait_for(lambda: len([t for t in lab.tasks("twice") if t["Status"]["State"] == "failed"]) == 3, 30, "three attempts")
    wait_for(lambda: [t["Status"]["State"] for t in lab.tasks("ok")] == ["complete"], 20, "completion")
    assert len(lab.tasks("once")) == 1 and len(lab.tasks("twice")) == 3
    ps = cli(lab, 1, "service", "ps", "--no-trunc", "once").stdout
    assert "Failed" in ps and "non-zero exit (3)" in ps


def test_killed_task_is_replaced_in_its_slot(lab):
    ts = lab.create("--name", "web", "--replicas", "3", "--restart-delay", "0s", IMAGE, n=3)
    victim = ts[1]
    lab.meshctl(lab.node_number(victim), "rm", "-f", victim["Status"]["ContainerStatus"]["ContainerID"])
    wait_for(lambda: victim["ID"] not in [t["ID"] for t in lab.wait_running("web", 3)], 20, "a replacement")
    now = lab.wait_running("web", 3)
    assert sorted(t["Slot"] for t in now) == [1, 2, 3]
    assert {t["ID"] for t in ts} - {victim["ID"]} < {t["ID"] for t in now}


def test_missing_image_says_so(lab, cli):
    cli(lab, 1, "service", "create", "-d", "--name", "none", "--restart-condition", "none", "127.0.0.1:1/no/such:1")
    t = wait_for(lambda: [t for t in lab.tasks("none") if t["Status"]["State"] == "rejected"], 30, "the task to be rejected")[0]
    assert "127.0.0.1:1/no/such:1" in t["Status"]["Err"]


def test_secrets_and_configs_reach_the_task(lab, cli):
    cli(lab, 1, "secret", "create", "pw", "-", stdin="s3cret")
    cli(lab, 1, "config", "create", "conf", "-", stdin="k=v\n")
    t = lab.create("--name", "web", "--secret", "pw", "--config", "source=conf,target=/etc/app.conf,mode=0440", IMAGE,
                   cli=lambda *a: cli(lab, *a))[0]
    assert out(lab, t, "cat", "/run/secrets/pw") == "s3cret" and out(lab, t, "cat", "/etc/app.conf") == "k=v\n"
    assert out(lab, t, "stat", "-c", "%a", "/etc/app.conf") == "440\n"
    assert "in use" in cli(lab, 1, "secret", "rm", "pw", rc=1).stderr


def test_network_verbs(lab, cli):
    out = cli(lab, 1, "network", "create", "-d", "overlay", "--attachable", "--subnet", "10.99.0.0/24", "--label", "a=b", "blue").stdout
    assert re.fullmatch(r"[0-9a-z]{25}\n", out)
    cli(lab, 1, "network", "create", "-d", "overlay", "--internal", "red")
    blue, red = json.loads(cli(lab, 1, "network", "inspect", "blue", "red").stdout)
    assert blue["IPAM"]["Config"][0]["Subnet"] == "10.99.0.0/24" and blue["Attachable"] and not blue["Internal"] and blue["Labels"] == {"a": "b"}
    assert red["Internal"] and not red["Attachable"] and red["Driver"] == "overlay" and red["Scope"] == "swarm"
    wait_for(lambda: json.loads(cli(lab, 1, "network", "inspect", "red").stdout)[0]["IPAM"]["Config"], 5, "a subnet from the pool")
    rows = cli(lab, 1, "network", "ls", "--filter", "driver=overlay", "--format", "{{.Name}} {{.Driver}} {{.Scope}}").stdout.split("\n")
    assert {"blue overlay swarm", "red overlay swarm", "ingress overlay swarm"} <= set(rows)
    assert "already exists" in cli(lab, 1, "network", "create", "-d", "overlay", "blue", rc=1).stderr
    lab.create("--name", "user", "--network", "blue", IMAGE)
    assert "in use by service" in cli(lab, 1, "network", "rm", "blue", rc=1).stderr
    cli(lab, 1, "service", "rm", "user")
    assert set(wait_for(lambda: cli(lab, 1, "network", "rm", "blue", rc=None).stdout, 15, "blue to go").split()) == {"blue"}
    assert cli(lab, 1, "network", "rm", "red").stdout == "red\n"
    assert re.search("blue not found|no such network: blue", cli(lab, 1, "network", "inspect", "blue", rc=1).stderr.lower())
