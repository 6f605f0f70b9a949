/* SPDX-License-Identifier: MIT */
/* The variables of the environment that are looked at (environment.c). */
#ifndef SHUNT_LINUX_ENVIRONMENT_H
#define SHUNT_LINUX_ENVIRONMENT_H

/* By their names. */
enum shunt_variable {
	SHUNT_ENV_FRAMES,
	SHUNT_ENV_LOG,
	SHUNT_ENV_POKE,
	SHUNT_ENV_SELFTEST,
	SHUNT_ENV_SYNC,
	SHUNT_ENV_WRITE,
};

/*
 * Which of its values the variable has, counted as in the table there: for
 * those of 0 and 1 that number, for SHUNT_POKE enum shunt_poke_policy, for others one of
 * these. -1: it is not set, or has another value, or is ignored (secure_getenv()).
 */
enum { SHUNT_ENV_MEM, SHUNT_ENV_MPROTECT };
enum { SHUNT_ENV_MEMBARRIER, SHUNT_ENV_SIGNAL };
int shunt_environment_value(enum shunt_variable which);

/* The name of such a value; NULL: there is none. */
const char *shunt_environment_name(enum shunt_variable which, int value);

/* Say once which variables have values that they cannot have. No lock held. */
void shunt_check_environment(void);

#endif
