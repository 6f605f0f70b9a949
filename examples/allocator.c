/* SPDX-License-Identifier: MIT */
/*
 * An allocator with hooks that profilers set and take away while it runs: free of charge while
 * there is none. NULL keys: a call of one is an instruction of no effect. Both hooks change
 * together, so that no block is seen to be freed that was not seen to be made.
 *
 *	cc allocator.c $(pkg-config --cflags --libs shunt) && ./a.out
 */
#include <shunt/static_call.h>

#include <stdio.h>
#include <stdlib.h>

static long live, calls;

static void count_alloc(void *block, size_t size)
{
	(void)block;
	live += (long)size;
	calls++;
}

static void count_free(void *block, size_t size)
{
	(void)block;
	live -= (long)size;
	calls++;
}

DEFINE_STATIC_CALL_NULL(on_alloc, count_alloc);
DEFINE_STATIC_CALL_NULL(on_free, count_free);

static void *pool_alloc(size_t size)
{
	void *block = malloc(size);

	static_call_cond(on_alloc)(block, size);
	return block;
}

static void pool_free(void *block, size_t size)
{
	static_call_cond(on_free)(block, size);
	free(block);
}

static int set_hooks(int on)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	int err = static_call_batch_add(&batch, on_alloc, on ? count_alloc : NULL);

	if (!err)
		err = static_call_batch_add(&batch, on_free, on ? count_free : NULL);
	if (!err)
		err = static_call_batch_commit(&batch);
	static_call_batch_destroy(&batch);
	return err;
}

static void work(const char *when)
{
	for (size_t i = 1; i <= 1000; i++)
		pool_free(pool_alloc(i), i);
	printf("%s: the hooks ran %ld times, %ld bytes live\n", when, calls, live);
}

int main(void)
{
	work("without hooks");
	if (set_hooks(1))
		return 1;
	work("with hooks");
	if (set_hooks(0))
		return 1;
	work("without again");
	return 0;
}
