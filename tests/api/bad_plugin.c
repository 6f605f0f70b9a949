/* SPDX-License-Identifier: MIT */
/*
 * A plugin whose file somebody changes between the moment that it is mapped and
 * the moment that it registers: what registers it does to it what BAD_PLUGIN_DO says
 * first, with the file BAD_PLUGIN_FILE.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define shunt_module_register plugin_register
#include <shunt/static_call.h>

extern void real_register(const struct shunt_module *module) __asm__("shunt_module_register");

static int bad_add1(int x)
{
	return x + 1;
}

static int bad_add2(int x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(bad_key, bad_add1);

int bad_call(int x);
int bad_call(int x)
{
	return static_call(bad_key)(x) * 10;
}

/* @which: 1 or 2. */
int bad_update(int which);
int bad_update(int which)
{
	return static_call_update(bad_key, which == 1 ? bad_add1 : bad_add2);
}

/* A new file takes the name. */
static void replace(const char *file, const char *by)
{
	if (rename(by, file))
		perror("rename");
}

static void put(const char *file, const char *text)
{
	char name[4096];
	int fd;

	snprintf(name, sizeof(name), "%s.new", file);
	fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0700);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		perror(name);
	close(fd);
	replace(file, name);
}

static void meddle(void)
{
	const char *what = getenv("BAD_PLUGIN_DO");
	const char *file = getenv("BAD_PLUGIN_FILE");

	if (!what || !file)
		return;
	if (!strcmp(what, "delete"))
		(void)unlink(file);
	else if (!strcmp(what, "unreadable-type"))
		(void)(unlink(file) || mkdir(file, 0700));
	else if (!strcmp(what, "empty"))
		put(file, "");
	else if (!strcmp(what, "text"))
		put(file, "this is no ELF file, but it is longer than the header of one is, "
			  "so that only its contents can tell");
	else
		replace(file, what);
}

void plugin_register(const struct shunt_module *module)
{
	meddle();
	real_register(module);
}
