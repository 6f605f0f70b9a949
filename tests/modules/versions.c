/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of other versions of shunt/module.h, in a program and in plugins. One that stands
 * beside a module's own leaves its record alone: its calls and branches go on being updated. A
 * module of an earlier version, whose branches are not known, has updates of the keys that it tests
 * refused; when it goes, they work again.
 *
 *	test_versions PLUGIN CONTROL
 *
 * Controls: the descriptor of another version takes the record of the module that it is in; an
 * earlier one is taken for one of this version.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../common/child.h"
#include "../common/one_two.h"
#include "linux/module/loaded.h"

#include "../api/tap.h"

DEFINE_STATIC_CALL(versions_call, one);
DEFINE_STATIC_KEY_FALSE(versions_host);
EXPORT_STATIC_KEY(versions_host);

KEEP static int site(void)
{
	return static_call(versions_call)() + (static_branch_unlikely(&versions_host) ? 10 : 0);
}

void __real_shunt_loaded_forget(struct shunt_range range, const char *path,
				const struct shunt_loaded *gone);
void __wrap_shunt_loaded_forget(struct shunt_range range, const char *path,
				const struct shunt_loaded *gone);

static bool takes_record;

void __wrap_shunt_loaded_forget(struct shunt_range range, const char *path,
				const struct shunt_loaded *gone)
{
	if (takes_record && !gone)
		gone = shunt_loaded_find_same(&__shunt_module, range);
	__real_shunt_loaded_forget(range, path, gone);
}

/* 0; 42: an update has not been done; else it was an error. */
static int update_all(void)
{
	if (static_call_update(versions_call, two) || static_branch_enable(&versions_host))
		return 1;
	if (site() != 12)
		return 42;
	if (static_call_update(versions_call, one) || static_branch_disable(&versions_host))
		return 2;
	return site() == 1 ? 0 : 42;
}

/* ------------------------------------------------------- beside the module's own */

static size_t size;

static struct shunt_module another(void)
{
	struct shunt_module module = __shunt_module;

	module.size = size;
	module.jumps = NULL; /* the branches of the other one are none of these */
	return module;
}

static int has_another(void)
{
	static struct shunt_module module;
	int ret = update_all();

	module = another();
	shunt_module_register(&module);
	ret = ret ? ret : update_all();
	shunt_module_unregister(&module);
	return ret ? ret : update_all();
}

static int has_two_others(void)
{
	static struct shunt_module first, second;
	int ret;

	first = another();
	second = another();
	second.size += 8;
	shunt_module_register(&first);
	shunt_module_register(&second);
	ret = update_all();
	shunt_module_unregister(&first);
	ret = ret ? ret : update_all();
	shunt_module_unregister(&second);
	return ret ? ret : update_all();
}

static void test_beside(void)
{
	static const size_t sizes[] = {offsetof(struct shunt_module, jumps),
				       offsetof(struct shunt_module, veneers),
				       sizeof(struct shunt_module) + 16};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int status;

		size = sizes[i];
		status = in_child(has_another);
		ok(!status, "one of %zu bytes beside the module's own: %d", size, status);
		status = in_child(has_two_others);
		ok(!status, "and two: %d", status);
		takes_record = true;
		status = in_child(has_another);
		ok(status != 0, "control: it takes the module's record: %d", status);
		takes_record = false;
	}
}

/* -------------------------------------------------------------- an earlier version */

static const char *plugin;

static int (*symbol(void *handle, const char *name))(int)
{
	void *found = handle ? dlsym(handle, name) : NULL;
	int (*function)(int);

	if (!found)
		_exit(9);
	memcpy(&function, &found, sizeof(function));
	return function;
}

static bool is_refused(int ret)
{
	return ret == -EAGAIN && strstr(shunt_last_error(), "another version");
}

/* 0; 42: updates say that they have been done, and have not. */
static int has_old(void)
{
	void *handle = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
	int (*test)(int) = symbol(handle, "old_test"), (*turn)(int) = symbol(handle, "old_turn");
	int ret = static_branch_enable(&versions_host);

	if (!ret && !(test(0) & 1))
		return 42;
	if (!is_refused(ret) || static_key_count(&versions_host) || site() != 1)
		return 1;
	ret = turn(1);
	if (!ret && !(test(0) & 2))
		return 42;
	if (!is_refused(ret) || test(0))
		return 2;
	if (static_call_update(versions_call, two) || site() != 2 ||
	    static_call_update(versions_call, one))
		return 3;
	return dlclose(handle) ? 4 : update_all();
}

/* The key had been changed already: the test does not follow, and can only be refused again. */
static int has_old_again(void)
{
	int ret = has_old();

	return ret ? ret : has_old();
}

int main(int argc, char **argv)
{
	int status;

	if (argc != 3)
		return 2;
	shunt_set_log(NULL, NULL);
	test_beside();
	plugin = argv[1];
	status = in_child(has_old);
	ok(!status, "a plugin of an earlier version: %d", status);
	status = in_child(has_old_again);
	ok(!status, "and once more: %d", status);
	plugin = argv[2];
	status = in_child(has_old);
	ok(status == 42, "control: what is not known for earlier: %d", status);
	return tap_done();
}
