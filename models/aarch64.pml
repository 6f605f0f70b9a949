/* SPDX-License-Identifier: MIT */
/*
 * A poke on aarch64 for the model checker Spin: one aligned word is stored, cleaned to the point of
 * unification (DC CVAU, DSB), dropped from all instruction caches (IC IVAU, DSB), and then all CPUs
 * synchronize their context (ISB, or a return from an exception). Until that is done a CPU executes the old
 * instruction or the new one. README.md says what is modelled; check.py runs it.
 */
#ifndef NR
#define NR 1 /* processors that execute; the updater is one more */
#endif

/*
 * The site is a branch to target A, B or C. With FAR, C is out of reach: its branch goes to a veneer, which
 * is written before the first one and never changes again.
 */
#define A    0
#define B    1
#define C    2
#define JUNK 0 /* what the veneer's place held */
#define NONE 3 /* nothing is cached */
#define BIT(n) (1 << (n))

#define SITE   0
#define VENEER 1
/* IDC: stores are clean at once. DIC: what an instruction cache holds is what it would be filled with. */
#ifdef FAR
#define WORDS 2
#else
#define WORDS 1
#endif
#define OF(cpu, word) ((cpu) * WORDS + (word))

/* A word as loads and stores see it; as instruction caches are filled; in each processor's instruction cache. */
byte stored[WORDS] = 0;
byte unified[WORDS] = 0;
byte cached[NR * WORDS] = NONE;

/* What a processor has fetched since it last synchronized its context, and may still execute: sets. */
byte fetched[NR * WORDS] = 0;

byte may = BIT(A); /* what a call that begins now may reach */
byte new = A;

inline store(word, value)
{
	d_step {
		stored[word] = value;
#ifdef IDC
		unified[word] = value;
#endif
		printf("updater: stores %d in word %d\n", value, word)
	}
}

/* DC CVAU and the barrier behind it. */
inline clean(word)
{
	d_step { unified[word] = stored[word]; printf("updater: word %d is clean\n", word) }
}

/* IC IVAU and the barrier behind it: one processor after the other, in any order. */
inline invalidate(word)
{
	do
	:: atomic { !(reached & 1) -> cached[OF(0, word)] = NONE; reached = reached | 1;
		    printf("updater: word %d is out of the cache of processor 0\n", word) }
#if NR > 1
	:: atomic { !(reached & 2) -> cached[OF(1, word)] = NONE; reached = reached | 2;
		    printf("updater: word %d is out of the cache of processor 1\n", word) }
#endif
	:: atomic { reached == BIT(NR) - 1 -> reached = 0; break }
	od
}

inline forget_fetched(cpu, word)
{
#ifdef DIC
	cached[OF(cpu, word)] = NONE;
#endif
	if
	:: cached[OF(cpu, word)] == NONE -> fetched[OF(cpu, word)] = 0
	:: else -> fetched[OF(cpu, word)] = BIT(cached[OF(cpu, word)])
	fi
}

inline synchronize(cpu)
{
	forget_fetched(cpu, SITE);
#ifdef FAR
	forget_fetched(cpu, VENEER);
#endif
	printf("updater: core sync of processor %d\n", cpu)
}

/* One processor after the other, in any order. With FAILURES it may end before it is done. */
inline core_sync()
{
	do
	:: atomic { !(reached & 1) -> synchronize(0); reached = reached | 1 }
#if NR > 1
	:: atomic { !(reached & 2) -> synchronize(1); reached = reached | 2 }
#endif
	:: atomic { reached == BIT(NR) - 1 -> reached = 0; break }
#ifdef FAILURES
	:: atomic { failures < 1 -> failures++; failed = true; reached = 0; printf("updater: the sync fails\n"); break }
#endif
	od
}

/* What has been stored becomes what is executed, with what the switches take out. */
inline make_visible(word)
{
#ifdef INVALIDATE_FIRST
	invalidate(word);
#endif
#ifdef SYNC_FIRST
	core_sync();
#endif
#ifndef NO_CLEAN
	clean(word);
#endif
#if !defined(NO_INVALIDATE) && !defined(INVALIDATE_FIRST)
	invalidate(word);
#endif
#if !defined(NO_SYNC) && !defined(SYNC_FIRST)
	core_sync();
#endif
	skip
}

/* A new veneer, before a branch leads to it. */
inline write_veneer()
{
	store(VENEER, C);
	clean(VENEER);
#ifndef NO_VENEER_INVALIDATE
	invalidate(VENEER);
#endif
#ifndef NO_VENEER_SYNC
	do
	:: core_sync();
	   if
	   :: failed -> failed = false
	   :: else -> break
	   fi
	od;
#endif
	skip
}

/* Any number of updates, each to any other target than the present one, at once or later, or no more ever. */
active proctype updater()
{
	byte reached, failures, was;
	bit failed;

next:
	atomic {
		may = BIT(new);
		failures = 0;
		was = new;
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
#ifdef FAR
	if
	:: new == C && stored[VENEER] != C -> write_veneer()
	:: else
	fi;
#endif
	store(SITE, new);
	make_visible(SITE);
	if
	:: failed -> /* back; the sync behind that goes through */
		atomic { failed = false; new = was }
		store(SITE, new);
		clean(SITE);
#ifndef NO_INVALIDATE_BACK
		invalidate(SITE);
#endif
#ifndef NO_SYNC_BACK
		core_sync();
#endif
		skip
	:: else
	fi;
	goto next;

no_more:
end:
	false
}

/* Dirty lines of data caches reach the point of unification at any time. */
active proctype memory()
{
end:
	do
	:: d_step { unified[SITE] != stored[SITE] -> unified[SITE] = stored[SITE]; printf("memory: the site is written back\n") }
#ifdef FAR
	:: d_step { unified[VENEER] != stored[VENEER] -> unified[VENEER] = stored[VENEER];
		    printf("memory: the veneer is written back\n") }
#endif
	od
}

/* A processor fetches words, ahead and for no reason too, and loses them from its cache at any time. */
inline fetch(word)
{
	if
	:: cached[OF(me, word)] == NONE -> cached[OF(me, word)] = unified[word]
	:: else
#ifdef DIC
		-> cached[OF(me, word)] = unified[word]
#endif
	fi;
	fetched[OF(me, word)] = fetched[OF(me, word)] | BIT(cached[OF(me, word)]);
	printf("processor %d: fetches %d of word %d\n", me, cached[OF(me, word)], word)
}

inline lose(word)
{
	cached[OF(me, word)] != NONE -> cached[OF(me, word)] = NONE
}

/* The assertions' words are what check.py looks for. */
active [NR] proctype processor()
{
	byte a;
	bit stale, unwritten, unpredictable;
	byte me = _pid - 2;

end:
	do
	:: atomic { true -> fetch(SITE) }
	:: atomic { lose(SITE) }
#ifdef FAR
	:: atomic { true -> fetch(VENEER) }
	:: atomic { lose(VENEER) }
#endif
	:: atomic {
		fetched[OF(me, SITE)] != 0 ->
		if
		:: fetched[OF(me, SITE)] & BIT(A) -> a = A
		:: fetched[OF(me, SITE)] & BIT(B) -> a = B
		:: fetched[OF(me, SITE)] & BIT(C) -> a = C
		fi;
		printf("processor %d: executes %d\n", me, a);
#ifdef NOT_LISTED
		/* C is none of the instructions that may be exchanged while they are executed. */
		unpredictable = (fetched[OF(me, SITE)] & BIT(C)) && (fetched[OF(me, SITE)] & (BIT(A) | BIT(B)));
		assert(!unpredictable);
#endif
#ifdef FAR
		unwritten = a == C && (fetched[OF(me, VENEER)] & BIT(JUNK));
		assert(!unwritten);
#endif
		stale = !(may & BIT(a));
		assert(!stale);
#ifdef ORDER
		/* No call that begins after one that had the new has the old. */
		if
		:: a == new -> may = BIT(new)
		:: else
		fi;
#endif
		a = 0
	   }
	od
}
