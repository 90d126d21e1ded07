# SPDX-License-Identifier: GPL-2.0-or-later
"""An open loop of HTTP requests, each on a connection of its own.

  load.py [--rate N] [--path /] [--timeout S] HOST:PORT...    prints "first answer", then one JSON object

Reads from standard input: "more N" answers "done" once N more requests were started; "stop" or the end ends the loop.

A request is started every 1/N seconds whether or not earlier ones have been answered, so that a stall shows.
"""
import argparse
import collections
import json
import os
import re
import socket
import sys
import threading
import time

ap = argparse.ArgumentParser()
ap.add_argument("--rate", type=float, default=100)
ap.add_argument("--path", default="/")
ap.add_argument("--timeout", type=float, default=8)
ap.add_argument("targets", nargs="+")
a = ap.parse_args()
# A machine that is emulated is asked for less at a time, and given longer.
slow = float(os.environ.get("MESH_TEST_SLOW", "1"))
a.rate, a.timeout = a.rate / slow, a.timeout * slow

lock = threading.Lock()
ok, failed, hosts, versions = 0, [], collections.Counter(), collections.Counter()
begin = time.monotonic()
stop = threading.Event()


def ask(target):
    host, port = target.rsplit(":", 1)
    data = b""
    with socket.create_connection((host, int(port)), a.timeout) as s:
        s.settimeout(a.timeout)
        s.sendall(f"GET {a.path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        while True:
            part = s.recv(65536)
            if not part:
                break
            data += part
    if not data.startswith(b"HTTP/1.1 200 "):
        raise OSError(f"answer {data[:40]!r}")
    return dict(re.findall(r"(\w+)=(\S*)", data.decode()))


def one(target):
    global ok
    at = time.monotonic() - begin
    try:
        answer = ask(target)
        with lock:
            ok += 1
            hosts[answer.get("host")] += 1
            versions[answer.get("version")] += 1
    except OSError as e:
        with lock:
            failed.append([round(at, 3), target, f"{type(e).__name__}: {e} after {time.monotonic() - begin - at:.3f} s"])


def commands():
    for line in sys.stdin:
        if not line.startswith("more "):
            break
        with counted:
            want = n + int(line[5:])
            counted.wait_for(lambda: n >= want)
        print("done", flush=True)
    stop.set()


deadline = time.monotonic() + 20 * slow
while True:
    try:
        ask(a.targets[0])
        break
    except OSError as e:
        if time.monotonic() > deadline:
            sys.exit(f"no first answer from {a.targets[0]}: {e}")
print("first answer", flush=True)
threads, n, start = [], 0, time.monotonic()
counted = threading.Condition()
threading.Thread(target=commands, daemon=True).start()
while not stop.is_set():
    t = threading.Thread(target=one, args=(a.targets[n % len(a.targets)],))
    t.start()
    threads.append(t)
    with counted:
        n += 1
        counted.notify_all()
    wait = start + n / a.rate - time.monotonic()
    if wait > 0:
        stop.wait(wait)
for t in threads:
    t.join()
print(json.dumps({"ok": ok, "failed": failed, "hosts": hosts, "versions": versions}))
