/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/task.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

const char *const tk_phase_names[TK_PHASE_MAX] = {
	"new",    "image", "prepare", "ready", "create", "attach", "start",
	"health", "run",   "flows",   "stop",  "kill",   "end",
};

static struct tk_action *act(struct tk_actions *out, enum tk_action_kind kind)
{
	struct tk_action *a = &out->v[out->n++];
	*a = (struct tk_action){ .kind = kind };
	return a;
}

static void timer(struct tk_actions *out, int64_t ms)
{
	act(out, TK_A_TIMER)->ms = ms;
}

MESH_PRINTF(5, 6)
static void status(struct tk *t, struct tk_actions *out, int state, const char *msg, const char *fmt, ...)
{
	/* After a restart the early steps run again, and were reported; an end is told once, by who knew first. */
	if (state < t->state || t->state > MD_TASK_RUNNING)
		return;
	t->state = state;
	if (state > MD_TASK_RUNNING)
		t->traffic = MD_TRAFFIC_NONE;
	struct tk_action *a = act(out, TK_A_STATUS);
	a->state = state;
	a->traffic = t->traffic;
	snprintf(a->msg, sizeof(a->msg), "%s", msg);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(a->err, sizeof(a->err), fmt, ap);
	va_end(ap);
}

static void end(struct tk *t, struct tk_actions *out)
{
	t->phase = TK_END;
	timer(out, 0);
	if (t->remove)
		act(out, TK_A_FORGET);
}

static void reject(struct tk *t, struct tk_actions *out, const char *text)
{
	status(t, out, MD_TASK_REJECTED, "preparing", "%s", text ? text : "");
	end(t, out);
}

static void begin_start(struct tk *t, struct tk_actions *out)
{
	t->phase = TK_CREATE;
	status(t, out, MD_TASK_STARTING, "starting", "%s", "");
	timer(out, TK_CREATE_MS);
	act(out, TK_A_SPAWN);
}

static void begin_kill(struct tk *t, struct tk_actions *out)
{
	t->phase = TK_KILL;
	act(out, TK_A_KILL);
	timer(out, TK_KILL_MS);
}

static void begin_stop(struct tk *t, struct tk_actions *out, int64_t grace_ms)
{
	act(out, TK_A_HEALTH_STOP);
	if (grace_ms <= 0) {
		begin_kill(t, out);
		return;
	}
	t->phase = TK_STOP;
	act(out, TK_A_SIGNAL);
	timer(out, grace_ms);
}

/* The manager wants it to end. What took traffic goes only when all nodes know, and its connections may end. */
static void want_end(struct tk *t, struct tk_actions *out)
{
	switch (t->phase) {
	case TK_NEW:
	case TK_IMAGE:
	case TK_PREPARE:
	case TK_READY:
		status(t, out, MD_TASK_SHUTDOWN, "shutdown", "%s", "");
		end(t, out);
		return;
	case TK_CREATE:
	case TK_ATTACH:
	case TK_START:
		t->ordered = true;
		begin_kill(t, out);
		return;
	case TK_HEALTH:
	case TK_RUN:
		if (t->traffic == MD_TRAFFIC_SERVING && !t->drained)
			return;
		t->ordered = true;
		if (t->traffic != MD_TRAFFIC_SERVING) {
			begin_stop(t, out, t->grace_ms);
			return;
		}
		t->phase = TK_FLOWS;
		timer(out, t->grace_ms);
		act(out, TK_A_WATCH_FLOWS);
		return;
	case TK_STOP:
	case TK_KILL:
		t->ordered = true;
		return;
	default:
		return;
	}
}

static void on_assign(struct tk *t, const struct tk_event *e, struct tk_actions *out)
{
	if (e->desired > t->desired)
		t->desired = e->desired;
	t->drained |= e->drained;
	if (t->desired > MD_TASK_RUNNING) {
		want_end(t, out);
	} else if (t->phase == TK_NEW) {
		t->phase = TK_IMAGE;
		status(t, out, MD_TASK_ACCEPTED, "accepted", "%s", "");
		status(t, out, MD_TASK_PREPARING, "preparing", "%s", "");
		act(out, TK_A_PULL);
	} else if (t->phase == TK_READY && t->desired == MD_TASK_RUNNING) {
		begin_start(t, out);
	}
}

static void on_started(struct tk *t, struct tk_actions *out)
{
	bool again = t->phase == TK_RUN; /* adopted after a restart of meshd: take up the watching */
	if (t->phase == TK_CREATE && !t->attached) {
		t->attached = true;
		act(out, TK_A_ATTACH);
	}
	timer(out, 0);
	if (t->has_health && !again) {
		t->phase = TK_HEALTH;
		t->traffic = MD_TRAFFIC_STARTING;
		status(t, out, MD_TASK_STARTING, "starting: waiting for the health check", "%s", "");
	} else if (!again) {
		t->phase = TK_RUN;
		t->traffic = t->has_ports ? MD_TRAFFIC_STARTING : MD_TRAFFIC_SERVING;
		status(t, out, MD_TASK_RUNNING, "started", "%s", "");
	}
	if (t->has_health)
		act(out, TK_A_HEALTH);
	if (t->phase == TK_RUN && t->traffic == MD_TRAFFIC_STARTING && !t->has_health) {
		timer(out, TK_LISTEN_MS);
		act(out, TK_A_WATCH_LISTEN);
	}
	if (t->desired > MD_TASK_RUNNING)
		want_end(t, out);
}

static void serve(struct tk *t, struct tk_actions *out, const char *msg)
{
	t->traffic = MD_TRAFFIC_SERVING;
	timer(out, 0);
	status(t, out, MD_TASK_RUNNING, msg, "%s", "");
}

static void on_timeout(struct tk *t, struct tk_actions *out)
{
	switch (t->phase) {
	case TK_CREATE:
	case TK_ATTACH:
	case TK_START:
		t->timed_out = true;
		begin_kill(t, out);
		break;
	case TK_RUN:
		if (t->traffic == MD_TRAFFIC_STARTING)
			serve(t, out, "started; warning: nothing listens on the target port after 60 s");
		break;
	case TK_FLOWS:
		begin_stop(t, out, t->grace_ms);
		break;
	case TK_STOP:
	case TK_KILL:
		begin_kill(t, out);
		break;
	default:
		break;
	}
}

static void exit_status(struct tk *t, const struct tk_event *e, struct tk_actions *out)
{
	const char *text = e->text ? e->text : "";
	if (t->ordered)
		status(t, out, MD_TASK_SHUTDOWN, "shutdown", "%s", "");
	else if (t->unhealthy)
		status(t, out, MD_TASK_FAILED, "started", "unhealthy container");
	else if (t->timed_out)
		status(t, out, MD_TASK_FAILED, "starting", "starting container failed: timed out");
	else if (e->code < 0)
		status(t, out, MD_TASK_FAILED, t->state >= MD_TASK_RUNNING ? "started" : "starting", "%s%s",
		       t->state >= MD_TASK_RUNNING ? "" : "starting container failed: ", text);
	else if (e->code == 0)
		status(t, out, MD_TASK_COMPLETE, "finished", "%s", "");
	else
		status(t, out, MD_TASK_FAILED, "started", "task: non-zero exit (%d)%s", e->code,
		       e->oom ? ": out of memory" : "");
}

static void on_exit_(struct tk *t, const struct tk_event *e, struct tk_actions *out)
{
	if (!tk_has_shim(t))
		return;
	if (t->phase >= TK_HEALTH)
		act(out, TK_A_HEALTH_STOP);
	if (t->attached)
		act(out, TK_A_DETACH);
	exit_status(t, e, out);
	end(t, out);
}

static void on_remove(struct tk *t, struct tk_actions *out)
{
	if (t->remove)
		return;
	t->remove = t->ordered = true;
	if (t->phase == TK_END) {
		act(out, TK_A_FORGET);
	} else if (tk_has_shim(t)) {
		act(out, TK_A_HEALTH_STOP);
		begin_kill(t, out);
	} else {
		status(t, out, MD_TASK_SHUTDOWN, "shutdown", "%s", "");
		end(t, out);
	}
}

static void on_attached(struct tk *t, const struct tk_event *e, struct tk_actions *out)
{
	if (t->phase != TK_ATTACH)
		return;
	if (e->kind == TK_ATTACHED) {
		t->phase = TK_START;
		act(out, TK_A_GO);
		return;
	}
	act(out, TK_A_DETACH);
	t->attached = false;
	status(t, out, MD_TASK_FAILED, "starting", "network: %s", e->text ? e->text : "failed");
	begin_kill(t, out);
}

void tk_step(struct tk *t, const struct tk_event *e, struct tk_actions *out)
{
	out->n = 0;
	switch (e->kind) {
	case TK_ASSIGN:
		on_assign(t, e, out);
		break;
	case TK_IMAGE_OK:
		if (t->phase != TK_IMAGE)
			break;
		t->phase = TK_PREPARE;
		act(out, TK_A_PREPARE);
		break;
	case TK_IMAGE_FAILED:
		if (t->phase == TK_IMAGE)
			reject(t, out, e->text);
		break;
	case TK_PREPARED:
		if (t->phase != TK_PREPARE)
			break;
		t->phase = TK_READY;
		status(t, out, MD_TASK_READY, "prepared", "%s", "");
		if (t->desired == MD_TASK_RUNNING)
			begin_start(t, out);
		break;
	case TK_PREPARE_FAILED:
		if (t->phase == TK_PREPARE)
			reject(t, out, e->text);
		break;
	case TK_CREATED:
		if (t->phase != TK_CREATE)
			break;
		t->phase = TK_ATTACH;
		t->attached = true;
		act(out, TK_A_ATTACH);
		break;
	case TK_ATTACHED:
	case TK_ATTACH_FAILED:
		on_attached(t, e, out);
		break;
	case TK_STARTED:
		if (t->phase == TK_CREATE || t->phase == TK_START || t->phase == TK_RUN)
			on_started(t, out);
		break;
	case TK_HEALTHY:
		if (t->phase == TK_HEALTH) {
			t->phase = TK_RUN;
			serve(t, out, "started");
		}
		break;
	case TK_UNHEALTHY:
		if (t->phase != TK_HEALTH && t->phase != TK_RUN)
			break;
		t->unhealthy = true;
		t->traffic = MD_TRAFFIC_STARTING;
		status(t, out, t->state, "unhealthy, stopping", "%s", "");
		begin_stop(t, out, t->grace_ms);
		break;
	case TK_LISTENING:
		if (t->phase == TK_RUN && t->traffic == MD_TRAFFIC_STARTING)
			serve(t, out, "started");
		break;
	case TK_FLOWS_ENDED:
		if (t->phase == TK_FLOWS)
			begin_stop(t, out, t->grace_ms);
		break;
	case TK_TIMEOUT:
		on_timeout(t, out);
		break;
	case TK_EXIT:
		on_exit_(t, e, out);
		break;
	case TK_USER_STOP:
		if (tk_running(t) && t->phase < TK_STOP)
			begin_stop(t, out, e->ms);
		break;
	case TK_REMOVE:
		on_remove(t, out);
		break;
	case TK_EVENT_MAX:
		break;
	}
}
