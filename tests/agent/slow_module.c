/* SPDX-License-Identifier: MIT */
/* A library whose constructor, with the dynamic linker's lock, makes file ATTACH_HELD and waits
 * until that is gone; without that, it sleeps for good, and says so on standard output. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void hold(void)
{
	const char *file = getenv("ATTACH_HELD");
	int fd = file ? open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) : -1;

	if (fd < 0) {
		if (!file && write(1, "ready\n", 6) == 6)
			(void)pause();
		return;
	}
	(void)close(fd);
	while (!access(file, F_OK))
		(void)usleep(1000);
}
