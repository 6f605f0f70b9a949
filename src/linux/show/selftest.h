/* SPDX-License-Identifier: MIT */
/* The self-test (selftest.c). */
#ifndef SHUNT_LINUX_SELFTEST_H
#define SHUNT_LINUX_SELFTEST_H

/* selftest.c: run the self-test if SHUNT_SELFTEST=1 asks for it, and say how it went. */
void shunt_selftest_at_start(void);

#endif
