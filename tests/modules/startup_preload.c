/* SPDX-License-Identifier: MIT */
/* Preloaded by test_startup.py: has the file UNLINK deleted, or replaced by a copy of BY. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void meddle(void)
{
	const char *file = getenv("UNLINK"), *by = getenv("BY");

	if (file && unlink(file))
		perror(file);
	if (file && by && link(by, file))
		perror(by);
}
