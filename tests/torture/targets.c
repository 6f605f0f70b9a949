/* SPDX-License-Identifier: MIT */
/*
 * The keys, and the targets: copies of torture_target() in islands so far apart
 * that their displacements differ in every byte. Between them is nothing, so a
 * torn displacement leads to a fault.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "torture.h"

DEFINE_STATIC_CALL(torture, torture_target);
#define KEY(n, kind, align, off) DEFINE_STATIC_CALL(torture_##n, torture_target);
TORTURE_EACH_SITE(KEY)

/*
 * Where islands may lie, in bytes from the sites. More than are needed: a place
 * may be taken (the heap's is random), and a program that is not position
 * independent has nothing below it.
 */
#ifdef __aarch64__
#define REACH 0x7ff0000
#define FILL  0 /* udf */
static const intptr_t places[] = {
	-0x12345f0, 0x5a3c1e4, -0x3f7b960, 0x6dd2870, -0x68aec3c, 0x31b7d48,
	-0x51c60ec, 0x4795b68, 0x236fa94,  0x7ba1f58, 0x1b4e620,  0x12e8358,
};
#else
#define REACH INT32_MAX
#define FILL  0xcc
static const intptr_t places[] = {
	-0x123450f0, 0x5a3c1e2f, -0x3f7b962d, 0x6dd2877c, -0x68aec3b3, 0x31b7d4a5,
	-0x51c60e96, 0x47958b68, 0x236fa94b,  0x7ba1f05e, 0x1b4e623d,  0x12e83591,
};
#endif

#define ISLAND 4096u

static void (*make_target(void *island, size_t off, size_t number))(void)
{
	size_t size = (size_t)(torture_target_end - (const char *)torture_target);
	size_t at = (size_t)(torture_target_magic - (const char *)torture_target);
	uint64_t magic = TORTURE_MAGIC + number;
	char *code = (char *)island + off;

	memset(island, FILL, 2 * ISLAND);
	memcpy(code, (const void *)torture_target, size);
	memcpy(code + at, &magic, sizeof(magic));
	__builtin___clear_cache(code, code + size);
	if (mprotect(island, 2 * ISLAND, PROT_READ | PROT_EXEC))
		return NULL;
	return (void (*)(void))code;
}

/* A target at @addr, or, where that is 0, out of reach; NULL where it cannot be. */
static void (*make_island(uintptr_t addr, size_t number))(void)
{
	int fixed = addr ? MAP_FIXED_NOREPLACE : 0;
	void *want = (void *)(addr & -(uintptr_t)ISLAND);
	void *island = mmap(want, 2 * ISLAND, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1, 0);

	if (island == MAP_FAILED)
		return NULL;
	if (addr && island != want) { /* a kernel that does not know the flag */
		(void)munmap(island, 2 * ISLAND);
		return NULL;
	}
	return make_target(island, addr & (ISLAND - 1), number);
}

static bool out_of_reach(void (*target)(void))
{
	intptr_t away = (intptr_t)((uintptr_t)target - (uintptr_t)torture_single[0].insn);

	return away > REACH || away < -(intptr_t)REACH - 1;
}

bool torture_make_targets(void (*targets[TARGETS])(void))
{
	uintptr_t base = (uintptr_t)torture_single[0].insn;
	size_t n = 0;

	targets[n++] = (void (*)(void))torture_target;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && n < TARGETS - 1; i++) {
		if (places[i] < 0 && base < (uintptr_t)-places[i])
			continue;
		targets[n] = make_island(base + (uintptr_t)places[i], n);
		n += targets[n] != NULL;
	}
	if (n < TARGETS - 1)
		return false;
	targets[n] = make_island(0, n);
	errno = targets[n] ? ERANGE : errno;
	return targets[n] && out_of_reach(targets[n]);
}
