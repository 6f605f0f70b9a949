/* SPDX-License-Identifier: MIT */
/* Whether what the kernel was told of a signal is what it does. */
#include "linux/base/action.h"

bool shunt_is_installed(int sig, const struct shunt_action *action)
{
	struct shunt_action now = {0};

	return !shunt_sigaction_raw(sig, NULL, &now) && now.handler == action->handler;
}
