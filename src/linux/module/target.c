/* SPDX-License-Identifier: MIT */
/*
 * Targets that go away. A key may point into any module; when that is unloaded,
 * the key has to let go of it first. A module with keys or sites of its own tells us
 * in its destructor. For one that never heard of Shunt, a function is registered
 * with __cxa_atexit() in its name, which runs before it is unmapped.
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include <shunt/module.h>
#include <shunt/port.h>
#include <shunt/static_call.h>

#include "core/key.h"
#include "linux/base/base.h"
#include "linux/base/format.h"
#include "linux/base/registry.h"
#include "linux/module/exit.h"
#include "linux/module/image.h"
#include "linux/module/targets.h"
#include "linux/trap/traps.h"

/* A module that keys point, or pointed, into. Records are never freed, but reused. */
struct watched {
	struct watched *next;
	_Atomic uintptr_t start, end; /* start 0: not in use; end 0: nothing to watch (any more) */
	_Atomic bool hooked;          /* on_unload() is still to come: not to be reused before */
	_Atomic bool leaving, exiting;
	char path[4096];
};

static struct watched *_Atomic watched;

extern int __cxa_atexit(void (*fn)(void *), void *arg, void *dso_handle);
extern void __cxa_finalize(void *dso_handle);

static bool is_in(struct shunt_range range, uintptr_t addr)
{
	return addr >= range.start && addr < range.end;
}

/* Whether @target is in a module that is being watched, or is one of ours. */
static bool is_known(uintptr_t target)
{
	struct watched *w = atomic_load_explicit(&watched, memory_order_acquire);

	for (; w; w = w->next)
		if (is_in((struct shunt_range){atomic_load(&w->start), atomic_load(&w->end)},
			  target))
			return true;
	return false;
}

/* ------------------------------------------------------------------ letting go */

/* What was done to a key, to be told once the lock is free. */
struct let_go {
	const char *key;
	int error;
};

/* Put @key back if it points into @range; false where it does not. Update lock held. */
static bool let_go_of(struct static_call_key *key, struct shunt_range range, struct let_go *out)
{
	struct shunt_key_change change = {
		.kind = &shunt_static_call_kind, .key = key, .to = (uintptr_t)key->init};
	struct shunt_report report = {0};

	if (!is_in(range, (uintptr_t)__atomic_load_n(&key->func, __ATOMIC_RELAXED)) ||
	    is_in(range, change.to))
		return false;
	out->key = key->name;
	out->error = shunt_update(&change, 1, &report);
	return true;
}

/* Of all keys, those that let go, as many as are told. Update lock held. */
static size_t let_go_all(struct shunt_range range, struct let_go *out, size_t max)
{
	size_t n = 0;

	for (struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next) {
		const struct shunt_module *module = m->module;
		struct static_call_key *key, *end;
		struct let_go one;

		if (!module)
			continue;
		key = module->call_keys;
		end = module->call_keys_end;
		for (; key != end; key++)
			if (let_go_of(key, range, &one) && n < max)
				out[n++] = one;
	}
	return n;
}

void shunt_targets_gone(struct shunt_range range, const char *path)
{
	struct let_go told[16];
	size_t n;

	for (struct watched *w = atomic_load(&watched); w; w = w->next)
		if (is_in(range, atomic_load(&w->start))) {
			atomic_store(&w->end, 0);
			if (!atomic_load(&w->hooked))
				atomic_store(&w->start, 0);
		}
	if (shunt_port_lock())
		return;
	n = let_go_all(range, told, sizeof(told) / sizeof(told[0]));
	shunt_port_unlock();
	for (size_t i = 0; i < n; i++)
		shunt_message("key %s: the module of its function, %s, goes away; %s%s",
			      told[i].key, path,
			      told[i].error ? "it cannot be put back to its default: "
					    : "it is back to its default",
			      told[i].error ? shunt_error_text(told[i].error) : "");
}

/*
 * exit() runs on_unload() too, although the module stays: told apart by this, which is
 * registered behind it in the name of the record, so that exit() runs it first, and
 * dlclose() does not. A dlclose() later in exit() would not be told: so the module stays.
 */
static void on_exit_begins(void *arg)
{
	struct shunt_image image = {.inside = 0};
	struct watched *w = arg;

	if (atomic_load(&w->leaving))
		return;
	atomic_store(&w->exiting, true);
	image.inside = atomic_load(&w->start);
	shunt_format(image.path, sizeof(image.path), "%s", w->path);
	(void)shunt_image_pin(&image);
}

static void on_unload(void *arg)
{
	struct watched *w = arg;
	struct shunt_range range = {atomic_load(&w->start), atomic_load(&w->end)};

	if (shunt_is_exiting() || atomic_load(&w->exiting))
		return;
	atomic_store(&w->leaving, true);
	__cxa_finalize(w); /* takes on_exit_begins() back */
	shunt_targets_gone(range, w->path);
	atomic_store(&w->end, 0);
	atomic_store(&w->hooked, false);
	atomic_store(&w->start, 0);
}

/* ------------------------------------------------------------------- watching */

/*
 * By its __dso_handle the C library knows whose exit functions are to run. It is what the
 * module's own last function passes to __cxa_finalize(), and is read from there:
 *
 *	mov __dso_handle(%rip), %rdi	or lea
 *	call __cxa_finalize@plt		or call *__cxa_finalize@GOTPCREL(%rip)
 */
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

	return (const void *)(is_in(image->range, addr) ? addr : image->bias + addr);
}

static void take_entry(const struct shunt_image *image, const ElfW(Dyn) * dyn, struct dynamic *d)
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
		take_entry(image, &dyn, &d);
	return d;
}

/* Where a displacement of 32 bits at @field, the end of its instruction, leads to. */
static uintptr_t relative(const uint8_t *code, size_t field, uintptr_t addr)
{
	int32_t rel;

	memcpy(&rel, code + field, sizeof(rel));
	return addr + field + sizeof(rel) + (uintptr_t)(intptr_t)rel;
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
	for (size_t i = 0; is_in(image->range, value) && d->plt && i < d->nr_plt; i++)
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
	uint8_t code[16];
	size_t i = 0;

	if (!read_code(image, code, sizeof(code), addr))
		return false;
	if (!memcmp(code, "\xf3\x0f\x1e\xfa", 4)) /* endbr64 */
		i += 4;
	if (code[i] == 0xf2) /* bnd */
		i++;
	return code[i] == 0xff && code[i + 1] == 0x25 &&
	       is_finalize(image, d, relative(code, i + 2, addr));
}

/* What the function at @addr passes to __cxa_finalize(); NULL: it does not call it so. */
static void *passed_by(const struct shunt_image *image, const struct dynamic *d, uintptr_t addr)
{
	uint8_t code[96];

	if (!read_code(image, code, sizeof(code), addr))
		return NULL;
	for (size_t i = 0; i + 13 <= sizeof(code); i++) {
		bool loads = !memcmp(code + i, "\x48\x8b\x3d", 3);
		uintptr_t handle = relative(code, i + 3, addr);
		bool calls;

		if (!loads && memcmp(code + i, "\x48\x8d\x3d", 3) != 0)
			continue;
		if (code[i + 7] == 0xe8)
			calls = leads_to_finalize(image, d, relative(code, i + 8, addr));
		else
			calls = code[i + 7] == 0xff && code[i + 8] == 0x15 &&
				is_finalize(image, d, relative(code, i + 9, addr));
		if (loads)
			handle = word_at(image, handle);
		if (calls && is_in(image->range, handle))
			return (void *)handle;
	}
	return NULL;
}

/* The module's __dso_handle; NULL where it has none, or where two could be it. */
static void *dso_handle(const struct shunt_image *image)
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

static struct watched *record_for(const struct shunt_image *image)
{
	struct watched *w = atomic_load_explicit(&watched, memory_order_acquire);
	uintptr_t unused = 0;

	for (; w; w = w->next) {
		unused = 0;
		if (atomic_compare_exchange_strong(&w->start, &unused, image->range.start))
			break;
	}
	if (!w) {
		w = shunt_port_alloc(sizeof(*w));
		if (!w)
			return NULL;
		atomic_store(&w->start, image->range.start);
		w->next = atomic_load_explicit(&watched, memory_order_relaxed);
		while (!atomic_compare_exchange_weak_explicit(
			&watched, &w->next, w, memory_order_release, memory_order_relaxed))
			;
	}
	shunt_format(w->path, sizeof(w->path), "%s", image->path);
	atomic_store(&w->end, image->range.end);
	return w;
}

static bool has_registered(const struct shunt_image *image)
{
	bool found = false;

	if (shunt_port_lock())
		return true;
	for (struct shunt_loaded *m = shunt_first_loaded(); m && !found; m = m->next)
		found = m->module && m->range.start == image->range.start;
	shunt_port_unlock();
	return found;
}

void shunt_targets_known(const struct shunt_image *image)
{
	if (!is_known(image->range.start))
		(void)record_for(image);
}

/*
 * What is never unloaded before this library is: the program, the C library that this one uses,
 * the dynamic linker, and the kernel's own.
 */
__attribute__((constructor(102))) static void know_what_stays(void)
{
	const uintptr_t inside[] = {(uintptr_t)know_what_stays, getauxval(AT_PHDR),
				    (uintptr_t)__cxa_finalize, getauxval(AT_BASE),
				    getauxval(AT_SYSINFO_EHDR)};

	for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
		struct shunt_image image = {.inside = inside[i]};

		if (inside[i] && !is_known(inside[i]) && shunt_image_find(&image))
			shunt_targets_known(&image);
	}
}

#pragma weak _dl_find_object /* glibc 2.35: without a lock */

static void read_handle(const struct shunt_image *image, void *handle)
{
	*(void **)handle = image->is_program ? NULL : dso_handle(image);
}

/* Whether it went away meanwhile, and was not there any more to be watched. */
static int check_watched(struct shunt_image *image, struct watched *w, void *handle)
{
	struct shunt_range range = image->range;
	uintptr_t end = range.end;
	void *now = NULL;

	if (shunt_image_look(image, read_handle, &now) && image->range.start == range.start &&
	    now == handle)
		return 0;
	/* What is mapped there next is not watched by this. */
	if (atomic_load(&w->start) == range.start)
		(void)atomic_compare_exchange_strong(&w->end, &end, 0);
	shunt_failed_call = "its module goes away";
	return -EAGAIN;
}

/* Have us told when @image, whose __dso_handle is @handle, goes, or keep it. */
static int watch_image(struct shunt_image *image, void *handle)
{
	struct watched *w = record_for(image);
	int ret;

	if (!w) {
		shunt_failed_call = "mmap";
		return -ENOMEM;
	}
	if (shunt_can_go())
		shunt_pin(); /* it may go later than this library, and calls us then */
	atomic_store(&w->leaving, false);
	atomic_store(&w->hooked, true);
	if (handle && !__cxa_atexit(on_unload, w, handle)) {
		(void)__cxa_atexit(on_exit_begins, w, w);
		return check_watched(image, w, handle);
	}
	atomic_store(&w->hooked, false);
	ret = shunt_image_pin(image);
	if (!ret)
		return check_watched(image, w, handle);
	atomic_store(&w->end, 0);
	atomic_store(&w->start, 0);
	return ret;
}

static int watch_module(struct shunt_image *image)
{
	void *handle = NULL;

	if (!shunt_image_look(image, read_handle, &handle))
		return 0;
	/* The program does not go away, and who has registered says so itself. */
	if (!image->is_program && !has_registered(image))
		return watch_image(image, handle);
	shunt_targets_known(image);
	return 0;
}

/*
 * Not inlined: it takes 4 KiB of stack, which few updates need. Signals are blocked while
 * locks of the C library's are held, which a handler that jumps out would leave taken.
 */
__attribute__((noinline)) static int watch(uintptr_t target)
{
	/* An update asks the kernel for no more than shunt(7) lists: not where this process is. */
	struct shunt_image image = {.inside = target, .as_linked = true};
	uint64_t mask;
	int ret = shunt_block_signals(&mask);

	if (ret)
		return ret;
	ret = watch_module(&image);
	shunt_restore_signals(mask);
	return ret;
}

/* The program has started by the first update, even if it has no keys of its own. */
static void watch_exit(void)
{
	static _Atomic bool watched_exit;

	if (!atomic_load(&watched_exit) && !shunt_may_be_in_handler() &&
	    !atomic_exchange(&watched_exit, true))
		shunt_watch_exit();
}

/*
 * Not with the update lock held: the dynamic linker and the C library take locks of
 * their own, under which destructors run. Two threads may watch the same module
 * twice, which costs a record. In a signal handler those locks may be this thread's.
 */
int shunt_port_watch(uintptr_t target)
{
	struct dl_find_object unused;

	watch_exit();
	if (is_known(target) || (_dl_find_object && _dl_find_object((void *)target, &unused)))
		return 0;
	if (!shunt_may_be_in_handler())
		return watch(target);
	shunt_failed_call =
		"this may be a signal handler: shunt_watch_target() outside of one first";
	return -EAGAIN;
}

int shunt_watch_target(const void *func)
{
	watch_exit();
	return is_known((uintptr_t)func) ? 0 : watch((uintptr_t)func);
}
