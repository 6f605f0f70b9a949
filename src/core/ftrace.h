/* SPDX-License-Identifier: MIT */
/*
 * Function tracing, what is common to all platforms (ftrace.c): ops and their filters, which
 * entry calls which stub, one batch for all changes. The port finds the entries and hands them
 * over (shunt_entries_add()), has the stubs and knows who runs in them (the second half).
 */
#ifndef SHUNT_CORE_FTRACE_H
#define SHUNT_CORE_FTRACE_H

#include <shunt/ftrace.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/site.h"

/* How the instruction at an entry stands in its function: which stub it can call. */
enum shunt_entry_form {
	SHUNT_FORM_HEAD,        /* the function's first instruction (endbr64 aside) */
	SHUNT_FORM_CALL,        /* an ordinary call with the function in the first argument */
	SHUNT_FORM_RETURN,      /* in the place of a ret */
	SHUNT_FORM_TAIL,        /* before the jmp of a tail call; flags are live */
	SHUNT_FORM_CALL_RETURN, /* an ordinary call at the end, with the function as above */
};

/* What must be done to the bytes, once, before they can be a call. */
enum shunt_entry_prepare {
	SHUNT_READY, /* one instruction of @len bytes, or a jmp or ret and bytes never reached */
	SHUNT_SINGLE_NOPS, /* @len nops of one byte each, between which a thread may stand */
	SHUNT_XRAY_HEAD,   /* jmp +9 over 9 bytes: those behind the call are to be a nop first */
};

/* One instruction that can be a call. */
struct shunt_entry {
	uintptr_t ip;
	uintptr_t func;  /* the function's start */
	uint32_t name;   /* the port's own: of the symbol */
	uint8_t form;    /* enum shunt_entry_form */
	uint8_t prepare; /* enum shunt_entry_prepare */
	uint8_t len;     /* 5 or 6 */
	uint8_t kind;    /* enum shunt_entry_kind */
	uint8_t old[8];  /* the @len bytes that stand there when it is handed over */
	uint32_t index;  /* the core's own: number of the entry in ops' sets */
	uint32_t state;  /* the core's own */
	const char *why; /* it can no longer be changed: the reason */
};

/* The entries of a module, sorted by ip. The port's; it stays where it is until it is removed. */
struct shunt_entries {
	struct shunt_entries *next; /* the core's own */
	struct shunt_entry *entries;
	size_t n;
	const char *module; /* the file name without its folder, for "module:glob" */
	const char *names;  /* shunt_entry.name is an offset in it; 0: "" */
};

/*
 * The port has found @set, or it is about to go away: its entries are then off, and nothing of it
 * is looked at any more. Ftrace lock held. Add: 0 or -ENOMEM, or where ops that are registered want
 * some of them and the poke failed, its error: they are known all the same, and off. Remove
 * cannot fail: text that cannot be written is said to go away.
 */
int shunt_entries_add(struct shunt_entries *set);
void shunt_entries_remove(struct shunt_entries *set);

#endif
