/* SPDX-License-Identifier: MIT */
/* Somebody traces, or asks what could be: modules are looked for from now on. */
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdatomic.h>
#include <time.h>

#include <shunt/port.h>

#include "core/ftrace.h"
#include "linux/base/dl_list.h"
#include "linux/base/syscall.h"
#include "linux/entry/context.h"
#include "linux/entry/modules.h"
#include "linux/trap/sigtrap.h"

/* Where the dynamic linker of a program has its records; 0: it has none. */
static int find_debug(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Dyn) * dyn;

		if (info->dlpi_phdr[i].p_type != PT_DYNAMIC)
			continue;
		/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
		dyn = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
		for (; dyn->d_tag != DT_NULL; dyn++)
			if (dyn->d_tag == DT_DEBUG)
				*(uintptr_t *)arg = dyn->d_un.d_ptr;
	}
	return 1; /* the first is the program */
}

#pragma weak dlsym

/*
 * The same, once. In another namespace there is no program: there the dynamic linker's own symbol
 * is asked for, which takes its lock: no lock may be held.
 */
static uintptr_t debug_records(void)
{
	static _Atomic uintptr_t known;
	static _Atomic bool is_known;
	uintptr_t debug = 0;

	if (atomic_load(&is_known))
		return atomic_load(&known);
	(void)shunt_dl_iterate(find_debug, &debug);
	if (!debug && dlsym)
		debug = (uintptr_t)dlsym(RTLD_DEFAULT, "_r_debug");
	atomic_store(&known, debug);
	atomic_store(&is_known, true);
	return debug;
}

/*
 * Where this copy of the library is a plugin's: what it traces comes to its code at any time from
 * then on, and threads return to it; so it is not unmapped any more. The dynamic linker is waited
 * for, so no lock may be held.
 */
static int stay(const char *what, const struct ftrace_ops *ops)
{
	struct shunt_report report = {.error = shunt_pin(), .what = what, .ops = ops};

	if (report.error)
		shunt_port_report(&report);
	return report.error;
}

/* What is to be told, once. Lock of sets held. */
struct untold {
	bool of_notice, of_modules;
	char notice[SHUNT_MESSAGE_MAX], modules[SHUNT_MESSAGE_MAX];
};

#define UNLOAD_LOOKS 20000 /* of 50 us */

/*
 * An unload that has begun before the dynamic linker tells of it unmaps without the lock of sets.
 * No code of the program runs until it ends. 0, with that lock; or an error, without it.
 */
static int start(uintptr_t debug)
{
	struct timespec moment = {0, 50000};
	int ret = 0;

	shunt_notice_start(debug);
	for (int i = 0; i < UNLOAD_LOOKS && debug && !ret && shunt_loader_is_deleting(); i++) {
		shunt_sets_unlock();
		(void)shunt_syscall(SYS_nanosleep, (long)&moment, 0, 0, 0);
		ret = shunt_sets_lock(true);
	}
	return ret;
}

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
	if (shunt_sets_lock(true) || (!shunt_notice_was_tried() && start(debug)))
		return 0; /* the same */
	update(untold);
	shunt_sets_unlock();
	shunt_failed_call = earlier;
	return 0;
}

int shunt_modules_look(const char *what, const struct ftrace_ops *ops)
{
	return look(what, ops, NULL);
}

int shunt_port_entries_wanted(const char *what, const struct ftrace_ops *ops)
{
	struct untold untold = {.of_notice = false};
	int ret = look(what, ops, &untold);

	if (untold.of_notice)
		shunt_message("%s", untold.notice);
	if (untold.of_modules)
		shunt_message("%s", untold.modules);
	return ret;
}
