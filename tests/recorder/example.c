/* SPDX-License-Identifier: MIT */
/* What the manual calls "program" and "server": reads lines of a file, if it is given one. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KEEP __attribute__((noinline))

KEEP size_t parse_word_fast(const char *word)
{
	__asm__ volatile("");
	return strlen(word);
}

KEEP size_t parse_line(const char *line)
{
	return parse_word_fast(line) + 1;
}

/* More than a millisecond: what is looked for. */
KEEP void parse_slowly(void)
{
	usleep(2500);
}

int main(int argc, char **argv)
{
	FILE *in = argc > 1 ? fopen(argv[1], "re") : NULL;
	char line[256];
	size_t n = 0;

	while (in && fgets(line, sizeof(line), in))
		n += parse_line(line);
	for (int i = 0; i < 50; i++)
		n += parse_line("a line");
	parse_slowly();
	return in ? fclose(in) : !n;
}
