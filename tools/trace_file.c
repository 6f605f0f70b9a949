/* SPDX-License-Identifier: MIT */
#include "trace_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <shunt/ftrace.h>

#include "progress.h"
#include "shunt.h"

#define BLOCK (1u << 20)

/* --------------------------------------------------------------------- what is wrong */

int trace_corrupted(const struct trace_file *f, uint64_t offset, const char *format, ...)
{
	char what[160];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	tool_complain("%s: corrupted at byte %" PRIu64 ": %s", f->path, offset, what);
	return -1;
}

int trace_failed(const struct trace_file *f, int error)
{
	tool_complain("%s: %s", f->path, strerror(error));
	return -1;
}

int trace_read(const struct trace_file *f, void *buf, size_t size, uint64_t offset)
{
	while (size) {
		ssize_t n = pread(f->fd, buf, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return trace_failed(f, errno);
		if (n == 0) {
			tool_complain("%s: became shorter while it was read", f->path);
			return -1;
		}
		buf = (char *)buf + n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

/* ------------------------------------------------------------- one chunk of each type */

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
	if (last && last->function == function && last->loaded == loaded)
		return 0;
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
	if (!ret && raw->kind == SHUNT_ENTRY_INSTRUMENT)
		ret = add_address(f, raw->addr, function, module->raw.loaded);
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
};

/* --------------------------------------------------------------------------- the file */

/* Whether the contents have the checksum that is said of them. */
static int check_crc(struct trace_file *f, const struct trace_chunk *chunk, char *block)
{
	uint64_t at = 0;
	uint32_t crc = 0;

	while (chunk->crc && at < chunk->size) {
		size_t n = chunk->size - at < BLOCK ? (size_t)(chunk->size - at) : BLOCK;
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

static int read_chunk(struct trace_file *f, const struct trace_chunk *chunk, char *block)
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

/* Those that stand beside no thread's events, because it had no ring. */
static void count_other_losses(struct trace_file *f)
{
	if (!f->ended || f->end.lost <= f->lost)
		return;
	tool_complain("%s: %" PRIu64 " events were lost, and are not in their threads' counts: "
		      "there was no memory for a ring",
		      f->path, f->end.lost - f->lost);
	f->lost = f->end.lost;
}

/* All chunks up to the end, or to where the file was cut off. */
static int read_chunks(struct trace_file *f, char *block)
{
	struct trace_chunk chunk;

	while (f->size - f->offset >= sizeof(chunk)) {
		uint64_t room = f->size - f->offset - sizeof(chunk);

		if (trace_read(f, &chunk, sizeof(chunk), f->offset))
			return -1;
		if (chunk.size > room)
			break;
		if (read_chunk(f, &chunk, block))
			return -1;
		/* Filled up to 8, but for the last one of a file that was cut off there. */
		room -= chunk.size;
		f->offset += sizeof(chunk) + chunk.size;
		f->offset += room < (-chunk.size & 7) ? room : -chunk.size & 7;
		progress(f->offset);
	}
	if (!f->has_session) {
		tool_complain("%s: cut off at byte %" PRIu64 ": nothing is whole", f->path,
			      f->offset);
		return -1;
	}
	if (f->offset != f->size)
		tool_complain("%s: cut off: what stands before byte %" PRIu64 " is whole", f->path,
			      f->offset);
	else if (!f->ended)
		tool_complain("%s: the session did not end in good order", f->path);
	count_other_losses(f);
	return 0;
}

static int read_header(struct trace_file *f)
{
	struct trace_header header;

	if (f->size < sizeof(header.magic) || trace_read(f, &header, sizeof(header.magic), 0) ||
	    memcmp(header.magic, TRACE_MAGIC, sizeof(header.magic))) {
		tool_complain("%s: not a file of a recorded session", f->path);
		return -1;
	}
	if (f->size < sizeof(header)) {
		tool_complain("%s: cut off at byte 0: nothing is whole", f->path);
		return -1;
	}
	if (trace_read(f, &header, sizeof(header), 0))
		return -1;
	if (header.version != TRACE_VERSION) {
		tool_complain("%s: version %" PRIu32
			      " of the format; this program reads version %d",
			      f->path, header.version, TRACE_VERSION);
		return -1;
	}
	if (header.header_size < sizeof(header) || header.header_size % 8 ||
	    header.header_size > f->size)
		return trace_corrupted(f, 0, "a header of %" PRIu32 " bytes", header.header_size);
	f->offset = header.header_size;
	return 0;
}

/* How long a tick is; false: nothing tells it, and ticks are taken for nanoseconds. */
static bool find_rate(struct trace_file *f)
{
	uint64_t ticks = f->last_clock.ticks - f->first_clock.ticks;
	uint64_t ns = f->last_clock.monotonic_ns - f->first_clock.monotonic_ns;
	unsigned __int128 rate = 0;

	f->ns_per_tick = (uint64_t)1 << TRACE_NS_SHIFT;
	if (f->session.clock == TRACE_CLOCK_MONOTONIC)
		return true;
	if (ticks)
		rate = ((unsigned __int128)ns << TRACE_NS_SHIFT) / ticks;
	/* From a picosecond to a millisecond. */
	if (rate < f->ns_per_tick / 1000 || rate > (unsigned __int128)f->ns_per_tick * 1000000)
		return false;
	f->ns_per_tick = (uint64_t)rate;
	return true;
}

static void calibrate(struct trace_file *f)
{
	if (!find_rate(f))
		tool_complain("%s: its clock is not known: times are in ticks, not nanoseconds",
			      f->path);
}

static int read_file(struct trace_file *f)
{
	struct stat st;
	char *block;
	int ret;

	if (fstat(f->fd, &st))
		return trace_failed(f, errno);
	if (!S_ISREG(st.st_mode)) {
		tool_complain("%s: not a regular file", f->path);
		return -1;
	}
	f->size = (uint64_t)st.st_size;
	if (read_header(f))
		return -1;
	block = malloc(BLOCK);
	if (!block)
		return trace_failed(f, ENOMEM);
	progress_begin("reading", f->size);
	ret = read_chunks(f, block);
	progress_end();
	free(block);
	return ret;
}

int trace_open(struct trace_file *f, const char *path)
{
	*f = (struct trace_file){.path = path};
	/* O_NONBLOCK: do not wait for the other end of a FIFO. */
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0)
		return trace_failed(f, errno);
	if (read_file(f))
		return -1;
	calibrate(f);
	return 0;
}

void trace_open_growing(struct trace_file *f, const char *path, int fd)
{
	*f = (struct trace_file){.path = path, .fd = fd};
}

/* Chunks that are there with what fills them up to 8 bytes. */
static int read_new_chunks(struct trace_file *f, char *block)
{
	struct trace_chunk chunk;

	while (f->size - f->offset >= sizeof(chunk)) {
		uint64_t room = f->size - f->offset - sizeof(chunk);

		if (trace_read(f, &chunk, sizeof(chunk), f->offset))
			return -1;
		if (chunk.size > room || (-chunk.size & 7) > room - chunk.size)
			break;
		if (read_chunk(f, &chunk, block))
			return -1;
		f->offset += sizeof(chunk) + chunk.size + (-chunk.size & 7);
	}
	return 0;
}

int trace_read_growing(struct trace_file *f)
{
	struct stat st;
	char *block;
	int ret;

	if (fstat(f->fd, &st))
		return trace_failed(f, errno);
	f->size = (uint64_t)st.st_size;
	if (!f->offset && f->size < sizeof(struct trace_header))
		return 0;
	if (!f->offset && read_header(f))
		return -1;
	block = malloc(BLOCK);
	if (!block)
		return trace_failed(f, ENOMEM);
	ret = read_new_chunks(f, block);
	free(block);
	(void)find_rate(f);
	return ret;
}

void trace_close(struct trace_file *f)
{
	for (size_t i = 0; i < f->modules.n; i++)
		free(((struct file_module *)f->modules.data)[i].path);
	for (uint32_t i = 0; i < f->functions.n; i++) {
		free(trace_function(f, i)->symbol);
		free(trace_function(f, i)->name);
		free(trace_function(f, i)->json);
		free(trace_function(f, i)->module);
	}
	for (size_t i = 0; i < f->threads.n; i++) {
		free(trace_thread_at(f, i)->name);
		array_free(&trace_thread_at(f, i)->pieces);
	}
	array_free(&f->modules);
	array_free(&f->functions);
	array_free(&f->entries);
	array_free(&f->threads);
	array_free(&f->offs);
	hash_free(&f->module_ids);
	hash_free(&f->thread_ids);
	hash_free(&f->entry_addresses);
	hash_free(&f->function_keys);
	free(f->command);
	if (f->fd >= 0)
		(void)close(f->fd);
}
