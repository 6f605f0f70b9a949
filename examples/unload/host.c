/* SPDX-License-Identifier: MIT */
/*
 * A host that unloads a plugin while threads are calling it. An update does not wait for calls
 * that have begun; so each thread says when it begins a call and when it is back, and
 * before dlclose() the host looks at each of them once. (That is what quiescent states are in
 * read-copy update; Userspace RCU has them ready to use.) The count stands around the call,
 * at the caller: in the plugin it would come too late, because a call that began before the
 * update may enter the plugin after it.
 *
 *	cc -shared -fPIC plugin.c -o plugin.so
 *	cc -pthread host.c $(pkg-config --cflags --libs shunt) -o host && ./host ./plugin.so
 */
#include <shunt/static_call.h>

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#define THREADS 3
#define TIMES   20

static int keep_volume(int sample)
{
	return sample;
}

DEFINE_STATIC_CALL(filter, keep_volume);

static struct player {
	pthread_t thread;
	_Atomic unsigned long calls; /* odd: in a call */
	_Atomic unsigned long loud;  /* that were the plugin's */
} players[THREADS];

static _Atomic bool over;

static void *play(void *arg)
{
	struct player *p = arg;

	while (!atomic_load(&over)) {
		int sample;

		atomic_fetch_add(&p->calls, 1);
		sample = static_call(filter)(100);
		atomic_fetch_add(&p->calls, 1);
		atomic_fetch_add(&p->loud, sample != 100);
	}
	return NULL;
}

/* Until each call that began before has come back. */
static void wait_for_calls(void)
{
#ifndef HASTY /* what happens without: build it so, and see */
	for (int i = 0; i < THREADS; i++) {
		unsigned long calls = atomic_load(&players[i].calls);

		while (calls % 2 && atomic_load(&players[i].calls) == calls)
			sched_yield();
	}
#endif
}

/* Load the plugin, have it called by each thread, take it away again. */
static bool come_and_go(const char *path)
{
	void *plugin = dlopen(path, RTLD_NOW);
	void *function = plugin ? dlsym(plugin, "filter") : NULL;

	if (!function || static_call_update(filter, function))
		return false;
	for (int i = 0; i < THREADS; i++) {
		unsigned long loud = atomic_load(&players[i].loud);

		while (atomic_load(&players[i].loud) == loud)
			sched_yield();
	}
	if (static_call_update(filter, keep_volume))
		return false;
	wait_for_calls();
	return !dlclose(plugin);
}

int main(int argc, char **argv)
{
	int times = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: %s PLUGIN\n", argv[0]);
		return 2;
	}
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&players[i].thread, NULL, play, &players[i]))
			return 1;
	while (times < TIMES && come_and_go(argv[1]))
		times++;
	atomic_store(&over, true);
	for (int i = 0; i < THREADS; i++)
		pthread_join(players[i].thread, NULL);
	printf("loaded and unloaded %d times, under %d threads that call it\n", times, THREADS);
	return times == TIMES ? 0 : 1;
}
