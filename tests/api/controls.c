/* SPDX-License-Identifier: MIT */
/*
 * Negative controls: the library with one protection taken out, so that the tests that
 * stand for it can be seen to fail (controls.py). Linked into a test program with the
 * static library and ld's --wrap around the functions below; the environment variable
 * SHUNT_CONTROL says which protection. Without it, nothing is changed.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/poke.h"
#include "core/site_table.h"
#include <shunt/port.h>

#include "linux/base/action.h"
#include "linux/base/base.h"
#include "linux/base/descriptor.h"
#include "linux/base/format.h"
#include "linux/elf/elf.h"
#include "linux/module/arrays.h"
#include "linux/module/baked_read.h"
#include "linux/module/exit.h"
#include "linux/module/find_sites.h"
#include "linux/module/got_slots.h"
#include "linux/module/image.h"
#include "linux/module/jumps.h"
#include "linux/module/target.h"
#include "linux/module/tramp.h"
#include "linux/text/proc_mem.h"
#include "linux/text/text.h"
#include "linux/trap/sigtrap.h"
#include "linux/trap/trap_chain.h"

#include "../common/cpu.h"

/* The function @name, in front of the library's or the C library's own. */
#define HOOK(type, name, ...)                                                                     \
	type __real_##name(__VA_ARGS__);                                                          \
	type __wrap_##name(__VA_ARGS__);                                                          \
	_Static_assert(__builtin_types_compatible_p(__typeof__(name), __typeof__(__wrap_##name)), \
		       "a hook");                                                                 \
	type __wrap_##name(__VA_ARGS__)

extern int __cxa_atexit(void (*fn)(void *), void *arg, void *dso);

static bool is(const char *name)
{
	static const char *control;

	if (!environ)
		return false; /* the program is not that far */
	if (!control) {
		control = getenv("SHUNT_CONTROL");
		control = control ? control : "";
	}
	return !strcmp(control, name);
}

/* ------------------------------------------------------------------- writing text */

static bool going_back; /* a step of a poke has failed */
static bool adopting;   /* a plugin's sites are being brought up to their keys */

HOOK(int, shunt_port_text_write, const struct shunt_write *writes, size_t n)
{
	int ret;

	if ((going_back && is("roll-back")) || adopting)
		return 0;
	ret = __real_shunt_port_text_write(writes, n);
	return is("write-errors") ? 0 : ret;
}

static _Atomic unsigned astray; /* traps that were sent elsewhere */

static bool has_threads(void)
{
	struct stat tasks;

	return !stat("/proc/self/task", &tasks) && tasks.st_nlink > 3;
}

/* The int3 stand until a thread has run into one, or for a bound of some 0.1 s. */
static void wait_for_a_trap(void)
{
	unsigned before = astray;

	if (before >= 100 || !has_threads())
		return;
	for (unsigned i = 0; i < 100000 && astray == before; i++) {
		relax_cpu();
		if (i % 64 == 63)
			(void)sched_yield();
	}
}

/* Where nobody locks, others get in here: until one has, or for that bound. */
static void wait_for_another(void)
{
	static _Atomic unsigned within;

	within++;
	for (unsigned i = 0; i < 20000 && within < 2 && has_threads(); i++)
		(void)sched_yield();
	within--;
}

HOOK(int, shunt_port_core_sync, void)
{
	int ret = __real_shunt_port_core_sync();

	if (is("traps"))
		wait_for_a_trap();

	if (is("lock"))
		wait_for_another();
	going_back = going_back || ret;
	return ret;
}

/* Each site's bytes are what they should be, whatever they are. */
HOOK(int, shunt_poke_batch, struct shunt_poke *pokes, size_t n, struct shunt_change *change,
     struct shunt_report *report)
{
	for (size_t i = 0; i < n && is("verify"); i++)
		memcpy(pokes[i].old, pokes[i].addr, pokes[i].len);
	going_back = false;
	return __real_shunt_poke_batch(pokes, n, change, report);
}

/* The descriptor stays the one that is used, whatever it is by now. */
HOOK(bool, shunt_fd_is_kept, int fd, int64_t mark)
{
	bool is_mem = fd == shunt_process()->mem_fd - 1;

	return (is("descriptor") && is_mem) || __real_shunt_fd_is_kept(fd, mark);
}

/* ------------------------------------------------------------------ traps, SIGTRAP */

#if CPU_HAS_TRAPS
/* What is kept of whoever had SIGTRAP before us. */
HOOK(bool, shunt_trap_next, ucontext_t *uc, unsigned entry, struct shunt_action *next)
{
	bool found = __real_shunt_trap_next(uc, entry, next);

	if (is("chain"))
		memset(next, 0, sizeof(*next));
	if (is("ignored"))
		next->handler = (void (*)(int, siginfo_t *, void *))(uintptr_t)SIG_IGN;
	if (is("flags"))
		next->mask = next->flags = 0;
	return found;
}

static int nobody(int x)
{
	return x - 1000000;
}

/* Every trap is ours; or a call that traps goes to another function. */
HOOK(enum shunt_trap, shunt_trap, struct shunt_regs *regs)
{
	struct shunt_insn insn;
	struct shunt_site *site = shunt_site_find(regs->ip - 1, &insn);
	enum shunt_trap trap = __real_shunt_trap(regs);

	if (trap == SHUNT_TRAP_FOREIGN && is("claims"))
		return SHUNT_TRAP_EMULATED;
	if (trap == SHUNT_TRAP_EMULATED && is("traps") &&
	    shunt_site_kind(site) <= SHUNT_KIND_JMP_GOT) {
		astray++;
		regs->ip = (uintptr_t)nobody;
	}
	return trap;
}
#endif

/* --------------------------------------------------------------------- the lock, fork */

HOOK(int, shunt_port_lock, void)
{
	int ret = is("lock") ? 0 : __real_shunt_port_lock();

	if (ret == -EDEADLK && is("deadlock"))
		abort(); /* it would wait for itself */
	return ret;
}

HOOK(void, shunt_port_unlock, void)
{
	if (!is("lock"))
		__real_shunt_port_unlock();
}

/* What a child must not take for its own: the page is not wiped, and nobody looks. */
HOOK(int, madvise, void *addr, size_t size, int advice)
{
	return is("fork") ? 0 : __real_madvise(addr, size, advice);
}

HOOK(int, pthread_atfork, void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	return is("fork") ? 0 : __real_pthread_atfork(prepare, parent, child);
}

HOOK(int, shunt_proc_mem_is_own, void)
{
	return is("fork") ? 1 : __real_shunt_proc_mem_is_own();
}

/* ------------------------------------------------------------------------- modules */

/* The plugins are linked so that their destructors call this. */
HOOK(void, shunt_module_unregister, const struct shunt_module *module)
{
	if (!is("unregister"))
		__real_shunt_module_unregister(module);
}

HOOK(int, shunt_sites_add, struct shunt_sites *s, uintptr_t base, struct shunt_site *array,
     uint32_t nr_sites, struct shunt_report *report)
{
	int ret;

	/* Not where the program's are, for then nothing works. */
	adopting = is("adopt") && base - (uintptr_t)is + (1ul << 31) > 1ul << 32;
	ret = __real_shunt_sites_add(s, base, array, nr_sites, report);
	adopting = false;
	return ret;
}

HOOK(void, shunt_sites_remove, struct shunt_sites *s)
{
	if (!is("sites"))
		__real_shunt_sites_remove(s);
}

HOOK(void, shunt_targets_gone, struct shunt_range range, const char *path)
{
	if (!is("targets"))
		__real_shunt_targets_gone(range, path);
}

HOOK(int, shunt_port_watch, uintptr_t target)
{
	return is("watch") ? 0 : __real_shunt_port_watch(target);
}

HOOK(uintptr_t, shunt_port_veneer, uintptr_t near, uintptr_t target)
{
	return is("veneer") ? 0 : __real_shunt_port_veneer(near, target);
}

HOOK(bool, shunt_is_unloading, void)
{
	return !is("exit") && __real_shunt_is_unloading();
}

/* What is registered for the process, or in the name of a record, not of a module. */
HOOK(int, __cxa_atexit, void (*fn)(void *), void *arg, void *dso)
{
	if ((is("exit") && !arg) || (is("exit-record") && arg == dso))
		return 0;
	return __real___cxa_atexit(fn, arg, dso);
}

/* ------------------------------------------------------------------------ bad input */

/* What makes no sense is done all the same, and does nothing. */
HOOK(int, shunt_refuse, const char *what, const char *key)
{
	return is("refuse") ? 0 : __real_shunt_refuse(what, key);
}

/* Any file is the one that is mapped. */
HOOK(bool, shunt_is_mapped_file, const struct shunt_elf *elf, const struct shunt_image *image)
{
	return is("mapped-file") || __real_shunt_is_mapped_file(elf, image);
}

/* No file can be read. */
HOOK(int, shunt_file_map, struct shunt_file *file, const char *path)
{
	file->size = 0;
	return is("lost-file") ? -ENOENT : __real_shunt_file_map(file, path);
}

/* Nothing is said. */
void __real_shunt_message(const char *format, ...) __attribute__((format(printf, 1, 2)));
void __wrap_shunt_message(const char *format, ...) __attribute__((format(printf, 1, 2)));
void __wrap_shunt_message(const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (!is("quiet"))
		__real_shunt_message("%s", text);
}

/* Control characters are passed on. */
HOOK(void, shunt_make_one_line, char *text)
{
	if (!is("raw"))
		__real_shunt_make_one_line(text);
}

/* --------------------------------------------------------------------------- leaks */

HOOK(void, shunt_port_free, void *p, size_t size)
{
	if (!is("leak-memory"))
		__real_shunt_port_free(p, size);
}

HOOK(void, shunt_sites_free, struct shunt_site *sites, size_t room)
{
	if (!is("leak-sites"))
		__real_shunt_sites_free(sites, room);
}

HOOK(void, shunt_file_unmap, struct shunt_file *file)
{
	if (!is("leak-file"))
		__real_shunt_file_unmap(file);
}

HOOK(void, shunt_fd_close, int fd)
{
	if (!is("leak-descriptor"))
		__real_shunt_fd_close(fd);
}

HOOK(bool, shunt_image_find, struct shunt_image *image)
{
	static void *volatile lost;

	if (is("leak-heap"))
		lost = malloc(256);
	(void)lost;
	return __real_shunt_image_find(image);
}
