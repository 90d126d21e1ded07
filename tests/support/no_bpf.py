# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a program for which bpf() does not exist, as on a kernel built without: no_bpf.py PROGRAM ARG..."""
import ctypes
import os
import platform
import struct
import sys

BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
LD_NR, JEQ, RET = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
ALLOW, ENOSYS = 0x7FFF0000, 0x00050000 | 38
code = b"".join(struct.pack("HBBI", *i) for i in ((LD_NR, 0, 0, 0), (JEQ, 0, 1, BPF), (RET, 0, 0, ENOSYS), (RET, 0, 0, ALLOW)))
filters = ctypes.create_string_buffer(code)
prog = struct.pack("HP", len(code) // 8, ctypes.addressof(filters))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(22, 2, ctypes.create_string_buffer(prog), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    sys.exit(f"no_bpf.py: prctl: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[1], sys.argv[1:])
