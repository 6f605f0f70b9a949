/* SPDX-License-Identifier: MIT */
/*
 * The choice of the core sync, one file of the port alone, over a membarrier() and a uname()
 * that say what they are told: kernels before and from 5.10, errors that pass and errors that
 * stay, SHUNT_SYNC.
 */
#include <cpuid.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include <cmocka.h>

#include <shunt/port.h>

#include "control.h"
#include "linux/base/alone.h"
#include "linux/base/base.h"
#include "linux/base/environment.h"
#include "linux/base/syscall.h"
#include "linux/sync/serialise.h"
#include "linux/sync/sync.h"
#include "linux/sync/sync_signal.h"
#include "linux/text/text.h"

/* --------------------------------------------------------------- what sync.c asks for */

static struct {
	const char *release; /* of the kernel; NULL: uname() fails */
	long error;          /* of each membarrier() */
	int signals_error;
	const char *wish; /* SHUNT_SYNC */
	bool alone;
	unsigned registered, membarriers, serialised, signals, irets;
} fake;

__thread const char *shunt_failed_call;

static long fake_syscall(long nr, long command, long b, long c, long d)
{
	(void)b;
	(void)c;
	(void)d;
	if (nr != SYS_membarrier)
		return -ENOSYS;
	if (command == 1 << 6) /* REGISTER_PRIVATE_EXPEDITED_SYNC_CORE */
		fake.registered++;
	else
		fake.membarriers++;
	return is_control("errors") ? 0 : fake.error;
}

static int fake_uname(struct utsname *name)
{
	memset(name, 0, sizeof(*name));
	if (!fake.release)
		return -1;
	strncpy(name->release, is_control("old") ? "6.1" : fake.release, sizeof(name->release) - 1);
	return 0;
}

int shunt_environment_value(enum shunt_variable which)
{
	if (which != SHUNT_ENV_SYNC || !fake.wish || is_control("wish"))
		return -1;
	if (!strcmp(fake.wish, "signal"))
		return SHUNT_ENV_SIGNAL;
	return strcmp(fake.wish, "membarrier") ? -1 : SHUNT_ENV_MEMBARRIER;
}

int shunt_signal_sync(void)
{
	fake.signals++;
	return fake.signals_error;
}

bool shunt_is_alone(void)
{
	return fake.alone && !is_control("alone");
}

static bool fake_alone(void)
{
	fake.irets++;
	return true;
}

#define shunt_serialise_alone fake_alone
#define shunt_serialise_cpu() ((void)fake.serialised++)
#define uname                 fake_uname
#define shunt_syscall         fake_syscall

/* As part of this file, or the macros would not reach it. */
#include "linux/sync/core_sync.c" /* NOLINT(bugprone-suspicious-include) */
#include "linux/sync/serialise.c" /* NOLINT(bugprone-suspicious-include) */

static void start(const char *release, const char *wish)
{
	memset(&fake, 0, sizeof(fake));
	fake.release = release;
	fake.wish = wish;
	memset(&state, 0, sizeof(state));
	state.last = "none";
}

/* ------------------------------------------------------------------------ tests */

/* Before 5.10 the kernel leaves out the CPU that asks. */
static void calling_cpu(void **unused)
{
	static const struct {
		const char *release;
		bool skips;
	} kernels[] = {
		{"4.16.0", true},   {"4.19.0-25-amd64", true}, {"4.99", true}, {"5.0.0", true},
		{"5.1.21", true},   {"5.9.16", true},          {"5", true},    {"3.10.0", true},
		{"5.10.0", false},  {"5.15.0-91", false},      {"6.0", false}, {"6.1.0-13", false},
		{"5.100.1", false}, {"10.1", false},           {NULL, true},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		start(kernels[i].release, NULL);
		for (unsigned n = 1; n < 4; n++) {
			assert_int_equal(shunt_port_core_sync(), 0);
			assert_int_equal(fake.registered, 1);
			assert_int_equal(fake.membarriers, n);
			assert_int_equal(fake.serialised, kernels[i].skips ? n : 0);
		}
		assert_int_equal(fake.signals, 0);
		assert_string_equal(shunt_sync_method(), "membarrier");
	}
}

/* Where membarrier() is not to be had it is not asked for again; unless it was memory. */
static void errors(void **unused)
{
	static const long stay[] = {-EPERM, -EINVAL, -ENOSYS, -EACCES};

	(void)unused;
	for (size_t i = 0; i <= sizeof(stay) / sizeof(stay[0]); i++) {
		bool passes = i == sizeof(stay) / sizeof(stay[0]);

		for (unsigned registered = 0; registered < 2; registered++) {
			unsigned asked;

			start("6.1", NULL);
			if (registered)
				assert_int_equal(shunt_port_core_sync(), 0);
			fake.error = passes ? -ENOMEM : stay[i];
			assert_int_equal(shunt_port_core_sync(), 0);
			assert_int_equal(fake.signals, 1);
			assert_string_equal(shunt_sync_method(), "signals");
			asked = fake.registered + fake.membarriers;
			fake.error = 0;
			assert_int_equal(shunt_port_core_sync(), 0);
			assert_int_equal(fake.registered + fake.membarriers > asked, passes);
			assert_int_equal(fake.signals, passes ? 1 : 2);
			assert_string_equal(shunt_sync_method(), passes ? "membarrier" : "signals");
		}
	}
}

/* Neither can be had: the error, each time, and both are tried again. */
static void neither(void **unused)
{
	(void)unused;
	start("6.1", NULL);
	fake.error = -EPERM;
	fake.signals_error = -EAGAIN;
	for (unsigned n = 1; n < 4; n++)
		assert_int_not_equal(shunt_port_core_sync(), 0);
	fake.error = 0;
	assert_int_equal(shunt_port_core_sync(), 0);
	assert_int_equal(fake.membarriers, 1);
}

static void forced(void **unused)
{
	(void)unused;
	start("6.1", "membarrier");
	fake.error = -EPERM;
	assert_int_equal(shunt_port_core_sync(), -EPERM);
	assert_int_equal(fake.signals, 0);
	start("6.1", "signal");
	assert_int_equal(shunt_port_core_sync(), 0);
	assert_int_equal(fake.signals, 1);
	assert_int_equal(fake.registered + fake.membarriers, 0);
	start("6.1", "nonsense");
	assert_int_equal(shunt_port_core_sync(), 0);
	assert_int_equal(fake.membarriers, 1);
}

/* One thread: an iret of its own is enough, once the kernel knows of us. */
static void alone(void **unused)
{
	(void)unused;
	start("6.1", NULL);
	fake.alone = true;
	assert_int_equal(shunt_port_core_sync(), 0);
	assert_int_equal(fake.membarriers, 1);
	assert_int_equal(fake.irets, 0);
	assert_int_equal(shunt_port_core_sync(), 0);
	assert_int_equal(fake.irets, 1);
	assert_string_equal(shunt_sync_method(), SHUNT_SERIALISE_ALONE);
	fake.alone = false;
	assert_int_equal(shunt_port_core_sync(), 0);
	assert_int_equal(fake.membarriers, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calling_cpu), cmocka_unit_test(errors), cmocka_unit_test(neither),
		cmocka_unit_test(forced),      cmocka_unit_test(alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
