/* SPDX-License-Identifier: MIT */
/*
 * What to load into the registers, and in what two runs differ (regs.h). All
 * vector and floating-point state goes through xsave and xrstor in their standard
 * format: the layout of the first 576 bytes is fixed, cpuid has the rest.
 */
#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#include "regs.h"

/* State components by their number in xcr0. Tile data (AMX) need leave to be used. */
enum { X87, SSE, AVX, OPMASK = 5, ZMM_HIGH = 6, ZMM_MORE = 7, PKRU = 9, NR_COMPONENTS };
#define USED                                                                                  \
	(1u << X87 | 1u << SSE | 1u << AVX | 1u << OPMASK | 1u << ZMM_HIGH | 1u << ZMM_MORE | \
	 1u << PKRU)

/* Offsets in the fixed part. */
enum { FCW = 0, FSW = 2, FTW = 4, FOP = 6, FIP = 8, FDP = 16, MXCSR = 24, ST = 32, XMM = 160 };
enum { XMM_END = 416, HEADER = 512, HEADER_END = 576 };

static struct {
	unsigned offset, size; /* 0: the CPU has it not */
} component[NR_COMPONENTS];

/* The run's stack: room for the largest signal frame below, a little above. */
static _Alignas(64) uint64_t stack[64 * 1024 / 8];

#define FRAG(name) void frag_##name(void)
FRAG(call);
FRAG(tail);
FRAG(call_got);
FRAG(tail_got);
FRAG(jo);
FRAG(jno);
FRAG(jb);
FRAG(jae);
FRAG(je);
FRAG(jne);
FRAG(jbe);
FRAG(ja);
FRAG(js);
FRAG(jns);
FRAG(jp);
FRAG(jnp);
FRAG(jl);
FRAG(jge);
FRAG(jle);
FRAG(jg);

const struct regs_frag regs_frags[REGS_FRAGS] = {
	{"call", frag_call, true, false},
	{"jmp", frag_tail, false, false},
	{"call through the GOT", frag_call_got, true, false},
	{"jmp through the GOT", frag_tail_got, false, false},
	{"jo", frag_jo, false, true},
	{"jno", frag_jno, false, true},
	{"jb", frag_jb, false, true},
	{"jae", frag_jae, false, true},
	{"je", frag_je, false, true},
	{"jne", frag_jne, false, true},
	{"jbe", frag_jbe, false, true},
	{"ja", frag_ja, false, true},
	{"js", frag_js, false, true},
	{"jns", frag_jns, false, true},
	{"jp", frag_jp, false, true},
	{"jnp", frag_jnp, false, true},
	{"jl", frag_jl, false, true},
	{"jge", frag_jge, false, true},
	{"jle", frag_jle, false, true},
	{"jg", frag_jg, false, true},
};

static uint64_t xcr0(void)
{
	uint32_t low, high;

	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

bool regs_init(void)
{
	unsigned a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return false;
	regs_run.mask = xcr0() & USED;
	for (unsigned i = AVX; i < NR_COMPONENTS; i++) {
		if (!(regs_run.mask >> i & 1))
			continue;
		__cpuid_count(0xd, i, a, b, c, d);
		if (b + a > XSAVE_SIZE) {
			regs_run.mask &= ~((uint64_t)1 << i);
			continue;
		}
		component[i].offset = b;
		component[i].size = a;
	}
	return true;
}

/* ------------------------------------------------------------- what to load */

/* splitmix64: numbers without any structure, the same each time. */
static uint64_t scramble(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static void fill(void *to, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size; i++)
		((uint8_t *)to)[i] = (uint8_t)scramble(seed + i);
}

static void put16(unsigned offset, unsigned value)
{
	uint16_t v = (uint16_t)value;

	memcpy(regs_run.load + offset, &v, sizeof(v));
}

static void put32(unsigned offset, uint32_t value)
{
	memcpy(regs_run.load + offset, &value, sizeof(value));
}

static void put64(unsigned offset, uint64_t value)
{
	memcpy(regs_run.load + offset, &value, sizeof(value));
}

/*
 * Five values on the x87 stack (top is 3), condition codes, rounding up, double
 * precision, sticky exceptions; @pending: a division by zero is unmasked, and the
 * next x87 instruction would fault.
 */
static void load_x87(uint64_t seed, bool pending)
{
	put16(FCW, pending ? 0x0a7b : 0x0a7f);
	put16(FSW, pending ? 0xdda5 : 0x5d21);
	put16(FTW, 0xf8);
	put16(FOP, 0x0123);
	put64(FIP, 0x123456789abc);
	put64(FDP, 0x7edcba987654);
	for (unsigned i = 0; i < 8; i++) {
		put64(ST + 16 * i, scramble(seed + i) | (uint64_t)1 << 63);
		put16(ST + 16 * i + 8, 0x3ff0 + i);
	}
}

/* Rounding down, flush to zero, denormals are zero, sticky exceptions. */
static void load_mxcsr(bool pending)
{
	put32(MXCSR, pending ? 0xbdd5 : 0xbfd5);
}

static void load_vectors(uint64_t seed, bool pending)
{
	memset(regs_run.load, 0, sizeof(regs_run.load));
	load_x87(seed, pending);
	load_mxcsr(pending);
	fill(regs_run.load + XMM, XMM_END - XMM, seed + 100);
	for (unsigned i = AVX; i < PKRU; i++)
		fill(regs_run.load + component[i].offset, component[i].size, seed + 1000 * i);
	if (component[PKRU].size) {
		uint32_t pkru;

		/* Change the rights of key 15, which no page has. */
		__asm__ volatile("rdpkru" : "=a"(pkru) : "c"(0) : "edx");
		put32(component[PKRU].offset, pkru ^ (uint32_t)(1 + seed % 3) << 30);
	}
	put64(HEADER, regs_run.mask);
}

static uint64_t flags_of(unsigned pattern)
{
	enum { CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, DF = 0x400, OF = 0x800 };
	enum { AC = 1 << 18, ID = 1 << 21 };
	uint64_t flags = 0x202;

	flags |= pattern & 1 ? CF : 0;
	flags |= pattern & 2 ? PF : 0;
	flags |= pattern & 4 ? ZF : 0;
	flags |= pattern & 8 ? SF : 0;
	flags |= pattern & 16 ? OF : 0;
	/* These decide nothing, so each combination has to come up once or so. */
	flags |= (pattern ^ pattern >> 1) & 1 ? AF : 0;
	flags |= (pattern ^ pattern >> 2) & 1 ? DF : 0;
	flags |= (pattern ^ pattern >> 3) & 1 ? AC : 0;
	flags |= (pattern ^ pattern >> 4) & 1 ? ID : 0;
	return flags;
}

static void load(const struct regs_frag *frag, unsigned pattern, bool pending)
{
	uint64_t *sp = stack + sizeof(stack) / sizeof(stack[0]) - 64;
	static unsigned loaded = ~0u;

	fill(sp - RED_ZONE_WORDS, 8 * STACK_WORDS, pattern);
	sp[0] = (uint64_t)regs_end;
	regs_run.sp = (uint64_t)sp;
	regs_run.flags = flags_of(pattern);
	regs_run.frag = (uint64_t)frag->function;
	for (unsigned i = 0; i < NR_GPRS; i++)
		regs_run.gpr[i] = scramble(1000 * pattern + i);
	if (loaded != 2 * pattern + pending)
		load_vectors(10000 * (1 + pattern), pending);
	loaded = 2 * pattern + pending;
}

/*
 * The addresses of the last x87 instruction and of its operand. On a virtual machine with AMD's
 * CPUs a thread that has one of its exceptions pending loses the upper half of both now and then: 4
 * times in 300,000 rounds of xrstor64, some arithmetic and xsave64, in a program without any
 * signal. What has just its lower half is taken for what was loaded.
 */
static void restore_addresses(uint8_t *xsave)
{
	uint32_t *got, *loaded;

	for (unsigned at = FIP; at <= FDP; at += FDP - FIP) {
		got = (uint32_t *)(xsave + at);
		loaded = (uint32_t *)(regs_run.load + at);
		if (got[0] == loaded[0] && !got[1])
			got[1] = loaded[1];
	}
}

void regs_execute(const struct regs_frag *frag, unsigned pattern, bool pending,
		  struct regs_result *result)
{
	load(frag, pattern, pending);
	regs_run.target = 0;
	memset(&regs_run.at_target, 0, sizeof(regs_run.at_target));
	memset(&regs_run.at_end, 0, sizeof(regs_run.at_end));
	regs_go();
	result->at_target = regs_run.at_target;
	result->at_end = regs_run.at_end;
	result->target = regs_run.target;
	restore_addresses(result->at_target.xsave);
	restore_addresses(result->at_end.xsave);
}

/* -------------------------------------------------------------- differences */

static bool differ(const uint8_t *a, const uint8_t *b, unsigned from, unsigned to)
{
	return memcmp(a + from, b + from, to - from) != 0;
}

static bool component_differs(const uint8_t *a, const uint8_t *b, unsigned i)
{
	return differ(a, b, component[i].offset, component[i].offset + component[i].size);
}

static unsigned compare_vectors(const uint8_t *a, const uint8_t *b)
{
	unsigned diff = 0;

	diff |= differ(a, b, 0, MXCSR) || differ(a, b, ST, XMM) ? DIFF_X87 : 0;
	diff |= differ(a, b, MXCSR, ST) ? DIFF_MXCSR : 0;
	diff |= differ(a, b, XMM, XMM_END) ? DIFF_XMM : 0;
	diff |= differ(a, b, HEADER, HEADER_END) ? DIFF_HEADER : 0;
	diff |= component_differs(a, b, AVX) ? DIFF_YMM : 0;
	diff |= component_differs(a, b, OPMASK) ? DIFF_OPMASK : 0;
	diff |= component_differs(a, b, ZMM_HIGH) ? DIFF_ZMM : 0;
	diff |= component_differs(a, b, ZMM_MORE) ? DIFF_ZMM : 0;
	diff |= component_differs(a, b, PKRU) ? DIFF_PKRU : 0;
	return diff;
}

static unsigned compare_captures(const struct regs_capture *a, const struct regs_capture *b)
{
	const uint64_t *x = a->stack, *y = b->stack;
	unsigned diff = compare_vectors(a->xsave, b->xsave);

	diff |= memcmp(a->gpr, b->gpr, sizeof(a->gpr)) ? DIFF_GPR : 0;
	diff |= a->sp != b->sp ? DIFF_SP : 0;
	diff |= a->flags != b->flags ? DIFF_FLAGS : 0;
	diff |= a->times != b->times ? DIFF_PATH : 0;
	diff |= memcmp(x, y, 8 * RED_ZONE_WORDS) ? DIFF_RED_ZONE : 0;
	diff |= memcmp(x + RED_ZONE_WORDS, y + RED_ZONE_WORDS, 8 * (STACK_WORDS - RED_ZONE_WORDS))
			? DIFF_STACK
			: 0;
	/* Bytes that none of these has, if there are any. */
	if (!diff && memcmp(a, b, sizeof(*a)))
		diff = DIFF_HEADER;
	return diff;
}

unsigned regs_compare(const struct regs_result *a, const struct regs_result *b)
{
	return compare_captures(&a->at_target, &b->at_target) |
	       compare_captures(&a->at_end, &b->at_end) | (a->target != b->target ? DIFF_PATH : 0);
}

unsigned regs_compare_loaded(const struct regs_capture *result)
{
	const uint8_t *got = result->xsave, *want = regs_run.load;
	const uint64_t *sp = (const uint64_t *)regs_run.sp;
	unsigned diff;

	/*
	 * Where no exception is pending, AMD's CPUs forget the last instruction's
	 * address and opcode, and MXCSR_MASK is nothing that can be loaded.
	 */
	diff = compare_vectors(got, want) & ~(unsigned)(DIFF_X87 | DIFF_MXCSR);
	diff |= differ(got, want, FCW, FOP) || differ(got, want, ST, XMM) ? DIFF_X87 : 0;
	diff |= differ(got, want, MXCSR, MXCSR + 4) ? DIFF_MXCSR : 0;
	diff |= memcmp(result->gpr, regs_run.gpr, sizeof(result->gpr)) ? DIFF_GPR : 0;
	diff |= result->flags != regs_run.flags ? DIFF_FLAGS : 0;
	/* The word below sp is a call's; the rest of the stack nobody has written. */
	diff |= memcmp(result->stack, sp - RED_ZONE_WORDS, 8 * (RED_ZONE_WORDS - 1)) ? DIFF_RED_ZONE
										     : 0;
	diff |= memcmp(result->stack + RED_ZONE_WORDS, sp, 8 * (STACK_WORDS - RED_ZONE_WORDS))
			? DIFF_STACK
			: 0;
	return diff;
}

const char *regs_diff_text(unsigned diff)
{
	static const char *const names[] = {"registers", "flags", "sp",     "red zone", "stack",
					    "x87",       "mxcsr", "xmm",    "ymm",      "opmask",
					    "zmm",       "pkru",  "in use", "path"};
	static char text[256];
	size_t n = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (diff >> i & 1)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", n ? "+" : "",
					      names[i]);
	return text;
}

bool regs_has(unsigned diff)
{
	if (diff & DIFF_YMM)
		return component[AVX].size;
	if (diff & DIFF_OPMASK)
		return component[OPMASK].size;
	if (diff & DIFF_ZMM)
		return component[ZMM_MORE].size;
	return true;
}
