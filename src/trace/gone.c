/* SPDX-License-Identifier: MIT */
/*
 * Modules that are unloaded, perhaps before the consumer has seen them: who unloads leaves a copy
 * of their names, without waiting, for the catalogue to take.
 */
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "core/ftrace.h"
#include "trace/gone.h"
#include "trace/state.h"

#define PENDING_MAX ((size_t)64 << 20) /* bytes; more is not told */

static struct trace_gone *_Atomic pending;
static _Atomic size_t pending_size;

static bool is_entry(const struct shunt_entry *e)
{
	return e->form == SHUNT_FORM_HEAD || e->form == SHUNT_FORM_CALL;
}

/* Bytes of the copy; its functions and names are counted. */
static size_t measure(const struct shunt_gone_module *m, struct trace_gone *gone)
{
	size_t names = strlen(m->path) + 1;

	for (size_t i = 0; i < m->set->n; i++) {
		if (!is_entry(&m->set->entries[i]))
			continue;
		gone->n++;
		names += strlen(m->set->names + m->set->entries[i].name) + 1;
	}
	return sizeof(*gone) + gone->n * sizeof(gone->functions[0]) + names;
}

static char *copy_text(char *to, const char *text)
{
	size_t size = strlen(text) + 1;

	memcpy(to, text, size);
	return to + size;
}

static void fill(struct trace_gone *gone, const struct shunt_gone_module *m)
{
	char *text = (char *)&gone->functions[gone->n];
	size_t n = 0;

	gone->build_id_len = (uint32_t)m->build_id_len;
	memcpy(gone->build_id, m->build_id, m->build_id_len);
	gone->path = text;
	text = copy_text(text, m->path);
	for (size_t i = 0; i < m->set->n; i++) {
		const struct shunt_entry *e = &m->set->entries[i];

		if (!is_entry(e))
			continue;
		gone->functions[n++] = (struct trace_gone_function){e->ip, e->func, text, e->kind};
		text = copy_text(text, m->set->names + e->name);
	}
}

void trace_note_unload(const struct shunt_gone_module *m)
{
	struct trace_gone head = {.ticks = trace_now(), .start = m->start, .end = m->end}, *gone;
	long p;

	if (!atomic_load(&trace_session.is_running) || !m->path)
		return;
	head.size = measure(m, &head);
	if (atomic_fetch_add(&pending_size, head.size) + head.size > PENDING_MAX)
		p = -1;
	else
		p = shunt_syscall6(SYS_mmap, 0, (long)head.size, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!p || (p < 0 && p >= -4095)) {
		atomic_fetch_sub(&pending_size, head.size);
		return;
	}
	gone = (struct trace_gone *)p;
	*gone = head;
	fill(gone, m);
	gone->next = atomic_load(&pending);
	while (!atomic_compare_exchange_weak(&pending, &gone->next, gone))
		;
}

bool trace_gone_any(void)
{
	return atomic_load(&pending) != NULL;
}

bool trace_gone_from(uintptr_t addr)
{
	const struct trace_gone *gone = atomic_load(&pending);

	while (gone && (addr < gone->start || addr >= gone->end))
		gone = gone->next;
	return gone != NULL;
}

struct trace_gone *trace_gone_take(void)
{
	struct trace_gone *taken = atomic_exchange(&pending, NULL), *first = NULL;

	while (taken) {
		struct trace_gone *next = taken->next;

		taken->next = first;
		first = taken;
		taken = next;
	}
	return first;
}

void trace_gone_free(struct trace_gone *gone)
{
	atomic_fetch_sub(&pending_size, gone->size);
	(void)shunt_syscall(SYS_munmap, (long)gone, (long)gone->size, 0, 0);
}
