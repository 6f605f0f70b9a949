/* SPDX-License-Identifier: MIT */
/*
 * librhash gives a digest as four bytes, the most significant first.
 */
#include "independent.h"

#include <errno.h>
#include <rhash.h>
#include <stdio.h>

/* The "check" value that every catalogue of CRCs lists. */
static const char check_input[9] = {'1', '2', '3', '4', '5', '6', '7', '8', '9'};
static const uint32_t check_digest = 0xe3069283;

static const long named_differences = 5;

static int rhash_digest(const void *data, size_t size, uint32_t *digest)
{
	unsigned char b[4];

	if (rhash_msg(RHASH_CRC32C, data, size, b) != 0)
		return -EIO;
	*digest = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
	return 0;
}

int independent_init(void)
{
	uint32_t digest;

	rhash_library_init();
	if (rhash_digest(check_input, sizeof(check_input), &digest) != 0 || digest != check_digest)
		return -EIO;
	return 0;
}

bool independent_known_answer(crc32c_fn *digest)
{
	return digest(0, check_input, sizeof(check_input)) == check_digest;
}

long independent_compare(const struct corpus *corpus, const uint32_t *digests, const char *whose)
{
	long differ = 0;

	for (size_t i = 0; i < corpus->count; i++) {
		const struct corpus_file *file = &corpus->files[i];
		uint32_t expected;

		if (rhash_digest(file->data, file->size, &expected) != 0)
			return -EIO;
		if (digests[i] == expected)
			continue;
		if (differ++ < named_differences)
			fprintf(stderr, "shunt-demo: %s: %s has %08x, librhash says %08x\n",
				file->path, whose, digests[i], expected);
	}
	return differ;
}
