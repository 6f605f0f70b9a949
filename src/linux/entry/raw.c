/* SPDX-License-Identifier: MIT */
/*
 * The recorder's hooks: one ops, whose entries call the stubs of raw_stubs.S where nobody else
 * traces them, and else func_of_list() among the others.
 */
#include <errno.h>

#include "arch/arch.h"
#include "core/ftrace.h"
#include "linux/entry/fgraph.h"
#include "linux/entry/return_slots.h"
#include "linux/sync/sync_handler.h"

shunt_raw_entry_fn *_Atomic shunt_raw_entry, *_Atomic shunt_raw_hook_entry;
shunt_raw_return_fn *_Atomic shunt_raw_hook_return;
_Atomic uint32_t shunt_raw_how;

static struct shunt_raw_ops *_Atomic registered;

uint32_t shunt_raw_replace(uintptr_t *word)
{
	bool is_tail = shunt_is_return_stub(*word);

	if (!shunt_replace_return(word))
		return SHUNT_RAW_NO_RETURN;
	return is_tail ? SHUNT_RAW_TAIL : SHUNT_RAW_ENTRY;
}

static void tell_entry(unsigned long ip, bool is_head, struct ftrace_regs *regs)
{
	uint32_t how = atomic_load_explicit(&shunt_raw_how, memory_order_relaxed);

	if (is_head && how == SHUNT_RAW_ENTRY && shunt_entry_find(ip)->kind != SHUNT_ENTRY_XRAY) {
		bool is_tail = shunt_is_tail_call(regs);

		how = shunt_replace_return(shunt_regs_return_word(regs)) ? SHUNT_RAW_ENTRY
									 : SHUNT_RAW_NO_RETURN;
		if (is_tail)
			how = SHUNT_RAW_TAIL;
	}
	atomic_load_explicit(&shunt_raw_entry,
			     memory_order_acquire)(is_head ? ip : shunt_regs_function(regs),
						   shunt_regs_sp(regs), (enum shunt_raw_how)how);
}

/* Where others trace the function too. */
static void func_of_list(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			 struct ftrace_regs *regs)
{
	unsigned form = (unsigned)(regs->form & UINT32_MAX);
	bool has_func = form == FTRACE_FORM_CALL_RETURN || form == FTRACE_FORM_JUMP_RETURN;

	(void)parent_ip;
	(void)ops;
	if (form == FTRACE_FORM_HEAD || form == FTRACE_FORM_CALL)
		tell_entry(ip, form == FTRACE_FORM_HEAD, regs);
	else
		atomic_load_explicit(&shunt_raw_return, memory_order_acquire)(
			has_func ? shunt_regs_function(regs) : 0, shunt_regs_sp(regs));
}

/* stubs.c; raw_stubs.S. */
uintptr_t shunt_raw_stub(unsigned form, bool is_replaced);
extern const char shunt_raw_stub_head[];
extern const uintptr_t shunt_raw_stubs[]; /* by form; HEAD: no return is to be told by a stub */

uintptr_t shunt_raw_stub(unsigned form, bool is_replaced)
{
	if (form == FTRACE_FORM_HEAD && is_replaced)
		return (uintptr_t)shunt_raw_stub_head;
	return shunt_raw_stubs[form];
}

/* -------------------------------------------------------------- register, unregister */

static void no_return(uintptr_t ip, uintptr_t sp)
{
	(void)ip;
	(void)sp;
}

/*
 * A thread may run a hook of the one that was registered before until long behind its unregister;
 * that one's pointers stay, so that none is ever called that is NULL, or that changes more
 * registers than its caller knows.
 */
static void set_hooks(const struct shunt_raw_ops *raw)
{
	if (!raw->is_sparing || !raw->ret)
		atomic_store(&shunt_raw_hook_return, raw->ret ? raw->ret : no_return);
	if (!raw->is_sparing)
		atomic_store(&shunt_raw_hook_entry, raw->entry);
	atomic_store(&shunt_raw_return,
		     raw->is_sparing && raw->ret ? raw->ret : shunt_raw_saving_return);
	atomic_store(&shunt_raw_entry, raw->is_sparing ? raw->entry : shunt_raw_saving_entry);
	atomic_store(&shunt_raw_how, raw->ret ? SHUNT_RAW_ENTRY : SHUNT_RAW_NO_RETURN);
}

int shunt_raw_register(struct shunt_raw_ops *raw)
{
	struct shunt_raw_ops *none = NULL;
	int r;

	if (!raw || !raw->entry)
		return -EINVAL;
	if (!atomic_compare_exchange_strong(&registered, &none, raw))
		return -EBUSY;
	raw->ops.func = func_of_list;
	raw->ops.flags |= SHUNT_FTRACE_GENERAL_REGS | SHUNT_FTRACE_RAW;
	raw->ops.flags &= ~SHUNT_FTRACE_EXITS;
	if (raw->ret)
		raw->ops.flags |= SHUNT_FTRACE_EXITS;
	set_hooks(raw);
	if (raw->ret)
		shunt_returns_begin(SHUNT_WANTS_RAW);
	r = register_ftrace_function(&raw->ops);
	if (r) {
		atomic_fetch_and(&shunt_returns_wanted, (uint8_t)~SHUNT_WANTS_RAW);
		atomic_store(&registered, NULL);
	}
	return r;
}

int shunt_raw_unregister(struct shunt_raw_ops *raw)
{
	int r;

	if (!raw || atomic_load(&registered) != raw)
		return -EINVAL;
	r = unregister_ftrace_function(&raw->ops);
	if (r && shunt_ops_are_registered(&raw->ops))
		return r;
	atomic_fetch_and(&shunt_returns_wanted, (uint8_t)~SHUNT_WANTS_RAW);
	atomic_store(&registered, NULL);
	return r;
}

int shunt_sync_signal_number(void)
{
	return shunt_sync_signal;
}
