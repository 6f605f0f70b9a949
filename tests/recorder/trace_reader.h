/* SPDX-License-Identifier: MIT */
/*
 * A reader of the recorder's files for tests, written from src/trace/format.h alone: checks that
 * the file is well-formed and counts what is in it.
 */
#ifndef SHUNT_TESTS_TRACE_READER_H
#define SHUNT_TESTS_TRACE_READER_H

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace/format.h"

enum { READ_THREADS = 4096 };

struct trace_read {
	const char *wrong; /* NULL: well-formed */
	bool has_end;
	struct trace_session session;
	struct trace_end end;
	struct trace_failure failure;
	uint64_t events, lost, by_kind[4];
	uint64_t chunks[12]; /* by type */
	uint64_t functions, threads, offs, clocks;
	uint64_t unloaded;  /* chunks of modules that have gone */
	uint64_t builds;    /* chunks of modules whose build-id is known */
	uint64_t back;      /* events that are earlier than the one before, of a thread */
	uint64_t unmatched; /* returns without an entry of the same stack before, on their thread */
	uint64_t longest;   /* ticks between an entry and its return */
	uint64_t shortest;
	uint64_t thread_events[READ_THREADS]; /* by the session's number */
	uint64_t thread_lost[READ_THREADS];
	char thread_name[READ_THREADS][16];
	bool has_ended[READ_THREADS]; /* that thread, before the session */
	char name[64];                /* of the last function */
	size_t size, first;
	bool stops_at_end; /* asked for: what stands behind it is not looked at */
	/* private */
	struct trace_stack { /* of a thread: its chunks come between those of others */
		struct trace_open {
			uint64_t time, stack;
		} * open;
		size_t nr_open, max_open;
		uint64_t last_time;
		bool is_seen;
	} stacks[READ_THREADS];
};

static inline uint32_t reader_crc(const uint8_t *p, size_t n)
{
	uint32_t c = ~0u;

	for (; n; n--, p++) {
		c ^= *p;
		for (int i = 0; i < 8; i++)
			c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
	}
	return ~c;
}

static inline uint64_t event_time(const struct trace_event *e)
{
	return e->word[0] >> 15;
}

static inline uint64_t event_stack(const struct trace_event *e)
{
	return (e->word[0] & 0x7fff) | (e->word[1] >> TRACE_ADDR_BITS & 0x7fff) << 15;
}

static inline uint64_t event_addr(const struct trace_event *e)
{
	uint64_t bits = e->word[1] & ((1ull << TRACE_ADDR_BITS) - 1);

#ifdef __aarch64__ /* TRACE_ADDR_IS_48 */
	bits = (bits & ~1ull) | (bits & 1) << TRACE_ADDR_BITS;
#endif
	return bits;
}

static inline unsigned event_kind(const struct trace_event *e)
{
	return (unsigned)(e->word[1] >> 62);
}

static inline void reader_match(struct trace_read *r, struct trace_stack *of,
				const struct trace_event *e)
{
	unsigned kind = event_kind(e);

	if (kind == TRACE_ENTRY) {
		if (of->nr_open == of->max_open) {
			of->max_open = of->max_open ? 2 * of->max_open : 16;
			of->open = realloc(of->open, of->max_open * sizeof(*of->open));
			if (!of->open)
				abort();
		}
		of->open[of->nr_open++] = (struct trace_open){event_time(e), event_stack(e)};
		return;
	}
	if (kind == TRACE_CALL)
		return;
	for (size_t i = of->nr_open; i > 0; i--) {
		uint64_t took = event_time(e) - of->open[i - 1].time;

		if (of->open[i - 1].stack != event_stack(e))
			continue;
		r->longest = took > r->longest ? took : r->longest;
		r->shortest = took < r->shortest ? took : r->shortest;
		of->nr_open = i - 1;
		return;
	}
	r->unmatched++;
}

static inline void reader_events(struct trace_read *r, const uint8_t *at, size_t size)
{
	struct trace_events head;
	struct trace_event e;
	struct trace_stack *of;

	if (size < sizeof(head)) {
		r->wrong = "events: short";
		return;
	}
	memcpy(&head, at, sizeof(head));
	if (size != sizeof(head) + head.count * sizeof(e) || head.thread >= READ_THREADS) {
		r->wrong = "events: size";
		return;
	}
	of = &r->stacks[head.thread];
	if (!of->is_seen)
		r->wrong = "events of a thread that is not named";
	r->lost += head.lost;
	r->thread_lost[head.thread] += head.lost;
	r->thread_events[head.thread] += head.count;
	for (uint32_t i = 0; i < head.count; i++) {
		memcpy(&e, at + sizeof(head) + i * sizeof(e), sizeof(e));
		r->events++;
		r->by_kind[event_kind(&e)]++;
		r->back += event_time(&e) < of->last_time;
		of->last_time = event_time(&e);
		reader_match(r, of, &e);
	}
}

static inline void reader_functions(struct trace_read *r, const uint8_t *at, size_t size)
{
	struct trace_function f;

	while (size >= sizeof(f)) {
		size_t whole;

		memcpy(&f, at, sizeof(f));
		whole = (sizeof(f) + f.name_len + 1 + 7) & ~(size_t)7;
		if (sizeof(f) + f.name_len + 1 > size || at[sizeof(f) + f.name_len]) {
			r->wrong = "function: name";
			return;
		}
		snprintf(r->name, sizeof(r->name), "%s", (const char *)at + sizeof(f));
		r->functions++;
		at += whole < size ? whole : size;
		size -= whole < size ? whole : size;
	}
}

static inline void reader_thread(struct trace_read *r, const uint8_t *at, size_t size)
{
	struct trace_thread thread;

	if (size <= sizeof(thread) || at[size - 1]) {
		r->wrong = "thread: name";
		return;
	}
	memcpy(&thread, at, sizeof(thread));
	if (thread.id >= READ_THREADS)
		return;
	r->stacks[thread.id].is_seen = true;
	snprintf(r->thread_name[thread.id], sizeof(r->thread_name[0]), "%s",
		 (const char *)at + sizeof(thread));
}

static inline void reader_thread_end(struct trace_read *r, const uint8_t *at)
{
	struct trace_thread_end end;

	memcpy(&end, at, sizeof(end));
	if (end.thread < READ_THREADS)
		r->has_ended[end.thread] = true;
}

static inline void reader_chunk(struct trace_read *r, const struct trace_chunk *c,
				const uint8_t *at)
{
	if (c->crc && c->crc != reader_crc(at, c->size))
		r->wrong = "crc";
	if (r->has_end && c->type != TRACE_CHUNK_FAILURE) /* that a later save has failed */
		r->wrong = "a chunk behind the end";
	r->chunks[c->type < 12 ? c->type : 0]++;
	switch (c->type) {
	case TRACE_CHUNK_SESSION:
		memcpy(&r->session, at, sizeof(r->session));
		break;
	case TRACE_CHUNK_THREAD:
		reader_thread(r, at, c->size);
		break;
	case TRACE_CHUNK_THREAD_END:
		reader_thread_end(r, at);
		break;
	case TRACE_CHUNK_MODULE: {
		struct trace_module module;

		if (c->size < sizeof(module)) {
			r->wrong = "a module";
			break;
		}
		memcpy(&module, at, sizeof(module));
		r->unloaded += module.unloaded != 0;
		r->builds += module.build_id_len != 0;
		break;
	}
	case TRACE_CHUNK_FUNCTION:
		reader_functions(r, at, c->size);
		break;
	case TRACE_CHUNK_EVENTS:
		reader_events(r, at, c->size);
		break;
	case TRACE_CHUNK_FAILURE:
		memcpy(&r->failure, at, sizeof(r->failure));
		break;
	case TRACE_CHUNK_END:
		memcpy(&r->end, at, sizeof(r->end));
		r->has_end = true;
		break;
	default:
		break;
	}
}

/* @r is big: static in its caller. */
static inline bool read_trace(struct trace_read *r, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct trace_header header;
	struct stat st;
	uint8_t *image;
	size_t at;

	for (size_t i = 0; i < READ_THREADS; i++)
		free(r->stacks[i].open);
	memset(r, 0, offsetof(struct trace_read, stops_at_end));
	memset(r->stacks, 0, sizeof(r->stacks));
	r->shortest = UINT64_MAX;
	if (fd < 0 || fstat(fd, &st)) {
		r->wrong = "not there";
		return false;
	}
	r->size = (size_t)st.st_size;
	image = malloc(r->size + 1);
	if (!image || read(fd, image, r->size) != st.st_size) {
		r->wrong = "cannot be read";
		return false;
	}
	close(fd);
	memset(&header, 0, sizeof(header));
	memcpy(&header, image, r->size < sizeof(header) ? r->size : sizeof(header));
	if (memcmp(header.magic, TRACE_MAGIC, 8) || header.header_size < sizeof(header) ||
	    header.header_size % 8)
		r->wrong = "header";
	r->first = header.header_size;
	for (at = r->first; !r->wrong && !(r->has_end && r->stops_at_end) &&
			    at + sizeof(struct trace_chunk) <= r->size;) {
		struct trace_chunk c;

		memcpy(&c, image + at, sizeof(c));
		if (c.size > r->size - at - sizeof(c)) {
			r->wrong = "cut off";
			break;
		}
		reader_chunk(r, &c, image + at + sizeof(c));
		at += sizeof(c) + ((c.size + 7) & ~(uint64_t)7);
	}
	if (!r->wrong && at != r->size && !(r->has_end && r->stops_at_end))
		r->wrong = "odd bytes at the end";
	free(image);
	return !r->wrong;
}

#endif
