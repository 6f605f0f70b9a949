/* SPDX-License-Identifier: MIT */
/*
 * The keys of an ELF file and their sites, as libshunt will find them when the file
 * is loaded: from the relocations that the linker kept, or from the table that
 * `shunt bake` left, and static branches from their own section. What refers to a
 * trampoline and is no site is kept too, with the reason.
 */
#ifndef SHUNT_TOOLS_INVENTORY_H
#define SHUNT_TOOLS_INVENTORY_H

#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "array.h"
#include "core/site.h"
#include "pointers.h"

struct file_key {
	bool is_branch; /* a static key, else a static call */
	bool imported;  /* defined in another module */
	const char *name;
	int name_len;
	uint64_t addr;  /* of the key itself; 0: imported */
	uint64_t tramp; /* static calls: what a direct call goes to; 0: none */
	uint64_t slot;  /* static calls: what an indirect call goes through; 0: none */
	uint32_t nr_sites;
	uint32_t flags; /* static calls defined here: STATIC_CALL_*; static keys: on at first */
	int element;    /* static keys: of an array of more than one; -1: no element */
	/*
	 * Imported: 1 + the index of this file's own key of that name, which the dynamic linker
	 * takes if no other module's goes before it; its nr_sites has this one's, too. 0: none.
	 */
	uint32_t own;
};

struct file_site {
	uint64_t addr;
	uint64_t via; /* what a direct call goes to as linked, if that is not the key's @tramp; or 0
		       */
	uint32_t key; /* index */
	uint8_t kind; /* as struct shunt_site.kind */
	bool direct;  /* baked: it holds the direct form */
	bool jumps;   /* a branch: it is a jmp in the file, else its off form or a nop */
	bool tests;   /* it is the off form */
};

/* A reference to a trampoline that is no site; or a static branch that is none by its code. */
struct file_ref {
	uint64_t addr; /* of the field that holds it; of the branch */
	uint32_t key;
	const char *why;
};

struct inventory {
	struct shunt_elf elf;
	struct pointers pointers;
	struct array keys;  /* struct file_key: defined calls, defined branches, imported ones */
	struct array sites; /* struct file_site, sorted by address */
	struct array refs;  /* struct file_ref, sorted by address */
	bool baked;
	bool bare;              /* baked by one that wrote what is off without a displacement */
	bool refs_unknown;      /* baked by a `shunt bake` that kept no list of the calls' @refs */
	const char *why;        /* on an error, what is wrong; NULL: the error says it */
	const char *rearranged; /* why nothing is known of the sites; NULL: no such cause */
	const char *untold;     /* why nothing is known of keys and sites; NULL: no such cause */
	enum shunt_elf_lack lack;         /* of an unbaked file: why its calls are not known */
	uint64_t call_keys, nr_call_keys; /* the array of keys in the file: address, elements */
	uint64_t static_keys, nr_static_keys;
	uint64_t jumps;        /* a record of its static branches; 0: not known */
	uint64_t base;         /* p_vaddr of the first PT_LOAD */
	uint64_t nop, return0; /* __static_call_nop, __static_call_return0; 0: not known */
	bool imports_library;  /* they are in another module, libshunt.so */
	struct array ifuncs;   /* uint64_t: addresses of their resolvers */
};

/*
 * Look through the file of @size bytes at @image, which @inv refers to from then
 * on. Close with inventory_close(), whatever it returns.
 *
 * Returns 0 (also where there are no relocations: see @lack); -ENOEXEC where it is
 * no ELF file for Linux on a CPU of file_cpus[], or has no code; -EINVAL where it is malformed;
 * -ENOMEM.
 */
int inventory_open(struct inventory *inv, const void *image, size_t size)
	__attribute__((warn_unused_result));
void inventory_close(struct inventory *inv);

static inline struct file_key *inventory_key(const struct inventory *inv, size_t i)
{
	return (struct file_key *)inv->keys.data + i;
}

static inline struct file_site *inventory_site(const struct inventory *inv, size_t i)
{
	return (struct file_site *)inv->sites.data + i;
}

static inline struct file_ref *inventory_ref(const struct inventory *inv, size_t i)
{
	return (struct file_ref *)inv->refs.data + i;
}

/* What a static call starts out with. */
enum initial_target {
	INITIAL_UNKNOWN, /* an imported key, or made at run time */
	INITIAL_NULL,
	INITIAL_RET0,
	INITIAL_FUNCTION,     /* in this file */
	INITIAL_INTERPOSABLE, /* in this file, if the dynamic linker finds no other of its name */
	INITIAL_FOREIGN,      /* a function that the dynamic linker looks up elsewhere */
};

/*
 * For INITIAL_FUNCTION and INITIAL_INTERPOSABLE *target is its address in this file, for
 * INITIAL_INTERPOSABLE and INITIAL_FOREIGN *symbol its name.
 */
enum initial_target inventory_initial(const struct inventory *inv, const struct file_key *key,
				      uint64_t *target, const char **symbol);

/*
 * Whether calls of @key in the file hold direct calls that were baked, and the table that had their
 * places is not to be had.
 */
static inline bool inventory_is_stuck(const struct inventory *inv, const struct file_key *key)
{
	return (inv->rearranged || !inv->baked) && !key->is_branch && !key->imported &&
	       key->flags & STATIC_CALL_BAKED;
}

/* Why the calls of the file are not known; NULL: they are. */
const char *inventory_why_unknown(const struct inventory *inv);

/* Whether it makes static calls, as libshunt sees that: of its own keys, or by the dynamic linker.
 */
bool inventory_makes_calls(const struct inventory *inv);

/* Why nothing can be found by the name of its section; NULL: it can. */
const char *inventory_why_nameless(const struct inventory *inv);

/* Whether [vaddr, vaddr + len) is text that the file holds. */
bool inventory_has_text(const struct inventory *inv, uint64_t vaddr, size_t len);

/* "call", "tail", "conditional", "call-got", "tail-got"; "branch-nop5" and the like. */
const char *inventory_kind_name(const struct inventory *inv, const struct file_site *site);

#endif
