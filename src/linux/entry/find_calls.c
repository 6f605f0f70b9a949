/* SPDX-License-Identifier: MIT */
/*
 * Calls of __fentry__ (-pg -mfentry), and of the handlers of -finstrument-functions. Linkers drop
 * their relocations, so the text is searched for operands that lead to the handler, to an entry
 * of the PLT that jumps there, or to its GOT slot. What the instructions are is the CPU's
 * (shunt_operand_next() and those behind it in arch.h): a call at an entry, a call or, of the
 * exit's, a tail call at a return.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "arch/arch.h"
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

/* A field that leads to a target; @before: bytes of text before it. */
struct operand {
	uint64_t field;
	const uint8_t *code;
	uint64_t before;
	const struct target *target;
};

/* Call @visit for each in @text. */
static void for_each_operand(struct search *s, const struct shunt_find_text *text,
			     void (*visit)(struct search *s, const struct operand *operand))
{
	uint64_t to;

	for (uint64_t at = 0;
	     shunt_operand_next(text->bytes, text->size, text->vaddr, s->low, s->span, &at, &to);
	     at++)
		for (unsigned i = 0; i < s->n; i++) {
			const struct operand operand = {text->vaddr + at, text->bytes + at, at,
							&s->targets[i]};

			if (s->targets[i].addr == to)
				visit(s, &operand);
		}
}

/* ---------------------------------------------------------------------- targets */

/* Entries of the PLT that jump through a slot which is a target. */
static void add_plts(struct search *s, const struct shunt_find_text *plt)
{
	const unsigned n = s->n;

	for (uint64_t at = 0; at < plt->size; at++) {
		uint64_t left = plt->size - at, slot;

		if (!shunt_elf_plt_slot(plt->bytes + at,
					left < SHUNT_ELF_PLT_MAX ? left : SHUNT_ELF_PLT_MAX,
					plt->vaddr + at, &slot))
			continue;
		for (unsigned i = 0; i < n; i++)
			if (s->targets[i].is_slot && s->targets[i].addr == slot)
				add_target(s, plt->vaddr + at, s->targets[i].handler, false);
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

#define LOOK_BACK 4096u

/*
 * The function that the handler called at @ip gets: inlined ones call it from within others. Back
 * from the call, what sets its argument, and what sets the register that this is set to.
 */
static bool find_argument(const struct shunt_find *f, uint64_t ip, uint64_t from, uint64_t *func)
{
	const uint8_t *code = shunt_find_code(f, from, ip - from);
	unsigned reg = SHUNT_ARGUMENT, source;

	for (uint64_t room = 1; code && room <= ip - from; room++) {
		const uint8_t *at = code + (ip - from - room);

		if (shunt_sets_address(at, room, ip - room, reg, func) && is_start(f, *func))
			return true;
		if (reg == SHUNT_ARGUMENT && shunt_sets_argument(at, room, &source))
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

static void add_fentry(struct search *s, uint64_t ip, const struct shunt_operand_insn *insn)
{
	uint64_t start = ip;
	struct shunt_found_entry *e;

	if (insn->jumps)
		return;
	start -= shunt_find_landing_pad(s->f, start - SHUNT_LANDING_PAD);
	if (!is_start(s->f, start))
		return;
	e = shunt_find_add(s->f, ip, start, SHUNT_ENTRY_FENTRY, SHUNT_FORM_HEAD);
	if (!e)
		return;
	e->len = insn->len;
	e->why = s->why[SHUNT_HANDLER_FENTRY];
}

static void add_instrument(struct search *s, uint64_t ip, const struct shunt_operand_insn *insn,
			   unsigned handler)
{
	enum shunt_entry_form form = handler == SHUNT_HANDLER_ENTER ? SHUNT_FORM_CALL
				     : insn->jumps                  ? SHUNT_FORM_JUMP_RETURN
								    : SHUNT_FORM_CALL_RETURN;
	struct shunt_found_entry *e;

	if (handler == SHUNT_HANDLER_ENTER && insn->jumps)
		return;
	e = shunt_find_add(s->f, ip, function_for(s->f, ip), SHUNT_ENTRY_INSTRUMENT, form);
	if (!e)
		return;
	e->len = insn->len;
	e->why = s->why[handler];
}

static void add_reference(struct search *s, const struct operand *o)
{
	struct shunt_operand_insn insn;

	if (is_in_plt(s, o->field) ||
	    !shunt_operand_insn(o->code, o->before, o->target->is_slot, &insn))
		return;
	if (o->target->handler == SHUNT_HANDLER_FENTRY)
		add_fentry(s, o->field - insn.before, &insn);
	else
		add_instrument(s, o->field - insn.before, &insn, o->target->handler);
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
	for (unsigned i = 0; i < s.nr_plts; i++)
		add_plts(&s, &s.plts[i]);
	set_bounds(&s);
	for (unsigned i = 0; i < f->nr_text; i++)
		for_each_operand(&s, &f->text[i], add_reference);
	return ret;
}
