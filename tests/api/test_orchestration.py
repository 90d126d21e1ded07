# SPDX-License-Identifier: GPL-2.0-or-later
"""What an operator asks of the orchestrator, through the docker client, on a live cluster."""
from meshlab import IMAGE, wait_for


def places(lab, service):
    tasks = lab.tasks(service)
    return sorted(lab.node_number(t) for t in tasks if t["Status"]["State"] == "running" and t["DesiredState"] == "running")


def test_global_service_follows_nodes(lab):
    lab.create("--name", "g", "--mode", "global", IMAGE, n=3)
    lab.docker(1, "node", "update", "--availability", "drain", lab.node_id(3))
    wait_for(lambda: places(lab, "g") == [1, 2], what="n3 to lose its task")
    lab.docker(1, "node", "update", "--availability", "active", lab.node_id(3))
    wait_for(lambda: places(lab, "g") == [1, 2, 3], what="n3 to get a task by itself")


def test_jobs_complete(lab):
    lab.docker(1, "service", "create", "-q", "--name", "j", "--mode", "replicated-job", "--replicas", "4",
               "--max-concurrent", "2", IMAGE, "true")
    lab.docker(1, "service", "create", "-q", "-d", "--name", "gj", "--mode", "global-job", IMAGE, "true")
    want = ["gj 0/0 (3/3 completed)", "j 0/2 (4/4 completed)"]
    wait_for(lambda: sorted(lab.docker(1, "service", "ls", "--format", "{{.Name}} {{.Replicas}}").stdout.splitlines()) == want,
             what="both jobs to complete")


def test_restart_policy_gives_up(lab):
    lab.docker(1, "service", "create", "-q", "-d", "--name", "r", "--restart-condition", "on-failure", "--restart-delay",
               "100ms", "--restart-max-attempts", "2", IMAGE, "false")
    wait_for(lambda: [t["Status"]["State"] for t in lab.tasks("r")] == ["failed"] * 3, what="one run and two restarts")


def test_unhealthy_update_rolls_back(lab):
    lab.docker(1, "service", "create", "-q", "--name", "h", "--health-cmd", "true", "--health-interval", "100ms", IMAGE)
    [before] = lab.wait_running("h", 1)
    lab.docker(1, "service", "update", "-q", "-d", "--update-order", "start-first", "--health-cmd", "false",
               "--health-retries", "1", "--update-failure-action", "rollback", "h")
    wait_for(lambda: lab.get(1, "/services/h").get("UpdateStatus", {}).get("State") == "rollback_completed", 30,
             "the rollback")
    [after] = lab.wait_running("h", 1)
    assert after["ID"] == before["ID"]  # start-first: it never went


def test_why_a_task_waits(lab):
    for name, args, text in [("mx", ["--replicas", "4", "--replicas-max-per-node", "1"], "max replicas per node"),
                             ("gen", ["--generic-resource", "gpu=1"], "insufficient resources on 3 nodes"),
                             ("con", ["--constraint", "node.labels.no==where"], "scheduling constraints not satisfied"),
                             ("hp", ["--replicas", "4", "-p", "mode=host,published=7071,target=8000"],
                              "host-mode port already in use on 3 nodes")]:
        lab.docker(1, "service", "create", "-q", "-d", "--name", name, *args, IMAGE)
        said = wait_for(lambda: [t["Status"]["Err"] for t in lab.tasks(name) if t["Status"].get("Err")], what=f"{name} to wait")
        assert text in said[0], said
        # The client cuts "until now" to the second.
        seen = wait_for(lambda: lab.docker(1, "events", "--since", "60s", "--until", "0s", "--filter", f"service={name}", "--filter",
                                           "event=waiting", "--format", "{{.Actor.Attributes.reason}}").stdout.splitlines(),
                        what=f"the event that {name} waits")
        assert len(seen) == len(set(seen)) and text in seen[-1], seen  # once, however many tasks


def test_promotion_is_refused(lab):
    p = lab.docker(1, "node", "promote", lab.node_id(2), rc=1)
    assert "a swarm with one manager" in p.stderr


def test_limits_hold_in_exec_too(lab):
    lab.docker(1, "service", "create", "-q", "--name", "l", "--ulimit", "nofile=512:1024", IMAGE)
    [t] = lab.wait_running("l", 1)
    assert lab.exec(t, "sh", "-c", "ulimit -n").stdout == "512\n"


def test_what_a_process_is_given(lab):
    """User, groups, capabilities, limits, kernel settings, names: as the process of a service's task sees them."""
    t, = lab.create("--name", "p", "--ulimit", "nofile=77:78", "--sysctl", "net.ipv4.ip_unprivileged_port_start=7", "--cap-drop", "ALL",
                    "--cap-add", "NET_BIND_SERVICE", "--read-only", "--init", "--stop-signal", "SIGUSR1", "--user", "1000:1001", "--group", "44",
                    "--host", "x:9.9.9.9", "--dns", "9.9.9.8", "--dns-option", "ndots:3", "--dns-search", "s.test", "--oom-score-adj", "7",
                    "--workdir", "/tmp", "--tty", IMAGE, "sh", "-c", "trap 'echo told; exit 0' USR1; while :; do sleep 0.1; done", cli=lab.docker)
    seen = lambda script: lab.exec(t, "sh", "-c", script, rc=None).stdout.split()
    assert seen("ulimit -n; ulimit -Hn; pwd; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/1/oom_score_adj /proc/1/comm") == [
        "77", "78", "/tmp", "7", "7", "docker-init"]
    assert seen("id -u; id -g; id -G; grep CapBnd /proc/1/status; touch /x 2>&1 | grep -o 'Read-only'") == [
        "1000", "1001", "1001", "44", "CapBnd:", f"{1 << 10:016x}", "Read-only"]
    assert seen("grep -c '^9.9.9.9.x$' /etc/hosts; grep -c 'search s.test' /etc/resolv.conf; grep -c ndots:3 /etc/resolv.conf") == ["1"] * 3
    lab.docker(1, "service", "update", "-q", "-d", "--force", "p")
    wait_for(lambda: "told" in lab.docker(1, "service", "logs", "--raw", "p").stdout, what="the stop signal to reach it")


def test_the_routing_mesh_is_removed_after_a_question_only(lab, cli):
    """Without an ingress network a service that publishes waits and says so; another network lets it go on."""
    cli(lab, 1, "network", "rm", "ingress", stdin="n\n")
    assert lab.get(1, "/networks/ingress")["Ingress"]
    cli(lab, 1, "network", "rm", "ingress", stdin="y\n")
    try:
        assert lab.raw(1, "GET", "/networks/ingress")[0] == 404
        lab.docker(1, "service", "create", "-q", "-d", "--name", "i", "-p", "8077:8000", IMAGE)
        said = wait_for(lambda: [t["Status"]["Err"] for t in lab.tasks("i") if t["Status"].get("Err")], what="the task to say what it waits for")
        assert said == ["no ingress network"]
    finally:
        cli(lab, 1, "network", "create", "-d", "overlay", "--ingress", "ingress")
    lab.wait_running("i", 1)
    lab.wait_published(8077)
