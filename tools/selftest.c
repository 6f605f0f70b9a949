/* SPDX-License-Identifier: MIT */
/*
 * `shunt selftest`: whether live patching works on this machine, with this kernel,
 * in this container. It looks at what the kernel allows, then pokes sites of its own
 * of every form, in each way of poking, and executes each while it is poked, for real.
 *
 * To hit that moment without luck, and on one CPU too, the program is linked with
 * --wrap=shunt_port_core_sync: behind each core sync of an update, when the int3 is
 * in place, the updating thread itself runs through the site. Then a second thread
 * does so for a while as it comes. A trap that is not handled ends a process, so all
 * of this happens in a child, one for each way.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/membarrier.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "selftest.h"
#include "shunt.h"

#define USAGE                                                                 \
	"selftest\n"                                                          \
	"Try on this machine whether sites can be poked while they execute. " \
	"Exit status 0: yes."

/* Whom to tell, and what was found. */
struct report {
	void (*say)(const char *line, void *arg);
	void *arg;
	int missing;
};

/* One line: @verdict ("ok", "MISSING", "-"), what it is about, details. */
__attribute__((format(printf, 4, 5))) static void tell(struct report *r, const char *verdict,
						       const char *what, const char *format, ...)
{
	char details[400], line[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(details, sizeof(details), format, args);
	va_end(args);
	(void)snprintf(line, sizeof(line), "%-8s %-24s %s", verdict, what, details);
	if (!strcmp(verdict, "MISSING"))
		r->missing++;
	r->say(line, r->arg);
}

/* ----------------------------------------------------------- what the kernel allows */

/*
 * Run @probe in a child, for whatever it does to the process, and tell what it says.
 */
static void tell_probe(struct report *r, const char *what, const char *details, bool (*probe)(void))
{
	int status = 0;
	pid_t child = fork();

	if (child == 0)
		_exit(probe() ? 0 : 1);
	if (child < 0) {
		tell(r, "-", what, "not known: fork: %s", strerror(errno));
		return;
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	tell(r, WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "ok" : "MISSING", what, "%s",
	     details);
}

/* A page of this program's file, mapped as text is; NULL where that is not allowed. */
static uint8_t *map_text(void)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	void *p = MAP_FAILED;

	if (fd >= 0) {
		p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
		(void)close(fd);
	}
	return p == MAP_FAILED ? NULL : p;
}

static bool mem_is_writable(void)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	uint8_t *text = map_text(), byte = 0xcc;

	return fd >= 0 && text && pwrite(fd, &byte, 1, (off_t)(uintptr_t)text) == 1 &&
	       *(volatile uint8_t *)text == 0xcc;
}

static bool mprotect_is_allowed(void)
{
	uint8_t *text = map_text();

	return text && !mprotect(text, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static bool remap_is_allowed(void)
{
	uint8_t *text = map_text(), *copy = map_text();

	return text && copy &&
	       mremap(copy, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, text) == text;
}

/* The number behind @field of /proc/self/status; -1: not known. */
static long status_field(const char *field)
{
	FILE *file = fopen("/proc/self/status", "re");
	char line[256];
	long value = -1;

	if (!file)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, field, strlen(field)))
			value = strtol(line + strlen(field), NULL, 10);
	(void)fclose(file);
	return value;
}

static void tell_shadow_stack(struct report *r)
{
	enum { ARCH_SHSTK_STATUS = 0x5005, ARCH_SHSTK_SHSTK = 1 };
	unsigned long features = 0;

	if (syscall(SYS_arch_prctl, ARCH_SHSTK_STATUS, &features))
		tell(r, "-", "user shadow stack", "not in this kernel");
	else
		tell(r, "-", "user shadow stack", features & ARCH_SHSTK_SHSTK ? "on" : "off");
}

/* Not missed where it is not to be had: signals serve instead. */
static void tell_membarrier(struct report *r)
{
	long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

	if (commands < 0)
		tell(r, "-", "membarrier", "%s; core sync by signals", strerror(errno));
	else if (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE)
		tell(r, "ok", "membarrier", "PRIVATE_EXPEDITED_SYNC_CORE");
	else
		tell(r, "-", "membarrier",
		     "the kernel has no SYNC_CORE (commands %#lx); core sync by signals",
		     (unsigned long)commands);
}

static void tell_sigtrap(struct report *r)
{
	sigset_t blocked;

	if (sigprocmask(SIG_BLOCK, NULL, &blocked))
		tell(r, "MISSING", "SIGTRAP", "mask not known: %s", strerror(errno));
	else if (sigismember(&blocked, SIGTRAP))
		tell(r, "MISSING", "SIGTRAP", "blocked by whoever started this program");
	else
		tell(r, "ok", "SIGTRAP", "not blocked");
}

static void tell_surroundings(struct report *r)
{
	struct utsname system;
	long tracer = status_field("TracerPid:");

	if (!uname(&system))
		tell(r, "-", "kernel", "%s %s %s, %ld CPUs", system.sysname, system.release,
		     system.machine, sysconf(_SC_NPROCESSORS_ONLN));
	tell_membarrier(r);
	tell_probe(r, "/proc/self/mem", "writes to text", mem_is_writable);
	tell_probe(r, "mprotect", "text writable and executable", mprotect_is_allowed);
	tell_probe(r, "mremap", "text over text", remap_is_allowed);
	tell_sigtrap(r);
	tell_shadow_stack(r);
	tell(r, "-", "not probed", "text on huge pages; text that is sealed (mseal)");
	if (tracer > 0)
		tell(r, "MISSING", "no tracer",
		     "process %ld traces this one and sees its traps first", tracer);
	else
		tell(r, tracer ? "-" : "ok", "no tracer", tracer ? "not known" : "TracerPid 0");
}

/* ------------------------------------------------------------------------ the sites */

static long twice(long x)
{
	return 2 * x;
}

/* Kept apart: were they alike, a linker could make one of them. */
static long thrice(long x)
{
	return 3 * x;
}

static __thread long added;

static void add(long x)
{
	added += x;
}

DEFINE_STATIC_CALL(selftest, twice);
DEFINE_STATIC_CALL_NULL(selftest_null, add);
DEFINE_STATIC_CALL_RET0(selftest_ret0, twice);
DEFINE_STATIC_KEY_FALSE(selftest_long);
DEFINE_STATIC_KEY_FALSE(selftest_short);

/* selftest_sites.S */
long site_call(long x);
long site_call_got(long x);
long site_tail(long x);
long site_tail_got(long x);
long site_conditional(long x);
void site_null_call(long x);
void site_null_tail(long x);
long site_ret0_call(long x);
long site_ret0_tail(long x);

static long run_null_call(long x)
{
	added = 0;
	site_null_call(x);
	return added;
}

static long run_null_tail(long x)
{
	added = 0;
	site_null_tail(x);
	return added;
}

/* The compiler makes a test of five bytes for the unlikely one, a short jmp for the likely. */
static __attribute__((noinline)) long site_branch(long x)
{
	if (static_branch_unlikely(&selftest_long))
		return 3 * x;
	return 2 * x;
}

static __attribute__((noinline)) long site_branch_short(long x)
{
	if (static_branch_likely(&selftest_short))
		return 3 * x;
	return 2 * x;
}

/* Each takes its key to the second value, or back to the first. */
static int change_call(bool second)
{
	return static_call_update(selftest, second ? thrice : twice);
}

static int change_null(bool second)
{
	return static_call_update(selftest_null, second ? add : NULL);
}

static int change_ret0(bool second)
{
	return second ? static_call_update(selftest_ret0, twice)
		      : static_call_update(selftest_ret0, STATIC_CALL_RET0);
}

static int change_long(bool second)
{
	return second ? static_branch_enable(&selftest_long)
		      : static_branch_disable(&selftest_long);
}

static int change_short(bool second)
{
	return second ? static_branch_enable(&selftest_short)
		      : static_branch_disable(&selftest_short);
}

enum { X = 5 };

/*
 * The forms: what runs the site, what changes it, and the result before and after; whether it is
 * switched on and off by one byte, once it has been on.
 */
static const struct form {
	const char *name;
	long (*run)(long x);
	int (*change)(bool second);
	long first, second;
	bool is_flip;
} forms[] = {
	{"call", site_call, change_call, 2 * X, 3 * X, false},
	{"call, relaxed from GOT", site_call_got, change_call, 2 * X, 3 * X, false},
	{"tail call", site_tail, change_call, 2 * X, 3 * X, false},
	{"tail, relaxed from GOT", site_tail_got, change_call, 2 * X, 3 * X, false},
	{"conditional tail call", site_conditional, change_call, 2 * X, 3 * X, false},
	{"NULL call", run_null_call, change_null, 0, X, true},
	{"NULL tail call", run_null_tail, change_null, 0, X, true},
	{"RET0 call", site_ret0_call, change_ret0, 0, 2 * X, false},
	{"RET0 tail call", site_ret0_tail, change_ret0, 0, 2 * X, false},
	{"branch, 5 bytes", site_branch, change_long, 2 * X, 3 * X, true},
	{"branch, 2 bytes", site_branch_short, change_short, 2 * X, 3 * X, true},
};

#define FORMS (sizeof(forms) / sizeof(forms[0]))

static bool is_right(const struct form *form, long result)
{
	return result == form->first || result == form->second;
}

/* ------------------------------------------------------------ while they are poked */

/* The form that is executed behind each core sync, and how that went. */
static struct {
	const struct form *form;
	unsigned long runs, wrong;
} hook;

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);

int __wrap_shunt_port_core_sync(void)
{
	int ret = __real_shunt_port_core_sync();

	if (hook.form) {
		hook.runs++;
		hook.wrong += !is_right(hook.form, hook.form->run(X));
	}
	return ret;
}

/* Off: what could be switched by one byte goes by the way that is being tried, too. */
static bool flips;

struct shunt_poke;
bool __real_shunt_poke_is_flip(const struct shunt_poke *poke);
bool __wrap_shunt_poke_is_flip(const struct shunt_poke *poke);

bool __wrap_shunt_poke_is_flip(const struct shunt_poke *poke)
{
	return flips && __real_shunt_poke_is_flip(poke);
}

/* Whether the form is tried in the way that is tried now. */
static bool is_tried(const struct form *form)
{
	return form->is_flip || !flips;
}

static uint64_t traps(void)
{
	struct shunt_stats stats;

	shunt_get_stats(&stats);
	return stats.traps;
}

/* Whether updates are made by way of int3, so that traps are to be seen. */
static bool by_traps(void)
{
	struct shunt_ways ways;

	shunt_get_ways(&ways);
	return !strcmp(ways.poke, "int3");
}

/* What a way has done, for its line. */
static struct {
	unsigned long runs, traps;    /* of sites, while they were poked */
	unsigned long updates, calls; /* with a second thread */
} done;

/* To the second value and back, executed at each step. Says only what is wrong. */
static void try_form(struct report *r, const struct form *form)
{
	uint64_t before = traps();
	bool right;
	int ret;

	hook.runs = hook.wrong = 0;
	hook.form = form;
	ret = form->change(true);
	right = form->run(X) == form->second;
	if (!ret)
		ret = form->change(false);
	hook.form = NULL;
	right = right && form->run(X) == form->first;
	before = traps() - before;
	done.runs += hook.runs;
	done.traps += (unsigned long)before;
	if (ret)
		tell(r, "MISSING", form->name, "%s", shunt_last_error());
	else if (!right || hook.wrong)
		tell(r, "MISSING", form->name, "wrong result, %lu of %lu while poked", hook.wrong,
		     hook.runs);
	else if (by_traps() && !before)
		tell(r, "MISSING", form->name, "executed %lu times while poked, but no trap came",
		     hook.runs);
}

/* What the second thread does until it is told to stop. */
static struct {
	_Atomic bool stop;
	_Atomic unsigned long runs, wrong;
} hammer;

static void *hammer_main(void *unused)
{
	while (!atomic_load(&hammer.stop)) {
		for (size_t i = 0; i < FORMS; i++)
			if (!is_right(&forms[i], forms[i].run(X)))
				atomic_fetch_add(&hammer.wrong, 1);
		atomic_fetch_add(&hammer.runs, FORMS);
	}
	return unused;
}

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Updates until 100 traps have come, but at least for a tenth, at most for one second. */
static int update_all(unsigned long *updates)
{
	uint64_t start = traps();
	double begin = now(), elapsed = 0;
	int ret = 0;

	while (!ret && elapsed < 1 && (elapsed < 0.1 || traps() - start < 100)) {
		for (size_t i = 0; i < FORMS && !ret; i++) {
			if (!is_tried(&forms[i]))
				continue;
			ret = forms[i].change(true);
			if (!ret)
				ret = forms[i].change(false);
			*updates += 2;
		}
		elapsed = now() - begin;
	}
	return ret;
}

static void try_threads(struct report *r)
{
	uint64_t before = traps();
	pthread_t thread;
	int ret = pthread_create(&thread, NULL, hammer_main, NULL);

	if (ret) {
		tell(r, "MISSING", "two threads", "pthread_create: %s", strerror(ret));
		return;
	}
	ret = update_all(&done.updates);
	atomic_store(&hammer.stop, true);
	(void)pthread_join(thread, NULL);
	done.calls = hammer.runs;
	done.traps += (unsigned long)(traps() - before);
	if (ret)
		tell(r, "MISSING", "two threads", "%s", shunt_last_error());
	else if (hammer.wrong)
		tell(r, "MISSING", "two threads", "%lu calls of %lu were wrong", hammer.wrong,
		     hammer.runs);
}

struct branch_lengths {
	bool two, five;
};

static int note_length(const struct shunt_site_info *info, void *arg)
{
	struct branch_lengths *lengths = arg;

	lengths->two |= info->len == 2;
	lengths->five |= info->len == 5;
	return 0;
}

static int note_trampoline(const struct shunt_site_info *info, void *arg)
{
	*(size_t *)arg += info->state == SHUNT_SITE_TRAMPOLINE;
	return 0;
}

/* That the sites are those that this program means to try. */
static void try_sites(struct report *r)
{
	struct branch_lengths lengths = {false, false};
	size_t on_trampoline = 0;

	if (shunt_for_each_site("selftest_short", note_length, &lengths) ||
	    shunt_for_each_site("selftest_long", note_length, &lengths) ||
	    shunt_for_each_site("selftest", note_trampoline, &on_trampoline))
		tell(r, "MISSING", "sites", "%s", shunt_last_error());
	else if (on_trampoline)
		tell(r, "MISSING", "sites", "%zu stayed on the trampoline", on_trampoline);
	else if (!lengths.two || !lengths.five)
		tell(r, "MISSING", "sites", "no branch of %d bytes", lengths.two ? 5 : 2);
	else
		tell(r, "ok", "sites", "all are found and direct");
}

/* In the place of policies: each comes to it, for what is only switched on and off. */
#define ONLY_SWITCHES (1u << 31)

/* Each way of poking, in the order in which the automatic choice falls to the next. */
static const struct way {
	const char *name; /* as shunt_get_ways() says it */
	enum shunt_poke_policy policy;
	unsigned policies; /* bits: those that may come to it while threads run */
} ways[] = {
	{"alone", SHUNT_POKE_AUTO, 0},
	{"remap", SHUNT_POKE_REMAP, 1 << SHUNT_POKE_REMAP | 1 << SHUNT_POKE_AUTO},
	{"int3", SHUNT_POKE_INT3,
	 1 << SHUNT_POKE_INT3 | 1 << SHUNT_POKE_AUTO | 1 << SHUNT_POKE_ATOMIC},
	{"atomic", SHUNT_POKE_ATOMIC, 1 << SHUNT_POKE_ATOMIC},
	{"flip", SHUNT_POKE_AUTO, ONLY_SWITCHES},
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

static void try_way(struct report *r, const struct way *way)
{
	struct shunt_ways used;
	size_t tried = 0;

	if (shunt_set_poke(way->policy))
		tell(r, "MISSING", way->name, "no such policy");
	flips = way->policies == ONLY_SWITCHES;
	if (way == ways)
		try_sites(r);
	for (size_t i = 0; i < FORMS && flips && !r->missing; i++)
		if (is_tried(&forms[i]) && (forms[i].change(true) || forms[i].change(false)))
			tell(r, "MISSING", forms[i].name, "%s", shunt_last_error());
	for (size_t i = 0; i < FORMS && !r->missing; i++)
		if (is_tried(&forms[i]))
			try_form(r, &forms[i]);
	if (r->missing)
		return;
	shunt_get_ways(&used);
	if (strcmp(used.poke, way->name) != 0)
		tell(r, "MISSING", way->name, "it went by way of %s: %s", used.poke,
		     used.why ? used.why : "not known why");
	else if (way->policies) /* else there is to be one thread alone */
		try_threads(r);
	shunt_get_ways(&used);
	for (size_t i = 0; i < FORMS; i++)
		tried += is_tried(&forms[i]);
	if (!r->missing)
		tell(r, "ok", way->name,
		     "%zu forms, executed %lu times while poked; %lu updates under %lu calls; %lu "
		     "traps; write: %s; core sync: %s",
		     tried, done.runs, done.updates, done.calls, done.traps, used.write, used.sync);
}

/* ------------------------------------------------------------------------ the child */

static void say_to_pipe(const char *line, void *arg)
{
	/* Short enough to be written whole; a parent that is gone wants nothing more. */
	(void)dprintf(*(int *)arg, "%s\n", line);
}

static void pass_on(int fd, struct report *r)
{
	FILE *lines = fdopen(fd, "r");
	char line[512];

	if (!lines) {
		(void)close(fd);
		return;
	}
	while (fgets(line, sizeof(line), lines)) {
		line[strcspn(line, "\n")] = '\0';
		r->say(line, r->arg);
	}
	(void)fclose(lines);
}

/* What a child that ended so says about the way. */
static bool judge(struct report *r, const struct way *way, int status)
{
	if (WIFSIGNALED(status))
		tell(r, "MISSING", way->name, "the process that was poked died of signal %d (%s)",
		     WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (!WIFEXITED(status) || WEXITSTATUS(status))
		tell(r, "MISSING", way->name, "does not work here");
	else
		return true;
	return false;
}

static bool try_in_child(struct report *r, const struct way *way)
{
	struct report child = {.say = say_to_pipe};
	int ends[2], status = 0;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC)) {
		tell(r, "MISSING", way->name, "pipe: %s", strerror(errno));
		return false;
	}
	pid = fork();
	if (pid == 0) {
		child.arg = &ends[1];
		(void)alarm(20); /* a hang is a failure too */
		try_way(&child, way);
		_exit(child.missing != 0);
	}
	(void)close(ends[1]);
	if (pid < 0) {
		(void)close(ends[0]);
		tell(r, "MISSING", way->name, "fork: %s", strerror(errno));
		return false;
	}
	pass_on(ends[0], r);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return judge(r, way, status);
}

static enum shunt_poke_policy policy_named(const char *name)
{
	for (size_t i = 0; i < WAYS; i++)
		if (!strcmp(name, ways[i].name))
			return ways[i].policy;
	return SHUNT_POKE_AUTO;
}

int selftest_run(void (*say)(const char *line, void *arg), void *arg)
{
	struct report r = {.say = say, .arg = arg};
	const char *works = NULL;
	enum shunt_poke_policy policy;
	struct shunt_ways now;

	tell_surroundings(&r);
	shunt_get_ways(&now);
	policy = policy_named(now.policy);
	for (size_t i = 0; i < WAYS; i++)
		if (try_in_child(&r, &ways[i]) && (ways[i].policies >> policy & 1) && !works)
			works = ways[i].name;
	if (works)
		tell(&r, "ok", "poking", "works by way of %s (policy %s)", works, now.policy);
	else
		tell(&r, "MISSING", "poking", "does not work here (policy %s)", now.policy);
	return works ? 0 : -1;
}

/* ---------------------------------------------------------------------- the command */

static void say_to_stdout(const char *line, void *arg)
{
	(void)arg;
	(void)puts(line);
	(void)fflush(stdout); /* before a fork, and in case the machine dies */
}

int cmd_selftest(int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c != 'h')
			return tool_usage(USAGE);
		(void)puts("usage: shunt " USAGE);
		return 0;
	}
	if (optind != argc)
		return tool_usage(USAGE);
	return selftest_run(say_to_stdout, NULL) ? 1 : 0;
}
