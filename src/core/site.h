/* SPDX-License-Identifier: MIT */
/*
 * Sites and the tables that hold them. A table has the sites of one module,
 * sorted by address; the trap handler finds a site in it and asks the table's
 * owner what the site is to do now.
 *
 * Lifetime: a handler can be delayed for any time between its trap and its look
 * into the tables, so nothing that it reads is ever freed. Tables and site arrays
 * are type-stable: once a table, always a table. A table that is withdrawn is
 * empty and can be filled again; its sequence count tells a reader that this
 * happened under its eyes.
 */
#ifndef SHUNT_CORE_SITE_H
#define SHUNT_CORE_SITE_H

#include <stdatomic.h>

#include "arch/arch.h"

/* The longest instruction at a site. */
#define SHUNT_SITE_MAX 6

/* What the compiler and the linker left at the site; the poke keeps to its length. */
enum shunt_site_kind {
	SHUNT_SITE_CALL,     /* e8 rel32; a 67 before it (a relaxed call *slot) is not ours */
	SHUNT_SITE_CALL_GOT, /* ff 15: call *slot(%rip) */
	SHUNT_SITE_JMP,      /* e9 rel32: a tail call */
	SHUNT_SITE_JMP_GOT,  /* ff 25: jmp *slot(%rip) */
	SHUNT_SITE_JCC,      /* 0f 8x rel32: a conditional tail call */
	SHUNT_SITE_BRANCH,   /* 5-byte nop or jmp rel32: a static branch */
	SHUNT_SITE_BRANCH2,  /* 2-byte nop or jmp rel8: a static branch */
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
};

struct shunt_site {
	uint32_t off;          /* address, in bytes from the table's base */
	uint32_t owner;        /* the table owner's: which key */
	uint32_t next;         /* the key's next site in this table: index + 1; 0: none */
	uint8_t kind;          /* enum shunt_site_kind, and for a jcc the condition << 4 */
	uint8_t why;           /* enum shunt_why; guarded by the update lock */
	_Atomic uint8_t poked; /* an int3 at the site is ours (poke.c) */
	uint8_t baked;         /* held the form for the key's first value when it was found */
};

_Static_assert(sizeof(struct shunt_site) == 16, "100,000 sites: 16 bytes each");

struct shunt_table {
	struct shunt_table *next; /* set before the table is published, then constant */
	_Atomic unsigned seq;     /* odd while the fields below change */
	_Atomic uintptr_t base;
	struct shunt_site *_Atomic sites; /* sorted by off */
	_Atomic uint32_t nr_sites;
	/*
	 * The instruction that @site is to have now, as the trap emulates it; false
	 * where it has none any more. Called by the trap handler: no lock, no side
	 * effect.
	 */
	bool (*insn)(const struct shunt_table *table, const struct shunt_site *site,
		     struct shunt_insn *out);
};

static inline unsigned shunt_site_kind(const struct shunt_site *site)
{
	return site->kind & 0xf;
}

static inline unsigned shunt_site_cc(const struct shunt_site *site)
{
	return site->kind >> 4;
}

static inline uint8_t *shunt_site_addr(const struct shunt_table *table,
				       const struct shunt_site *site)
{
	return (uint8_t *)(table->base + site->off);
}

/* The length in bytes of the instruction at a site of @kind. */
static inline unsigned shunt_site_len(unsigned kind)
{
	/* By kind, four bits each. */
	return 0x2566565u >> 4 * kind & 0xf;
}

/*
 * Make @table's sites known to the trap handler. The first call for a table
 * links it into the list for good. Update lock held.
 */
void shunt_table_publish(struct shunt_table *table, uintptr_t base, struct shunt_site *sites,
			 uint32_t nr_sites);

/* Empty @table: its module goes away. Update lock held. */
void shunt_table_withdraw(struct shunt_table *table);

/*
 * The site whose instruction starts at @addr, or NULL; @insn gets what it is to do
 * now. Safe in the trap handler.
 */
struct shunt_site *shunt_site_find(uintptr_t addr, struct shunt_insn *insn);

/* The same among the sites of keys alone, those that are in tables. */
struct shunt_site *shunt_site_find_key(uintptr_t addr, struct shunt_insn *insn);

/* Whether a byte of [addr, addr + len) is of a key's site. Update lock held. */
bool shunt_site_touched(uintptr_t addr, size_t len);

#endif
