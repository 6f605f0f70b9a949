/* SPDX-License-Identifier: MIT */
/*
 * Calls of __fentry__ (-pg -mfentry), and of the handlers of -finstrument-functions. Linkers drop
 * their relocations, so the text is searched for operands that lead to the handler, to an entry
 * of the PLT that jumps there, or to its GOT slot: that four bytes do by chance, behind the
 * opcode of a call, is likely once in 2^40 bytes.
 *
 *	call handler, call handler@plt		e8; ld.bfd makes 67 e8 of the next one
 *	call *handler@GOTPCREL(%rip)		ff 15: -fno-plt, and -fPIC with -mfentry
 *	jmp handler@plt, jmp *handler@...	e9, ff 25: the exit's, a tail call
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "linux/elf/elf_read.h"
#include "linux/entry/finder.h"

/* What an operand can lead to. */
struct target {
	uint64_t addr;
	uint8_t handler;
	bool is_slot;
};

#define MAX_TARGETS 48
#define MAX_PLTS    8

struct search {
	struct shunt_find *f;
	struct target targets[MAX_TARGETS];
	unsigned n;
	uint64_t low, span; /* of their addresses */
	struct shunt_find_text plts[MAX_PLTS];
	unsigned nr_plts;
	const char *why[SHUNT_HANDLERS]; /* its calls are not to be touched */
};

static void add_target(struct search *s, uint64_t addr, unsigned handler, bool is_slot)
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->targets[i].addr == addr)
			return;
	if (s->n < MAX_TARGETS)
		s->targets[s->n++] = (struct target){addr, (uint8_t)handler, is_slot};
}

static void set_bounds(struct search *s)
{
	uint64_t high = 0;

	s->low = UINT64_MAX;
	for (unsigned i = 0; i < s->n; i++) {
		if (s->targets[i].addr < s->low)
			s->low = s->targets[i].addr;
		if (s->targets[i].addr > high)
			high = s->targets[i].addr;
	}
	s->span = high - s->low;
}

/* A field of four bytes that leads to a target; @before: bytes of text before it. */
struct operand {
	uint64_t field;
	const uint8_t *code;
	uint64_t before;
	const struct target *target;
};

/* Call @visit for each in @text. (It may add targets, for the next walk.) */
static void for_each_operand(struct search *s, const struct shunt_find_text *text,
			     void (*visit)(struct search *s, const struct operand *operand))
{
	const unsigned n = s->n;

	for (uint64_t at = 1; n && at + 4 <= text->size; at++) {
		uint64_t to;
		int32_t rel;

		memcpy(&rel, text->bytes + at, sizeof(rel));
		to = text->vaddr + at + 4 + (uint64_t)(int64_t)rel;
		if (to - s->low > s->span)
			continue;
		for (unsigned i = 0; i < n; i++) {
			const struct operand operand = {text->vaddr + at, text->bytes + at, at,
							&s->targets[i]};

			if (s->targets[i].addr == to)
				visit(s, &operand);
		}
	}
}

/* ---------------------------------------------------------------------- targets */

/* An entry of the PLT may begin with some bytes before its jmp: shunt_elf_plt_slot(). */
static void add_plt(struct search *s, const struct operand *o)
{
	static const uint8_t starts[] = {2, 3, 6, 7, 8, 9, 12, 13};

	if (!o->target->is_slot)
		return;
	for (unsigned i = 0; i < sizeof(starts); i++) {
		uint64_t slot;

		if (o->before >= starts[i] &&
		    shunt_elf_plt_slot(o->code - starts[i], starts[i] + 4u, o->field - starts[i],
				       &slot) &&
		    slot == o->target->addr)
			add_target(s, o->field - starts[i], o->target->handler, false);
	}
}

static void find_plts(struct search *s)
{
	const struct shunt_elf *elf = s->f->elf;

	for (uint64_t i = 1; i < elf->sections.count && s->nr_plts < MAX_PLTS; i++) {
		Elf64_Shdr sh = load_section(elf, i);
		const char *name =
			sh.sh_flags & SHF_EXECINSTR ? shunt_elf_section_name(elf, &sh) : NULL;

		if (name && !strncmp(name, ".plt", 4) && sh.sh_type == SHT_PROGBITS &&
		    in_range(sh.sh_offset, sh.sh_size, elf->size))
			s->plts[s->nr_plts++] = (struct shunt_find_text){sh.sh_addr, sh.sh_size,
									 elf->image + sh.sh_offset};
	}
}

static bool is_in_plt(const struct search *s, uint64_t vaddr)
{
	for (unsigned i = 0; i < s->nr_plts; i++)
		if (vaddr - s->plts[i].vaddr < s->plts[i].size)
			return true;
	return false;
}

struct slots {
	struct search *search;
	unsigned handler;
};

static int add_slot(void *arg, uint64_t slot, const struct shunt_elf_sym *sym)
{
	struct slots *slots = arg;
	const char *name = shunt_find_handlers[slots->handler];

	if (shunt_elf_name_len(sym->name) == strlen(name) &&
	    !strncmp(sym->name, name, strlen(name)))
		add_target(slots->search, slot, slots->handler, true);
	return 0;
}

/* A handler that is in this file: one that does nothing will be missed by nobody. */
static void add_own(struct search *s, unsigned handler)
{
	uint64_t addr, avail;
	const uint8_t *code;

	if (shunt_elf_symbol_value(s->f->elf, shunt_find_handlers[handler], &addr))
		return;
	code = shunt_find_text(s->f, addr, &avail);
	if (!code)
		return;
	add_target(s, addr, handler, false);
	if (!shunt_is_empty_function(code, avail))
		s->why[handler] = "calls a handler of the module's own";
}

/* In a static program they are one function of the C library's, unless libshunt has two. */
static void tell_apart(struct search *s)
{
	uint64_t enter, exit;

	if (!shunt_elf_symbol_value(s->f->elf, shunt_find_handlers[SHUNT_HANDLER_ENTER], &enter) &&
	    !shunt_elf_symbol_value(s->f->elf, shunt_find_handlers[SHUNT_HANDLER_EXIT], &exit) &&
	    enter == exit)
		s->why[SHUNT_HANDLER_ENTER] = s->why[SHUNT_HANDLER_EXIT] =
			"its calls at entry and at return lead to one function";
}

/* -------------------------------------------------------- the argument of a handler */

static bool is_start(const struct shunt_find *f, uint64_t vaddr)
{
	return shunt_find_knows_starts(f) ? shunt_find_starts_at(f, vaddr)
					  : shunt_find_code(f, vaddr, 1) != NULL;
}

static int32_t load32(const uint8_t *code)
{
	int32_t word;

	memcpy(&word, code, sizeof(word));
	return word;
}

/*
 * Whether the instruction at @code, of at most @room bytes, sets @reg to the address of a function:
 * lea func(%rip); mov $func, with the sign extended, as 32 bits, and as 64.
 */
static bool sets_to_function(const struct shunt_find *f, const uint8_t *code, uint64_t room,
			     uint64_t vaddr, unsigned reg, uint64_t *func)
{
	const unsigned low = reg & 7, high = reg >> 3;

	if (room >= 7 && code[0] == (high ? 0x4c : 0x48) && code[1] == 0x8d &&
	    code[2] == (low << 3 | 5))
		*func = vaddr + 7 + (uint64_t)(int64_t)load32(code + 3);
	else if (room >= 7 && code[0] == (high ? 0x49 : 0x48) && code[1] == 0xc7 &&
		 code[2] == (0xc0 | low))
		*func = (uint64_t)(int64_t)load32(code + 3);
	else if (room >= 5 && !high && code[0] == (0xb8 | low))
		*func = (uint32_t)load32(code + 1);
	else if (room >= 6 && high && code[0] == 0x41 && code[1] == (0xb8 | low))
		*func = (uint32_t)load32(code + 2);
	else if (room >= 10 && code[0] == (high ? 0x49 : 0x48) && code[1] == (0xb8 | low))
		memcpy(func, code + 2, sizeof(*func));
	else
		return false;
	return is_start(f, *func);
}

/* Whether @code is mov %reg,%rdi, in either encoding. */
static bool moves_to_rdi(const uint8_t *code, unsigned *reg)
{
	if ((code[0] == 0x48 || code[0] == 0x4c) && code[1] == 0x89 && (code[2] & 0xc7) == 0xc7) {
		*reg = (code[2] >> 3 & 7u) | (code[0] == 0x4c ? 8u : 0u);
		return true;
	}
	if ((code[0] == 0x48 || code[0] == 0x49) && code[1] == 0x8b && (code[2] & 0xf8) == 0xf8) {
		*reg = (code[2] & 7u) | (code[0] == 0x49 ? 8u : 0u);
		return true;
	}
	return false;
}

#define RDI       7
#define LOOK_BACK 4096u

/*
 * The function that the handler called at @ip gets: inlined ones call it from within others. Back
 * from the call, what sets rdi, and what sets the register that rdi is set to.
 */
static bool find_argument(const struct shunt_find *f, uint64_t ip, uint64_t from, uint64_t *func)
{
	const uint8_t *code = shunt_find_code(f, from, ip - from);
	unsigned reg = RDI, source;

	for (uint64_t room = 1; code && room <= ip - from; room++) {
		const uint8_t *at = code + (ip - from - room);

		if (sets_to_function(f, at, room, ip - room, reg, func))
			return true;
		if (reg == RDI && room >= 3 && moves_to_rdi(at, &source))
			reg = source;
	}
	return false;
}

/* The function that a moved part is of: its name without what follows ".cold". */
static const struct shunt_found_function *whole(struct shunt_find *f,
						const struct shunt_found_function *part)
{
	const char *end = part && part->is_cold ? strstr(part->name, ".cold") : NULL;

	return end ? shunt_find_by_name(f, part->name, (size_t)(end - part->name)) : part;
}

static uint64_t function_for(struct shunt_find *f, uint64_t ip)
{
	const struct shunt_found_function *fn = shunt_find_function_of(f, ip);
	uint64_t from = fn && ip - fn->start < LOOK_BACK ? fn->start : ip - LOOK_BACK, func;
	uint64_t avail;

	for (unsigned i = 0; i < f->nr_text; i++)
		if (from < f->text[i].vaddr && ip - f->text[i].vaddr < f->text[i].size)
			from = f->text[i].vaddr;
	if (shunt_find_text(f, from, &avail) && find_argument(f, ip, from, &func))
		return func;
	fn = whole(f, fn);
	return fn ? fn->start : ip;
}

/* ----------------------------------------------------------------------- entries */

/* An instruction that a field belongs to. */
struct reference {
	uint64_t ip;
	uint8_t len;
	bool jumps;
};

static bool decode(const struct operand *o, struct reference *ref)
{
	const uint8_t *code = o->code;

	if (o->target->is_slot) {
		*ref = (struct reference){o->field - 2, 6, o->before >= 2 && code[-1] == 0x25};
		return o->before >= 2 && code[-2] == 0xff && (code[-1] == 0x15 || code[-1] == 0x25);
	}
	*ref = (struct reference){o->field - 1, 5, code[-1] == 0xe9};
	if (code[-1] == 0xe8 && o->before >= 2 && code[-2] == 0x67)
		*ref = (struct reference){o->field - 2, 6, false};
	return code[-1] == 0xe8 || code[-1] == 0xe9;
}

static void add_fentry(struct search *s, const struct reference *ref)
{
	uint64_t start = ref->ip;
	struct shunt_found_entry *e;

	if (ref->jumps)
		return;
	start -= shunt_find_landing_pad(s->f, start - SHUNT_LANDING_PAD);
	if (!is_start(s->f, start))
		return;
	e = shunt_find_add(s->f, ref->ip, start, SHUNT_ENTRY_FENTRY, SHUNT_FORM_HEAD);
	if (!e)
		return;
	e->len = ref->len;
	e->why = s->why[SHUNT_HANDLER_FENTRY];
}

static void add_instrument(struct search *s, const struct reference *ref, unsigned handler)
{
	enum shunt_entry_form form = handler == SHUNT_HANDLER_ENTER ? SHUNT_FORM_CALL
				     : ref->jumps                   ? SHUNT_FORM_JUMP_RETURN
								    : SHUNT_FORM_CALL_RETURN;
	struct shunt_found_entry *e;

	if (handler == SHUNT_HANDLER_ENTER && ref->jumps)
		return;
	e = shunt_find_add(s->f, ref->ip, function_for(s->f, ref->ip), SHUNT_ENTRY_INSTRUMENT,
			   form);
	if (!e)
		return;
	e->len = ref->len;
	e->why = s->why[handler];
}

static void add_reference(struct search *s, const struct operand *o)
{
	struct reference ref;

	if (is_in_plt(s, o->field) || !decode(o, &ref))
		return;
	if (o->target->handler == SHUNT_HANDLER_FENTRY)
		add_fentry(s, &ref);
	else
		add_instrument(s, &ref, o->target->handler);
}

int shunt_find_calls(struct shunt_find *f)
{
	struct search s = {.f = f};
	struct slots slots = {.search = &s};
	int ret = 0;

	for (unsigned i = 0; i < SHUNT_HANDLERS; i++) {
		s.why[i] = f->foreign[i];
		slots.handler = i;
		ret = shunt_elf_for_each_slot(f->elf, shunt_find_handlers[i], add_slot, &slots);
		add_own(&s, i);
	}
	if (ret == -ENODATA)
		ret = 0; /* no dynamic section, so no slots */
	if (!s.n)
		return ret;
	tell_apart(&s);
	find_plts(&s);
	set_bounds(&s);
	for (unsigned i = 0; i < s.nr_plts; i++)
		for_each_operand(&s, &s.plts[i], add_plt);
	set_bounds(&s);
	for (unsigned i = 0; i < f->nr_text; i++)
		for_each_operand(&s, &f->text[i], add_reference);
	return ret;
}
