/* SPDX-License-Identifier: MIT */
/*
 * The two ways to poke without an int3, for the model checker Spin: the atomic poke,
 * one store to an aligned word; and the remap, the page of the site replaced by a
 * changed copy with mremap(), which unmaps the old one first. README.md says what is
 * modelled and how the switches are used; check.py runs it.
 */
#ifndef NR
#define NR 1 /* processors that execute; the updater is one more */
#endif

/*
 * The site lies in one part, a word or a page, or STRADDLES two. A part holds the old
 * or the new piece of instruction A, B or C, or is not mapped.
 */
#define A    0
#define B    1
#define C    2
#define NONE 3
#define BIT(n) (1 << (n))

byte low = A, high = A;

/* What a processor's instruction fetch may return of each part: sets. */
byte fetch_low[NR] = BIT(A);
byte fetch_high[NR] = BIT(A);

/* What a call that begins now may reach. */
byte may = BIT(A);
byte new = A;
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

#ifdef STRADDLES
#define PUT_HIGH(value) PUT(high, fetch_high, value, "updater: second part %d\n")
#else
#define PUT_HIGH(value) skip
#endif

/*
 * Each processor executes a serialising instruction, in any order. This is the core
 * sync; and it is a TLB shootdown, where that is an interrupt.
 */
inline serialise(cpu)
{
	fetch_low[cpu] = BIT(low);
	fetch_high[cpu] = BIT(high)
}

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
	od;
	synced = 0
}

active proctype updater()
{
	byte synced;

next:
	atomic {
		may = BIT(new);
		printf("updater: update has returned\n");
		if
		:: new != A -> new = A
		:: new != B -> new = B
		:: new != C -> new = C
		:: goto no_more
		fi;
		may = may | BIT(new);
		printf("updater: update to %d begins\n", new)
	}
#ifdef REMAP
	PUT(low, fetch_low, NONE, "updater: first part %d\n");
	PUT_HIGH(NONE);
#ifndef BROADCAST
	core_sync();
#endif
#endif
	PUT(low, fetch_low, new, "updater: first part %d\n");
	PUT_HIGH(new);
#ifndef NO_SYNC
	core_sync();
#endif
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
		:: fetch_low[me] & BIT(A) -> a = A
		:: fetch_low[me] & BIT(B) -> a = B
		:: fetch_low[me] & BIT(C) -> a = C
		:: fetch_low[me] & BIT(NONE) -> goto fault
		fi;
		b = a;
#ifdef STRADDLES
		if
		:: fetch_high[me] & BIT(A) -> b = A
		:: fetch_high[me] & BIT(B) -> b = B
		:: fetch_high[me] & BIT(C) -> b = C
		:: fetch_high[me] & BIT(NONE) -> goto fault
		fi;
#endif
		printf("processor %d: executes %d %d\n", me, a, b);
		torn = a != b;
		assert(!torn);
		stale = !(may & BIT(a));
		assert(!stale);
#ifdef ORDER
		/* No call that begins after one that had the new has the old. */
		if
		:: a == new -> may = BIT(new)
		:: else
		fi;
#endif
		a = 0; b = 0;
		goto site
	}
	/* The page fault waits for the map lock, which is as good as to try again. */
fault:
	atomic { a = 0; b = 0; printf("processor %d: page fault\n", me); goto site }
}
