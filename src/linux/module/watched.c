/* SPDX-License-Identifier: MIT */
/* Records of the modules that keys point into. */
#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/format.h"
#include "linux/module/watched.h"

static struct shunt_watched *_Atomic watched;

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

struct shunt_watched *shunt_watched_add(const struct shunt_image *image)
{
	struct shunt_watched *w = claim_unused(image->range.start);

	if (!w) {
		w = shunt_port_alloc(sizeof(*w));
		if (!w)
			return NULL;
		atomic_store(&w->start, image->range.start);
		w->next = atomic_load_explicit(&watched, memory_order_relaxed);
		while (!atomic_compare_exchange_weak_explicit(
			&watched, &w->next, w, memory_order_release, memory_order_relaxed))
			;
	}
	shunt_format(w->path, sizeof(w->path), "%s", image->path);
	atomic_store(&w->state, SHUNT_WATCH_TOLD);
	atomic_store(&w->end, image->range.end);
	return w;
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
