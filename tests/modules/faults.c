/* SPDX-License-Identifier: MIT */
/*
 * Failures while a plugin is registered and used: each allocation, each write and each
 * core sync fails in turn (ld --wrap around the port). The plugin may be left on its
 * trampolines, an update may be refused: but every call and every test does what its key
 * says, and nothing crashes.
 *
 * Negative controls (../api/controls.py): with SHUNT_CONTROL=silent the library is not
 * told that a write fails; with roll-back, what it does behind a failure is not done; with
 * unchecked, memory that is not there looks as if it were.
 *
 *	faults DIRECTORY-OF-THE-PLUGINS
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <shunt/port.h>

#include "programs.h"

void *__real_shunt_port_alloc(size_t size);
int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __real_shunt_port_core_sync(void);
void *__wrap_shunt_port_alloc(size_t size);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_core_sync(void);

enum what { ALLOC, WRITE, SYNC, NOTHING };

static struct {
	enum what what;
	unsigned at, seen, injected;
	bool onwards;
} fault = {NOTHING, 0, 0, 0, false};

static bool fires(enum what what)
{
	bool fire;

	if (fault.what != what)
		return false;
	fault.seen++;
	fire = fault.onwards ? fault.seen >= fault.at : fault.seen == fault.at;
	fault.injected += fire;
	return fire;
}

static bool is_control(const char *name)
{
	const char *control = getenv("SHUNT_CONTROL");

	return control && !strcmp(control, name);
}

void *__wrap_shunt_port_alloc(size_t size)
{
	if (!fires(ALLOC))
		return __real_shunt_port_alloc(size);
	return is_control("unchecked")
		       ? mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
		       : NULL;
}

int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	bool behind = (fault.what == WRITE || fault.what == SYNC) && fault.injected;

	if (fires(WRITE))
		return is_control("silent") ? 0 : -EIO;
	if (behind && is_control("roll-back"))
		return 0;
	return __real_shunt_port_text_write(writes, n);
}

int __wrap_shunt_port_core_sync(void)
{
	return fires(SYNC) ? -EIO : __real_shunt_port_core_sync();
}

static void arm(enum what what, unsigned at, bool onwards)
{
	fault.seen = fault.injected = 0;
	fault.at = at;
	fault.onwards = onwards;
	fault.what = what;
}

static void disarm(void)
{
	fault.what = NOTHING;
}

/* Of the calls and tests, how many do not do what their key says. */
static unsigned wrong_calls(const struct plugin *p, int added)
{
	return (unsigned)((p->own(1) != 1 + 10 * p->number) +
			  (p->exported(1) != 1 + 10 * p->number) + (p->host(1) != 2 * (added + 1)) +
			  (p->host_tail(1) != added + 1) + !host_reaches(added));
}

static unsigned wrong_tests(const struct plugin *p, bool on)
{
	return (unsigned)(!p->own_branch() + (p->host_is_on() != on) + (host_test() != on));
}

struct result {
	unsigned places, wrong_calls, wrong_tests, wrong_settled, wrong_later, not_loaded;
};

/* Load the plugin with a fault at each place, and change the keys behind that. */
static void load(const char *path, enum what what, bool onwards, bool on, struct result *r)
{
	for (unsigned at = 1; at < 200; at++) {
		const struct plugin *p;
		void *handle;
		unsigned injected, wrong;
		int ret;

		arm(what, at, onwards);
		p = plugin_open(path, &handle);
		disarm();
		injected = fault.injected;
		if (!p) {
			r->not_loaded++;
			return;
		}
		r->places += injected != 0;
		wrong = wrong_calls(p, 100000);
		r->wrong_calls += wrong;
		r->wrong_tests += wrong_tests(p, on);
		/* An update to the value that the key has brings up what could not be poked. */
		ret = on ? static_branch_inc(&host_branch) : static_branch_disable(&host_branch);
		if (!ret)
			r->wrong_settled += wrong_tests(p, on);
		if (!ret && on)
			r->wrong_settled += static_branch_dec(&host_branch) != 0;
		/* What succeeds now is in force. */
		ret = static_call_update(host_call, host_other);
		r->wrong_calls += wrong_calls(p, ret ? 100000 : 200000);
		if (!ret)
			r->wrong_calls += static_call_update(host_call, host_default) != 0;
		ret = on ? static_branch_disable(&host_branch) : static_branch_enable(&host_branch);
		if (!ret)
			r->wrong_later += wrong_tests(p, !on);
		ret = ret  ? 0
		      : on ? static_branch_enable(&host_branch)
			   : static_branch_disable(&host_branch);
		r->wrong_later += ret != 0;
		(void)dlclose(handle);
		if (!injected)
			return;
	}
}

static const char *const names[] = {"allocation", "write", "core sync"};

static void test_load(const char *path)
{
	for (enum what what = ALLOC; what < NOTHING; what++)
		for (int onwards = 0; onwards < 2; onwards++)
			for (int on = 0; on < 2; on++) {
				struct result r = {0};

				if (on && static_branch_enable(&host_branch))
					continue;
				load(path, what, onwards, on, &r);
				ok(r.places && !r.wrong_calls && !r.not_loaded,
				   "%s fails%s while a plugin is loaded, %u places: calls reach "
				   "(%u)",
				   names[what], onwards ? " from there on" : "", r.places,
				   r.wrong_calls);
				ok(!r.wrong_later, "the same: tests follow later updates (%u)",
				   r.wrong_later);
				/* A branch has no trampoline to fall back to. */
				if (on) /* one write that fails is made again by another way */
					ok((!r.wrong_tests) == (what == WRITE && !onwards) &&
						   !r.wrong_settled,
					   "the same: %u tests of a key that is on follow when it "
					   "is counted up (%u)",
					   r.wrong_tests, r.wrong_settled);
				else
					ok(!r.wrong_tests && !r.wrong_settled,
					   "the same: tests of a key that is off");
				if (on && static_branch_disable(&host_branch))
					ok(false, "back");
			}
	ok(host_reaches(100000) && !host_test() && !count_sites(NULL, "plugin").all,
	   "nothing is left of it");
}

/* The same with updates of a plugin that is there: nothing changes, or all. */
static void test_update(const char *path)
{
	const struct plugin *p;
	void *handle;

	p = plugin_open(path, &handle);
	if (!ok(p && plugin_works(p, 100000, false), "a plugin"))
		return;
	for (enum what what = ALLOC; what < NOTHING; what++) {
		unsigned wrong = 0, places = 0, refused = 0;

		for (unsigned at = 1; at < 100; at++) {
			int added = 100000, ret;
			bool on = false;

			arm(what, at, false);
			ret = static_call_update(host_call, p->target);
			added = ret ? added : 1000 * p->number;
			refused += ret != 0;
			wrong += wrong_calls(p, added);
			ret = static_branch_inc(&host_branch);
			on = !ret;
			refused += ret != 0;
			wrong += wrong_tests(p, on);
			disarm();
			places += fault.injected;
			wrong += static_call_update(host_call, host_default) != 0;
			if (on)
				wrong += static_branch_dec(&host_branch) != 0;
			wrong += wrong_calls(p, 100000) + wrong_tests(p, false);
			if (!fault.injected)
				break;
		}
		ok(!wrong && (places || what == ALLOC),
		   "%s fails in an update: %u places, %u refused", names[what], places, refused);
	}
	ok(!dlclose(handle), "it goes");
	/* Negative control: wrong_calls() and wrong_tests() see what is wrong. */
	p = plugin_open(path, &handle);
	ok(p && wrong_calls(p, 200000) == 3 && wrong_tests(p, true) == 2,
	   "wrong values are noticed");
	ok(p && !dlclose(handle), "it goes");
}

/*
 * A key whose tests in a module are not known, however many they are, is not changed; it can
 * be once the module is gone. Otherwise all of them follow.
 */
static void test_many(const char *path)
{
	unsigned wrong = 0, refused = 0, places = 0;

	for (unsigned at = 1; at < 100; at++) {
		int (*many_on)(void) = NULL;
		void *handle;
		int ret;

		arm(ALLOC, at, true);
		handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		disarm();
		if (handle)
			*(void **)&many_on = dlsym(handle, "many_on");
		if (!many_on) {
			wrong++;
			break;
		}
		places += fault.injected != 0;
		wrong += many_on() != 0;
		ret = static_branch_enable(&host_branch);
		refused += ret != 0;
		wrong += many_on() != (ret ? 0 : 256);
		if (!ret)
			wrong += static_branch_disable(&host_branch) != 0 || many_on() != 0;
		wrong += dlclose(handle) != 0;
		wrong += static_branch_enable(&host_branch) != 0 || !host_test();
		wrong += static_branch_disable(&host_branch) != 0;
		if (!fault.injected)
			break;
	}
	ok(!wrong && places && refused,
	   "256 tests of one key, %u places, %u refused: all or none follow (%u)", places, refused,
	   wrong);
}

/*
 * The first one, for which there is no record of a module that has gone: without memory for one it
 * is known all the same, and so its keys can be changed when it has gone.
 */
static void test_first(const char *path)
{
	unsigned injected;
	void *handle;

	arm(ALLOC, 1, true);
	handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	disarm();
	injected = fault.injected;
	ok(handle && injected && !dlclose(handle), "the first one comes without memory, and goes");
	ok(!static_branch_enable(&host_branch) && host_test() &&
		   !static_branch_disable(&host_branch),
	   "and a key that it tested can be changed: %s", shunt_last_error());
}

int main(int argc, char **argv)
{
	char path[4096];

	if (argc < 2)
		return 2;
	shunt_set_log(NULL, NULL);
	(void)snprintf(path, sizeof(path), "%s/modules_many_sites.so", argv[1]);
	test_first(path);
	(void)snprintf(path, sizeof(path), "%s/modules_plugin1.so", argv[1]);
	test_update(path);
	test_load(path);
	(void)snprintf(path, sizeof(path), "%s/modules_many_sites.so", argv[1]);
	test_many(path);
	return tap_done();
}
