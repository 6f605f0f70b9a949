/* SPDX-License-Identifier: MIT */
/*
 * An update of what is not known does not return 0: keys before their module has
 * registered and behind its end, modules that could not be registered, the same module by
 * several descriptors, two tests at one address. In each case the update works, or fails
 * with a message and nothing has changed; and where the mark by which libshunt knows is
 * wiped out ("control"), it returns 0 and a test goes wrong.
 *
 *	known DIRECTORY-OF-THE-PLUGINS
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <unistd.h>

#include "programs.h"

#include "unregistered.h"

enum known_how known_how;
struct known_end known_end;

static char path[4096];

/* ------------------------------------------------------------------------ early */

DEFINE_STATIC_KEY_FALSE(early_key);
DEFINE_STATIC_KEY_TRUE(early_true);
DEFINE_STATIC_KEY_FALSE(early_control);

KEPT static bool early_test(void)
{
	if (static_branch_unlikely(&early_key))
		return true;
	return false;
}

KEPT static bool early_true_test(void)
{
	return static_branch_likely(&early_true);
}

KEPT static bool early_control_test(void)
{
	if (static_branch_unlikely(&early_control))
		return true;
	return false;
}

/* Before all constructors, and in one that is nearly the first of the module. */
static struct {
	int enable, inc, dec, disable, count, control;
	bool test, true_test, control_test;
} preinit, first;

static void in_preinit(void)
{
	preinit.enable = static_branch_enable(&early_key);
	preinit.inc = static_branch_inc(&early_true);
	preinit.dec = static_branch_dec(&early_true);
	preinit.disable = static_branch_disable(&early_true);
	preinit.count = static_key_count(&early_key);
	preinit.test = early_test();
	preinit.true_test = early_true_test();
	early_control.key.first->pending = 0;
	preinit.control = static_branch_enable(&early_control);
	preinit.control_test = early_control_test();
}

__attribute__((section(".preinit_array"),
	       used)) static void (*const preinit_entry)(void) = in_preinit;

#ifndef __clang__
#pragma GCC diagnostic ignored "-Wprio-ctor-dtor"
#endif
__attribute__((constructor(1))) static void in_constructor(void)
{
	first.enable = static_branch_enable(&early_key);
	first.test = early_test();
	first.disable = static_branch_disable(&early_true);
	first.true_test = early_true_test();
}

static void test_early(void)
{
	ok(preinit.enable == -EAGAIN && !preinit.count && !preinit.test,
	   ".preinit_array: enable is refused (%d), and nothing has changed", preinit.enable);
	ok(preinit.inc == -EAGAIN && preinit.dec == -EAGAIN && preinit.disable == -EAGAIN &&
		   preinit.true_test,
	   ".preinit_array: the same for a key that is on");
	ok(!first.enable && first.test && !first.disable && !first.true_test,
	   "constructor of priority 1: updates work");
	ok(early_test() && !early_true_test() && static_key_count(&early_key) == 1,
	   "and stay in force");
	ok(preinit.control == -EAGAIN && !preinit.control_test,
	   "and without the mark, as a key that no module here has");
	(void)!static_branch_disable(&early_key);
}

/* -------------------------------------------------------------------- refusals */

static const struct known_plugin *open_plugin(enum known_how how, void **handle)
{
	const struct known_plugin *p = NULL;

	known_how = how;
	*handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (*handle)
		p = dlsym(*handle, "known_plugin");
	if (!p)
		diag("%s", dlerror());
	return p;
}

static int see_why(const struct shunt_key_info *info, void *arg)
{
	if (!strcmp(info->name, "host_branch") && info->why)
		(void)snprintf(arg, 512, "%s", info->why);
	return 0;
}

/* Updates of the program's key, which the plugin tests, by all functions. */
static void expect_refused(const char *name, const struct known_plugin *p, const char *why)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	char text[512] = "";

	ok(static_branch_enable(&host_branch) == -EAGAIN && !p->host_is_on() && !host_test() &&
		   !static_key_count(&host_branch),
	   "%s: a key that it tests is not updated", name);
	ok(strstr(shunt_last_error(), "host_branch") && strstr(shunt_last_error(), why),
	   "%s: the message has key and reason: %s", name, shunt_last_error());
	ok(static_branch_inc(&host_branch) == -EAGAIN &&
		   !static_branch_batch_enable(&batch, &host_branch) &&
		   !static_call_batch_add(&batch, host_call, host_other) &&
		   static_call_batch_commit(&batch) == -EAGAIN && host_reaches(100000) &&
		   !p->host_is_on() && !static_key_count(&host_branch),
	   "%s: nor by inc, or in a batch, of which nothing is done", name);
	static_call_batch_destroy(&batch);
	(void)shunt_for_each_key(see_why, text);
	ok(strstr(text, why), "%s: inspection says why: %s", name, text);
}

static void expect_own(const char *name, const struct known_plugin *p, bool refused)
{
	int ret = p->turn(true);

	ok(refused ? ret == -EAGAIN && !p->own_is_on() : !ret && p->own_is_on(),
	   "%s: its own key: %d", name, ret);
	if (!ret)
		(void)!p->turn(false);
	ret = p->update(true);
	ok(p->own_call() == (ret ? 1 : 2), "%s: its own static call: %d", name, ret);
	if (!ret)
		(void)!p->update(false);
}

static void test_refused(const char *name, enum known_how how, const char *why, bool own_refused)
{
	const struct known_plugin *p;
	void *handle;

	p = open_plugin(how, &handle);
	if (!ok(p, "%s: loaded", name))
		return;
	expect_refused(name, p, why);
	expect_own(name, p, own_refused);
	if (how == KNOWN_NEWER || how == KNOWN_OLDER)
		ok(!p->own_marks(), "%s: its own key, which may look otherwise, is not written",
		   name);
	host_branch.key.first->unknown = 0;
	ok(!static_branch_enable(&host_branch) && host_test() && !p->host_is_on(),
	   "control: %s: without the mark enable returns 0, and its test says no", name);
	(void)!static_branch_disable(&host_branch);
	(void)dlclose(handle);
	ok(!static_branch_enable(&host_branch) && host_test(), "%s: gone, and the key is free",
	   name);

	/* It comes again when the key is on: what only counts is refused too. */
	p = open_plugin(how, &handle);
	ok(p && static_branch_inc(&host_branch) == -EAGAIN &&
		   static_branch_enable(&host_branch) == -EAGAIN &&
		   static_branch_dec(&host_branch) == -EAGAIN &&
		   static_key_count(&host_branch) == 1,
	   "%s: a key that is on is not counted up", name);
	(void)dlclose(handle);
	ok(!static_branch_inc(&host_branch) && !static_branch_dec(&host_branch) &&
		   !static_branch_disable(&host_branch) && !host_test(),
	   "%s: gone again", name);
}

/* ----------------------------------------------------------------- descriptors */

static size_t sites_once; /* of a module with one descriptor; 0: not known yet */

/*
 * (Modules that are in their keys twice make rings, in which updates have no end: with too many
 * sites the program ends.)
 */
static size_t known_sites(enum known_how how, bool works)
{
	const struct known_plugin *p;
	size_t n;
	void *handle;

	p = open_plugin(how, &handle);
	if (!p)
		return 0;
	n = count_sites(NULL, "modules_unregistered").all;
	if (works && sites_once && n != sites_once) {
		ok(false, "descriptors: %zu sites", n);
		(void)tap_done();
		_exit(1);
	}
	if (works) {
		expect_own("descriptors", p, false);
		ok(!static_branch_enable(&host_branch) && p->host_is_on() &&
			   !static_branch_disable(&host_branch) && !p->host_is_on(),
		   "descriptors: and the program's");
	}
	(void)dlclose(handle);
	ok(!count_sites(NULL, "modules_unregistered").all, "descriptors: gone");
	return n;
}

static void test_descriptors(void)
{
	size_t once = known_sites(KNOWN_ONCE, true);

	sites_once = once;
	ok(once > 128, "a module with %zu sites", once);
	ok(known_end.last_enable == 0 && known_end.last_test && known_end.last_update == 0 &&
		   known_end.last_call == 2,
	   "its last destructor can update its keys");
	ok(known_end.enable == -EAGAIN && !known_end.test && known_end.update == -EAGAIN &&
		   known_end.call == 1,
	   "behind that updates are refused (%d, %d)", known_end.enable, known_end.update);
	ok(known_sites(KNOWN_TWICE, true) == once, "by two descriptors: as many sites");
	ok(known_sites(KNOWN_AS_TWO, false) > once,
	   "control: descriptors that differ are two modules");
}

/*
 * A module that goes without a word, and another one that is mapped where it was; on aarch64, where
 * linkers round up to 64 KiB, in all of its range.
 */
static void test_silent(const char *directory)
{
	const struct known_plugin *p;
	const struct plugin *q = NULL;
	char other[4200];
	Dl_info now;
	void *handle, *site;

	p = open_plugin(KNOWN_SILENT, &handle);
	if (!ok(p && !static_branch_enable(&host_branch) && p->host_is_on() &&
			!static_branch_disable(&host_branch),
		"silent: loaded"))
		return;
	site = *(void *const *)&p->host_is_on;
	(void)dlclose(handle);
	(void)snprintf(other, sizeof(other), "%s/modules_plugin1.so", directory);
	q = plugin_open(other, &handle);
	if (!q || !dladdr(site, &now)) {
		skip("silent", "the next module is mapped elsewhere");
		return;
	}
	ok(!static_branch_enable(&host_branch) && host_test() && plugin_works(q, 100000, true),
	   "silent: the key's sites are those of the module that is there now");
	ok(!static_branch_disable(&host_branch) && !host_test() && plugin_works(q, 100000, false),
	   "silent: and back");
	(void)dlclose(handle);
}

/*
 * More of them than there are records for without memory; those that have one go. The key is
 * lost for good, until the control takes the mark away.
 */
static void test_lost(void)
{
	const struct known_plugin *p;
	void *handle;

	if (TSAN || ASAN) {
		skip("no memory", "a sanitizer needs some");
		return;
	}
	p = open_plugin(KNOWN_NO_MEMORY, &handle);
	if (!ok(p, "no memory: loaded"))
		return;
	ok(static_branch_enable(&host_branch) == -ENOMEM && !p->host_is_on() && !host_test() &&
		   strstr(shunt_last_error(), "for want of memory"),
	   "no memory: a key that it tests is not updated: %s", shunt_last_error());
	host_branch.key.first->unknown = 0;
	ok(!static_branch_enable(&host_branch) && host_test() && !p->host_is_on(),
	   "control: no memory: without the mark enable returns 0, and its test says no");
	(void)!static_branch_disable(&host_branch);
	(void)dlclose(handle);
}

/* ------------------------------------------------- what the dynamic linker says */

#if !TSAN && !ASAN
static bool no_list, no_object;

/* As of a host that answers from a list of its own, which is out of date. */
PUBLIC int dl_iterate_phdr(int (*fn)(struct dl_phdr_info *, size_t, void *), void *arg)
{
	int (*real)(int (*)(struct dl_phdr_info *, size_t, void *), void *);

	*(void **)&real = dlsym(RTLD_NEXT, "dl_iterate_phdr");
	return no_list ? 0 : real(fn, arg);
}

#ifdef DLFO_STRUCT_HAS_EH_DBASE
PUBLIC int _dl_find_object(void *address, struct dl_find_object *result)
{
	int (*real)(void *, struct dl_find_object *);

	*(void **)&real = dlsym(RTLD_NEXT, "_dl_find_object");
	return no_object ? -1 : real(address, result);
}
#else
#define NO_FIND_OBJECT
#endif

static void test_interposed(void)
{
#ifdef NO_FIND_OBJECT
	skip("a list of the program's own", "no _dl_find_object()");
#else
	size_t once = known_sites(KNOWN_ONCE, false);

	no_list = true;
	ok(known_sites(KNOWN_ONCE, true) == once, "a list of the program's own: all is known");
	no_list = false;
	no_object = true;
	ok(known_sites(KNOWN_ONCE, true) == once, "no _dl_find_object(): all is known");
	no_list = true;
	test_refused("neither", KNOWN_ONCE, "does not know it", true);
	no_list = no_object = false;
#endif
}
#else
static void test_interposed(void)
{
	skip("a list of the program's own", "a sanitizer has one");
}
#endif

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	(void)snprintf(path, sizeof(path), "%s/modules_unregistered.so", argv[1]);
	shunt_set_log(NULL, NULL);
	test_early();
	test_descriptors();
	test_silent(argv[1]);
	test_lost();
	test_refused("newer header", KNOWN_NEWER, "another version", true);
	test_refused("older header", KNOWN_OLDER, "another version", true);
	test_refused("in no module", KNOWN_UNPLACED, "does not know it", true);
	test_refused("300 modules", KNOWN_300_TIMES, "does not know it", true);
	test_refused("folded functions", KNOWN_FOLDED, "at one address", true);
	test_interposed();
	return tap_done();
}
