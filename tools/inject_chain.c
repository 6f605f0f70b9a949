/* SPDX-License-Identifier: MIT */
/*
 * By libdw. It is given no files: what it needs of a module is in the process's memory, in an image
 * that has the file's layout, and only the parts of it with the call frame information. So it
 * opens, searches and fetches nothing. Where that information does not cover an address the walk
 * ends: libdw alone would go on by rbp, whatever that is.
 */
#include "inject_chain.h"

#include <elf.h>
#include <elfutils/libdwfl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	PHDRS_MAX = 64,
	/* DWARF's numbers of registers. */
	DWARF_RSP = 7,
	DWARF_RIP = 16,
	DWARF_N = 17,
	PCREL_SDATA4 = 0x1b, /* DW_EH_PE_pcrel | DW_EH_PE_sdata4 */
	CHUNK = 1 << 16
};

static const uint64_t image_max = (uint64_t)1 << 30;

/* What libdw reads of a module, until the end. */
struct image {
	struct image *next;
	void *bytes;
	size_t size;
};

struct chain_reader {
	const struct remote_space *space;
	Dwfl *dwfl;
	struct image *images;
	/* Of the walk. */
	const struct user_regs_struct *regs;
	struct chain *chain;
	bool is_exact; /* the next frame was interrupted there; it has not called */
};

/* -------------------------------------------------------------------------- modules */

/* Copy [@from, @to) of the segment to its place in the file. */
static void copy(const struct remote_space *space, const struct remote_module *module,
		 const Elf64_Phdr *segment, uint64_t from, uint64_t to, unsigned char *image)
{
	for (uint64_t at = from; at < to;) {
		uint64_t size = to - at < CHUNK ? to - at : CHUNK;

		/* What cannot be read stays zero: no call frame information. */
		if (remote_read(space, module->bias + at,
				image + segment->p_offset + (at - segment->p_vaddr), size))
			return;
		at += size;
	}
}

/* Where .eh_frame begins, by the header that is at @head. */
static uint64_t find_eh_frame(const struct remote_space *space, const struct remote_module *module,
			      uint64_t head)
{
	unsigned char bytes[8]; /* version, three encodings, distance */
	int32_t distance;

	if (remote_read(space, module->bias + head, bytes, sizeof(bytes)) || bytes[0] != 1 ||
	    bytes[1] != PCREL_SDATA4)
		return 0;
	memcpy(&distance, bytes + 4, sizeof(distance));
	return head + 4 + (uint64_t)(int64_t)distance;
}

static const Elf64_Phdr *segment_of(const Elf64_Phdr *phdrs, size_t n, uint64_t address)
{
	for (size_t i = 0; i < n; i++)
		if (phdrs[i].p_type == PT_LOAD && address >= phdrs[i].p_vaddr &&
		    address - phdrs[i].p_vaddr < phdrs[i].p_filesz)
			return &phdrs[i];
	return NULL;
}

/* .eh_frame_hdr and .eh_frame, in whichever order; the latter's size nobody says. */
static void fill(const struct remote_space *space, const struct remote_module *module,
		 const Elf64_Phdr *phdrs, size_t n, unsigned char *image)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t starts[2] = {phdrs[i].p_vaddr, 0};

		if (phdrs[i].p_type != PT_GNU_EH_FRAME)
			continue;
		starts[1] = find_eh_frame(space, module, starts[0]);
		for (int part = 0; part < 2; part++) {
			const Elf64_Phdr *segment = segment_of(phdrs, n, starts[part]);

			if (segment)
				copy(space, module, segment, starts[part],
				     segment->p_vaddr + segment->p_filesz, image);
		}
	}
}

/* Of the file, as far as it is mapped; 0: nothing to be believed, for the process may be hostile.
 */
static uint64_t file_size(const Elf64_Phdr *phdrs, size_t n)
{
	uint64_t size = sizeof(Elf64_Ehdr) + n * sizeof(*phdrs);

	for (size_t i = 0; i < n; i++) {
		if (phdrs[i].p_type != PT_LOAD)
			continue;
		if (phdrs[i].p_offset > image_max || phdrs[i].p_filesz > image_max)
			return 0;
		if (phdrs[i].p_offset + phdrs[i].p_filesz > size)
			size = phdrs[i].p_offset + phdrs[i].p_filesz;
	}
	return size;
}

/* Zeros, but for pages that are written. */
static unsigned char *add_image(struct chain_reader *reader, uint64_t size)
{
	struct image *image = malloc(sizeof(*image));

	if (!image)
		return NULL;
	*image = (struct image){.next = reader->images, .size = size};
	image->bytes = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (image->bytes == MAP_FAILED) {
		free(image);
		return NULL;
	}
	reader->images = image;
	return image->bytes;
}

static Elf *make_elf(struct chain_reader *reader, const struct remote_module *module)
{
	const struct remote_space *space = reader->space;
	Elf64_Phdr phdrs[PHDRS_MAX];
	unsigned char *image;
	Elf64_Ehdr head;
	uint64_t size;

	if (remote_read(space, module->start, &head, sizeof(head)) || !head.e_phnum ||
	    head.e_phnum > PHDRS_MAX ||
	    remote_read(space, module->start + head.e_phoff, phdrs, head.e_phnum * sizeof(*phdrs)))
		return NULL;
	size = file_size(phdrs, head.e_phnum);
	image = size ? add_image(reader, size) : NULL;
	if (!image)
		return NULL;
	fill(space, module, phdrs, head.e_phnum, image);
	/* Sections are not in memory; the segments say all. */
	head.e_shoff = 0;
	head.e_shnum = head.e_shstrndx = 0;
	head.e_phoff = sizeof(head);
	head.e_phentsize = sizeof(*phdrs);
	memcpy(image, &head, sizeof(head));
	memcpy(image + sizeof(head), phdrs, head.e_phnum * sizeof(*phdrs));
	return elf_memory((char *)image, size);
}

static int find_elf(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base,
		    char **file, Elf **elf)
{
	struct chain_reader *reader = *data;
	const struct remote_space *space = reader->space;

	(void)module, (void)name;
	*file = NULL;
	*elf = NULL;
	for (size_t i = 0; !*elf && i < space->modules_n; i++)
		if (space->modules[i].start == base)
			*elf = make_elf(reader, &space->modules[i]);
	return -1;
}

static int find_no_debuginfo(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base,
			     const char *file, const char *link, GElf_Word crc, char **found)
{
	(void)module, (void)data, (void)name, (void)base, (void)file, (void)link, (void)crc;
	(void)found;
	return -1;
}

static Dwarf_CFI *cfi_at(const struct chain_reader *reader, uint64_t address, Dwarf_Addr *bias)
{
	Dwfl_Module *module = dwfl_addrmodule(reader->dwfl, address);

	return module ? dwfl_module_eh_cfi(module, bias) : NULL;
}

/* --------------------------------------------------------------------------- frames */

static pid_t next_thread(Dwfl *dwfl, void *data, void **thread)
{
	(void)dwfl, (void)data, (void)thread;
	return 0;
}

static bool get_thread(Dwfl *dwfl, pid_t tid, void *data, void **thread)
{
	(void)dwfl, (void)tid;
	*thread = data;
	return true;
}

static bool read_word(Dwfl *dwfl, Dwarf_Addr address, Dwarf_Word *word, void *data)
{
	const struct chain_reader *reader = data;

	(void)dwfl;
	return !remote_read(reader->space, address, word, sizeof(*word));
}

static bool set_registers(Dwfl_Thread *thread, void *data)
{
	const struct user_regs_struct *r = ((const struct chain_reader *)data)->regs;
	const Dwarf_Word values[DWARF_N] = {r->rax, r->rdx, r->rcx, r->rbx, r->rsi, r->rdi,
					    r->rbp, r->rsp, r->r8,  r->r9,  r->r10, r->r11,
					    r->r12, r->r13, r->r14, r->r15, r->rip};

	return dwfl_thread_state_registers(thread, 0, DWARF_N, values);
}

/* Whether the frame has a caller that can be walked to, else whether it is the outermost. */
static bool has_caller(struct chain_reader *reader, uint64_t instruction, bool *is_outermost)
{
	uint64_t address = reader->is_exact ? instruction : instruction - 1;
	Dwarf_Op no_place[3], *place = NULL;
	Dwarf_Frame *frame = NULL;
	Dwarf_Addr bias = 0;
	size_t n = 0;
	Dwarf_CFI *cfi = cfi_at(reader, address, &bias);
	bool is_known = cfi && !dwarf_cfi_addrframe(cfi, address - bias, &frame) &&
			dwarf_frame_info(frame, NULL, NULL, &reader->is_exact) == DWARF_RIP &&
			!dwarf_frame_register(frame, DWARF_RIP, no_place, &place, &n);

	*is_outermost = is_known && !n && place == no_place;
	free(frame);
	return is_known && n;
}

static int add_frame(Dwfl_Frame *frame, void *data)
{
	struct chain_reader *reader = data;
	struct chain *chain = reader->chain;
	bool was_interrupted = reader->is_exact;
	Dwarf_Addr instruction;
	Dwarf_Word stack;

	if (chain->n == CHAIN_FRAMES || !dwfl_frame_pc(frame, &instruction, NULL) ||
	    dwfl_frame_reg(frame, DWARF_RSP, &stack))
		return DWARF_CB_ABORT;
	/* Callers' frames are above; not the one that a handler has interrupted on another stack.
	 */
	if (!was_interrupted && stack <= chain->frames[chain->n - 1].stack)
		return DWARF_CB_ABORT;
	chain->frames[chain->n].instruction = instruction;
	chain->frames[chain->n++].stack = stack;
	return has_caller(reader, instruction, &chain->is_whole) ? DWARF_CB_OK : DWARF_CB_ABORT;
}

/* ----------------------------------------------------------------------- the reader */

static const Dwfl_Callbacks file_callbacks = {.find_elf = find_elf,
					      .find_debuginfo = find_no_debuginfo};
static const Dwfl_Thread_Callbacks thread_callbacks = {.next_thread = next_thread,
						       .get_thread = get_thread,
						       .memory_read = read_word,
						       .set_initial_registers = set_registers};

static bool report_modules(struct chain_reader *reader)
{
	const struct remote_space *space = reader->space;

	dwfl_report_begin(reader->dwfl);
	for (size_t i = 0; i < space->modules_n; i++) {
		const struct remote_module *module = &space->modules[i];
		Dwfl_Module *reported =
			dwfl_report_module(reader->dwfl, module->name, module->start, module->end);
		void **data;

		if (!reported)
			return false;
		(void)dwfl_module_info(reported, &data, NULL, NULL, NULL, NULL, NULL, NULL);
		*data = reader;
	}
	return !dwfl_report_end(reader->dwfl, NULL, NULL) &&
	       dwfl_attach_state(reader->dwfl, NULL, space->pid, &thread_callbacks, reader);
}

bool chain_is_available(void)
{
	return true;
}

struct chain_reader *chain_reader_open(const struct remote_space *space)
{
	struct chain_reader *reader = calloc(1, sizeof(*reader));

	if (!reader)
		return NULL;
	reader->space = space;
	reader->dwfl = dwfl_begin(&file_callbacks);
	if (reader->dwfl && report_modules(reader))
		return reader;
	chain_reader_close(reader);
	return NULL;
}

void chain_reader_close(struct chain_reader *reader)
{
	if (!reader)
		return;
	dwfl_end(reader->dwfl);
	while (reader->images) {
		struct image *next = reader->images->next;

		(void)munmap(reader->images->bytes, reader->images->size);
		free(reader->images);
		reader->images = next;
	}
	free(reader);
}

void chain_reader_load(struct chain_reader *reader, uint64_t address)
{
	Dwarf_Addr bias;

	(void)cfi_at(reader, address, &bias);
}

void chain_read(struct chain_reader *reader, pid_t tid, const struct user_regs_struct *regs,
		struct chain *chain)
{
	chain->n = 0;
	chain->is_whole = false;
	reader->regs = regs;
	reader->chain = chain;
	reader->is_exact = true;
	(void)dwfl_getthread_frames(reader->dwfl, tid, add_frame, reader);
}
