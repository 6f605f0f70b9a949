/* SPDX-License-Identifier: MIT */
/*
 * A module that calls another one's key, event: by a call, a tail call, and (caller_got.c)
 * through the GOT. Compiled as a plugin, or with MAIN as a program that does without.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bind.h"

int event_type(void);
DECLARE_STATIC_CALL(event, event_type);

PUBLIC int run(void), tail(void), run_got(void), by_pointer(void), update(int on);
PUBLIC int update_to_itself(int on);
PUBLIC const char *state(const char *function);

KEPT int run(void)
{
	return CALL(static_call(event));
}

KEPT int tail(void)
{
	return static_call(event)();
}

/* What the dynamic linker gives whoever asks for the address. */
int by_pointer(void)
{
#ifdef NO_KEY
	return -1; /* it would have to be there when the module is loaded */
#else
	int (*volatile pointer)(void) = STATIC_CALL_TRAMP(event);

	return pointer();
#endif
}

static int seven(void)
{
	return 7;
}

static int eight(void)
{
	return 8;
}

int update(int on)
{
#ifdef NO_KEY
	(void)seven, (void)eight, (void)on;
	return -1;
#else
	return on ? static_call_update(event, seven) : static_call_update(event, eight);
#endif
}

/* To the trampoline, or to what has its address: 1 if that is refused. */
int update_to_itself(int on)
{
#ifdef NO_KEY
	return on + 2;
#else
	return on + (static_call_update(event, STATIC_CALL_TRAMP(event)) == -EINVAL);
#endif
}

struct look {
	const char *function;
	char text[256];
};

static int on_site(const struct shunt_site_info *info, void *arg)
{
	struct look *look = arg;
	const char *state_name = shunt_site_state_name(info->state);
	Dl_info here, there;

	if (!info->function || strcmp(info->function, look->function) != 0 ||
	    !dladdr((void *)state, &here) || !dladdr(info->addr, &there) ||
	    here.dli_fbase != there.dli_fbase)
		return 0;
	(void)snprintf(look->text, sizeof(look->text), "%s%s%s", state_name, info->why ? ": " : "",
		       info->why ? info->why : "");
	return 0;
}

/* How the site in @function is: "inline", "trampoline: why"; "none". */
const char *state(const char *function)
{
	static struct look look;

	look = (struct look){function, "none"};
	if (shunt_for_each_site("event", on_site, &look))
		return "error";
	return look.text;
}
