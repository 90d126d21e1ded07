/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/map.h"
#include "cli/api.h"
#include "cli/progress.h"
#include "cli/units.h"

#define BARS_MAX 20
#define POLL_MS 200
#define BAR_WIDTH 50
/* A manager may be changing its leader: what fails is asked again this long. */
#define PATIENCE_NS (20 * NS_PER_S)

/* ---- lines that are rewritten in place on a terminal, and printed when they change elsewhere ------- */

struct line {
	char *id, *text;
};
struct screen {
	struct VEC(struct line) lines;
	bool tty, quiet;
};

static void screen_line(struct screen *s, const char *id, const char *text)
{
	size_t at = 0;

	if (s->quiet)
		return;
	while (at < s->lines.len && strcmp(s->lines.data[at].id, id))
		at++;
	bool fresh = at == s->lines.len;
	if (fresh) {
		struct line l = { xstrdup(id), xstrdup("") };
		vec_push(&s->lines, l);
		if (s->tty)
			printf("\n");
	} else if (!strcmp(s->lines.data[at].text, text)) {
		return;
	}
	free(s->lines.data[at].text);
	s->lines.data[at].text = xstrdup(text);
	if (s->tty) {
		size_t up = s->lines.len - at;
		printf("\033[%zuA\033[2K\r%s: %s\r\033[%zuB", up, id, text, up);
	} else {
		printf("%s: %s\n", id, text);
	}
	fflush(stdout);
}

static void screen_free(struct screen *s)
{
	for (size_t i = 0; i < s->lines.len; i++) {
		free(s->lines.data[i].id);
		free(s->lines.data[i].text);
	}
	vec_fini(&s->lines);
}

static void bar(char *out, size_t cap, const char *action, int64_t done, int64_t total)
{
	int filled = total > 0 ? (int)(done * 100 / total / 2) : 0;
	char fill[BAR_WIDTH + 1];

	filled = filled > BAR_WIDTH ? BAR_WIDTH : filled < 0 ? 0 : filled;
	memset(fill, '=', sizeof(fill) - 1);
	fill[filled] = 0;
	snprintf(out, cap, "%s [%s>%*s]", action, fill, BAR_WIDTH - filled, "");
}

static bool wide_enough(void)
{
	struct winsize ws;

	return ioctl(1, TIOCGWINSZ, &ws) < 0 || !ws.ws_col || ws.ws_col >= 80;
}

/* ---- states -------------------------------------------------------------------------------------- */

static int state_number(const char *state)
{
	static const char *const states[] = { "",         "new",       "allocated", "pending",  "assigned",
		                              "accepted", "preparing", "ready",     "starting", "running",
		                              "complete", "shutdown",  "failed",    "rejected" };

	for (size_t i = 1; i < ARRAY_SIZE(states); i++)
		if (!strcmp(states[i], state))
			return (int)i;
	return 0;
}
#define RUNNING 9

static bool terminal(const char *state)
{
	return state_number(state) > RUNNING;
}

struct watch {
	struct cli *c;
	struct screen screen;
	const char *name;
	json_t *service, *tasks, *nodes;
	struct map slots; /* slot number as text -> line number */
	bool initialized, done, rollback, bars;
};

static bool node_active(const struct watch *w, const char *id)
{
	json_t *n;
	size_t i;

	json_array_foreach(w->nodes, i, n) if (!strcmp(js(n, "ID"), id)) return strcmp(js(n, "Status.State"), "down") !=
		0;
	return false;
}

static void overall(struct watch *w, int64_t running, int64_t want)
{
	char text[128];

	snprintf(text, sizeof(text), "%s%lld out of %lld tasks", w->rollback ? "rolling back update: " : "",
	         (long long)running, (long long)want);
	screen_line(&w->screen, "overall progress", text);
}

static void task_line(struct watch *w, const json_t *task, const char *id)
{
	char text[160], action[16];
	const char *error = js(task, "Status.Err"), *state = js(task, "Status.State");

	if (w->done)
		return;
	if (*error) {
		size_t n = strlen(error);
		snprintf(text, sizeof(text), "%.*s%s", n > 75 ? 74 : (int)n, error, n > 75 ? "\xe2\x80\xa6" : "");
		for (char *p = text; *p; p++)
			if (*p == '\n')
				*p = ' ';
		screen_line(&w->screen, id, text);
	} else if (w->screen.tty && !terminal(js(task, "DesiredState")) && !terminal(state)) {
		snprintf(action, sizeof(action), "%-9s", state);
		if (w->bars)
			bar(text, sizeof(text), action, state_number(state), RUNNING);
		else
			snprintf(text, sizeof(text), "%s", action);
		screen_line(&w->screen, id, text);
	}
}

/* The task that stands for its slot (or node): lowest desired state, then lowest state. */
static bool stands_before(const json_t *old, const json_t *new)
{
	int od = state_number(js(old, "DesiredState")), nd = state_number(js(new, "DesiredState"));

	if (od != nd)
		return od < nd;
	return state_number(js(old, "Status.State")) <= state_number(js(new, "Status.State"));
}

/* by: "Slot" or "NodeID". Values are borrowed. */
static void pick_tasks(const struct watch *w, const char *by, struct map *out)
{
	json_t *t;
	size_t i;

	json_array_foreach(w->tasks, i, t)
	{
		char key[64];
		const char *node = js(t, "NodeID");
		if (!state_number(js(t, "DesiredState")) || !state_number(js(t, "Status.State")))
			continue;
		if (!strcmp(by, "Slot"))
			snprintf(key, sizeof(key), "%lld", (long long)ji(t, "Slot"));
		else
			snprintf(key, sizeof(key), "%s", node);
		json_t *old = map_get(out, key);
		if ((old && stands_before(old, t)) || (*node && !node_active(w, node)))
			continue;
		map_put(out, key, t);
	}
}

static bool is_running(const json_t *t)
{
	return !terminal(js(t, "DesiredState")) && !strcmp(js(t, "Status.State"), "running");
}

static int64_t count_and_draw(struct watch *w, struct map *by, int64_t want, bool slots)
{
	int64_t running = 0;
	char id[64];

	/* What had converged may have failed since: then its lines are of interest again. */
	MAP_FOREACH(by, e)
		if (w->done && strcmp(js(e->value, "Status.State"), "running"))
			w->done = false;
	MAP_FOREACH(by, e) {
		running += is_running(e->value);
		if (want > BARS_MAX || !*e->key)
			continue;
		if (slots) {
			uintptr_t n = (uintptr_t)map_get(&w->slots, e->key);
			if (!n) {
				n = w->slots.count + 1;
				map_put(&w->slots, e->key, (void *)n);
			}
			if ((int64_t)n > want)
				continue;
			snprintf(id, sizeof(id), "%d/%lld", (int)n, (long long)want);
		} else {
			snprintf(id, sizeof(id), "%.12s", e->key);
		}
		task_line(w, e->value, id);
	}
	return running;
}

static bool update_replicated(struct watch *w)
{
	json_t *r = jo(w->service, "Spec.Mode.Replicated.Replicas");
	int64_t want = r ? json_integer_value(r) : 1;
	struct map by = { 0 };
	char id[48];

	if (!w->initialized) {
		overall(w, 0, want);
		for (int64_t i = 1; i <= want && want <= BARS_MAX; i++) {
			snprintf(id, sizeof(id), "%lld/%lld", (long long)i, (long long)want);
			screen_line(&w->screen, id, " ");
		}
		w->initialized = true;
	}
	pick_tasks(w, "Slot", &by);
	int64_t running = count_and_draw(w, &by, want, true);
	map_fini(&by);
	if (!w->done)
		overall(w, running, want);
	w->done |= running == want;
	return running == want;
}

static bool update_global(struct watch *w)
{
	struct map by = { 0 };

	pick_tasks(w, "NodeID", &by);
	int64_t want = (int64_t)by.count;
	if (!w->initialized) {
		if (!want) {
			map_fini(&by);
			screen_line(&w->screen, "overall progress", "waiting for new tasks");
			return false;
		}
		overall(w, 0, want);
		w->initialized = true;
	}
	int64_t running = count_and_draw(w, &by, want, false);
	map_fini(&by);
	if (!w->done)
		overall(w, running, want);
	w->done |= running == want;
	return running == want;
}

/* Only tasks of the job's present run count. */
static bool of_iteration(const struct watch *w, const json_t *t)
{
	return ji(t, "JobIteration.Index") == ji(w->service, "JobStatus.JobIteration.Index");
}

static bool update_job(struct watch *w)
{
	bool global = jo(w->service, "Spec.Mode.GlobalJob") != NULL;
	int64_t want = ji(w->service, "Spec.Mode.ReplicatedJob.TotalCompletions"), complete = 0, active = 0, total = 0;
	int64_t at_once = ji(w->service, "Spec.Mode.ReplicatedJob.MaxConcurrent");
	char text[160], action[64];
	json_t *t;
	size_t i;

	json_array_foreach(w->tasks, i, t)
	{
		if (!of_iteration(w, t))
			continue;
		bool dead = terminal(js(t, "Status.State"));
		complete += !strcmp(js(t, "Status.State"), "complete");
		active += !dead;
		total += !dead || !strcmp(js(t, "Status.State"), "complete");
	}
	if (global)
		want = total;
	else if (!jo(w->service, "Spec.Mode.ReplicatedJob.TotalCompletions"))
		want = 1;
	if (global && !total) {
		screen_line(&w->screen, "job progress", "waiting for tasks");
		return false;
	}
	snprintf(action, sizeof(action), "%lld out of %lld complete", (long long)complete, (long long)want);
	if (w->screen.tty && w->bars)
		bar(text, sizeof(text), action, complete, want);
	else
		snprintf(text, sizeof(text), "%s", action);
	screen_line(&w->screen, "job progress", text);
	if (!global) {
		int64_t left = want - complete;
		snprintf(text, sizeof(text), "%lld out of %lld tasks", (long long)active,
		         (long long)(at_once && at_once < left ? at_once : left));
		screen_line(&w->screen, "active tasks", text);
	}
	return complete >= want;
}

/* ---- the loop ------------------------------------------------------------------------------------ */

static int fetch(struct watch *w, const char *what, json_t **slot, struct mesh_err *err)
{
	json_t *fresh;
	int rc = api_get(w->c, &fresh, err, "%s", what);

	if (rc < 0)
		return rc;
	json_decref(*slot);
	*slot = fresh;
	return 0;
}

static int fetch_service(struct watch *w, struct mesh_err *err)
{
	CLEAN_FREE char *name = url_dup(w->name);
	CLEAN_FREE char *path = xasprintf("/services/%s?insertDefaults=false", name);

	return fetch(w, path, &w->service, err);
}

static int fetch_rest(struct watch *w, struct mesh_err *err)
{
	JSON_CLEAN f = json_pack("{s:{s:b},s:{s:b}}", "_up-to-date", "true", 1, "service", js(w->service, "ID"), 1);
	CLEAN_FREE char *text = json_line(f);
	CLEAN_FREE char *escaped = url_dup(text);
	CLEAN_FREE char *path = xasprintf("/tasks?filters=%s", escaped);
	int rc = fetch(w, path, &w->tasks, err);

	return rc < 0 ? rc : fetch(w, "/nodes", &w->nodes, err);
}

enum verdict { GO_ON, OVER };

/* What the update says of itself. */
static int look_at_update(struct watch *w, bool converged, enum verdict *v, char *last, size_t cap,
                          struct mesh_err *err)
{
	const char *state = js(w->service, "UpdateStatus.State"), *message = js(w->service, "UpdateStatus.Message");

	*v = GO_ON;
	if (!strcmp(state, "updating")) {
		w->rollback = false;
	} else if (!strcmp(state, "completed")) {
		if (!converged)
			*v = OVER;
	} else if (!strcmp(state, "paused")) {
		return mesh_fail(err, MESH_E_RUNTIME, "service update paused: %s", message);
	} else if (!strcmp(state, "rollback_started")) {
		if (!w->rollback && *message)
			screen_line(&w->screen, "rollback", message);
		w->rollback = true;
	} else if (!strcmp(state, "rollback_paused")) {
		return mesh_fail(err, MESH_E_RUNTIME, "service rollback paused: %s", message);
	} else if (!strcmp(state, "rollback_completed")) {
		if (!converged)
			snprintf(last, cap, "%s", message);
		w->rollback = true;
	}
	return 0;
}

static volatile sig_atomic_t interrupted;
static void on_interrupt(int sig)
{
	(void)sig;
	interrupted = 1;
}

static int64_t mono_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static bool update(struct watch *w, bool *job)
{
	*job = jo(w->service, "Spec.Mode.ReplicatedJob") || jo(w->service, "Spec.Mode.GlobalJob");
	if (*job)
		return update_job(w);
	return jo(w->service, "Spec.Mode.Global") ? update_global(w) : update_replicated(w);
}

static int watch_loop(struct watch *w, struct mesh_err *err)
{
	const struct timespec pause = { .tv_nsec = POLL_MS * 1000000 };
	int64_t converged_at = 0, failing_since = 0;
	bool converged = false, job;
	char last[256] = "", text[128];
	enum verdict v;

	for (;; nanosleep(&pause, NULL)) {
		if (interrupted) {
			if (!converged && !w->screen.quiet)
				printf("Operation continuing in background.\nUse `meshctl service ps %s` to check "
				       "progress.\n",
				       w->name);
			return 0;
		}
		int rc = fetch_service(w, err);
		if (!rc) {
			rc = look_at_update(w, converged, &v, last, sizeof(last), err);
			if (rc < 0 || v == OVER)
				return rc;
			int64_t monitor = ji(w->service, "Spec.UpdateConfig.Monitor");
			if (converged && mono_ns() - converged_at >= (monitor ? monitor : 5 * NS_PER_S)) {
				snprintf(text, sizeof(text), "Service %s converged", w->name);
				screen_line(&w->screen, "verify", text);
				if (*last)
					screen_line(&w->screen, "rollback", last);
				return 0;
			}
			rc = fetch_rest(w, err);
		}
		if (rc < 0) {
			int64_t now = mono_ns();
			failing_since = failing_since ? failing_since : now;
			if (rc == MESH_E_NOT_FOUND || now - failing_since > PATIENCE_NS)
				return rc;
			continue;
		}
		failing_since = 0;
		converged = update(w, &job);
		if (converged && job) {
			if (!w->screen.quiet)
				printf("job complete\n");
			return 0;
		}
		if (converged) {
			converged_at = converged_at ? converged_at : mono_ns();
			int64_t monitor = ji(w->service, "Spec.UpdateConfig.Monitor");
			int64_t wait = (monitor ? monitor : 5 * NS_PER_S) - (mono_ns() - converged_at);
			if (wait >= 0) {
				/* docker rounds down and adds one; just converged must say 5, not 6 */
				int64_t s = (wait - 1) / NS_PER_S + 1;
				snprintf(text, sizeof(text), "Waiting %lld seconds to verify that tasks are stable...",
				         (long long)s);
				screen_line(&w->screen, "verify", text);
			}
		} else {
			if (converged_at)
				screen_line(&w->screen, "verify", "Detected task failure");
			converged_at = 0;
		}
	}
}

int progress_service(struct cli *c, const char *name, bool quiet, struct mesh_err *err)
{
	struct watch w = { .c = c, .name = name, .bars = wide_enough() };
	struct sigaction act = { .sa_handler = on_interrupt }, old;

	w.screen.tty = isatty(1);
	w.screen.quiet = quiet;
	interrupted = 0;
	sigaction(SIGINT, &act, &old);
	int rc = watch_loop(&w, err);
	sigaction(SIGINT, &old, NULL);
	screen_free(&w.screen);
	map_fini(&w.slots);
	json_decref(w.service);
	json_decref(w.tasks);
	json_decref(w.nodes);
	return rc;
}
