/* SPDX-License-Identifier: MIT */
/*
 * A plugin that is loaded by a relative name where the working directory has no name: it has been
 * removed, or its name is longer than PATH_MAX. The keys that the plugin tests and calls are
 * updated there as well. Control: a module that has no absolute name is not known.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../traps/rows.h"
#include "linux/module/image.h"

int host_one(void);
int host_one(void)
{
	return 1;
}

static int host_two(void)
{
	return 2;
}

DEFINE_STATIC_KEY_FALSE(host_branch);
EXPORT_STATIC_KEY(host_branch);
DEFINE_STATIC_CALL(host_call, host_one);
EXPORT_STATIC_CALL(host_call);

static bool wants_absolute;

bool __real_shunt_image_find(struct shunt_image *image);
bool __wrap_shunt_image_find(struct shunt_image *image);
bool __wrap_shunt_image_find(struct shunt_image *image)
{
	return __real_shunt_image_find(image) && !(wants_absolute && image->path[0] != '/');
}

static char file[4096], folder[4096];

static void find(void *handle, const char *name, int (**function)(void))
{
	void *symbol = dlsym(handle, name);

	must(symbol != NULL);
	memcpy(function, &symbol, sizeof(symbol));
}

static void load_and_update(const char *name)
{
	void *handle = dlopen(name, RTLD_NOW);
	int (*test)(void), (*call)(void), (*own)(void);
	char path[4096];

	must(!getcwd(path, sizeof(path)) && handle);
	find(handle, "plugin_test", &test);
	find(handle, "plugin_call", &call);
	find(handle, "plugin_own", &own);
	must(!static_branch_enable(&host_branch) && test());
	must(!static_call_update(host_call, host_two) && call() == 12);
	must(!own());
	must(!static_branch_disable(&host_branch) && !test());
	must(!dlclose(handle));
	must(!static_branch_enable(&host_branch) && !static_branch_disable(&host_branch));
}

static void is_removed(void)
{
	must(!chdir(folder));
	must(!mkdir("sub", 0700) && !symlink(file, "plugin.so") && !chdir("sub"));
	must(!rmdir("../sub"));
	load_and_update("../plugin.so");
}

static void is_removed_unknown(void)
{
	wants_absolute = true;
	is_removed();
}

static void is_too_deep(void)
{
	char name[201];

	memset(name, 'd', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	must(!chdir(folder));
	for (int i = 0; i < 22; i++)
		must(!mkdir(name, 0700) && !chdir(name));
	must(!symlink(file, "plugin.so"));
	load_and_update("./plugin.so");
}

static void remove_folder(void)
{
	char command[4200];

	(void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	(void)!system(command);
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {
		{"the working directory has been removed", .run = is_removed},
		{"its name is longer than PATH_MAX", .run = is_too_deep},
		{"it has been removed, and what has no name is not known",
		 .run = is_removed_unknown, .is_control = true},
	};

	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (argc < 2 || counts == MAP_FAILED || !realpath(argv[1], file))
		return 1;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		(void)snprintf(folder, sizeof(folder), "/tmp/shunt-%d-%zu-XXXXXX", (int)getpid(),
			       i);
		if (!mkdtemp(folder))
			return 1;
		run_row(&rows[i]);
		remove_folder();
	}
	return tap_done();
}
