/* SPDX-License-Identifier: MIT */
/* An ops that counts how often it is called. */
#ifndef TESTS_TRACE_COUNTING_H
#define TESTS_TRACE_COUNTING_H

#include <shunt/ftrace.h>

static unsigned long called;

SHUNT_GENERAL_REGS static void count(unsigned long ip, unsigned long parent_ip,
				     struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	called++;
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)fregs;
}

static struct ftrace_ops ops = {.func = count, .flags = SHUNT_FTRACE_GENERAL_REGS};

#endif
