/* SPDX-License-Identifier: MIT */
/* What the parts of the finder share (finder.h): the file's text, and the entries that they add. */
#include <string.h>

#include "linux/entry/finder.h"

const char *const shunt_find_handlers[SHUNT_HANDLERS] = {"__fentry__", "__cyg_profile_func_enter",
							 "__cyg_profile_func_exit"};

static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};

bool shunt_find_is_empty(const uint8_t *code, size_t len)
{
	size_t at = len > sizeof(endbr64) && !memcmp(code, endbr64, sizeof(endbr64))
			    ? sizeof(endbr64)
			    : 0;

	return len > at && code[at] == 0xc3;
}

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

bool shunt_find_has_endbr64(const struct shunt_find *f, uint64_t vaddr)
{
	const uint8_t *code = shunt_find_code(f, vaddr, sizeof(endbr64));

	return code && !memcmp(code, endbr64, sizeof(endbr64));
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
	e->len = 5;
	return e;
}
