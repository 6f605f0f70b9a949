/* SPDX-License-Identifier: MIT */
/*
 * The table of hostile processes. A row is something that a program may do to Shunt, or to
 * itself, while its sites are changed. Each row runs in a process of its own for each way
 * to poke (SHUNT_POKE; for flip it is what it changes), is counted, is killed when it hangs, and
 * has a negative control: the same row with what protects it taken out, which must be seen to fail.
 * Where a row kills a process that is poked by int3, that run is the control of the others; where
 * there is no int3 (FIRST_WAY), they have none.
 *
 *	static void row_nasty(struct row *r)
 *	{
 *		while (more(r)) {
 *			update(r);
 *			go_through(r);
 *			provoked(r, 1);
 *		}
 *	}
 *
 *	static struct row rows[] = {
 *		{.name = "nasty", .title = "does nasty things", .unit = "nasty things",
 *		 .run = row_nasty, .times = 500, .int3 = FAILS},
 *		{0},
 *	};
 *
 *	int main(int argc, char **argv)
 *	{
 *		return hostile_main(argc, argv, rows);
 *	}
 *
 * The program alone runs all rows and prints TAP, and lines for table.py. PROGRAM ROW WAY
 * [--control] [--seed N] runs one by itself; PROGRAM --list names them (for script/soak).
 */
#ifndef SHUNT_TESTS_HOSTILE_H
#define SHUNT_TESTS_HOSTILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../api/tap.h"
#include "../common/cpu.h"

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define SUITE_ASAN 1
#endif

enum way { INT3, REMAP, AUTO, ATOMIC, FLIP, NR_WAYS };

/*
 * Where no site traps, each update is a flip under every policy; the policy says what follows where
 * that fails. INT3 and ATOMIC are no ways of their own there, and are not run.
 */
#define FIRST_WAY (CPU_HAS_TRAPS ? INT3 : REMAP)

/* What a row is to do under a way. */
enum expected {
	HOLDS,
	FAILS,   /* and does so every time */
	EITHER,  /* it is luck, or the way does not matter to it */
	NOT_RUN, /* makes no sense */
};

struct row {
	const char *name;  /* for the command line: letters, digits, '-' */
	const char *title; /* what the program does, as the table says it */
	const char *unit;  /* what is counted, plural */
	void (*run)(struct row *r);
	uint64_t times;     /* how much is to be provoked at least */
	enum expected int3; /* remap and auto are to hold in every row */
	bool atomic;        /* run under that policy as well; expected as under int3 */
	bool flip;          /* run with sites that are only switched as well, and is to hold */
	bool not_tsan;      /* cannot be provoked beside that sanitizer */
	bool not_asan;
	const char *control;   /* what r->is_control takes out; NULL: the int3 run is the control */
	bool control_not_flip; /* what it takes out is nothing to a flip */
	bool control_by_int3;  /* once, that way, not under each that is to hold */
	bool control_by_remap;
	unsigned seconds; /* it hangs if not done by then; 0: 60 */

	/* For run(). */
	enum way way;
	bool is_control;
	uint64_t seed; /* of pick(); else the same each time */
	struct tally *tally;
};

int hostile_main(int argc, char **argv, struct row *rows);
const char *way_name(const struct row *r);

/* ------------------------------------------------------------ for a row. Any thread, handler */

void provoked(struct row *r, uint64_t n);
uint64_t times_provoked(const struct row *r);
bool more(const struct row *r);               /* until it is enough, or has failed */
void failed(struct row *r, const char *what); /* and go on */
_Noreturn void skip_row(struct row *r, const char *why);
uint64_t pick(struct row *r, uint64_t below); /* a random number, by the seed */

#define MUST(r, condition)                                   \
	do {                                                 \
		if (!(condition))                            \
			failed(r, __FILE__ ": " #condition); \
	} while (0)

/* A bounded wait; the watchdog is for the rest. */
#define AWAIT(condition)                     \
	do {                                 \
		while (!(condition))         \
			(void)sched_yield(); \
	} while (0)

/*
 * Two functions in a desert of illegal instructions, so far apart that each byte of the
 * way to the one differs from that to the other: half an address leads nowhere.
 */
/* clang-format off */
#ifdef __aarch64__
#define DESERT(n)       ".fill " #n ", 4, 0\n"
#define DESERT_BEFORE   ".balign 65536\n" DESERT(67584)
#define DESERT_BETWEEN  DESERT(98304)
#define DESERT_BEHIND   DESERT(65536)
#define DESERT_FUNCTION ", %function\n"
#else
#define DESERT(n)       ".fill " #n ", 2, 0x0b0f\n"
#define DESERT_BEFORE   ".balign 65536\n" DESERT(4096)
#define DESERT_BETWEEN  ".balign 65536\n" DESERT(66000)
#define DESERT_BEHIND   DESERT(4096)
#define DESERT_FUNCTION ", @function\n"
#endif
/* clang-format on */

/* ------------------------------------------------------------ keys, and their sites, to share */

/* Through the site; the result must be the old or the new one. Async-signal-safe. */
void go_through(struct row *r);

/* The same without a complaint: whether it went to the new function, or -1. */
int try_site(void);

/*
 * Change the call, by flip the branch, to the other value; it must work, and that way. One thread
 * at a time.
 */
void update(struct row *r);

/*
 * That may fail: what the update of the call, by flip of the branch, said. -EPROTO: it worked,
 * but another way was taken than flip.
 */
int try_update(void);

/* What the key says, which the site must do. */
bool key_is_new(void);

/* From now on the way is flip, whatever the policy. */
void change_by_flip(void);

/*
 * The next poke, whoever makes it, is held half way, and @fn(@arg) is called there: after its
 * int3 stand, or after the new pages or bytes are there but before the core sync. Once.
 */
void hold_next(void (*fn)(void *arg), void *arg);

/* How many were held so far. */
uint64_t times_held(void);

/*
 * A control: from now on the bytes of a site are written one after the other, with no int3
 * and no new page; by flip another byte comes first. The hold is in the middle of that, and whoever
 * comes through dies.
 */
void take_poke_out(void);

/* A control: a copy of the process that finds a poke half done leaves it as it is. */
void take_repair_out(void);

#endif
