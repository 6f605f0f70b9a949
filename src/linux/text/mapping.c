/* SPDX-License-Identifier: MIT */
/*
 * Mappings of text and the files that they are of. To look one up in /proc/self/maps
 * costs far more than a poke, so those of modules that have registered are kept, with a
 * descriptor of the file, until the module goes; others may change at any time and are
 * looked up for each batch.
 *
 * A module with sites brings its own when it registers, from its program headers: by the
 * first update the program may have lost /proc, changed its root, or gone into a sandbox.
 *
 * Whether the file that a name leads to is the one that is mapped is asked of the
 * kernel's own list, with the same file mapped once more where the numbers of stat() do
 * not say so: overlay file systems show other numbers there.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/base/descriptor.h"
#include "linux/base/format.h"
#include "linux/base/registry.h"
#include "linux/base/syscall.h"
#include "linux/text/area.h"
#include "linux/text/area_prot.h"
#include "linux/text/mapping.h"
#include "linux/text/proc_maps.h"

#define PAGE SHUNT_PAGE_SIZE

struct entry {
	struct shunt_mapping mapping; /* range.start 0: not in use */
	bool kept;                    /* until its module goes */
	bool passes;                  /* its descriptor goes behind the batch */
};

#define NOT_OPEN INT_MAX /* a number that no descriptor has */

/* Guarded by the update lock. */
#define ENTRIES 32
static struct entry entries[ENTRIES];
static size_t next_victim;
static unsigned losses; /* of kept descriptors */
static bool some_pass;  /* not all entries are kept */

/* ------------------------------------------------------- the file of a mapping */

static int refuse(int error, const char *why)
{
	shunt_failed_call = why;
	return error;
}

static int stat_fd(int fd, struct stat *st)
{
	return (int)shunt_syscall(SYS_fstat, fd, (long)st, 0, 0);
}

/* Whether a mapping of the file @fd is listed as one of the file of @line is: 1, 0, or -errno. */
static int is_listed_alike(int fd, const struct shunt_maps_line *line)
{
	static struct shunt_maps_line other; /* update lock */
	long p = shunt_syscall6(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	int ret;

	if (p < 0 && p > -4096)
		return refuse((int)p, "mmap(a file)");
	ret = shunt_maps_find((uintptr_t)p, &other);
	(void)shunt_syscall(SYS_munmap, p, 4096, 0, 0);
	if (ret == -EFAULT)
		return refuse(-EPERM, "mmap(a file)"); /* a filter says that it was done */
	return ret ? ret
		   : other.ino == line->ino && other.major == line->major &&
			       other.minor == line->minor;
}

/* Whether @fd is the file of @line: 1, 0, or -errno. */
static int is_file_of(int fd, const struct shunt_maps_line *line)
{
	struct stat st = {0};
	int ret = stat_fd(fd, &st);

	if (ret)
		return refuse(ret, "fstat(a file)");
	if (!S_ISREG(st.st_mode))
		return 0;
	if (st.st_ino == line->ino && major(st.st_dev) == line->major &&
	    minor(st.st_dev) == line->minor)
		return 1;
	return is_listed_alike(fd, line);
}

/*
 * A descriptor of the file of @line if the one named @path is that file; -ESTALE: it is another
 * one, or cannot be opened; another error: it is not known.
 */
static int open_if_same(const char *path, const struct shunt_maps_line *line, struct entry *e)
{
	int fd = shunt_fd_open_kept(path, O_RDONLY | O_NONBLOCK, &e->mapping.fd_offset), ret;

	if (fd < 0)
		return -ESTALE;
	ret = is_file_of(fd, line);
	if (ret > 0)
		return fd;
	shunt_fd_close(fd);
	return ret ? ret : -ESTALE;
}

/*
 * By its name; as the program's own file, which leads to it even when it has been
 * replaced; as the mapping's, which takes a privilege.
 */
static int open_file(const struct shunt_maps_line *line, struct entry *e)
{
	char name[64];
	int fd = open_if_same(line->path, line, e);

	if (fd == -ESTALE)
		fd = open_if_same("/proc/self/exe", line, e);
	if (fd == -ESTALE) {
		shunt_format(name, sizeof(name), "/proc/self/map_files/%lx-%lx", line->range.start,
			     line->range.end);
		fd = open_if_same(name, line, e);
	}
	if (fd != -ESTALE)
		return fd;
	return refuse(-ESTALE, "its file has been replaced, or cannot be opened");
}

/* --------------------------------------------------------------------- entries */

bool shunt_mapping_has_file(const struct shunt_mapping *m)
{
	return m->fd < 0 || shunt_fd_is_kept(m->fd, m->fd_offset);
}

static void drop(struct entry *e)
{
	if (e->mapping.range.start && e->mapping.fd >= 0 && shunt_mapping_has_file(&e->mapping))
		shunt_fd_close(e->mapping.fd);
	*e = (struct entry){0};
}

static bool is_registered(uintptr_t addr)
{
	for (const struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next)
		if (m->module && shunt_in_range(m->range, addr, 1))
			return true;
	return false;
}

static int fill(struct entry *e, uintptr_t addr, size_t len)
{
	static struct shunt_maps_line line; /* update lock */
	struct shunt_area area;
	int ret = shunt_area_find(addr, &area);

	if (ret)
		return ret;
	if (area.is_private && area.is_listed && !area.ino)
		return refuse(-EOPNOTSUPP, "text of no file and no module is not remapped");
	ret = shunt_maps_find(addr, &line);
	if (ret)
		return ret;
	if (!line.is_private || !(line.prot & PROT_READ)) {
		shunt_failed_call = "the mapping is shared, or not readable";
		return -EACCES;
	}
	if (!shunt_in_range(line.range, addr, len)) {
		shunt_failed_call = "the site goes over the end of its mapping";
		return shunt_is_readable(addr + len - 1) ? -EOPNOTSUPP : -EFAULT;
	}
	e->mapping.fd = line.ino ? open_file(&line, e) : -1;
	if (line.ino && e->mapping.fd < 0)
		return e->mapping.fd;
	e->mapping.range = line.range;
	e->mapping.offset = line.offset;
	e->mapping.prot = line.prot;
	e->mapping.ino = line.ino;
	e->mapping.major = line.major;
	e->mapping.minor = line.minor;
	e->mapping.is_module = line.ino && is_registered(addr);
	e->kept = line.ino && is_registered(addr);
	e->passes = !e->kept || losses == SHUNT_MAX_LOSSES;
	some_pass = some_pass || e->passes;
	return 0;
}

/* A free entry; else one that is not kept; else, where one must give way, any. */
static struct entry *claim_entry(bool may_evict)
{
	struct entry *e = NULL;

	for (size_t i = 0; i < ENTRIES; i++) {
		if (!entries[i].mapping.range.start)
			return &entries[i];
		if (!entries[i].kept)
			e = &entries[i];
	}
	if (!e && may_evict)
		e = &entries[next_victim++ % ENTRIES];
	if (e)
		drop(e);
	return e;
}

int shunt_mapping_find(uintptr_t addr, size_t len, const struct shunt_mapping **mapping)
{
	struct entry *e;
	int ret;

	for (size_t i = 0; i < ENTRIES; i++) {
		e = &entries[i];
		if (!shunt_in_range(e->mapping.range, addr, len))
			continue;
		*mapping = &e->mapping;
		if (e->mapping.others_write)
			return refuse(-EOPNOTSUPP,
				      "others write to this text: it has been writable");
		if (shunt_mapping_has_file(&e->mapping))
			return 0;
		shunt_fd_count_loss(e->mapping.fd, &losses);
		drop(e);
	}
	e = claim_entry(true);
	ret = fill(e, addr, len);
	*mapping = &e->mapping;
	return ret;
}

/* -------------------------------------------------------- checks before a remap */

static struct shunt_mapping *module_text(uintptr_t addr)
{
	for (size_t i = 0; i < ENTRIES; i++)
		if (entries[i].mapping.is_module &&
		    shunt_in_range(entries[i].mapping.range, addr, 1))
			return &entries[i].mapping;
	return NULL;
}

void shunt_mapping_is_written(uintptr_t addr)
{
	struct shunt_mapping *m = module_text(addr);

	if (m)
		m->others_write = true;
}

bool shunt_mapping_others_write(uintptr_t addr)
{
	const struct shunt_mapping *m = module_text(addr);

	return m && m->others_write;
}

static bool is_of_file(const struct shunt_area *a, const struct shunt_mapping *m)
{
	return a->offset - m->offset == a->range.start - m->range.start &&
	       (!m->ino || (a->ino == m->ino && a->major == m->major && a->minor == m->minor));
}

/* The part of a mapping that @a is. */
static int check_area(const struct shunt_area *a, const struct shunt_mapping *m, uintptr_t at)
{
	if (!a->is_private)
		return refuse(-EACCES, "the mapping is shared");
	if (a->prot & PROT_WRITE) {
		shunt_mapping_is_written(at);
		return refuse(-EOPNOTSUPP, "text that is writable is not remapped");
	}
	if (a->prot != m->prot)
		return refuse(-EOPNOTSUPP, "the text's protection has been changed");
	if (a->is_listed && !a->ino && !m->is_module)
		return refuse(-EOPNOTSUPP, "text of no file and no module is not remapped");
	if (a->is_listed && a->ino && !is_of_file(a, m))
		return refuse(-EOPNOTSUPP, "another file is mapped there");
	if (shunt_area_has_key(at))
		return refuse(-EOPNOTSUPP, "text with a protection key is not remapped");
	return 0;
}

int shunt_mapping_check(const struct shunt_mapping *m, uintptr_t start, size_t len, bool *anonymous,
			int *prot_cpu)
{
	uintptr_t at = start;

	while (at < start + len) {
		struct shunt_area a;
		int ret = shunt_area_find(at, &a), cpu;

		if (!ret)
			ret = check_area(&a, m, at);
		if (ret)
			return ret;
		cpu = shunt_area_prot_cpu(at, &a.range);
		if (at != start && (*anonymous != (a.is_listed && !a.ino) || *prot_cpu != cpu))
			return refuse(-EOPNOTSUPP, "text is mapped in parts");
		*anonymous = a.is_listed && !a.ino;
		*prot_cpu = cpu;
		at = a.range.end;
	}
	return 0;
}

/* What is mapped for @segment, as execve() or the dynamic linker has mapped it. */
static struct shunt_mapping mapping_of(uintptr_t bias, const ElfW(Phdr) * segment)
{
	uintptr_t start = bias + segment->p_vaddr, skew = start % PAGE;

	return (struct shunt_mapping){
		.range = {start - skew, (start + segment->p_filesz + PAGE - 1) & -PAGE},
		.offset = segment->p_offset - skew,
		.prot = (segment->p_flags & PF_R ? PROT_READ : 0) |
			(segment->p_flags & PF_W ? PROT_WRITE : 0) |
			(segment->p_flags & PF_X ? PROT_EXEC : 0),
	};
}

/* One for each segment, each with a descriptor of its own, so that each can go alone. */
static void open_segment(struct shunt_mapping mapping, const char *path, bool is_program)
{
	struct entry *e = claim_entry(is_program);
	struct shunt_area area;

	if (!e)
		return;
	mapping.fd = shunt_fd_open_kept(path, O_RDONLY, &mapping.fd_offset);
	if (mapping.fd < 0)
		return;
	mapping.is_module = true;
	if (!shunt_area_find(mapping.range.start, &area) && area.is_listed) {
		mapping.ino = area.ino;
		mapping.major = area.major;
		mapping.minor = area.minor;
	}
	*e = (struct entry){.mapping = mapping, .kept = true};
}

static bool has_entry(uintptr_t addr)
{
	for (size_t i = 0; i < ENTRIES; i++)
		if (shunt_in_range(entries[i].mapping.range, addr, 1))
			return true;
	return false;
}

void shunt_mappings_open(const struct shunt_segments *segments, const char *path, bool is_program)
{
	const ElfW(Phdr) *segment = segments->headers;

	for (size_t i = 0; i < segments->n; i++, segment++)
		if (segment->p_type == PT_LOAD && segment->p_flags & PF_X &&
		    segment->p_flags & PF_R && segment->p_filesz &&
		    !has_entry(segments->bias + segment->p_vaddr))
			open_segment(mapping_of(segments->bias, segment), path, is_program);
}

/* Of a module it goes on to be known what others do with it. */
static void pass(struct entry *e)
{
	struct shunt_mapping mapping = e->mapping;
	bool kept = e->kept;

	drop(e);
	if (!kept)
		return;
	mapping.fd = NOT_OPEN;
	*e = (struct entry){.mapping = mapping, .kept = true};
}

void shunt_mappings_done(void)
{
	for (size_t i = 0; some_pass && i < ENTRIES; i++)
		if (entries[i].passes)
			pass(&entries[i]);
	some_pass = false;
}

void shunt_mappings_forget(struct shunt_range range)
{
	for (size_t i = 0; i < ENTRIES; i++)
		if (entries[i].mapping.range.start < range.end &&
		    range.start < entries[i].mapping.range.end)
			drop(&entries[i]);
}
