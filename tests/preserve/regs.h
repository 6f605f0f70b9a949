/* SPDX-License-Identifier: MIT */
/*
 * A run of one site with known contents in every register, and what they are when
 * the site's target is reached and when the site's function has returned. Shared
 * with assembly (regs.S), hence the offsets as numbers.
 */
#ifndef TESTS_PRESERVE_REGS_H
#define TESTS_PRESERVE_REGS_H

/* In struct regs_run. */
#define RUN_GPR        0
#define RUN_SP         120
#define RUN_FLAGS      128
#define RUN_MASK       136
#define RUN_FRAG       144
#define RUN_HOST_SP    152
#define RUN_TARGET     160
#define RUN_SCRATCH    168
#define RUN_AT_TARGET  192
#define RUN_AT_END     4672
#define RUN_LOAD       9152
#define RUN_HOST       13248
#define RUN_FLAG_STACK 17344

/* In struct regs_capture. */
#define CAP_GPR   0
#define CAP_SP    120
#define CAP_FLAGS 128
#define CAP_TIMES 136
#define CAP_STACK 192
#define CAP_XSAVE 384

#define RED_ZONE_WORDS 16 /* below sp at the site */
#define STACK_WORDS    24 /* these, and eight from there on */
#define XSAVE_SIZE     4096

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the order of gpr[]. */
enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8, R9, R10, R11, R12, R13, R14, R15, NR_GPRS };

/* Everything that a thread has. */
struct regs_capture {
	uint64_t gpr[NR_GPRS];
	uint64_t sp;
	uint64_t flags;
	uint64_t times; /* how often this place was reached */
	uint64_t reserved[6];
	uint64_t stack[STACK_WORDS];
	_Alignas(64) uint8_t xsave[XSAVE_SIZE];
};

struct regs_run {
	/* What to start the site's function with. */
	uint64_t gpr[NR_GPRS];
	uint64_t sp; /* there stands the return address */
	uint64_t flags;
	uint64_t mask; /* the state components that xsave and xrstor are to handle */
	uint64_t frag; /* the function */
	/* The routine's own. */
	uint64_t host_sp;
	/* Which target was reached: its address, or 0. */
	uint64_t target;
	uint64_t scratch;
	uint64_t reserved[2];
	struct regs_capture at_target;
	struct regs_capture at_end;
	uint8_t load[XSAVE_SIZE]; /* the vector and floating-point state to start with */
	uint8_t host[XSAVE_SIZE];
	uint64_t flag_stack[8];
};

_Static_assert(offsetof(struct regs_run, sp) == RUN_SP, "");
_Static_assert(offsetof(struct regs_run, flags) == RUN_FLAGS, "");
_Static_assert(offsetof(struct regs_run, mask) == RUN_MASK, "");
_Static_assert(offsetof(struct regs_run, frag) == RUN_FRAG, "");
_Static_assert(offsetof(struct regs_run, host_sp) == RUN_HOST_SP, "");
_Static_assert(offsetof(struct regs_run, target) == RUN_TARGET, "");
_Static_assert(offsetof(struct regs_run, scratch) == RUN_SCRATCH, "");
_Static_assert(offsetof(struct regs_run, at_target) == RUN_AT_TARGET, "");
_Static_assert(offsetof(struct regs_run, at_end) == RUN_AT_END, "");
_Static_assert(offsetof(struct regs_run, load) == RUN_LOAD, "");
_Static_assert(offsetof(struct regs_run, host) == RUN_HOST, "");
_Static_assert(offsetof(struct regs_run, flag_stack) == RUN_FLAG_STACK, "");
_Static_assert(offsetof(struct regs_capture, sp) == CAP_SP, "");
_Static_assert(offsetof(struct regs_capture, flags) == CAP_FLAGS, "");
_Static_assert(offsetof(struct regs_capture, times) == CAP_TIMES, "");
_Static_assert(offsetof(struct regs_capture, stack) == CAP_STACK, "");
_Static_assert(offsetof(struct regs_capture, xsave) == CAP_XSAVE, "");

/* regs.S */
extern struct regs_run regs_run;
void regs_go(void);
void regs_end(void);
void regs_target_a(void);
void regs_target_b(void);

/* A function with one site of the key "regs". */
struct regs_frag {
	const char *name;
	void (*function)(void);
	bool is_call;     /* a call; else a jmp or jcc, whose target returns for it */
	bool conditional; /* may not reach the target */
};

extern const struct regs_frag regs_frags[];
#define REGS_FRAGS 20

/* What a run left. */
struct regs_result {
	struct regs_capture at_target, at_end;
	uint64_t target;
};

/* In what two runs differ: a bit mask. */
enum {
	DIFF_GPR = 1 << 0,
	DIFF_FLAGS = 1 << 1,
	DIFF_SP = 1 << 2,
	DIFF_RED_ZONE = 1 << 3,
	DIFF_STACK = 1 << 4, /* from sp on */
	DIFF_X87 = 1 << 5,
	DIFF_MXCSR = 1 << 6,
	DIFF_XMM = 1 << 7,
	DIFF_YMM = 1 << 8,
	DIFF_OPMASK = 1 << 9,
	DIFF_ZMM = 1 << 10, /* high halves of 0 to 15, or 16 to 31 */
	DIFF_PKRU = 1 << 11,
	DIFF_HEADER = 1 << 12, /* which components are in use */
	DIFF_PATH = 1 << 13,   /* which target was reached, how often */
};

/* Returns false where the CPU or the kernel has no xsave. */
bool regs_init(void);

/* How many combinations of flags there are: carry, parity, zero, sign, overflow. */
#define REGS_PATTERNS 32

/*
 * Run @frag with the register contents number @pattern. @pending: with unmasked
 * floating-point exceptions pending, too.
 */
void regs_execute(const struct regs_frag *frag, unsigned pattern, bool pending,
		  struct regs_result *result);

/* All that differs between two runs; prints nothing. */
unsigned regs_compare(const struct regs_result *a, const struct regs_result *b);

/* Where @result is not what was loaded by regs_execute() last: in what. */
unsigned regs_compare_loaded(const struct regs_capture *result);

/* In words, "+"-separated; a static buffer. */
const char *regs_diff_text(unsigned diff);

/* Whether the CPU and the kernel have the component of a DIFF_ bit. */
bool regs_has(unsigned diff);
#endif

#endif
