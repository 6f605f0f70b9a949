/* SPDX-License-Identifier: MIT */
/*
 * A debugger writes into the page of a site in the middle of an update by remap, beside the
 * site or on it; and in the middle of a flip, beside it or on a site. The child updates; its parent
 * stops it by ptrace at a place of its choice and writes an int3, which is to be there after the
 * update, and to be hit. An int3 on the site is to have the update refused, as are bytes that go on
 * changing.
 *
 * Controls: written when the comparison of the pages is over, in mremap(), the int3 is
 * lost; and in a process whose C library has no restartable sequences, one that is
 * written between the two is, as is one on a site between the look at it and its flip.
 *
 *	traced		all of it
 *	traced --no-rseq	the last step before mremap() alone: status 0 when the int3 is hit
 *	traced --no-rseq-flip	that before a flip's write
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "../api/tap.h"

#define TIMES 50
#define NOP   0x90
#define INT3  0xcc

/* ------------------------------------------------------------------- what is poked */

static KEEP long plus_one(long x)
{
	return x + 1;
}

static KEEP long plus_two(long x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(traced, plus_one);

/* A site, and behind it an instruction of one byte. */
extern uint8_t traced_beside[] __attribute__((visibility("hidden")));

static KEEP __attribute__((aligned(4096))) long through(long x)
{
	long y = static_call(traced)(x);

	__asm__ volatile(".globl traced_beside\n"
			 ".hidden traced_beside\n"
			 "traced_beside: nop" ::
				 : "memory");
	return y + 10;
}

/*
 * What goes by a flip, and behind it an instruction of one byte: 11, or 12 where the key is on. Two
 * of them, which lie one behind the other.
 */
DEFINE_STATIC_KEY_FALSE(flipped);
extern uint8_t flipped_beside[] __attribute__((visibility("hidden")));
extern uint8_t flipped_site[], flipped_second[] __attribute__((visibility("hidden")));
long flipped_branch(void) __attribute__((visibility("hidden")));
long flipped_branch_2(void) __attribute__((visibility("hidden")));

/* clang-format off */
__asm__(".pushsection .text, \"ax\", @progbits\n"
	".balign 4096\n"
	".globl flipped_branch, flipped_branch_2, flipped_beside, flipped_site, flipped_second\n"
	".hidden flipped_branch, flipped_branch_2, flipped_beside, flipped_site, flipped_second\n"
	".type flipped_branch, @function\n"
	".type flipped_branch_2, @function\n"
	"flipped_branch:\n"
	"	movl $11, %eax\n"
	"flipped_site:\n"
	"	.byte 0xa9\n"
	"	.long flipped_on - . - 4\n"
	"flipped_beside:\n"
	"	nop\n"
	"	ret\n"
	"flipped_on:\n"
	"	incl %eax\n"
	"	jmp flipped_beside\n"
	".size flipped_branch, . - flipped_branch\n"
	"flipped_branch_2:\n"
	"	movl $11, %eax\n"
	"flipped_second:\n"
	"	.byte 0xa9\n"
	"	.long flipped_on_2 - . - 4\n"
	"	ret\n"
	"flipped_on_2:\n"
	"	incl %eax\n"
	"	ret\n"
	".size flipped_branch_2, . - flipped_branch_2\n"
	".popsection\n"
	".pushsection .static_jumps, \"a\", @progbits\n"
	".balign 4\n"
	".long flipped_site - ., flipped_on - ., _SKF__flipped - ., 0xd1f5a7c4\n"
	".long flipped_second - ., flipped_on_2 - ., _SKF__flipped - ., 0xd1f5a7c4\n"
	".popsection");
/* clang-format on */

/* Sites on so many pages that the copy is filled by stores: 20 times nop, nop, ret. The
 * first becomes a jump to the next instruction. */
#define PAGES 20

extern uint8_t traced_pages[] __attribute__((visibility("hidden")));

/* clang-format off */
__asm__(".pushsection .text, \"ax\", @progbits\n"
	".balign 4096\n"
	".globl traced_pages\n"
	".hidden traced_pages\n"
	"traced_pages:\n"
	".rept 20\n"
	".byte 0x0f, 0x1f, 0x44, 0, 0\n"
	"nop\n"
	"ret\n"
	".balign 4096\n"
	".endr\n"
	".popsection");
/* clang-format on */

static uint8_t *page_site(size_t i)
{
	return traced_pages + 4096 * i;
}

static int poke_pages(bool other)
{
	static const uint8_t insn[2][5] = {{0x0f, 0x1f, 0x44, 0, 0}, {0xe9, 0, 0, 0, 0}};
	struct text_poke pokes[PAGES];

	for (size_t i = 0; i < PAGES; i++)
		pokes[i] = (struct text_poke){
			.addr = page_site(i), .insn = insn[other], .len = 5, .old = insn[!other]};
	return text_poke_bp_batch(pokes, PAGES);
}

/* ------------------------------------------------------------------------ the child */

/* What it is told to do, and what has come of it. */
struct told {
	bool pages; /* change those, not the static call */
	bool flip;  /* or the key */
	int ret;
	long value; /* of a call behind the update */
	char message[512];
};

static struct told *told;
static uint8_t *site; /* of the static call */

static void change(bool *is_new, bool *is_other)
{
	if (told->pages) {
		told->ret = poke_pages(!*is_other);
		*is_other ^= !told->ret;
		((void (*)(void))page_site(PAGES / 2))();
		return;
	}
	if (told->flip) {
		told->ret = static_key_count(&flipped) ? static_branch_disable(&flipped)
						       : static_branch_enable(&flipped);
		told->value = flipped_branch() - static_key_count(&flipped);
		if (flipped_branch_2() - static_key_count(&flipped) != told->value)
			told->value = -1;
		return;
	}
	told->ret = *is_new ? static_call_update(traced, plus_one)
			    : static_call_update(traced, plus_two);
	*is_new ^= !told->ret;
	told->value = through(0) - *is_new;
}

_Noreturn static void be_traced(void)
{
	bool is_new = false, is_other = false;

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(77);
	for (;;) {
		(void)raise(SIGSTOP);
		told->ret = 0;
		told->value = 0;
		change(&is_new, &is_other);
		(void)snprintf(told->message, sizeof(told->message), "%s", shunt_last_error());
	}
}

/* ----------------------------------------------------------------------- the tracer */

/* Where the child is stopped, and what is written there. */
struct plan {
	const char *name;
	long nr; /* the system call at whose entry; 0: at the last instruction before mremap(), or
		    the write */
	bool always; /* each time that it comes there, with another byte, not only once */
	bool on_site;
	bool pages;
	bool flip;
};

static struct {
	pid_t pid;
	const struct plan *plan;
	uint8_t *at; /* where it is written */
	uint8_t now; /* what was written last */
	unsigned written, hits;
} child;

extern uint8_t shunt_remap_syscall[] __attribute__((visibility("hidden")));
extern uint8_t shunt_write_syscall[] __attribute__((visibility("hidden")));

static uint8_t *last_step(void)
{
	return child.plan->flip ? shunt_write_syscall : shunt_remap_syscall;
}

static uint8_t peek(const uint8_t *at)
{
	return (uint8_t)ptrace(PTRACE_PEEKTEXT, child.pid, at, NULL);
}

static void poke(uint8_t *at, uint8_t byte)
{
	long word = ptrace(PTRACE_PEEKTEXT, child.pid, at, NULL);

	if (ptrace(PTRACE_POKETEXT, child.pid, at, (word & ~0xffL) | byte))
		abort();
}

static void write_now(void)
{
	child.now = child.written++ % 2 && !child.plan->on_site ? NOP : INT3;
	poke(child.at, child.now);
}

/* The call that is being entered; -1: it is left. */
static long entered(void)
{
	struct __ptrace_syscall_info info = {0};

	if (ptrace(PTRACE_GET_SYSCALL_INFO, child.pid, sizeof(info), &info) < 0 ||
	    info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return -1;
	if (info.entry.nr == SYS_pwrite64 && info.entry.args[2] < (child.plan->flip ? 1 : 4096))
		return -1; /* not a page */
	return (long)info.entry.nr;
}

static bool is_due(void)
{
	return child.plan->always || !child.written;
}

/* At one of our int3: put right what it stands for, and go on there. */
static bool step_over(uint8_t *at, uint8_t byte)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, child.pid, NULL, &regs) || regs.rip != (uintptr_t)at + 1)
		return false;
	regs.rip--;
	poke(at, byte);
	return !ptrace(PTRACE_SETREGS, child.pid, NULL, &regs);
}

/* Let the child go to its next stop. Whether it is one to go on from. */
static bool go_on(uint8_t instead)
{
	int status;

	if (ptrace(PTRACE_SYSCALL, child.pid, NULL, NULL) ||
	    waitpid(child.pid, &status, __WALL) != child.pid || !WIFSTOPPED(status))
		abort();
	if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
		if (child.plan->nr && entered() == child.plan->nr && is_due())
			write_now();
		return true;
	}
	if (WSTOPSIG(status) != SIGTRAP)
		return false;
	if (!child.plan->nr && step_over(last_step(), 0x0f)) {
		write_now();
		return true;
	}
	child.hits++;
	return step_over(child.at, instead);
}

/* One update, as planned. */
static void one(const struct plan *plan)
{
	uint8_t was;

	child.plan = plan;
	child.at = plan->flip      ? !plan->on_site ? flipped_beside
				     : plan->nr     ? flipped_second
						    : flipped_site
		   : plan->pages   ? page_site(PAGES / 2) + (plan->on_site ? 0 : 5)
		   : plan->on_site ? site
				   : traced_beside;
	child.written = child.hits = 0;
	was = peek(child.at);
	told->pages = plan->pages;
	told->flip = plan->flip;
	if (!plan->nr)
		poke(last_step(), INT3);
	while (go_on(was))
		;
	poke(child.at, was); /* if it has not been hit */
}

/* ------------------------------------------------------------------------- the tests */

static unsigned held, fallen; /* of all of it */

static void count(unsigned good)
{
	held += good;
	fallen += TIMES - good;
}

static void beside(const struct plan *plan)
{
	unsigned good = 0;

	for (int i = 0; i < TIMES; i++) {
		one(plan);
		good += child.written == 1 && child.hits == 1 && !told->ret &&
			told->value == (plan->pages ? 0 : 11);
	}
	ok(good == TIMES, "%s: it is there, and hit: %u of %d (%d, %ld, %u writes, %u hits)",
	   plan->name, good, TIMES, told->ret, told->value, child.written, child.hits);
	count(good);
}

static void lost(const struct plan *plan)
{
	unsigned lost = 0;

	for (int i = 0; i < TIMES; i++) {
		one(plan);
		lost += child.written == 1 && !child.hits && !told->ret;
	}
	ok(lost == TIMES, "control: %s: lost %u of %d", plan->name, lost, TIMES);
}

/* The site as it was before, but for the int3, if any. */
static void refused(const struct plan *plan)
{
	const char *key = plan->pages ? "site 0x" : "key traced";
	unsigned good = 0;

	for (int i = 0; i < TIMES; i++) {
		one(plan);
		good += child.written == (plan->always ? 9 : 1) && told->ret == -EBUSY &&
			child.hits == (child.now == INT3) &&
			told->value == (plan->pages ? 0 : 11) && strstr(told->message, key) &&
			strstr(told->message, "site 0x") && strstr(told->message, "mremap(text)");
	}
	ok(good == TIMES, "%s: refused %u of %d (%d, %ld, %u writes, %u hits)", plan->name, good,
	   TIMES, told->ret, told->value, child.written, child.hits);
	diag("%s", told->message);
	count(good);
}

/* Both sites as before, but for the int3 on one of them; and without it the next update works. */
static void refused_flip(const struct plan *plan)
{
	static const struct plan none = {.name = "", .nr = -2, .flip = true};
	unsigned good = 0;

	for (int i = 0; i < TIMES; i++) {
		int ret;

		one(plan);
		ret = told->ret;
		good += child.written == 1 && ret == -EBUSY && child.hits == 1 &&
			told->value == 11 && strstr(told->message, "key flipped") &&
			strstr(told->message, "foreign bytes");
		one(&none);
		good -= told->ret || told->value != 11;
	}
	ok(good == TIMES,
	   "%s: refused, and works without it: %u of %d (%d, %ld, %u writes, %u hits)", plan->name,
	   good, TIMES, told->ret, told->value, child.written, child.hits);
	diag("%s", told->message);
	count(good);
}

static int take_site(const struct shunt_site_info *info, void *arg)
{
	if (!strcmp(info->key, arg))
		site = info->addr;
	return 0;
}

static bool start(void)
{
	int status;

	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (told == MAP_FAILED || shunt_set_poke(SHUNT_POKE_REMAP) ||
	    shunt_for_each_site(NULL, take_site, "traced"))
		return false;
	child.pid = fork();
	if (!child.pid)
		be_traced();
	return waitpid(child.pid, &status, 0) == child.pid && WIFSTOPPED(status) &&
	       !ptrace(PTRACE_SETOPTIONS, child.pid, NULL,
		       PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
}

static const struct plan at_the_last = {.name = "in the last step before mremap()"};
static const struct plan at_the_flip = {
	.name = "on a site, in the last step before its flip", .flip = true, .on_site = true};

/* This program once more. */
static int without_rseq(const char *self, const char *what)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		(void)setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
		(void)execl("/proc/self/exe", self, what, (char *)NULL);
		_exit(77);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

extern const unsigned int __rseq_size __attribute__((weak));

static void restarts(const char *self, const struct plan *plan, void (*test)(const struct plan *),
		     const char *control)
{
	if (!&__rseq_size || !__rseq_size) {
		skip(plan->name, "no restartable sequences here");
		return;
	}
	test(plan);
	ok(without_rseq(self, control) == 1, "control: %s, without restartable sequences: lost",
	   plan->name);
}

int main(int argc, char **argv)
{
	static const struct plan plans[] = {
		{.name = "beside the site, the copy made", .nr = SYS_pwrite64},
		{.name = "beside one of 20, the copy made", .nr = SYS_mprotect, .pages = true},
		{.name = "beside the site, in mremap()", .nr = SYS_mremap},
		{.name = "beside the site, again and again", .nr = SYS_pwrite64, .always = true},
		{.name = "on the site", .nr = SYS_pwrite64, .on_site = true},
		{.name = "on one of 20", .nr = SYS_mprotect, .pages = true, .on_site = true},
		{.name = "beside a flip, about to write", .nr = SYS_pwrite64, .flip = true},
		{.name = "on the second site of a flip, about to write the first",
		 .nr = SYS_pwrite64,
		 .flip = true,
		 .on_site = true},
	};

	shunt_set_log(NULL, NULL);
	if (!start()) {
		skip("traced", "a child cannot be traced here");
		return tap_done();
	}
	if (argc > 1) {
		one(strcmp(argv[1], "--no-rseq") != 0 ? &at_the_flip : &at_the_last);
		return child.written != 1 || told->ret ? 2 : child.hits != 1;
	}
	diag("title|traced|has breakpoints set in the middle of updates, beside the site and on it|"
	     "breakpoints");
	beside(&plans[0]);
	beside(&plans[1]);
	lost(&plans[2]);
	restarts(argv[0], &at_the_last, beside, "--no-rseq");
	refused(&plans[3]);
	refused(&plans[4]);
	refused(&plans[5]);
	diag("row|traced|remap|%u|%u|written when the pages have been compared: fails (it is "
	     "lost)|%s",
	     held, fallen, fallen ? "fails" : "holds");
	held = fallen = 0;
	beside(&plans[6]);
	refused_flip(&plans[7]);
	restarts(argv[0], &at_the_flip, refused_flip, "--no-rseq-flip");
	diag("row|traced|flip|%u|%u|written when its byte has been looked at, without restartable "
	     "sequences: fails (it is lost)|%s",
	     held, fallen, fallen ? "fails" : "holds");
	return tap_done();
}
