/* SPDX-License-Identifier: MIT */
/*
 * That the process exits: then the destructors of modules run as if they were unloaded, but they
 * stay, and other destructors may still call and update. Whether a module that unregisters in
 * exit() is unmapped cannot be seen: a handler of atexit() may be closing it. So none is.
 */
#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/format.h"
#include "linux/base/registry.h"
#include "linux/module/bind.h"
#include "linux/module/exit.h"
#include "linux/module/image.h"
#include "linux/sync/sync.h"
#include "linux/text/text.h"
#include "linux/trap/sigtrap.h"
#include "linux/trap/trap_chain.h"

extern int __cxa_atexit(void (*fn)(void *), void *arg, void *dso_handle);
extern void __cxa_finalize(void *dso_handle);

static _Atomic bool exiting;

bool shunt_is_exiting(void)
{
	return atomic_load_explicit(&exiting, memory_order_relaxed);
}

/* The next module that is to be pinned; its path is in @image; false: there is none. */
static bool next_to_pin(struct shunt_image *image)
{
	struct shunt_loaded *m;

	if (shunt_port_lock())
		return false;
	m = shunt_first_loaded();
	while (m && ((!m->module && !m->refusal.module) || !m->range.end || m->stays))
		m = m->next;
	if (m) {
		m->stays = true;
		image->inside = m->range.start;
		shunt_format(image->path, sizeof(image->path), "%s", m->path);
	}
	shunt_port_unlock();
	return m;
}

void shunt_pin_modules(void)
{
	struct shunt_image image = {0};

	while (next_to_pin(&image))
		(void)shunt_image_pin(&image);
	shunt_failed_call = NULL;
}

/* This copy of the library is unloaded, and not all of the process ends. */
static bool unloading;

static void on_exit_begins(void *arg)
{
	(void)arg;
	if (unloading)
		return;
	atomic_store_explicit(&exiting, true, memory_order_relaxed);
	shunt_pin_modules();
}

/*
 * Handlers of atexit() run in reverse order. The one in which the dynamic linker runs
 * all destructors is registered when the program starts, behind the constructors of
 * its shared objects and before its own: ours must come behind that. Not by atexit(), whose
 * handlers dlclose() of this copy's module would run.
 */
void shunt_watch_exit(void)
{
	(void)__cxa_atexit(on_exit_begins, NULL, &exiting);
}

/* The modules of this copy go with it, and do not unregister any more. */
static void forget_others_keys(void)
{
	if (shunt_port_lock())
		return;
	for (struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next)
		if (m->module && m->branches.mods)
			shunt_forget_unbound(m->branches.mods, m->branches.nr_mods);
	shunt_port_unlock();
}

/* Before release_process(). What is registered must not be called any more. */
__attribute__((destructor(102))) static void stop_watching_exit(void)
{
	if (shunt_is_exiting())
		return;
	unloading = true;
	__cxa_finalize(&exiting); /* takes on_exit_begins() back */
	forget_others_keys();
}

bool shunt_is_unloading(void)
{
	return unloading;
}

#define GIVE_BACK_TIMES 4

/*
 * Another libshunt may have been taking over while we gave back; and a thread may be in a handler
 * that passes on to us, or did: it answers when it has left that, or has let in signals to go on
 * with another handler.
 */
static void release_traps(const struct shunt_others *others)
{
	bool again = true;

	for (int i = 0; i < GIVE_BACK_TIMES && again; i++) {
		again = shunt_remove_handler();
		again |= shunt_trap_unchain(others->entries, others->n);
		if (!again)
			break;
		shunt_signal_drain();
		shunt_await_passing();
	}
	shunt_trap_unchained();
}

/*
 * The module that this is in is about to be unmapped: a plugin with a libshunt of its own. The last
 * of its destructors: those before may update. A thread may have run into an int3 and not yet
 * be in the handler, or still be in that of the core sync: they are waited for.
 */
__attribute__((destructor(101))) static void release_process(void)
{
	struct shunt_others others;

	if (!shunt_may_be_unloaded() || shunt_is_exiting())
		return;
	shunt_list_others(&others);
	if (shunt_port_lock())
		return;
	if (shunt_traps_reached_us() || shunt_has_chosen_signal())
		shunt_signal_drain();
	if (shunt_traps_reached_us())
		release_traps(&others);
	shunt_drop_sync_signal();
	shunt_text_close();
	shunt_port_unlock();
}
