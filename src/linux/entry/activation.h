/* SPDX-License-Identifier: MIT */
/*
 * Activation records: what is known of a traced function between its entry and its return. They are
 * kept by the address of the stack word that holds the return address, not by thread: so a
 * record is found wherever its stack runs, and one that was left by longjmp() or an exception is
 * overwritten by the next entry at that address. Only who runs on a stack uses its records.
 *
 * Functions that are told by calls from within (-finstrument-functions) have the stack pointer
 * at those instead, which several that are compiled into one have in common: their records
 * are stacked there.
 *
 * No lock; async-signal-safe: a signal handler runs at other addresses. Memory is not given back.
 */
#ifndef SHUNT_LINUX_ACTIVATION_H
#define SHUNT_LINUX_ACTIVATION_H

#include <stdbool.h>
#include <stdint.h>

struct shunt_activation {
	uintptr_t func; /* its start */
	uintptr_t sp;
	uintptr_t
		word; /* what stands at @sp (of calls: above) until it has returned; 0: not known */
	struct shunt_activation *parent; /* the traced function around it; NULL: none is known */
	uint32_t depth;
	uint32_t epoch; /* when it was entered (fgraph.c) */
	uint16_t mask;  /* who wants its return; 0: nobody */
	bool is_live;   /* it has not returned, as far as is known */
	bool is_call;   /* a struct shunt_call_activation */
};

struct shunt_call_activation {
	struct shunt_activation a; /* word: what the function returns to, or 0 */
	uintptr_t at;              /* where that stands on the stack */
	uintptr_t ip, site;        /* of the call at the entry; what the function returns to */
	struct shunt_call_activation *below; /* the one that was here before */
	struct shunt_call_activation *spare; /* room for another */
};

/*
 * The record at @sp; with @calls of those of calls. Find: NULL: there is none. Get: NULL: no
 * memory.
 */
struct shunt_activation *shunt_activation_find(uintptr_t sp, bool calls);
struct shunt_activation *shunt_activation_get(uintptr_t sp, bool calls);

/*
 * The function that calls the one which is entered at @sp; NULL: none is known. By the thread's
 * last entry; on a stack that the program has changed to, also by what is near.
 */
struct shunt_activation *shunt_activation_parent(uintptr_t sp, bool calls);

/*
 * What @a says is over, if anything: @func, called by @parent, begins; of calls, one that is there
 * is kept. False: no memory. It ends.
 */
bool shunt_activation_begin(struct shunt_activation *a, struct shunt_activation *parent,
			    uintptr_t func, uintptr_t sp, bool calls);
void shunt_activation_end(struct shunt_activation *a);

/*
 * Of calls, before a record is looked up for another entry at @a's place, by the call at @ip, in a
 * function that returns to @site: what is there and is not around it was left by an exception or
 * longjmp(). And behind its begin: how it will be known to be left itself. The stack at @a->sp is
 * readable.
 */
void shunt_activation_drop_left(struct shunt_activation *a, uintptr_t ip, uintptr_t site);
void shunt_activation_note_call(struct shunt_activation *a, uintptr_t ip, uintptr_t site);

/* The innermost one of @func whose stack pointer was @sp, or not far above; NULL: there is none. */
struct shunt_activation *shunt_activation_of_call(uintptr_t func, uintptr_t sp);
/* The outermost one of @func whose stack pointer was below @sp, where its frame began. */
struct shunt_activation *shunt_activation_of_jump(uintptr_t func, uintptr_t sp);

#endif
