/* SPDX-License-Identifier: MIT */
/*
 * What messages say of causes. Variables of the environment that are mistyped are told of,
 * once; a message names no system call that failed in an earlier update, which came through
 * another way; errors have their text, also in a static executable and before constructors.
 *
 * Controls (-DCONTROL, with --wrap): nobody looks at the environment; the call that
 * failed is not forgotten when an update begins, and is told for what was refused.
 */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../common/cpu.h"
#include "../common/filter.h"
#include "../common/one_two.h"
#include "tap.h"

#ifdef CONTROL
extern __thread const char *shunt_failed_call __attribute__((tls_model("initial-exec")));
int __real_shunt_port_lock(void);
int __wrap_shunt_port_lock(void);
void __wrap_shunt_check_environment(void);
int __real_shunt_port_poke_begin(size_t n, bool flips, unsigned tried);
int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried);
void __real_shunt_port_sites_wanted(void);
void __wrap_shunt_port_sites_wanted(void);
void __real_shunt_port_report(const struct shunt_report *report);
void __wrap_shunt_port_report(const struct shunt_report *report);

int __wrap_shunt_port_lock(void)
{
	const char *call = shunt_failed_call;
	int ret = __real_shunt_port_lock();

	shunt_failed_call = ret ? shunt_failed_call : call;
	return ret;
}

void __wrap_shunt_port_sites_wanted(void)
{
	const char *call = shunt_failed_call;

	__real_shunt_port_sites_wanted();
	shunt_failed_call = call;
}

int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	const char *call = shunt_failed_call;
	int way = __real_shunt_port_poke_begin(n, flips, tried);

	shunt_failed_call = way < 0 ? shunt_failed_call : call;
	return way;
}

void __wrap_shunt_port_report(const struct shunt_report *report)
{
	struct shunt_report r = *report;

	r.refused = 0;
	__real_shunt_port_report(&r);
}

void __wrap_shunt_check_environment(void)
{
}
#undef CONTROL
#define CONTROL true
#else
#define CONTROL false
#endif

DEFINE_STATIC_CALL(key, one);
DEFINE_STATIC_KEY_FALSE(flag);

KEEP static int run(void)
{
	return static_call(key)() + (static_branch_unlikely(&flag) ? 10 : 0);
}

/* ------------------------------------------------------------------- before all others */

static char early[256] = "nothing was said";

static void preinit(int argc)
{
	if (argc == 1 && static_branch_enable(&flag) == -EAGAIN)
		strncpy(early, shunt_last_error(), sizeof(early) - 1);
}

__attribute__((section(".preinit_array"), used)) static void (*const entry)(int argc) = preinit;

static void test_text(void)
{
	ok(strstr(early, "key flag: ") && strstr(early, "registered") &&
		   strstr(early, ": Resource temporarily unavailable"),
	   "an update in .preinit_array: %s", early);
	ok(__static_call_update(&STATIC_CALL_KEY(key), NULL) == -EINVAL &&
		   strstr(shunt_last_error(), ": Invalid argument"),
	   "an error has its text: %s", shunt_last_error());
}

/* --------------------------------------------------------------------- the environment */

/* What the program, run once more with @name=@value, says on standard error. */
static void run_with(const char *self, const char *name, const char *value, char *text, size_t room)
{
	int fds[2];
	size_t n = 0;
	ssize_t got;

	(void)!pipe(fds);
	if (!fork()) {
		(void)dup2(fds[1], 2);
		(void)close(fds[0]);
		(void)close(fds[1]);
		(void)setenv(name, value, 1);
		(void)execl(self, self, "update", NULL);
		_exit(21);
	}
	(void)close(fds[1]);
	while ((got = read(fds[0], text + n, room - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = '\0';
	if (n && text[n - 1] == '\n')
		text[n - 1] = '\0';
	(void)close(fds[0]);
	(void)wait(NULL);
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)); text += strlen(what))
		n++;
	return n;
}

static const struct {
	const char *name, *wrong, *right, *accepted;
} variables[] = {
	{"SHUNT_POKE", "remep", "remap", "auto, int3, remap or atomic"},
	{"SHUNT_SYNC", "signals", "signal", "membarrier or signal"},
	{"SHUNT_WRITE", "/proc/self/mem", "mem", "mem or mprotect"},
	{"SHUNT_FRAMES", "yes", "1", "0 or 1"},
	{"SHUNT_SELFTEST", "true", "0", "0 or 1"},
	{"SHUNT_LOG", "off", "1", "0 or 1"},
	{"SHUNT_POKE", "INT3", "int3", "auto, int3, remap or atomic"},
	{"SHUNT_POKE", "int3 ", "", "auto, int3, remap or atomic"},
};

static void test_environment(const char *self)
{
	char text[4096], shown[128];

	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
		bool told;

		run_with(self, variables[i].name, variables[i].wrong, text, sizeof(text));
		(void)snprintf(shown, sizeof(shown), "shunt: %s=%.4s", variables[i].name,
			       variables[i].wrong);
		told = count(text, shown) == 1 && strstr(text, variables[i].accepted);
		ok(told != CONTROL, "%s%s=%s is told of once: %s", CONTROL ? "control: " : "",
		   variables[i].name, variables[i].wrong, text);
		run_with(self, variables[i].name, variables[i].right, text, sizeof(text));
		ok(!*text, "%s=%s is not: %s", variables[i].name, variables[i].right, text);
	}
	run_with(self, "SHUNT_POKE", "a\n\033[31mb", text, sizeof(text));
	ok(CONTROL || (strstr(text, "=a??[31mb") && !strchr(text, '\n')),
	   "what is no letter is not passed on: %s", text);
}

/* --------------------------------------------------------------- other calls' causes */

/* The last that is tried, which needs no mremap(), and, where it is another than the first, no
 * pwrite(). */
#define LAST_WAY (CPU_HAS_TRAPS ? "int3" : "atomic")

/* An update that falls from remap to that, and works: what failed on the way is no cause. */
static void fall(void)
{
	struct shunt_ways ways;

	if (static_call_update(key, run() % 10 == 1 ? two : one))
		ok(false, "an update without remap: %s", shunt_last_error());
	shunt_get_ways(&ways);
	if (strcmp(ways.poke, LAST_WAY) != 0 || !ways.why || !strstr(ways.why, "mremap"))
		ok(false, "falls to %s for want of mremap: %s", LAST_WAY,
		   ways.why ? ways.why : ways.poke);
}

static void expect(int error, int wanted, const char *what)
{
	const char *text = shunt_last_error();

	ok(error == wanted && *text && (strstr(text, "mremap") != NULL) == CONTROL,
	   "%s%s (%d), behind an update that had to do without mremap: %s",
	   CONTROL ? "control: " : "", what, error, text);
}

static int commit_twice(void)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	int ret = static_call_batch_add(&batch, key, one);

	if (!ret)
		ret = static_call_batch_add(&batch, key, two);
	if (!ret)
		ret = static_call_batch_commit(&batch);
	static_call_batch_destroy(&batch);
	return ret;
}

static void test_causes(void)
{
	shunt_set_log(NULL, NULL);
	if (!ok(answer_syscall(SYS_mremap, EPERM) &&
			(CPU_HAS_TRAPS || answer_syscall(SYS_pwrite64, EPERM)),
		"mremap() is forbidden"))
		return;
	fall();
	expect(__static_call_update(&STATIC_CALL_KEY(key), NULL), -EINVAL, "NULL");
	fall();
	expect(__static_call_update(NULL, NULL), -EINVAL, "no key");
	fall();
	expect(static_call_update(key, static_call(key)), -EINVAL, "a trampoline");
	fall();
	expect(static_branch_dec(&flag), -EINVAL, "dec at 0");
	fall();
	expect(commit_twice(), -EINVAL, "a key that is twice in a batch");
	fall();
	ok(!static_branch_inc(&flag) && !static_branch_inc(&flag), "a static key counted twice");
	fall();
	expect(static_branch_disable(&flag), -EBUSY, "disable of what two count on");
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return argc - 2 + static_call_update(key, two) + run() - 2;
	test_text();
	test_environment(argv[0]);
	test_causes();
	return tap_done();
}
