/* SPDX-License-Identifier: MIT */
/*
 * What the files of the interleaving test share.
 *
 *	sites.S    the sites and the targets
 *	cases.c    the keys, the values that each goes through, what a site then does
 *	hooks.c    around the port and the trap: marks the steps, takes protections out
 *	tracee.c   the process under test: the updater and the runner
 *	tracer.c   ptrace: one instruction of a thread, its state out and in again
 *	explore.c  every interleaving of the two
 *	main.c     the cases and the negative controls, as TAP
 *
 * The tracer forks the tracee and so knows all its addresses.
 */
#ifndef INTERLEAVE_H
#define INTERLEAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

/* ------------------------------------------------------------------- sites.S */

struct il_site {
	const uint8_t *start; /* of the function that it is in */
	const uint8_t *insn;  /* what is poked */
	const uint8_t *next;  /* the instruction behind it */
	const uint8_t *jump;  /* where a branch goes */
};

extern const uint8_t il_park[], il_end[];
long il_target_a(void);
long il_target_b(void);
long il_target_c(void);

/* ------------------------------------------------------------------- cases.c */

enum il_value { IL_A, IL_B, IL_C, IL_NULL, IL_RET0, IL_OFF, IL_ON };
enum il_kind { IL_CALL, IL_JMP, IL_JCC, IL_BRANCH };

#define IL_VERSIONS 4 /* the first value and three updates */

struct il_case {
	const char *name, *place;
	enum il_kind kind;
	unsigned nr_sites;
	const struct il_site *sites;
	void *key;             /* struct static_call_key, or the handle of a static key */
	bool taken;            /* of a jcc: whether the runner's flags take it */
	const uint8_t *values; /* enum il_value, IL_VERSIONS of them */
};

extern const struct il_case il_cases[];
extern const size_t il_nr_cases;

/* Give the key value number @version. 0 or a negative error. */
int il_update(const struct il_case *c, unsigned version);

/* The word that the commit changes, and its length in bytes. */
const void *il_value_word(const struct il_case *c, size_t *len);

/* What a runner finds after the site's instruction, made from what was there before it. */
struct il_landing {
	uint64_t rip;
	bool push; /* of the address behind the site */
	bool pop;
	bool ret0;
	bool test; /* the off form of a call: the flags are what it leaves */
};
void il_landing(const struct il_case *c, unsigned site, unsigned version, struct il_landing *to);

/* ------------------------------------------------------------------- hooks.c */

/* What is taken out: the negative controls. */
enum il_control {
	IL_WHOLE,
	IL_NO_RETRY,         /* a late trap goes on behind the int3 */
	IL_NO_RETRY_FOREIGN, /* a late trap is taken for somebody else's */
	IL_NO_INT3,
	IL_COMMIT_FIRST,   /* the commit comes before the int3 */
	IL_EARLY_RELEASE,  /* the mark goes before the int3 does */
	IL_NO_SECOND_LOOK, /* an int3 without a mark is somebody else's at the first look */
	IL_TAILS_LAST,     /* the tails are written behind the first bytes */
};

extern const struct il_case *il_case; /* the one that runs */
extern enum il_control il_control;

/* Changes at every step of a poke that memory does not show by itself. */
extern volatile unsigned il_step;

/* Stop this thread until the tracer lets it go on. */
void il_stop(void);

/* ------------------------------------------------------------------ tracee.c */

#define IL_STACK 16384
extern uint8_t il_stack[IL_STACK]; /* the runner's */
extern _Atomic pid_t il_runner;

/* What it exits with where it may not be traced. */
#define IL_NO_PTRACE 3

/* The child: never returns. */
_Noreturn void il_tracee(void);

/* ------------------------------------------------------------------ tracer.c */

/* All that a thread is, at rest between two instructions. */
struct il_state {
	struct user_regs_struct regs;
	struct user_fpregs_struct fp;
	/* Which site it is at, or trapped at, or comes to next. */
	uint8_t site;
	uint8_t low;     /* the oldest version that it may still reach */
	bool pending;    /* has executed an int3, and has not entered the handler */
	bool in_handler; /* SIGTRAP is blocked but for the tracer's sake */
	uint32_t len;    /* bytes of the stack, from its top down: 128 below rsp and up */
	uint8_t stack[IL_STACK];
};

enum il_stopped { IL_STEPPED, IL_INT3, IL_STOPPED, IL_SIGNAL, IL_GONE };

struct il_tracer {
	pid_t updater, runner;
	int signal;      /* of IL_SIGNAL */
	bool can_inject; /* the runner's stop is one that takes a signal */
	bool forbidden;  /* ptrace is not to be had */
};

bool il_start(struct il_tracer *t);
void il_kill(struct il_tracer *t);
/* One instruction of @tid, with @sig delivered before it. */
enum il_stopped il_step_thread(struct il_tracer *t, pid_t tid, int sig);
/* Let the updater run until it stops itself. */
bool il_continue(struct il_tracer *t);
void il_peek(struct il_tracer *t, const void *addr, void *to, size_t len);
void il_save(struct il_tracer *t, struct il_state *s);
/* The runner's signal mask; meant for when the handler has returned. */
uint64_t il_mask(struct il_tracer *t);
void il_restore(struct il_tracer *t, const struct il_state *s);
/* One instruction of the runner, which is in state @s; @s is what it is in then. */
enum il_stopped il_advance(struct il_tracer *t, struct il_state *s);

/* ----------------------------------------------------------------- explore.c */

struct il_result {
	unsigned steps;        /* of the updater, all updates together */
	unsigned states;       /* different ones that the runner was in */
	uint64_t instructions; /* single steps of the runner */
	uint64_t combinations; /* state, step when it came there, step when it went on */
	uint64_t emulated, late, ended;
	bool skipped; /* ptrace is not to be had */
	char failure[200];
};

/*
 * Go through every interleaving of the first @versions - 1 updates and a runner;
 * false: a check failed, see @r->failure.
 */
bool il_explore(const struct il_case *c, unsigned versions, enum il_control control,
		struct il_result *r);

#endif
