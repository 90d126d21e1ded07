/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    mesh-shim, one small process a task: owns its namespaces, overlay mount, stdio and exit code, so
 *          that the task outlives meshd. Static, libc only; no allocation after start.
 * Input:   fd 3 a connected stream socket to meshd, fd 4 a memfd with the configuration (conf_read). Nothing
 *          secret touches the disk.
 * Talk:    lines. Shim: "created PID", "running PID NS", "exit CODE OOM START_NS END_NS TEXT". meshd: "go", "sig N",
 *          "abort", "resize ROWS COLS". A meshd that starts later connects to TASK/sock and is told the
 *          newest line first. Nobody listening is no error: TASK/exit says the same as the last line.
 * Attach:  who connects to TASK/attach says one byte (1 input, 2 stdout, 4 stderr), then gets the output as docker
 *          frames it (a terminal's as it is) from now to the end, and gives input. One who does not read for
 *          ATTACH_PATIENCE seconds is let go.
 * Exit:    "exit" is said, then TASK/exit is written (temporary file, fsync, rename); TASK/lock is held until
 *          the runtime's state is deleted and the shim ends.
 */
#ifndef CONTROL_AGENT_SHIM_SHIM_H
#define CONTROL_AGENT_SHIM_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SHIM_SOCK_FD 3
#define SHIM_CONF_FD 4
#define SHIM_DNS_UDP_FD 100
#define SHIM_DNS_TCP_FD 101
#define SHIM_LINE_MAX 512

struct conf {
	const char *dir;     /* TASK; made the working directory, and the bundle */
	const char *id;      /* container id */
	const char *runtime; /* crun */
	const char *root;    /* its --root */
	const char *lower;   /* image root filesystem */
	const char *mask;    /* file to cover with an empty one while the runtime looks, "" = none */
	const char *oom;     /* file with the line "oom_kill N" */
	const char *kill;    /* cgroup.kill of the task, "" = none */
	bool netns, dns, tty, stdin_open, stdin_once, log;
	long log_max;
	int log_files;
	const uint8_t *files; /* rest of the configuration: struct shim_file and bytes, for a tmpfs */
	size_t files_len;
};
/* In the configuration, after the keys; len bytes follow. */
struct shim_file {
	uint32_t uid, gid, mode, len;
	char name[16];
};

/* ---- conf.c ---- */
int conf_read(int fd, struct conf *c);

/* ---- setup.c: namespaces and mounts; 0 or -1 with why ---- */
int setup_all(const struct conf *c, char why[SHIM_LINE_MAX]);

/* ---- logw.c: the task's log, rotated ---- */
#define LOGW_LINE 16384
#define LOGW_PATH "log"
struct logw {
	int fd;
	long size, max;
	int files;
	struct {
		char buf[LOGW_LINE];
		size_t len;
	} part[2];
	char out[2 * LOGW_LINE + 256];
	size_t out_len;
};
/* In the working directory. max 0: never rotated. */
void logw_open(struct logw *w, long max, int files);
/* stream 0 stdout, 1 stderr. Buffers; logw_flush writes. */
void logw_put(struct logw *w, int stream, const char *p, size_t n, int64_t now_ns);
void logw_flush(struct logw *w);
/* What stands without a newline goes out too. */
void logw_end(struct logw *w, int64_t now_ns);

/* ---- attach.c: clients of the container's stdio ---- */
#define N_ATTACH 8
#define ATTACH_PATIENCE 10
struct pollfd;
/* In the working directory. in: the writing end of its input or the terminal, -1 for none; owned from here. */
int attach_open(bool tty);
void attach_input(int in, bool once);
/* Fills at most 2 + N_ATTACH entries; attach_polled gets them back in the same order. */
int attach_poll(struct pollfd *f);
void attach_polled(const struct pollfd *f);
/* stream 0 stdout, 1 stderr. Blocks while a client does not read. */
void attach_put(int stream, const char *p, size_t n);
/* The end of all output. */
void attach_close(void);

/* ---- init.c: PID 1 of a container that asked for one ---- */
int init_main(char **argv);

#endif
