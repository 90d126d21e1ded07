#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The include arrows: who may include whom, and which folder owns which library.

  cli -> HTTP API     control -> dataplane -> bpf/abi.h     everyone -> base
"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# A file may include what stands under these prefixes, beside its own folder.
MAY = {
    "base": ["base/"],
    "bpf": ["bpf/"],
    "dataplane": ["base/", "dataplane/", "bpf/abi.h"],
    "control": ["base/", "control/", "dataplane/dp.h", "dataplane/state.h"],
    "cli": ["base/", "cli/"],
}
# A library's headers are seen only by its owners.
OWNER = {
    r"uv\.h": r"control/(.*_uv\.[ch]|meshd/|api/|agent/|net/|ca/|raft/raft_node\.h)|dataplane/dns/.*_uv\.[ch]",
    r"netlink/.*": r"dataplane/netlink/",
    r"libmnl/.*|libnftnl/.*|nftables/.*": r"dataplane/(netlink|nft)/",
    r"bpf/(libbpf|bpf|btf)\.h": r"dataplane/ebpf/",
    r"wolfssl/.*": r"control/(ca|net)/",
    r"microhttpd\.h": r"control/api/",
    r"jansson\.h": r"control/(api|agent)/|control/model/(json\.[ch]|tmpl\.c)|cli/|base/go",
    r"yaml\.h": r"cli/",
    r"libsmartcols.*": r"cli/",
}
# Pure folders: decisions only.
PURE = ["base/schema", "control/model/model", "control/store/", "control/allocator/", "control/scheduler/",
        "control/orchestrator/", "control/dispatcher/", "control/raft/raft.", "dataplane/state"]
IMPURE = r"uv\.h|sys/socket\.h|time\.h|sys/random\.h|jansson\.h|unistd\.h|sys/epoll\.h"


def main():
    bad = []
    for top in MAY:
        for d, _, files in os.walk(os.path.join(ROOT, top)):
            for f in files:
                if not f.endswith((".c", ".h")):
                    continue
                path = os.path.relpath(os.path.join(d, f), ROOT)
                for n, line in enumerate(open(os.path.join(d, f)), 1):
                    m = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
                    if not m:
                        continue
                    quoted, inc = m.group(1) == '"', m.group(2)
                    if quoted and not inc.endswith(".skel.h"):
                        if "/" not in inc:
                            bad.append(f'{path}:{n}: "{inc}": includes name the full path from the top')
                        elif not any(inc.startswith(p) for p in MAY[top]):
                            bad.append(f'{path}:{n}: {top} may not include "{inc}"')
                    if not quoted and top != "bpf":
                        for lib, owner in OWNER.items():
                            if re.fullmatch(lib, inc) and not re.match(owner, path):
                                bad.append(f"{path}:{n}: <{inc}> belongs to {owner}")
                    if any(path.startswith(p) for p in PURE) and not path.endswith(("_uv.c", "_uv.h")) and \
                            not quoted and re.fullmatch(IMPURE, inc):
                        bad.append(f"{path}:{n}: a pure file includes <{inc}>")
    print("\n".join(bad) if bad else "include arrows: ok")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
