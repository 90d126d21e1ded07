// SPDX-License-Identifier: GPL-2.0-or-later
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>

#include "base/log.h"
#include "dataplane/ebpf/handover.h"

/* ---- numbers ---- */

static uint32_t number(const uint32_t *map, uint32_t n, uint32_t old)
{
	return old < n ? map[old] : 0;
}

static void renumber_free(struct renumber *r)
{
	free(r->backend);
	free(r->service);
	*r = (struct renumber){ 0 };
}

/* Of the field that names a backend or a service in what was converted. */
static void renumber_field(struct btype t, const char *field, const uint32_t *map, uint32_t n, uint8_t *value)
{
	uint32_t at, v;

	struct btype m = btype_member(t, field, &at);

	if (!m.id || btype_size(m) != sizeof(v))
		return;
	memcpy(&v, value + at, sizeof(v));
	v = number(map, n, v);
	memcpy(value + at, &v, sizeof(v));
}

/* ---- services, backends and their tables: into h's memory ---- */

static bool is_zero(const uint8_t *p, size_t n)
{
	return !n || (!p[0] && !memcmp(p, p + 1, n - 1));
}

/* Element i as to has it; what was never written is zero there, too. */
static int get_as(struct lmap *m, uint32_t i, struct btype to, void *out)
{
	CLEAN_FREE uint8_t *raw = xcalloc(1, lmap_value_bytes(m));
	int rc = lmap_get(m, i, raw);

	if (rc)
		return rc;
	if (!is_zero(raw, m->value_size))
		return btf_convert(m->value, raw, to, out);
	memset(out, 0, (size_t)btype_size(to));
	return 0;
}

struct old_tables {
	struct lmap chunks;
	struct btype slot; /* the array of a chunk */
	uint32_t slot_at, per, size;
};

static int old_tables_open(struct old_tables *o, const char *dir)
{
	int rc = lmap_open(&o->chunks, dir, "slots", "abi_chunk");

	if (rc)
		return rc;
	o->slot = btype_member(o->chunks.value, "slot", &o->slot_at);
	o->per = o->slot.id ? btype_array(o->slot, &o->size) : 0;
	return o->per && o->size <= sizeof(uint32_t) ? 0 : MESH_E_UNSUPPORTED;
}

/* A slot: a backend, and SLOT_LOOKUP, which is the type's highest bit in every layout. */
static uint32_t slot_of(const struct renumber *r, const uint8_t *raw, uint32_t size)
{
	uint32_t v = 0, lookup = 1u << (size * 8 - 1);

	memcpy(&v, raw, size);
	uint32_t now = number(r->backend, r->n_backends, v & ~lookup);
	return now | (v & lookup ? SLOT_LOOKUP : 0);
}

/* Its copy in h's memory; 0 = none, also when it is no table or there is no room. */
static uint64_t take_table(struct ebpf *h, struct old_tables *o, const struct renumber *r, uint64_t word)
{
	CLEAN_FREE uint8_t *raw = xcalloc(1, lmap_value_bytes(&o->chunks));
	unsigned bits = (unsigned)(word & 0xff);
	uint64_t table = word && bits >= MAGLEV_BITS_MIN && bits <= MAGLEV_BITS_MAX ? lb_table_alloc(h, bits) : 0;
	__auto_type to = lb_table(h, table);

	for (uint32_t i = 0; table && i < 1u << bits; i++) {
		if (i % o->per == 0 && lmap_get(&o->chunks, (uint32_t)(word >> 8) + i / o->per, raw))
			memset(raw, 0, o->chunks.value_size);
		to[i] = (__typeof__(*to))slot_of(r, raw + o->slot_at + (size_t)(i % o->per) * o->size, o->size);
	}
	return table;
}

static int take_backends(struct ebpf *h, const char *old, const struct btf *now, struct renumber *r)
{
	struct btype to = btype_named(now, "abi_backend");
	struct lmap m;
	int rc = lmap_open(&m, old, "backends", "abi_backend");

	r->n_backends = rc ? 0 : m.max;
	r->backend = xcalloc(r->n_backends + 1, sizeof(*r->backend));
	for (uint32_t i = 1; i < r->n_backends && !rc; i++) {
		struct abi_backend b;
		rc = get_as(&m, i, to, &b);
		if (rc || b.state == BACKEND_FREE || b.state == BACKEND_GONE)
			continue;
		b.service = number(r->service, r->n_services, b.service);
		uint32_t at = b.service ? lb_backend_alloc(h) : 0;
		if (at)
			*backend_at(h, at) = b;
		r->backend[i] = at;
	}
	lmap_close(&m);
	return rc;
}

static int take_services(struct ebpf *h, const char *old, const struct btf *now, struct renumber *r)
{
	struct btype to = btype_named(now, "abi_service");
	struct lmap m;
	uint32_t at = 1;
	int rc = lmap_open(&m, old, "services", "abi_service");

	r->n_services = rc ? 0 : m.max;
	r->service = xcalloc(r->n_services + 1, sizeof(*r->service));
	for (uint32_t i = 1; i < r->n_services && !rc; i++) {
		struct abi_service s;
		rc = get_as(&m, i, to, &s);
		if (rc || !s.key || at >= h->n_services)
			continue;
		h->services[at] = s;
		r->service[i] = at++;
	}
	lmap_close(&m);
	return rc;
}

static int take_tables(struct ebpf *h, const char *old, const struct renumber *r)
{
	struct old_tables o = { 0 };
	int rc = old_tables_open(&o, old);

	for (uint32_t i = 1; i < h->n_services && h->services[i].key; i++) {
		struct abi_service *s = &h->services[i];
		s->cur = rc ? 0 : take_table(h, &o, r, s->cur);
		s->prev = rc ? 0 : take_table(h, &o, r, s->prev);
	}
	lmap_close(&o.chunks);
	return rc;
}

static int take_runtime(struct ebpf *h, const char *old, const struct btf *now)
{
	struct lmap m;
	struct abi_runtime rt = { 0 };
	int rc = lmap_open(&m, old, "runtime", "abi_runtime");

	rc = rc ? rc : get_as(&m, 0, btype_named(now, "abi_runtime"), &rt);
	lmap_close(&m);
	if (!rc)
		*h->runtime = (struct abi_runtime){ .ingress_vni = rt.ingress_vni, .phase = PHASE_BEFORE };
	return rc;
}

/* ---- hash maps: from pin to pin ---- */

struct copy {
	struct lmap from, to;
	const struct renumber *r;
	uint8_t *key, *value, *there;
	size_t n, full;
};

/* Of two the younger stays; without a time, who is there. */
static bool is_younger(const struct copy *c)
{
	uint32_t at;
	uint64_t a, b;

	if (!btype_member(c->to.value, "seen_ns", &at).id)
		return false;
	memcpy(&a, c->value + at, sizeof(a));
	memcpy(&b, c->there + at, sizeof(b));
	return a > b;
}

static int copy_entry(void *arg, const void *key, const void *value)
{
	struct copy *c = arg;
	int rc = btf_convert(c->from.key, key, c->to.key, c->key);

	rc = rc ? rc : btf_convert(c->from.value, value, c->to.value, c->value);
	if (rc)
		return rc;
	renumber_field(c->to.key, "service", c->r->service, c->r->n_services, c->key);
	renumber_field(c->to.value, "backend", c->r->backend, c->r->n_backends, c->value);
	renumber_field(c->to.value, "service", c->r->service, c->r->n_services, c->value);
	if (!bpf_map_lookup_elem(c->to.fd, c->key, c->there) && !is_younger(c))
		return 0;
	/* Full: what is new to a table of a smaller size; it says so below. */
	if (bpf_map_update_elem(c->to.fd, c->key, c->value, BPF_ANY))
		c->full++;
	else
		c->n++;
	return 0;
}

static int copy_map(const char *name, const char *old, const char *new, const struct renumber *r, size_t *n)
{
	struct copy c = { .r = r };
	int rc = lmap_open(&c.from, old, name, NULL), to = lmap_open(&c.to, new, name, NULL);

	rc = rc ? rc : to;
	if (!rc) {
		c.key = xcalloc(1, c.to.key_size + 8);
		c.value = xcalloc(1, lmap_value_bytes(&c.to));
		c.there = xcalloc(1, lmap_value_bytes(&c.to));
		rc = lmap_each(&c.from, copy_entry, &c);
	}
	/* The build of before may not have had it. */
	if ((rc && rc != -ENOENT) || c.full)
		log_warn("hand-over map=%s lost=%zu error=%s", name, c.full, mesh_code_text(rc));
	*n += c.n;
	lmap_close(&c.from);
	lmap_close(&c.to);
	free(c.key);
	free(c.value);
	free(c.there);
	return rc;
}

/* What the programs themselves write. A map that cannot be read is a loss that was said; the others go on. */
static size_t copy_flows(const char *old, const char *new, const struct renumber *r)
{
	static const char *const names[] = {
#define X(id, map, key, value) #map,
		ABI_TABLES(X)
#undef X
	};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		(void)copy_map(names[i], old, new, r, &n);
	return n;
}

static int copy_tables(const char *old, const char *new, const struct renumber *r)
{
	static const char *const names[] = { "nodes",     "host_addrs", "subnets", "ifaces",
		                             "endpoints", "vips",       "ports",   "ranges" };
	size_t n = 0;
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names) && !rc; i++)
		rc = copy_map(names[i], old, new, r, &n);
	return rc;
}

static void copy_stats(const char *old, const char *new, const struct renumber *r)
{
	struct lmap from, to;
	int rc = lmap_open(&from, old, "backend_stats", "abi_stats"),
	    rc2 = lmap_open(&to, new, "backend_stats", "abi_stats");

	if (!rc && !rc2) {
		size_t from_one = (from.value_size + 7u) & ~7u, to_one = (to.value_size + 7u) & ~7u;
		size_t cpus = lmap_value_bytes(&to) / to_one;
		CLEAN_FREE uint8_t *a = xcalloc(1, lmap_value_bytes(&from)), *b = xcalloc(1, lmap_value_bytes(&to));
		for (uint32_t i = 1; i < from.max && i < r->n_backends; i++) {
			if (!r->backend[i] || lmap_get(&from, i, a))
				continue;
			for (size_t c = 0; c < cpus && !rc; c++)
				rc = btf_convert(from.value, a + c * from_one, to.value, b + c * to_one);
			if (rc || lmap_set(&to, r->backend[i], b))
				log_debug("hand-over without the counters of backend=%u", r->backend[i]);
		}
	}
	lmap_close(&from);
	lmap_close(&to);
}

/* ---- the programs ---- */

/* As ebpf_map_dir() names them; builds of before left the size out. */
static bool is_map_dir(const char *name)
{
	return strncmp(name, "maps", 4) == 0 && name[4] && !name[4 + strspn(name + 4, "_0123456789")];
}

/* NULL when there are no maps but ours; the caller frees. */
static char *other_layout(const char *pin_dir, const char *own)
{
	DIR *d = opendir(pin_dir);
	char *found = NULL;

	for (struct dirent *de; d && (de = readdir(d));) {
		CLEAN_FREE char *path = xasprintf("%s/%s", pin_dir, de->d_name);
		if (!found && is_map_dir(de->d_name) && !streq(path, own))
			found = TAKE(path);
	}
	if (d)
		closedir(d);
	return found;
}

static int fill(struct ebpf *h, const char *old, struct renumber *r)
{
	struct lmap own;
	int rc = lmap_open(&own, h->map_dir, "services", "abi_service");

	rc = rc ? rc : take_runtime(h, old, own.btf);
	rc = rc ? rc : take_services(h, old, own.btf, r);
	rc = rc ? rc : take_backends(h, old, own.btf, r);
	rc = rc ? rc : take_tables(h, old, r);
	rc = rc ? rc : copy_tables(old, h->map_dir, r);
	shortcuts_fill(h);
	lmap_close(&own);
	return rc;
}

static void set_phase(struct ebpf *h, enum abi_phase phase)
{
	__atomic_store_n(&h->runtime->phase, phase, __ATOMIC_SEQ_CST);
}

static int change_over(struct ebpf *h, const char *old, const char *own, const struct ebpf_config *c,
                       const struct renumber *r, struct mesh_err *err)
{
	size_t n;
	bool gated = ebpf_swap_hooks(h);

	if (!gated)
		log_warn("hand-over without the programs of before: packets of the last moment may be lost");
	n = copy_flows(old, h->map_dir, r);
	set_phase(h, PHASE_COPYING);
	if (rename(h->map_dir, own))
		return mesh_fail(err, -errno, "bpf maps '%s'", own);
	n += copy_flows(old, own, r);
	int rc = c->cgroup ? ebpf_attach_socks(h, c->cgroup, err) : 0;
	n += copy_flows(old, own, r);
	set_phase(h, PHASE_OWN);
	n += copy_flows(old, own, r);
	/* Until whoever read the word before is through. */
	usleep(5000);
	n += copy_flows(old, own, r);
	copy_stats(old, own, r);
	log_info("maps of another layout taken over from=%s to=%s flows=%zu", old, own, n);
	return rc;
}

static int hand_over(const struct ebpf_config *c, const char *old, const char *own, struct mesh_err *err)
{
	CLEAN_FREE char *new = xasprintf("%s_new", own);
	struct renumber r = { 0 };
	struct ebpf *h = NULL;

	ebpf_remove_dir(new);
	int rc = ebpf_open_in(c, new, true, &h, err);
	if (rc)
		return rc;
	rc = fill(h, old, &r);
	if (rc)
		mesh_fail(err, rc, "bpf maps '%s' cannot be taken over", old);
	else
		rc = change_over(h, old, own, c, &r, err);
	renumber_free(&r);
	ebpf_close(h);
	ebpf_remove_dir(new);
	return rc;
}

/* A backend's uid is its own for ever: numbers of a hand-over that was cut short are found again by it. */
static void finish(const char *old, const char *own)
{
	struct lmap from, to;
	struct renumber r = { 0 };
	int rc = lmap_open(&from, old, "backends", "abi_backend"), rc2 = lmap_open(&to, own, "backends", "abi_backend");

	if (!rc && !rc2) {
		struct map by_uid = { 0 };
		struct abi_backend b;
		char uid[16];
		r.n_backends = from.max;
		r.backend = xcalloc(from.max, sizeof(*r.backend));
		for (uint32_t i = 1; i < to.max; i++)
			if (!get_as(&to, i, to.value, &b) && b.uid && snprintf(uid, sizeof(uid), "%u", b.uid))
				map_put(&by_uid, uid, (void *)(uintptr_t)i);
		for (uint32_t i = 1; i < from.max; i++)
			if (!get_as(&from, i, to.value, &b) && b.uid && snprintf(uid, sizeof(uid), "%u", b.uid))
				r.backend[i] = (uint32_t)(uintptr_t)map_get(&by_uid, uid);
		map_fini(&by_uid);
		log_info("the rest of a hand-over from=%s flows=%zu", old, copy_flows(old, own, &r));
	}
	renumber_free(&r);
	lmap_close(&from);
	lmap_close(&to);
}

void ebpf_hand_over(const struct ebpf_config *c, const char *own)
{
	CLEAN_FREE char *old = other_layout(c->pin_dir, own);
	struct mesh_err err = { 0 };

	if (!old)
		return;
	if (access(own, F_OK) == 0) {
		finish(old, own);
	} else {
		int rc = hand_over(c, old, own, &err);
		if (rc)
			log_warn("maps of another layout cannot be taken over, starting with empty ones error=\"%s\"",
			         mesh_err_text(&err, rc));
	}
	ebpf_remove_dir(old);
}
