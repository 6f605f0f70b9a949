/* SPDX-License-Identifier: MIT */
#include "trace_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "progress.h"
#include "shunt.h"
#include "trace_chunks.h"
#include "trace_end.h"

/* Those that stand beside no thread's events, because it had no ring, or they could not be written.
 */
static void count_other_losses(struct trace_file *f)
{
	if (!f->ended || f->end.lost <= f->lost)
		return;
	if (!f->has_failed)
		tool_complain("%s: %" PRIu64 " lost event%s in no thread's count", f->path,
			      f->end.lost - f->lost, tool_plural(f->end.lost - f->lost));
	f->lost = f->end.lost;
}

static void complain_of_end(const struct trace_file *f)
{
	uint64_t lost = f->ended && f->end.lost > f->lost ? f->end.lost - f->lost : 0;

	if (f->has_failed && f->ended)
		tool_complain("%s: writing it failed: %s; %" PRIu64 " event%s could not be written",
			      f->path, strerror((int)f->failure.error), lost, tool_plural(lost));
	else if (f->has_failed)
		tool_complain("%s: writing it failed: %s; no end is recorded: what could not be "
			      "written is not counted",
			      f->path, strerror((int)f->failure.error));
	else if (!f->ended && f->is_past_exec)
		tool_complain("%s: no end is recorded: the process " TRACE_PAST_EXEC
			      "; its last calls may be missing",
			      f->path);
	else if (!f->ended && !f->at_exec)
		tool_complain("%s: no end is recorded: the process is recorded still, " TRACE_NO_END
			      "; its last calls may be missing",
			      f->path);
}

/* Of a save that is whole: a later one to the same file is not. */
static void look_behind_end(struct trace_file *f)
{
	struct {
		struct trace_chunk chunk;
		struct trace_failure failure;
	} next;

	if (f->size - f->offset < sizeof(next) || trace_read(f, &next, sizeof(next), f->offset) ||
	    next.chunk.type != TRACE_CHUNK_FAILURE || next.chunk.size != sizeof(next.failure) ||
	    next.chunk.crc != trace_crc(0, &next.failure, sizeof(next.failure)))
		return;
	tool_complain("%s: a later save failed: %s; this is the one before", f->path,
		      strerror((int)next.failure.error));
}

/* All chunks up to the end, or to where the file was cut off. */
static int read_chunks(struct trace_file *f, char *block)
{
	struct trace_chunk chunk;

	while (!f->ended && f->size - f->offset >= sizeof(chunk)) {
		uint64_t room = f->size - f->offset - sizeof(chunk);

		if (trace_read(f, &chunk, sizeof(chunk), f->offset))
			return -1;
		if (chunk.size > room)
			break;
		if (trace_read_chunk(f, &chunk, block))
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
	if (!f->ended && f->offset != f->size) {
		f->at_exec = false;
		tool_complain("%s: cut off: what stands before byte %" PRIu64 " is whole", f->path,
			      f->offset);
	} else {
		complain_of_end(f);
	}
	if (f->ended)
		look_behind_end(f);
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
	block = malloc(TRACE_BLOCK);
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
	f->fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
				  : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
	if (f->fd < 0)
		return trace_failed(f, errno);
	f->fd = trace_regular(f, f->fd);
	if (f->fd < 0)
		return -1;
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

	/* Where writing has failed, chunks that had been read may be gone. */
	while (!f->ended && f->size >= f->offset && f->size - f->offset >= sizeof(chunk)) {
		uint64_t room = f->size - f->offset - sizeof(chunk);

		if (trace_read(f, &chunk, sizeof(chunk), f->offset))
			return -1;
		if (chunk.size > room || (-chunk.size & 7) > room - chunk.size)
			break;
		if (trace_read_chunk(f, &chunk, block))
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
	block = malloc(TRACE_BLOCK);
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
