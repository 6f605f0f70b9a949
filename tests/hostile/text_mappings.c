/* SPDX-License-Identifier: MIT */
/*
 * Programs that do something with the mapping of their text: put it on huge pages, as
 * programs do that save TLB entries, map it anew, seal it; whose file is replaced by an
 * upgrade while they run; and text of no file, as a JIT makes it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/text_poke.h>

#include "forbid.h"
#include "hostile.h"
#include "replaced_plugin.h"
#include "site_threads.h"

#ifndef SYS_mseal
#define SYS_mseal 462
#endif

#define HUGE ((size_t)2 << 20)

extern char mapped_text[] __attribute__((visibility("hidden")));
extern char mapped_text_end[] __attribute__((visibility("hidden")));
long mapped_site(long x) __attribute__((visibility("hidden")));
long mapped_branch(long x) __attribute__((visibility("hidden")));

static KEEP long mapped_old(long x)
{
	return 5 * x;
}

static KEEP long mapped_new(long x)
{
	return 5 * x + 1;
}

DEFINE_STATIC_CALL(mapped_call, mapped_old);
DEFINE_STATIC_KEY_FALSE(mapped_key);

/* For the plugin. */
KEEP long plugin_one(long x)
{
	return x + 1;
}

KEEP long plugin_two(long x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(plugin_call, plugin_one);
EXPORT_STATIC_CALL(plugin_call);
DEFINE_STATIC_KEY_FALSE(plugin_key);
EXPORT_STATIC_KEY(plugin_key);

static bool is_new;

/* By flip the branch is switched, and not the call changed. */
static int by_way(const struct row *r)
{
	if (r->way == FLIP)
		return is_new ? static_branch_disable(&mapped_key)
			      : static_branch_enable(&mapped_key);
	return is_new ? static_call_update(mapped_call, mapped_old)
		      : static_call_update(mapped_call, mapped_new);
}

static int try_change(const struct row *r)
{
	int ret = by_way(r);

	if (!ret)
		is_new = !is_new;
	return ret;
}

static long through(const struct row *r)
{
	return r->way == FLIP ? mapped_branch(2) : mapped_site(2);
}

static void check(struct row *r)
{
	MUST(r, through(r) == 10 + is_new);
}

static void must_be_flip(struct row *r)
{
	struct shunt_ways ways;

	shunt_get_ways(&ways);
	MUST(r, r->way != FLIP || !strcmp(ways.poke, "flip"));
}

static void change(struct row *r)
{
	MUST(r, !try_change(r));
	must_be_flip(r);
	check(r);
}

/* ----------------------------------------------------------- threads at the site */

static _Atomic bool over;

static void *at_site(void *arg)
{
	while (!atomic_load(&over))
		MUST((struct row *)arg, (through(arg) | 1) == 11);
	return NULL;
}

static pthread_t start_thread(struct row *r)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, at_site, r))
		abort();
	return thread;
}

static void end_thread(pthread_t thread)
{
	atomic_store(&over, true);
	(void)pthread_join(thread, NULL);
}

/* ------------------------------------------------------------------- huge pages */

/* Put a copy of the text into @flags memory of no file, over the text. */
static bool move_text(int flags, bool huge)
{
	size_t size = (size_t)(mapped_text_end - mapped_text);
	char *p = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	char *to = (char *)(((uintptr_t)p + HUGE - 1) & -HUGE);

	if (p == MAP_FAILED)
		return false;
	(void)madvise(to, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	memcpy(to, mapped_text, size);
	if (mprotect(to, size, PROT_READ | PROT_EXEC) ||
	    mremap(to, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, mapped_text) != mapped_text)
		return false;
	if (to != p)
		(void)munmap(p, (size_t)(to - p));
	if (to + size != p + size + HUGE)
		(void)munmap(to + size, (size_t)(p + HUGE - to));
	return true;
}

/* A line of /proc/self/maps: whether it is the one of a mapping that has @at. */
static bool has(const char *line, const void *at)
{
	char *end;
	unsigned long from = strtoul(line, &end, 16), to = 0;

	if (*end == '-')
		to = strtoul(end + 1, NULL, 16);
	return from <= (uintptr_t)at && (uintptr_t)at < to;
}

/* KiB on huge pages of the mapping that has the site. */
static long huge_kib(void)
{
	static const char field[] = "AnonHugePages:";
	char line[4400];
	bool is_it = false;
	long kib = 0;
	FILE *f = fopen("/proc/self/smaps", "r");

	while (f && fgets(line, sizeof(line), f)) {
		if (strchr(line, '-') && strchr(line, '-') < strchr(line, ' '))
			is_it = has(line, (const void *)mapped_site);
		else if (is_it && !strncmp(line, field, sizeof(field) - 1))
			kib = strtol(line + sizeof(field) - 1, NULL, 10);
	}
	if (f)
		(void)fclose(f);
	return kib;
}

/* Control: what is counted is not there without MADV_HUGEPAGE. */
static void row_huge(struct row *r)
{
	pthread_t thread = start_thread(r);

	for (int i = 0; i < (int)r->times && more(r); i++) {
		if (!move_text(0, !r->is_control))
			skip_row(r, "text cannot be moved");
		if (huge_kib() >= 2048)
			provoked(r, 1);
		else if (r->is_control)
			failed(r, "no huge page");
		else if (!i)
			skip_row(r, "there are no huge pages to be had");
		change(r);
		change(r);
	}
	end_thread(thread);
}

/* Control: the change before it is not expected to be there. */
static void row_remapped(struct row *r)
{
	pthread_t thread = start_thread(r);

	while (more(r)) {
		change(r);
		if (!move_text(0, false))
			skip_row(r, "text cannot be moved");
		if (r->is_control)
			is_new = !is_new;
		check(r);
		change(r);
		provoked(r, 1);
	}
	end_thread(thread);
}

/* --------------------------------------------------------------------------- sealed */

/* Sealed text cannot be replaced; it can be written. Control: nor that. */
static void row_sealed(struct row *r)
{
	pthread_t thread;

	change(r);
	if (syscall(SYS_mseal, mapped_text, mapped_text_end - mapped_text, 0))
		skip_row(r, "this kernel has no mseal()");
	if (r->is_control && r->way != REMAP)
		(void)forbid(FORBID_PWRITE);
	thread = start_thread(r);
	while (more(r)) {
		if (r->way == REMAP && !r->is_control) {
			MUST(r, try_change(r) == -EPERM && strstr(shunt_last_error(), "mremap"));
			check(r);
		} else {
			change(r);
		}
		provoked(r, 1);
	}
	end_thread(thread);
}

/* ---------------------------------------------------------------------- the file */

static bool copy_file(const char *from, const char *to)
{
	static char buf[1 << 16];
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	ssize_t n = -1;

	while (in >= 0 && out >= 0 && (n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, (size_t)n) != n)
			return false;
	(void)close(in);
	(void)close(out);
	return n == 0;
}

/* Another file of that name, as an upgrade leaves it; or none. */
static bool replace(const char *path, bool by_another)
{
	char new[4096 + 8];

	if (!by_another)
		return !unlink(path);
	(void)snprintf(new, sizeof(new), "%s.new", path);
	return copy_file("/proc/self/exe", new) && !rename(new, path);
}

/* The mapping of @at, as /proc/self/maps names it. */
static void name_of(const void *at, char *name, size_t size)
{
	char line[4400];
	FILE *f = fopen("/proc/self/maps", "r");

	name[0] = '\0';
	while (f && fgets(line, sizeof(line), f))
		if (has(line, at))
			(void)snprintf(name, size, "%s",
				       strchr(line, '/') ? strchr(line, '/') : "");
	if (f)
		(void)fclose(f);
}

/* It is a copy of the file that runs (main()), and nobody else needs that. */
static void row_program(struct row *r)
{
	char path[4096], before[4200], after[4200];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	pthread_t thread;

	path[n < 0 ? 0 : n] = '\0';
	if (!strstr(path, "hostile-copy"))
		skip_row(r, "it could not copy itself");
	if (!replace(path, !strcmp(r->name, "program-replaced")))
		failed(r, "the file cannot be replaced");
	if (r->is_control) /* what leads to the file is away, and what would do without it */
		(void)forbid(FORBID_OPEN | FORBID_PWRITE | FORBID_PROTECT | FORBID_SIGNALS);
	thread = start_thread(r);
	name_of((const void *)mapped_site, before, sizeof(before));
	while (more(r)) {
		change(r);
		provoked(r, 1);
	}
	end_thread(thread);
	name_of((const void *)mapped_site, after, sizeof(after));
	MUST(r, r->is_control || (strstr(before, "(deleted)") && !strcmp(before, after)));
	(void)unlink(path);
}

/* A copy of the plugin at @path, or what there is of it: see skip_row(). Its site. */
static long (*load(struct row *r, char *path, void **handle))(long)
{
	const char *plugin = getenv("HOSTILE_PLUGIN");

	*handle = NULL;
	if (plugin && copy_file(plugin, path) && !chmod(path, 0755))
		*handle = dlopen(path, RTLD_NOW);
	if (!*handle)
		skip_row(r, "no plugin");
	return (long (*)(long))dlsym(*handle, r->way == FLIP ? "plugin_branch" : "plugin_site");
}

static bool is_two;

static int try_change_plugin(const struct row *r)
{
	if (r->way == FLIP)
		return is_two ? static_branch_disable(&plugin_key)
			      : static_branch_enable(&plugin_key);
	return is_two ? static_call_update(plugin_call, plugin_one)
		      : static_call_update(plugin_call, plugin_two);
}

static void change_plugin(struct row *r, long (*in_plugin)(long))
{
	MUST(r, !try_change_plugin(r));
	is_two = !is_two;
	must_be_flip(r);
	MUST(r, in_plugin(1) == (is_two ? 3 : 2));
}

/* A shared object. Control: its file stays as it is. */
static void row_plugin(struct row *r)
{
	char path[] = "/tmp/hostile-plugin-XXXXXX", name[4200];
	pthread_t thread = start_thread(r);

	if (close(mkstemp(path)))
		skip_row(r, "no temporary file");
	while (more(r)) {
		void *handle;
		long (*in_plugin)(long) = load(r, path, &handle);

		if (!r->is_control && !replace(path, times_provoked(r) % 2))
			failed(r, "the plugin's file cannot be replaced");
		change_plugin(r, in_plugin);
		change_plugin(r, in_plugin);
		name_of((const void *)in_plugin, name, sizeof(name));
		MUST(r, strstr(name, "(deleted)"));
		(void)dlclose(handle);
		provoked(r, 1);
	}
	end_thread(thread);
	(void)unlink(path);
}

/*
 * The same for a user who may not open a mapping's file (root may), and who has had only
 * one thread so far: the file has been known since it was loaded. Control: nothing is left.
 */
static void row_plugin_nobody(struct row *r)
{
	char path[] = "/tmp/hostile-plugin-XXXXXX";
	struct shunt_ways ways;
	long (*in_plugin)(long);
	pthread_t thread;
	void *handle;

	if (close(mkstemp(path)))
		skip_row(r, "no temporary file");
	in_plugin = load(r, path, &handle);
	if (!replace(path, true))
		failed(r, "the plugin's file cannot be replaced");
	if (chown(path, NOBODY, NOBODY)) /* who is to remove it */
		skip_row(r, "the user cannot be changed here");
	if (forbid(FORBID_USER | (r->is_control ? FORBID_ALL : 0)))
		skip_row(r, "the user cannot be changed here");
	thread = start_thread(r);
	while (more(r)) {
		change_plugin(r, in_plugin);
		shunt_get_ways(&ways);
		if (r->way == AUTO)
			MUST(r, !strcmp(ways.poke, CPU_HAS_TRAPS ? "remap" : "flip"));
		provoked(r, 1);
	}
	end_thread(thread);
	(void)unlink(path);
}

/* ------------------------------------------------------------------------------ JIT */

/* "return 1", with a nop in front, which is what is poked to a jump to "return 2". */
#ifdef __aarch64__
typedef uint32_t code_unit;
#define NOP 0xd503201fu
static code_unit jit_code[] = {NOP, 0x52800020 /* mov w0, #1 */, 0xd65f03c0 /* ret */,
			       0x52800040 /* mov w0, #2 */, 0xd65f03c0};
static code_unit to_one[] = {NOP};
static const code_unit to_two[] = {0x14000003}; /* b: three words on */
#else
typedef unsigned char code_unit;
static code_unit jit_code[] = {
	0x0f, 0x1f, 0x44, 0, 0, 0xb8 /* mov $1, %eax */, 1, 0, 0, 0, 0xc3, 0xb8, 2, 0, 0, 0, 0xc3};
static code_unit to_one[] = {0x0f, 0x1f, 0x44, 0, 0};
static const code_unit to_two[] = {0xe9, 6, 0, 0, 0};
#endif

/* By flip the off form of the jump; a nop is that where no site traps. */
static void use_off_form(const struct row *r)
{
#if CPU_HAS_TRAPS
	static const code_unit test[] = {0xa9, 6, 0, 0, 0};

	if (r->way == FLIP) {
		memcpy(to_one, test, sizeof(test));
		memcpy(jit_code, test, sizeof(test));
	}
#else
	(void)r;
#endif
}

struct jit {
	struct row *row;
	int (*code)(void);
};

static void *run_jit(void *arg)
{
	struct jit *jit = arg;

	while (!atomic_load(&over)) {
		int got = jit->code();

		MUST(jit->row, got == 1 || got == 2);
	}
	return NULL;
}

static void poke_jit(struct row *r, void *code, bool works)
{
	struct jit jit = {r, (int (*)(void))code};
	pthread_t thread;
	bool two = false;

	if (pthread_create(&thread, NULL, run_jit, &jit))
		abort();
	while (more(r)) {
		int ret = text_poke_bp(code, two ? to_one : to_two, sizeof(to_one));

		if (works ? ret != 0 : ret == 0 || !shunt_last_error()[0])
			failed(r, works ? "text_poke_bp() fails" : "text_poke_bp() says nothing");
		two = two != works;
		if (works)
			must_be_flip(r);
		MUST(r, jit.code() == 1 + two);
		provoked(r, 1);
	}
	end_thread(thread);
}

/* By remap it is refused. Control: the text is not there. */
static void row_jit(struct row *r)
{
	void *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	use_off_form(r);
	memcpy(p, jit_code, sizeof(jit_code));
	if (p == MAP_FAILED || mprotect(p, 8192, PROT_READ | PROT_EXEC))
		skip_row(r, "no executable memory");
	if (r->is_control)
		(void)mprotect(p, 8192, PROT_READ);
	poke_jit(r, p, r->way != REMAP);
}

/* Shared memory, mapped twice: what is private would be seen here alone. Control: private. */
static void row_jit_shared(struct row *r)
{
	int fd = memfd_create("jit", MFD_CLOEXEC);
	void *p;

	use_off_form(r);
	if (fd < 0 || write(fd, jit_code, sizeof(jit_code)) != sizeof(jit_code))
		skip_row(r, "no memfd");
	p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, r->is_control ? MAP_PRIVATE : MAP_SHARED, fd,
		 0);
	if (p == MAP_FAILED)
		skip_row(r, "no executable memory");
	poke_jit(r, p, false);
}

/* ----------------------------------------------------------------------------- rows */

static struct row rows[] = {
	{.name = "huge-pages",
	 .title = "moves its text to huge pages",
	 .unit = "moves",
	 .run = row_huge,
	 .times = 50,
	 .flip = true,
	 .control = "no MADV_HUGEPAGE"},
	{.name = "remapped",
	 .title = "maps its text anew",
	 .unit = "moves",
	 .run = row_remapped,
	 .times = 100,
	 .flip = true,
	 .control = "the change before it is not expected"},
	{.name = "sealed",
	 .title = "has its text sealed",
	 .unit = "updates",
	 .run = row_sealed,
	 .times = 200,
	 .flip = true,
	 .control = "not writable either; by remap: updates must work"},
	{.name = "program-replaced",
	 .title = "has its file replaced",
	 .unit = "updates",
	 .run = row_program,
	 .times = 200,
	 .flip = true,
	 .control = "what leads to the file is forbidden"},
	{.name = "program-removed",
	 .title = "has its file removed",
	 .unit = "updates",
	 .run = row_program,
	 .times = 200,
	 .flip = true,
	 .control = "what leads to the file is forbidden"},
	{.name = "plugin-replaced",
	 .title = "has a plugin's file replaced or removed",
	 .unit = "plugins",
	 .run = row_plugin,
	 .times = 40,
	 .flip = true,
	 .control = "it is not replaced"},
	{.name = "plugin-replaced-nobody",
	 .title = "the same, and is not root",
	 .unit = "updates",
	 .run = row_plugin_nobody,
	 .times = 40,
	 .flip = true,
	 .control = "all is forbidden"},
	{.name = "jit",
	 .title = "has text of no file",
	 .unit = "pokes",
	 .run = row_jit,
	 .times = 300,
	 .flip = true,
	 .control = "it is not executable"},
	{.name = "jit-shared",
	 .title = "has text in shared memory",
	 .unit = "refused pokes",
	 .run = row_jit_shared,
	 .times = 100,
	 .flip = true,
	 .control = "it is private"},
	{0},
};

/* The rows that replace the program's file run as a copy of it. */
static void become_copy(char **argv)
{
	char path[] = "/tmp/hostile-copy-XXXXXX";
	int fd = mkstemp(path);

	(void)setenv("HOSTILE_COPY", "1", 1);
	if (fd >= 0 && !close(fd) && copy_file("/proc/self/exe", path) && !chmod(path, 0755))
		(void)execv(path, argv);
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strncmp(argv[1], "program-", 8) && !getenv("HOSTILE_COPY"))
		become_copy(argv);
	return hostile_main(argc, argv, rows);
}
