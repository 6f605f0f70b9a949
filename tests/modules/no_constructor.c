/* SPDX-License-Identifier: MIT */
/*
 * Static keys of modules that do not register, because their files were compiled with
 * -ffreestanding or SHUNT_NO_MODULE: nobody knows where they are tested, so an update must not say
 * that it was made. In a program (this one) and in plugins; where another file of the module
 * registers it, all is as usual. Static calls go through their trampolines, and follow.
 *
 * Without the mark on the key it is a key that no module here has: refused, too.
 *
 *	no_constructor PLUGIN...
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <shunt/inspect.h>

#include "../api/tap.h"
#include "no_constructor.h"

extern const struct bare_keys bare;

static bool is_refused(int ret)
{
	return ret == -EAGAIN &&
	       strstr(shunt_last_error(), "no source file of the key's module registers") &&
	       strstr(shunt_last_error(), "-ffreestanding or SHUNT_NO_MODULE");
}

static void is_not_known(const struct bare_keys *keys, const char *name)
{
	bool good = is_refused(keys->enable()) && is_refused(keys->inc()) &&
		    is_refused(keys->disable()) && is_refused(keys->dec());

	ok(good, "%s: updates are refused: %s", name, shunt_last_error());
	good = is_refused(keys->disable_true()) && is_refused(keys->dec_true()) &&
	       is_refused(keys->batch());
	ok(good, "%s: of a key that is on, and in a batch: %s", name, shunt_last_error());
	ok(!keys->test() && keys->test_true() && !keys->count(), "%s: nothing has changed", name);
	ok(keys->call() == 1 && !keys->update() && keys->call() == 2, "%s: calls follow", name);
	keys->forget();
	ok(keys->enable() == -EAGAIN && !keys->test(),
	   "%s: without the mark it is a key that no module here has", name);
}

static void is_known(const struct bare_keys *keys, const char *name)
{
	ok(!keys->enable() && keys->test() && keys->count() == 1, "%s: a key is on", name);
	ok(!keys->inc() && keys->count() == 2 && !keys->dec() && !keys->disable() && !keys->test(),
	   "%s: counted, and off", name);
	ok(!keys->disable_true() && !keys->test_true(), "%s: one that was on", name);
	ok(!keys->batch() && keys->test(), "%s: in a batch", name);
	ok(keys->call() == 1 && !keys->update() && keys->call() == 2, "%s: calls follow", name);
}

int main(int argc, char **argv)
{
	shunt_set_log(NULL, NULL);
	is_not_known(&bare, "the program");
	for (int i = 1; i < argc; i++) {
		const char *name = strrchr(argv[i], '/') ? strrchr(argv[i], '/') + 1 : argv[i];
		void *handle = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
		const struct bare_keys *keys = handle ? dlsym(handle, "bare") : NULL;

		if (!ok(keys != NULL, "%s is loaded", name)) {
			diag("%s", dlerror());
			continue;
		}
		(strstr(name, "beside") ? is_known : is_not_known)(keys, name);
		(void)dlclose(handle);
	}
	return tap_done();
}
