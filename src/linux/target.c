/* SPDX-License-Identifier: MIT */
/*
 * Targets that go away. A key may point into any module; when that is unloaded,
 * the key has to let go of it first. A module with keys or sites of its own tells us
 * in its destructor. For one that never heard of Shunt, a function is registered
 * with __cxa_atexit() in its name, which runs before it is unmapped.
 */
#include <dlfcn.h>
#include <link.h>
#include <string.h>

#include "linux/elf.h"
#include "linux/format.h"
#include "linux/linux.h"

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
 * dlclose() does not.
 */
static void on_exit_begins(void *arg)
{
	struct watched *w = arg;

	if (!atomic_load(&w->leaving))
		atomic_store(&w->exiting, true);
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
 * The module's __dso_handle, by which the C library knows whose exit functions are
 * to run: a hidden variable that holds its own address, so a relative relocation of
 * a word to itself tells where it is.
 */
static void *dso_handle(const struct shunt_image *image)
{
	const ElfW(Phdr) *headers = image->headers;
	const ElfW(Dyn) *dyn = NULL;
	const ElfW(Rela) *rela = NULL;
	size_t size = 0;

	for (size_t i = 0; i < image->nr_headers; i++)
		if (headers[i].p_type == PT_DYNAMIC)
			dyn = (const ElfW(Dyn) *)(image->bias + headers[i].p_vaddr);
	for (; dyn && dyn->d_tag != DT_NULL; dyn++) {
		if (dyn->d_tag == DT_RELA)
			rela = (const ElfW(
				Rela) *)(uintptr_t)dyn->d_un.d_ptr; /* glibc: bias added */
		else if (dyn->d_tag == DT_RELASZ)
			size = dyn->d_un.d_val;
	}
	for (size_t i = 0; rela && i < size / sizeof(*rela); i++)
		if (ELF64_R_TYPE(rela[i].r_info) == R_X86_64_RELATIVE &&
		    (uint64_t)rela[i].r_addend == rela[i].r_offset)
			return (void *)(image->bias + rela[i].r_offset);
	return NULL;
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

/* Set at the first update of all: shunt_watch_exit() has been called for it. */
static _Atomic bool exit_watched;

#pragma weak dlopen

/* Not inlined: it takes 4 KiB of stack, which few updates need. */
__attribute__((noinline)) static void watch(uintptr_t target)
{
	struct shunt_image image = {.inside = target};
	struct watched *w;
	void *handle;

	if (!shunt_image_find(&image))
		return;
	w = record_for(&image);
	/* The program has started by now, even if it has no keys of its own. */
	if (!atomic_exchange(&exit_watched, true))
		shunt_watch_exit();
	/* The program does not go away, and who has registered says so itself. */
	if (!w || image.is_program || has_registered(&image))
		return;
	handle = dso_handle(&image);
	atomic_store(&w->leaving, false);
	atomic_store(&w->hooked, true);
	if (handle && !__cxa_atexit(on_unload, w, handle)) {
		(void)__cxa_atexit(on_exit_begins, w, w);
		return;
	}
	atomic_store(&w->hooked, false);
	/* It cannot tell us that it goes: keep it. */
	if (dlopen)
		(void)dlopen(image.path, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

/*
 * Not with the update lock held: the dynamic linker and the C library take locks of
 * their own, under which destructors run. Two threads may watch the same module
 * twice, which costs a record.
 */
void shunt_port_watch(uintptr_t target)
{
	if (!is_known(target))
		watch(target);
}
