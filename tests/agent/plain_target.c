/* SPDX-License-Identifier: MIT */
/* A program that has nothing of Shunt, and is linked dynamically wherever it runs: writes what it
 * reads. */
#include <unistd.h>

int main(void)
{
	char byte;

	while (read(STDIN_FILENO, &byte, 1) == 1)
		if (write(STDOUT_FILENO, &byte, 1) != 1)
			return 1;
	return 0;
}
