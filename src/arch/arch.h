/* SPDX-License-Identifier: MIT */
/*
 * What the core asks of a CPU. The core calls nothing else of it, and a folder of src/arch
 * (x86_64) defines it: which instructions a site can hold, as bytes and in software.
 *
 * All of it is without state: any thread, the trap handler too; no lock, no allocation.
 */
#ifndef SHUNT_ARCH_H
#define SHUNT_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shunt/port.h>

/* The longest form that encode writes, of any CPU, bytes: x86-64's nop of 9. */
#define SHUNT_INSN_MAX 9

enum shunt_op {
	SHUNT_OP_NONE = 0, /* not an instruction that Shunt knows */
	SHUNT_OP_CALL,     /* call rel32: 5 bytes, or 6 with an address-size prefix */
	SHUNT_OP_JMP,      /* jmp rel32 (5) or rel8 (2) */
	SHUNT_OP_JCC,      /* jcc rel32 (6) or rel8 (2) */
	SHUNT_OP_RET,      /* ret (1), filled up to the site's length; see @target */
	SHUNT_OP_NOP,      /* the recommended nop of 1 to 9 bytes */
	SHUNT_OP_INT3,     /* int3 (1) */
	SHUNT_OP_RET0,     /* xor %eax,%eax as one instruction of 5 or 6 bytes */
	SHUNT_OP_CALL_MEM, /* call *disp32(%rip) (6); target: address of the slot */
	SHUNT_OP_JMP_MEM,  /* jmp *disp32(%rip) (6); target: address of the slot */
	SHUNT_OP_TEST,     /* test $imm,%eax (5) or %al (2): the off form of a call or jmp */
	SHUNT_NR_OPS,      /* a new one goes before: tests/unit/test_forms.c says what it needs */
};

struct shunt_insn {
	uint8_t op;  /* enum shunt_op */
	uint8_t len; /* bytes, 1 to SHUNT_INSN_MAX; decoded: to SHUNT_INSN_LONGEST */
	uint8_t cc;  /* SHUNT_OP_JCC: the condition, 0 to 15, as in the opcode */
	/*
	 * call, jmp, jcc: where to; *_MEM: the slot's address. test: where the call or jmp leads
	 * whose displacement is its immediate. ret of 5 bytes: where the jmp leads whose
	 * displacement is kept behind it; 0: none, and int3 fill it up. Decoded it is 0.
	 */
	uintptr_t target;
};

/*
 * Write @insn as it stands at address @ip into @buf.
 *
 * @insn.len chooses the form where there are several: call 5 or 6, jmp 2 or 5,
 * jcc 2 or 6, test 2 or 5, ret 1 to 9, nop 1 to 9, RET0 5 or 6; all others have one length.
 *
 * Returns the length in bytes (= insn->len), -ERANGE where the target is out of
 * the form's reach, -EINVAL where there is no such form. @buf is then untouched.
 */
int shunt_insn_encode(const struct shunt_insn *insn, uintptr_t ip, uint8_t buf[SHUNT_INSN_MAX]);

/*
 * The same for the @len bytes of a site, of which @insn may leave some over: nops.
 * Returns 0, or as above with @bytes untouched. @len is at most SHUNT_INSN_MAX.
 */
int shunt_insn_encode_site(const struct shunt_insn *insn, uintptr_t ip, unsigned len,
			   uint8_t *bytes);

/*
 * Read one instruction of at most @len bytes at @buf, as it stands at @ip.
 *
 * Knows the forms that encode writes, and what does the same as one of them: nop (90, and
 * 0f 1f /0 with any operand) with any number of prefixes 66 and of segments, up to
 * SHUNT_INSN_LONGEST bytes; xor %eax,%eax (31 or 33) with any number of segment prefixes; rep ret.
 * Not pause (f3 90). `ret` and the fill behind it are two instructions to it (ret, len 1).
 * Returns the length in bytes, or -EINVAL with @out->op = SHUNT_OP_NONE where it is
 * something else or is cut off.
 */
int shunt_insn_decode(const uint8_t *buf, size_t len, uintptr_t ip, struct shunt_insn *out);

/* Whether a rel32 in an instruction that ends at @next reaches @target. */
bool shunt_insn_reach(uintptr_t next, uintptr_t target);

/*
 * A call or jmp of @target at @ip, or their off form (@op is TEST), of SHUNT_PLAIN_LEN bytes;
 * false: out of reach. In line.
 */
static inline bool shunt_insn_plain(unsigned op, uintptr_t target, uintptr_t ip, uint8_t *bytes);

/*
 * Execute @insn, which stands at @ip, on @regs (whose own ip is ignored on the
 * way in). The only memory touched is the stack word that a call writes or a ret reads, and
 * the slot of a *_MEM. The word below sp must be writable for a call, as it must be for the
 * instruction itself; the caller has made room for it (a red zone, a gap).
 *
 * Returns false, with @regs unchanged, for an op that has no emulation (int3,
 * none). After int3_emulate_*() of Linux's asm/text-patching.h.
 */
bool shunt_emulate(struct shunt_regs *regs, uintptr_t ip, const struct shunt_insn *insn);

/* Whether condition @cc (0 to 15, as in a jcc opcode) holds under @flags. */
bool shunt_emulate_cc(unsigned cc, uintptr_t flags);

/*
 * The entry of a function, as a compiler leaves it in a file's text (linux/entry/find_tables.c).
 * Landing pad: SHUNT_LANDING_PAD, the length of the instruction at @code that an indirect call may
 * lead to; 0: there is none. Room: how the @len bytes at @code, where @ip is, can be poked: *room,
 * and *prepare (enum shunt_entry_prepare); or the reason why not. Sled: the same of XRay's
 * (@is_exit: of a ret). Is empty: it does nothing but return.
 */
unsigned shunt_landing_pad_len(const uint8_t *code, size_t len);
const char *shunt_entry_room(const uint8_t *code, size_t len, uintptr_t ip, uint8_t *room,
			     uint8_t *prepare);
const char *shunt_sled_room(const uint8_t *code, size_t len, bool is_exit, uint8_t *room,
			    uint8_t *prepare);
bool shunt_is_empty_function(const uint8_t *code, size_t len);

/*
 * An entry whose @prepare (enum shunt_entry_prepare) is not SHUNT_READY is made one instruction of
 * SHUNT_PLAIN_LEN bytes or more, with bytes behind it that a stub can return to, by two pokes
 * (core/ftrace_prepare.c). Head: of the entry at @ip, at which @old stands now, as in its text.
 * Tail: behind that of SHUNT_PLAIN_LEN bytes, where the entry is @old; nothing leads there. No
 * thread can tell what either changes, wherever it stands, but for SHUNT_SINGLE_NOPS, between which
 * none may stand afterwards (shunt_port_leave_nops()).
 *
 * Each returns how many bytes are to be changed, the new ones in @bytes; 0: nothing is, which is
 * so behind that poke, too; head: -EBUSY where another instruction stands at @ip.
 */
int shunt_prepare_head(unsigned prepare, const uint8_t *old, uintptr_t ip,
		       uint8_t bytes[SHUNT_INSN_MAX]);
int shunt_prepare_tail(unsigned prepare, const uint8_t *old, uint8_t bytes[SHUNT_INSN_MAX]);

/*
 * Calls of handlers that a compiler has written, of which no table knows
 * (linux/entry/find_calls.c). A CPU on which such entries are not traced defines none of the four,
 * and has linux/entry/find_no_calls.c.
 *
 * Operand: the first field of the @size bytes of text at @code, which stand at @vaddr, at the
 * offset *at or behind it, that would lead a call or jmp to @low, or up to @span bytes behind it:
 * its offset in *at, and where it leads in *to. False: there is none.
 */
bool shunt_operand_next(const uint8_t *code, uint64_t size, uint64_t vaddr, uint64_t low,
			uint64_t span, uint64_t *at, uint64_t *to);

/* A call or jmp: its first byte's distance from its operand, and its bytes. */
struct shunt_operand_insn {
	uint8_t before, len;
	bool jumps;
};

/*
 * The instruction that the operand at @field is of, before which there are @before bytes of text, 1
 * or more: a call or jmp of what it leads to; @is_slot: through it. False: it is of no such one.
 */
bool shunt_operand_insn(const uint8_t *field, uint64_t before, bool is_slot,
			struct shunt_operand_insn *insn);

/*
 * Whether the instruction at @code, where @vaddr is, which has @room bytes at most, sets register
 * number @reg, by the CPU's own numbers, to an address that is in it: *value. And whether it
 * sets SHUNT_ARGUMENT, the register of a function's first argument, to what another has: *reg.
 */
bool shunt_sets_address(const uint8_t *code, uint64_t room, uint64_t vaddr, unsigned reg,
			uint64_t *value);
bool shunt_sets_argument(const uint8_t *code, uint64_t room, unsigned *reg);

/*
 * Where another function can be put in the place of the empty one at @func while threads run: the
 * addresses of instructions of SHUNT_PLAIN_LEN bytes that are to become *op with the other one as
 * its target; at most @max, sorted. [@start, @end) is the text of its module, readable, with all
 * its calls. 0: it is not as expected.
 */
size_t shunt_empty_function_sites(uintptr_t func, uintptr_t start, uintptr_t end, uintptr_t *sites,
				  size_t max, uint8_t *op);
/* Where others have done that: the address number @i that their instructions lead to; 0: no more.
 */
uintptr_t shunt_replaced_function(uintptr_t func, uintptr_t start, uintptr_t end, size_t i);

struct ftrace_regs;

/*
 * Of a stub that function tracing has called: enum shunt_entry_form; and the callback's parent_ip:
 * the word that the function returns by, or, where the stub was called as an instrumented
 * function's tracer is, what that was told.
 */
unsigned shunt_regs_form(const struct ftrace_regs *regs);
uintptr_t shunt_regs_parent(const struct ftrace_regs *regs);
/*
 * What ftrace_regs_get_instruction_pointer() and _stack_pointer() say, for the library: a call of
 * an exported function goes through the PLT, from which no unwinder finds the way on aarch64.
 */
uintptr_t shunt_regs_ip(const struct ftrace_regs *regs);
uintptr_t shunt_regs_stack(const struct ftrace_regs *regs);

/* Before the first stub is called that saves vector registers: how many there are. */
void shunt_ask_vectors(void);

/*
 * ftrace_regs.h of the folder has the structure, and in line:
 *
 *	shunt_regs_return_word(regs)  where the address is that the function returns by
 *	shunt_regs_sp(regs)           the stack pointer at its entry and at its return, by
 *	                              which these know each other
 *	shunt_regs_returned_sp(regs)  FTRACE_FORM_STUB: the same
 *	shunt_regs_stub(regs)         FTRACE_FORM_STUB: the return stub that it has come by
 *	shunt_regs_function(regs)     FORM_CALL and the like: what the tracer is told of the
 *	shunt_regs_site(regs)         function, and of where it returns to
 *	shunt_is_returned_by(word, at, sp)  whether the function whose stack pointer was @at when
 *	                              it was entered returns by @word still, as far as its stack
 *	                              from @sp on tells, which is on the same page
 *	FTRACE_RETURN_STUBS           bytes of all return stubs
 *	FTRACE_RETURN_STUB_BITS       log2 of those of one
 */

/*
 * plain.h of the folder has besides, as constants and in line:
 *
 *	SHUNT_PLAIN_LEN     bytes of a call and of a jmp
 *	SHUNT_INSN_ALIGN    what addresses and lengths of instructions are multiples of
 *	SHUNT_INSN_LONGEST  the longest instruction of the CPU, bytes
 *	SHUNT_SITE_LENGTHS  the length of a site of each kind (enum shunt_site_kind), four
 *	                    bits each
 *	SHUNT_TRAMP_SIZE    bytes of the trampoline of a static call
 *	SHUNT_TRAMP_FIRST   and its first byte
 *	SHUNT_REACH         how far a call or jmp reaches, bytes, either way, with some to
 *	                    spare
 *	SHUNT_REACH_NAME    the same for a message
 *	SHUNT_HAS_TRAPS     1: a site goes by traps where it must (SHUNT_WAY_INT3); 0:
 *	                    never: every change is a flip, and shunt_emulate() emulates
 *	                    nothing
 *	SHUNT_INT3          the one byte that traps, with the address behind it
 *	SHUNT_FLIP_LEN      bytes that a flip writes, by one store
 *	SHUNT_OFF_CALL      what a call becomes that is off and keeps its target;
 *	                    SHUNT_OP_NOP: it does not keep it
 *	SHUNT_OFF_TAIL      the same of a tail call; SHUNT_OP_JMP: it jumps to what returns
 *	                    at once
 *	SHUNT_RET0_CALL     what the call of a function becomes that returns 0;
 *	                    SHUNT_OP_CALL: it stays one
 *	SHUNT_ADDRESS_BITS  of the addresses that a program has, unless it asks for others
 *	SHUNT_LANDING_PAD   bytes of the instruction that an indirect call may lead to
 *	SHUNT_VARIANT_CALLS bits of st_other of a function whose arguments, or what it keeps, are in
 *	                    registers that entry stubs do not save; 0: there are none
 *	SHUNT_VARIANT_REASON
 *	                    why it is not traced
 *	SHUNT_ENTRY_OP      what an entry becomes that is traced: CALL of a stub; JMP to one
 *	SHUNT_HAS_ENTRY_STUBS
 *	                    1: that is of its own (shunt_port_entry_stub()); it has no slots, and
 *	                    off is as the compiler left it; 0: all entries share a few
 *	shunt_entry_fill()  what is left of an entry that calls a stub, or has done and is off
 *	shunt_entry_is_off()
 *	                    whether the bytes of an entry are what that leaves of a call that
 *	                    is off, or what shunt_prepare_head() makes of SHUNT_SINGLE_NOPS;
 *	                    false where off is as the compiler left it
 *	shunt_entry_is_jumped()
 *	                    whether they jump over what is behind them: what
 *	                    shunt_prepare_head() makes of SHUNT_LONG_NOP, and a SHUNT_XRAY_HEAD
 *	SHUNT_ARGUMENT      the number of the register of a function's first argument, where
 *	                    shunt_sets_address() is defined
 *	shunt_address_of()  an address from its lower 48 bits
 *	shunt_is_flip()     whether CPUs that run a site meanwhile execute its old or its
 *	                    new bytes, and nothing else, if they are written by one store of
 *	                    SHUNT_FLIP_LEN
 */
/* SHUNT_CPU_*: the program is for another CPU, and has this folder too (foreign.h). */
#if defined(SHUNT_CPU_X86_64) || (defined(__x86_64__) && !defined(SHUNT_CPU_AARCH64))
#include "arch/x86_64/ftrace_regs.h"
#include "arch/x86_64/plain.h"
#elif defined(SHUNT_CPU_AARCH64) || defined(__aarch64__)
#include "arch/aarch64/ftrace_regs.h"
#include "arch/aarch64/plain.h"
#else
#error "no such folder in src/arch: see doc/porting.md"
#endif

/* Where the return stubs are, and the return addresses that they stand for; 0: there are none yet.
 */
struct shunt_return_range {
	uintptr_t stubs;
	const uintptr_t *slots;
};
extern struct shunt_return_range shunt_return_range;

/* The callers that a function has whose return address is @addr, which may be a stub. */
static inline uintptr_t shunt_return_parent(uintptr_t addr)
{
	uintptr_t at = addr - shunt_return_range.stubs;

	if (at >= FTRACE_RETURN_STUBS || !shunt_return_range.stubs)
		return addr;
	return ((const volatile uintptr_t *)
			shunt_return_range.slots)[at >> FTRACE_RETURN_STUB_BITS];
}

#endif
