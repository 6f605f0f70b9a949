/* SPDX-License-Identifier: MIT */
/* The self-test of the trap path. */
#ifndef SHUNT_TOOLS_SELFTEST_H
#define SHUNT_TOOLS_SELFTEST_H

/*
 * Find out what this machine allows, and execute sites of every form while they are
 * poked. @say gets the findings, one line at a time: "ok", "MISSING" or "-" (just
 * to know), the subject, details.
 *
 * Returns 0, or -1 where live patching does not work here. To be called while the
 * process has one thread.
 */
int selftest_run(void (*say)(const char *line, void *arg), void *arg);

#endif
