/* SPDX-License-Identifier: MIT */
/*
 * Flips (src/core/poke_flip.c) for the model checker Spin: a site that is switched on and off by
 * its first byte, behind a tail that goes on standing there, and is now and then given another
 * target, and with it another tail, by int3; with TAIL_WHILE_OFF, from off, without. README.md says
 * what is modelled; check.py runs it.
 */
#ifndef NR
#define NR 1 /* processors that execute; the updater is one more */
#endif

/* First bytes. The tail is the displacement of target 0 or 1; with TWO_BYTES a nop has its own. */
#define ON   0
#define OFF  1
#define INT3 2
#define NOP  2 /* a tail */
#define TORN 3 /* what is fetched of a tail that is being changed: bytes of either */
#define BIT(n) (1 << (n))

/* What a call may come to: target 0, target 1, nothing. */
#define NOTHING 2

byte first = ON, tail = 0;
byte target = 0; /* the last one */

/* What a processor's instruction fetch may return of each byte: sets. */
byte fetch_first[NR] = BIT(ON);
byte fetch_tail[NR] = BIT(0);

byte may = BIT(0); /* what a call that begins now may come to */
byte new = 0;
byte i; /* 0 between steps */

#define PUT(variable, fetched, value, words)                  \
	d_step {                                              \
		variable = value;                             \
		for (i : 0 .. NR - 1) {                       \
			fetched[i] = fetched[i] | BIT(value); \
		}                                             \
		i = 0;                                        \
		printf(words, value)                          \
	}
#define PUT_FIRST(value) PUT(first, fetch_first, value, "updater: first byte %d\n")
#define PUT_TAIL(value)  PUT(tail, fetch_tail, value, "updater: tail %d\n")

inline serialise(cpu)
{
	fetch_first[cpu] = BIT(first);
	fetch_tail[cpu] = BIT(tail)
}

/* One processor after the other, in any order. With FAILURES it may end before it is done. */
inline core_sync()
{
	do
	:: atomic { !(synced & 1) -> serialise(0); synced = synced | 1;
		    printf("updater: core sync of processor 0\n") }
#if NR > 1
	:: atomic { !(synced & 2) -> serialise(1); synced = synced | 2;
		    printf("updater: core sync of processor 1\n") }
#endif
	:: synced == BIT(NR) - 1 -> break
#ifdef FAILURES
	:: atomic { failures < 1 -> failures++; failed = true; printf("updater: the sync fails\n"); break }
#endif
	od;
	synced = 0
}

active proctype updater()
{
	byte synced, failures, was;
	bit failed;

next:
	atomic {
		may = BIT(new);
		failures = 0;
		failed = false;
		was = new;
		printf("updater: update has returned\n");
		if
		:: new != NOTHING -> new = NOTHING
		:: new == NOTHING -> new = target
		:: new == NOTHING -> new = 1 - target
		:: new != NOTHING -> new = 1 - target
		:: goto no_more
		fi;
		may = may | BIT(new);
		printf("updater: update to %d begins\n", new)
	}
	if
	:: new != NOTHING && new != target -> goto poke
	:: else
	fi;

	/* The flip. */
	skip;
	PUT_FIRST((new == NOTHING -> OFF : ON));
#ifdef TWO_BYTES
	skip;
	PUT_TAIL((new == NOTHING -> NOP : target));
#endif
#ifndef NO_SYNC
	core_sync();
#endif
	if
	:: failed -> /* back, and the sync behind that goes through */
		atomic { failed = false; new = was }
		PUT_FIRST((new == NOTHING -> OFF : ON));
#ifndef NO_SYNC_BACK
		core_sync();
#endif
	:: else
	fi;
	goto next;

	/* Another target: the int3 protocol, whose traps poke.pml has. */
poke:
#ifdef TAIL_WHILE_OFF
	if
	:: was == NOTHING -> goto tails
	:: else
	fi;
#endif
	skip;
	skip;
	PUT_FIRST(INT3);
	do
	:: core_sync(); if :: failed -> failed = false :: else -> break fi
	od;
tails:
	target = new;
	skip;
	PUT_TAIL(target);
#ifndef NO_TAIL_SYNC
	do
	:: core_sync(); if :: failed -> failed = false :: else -> break fi
	od;
#endif
	skip;
	PUT_FIRST(ON);
	do
	:: core_sync(); if :: failed -> failed = false :: else -> break fi
	od;
	goto next;

no_more:
end:
	false
}

/* The assertions' words are what check.py looks for. */
active [NR] proctype processor()
{
	byte a, b;
	bit torn, stale;
	byte me = _pid - 1;

site:
	atomic {
		if
		:: fetch_first[me] & BIT(ON) -> a = ON
		:: fetch_first[me] & BIT(OFF) -> a = OFF
		:: fetch_first[me] & BIT(INT3) -> goto trap
		fi;
		if
		:: fetch_tail[me] & BIT(0) -> b = 0
		:: fetch_tail[me] & BIT(1) -> b = 1
		:: fetch_tail[me] & BIT(NOP) -> b = NOP
#ifdef TAIL_WHILE_OFF
		:: fetch_tail[me] == (BIT(0) | BIT(1)) -> b = TORN
#endif
		fi;
		printf("processor %d: executes %d %d\n", me, a, b);
#ifdef TWO_BYTES
		torn = (a == OFF) != (b == NOP);
		assert(!torn);
#endif
#ifdef TAIL_WHILE_OFF
		torn = a == ON && b == TORN;
		assert(!torn);
#endif
		stale = !(may & (a == OFF -> BIT(NOTHING) : BIT(b)));
		assert(!stale);
		a = 0; b = 0;
		goto site
	}
	/* The handler does the old or the new, or the site is tried again. */
trap:
	atomic { a = 0; b = 0; printf("processor %d: trap\n", me); goto site }
}
