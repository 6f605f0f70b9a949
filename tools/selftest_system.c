/* SPDX-License-Identifier: MIT */
/*
 * The self-test: what the kernel, or who started this program, allows. What can be tried is
 * tried. None of it is MISSING where it is not to be had: whether others serve is for the ways.
 */
#include "arch/arch.h"
#include "proc_status.h"
#include "selftest_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <linux/membarrier.h>

enum { PAGE = 4096 };

/* ------------------------------------------- what is tried, in a child each */

static void refused(struct report *r, const struct attempt *a, const char *call)
{
	/* What the library has opened before, it goes on to have. */
	bool is_limit = errno == EMFILE || errno == ENFILE;

	report_line(r, is_limit ? "-" : "no", a->name, "%s: %s%s: %s", (const char *)a->what,
		    is_limit ? "not tried: " : "", call, strerror(errno));
}

static void try_mem(struct report *r, const struct attempt *a)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	uint8_t byte = (uint8_t)~selftest_text[0];

	if (fd < 0)
		refused(r, a, "open");
	else if (pwrite(fd, &byte, 1, (off_t)(uintptr_t)selftest_text) < 0)
		refused(r, a, "pwrite");
	else if (*(volatile uint8_t *)selftest_text != byte)
		report_line(r, "no", a->name, "%s: pwrite: the text is as it was",
			    (const char *)a->what);
	else
		report_line(r, "ok", a->name, "%s", (const char *)a->what);
}

static void try_mprotect(struct report *r, const struct attempt *a)
{
	if (mprotect(selftest_text, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC)) {
		refused(r, a, "mprotect");
		return;
	}
	++*(volatile uint8_t *)selftest_text; /* this child dies if that is not so */
	report_line(r, "ok", a->name, "%s", (const char *)a->what);
}

static void try_mremap(struct report *r, const struct attempt *a)
{
	uint8_t *from = selftest_text + PAGE, byte = *from;
	void *to = mremap(from, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, selftest_text);

	if (to == MAP_FAILED)
		refused(r, a, "mremap");
	else if (to != selftest_text || *(volatile uint8_t *)selftest_text != byte)
		report_line(r, "no", a->name, "%s: mremap: the text is as it was",
			    (const char *)a->what);
	else
		report_line(r, "ok", a->name, "%s", (const char *)a->what);
}

static void report_tries(struct report *r)
{
	static const struct attempt tries[] = {
		{"/proc/self/mem", try_mem, "writes to text", "no", "-"},
		{"mprotect", try_mprotect, "text writable and executable", "no", "-"},
		{"mremap", try_mremap, "text over text", "no", "-"},
	};

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++)
		(void)try_in_child(r, &tries[i]);
}

/* ---------------------------------------------------------- what can be asked */

/* Of x86-64 alone. */
static void report_shadow_stack(struct report *r)
{
#ifdef SYS_arch_prctl
	enum { ARCH_SHSTK_STATUS = 0x5005, ARCH_SHSTK_SHSTK = 1 };
	unsigned long features = 0;

	if (syscall(SYS_arch_prctl, ARCH_SHSTK_STATUS, &features))
		report_line(r, "-", "user shadow stack", "not in this kernel");
	else
		report_line(r, "-", "user shadow stack",
			    features & ARCH_SHSTK_SHSTK ? "on" : "off");
#else
	(void)r;
#endif
}

static void report_membarrier(struct report *r)
{
	long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);

	if (commands < 0)
		report_line(r, "no", "membarrier", "%s", strerror(errno));
	else if (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE)
		report_line(r, "ok", "membarrier", "PRIVATE_EXPEDITED_SYNC_CORE");
	else
		report_line(r, "no", "membarrier", "the kernel has no SYNC_CORE (commands %#lx)",
			    (unsigned long)commands);
}

static void report_sigtrap(struct report *r)
{
	sigset_t blocked;

	if (sigprocmask(SIG_BLOCK, NULL, &blocked))
		report_line(r, "-", "SIGTRAP", "not known: sigprocmask: %s", strerror(errno));
	else if (sigismember(&blocked, SIGTRAP))
		report_line(r, "no", "SIGTRAP", "blocked by whoever started this program");
	else
		report_line(r, "ok", "SIGTRAP", "not blocked");
}

static void report_tracer(struct report *r)
{
	struct proc_status status;
	int error = proc_status_read(getpid(), &status);

	if (error)
		report_line(r, "-", "no tracer", "not known: /proc/%d/status: %s", (int)getpid(),
			    strerror(error == -ESRCH ? ENOENT : -error));
	else if (status.tracer)
		report_line(r, "no", "no tracer",
			    "process %d traces this one and sees its traps first",
			    (int)status.tracer);
	else
		report_line(r, "ok", "no tracer", "TracerPid 0");
}

void report_system(struct report *r)
{
	struct utsname system;

	if (!uname(&system))
		report_line(r, "-", "kernel", "%s %s %s, %ld CPUs", system.sysname, system.release,
			    system.machine, sysconf(_SC_NPROCESSORS_ONLN));
	report_membarrier(r);
	report_tries(r);
	if (SHUNT_HAS_TRAPS)
		report_sigtrap(r);
	report_shadow_stack(r);
	report_line(r, "-", "not tried", "text on huge pages; text that is sealed (mseal)");
	report_tracer(r);
}
