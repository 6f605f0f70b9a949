/* SPDX-License-Identifier: MIT */
/*
 * How a module that never heard of Shunt, and that a key points into, tells that it is unloaded:
 * a function is registered with __cxa_atexit() in its name, which runs before it is unmapped.
 * Where that cannot be had, the module stays.
 */
#include <dlfcn.h>
#include <errno.h>
#include <sys/auxv.h>

#include <shunt/module.h>
#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/format.h"
#include "linux/base/libc.h"
#include "linux/base/registry.h"
#include "linux/module/dso_handle.h"
#include "linux/module/exit.h"
#include "linux/module/image.h"
#include "linux/module/target.h"
#include "linux/module/watch_records.h"
#include "linux/trap/sigtrap.h"

extern int __cxa_atexit(void (*fn)(void *), void *arg, void *dso_handle);
extern void __cxa_finalize(void *dso_handle);

/*
 * exit() runs on_unload() too, although the module stays: told apart by this, which is
 * registered behind it in the name of the record, so that exit() runs it first, and
 * dlclose() does not. A dlclose() later in exit() would not be told: so the module stays.
 */
static void on_exit_begins(void *arg)
{
	struct shunt_image image = {.inside = 0};
	struct shunt_watched *w = arg;
	enum shunt_watch_state state = SHUNT_WATCH_HOOKED;

	if (!atomic_compare_exchange_strong(&w->state, &state, SHUNT_WATCH_EXITING))
		return;
	image.inside = atomic_load(&w->start);
	shunt_format(image.path, sizeof(image.path), "%s", w->path);
	(void)shunt_image_pin(&image);
}

static void on_unload(void *arg)
{
	struct shunt_watched *w = arg;
	struct shunt_range range = {atomic_load(&w->start), atomic_load(&w->end)};
	enum shunt_watch_state state = SHUNT_WATCH_HOOKED;

	if (shunt_is_exiting() ||
	    !atomic_compare_exchange_strong(&w->state, &state, SHUNT_WATCH_LEAVING))
		return;
	__cxa_finalize(w); /* takes on_exit_begins() back */
	if (range.end)
		shunt_targets_gone(range, w->path);
	shunt_watched_free(w);
}

static bool has_registered(const struct shunt_image *image)
{
	bool found = false;

	if (shunt_port_lock())
		return true;
	for (struct shunt_loaded *m = shunt_first_loaded(); m && !found; m = m->next)
		found = m->module && m->range.start == image->range.start;
	shunt_port_unlock();
	return found;
}

void shunt_targets_known(const struct shunt_image *image)
{
	if (!shunt_is_watched(image->range.start))
		(void)shunt_watched_add(image);
}

/*
 * What is never unloaded before this library is: the program, the C library that this one uses,
 * the dynamic linker, and the kernel's own.
 */
__attribute__((constructor(102))) static void add_permanent(void)
{
	const uintptr_t inside[] = {(uintptr_t)add_permanent, getauxval(AT_PHDR),
				    (uintptr_t)__cxa_finalize, getauxval(AT_BASE),
				    getauxval(AT_SYSINFO_EHDR)};

	for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
		struct shunt_image image = {.inside = inside[i]};

		if (inside[i] && !shunt_is_watched(inside[i]) && shunt_image_find(&image))
			shunt_targets_known(&image);
	}
}

static void read_handle(const struct shunt_image *image, void *handle)
{
	*(void **)handle = image->is_program ? NULL : shunt_dso_handle(image);
}

/* Whether it went away meanwhile, and was not there any more to be watched. */
static int check_watched(struct shunt_image *image, struct shunt_watched *w, void *handle)
{
	struct shunt_range range = image->range;
	void *now = NULL;

	if (shunt_image_look(image, read_handle, &now) && image->range.start == range.start &&
	    now == handle)
		return 0;
	shunt_watched_stop(w, range);
	shunt_failed_call = "its module goes away";
	return -EAGAIN;
}

/* Have us told when @image, whose __dso_handle is @handle, goes, or keep it. */
static int watch_image(struct shunt_image *image, void *handle)
{
	struct shunt_watched *w = shunt_watched_add(image);
	int ret;

	if (!w || !shunt_watched_name(w, image)) {
		if (w)
			shunt_watched_free(w);
		shunt_failed_call = "mmap";
		return shunt_port_no_memory();
	}
	if (shunt_may_be_unloaded())
		(void)shunt_pin(); /* it may go later than this library, and calls us then */
	atomic_store(&w->state, SHUNT_WATCH_HOOKED);
	if (handle && !__cxa_atexit(on_unload, w, handle)) {
		(void)__cxa_atexit(on_exit_begins, w, w);
		return check_watched(image, w, handle);
	}
	atomic_store(&w->state, SHUNT_WATCH_TOLD);
	ret = shunt_image_pin(image);
	if (!ret)
		return check_watched(image, w, handle);
	shunt_watched_free(w);
	return ret;
}

static int watch_module(struct shunt_image *image)
{
	void *handle = NULL;

	if (!shunt_image_look(image, read_handle, &handle))
		return 0;
	/* The program does not go away, and who has registered says so itself. */
	if (!image->is_program && !has_registered(image))
		return watch_image(image, handle);
	shunt_targets_known(image);
	return 0;
}

/*
 * Not inlined: it takes 4 KiB of stack, which few updates need. Signals are blocked while
 * locks of the C library's are held, which a handler that jumps out would leave taken.
 */
__attribute__((noinline)) static int watch(uintptr_t target)
{
	/* An update asks the kernel for no more than shunt(7) lists: not where this process is. */
	struct shunt_image image = {.inside = target, .as_linked = true};
	uint64_t mask;
	int ret = shunt_block_signals(&mask);

	if (ret)
		return ret;
	ret = watch_module(&image);
	shunt_restore_signals(mask);
	return ret;
}

/* The program has started by the first update, even if it has no keys of its own. */
static void watch_exit(void)
{
	static _Atomic bool watched_exit;

	if (!atomic_load(&watched_exit) && !shunt_may_be_in_handler() &&
	    !atomic_exchange(&watched_exit, true))
		shunt_watch_exit();
}

/*
 * Not with the update lock held: the dynamic linker and the C library take locks of
 * their own, under which destructors run. Two threads may watch the same module
 * twice, which costs a record. In a signal handler those locks may be this thread's.
 */
int shunt_port_watch(uintptr_t target)
{
	struct dl_find_object unused;
	int ret;

	if (!shunt_libc_has_started())
		return -EAGAIN;
	watch_exit();
	if (shunt_is_watched(target) ||
	    (_dl_find_object && _dl_find_object((void *)target, &unused)))
		return 0;
	ret = shunt_look_for_handler();
	if (ret <= 0)
		return ret ? ret : watch(target);
	shunt_failed_call =
		"this may be a signal handler: shunt_watch_target() outside of one first";
	return -EAGAIN;
}

int shunt_watch_target(const void *func)
{
	watch_exit();
	return shunt_is_watched((uintptr_t)func) ? 0 : watch((uintptr_t)func);
}
