/* SPDX-License-Identifier: MIT */
/*
 * Have the dynamic linker's empty function for debuggers (r_brk) lead to shunt_notice_entry(): it
 * is poked to jump there; or, where a ret must not be replaced while threads run (aarch64), its
 * calls in the dynamic linker to call that.
 *
 * Another libshunt, of a plugin or in another namespace, may have been first. It is known by what
 * stands before its entry (notice_entry.S), and calls the next one's (shunt_notice_next), behind
 * which this one's is put. No text is changed for that, and none of them goes away again
 * (shunt_pin()). All do so under the dynamic linker's lock of its list: one at a time. In a copy of
 * the process that is not taken (linux/base/dl_list.h): who finds that another was first looks
 * again.
 */
#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>

#include <shunt/port.h>
#include <shunt/text_poke.h>

#include "arch/arch.h"
#include "arch/process.h"
#include "core/ftrace.h"
#include "linux/base/dl_list.h"
#include "linux/entry/modules.h"
#include "linux/text/area.h"

#define SITES 32

/* Lock of sets. */
static struct {
	size_t n;                           /* of @at: what is poked; 0: nothing */
	uintptr_t at[SITES];                /* sorted */
	uint8_t old[SITES][SHUNT_INSN_MAX]; /* what was there */
} text;

void (*_Atomic shunt_notice_next)(void);

/* ------------------------------------------------------------- another libshunt's */

/* notice_entry.S: what stands before an entry. */
struct mark {
	char name[8];
	int64_t next; /* its shunt_notice_next, from here */
};

#define NAME "ShuntNt1" /* another number where that has another meaning */

typedef void (*_Atomic next_entry)(void);

static void copy(void *to, uintptr_t from, size_t len)
{
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	shunt_copy_text(to, (const void *)from, len);
}

/* Behind the veneer that may be at @to. */
static uintptr_t behind_veneer(uintptr_t to)
{
	struct shunt_veneer veneer = {.target = 0}, same;

	if (!shunt_area_are_readable(to, sizeof(veneer)))
		return to;
	copy(&veneer, to, sizeof(veneer));
	same = shunt_veneer_to(veneer.target);
	return memcmp(&veneer, &same, sizeof(veneer)) ? to : veneer.target;
}

/* The shunt_notice_next of the libshunt whose entry @to leads to; NULL: it is none. */
static next_entry *link_of(uintptr_t to)
{
	struct mark mark = {{0}, 0};
	uintptr_t at;

	to = behind_veneer(to);
	at = to - sizeof(mark);
	if (to < sizeof(mark) || !shunt_area_are_readable(at, sizeof(mark)))
		return NULL;
	copy(&mark, at, sizeof(mark));
	if (memcmp(mark.name, NAME, sizeof(mark.name)) != 0)
		return NULL;
	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	return (next_entry *)(at + offsetof(struct mark, next) + (uintptr_t)mark.next);
}

#define COPIES 64

/* Put this one's behind the last of those that begin at @to. */
static bool join(uintptr_t to)
{
	void (*own)(void) = (void (*)(void))(uintptr_t)shunt_notice_entry;
	next_entry *at = link_of(to);

	for (int i = 0; at && i < COPIES; i++) {
		void (*next)(void) = NULL;

		if (at == &shunt_notice_next) /* stopped, and told once more */
			return true;
		if (atomic_compare_exchange_strong(at, &next, own))
			return true;
		at = link_of((uintptr_t)next);
	}
	return false;
}

/* Update lock held. */
static bool join_others(uintptr_t brk, struct shunt_range of)
{
	uintptr_t to;

	for (size_t i = 0; (to = shunt_replaced_function(brk, of.start, of.end, i)); i++)
		if (join(to))
			return true;
	return false;
}

/* ------------------------------------------------------------------------- the text */

/* A branch to our entry at each place, of which text_poke_bp_batch() keeps a copy of its own. */
static int write_branches(struct text_poke *pokes, uint8_t (*bytes)[SHUNT_INSN_MAX], uint8_t op)
{
	for (size_t i = 0; i < text.n; i++) {
		struct shunt_insn insn = {
			.op = op, .len = SHUNT_PLAIN_LEN, .target = (uintptr_t)shunt_notice_entry};
		const uintptr_t at = text.at[i];

		if (!shunt_insn_reach(at + SHUNT_PLAIN_LEN, insn.target))
			insn.target = shunt_port_veneer(at, insn.target);
		if (!insn.target || shunt_insn_encode(&insn, at, bytes[i]) < 0)
			return -ERANGE;
		copy(text.old[i], at, SHUNT_PLAIN_LEN);
		/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
		pokes[i] = (struct text_poke){.addr = (void *)at,
					      .insn = bytes[i],
					      .len = SHUNT_PLAIN_LEN,
					      .old = text.old[i]};
	}
	return 0;
}

struct hook {
	uintptr_t brk;
	bool was_called;
	enum shunt_notice_place place;
	int error;
};

static void find_and_poke(struct hook *hook)
{
	struct text_poke pokes[SITES];
	uint8_t bytes[SITES][SHUNT_INSN_MAX];
	struct shunt_area area;
	uint8_t op;

	hook->error = shunt_port_lock();
	if (hook->error)
		return;
	hook->error = shunt_area_find(hook->brk, &area);
	text.n = hook->error ? 0
			     : shunt_empty_function_sites(hook->brk, area.range.start,
							  area.range.end, text.at, SITES, &op);
	if (text.n)
		hook->error = write_branches(pokes, bytes, op);
	/* What the pokes expect there is what was seen to be empty, also where nobody waits. */
	if (text.n && !hook->error &&
	    shunt_empty_function_sites(hook->brk, area.range.start, area.range.end, text.at, SITES,
				       &op) != text.n)
		hook->error = -EBUSY;
	else if (!hook->error && join_others(hook->brk, area.range))
		hook->place = SHUNT_NOTICE_BEHIND;
	shunt_port_unlock();
	if (text.n && !hook->error)
		hook->error = text_poke_bp_batch(pokes, (unsigned)text.n);
	if (hook->error)
		text.n = 0;
	if (text.n)
		hook->place = SHUNT_NOTICE_TEXT;
}

/* With the dynamic linker's list locked. */
static int hook_in_loader(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct hook *hook = arg;

	(void)info;
	(void)size;
	hook->was_called = true;
	find_and_poke(hook);
	return 1;
}

enum shunt_notice_place shunt_notice_hook(uintptr_t brk, int *error)
{
	struct hook hook;

	if (text.n) /* stopped, when another was told by it */
		return SHUNT_NOTICE_TEXT;
	/* In a copy of the process the list is not locked, and another one may be at it. */
	for (int i = 0; i < 2 && (!i || hook.error == -EBUSY); i++) {
		hook = (struct hook){.brk = brk, .place = SHUNT_NOTICE_NONE};
		shunt_sets_in_loader(true);
		(void)shunt_dl_iterate(hook_in_loader, &hook);
		shunt_sets_in_loader(false);
		if (!hook.was_called) /* a program's own, with an empty list */
			find_and_poke(&hook);
	}
	*error = hook.error;
	return hook.place;
}

static int poke_back(void)
{
	struct text_poke pokes[SITES];
	uint8_t now[SITES][SHUNT_INSN_MAX];
	int ret;

	for (size_t i = 0; i < text.n; i++) {
		copy(now[i], text.at[i], SHUNT_PLAIN_LEN);
		/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
		pokes[i] = (struct text_poke){.addr = (void *)text.at[i],
					      .insn = text.old[i],
					      .len = SHUNT_PLAIN_LEN,
					      .old = now[i]};
	}
	ret = text_poke_bp_batch(pokes, (unsigned)text.n);
	if (!ret)
		text.n = 0;
	return ret;
}

static int unhook_in_loader(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)info;
	(void)size;
	if (!atomic_load(&shunt_notice_next))
		*(int *)arg = poke_back();
	return 1;
}

int shunt_notice_unhook(void)
{
	int ret = 0;

	if (!text.n)
		return 0;
	shunt_sets_in_loader(true);
	(void)shunt_dl_iterate(unhook_in_loader, &ret);
	shunt_sets_in_loader(false);
	return ret;
}
