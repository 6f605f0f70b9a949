/* SPDX-License-Identifier: MIT */
/* What the parts of the finder share (finder.h): the file's text, and the entries that they add. */
#include <string.h>

#include "arch/arch.h"
#include "linux/entry/finder.h"

const char *const shunt_find_handlers[SHUNT_HANDLERS] = {"__fentry__", "__cyg_profile_func_enter",
							 "__cyg_profile_func_exit"};

const uint8_t *shunt_find_text(const struct shunt_find *f, uint64_t vaddr, uint64_t *avail)
{
	for (unsigned i = 0; i < f->nr_text; i++) {
		uint64_t off = vaddr - f->text[i].vaddr;

		if (off < f->text[i].size) {
			*avail = f->text[i].size - off;
			return f->text[i].bytes + off;
		}
	}
	return NULL;
}

unsigned shunt_find_landing_pad(const struct shunt_find *f, uint64_t vaddr)
{
	const uint8_t *code = shunt_find_code(f, vaddr, SHUNT_LANDING_PAD);

	return code ? shunt_landing_pad_len(code, SHUNT_LANDING_PAD) : 0;
}

struct shunt_found_entry *shunt_find_add(struct shunt_find *f, uint64_t ip, uint64_t func,
					 enum shunt_entry_kind kind, enum shunt_entry_form form)
{
	struct shunt_found_entry *e = shunt_vector_add(&f->entries, sizeof(*e));

	if (!e) {
		f->no_memory = true;
		return NULL;
	}
	e->ip = ip;
	e->func = func;
	e->kind = (uint8_t)kind;
	e->form = (uint8_t)form;
	e->len = SHUNT_PLAIN_LEN;
	return e;
}
