/* SPDX-License-Identifier: MIT */
/* The file that a module was mapped from, by whatever name it still has. */
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/elf/elf.h"
#include "linux/module/image.h"
#include "linux/text/proc_maps.h"

/* A search for the file, and the error to be told where there is none. */
struct search {
	struct shunt_image *image;
	struct shunt_file *file;
	struct shunt_elf *elf;
	int error;
	const char *call; /* that failed, or NULL */
};

/* Whether the file named @name is the one that is mapped; it stays open then. */
static bool try_name(struct search *s, const char *name, bool keep_error)
{
	int ret;

	shunt_failed_call = NULL;
	ret = shunt_file_map(s->file, name);
	if (!ret) {
		ret = shunt_elf_open(s->elf, s->file->image, s->file->size) ? -ENOEXEC : 0;
		if (!ret && shunt_is_mapped_file(s->elf, s->image))
			return true;
		if (!ret)
			ret = -ESTALE;
		shunt_file_unmap(s->file);
	}
	if (keep_error) {
		s->error = ret;
		s->call = shunt_failed_call;
	}
	return false;
}

static bool use_name(struct search *s, const char *name, bool keep_error)
{
	if (!name || !try_name(s, name, keep_error))
		return false;
	(void)shunt_absolute_path(s->image->path, sizeof(s->image->path), name);
	return true;
}

/* The name of the file that is mapped at @addr, as the kernel lists it. False: none, or no list. */
static bool name_in_maps(uintptr_t addr, char *path, size_t size)
{
	static struct shunt_maps_line line; /* update lock */
	bool found = false;

	if (shunt_port_lock())
		return false;
	if (!shunt_maps_find(addr, &line) && line.path[0] == '/' && strlen(line.path) < size) {
		strcpy(path, line.path);
		found = true;
	}
	shunt_port_unlock();
	return found;
}

/* What the kernel lists as mapped there: a file that may have been removed or replaced. */
static bool use_listed_name(struct search *s)
{
	static const char deleted[] = " (deleted)";
	char path[4096];
	size_t len;

	if (!name_in_maps(s->image->inside, path, sizeof(path)))
		return false;
	if (use_name(s, path, false))
		return true;
	len = strlen(path);
	if (len > strlen(deleted) && !strcmp(path + len - strlen(deleted), deleted))
		path[len - strlen(deleted)] = '\0';
	if (use_name(s, path, true))
		return true;
	/* At least the name by which messages call the program. */
	if (s->image->is_program)
		(void)shunt_absolute_path(s->image->path, sizeof(s->image->path), path);
	return false;
}

/* The names that the program was started by: not its own where a script or an interpreter was. */
static bool use_program_name(struct search *s)
{
	return use_name(s, (const char *)getauxval(AT_EXECFN), false) ||
	       use_name(s, program_invocation_name, false);
}

int shunt_image_open(struct shunt_image *image, struct shunt_file *file, struct shunt_elf *elf)
{
	struct search s = {image, file, elf, -ENOENT, NULL};

	if (try_name(&s, image->path, true))
		return 0;
	/* "ld.so PROGRAM": the link to what was executed leads to the dynamic linker. */
	if (image->is_program && s.error == -ESTALE)
		s.error = -ENOENT;
	if (use_listed_name(&s) || (image->is_program && use_program_name(&s))) {
		shunt_failed_call = NULL;
		return 0;
	}
	shunt_failed_call = s.call;
	return s.error;
}
