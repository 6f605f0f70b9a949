/* SPDX-License-Identifier: MIT */
/* Two handlers that are told apart by what they count. */
#ifndef SHUNT_TESTS_FIRST_SECOND_H
#define SHUNT_TESTS_FIRST_SECOND_H

static volatile int first, second;

static void on_first(int sig)
{
	(void)sig;
	first++;
}

static void on_second(int sig)
{
	(void)sig;
	second++;
}

#endif
