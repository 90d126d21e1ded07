# SPDX-License-Identifier: GPL-2.0-or-later
"""service inspect --pretty: docker's client makes its text of the API's JSON, meshctl its own: the same, and more in three places."""
import difflib
import re

from meshlab import IMAGE

# What docker's text leaves out.
MORE = re.compile(r"\+(Service Mode:\t(ReplicatedJob|GlobalJob)| Max Concurrent:\t.*| Total Completions:\t.*| Command:\t.*)$")
LESS = re.compile(r"-Service Mode:$")  # of jobs, docker says no mode

SERVICES = {
    "plain": [IMAGE],
    "global": ["--mode", "global", "--endpoint-mode", "dnsrr", "--network", "pretty-net", IMAGE],
    "job": ["--mode", "replicated-job", "--replicas", "3", "--max-concurrent", "2", IMAGE, "true"],
    "gjob": ["--mode", "global-job", "--restart-condition", "none", IMAGE, "true"],
    "labels": ["-l", "a=b", "-l", "c", "--container-label", "x=y", "--hostname", "q", "--host", "h:1.2.3.4", "--dns", "10.1.1.1", IMAGE],
    "resources": ["--reserve-cpu", "1.25", "--reserve-memory", "8M", "--limit-cpu", "0.5", "--limit-memory", "1.5g", "--limit-pids", "100",
                  "--generic-resource", "gpu=2", "--ulimit", "nofile=100:200", "--ulimit", "nproc=5", "--sysctl", "net.core.somaxconn=100", IMAGE],
    "placement": ["--constraint", "node.role==worker", "--constraint", "node.hostname!=nx", "--placement-pref", "spread=node.id",
                  "--placement-pref", "spread=node.labels.x", "--replicas-max-per-node", "3", IMAGE],
    "update": ["--update-parallelism", "0", "--update-delay", "1h10m1.5s", "--update-monitor", "90s", "--update-max-failure-ratio", "0.333",
               "--update-order", "start-first", "--update-failure-action", "rollback", "--rollback-parallelism", "3", "--rollback-delay",
               "2s", "--rollback-order", "start-first", IMAGE],
    "files": ["--secret", "source=pretty-sec,target=x,mode=0400", "--config", "source=pretty-cfg,target=/p", "--mount", "type=bind,src=/tmp,dst=/t",
              "--mount", "type=volume,src=v,dst=/v,readonly", "--mount", "type=tmpfs,dst=/s,tmpfs-size=1m", IMAGE],
    "process": ["--entrypoint", "sh -c", "--workdir", "/tmp", "--user", "1000", "--init", "-e", "A=1", "-e", "B=two words", "--cap-add",
                "NET_ADMIN", "--cap-drop", "CHOWN", "--cap-drop", "KILL", IMAGE, "sleep 1000"],
    "log": ["--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "max-file=2", IMAGE],
    "nolog": ["--log-driver", "none", "--network", "host", IMAGE],
    "ports": ["-p", "8098-8099:8000-8001/udp", "-p", "mode=host,target=80,published=8097", "--network", "pretty-net", IMAGE],
    "health": ["--health-cmd", "true", "--health-interval", "1m30s", "--health-retries", "4", "--health-start-period", "3s", IMAGE],
    "nohealth": ["--no-healthcheck", IMAGE],
}


def foreign(theirs, ours):
    """Lines that differ and are none of those that may."""
    diff = [d for d in difflib.unified_diff(theirs.splitlines(), ours.splitlines(), n=0, lineterm="") if not re.match(r"---|\+\+\+|@@", d)]
    return [d for d in diff if not MORE.match(d) and not LESS.match(d)]


def test_same_text(lab):
    lab.docker(1, "network", "create", "-d", "overlay", "pretty-net")
    lab.docker(1, "config", "create", "pretty-cfg", "-", stdin="x")
    lab.docker(1, "secret", "create", "pretty-sec", "-", stdin="x")
    wrong = {}
    for name, args in SERVICES.items():
        lab.docker(1, "service", "create", "-q", "-d", "--name", name, *([] if "job" in name or name == "global" else ["--replicas", "0"]), *args)
        theirs, ours = [cli(1, "service", "inspect", "--pretty", name).stdout for cli in (lab.docker, lab.meshctl)]
        if foreign(theirs, ours):
            wrong[name] = foreign(theirs, ours)
    assert not wrong
    assert "Command:\tsh -c" in lab.meshctl(1, "service", "inspect", "--pretty", "process").stdout
