/* SPDX-License-Identifier: MIT */
/* The self-test of poking, way by way. */
#ifndef SHUNT_TOOLS_SELFTEST_H
#define SHUNT_TOOLS_SELFTEST_H

/*
 * Find out what this machine allows, and execute sites of every form while they are
 * poked, in each way. @say gets the findings, one line at a time: the verdict, the subject,
 * details.
 *
 *	ok       it was tried, and works
 *	no       it was tried, and is not to be had here; others can serve
 *	MISSING  nothing serves: no way of the policy, sites that are not direct, an entry that
 *	         cannot be traced. Or it went wrong: a result, a trap, a process that died
 *	-        not tried; or just to know
 *
 * Returns how many lines say MISSING. To be called while the process has one thread.
 */
int selftest_run(void (*say)(const char *line, void *arg), void *arg);

#endif
