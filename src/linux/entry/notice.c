/* SPDX-License-Identifier: MIT */
/*
 * The dynamic linker tells debuggers that it loads or unloads by calling an empty function,
 * r_debug's r_brk, with its lock held: before (RT_ADD, RT_DELETE) and after (RT_CONSISTENT). Behind
 * a load that is before the new modules are relocated and their constructors run; an unload's
 * destructors have run by RT_DELETE. That function is poked to jump to one of ours; or, where a ret
 * must not be replaced while threads run (aarch64), its calls in the dynamic linker to call that.
 *
 * From RT_DELETE to RT_CONSISTENT the lock of sets is held, so that no text that goes away is
 * written to meanwhile, and what is gone is forgotten before it is released.
 *
 * Where the function is not as expected (a debugger's breakpoint), there is no notice: the
 * interface looks for modules at each of its calls, and a module that is unloaded while another
 * thread changes what is traced is the user's to avoid.
 */
#include <errno.h>

#include <shunt/port.h>
#include <shunt/text_poke.h>

#include "arch/arch.h"
#include "core/ftrace.h"
#include "linux/entry/modules.h"
#include "linux/text/area.h"

#define SITES 32

/* Lock of sets. What a thread unloads that is not in this copy of the process does not end. */
static bool has_unload;
static unsigned abandoned_before;
static struct {
	bool was_tried;
	size_t n;                           /* of @at: what is poked; 0: nothing */
	uintptr_t at[SITES];                /* sorted */
	uint8_t old[SITES][SHUNT_INSN_MAX]; /* what was there */
} notice;

static bool is_unloading(void)
{
	return has_unload && abandoned_before == shunt_sets_abandoned();
}

/* In the place of r_brk: the dynamic linker's lock is held. */
static void on_notice(void)
{
	const char *earlier = shunt_failed_call;
	bool deleting = shunt_loader_is_deleting(), is_untold;
	char text[SHUNT_MESSAGE_MAX];

	if (!deleting && shunt_loader_is_adding())
		return;
	if (!shunt_sets_are_locked() && shunt_sets_lock(false))
		return;
	/* Stopped while this waited: the end of what has begun would not be told. */
	if (!notice.n && !is_unloading()) {
		shunt_sets_unlock();
		return;
	}
	if (deleting) {
		has_unload = true;
		abandoned_before = shunt_sets_abandoned();
		shunt_sets_in_loader(true); /* which waits for its list now */
		return;
	}
	has_unload = false;
	shunt_modules_update(false);
	is_untold = shunt_modules_untold(text, sizeof(text));
	shunt_sets_unlock();
	if (is_untold)
		shunt_message("%s", text);
	shunt_failed_call = earlier;
}

/* A branch to on_notice() at each place, of which text_poke_bp_batch() keeps a copy of its own. */
static int write_branches(struct text_poke *pokes, uint8_t (*bytes)[SHUNT_INSN_MAX], uint8_t op)
{
	for (size_t i = 0; i < notice.n; i++) {
		struct shunt_insn insn = {
			.op = op, .len = SHUNT_PLAIN_LEN, .target = (uintptr_t)on_notice};
		const uintptr_t at = notice.at[i];

		if (!shunt_insn_reach(at + SHUNT_PLAIN_LEN, insn.target))
			insn.target = shunt_port_veneer(at, insn.target);
		if (!insn.target || shunt_insn_encode(&insn, at, bytes[i]) < 0)
			return -ERANGE;
		/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
		shunt_copy_text(notice.old[i], (const void *)at, SHUNT_PLAIN_LEN);
		pokes[i] = (struct text_poke){.addr = (void *)at,
					      .insn = bytes[i],
					      .len = SHUNT_PLAIN_LEN,
					      .old = notice.old[i]};
	}
	return 0;
}

static int find_and_poke(uintptr_t brk)
{
	struct text_poke pokes[SITES];
	uint8_t bytes[SITES][SHUNT_INSN_MAX];
	struct shunt_area area;
	int ret = shunt_port_lock();
	uint8_t op;

	if (ret)
		return ret;
	ret = shunt_area_find(brk, &area);
	/* Before the first notice, which looks at it. */
	notice.n = ret ? 0
		       : shunt_empty_function_sites(brk, area.range.start, area.range.end,
						    notice.at, SITES, &op);
	if (notice.n)
		ret = write_branches(pokes, bytes, op);
	shunt_port_unlock();
	return ret || !notice.n ? ret : text_poke_bp_batch(pokes, (unsigned)notice.n);
}

void shunt_notice_start(uintptr_t of)
{
	uintptr_t brk = shunt_loader_open(of);

	notice.was_tried = true;
	if (!brk || find_and_poke(brk))
		notice.n = 0;
}

bool shunt_notice_was_tried(void)
{
	return notice.was_tried;
}

int shunt_notice_stop(void)
{
	uint8_t now[SITES][SHUNT_INSN_MAX];
	struct text_poke pokes[SITES];
	int ret;

	/* Within the dynamic linker's own unload: it is not to miss the end of that. */
	if (is_unloading())
		return -EAGAIN;
	for (size_t i = 0; i < notice.n; i++) {
		/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
		shunt_copy_text(now[i], (const void *)notice.at[i], SHUNT_PLAIN_LEN);
		pokes[i] = (struct text_poke){.addr = (void *)notice.at[i],
					      .insn = notice.old[i],
					      .len = SHUNT_PLAIN_LEN,
					      .old = now[i]};
	}
	if (notice.n) {
		ret = text_poke_bp_batch(pokes, (unsigned)notice.n);
		if (ret)
			return ret;
	}
	notice.n = 0;
	notice.was_tried = false;
	return 0;
}
