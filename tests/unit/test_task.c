/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "base/mem.h"
#include "control/agent/task.h"

static const char *const action_names[] = { "status",      "pull",  "prepare",      "spawn", "attach",
	                                    "detach",      "go",    "watch_listen", "flows", "health",
	                                    "health_stop", "timer", "signal",       "kill",  "forget" };

/* A script is a line of events; the actions come back as text: "status:running/serving timer:0 ..." */
static void play_one(struct tk *t, const char *word, char *out, size_t cap)
{
	static const struct {
		const char *name;
		struct tk_event e;
	} table[] = {
		{ "run", { .kind = TK_ASSIGN, .desired = MD_TASK_RUNNING } },
		{ "ready", { .kind = TK_ASSIGN, .desired = MD_TASK_READY } },
		{ "stop", { .kind = TK_ASSIGN, .desired = MD_TASK_SHUTDOWN } },
		{ "stop+drained", { .kind = TK_ASSIGN, .desired = MD_TASK_SHUTDOWN, .drained = true } },
		{ "image", { .kind = TK_IMAGE_OK } },
		{ "noimage", { .kind = TK_IMAGE_FAILED, .text = "No such image: x" } },
		{ "prepared", { .kind = TK_PREPARED } },
		{ "unprepared", { .kind = TK_PREPARE_FAILED, .text = "bad mount" } },
		{ "created", { .kind = TK_CREATED } },
		{ "attached", { .kind = TK_ATTACHED } },
		{ "unattached", { .kind = TK_ATTACH_FAILED, .text = "no net" } },
		{ "started", { .kind = TK_STARTED } },
		{ "healthy", { .kind = TK_HEALTHY } },
		{ "unhealthy", { .kind = TK_UNHEALTHY } },
		{ "listening", { .kind = TK_LISTENING } },
		{ "flows", { .kind = TK_FLOWS_ENDED } },
		{ "timeout", { .kind = TK_TIMEOUT } },
		{ "exit0", { .kind = TK_EXIT } },
		{ "exit7", { .kind = TK_EXIT, .code = 7 } },
		{ "oom", { .kind = TK_EXIT, .code = 137, .oom = true } },
		{ "died", { .kind = TK_EXIT, .code = -1, .text = "supervisor died" } },
		{ "userstop", { .kind = TK_USER_STOP, .ms = 300 } },
		{ "remove", { .kind = TK_REMOVE } },
	};
	struct tk_actions a;
	size_t i = 0;
	while (i < ARRAY_SIZE(table) && strcmp(table[i].name, word))
		i++;
	assert_true(i < ARRAY_SIZE(table));
	tk_step(t, &table[i].e, &a);
	assert_true(a.n <= ARRAY_SIZE(a.v));
	out[0] = 0;
	for (size_t k = 0; k < a.n; k++) {
		size_t n = strlen(out);
		const struct tk_action *v = &a.v[k];
		n += (size_t)snprintf(out + n, cap - n, "%s%s", n ? " " : "", action_names[v->kind]);
		if (v->kind == TK_A_STATUS) {
			n += (size_t)snprintf(out + n, cap - n, ":%s", md_task_state_names.names[v->state]);
			if (v->traffic)
				n += (size_t)snprintf(out + n, cap - n, "/%s", md_traffic_names.names[v->traffic]);
			if (v->err[0])
				snprintf(out + n, cap - n, "(%s)", v->err);
		} else if (v->kind == TK_A_TIMER) {
			snprintf(out + n, cap - n, ":%lld", (long long)v->ms);
		}
	}
}

/* Plays all of events; the last one's actions must be want. */
static void play(struct tk *t, const char *events, const char *want)
{
	char copy[512], out[2048] = "", *save = NULL;
	snprintf(copy, sizeof(copy), "%s", events);
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		play_one(t, w, out, sizeof(out));
	if (strcmp(out, want))
		fail_msg("after '%s':\n  got  %s\n  want %s", events, out, want);
}

#define UP "run image prepared created attached started"

static void test_moves(void **state)
{
	static const struct {
		bool health, ports;
		const char *events, *want;
	} table[] = {
		{ 0, 0, "run", "status:accepted status:preparing pull" },
		{ 0, 0, "run image", "prepare" },
		{ 0, 0, "run noimage", "status:rejected(No such image: x) timer:0" },
		{ 0, 0, "run image unprepared", "status:rejected(bad mount) timer:0" },
		{ 0, 0, "run image prepared", "status:ready status:starting timer:120000 spawn" },
		{ 0, 0, "ready image prepared", "status:ready" },
		{ 0, 0, "ready image prepared run", "status:starting timer:120000 spawn" },
		{ 0, 0, "run image prepared created", "attach" },
		{ 0, 0, "run image prepared created attached", "go" },
		{ 0, 0, UP, "timer:0 status:running/serving" },
		{ 0, 1, UP, "timer:0 status:running/starting timer:60000 watch_listen" },
		{ 0, 1, UP " listening", "timer:0 status:running/serving" },
		{ 0, 1, UP " timeout", "timer:0 status:running/serving" },
		{ 1, 1, UP, "timer:0 status:starting/starting health" },
		{ 1, 1, UP " listening", "" },
		{ 1, 1, UP " healthy", "timer:0 status:running/serving" },
		{ 1, 0, UP " healthy healthy", "" },
		{ 1, 0, UP " healthy unhealthy", "status:running/starting health_stop signal timer:5000" },
		{ 1, 0, UP " unhealthy exit0", "health_stop detach status:failed(unhealthy container) timer:0" },
		/* the end by itself */
		{ 0, 0, UP " exit0", "health_stop detach status:complete timer:0" },
		{ 0, 0, UP " exit7", "health_stop detach status:failed(task: non-zero exit (7)) timer:0" },
		{ 0, 0, UP " oom",
		  "health_stop detach status:failed(task: non-zero exit (137): out of memory) timer:0" },
		{ 0, 0, UP " died", "health_stop detach status:failed(supervisor died) timer:0" },
		{ 0, 0, "run image prepared died",
		  "status:failed(starting container failed: supervisor died) timer:0" },
		{ 0, 0, UP " exit0 exit7", "" },
		/* ordered */
		{ 0, 0, "stop", "status:shutdown timer:0" },
		{ 0, 0, "run stop", "status:shutdown timer:0" },
		{ 0, 0, "run stop image", "" },
		{ 0, 0, "run image prepared stop", "kill timer:10000" },
		{ 0, 0, "run image prepared stop died", "health_stop status:shutdown timer:0" },
		{ 0, 0, UP " stop", "" },
		{ 0, 0, UP " stop stop+drained", "timer:5000 flows" },
		{ 0, 0, UP " stop+drained flows", "health_stop signal timer:5000" },
		{ 0, 0, UP " stop+drained timeout", "health_stop signal timer:5000" },
		{ 0, 0, UP " stop+drained flows timeout", "kill timer:10000" },
		{ 0, 0, UP " stop+drained flows timeout timeout", "kill timer:10000" },
		{ 0, 0, UP " stop+drained flows exit7", "health_stop detach status:shutdown timer:0" },
		{ 0, 0, UP " stop run", "" },
		/* what never took traffic needs no drain */
		{ 0, 1, UP " stop", "health_stop signal timer:5000" },
		{ 1, 0, UP " stop", "health_stop signal timer:5000" },
		/* network */
		{ 0, 0, "run image prepared created unattached",
		  "detach status:failed(network: no net) kill timer:10000" },
		{ 0, 0, "run image prepared created unattached died", "health_stop timer:0" },
		/* create hangs */
		{ 0, 0, "run image prepared timeout", "kill timer:10000" },
		{ 0, 0, "run image prepared timeout died",
		  "health_stop status:failed(starting container failed: timed out) timer:0" },
		/* the user */
		{ 0, 0, UP " userstop", "health_stop signal timer:300" },
		{ 0, 0, UP " userstop exit0", "health_stop detach status:complete timer:0" },
		/* removal */
		{ 0, 0, UP " remove", "health_stop kill timer:10000" },
		{ 0, 0, UP " remove exit7", "health_stop detach status:shutdown timer:0 forget" },
		{ 0, 0, "run remove", "status:shutdown timer:0 forget" },
		{ 0, 0, UP " exit7 remove", "forget" },
		{ 0, 0, UP " exit7 remove remove", "" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct tk t = { .has_health = table[i].health, .has_ports = table[i].ports, .grace_ms = 5000 };
		play(&t, table[i].events, table[i].want);
	}
}

static void test_adopted(void **state)
{
	(void)state;
	struct tk t = { .phase = TK_RUN, .state = MD_TASK_RUNNING, .traffic = MD_TRAFFIC_SERVING, .attached = true };
	play(&t, "started", "timer:0");
	t = (struct tk){ .phase = TK_RUN, .state = MD_TASK_RUNNING, .traffic = MD_TRAFFIC_STARTING, .has_ports = true };
	play(&t, "started", "timer:0 timer:60000 watch_listen");
	t = (struct tk){ .phase = TK_CREATE, .state = MD_TASK_STARTING };
	play(&t, "started", "attach timer:0 status:running/serving");
	t = (struct tk){ .phase = TK_RUN, .state = MD_TASK_RUNNING, .desired = MD_TASK_SHUTDOWN, .has_health = true };
	play(&t, "started", "timer:0 health health_stop kill timer:10000"); /* grace 0 */
}

/* Whatever comes in whatever order: states move forward, and a spawned shim is followed to its end. */
static void test_random_walks(void **state)
{
	(void)state;
	struct mesh_rng rng;
	for (uint64_t seed = 0; seed < 3000; seed++) {
		struct tk t = { .grace_ms = 100, .has_health = seed & 1, .has_ports = seed & 2 };
		int last = 0;
		bool spawned = false, over = false, forgot = false;
		mesh_rng_seed(&rng, seed);
		for (int i = 0; i < 60; i++) {
			struct tk_actions a;
			struct tk_event e = { .kind = (enum tk_event_kind)mesh_rng_below(&rng, TK_EVENT_MAX),
				              .desired = mesh_rng_below(&rng, 4) ? MD_TASK_RUNNING : MD_TASK_SHUTDOWN,
				              .drained = mesh_rng_below(&rng, 2),
				              .code = (int)mesh_rng_below(&rng, 3) - 1,
				              .ms = 5 };
			if (e.kind == TK_EXIT && !spawned)
				continue;
			tk_step(&t, &e, &a);
			for (size_t k = 0; k < a.n; k++) {
				const struct tk_action *v = &a.v[k];
				assert_false(forgot);
				if (v->kind == TK_A_STATUS) {
					assert_true(v->state >= last);
					last = v->state;
				}
				spawned |= v->kind == TK_A_SPAWN;
				forgot |= v->kind == TK_A_FORGET;
			}
			over |= e.kind == TK_EXIT;
			if (spawned && !over)
				assert_int_not_equal(t.phase, TK_END);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_adopted),
		cmocka_unit_test(test_random_walks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
