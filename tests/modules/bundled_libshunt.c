/* SPDX-License-Identifier: MIT */
/*
 * A plugin with a libshunt of its own comes and goes: the descriptors that it has kept are closed,
 * and none of the program's, in the program and in its children, with and without updates, beside a
 * thread and alone, with two of them at a time, and where the program has closed them before.
 *
 *	test_carried PLUGIN OTHER CONTROL
 *
 * Control: the same plugin without what closes them.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "../common/idle_thread.h"

#define ROUNDS 20

struct carrier {
	void *handle;
	int (*call)(void), (*set)(int), (*policy)(int);
};

static const char *paths[3];
static const char *first; /* of them, in this run */

static void find(const struct carrier *c, const char *name, void *function)
{
	void *symbol = dlsym(c->handle, name);

	if (!symbol)
		abort();
	memcpy(function, &symbol, sizeof(symbol));
}

static struct carrier load(const char *path)
{
	struct carrier c = {.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL)};

	if (!c.handle)
		abort();
	find(&c, "carrier_call", &c.call);
	find(&c, "carrier_set", &c.set);
	find(&c, "carrier_policy", &c.policy);
	return c;
}

static void use(const struct carrier *c, int policy)
{
	if (c->policy(policy))
		abort();
	for (int on = 1; on >= 0; on--)
		if (c->set(on) || c->call() != (on ? 12 : 1))
			abort();
}

/* Whether it is gone, as it is not where it has been pinned. */
static bool unload(const struct carrier *c, const char *path)
{
	void *still;

	if (dlclose(c->handle))
		abort();
	still = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
	if (still)
		(void)dlclose(still);
	return !still;
}

static unsigned count_open(void)
{
	struct stat st;
	unsigned n = 0;

	for (int fd = 0; fd < 512; fd++)
		n += !fstat(fd, &st);
	return n;
}

/* ----------------------------------------------------------------------- situations */

/* 0; 1: a plugin did not go; 42: descriptors are left. */
static int outcome(unsigned before, bool gone)
{
	return !gone ? 1 : count_open() > before ? 42 : 0;
}

static int registers_alone(void)
{
	unsigned before = count_open();
	bool gone = true;

	for (int i = 0; i < ROUNDS; i++) {
		struct carrier c = load(first);

		gone = unload(&c, first) && gone;
	}
	return outcome(before, gone);
}

static int policy;

static int updates(void)
{
	unsigned before = count_open();
	bool gone = true;

	for (int i = 0; i < ROUNDS; i++) {
		struct carrier c = load(first);

		use(&c, policy);
		gone = unload(&c, first) && gone;
	}
	return outcome(before, gone);
}

static int updates_auto(void)
{
	policy = 0;
	return updates();
}

static int updates_remap(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, idle, NULL))
		return 2;
	policy = 2;
	return updates();
}

static int two_at_a_time(void)
{
	unsigned before = count_open();
	bool gone = true;

	for (int i = 0; i < ROUNDS; i++) {
		struct carrier a = load(first), b = load(paths[1]);

		use(&a, 0);
		use(&b, 2);
		if (i % 2) {
			gone = unload(&a, first) && gone;
			use(&b, 0);
			gone = unload(&b, paths[1]) && gone;
		} else {
			gone = unload(&b, paths[1]) && gone;
			use(&a, 2);
			gone = unload(&a, first) && gone;
		}
	}
	return outcome(before, gone);
}

/* The child has the parent's descriptors, and those of its own updates. */
static int in_a_child(void)
{
	unsigned before = count_open();
	struct carrier c = load(first);
	int status = -1;
	pid_t pid;

	use(&c, 2);
	pid = fork();
	if (!pid) {
		bool gone;

		use(&c, 0);
		gone = unload(&c, first);
		_exit(outcome(before, gone));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 2;
	use(&c, 0);
	if (status)
		return WEXITSTATUS(status);
	return outcome(before, unload(&c, first));
}

/* What has the numbers of those that are kept is the program's by now. */
static int numbers_of_others(void)
{
	struct carrier c = load(first);
	struct stat st;
	int own[16], n = 0;

	use(&c, 2);
	for (int fd = 3; fd < 512 && n < 16; fd++) {
		int file;

		if (fstat(fd, &st))
			continue;
		file = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
		if (file < 0 || dup2(file, fd) != fd || close(file))
			return 2;
		own[n++] = fd;
	}
	if (!unload(&c, first))
		return 1;
	for (int i = 0; i < n; i++)
		if (fstat(own[i], &st))
			return 3;
	return n ? 0 : 4;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *what;
		int (*fn)(void);
		bool has_control;
	} situations[] = {
		{"it registers", registers_alone, true},
		{"it updates, by auto", updates_auto, true},
		{"it updates beside a thread, by remap", updates_remap, true},
		{"two at a time", two_at_a_time, true},
		{"in a child", in_a_child, true},
		{"the program's files are at their numbers", numbers_of_others, false},
	};

	if (argc != 4)
		return 2;
	for (int i = 0; i < 3; i++)
		paths[i] = argv[i + 1];
	for (size_t i = 0; i < sizeof(situations) / sizeof(situations[0]); i++) {
		int status;

		first = paths[0];
		status = in_child(situations[i].fn);
		ok(status == 0, "%s: %d", situations[i].what, status);
		if (!situations[i].has_control)
			continue;
		first = paths[2];
		status = in_child(situations[i].fn);
		ok(status == 42, "control: %s, nothing is closed: %d", situations[i].what, status);
	}
	return tap_done();
}
