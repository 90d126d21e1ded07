# SPDX-License-Identifier: GPL-2.0-or-later
"""Every flag of the docker client's verbs that declare or run something: it has an effect, is refused in words, or is
named in a warning. A flag of the client that no table here knows fails the test: nothing is left out silently.
"""
import re
import subprocess

import pytest

from meshlab import IMAGE, wait_for

# Settled by the client alone, or seen in what it does.
CLIENT = {"--detach", "--quiet", "--no-resolve-image", "--with-registry-auth", "--help"}


def flags_of(*verb):
    out = subprocess.run(["docker", *verb, "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^\s+(?:-\w, )?(--[a-z0-9-]+)", out, re.M)) - CLIENT


def at(doc, path):
    for key in path.split("."):
        doc = doc[int(key)] if isinstance(doc, list) else doc.get(key) if doc is not None else None
    return doc


CS, TT = "TaskTemplate.ContainerSpec.", "TaskTemplate."
# flag -> argument, where it stands in the spec then, and how
COMMON = {
    "--credential-spec": None, "--isolation": None,  # refused, below
    "--endpoint-mode": ("vip", "EndpointSpec.Mode", "vip"),
    "--entrypoint": ("/bin/echo-server", CS + "Command", ["/bin/echo-server"]),
    "--health-cmd": ("true", CS + "Healthcheck.Test", ["CMD-SHELL", "true"]),
    "--health-interval": ("1s", CS + "Healthcheck.Interval", 10**9),
    "--health-retries": ("7", CS + "Healthcheck.Retries", 7),
    "--health-start-interval": ("100ms", CS + "Healthcheck.StartInterval", 10**8),
    "--health-start-period": ("3s", CS + "Healthcheck.StartPeriod", 3 * 10**9),
    "--health-timeout": ("2s", CS + "Healthcheck.Timeout", 2 * 10**9),
    "--hostname": ("host-{{.Task.Slot}}", CS + "Hostname", "host-{{.Task.Slot}}"),
    "--init": (None, CS + "Init", True),
    "--limit-cpu": ("0.5", TT + "Resources.Limits.NanoCPUs", 5 * 10**8),
    "--limit-memory": ("64M", TT + "Resources.Limits.MemoryBytes", 64 << 20),
    "--limit-pids": ("100", TT + "Resources.Limits.Pids", 100),
    "--log-driver": ("json-file", TT + "LogDriver.Name", "json-file"),
    "--log-opt": ("max-size=1m", TT + "LogDriver.Options", {"max-size": "1m"}),
    "--oom-score-adj": ("100", CS + "OomScoreAdj", 100),
    "--read-only": (None, CS + "ReadOnly", True),
    "--replicas": ("1", "Mode.Replicated.Replicas", 1),
    "--replicas-max-per-node": ("2", TT + "Placement.MaxReplicas", 2),
    "--reserve-cpu": ("0.01", TT + "Resources.Reservations.NanoCPUs", 10**7),
    "--reserve-memory": ("8M", TT + "Resources.Reservations.MemoryBytes", 8 << 20),
    "--restart-condition": ("on-failure", TT + "RestartPolicy.Condition", "on-failure"),
    "--restart-delay": ("3s", TT + "RestartPolicy.Delay", 3 * 10**9),
    "--restart-max-attempts": ("4", TT + "RestartPolicy.MaxAttempts", 4),
    "--restart-window": ("9s", TT + "RestartPolicy.Window", 9 * 10**9),
    "--rollback-delay": ("1s", "RollbackConfig.Delay", 10**9),
    "--rollback-failure-action": ("continue", "RollbackConfig.FailureAction", "continue"),
    "--rollback-max-failure-ratio": ("0.25", "RollbackConfig.MaxFailureRatio", 0.25),
    "--rollback-monitor": ("2s", "RollbackConfig.Monitor", 2 * 10**9),
    "--rollback-order": ("start-first", "RollbackConfig.Order", "start-first"),
    "--rollback-parallelism": ("3", "RollbackConfig.Parallelism", 3),
    "--stop-grace-period": ("4s", CS + "StopGracePeriod", 4 * 10**9),
    "--stop-signal": ("SIGINT", CS + "StopSignal", "SIGINT"),
    "--tty": (None, CS + "TTY", True),
    "--update-delay": ("1ms", "UpdateConfig.Delay", 10**6),
    "--update-failure-action": ("rollback", "UpdateConfig.FailureAction", "rollback"),
    "--update-max-failure-ratio": ("0.5", "UpdateConfig.MaxFailureRatio", 0.5),
    "--update-monitor": ("50ms", "UpdateConfig.Monitor", 5 * 10**7),
    "--update-order": ("start-first", "UpdateConfig.Order", "start-first"),
    "--update-parallelism": ("2", "UpdateConfig.Parallelism", 2),
    "--user": ("1000", CS + "User", "1000"),
    "--workdir": ("/tmp", CS + "Dir", "/tmp"),
    "--no-healthcheck": None, "--max-concurrent": None,  # with others than these, below
}
# Lists: at create "--env", at update "--env-add" and "--env-rm": argument, where, what stands there, what takes it away.
LISTS = {
    "cap": None,  # --cap-add and --cap-drop in both verbs, below
    "config": ("source=flag-cfg,target=/cfg", CS + "Configs.0.File.Name", "/cfg", "flag-cfg"),
    "constraint": ("node.platform.os==linux", TT + "Placement.Constraints", ["node.platform.os==linux"], "node.platform.os==linux"),
    "container-label": ("a=b", CS + "Labels", {"a": "b"}, "a"),
    "dns": ("10.1.1.1", CS + "DNSConfig.Nameservers", ["10.1.1.1"], "10.1.1.1"),
    "dns-option": ("ndots:2", CS + "DNSConfig.Options", ["ndots:2"], "ndots:2"),
    "dns-search": ("x.test", CS + "DNSConfig.Search", ["x.test"], "x.test"),
    "env": ("A=1", CS + "Env", ["A=1"], "A"),
    "generic-resource": ("gpu=0", TT + "Resources.Reservations.GenericResources.0.DiscreteResourceSpec.Kind", "gpu", "gpu"),
    "group": ("1234", CS + "Groups", ["1234"], "1234"),
    "host": ("h:1.2.3.4", CS + "Hosts", ["1.2.3.4 h"], "h:1.2.3.4"),
    "label": ("l=m", "Labels", {"l": "m"}, "l"),
    "mount": ("type=tmpfs,dst=/scratch,tmpfs-size=1m", CS + "Mounts.0.TmpfsOptions.SizeBytes", 1 << 20, "/scratch"),
    "network": ("flag-net", TT + "Networks.0.Target", None, "flag-net"),
    "placement-pref": ("spread=node.id", TT + "Placement.Preferences.0.Spread.SpreadDescriptor", "node.id", "spread=node.id"),
    "publish": ("8098:8000", "EndpointSpec.Ports.0.PublishedPort", 8098, "8000"),
    "secret": ("source=flag-sec,target=sec,mode=0400", CS + "Secrets.0.File.Mode", 0o400, "flag-sec"),
    "sysctl": ("net.core.somaxconn=100", CS + "Sysctls", {"net.core.somaxconn": "100"}, "net.core.somaxconn"),
    "ulimit": ("nofile=100:200", CS + "Ulimits", [{"Name": "nofile", "Soft": 100, "Hard": 200}], "nofile"),
}
ONLY_CREATE = {"--env-file", "--mode", "--name"}
ONLY_UPDATE = {"--args", "--force", "--image", "--rollback"}


@pytest.fixture
def things(lab):
    lab.docker(1, "network", "create", "-d", "overlay", "--attachable", "flag-net")
    lab.docker(1, "config", "create", "flag-cfg", "-", stdin="x")
    lab.docker(1, "secret", "create", "flag-sec", "-", stdin="x")
    yield lab
    for s in lab.docker(1, "service", "ls", "-q").stdout.split():
        lab.docker(1, "service", "rm", s)
    for k in (1, 2):
        for cid in lab.docker(k, "ps", "-aq", "--filter", "is-task=false").stdout.split():
            lab.docker(k, "rm", "-f", cid, rc=None)
    for what, name in (("config", "flag-cfg"), ("secret", "flag-sec"), ("network", "flag-net")):
        wait_for(lambda: lab.docker(1, what, "rm", name, rc=None).returncode == 0, what=f"{name} to be free")


def lines(table):
    return [w for flag, row in table.items() if row for w in ([flag] if row[0] is None else [flag, row[0]])]


def check(spec, table):
    for flag, row in table.items():
        if row and row[2] is not None:
            assert at(spec, row[1]) == row[2], f"{flag}: {at(spec, row[1])}"


def spec_of(lab, name):
    return lab.get(1, f"/services/{name}")["Spec"]


def test_service_create_and_update(things, tmp_path):
    lab = things
    added = {f"--{k}": v[:3] for k, v in LISTS.items() if v}
    assert flags_of("service", "create") == set(COMMON) | set(added) | ONLY_CREATE | {"--cap-add", "--cap-drop"}
    (tmp_path / "env").write_text("FROM_FILE=2\n")
    added["--env"] = (added["--env"][0], CS + "Env", ["FROM_FILE=2", "A=1"])
    lab.docker(1, "service", "create", "-q", "-d", "--name", "all", "--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN", "--env-file",
               str(tmp_path / "env"), "--mode", "replicated", *lines(COMMON), *lines(added), IMAGE)
    spec = spec_of(lab, "all")
    check(spec, COMMON)
    check(spec, added)
    assert at(spec, TT + "Networks.0.Target") == lab.get(1, "/networks/flag-net")["Id"]
    assert (at(spec, CS + "CapabilityAdd"), at(spec, CS + "CapabilityDrop")) == (["CAP_NET_ADMIN"], ["CAP_CHOWN"])
    task = lab.wait_running("all", 1)[0]  # and nothing of it keeps a task from running
    assert lab.exec(task, "sh", "-c", "hostname; id -u; pwd; ulimit -n; cat /run/secrets/sec 2>&1; echo $A$FROM_FILE").stdout.split("\n")[:4] == [
        "host-1", "1000", "/tmp", "100"]

    # Everything away again, and back.
    away = {f"--{k}-rm": v[3] for k, v in LISTS.items() if v}
    back = {f"--{k}-add": v[:3] for k, v in LISTS.items() if v}
    assert flags_of("service", "update") == set(COMMON) | set(away) | set(back) | ONLY_UPDATE | {"--cap-add", "--cap-drop"}
    lab.docker(1, "service", "update", "-q", "-d", "--replicas", "0", *[w for flag, v in away.items() for w in (flag, v)], "all")
    spec = spec_of(lab, "all")
    for k, v in LISTS.items():
        left = at(spec, v[1].split(".0.")[0]) if v else None
        assert not left or (k == "env" and left == ["FROM_FILE=2"]), f"--{k}-rm: {left}"
    before = at(spec, TT + "ForceUpdate") or 0
    lab.docker(1, "service", "update", "-q", "-d", *lines({**COMMON, "--replicas": ("0", "", None)}), *lines(back), "--args", "x y",
               "--force", "--image", IMAGE, "all")
    spec = spec_of(lab, "all")
    check(spec, {**COMMON, "--replicas": None})
    check(spec, {**back, "--env-add": None})
    assert at(spec, CS + "Args") == ["x", "y"] and at(spec, TT + "ForceUpdate") == before + 1
    lab.docker(1, "service", "update", "-q", "-d", "--rollback", "all")
    assert not at(spec_of(lab, "all"), CS + "Args")
    lab.docker(1, "service", "update", "-q", "-d", "--no-healthcheck", "all")
    assert at(spec_of(lab, "all"), CS + "Healthcheck.Test") == ["NONE"]


def test_service_flags_by_themselves(things):
    lab = things
    lab.docker(1, "service", "create", "-q", "-d", "--name", "job", "--mode", "replicated-job", "--replicas", "3", "--max-concurrent",
               "2", IMAGE, "true")
    assert spec_of(lab, "job")["Mode"] == {"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 3}}
    for argv, text in [
            (["--isolation", "hyperv"], 'isolation "hyperv" is for Windows'),
            (["--mount", "type=cluster,src=x,dst=/v"], 'type "cluster" is not supported'),
            (["--mount", "type=image,src=x,dst=/v"], 'type "image" is not supported'),
            (["--health-cmd", "true", "--health-interval", "1us"], "Interval in HealthCheck cannot be less than 1ms"),
            (["--endpoint-mode", "odd"], '"odd" is not one of: vip, dnsrr'),
            (["--placement-pref", "spread=odd"], "invalid spread preference"),
            (["--constraint", "odd==1"], "unknown key 'odd'")]:
        assert text in lab.docker(1, "service", "create", "-q", "-d", *argv, IMAGE, rc=1).stderr
    p = lab.docker(1, "service", "create", "-q", "-d", "--name", "warned", "--replicas", "0", "--log-driver", "json-file", "--log-opt", "tag=x", "--network",
                   "name=flag-net,driver-opt=a=b", IMAGE)
    assert "LogDriver.Options.tag: not supported, ignored" in p.stderr and "DriverOpts.a: not supported, ignored" in p.stderr
    # What only the node finds out, its task says.
    for flag, value, text in [("--credential-spec", "file://x", "credential specs are for Windows"),
                              ("--log-driver", "odd", "no log driver named 'odd'"), ("--stop-signal", "ODD", "ODD"),
                              ("--cap-add", "ODD", "ODD"), ("--sysctl", "kernel.odd=1", "kernel.odd")]:
        lab.docker(1, "service", "create", "-q", "-d", "--name", "odd", "--restart-condition", "none", flag, value, IMAGE)
        said = wait_for(lambda: [t["Status"].get("Err") for t in lab.tasks("odd") if t["Status"].get("Err")], what=f"{flag} to be refused")
        assert text in said[0], said
        lab.docker(1, "service", "rm", "odd")


# ---- docker run --------------------------------------------------------------------------------------

# What a container started with them prints about itself: flag -> argument, a command, its output.
RUN = {
    "--add-host": ("h:1.2.3.4", "grep -c '^1.2.3.4.h' /etc/hosts", "1"),
    "--cap-add": ("NET_ADMIN", "grep CapEff /proc/self/status | tail -c 9", "a00435fb"),
    "--cap-drop": ("MKNOD", "echo", ""), "--cpu-period": ("50000", "echo", ""), "--cpu-quota": ("25000", "echo", ""),
    "--dns": ("10.1.1.1", "echo", ""), "--dns-option": ("ndots:3", "grep -c ndots:3 /etc/resolv.conf", "1"),
    "--dns-search": ("x.test", "grep -c x.test /etc/resolv.conf", "1"),
    "--entrypoint": ("/bin/sh", "echo", ""), "--env": ("A=1", "echo $A", "1"), "--env-file": ("ENVFILE", "echo $B", "2"),
    "--expose": ("99", "echo", ""), "--group-add": ("1234", "id -G | grep -c 1234", "1"),
    "--health-cmd": ("true", "echo", ""), "--health-interval": ("1s", "echo", ""), "--health-retries": ("2", "echo", ""),
    "--health-start-interval": ("1s", "echo", ""), "--health-start-period": ("1s", "echo", ""), "--health-timeout": ("1s", "echo", ""),
    "--hostname": ("hh", "hostname", "hh"), "--init": (None, "cat /proc/1/comm", "docker-init"), "--interactive": (None, "echo", ""),
    "--label": ("l=m", "echo", ""), "--label-file": ("/dev/null", "echo", ""), "--log-driver": ("json-file", "echo", ""),
    "--log-opt": ("max-size=1m", "echo", ""), "--memory": ("64m", "echo", ""), "--mount": ("type=tmpfs,dst=/m", "mount | grep -c ' /m '", "1"),
    "--name": ("flagged", "echo", ""), "--network": ("flag-net", "ls /sys/class/net | grep -c eth0", "1"),
    "--network-alias": ("nick", "nslookup nick. >/dev/null && echo yes", "yes"), "--oom-score-adj": ("100", "cat /proc/self/oom_score_adj", "100"),
    "--pids-limit": ("50", "echo", ""), "--platform": ("linux/PLATFORM", "echo", ""), "--publish": ("9096:8000", "echo", ""),
    "--pull": ("never", "echo", ""), "--read-only": (None, "touch /x 2>&1 | grep -c Read-only", "1"), "--rm": (None, "echo", ""),
    "--security-opt": ("no-new-privileges", "grep NoNewPrivs /proc/self/status | cut -f2", "1"),
    "--shm-size": ("10m", "df -m /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2", "10"), "--sig-proxy=false": (None, "echo", ""),
    "--stop-signal": ("SIGINT", "echo", ""), "--stop-timeout": ("3", "echo", ""),
    "--sysctl": ("net.core.somaxconn=100", "cat /proc/sys/net/core/somaxconn", "100"),
    "--tmpfs": ("/t:size=2m,mode=1770", "df -m /t | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2; stat -c %a /t", "2\n1770"),
    "--ulimit": ("nofile=100:200", "ulimit -n", "100"), "--user": ("0:7", "id -g", "7"),
    "--volume": ("/tmp:/from-host:ro", "mount | grep -c ' /from-host .*ro'", "1"), "--workdir": ("/tmp", "pwd", "/tmp"),
    "--cidfile": ("CIDFILE", "echo", ""), "--cpus": None, "--attach": None, "--tty": None, "--detach-keys": None,  # apart, below
    "--no-healthcheck": None, "--disable-content-trust": None, "--use-api-socket": None,
}
RUN_WARNED = {"--annotation": "a=b", "--blkio-weight": "100", "--blkio-weight-device": "/dev/null:100", "--cpu-rt-period": "1000",
              "--cpu-rt-runtime": "100", "--cpu-shares": "2", "--cpuset-cpus": "0", "--cpuset-mems": "0",
              "--device-read-bps": "/dev/null:1mb", "--device-read-iops": "/dev/null:1", "--device-write-bps": "/dev/null:1mb",
              "--device-write-iops": "/dev/null:1", "--memory-reservation": "8m", "--memory-swap": "128m", "--memory-swappiness": "5",
              "--oom-kill-disable": None}
RUN_REFUSED = {"--cgroup-parent": "x", "--cgroupns": "host", "--device": "/dev/null", "--device-cgroup-rule": "c 1:3 r",
               "--domainname": "x", "--gpus": "all", "--ip": "10.0.0.9", "--ip6": "fd00::1", "--ipc": "host", "--isolation": "hyperv",
               "--link": "x", "--link-local-ip": "169.254.1.1", "--mac-address": "02:02:02:02:02:02", "--pid": "host",
               "--privileged": None, "--publish-all": None, "--restart": "always", "--runtime": "runc", "--storage-opt": "size=1g",
               "--userns": "host", "--uts": "host", "--volume-driver": "local", "--volumes-from": "x"}
# The client itself says that these are for Windows, or that the API has them no more.
RUN_CLIENT = {"--cpu-count": "1", "--cpu-percent": "1", "--io-maxbandwidth": "1", "--io-maxiops": "1"}
RUN_OBSOLETE = {"--kernel-memory"}


def argv(table):
    return [w for flag, v in table.items() for w in ([flag] if v is None else [flag, v])]


def test_run(things, tmp_path):
    lab = things
    known = {f.split("=")[0] for f in RUN} | set(RUN_WARNED) | set(RUN_REFUSED) | set(RUN_CLIENT) | RUN_OBSOLETE
    assert flags_of("run") == known
    (tmp_path / "env").write_text("B=2\n")
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(lab.get(2, "/info")["Architecture"], "amd64")
    words = {"ENVFILE": str(tmp_path / "env"), "CIDFILE": str(tmp_path / "cid"), "linux/PLATFORM": f"linux/{arch}"}
    line = [words.get(w, w) for w in lines(RUN)]
    script = "".join(f"echo '== {flag}'\n{row[1]}\n" for flag, row in RUN.items() if row and row[1] != "echo")
    out = lab.docker(2, "run", *line, IMAGE, "-c", script).stdout
    said = dict(block.split("\n", 1) for block in out.split("== ")[1:])
    for flag, row in RUN.items():
        if row and row[1] != "echo":
            assert said[flag].strip() == row[2], f"{flag}: {said[flag]}"
    assert re.fullmatch("[0-9a-f]{64}", (tmp_path / "cid").read_text())


def test_run_limits_and_the_rest(things):
    lab = things
    out = lab.docker(2, "run", "--rm", "--cpus", "0.5", "--memory", "64m", "--pids-limit", "50", "--no-healthcheck",
                     "--disable-content-trust", "-a", "stdout", "--detach-keys", "ctrl-a", IMAGE, "true").stdout
    assert out == ""
    assert lab.docker(2, "run", "--rm", "-t", IMAGE, "sh", "-c", "test -t 1 && echo yes").stdout == "yes\n"


def test_run_warnings(things):
    lab = things
    p = lab.docker(2, "run", "--rm", *argv(RUN_WARNED), "--memory", "64m", "--network", "name=flag-net,driver-opt=a=b,gw-priority=3", IMAGE, "true")
    for key in ("Annotations", "BlkioWeight", "BlkioWeightDevice", "CpuRealtimePeriod", "CpuRealtimeRuntime", "CpuShares", "CpusetCpus",
                "CpusetMems", "BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps", "BlkioDeviceWriteIOps",
                "MemoryReservation", "MemorySwap", "MemorySwappiness", "OomKillDisable"):
        assert f"WARNING: HostConfig.{key} is not supported and was ignored" in p.stderr, (key, p.stderr)
    for key in ("DriverOpts", "GwPriority"):
        assert f"network flag-net: {key} is not supported and was ignored" in p.stderr, p.stderr


@pytest.mark.parametrize("flag", sorted(RUN_REFUSED))
def test_run_refuses(things, flag):
    value = RUN_REFUSED[flag]
    net = ["--network", "flag-net"] if flag in ("--ip", "--ip6", "--link-local-ip") else []
    p = things.docker(2, "run", *net, *argv({flag: value}), IMAGE, "true", rc=125)
    assert re.search(r"Error response from daemon: .*(not supported|invalid isolation|restart policy|is used is the daemon's choice)", p.stderr), p.stderr


def test_run_of_another_platform(things):
    p = things.docker(2, "run", "--platform", "linux/s390x", IMAGE, "true", rc=125)
    assert "does not provide the specified platform (linux/s390x)" in p.stderr
    for flag, value in RUN_CLIENT.items():
        assert "only supported on a Docker daemon running on windows" in things.docker(2, "run", flag, value, IMAGE, rc=1).stderr


# ---- volumes and networks ----------------------------------------------------------------------------

CLUSTER_VOLUME = {"--availability": "pause", "--group": "g", "--limit-bytes": "5", "--required-bytes": "5", "--scope": "multi",
                  "--secret": "a=b", "--sharing": "all", "--topology-preferred": "a=b", "--topology-required": "a=b", "--type": "block"}


def test_volume_create(things):
    lab = things
    assert flags_of("volume", "create") == set(CLUSTER_VOLUME) | {"--driver", "--label", "--opt", "--name"} & flags_of("volume", "create") | {
        "--driver", "--label", "--opt"}
    lab.docker(1, "volume", "create", "--driver", "local", "--label", "a=b", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "v")
    v = lab.get(1, "/volumes/v")
    assert (v["Driver"], v["Labels"], v["Options"]) == ("local", {"a": "b"}, {"type": "tmpfs", "device": "tmpfs"})
    lab.docker(1, "volume", "rm", "v")
    for flag, value in CLUSTER_VOLUME.items():
        # Alone, some of them make docker's client send nothing.
        p = lab.docker(1, "volume", "create", "--type", "mount", flag, value, "v", rc=1)
        assert "cluster volumes" in p.stderr and "not supported" in p.stderr, flag
    assert "plugin" in lab.docker(1, "volume", "create", "-d", "odd", "v", rc=1).stderr
    assert lab.docker(1, "volume", "ls", "-q", "--filter", "name=v").stdout == ""


NETWORK_REFUSED = {
    "--aux-address": (["h=10.219.0.9", "--subnet", "10.219.0.0/24"], "auxiliary addresses are not supported"),
    "--config-from": (["x"], "config-only networks are not supported"), "--config-only": ([], "config-only networks are not supported"),
    "--ingress": ([], "is already present"), "--ipam-driver": (["odd"], 'IPAM driver "odd" is not supported'),
    "--ipv4=false": ([], "networks without IPv4 are not supported"), "--ipv6": ([], "IPv6 is not supported"),
    "--scope": (["local"], "an overlay network has swarm scope"), "--driver": (["odd"], 'network driver "odd" is not supported'),
}


def test_network_create(things):
    lab = things
    effect = {"--attachable", "--gateway", "--internal", "--ip-range", "--label", "--opt", "--subnet", "--ipam-opt"}
    assert flags_of("network", "create") == effect | {f.split("=")[0] for f in NETWORK_REFUSED}
    lab.docker(1, "network", "create", "-d", "overlay", "--attachable", "--internal", "--subnet", "10.219.0.0/24", "--gateway",
               "10.219.0.7", "--ip-range", "10.219.0.128/25", "--label", "a=b", "--opt", "com.docker.network.driver.mtu=1300",
               "--scope", "swarm", "flags")
    n = lab.get(1, "/networks/flags")
    assert n["Attachable"] and n["Internal"] and n["Labels"] == {"a": "b"}
    assert n["IPAM"]["Config"] == [{"Subnet": "10.219.0.0/24", "IPRange": "10.219.0.128/25", "Gateway": "10.219.0.7"}]
    lab.docker(1, "network", "rm", "flags")
    # The answer says so; docker's client does not print it, ours does.
    p = lab.meshctl(1, "network", "create", "-d", "overlay", "--opt", "odd=1", "--ipam-opt", "odd=2", "flags")
    assert "Options.odd: not supported, ignored" in p.stderr and "IPAM.Options: not supported, ignored" in p.stderr
    lab.docker(1, "network", "rm", "flags")
    for flag, (more, text) in NETWORK_REFUSED.items():
        p = lab.docker(1, "network", "create", "-d", "overlay", flag, *more, "flags", rc=1)
        assert text in p.stderr, (flag, p.stderr)


def test_network_connect(things):
    """A container's networks are chosen when it is made; whatever the flags, that is what the answer says."""
    lab = things
    flags = {"--alias": "a", "--driver-opt": "a=b", "--gw-priority": "3", "--ip": "10.0.0.9", "--ip6": "fd00::4", "--link": "x:y",
             "--link-local-ip": "169.254.3.3"}
    assert flags_of("network", "connect") == set(flags)
    lab.docker(2, "run", "-d", "--name", "stays", IMAGE)
    for flag, value in flags.items():
        assert "chosen when it is made: docker run --network" in lab.docker(2, "network", "connect", flag, value, "flag-net", "stays", rc=1).stderr
