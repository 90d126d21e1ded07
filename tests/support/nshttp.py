# SPDX-License-Identifier: GPL-2.0-or-later
"""GET from another network namespace, as curl answers: no process has to start, which is most of what a curl costs, and all of it
where the CPU is emulated."""
import ctypes
import http.client
import os
import socket
import subprocess
import time
import urllib.parse

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
# curl's exit statuses
REFUSED, TIMEOUT, EMPTY, BROKEN = 7, 28, 52, 56


def enter(fd):
    if libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def socket_in(netns):
    """A TCP socket of the network namespace `netns` (its name). The thread is back in its own when this returns."""
    home, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), -1
    try:
        there = os.open(f"/run/netns/{netns}", os.O_RDONLY)
        enter(there)
        try:
            return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        finally:
            enter(home)
    finally:
        for fd in (home, there):
            if fd >= 0:
                os.close(fd)


class Connection(http.client.HTTPConnection):
    def __init__(self, netns, end, *args):
        super().__init__(*args)
        self.netns, self.end = netns, end

    def connect(self):
        self.sock = socket_in(self.netns)
        self.sock.settimeout(max(self.end - time.monotonic(), 0.01))
        self.sock.connect((self.host, self.port))


def get(netns, url, seconds):
    """What `curl -sS -m seconds url` there would end with: returncode, stdout, stderr. IPv4 addresses only; any HTTP status is 0."""
    u = urllib.parse.urlsplit(url)
    c = Connection(netns, time.monotonic() + seconds, u.hostname, u.port or 80)
    text, code, why = "", 0, ""
    connected = False
    try:
        c.connect()
        connected = True
        c.request("GET", (u.path or "/") + (f"?{u.query}" if u.query else ""), headers={"Accept": "*/*", "User-Agent": "curl"})
        text = c.getresponse().read().decode(errors="replace")
    except TimeoutError as e:
        code, why = TIMEOUT, e
    except http.client.RemoteDisconnected as e:
        code, why = EMPTY, e
    except (OSError, http.client.HTTPException) as e:
        code, why = BROKEN if connected else REFUSED, e
    finally:
        c.close()
    return subprocess.CompletedProcess(["GET", url], code, text, f"{url} from {netns}: {why}" if code else "")
