/* SPDX-License-Identifier: MIT */
/* What /proc/self/maps and /proc/self/smaps list. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "linux/base/base.h"
#include "linux/base/descriptor.h"
#include "linux/base/syscall.h"
#include "linux/text/proc_file.h"
#include "linux/text/proc_maps.h"

static struct shunt_proc_file maps = {
	.path = "/proc/self/maps",
	.open_call = "open(/proc/self/maps)",
	.absent = "open(/proc/self/maps) gave ENOENT",
	.denied = "open(/proc/self/maps) gave EACCES",
	.not_proc = "/proc/self/maps is of no procfs",
	.flags = O_RDONLY | O_NOFOLLOW,
	.last_fd = -1,
};

int shunt_maps_open(void)
{
	return shunt_proc_file_open(&maps, &shunt_process()->maps_fd);
}

void shunt_maps_copied(void)
{
	shunt_proc_file_copied(&maps, &shunt_process()->maps_fd);
}

void shunt_maps_close(void)
{
	shunt_proc_file_close(&maps, &shunt_process()->maps_fd);
}

/* A file read line by line through one buffer. */
struct reader {
	long fd;
	size_t at, n;
	long offset;  /* of what comes next in the file */
	bool by_read; /* and the descriptor is no longer where it was */
	int error;    /* of pread(); or -EIO: it has been read, and is not what the kernel writes */
	char buf[8192];
};

static void begin(struct reader *r, long fd)
{
	r->fd = fd;
	r->at = r->n = 0;
	r->offset = 0;
	r->by_read = false;
	r->error = 0;
}

/*
 * By pread(); where that is refused, or a filter answers 0, by read(). A text that one of them
 * has begun is read on by the same.
 */
static long read_more(struct reader *r)
{
	long to = (long)(r->buf + r->n), room = (long)(sizeof(r->buf) - r->n), n, ret;

	if (r->by_read)
		return shunt_syscall(SYS_read, r->fd, to, room, 0);
	n = shunt_syscall(SYS_pread64, r->fd, to, room, r->offset);
	if (n > 0 || r->offset)
		return n;
	r->by_read = true;
	if (shunt_syscall(SYS_lseek, r->fd, 0, SEEK_SET, 0))
		return n;
	ret = shunt_syscall(SYS_read, r->fd, to, room, 0);
	return ret > 0 ? ret : n;
}

/* The next line without its end; NULL at the end of the file, or with r->error. */
static char *read_line(struct reader *r)
{
	for (;;) {
		char *line = r->buf + r->at, *end = memchr(line, '\n', r->n - r->at);
		long n;

		if (end) {
			*end = '\0';
			r->at = (size_t)(end - r->buf) + 1;
			return line;
		}
		memmove(r->buf, line, r->n - r->at);
		r->n -= r->at;
		r->at = 0;
		n = read_more(r);
		if (n <= 0) {
			/* Nothing at all, or half a line. */
			r->error = n ? (int)n : !r->offset || r->n ? -EIO : 0;
			return NULL;
		}
		r->n += (size_t)n;
		r->offset += n;
	}
}

static uint64_t number(const char **s, unsigned base)
{
	uint64_t value = 0;

	for (;; ++*s) {
		unsigned digit = (unsigned)**s - '0';

		if (digit > 9)
			digit = (unsigned)**s - 'a' + 10;
		if (digit >= base)
			break;
		value = value * base + digit;
	}
	if (**s)
		++*s; /* what ends it */
	return value;
}

/* The name, in which the kernel writes a line's end as \012. */
static void copy_path(char *to, const char *s)
{
	while (*s == ' ')
		s++;
	while (*s) {
		if (!strncmp(s, "\\012", 4)) {
			*to++ = '\n';
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

/* 7f0000001000-7f0000002000 r-xp 00001000 fe:01 1234    /lib/x.so */
static bool parse(const char *s, struct shunt_maps_line *line)
{
	line->range.start = number(&s, 16);
	line->range.end = number(&s, 16);
	if (strlen(s) < 5 || strlen(s) >= sizeof(line->path))
		return false;
	line->prot = (s[0] == 'r' ? PROT_READ : 0) | (s[1] == 'w' ? PROT_WRITE : 0) |
		     (s[2] == 'x' ? PROT_EXEC : 0);
	line->is_private = s[3] == 'p';
	s += 5;
	line->offset = number(&s, 16);
	line->major = (unsigned)number(&s, 16);
	line->minor = (unsigned)number(&s, 16);
	line->ino = number(&s, 10);
	copy_path(line->path, s);
	return true;
}

/* Whether @next goes on where @line ends: a remap splits one mapping into several. */
static bool goes_on(const struct shunt_maps_line *line, const struct shunt_maps_line *next)
{
	return next->range.start == line->range.end && next->prot == line->prot &&
	       next->is_private == line->is_private && next->ino == line->ino &&
	       next->major == line->major && next->minor == line->minor &&
	       (!line->ino || next->offset == line->offset + (line->range.end - line->range.start));
}

static const char *next_line(struct reader *r, struct shunt_maps_line *line)
{
	const char *text = read_line(r);

	if (!text || parse(text, line))
		return text;
	r->error = -EIO;
	return NULL;
}

/* The line that has @addr, together with those that go on from it, from the file's beginning. */
static bool find_line(struct reader *r, uintptr_t addr, struct shunt_maps_line *line)
{
	static struct shunt_maps_line next; /* update lock */

	line->range = (struct shunt_range){0, 0};
	while (next_line(r, &next)) {
		if (goes_on(line, &next))
			line->range.end = next.range.end;
		else if (shunt_in_range(line->range, addr, 1))
			break;
		else
			*line = next;
	}
	return shunt_in_range(line->range, addr, 1);
}

/* Where read() has moved the descriptor: back to the offset that it is known by, or closed. */
static void put_back(const struct reader *r)
{
	if (!r->by_read ||
	    shunt_syscall(SYS_lseek, r->fd, maps.fd_offset, SEEK_SET, 0) == (long)maps.fd_offset)
		return;
	shunt_fd_close((int)r->fd);
	shunt_process()->maps_fd = 0;
}

/* Why the list is not known. Not -EFAULT, which is that nothing is there. */
static int not_known(int error, const char *call)
{
	shunt_failed_call = call;
	return error == -EFAULT ? -EIO : error;
}

int shunt_maps_find(uintptr_t addr, struct shunt_maps_line *line)
{
	static struct reader r; /* update lock */

	/* Where nothing is read, the descriptor may be of a thread that has ended: a new one. */
	for (unsigned tries = 0; tries < 2; tries++) {
		int fd = shunt_maps_open();
		bool found;

		if (fd < 0)
			return not_known(fd, shunt_failed_call);
		begin(&r, fd);
		found = find_line(&r, addr, line);
		put_back(&r);
		if (found && !r.error)
			return 0;
		if (r.offset || (r.error != -EIO && r.error != -ESRCH))
			break;
		shunt_maps_close();
	}
	if (r.error == -EIO)
		return not_known(-EIO, "/proc/self/maps does not list mappings");
	if (r.error)
		return not_known(r.error, "pread64(/proc/self/maps)");
	shunt_failed_call = "no mapping is there";
	return -EFAULT;
}

/* In smaps, behind the line of each mapping: "Rss:  4 kB". Addresses have no capital letters. */
static bool is_of_mapping_before(const char *line)
{
	return *line >= 'A' && *line <= 'Z';
}

/* VmFlags: rd ex mr mw me bt */
static int has_flag(const char *line, const char *flag)
{
	for (const char *at = line; (at = strchr(at, ' ')) != NULL; at++)
		if (!strncmp(at + 1, flag, strlen(flag)))
			return 1;
	return 0;
}

static int find_flag(struct reader *r, uintptr_t addr, const char *flag, struct shunt_range *range)
{
	static struct shunt_maps_line line; /* update lock */
	const char *text;
	bool found = false;

	while ((text = read_line(r))) {
		if (!is_of_mapping_before(text)) {
			if (found)
				return -ENOENT;
			if (!parse(text, &line))
				return -EIO;
			found = shunt_in_range(line.range, addr, 1);
		} else if (found && !strncmp(text, "VmFlags:", strlen("VmFlags:"))) {
			*range = line.range;
			return has_flag(text, flag);
		}
	}
	if (r->error)
		return not_known(r->error, "pread64(/proc/self/smaps)");
	return found ? -ENOENT : -EFAULT;
}

int shunt_maps_has_flag(uintptr_t addr, const char *flag, struct shunt_range *range)
{
	static struct reader r; /* update lock */
	int fd = shunt_fd_open("/proc/self/smaps", O_RDONLY | O_NOFOLLOW), ret = -ENOSYS;

	if (fd < 0)
		return fd;
	begin(&r, fd);
	if (shunt_fd_is_proc(fd))
		ret = find_flag(&r, addr, flag, range);
	shunt_fd_close(fd);
	return ret;
}
