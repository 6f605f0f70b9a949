/* SPDX-License-Identifier: MIT */
/* A site: one instruction that is changed under running threads. */
#ifndef SHUNT_CORE_SITE_H
#define SHUNT_CORE_SITE_H

#include <stdatomic.h>

#include "arch/arch.h"

/* The longest instruction at a site. */
#define SHUNT_SITE_MAX 6

/*
 * What the compiler and the linker left at the site; the poke keeps to its length. The numbers
 * stand in baked files (linux/elf/baked.h), and those below SHUNT_KIND_JCC are calls and jmps: a
 * new one goes behind the last.
 *
 * For one more kind: its length below (shunt_site_len()), its instructions (arch/CPU/insn.c,
 * core/static_call.c), how it is recognised (linux/elf/elf_code.c, elf_baked.c,
 * linux/module/find_sites.c, tools/inventory*.c), how it is shown (linux/show/inspect.c, debug.c,
 * tools/gdb), and a case in tests/unit/test_site.c, test_elf_code.c and call_sites.c. That a length
 * or an instruction was forgotten is seen by tests/unit/test_forms.c; of the others most are not.
 */
enum shunt_site_kind {
	SHUNT_KIND_CALL,     /* e8 rel32; a 67 before it (a relaxed call *slot) is not ours */
	SHUNT_KIND_CALL_GOT, /* ff 15: call *slot(%rip) */
	SHUNT_KIND_JMP,      /* e9 rel32: a tail call */
	SHUNT_KIND_JMP_GOT,  /* ff 25: jmp *slot(%rip) */
	SHUNT_KIND_JCC,      /* 0f 8x rel32: a conditional tail call */
	SHUNT_KIND_BRANCH,   /* jmp rel32, or its off form, or a 5-byte nop: a static branch */
	SHUNT_KIND_BRANCH2,  /* the same of 2 bytes: jmp rel8 */
	SHUNT_NR_KINDS,
};

/* Why a site goes through the trampoline; SHUNT_INLINE: it does not. */
enum shunt_why {
	SHUNT_INLINE,
	SHUNT_WHY_NEW,     /* not poked yet */
	SHUNT_WHY_FAR,     /* not the trampoline, but a veneer: the target is out of reach */
	SHUNT_WHY_TOO_FAR, /* and no veneer is to be had within reach */
	SHUNT_WHY_FOREIGN, /* other bytes than expected stood there at start-up */
	SHUNT_WHY_WRITE,   /* text could not be written at start-up */
	SHUNT_WHY_UNBOUND, /* which key it calls is not known (yet) */
	SHUNT_INLINE_OFF,  /* inline: off, with the displacement of a call through a veneer */
};

struct shunt_site {
	uint32_t off;          /* address, in bytes from the table's base */
	uint32_t owner;        /* the table owner's: which key */
	uint32_t next;         /* the key's next site in this table: index + 1; 0: none */
	uint8_t kind;          /* enum shunt_site_kind, and for a jcc the condition << 4 */
	uint8_t why;           /* enum shunt_why; guarded by the update lock */
	_Atomic uint8_t poked; /* an int3 at the site is ours (poke_int3.c) */
	uint8_t baked;         /* held the form for the key's first value when it was found */
};

_Static_assert(sizeof(struct shunt_site) == 16, "100,000 sites: 16 bytes each");

static inline unsigned shunt_site_kind(const struct shunt_site *site)
{
	return site->kind & 0xf;
}

static inline unsigned shunt_site_cc(const struct shunt_site *site)
{
	return site->kind >> 4;
}

/* Whether it goes neither through the trampoline nor through a veneer. */
static inline bool shunt_site_is_inline(const struct shunt_site *site)
{
	return site->why == SHUNT_INLINE || site->why == SHUNT_INLINE_OFF;
}

/* The length in bytes of the instruction at a site of @kind. */
static inline unsigned shunt_site_len(unsigned kind)
{
	return SHUNT_SITE_LENGTHS >> 4 * kind & 0xf;
}

#endif
