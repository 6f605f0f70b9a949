/* SPDX-License-Identifier: MIT */
/* Records of the modules that keys point into. */
#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/format.h"
#include "linux/module/watch_records.h"

static struct shunt_watched *_Atomic watched;

/* Bytes for a name: it stays with its record. */
#define NAME_ROOM 4096

bool shunt_is_watched(uintptr_t target)
{
	struct shunt_watched *w = atomic_load_explicit(&watched, memory_order_acquire);

	for (; w; w = w->next)
		if (target >= atomic_load(&w->start) && target < atomic_load(&w->end))
			return true;
	return false;
}

/* One that is not in use, claimed for the module at @start; NULL: there is none. */
static struct shunt_watched *claim_unused(uintptr_t start)
{
	struct shunt_watched *w = atomic_load_explicit(&watched, memory_order_acquire);

	for (; w; w = w->next) {
		uintptr_t unused = 0;

		if (atomic_compare_exchange_strong(&w->start, &unused, start))
			break;
	}
	return w;
}

/* The first ones, which are known before main(), without a page for each. NULL: no memory. */
static struct shunt_watched *new_record(void)
{
	static struct shunt_watched few[16];
	static _Atomic size_t used;
	size_t i = sizeof(few) / sizeof(few[0]);

	if (atomic_load_explicit(&used, memory_order_relaxed) < i)
		i = atomic_fetch_add_explicit(&used, 1, memory_order_relaxed);
	return i < sizeof(few) / sizeof(few[0]) ? &few[i] : shunt_port_alloc(sizeof(few[0]));
}

struct shunt_watched *shunt_watched_add(const struct shunt_image *image)
{
	struct shunt_watched *w = claim_unused(image->range.start);

	if (!w) {
		w = new_record();
		if (!w)
			return NULL;
		atomic_store(&w->start, image->range.start);
		w->next = atomic_load_explicit(&watched, memory_order_relaxed);
		while (!atomic_compare_exchange_weak_explicit(
			&watched, &w->next, w, memory_order_release, memory_order_relaxed))
			;
	}
	atomic_store(&w->state, SHUNT_WATCH_TOLD);
	atomic_store(&w->end, image->range.end);
	return w;
}

bool shunt_watched_name(struct shunt_watched *w, const struct shunt_image *image)
{
	if (!w->path)
		w->path = shunt_port_alloc(NAME_ROOM);
	if (w->path)
		shunt_format(w->path, NAME_ROOM, "%s", image->path);
	return w->path != NULL;
}

void shunt_watched_stop(struct shunt_watched *w, struct shunt_range range)
{
	if (atomic_load(&w->start) == range.start)
		(void)atomic_compare_exchange_strong(&w->end, &range.end, 0);
}

void shunt_watched_free(struct shunt_watched *w)
{
	atomic_store(&w->end, 0);
	atomic_store(&w->state, SHUNT_WATCH_TOLD);
	atomic_store(&w->start, 0);
}

void shunt_watched_gone(struct shunt_range range)
{
	struct shunt_watched *w = atomic_load_explicit(&watched, memory_order_acquire);

	for (; w; w = w->next)
		if (shunt_in_range(range, atomic_load(&w->start), 1)) {
			atomic_store(&w->end, 0);
			if (atomic_load(&w->state) == SHUNT_WATCH_TOLD)
				atomic_store(&w->start, 0);
		}
}
