/* SPDX-License-Identifier: MIT */
/*
 * The remap in a live process, beside a thread that runs the sites without a
 * pause: what becomes of the mappings and the descriptors, text of no file, text that may
 * not be remapped, files that are replaced, modules that come and go.
 *
 *	test_remap PLUGIN1 PLUGIN2 [all]
 *
 * An emulated machine reads the list of mappings slowly. There a tenth of the rounds are made,
 * and no batch of very many runs, unless "all" is given.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/text_poke.h>

#include "../common/emulated.h"
#include "../common/one_two.h"
#include "../common/remap_first.h"
#include "../common/site_code.h"
#include "linux/text/remap.h"

#include "../api/tap.h"

#define UPDATES 3000

static bool is_all;

static int rounds(int n)
{
	return is_all ? n : n / 10;
}

/* ------------------------------------------------------------------ the sites */

/* Each on pages of its own, further from the next than what is remapped together. */
#define SITES    32
#define APART    0x4000
#define PER_SITE __attribute__((noinline, aligned(APART)))

/* clang-format off */
#define EACH(X) \
	X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) \
	X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31)
#define KEY(n) DEFINE_STATIC_CALL(scattered_##n, one);
#define SITE(n) static PER_SITE int site_##n(void) { return static_call(scattered_##n)() + n; }
#define UPDATE(n) static int update_##n(int (*to)(void)) { return static_call_update(scattered_##n, to); }
EACH(KEY)
EACH(SITE)
EACH(UPDATE)
#define ROW(n) {site_##n, update_##n},
/* clang-format on */

static const struct {
	int (*run)(void);
	int (*update)(int (*to)(void));
} sites[SITES] = {EACH(ROW)};

static struct {
	pthread_t thread;
	_Atomic bool stop;
	_Atomic unsigned long rounds, wrong;
	int (*_Atomic jit)(void); /* another one to be run; returns 1 or 2 */
} hammer;

static void *run_through_the_sites(void *arg)
{
	while (!hammer.stop) {
		int (*jit)(void) = hammer.jit;

		for (int i = 0; i < SITES; i++) {
			int value = sites[i].run() - i;

			hammer.wrong += value != 1 && value != 2;
		}
		if (jit) {
			int value = jit();

			hammer.wrong += value != 1 && value != 2;
		}
		hammer.rounds++;
	}
	return arg;
}

static void wait_for_a_round(void)
{
	unsigned long now = hammer.rounds;

	while (hammer.rounds < now + 2)
		(void)sched_yield();
}

/* ------------------------------------------------------------------ the mappings */

/* One look at /proc/self/maps. */
struct look {
	size_t lines, rwx;
	size_t covered; /* bytes of what was asked for, mapped as they should be */
};

/* What is expected at [start, end). */
struct expected {
	uintptr_t start, end;
	unsigned long ino, offset; /* of start */
};

static struct expected text;
static size_t lines_at_first;

/* Without malloc() and stdio: it is called in the midst of an update. */
static struct look look(const struct expected *want)
{
	static char buf[1 << 18];
	struct look found = {0, 0, 0};
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	ssize_t got;

	while (fd >= 0 && (got = read(fd, buf + n, sizeof(buf) - 1 - n)) > 0)
		n += (size_t)got;
	buf[n] = '\0';
	(void)close(fd);
	for (char *line = buf, *end; (end = strchr(line, '\n')); line = end + 1) {
		unsigned long start, stop, offset, ino;
		char prot[5];

		*end = '\0';
		if (sscanf(line, "%lx-%lx %4s %lx %*s %lu", &start, &stop, prot, &offset, &ino) !=
		    5)
			continue;
		found.lines++;
		found.rwx += prot[1] == 'w' && prot[2] == 'x';
		if (stop <= want->start || start >= want->end || strcmp(prot, "r-xp") != 0 ||
		    ino != want->ino || (ino && offset - want->offset != start - want->start))
			continue;
		found.covered += (stop < want->end ? stop : want->end) -
				 (start > want->start ? start : want->start);
	}
	return found;
}

static bool is_as_it_should_be(const struct expected *want)
{
	struct look l = look(want);

	return !l.rwx && l.covered == want->end - want->start;
}

/* The number of the file that is mapped at @addr. */
static unsigned long ino_at(uintptr_t addr)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long start, end, ino = 0;
	char line[4500];

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %*s %*s %*s %lu", &start, &end, &ino) == 3 &&
		    addr >= start && addr < end)
			break;
	if (maps)
		(void)fclose(maps);
	return ino;
}

struct wanted {
	uintptr_t addr;
	struct expected m;
};

/* The file's number is that of its first segment, which has no sites. */
static int take_segment(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct wanted *w = arg;
	const ElfW(Phdr) *first = NULL;

	(void)size;
	for (const ElfW(Phdr) *p = info->dlpi_phdr; p < info->dlpi_phdr + info->dlpi_phnum; p++) {
		uintptr_t start = info->dlpi_addr + p->p_vaddr, skew = start % 4096;

		if (p->p_type != PT_LOAD)
			continue;
		first = first ? first : p;
		if (w->addr - start >= p->p_filesz)
			continue;
		w->m.start = start - skew;
		w->m.end = (start + p->p_filesz + 4095) & -4096ul;
		w->m.offset = p->p_offset - skew;
		w->m.ino = ino_at(info->dlpi_addr + first->p_vaddr);
		return 1;
	}
	return 0;
}

/*
 * How the text at @addr should be mapped, by the headers of its file: the sites have been
 * changed by remap already, when the module registered.
 */
static struct expected mapping_at(uintptr_t addr)
{
	struct wanted w = {.addr = addr};

	(void)dl_iterate_phdr(take_segment, &w);
	return w.m;
}

/* ------------------------------------------------------------------ in the midst of updates */

int __real_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
void __real_shunt_port_poke_end(void);
void __wrap_shunt_port_poke_end(void);

static struct {
	bool on;
	size_t samples, bad, remaps, syncs;
} watch;

static void sample(void)
{
	if (!watch.on)
		return;
	watch.samples++;
	watch.bad += !is_as_it_should_be(&text);
}

int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride)
{
	int ret;

	sample();
	ret = __real_shunt_port_text_remap(writes, n, stride);
	watch.remaps++;
	sample();
	return ret;
}

int __wrap_shunt_port_core_sync(void)
{
	int ret = __real_shunt_port_core_sync();

	watch.syncs++;
	sample();
	return ret;
}

int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	int ret = begin_remap_first(n, flips, tried);

	sample();
	return ret;
}

void __wrap_shunt_port_poke_end(void)
{
	sample();
	__real_shunt_port_poke_end();
	sample();
}

static const char *way(void)
{
	struct shunt_ways ways;

	shunt_get_ways(&ways);
	return ways.poke;
}

static void no_wrong_calls(void)
{
	wait_for_a_round();
	ok(!hammer.wrong, "the thread beside it: %lu rounds, %lu wrong", hammer.rounds,
	   hammer.wrong);
}

/* ------------------------------------------------------------------ mappings */

static int update_all(unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		int n = (int)(i % SITES), to = (int)(i / SITES % 2), ret;

		ret = sites[n].update(to ? one : two);
		if (ret)
			return ret;
		if (sites[n].run() != n + (to ? 1 : 2))
			return -EILSEQ;
	}
	return 0;
}

static void mappings_stay_the_files(void)
{
	int ret;

	text = mapping_at((uintptr_t)sites[0].run);
	lines_at_first = look(&text).lines;
	watch.remaps = watch.syncs = 0;
	watch.on = true;
	ret = update_all(2 * SITES);
	watch.on = false;
	ok(!ret && !strcmp(way(), "remap"), "%d updates by way of %s: %d", 2 * SITES, way(), ret);
	ok(watch.samples >= 12 * SITES && !watch.bad,
	   "text is the file's, private, never writable: %zu looks, %zu bad", watch.samples,
	   watch.bad);
	ok(watch.remaps == 2 * SITES && watch.syncs == watch.remaps, "%zu remaps, %zu core syncs",
	   watch.remaps, watch.syncs);
}

static size_t count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		(void)closedir(dir);
	return n;
}

static void bounded(void)
{
	size_t fds, after;
	int ret = update_all(SITES);

	fds = count_descriptors();
	if (!ret)
		ret = update_all((unsigned)rounds(UPDATES));
	after = look(&text).lines;
	ok(!ret && is_as_it_should_be(&text), "%d updates: %d %s", rounds(UPDATES), ret,
	   shunt_last_error());
	/* A site's page, and what is between it and the next one. */
	ok(after <= lines_at_first + 2 * SITES, "mappings: %zu before, %zu after, at %d places",
	   lines_at_first, after, SITES);
	ok(count_descriptors() == fds, "descriptors: %zu before, %zu after", fds,
	   count_descriptors());
}

static int three(void)
{
	return 3;
}

/* What the looks, and the thread, are for: each of these is seen. */
static void looks_see(void)
{
	struct expected other = text;
	uintptr_t spare = (uintptr_t)sites[3].run + 0x2000; /* nothing is there but padding */
	size_t fds = count_descriptors();
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	ok(!is_as_it_should_be(&text), "control: a page that is writable and executable is seen");
	(void)munmap(p, 4096);
	ok(count_descriptors() == fds + 1, "control: a descriptor that is left is seen");
	(void)close(fd);
	other.offset += 4096;
	ok(is_as_it_should_be(&text) && !is_as_it_should_be(&other),
	   "control: another offset is seen");
	/* Not by the C library, where ThreadSanitizer would look for the shadow of text. */
	p = (void *)syscall(SYS_mmap, spare, 4096, PROT_READ | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ok(p == (void *)spare && !is_as_it_should_be(&text), "control: text of no file is seen");
}

/* ------------------------------------------------------------------ descriptors */

#define OWN 24

/* As daemons do; and then files of its own get the numbers. */
static void closed_by_the_program(void)
{
	int own[OWN], ret, left = 0;
	struct stat st[OWN], now;

	(void)fflush(stdout);
	ret = (int)syscall(SYS_close_range, 3, ~0u, 0);
	for (int i = 0; i < OWN; i++) {
		own[i] = memfd_create("own", 0);
		if (own[i] < 0 || ftruncate(own[i], 4096) || fstat(own[i], &st[i]))
			ret = -errno;
	}
	ok(!ret && own[0] == 3, "all descriptors are closed, and the numbers used again");
	ret = update_all(2 * SITES);
	ok(!ret && !strcmp(way(), "remap"), "updates by way of %s: %d %s", way(), ret,
	   shunt_last_error());
	for (int i = 0; i < OWN; i++) {
		char bytes[4096] = {1};

		left += !fstat(own[i], &now) && now.st_ino == st[i].st_ino &&
			pread(own[i], bytes, sizeof(bytes), 0) == sizeof(bytes) && !bytes[0] &&
			!memcmp(bytes, bytes + 1, sizeof(bytes) - 1);
		(void)close(own[i]);
	}
	ok(left == OWN, "the program's own files are as they were: %d of %d", left, OWN);
	ret = update_all(SITES);
	ok(!ret && is_as_it_should_be(&text), "and when they are closed: %d", ret);
}

/* ------------------------------------------------------------------ others' text */

/* Where the site goes: across the first two pages, or at the end of the first one. */
#define CROSSING (SITE_ALIGN == 1 ? 4096 - 3 : 4096 - SITE_LEN)
#define WHERE    (SITE_ALIGN == 1 ? "a site across pages" : "a site at the end of a page")

/* Where nothing is remapped the automatic choice goes by way of: */
#define OTHER_WAY (CPU_HAS_TRAPS ? "int3" : "flip")

static const uint8_t jmp_1[SITE_LEN] = SITE_JMP(SITE_LEN),
		     jmp_2[SITE_LEN] = SITE_JMP(SITE_LEN + CODE_RETURN_LEN);

/* At @at: a jmp, which goes to "return 1" or "return 2" behind it. */
static void compile(uint8_t *at)
{
	static const uint8_t code[2][CODE_RETURN_LEN] = {CODE_RETURN(1), CODE_RETURN(2)};

	write_code(at, jmp_1, SITE_LEN);
	write_code(at + SITE_LEN, code, sizeof(code));
}

static int run_at(const uint8_t *at)
{
	return ((int (*)(void))(uintptr_t)at)();
}

/* @n sites, @apart bytes from each other, the first @offset bytes into memory of @flags. */
static uint8_t *make_code(size_t n, size_t apart, size_t offset, int flags, int fd)
{
	size_t size = n * apart + 8192;
	uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED)
		abort();
	memset(p, 0xcc, size);
	for (size_t i = 0; i < n; i++)
		compile(p + i * apart + offset);
	if (mprotect(p, size, PROT_READ | PROT_EXEC))
		abort();
	return p + offset;
}

static char files[16][32];
static size_t nr_files;

/* The same in a private mapping of a file, which stays there until the end. */
static uint8_t *make_file_code(size_t n, size_t apart, size_t offset)
{
	char *path = files[nr_files++];
	uint8_t *at;
	int fd;

	(void)strcpy(path, "/tmp/shunt-code-XXXXXX");
	fd = mkstemp(path);
	if (fd < 0 || ftruncate(fd, (off_t)(n * apart + 8192)))
		abort();
	at = make_code(n, apart, offset, MAP_PRIVATE, fd);
	(void)close(fd);
	return at;
}

static void remove_files(void)
{
	while (nr_files)
		(void)unlink(files[--nr_files]);
}

/*
 * ThreadSanitizer has a thread that blocks all signals: beside it the automatic choice has no
 * int3, and says so.
 */
static bool is_refused_by_tsan(int ret)
{
#ifdef SUITE_TSAN
	return ret && strstr(shunt_last_error(), "blocks SIGTRAP");
#else
	(void)ret;
	return false;
#endif
}

/* It may be a JIT's, which writes beside the site: not remapped, and by auto left to int3. */
static void text_of_no_file(void)
{
	uint8_t *at = make_code(1, 0, CROSSING, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct shunt_ways ways;
	int ret = text_poke_bp(at, jmp_2, SITE_LEN);

	ok(ret == -EOPNOTSUPP && run_at(at) == 1 && strstr(shunt_last_error(), "of no file"),
	   "text of no file is not remapped: %d, %s", ret, shunt_last_error());
	ret = shunt_set_poke(SHUNT_POKE_AUTO);
	if (!ret)
		ret = text_poke_bp(at, jmp_2, SITE_LEN);
	shunt_get_ways(&ways);
	ok(is_refused_by_tsan(ret) || (!ret && run_at(at) == 2 && !strcmp(ways.poke, OTHER_WAY)),
	   "the automatic choice goes by way of %s: %d (%s)", ways.poke, ret,
	   ways.why ? ways.why : "");
	ok(!shunt_set_poke(SHUNT_POKE_REMAP), "remap again");
	text_poke_forget(at, SITE_LEN);
}

static void text_of_a_file(void)
{
	uint8_t *at = make_file_code(1, 0, CROSSING);
	struct look l;
	int ret = 0, bad = 0, n = rounds(1000);

	hammer.jit = (int (*)(void))(uintptr_t)at;
	wait_for_a_round();
	for (int i = 1; i <= n && !ret; i++) {
		ret = text_poke_bp(at, i % 2 ? jmp_2 : jmp_1, SITE_LEN);
		bad += run_at(at) != (i % 2 ? 2 : 1);
	}
	l = look(&(struct expected){(uintptr_t)at & -4096ul, ((uintptr_t)at & -4096ul) + 8192,
				    ino_at((uintptr_t)at), 0});
	ok(!ret && !bad && !strcmp(way(), "remap"), "%s, %d times by way of %s: %d, %d wrong",
	   WHERE, n, way(), ret, bad);
	ok(l.covered == 8192 && !l.rwx, "its pages stay the file's, and never writable");
	no_wrong_calls();
	hammer.jit = NULL;
	wait_for_a_round();
	text_poke_forget(at, SITE_LEN);
}

static void *wait_for_end(void *end)
{
	while (!atomic_load((_Atomic bool *)end))
		(void)sched_yield();
	return NULL;
}

/* Beside a thread that blocks SIGTRAP nothing is left, and the message says all of it. */
static void neither_way(uint8_t *at)
{
	_Atomic bool end = false;
	pthread_t thread;
	sigset_t trap;
	int ret;

	(void)sigemptyset(&trap);
	(void)sigaddset(&trap, SIGTRAP);
	(void)pthread_sigmask(SIG_BLOCK, &trap, NULL);
	if (pthread_create(&thread, NULL, wait_for_end, (void *)&end))
		abort();
	(void)pthread_sigmask(SIG_UNBLOCK, &trap, NULL);
	ret = text_poke_bp(at, jmp_2, SITE_LEN);
	ok(ret == -EOPNOTSUPP && run_at(at) == 1 && strstr(shunt_last_error(), "by broadcast; ") &&
		   strstr(shunt_last_error(), " blocks SIGTRAP: Operation"),
	   "beside a thread that blocks SIGTRAP: %d, %s", ret, shunt_last_error());
	atomic_store(&end, true);
	(void)pthread_join(thread, NULL);
}

/* No site crosses from one page to the next. */
static void none_crosses(void)
{
	uint8_t *at = make_file_code(1, 0, CROSSING);
	int was = shunt_remap_broadcast, ret;

	shunt_remap_broadcast = 1;
	ret = text_poke_bp(at, jmp_2, SITE_LEN);
	ok(!ret && run_at(at) == 2 && !strcmp(way(), "remap"),
	   "flushes by broadcast: %s goes by way of %s: %d", WHERE, way(), ret);
	shunt_remap_broadcast = was;
	text_poke_forget(at, SITE_LEN);
}

/* As on a CPU that flushes TLBs by a broadcast. Control: as on one that does not. */
static void crossing_is_refused(void)
{
	uint8_t *at = make_file_code(1, 0, CROSSING);
	uint8_t *within = make_file_code(1, 0, 0);
	int was = shunt_remap_broadcast, ret, set;
	struct shunt_ways ways;

	shunt_remap_broadcast = 1;
	ret = text_poke_bp(at, jmp_2, SITE_LEN);
	ok(ret == -EOPNOTSUPP && run_at(at) == 1 && strstr(shunt_last_error(), "by broadcast"),
	   "flushes by broadcast: a site across pages is refused: %d, %s", ret, shunt_last_error());
	ret = text_poke_bp(within, jmp_2, SITE_LEN);
	ok(!ret && run_at(within) == 2 && !strcmp(way(), "remap"), "another goes by way of %s: %d",
	   way(), ret);
	set = shunt_set_poke(SHUNT_POKE_AUTO);
	neither_way(at);
	ret = text_poke_bp(at, jmp_2, SITE_LEN);
	shunt_get_ways(&ways);
	ok(is_refused_by_tsan(ret) ||
		   (!set && !ret && run_at(at) == 2 && !strcmp(ways.poke, OTHER_WAY) && ways.why &&
		    strstr(ways.why, "by broadcast")),
	   "the automatic choice goes by way of %s: %d (%s)", ways.poke, ret,
	   ways.why ? ways.why : "");
	shunt_remap_broadcast = -1;
	ret = text_poke_bp(at, jmp_1, SITE_LEN);
	ok(!ret && run_at(at) == 1 && !strcmp(way(), "remap"),
	   "control: on another CPU it goes by way of %s: %d", way(), ret);
	shunt_remap_broadcast = was;
	ok(!shunt_set_poke(SHUNT_POKE_REMAP), "remap again");
	text_poke_forget(at, SITE_LEN);
	text_poke_forget(within, SITE_LEN);
}

/* What is told is not of a batch that has failed since. */
static bool is_last(const struct shunt_ways *ways)
{
	struct shunt_ways now;

	shunt_get_ways(&now);
	return now.poke == ways->poke && now.why == ways->why;
}

static void shared_text_is_refused(void)
{
	struct shunt_ways earlier;
	int fd = memfd_create("shared", 0), ret;
	uint8_t *at, before[SITE_LEN];

	if (ftruncate(fd, 8192))
		abort();
	at = make_code(1, 0, 0, MAP_SHARED, fd);
	memcpy(before, at, SITE_LEN);
	shunt_get_ways(&earlier);
	ret = text_poke_bp(at, jmp_2, SITE_LEN);
	ok(ret == -EACCES && !memcmp(before, at, SITE_LEN), "a shared mapping is refused: %d, %s",
	   ret, shunt_last_error());
	ok(is_last(&earlier), "the last batch that went through went by way of %s", way());
	ret = shunt_set_poke(SHUNT_POKE_AUTO);
	if (!ret)
		ret = text_poke_bp(at, jmp_2, SITE_LEN);
	diag("by the automatic choice: %d by way of %s: %s", ret, way(),
	     ret ? shunt_last_error() : "");
	ok(run_at(at) == (ret ? 1 : 2) && (ret ? is_last(&earlier) : strcmp(way(), "remap") != 0),
	   "and left to another way by the automatic choice, or as it was");
	ok(!shunt_set_poke(SHUNT_POKE_REMAP), "remap again");
	text_poke_forget(at, SITE_LEN);
	(void)close(fd);
}

/* ------------------------------------------------------------------ very many runs */

#define MAX_RUNS 1024
#define PAGES    20

static int poke_many(uint8_t *code, size_t n, const uint8_t *insn)
{
	static struct text_poke pokes[MAX_RUNS + 1];

	for (size_t i = 0; i < n; i++)
		pokes[i] =
			(struct text_poke){.addr = code + i * APART, .insn = insn, .len = SITE_LEN};
	return text_poke_bp_batch(pokes, n);
}

static size_t count_two(const uint8_t *code, size_t n)
{
	size_t twos = 0;

	for (size_t i = 0; i < n; i++)
		twos += run_at(code + i * APART) == 2;
	return twos;
}

static void very_many_runs(void)
{
	uint8_t *code = make_file_code(MAX_RUNS + 1, APART, 0);
	struct shunt_ways ways;
	size_t twos;
	int ret = poke_many(code, MAX_RUNS, jmp_2);

	twos = count_two(code, MAX_RUNS + 1);
	ok(!ret && twos == MAX_RUNS && !strcmp(way(), "remap"), "%d runs of pages by way of %s: %d",
	   MAX_RUNS, way(), ret);
	ret = poke_many(code, MAX_RUNS + 1, jmp_1);
	ok(ret == -E2BIG && count_two(code, MAX_RUNS + 1) == twos, "one more is refused: %d, %s",
	   ret, shunt_last_error());
	ret = shunt_set_poke(SHUNT_POKE_AUTO);
	if (!ret)
		ret = poke_many(code, MAX_RUNS + 1, jmp_1);
	shunt_get_ways(&ways);
	ok(is_refused_by_tsan(ret) ||
		   (!ret && !count_two(code, MAX_RUNS + 1) && !strcmp(ways.poke, OTHER_WAY)),
	   "the automatic choice goes by way of %s: %d (%s)", ways.poke, ret,
	   ways.why ? ways.why : "");
	ok(!shunt_set_poke(SHUNT_POKE_REMAP), "remap again");
	text_poke_forget(code, (MAX_RUNS + 1) * APART);
	(void)munmap(code, (MAX_RUNS + 1) * APART + 8192);
}

/* ------------------------------------------------------------------ in parts */

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif

/* In front of each site "return 2", so that all bytes of the jump to it are other ones. */
#define IN_FRONT 16

static void put_in_front(uint8_t *code)
{
	static const uint8_t two[CODE_RETURN_LEN] = CODE_RETURN(2);

	if (mprotect(code - CROSSING, (PAGES + 2) * 4096, PROT_READ | PROT_WRITE))
		abort();
	for (size_t i = 0; i < PAGES; i++)
		write_code(code + i * 4096 - IN_FRONT, two, sizeof(two));
	if (mprotect(code - CROSSING, (PAGES + 2) * 4096, PROT_READ | PROT_EXEC))
		abort();
}

/* In a process of its own: 0, or what is wrong. */
static int poke_crossing(uint8_t *code, bool is_control)
{
	static const uint8_t jmp_back[SITE_LEN] = SITE_JMP(-IN_FRONT);
	struct text_poke pokes[PAGES];

	if (prctl(PR_SET_MDWE, 1, 0, 0, 0))
		return 77;
	for (size_t i = 0; i < PAGES; i++)
		pokes[i] = (struct text_poke){
			.addr = code + i * 4096, .insn = jmp_back, .len = SITE_LEN};
	if (text_poke_bp_batch(pokes, PAGES) || strcmp(way(), "remap") != 0)
		return 1;
	for (size_t i = 0; i < PAGES; i++)
		if (run_at(code + i * 4096) != (is_control && i == PAGES / 2 ? 1 : 2))
			return 2;
	return 0;
}

/*
 * Memory that may not be made executable: the copy is filled by writes of 64 KiB, one of which
 * ends in the middle of a site. Control: a site is expected to be the old one.
 */
static void filled_in_parts(void)
{
	uint8_t *code = make_file_code(PAGES, 4096, CROSSING);
	int status[2] = {-1, -1};

	put_in_front(code);
	for (int is_control = 0; is_control < 2; is_control++) {
		pid_t pid = fork();

		if (!pid)
			_exit(poke_crossing(code, is_control));
		(void)waitpid(pid, &status[is_control], 0);
	}
	if (WIFEXITED(status[0]) && WEXITSTATUS(status[0]) == 77) {
		skip("a copy that is filled in parts", "no PR_SET_MDWE here");
		return;
	}
	ok(!status[0], "a copy that is filled in parts, %d times %s: %d", PAGES, WHERE,
	   WEXITSTATUS(status[0]));
	ok(WIFEXITED(status[1]) && WEXITSTATUS(status[1]) == 2,
	   "control: one that has not changed would be seen: %d", WEXITSTATUS(status[1]));
}

/* ------------------------------------------------------------------ plugins */

struct plugin {
	void *handle;
	int (*call)(void);
	int (*update)(int on);
};

static bool load(struct plugin *p, const char *path)
{
	p->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!p->handle) {
		diag("%s", dlerror());
		return false;
	}
	p->call = (int (*)(void))(uintptr_t)dlsym(p->handle, "plugin_call");
	p->update = (int (*)(int))(uintptr_t)dlsym(p->handle, "plugin_update");
	return p->call && p->update;
}

/* On and off; whether its text is mapped as before. The first error is kept in *ret. */
static bool turns(const struct plugin *p, int number, int *ret)
{
	struct expected m = mapping_at((uintptr_t)p->call);
	bool good = p->call() == 100;

	*ret = p->update(1);
	good = good && p->call() == (*ret ? 100 : 100 + number);
	if (!*ret) {
		*ret = p->update(0);
		good = good && p->call() == 100;
	}
	return good && is_as_it_should_be(&m);
}

static bool copy_file(const char *from, const char *to)
{
	char command[8400];

	(void)snprintf(command, sizeof(command), "cp '%s' '%s'", from, to);
	return !system(command); /* NOLINT(cert-env33-c): of names of our own */
}

/* An upgrade while it runs: before the first update, after it, with all descriptors closed. */
static void file_is_replaced(char **plugins)
{
	static const char *const when[] = {"before the first update", "after the first update",
					   "and all descriptors are closed"};
	char dir[] = "/tmp/shunt-remap-XXXXXX", path[64], new[64];
	struct plugin p;
	int ret = 0;
	bool good;

	if (!mkdtemp(dir))
		abort();
	for (int late = 0; late < 3; late++) {
		(void)snprintf(path, sizeof(path), "%s/%d.so", dir, late);
		(void)snprintf(new, sizeof(new), "%s/new", dir);
		good = copy_file(plugins[0], path) && load(&p, path);
		if (good && late)
			good = turns(&p, 1, &ret) && !ret;
		if (late == 2)
			good = good && !syscall(SYS_close_range, 3, ~0u, 0);
		good = good && copy_file(plugins[1], new) && !rename(new, path);
		good = good && turns(&p, 1, &ret);
		/* Its text can still be had where the program may look into map_files. */
		ok(good && (!ret || ret == -ESTALE), "its file is replaced %s: %d %s", when[late],
		   ret, ret ? shunt_last_error() : "");
		if (good)
			(void)dlclose(p.handle);
		(void)unlink(path);
	}
	(void)rmdir(dir);
}

/* Another library at the place of one that has gone: what was known of it is forgotten. */
static void come_and_go(char **plugins)
{
	uintptr_t last = 0;
	size_t same = 0, wrong = 0, fds = 0, n = (size_t)rounds(200);

	for (size_t i = 0; i < n; i++) {
		struct plugin p = {0};
		int ret = 0;

		if (!load(&p, plugins[i % 2]))
			abort();
		wrong += !turns(&p, (int)(i % 2) + 1, &ret) || ret;
		same += (uintptr_t)p.call == last;
		last = (uintptr_t)p.call;
		(void)dlclose(p.handle);
		if (i == 1)
			fds = count_descriptors();
	}
	ok(!wrong && same > n / 2,
	   "%zu times, one library and then another: %zu wrong, %zu at the same "
	   "place as the other",
	   n, wrong, same);
	ok(count_descriptors() == fds, "descriptors: %zu, %zu", fds, count_descriptors());
}

int main(int argc, char **argv)
{
	if (argc < 3 || shunt_set_poke(SHUNT_POKE_REMAP))
		return 2;
	is_all = !is_emulated() || (argc > 3 && !strcmp(argv[3], "all"));
	shunt_set_log(NULL, NULL);
	if (pthread_create(&hammer.thread, NULL, run_through_the_sites, NULL))
		return 2;
	wait_for_a_round();
	mappings_stay_the_files();
	bounded();
	closed_by_the_program();
	text_of_no_file();
	text_of_a_file();
	if (SITE_ALIGN == 1)
		crossing_is_refused();
	else
		none_crosses();
	shared_text_is_refused();
	filled_in_parts();
	file_is_replaced(argv + 1);
	come_and_go(argv + 1);
	if (is_all)
		very_many_runs();
	no_wrong_calls();
	ok(!sites[0].update(three), "control: a third function");
	wait_for_a_round();
	ok(hammer.wrong, "control: is seen by the thread");
	hammer.stop = true;
	(void)pthread_join(hammer.thread, NULL);
	looks_see();
	remove_files();
	return tap_done();
}
