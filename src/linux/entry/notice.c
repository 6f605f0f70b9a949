/* SPDX-License-Identifier: MIT */
/*
 * The dynamic linker tells debuggers that it loads or unloads by calling an empty function,
 * r_debug's r_brk, with its lock held: before (RT_ADD, RT_DELETE) and after (RT_CONSISTENT). Behind
 * a load that is before the new modules are relocated and their constructors run; an unload's
 * destructors have run by RT_DELETE. That function is poked to jump to one of ours.
 *
 * From RT_DELETE to RT_CONSISTENT the lock of sets is held, so that no text that goes away is
 * written to meanwhile, and what is gone is forgotten before it is released.
 *
 * Where the function is not as expected (a debugger's breakpoint), there is no notice: the
 * interface looks for modules at each of its calls, and a module that is unloaded while another
 * thread changes what is traced is the user's to avoid.
 */
#include <errno.h>
#include <string.h>

#include <shunt/port.h>
#include <shunt/text_poke.h>

#include "arch/arch.h"
#include "core/ftrace.h"
#include "linux/entry/modules.h"

/* Lock of sets. */
static bool is_unloading;
static struct {
	bool was_tried;
	uint8_t *at;    /* what is poked; NULL: nothing */
	uint8_t old[5]; /* what was there */
} notice;

/* In the place of r_brk, by a jmp: the dynamic linker's lock is held. */
static void on_notice(void)
{
	const char *earlier = shunt_failed_call;
	bool deleting = shunt_loader_is_deleting();

	if (!deleting && shunt_loader_is_adding())
		return;
	if (!shunt_sets_are_locked() && shunt_sets_lock(false))
		return;
	/* Stopped while this waited: the end of what has begun would not be told. */
	if (!notice.at && !is_unloading) {
		shunt_sets_unlock();
		return;
	}
	if (deleting) {
		is_unloading = true;
		shunt_sets_in_loader(true); /* which waits for its list now */
		return;
	}
	is_unloading = false;
	shunt_modules_update();
	shunt_sets_unlock();
	shunt_failed_call = earlier;
}

/* The ret of r_brk, and what pads it up to the 5 bytes of a jmp; NULL: it is not as expected. */
static uint8_t *find_ret(uintptr_t brk)
{
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
	uint8_t *at = (uint8_t *)brk; /* NOLINT(performance-no-int-to-ptr) */
	struct shunt_insn insn;
	unsigned len = 1;

	if (!memcmp(at, endbr64, sizeof(endbr64)))
		at += sizeof(endbr64);
	if (*at != 0xc3)
		return NULL;
	while (len < 5) {
		if (at[len] == 0xcc) {
			len++;
			continue;
		}
		if (shunt_insn_decode(at + len, SHUNT_INSN_LONGEST, 0, &insn) <= 0 ||
		    insn.op != SHUNT_OP_NOP)
			return NULL;
		len += insn.len;
	}
	return at;
}

static int poke(uint8_t *at)
{
	struct shunt_insn jmp = {.op = SHUNT_OP_JMP, .len = 5};
	uint8_t bytes[SHUNT_INSN_MAX];
	struct text_poke p = {.addr = at, .insn = bytes, .len = 5, .old = notice.old};
	int ret = shunt_port_lock();

	if (ret)
		return ret;
	jmp.target = (uintptr_t)on_notice;
	if (!shunt_insn_reach((uintptr_t)at + 5, jmp.target))
		jmp.target = shunt_port_veneer((uintptr_t)at, jmp.target);
	shunt_port_unlock();
	memcpy(notice.old, at, sizeof(notice.old));
	if (!jmp.target)
		return -ERANGE;
	ret = shunt_insn_encode(&jmp, (uintptr_t)at, bytes);
	return ret < 0 ? ret : text_poke_bp_batch(&p, 1);
}

void shunt_notice_start(uintptr_t of)
{
	uintptr_t brk = shunt_loader_open(of);
	uint8_t *ret = brk ? find_ret(brk) : NULL;

	notice.was_tried = true;
	/* Before the first notice, which looks at it. */
	notice.at = ret;
	if (ret && poke(ret))
		notice.at = NULL;
}

bool shunt_notice_was_tried(void)
{
	return notice.was_tried;
}

int shunt_notice_stop(void)
{
	uint8_t now[5];
	struct text_poke p = {.addr = notice.at, .insn = notice.old, .len = 5, .old = now};
	int ret;

	/* Within the dynamic linker's own unload: it is not to miss the end of that. */
	if (is_unloading)
		return -EAGAIN;
	if (notice.at) {
		memcpy(now, notice.at, sizeof(now));
		ret = text_poke_bp_batch(&p, 1);
		if (ret)
			return ret;
	}
	notice.at = NULL;
	notice.was_tried = false;
	return 0;
}
