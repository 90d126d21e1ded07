# SPDX-License-Identifier: GPL-2.0-or-later
"""meshctl and the real docker CLI run the same command line against the same fake daemon: what they send,
what they print and how they exit must be the same. The daemon answers from a table and records.

    docker ──┐
             ├──► unix socket ──► Fake (records method, path, body) ──► compared one by one
    meshctl ─┘
"""
import copy
import http.server
import json
import os
import re
import shutil
import socketserver
import subprocess
import threading
import urllib.parse

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MESHCTL = os.environ.get("MESHCTL") or os.path.join(os.environ.get("MESH_BUILD") or os.path.join(ROOT, "build"), "meshctl")
DOCKER = shutil.which("docker")
pytestmark = pytest.mark.skipif(not DOCKER or not os.path.exists(MESHCTL),
                                reason="needs the docker CLI and a built meshctl (probed: which docker, %s)" % MESHCTL)

T = "2026-11-20T12:00:00.123456789Z"
SPEC = {
    "Name": "web", "Labels": {"tier": "front"},
    "TaskTemplate": {
        "ContainerSpec": {
            "Image": "bb:1", "Labels": {"cl": "1"}, "Args": ["run"], "Env": ["A=1", "B=two"], "Init": False,
            "Mounts": [{"Type": "volume", "Source": "v1", "Target": "/data"}],
            "Hosts": ["10.0.0.1 db", "10.0.0.2 db"], "Groups": ["g1"],
            "Secrets": [{"File": {"Name": "sec1", "UID": "0", "GID": "0", "Mode": 292},
                         "SecretID": "sid1", "SecretName": "sec1"}],
            "Configs": [{"File": {"Name": "/c", "UID": "0", "GID": "0", "Mode": 292},
                         "ConfigID": "cid1", "ConfigName": "cfg1"}],
            "DNSConfig": {"Nameservers": ["1.1.1.1"], "Options": ["ndots:1"]},
            "Sysctls": {"net.core.somaxconn": "1024"}, "CapabilityAdd": ["CAP_NET_RAW"],
            "CapabilityDrop": ["CAP_CHOWN"], "Ulimits": [{"Name": "nofile", "Hard": 100, "Soft": 50}],
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1000000000}, "Isolation": "default"},
        "Resources": {"Limits": {"NanoCPUs": 500000000, "MemoryBytes": 67108864}, "Reservations": {
            "GenericResources": [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 1}}]}},
        "RestartPolicy": {"Condition": "any", "Delay": 1000000000, "MaxAttempts": 2},
        "Placement": {"Constraints": ["node.role==worker"],
                      "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.zone"}}]},
        "Networks": [{"Target": "netid10"}], "ForceUpdate": 3, "Runtime": "container"},
    "Mode": {"Replicated": {"Replicas": 3}},
    "UpdateConfig": {"Parallelism": 2, "FailureAction": "pause", "Monitor": 5000000000, "MaxFailureRatio": 0,
                     "Order": "stop-first"},
    "EndpointSpec": {"Mode": "vip", "Ports": [
        {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"}]},
}
SERVICE = {"ID": "svcid1aaaaaaaaaaaaaaaaaaa", "Version": {"Index": 42}, "CreatedAt": T, "UpdatedAt": T, "Spec": SPEC,
           "PreviousSpec": SPEC, "Endpoint": {"Spec": SPEC["EndpointSpec"], "Ports": SPEC["EndpointSpec"]["Ports"]},
           "ServiceStatus": {"RunningTasks": 2, "DesiredTasks": 3, "CompletedTasks": 0}}
JOB = {"ID": "jobid1aaaaaaaaaaaaaaaaaaa", "Version": {"Index": 7}, "CreatedAt": T, "UpdatedAt": T,
       "Spec": {"Name": "job", "Labels": {}, "TaskTemplate": {"ContainerSpec": {"Image": "bb:1"}, "ForceUpdate": 0},
                "Mode": {"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 5}}},
       "ServiceStatus": {"RunningTasks": 0, "DesiredTasks": 2, "CompletedTasks": 5}, "Endpoint": {"Spec": {}}}
GLOBAL = {"ID": "gloid1aaaaaaaaaaaaaaaaaaa", "Version": {"Index": 8}, "CreatedAt": T, "UpdatedAt": T,
          "Spec": {"Name": "glob", "Labels": {}, "TaskTemplate": {"ContainerSpec": {"Image": "bb:1@sha256:" + "a" * 64},
                                                                  "ForceUpdate": 0}, "Mode": {"Global": {}},
                   "EndpointSpec": {"Mode": "vip"}},
          "ServiceStatus": {"RunningTasks": 1, "DesiredTasks": 1, "CompletedTasks": 0},
          "Endpoint": {"Spec": {"Mode": "vip"}, "Ports": [
              {"Protocol": "tcp", "TargetPort": 90 + i, "PublishedPort": 9000 + i, "PublishMode": "ingress"}
              for i in range(3)]}}
NODE = {"ID": "nodeid1aaaaaaaaaaaaaaaaaa", "Version": {"Index": 11}, "CreatedAt": T, "UpdatedAt": T,
        "Spec": {"Labels": {"disk": "ssd"}, "Role": "manager", "Availability": "active"},
        "Description": {"Hostname": "n1", "Platform": {"Architecture": "x86_64", "OS": "linux"},
                        "Resources": {"NanoCPUs": 2000000000, "MemoryBytes": 25276514304},
                        "Engine": {"EngineVersion": "1.0", "Plugins": [{"Type": "Network", "Name": "overlay"},
                                                                       {"Type": "Network", "Name": "host"},
                                                                       {"Type": "Volume", "Name": "local"}]},
                        "TLSInfo": {"TrustRoot": "PEM\n", "CertIssuerSubject": "QQ==", "CertIssuerPublicKey": "Qg=="}},
        "Status": {"State": "ready", "Addr": "10.0.0.1"},
        "ManagerStatus": {"Leader": True, "Reachability": "reachable", "Addr": "10.0.0.1:2377"}}
NODE2 = copy.deepcopy(NODE)
NODE2.update(ID="nodeid2aaaaaaaaaaaaaaaaaa", Status={"State": "down", "Addr": "10.0.0.2", "Message": "gone"})
NODE2["Spec"] = {"Role": "worker", "Availability": "drain"}
NODE2["Description"]["Hostname"] = "n2"
del NODE2["ManagerStatus"]
SWARM = {"ID": "clusterid", "Version": {"Index": 10}, "CreatedAt": T, "UpdatedAt": T,
         "Spec": {"Name": "default", "Labels": {}, "Orchestration": {"TaskHistoryRetentionLimit": 5},
                  "Raft": {"SnapshotInterval": 10000, "KeepOldSnapshots": 0, "LogEntriesForSlowFollowers": 500,
                           "ElectionTick": 10, "HeartbeatTick": 1},
                  "Dispatcher": {"HeartbeatPeriod": 5000000000}, "CAConfig": {"NodeCertExpiry": 7776000000000000},
                  "TaskDefaults": {}, "EncryptionConfig": {"AutoLockManagers": False}},
         "TLSInfo": {"TrustRoot": "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"},
         "RootRotationInProgress": False, "JoinTokens": {"Worker": "SWMTKN-1-w", "Manager": "SWMTKN-1-m"}}
INFO = {"ID": "x", "Name": "n1", "Swarm": {"NodeID": NODE["ID"], "NodeAddr": "10.0.0.1", "LocalNodeState": "active",
                                           "ControlAvailable": True, "Error": "", "RemoteManagers": []}}


def task(n, slot, state, desired, **status):
    return {"ID": "task%dxaaaaaaaaaaaaaaaaaaa" % n, "Version": {"Index": n}, "CreatedAt": "2026-11-20T12:00:0%d.1Z" % n,
            "UpdatedAt": T, "Spec": {"ContainerSpec": {"Image": "bb:%d@sha256:%s" % (n % 3, "b" * 64)}},
            "ServiceID": SERVICE["ID"], "Slot": slot, "NodeID": (NODE if n % 2 else NODE2)["ID"],
            "Status": dict({"Timestamp": "2025-01-01T00:00:00Z", "State": state}, **status), "DesiredState": desired}


TASKS = [task(1, 1, "failed", "shutdown", Err="task: non-zero exit (137): something rather long to be cut"),
         task(2, 1, "running", "running"), task(3, 2, "running", "running"), task(4, 10, "pending", "running"),
         task(5, 3, "running", "running",
              PortStatus={"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8081, "PublishMode": "host"}]})]
SECRET = {"ID": "sid1aaaaaaaaaaaaaaaaaaaaa", "Version": {"Index": 1}, "CreatedAt": "2025-01-01T00:00:00Z",
          "UpdatedAt": "2025-01-01T00:00:00Z", "Spec": {"Name": "sec1", "Labels": {"a": "b"}}}
SECRET2 = {**SECRET, "ID": "sid2aaaaaaaaaaaaaaaaaaaaa", "Spec": {"Name": "sec2", "Labels": {}}}
CONFIG = {**SECRET, "ID": "cid1aaaaaaaaaaaaaaaaaaaaa", "Spec": {"Name": "cfg1", "Labels": {}, "Data": "az12"}}
CONFIG2 = {**CONFIG, "ID": "cid2aaaaaaaaaaaaaaaaaaaaa", "Spec": {"Name": "cfg2", "Labels": {}, "Data": "az12"}}


def network(name, driver="overlay", scope="swarm"):
    return {"Name": name, "Id": name.replace("net", "netid"), "Created": T, "Scope": scope, "Driver": driver,
            "EnableIPv6": False, "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.0.2.0/24"}]}, "Internal": False,
            "Attachable": False, "Ingress": False, "Options": {}, "Labels": {"k": "v"}}


NETWORKS = [network("net10"), network("net2"), network("bridge", "bridge", "local")]
CONTAINER = {"Id": "c" * 64, "Names": ["/web.1.x"], "Image": "bb:1", "ImageID": "sha256:" + "d" * 64, "Command": "httpd -f -p 80 -h /www",
             "Created": 1700000000, "Ports": [], "Labels": {"a": "b"}, "State": "running", "Status": "Up 4 seconds",
             "NetworkSettings": {"Networks": {"net1": {}}}, "Mounts": []}
IMAGE = {"Id": "sha256:" + "d" * 64, "RepoTags": ["localhost:5000/x/y:2"], "RepoDigests": ["bb@sha256:" + "e" * 64],
         "Created": 1700000000, "Size": 1984321, "SharedSize": -1, "Containers": -1}
EVENT = {"Type": "service", "Action": "create", "Actor": {"ID": "abc", "Attributes": {"name": "ev", "a": "1"}},
         "scope": "swarm", "time": 1795180248, "timeNano": 1795180248942865795}


def find(items, name, *keys):
    for o in items:
        names = [o.get("ID"), o.get("Id"), o.get("Name"), o.get("Spec", {}).get("Name"),
                 o.get("Description", {}).get("Hostname")]
        if name in names or any(n and n.startswith(name) and len(name) > 5 for n in names[:2]):
            return o
    return None


def frame(stream, text):
    return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text


def answer(method, path, query):
    """-> (status, JSON value or bytes)"""
    def one(kind, items, name):
        o = find(items, name)
        return (200, o) if o else (404, {"message": "%s %s not found" % (kind, name)})

    lists = {"services": [SERVICE, GLOBAL, JOB], "nodes": [NODE, NODE2], "tasks": TASKS, "secrets": [SECRET, SECRET2],
             "configs": [CONFIG, CONFIG2], "networks": NETWORKS}
    parts = path.strip("/").split("/")
    if method == "DELETE":
        if parts[0] == "containers":
            return 204, b""
        if parts[0] == "images":
            return 200, [{"Untagged": "bb:1"}, {"Deleted": "sha256:1"}]
        status, o = one(parts[0][:-1], lists[parts[0]], parts[1])
        return (204 if parts[0] in ("secrets", "configs", "networks") else 200, b"") if o and status == 200 else (status, o)
    if method == "POST":
        if path.endswith("/create") or parts[0] == "containers" and parts[-1] == "exec":
            return 201, {"ID": "newid", "Id": "newid", "Warnings": None, "Warning": "", "Name": "vol"}
        if path == "/swarm/init":
            return 200, NODE["ID"]
        if path == "/networks/prune":
            return 200, {"NetworksDeleted": ["net2"]}
        if path.endswith("/update") and parts[0] == "services":
            return 200, {"Warnings": None}
        if path.endswith(("/stop", "/kill", "/restart")):
            return 204, b""
        return 200, b""
    if path == "/info":
        return 200, INFO
    if path == "/swarm":
        return 200, SWARM
    if path == "/swarm/unlockkey":
        return 200, {"UnlockKey": ""}
    if parts[0] == "distribution":
        if "pin" in path:
            return 200, {"Descriptor": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:" + "f" * 64,
                                        "size": 1}, "Platforms": [{"architecture": "amd64", "os": "linux"}]}
        return 500, {"message": "no registry"}
    if path == "/containers/json":
        return 200, [CONTAINER]
    if path == "/images/json":
        return 200, [IMAGE]
    if path == "/events":
        return 200, json.dumps(EVENT).encode() + b"\n"
    if path == "/volumes":
        return 200, {"Volumes": [{"Name": "v1", "Driver": "local", "Mountpoint": "/m", "Labels": None, "Scope": "local",
                                  "Options": None, "CreatedAt": T}], "Warnings": None}
    if parts[-1] == "logs":
        d = "com.docker.swarm.node.id=%s,com.docker.swarm.service.id=%s,com.docker.swarm.task.id=%s " % (
            NODE["ID"], SERVICE["ID"], TASKS[1]["ID"]) if parts[0] == "services" else ""
        ts = T + " " if query.get("timestamps") else ""
        return 200, frame(1, (ts + d + "one\n").encode()) + frame(2, (ts + d + "two\n").encode())
    if parts[0] == "containers" and parts[-1] == "json":
        return 200, {"Id": "c" * 64, "Name": "/web", "Config": {"Tty": False}, "State": {"Running": True}}
    if parts[-1] == "top":
        return 200, {"Titles": ["UID", "PID", "CMD"], "Processes": [["root", "1", "httpd -f"]]}
    if path == "/services" and "filters" in query:
        f = json.loads(query["filters"][0])
        wanted = list(f.get("id", {})) + list(f.get("name", {}))
        if wanted:
            return 200, [s for s in (find(lists["services"], w) for w in wanted) if s]
    if len(parts) == 1 and parts[0] in lists:
        return 200, lists[parts[0]]
    if len(parts) == 2 and parts[0] in lists:
        return one(parts[0][:-1], lists[parts[0]], parts[1])
    return 404, {"message": "no such thing: %s %s" % (method, path)}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "client"

    def log_message(self, *args):
        pass

    def reply(self, status, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Api-Version", self.server.api_version)
        self.send_header("Ostype", "linux")
        self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(data)

    def handle_any(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            raw = b""
            while True:
                n = int(self.rfile.readline().split(b";")[0], 16)
                raw += self.rfile.read(n)
                self.rfile.readline()
                if not n:
                    break
        else:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(self.path)
        path = re.sub(r"^/v1\.\d+", "", url.path)
        if path == "/_ping":
            return self.reply(200, b"OK" if self.command == "GET" else b"")
        query = urllib.parse.parse_qs(url.query)
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = raw
        self.server.requests.append((self.command, path, query, body))
        try:
            self.reply(*answer(self.command, path, query))
        except BrokenPipeError:
            pass  # a client that has what it wanted

    do_GET = do_POST = do_DELETE = do_HEAD = handle_any


class Fake(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    api_version = "1.47"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("fake") / "d.sock")
    server = Fake(path, Handler)
    server.requests = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.host = "unix://" + path
    server.dir = os.path.dirname(path)
    yield server
    server.shutdown()
    server.server_close()


def run(daemon, argv, stdin=None):
    daemon.requests = []
    env = {"PATH": os.environ["PATH"], "DOCKER_HOST": daemon.host, "DOCKER_CONFIG": daemon.dir, "FROM_HERE": "yes",
           "HOME": daemon.dir, "TZ": "UTC", "ASAN_OPTIONS": "detect_leaks=0"}
    p = subprocess.run(argv, input=stdin, capture_output=True, text=True, env=env, timeout=30, cwd=daemon.dir)
    # docker's Go client opens several connections: order among GETs is not part of the contract
    changing = [r for r in daemon.requests if r[0] != "GET"]
    return p, changing


def normal(value, key=None):
    """What is the same to the API: null and absent, the order of labels, true and 1 in queries."""
    if isinstance(value, dict):
        return {k: normal(v, k) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        items = [normal(v) for v in value]
        # docker keeps these in maps: any order is right
        unordered = ("Env", "Secrets", "Configs", "Ports", "GenericResources", "Config")
        return sorted(items, key=lambda i: json.dumps(i, sort_keys=True)) if key in unordered else items
    return value


def query_normal(query):
    same = {"false": "0", "true": "1"}
    return {k: [same.get(x, x) for x in v] for k, v in query.items() if v not in (["0"], ["false"], [""])}


CREATE = "service create -d "
UPDATE = "service update -d "
CASES = [
    CREATE + "bb:1",
    CREATE + "pin:1",
    CREATE + "pin",
    CREATE + "--no-resolve-image bb",
    CREATE + "--name web bb:1 sleep 1000",
    CREATE + "--name web bb:1 sh -c exit",
    CREATE + "--mode global --name g --constraint node.role==worker bb:1",
    CREATE + "--mode global-job --restart-condition none --name gjob bb:1 true",
    CREATE + "--mode replicated-job --replicas 5 --max-concurrent 2 --name job bb:1",
    CREATE + "--mode replicated-job --replicas 5 bb:1",
    CREATE + "--mode replicated-job bb:1",
    CREATE + "--replicas 0 bb:1",
    CREATE + "-l a=b --label c --label d= --container-label x=y bb:1",
    CREATE + "--env A=1 --env B=two=2 -e FROM_HERE -e NOT_HERE --env A=3 bb:1",
    CREATE + "--env-file env.txt -e Z=1 bb:1",
    CREATE + "--entrypoint sh\\ -c --workdir /w --user 1:2 --hostname {{.Node.Hostname}} -t --read-only --init bb:1",
    CREATE + "--group a --group b bb:1",
    CREATE + "--limit-cpu 0.5 --limit-memory 64M --limit-pids 7 --reserve-cpu 1.25 --reserve-memory 1g bb:1",
    CREATE + "--generic-resource gpu=2 --generic-resource ssd=1 bb:1",
    CREATE + "--mount type=volume,src=v1,dst=/data bb:1",
    CREATE + "--mount src=v1,dst=/data,volume-label=a=b,volume-driver=d,volume-opt=o=1,volume-nocopy bb:1",
    CREATE + "--mount type=bind,source=/a,target=/b,readonly,bind-propagation=rslave bb:1",
    CREATE + "--mount type=bind,source=/a,target=/b,ro=false bb:1",
    CREATE + "--mount type=bind,source=/a,target=/b,bind-recursive=disabled bb:1",
    CREATE + "--mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777 bb:1",
    CREATE + "--mount type=volume,dst=/v,volume-subpath=x bb:1",
    CREATE + "--publish 8080:80 bb:1",
    CREATE + "-p 80 -p 53:53/udp -p 9000-9002:90-92 bb:1",
    CREATE + "-p published=8081,target=80,mode=host,protocol=udp bb:1",
    CREATE + "-p target=80 bb:1",
    CREATE + "--network net10 --network name=net2,alias=a,alias=b,driver-opt=x=y bb:1",
    CREATE + "--secret sec1 --secret source=sec2,target=s2,uid=1,gid=2,mode=0400 bb:1",
    CREATE + "--config cfg1 --config source=cfg2,target=/etc/c,mode=0440 bb:1",
    CREATE + "--constraint a==b --constraint c!=d --placement-pref spread=node.labels.dc --replicas-max-per-node 2 bb:1",
    CREATE + "--restart-condition on-failure bb:1",
    CREATE + "--restart-delay 1s --restart-max-attempts 3 bb:1",
    CREATE + "--restart-window 1m30s bb:1",
    CREATE + "--update-parallelism 0 bb:1",
    CREATE + "--update-delay 1s --update-order start-first --update-failure-action rollback --update-monitor 20s "
             "--update-max-failure-ratio 0.25 bb:1",
    CREATE + "--rollback-parallelism 2 --rollback-delay 5s --rollback-order start-first bb:1",
    CREATE + "--health-cmd true --health-interval 2s --health-timeout 1s --health-retries 3 --health-start-period 5s "
             "--health-start-interval 500ms bb:1",
    CREATE + "--no-healthcheck bb:1",
    CREATE + "--health-retries 3 bb:1",
    CREATE + "--stop-signal SIGINT --stop-grace-period 2s bb:1",
    CREATE + "--dns 1.1.1.1 --dns-search a.b --dns-option ndots:2 bb:1",
    CREATE + "--host db:10.0.0.1 --host v6:::1 bb:1",
    CREATE + "--sysctl net.core.somaxconn=1 --ulimit nofile=10:20 --ulimit core=5 bb:1",
    CREATE + "--cap-add net_admin --cap-add CAP_SYS_TIME --cap-drop chown bb:1",
    CREATE + "--log-driver json-file --log-opt max-size=1m bb:1",
    CREATE + "--endpoint-mode dnsrr --isolation default bb:1",
    CREATE + "--oom-score-adj 5 bb:1",
    CREATE + "--credential-spec file://x bb:1",
    CREATE + "--with-registry-auth bb:1",
    UPDATE + "web",
    UPDATE + "--image bb:2 web",
    UPDATE + "--image pin:2 web",
    UPDATE + "--force web",
    UPDATE + "--replicas 5 web",
    UPDATE + "--args sh\\ -c\\ 'exit\\ 1' web",
    UPDATE + "--entrypoint '' --workdir /x --user u --hostname h web",
    UPDATE + "--env-add C=3 --env-rm A --label-add x=y --label-rm tier web",
    UPDATE + "--env-add A=9 --container-label-add p=q --container-label-rm cl web",
    UPDATE + "--network-rm netid10 --network-add net2 web",
    UPDATE + "--mount-add type=bind,src=/x,dst=/x web",
    UPDATE + "--mount-rm /data web",
    UPDATE + "--publish-add 9090:90 web",
    UPDATE + "--publish-rm 80 web",
    UPDATE + "--publish-rm 8080:80 --publish-add published=1,target=1,mode=host web",
    UPDATE + "--secret-add sec2 web",
    UPDATE + "--secret-rm sec1 web",
    UPDATE + "--config-add source=cfg2,target=/d web",
    UPDATE + "--config-rm cfg1 web",
    UPDATE + "--constraint-add a==b --constraint-rm node.role==worker web",
    UPDATE + "--placement-pref-add spread=node.labels.rack web",
    UPDATE + "--placement-pref-rm spread=node.labels.zone web",
    UPDATE + "--generic-resource-add gpu=4 web",
    UPDATE + "--generic-resource-rm gpu web",
    UPDATE + "--limit-cpu 1 --limit-memory 0 --reserve-memory 5m web",
    UPDATE + "--limit-pids 5 glob",
    UPDATE + "--restart-delay 3s --restart-condition none web",
    UPDATE + "--restart-window 3s glob",
    UPDATE + "--update-parallelism 0 --update-delay 3s web",
    UPDATE + "--update-order start-first glob",
    UPDATE + "--rollback-monitor 1s --rollback-failure-action continue web",
    UPDATE + "--dns-add 2.2.2.2 --dns-rm 1.1.1.1 --dns-option-add a --dns-search-add s web",
    UPDATE + "--host-add x:1.2.3.4 --host-rm db web",
    UPDATE + "--host-rm db:10.0.0.1 web",
    UPDATE + "--group-add g0 --group-rm g1 web",
    UPDATE + "--sysctl-add a.b=1 --sysctl-rm net.core.somaxconn web",
    UPDATE + "--ulimit-add core=1 --ulimit-rm nofile web",
    UPDATE + "--cap-add CHOWN web",
    UPDATE + "--cap-add SYS_ADMIN --cap-drop KILL web",
    UPDATE + "--health-interval 9s web",
    UPDATE + "--health-cmd 'wget x' web",
    UPDATE + "--no-healthcheck web",
    UPDATE + "--log-driver none web",
    UPDATE + "--stop-grace-period 1m --stop-signal TERM --read-only --tty --init web",
    UPDATE + "--endpoint-mode dnsrr glob",
    UPDATE + "--replicas-max-per-node 4 web",
    UPDATE + "--oom-score-adj 9 web",
    UPDATE + "--with-registry-auth --image bb:3 web",
    UPDATE + "--rollback web",
    "service scale -d web=7 job=3",
    "service rollback -d web",
    "service rm web glob",
    "swarm init --advertise-addr 10.0.0.1",
    "swarm init --listen-addr 1.2.3.4:99 --data-path-port 4790 --default-addr-pool 10.50.0.0/16 "
    "--default-addr-pool-mask-length 26 --task-history-limit 3 --cert-expiry 48h --dispatcher-heartbeat 7s "
    "--snapshot-interval 5 --max-snapshots 2 --availability drain --force-new-cluster",
    "swarm join --token SWMTKN-1-w --advertise-addr 10.0.0.3 10.0.0.1:2377",
    "swarm join-token worker",
    "swarm join-token -q manager",
    "swarm join-token --rotate -q worker",
    "swarm update --task-history-limit 4 --dispatcher-heartbeat 6s",
    "swarm leave",
    "swarm leave --force",
    "swarm ca",
    "swarm ca --rotate -d",
    "swarm unlock-key",
    "node update --label-add zone=b --label-add x --availability drain n2",
    "node update --label-rm disk n1",
    "node update --role worker n1",
    "node promote n2",
    "node demote n1",
    "node rm n2",
    "node rm --force n2",
    "network create -d overlay --attachable --label a=b mynet",
    "network create -d overlay --opt encrypted --subnet 10.77.0.0/24 --gateway 10.77.0.1 --ip-range 10.77.0.128/25 n",
    "network create -d overlay --internal --ipv6 --subnet 10.77.0.0/24 --subnet fd00::/64 --aux-address h=10.77.0.9 n",
    "network rm net2",
    "network prune -f",
    "secret create --label a=b s -",
    "config create c -",
    "secret rm sec1 sec2",
    "config rm cfg1",
    "stop -t 3 web",
    "kill -s HUP web",
    "restart web",
    "rm -f web",
]


@pytest.mark.parametrize("line", CASES)
def test_same_requests(daemon, line):
    import shlex
    with open(os.path.join(daemon.dir, "env.txt"), "w") as f:
        f.write("# a comment\nFILE=1\n  SPACED=x y\nFROM_HERE\nNONE_HERE\n")
    args = shlex.split(line)
    stdin = "content" if line.endswith(" -") else None
    theirs, want = run(daemon, [DOCKER] + args, stdin)
    ours, have = run(daemon, [MESHCTL] + args, stdin)
    assert [(m, p, query_normal(q)) for m, p, q, _ in have] == [(m, p, query_normal(q)) for m, p, q, _ in want], \
        (theirs.stderr, ours.stderr)
    for (_, path, _, a), (_, _, _, b) in zip(have, want):
        assert normal(a) == normal(b), path
    assert ours.returncode == theirs.returncode, (theirs.stderr, ours.stderr)
    assert ours.stdout == theirs.stdout.replace("docker swarm", "meshctl swarm")


PRINTS = [
    "service ls", "service ls -q", "service ls --format json", "service ls --format {{.Name}}:{{.Ports}}",
    "service ls --format 'table {{.Name}}\\t{{.Replicas}}'", "service ps web", "service ps --no-trunc web",
    "service ps -q web", "service ps --format json web", "service ps --format '{{.Name}} {{.Error}}' web",
    "service ps --no-resolve web", "service inspect web", "service inspect --pretty web", "service inspect --pretty glob", "service inspect --format '{{json .Spec.Labels}} {{.Spec.Name}}' web glob",
    "service inspect --format '{{range .Spec.TaskTemplate.ContainerSpec.Env}}<{{.}}>{{end}}' web",
    "service inspect --format '{{index .Spec.Labels \"tier\"}}{{println}}{{len .Spec.Name}}' web",
    "service inspect nope", "service logs web", "service logs --timestamps --details web", "service logs --raw web",
    "service logs --no-task-ids --no-trunc web", "node ls", "node ls -q", "node ls --format json", "node inspect n1",
    "node ls --format '{{.Hostname}} {{.Self}}'", "node inspect --pretty self", "node inspect --pretty n2", "node ps n1",
    "network ls", "network ls --no-trunc", "network ls -q", "network ls --format '{{.Name}} {{.Label \"k\"}}'",
    "network inspect net2", "secret ls", "secret inspect --pretty sec1", "config ls", "config inspect --pretty cfg1",
    "secret inspect sec1", "ps", "ps --no-trunc", "ps -q", "ps --format '{{.Names}} {{.Labels}}'", "images", "images -q",
    "images --digests", "image ls --no-trunc", "logs web", "top web", "events --until 1795180249",
    "events --until 1795180249 --format '{{json .}}'", "volume ls", "volume ls -q",
    "info --format '{{.Swarm.NodeID}}'", "ps --format '{{.Nope}}'", "service ls --format '{{.Nope}}'",
    "service ls --format '{{.Name'", "service nope", "network inspect nope", "node inspect nope", "service rm nope",
]


@pytest.mark.parametrize("line", PRINTS)
def test_same_output(daemon, line):
    import shlex
    args = shlex.split(line)
    theirs, _ = run(daemon, [DOCKER] + args)
    ours, _ = run(daemon, [MESHCTL] + args)
    if theirs.returncode == 0 and (re.search(r" inspect [^-]*$", line) or line.startswith("events") and "json" in line):
        # docker prints its own structs, meshctl what the daemon said: the order of keys may differ
        assert json.loads(ours.stdout) == json.loads(theirs.stdout)
    elif theirs.returncode == 0:
        assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr)
    assert (ours.returncode == 0) == (theirs.returncode == 0), (theirs.stderr, ours.stderr)
    if ours.returncode:
        assert ours.stderr


# Where docker leaves it to the daemon, or does nothing at all, and meshctl says it.
OURS_REFUSES = ["service create --mount type=odd,dst=/a bb:1", "service create --update-order odd bb:1"]
OURS_DOES = [("service update -d --max-concurrent 1 job", {"MaxConcurrent": 1, "TotalCompletions": 5}),
             ("service update -d --replicas 9 job", {"MaxConcurrent": 2, "TotalCompletions": 9})]


@pytest.mark.parametrize("line", OURS_REFUSES)
def test_refused_before_it_is_sent(daemon, line):
    ours, have = run(daemon, [MESHCTL] + line.split())
    assert ours.returncode == 1 and "odd" in ours.stderr and have == []


@pytest.mark.parametrize("line,mode", OURS_DOES)
def test_jobs_can_be_changed(daemon, line, mode):
    ours, have = run(daemon, [MESHCTL] + line.split())
    assert ours.returncode == 0 and have[-1][3]["Mode"] == {"ReplicatedJob": mode}


REFUSED = [
    "service create --nope bb:1", "service create", "service create --replicas x bb:1", "service create --mode odd bb:1",
    "service create --mode global --replicas 2 bb:1", "service create -p 99999:1 bb:1", "service create -p 80:x bb:1",
    "service create --mount type=bind,src=/a bb:1",
    "service create --mount dst=/a,odd=1 bb:1", "service create --secret nope bb:1", "service create --network nope bb:1",
    "service create --limit-memory 5q bb:1", "service create --limit-cpu abc bb:1", "service create --ulimit odd=1 bb:1",
    "service create --host nocolon bb:1", "service create --env-file /nope bb:1",
    "service create --placement-pref odd=1 bb:1", "service create --generic-resource gpu bb:1",
    "service create --no-healthcheck --health-cmd x bb:1", "service create --restart-delay 5 bb:1",
    "service update --replicas 3 glob", "service update --rollback --image x web", "service scale web", "service scale web=x",
    "service scale glob=3", "service update nope", "swarm join-token odd", "swarm join", "node update", "network create",
    "node update --label-rm nope n1", "service ls --filter bad", "secret create", "secret inspect nope",
]


@pytest.mark.parametrize("line", REFUSED)
def test_both_refuse_and_change_nothing(daemon, line):
    args = line.split()
    theirs, want = run(daemon, [DOCKER] + args)
    ours, have = run(daemon, [MESHCTL] + args)
    assert theirs.returncode and ours.returncode
    assert ours.stderr.strip() and have == want == []
