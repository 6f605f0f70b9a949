/* SPDX-License-Identifier: MIT */
/*
 * Files in several encodings, and a decoder that is called for each byte of them. Which one it is
 * changes once a file: the call in the loop is a direct call of the right one, where a function
 * pointer would be an indirect call a byte.
 *
 *	cc main.c $(pkg-config --cflags --libs shunt) && ./a.out *.txt
 *
 * A key is the whole process's: one file at a time. Threads that have a file each want a loop each.
 */
#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* A decoder: the next byte of @file, or EOF. */
static int next_plain(FILE *file)
{
	return getc(file);
}

static int next_rot13(FILE *file)
{
	int c = getc(file);

	if (!isalpha(c))
		return c;
	return (tolower(c) - 'a' + 13) % 26 + (isupper(c) ? 'A' : 'a');
}

/* "48656c6c6f": white space between the bytes does not matter. */
static int next_hex(FILE *file)
{
	unsigned byte;

	return fscanf(file, "%2x", &byte) == 1 ? (int)byte : EOF;
}

/* "3a1b": three a, one b. */
static int next_run(FILE *file)
{
	static int left, byte; /* of one file: it is read to its end */

	if (!left && fscanf(file, "%d", &left) == 1)
		byte = getc(file);
	if (left <= 0 || byte == EOF)
		return left = 0, EOF;
	left--;
	return byte;
}

static const struct codec {
	const char *name; /* the file's first line, without its '#' */
	int (*next)(FILE *file);
} codecs[] = {{"rot13", next_rot13}, {"hex", next_hex}, {"runs", next_run}};

DEFINE_STATIC_CALL(next_byte, next_plain);

/* 0; on error nothing has changed, and the file must not be decoded by what was there before. */
static int choose(const char *first_line)
{
	for (size_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++)
		if (first_line[0] == '#' && !strcmp(first_line + 1, codecs[i].name))
			return static_call_update(next_byte, codecs[i].next);
	return static_call_update(next_byte, next_plain);
}

static int decode(const char *path)
{
	FILE *file = fopen(path, "r");
	char line[16] = "";
	size_t n = 0;

	if (!file || !fgets(line, sizeof(line), file)) {
		perror(path);
		return 1;
	}
	line[strcspn(line, "\n")] = '\0';
	if (choose(line)) {
		fprintf(stderr, "%s: %s\n", path, shunt_last_error());
		(void)fclose(file);
		return 1;
	}
	if (static_call_query(next_byte) == next_plain)
		rewind(file);
	for (int c; (c = static_call(next_byte)(file)) != EOF; n++)
		putchar(c);
	printf("(%s, %zu bytes)\n", static_call_query(next_byte) == next_plain ? "plain" : line + 1,
	       n);
	return fclose(file) ? 1 : 0;
}

int main(int argc, char **argv)
{
	int failed = 0;

	for (int i = 1; i < argc; i++)
		failed |= decode(argv[i]);
	return failed;
}
