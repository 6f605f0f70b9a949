/* SPDX-License-Identifier: MIT */
/*
 * The libraries are loaded late, by dlopen(), into a process with little room for the static
 * TLS of such libraries (the C library is told to keep 144 bytes of it). Each may take a few words.
 *
 * Control: a library that takes 624 bytes is refused.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../api/tap.h"

#define TUNABLES "GLIBC_TUNABLES"

int main(int argc, char **argv)
{
	const char *error;

	if (argc < 3)
		return 2;
	if (!getenv(TUNABLES)) {
		(void)setenv(TUNABLES, "glibc.rtld.nns=1:glibc.rtld.optional_static_tls=0", 1);
		(void)execv("/proc/self/exe", argv);
		return 2;
	}
	if (dlopen(argv[1], RTLD_NOW)) {
		skip("late libraries", "this C library keeps more room");
		return tap_done();
	}
	error = dlerror();
	ok(error && strstr(error, "static TLS"), "control: one of 624 bytes is refused: %s", error);
	for (int i = 2; i < argc; i++)
		ok(dlopen(argv[i], RTLD_NOW) != NULL, "%s is loaded", argv[i]);
	return tap_done();
}
