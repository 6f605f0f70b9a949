/* SPDX-License-Identifier: MIT */
/* The fake port (fake_port.h). */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"

#include "fake_port.h"

#define INT3 0xcc

struct fake_port fake;

/* The watch. A byte is unsynced if it was written in the present epoch. */
static struct {
	uint8_t *text;
	size_t size;
	struct fake_site *sites;
	size_t n;
	uint32_t *written_in; /* by byte of text: the epoch */
	uint32_t epoch;       /* grows with each core sync that succeeds */
} watch;

/* Told apart by thread: one that holds the lock already is not to wait for itself. */
static pthread_mutex_t update_lock = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static _Thread_local bool mine;

/* Before each block, which stays reachable: what is kept for good is no leak. */
struct block {
	struct block *next, *prev;
	size_t size;
	size_t unused; /* the block is aligned to 16 */
};

static struct block blocks = {&blocks, &blocks, 0, 0};
static pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER;

static void violation(const char *what)
{
	if (!fake.violation)
		fake.violation = what;
}

void fake_restart(void)
{
	fake.begins = fake.syncs = fake.allocs = fake.alloc_bytes = 0;
	fake.writes = fake.write_calls = 0;
	fake.bytes = fake.idle = fake.injected = fake.reports = fake.nr_events = 0;
	fake.traps_taken = fake.remaps = fake.ends = 0;
	fake.wanted = fake.begun_for = fake.veneers = fake.watches = 0;
	fake.watched = 0;
	fake.report = (struct shunt_report){0};
	fake.violation = NULL;
}

void fake_reset(void)
{
	size_t outstanding = fake.outstanding;

	free(fake.events);
	fake = (struct fake_port){.outstanding = outstanding};
}

static bool fires(struct fake_fault *fault, size_t count)
{
	bool fire = fault->at && (count == fault->at || count == fault->again ||
				  (fault->onwards && count > fault->at));

	fake.injected += fire;
	return fire;
}

static void record(enum fake_event_type type, const struct shunt_write *w, int result)
{
	struct fake_event *e;

	if (fake.quiet)
		return;
	if (fake.nr_events == fake.max_events) {
		fake.max_events = fake.max_events ? 2 * fake.max_events : 64;
		fake.events = realloc(fake.events, fake.max_events * sizeof(*e));
		if (!fake.events)
			abort();
	}
	e = &fake.events[fake.nr_events++];
	*e = (struct fake_event){.type = type, .result = result, .call = fake.write_calls};
	if (w)
		e->write = *w;
}

/* ----------------------------------------------------------------- the watch */

void fake_watch(uint8_t *text, size_t size, const struct fake_site *sites, size_t n)
{
	free(watch.sites);
	free(watch.written_in);
	memset(&watch, 0, sizeof(watch));
	if (!size)
		return;
	watch.text = text;
	watch.size = size;
	watch.n = n;
	watch.epoch = 1;
	watch.sites = calloc(n + 1, sizeof(*sites));
	watch.written_in = calloc(size, sizeof(*watch.written_in));
	if (!watch.sites || !watch.written_in)
		abort();
	if (n)
		memcpy(watch.sites, sites, n * sizeof(*sites));
}

static const struct fake_site *site_at(const uint8_t *addr)
{
	size_t low = 0, high = watch.n;

	while (low < high) {
		size_t mid = (low + high) / 2;
		const struct fake_site *s = &watch.sites[mid];

		if (addr >= s->addr + s->len)
			low = mid + 1;
		else if (addr < s->addr)
			high = mid;
		else
			return s;
	}
	return NULL;
}

static bool is_unsynced(const uint8_t *addr)
{
	return watch.written_in[addr - watch.text] == watch.epoch;
}

static void check_byte(const uint8_t *addr, uint8_t value)
{
	const struct fake_site *s = site_at(addr);

	if (!s) {
		violation("write outside of the sites");
	} else if (addr == s->addr) {
		if (value == INT3 && !fake.has_traps)
			violation("int3 written before traps were taken");
		for (unsigned i = 1; i < s->len && value != INT3; i++)
			if (is_unsynced(s->addr + i))
				violation("first byte written before the tail was synced");
	} else if (s->addr[0] != INT3) {
		violation("tail written without an int3 before it");
	} else if (is_unsynced(s->addr)) {
		violation("tail written before the int3 was synced");
	}
}

/* Whether @w needs no int3, being whole at any moment. */
static bool goes_at_once(const struct shunt_write *w)
{
	const struct fake_site *s = site_at(w->addr);

	if (!s || w->addr + w->len > s->addr + s->len)
		return false;
	return fake.way_now == SHUNT_WAY_ALONE ||
	       (fake.way_now == SHUNT_WAY_ATOMIC && s->addr[0] != INT3 &&
		(uintptr_t)w->addr % 8 + w->len <= 8 &&
		(w->addr != s->addr || w->bytes[0] != INT3));
}

/* ------------------------------------------------------------------ the port */

static void point(void)
{
	if (fake.on_point)
		fake.on_point();
}

static void write_one(const struct shunt_write *w, bool drop)
{
	bool at_once = watch.size && goes_at_once(w);

	for (size_t i = 0; i < w->len; i++) {
		if (watch.size && !at_once)
			check_byte(w->addr + i, w->bytes[i]);
		fake.idle += w->addr[i] == w->bytes[i];
		if (drop && i + 1u == w->len)
			break;
		__atomic_store_n(&w->addr[i], w->bytes[i], __ATOMIC_RELAXED);
		if (watch.size && !at_once && (size_t)(w->addr + i - watch.text) < watch.size)
			watch.written_in[w->addr + i - watch.text] = watch.epoch;
	}
	fake.bytes += w->len;
}

static bool is_first_byte(const struct shunt_write *w)
{
	const struct fake_site *s = watch.size ? site_at(w->addr) : NULL;

	return w->len == 1 && w->bytes[0] != INT3 && (!s || s->addr == w->addr);
}

static void check_vector(const struct shunt_write *w, size_t n)
{
	if (!mine)
		violation("text_write without the update lock");
	if (!fake.begins)
		violation("text_write before poke_begin");
	if (!n)
		violation("text_write of nothing");
	for (size_t i = 0; i < n; i++) {
		if (fake.way_now == SHUNT_WAY_REMAP && !is_first_byte(&w[i]))
			violation("text_write in a batch that goes by remaps");
		if (!w[i].len || w[i].len > sizeof(w[i].bytes))
			violation("text_write of a bad length");
		if (i && w[i - 1].addr + w[i - 1].len > w[i].addr)
			violation("text_write out of order");
	}
}

int shunt_port_text_check(const struct shunt_write *writes, size_t n, size_t stride)
{
	(void)writes;
	(void)n;
	(void)stride;
	if (!mine)
		violation("text_check without the update lock");
	fake.text_checks++;
	return 0;
}

int shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	int ret = 0;

	check_vector(writes, n);
	fake.write_calls++;
	if (fake.on_write)
		fake.on_write();
	if (fires(&fake.write_call, fake.write_calls)) {
		record(FAKE_WRITE, &writes[0], fake.write_call.error);
		return fake.write_call.error;
	}
	for (size_t i = 0; i < n; i++) {
		int error = 0;
		uint8_t old;

		fake.writes++;
		if (fires(&fake.write, fake.writes))
			error = fake.write.error;
		else if ((uintptr_t)fake.unwritable - (uintptr_t)writes[i].addr < writes[i].len)
			error = -SHUNT_EIO;
		record(FAKE_WRITE, &writes[i], error);
		if (error)
			return error;
		point();
		if (shunt_write_is_over(&writes[i], &old) && *writes[i].addr != old &&
		    *writes[i].addr != writes[i].bytes[0])
			ret = -SHUNT_EBUSY; /* somebody else's, and left */
		else
			write_one(&writes[i], fake.writes == fake.drop_at);
		point();
	}
	return ret;
}

int shunt_port_core_sync(void)
{
	int error = 0;

	if (!mine)
		violation("core_sync without the update lock");
	fake.syncs++;
	point();
	if (fake.on_sync)
		fake.on_sync();
	if (fires(&fake.sync, fake.syncs))
		error = fake.sync.error;
	else
		watch.epoch++;
	record(FAKE_SYNC, NULL, error);
	point();
	return error;
}

int shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	unsigned others = fake.flips ? tried & ~(1u << SHUNT_WAY_FLIP) : tried;
	int error = others ? fake.way_after : fake.way;

	if (!mine)
		violation("poke_begin without the update lock");
	if (!n)
		violation("poke_begin for nothing");
	fake.begins++;
	fake.begun_for = n;
	if (fake.flips && flips && !tried)
		error = SHUNT_WAY_FLIP;
	if (error >= 0 && (tried >> error & 1))
		error = -SHUNT_ENOSYS;
	if (fires(&fake.begin, fake.begins))
		error = fake.begin.error;
	record(FAKE_BEGIN, NULL, error);
	fake.way_now = error;
	fake.has_traps = false;
	point();
	return error;
}

int shunt_port_install_handler(void)
{
	if (!mine)
		violation("take_traps without the update lock");
	fake.traps_taken++;
	point();
	if (fires(&fake.take_traps, fake.traps_taken))
		return fake.take_traps.error;
	fake.has_traps = true;
	point();
	return 0;
}

/*
 * Whole sites at a time, as far as the fault lets it come. A thread runs a page's old copy
 * or the new one, so that no tail is left for a sync to tell of.
 */
int shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride)
{
	const char *at = (const char *)writes;
	const uint8_t *last = NULL;
	bool fails;

	if (!mine)
		violation("text_remap without the update lock");
	if (fake.way_now != SHUNT_WAY_REMAP)
		violation("text_remap in a batch that goes another way");
	fake.remaps++;
	fails = fires(&fake.remap, fake.remaps);
	for (size_t i = 0; i < n; i++, at += stride) {
		const struct shunt_write *w = (const struct shunt_write *)at;

		point();
		if (fails && i == fake.remap_part)
			break;
		if (w->addr < last)
			violation("text_remap out of order");
		last = w->addr + w->len;
		for (size_t b = 0; b < w->len; b++)
			__atomic_store_n(&w->addr[b], w->bytes[b], __ATOMIC_RELAXED);
	}
	record(FAKE_REMAP, writes, fails ? fake.remap.error : 0);
	point();
	return fails ? fake.remap.error : 0;
}

void shunt_port_poke_end(void)
{
	if (!mine)
		violation("poke_end without the update lock");
	fake.ends++;
	point();
}

int shunt_port_lock(void)
{
	if (pthread_mutex_lock(&update_lock))
		return -SHUNT_EDEADLK;
	mine = true;
	fake.locked = true;
	if (fake.on_lock)
		fake.on_lock();
	return 0;
}

void shunt_port_unlock(void)
{
	if (!mine) {
		violation("unlock of a lock that is not held");
		return;
	}
	mine = false;
	fake.locked = false;
	(void)pthread_mutex_unlock(&update_lock);
}

static void link_block(struct block *b)
{
	pthread_mutex_lock(&blocks_lock);
	b->next = blocks.next;
	b->prev = &blocks;
	b->next->prev = b->prev->next = b;
	fake.outstanding++;
	pthread_mutex_unlock(&blocks_lock);
}

static void unlink_block(struct block *b)
{
	pthread_mutex_lock(&blocks_lock);
	b->next->prev = b->prev;
	b->prev->next = b->next;
	fake.outstanding--;
	pthread_mutex_unlock(&blocks_lock);
}

void *shunt_port_alloc(size_t size)
{
	struct block *b;

	if (!mine && !fake.free_alloc)
		violation("alloc without the update lock");
	if (!size)
		violation("alloc of nothing");
	fake.allocs++;
	if (fires(&fake.alloc, fake.allocs))
		return NULL;
	b = calloc(1, sizeof(*b) + size);
	if (!b)
		return NULL;
	b->size = size;
	fake.alloc_bytes += size;
	link_block(b);
	return b + 1;
}

void shunt_port_free(void *p, size_t size)
{
	struct block *b = (struct block *)p - 1;

	if (!p)
		return;
	if (b->size != size)
		violation("free of another size than was allocated");
	unlink_block(b);
	free(b);
}

uintptr_t shunt_port_veneer(uintptr_t near, uintptr_t target)
{
	if (!mine)
		violation("veneer without the update lock");
	fake.veneers++;
	return fake.veneer ? fake.veneer(near, target) : 0;
}

int shunt_port_watch(uintptr_t target)
{
	if (mine)
		violation("watch with the update lock held");
	fake.watches++;
	fake.watched = target;
	return 0;
}

void shunt_port_sites_wanted(void)
{
	if (!mine)
		violation("sites_wanted without the update lock");
	fake.wanted++;
	if (fake.on_wanted)
		fake.on_wanted();
}

int shunt_port_is_trampoline(uintptr_t func)
{
	(void)func;
	return 0;
}

int shunt_port_overlaps_trampoline(uintptr_t addr, size_t len)
{
	(void)addr;
	(void)len;
	if (!mine)
		violation("overlaps_trampoline without the update lock");
	return 0;
}

bool shunt_port_registers_modules(void)
{
	return fake.registers;
}

int shunt_port_is_own_key(const void *key)
{
	if (!mine)
		violation("is_own_key without the update lock");
	return key != fake.others_key;
}

int shunt_port_sites_unknown(struct shunt_static_key *key, const char **what)
{
	(void)key;
	if (!mine)
		violation("sites_unknown without the update lock");
	*what = "fake: not known";
	return -SHUNT_EAGAIN;
}

void shunt_port_report(const struct shunt_report *report)
{
	if (mine)
		violation("report with the update lock held");
	fake.reports++;
	fake.report = *report;
}

int fake_teardown(void **state)
{
	(void)state;
	fake_watch(NULL, 0, NULL, 0);
	fake_reset();
	return 0;
}
