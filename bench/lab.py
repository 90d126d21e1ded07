# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab for a benchmark: up, the API over its sockets, down whatever happens."""
import http.client
import json
import os
import socket
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("MESH_BUILD", os.path.join(ROOT, "build"))
CTL = os.path.join(BUILD, "meshctl")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=120)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Node:
    def __init__(self, entry):
        self.name, self.address, self.socket = entry["name"], entry["address"], entry["socket"]
        self.netns = entry["netns"]
        self.conn = None

    def call(self, method, path, body=None, ok=(200, 201, 204)):
        for attempt in (0, 1):
            try:
                if not self.conn:
                    self.conn = UnixConnection(self.socket)
                data = json.dumps(body) if isinstance(body, (dict, list)) else body
                self.conn.request(method, path, data, {"Content-Type": "application/json"})
                r = self.conn.getresponse()
                raw = r.read()
                break
            except (OSError, http.client.HTTPException):
                self.conn = None
                if attempt:
                    raise
        if r.status not in ok:
            raise RuntimeError(f"{method} {path}: {r.status} {raw.decode(errors='replace')}")
        try:
            return json.loads(raw) if raw else None
        except ValueError:
            return raw.decode(errors="replace")

    def load(self, path):
        with open(path, "rb") as f:
            self.call("POST", "/images/load?quiet=1", f.read())

    def pid(self):
        return int(open(os.path.join(os.path.splitext(self.socket)[0], "meshd.pid")).read())


class Lab:
    def __init__(self, name, nodes=3, plane="auto"):
        self.name, self.count, self.plane = f"{name}{os.getpid()}", nodes, plane

    def __enter__(self):
        ctl("lab", "up", "--name", self.name, "--nodes", str(self.count), "--data-plane", self.plane)
        self.nodes = [Node(json.loads(l)) for l in ctl("lab", "ls", "--name", self.name, "--format", "json").splitlines()]
        for n in self.nodes:
            n.load(os.path.join(BUILD, "images", "mesh-demo.tar"))
        return self

    def __exit__(self, *_):
        ctl("lab", "down", "--name", self.name)

    def client(self, *argv, **kw):
        return subprocess.run([CTL, "lab", "client", "--name", self.name, "--", *argv], capture_output=True, text=True, **kw)


def ctl(*argv):
    p = subprocess.run([CTL, *argv], capture_output=True, text=True)
    if p.returncode:
        raise RuntimeError(f"meshctl {' '.join(argv)}: {p.stderr.strip() or p.stdout.strip()}")
    return p.stdout


def until(cond, timeout, what, poll=0.002):
    end = time.monotonic() + timeout
    while True:
        v = cond()
        if v:
            return v
        if time.monotonic() > end:
            raise RuntimeError(f"waited {timeout} s for {what}")
        time.sleep(poll)


def machine():
    model = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    return {"cpu": model, "cores": os.cpu_count(), "kernel": os.uname().release,
            "load": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())}


def table(rows, header):
    rows = [header] + [[str(c) for c in r] for r in rows]
    width = [max(len(r[i]) for r in rows) for i in range(len(header))]
    for n, r in enumerate(rows):
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, width))))
        if n == 0:
            print("  ".join("-" * w for w in width))


def write_json(name, data):
    path = os.path.join(BUILD, f"{name}.json")
    with open(path, "w") as f:
        json.dump(data, f, indent=1)
    print(f"\nwritten to {os.path.relpath(path, os.getcwd())}")
