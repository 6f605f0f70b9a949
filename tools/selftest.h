/* SPDX-License-Identifier: MIT */
/* The self-test of poking, way by way. */
#ifndef SHUNT_TOOLS_SELFTEST_H
#define SHUNT_TOOLS_SELFTEST_H

/*
 * Find out what this machine allows, and execute sites of every form while they are
 * poked, in each way. @say gets the findings, one line at a time: "ok", "MISSING" or "-" (just
 * to know), the subject, details.
 *
 * Returns 0, or -1 where no way works that the policy may take. To be called while the
 * process has one thread.
 */
int selftest_run(void (*say)(const char *line, void *arg), void *arg);

#endif
