/* SPDX-License-Identifier: MIT */
/*
 * A host of plugins that waits with Userspace RCU for the calls that are still in the plugin before
 * it unloads it: a read-side critical section around each call, synchronize_rcu() between the
 * update and dlclose(). The sections stand at the caller, so that a call which began before the
 * update counts.
 *
 *	cc -shared -fPIC ../unload/plugin.c -o plugin.so
 *	cc -pthread host.c $(pkg-config --cflags --libs shunt liburcu-memb) -o host && ./host
 *./plugin.so
 */
#include <shunt/static_call.h>

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#include <urcu/urcu-memb.h>

#define THREADS 3
#define TIMES   20

static int keep_volume(int sample)
{
	return sample;
}

DEFINE_STATIC_CALL(filter, keep_volume);

static _Atomic unsigned long loud[THREADS]; /* samples that were the plugin's */
static _Atomic bool over;

static void *play(void *arg)
{
	_Atomic unsigned long *mine = arg;

	urcu_memb_register_thread();
	while (!atomic_load(&over)) {
		int sample;

		urcu_memb_read_lock();
		sample = static_call(filter)(100);
		urcu_memb_read_unlock();
		atomic_fetch_add(mine, sample != 100);
	}
	urcu_memb_unregister_thread();
	return NULL;
}

/* Load the plugin, have it called by each thread, take it away again. */
static bool come_and_go(const char *path)
{
	void *plugin = dlopen(path, RTLD_NOW);
	void *function = plugin ? dlsym(plugin, "filter") : NULL;

	if (!function || static_call_update(filter, function))
		return false;
	for (int i = 0; i < THREADS; i++) {
		unsigned long before = atomic_load(&loud[i]);

		while (atomic_load(&loud[i]) == before)
			sched_yield();
	}
	if (static_call_update(filter, keep_volume))
		return false;
	urcu_memb_synchronize_rcu(); /* calls that begin now are of keep_volume() */
	return !dlclose(plugin);
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	int times = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: %s PLUGIN\n", argv[0]);
		return 2;
	}
	urcu_memb_register_thread();
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, play, &loud[i]))
			return 1;
	while (times < TIMES && come_and_go(argv[1]))
		times++;
	atomic_store(&over, true);
	urcu_memb_unregister_thread();
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	printf("loaded and unloaded %d times, under %d threads that call it\n", times, THREADS);
	return times == TIMES ? 0 : 1;
}
