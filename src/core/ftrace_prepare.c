/* SPDX-License-Identifier: MIT */
/*
 * Entries that cannot be poked as they are, made one instruction that can.
 *
 * It is done by batches of its own, before the one that is wanted, and changes what no thread can
 * tell: first the entries themselves (shunt_prepare_head() of arch.h), then what stands behind
 * the calls that they are to become (shunt_prepare_tail()). Which bytes become which, and why that
 * is so: arch/CPU/prepare.c.
 *
 * A thread that stands between nops which are one instruction now still finds nops there. None
 * comes to stand there any more; when all have left (shunt_port_leave_nops()) the rest may be
 * changed as well.
 */
#include "core/error.h"
#include "core/ftrace_batch.h"

/* A batch, with the entries whose own bytes it changes. */
struct preparation {
	struct shunt_ftrace_batch batch; /* the first, so that a change leads here */
	struct shunt_entry **heads;
	size_t nr_heads;
};

/* For a copy of the process, too. */
static void heads_done(struct shunt_change *change)
{
	struct preparation *p = (struct preparation *)change;

	for (size_t i = 0; i < p->nr_heads; i++)
		shunt_ftrace_copy(p->heads[i]->old, (const uint8_t *)p->heads[i]->ip,
				  SHUNT_CALL_LEN);
}

static int add_head(struct preparation *p, struct shunt_entry *e, struct shunt_report *report)
{
	uint8_t bytes[SHUNT_INSN_MAX];
	int len = shunt_prepare_head(e->prepare, e->old, e->ip, bytes);

	if (len <= 0)
		return len;
	p->heads[p->nr_heads++] = e;
	return shunt_ftrace_batch_add(&p->batch, e->ip, (unsigned)len, e->old, bytes, report);
}

static int add_tail(struct preparation *p, struct shunt_entry *e, struct shunt_report *report)
{
	const uintptr_t at = e->ip + SHUNT_CALL_LEN;
	uint8_t bytes[SHUNT_INSN_MAX], now[SHUNT_INSN_MAX];
	int len = shunt_prepare_tail(e->prepare, e->old, bytes);

	if (len <= 0)
		return len;
	shunt_ftrace_copy(now, (const uint8_t *)at, (unsigned)len);
	return shunt_ftrace_batch_add(&p->batch, at, (unsigned)len, now, bytes, report);
}

/* One batch of what @add has to change at @entries. */
static int poke_each(struct shunt_entry **entries, size_t n,
		     int (*add)(struct preparation *p, struct shunt_entry *e,
				struct shunt_report *report),
		     struct shunt_report *report)
{
	struct preparation p = {
		.batch.change = {shunt_ftrace_commit_text, shunt_ftrace_revert_text, heads_done,
				 NULL},
		.heads = shunt_port_alloc((n + 1) * sizeof(void *)),
	};
	struct shunt_ftrace_batch *b = &p.batch;
	int ret = shunt_ftrace_batch_begin(b, n) && p.heads ? 0 : shunt_port_no_memory();

	for (size_t i = 0; i < n && !ret; i++)
		ret = add(&p, entries[i], report);
	if (!ret && b->n) {
		shunt_ftrace_revert_text(&b->change);
		ret = shunt_poke_batch(b->pokes, b->n, &b->change, report);
	}
	shunt_ftrace_batch_end(b);
	if (p.heads)
		shunt_port_free(p.heads, (n + 1) * sizeof(void *));
	return ret;
}

static int leave_nops(struct shunt_entry **entries, size_t n)
{
	uintptr_t *ips = shunt_port_alloc((n + 1) * sizeof(*ips));
	size_t nr = 0;
	int ret;

	if (!ips)
		return shunt_port_no_memory();
	for (size_t i = 0; i < n; i++)
		if (entries[i]->prepare == SHUNT_SINGLE_NOPS)
			ips[nr++] = entries[i]->ip;
	ret = nr ? shunt_port_leave_nops(ips, nr) : 0;
	shunt_port_free(ips, (n + 1) * sizeof(*ips));
	return ret;
}

int shunt_ftrace_prepare(struct shunt_entry **entries, size_t n, struct shunt_report *report)
{
	int ret = poke_each(entries, n, add_head, report);

	if (!ret)
		ret = poke_each(entries, n, add_tail, report);
	if (ret)
		return ret;
	report->site = (const void *)entries[0]->ip; /* NOLINT(performance-no-int-to-ptr) */
	report->what = "see to it that no thread stands between the nops";
	ret = leave_nops(entries, n);
	for (size_t i = 0; i < n && !ret; i++)
		entries[i]->prepare = SHUNT_READY;
	return ret;
}
