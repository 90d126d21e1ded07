# SPDX-License-Identifier: GPL-2.0-or-later
"""Updates and placement as an operator drives them, through the docker client, on a live cluster."""
import json

from meshlab import IMAGE, IMAGE2, wait_for


def state(lab, name):
    return lab.get(1, f"/services/{name}").get("UpdateStatus", {}).get("State")


def wanted(lab, name):
    return {t["ID"]: t for t in lab.tasks(name) if t["DesiredState"] == "running"}


def test_pause_resume_and_what_is_touched(lab):
    lab.docker(1, "service", "create", "-q", "--name", "p", "--replicas", "3", "--update-monitor", "500ms", "--update-delay", "1s",
               "--restart-max-attempts", "0", IMAGE)
    before = {t["ID"] for t in lab.wait_running("p", 3)}
    p = lab.docker(1, "service", "update", "--args", "sh -c 'exit 3'", "p", rc=1)
    assert "service update paused: update paused due to failure or early termination of task" in p.stderr
    assert state(lab, "p") == "paused"
    said = lab.docker(1, "service", "inspect", "--pretty", "p").stdout
    assert "State:\t\tpaused" in said and "update paused due to failure" in said
    assert len(before & {t["ID"] for t in lab.running("p")}) == 2  # one at a time, and no further
    lab.docker(1, "service", "update", "-q", "--args", "/bin/echo-server", "p")  # resumes
    assert state(lab, "p") == "completed"
    assert all(t["Spec"]["ContainerSpec"]["Args"] == ["/bin/echo-server"] for t in lab.wait_running("p", 3))


def test_only_changed_tasks_are_touched(lab):
    lab.docker(1, "service", "create", "-q", "--name", "k", "--replicas", "2", "--update-monitor", "100ms", IMAGE)
    before = {t["ID"] for t in lab.wait_running("k", 2)}
    lab.docker(1, "service", "update", "-q", "--label-add", "a=b", "--update-parallelism", "2", "--replicas", "3", "k")
    assert before < {t["ID"] for t in lab.wait_running("k", 3)}
    before = {t["ID"] for t in lab.wait_running("k", 3)}
    lab.docker(1, "service", "update", "-q", "--force", "k")
    after = {t["ID"] for t in lab.wait_running("k", 3)}
    assert not before & after


def test_second_update_while_one_runs_and_rollback(lab):
    lab.docker(1, "service", "create", "-q", "--name", "w", "--replicas", "3", "--update-delay", "2s", "--update-monitor",
               "100ms", "--rollback-monitor", "100ms", IMAGE)
    lab.wait_running("w", 3)
    lab.docker(1, "service", "update", "-q", "-d", "--image", IMAGE2, "w")
    wait_for(lambda: state(lab, "w") == "updating" and any(
        t["Spec"]["ContainerSpec"]["Image"].startswith(IMAGE2) for t in lab.running("w")), what="the first task of the new image")
    lab.docker(1, "service", "update", "-q", "-d", "--env-add", "SECOND=1", "w")
    least = 3

    def done():
        nonlocal least
        least = min(least, len(lab.running("w")))
        return state(lab, "w") == "completed"
    wait_for(done, 40, "the second update")
    assert least >= 2
    now = lab.wait_running("w", 3)
    assert all(t["Spec"]["ContainerSpec"].get("Env") == ["SECOND=1"] for t in now)
    p = lab.docker(1, "service", "rollback", "w")
    assert "rollback: manually requested rollback" in p.stdout
    assert state(lab, "w") == "rollback_completed"
    assert all(t["Spec"]["ContainerSpec"].get("Env") is None for t in lab.wait_running("w", 3))


def test_a_rollback_to_what_is_gone_is_refused(lab):
    lab.docker(1, "network", "create", "-d", "overlay", "gone")
    lab.docker(1, "secret", "create", "gone", "-", stdin="x")
    for name, flags in (("a", ["--network", "gone"]), ("b", ["--secret", "gone"])):
        lab.create("--name", name, *flags, IMAGE)
        lab.docker(1, "service", "update", "-q", flags[0] + "-rm", "gone", "--update-monitor", "100ms", name)
        before = {t["ID"] for t in lab.wait_running(name, 1)}
        wait_for(lambda: lab.docker(1, flags[0][2:], "rm", "gone", rc=None).returncode == 0, what=f"{flags[0][2:]} gone to be free")
        p = lab.docker(1, "service", "rollback", name, rc=1)
        assert "not found" in p.stderr
        assert {t["ID"] for t in lab.wait_running(name, 1)} == before and state(lab, name) == "completed"


def test_start_first_without_room_says_so(lab):
    """No place beside what runs: it waits, says for what, and goes on when the order changes."""
    for name, flags, text in (("mx", ["--replicas-max-per-node", "1"], "max replicas per node"),
                              ("hp", ["-p", "mode=host,target=8000,published=7777"], "host-mode port already in use on 3 nodes")):
        lab.docker(1, "service", "create", "-q", "-d", "--name", name, "--replicas", "3", "--update-order", "start-first",
                   "--update-monitor", "100ms", *flags, IMAGE)
        lab.wait_running(name, 3)
        lab.docker(1, "service", "update", "-q", "-d", "--image", IMAGE2, name)
        said = wait_for(lambda: [t["Status"]["Err"] for t in lab.tasks(name) if t["Status"].get("Err")], what=f"{name} to wait")
        assert text in said[0] and len(lab.running(name)) == 3
        lab.docker(1, "service", "update", "-q", "--update-order", "stop-first", name)
        assert all(t["Spec"]["ContainerSpec"]["Image"].startswith(IMAGE2) for t in lab.wait_running(name, 3))


def test_history_limit(lab):
    lab.docker(1, "swarm", "update", "--task-history-limit", "1")
    try:
        lab.docker(1, "service", "create", "-q", "-d", "--name", "h", "--restart-delay", "100ms", IMAGE, "sh", "-c", "sleep 0.2")
        first = wait_for(lambda: {t["ID"] for t in lab.tasks("h")}, what="the first task")
        wait_for(lambda: not first & {t["ID"] for t in lab.tasks("h")}, what="the first task to leave the history")
        assert all(len(lab.tasks("h")) <= 3 for _ in range(20))  # one that runs, one kept, one that has just ended
    finally:
        lab.docker(1, "swarm", "update", "--task-history-limit", "5")


def test_strategies(lab):
    lab.docker(1, "service", "create", "-q", "--name", "b", "--replicas", "6", "--label", "mesh.strategy=binpack",
               "--reserve-memory", "16m", IMAGE)
    assert len({lab.node_number(t) for t in lab.wait_running("b", 6)}) == 1
    lab.docker(1, "service", "create", "-q", "--name", "r", "--replicas", "12", "--label", "mesh.strategy=random", IMAGE)
    on = [lab.node_number(t) for t in lab.wait_running("r", 12)]
    assert len(set(on)) > 1  # all twelve on one node: once in 177 147 runs
    p = lab.docker(1, "service", "create", "-q", "-d", "--name", "x", "--label", "mesh.strategy=best", IMAGE, rc=1)
    assert "mesh.strategy" in p.stderr and "binpack" in p.stderr


def test_platforms_and_preferences(lab):
    spec = {"Name": "arm", "TaskTemplate": {"ContainerSpec": {"Image": IMAGE},
                                            "Placement": {"Platforms": [{"Architecture": "arm64", "OS": "linux"}]}}}
    assert lab.raw(1, "POST", "/services/create", spec)[0] == 201
    said = wait_for(lambda: [t["Status"]["Err"] for t in lab.tasks("arm") if t["Status"].get("Err")], what="arm to wait")
    assert said[0] == "no suitable node (unsupported platform on 3 nodes)"
    for k, zone in ((1, "a"), (2, "b"), (3, "b")):
        lab.docker(1, "node", "update", "--label-add", f"zone={zone}", lab.node_id(k))
    try:
        lab.docker(1, "service", "create", "-q", "--name", "z", "--replicas", "4", "--placement-pref", "spread=node.labels.zone",
                   IMAGE)
        on = [lab.node_number(t) for t in lab.wait_running("z", 4)]
        assert on.count(1) == 2 and on.count(2) == on.count(3) == 1
    finally:
        for k in lab.nodes:
            lab.docker(1, "node", "update", "--label-rm", "zone", lab.node_id(k))


def test_pause_keeps_what_runs_and_takes_nothing_new(lab):
    lab.docker(1, "service", "create", "-q", "--name", "s", "--replicas", "3", IMAGE)
    before = {t["ID"] for t in lab.wait_running("s", 3)}
    lab.docker(1, "node", "update", "--availability", "pause", lab.node_id(3))
    try:
        lab.docker(1, "service", "scale", "s=6")
        now = lab.wait_running("s", 6)
        assert before < {t["ID"] for t in now}
        assert [lab.node_number(t) for t in now].count(3) == 1
        # The client cuts "until now" to the second.
        wait_for(lambda: "pause" in [json.loads(line)["Actor"]["Attributes"].get("availability.new") for line in lab.docker(
            1, "events", "--since", "60s", "--until", "0s", "--filter", "type=node", "--format", "{{json .}}").stdout.splitlines()],
                 what="the event of the pause")
    finally:
        lab.docker(1, "node", "update", "--availability", "active", lab.node_id(3))


def test_a_check_that_hangs_leaves_nothing(lab):
    """The check and its children are killed when its time is over; the task is unhealthy and replaced."""
    lab.docker(1, "service", "create", "-q", "-d", "--name", "g", "--health-cmd", "sleep 777 & sleep 777", "--health-timeout",
               "300ms", "--health-interval", "100ms", "--health-retries", "3", "--restart-condition", "none", IMAGE)
    t = wait_for(lambda: [t for t in lab.tasks("g") if t["Status"]["State"] == "failed"], 30, "it to be unhealthy")[0]
    assert "unhealthy" in t["Status"]["Err"]
    assert lab.node_exec(lab.node_number(t), "sh", "-c", "pgrep -fx 'sleep 777' || echo none").stdout == "none\n"
