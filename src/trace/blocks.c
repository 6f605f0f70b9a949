/* SPDX-License-Identifier: MIT */
/*
 * Blocks of memory that hold whole chunks. A chunk is finished in place and then published by the
 * block's @used, so that whoever writes them takes no lock. Blocks stay, and are used again.
 */
#include <stdatomic.h>
#include <sys/mman.h>

#include "linux/base/syscall.h"
#include "trace/blocks.h"
#include "trace/catalogue.h"
#include "trace/file.h"

#define BLOCK_SIZE ((size_t)256 << 10)

struct trace_block {
	struct trace_block *_Atomic next;
	_Atomic size_t used; /* bytes of whole chunks */
	char data[BLOCK_SIZE - 2 * sizeof(size_t)];
};

static struct trace_block *_Atomic first_block;
static struct trace_block *last_block;    /* that chunks are made in */
static struct trace_chunk *current_chunk; /* that is being made, behind its @used */

static int next_block(void)
{
	struct trace_block *block =
		last_block ? atomic_load(&last_block->next) : atomic_load(&first_block);

	if (!block) {
		long p = shunt_syscall6(SYS_mmap, 0, sizeof(*block), PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p < 0 && p >= -4095)
			return -1;
		block = (struct trace_block *)p;
		if (last_block)
			atomic_store(&last_block->next, block);
		else
			atomic_store(&first_block, block);
	}
	last_block = block;
	return 0;
}

static size_t whole(const struct trace_chunk *chunk)
{
	return sizeof(*chunk) + ((chunk->size + 7) & ~(uint64_t)7);
}

void trace_chunk_end(void)
{
	struct trace_chunk *chunk = current_chunk;

	if (!chunk)
		return;
	chunk->crc = trace_crc(0, chunk + 1, chunk->size);
	current_chunk = NULL;
	/* Pairs with the acquire in trace_catalogue_write(). */
	atomic_store_explicit(&last_block->used, last_block->used + whole(chunk),
			      memory_order_release);
}

/* How many bytes the block still has, behind the chunk that is being made. */
static size_t room_left(void)
{
	size_t used =
		last_block ? atomic_load_explicit(&last_block->used, memory_order_relaxed) : 0;

	if (!last_block)
		return 0;
	return sizeof(last_block->data) - used - (current_chunk ? whole(current_chunk) : 0);
}

void *trace_chunk_room(enum trace_chunk_type type, size_t size)
{
	size_t padded = (size + 7) & ~(size_t)7;
	char *room;

	if (padded > TRACE_CHUNK_ROOM)
		return NULL;
	if (current_chunk && (current_chunk->type != type || room_left() < padded))
		trace_chunk_end();
	if (!current_chunk) {
		if (room_left() < sizeof(*current_chunk) + padded && next_block())
			return NULL;
		current_chunk = (struct trace_chunk *)(void *)(last_block->data + last_block->used);
		*current_chunk = (struct trace_chunk){.type = type};
	}
	room = (char *)current_chunk + whole(current_chunk);
	shunt_fill_bytes(room, padded);
	current_chunk->size = whole(current_chunk) - sizeof(*current_chunk) + size;
	return room;
}

void trace_chunks_clear(void)
{
	for (struct trace_block *b = atomic_load(&first_block); b; b = atomic_load(&b->next))
		atomic_store(&b->used, 0);
	last_block = NULL;
	current_chunk = NULL;
}

int trace_catalogue_write(struct trace_file *file, struct trace_cursor *cursor)
{
	int err = 0;

	if (!cursor->block)
		cursor->block = atomic_load(&first_block);
	while (cursor->block && !err) {
		struct trace_block *b = cursor->block, *next = atomic_load(&b->next);
		size_t used = atomic_load_explicit(&b->used, memory_order_acquire);

		if (used > cursor->at)
			err = trace_file_raw(file, b->data + cursor->at, used - cursor->at);
		cursor->at = used;
		/* A block that is there may not be in use yet, but then the next one is not,
		 * either. */
		if (!next || !atomic_load_explicit(&next->used, memory_order_acquire))
			break;
		*cursor = (struct trace_cursor){.block = next};
	}
	return err;
}
