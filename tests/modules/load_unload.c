/* SPDX-License-Identifier: MIT */
/*
 * Modules that come and go: what their keys and sites do from load to unload, targets
 * that go away, targets that are far away, constructors and destructors out of order.
 *
 *	modules DIRECTORY-OF-THE-PLUGINS
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __aarch64__
#include "arch/aarch64/a64.h"
#endif

#include "programs.h"

static char path_1[4096], path_2[4096], path_plain[4096], path_early[4096], path_bare[4096],
	path_self[4096];

/* ------------------------------------------------------------------------ rounds */

static void test_round(int round)
{
	struct site_counts before = count_sites(NULL, NULL), now;
	const struct plugin *p, *q;
	void *handle, *again, *other;
	int ret;

	p = plugin_open(path_1, &handle);
	if (!ok(p && plugin_works(p, 100000, false), "round %d: a plugin is loaded", round))
		return;
	q = plugin_open(path_2, &other);
	ok(q && plugin_works(q, 100000, false), "round %d: another with keys of the same names",
	   round);
	if (!q)
		return;
	ok(p->update(true) == 0 && p->own(1) == 1001 && q->own(1) == 21 && q->turn(false) == 0 &&
		   p->own_branch() && !q->own_branch(),
	   "round %d: each has its own", round);
	ok(p->update(false) == 0 && q->turn(true) == 0, "round %d: and back", round);
	ret = static_call_update(host_call, host_other);
	ret |= static_branch_enable(&host_branch);
	ok(!ret && plugin_works(p, 200000, true) && plugin_works(q, 200000, true) &&
		   host_reaches(200000) && host_test(),
	   "round %d: the program's keys change in all modules", round);
	ret = p->update_host(q->target);
	ok(!ret && host_reaches(2000) && plugin_works(p, 2000, true) && plugin_works(q, 2000, true),
	   "round %d: a plugin sets the program's key to another plugin's function", round);
	ok(static_call_update(host_call, host_default) == 0, "round %d: and back", round);

	ok(plugin_open(path_1, &again) == p && dlclose(again) == 0 && plugin_works(p, 100000, true),
	   "round %d: opened and closed twice", round);
	ok(!dlclose(handle) && plugin_works(q, 100000, true) && host_reaches(100000),
	   "round %d: one goes", round);
	ret = static_branch_disable(&host_branch);
	ok(!ret && plugin_works(q, 100000, false) && !host_test(), "round %d: the other works on",
	   round);
	p = plugin_open(path_1, &handle);
	ok(p && plugin_works(p, 100000, false), "round %d: the first one is back", round);
	ok(!dlclose(handle) && !dlclose(other), "round %d: both go", round);
	now = count_sites(NULL, NULL);
	ok(now.all == before.all && host_reaches(100000), "round %d: their sites are gone (%u, %u)",
	   round, before.all, now.all);
}

/* A plugin that is loaded when the program's keys are not what they were at first. */
static void test_loaded_late(void)
{
	const struct plugin *p;
	void *handle;
	int ret = static_call_update(host_call, host_other);

	ret |= static_branch_inc(&host_branch);
	p = plugin_open(path_1, &handle);
	ok(!ret && p && plugin_works(p, 200000, true), "its sites follow keys changed before");
	if (!p)
		return;
	ret = static_call_update(host_call, host_default) | static_branch_dec(&host_branch);
	ok(!ret && plugin_works(p, 100000, false), "and again");
	ok(!dlclose(handle), "it goes");
}

/* ------------------------------------------------------------------ out of order */

static void test_early(void)
{
	static const int expected[16] = {
		[1] = 12, [4] = 12, [5] = 12, [6] = 12, [7] = 1, [8] = 12, [10] = 11, [14] = 11,
	};
	bool good = true;
	void *handle;

	memset(host_notes, 0xee, sizeof(host_notes));
	handle = dlopen(path_early, RTLD_NOW | RTLD_LOCAL);
	ok(handle && host_site(10) == 12 && host_test(),
	   "a constructor before libshunt's updates the program's keys");
	ok(handle && !dlclose(handle) && host_reaches(100000) && !host_test(),
	   "destructors before and behind libshunt's update them back");
	for (int i = 0; i < 16; i++)
		if (host_notes[i] != expected[i]) {
			diag("note %d: %d, expected %d", i, host_notes[i], expected[i]);
			good = false;
		}
	ok(good, "what they saw");
}

/* ------------------------------------------------------------- targets that go */

static int (*plain_open(void **handle))(int)
{
	int (*fn)(int) = NULL;

	*handle = dlopen(path_plain, RTLD_NOW | RTLD_LOCAL);
	if (*handle)
		*(void **)&fn = dlsym(*handle, "plain_target");
	return fn;
}

static void test_targets_go(int round)
{
	const struct plugin *p;
	int (*fn)(int);
	void *handle;

	messages_start();
	p = plugin_open(path_1, &handle);
	ok(p && !static_call_update(host_call, p->target) && host_reaches(1000),
	   "target round %d: a plugin's function", round);
	ok(!dlclose(handle) && static_call_query(host_call) == (void *)host_default &&
		   host_reaches(100000),
	   "target round %d: unloaded, the key is back to its default", round);
	ok(messages_with("host_call") == 1 && messages_with("modules_plugin1") == 1,
	   "target round %d: and that is told", round);

	messages_start();
	fn = plain_open(&handle);
	ok(fn && !static_call_update(host_call, fn) && host_reaches(7000),
	   "target round %d: of a module that never heard of Shunt", round);
	ok(!dlclose(handle) && static_call_query(host_call) == (void *)host_default &&
		   host_reaches(100000),
	   "target round %d: unloaded, the same", round);
	ok(messages_with("host_call") == 1 && messages_with("modules_plain") == 1,
	   "target round %d: and told", round);

	/* A key that points elsewhere meanwhile is left alone. */
	messages_start();
	fn = plain_open(&handle);
	ok(fn && !static_call_update(host_call, fn) && !static_call_update(host_call, host_other) &&
		   !dlclose(handle) && host_reaches(200000) && !messages_with(""),
	   "target round %d: one that was a target once", round);
	ok(!static_call_update(host_call, host_default), "target round %d: back", round);
	messages_print();
}

/* A module that cannot say that it goes is kept while a key points, or pointed, into it. */
static void test_bare_target(void)
{
	int (*fn)(int) = NULL;
	void *handle = dlopen(path_bare, RTLD_NOW | RTLD_LOCAL);

	if (handle)
		*(void **)&fn = dlsym(handle, "plain_target");
	ok(fn && !static_call_update(host_call, fn) && host_reaches(7000),
	   "a target in a module without a __dso_handle");
	ok(fn && !dlclose(handle) &&
		   (static_call_query(host_call) == (void *)fn ? host_reaches(7000)
							       : host_reaches(100000)),
	   "closed: its function can still be called, or the key is back");
	ok(!static_call_update(host_call, host_default) && host_reaches(100000), "back");
}

/* Nothing goes away when the program ends: nothing is to be told. */
static void test_exit(const char *how)
{
	char text[1024];
	ssize_t n;
	size_t len = 0;
	int fds[2], status = -1;
	pid_t pid;

	if (pipe(fds))
		return;
	pid = fork();
	if (!pid) {
		(void)dup2(fds[1], 2);
		(void)close(fds[0]);
		(void)close(fds[1]);
		(void)unsetenv("SHUNT_LOG");
		(void)execl(path_self, path_self, how, path_1, path_plain, NULL);
		_exit(2);
	}
	(void)close(fds[1]);
	while ((n = read(fds[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	(void)close(fds[0]);
	(void)waitpid(pid, &status, 0);
	ok(!status && !len, "%s: exit is silent (%d): %s", how, status, text);
}

/* Called by a handler of atexit(): behind our own, before the destructors. */
static void call_at_exit(void)
{
	if (!host_reaches(7000) && !host_reaches(1000))
		_exit(3);
}

static bool in_exit_child;

/*
 * DT_FINI, by the linker's -fini: behind all destructors, also the one that has the program's sites
 * forgotten when it is unloaded.
 */
void call_at_last(void);
void call_at_last(void)
{
	if (in_exit_child && (static_call_update(host_call, host_other) || !host_reaches(200000)))
		_exit(4);
}

static int exit_child(const char *how)
{
	const struct plugin *p;
	int (*fn)(int);
	void *handle;

	in_exit_child = true;
	(void)atexit(call_at_exit);
	p = plugin_open(path_1, &handle);
	fn = plain_open(&handle);
	if (!p || !fn || static_call_update(host_call, strstr(how, "plain") ? fn : p->target))
		return 2;
	return host_site(1) > 0 ? 0 : 2; /* exit, with all loaded */
}

/* ----------------------------------------------------------------------- far away */

struct far_look {
	unsigned good, all;
	const void *target;
};

#ifdef __aarch64__
/* bl (b) veneer; veneer: a load of the target into x16, and br x16. NULL: something else. */
static const void *behind_veneer(const uint8_t *site)
{
	uint32_t word = a64_load(site);
	const uint8_t *veneer;
	uintptr_t slot;

	if (!a64_is_b(word) && !a64_is_bl(word))
		return NULL;
	veneer = site + (intptr_t)a64_branch_target(word, 0);
	slot = a64_jump_slot(veneer, 16, (uintptr_t)veneer); /* of the module's own */
	if (!slot && a64_load(veneer) == A64_BTI_C && a64_is_br(a64_load(veneer + 8), A64_X16) &&
	    a64_is_ldr_literal(a64_load(veneer + 4), A64_X16))
		slot = a64_ldr_literal_address(a64_load(veneer + 4), (uintptr_t)veneer + 4);
	return slot ? *(const void *const *)slot : NULL;
}
#else
static const uint8_t *rel32_at(const uint8_t *at)
{
	int32_t rel;

	memcpy(&rel, at, 4);
	return at + 4 + rel;
}

/* call (jmp, jcc) veneer; veneer: jmp *target(%rip). */
static const void *behind_veneer(const uint8_t *site)
{
	const uint8_t *veneer = rel32_at(site + (site[0] == 0x0f ? 2 : 1));
	const void *target;

	if ((site[0] != 0xe8 && site[0] != 0xe9 && site[0] != 0x0f) || veneer[0] != 0xff ||
	    veneer[1] != 0x25)
		return NULL;
	memcpy(&target, rel32_at(veneer + 2), sizeof(target));
	return target;
}
#endif

static int look_far(const struct shunt_site_info *info, void *arg)
{
	struct far_look *look = arg;

	if (!strstr(info->module, "exe") && !strstr(info->module, "test_modules"))
		return 0;
	look->all++;
	if (info->state == SHUNT_SITE_FAR && info->why)
		look->good += behind_veneer(info->addr) == look->target;
	return 0;
}

static struct {
	_Atomic bool stop;
	_Atomic uint64_t calls, wrong;
	int (*target)(int);
	int far_added;
} hammer;

static void *hammer_far(void *arg)
{
	(void)arg;
	for (int x = 1; !hammer.stop; x = (x + 1) % 1000 + 1) {
		int r[3] = {host_site(x), host_tail(x), host_jcc(x)};

		for (int i = 0; i < 3; i++)
			hammer.wrong += r[i] - x != 100000 && r[i] - x != hammer.far_added;
		hammer.calls++;
	}
	return NULL;
}

static void wait_calls(uint64_t n)
{
	uint64_t from = hammer.calls;

	while (hammer.calls < from + n)
		(void)sched_yield();
}

static void test_far(void)
{
	const struct plugin *p;
	struct far_look look = {0};
	unsigned errors = 0;
	struct shunt_stats before, after;
	pthread_t thread;
	void *handle;

	p = plugin_open(path_1, &handle);
	if (!ok(p != NULL, "far: a plugin"))
		return;
	ok(!static_call_update(host_call, p->target) && host_reaches(1000), "far: a target there");
	look.target = (void *)p->target;
	if (shunt_for_each_site("host_call", look_far, &look))
		errors++;
	ok(look.all == 3 && look.good == 3 && !errors,
	   "far: %u of %u sites (call, jmp, jcc) go to a veneer that goes to it", look.good,
	   look.all);
	ok(count_sites("host_call", "plugin1").by_state[SHUNT_SITE_FAR] == 0,
	   "far: not so in the plugin");
	ok(!static_call_update(host_call, host_default) &&
		   count_sites("host_call", "plugin1").by_state[SHUNT_SITE_FAR] == 3,
	   "far: and the other way round");

	hammer.far_added = 1000;
	if (pthread_create(&thread, NULL, hammer_far, NULL))
		abort();
	shunt_get_stats(&before);
	for (int i = 0; i < 400; i++) {
		errors += i % 2 ? static_call_update(host_call, host_default) != 0
				: static_call_update(host_call, p->target) != 0;
		if (i % 2)
			wait_calls(1);
		if (i % 50 == 0) {
			/* Behind the update, all calls are new. */
			wait_calls(1);
			errors += !host_reaches(i % 2 ? 100000 : 1000);
		}
	}
	shunt_get_stats(&after);
	hammer.stop = true;
	(void)pthread_join(thread, NULL);
	ok(!errors && !hammer.wrong,
	   "far: 400 updates under a hammering thread, %" PRIu64 " calls, %" PRIu64 " traps",
	   3 * (uint64_t)hammer.calls, after.traps - before.traps);
	ok(!dlclose(handle) && host_reaches(100000), "far: it goes");
}

/*
 * A program that closes all descriptors gives the number of ours to a file of its own.
 * What is written to a site must not go there.
 */
static void test_descriptor(void)
{
	const struct plugin *p;
	int fd = -1, mem = -1, ret;
	void *handle;
	struct stat st = {0};

	/* Its function is one that no veneer leads to yet. */
	p = plugin_open(path_2, &handle);
	for (int i = 3; i < 64 && mem < 0; i++) {
		char link[32], to[64] = "";

		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", i);
		if (readlink(link, to, sizeof(to) - 1) > 4 && strstr(to, "/mem"))
			mem = i;
	}
	/* In memory: a file on a disk cannot be written at an offset as high as text is. */
	fd = memfd_create("own", 0);
	if (!ok(p && fd >= 0 && mem >= 0, "descriptor: ours is %d", mem))
		return;
	ok(dup2(fd, mem) == mem, "descriptor: it becomes another's");
	ret = static_call_update(host_call, p->exported);
	ok(!ret && host_reaches(20) &&
		   count_sites("host_call", "exe").by_state[SHUNT_SITE_FAR] == 3,
	   "descriptor: a far target, by way of a new veneer (%d)", ret);
	if (fstat(fd, &st))
		st.st_size = -1;
	ok(st.st_size == 0, "descriptor: nothing was written to it (%lld)", (long long)st.st_size);
	ok(!static_call_update(host_call, host_default), "descriptor: back");
	(void)close(fd);
	(void)close(mem);
	(void)dlclose(handle);
}

/* -------------------------------------------------------------------------- fork */

static int forked(const struct plugin *p)
{
	const struct plugin *q;
	void *handle;

	/* First of all where the parent has text, too: elsewhere it could not be written to. */
	if (static_call_update(host_call, host_other) || !host_reaches(200000) ||
	    static_call_update(host_call, host_default) || !host_reaches(100000))
		return 2;
	q = plugin_open(path_2, &handle);
	if (!q || !plugin_works(q, 100000, false) || !plugin_works(p, 100000, false))
		return 3;
	if (static_call_update(host_call, q->target) || !host_reaches(2000) ||
	    p->host_tail(1) != 2001)
		return 4;
	if (dlclose(handle) || !host_reaches(100000))
		return 5;
	if (static_branch_enable(&host_branch) || !host_test() || !p->host_is_on() ||
	    p->update(true))
		return 6;
	return p->own(1) == 1001 ? 0 : 7;
}

static void test_fork(void)
{
	const struct plugin *p;
	void *handle;
	int status = -1;
	pid_t pid;

	p = plugin_open(path_1, &handle);
	if (!ok(p != NULL, "fork: a plugin"))
		return;
	pid = fork();
	if (!pid)
		_exit(forked(p));
	(void)waitpid(pid, &status, 0);
	ok(!status, "fork: the child opens, updates and closes (status %x)", (unsigned)status);
	ok(plugin_works(p, 100000, false) && host_reaches(100000) && !host_test(),
	   "fork: the parent's text is its own");
	ok(!dlclose(handle), "fork: closed");
}

/* How many descriptors of @path are open. */
static unsigned descriptors_of(const char *path)
{
	struct stat file, open;
	unsigned n = 0;

	if (stat(path, &file))
		return UINT32_MAX;
	for (int fd = 0; fd < 1024; fd++)
		n += !fstat(fd, &open) && open.st_dev == file.st_dev && open.st_ino == file.st_ino;
	return n;
}

/* What is kept of a module's file for updates is closed when the module goes. */
static void test_kept_file(void)
{
	void *handle;
	unsigned kept;

	if (!ok(!descriptors_of(path_2) && plugin_open(path_2, &handle), "file: a plugin"))
		return;
	kept = descriptors_of(path_2);
	ok(kept > 0, "file: kept for updates: %u descriptors", kept);
	ok(!dlclose(handle) && !descriptors_of(path_2), "file: none is left of one that is gone");
}

int main(int argc, char **argv)
{
	if (argc == 4) {
		(void)snprintf(path_1, sizeof(path_1), "%s", argv[2]);
		(void)snprintf(path_plain, sizeof(path_plain), "%s", argv[3]);
		return exit_child(argv[1]);
	}
	if (argc < 2)
		return 2;
	(void)snprintf(path_1, sizeof(path_1), "%s/modules_plugin1.so", argv[1]);
	(void)snprintf(path_2, sizeof(path_2), "%s/modules_plugin2.so", argv[1]);
	(void)snprintf(path_plain, sizeof(path_plain), "%s/modules_plain.so", argv[1]);
	(void)snprintf(path_early, sizeof(path_early), "%s/modules_early_constructors.so", argv[1]);
	(void)snprintf(path_bare, sizeof(path_bare), "%s/modules_bare.so", argv[1]);
	if (readlink("/proc/self/exe", path_self, sizeof(path_self) - 1) < 0)
		return 2;
	messages_start();
	for (int round = 1; round <= 3; round++)
		test_round(round);
	ok(!messages_with(""), "no messages");
	messages_print();
	test_loaded_late();
	test_early();
	test_early();
	for (int round = 1; round <= 3; round++)
		test_targets_go(round);
	test_bare_target();
	test_kept_file();
	test_far();
	test_descriptor();
	test_fork();
	test_exit("exit-plain");
	test_exit("exit-plugin");
	return tap_done();
}
