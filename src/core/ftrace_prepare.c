/* SPDX-License-Identifier: MIT */
/*
 * Entries that cannot be poked as they are, made one instruction of 5 bytes.
 *
 * It is done by a batch of its own, before the one that is wanted, and changes what no thread can
 * tell. Five nops of one byte become one instruction, by the first byte alone:
 *
 *	90 90 90 90 90	->  a9 90 90 90 90	test $0x90909090,%eax
 *
 * A thread that stands between two of them still finds nops there. None comes to stand there any
 * more; when all have left (shunt_port_leave_nops()) the rest may be changed as well.
 *
 * Over a longer nop a jmp of 2 bytes is put first, which has the same effect.
 *
 * Of XRay's "jmp +9", and of such a jmp, the bytes that the call is to return to become a nop;
 * nothing leads to them.
 */
#include "core/error.h"
#include "core/ftrace_batch.h"

static int add_preparation(struct shunt_trace_batch *b, const struct shunt_entry *e,
			   struct shunt_report *report)
{
	static const uint8_t nops[] = {0x90, 0x90, 0x90, 0x90, 0x90};
	static const uint8_t one[] = {0xa9, 0x90, 0x90, 0x90, 0x90};
	static const uint8_t nop6[] = {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00};
	const uint8_t over[] = {0xeb, (uint8_t)(e->old[1] - SHUNT_XRAY_TAIL)};
	uint8_t now[SHUNT_SITE_MAX];

	if (e->prepare == SHUNT_SINGLE_NOPS && e->old[0] == 0xa9)
		return 0; /* threads have not been seen to leave them: that is left to do */
	if (e->prepare == SHUNT_SINGLE_NOPS)
		return shunt_trace_batch_add(b, e->ip, SHUNT_CALL_LEN, nops, one, report);
	shunt_trace_copy(now, (const uint8_t *)e->ip + SHUNT_XRAY_TAIL, sizeof(now));
	if (e->prepare == SHUNT_LONG_NOP)
		return shunt_trace_batch_add(b, e->ip + SHUNT_XRAY_TAIL, sizeof(over), now, over,
					     report);
	return shunt_trace_batch_add(b, e->ip + SHUNT_XRAY_TAIL, sizeof(nop6), now, nop6, report);
}

static int add_jump(struct shunt_trace_batch *b, const struct shunt_entry *e,
		    struct shunt_report *report)
{
	struct shunt_insn nop;
	uint8_t jmp[2] = {0xeb};

	if (shunt_insn_decode((const uint8_t *)e->ip, SHUNT_INSN_LONGEST, e->ip, &nop) <
		    SHUNT_CALL_LEN + (int)sizeof(jmp) ||
	    nop.op != SHUNT_OP_NOP)
		return -SHUNT_EBUSY;
	jmp[1] = (uint8_t)(nop.len - sizeof(jmp));
	return shunt_trace_batch_add(b, e->ip, sizeof(jmp), e->old, jmp, report);
}

static int jump_over_long_nops(struct shunt_entry **entries, size_t n, struct shunt_report *report)
{
	struct shunt_trace_batch b = {
		.change = {shunt_trace_commit_text, shunt_trace_revert_text, NULL, NULL}};
	int ret = shunt_trace_batch_begin(&b, n) ? 0 : -SHUNT_ENOMEM;

	for (size_t i = 0; i < n && !ret; i++)
		if (entries[i]->prepare == SHUNT_LONG_NOP && entries[i]->old[0] != 0xeb)
			ret = add_jump(&b, entries[i], report);
	if (!ret && b.n) {
		shunt_trace_revert_text(&b.change);
		ret = shunt_poke_batch(b.pokes, b.n, &b.change, report);
	}
	for (size_t i = 0; i < n && !ret; i++)
		if (entries[i]->prepare == SHUNT_LONG_NOP)
			shunt_trace_copy(entries[i]->old, (const uint8_t *)entries[i]->ip,
					 SHUNT_CALL_LEN);
	shunt_trace_batch_end(&b);
	return ret;
}

static int leave_nops(struct shunt_entry **entries, size_t n)
{
	uintptr_t *ips = shunt_port_alloc((n + 1) * sizeof(*ips));
	size_t nr = 0;
	int ret;

	if (!ips)
		return -SHUNT_ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (entries[i]->prepare == SHUNT_SINGLE_NOPS) {
			entries[i]->old[0] = 0xa9;
			ips[nr++] = entries[i]->ip;
		}
	ret = nr ? shunt_port_leave_nops(ips, nr) : 0;
	shunt_port_free(ips, (n + 1) * sizeof(*ips));
	return ret;
}

int shunt_trace_prepare(struct shunt_entry **entries, size_t n, struct shunt_report *report)
{
	struct shunt_trace_batch b = {
		.change = {shunt_trace_commit_text, shunt_trace_revert_text, NULL, NULL}};
	int ret = jump_over_long_nops(entries, n, report);

	if (!ret)
		ret = shunt_trace_batch_begin(&b, n) ? 0 : -SHUNT_ENOMEM;
	for (size_t i = 0; i < n && !ret; i++)
		ret = add_preparation(&b, entries[i], report);
	if (!ret) {
		shunt_trace_revert_text(&b.change);
		ret = shunt_poke_batch(b.pokes, b.n, &b.change, report);
	}
	shunt_trace_batch_end(&b);
	if (ret)
		return ret;
	report->site = (const void *)entries[0]->ip; /* NOLINT(performance-no-int-to-ptr) */
	report->what = "see to it that no thread stands between the nops";
	ret = leave_nops(entries, n);
	for (size_t i = 0; i < n && !ret; i++)
		entries[i]->prepare = SHUNT_READY;
	return ret;
}
