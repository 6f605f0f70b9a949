/* SPDX-License-Identifier: MIT */
/* The boot self-test (selftest.c). */
#ifndef KERNEL_SELFTEST_H
#define KERNEL_SELFTEST_H

/* Run the trap path of every kind of site, on the calling CPU. Reports by ok(). */
void selftest(void);

#endif
