/* SPDX-License-Identifier: MIT */
/*
 * Emulation against the CPU: each instruction is really executed under the same
 * registers, and ip, sp, ax, flags and the whole stack must come out alike.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "arch/arch.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define FLAG_CF 0x001
#define FLAG_PF 0x004
#define FLAG_AF 0x010
#define FLAG_ZF 0x040
#define FLAG_SF 0x080
#define FLAG_DF 0x400
#define FLAG_OF 0x800

/* Bit 1 is always set, and user code cannot clear IF. */
#define FLAGS_FIXED 0x202

#define CODE_SIZE  0x10000
#define STACK_SIZE 0x1000

/* Where things stand in the code: the instruction, and places to jump to. */
#define HERE      0x8000
#define NEAR_BACK (HERE - 0x60)
#define NEAR      (HERE + 0x60)
#define FAR_BACK  0x40
#define FAR       (CODE_SIZE - 0x40)

/* From emulate_exec.S. */
void emulate_exec(struct shunt_regs *regs);
void emulate_landed(void);
bool emulate_jcc(unsigned cc, uintptr_t flags);

typedef bool condition_fn(unsigned cc, uintptr_t flags);
typedef bool emulate_fn(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn);

static uint8_t *code;  /* written first, executed then, never both at a time */
static uint8_t *slots; /* data within reach of the code */
static uint8_t *stack;
static unsigned long checks;

/* The 128 combinations of the flags that matter, and DF. */
static uintptr_t flags_of(unsigned n)
{
	static const uint16_t bits[] = {FLAG_CF, FLAG_PF, FLAG_AF, FLAG_ZF,
					FLAG_SF, FLAG_OF, FLAG_DF};
	uintptr_t flags = FLAGS_FIXED;

	for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
		if (n >> i & 1)
			flags |= bits[i];
	return flags;
}

#define FLAG_COMBINATIONS 128

static uintptr_t code_at(size_t offset)
{
	return (uintptr_t)code + offset;
}

/* A landing pad: lea -7(%rip),%r11; jmp *0(%rip); .quad emulate_landed */
static void put_pad(size_t offset)
{
	static const uint8_t pad[] = {0x4c, 0x8d, 0x1d, 0xf9, 0xff, 0xff, 0xff,
				      0xff, 0x25, 0,    0,    0,    0};
	uintptr_t landed = (uintptr_t)emulate_landed;

	memcpy(code + offset, pad, sizeof(pad));
	memcpy(code + offset + sizeof(pad), &landed, sizeof(landed));
}

/* The instruction at HERE, pads behind it and wherever it may go, traps else. */
static void put_code(const struct shunt_insn *insn)
{
	assert_int_equal(mprotect(code, CODE_SIZE, PROT_READ | PROT_WRITE), 0);
	memset(code, SHUNT_INT3, CODE_SIZE);
	put_pad(NEAR_BACK);
	put_pad(NEAR);
	put_pad(FAR_BACK);
	put_pad(FAR);
	put_pad(HERE + insn->len);
	assert_int_equal(shunt_insn_encode(insn, code_at(HERE), code + HERE), insn->len);
	assert_int_equal(mprotect(code, CODE_SIZE, PROT_READ | PROT_EXEC), 0);
}

static void put_word(uint8_t *at, uintptr_t value)
{
	memcpy(at, &value, sizeof(value));
}

/* A stack in which every byte is recognisable. */
static void fresh_stack(void)
{
	for (size_t i = 0; i < STACK_SIZE; i++)
		stack[i] = (uint8_t)(i * 167 + (i >> 8));
}

/*
 * How @emulate differs from the CPU for @insn, which put_code wrote, under
 * @regs and the present stack; NULL where it does not.
 */
static const char *disagreement(emulate_fn *emulate, const struct shunt_insn *insn,
				const struct shunt_regs *regs)
{
	static uint8_t before[STACK_SIZE], real_stack[STACK_SIZE];
	struct shunt_regs real = *regs, soft = *regs;
	/* What xor and test do to AF is not defined; that emulation leaves it is. */
	uintptr_t defined = insn->op == SHUNT_OP_RET0 || insn->op == SHUNT_OP_TEST
				    ? ~(uintptr_t)FLAG_AF
				    : UINTPTR_MAX;

	checks++;
	memcpy(before, stack, STACK_SIZE);
	real.ip = code_at(HERE);
	emulate_exec(&real);
	memcpy(real_stack, stack, STACK_SIZE);
	memcpy(stack, before, STACK_SIZE);

	soft.ip = 0x5ca1ab1e; /* ignored on the way in */
	if (!emulate(&soft, code_at(HERE), insn))
		return "not emulated";
	if (soft.ip != real.ip)
		return "ip";
	if (soft.sp != real.sp)
		return "sp";
	if (soft.ax != real.ax)
		return "ax";
	if ((soft.flags ^ real.flags) & defined)
		return "flags";
	if ((soft.flags ^ regs->flags) & ~defined)
		return "AF";
	if (memcmp(stack, real_stack, STACK_SIZE) != 0)
		return "stack";
	return NULL;
}

/* Under all flags, with @top on the stack, at a stack pointer of any alignment. */
static void expect_agrees(const struct shunt_insn *insn, uintptr_t top)
{
	put_code(insn);
	for (unsigned n = 0; n < FLAG_COMBINATIONS; n++)
		for (size_t skew = 0; skew < 8; skew++) {
			uint8_t *sp = stack + STACK_SIZE / 2 + skew;
			struct shunt_regs regs = {.sp = (uintptr_t)sp,
						  .flags = flags_of(n),
						  .ax = 0xdeadbeefcafef00d};
			const char *why;

			fresh_stack();
			put_word(sp, top);
			why = disagreement(shunt_emulate, insn, &regs);
			if (why)
				fail_msg("op %u len %u cc %u flags %#lx: %s differs", insn->op,
					 insn->len, insn->cc, regs.flags, why);
		}
}

static unsigned wrong_conditions(condition_fn *condition, unsigned cc)
{
	unsigned wrong = 0;

	for (unsigned n = 0; n < FLAG_COMBINATIONS; n++) {
		checks++;
		if (condition(cc, flags_of(n)) != emulate_jcc(cc, flags_of(n)))
			wrong++;
	}
	return wrong;
}

static void conditions(void **state)
{
	(void)state;
	for (unsigned cc = 0; cc < 16; cc++)
		assert_int_equal(wrong_conditions(shunt_emulate_cc, cc), 0);
}

/* What Linux had until 8924779df820: "less and equal" for "less or equal". */
static bool condition_with_the_bug(unsigned cc, uintptr_t flags)
{
	bool less = !(flags & FLAG_SF) != !(flags & FLAG_OF);

	if (cc < 14)
		return shunt_emulate_cc(cc, flags);
	return (less && (flags & FLAG_ZF)) != (cc & 1);
}

/* Negative control: wrong in le and nle wherever one of the two holds alone. */
static void jle_bug_is_seen(void **state)
{
	(void)state;
	for (unsigned cc = 0; cc < 16; cc++)
		assert_int_equal(wrong_conditions(condition_with_the_bug, cc),
				 cc < 14 ? 0 : FLAG_COMBINATIONS / 2);
}

static void jumps(void **state)
{
	static const struct {
		uint8_t op, len;
		uint16_t target;
	} cases[] = {
		{SHUNT_OP_JMP, 2, NEAR},      {SHUNT_OP_JMP, 2, NEAR_BACK},
		{SHUNT_OP_JMP, 5, FAR},       {SHUNT_OP_JMP, 5, FAR_BACK},
		{SHUNT_OP_JCC, 2, NEAR},      {SHUNT_OP_JCC, 2, NEAR_BACK},
		{SHUNT_OP_JCC, 6, FAR},       {SHUNT_OP_JCC, 6, FAR_BACK},
		{SHUNT_OP_CALL, 5, FAR},      {SHUNT_OP_CALL, 5, FAR_BACK},
		{SHUNT_OP_CALL, 6, FAR},      {SHUNT_OP_CALL, 6, FAR_BACK},
		{SHUNT_OP_JMP, 2, HERE + 2},  {SHUNT_OP_JMP, 5, HERE + 5},
		{SHUNT_OP_CALL, 5, HERE + 5},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct shunt_insn insn = {
			.op = cases[i].op, .len = cases[i].len, .target = code_at(cases[i].target)};

		do
			expect_agrees(&insn, 0);
		while (insn.op == SHUNT_OP_JCC && ++insn.cc < 16);
	}
}

static void through_a_slot(void **state)
{
	struct shunt_insn insn = {.len = 6};

	(void)state;
	for (size_t skew = 0; skew < 8; skew++) {
		insn.target = (uintptr_t)slots + skew;
		insn.op = SHUNT_OP_CALL_MEM;
		put_word(slots + skew, code_at(FAR));
		expect_agrees(&insn, 0);
		insn.op = SHUNT_OP_JMP_MEM;
		put_word(slots + skew, code_at(FAR_BACK));
		expect_agrees(&insn, 0);
	}
}

/* The call's own push lands on the slot: what was there before is what counts. */
static void push_onto_the_slot(void **state)
{
	uint8_t *slot = stack + STACK_SIZE / 2;
	struct shunt_insn insn = {.op = SHUNT_OP_CALL_MEM, .len = 6, .target = (uintptr_t)slot};
	struct shunt_regs regs = {.flags = FLAGS_FIXED};

	(void)state;
	put_code(&insn);
	for (size_t overlap = 0; overlap <= 16; overlap++) {
		fresh_stack();
		put_word(slot, code_at(FAR));
		regs.sp = (uintptr_t)slot + overlap;
		assert_null(disagreement(shunt_emulate, &insn, &regs));
	}
}

static void returns(void **state)
{
	struct shunt_insn insn = {.op = SHUNT_OP_RET};

	(void)state;
	for (insn.len = 1; insn.len <= SHUNT_INSN_MAX; insn.len++) {
		expect_agrees(&insn, code_at(FAR));
		expect_agrees(&insn, code_at(NEAR_BACK));
	}
}

static void straight_on(void **state)
{
	struct shunt_insn insn = {.op = SHUNT_OP_NOP};

	(void)state;
	for (insn.len = 1; insn.len <= SHUNT_INSN_MAX; insn.len++)
		expect_agrees(&insn, 0);
	insn.op = SHUNT_OP_RET0;
	for (insn.len = 5; insn.len <= 6; insn.len++)
		expect_agrees(&insn, 0);
}

/* Each combination of the flags that the result decides, in al and in eax, next to others. */
static void tests_of_ax(void **state)
{
	static const uint32_t masks[] = {0,        1,          3,          0x80,       0x7f,
					 0xff,     0xf0,       0x100,      0x80000000, 0x80000001,
					 0x800000, 0x7fffff00, 0xffffffff, 0x13579bdf, 0x80};
	static const uintptr_t values[] = {
		0, 1, 0xff, 0xdeadbeefcafef00d, 0xffffffff00000000, 0x80000080, UINTPTR_MAX};
	struct shunt_insn insn = {.op = SHUNT_OP_TEST};

	(void)state;
	for (size_t m = 0; m < 2 * ARRAY_SIZE(masks); m++) {
		uint32_t mask = masks[m / 2];

		insn.len = m % 2 ? 5 : 2;
		insn.target = code_at(HERE) + insn.len +
			      (uintptr_t)(m % 2 ? (int32_t)mask : (int8_t)mask);
		put_code(&insn);
		for (size_t v = 0; v < ARRAY_SIZE(values) * FLAG_COMBINATIONS; v++) {
			struct shunt_regs regs = {.sp = (uintptr_t)stack + STACK_SIZE / 2,
						  .flags = flags_of(v % FLAG_COMBINATIONS),
						  .ax = values[v / FLAG_COMBINATIONS]};
			const char *why;

			fresh_stack();
			why = disagreement(shunt_emulate, &insn, &regs);
			if (why)
				fail_msg("test of %lx with %x in %u bytes: %s differs", regs.ax,
					 mask, insn.len, why);
		}
	}
}

/* A ret that keeps the displacement of a jmp. */
static void returns_of_a_jmp(void **state)
{
	struct shunt_insn insn = {.op = SHUNT_OP_RET, .len = 5, .target = code_at(NEAR)};

	(void)state;
	expect_agrees(&insn, code_at(FAR));
}

static void not_emulated(void **state)
{
	const struct shunt_regs regs = {.ip = 1, .sp = 2, .flags = 3, .ax = 4};

	(void)state;
	for (unsigned op = 0; op < 256; op++) {
		struct shunt_insn insn = {.op = (uint8_t)op, .len = 1};
		struct shunt_regs out = regs;

		if (op != SHUNT_OP_NONE && op != SHUNT_OP_INT3 && op <= SHUNT_OP_TEST)
			continue;
		checks++;
		assert_false(shunt_emulate(&out, 0x1000, &insn));
		assert_memory_equal(&out, &regs, sizeof(regs));
	}
}

/* Emulators for the negative control, each with one fault. */
static bool wrong_ip(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn)
{
	bool known = shunt_emulate(regs, ip, insn);

	regs->ip++;
	return known;
}

static bool wrong_sp(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn)
{
	bool known = shunt_emulate(regs, ip, insn);

	regs->sp -= 8;
	return known;
}

static bool wrong_ax(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn)
{
	bool known = shunt_emulate(regs, ip, insn);

	regs->ax ^= (uintptr_t)1 << 63;
	return known;
}

static bool wrong_flag(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn)
{
	bool known = shunt_emulate(regs, ip, insn);

	regs->flags ^= FLAG_PF;
	return known;
}

static bool wrong_af(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn)
{
	bool known = shunt_emulate(regs, ip, insn);

	regs->flags ^= FLAG_AF;
	return known;
}

/* Pushes the address of the call, not the one behind it. */
static bool wrong_push(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn)
{
	bool known = shunt_emulate(regs, ip, insn);

	put_word((uint8_t *)regs->sp, ip);
	return known;
}

/* One byte below what the CPU writes: the red zone, say. */
static bool wrong_store(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn)
{
	bool known = shunt_emulate(regs, ip, insn);

	*(uint8_t *)(regs->sp - 1) ^= 1;
	return known;
}

static bool refuses(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn)
{
	(void)regs;
	(void)ip;
	(void)insn;
	return false;
}

static void faults_are_seen(void **state)
{
	static const struct {
		uint8_t op, len;
		emulate_fn *emulate;
		const char *why;
	} cases[] = {
		{SHUNT_OP_CALL, 5, shunt_emulate, NULL},
		{SHUNT_OP_CALL, 5, wrong_ip, "ip"},
		{SHUNT_OP_CALL, 5, wrong_sp, "sp"},
		{SHUNT_OP_CALL, 5, wrong_ax, "ax"},
		{SHUNT_OP_CALL, 5, wrong_flag, "flags"},
		{SHUNT_OP_CALL, 5, wrong_af, "flags"},
		{SHUNT_OP_CALL, 5, wrong_push, "stack"},
		{SHUNT_OP_CALL, 5, wrong_store, "stack"},
		{SHUNT_OP_CALL, 5, refuses, "not emulated"},
		{SHUNT_OP_RET0, 5, shunt_emulate, NULL},
		{SHUNT_OP_RET0, 5, wrong_ax, "ax"},
		{SHUNT_OP_RET0, 5, wrong_flag, "flags"},
		{SHUNT_OP_RET0, 5, wrong_af, "AF"},
		{SHUNT_OP_TEST, 5, shunt_emulate, NULL},
		{SHUNT_OP_TEST, 5, wrong_ax, "ax"},
		{SHUNT_OP_TEST, 5, wrong_flag, "flags"},
		{SHUNT_OP_TEST, 5, wrong_af, "AF"},
		{SHUNT_OP_TEST, 5, wrong_ip, "ip"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct shunt_insn insn = {
			.op = cases[i].op, .len = cases[i].len, .target = code_at(FAR)};
		struct shunt_regs regs = {.sp = (uintptr_t)stack + STACK_SIZE / 2,
					  .flags = FLAGS_FIXED | FLAG_CF};
		const char *why;

		put_code(&insn);
		fresh_stack();
		why = disagreement(cases[i].emulate, &insn, &regs);
		if (cases[i].why)
			assert_string_equal(why ? why : "nothing", cases[i].why);
		else
			assert_null(why);
	}
}

static int setup(void **state)
{
	uint8_t *area = mmap(NULL, CODE_SIZE + 2 * STACK_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	if (area == MAP_FAILED)
		return -1;
	code = area;
	slots = area + CODE_SIZE;
	stack = slots + STACK_SIZE;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	print_message("%lu checks\n", checks);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conditions),
		cmocka_unit_test(jle_bug_is_seen),
		cmocka_unit_test(jumps),
		cmocka_unit_test(through_a_slot),
		cmocka_unit_test(push_onto_the_slot),
		cmocka_unit_test(returns),
		cmocka_unit_test(straight_on),
		cmocka_unit_test(tests_of_ax),
		cmocka_unit_test(returns_of_a_jmp),
		cmocka_unit_test(not_emulated),
		cmocka_unit_test(faults_are_seen),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
