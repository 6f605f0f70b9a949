/* SPDX-License-Identifier: MIT */
/*
 * By its __dso_handle the C library knows whose exit functions are to run. It is what the
 * module's own last function passes to __cxa_finalize(), and is read from there. On x86-64:
 *
 *	mov __dso_handle(%rip), %rdi	or lea
 *	call __cxa_finalize@plt		or call *__cxa_finalize@GOTPCREL(%rip)
 */
#include <elf.h>
#include <link.h>
#include <string.h>

#include "arch/arch.h"
#include "arch/elf_code.h"
#include "linux/base/base.h"
#include "linux/module/dso_handle.h"

extern void __cxa_finalize(void *dso_handle);

struct dynamic {
	const uintptr_t *fini;
	size_t nr_fini;
	const ElfW(Rela) * plt; /* relocations */
	size_t nr_plt;
	const ElfW(Sym) * symbols;
	const char *strings;
};

/* What a dynamic entry points to; the dynamic linker has added the bias to some. */
static const void *pointer(const struct shunt_image *image, const ElfW(Dyn) * dyn)
{
	uintptr_t addr = dyn->d_un.d_ptr;

	return (const void *)(shunt_in_range(image->range, addr, 1) ? addr : image->bias + addr);
}

static void read_entry(const struct shunt_image *image, const ElfW(Dyn) * dyn, struct dynamic *d)
{
	if (dyn->d_tag == DT_FINI_ARRAY)
		d->fini = pointer(image, dyn);
	else if (dyn->d_tag == DT_FINI_ARRAYSZ)
		d->nr_fini = dyn->d_un.d_val / sizeof(*d->fini);
	else if (dyn->d_tag == DT_JMPREL)
		d->plt = pointer(image, dyn);
	else if (dyn->d_tag == DT_PLTRELSZ)
		d->nr_plt = dyn->d_un.d_val / sizeof(*d->plt);
	else if (dyn->d_tag == DT_SYMTAB)
		d->symbols = pointer(image, dyn);
	else if (dyn->d_tag == DT_STRTAB)
		d->strings = pointer(image, dyn);
}

static struct dynamic read_dynamic(const struct shunt_image *image)
{
	const ElfW(Phdr) *headers = image->headers;
	const ElfW(Dyn) *at = NULL;
	struct dynamic d = {0};
	ElfW(Dyn) dyn;

	for (size_t i = 0; i < image->nr_headers; i++)
		if (headers[i].p_type == PT_DYNAMIC)
			at = (const ElfW(Dyn) *)(image->bias + headers[i].p_vaddr);
	for (; at && shunt_image_read(image, &dyn, at, sizeof(dyn)) && dyn.d_tag != DT_NULL; at++)
		read_entry(image, &dyn, &d);
	return d;
}

/* A word of the module's data; 0 where it is none. */
static uintptr_t word_at(const struct shunt_image *image, uintptr_t addr)
{
	uintptr_t word = 0;

	if (addr % 8 || !shunt_in_range(image->range, addr, sizeof(word)) ||
	    !shunt_image_read(image, &word, (const void *)addr, sizeof(word)))
		return 0;
	return word;
}

/* Whether the relocation names __cxa_finalize(). */
static bool names_finalize(const struct shunt_image *image, const struct dynamic *d,
			   const ElfW(Rela) * relocation)
{
	static const char wanted[] = "__cxa_finalize";
	char name[sizeof(wanted)];
	ElfW(Sym) symbol;

	return d->symbols && d->strings &&
	       shunt_image_read(image, &symbol, &d->symbols[ELF64_R_SYM(relocation->r_info)],
				sizeof(symbol)) &&
	       shunt_image_read(image, name, d->strings + symbol.st_name, sizeof(name)) &&
	       !memcmp(name, wanted, sizeof(name));
}

/* Whether the slot is, or is to be, bound to __cxa_finalize() of our C library. */
static bool is_finalize(const struct shunt_image *image, const struct dynamic *d, uintptr_t slot)
{
	uintptr_t value = word_at(image, slot);
	ElfW(Rela) one;

	if (value == (uintptr_t)__cxa_finalize)
		return true;
	for (size_t i = 0; shunt_in_range(image->range, value, 1) && d->plt && i < d->nr_plt; i++)
		if (shunt_image_read(image, &one, &d->plt[i], sizeof(one)) &&
		    one.r_offset + image->bias == slot)
			return names_finalize(image, d, &one);
	return false;
}

/* The code at @addr, up to @size bytes: zeros behind the end of the text. False: there is none. */
static bool read_code(const struct shunt_image *image, uint8_t *code, size_t size, uintptr_t addr)
{
	size_t len = size;

	while (len && !shunt_image_has_text(image, addr, len))
		len--;
	memset(code, 0, size);
	return len && shunt_image_read(image, code, (const void *)addr, len);
}

/* Whether the entry of the PLT at @addr leads there. */
static bool leads_to_finalize(const struct shunt_image *image, const struct dynamic *d,
			      uintptr_t addr)
{
	uint8_t code[SHUNT_ELF_PLT_MAX];
	uint64_t slot;

	return read_code(image, code, sizeof(code), addr) &&
	       shunt_elf_plt_slot(code, sizeof(code), addr, &slot) && is_finalize(image, d, slot);
}

/* What the function at @addr passes to __cxa_finalize(); NULL: it does not call it so. */
static void *passed_by(const struct shunt_image *image, const struct dynamic *d, uintptr_t addr)
{
	uint8_t code[96];

	if (!read_code(image, code, sizeof(code), addr))
		return NULL;
	for (size_t i = 0; i < sizeof(code); i += SHUNT_INSN_ALIGN) {
		struct shunt_elf_passing passing;
		uintptr_t handle;
		bool calls;

		if (!shunt_elf_passing_at(code + i, sizeof(code) - i, addr + i, &passing))
			continue;
		handle = passing.argument_is_slot ? word_at(image, passing.argument)
						  : passing.argument;
		calls = passing.callee_is_slot ? is_finalize(image, d, passing.callee)
					       : leads_to_finalize(image, d, passing.callee);
		if (calls && shunt_in_range(image->range, handle, 1))
			return (void *)handle;
	}
	return NULL;
}

void *shunt_dso_handle(const struct shunt_image *image)
{
	struct dynamic d = read_dynamic(image);
	void *found = NULL;
	uintptr_t fini;

	for (size_t i = 0; d.fini && i < d.nr_fini; i++) {
		void *handle = shunt_image_read(image, &fini, &d.fini[i], sizeof(fini))
				       ? passed_by(image, &d, fini)
				       : NULL;

		if (handle && found && handle != found)
			return NULL;
		found = handle ? handle : found;
	}
	return found;
}
