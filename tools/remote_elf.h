/* SPDX-License-Identifier: MIT */
/*
 * Another process's memory: its mappings, its modules and their dynamic symbols, all from the
 * memory itself, so that deleted files and other mount namespaces make no difference.
 */
#ifndef SHUNT_TOOLS_REMOTE_ELF_H
#define SHUNT_TOOLS_REMOTE_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct remote_map {
	uint64_t start, end, offset, inode;
	bool is_executable;
	char name[200]; /* cut where it is longer */
};

/* What has an ELF header in memory and a dynamic section: the program, its libraries. */
struct remote_module {
	uint64_t start, end; /* of all its mappings */
	uint64_t bias;       /* what its addresses are from */
	uint64_t symbols, strings, hash;
	uint64_t debug; /* of the program: struct r_debug */
	char name[200];
};

struct remote_space {
	pid_t pid;
	int memory; /* /proc/PID/mem, for reading and writing */
	struct remote_map *maps;
	size_t maps_n;
	struct remote_module *modules;
	size_t modules_n;
};

/* A function, by its symbol. */
struct remote_range {
	uint64_t start, end;
};

/*
 * Open the memory of process @pid and read what is in it. 0 or -errno; remote_space_close() in
 * either case.
 */
int remote_space_open(struct remote_space *space, pid_t pid);
void remote_space_close(struct remote_space *space);
/* Whether the process has executed another program since, or has ended. */
bool remote_space_is_gone(const struct remote_space *space);
/* Read mappings and modules again. 0 or -errno. */
int remote_space_reload(struct remote_space *space);

/* All @size bytes at @address. 0 or -errno. */
int remote_read(const struct remote_space *space, uint64_t address, void *to, size_t size);
int remote_write(const struct remote_space *space, uint64_t address, const void *from, size_t size);
/* The string at @address, cut to @size bytes with the NUL. 0 or -errno. */
int remote_read_string(const struct remote_space *space, uint64_t address, char *to, size_t size);

const struct remote_map *remote_map_at(const struct remote_space *space, uint64_t address);

/*
 * The functions that @module (NULL: each module) defines under @name, in all versions: up to @max
 * to @found; how many.
 */
size_t remote_symbols(const struct remote_space *space, const struct remote_module *module,
		      const char *name, struct remote_range *found, size_t max);
/* The address of one of them; 0: none. */
uint64_t remote_symbol(const struct remote_space *space, const struct remote_module *module,
		       const char *name);
/*
 * The function that calls of @name go to, from wherever, in the order in which the dynamic linker
 * has loaded the modules: what a preloaded library, or the program, has instead of libc's. For what
 * libc has: no library that was loaded later comes before that. 0: none.
 */
uint64_t remote_global(const struct remote_space *space, const char *name);
/* The first module that defines @name; NULL: none. */
const struct remote_module *remote_module_with(const struct remote_space *space, const char *name);

#endif
