/* SPDX-License-Identifier: MIT */
/*
 * Baking, apart from files: from the bytes of an ELF file to the bytes of the baked
 * one. The image need not be well-formed; it is never changed.
 */
#ifndef SHUNT_TOOLS_BAKE_H
#define SHUNT_TOOLS_BAKE_H

#include <stdbool.h>
#include <stddef.h>

struct bake_result {
	size_t keys;         /* static calls that sites belong to */
	size_t sites;        /* in the table */
	size_t direct;       /* of these: now with the direct form of their key's initial value */
	size_t interposable; /* not: another module may take the key's or the function's place */
	size_t foreign;      /* not: the key, or the function, is in another module */
	size_t far;          /* not: the function is out of the call's reach */
	size_t at_run_time;  /* not: the function is made at run time */
	size_t refs;         /* references to trampolines that are no sites */
	size_t branches;     /* static branches whose code is none */
	size_t entries;      /* of functions, of five nops: now of one */
	bool nothing;        /* on -ENODATA: there is nothing to bake in it */
	const char *why;     /* on an error, what is wrong with the file; NULL: the error says it */
};

/*
 * Make a baked copy of the @size bytes at @in: *out, of malloc(), *out_size bytes.
 * What is loaded stays where it is in the file; the sites, the flags of the keys, the entries
 * and the section numbers in .dynsym are all that changes in it. Of a file without static calls
 * and without relocations the entries are.
 *
 * Returns 0; -EALREADY where it is baked; -ENODATA where it has no relocations, and no such
 * entries (or no static calls either: @result->nothing); -ENOEXEC, -EINVAL, -ENOMEM. On an error
 * *out is NULL.
 */
int shunt_bake(const void *in, size_t size, void **out, size_t *out_size,
	       struct bake_result *result) __attribute__((warn_unused_result));

#endif
