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

#include <shunt/port.h>

#include "linux/base/format.h"
#include "linux/entry/context.h"
#include "linux/entry/modules.h"

/* Lock of sets. What a thread unloads that is not in this copy of the process does not end. */
static bool has_unload;
static unsigned abandoned_before;
static struct {
	bool is_on, was_tried, is_told;
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
	if (!shunt_sets_are_locked() && shunt_sets_lock(false))
		return;
	/* Stopped while this waited: the end of what has begun would not be told. */
	if (!notice.is_on && !is_unloading()) {
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

void shunt_notice_start(uintptr_t of)
{
	uintptr_t brk = shunt_loader_open(of);

	notice.was_tried = true;
	notice.error = 0;
	notice.is_on = true; /* before the first notice */
	shunt_failed_call = NULL;
	if (brk && shunt_notice_hook(brk, &notice.error) == SHUNT_NOTICE_NONE)
		notice.at = brk;
	else
		notice.at = 0;
	notice.call = shunt_failed_call;
	notice.is_on = brk && !notice.at;
}

bool shunt_notice_was_tried(void)
{
	return notice.was_tried;
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
	notice.is_on = notice.was_tried = false;
	return 0;
}
