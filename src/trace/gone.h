/* SPDX-License-Identifier: MIT */
/* Modules that have been unloaded and that the catalogue does not know of yet (gone.c). */
#ifndef SHUNT_TRACE_GONE_H
#define SHUNT_TRACE_GONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/ftrace_raw.h"

struct trace_gone_function {
	uint64_t entry, addr;
	const char *name; /* "": none */
	uint32_t kind;    /* enum shunt_entry_kind */
};

struct trace_gone {
	struct trace_gone *next;
	uint64_t ticks; /* when */
	uint64_t start, end;
	const char *path;
	size_t size, n; /* bytes; functions */
	uint8_t build_id[32];
	uint32_t build_id_len; /* 0: not known */
	struct trace_gone_function functions[];
};

/* The engine's hook: no lock. */
void trace_note_unload(const struct shunt_gone_module *module);

/* All of them, in order; each is to be freed. Consumer's side. */
bool trace_gone_any(void);
/* Whether one of them was where @addr is. */
bool trace_gone_from(uintptr_t addr);
struct trace_gone *trace_gone_take(void);
void trace_gone_free(struct trace_gone *gone);

#endif
