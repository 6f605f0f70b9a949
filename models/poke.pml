/* SPDX-License-Identifier: MIT */
/*
 * The poke protocol of src/core/poke_int3.c at one site, for the model checker Spin: one
 * updater that pokes over and over, NR processors that call the site over and over.
 * README.md says what is modelled and how the switches are used; check.py runs it.
 *
 * The idea of a fetch that may return any value since the last core sync is the
 * cross-modifying code chapter of the processors' manuals, read in the worst way.
 */
#ifndef NR
#define NR 1 /* processors that execute; the updater is one more */
#endif

/*
 * What the site can be: a first byte and two bytes of tail. A and B differ in all of
 * it, B and C in the first byte only, A and C in the tail only. The five combinations
 * that are none of these are torn instructions.
 */
#define A    0 /* 0; 0 0 */
#define B    1 /* 1; 1 1 */
#define C    2 /* 0; 1 1 */
#define INT3 2 /* as a first byte */
#define FIRST(insn) (insn == B)
#define TAIL(insn)  (insn != A)
#define BIT(n)      (1 << (n))
#define WHOLE(f, a, b) (a == b && (f <= a))
#define INSN(f, a)     (f -> B : (a -> C : A))

/* What updates there are: FIRST_ONLY from B to C and back, TAIL_ONLY from A to C and back. */
#ifdef FIRST_ONLY
#define UPDATE_TO_A false
#else
#define UPDATE_TO_A (key != A)
#endif
#ifdef TAIL_ONLY
#define UPDATE_TO_B false
#else
#define UPDATE_TO_B (key != B)
#endif

/* Memory, as loads and stores see it. There is one writer: the updater. */
byte first = FIRST(C);
bit tail0 = TAIL(C), tail1 = TAIL(C);
bit poked;    /* the site's mark */
byte key = C; /* what the handler emulates */

/* What a processor's instruction fetch may return: sets, for each byte its own. */
byte fetch_first[NR] = BIT(FIRST(C));
byte fetch_tail0[NR] = BIT(TAIL(C));
byte fetch_tail1[NR] = BIT(TAIL(C));

/*
 * The counter `ended` is only ever compared with an earlier reading of itself, so of
 * an unbounded counter this is all there is to know: whether it went on since.
 */
bit ended_since[NR];

/*
 * What is right, for the assertions only. @may: what a call that takes no time may
 * reach now. @allowed: for a call that has begun, every value of @may since; else 0.
 */
byte may = BIT(C);
byte allowed[NR];
#ifdef QUIET
bit updating; /* nobody is to run into an int3 but during an update */
#endif

byte i; /* 0 between steps */

/* --------------------------------------------------------------- what is right */

inline permit(set)
{
	d_step {
		may = set;
		for (i : 0 .. NR - 1) {
			if
			:: allowed[i] -> allowed[i] = allowed[i] | may
			:: else
			fi
		}
		i = 0;
	}
}

/*
 * STRICT, which is the default: a call reaches what the key is at some moment of the
 * call. WEAK: from an update's beginning to its return both old and new are right.
 */
#ifdef WEAK
#define PERMIT_AT_BEGIN  permit(BIT(old) | BIT(new))
#define PERMIT_AT_COMMIT skip
#define PERMIT_AT_RETURN permit(BIT(key))
#else
#define PERMIT_AT_BEGIN  skip
#define PERMIT_AT_COMMIT permit(BIT(key))
#define PERMIT_AT_RETURN skip
#endif

/* -------------------------------------------------------------- the updater's tools */

/* What was there before may still be fetched; what is there now, too. */
#define PUT(variable, fetched, value, words)                  \
	d_step {                                              \
		variable = value;                             \
		for (i : 0 .. NR - 1) {                       \
			fetched[i] = fetched[i] | BIT(value); \
		}                                             \
		i = 0;                                        \
		printf(words, value)                          \
	}

/* With FAILURES, any write can fail: not done, done in part, or done all the same. */
#ifdef FAILURES
#define WRITE(what) \
	atomic { what; if :: failed = true; printf("updater: and that failed\n") :: true fi }
#define OR_NOT :: failed = true; printf("updater: a write failed\n")
#define UNLESS_FAILED(what) if :: failed :: else -> what fi
#else
#define WRITE(what) what
#define OR_NOT
#define UNLESS_FAILED(what) what
#endif

inline write_first(value)
{
	if
	:: WRITE(PUT(first, fetch_first, value, "updater: first byte %d\n"))
	OR_NOT
	fi
}

/* Nothing is promised about the order. */
inline write_tail(value)
{
	if
	:: WRITE(PUT(tail0, fetch_tail0, value, "updater: tail, byte 0: %d\n"));
	   UNLESS_FAILED(WRITE(PUT(tail1, fetch_tail1, value, "updater: tail, byte 1: %d\n")))
	:: WRITE(PUT(tail1, fetch_tail1, value, "updater: tail, byte 1: %d\n"));
	   UNLESS_FAILED(WRITE(PUT(tail0, fetch_tail0, value, "updater: tail, byte 0: %d\n")))
	OR_NOT
	fi
}

/* One processor executes a serialising instruction. */
inline serialise(cpu)
{
	fetch_first[cpu] = BIT(first);
	fetch_tail0[cpu] = BIT(tail0);
	fetch_tail1[cpu] = BIT(tail1)
}

/* The processors in any order, whatever each is about: handlers are not waited for. */
inline core_sync()
{
	synced = 0;
	do
	:: atomic { !(synced & 1) -> serialise(0); synced = synced | 1;
		    printf("updater: core sync of processor 0\n") }
#if NR > 1
	:: atomic { !(synced & 2) -> serialise(1); synced = synced | 2;
		    printf("updater: core sync of processor 1\n") }
#endif
#if NR > 2
	:: atomic { !(synced & 4) -> serialise(2); synced = synced | 4;
		    printf("updater: core sync of processor 2\n") }
#endif
	:: atomic { synced == BIT(NR) - 1 -> synced = 0; break }
#ifdef FAILURES
	:: atomic { synced = 0; failed = true; printf("updater: core sync failed\n"); break }
#endif
	od
}

inline set_key(value)
{
	atomic {
		key = value;
		PERMIT_AT_COMMIT;
		printf("updater: the key is %d\n", value)
	}
}

inline mark(value)
{
	atomic { poked = value; printf("updater: mark %d\n", value) }
}

inline bump_ended()
{
	d_step {
		for (i : 0 .. NR - 1) {
			ended_since[i] = true;
		}
		i = 0;
		printf("updater: ended\n")
	}
}

/* ------------------------------------------------------------------ the protocol */

/*
 * How the updater goes on from one step to the next. A batch has other sites, which
 * can fail, can make its tails change, or were left on an int3: hence ANYWAY, the long
 * way where this site alone would go the short one.
 */
#define TAILS_CHANGE (tail0 != TAIL(new) || tail1 != TAIL(new))
#ifdef FAILURES
#define ANYWAY    || true
#ifdef FORGET_MENDING
#define MENDING   false
#else
#define MENDING   mending
#endif
#define STEP      if :: failed -> goto backward :: else fi
#define BACK_STEP if :: failed -> goto over :: else fi
#else
#define ANYWAY
#define STEP      skip
#endif

/* shunt_poke_int3() of poke_int3.c, with what the switches take out. */
inline advance()
{
#ifdef EARLY_COMMIT
	set_key(new);
#endif
#ifndef NO_INT3
#ifndef LATE_MARK
	mark(1);
#endif
	if
	:: first != INT3 -> write_first(INT3)
	:: else
	fi;
#ifdef LATE_MARK
	mark(1);
#endif
	STEP;
#ifndef NO_SYNC1
	core_sync();
	STEP;
#endif
#endif
	if
	:: TAILS_CHANGE ANYWAY ->
		write_tail(TAIL(new));
		STEP;
#ifndef NO_SYNC2
		core_sync();
		STEP
#endif
	:: !TAILS_CHANGE
	fi;
#ifndef EARLY_COMMIT
	set_key(new);
#endif
#ifdef FAILURES
	committed = true;
#endif
#ifdef EARLY_CLEAR
	mark(0);
#endif
	write_first(FIRST(new));
	STEP;
#ifndef NO_SYNC3
	core_sync();
	STEP
#endif
}

/* go_back(), with @new set to the old instruction. Leaves @failed set if it fails. */
inline go_back()
{
	failed = false;
	new = old;
	if
	:: committed || MENDING || TAILS_CHANGE ANYWAY ->
		mark(1);
		if
		:: first != INT3 -> write_first(INT3)
		:: else
		fi;
		BACK_STEP;
		core_sync();
		BACK_STEP;
		write_tail(TAIL(old));
		BACK_STEP;
		core_sync();
		BACK_STEP
	:: !(committed || MENDING || TAILS_CHANGE)
	fi;
	if
	:: committed -> set_key(old)
	:: else
	fi;
	committed = false;
	if
	:: first != FIRST(old) -> write_first(FIRST(old))
	:: else
	fi;
	BACK_STEP;
	core_sync(); /* its failure does not matter */
	failed = false
}

/* Only a site whose way back failed keeps its int3, and with it its mark. */
inline clear_mark()
{
#ifdef CLEAR_ALWAYS
	mark(0)
#else
	if
	:: first != INT3 -> mark(0)
	:: else
	fi
#endif
}

inline release()
{
#ifdef LATE_BUMP
	clear_mark();
	bump_ended()
#else
	bump_ended();
	clear_mark()
#endif
}

/*
 * Any number of updates, each to any other value than the present one, at once or
 * later, or no more ever.
 */
active proctype updater()
{
	byte old, new, synced;
	bool failed;
#ifdef FAILURES
	bool committed, mending;
#endif

next:
	atomic {
		if
		:: UPDATE_TO_A -> new = A
		:: UPDATE_TO_B -> new = B
		:: key != C -> new = C
		:: goto no_more
		fi;
		old = key;
		PERMIT_AT_BEGIN;
#ifdef FAILURES
		mending = poked;
#endif
#ifdef QUIET
		updating = true;
#endif
		printf("updater: update from %d to %d begins\n", old, new)
	}

	advance();
	goto over;

backward:
#ifdef FAILURES
	printf("updater: going back\n");
	go_back();
#endif

over:
#ifdef PROGRESS
progress_poke:
#endif
	release();
	atomic {
		PERMIT_AT_RETURN;
#ifdef QUIET
		updating = false;
#endif
		old = 0;
		new = 0;
		failed = false;
#ifdef FAILURES
		committed = false;
		mending = false;
#endif
		printf("updater: update has returned\n");
		goto next
	}

no_more:
end:
	false
}

/* ------------------------------------------------------------ the other processors */

/* Any of the values that the fetch may return. */
inline fetch()
{
	if
	:: fetch_first[me] & BIT(0) -> f = 0
	:: fetch_first[me] & BIT(1) -> f = 1
	:: fetch_first[me] & BIT(INT3) -> f = INT3
	fi;
	if
	:: f == INT3
	:: f != INT3 && fetch_tail0[me] & BIT(0) -> a = 0
	:: f != INT3 && fetch_tail0[me] & BIT(1) -> a = 1
	fi;
	if
	:: f == INT3
	:: f != INT3 && fetch_tail1[me] & BIT(0) -> b = 0
	:: f != INT3 && fetch_tail1[me] & BIT(1) -> b = 1
	fi
}

/* The assertions' words are what check.py looks for. */
inline reach(insn)
{
	stale = !(allowed[me] & BIT(insn));
	assert(!stale);
	allowed[me] = 0
}

/* Back from the trap to the site. An iret serialises, but nothing here may need it. */
inline retry()
{
#ifdef SERIALISING_IRET
	serialise(me);
#endif
	insn = 0;
	goto site
}

active [NR] proctype processor()
{
	byte f, a, b, insn;
	bit torn, stale, foreign;
	byte me = _pid - 1;

#ifdef PROGRESS
done:
progress_call:
	skip;
#endif
site:
	atomic {
		allowed[me] = allowed[me] | may;
		fetch();
		if
		:: f == INT3 ->
			f = 0;
			printf("processor %d: fetched int3, traps\n", me);
#ifdef QUIET
			assert(updating);
#endif
			goto trap
		:: else
		fi;
		printf("processor %d: executes %d; %d %d\n", me, f, a, b);
		torn = !WHOLE(f, a, b);
		assert(!torn);
		reach(INSN(f, a));
		f = 0; a = 0; b = 0;
#ifdef PROGRESS
		goto done
#else
		goto site
#endif
	}

	/* shunt_trap() of trap.c: shunt_site_find() reads the key first. */
trap:
	atomic { insn = key; printf("processor %d: handler: the key is %d\n", me, insn) }
whose:
	ended_since[me] = false;
	atomic {
		printf("processor %d: handler: the first byte is %d\n", me, first);
		if
		:: first != INT3 ->
#ifdef NO_RETRY
			foreign = true;
			assert(!foreign)
#else
			retry()
#endif
		:: else
		fi
	}
	atomic {
		printf("processor %d: handler: the mark is %d\n", me, poked);
		if
		:: poked ->
#ifdef SHADOW_STACK
			retry()
#else
			printf("processor %d: handler: emulates %d\n", me, insn);
			reach(insn);
			insn = 0;
#ifdef PROGRESS
			goto done
#else
			goto site
#endif
#endif
		:: else
		fi
	}
	atomic {
		printf("processor %d: handler: ended since: %d\n", me, ended_since[me]);
#ifndef NO_RECHECK
		if
		:: ended_since[me] -> goto whose
		:: else
		fi;
#endif
		foreign = true;
		assert(!foreign)
	}
}
