/* SPDX-License-Identifier: MIT */
/*
 * Everything at once: two threads open and close plugins, one updates the keys, one runs
 * through the program's sites and one looks at all keys and sites. Afterwards, rounds of
 * opening and closing one after the other, which must leave nothing behind.
 *
 *	stress DIRECTORY-OF-THE-PLUGINS [ROUNDS]
 */
#include <dirent.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "programs.h"

static const char *dir;

/* The third, where there is one, has been baked. */
static unsigned nr_plugins = 2;

static void count_plugins(void)
{
	char path[4096];

	(void)snprintf(path, sizeof(path), "%s/modules_plugin3.so", dir);
	if (!access(path, R_OK))
		nr_plugins = 3;
}

static struct {
	_Atomic bool stop;
	_Atomic uint64_t errors, opens, updates, calls, looks, seen;
} run;

static bool either(int value, int x)
{
	return value == x + 100000 || value == x + 200000;
}

static void *open_and_close(void *arg)
{
	char path[4096];
	unsigned i = *(unsigned *)arg;

	for (; !run.stop; i++) {
		const struct plugin *p;
		void *handle;
		int sum;

		(void)snprintf(path, sizeof(path), "%s/modules_plugin%u.so", dir,
			       1 + i % nr_plugins);
		p = plugin_open(path, &handle);
		if (!p) {
			run.errors++;
			break;
		}
		sum = p->host(1) - 2;
		if (p->own(1) != 1 + 10 * p->number || !p->own_branch() ||
		    !either(p->host_tail(2), 2) ||
		    (sum != 200000 && sum != 300000 && sum != 400000))
			run.errors++;
		(void)p->host_is_on();
		run.errors += dlclose(handle) != 0;
		run.opens++;
	}
	return NULL;
}

static void *call(void *arg)
{
	(void)arg;
	for (int x = 1; !run.stop; x = x % 1000 + 1) {
		if (!either(host_site(x), x) || !either(host_tail(x), x) || !either(host_jcc(x), x))
			run.errors++;
		(void)host_test();
		run.calls++;
	}
	return NULL;
}

static int see_key(const struct shunt_key_info *info, void *arg)
{
	(void)arg;
	run.seen += strlen(info->name) && strlen(info->module) &&
		    (!info->target_function || *info->target_function);
	return 0;
}

static int see_site(const struct shunt_site_info *info, void *arg)
{
	(void)arg;
	run.seen +=
		strlen(info->key) && strlen(info->module) && (!info->function || *info->function);
	return 0;
}

static void *look(void *arg)
{
	(void)arg;
	while (!run.stop) {
		if (shunt_for_each_key(see_key, NULL) || shunt_for_each_site(NULL, see_site, NULL))
			run.errors++;
		run.looks++;
	}
	return NULL;
}

static void *update(void *arg)
{
	(void)arg;
	for (unsigned i = 0; !run.stop; i++) {
		int added = i % 2 ? 100000 : 200000;

		run.errors += i % 2 ? static_call_update(host_call, host_default) != 0
				    : static_call_update(host_call, host_other) != 0;
		run.errors += !host_reaches(added);
		run.errors += i % 2 ? static_branch_dec(&host_branch) != 0
				    : static_branch_inc(&host_branch) != 0;
		run.errors += host_test() != (i % 2 == 0);
		run.updates++;
	}
	return NULL;
}

static void test_at_once(bool looking)
{
	static unsigned self[2] = {0, 1};
	void *(*const fns[])(void *) = {open_and_close, open_and_close, call, update, look};
	unsigned n = looking ? 5 : 4;
	struct timespec time = {2, 0};
	unsigned waits = 0;
	pthread_t threads[5];

	memset(&run, 0, sizeof(run));
	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, fns[i], &self[i % 2]))
			abort();
	/* No meeting is hoped for in this time: all that counts is that none is bad. */
	do
		(void)nanosleep(&time, NULL);
	while (!(run.opens > 10 && run.updates > 10 && run.calls > 10) && !run.errors &&
	       ++waits < 60);
	run.stop = true;
	for (unsigned i = 0; i < n; i++)
		(void)pthread_join(threads[i], NULL);
	ok(!run.errors && run.opens > 10 && run.updates > 10 && run.calls > 10,
	   "%" PRIu64 " opens, %" PRIu64 " updates, %" PRIu64 " calls, %" PRIu64 " looks (%" PRIu64
	   " keys and sites): %" PRIu64 " errors",
	   (uint64_t)run.opens, (uint64_t)run.updates, (uint64_t)run.calls, (uint64_t)run.looks,
	   (uint64_t)run.seen, (uint64_t)run.errors);
	ok(!static_call_update(host_call, host_default) && host_reaches(100000) &&
		   !count_sites(NULL, "plugin").all,
	   "and at the end the program's keys are as they were, the plugins' sites gone");
	if (static_key_count(&host_branch))
		(void)!static_branch_disable(&host_branch);
}

/* ----------------------------------------------------------------------- rounds */

struct use {
	long maps, resident, heap, descriptors;
};

static struct use measure(void)
{
	struct use use = {0};
	FILE *maps = fopen("/proc/self/maps", "r"), *statm = fopen("/proc/self/statm", "r");
	DIR *fds = opendir("/proc/self/fd");
	struct mallinfo2 heap = mallinfo2();
	int c;

	while (maps && (c = getc(maps)) != EOF)
		use.maps += c == '\n';
	if (statm && fscanf(statm, "%*d %ld", &use.resident) != 1)
		use.resident = -1;
	while (fds && readdir(fds))
		use.descriptors++;
	use.heap = (long)heap.uordblks;
	if (maps)
		(void)fclose(maps);
	if (statm)
		(void)fclose(statm);
	if (fds)
		(void)closedir(fds);
	return use;
}

static unsigned round_errors(const char *path, const char *plain)
{
	const struct plugin *p;
	void *handle, *handle2;
	unsigned errors;
	int (*fn)(int) = NULL;

	p = plugin_open(path, &handle);
	if (!p)
		return 1;
	errors = p->update(true) != 0;
	errors += p->turn(false) != 0;
	errors += p->own(1) != 1 + 1000 * p->number || p->own_branch();
	errors += static_branch_enable(&host_branch) != 0 || !p->host_is_on();
	errors += static_call_update(host_call, p->target) != 0 || !host_reaches(1000 * p->number);
	errors += dlclose(handle) != 0 || !host_reaches(100000);
	errors += static_branch_disable(&host_branch) != 0;

	handle2 = dlopen(plain, RTLD_NOW);
	if (handle2)
		*(void **)&fn = dlsym(handle2, "plain_target");
	errors += !fn || static_call_update(host_call, fn) != 0 || !host_reaches(7000);
	errors += !handle2 || dlclose(handle2) != 0 || !host_reaches(100000);
	return errors;
}

static void test_rounds(unsigned rounds)
{
	char path[4096], plain[4096];
	struct use early = {0}, late;
	unsigned errors = 0, i;
	time_t end = time(NULL) + 300;

	(void)snprintf(plain, sizeof(plain), "%s/modules_plain.so", dir);
	for (i = 0; i < rounds && !errors && time(NULL) < end; i++) {
		if (i == rounds / 10)
			early = measure();
		(void)snprintf(path, sizeof(path), "%s/modules_plugin%u.so", dir, 1 + i % 2);
		errors += round_errors(path, plain);
	}
	late = measure();
	ok(!errors && i == rounds, "%u rounds of two modules, %u errors", i, errors);
	diag("maps %ld, then %ld; resident pages %ld, %ld; heap %ld, %ld; descriptors %ld, %ld",
	     early.maps, late.maps, early.resident, late.resident, early.heap, late.heap,
	     early.descriptors, late.descriptors);
	/* A sanitizer's allocator maps now and then; what leaks does so in each round. */
	ok(late.maps <= early.maps + rounds / 50 && late.descriptors <= early.descriptors,
	   "no mappings and no descriptors are left");
	if (ASAN || TSAN)
		skip("memory", "the sanitizer keeps freed memory, and its own records of it");
	else
		ok(late.resident <= early.resident + 64 && late.heap <= early.heap + 4096,
		   "no memory is lost");
}

int main(int argc, char **argv)
{
	unsigned rounds = ASAN || TSAN ? 500 : 10000;

	if (argc < 2)
		return 2;
	dir = argv[1];
	if (getenv("SHUNT_ROUNDS"))
		rounds = (unsigned)strtoul(getenv("SHUNT_ROUNDS"), NULL, 10);
	shunt_set_log(NULL, NULL);
	count_plugins();
	test_rounds(rounds);
	test_at_once(false);
	if (TSAN)
		skip("the same with a look at all sites",
		     "ThreadSanitizer takes a plugin's data for the snapshot that was mapped "
		     "there before: it does not see the dynamic linker map");
	else
		test_at_once(true);
	return tap_done();
}
