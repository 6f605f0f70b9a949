/* SPDX-License-Identifier: MIT */
/*
 * Bad input: an update that cannot be done gives a negative errno and a message,
 * and changes nothing: not the text, not the target, not what calls reach. Each
 * hazard is made for real, in a child process of its own.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/control.h>
#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "../common/descriptor_limit.h"
#include "tap.h"

#define NOINLINE KEEP

NOINLINE static int add1(int x)
{
	return x + 1;
}

NOINLINE static int add2(int x)
{
	return x + 2;
}

NOINLINE static int add3(int x)
{
	return x + 3;
}

DEFINE_STATIC_CALL(bad_exe, add1);

static volatile int zero;

NOINLINE static int call_it(int x)
{
	return static_call(bad_exe)(x) - zero;
}

NOINLINE static int call_it_again(int x)
{
	return static_call(bad_exe)(x) - zero;
}

NOINLINE static int tail_it(int x)
{
	return static_call(bad_exe)(x);
}

static bool all_add(int n)
{
	return call_it(1) == 1 + n && call_it_again(1) == 1 + n && tail_it(1) == 1 + n;
}

/* --------------------------------------------------------------- messages */

static char logged[512];
static int nr_logged;

static void keep_message(const char *message, void *arg)
{
	(void)arg;
	(void)snprintf(logged, sizeof(logged), "%s", message);
	nr_logged++;
}

/* The text of all sites, to see that nothing has changed. */
struct text {
	unsigned char bytes[64][6];
	unsigned char *addr[64];
	size_t n;
};

static int add_text(const struct shunt_site_info *site, void *arg)
{
	struct text *t = arg;

	memcpy(t->bytes[t->n], site->addr, 6);
	t->addr[t->n++] = site->addr;
	return t->n == 64;
}

static void take_text(struct text *t)
{
	t->n = 0;
	(void)shunt_for_each_site("bad_exe", add_text, t);
}

static bool same_text(const struct text *a)
{
	struct text b;

	take_text(&b);
	return a->n == b.n && !memcmp(a->bytes, b.bytes, a->n * sizeof(a->bytes[0]));
}

/*
 * An update to add2 must fail with @error, the message must have all of @words
 * (separated by |) in it, and all must be as it was under add1.
 */
static void must_fail(const struct text *before, const char *what, int error, const char *words)
{
	int ret = static_call_update(bad_exe, add2);
	char list[128], *word, *rest = list;
	bool has = true;

	ok(ret == error, "%s: the update returns %d, expected %d", what, ret, error);
	ok(all_add(1) && static_call_query(bad_exe) == (void *)add1,
	   "%s: calls and query are as before", what);
	ok(same_text(before), "%s: not a byte of the %zu sites has changed", what, before->n);
	strcpy(list, words);
	while ((word = strsep(&rest, "|")))
		has = has && strstr(shunt_last_error(), word);
	ok(has && !strcmp(logged, shunt_last_error()), "%s: %s", what, shunt_last_error());
}

static void must_work(const char *what)
{
	ok(static_call_update(bad_exe, add3) == 0 && all_add(3), "%s: an update works", what);
	ok(static_call_update(bad_exe, add1) == 0 && all_add(1), "%s: and back", what);
}

/* ------------------------------------------------------------------ seccomp */

/* Make system call @nr fail with EPERM where its argument @arg has all bits @bits. */
static bool forbid(unsigned nr, unsigned arg, unsigned bits)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 (unsigned)offsetof(struct seccomp_data, args) + 8 * arg),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, bits),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, bits, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof(code) / sizeof(code[0]), code};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static bool forbid_all_writing(void)
{
	return forbid(SYS_pwrite64, 0, 0) && forbid(SYS_mprotect, 2, PROT_EXEC) &&
	       forbid(SYS_process_vm_writev, 0, 0) && forbid(SYS_pwritev, 0, 0) &&
	       forbid(SYS_mremap, 0, 0);
}

static void test_write_forbidden(void)
{
	struct text before;

	take_text(&before);
	if (!ok(forbid_all_writing(), "seccomp: pwrite64 and mprotect(PROT_EXEC) give EPERM"))
		return;
		/* By the last way: where nothing traps, stores to pages that mprotect() has opened.
		 */
#ifdef __aarch64__
	must_fail(&before, "writing forbidden", -EPERM, "bad_exe|site|mprotect");
#else
	must_fail(&before, "writing forbidden", -EPERM, "bad_exe|site|pwrite");
#endif
}

static void test_mem_forbidden(void)
{
	struct shunt_ways ways;

	if (!ok(forbid(SYS_pwrite64, 0, 0), "seccomp: pwrite64 gives EPERM"))
		return;
	must_work("only pwrite forbidden");
	shunt_get_ways(&ways);
	ok(!strstr(ways.write, "mem"), "then another way to write is taken: %s", ways.write);
}

static void test_sync_forbidden(void)
{
	struct text before;

	take_text(&before);
	if (!ok(forbid(SYS_membarrier, 0, 0), "seccomp: membarrier gives EPERM"))
		return;
	must_fail(&before, "membarrier forbidden", -EPERM, "bad_exe|core sync|membarrier");
}

/* -------------------------------------------------------------- foreign bytes */

static bool write_text(void *addr, const void *bytes, size_t len)
{
	int fd = open("/proc/self/mem", O_RDWR);
	bool good = fd >= 0 && pwrite(fd, bytes, len, (off_t)(uintptr_t)addr) == (ssize_t)len;

	close(fd);
	return good;
}

/* @other stands at the last site instead of its first byte. */
static void foreign_byte(unsigned char other, const char *what)
{
	struct text before, with;
	unsigned char found[24];
	unsigned char *site;
	int ret;

	take_text(&before);
	if (!ok(before.n >= 3, "%s: sites are known", what))
		return;
	site = before.addr[before.n - 1];
	ok(write_text(site, &other, 1), "%s: written at the last site", what);
	take_text(&with);
	ret = static_call_update(bad_exe, add2);
	ok(ret == -EBUSY, "%s: the update returns %d, expected -EBUSY", what, ret);
	ok(same_text(&with), "%s: not a byte has changed", what);
	snprintf((char *)found, sizeof(found), "%02x %02x %02x", other,
		 before.bytes[before.n - 1][1], before.bytes[before.n - 1][2]);
	ok(strstr(shunt_last_error(), (char *)found) && strstr(shunt_last_error(), "bad_exe"),
	   "%s: %s", what, shunt_last_error());
	ok(write_text(site, before.bytes[before.n - 1], 1), "%s: put back", what);
	ok(all_add(1), "%s: calls are as before", what);
	must_work(what);
}

static void test_foreign_bytes(void)
{
	foreign_byte(0xcc, "a breakpoint");
	foreign_byte(0x90, "a nop");
}

/* ----------------------------------------------------------------- descriptors */

#define OWN 80 /* more than the numbers of those that the library keeps */

/* A daemon closes all descriptors; the numbers then belong to files of its own. */
static void test_descriptors(void)
{
	char path[64];
	int files[OWN];
	struct stat st;
	off_t size = 0;

	must_work("before");
	close_range(3, ~0u, 0);
	/* In memory: a file on a disk cannot be written at an offset as high as text is. */
	files[0] = memfd_create("own", 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", files[0]);
	for (int i = 1; i < OWN; i++)
		files[i] = open(path, O_RDWR);
	must_work("all descriptors closed, and reused");
	for (int i = 0; i < OWN; i++)
		if (files[i] >= 0 && !fstat(files[i], &st))
			size += st.st_size;
	ok(size == 0, "nothing was written into the program's own files");
	for (int i = 0; i < OWN; i++)
		if (files[i] >= 0)
			ok(fcntl(files[i], F_GETFD) >= 0 || i > 0, "descriptor %d is still open",
			   files[i]);
}

/* Whether the library has /proc/self/mem open. */
static bool has_mem(void)
{
	char path[64], name[64];

	for (int fd = 3; fd < 64; fd++) {
		ssize_t n;

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, name, sizeof(name));
		if (n > 4 && !memcmp(name + n - 4, "/mem", 4))
			return true;
	}
	return false;
}

/* No descriptor is to be had for a while: that must not change the way for good. */
static void test_no_descriptors(void)
{
	struct shunt_ways ways;

	close_range(3, ~0u, 0);
	if (!ok(limit_descriptors(3) && open("/", O_RDONLY) < 0 && errno == EMFILE,
		"no more descriptors"))
		return;
	must_work("without a descriptor");
	ok(limit_descriptors(RLIM_INFINITY) && !has_mem(), "/proc/self/mem was not written");
	must_work("with descriptors again");
	shunt_get_ways(&ways);
	ok(has_mem() && strstr(ways.write, "mem"), "/proc/self/mem is written again: %s",
	   ways.write);
}

/* ------------------------------------------------------------------------ fork */

static int child_status(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static void test_fork(void)
{
	int to_child[2], to_parent[2], ret;
	char c = 0;
	pid_t pid;

	must_work("before the fork"); /* so that the descriptor is open */
	ok(!pipe(to_child) && !pipe(to_parent), "pipes");
	pid = fork();
	if (!pid) {
		int bad = !all_add(1) || static_call_update(bad_exe, add2) || !all_add(2);

		bad |= write(to_parent[1], &c, 1) != 1 || read(to_child[0], &c, 1) != 1;
		bad |= !all_add(2) || static_call_query(bad_exe) != (void *)add2;
		bad |= static_call_update(bad_exe, add1) || !all_add(1);
		_exit(bad);
	}
	ok(pid > 0 && read(to_parent[0], &c, 1) == 1, "the child has updated");
	ok(all_add(1) && static_call_query(bad_exe) == (void *)add1,
	   "the parent does not see the child's update");
	ret = static_call_update(bad_exe, add3);
	ok(ret == 0 && all_add(3), "the parent updates");
	ok(write(to_child[1], &c, 1) == 1, "go on");
	ok(child_status(pid) == 0, "the child does not see the parent's update");
	ok(all_add(3), "nor the parent the child's second one");
}

/* --------------------------------------------------------- no key, no function */

static void test_no_key(void)
{
	struct text before;

	take_text(&before);
	ok(__static_call_update(NULL, (void (*)(void))add2) == -EINVAL, "NULL key: -EINVAL");
	ok(strstr(shunt_last_error(), "no key"), "NULL key: the message says so");
	diag("%s", shunt_last_error());
	ok(static_call_update(bad_exe, NULL) == -EINVAL, "NULL function: -EINVAL");
	ok(strstr(shunt_last_error(), "bad_exe") && strstr(shunt_last_error(), "nullable"),
	   "NULL function: the message says so");
	diag("%s", shunt_last_error());
	ok(all_add(1) && same_text(&before), "and nothing has changed");
}

/* What refuses it looks at no key. */
static void test_no_settings(void)
{
	static const struct shunt_setting incomplete[] = {{"bad_exe", NULL}, {NULL, "initial"}};
	struct text before;

	take_text(&before);
	ok(!shunt_set_keys(NULL, 0), "settings: none of none is done");
	for (size_t i = 0; i < 3; i++) {
		const struct shunt_setting *settings = i ? &incomplete[i - 1] : NULL;
		const char *words = i ? "no name, or no value" : "no settings";

		ok(static_call_update(bad_exe, NULL) == -EINVAL, "settings: another message");
		ok(shunt_set_keys(settings, 1) == -EINVAL, "settings %zu: -EINVAL", i);
		ok(strstr(shunt_last_error(), "shunt_set_keys") &&
			   strstr(shunt_last_error(), words) && !strcmp(logged, shunt_last_error()),
		   "settings %zu: the message says so", i);
		diag("%s", shunt_last_error());
	}
	ok(all_add(1) && same_text(&before), "settings: and nothing has changed");
}

/* ---------------------------------------------------------- a replaced file */

struct plugin_key {
	char why[256];
	size_t sites, found;
};

static int note_plugin_key(const struct shunt_key_info *key, void *arg)
{
	struct plugin_key *k = arg;

	if (strcmp(key->name, "bad_key"))
		return 0;
	k->found++;
	k->sites = key->sites;
	snprintf(k->why, sizeof(k->why), "%s", key->why ? key->why : "");
	return 0;
}

/* Whether @message is one line, with nothing in it that a terminal would obey. */
static bool is_one_line(const char *message)
{
	for (; *message; message++)
		if ((unsigned char)*message < ' ' || *message == 0x7f)
			return false;
	return true;
}

/* @message has @path, but for its control characters. */
static bool names_file(const char *message, const char *path)
{
	char shown[512];
	size_t i;

	for (i = 0; path[i] && i < sizeof(shown) - 1; i++)
		shown[i] = (unsigned char)path[i] < ' ' || path[i] == 0x7f ? '?' : path[i];
	shown[i] = '\0';
	return strstr(message, shown);
}

/* @plugin is loaded, its file meddled with meanwhile; `why` must have @words in it. */
static int plugin(const char *path, const char *words)
{
	struct plugin_key key = {.found = 0};
	void *handle;
	int (*call)(int), (*update)(int);

	shunt_set_log(keep_message, NULL);
	handle = dlopen(path, RTLD_NOW);
	if (!ok(handle, "the plugin is loaded"))
		return tap_done();
	*(void **)&call = dlsym(handle, "bad_call");
	*(void **)&update = dlsym(handle, "bad_update");
	ok(call(1) == 20, "it calls");
	ok(update(2) == 0 && call(1) == 30, "an update works");
	ok(update(1) == 0 && call(1) == 20, "and back");
	ok(shunt_for_each_key(note_plugin_key, &key) == 0 && key.found == 1, "its key is listed");
	if (!*words) {
		ok(key.sites > 0 && !*key.why, "its sites are known: %zu", key.sites);
	} else {
		ok(key.sites == 0 && strstr(key.why, words), "none of its sites is known: %s",
		   key.why);
		ok(nr_logged == 1 && strstr(logged, words) && names_file(logged, path),
		   "the message says so: %s", logged);
		ok(is_one_line(logged), "the message is one line");
	}
	ok(dlclose(handle) == 0 && all_add(1), "it is unloaded");
	if (!strcmp(words, "relocations") || !strcmp(words, "stripped")) {
		handle = dlopen(path, RTLD_NOW);
		ok(handle && nr_logged == 1, "once, though it is loaded again");
	}
	return tap_done();
}

/* ------------------------------------------------------------------------ main */

static const struct {
	const char *name;
	void (*run)(void);
} hazards[] = {
	{"no-key", test_no_key},
	{"no-settings", test_no_settings},
	{"write-forbidden", test_write_forbidden},
	{"mem-forbidden", test_mem_forbidden},
	{"sync-forbidden", test_sync_forbidden},
	{"foreign-bytes", test_foreign_bytes},
	{"descriptors", test_descriptors},
	{"no-descriptors", test_no_descriptors},
	{"fork", test_fork},
};

/* Usage: test_bad_input HAZARD | test_bad_input plugin FILE WORDS */
int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "plugin"))
		return plugin(argv[2], argv[3]);
	shunt_set_log(keep_message, NULL);
	for (size_t i = 0; argc == 2 && i < sizeof(hazards) / sizeof(hazards[0]); i++) {
		if (strcmp(argv[1], hazards[i].name))
			continue;
		hazards[i].run();
		return tap_done();
	}
	return 2;
}
