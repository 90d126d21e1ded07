/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the life of one task on its node as a pure state machine: (task, event) -> actions. The shell
 *         (agent_uv.c) does the actions and brings back what came of them.
 * Rules:  reported states only move forward; nothing is signalled before it is drained; a shim that was spawned
 *         is always followed to its exit; after TK_END only TK_A_FORGET follows.
 * Pure.   Times are durations in ms; the shell owns the clock. One timer a task: TK_A_TIMER replaces it.
 */
#ifndef CONTROL_AGENT_TASK_H
#define CONTROL_AGENT_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/model/model.h"

enum tk_phase {
	TK_NEW,
	TK_IMAGE,   /* bringing the image in */
	TK_PREPARE, /* directories, files, config.json */
	TK_READY,
	TK_CREATE, /* shim spawned */
	TK_ATTACH, /* container made, network being wired */
	TK_START,  /* told to go */
	TK_HEALTH, /* runs, not yet healthy for the first time */
	TK_RUN,
	TK_FLOWS, /* drained; its open connections may end */
	TK_STOP,  /* stop signal sent */
	TK_KILL,  /* SIGKILL sent */
	TK_END,
	TK_PHASE_MAX
};
extern const char *const tk_phase_names[TK_PHASE_MAX];

enum tk_event_kind {
	TK_ASSIGN,   /* desired, drained */
	TK_IMAGE_OK, /* also code/text for the failures of each step: */
	TK_IMAGE_FAILED,
	TK_PREPARED,
	TK_PREPARE_FAILED,
	TK_CREATED,
	TK_ATTACHED,
	TK_ATTACH_FAILED,
	TK_STARTED,
	TK_HEALTHY,
	TK_UNHEALTHY,
	TK_LISTENING,
	TK_FLOWS_ENDED,
	TK_TIMEOUT,
	TK_EXIT,      /* code, oom, text; code -1: it never ran, or its supervisor died */
	TK_USER_STOP, /* ms: grace */
	TK_REMOVE,
	TK_EVENT_MAX
};
struct tk_event {
	enum tk_event_kind kind;
	int desired;
	bool drained;
	int code;
	bool oom;
	int64_t ms;
	const char *text;
};

enum tk_action_kind {
	TK_A_STATUS, /* state, traffic, msg, err */
	TK_A_PULL,
	TK_A_PREPARE,
	TK_A_SPAWN,
	TK_A_ATTACH,
	TK_A_DETACH,
	TK_A_GO,
	TK_A_WATCH_LISTEN,
	TK_A_WATCH_FLOWS,
	TK_A_HEALTH,
	TK_A_HEALTH_STOP,
	TK_A_TIMER, /* ms; 0 stops it */
	TK_A_SIGNAL,
	TK_A_KILL,
	TK_A_FORGET,
};
struct tk_action {
	enum tk_action_kind kind;
	int state, traffic;
	int64_t ms;
	char msg[160], err[512];
};
struct tk_actions {
	struct tk_action v[12];
	size_t n;
};

#define TK_LISTEN_MS 60000
#define TK_CREATE_MS 120000
#define TK_KILL_MS 10000

struct tk {
	enum tk_phase phase;
	int state, traffic; /* as last reported */
	int desired;
	bool drained;
	/* facts, known before TK_READY */
	bool has_health, has_ports;
	int64_t grace_ms;
	/* what happened */
	bool ordered;   /* the manager asked for the end */
	bool unhealthy; /* why it was stopped */
	bool remove;
	bool attached; /* attach was asked for */
	bool timed_out;
};

void tk_step(struct tk *t, const struct tk_event *e, struct tk_actions *out);
/* Is there, or may there be, a shim? */
static inline bool tk_has_shim(const struct tk *t)
{
	return t->phase >= TK_CREATE && t->phase < TK_END;
}
/* Has its process been started? */
static inline bool tk_running(const struct tk *t)
{
	return t->phase >= TK_HEALTH && t->phase < TK_END;
}

#endif
