/* SPDX-License-Identifier: MIT */
/* Somebody traces, or asks what could be: modules are looked for from now on. */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>

#include <shunt/port.h>

#include "core/ftrace.h"
#include "linux/base/dl_list.h"
#include "linux/entry/context.h"
#include "linux/entry/modules.h"
#include "linux/trap/sigtrap.h"

#pragma weak dlsym

/*
 * Where the dynamic linker has its records, looked for once; 0: it has none. A program without
 * DT_DEBUG does not say: there the dynamic linker's own symbol is asked for, which takes its lock:
 * no lock may be held.
 */
static uintptr_t debug_records(void)
{
	static _Atomic uintptr_t known;
	static _Atomic bool is_known;
	uintptr_t debug;

	if (atomic_load(&is_known))
		return atomic_load(&known);
	debug = (uintptr_t)shunt_dl_debug();
	if (!debug && dlsym)
		debug = (uintptr_t)dlsym(RTLD_DEFAULT, "_r_debug");
	atomic_store(&known, debug);
	atomic_store(&is_known, true);
	return debug;
}

static int told(int error, const char *what, const struct ftrace_ops *ops)
{
	struct shunt_report report = {.error = error, .what = what, .ops = ops};

	if (error)
		shunt_port_report(&report);
	return error;
}

/*
 * Where this copy of the library is a plugin's: what it traces comes to its code at any time from
 * then on, and threads return to it; so it is not unmapped any more. The dynamic linker is waited
 * for, so no lock may be held.
 */
static int stay(const char *what, const struct ftrace_ops *ops)
{
	return told(shunt_pin(), what, ops);
}

/* What is to be told, once. Lock of sets held. */
struct untold {
	bool of_notice, of_modules;
	char notice[SHUNT_MESSAGE_MAX], modules[SHUNT_MESSAGE_MAX];
};

static void update(struct untold *untold)
{
	shunt_modules_update(true);
	if (!untold)
		return;
	untold->of_notice = shunt_notice_untold(untold->notice, sizeof(untold->notice));
	untold->of_modules = shunt_modules_untold(untold->modules, sizeof(untold->modules));
}

static int look(const char *what, const struct ftrace_ops *ops, struct untold *untold)
{
	const char *earlier = shunt_failed_call;
	uintptr_t debug;
	int ret;

	/* Whoever asks is told so when he takes the lock himself. */
	if (!shunt_libc_has_started() || shunt_is_in_callback())
		return 0;
	ret = stay(what, ops);
	if (ret)
		return ret;
	debug = debug_records();
	shunt_sets_reclaim();
	if (shunt_sets_lock(true))
		return 0; /* the same */
	shunt_trace_begin_process();
	ret = shunt_notice_was_started() ? 0 : shunt_notice_start(debug);
	if (!ret)
		update(untold);
	shunt_sets_unlock();
	if (!ret)
		shunt_failed_call = earlier;
	return told(ret, what, ops);
}

int shunt_modules_look(const char *what, const struct ftrace_ops *ops)
{
	return look(what, ops, NULL);
}

#define STOPS 1000

/*
 * What restores all text (restore.c) stops the notices where nothing is traced, also when another
 * thread has looked and has not got the lock yet. Without them a module may be unmapped at any
 * time.
 */
int shunt_modules_lock(const char *what, const struct ftrace_ops *ops)
{
	for (int i = 0;; i++) {
		int ret = shunt_port_trace_lock(what, ops);

		if (ret || shunt_notice_was_started())
			return ret;
		shunt_port_trace_unlock();
		if (i == STOPS) {
			shunt_failed_call = "what is traced is restored again and again";
			return told(-EAGAIN, what, ops);
		}
		ret = look(what, ops, NULL);
		if (ret)
			return ret;
	}
}

int shunt_port_entries_lock(const char *what, const struct ftrace_ops *ops)
{
	struct untold untold = {.of_notice = false};
	int ret = look(what, ops, &untold);

	if (untold.of_notice)
		shunt_message("%s", untold.notice);
	if (untold.of_modules)
		shunt_message("%s", untold.modules);
	return ret ? ret : shunt_modules_lock(what, ops);
}
