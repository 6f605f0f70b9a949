/* SPDX-License-Identifier: MIT */
#ifndef SHUNT_TESTS_JUMPING_MALLOC_H
#define SHUNT_TESTS_JUMPING_MALLOC_H

/* Of so many bytes malloc() writes "ready" and sleeps for good. */
enum { JUMPING_SLEEPS = 123456 };

#endif
