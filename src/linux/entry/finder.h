/* SPDX-License-Identifier: MIT */
/*
 * The functions of an ELF file that can be traced: where their entries are, how they stand there
 * and what they are called.
 *
 *	find.c            the parts in order; one kind a function; the live bytes
 *	find_functions.c  where functions start, by symbols and by .eh_frame_hdr
 *	find_tables.c     __patchable_function_entries, __mcount_loc, xray_instr_map
 *	find_calls.c      calls of __fentry__ and of the handlers of -finstrument-functions
 *	find_text.c       what these share: the file's text, and the entries that they add
 *
 * For one more kind of entry: its name behind the last of enum shunt_entry_kind (<shunt/ftrace.h>;
 * sessions on disk have the number); a function beside the others, called by shunt_find(), and its
 * rank in keep_one_kind(); and what stands there as one of enum shunt_entry_form and of enum
 * shunt_entry_prepare (core/ftrace.h). Where none of these fits, a new form needs stubs
 * (entry/stubs.c, arch/CPU/ftrace_stubs.S) and bytes when it is off (core/ftrace_poke.c), and what
 * is to be done first goes into core/ftrace_prepare.c, with its bytes in arch/CPU/prepare.c. Tests:
 * tests/trace/kinds.py (what compilers write), find.py (damaged files).
 *
 * As in linux/elf the file is bytes that nothing has checked: every walk takes time linear in its
 * size, but for sorting. Addresses are link-time ones. Memory is the port's; no lock; the C
 * library is not called.
 */
#ifndef SHUNT_LINUX_FINDER_H
#define SHUNT_LINUX_FINDER_H

#include "core/ftrace.h"
#include "linux/base/vector.h"
#include "linux/elf/elf.h"

/* What compilers call at an entry or at a return. */
enum shunt_find_handler {
	SHUNT_HANDLER_FENTRY,
	SHUNT_HANDLER_ENTER, /* __cyg_profile_func_enter */
	SHUNT_HANDLER_EXIT,
	SHUNT_HANDLERS,
};

/* Their symbols. */
extern const char *const shunt_find_handlers[SHUNT_HANDLERS];

/* A name of a function: there may be several of one start. */
struct shunt_found_function {
	uint64_t start;
	uint64_t size;
	const char *name; /* in the image; a version may follow: shunt_elf_name_len() */
	uint8_t rank;     /* of those of one start, the lowest first; the order of the array */
	bool is_cold;     /* a part of a function, moved elsewhere by the compiler */
	bool is_variant;  /* it is called by another standard (SHUNT_VARIANT_CALLS of arch.h) */
};

/* As struct shunt_entry has it, with link-time addresses. */
struct shunt_found_entry {
	uint64_t ip;
	uint64_t func;
	uint8_t form, prepare, len, kind;
	uint8_t old[8];
	bool is_changed; /* @found, and not @old, stands there now */
	uint8_t found[8];
	const char *why; /* it cannot be used; NULL: it can */
};

/* Executable text of the file. */
struct shunt_find_text {
	uint64_t vaddr, size;
	const uint8_t *bytes;
};

#define SHUNT_FIND_TEXTS 8

struct shunt_find {
	const struct shunt_elf *elf;
	/* Copy what stands at @vaddr now; false: it cannot be read. NULL: the file's text will do.
	 */
	bool (*read)(const struct shunt_find *f, void *to, uint64_t vaddr, size_t len);
	const void *arg; /* the caller's */
	/* Whose handlers the file's calls go to, if they are not empty ones; NULL: nobody minds. */
	const char *foreign[SHUNT_HANDLERS];

	/* The result. */
	struct shunt_vector functions; /* struct shunt_found_function, by start */
	struct shunt_vector entries;   /* struct shunt_found_entry, by ip; none overlap */

	/* The finder's own. */
	struct shunt_find_text text[SHUNT_FIND_TEXTS];
	unsigned nr_text;
	const uint8_t *fdes; /* .eh_frame_hdr: pairs of two displacements from @fdes_base */
	uint64_t nr_fdes, fdes_base;
	unsigned cold_lookups;
	bool no_memory;
};

/*
 * Find the functions and entries of @f->elf. @f is zero but for what the caller sets. Free it in
 * any case.
 *
 * Returns 0; -EINVAL where the file is malformed (what was found before is there); -ENOMEM.
 */
int shunt_find(struct shunt_find *f) __attribute__((warn_unused_result));
void shunt_find_free(struct shunt_find *f);

/* ------------------------------------------------------------ between the files */

/* find_functions.c: 0 or -ENOMEM. */
int shunt_find_functions(struct shunt_find *f);
/* Whether a function starts there, by symbols or by unwind tables. */
bool shunt_find_starts_at(const struct shunt_find *f, uint64_t vaddr);
/* Whether one of its symbols says that the function there is called by another standard. */
bool shunt_find_is_variant(const struct shunt_find *f, uint64_t start);
/* Whether anything is known of where functions start. */
static inline bool shunt_find_knows_starts(const struct shunt_find *f)
{
	return f->functions.n || f->nr_fdes;
}
/* The first start at or behind @vaddr, up to @limit; false: there is none. */
bool shunt_find_next_start(const struct shunt_find *f, uint64_t vaddr, uint64_t limit,
			   uint64_t *start);
/* The first function that starts at or behind @vaddr: its index, or how many there are. */
size_t shunt_find_index(const struct shunt_find *f, uint64_t vaddr);
/* The function with a symbol that @vaddr lies in, or NULL. */
const struct shunt_found_function *shunt_find_function_of(const struct shunt_find *f,
							  uint64_t vaddr);
/* The one whose name is @name, @len bytes; NULL: none, or too many have been asked for. */
const struct shunt_found_function *shunt_find_by_name(struct shunt_find *f, const char *name,
						      size_t len);

/* find_tables.c: 0 or an error as above. */
int shunt_find_tables(struct shunt_find *f);

/* find_calls.c: the same. */
int shunt_find_calls(struct shunt_find *f);

/* find_text.c: the file's text from @vaddr on, and how much there is; NULL: none. */
const uint8_t *shunt_find_text(const struct shunt_find *f, uint64_t vaddr, uint64_t *avail);
/* The same where there are @len bytes. */
static inline const uint8_t *shunt_find_code(const struct shunt_find *f, uint64_t vaddr, size_t len)
{
	uint64_t avail;
	const uint8_t *code = shunt_find_text(f, vaddr, &avail);

	return code && avail >= len ? code : NULL;
}
/* The length of the landing pad that is there, SHUNT_LANDING_PAD; 0: none. */
unsigned shunt_find_landing_pad(const struct shunt_find *f, uint64_t vaddr);
/* Room for an entry, with @kind and @form set; NULL: no memory, which @f knows. */
struct shunt_found_entry *shunt_find_add(struct shunt_find *f, uint64_t ip, uint64_t func,
					 enum shunt_entry_kind kind, enum shunt_entry_form form);

#endif
