/* SPDX-License-Identifier: MIT */
/*
 * The control of the row of valgrind: text that is changed through /proc/self/mem, without a
 * word to valgrind, which goes on with what it has translated.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "../api/tap.h"

/* mov $1, %eax; ret */
__asm__(".pushsection .text, \"ax\", @progbits\n"
	".type changing, @function\n"
	"changing: .byte 0xb8, 1, 0, 0, 0, 0xc3\n"
	".size changing, . - changing\n"
	".popsection");
int changing(void);

int main(void)
{
	int fd = open("/proc/self/mem", O_RDWR), stale = 0;

	for (int i = 0; i < 100; i++) {
		const char value = (char)(i % 2 + 1);

		if (fd < 0 || pwrite(fd, &value, 1, (off_t)(uintptr_t)changing + 1) != 1)
			return 2;
		stale += changing() != value;
	}
	printf("%d of 100 calls stale\n", stale);
	return 0;
}
