/* SPDX-License-Identifier: MIT */
/*
 * Updates a static call and a static key of its own, then those of a plugin: each update
 * must be in force, or be refused and have changed nothing. Prints what there is to know,
 * for test_startup.py.
 *
 *	started [chdir DIRECTORY] [PLUGIN]
 *	started unwritable	where no text can be written: all ways are refused with EACCES
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#define KEPT __attribute__((noinline, used))

static int one(int x)
{
	return x + 1;
}

static int two(int x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(started_call, one);
DEFINE_STATIC_KEY_FALSE(started_off);
DEFINE_STATIC_KEY_TRUE(started_on);

KEPT static int call(int x)
{
	return static_call(started_call)(x) * 2;
}

KEPT static int tail(int x)
{
	return static_call(started_call)(x);
}

KEPT static int is_off(int x)
{
	if (static_branch_unlikely(&started_off))
		x += 100;
	return x;
}

KEPT static int is_on(int x)
{
	if (static_branch_likely(&started_on))
		x += 100;
	return x;
}

static int see_key(const struct shunt_key_info *info, void *arg)
{
	(void)arg;
	printf("key %s: %zu sites, %zu inline, module %s, why %s\n", info->name, info->sites,
	       info->inline_sites, info->module, info->why ? info->why : "-");
	return 0;
}

static int see_site(const struct shunt_site_info *info, void *arg)
{
	(void)arg;
	printf("site of %s in %s\n", info->key, info->function ? info->function : "?");
	return 0;
}

/* Whether each update did what it returned. */
static bool round_trip(void)
{
	int update = static_call_update(started_call, two);
	int enable = static_branch_enable(&started_off);
	int disable = static_branch_disable(&started_on);
	bool good = call(1) == (update ? 4 : 6) && tail(1) == (update ? 2 : 3) &&
		    is_off(1) == (enable ? 1 : 101) && is_on(1) == (disable ? 101 : 1);

	printf("update %d, enable %d, disable %d: call %d, tail %d, off %d, on %d\n", update,
	       enable, disable, call(1), tail(1), is_off(1), is_on(1));
	if (!update)
		good = good && !static_call_update(started_call, one) && call(1) == 4;
	if (!enable)
		good = good && !static_branch_disable(&started_off) && is_off(1) == 1;
	if (!disable)
		good = good && !static_branch_enable(&started_on) && is_on(1) == 101;
	return good;
}

/* As policies do that have no page both writable and executable: pwrite(), mremap(), mprotect(). */
static int forbid_writes(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwrite64, 5, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mremap, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROT_WRITE | PROT_EXEC, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(f) / sizeof(f[0]), f};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
	bool good;
	int i = 1;

	/* From before its constructors on. */
	if (argc == 2 && !strcmp(argv[1], "unwritable")) {
		if (!forbid_writes())
			(void)execl(argv[0], argv[0], (char *)NULL);
		puts("no filter");
		return 1;
	}
	good = round_trip() && round_trip();
	if (argc > 2 && !strcmp(argv[1], "chdir")) {
		good = good && !chdir(argv[2]);
		i = 3;
	}
	for (; i < argc; i++)
		if (strstr(argv[i], ".so") && !dlopen(argv[i], RTLD_NOW)) {
			puts(dlerror());
			good = false;
		}
	(void)shunt_for_each_key(see_key, NULL);
	(void)shunt_for_each_site(NULL, see_site, NULL);
	puts(good ? "good" : "bad");
	return !good;
}
