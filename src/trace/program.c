/* SPDX-License-Identifier: MIT */
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "linux/base/syscall.h"
#include "trace/program.h"

/* The recorder's own, by the linker. */
extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden")));

enum { SCRIPTS_MAX = 4 /* as the kernel */, HEAD = 256, SEGMENTS_MAX = 64, DYNAMIC_MAX = 128 };

static bool read_at(int fd, void *to, size_t size, uint64_t at)
{
	return shunt_syscall(SYS_pread64, fd, (long)to, (long)size, (long)at) == (long)size;
}

/* The dynamic linker has a name for others; a static program has none. */
static bool is_linker(int fd, const Elf64_Phdr *dynamic)
{
	Elf64_Dyn entry = {0};

	for (unsigned i = 0; i < DYNAMIC_MAX; i++) {
		if (!read_at(fd, &entry, sizeof(entry), dynamic->p_offset + i * sizeof(entry)) ||
		    entry.d_tag == DT_NULL)
			return false;
		if (entry.d_tag == DT_SONAME)
			return true;
	}
	return false;
}

static bool is_musl(int fd, const Elf64_Phdr *interpreter)
{
	char name[HEAD];
	long n = shunt_syscall(SYS_pread64, fd, (long)name, sizeof(name) - 1,
			       (long)interpreter->p_offset);

	name[n > 0 ? n : 0] = '\0';
	return strstr(name, "/ld-musl-") != NULL;
}

static enum trace_left_out look_at_segments(int fd, const Elf64_Ehdr *head)
{
	bool has_linker = false;
	Elf64_Phdr segment = {0};

	for (unsigned i = 0; i < head->e_phnum && i < SEGMENTS_MAX; i++) {
		if (!read_at(fd, &segment, sizeof(segment), head->e_phoff + i * sizeof(segment)))
			return TRACE_NOT_LEFT_OUT;
		if (segment.p_type == PT_INTERP)
			return is_musl(fd, &segment) ? TRACE_LEFT_OUT_MUSL : TRACE_NOT_LEFT_OUT;
		has_linker |= segment.p_type == PT_DYNAMIC && is_linker(fd, &segment);
	}
	return has_linker ? TRACE_NOT_LEFT_OUT : TRACE_LEFT_OUT_STATIC;
}

/* So an owner is shown who is not in this user namespace: the kernel ignores such a file's bits. */
enum { OVERFLOW_ID = 65534 };

/* With the rights of its file. */
static bool has_other_rights(const struct stat *st)
{
	bool by_user = st->st_mode & S_ISUID;
	bool by_group = (st->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);

	if (st->st_uid == OVERFLOW_ID || st->st_gid == OVERFLOW_ID)
		return false;
	return (by_user && shunt_syscall(SYS_geteuid, 0, 0, 0, 0) != (long)st->st_uid) ||
	       (by_group && shunt_syscall(SYS_getegid, 0, 0, 0, 0) != (long)st->st_gid);
}

/* The kernel gives them. */
static bool gets_rights(int fd)
{
	struct statfs st = {0};

	return shunt_syscall6(SYS_prctl, PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0) != 1 &&
	       (shunt_syscall(SYS_fstatfs, fd, (long)&st, 0, 0) || !(st.f_flags & ST_NOSUID));
}

static enum trace_left_out look_at_program(int fd, const Elf64_Ehdr *head)
{
	struct stat st = {0};

	if (head->e_ident[EI_CLASS] != ELFCLASS64 || head->e_machine != __ehdr_start.e_machine ||
	    head->e_phentsize != sizeof(Elf64_Phdr))
		return TRACE_LEFT_OUT_CPU;
	if (!shunt_syscall(SYS_fstat, fd, (long)&st, 0, 0) && has_other_rights(&st) &&
	    gets_rights(fd))
		return TRACE_LEFT_OUT_RIGHTS;
	return look_at_segments(fd, head);
}

/* Behind a change of the folder that is not known. */
static bool is_elsewhere(const char *path, int how)
{
	return how & TRACE_PROGRAM_ELSEWHERE && path[0] != '/';
}

/* The interpreter of a script, in @text; NULL: it has none. */
static const char *find_interpreter(char text[HEAD])
{
	char *name = text + 2 + strspn(text + 2, " \t");

	name[strcspn(name, " \t\n")] = '\0';
	return *name ? name : NULL;
}

static enum trace_left_out look_at(long fd, int how)
{
	union {
		Elf64_Ehdr elf;
		char text[HEAD];
	} head;
	const char *interpreter = NULL;

	for (int i = 0; i <= SCRIPTS_MAX && fd >= 0; i++) {
		long n = shunt_syscall(SYS_pread64, fd, (long)head.text, HEAD - 1, 0);

		head.text[n > 0 ? n : 0] = '\0';
		if (n >= (long)sizeof(head.elf) && !memcmp(head.text, ELFMAG, SELFMAG)) {
			enum trace_left_out left_out = look_at_program((int)fd, &head.elf);

			(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
			return left_out;
		}
		(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
		interpreter = memcmp(head.text, "#!", 2) ? NULL : find_interpreter(head.text);
		if (interpreter && is_elsewhere(interpreter, how))
			return TRACE_LEFT_OUT_FOLDER;
		fd = interpreter ? shunt_syscall(SYS_openat, AT_FDCWD, (long)interpreter,
						 O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0)
				 : -1;
	}
	if (fd >= 0)
		(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
	return TRACE_NOT_LEFT_OUT;
}

/* Opening a device may do something. */
static bool is_program(int dir, const char *path, int flags)
{
	struct stat st = {0};

	return !shunt_syscall(SYS_newfstatat, dir, (long)path, (long)&st, flags & AT_EMPTY_PATH) &&
	       S_ISREG(st.st_mode) && st.st_mode & 0111;
}

/* Where execvp() finds it: in @path, or relative, @file; NULL: nowhere, or it is not known. */
static const char *find_in_path(const char *file, int how, char path[TRACE_PROGRAM_PATH])
{
	const char *folder = getenv("PATH");
	size_t length = strlen(file);

	if (strchr(file, '/'))
		return file;
	for (folder = folder ? folder : "/bin:/usr/bin"; folder && length;) {
		size_t n = strcspn(folder, ":");

		if (is_elsewhere(folder, how))
			return file;
		if (n + length + 2 <= TRACE_PROGRAM_PATH) {
			memcpy(path, folder, n);
			path[n] = '/';
			memcpy(path + n + (n != 0), file, length + 1);
			if (is_program(AT_FDCWD, path, 0))
				return path;
		}
		folder = folder[n] ? folder + n + 1 : NULL;
	}
	return NULL;
}

/* Behind chroot(), or with other rights, the dynamic linker would complain of it. */
static enum trace_left_out look_at_environment(const struct trace_handed *handed)
{
	if (handed->is_taken_out)
		return TRACE_LEFT_OUT_TAKEN;
	return trace_handed_can_open() ? TRACE_NOT_LEFT_OUT : TRACE_LEFT_OUT_LIBRARY;
}

static enum trace_left_out look_at_file(const struct trace_program *program, int dir, int how)
{
	enum trace_left_out left_out;

	if (how & TRACE_PROGRAM_RESET)
		return TRACE_LEFT_OUT_RESET;
	if (is_elsewhere(program->name, how))
		return TRACE_LEFT_OUT_FOLDER;
	if (program->name[0])
		left_out = look_at(shunt_syscall(SYS_openat, dir, (long)program->name,
						 O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0),
				   how);
	else
		left_out = look_at(shunt_syscall(SYS_fcntl, dir, F_DUPFD_CLOEXEC, 0, 0), how);
	return left_out ? left_out : look_at_environment(&program->handed);
}

static bool is_not_known(enum trace_left_out left_out)
{
	return left_out == TRACE_LEFT_OUT_FOLDER || left_out == TRACE_LEFT_OUT_RESET;
}

/* An environment that is good as it is does not keep the recorder out of it. */
static enum trace_left_out look_at_unknown(const struct trace_program *program)
{
	if (program->handed.is_taken_out)
		return TRACE_LEFT_OUT_TAKEN;
	return program->handed.bytes ? program->left_out : TRACE_NOT_LEFT_OUT;
}

void trace_program_look(struct trace_program *program, int dir, const char *path, int flags,
			int how, char *const envp[])
{
	program->is_there = program->is_told = program->is_unknown = false;
	program->left_out = TRACE_NOT_LEFT_OUT;
	trace_handed_look(&program->handed, envp);
	if (!trace_handed_is_kept())
		return;
	program->name =
		how & TRACE_PROGRAM_SEARCHED ? find_in_path(path, how, program->path) : path;
	if (!program->name || !shunt_is_readable(((uintptr_t)program->name & ~(uintptr_t)7) | 8))
		return;
	program->is_there = how & TRACE_PROGRAM_RESET || is_elsewhere(program->name, how) ||
			    is_program(dir, program->name, flags);
	if (!program->is_there)
		return;
	program->left_out = look_at_file(program, dir, how);
	program->is_unknown = is_not_known(program->left_out);
	if (program->is_unknown)
		program->left_out = look_at_unknown(program);
	/* To any other it does no harm. */
	if (program->is_unknown || program->left_out == TRACE_LEFT_OUT_MUSL ||
	    program->left_out == TRACE_LEFT_OUT_CPU || program->left_out == TRACE_LEFT_OUT_RIGHTS ||
	    program->left_out == TRACE_LEFT_OUT_LIBRARY)
		program->handed.bytes = 0;
}

void trace_program_tell(struct trace_program *program, int32_t pid)
{
	if (!program->is_there || program->handed.is_others ||
	    (program->handed.is_unheard && !program->left_out))
		return;
	program->is_told = true;
	trace_tell(TRACE_WORD_EXECUTES, (int)program->left_out, (uint64_t)pid,
		   program->name[0] ? program->name : "a program by its descriptor");
}

void trace_program_tell_of_shell(char *const envp[])
{
	struct trace_handed handed;

	trace_handed_look(&handed, envp);
	if (handed.bytes || (handed.is_taken_out && !handed.is_others))
		trace_tell(TRACE_WORD_EXECUTES, TRACE_LEFT_OUT_SHELL, 0, "/bin/sh");
}

void trace_program_has_failed(const struct trace_program *program)
{
	if (program->is_told)
		trace_tell(TRACE_WORD_NOT_EXECUTED, 0, (uint64_t)shunt_own_pid(), NULL);
}
