# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab for tests: real daemons in network namespaces, and hands to drive them. Nothing sleeps but wait_for's poll."""
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

import nshttp

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("MESH_BUILD", os.path.join(ROOT, "build")))
MESHCTL = os.path.join(BUILD, "meshctl")
MESHD = os.path.join(BUILD, "meshd")
IMAGES = os.path.join(BUILD, "images", "mesh-demo.tar")
SUPPORT = os.path.join(ROOT, "tests", "support")
IMAGE, IMAGE2 = "mesh-demo:1", "mesh-demo:2"


# A machine that is emulated takes longer for everything.
SLOW = float(os.environ.get("MESH_TEST_SLOW", "1"))


def wait_for(cond, timeout=20, what="the condition", every=0.05):
    """What cond returns once it is true; an exception in it counts as not yet."""
    end = time.monotonic() + timeout * SLOW
    while True:
        last = None
        try:
            value = cond()
            if value:
                return value
            last = value
        except (AssertionError, OSError, LookupError, ValueError, subprocess.TimeoutExpired) as e:
            last = e
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout * SLOW:g} s for {what}; last: {last!r}")
        time.sleep(every * max(SLOW / 2, 1))  # asking takes time, too, of those who should answer


# Thirty connections that stay open: "up N" (tasks they have), then "kept" a line of input, "lost" for each that is.
KEEPALIVE = """
import socket, sys
host = sys.argv[1]
socks = [socket.create_connection((host, 8080), 5) for _ in range(30)]
def ask(s):
    s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"); data = b""
    while b"self=" not in data or not data.endswith(b"\\n"):
        part = s.recv(4096)
        assert part, "closed"
        data += part
    return data.split(b"host=")[1].split()[0]
first = [ask(s) for s in socks]
print("up", len(set(first)), flush=True)
for line in sys.stdin:
    for s, host in zip(socks, first):
        try:
            now = ask(s)
            assert now == host, (now, host)
        except (OSError, AssertionError) as e:
            print("lost", s.getsockname(), host, type(e), e, flush=True)
    print("kept", flush=True)
"""


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path, timeout=30):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Load:
    """A command that asks until it is told to stop: tests/support/load.py, bench/loadgen.c."""

    def __init__(self, argv, env):
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def begin(self):
        assert self.p.stdout.readline() == "first answer\n"
        return self

    def more(self, n=50):
        """Waits until n more requests were started."""
        self.p.stdin.write(f"more {n}\n")
        self.p.stdin.flush()
        assert self.p.stdout.readline() == "done\n"

    def stop(self, after=50):
        """What it says at its end, once `after` more were started."""
        self.more(after)
        out, _ = self.p.communicate("stop\n", timeout=60 * SLOW)
        return json.loads(out)


class Lab:
    """plane: the --data-plane of its nodes ("nft", "n2=nft"); None: whatever they choose. xdp: published ports by XDP."""

    def __init__(self, name, nodes=3, managers=1, init=True, images=True, env=None, plane=None, xdp=False):
        self.name, self.nodes = name, list(range(1, nodes + 1))
        self.config = os.path.join("/tmp", f"mesh-test-{name}")
        os.makedirs(self.config, exist_ok=True)
        self.processes = []
        self.env = dict(os.environ, DOCKER_CONFIG=self.config, HOME=self.config, **{"MESHD": MESHD, **(env or {})})
        for k in ("DOCKER_HOST", "MESH_HOST", "DOCKER_CONTEXT"):
            self.env.pop(k, None)
        try:
            self.meshctl(0, "lab", "up", "-q", "--name", name, "--nodes", str(nodes), "--managers", str(managers),
                         *([] if init else ["--no-init"]), *(["--data-plane", plane] if plane else []),
                         *(["--xdp"] if xdp else []), timeout=150)
            self.rows = {int(r["name"][1:]): r for r in self.ls()}
            if images:
                self.load_images()
        except BaseException:
            print(self.new_logs({}))
            self.down()
            raise

    # --- the lab itself
    def ls(self):
        out = self.meshctl(0, "lab", "ls", "--name", self.name, "--format", "json").stdout
        return [json.loads(line) for line in out.splitlines()]

    def verb(self, verb, *nodes):
        return self.meshctl(0, "lab", verb, "--name", self.name, *[f"n{k}" for k in nodes], timeout=90)

    def down(self):
        for p in self.processes:
            if p.poll() is None:
                p.kill()
            p.wait()
        self.meshctl(0, "lab", "down", "--name", self.name, timeout=120)
        shutil.rmtree(self.config, ignore_errors=True)

    def load_images(self, *nodes):
        each = [threading.Thread(target=self.meshctl, args=(k, "load", "-q", "-i", IMAGES), kwargs={"timeout": 120})
                for k in nodes or self.nodes]
        for t in each:
            t.start()
        for t in each:
            t.join()
        for k in nodes or self.nodes:
            assert IMAGE in self.meshctl(k, "images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()

    # --- names of things
    def addr(self, k):
        return self.rows[k]["address"]

    @property
    def addresses(self):
        return [self.addr(k) for k in self.nodes]

    @property
    def client_addr(self):
        return self.addr(1).rsplit(".", 1)[0] + ".10"

    def sock(self, k):
        return f"/run/mesh/{self.name}/n{k}.sock"

    def state(self, k):
        return f"/var/lib/mesh/{self.name}/n{k}"

    def pid(self, k):
        with open(f"/run/mesh/{self.name}/n{k}/meshd.pid") as f:
            return int(f.read())

    # --- running things
    def run(self, argv, rc=0, stdin=None, timeout=60, env=None, text=True):
        p = subprocess.run(argv, input=stdin, capture_output=True, text=text, timeout=timeout * SLOW, env=env or self.env)
        if rc is not None and p.returncode != rc:
            raise AssertionError(f"{' '.join(argv)}: ended with {p.returncode}, not {rc}\n{p.stdout}\n{p.stderr}")
        return p

    def _env(self, k):
        return dict(self.env, **({"DOCKER_HOST": f"unix://{self.sock(k)}"} if k else {}))

    def docker(self, k, *args, **kw):
        return self.run(["docker", *args], env=self._env(k), **kw)

    def meshctl(self, k, *args, **kw):
        return self.run([MESHCTL, *args], env=self._env(k), **kw)

    def client(self, *argv, **kw):
        return self.run([MESHCTL, "lab", "client", "--name", self.name, "--", *argv], **kw)

    def node_exec(self, k, *argv, **kw):
        return self.run([MESHCTL, "lab", "exec", "--name", self.name, f"n{k}", "--", *argv], **kw)

    def spawn(self, where, *argv, **kw):
        """A process in node k's namespace, in the client's (0) or as argv says (None); ended with the test."""
        if where is not None:
            place = ["exec", "--name", self.name, f"n{where}"] if where else ["client", "--name", self.name]
            argv = [MESHCTL, "lab", *place, "--", *argv]
        p = subprocess.Popen(argv, env=kw.pop("env", self.env), text=True, **kw)
        self.processes.append(p)
        return p

    def begin_load(self, argv, prefix=None):
        x = Load([*(prefix or [MESHCTL, "lab", "client", "--name", self.name, "--"]), *argv], self.env)
        self.processes.append(x.p)
        return x.begin()

    def load(self, *targets, args=()):
        """From the client; says {"ok": N, "failed": [[seconds, target, reason], ...], "hosts": {host: N}}."""
        return self.begin_load([sys.executable, os.path.join(SUPPORT, "load.py"), *args, *targets])

    def loadgen(self, classes, targets, prefix=None):
        """An open load, of the client or as prefix says; where all is slow, at as much a lower rate."""
        path = os.path.join(BUILD, "bench", "loadgen")
        assert os.path.exists(path), f"{path} was not built: make {os.path.relpath(path, ROOT)}"
        slower = [":".join([kind, str(max(1, round(int(rate) / SLOW))), *more]) for kind, rate, *more in (c.split(":") for c in classes)]
        return self.begin_load([path, *slower, *targets], prefix)

    def curl(self, url, where=0, rc=0, m=5, args=()):
        """From the client (0) or node k. Without args no curl runs, but what is said of it is the same."""
        if args:
            argv = ["curl", "-sS", "-m", str(m), *args, url]
            return (self.node_exec(where, *argv, rc=rc) if where else self.client(*argv, rc=rc))
        p = nshttp.get(f"mesh-{self.name}-" + (f"n{where}" if where else "client"), url, m)
        assert rc is None or p.returncode == rc, f"GET {url}: ended with {p.returncode}, not {rc}\n{p.stdout}\n{p.stderr}"
        return p

    def fields(self, url, where=0, **kw):
        """The demo server's answer as a dict."""
        return dict(re.findall(r"(\w+)=(\S*)", self.curl(url, where, **kw).stdout))

    def wait_published(self, port, *nodes):
        """A task may run a moment before every node has heard of its port."""
        for k in nodes or self.nodes:
            wait_for(lambda k=k: self.curl(f"http://{self.addr(k)}:{port}/", rc=None, m=1).returncode == 0, 10, f"n{k} to take in port {port}")

    # --- the API, raw
    def raw(self, k, method, path, body=None, headers=None, timeout=30):
        c = UnixHTTP(self.sock(k), timeout)
        try:
            if body is not None and not isinstance(body, (bytes, str)):
                body = json.dumps(body)
            c.request(method, path, body, headers or ({"Content-Type": "application/json"} if body is not None else {}))
            r = c.getresponse()
            data = r.read()
            try:
                return r.status, json.loads(data) if data else None
            except ValueError:
                return r.status, data
        finally:
            c.close()

    def get(self, k, path):
        status, data = self.raw(k, "GET", path)
        assert status == 200, (path, status, data)
        return data

    def tasks(self, service=None, k=1, **filters):
        f = {key: [v] for key, v in filters.items()}
        if service:
            f["service"] = [service]
        return self.get(k, "/tasks?filters=" + json.dumps(f).replace(" ", "").replace('"', "%22"))

    def running(self, service, k=1):
        return [t for t in self.tasks(service, k) if t["Status"]["State"] == "running" and t["DesiredState"] == "running"]

    def wait_running(self, service, n, timeout=40, k=1):
        """n tasks run and none that should not is left; the tasks."""
        def settled():
            now = self.tasks(service, k)
            up = [t for t in now if t["Status"]["State"] == "running" and t["DesiredState"] == "running"]
            rest = [t for t in now if t["Status"]["State"] in ("running", "starting", "preparing", "ready") and t not in up]
            return up if len(up) == n and not rest else (n == 0 and not up and not rest and ["none"])
        return wait_for(settled, timeout, f"{n} running tasks of {service}")

    def create(self, *args, n=1, k=1, cli=None, timeout=40):
        """service create -d --name …: waits for n running tasks; the name comes after --name."""
        (cli or self.meshctl)(k, "service", "create", "-d", *args)
        name = args[args.index("--name") + 1]
        return self.wait_running(name, n, timeout, k)

    def node_id(self, k, via=1):
        if not hasattr(self, "_ids"):
            self._ids = {}
        if k not in self._ids:
            self._ids.update({int(n["Description"]["Hostname"][1:]): n["ID"] for n in self.get(via, "/nodes")})
        return self._ids[k]

    def node_number(self, task):
        return next(k for k in self.nodes if self.node_id(k) == task["NodeID"])

    def driver(self, k, via=1):
        """What node k says of its data plane, once it does: "nft: why; cannot ..."."""
        said = lambda: re.search(r"^Data Plane:\t+(.+)$", self.meshctl(via, "node", "inspect", "--pretty", f"n{k}").stdout, re.M)
        return wait_for(said, 30, f"n{k} to say its driver")[1]

    def cannot(self, what, *nodes):
        """Does one of the nodes (none given: of all) say that its driver cannot do this?"""
        limits = [re.search(r"; cannot (.*)", self.driver(k)) for k in nodes or self.nodes]
        return any(what in m[1].split(", ") for m in limits if m)

    def exec(self, task, *argv, **kw):
        """Runs argv in a task's container, on its node."""
        return self.meshctl(self.node_number(task), "exec", task["Status"]["ContainerStatus"]["ContainerID"], *argv, **kw)

    def inside(self, task, *argv, **kw):
        """Runs a program of the machine in a task's network namespace, outside its cgroup."""
        return self.run(["nsenter", "-t", str(task["Status"]["ContainerStatus"]["PID"]), "-n", *argv], **kw)

    def wait_nodes(self, n=None, state="ready", timeout=30, k=1):
        n = len(self.nodes) if n is None else n
        return wait_for(lambda: [x for x in self.get(k, "/nodes") if x["Status"]["State"] == state].__len__() == n, timeout,
                        f"{n} nodes {state}")

    # --- after each test
    def log(self, k):
        try:
            with open(self.state(k) + "/meshd.log", errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def log_sizes(self):
        return {k: len(self.log(k)) for k in self.nodes}

    def new_logs(self, since):
        return "".join(f"--- n{k} ---\n" + "".join(self.log(k)[since.get(k, 0):].splitlines(True)[-60:]) for k in self.nodes)

    def clean(self):
        """Removes every object and undoes what a test did to nodes and links."""
        for p in self.processes:
            if p.poll() is None:
                p.kill()
            p.communicate()
        self.processes = []
        for r in self.ls():
            if r["state"] != "running":
                self.verb("start", int(r["name"][1:]))
            if r["link"] != "up":
                self.verb("heal", int(r["name"][1:]))
        for kind in ("services", "secrets", "configs"):
            for o in self.get(1, "/" + kind):
                self.raw(1, "DELETE", f"/{kind}/{o['ID']}")
        wait_for(lambda: not self.tasks(), 60, "the tasks to be gone")
        for o in self.get(1, "/networks"):
            if o["Scope"] == "swarm" and o["Name"] != "ingress":
                wait_for(lambda o=o: self.raw(1, "DELETE", f"/networks/{o['Id']}")[0] in (204, 404), 20, f"network {o['Name']} to go")
        for o in self.get(1, "/nodes"):
            if o["Spec"]["Availability"] != "active" or o["Spec"].get("Labels"):
                spec = dict(o["Spec"], Availability="active", Labels={})
                self.raw(1, "POST", f"/nodes/{o['ID']}/update?version={o['Version']['Index']}", spec)
        self.wait_nodes()
        for k in self.nodes:
            for v in (self.get(k, "/volumes") or {}).get("Volumes") or []:
                self.raw(k, "DELETE", f"/volumes/{v['Name']}")
