/* SPDX-License-Identifier: MIT */
/*
 * The dynamic linker tells debuggers that it loads or unloads by calling an empty function,
 * r_debug's r_brk, with its lock held: before (RT_ADD, RT_DELETE) and after (RT_CONSISTENT). Behind
 * a load that is before the new modules are relocated and their constructors run; an unload's
 * destructors have run by RT_DELETE. That function is made to lead to ours (notice_text.c).
 *
 * From RT_DELETE to RT_CONSISTENT the lock of sets is held, so that no text that goes away is
 * written to meanwhile, and what is gone is forgotten before it is released.
 *
 * Where the function is not as expected (a debugger's breakpoint), there is no notice: the
 * interface looks for modules at each of its calls, and a module that is unloaded while another
 * thread changes what is traced is the user's to avoid. That is said, once.
 */
#include <errno.h>
#include <time.h>

#include <shunt/port.h>

#include "linux/base/format.h"
#include "linux/base/syscall.h"
#include "linux/entry/context.h"
#include "linux/entry/modules.h"

/* Lock of sets. What a thread unloads that is not in this copy of the process does not end. */
static bool has_unload;
static unsigned abandoned_before;
static struct {
	bool is_on, was_started, is_told;
	uintptr_t at; /* the function that does not tell; 0: it does, or there is none */
	int error;    /* why, where it could not be changed, and the call that failed */
	const char *call;
} notice;

static bool is_unloading(void)
{
	return has_unload && abandoned_before == shunt_sets_abandoned();
}

static void update(bool deleting)
{
	const char *earlier = shunt_failed_call;
	char text[SHUNT_MESSAGE_MAX];
	bool is_untold;

	if (!deleting && shunt_loader_is_adding())
		return;
	shunt_loader_unload_told(deleting);
	if (!shunt_sets_are_locked() && shunt_sets_lock(false)) {
		shunt_loader_unload_told(false);
		return;
	}
	/* Stopped while this waited: the end of what has begun would not be told. */
	if (!notice.is_on && !is_unloading()) {
		shunt_loader_unload_told(false);
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

void shunt_on_notice(void);

/*
 * In the place of r_brk: the dynamic linker's lock is held. Locks of several libshunts are let go
 * of in the reverse order: the signals that were let in before are known by the first one.
 */
void shunt_on_notice(void)
{
	void (*next)(void) = shunt_notice_next;
	const bool deleting = shunt_loader_is_deleting();

	if (next && !deleting)
		next();
	update(deleting);
	if (next && deleting)
		next();
}

#define UNLOAD_LOOKS 20000 /* of 50 us */

/*
 * The lock of sets is kept meanwhile: nobody else reads what is being unmapped. The end is seen in
 * the records, which the dynamic linker writes before it tells of it, which waits for the lock. No
 * code of the program runs in an unload but its free(), which may wait for a lock that is held
 * here: so not for ever.
 */
static int await_untold_unload(void)
{
	struct timespec moment = {0, 50000};

	for (int i = 0; shunt_loader_is_deleting() && !shunt_loader_is_unload_told(); i++) {
		if (i == UNLOAD_LOOKS) {
			shunt_failed_call = "the dynamic linker does not end an unload, perhaps "
					    "waiting for this thread";
			return -EAGAIN;
		}
		(void)shunt_syscall(SYS_nanosleep, (long)&moment, 0, 0, 0);
	}
	return 0;
}

int shunt_notice_start(uintptr_t of)
{
	uintptr_t brk = shunt_loader_open(of);
	int ret;

	notice.error = 0;
	notice.is_on = true; /* before the first notice */
	shunt_failed_call = NULL;
	if (brk && shunt_notice_hook(brk, &notice.error) == SHUNT_NOTICE_NONE)
		notice.at = brk;
	else
		notice.at = 0;
	notice.call = shunt_failed_call;
	notice.is_on = brk && !notice.at;
	ret = await_untold_unload();
	notice.was_started = !ret;
	return ret;
}

bool shunt_notice_was_started(void)
{
	return notice.was_started;
}

bool shunt_notice_untold(char *text, size_t size)
{
	struct shunt_line line = {text, text + size, 0};

	if (!notice.at || notice.is_told)
		return false;
	notice.is_told = true;
	shunt_append(&line,
		     "functions of modules that are loaded later are traced only after the next "
		     "call of register_ftrace_function() or ftrace_set_filter(): the dynamic "
		     "linker's function for debuggers, at 0x%lx, ",
		     notice.at);
	if (notice.error)
		shunt_append(&line, "cannot be changed: %s%s%s", notice.call ? notice.call : "",
			     notice.call ? ": " : "", shunt_error_text(notice.error));
	else
		shunt_append(&line, "is not empty");
	return true;
}

int shunt_notice_stop(void)
{
	int ret;

	/* Within the dynamic linker's own unload: it is not to miss the end of that. */
	if (is_unloading())
		return -EAGAIN;
	ret = notice.is_on ? shunt_notice_unhook() : 0;
	if (ret)
		return ret;
	notice.is_on = notice.was_started = false;
	return 0;
}
