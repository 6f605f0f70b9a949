/* SPDX-License-Identifier: MIT */
/*
 * The walk. A function is taken as a whole, each of its instructions from the first
 * to the last, so that every block of it is looked at, however control gets there: a
 * little more than can be reached, never less. From there it goes on to each function
 * that is called or jumped to.
 *
 * What it cannot see: what a pointer points to. So calls through pointers are on a
 * list by name, with what they call, and a write through a pointer is not looked into.
 */
#include "walk.h"

#include <Zydis/Zydis.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../api/tap.h"

/* A function being looked at. */
struct scan {
	struct walk *w;
	const Elf64_Sym *function;
	const char *name;
	uint64_t at, start, end;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	uint64_t table;     /* what the last lea of data gave */
	uint64_t bound;     /* the last constant that something was compared with */
	bool sees_counters; /* refers to the variable of the counters */
	unsigned indirect;
};

const char *offence_name(enum offence offence)
{
	static const char *const names[] = {
		"a function outside of the allowed set",
		"another module's function",
		"a sanitizer's function",
		"a call through a pointer",
		"thread-local storage",
		"a vector or x87 register",
		"a locked write",
		"a write to a variable",
		"a system call",
		"a trapping instruction",
		"no known instruction or function",
	};

	return names[offence];
}

__attribute__((format(printf, 3, 4))) static void offend(struct scan *s, enum offence offence,
							 const char *format, ...)
{
	char text[160];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	s->w->offences[offence]++;
	diag("%s+%#lx: %s: %s", s->name, (unsigned long)(s->at - s->start), offence_name(offence),
	     text);
}

/* -------------------------------------------------------------- calls and jumps */

static void add_function(struct walk *w, const Elf64_Sym *function)
{
	for (size_t i = 0; i < w->nr_functions; i++)
		if (w->functions[i]->st_value == function->st_value)
			return;
	if (w->nr_functions < MAX_FUNCTIONS)
		w->functions[w->nr_functions++] = function;
}

static bool decode(const struct scan *s, uint64_t at, ZydisDecodedInstruction *insn,
		   ZydisDecodedOperand *ops)
{
	ZydisDecoder decoder;
	size_t len = 15;
	const void *bytes = NULL;

	(void)ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	while (len && !bytes)
		bytes = image_at(s->w->image, at, len--);
	return bytes && ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, len + 1, insn, ops));
}

/* The address that an operand refers to, where the instruction alone says it. */
static bool absolute(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *op,
		     uint64_t at, uint64_t *addr)
{
	ZyanU64 to = 0;
	bool relative = op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && op->imm.is_relative;
	bool memory = op->type == ZYDIS_OPERAND_TYPE_MEMORY &&
		      (op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_NONE) &&
		      op->mem.index == ZYDIS_REGISTER_NONE;

	if (!(relative || memory) || !ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(insn, op, at, &to)))
		return false;
	*addr = to;
	return true;
}

/* What a stub of the PLT at @at jumps to, by name. */
static const char *import_of(const struct scan *s, uint64_t at)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	const char *name = NULL;
	uint64_t slot;

	for (int i = 0; i < 3 && !name && decode(s, at, &insn, ops); i++, at += insn.length)
		if (insn.mnemonic == ZYDIS_MNEMONIC_JMP && absolute(&insn, &ops[0], at, &slot))
			name = image_import(s->w->image, slot);
	return name ? name : "?";
}

static bool is_sanitizer(const char *name)
{
	return !strncmp(name, "__asan_", 7) || !strncmp(name, "__tsan_", 7) ||
	       !strncmp(name, "__ubsan_", 8) || !strncmp(name, "__sanitizer_", 12);
}

static void go_to(struct scan *s, uint64_t target)
{
	const Elf64_Sym *function;
	const char *name;

	if (target >= s->start && target < s->end)
		return;
	if (!strncmp(image_section(s->w->image, target), ".plt", 4)) {
		name = import_of(s, target);
		offend(s, is_sanitizer(name) ? SANITIZER : IMPORT, "%s", name);
		return;
	}
	function = image_symbol(s->w->image, target, STT_FUNC);
	if (!function) {
		offend(s, UNKNOWN, "to %#lx", (unsigned long)target);
		return;
	}
	name = image_name(s->w->image, function);
	if (is_sanitizer(name))
		offend(s, SANITIZER, "%s", name);
	else if (!s->w->rules->is_allowed(name))
		offend(s, OUTSIDE, "%s", name);
	else
		add_function(s->w, function);
}

/* Follow the entries of a switch's table; false: this jump is none. */
static bool follow_table(struct scan *s)
{
	bool is_wide = s->ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
	uint64_t table = is_wide ? (uint64_t)s->ops[0].mem.disp.value : s->table;

	if (s->insn.mnemonic != ZYDIS_MNEMONIC_JMP || s->bound > 64 || !table ||
	    (is_wide && s->ops[0].mem.index == ZYDIS_REGISTER_NONE))
		return false;
	for (uint64_t i = 0; i <= s->bound; i++) {
		const void *entry =
			image_at(s->w->image, table + i * (is_wide ? 8 : 4), is_wide ? 8 : 4);
		uint64_t to = 0;

		if (!entry)
			return false;
		memcpy(&to, entry, is_wide ? 8 : 4);
		go_to(s, is_wide ? to : table + (uint64_t)(int64_t)(int32_t)to);
	}
	s->w->tables++;
	return true;
}

static const struct indirect *indirect_of(const struct scan *s)
{
	const struct indirect *rule = s->w->rules->indirect;

	while (rule->in && strcmp(rule->in, s->name) != 0)
		rule++;
	return rule->in ? rule : NULL;
}

static void add_callee(struct scan *s, const char *callee)
{
	char file[64];
	const char *colon = strchr(callee, ':');
	const Elf64_Sym *function;

	(void)snprintf(file, sizeof(file), "%.*s", (int)(colon - callee), callee);
	function = image_find(s->w->image, file, colon + 1, NULL);
	if (function)
		add_function(s->w, function);
	else
		offend(s, UNKNOWN, "%s is not there", callee);
}

static void through_pointer(struct scan *s)
{
	const struct indirect *rule = indirect_of(s);
	uint64_t slot;

	if (absolute(&s->insn, &s->ops[0], s->at, &slot)) {
		const char *name = image_import(s->w->image, slot);

		offend(s, name && is_sanitizer(name) ? SANITIZER : IMPORT, "by the slot of %s",
		       name ? name : "?");
		return;
	}
	if (follow_table(s))
		return;
	s->w->indirect++;
	if (!rule || ++s->indirect > rule->places) {
		offend(s, INDIRECT, "%u here, allowed %u", rule ? s->indirect : 1,
		       rule ? rule->places : 0);
		return;
	}
	for (size_t i = 0; i < 8 && rule->callees[i]; i++)
		add_callee(s, rule->callees[i]);
}

static void look_at_branch(struct scan *s)
{
	ZydisInstructionCategory category = s->insn.meta.category;
	uint64_t target;

	if (category != ZYDIS_CATEGORY_CALL && category != ZYDIS_CATEGORY_UNCOND_BR &&
	    category != ZYDIS_CATEGORY_COND_BR)
		return;
	s->w->calls += category == ZYDIS_CATEGORY_CALL;
	if (s->ops[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
		through_pointer(s);
	else if (absolute(&s->insn, &s->ops[0], s->at, &target))
		go_to(s, target);
}

/* ------------------------------------------------------------- other instructions */

static bool is_vector(ZydisRegister reg)
{
	switch (ZydisRegisterGetClass(reg)) {
	case ZYDIS_REGCLASS_X87:
	case ZYDIS_REGCLASS_MMX:
	case ZYDIS_REGCLASS_XMM:
	case ZYDIS_REGCLASS_YMM:
	case ZYDIS_REGCLASS_ZMM:
	case ZYDIS_REGCLASS_TMM:
	case ZYDIS_REGCLASS_MASK:
		return true;
	default:
		return reg == ZYDIS_REGISTER_MXCSR || reg == ZYDIS_REGISTER_X87CONTROL ||
		       reg == ZYDIS_REGISTER_X87STATUS || reg == ZYDIS_REGISTER_X87TAG;
	}
}

static bool is_thread_segment(ZydisRegister reg)
{
	return reg == ZYDIS_REGISTER_FS || reg == ZYDIS_REGISTER_GS;
}

static const char *variable_at(const struct scan *s, uint64_t addr)
{
	const Elf64_Sym *sym = image_symbol(s->w->image, addr, STT_OBJECT);

	return sym ? image_name(s->w->image, sym) : "?";
}

static bool is_among(const char *const *names, const char *variable)
{
	for (; names && *names; names++)
		if (!strcmp(*names, variable))
			return true;
	return false;
}

static bool may_write(const struct scan *s, const char *variable)
{
	return is_among(s->w->rules->written, variable);
}

static void look_at_memory(struct scan *s, const ZydisDecodedOperand *op)
{
	const char *variable;
	uint64_t addr;

	if (is_thread_segment(op->mem.segment))
		offend(s, THREAD, "%s", ZydisRegisterGetString(op->mem.segment));
	if (!absolute(&s->insn, op, s->at, &addr))
		return;
	variable = variable_at(s, addr);
	if (is_among(s->w->rules->counters, variable))
		s->sees_counters = true;
	else if ((op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) && !may_write(s, variable) &&
		 !(s->insn.attributes & ZYDIS_ATTRIB_HAS_LOCK))
		offend(s, GLOBAL, "%s", variable);
	/* What may be a switch's table; that of a function is not. */
	if (s->insn.mnemonic == ZYDIS_MNEMONIC_LEA && !image_symbol(s->w->image, addr, STT_FUNC))
		s->table = addr;
}

static void look_at_operands(struct scan *s)
{
	bool vector = false;

	for (unsigned i = 0; i < s->insn.operand_count; i++) {
		const ZydisDecodedOperand *op = &s->ops[i];

		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY)
			look_at_memory(s, op);
		if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		vector |= is_vector(op->reg.value);
		if (is_thread_segment(op->reg.value))
			offend(s, THREAD, "%s", ZydisRegisterGetString(op->reg.value));
	}
	if (vector)
		offend(s, VECTOR, "%s", ZydisMnemonicGetString(s->insn.mnemonic));
}

static bool may_exchange(const struct scan *s)
{
	const char *const *name = s->w->rules->exchanging;

	while (name && *name && strcmp(*name, s->name) != 0)
		name++;
	return name && *name;
}

static void look_at_lock(struct scan *s)
{
	bool exchange = (s->insn.mnemonic == ZYDIS_MNEMONIC_XCHG ||
			 s->insn.mnemonic == ZYDIS_MNEMONIC_CMPXCHG) &&
			(s->ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY ||
			 s->ops[1].type == ZYDIS_OPERAND_TYPE_MEMORY);

	if (!(s->insn.attributes & ZYDIS_ATTRIB_HAS_LOCK) && !exchange)
		return;
	s->w->locked++;
	if (exchange ? !may_exchange(s) : !s->sees_counters)
		offend(s, LOCKED, "%s", ZydisMnemonicGetString(s->insn.mnemonic));
}

static void look_at_kernel_entry(struct scan *s)
{
	const unsigned *number = s->w->rules->syscalls;
	uint64_t wanted;

	switch (s->insn.mnemonic) {
	case ZYDIS_MNEMONIC_SYSCALL:
		s->w->syscalls++;
		wanted = flow_rax(s->w->image, s->function, s->at);
		while (*number != ~0u && *number != wanted)
			number++;
		if (*number == ~0u)
			offend(s, SYSCALL, "number %ld", (long)wanted);
		break;
	case ZYDIS_MNEMONIC_RDFSBASE:
	case ZYDIS_MNEMONIC_RDGSBASE:
		offend(s, THREAD, "%s", ZydisMnemonicGetString(s->insn.mnemonic));
		break;
	case ZYDIS_MNEMONIC_INT3:
	case ZYDIS_MNEMONIC_INT:
	case ZYDIS_MNEMONIC_INT1:
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_SYSENTER:
		offend(s, TRAP, "%s", ZydisMnemonicGetString(s->insn.mnemonic));
		break;
	default:
		break;
	}
}

/* The constants that the next instructions may need to be understood. */
static void note_constants(struct scan *s)
{
	const ZydisDecodedOperand *from = &s->ops[1];
	bool constant = s->insn.operand_count > 1 && from->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;

	if ((s->insn.mnemonic == ZYDIS_MNEMONIC_CMP || s->insn.mnemonic == ZYDIS_MNEMONIC_AND) &&
	    constant)
		s->bound = from->imm.value.u;
}

/* ------------------------------------------------------------------ the walk */

static void scan_function(struct walk *w, const Elf64_Sym *function)
{
	struct scan s = {
		.w = w,
		.function = function,
		.name = image_name(w->image, function),
		.start = function->st_value,
		.end = function->st_value + function->st_size,
		.bound = ~(uint64_t)0,
	};

	for (s.at = s.start; s.at < s.end; s.at += s.insn.length) {
		if (!decode(&s, s.at, &s.insn, s.ops)) {
			offend(&s, UNKNOWN, "no instruction");
			return;
		}
		w->instructions++;
		look_at_operands(&s);
		look_at_branch(&s);
		look_at_lock(&s);
		look_at_kernel_entry(&s);
		note_constants(&s);
	}
}

bool walk(struct walk *w, const struct image *image, const struct rules *rules, const char *file,
	  const char *root)
{
	const Elf64_Sym *function = image_find(image, file, root, NULL);

	memset(w, 0, sizeof(*w));
	w->image = image;
	w->rules = rules;
	if (!function)
		return false;
	add_function(w, function);
	for (size_t i = 0; i < w->nr_functions; i++)
		scan_function(w, w->functions[i]);
	return true;
}

bool walk_reached(const struct walk *w, const char *name)
{
	for (size_t i = 0; i < w->nr_functions; i++)
		if (!strcmp(image_name(w->image, w->functions[i]), name))
			return true;
	return false;
}
