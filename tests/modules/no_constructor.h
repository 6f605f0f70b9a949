/* SPDX-License-Identifier: MIT */
/* What no_constructor.c and its plugins know of each other. */
#ifndef SHUNT_TESTS_MODULES_NO_CONSTRUCTOR_H
#define SHUNT_TESTS_MODULES_NO_CONSTRUCTOR_H

/* A key of a file that does not register, and one that starts out on; each returns what libshunt
 * did. */
struct bare_keys {
	int (*test)(void), (*test_true)(void);
	int (*enable)(void), (*disable)(void), (*inc)(void), (*dec)(void), (*count)(void);
	int (*disable_true)(void), (*dec_true)(void), (*batch)(void);
	int (*call)(void), (*update)(void);
	void (*forget)(void); /* that it does not: what a key had by an earlier header */
};

#endif
