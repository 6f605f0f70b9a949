/* SPDX-License-Identifier: MIT */
/* One chunk of each type of a recording (trace/format.h). */
#include "trace_chunks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <shunt/ftrace.h>

#include "progress.h"
#include "shunt.h"

/* The contents of a chunk, with a NUL behind them. Of one with events: their head alone. */
struct contents {
	struct trace_file *f;
	char *data;
	uint64_t size;
};

#define BAD(c, ...) trace_corrupted((c)->f, (c)->f->offset, __VA_ARGS__)

/* The string from @at on to the end of the contents. Its end is within them. */
static const char *text_at(const struct contents *c, size_t at)
{
	return at < c->size && memchr(c->data + at, '\0', c->size - at) ? c->data + at : NULL;
}

static int read_session(struct contents *c)
{
	struct trace_file *f = c->f;
	size_t at = sizeof(f->session);

	if (f->has_session)
		return BAD(c, "a second session");
	memcpy(&f->session, c->data, sizeof(f->session));
	if (f->session.clock > TRACE_CLOCK_MONOTONIC)
		return BAD(c, "no clock has the number %" PRIu32, f->session.clock);
	for (uint32_t i = 0; i < f->session.argc; i++) {
		const char *word = text_at(c, at);

		if (!word)
			return BAD(c, "a command of fewer words than it says");
		at += strlen(word) + 1;
		c->data[at - 1] = ' ';
	}
	f->command = trace_printable(c->data + sizeof(f->session),
				     at - sizeof(f->session) - (f->session.argc != 0));
	f->has_session = true;
	return f->command ? 0 : trace_failed(f, ENOMEM);
}

static int read_clock(struct contents *c)
{
	struct trace_clock clock;

	memcpy(&clock, c->data, sizeof(clock));
	if (!c->f->has_clock)
		c->f->first_clock = clock;
	else if (clock.ticks < c->f->last_clock.ticks ||
		 clock.monotonic_ns < c->f->last_clock.monotonic_ns)
		return BAD(c, "a clock that goes back");
	c->f->last_clock = clock;
	c->f->has_clock = true;
	return 0;
}

/* A module, or the same one again: when it was unloaded is known later. */
static int read_module(struct contents *c)
{
	struct file_module module;
	const char *path = text_at(c, sizeof(module.raw));
	uint32_t *number;

	memcpy(&module.raw, c->data, sizeof(module.raw));
	if (!path || module.raw.build_id_len > sizeof(module.raw.build_id))
		return BAD(c, path ? "a build-id of %" PRIu32 " bytes" : "a module without a path",
			   module.raw.build_id_len);
	number = hash_at(&c->f->module_ids, module.raw.id);
	if (number && *number) {
		((struct file_module *)c->f->modules.data)[*number - 1].raw = module.raw;
		return 0;
	}
	module.path = trace_printable(path, strlen(path));
	if (!number || !module.path || !array_add(&c->f->modules, &module, sizeof(module))) {
		free(module.path);
		return trace_failed(c->f, ENOMEM);
	}
	*number = (uint32_t)c->f->modules.n;
	return 0;
}

static int add_address(struct trace_file *f, uint64_t address, uint32_t function, uint64_t loaded)
{
	struct file_entry entry = {.address = address, .loaded = loaded, .function = function};
	uint32_t *number = hash_at(&f->entry_addresses, address);
	const struct file_entry *last;

	if (!number)
		return trace_failed(f, ENOMEM);
	last = *number ? (struct file_entry *)f->entries.data + *number - 1 : NULL;
	if (last && last->function == function)
		return 0; /* loaded again */
	entry.next = *number ? *number - 1 : TRACE_NONE;
	if (!array_add(&f->entries, &entry, sizeof(entry)))
		return trace_failed(f, ENOMEM);
	*number = (uint32_t)f->entries.n;
	return 0;
}

/* Returns that say which function it is name its start. */
static int add_entry(struct trace_file *f, const struct trace_function *raw,
		     const struct file_module *module, const char *name)
{
	uint32_t function = trace_add_function(f, module, raw->addr - module->raw.start, name);
	int ret;

	if (function == TRACE_NONE)
		return trace_failed(f, ENOMEM);
	ret = add_address(f, raw->entry, function, module->raw.loaded);
	if (!ret && raw->kind == SHUNT_ENTRY_INSTRUMENT) {
		trace_function(f, function)->may_be_inlined = true;
		ret = add_address(f, raw->addr, function, module->raw.loaded);
	}
	return ret;
}

static int read_functions(struct contents *c)
{
	struct trace_function raw;
	size_t at = 0;

	while (c->size - at >= sizeof(raw)) {
		uint32_t module;

		memcpy(&raw, c->data + at, sizeof(raw));
		at += sizeof(raw);
		if (raw.name_len >= c->size - at || c->data[at + raw.name_len])
			return trace_corrupted(c->f, c->f->offset + sizeof(struct trace_chunk) + at,
					       "a function's name does not end in its chunk");
		module = hash_get(&c->f->module_ids, raw.module);
		if (!module)
			return trace_corrupted(c->f, c->f->offset + sizeof(struct trace_chunk) + at,
					       "no module has the number %" PRIu32, raw.module);
		if (add_entry(c->f, &raw, (struct file_module *)c->f->modules.data + module - 1,
			      c->data + at))
			return -1;
		at += (raw.name_len + 8) & ~7u; /* the NUL, filled up to 8 */
		if (at > c->size)
			break;
	}
	return 0;
}

static int read_thread(struct contents *c)
{
	struct file_thread thread = {0};
	const char *name = text_at(c, sizeof(thread.raw));
	uint32_t *number;

	memcpy(&thread.raw, c->data, sizeof(thread.raw));
	if (!name)
		return BAD(c, "a thread without a name");
	number = hash_at(&c->f->thread_ids, thread.raw.id);
	thread.name = trace_printable(name, strlen(name));
	if (!number || !thread.name)
		goto no_memory;
	if (*number) { /* it has another name now */
		free(trace_thread_at(c->f, *number - 1)->name);
		trace_thread_at(c->f, *number - 1)->name = thread.name;
		return 0;
	}
	if (!array_add(&c->f->threads, &thread, sizeof(thread)))
		goto no_memory;
	*number = (uint32_t)c->f->threads.n;
	return 0;
no_memory:
	free(thread.name);
	return trace_failed(c->f, ENOMEM);
}

static int read_events(struct contents *c)
{
	struct file_piece piece;
	struct trace_events head;
	struct file_thread *thread;
	uint32_t number;

	memcpy(&head, c->data, sizeof(head));
	number = hash_get(&c->f->thread_ids, head.thread);
	if (!number)
		return BAD(c, "no thread has the number %" PRIu32, head.thread);
	if (head.count != (c->size - sizeof(head)) / sizeof(struct trace_event))
		return BAD(c, "%" PRIu32 " events in a chunk of %" PRIu64 " bytes", head.count,
			   c->size);
	piece.offset = c->f->offset + sizeof(struct trace_chunk) + sizeof(head);
	piece.count = head.count;
	piece.lost = head.lost;
	thread = trace_thread_at(c->f, number - 1);
	c->f->is_past_exec |= c->f->at_exec;
	c->f->at_exec = false;
	if (!array_add(&thread->pieces, &piece, sizeof(piece)))
		return trace_failed(c->f, ENOMEM);
	thread->events += head.count;
	thread->lost += head.lost;
	c->f->events += head.count;
	c->f->lost += head.lost;
	return 0;
}

static int read_off(struct contents *c)
{
	struct file_off off;

	memcpy(&off.raw, c->data, sizeof(off.raw));
	off.function = trace_function_at(c->f, off.raw.entry, off.raw.ticks);
	if (off.function == TRACE_NONE || !array_add(&c->f->offs, &off, sizeof(off)))
		return trace_failed(c->f, ENOMEM);
	return 0;
}

static int read_end(struct contents *c)
{
	memcpy(&c->f->end, c->data, sizeof(c->f->end));
	c->f->ended = true;
	return 0;
}

static int read_thread_end(struct contents *c)
{
	struct trace_thread_end end;
	struct file_thread *thread;
	uint32_t number;

	memcpy(&end, c->data, sizeof(end));
	number = hash_get(&c->f->thread_ids, end.thread);
	if (!number)
		return BAD(c, "no thread has the number %" PRIu32, end.thread);
	thread = trace_thread_at(c->f, number - 1);
	thread->has_ended = true;
	thread->alive = end.alive;
	return 0;
}

static int read_exec(struct contents *c)
{
	memcpy(&c->f->exec, c->data, sizeof(c->f->exec));
	c->f->at_exec = true;
	c->f->is_past_exec = false;
	return 0;
}

static int read_exec_failed(struct contents *c)
{
	c->f->at_exec = false;
	c->f->is_past_exec = false;
	return 0;
}

static int read_failure(struct contents *c)
{
	memcpy(&c->f->failure, c->data, sizeof(c->f->failure));
	c->f->has_failed = true;
	return 0;
}

/* By type. What a later version puts behind a head is not looked at. */
static const struct chunk_type {
	const char *name;
	size_t head; /* bytes that it has at least */
	int (*read)(struct contents *c);
} types[] = {
	[TRACE_CHUNK_SESSION] = {"session", sizeof(struct trace_session), read_session},
	[TRACE_CHUNK_CLOCK] = {"clock", sizeof(struct trace_clock), read_clock},
	[TRACE_CHUNK_MODULE] = {"module", sizeof(struct trace_module), read_module},
	[TRACE_CHUNK_FUNCTION] = {"functions", 0, read_functions},
	[TRACE_CHUNK_THREAD] = {"thread", sizeof(struct trace_thread), read_thread},
	[TRACE_CHUNK_EVENTS] = {"events", sizeof(struct trace_events), read_events},
	[TRACE_CHUNK_OFF] = {"off", sizeof(struct trace_off), read_off},
	[TRACE_CHUNK_END] = {"end", sizeof(struct trace_end), read_end},
	[TRACE_CHUNK_THREAD_END] = {"thread's end", sizeof(struct trace_thread_end),
				    read_thread_end},
	[TRACE_CHUNK_EXEC] = {"exec", sizeof(struct trace_exec), read_exec},
	[TRACE_CHUNK_FAILURE] = {"failure", sizeof(struct trace_failure), read_failure},
	[TRACE_CHUNK_EXEC_FAILED] = {"exec's failure", sizeof(struct trace_exec), read_exec_failed},
};

/* Whether the contents have the checksum that is said of them. */
static int check_crc(struct trace_file *f, const struct trace_chunk *chunk, char *block)
{
	uint64_t at = 0;
	uint32_t crc = 0;

	while (chunk->crc && at < chunk->size) {
		size_t n =
			chunk->size - at < TRACE_BLOCK ? (size_t)(chunk->size - at) : TRACE_BLOCK;
		uint64_t offset = f->offset + sizeof(*chunk) + at;

		if (trace_read(f, block, n, offset))
			return -1;
		crc = trace_crc(crc, block, n);
		at += n;
		progress(offset);
	}
	if (chunk->crc && crc != chunk->crc)
		return trace_corrupted(f, f->offset, "a chunk's checksum is wrong");
	return 0;
}

int trace_read_chunk(struct trace_file *f, const struct trace_chunk *chunk, char *block)
{
	const struct chunk_type *type =
		&types[chunk->type < sizeof(types) / sizeof(types[0]) ? chunk->type : 0];
	struct contents c = {.f = f, .size = chunk->size};
	uint64_t keep = chunk->type == TRACE_CHUNK_EVENTS ? type->head : chunk->size;
	int ret;

	if (chunk->type == 0)
		return trace_corrupted(f, f->offset, "no chunk has the type 0");
	if (!f->has_session && chunk->type != TRACE_CHUNK_SESSION)
		return trace_corrupted(f, f->offset, "the first chunk is no session");
	if (check_crc(f, chunk, block) || !type->read)
		return type->read ? -1 : 0;
	if (chunk->size < type->head)
		return trace_corrupted(f, f->offset, "a chunk (%s) of %" PRIu64 " bytes",
				       type->name, chunk->size);
	c.data = malloc((size_t)keep + 1);
	if (!c.data)
		return trace_failed(f, ENOMEM);
	c.data[keep] = '\0';
	ret = trace_read(f, c.data, (size_t)keep, f->offset + sizeof(*chunk));
	if (!ret)
		ret = type->read(&c);
	free(c.data);
	return ret;
}
