/* SPDX-License-Identifier: MIT */
/* The queue of writes (poke_write.h): as many as the port takes at a time. */
#include "core/poke_write.h"

struct shunt_poke_stats shunt_poke_stats;
struct shunt_write_queue shunt_write_queue;

int shunt_write_flush(void)
{
	size_t n = shunt_write_queue.n;

	if (!n)
		return 0;
	shunt_poke_count(&shunt_poke_stats.writes, n);
	shunt_poke_count(&shunt_poke_stats.bytes, shunt_write_queue.bytes);
	shunt_write_queue.n = 0;
	shunt_write_queue.bytes = 0;
	return shunt_port_text_write(shunt_write_queue.w, n);
}

static struct shunt_write *next_of_queue(size_t len)
{
	struct shunt_write_queue *queue = &shunt_write_queue;

	queue->bytes += len;
	return &queue->w[queue->n++];
}

static int flush_if_full(void)
{
	return shunt_write_queue.n == sizeof(shunt_write_queue.w) / sizeof(shunt_write_queue.w[0])
		       ? shunt_write_flush()
		       : 0;
}

int shunt_write_put(uint8_t *addr, uint64_t bytes, size_t len)
{
	shunt_write_fill(next_of_queue(len), addr, bytes & (((uint64_t)1 << 8 * (len & 7)) - 1),
			 len);
	return flush_if_full();
}

int shunt_write_put_flip(const struct shunt_poke *p, bool back)
{
	shunt_write_fill_flip(next_of_queue(SHUNT_FLIP_LEN), p, back);
	return flush_if_full();
}

int shunt_write_tail(const struct shunt_poke *p, uint64_t from, uint64_t to)
{
	uint64_t differ = shunt_word_tail(from ^ to);

	while (differ) {
		unsigned start = (unsigned)__builtin_ctzll(differ) / 8, end = start;
		int ret;

		while (differ >> 8 * end & 0xff)
			end++;
		differ = differ >> 8 * end << 8 * end;
		ret = shunt_write_put(p->addr + start, to >> 8 * start, end - start);
		if (ret)
			return ret;
	}
	return 0;
}

int shunt_write_whole(const struct shunt_poke *p, uint64_t from, uint64_t to)
{
	uint64_t differ = from ^ to;
	unsigned start, end;

	if (!differ)
		return 0;
	start = (unsigned)__builtin_ctzll(differ) / 8;
	end = 8 - (unsigned)__builtin_clzll(differ) / 8;
	return shunt_write_put(p->addr + start, to >> 8 * start, end - start);
}

int shunt_poke_sync(void)
{
	shunt_poke_count(&shunt_poke_stats.syncs, 1);
	return shunt_port_core_sync();
}
