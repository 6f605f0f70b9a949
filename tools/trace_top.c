/* SPDX-License-Identifier: MIT */
#include "trace_top.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "interrupt.h"
#include "remote_out.h"
#include "shunt.h"
#include "trace_view.h"

#define ENTER "\033[?1049h\033[?25l" /* the alternate screen, no cursor */
#define LEAVE "\033[?25h\033[?1049l"

enum { LINES = 24, COLUMNS = 80, HEAD = 3, PLAIN_ROWS = 10, WIDTH = 58 /* before the name */ };

static long long now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ------------------------------------------------------------------------------ rows */

/* A function, of all processes. */
struct shown {
	const char *name, *module;
	uint64_t calls, new_calls, timed, total, max, new_self; /* times: ns */
	uint64_t runs, waits;
};

static struct shown show_row(struct live *live, const struct live_row *row)
{
	struct trace_file *f = &live->f;

	return (struct shown){.name = trace_function_name(f, row->function),
			      .module = trace_base_name(trace_function_module(f, row->function)),
			      .calls = row->now.calls,
			      .new_calls = row->now.calls - row->before.calls,
			      .timed = row->now.timed,
			      .total = trace_ns(f, row->now.total),
			      .max = trace_ns(f, row->max),
			      .runs = trace_ns(f, row->runs),
			      .waits = trace_ns(f, row->waits),
			      .new_self = trace_ns(f, row->now.self - row->before.self)};
}

static int by_name(const void *a, const void *b)
{
	const struct shown *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : strcmp(x->module, y->module);
}

/* Of this turn, which is a second or so: also of calls that have not returned. */
static uint64_t cost(const struct shown *row)
{
	const uint64_t turn = TOP_TURN_MS * UINT64_C(1000000);

	return row->new_self + (row->waits < turn ? row->waits : turn);
}

/* Who takes most now; then who is called most. */
static int by_cost(const void *a, const void *b)
{
	const struct shown *x = a, *y = b;

	if (cost(x) != cost(y))
		return cost(x) < cost(y) ? 1 : -1;
	if (x->runs != y->runs)
		return x->runs < y->runs ? 1 : -1;
	if (x->new_calls != y->new_calls)
		return x->new_calls < y->new_calls ? 1 : -1;
	if (x->calls != y->calls)
		return x->calls < y->calls ? 1 : -1;
	return by_name(a, b);
}

/* One row for each function, whichever processes it is of. */
static size_t merge(struct shown *rows, size_t n)
{
	size_t to = 0;

	for (size_t i = 0; i < n; i++) {
		struct shown *last = to ? &rows[to - 1] : NULL;

		if (!last || by_name(last, &rows[i])) {
			rows[to++] = rows[i];
			continue;
		}
		last->calls += rows[i].calls;
		last->new_calls += rows[i].new_calls;
		last->timed += rows[i].timed;
		last->total += rows[i].total;
		last->new_self += rows[i].new_self;
		last->max = rows[i].max > last->max ? rows[i].max : last->max;
		last->runs = rows[i].runs > last->runs ? rows[i].runs : last->runs;
		last->waits += rows[i].waits;
	}
	return to;
}

/* Of malloc(); NULL: no memory. */
static struct shown *make_rows(struct live *lives, size_t n, size_t *count)
{
	size_t all = 0, at = 0;
	struct shown *rows;

	for (size_t i = 0; i < n; i++)
		all += lives[i].rows.n;
	rows = malloc(all * sizeof(*rows) + 1);
	for (size_t i = 0; i < n; i++)
		live_find_running(&lives[i]);
	for (size_t i = 0; i < n && rows; i++)
		for (size_t j = 0; j < lives[i].rows.n; j++)
			rows[at++] = show_row(&lives[i], (struct live_row *)lives[i].rows.data + j);
	if (!rows)
		return NULL;
	qsort(rows, all, sizeof(*rows), by_name);
	*count = merge(rows, all);
	qsort(rows, *count, sizeof(*rows), by_cost);
	return rows;
}

/* --------------------------------------------------------------------------- drawing */

struct sheet {
	FILE *to;
	unsigned lines, columns, line;
	bool is_screen;
};

/* Cut to the terminal's width; a character is taken for a column. */
static void put_line(struct sheet *s, const char *text)
{
	size_t n = 0, size = strlen(text);

	for (unsigned column = 0; n < size && (!s->is_screen || column < s->columns); column++) {
		size_t length = trace_utf8_length(text + n, size - n);

		n += length ? length : 1;
	}
	if (s->is_screen && s->line)
		(void)fputs("\r\n", s->to);
	(void)fwrite(text, 1, n, s->to);
	(void)fputs(s->is_screen ? "\033[K" : "\n", s->to);
	s->line++;
}

static void put_head(struct sheet *s, const struct top *top, struct live *lives, size_t n)
{
	uint64_t events = 0, lost = 0, no_return = 0;
	size_t threads = 0, offs = 0;
	char line[400], without[64] = "", off[64] = "";

	for (size_t i = 0; i < n; i++) {
		events += lives[i].f.events;
		lost += lives[i].f.lost;
		no_return += lives[i].no_return;
		threads += lives[i].f.threads.n;
		offs += lives[i].f.offs.n;
	}
	if (no_return)
		(void)snprintf(without, sizeof(without), ", %" PRIu64 " without a return",
			       no_return);
	if (offs)
		(void)snprintf(off, sizeof(off), ", %zu switched off", offs);
	(void)snprintf(line, sizeof(line),
		       "%s: %.1f s, %" PRIu64 " event%s, %" PRIu64 " lost%s, %zu thread%s%s%s",
		       top->title, (double)(now_ms() - top->began) / 1000, events,
		       tool_plural(events), lost, without, threads, tool_plural(threads), off,
		       s->is_screen ? "; q ends it" : "");
	put_line(s, line);
}

static void put_row(struct sheet *s, const struct shown *row, double seconds)
{
	char average[32] = "         -", most[32] = "          -", *line;

	if (row->timed)
		(void)trace_show_ns(row->total / row->timed, average);
	if (row->timed || row->runs)
		(void)trace_show_bound(row->max > row->runs ? row->max : row->runs, row->runs,
				       most);
	if (asprintf(&line, "%11.0f %12" PRIu64 " %7.1f %s %s  %s [%s]",
		     (double)row->new_calls / seconds, row->calls,
		     (double)row->new_self / seconds / 1e7, average, most, row->name,
		     row->module) < 0)
		return;
	put_line(s, line);
	free(line);
}

static void put_table(struct sheet *s, const struct shown *rows, size_t n, double seconds)
{
	put_line(s, "    CALLS/S        CALLS   SELF%        AVG         MAX  FUNCTION");
	for (size_t i = 0; i < n && s->line < s->lines; i++)
		if (s->is_screen || rows[i].new_calls || rows[i].new_self || rows[i].runs)
			put_row(s, &rows[i], seconds);
}

static void find_size(const struct top *top, struct sheet *s)
{
	struct winsize size;

	s->lines = top->is_screen ? LINES : PLAIN_ROWS + 2;
	s->columns = COLUMNS;
	if (top->is_screen && !ioctl(top->out, TIOCGWINSZ, &size) && size.ws_row && size.ws_col) {
		s->lines = size.ws_row;
		s->columns = size.ws_col;
	}
}

static void drop_rest(struct top *top)
{
	free(top->rest);
	top->rest = NULL;
}

static bool can_write(const struct top *top)
{
	struct pollfd one = {.fd = top->out, .events = POLLOUT};

	return poll(&one, 1, 0) > 0;
}

/*
 * As much as goes without waiting: a terminal and a pipe do not block (open_out()), and anything
 * else that poll() finds writable takes PIPE_BUF bytes.
 */
static int write_rest(struct top *top)
{
	while (top->rest && can_write(top)) {
		size_t left = top->rest_size - top->rest_at;
		ssize_t n = write(top->out, top->rest + top->rest_at,
				  left < PIPE_BUF ? left : PIPE_BUF);

		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			top->error = errno == EPIPE ? 0 : errno;
			return -1;
		}
		if (n < 0)
			return 0;
		top->rest_at += (size_t)n;
		if (top->rest_at == top->rest_size)
			drop_rest(top);
	}
	return 0;
}

void top_wait(struct top *top)
{
	while (top->rest && !top->is_screen && !top->is_quiet)
		if (interrupt_wait(top->out, POLLOUT, -1) || write_rest(top))
			return;
}

static int draw(struct top *top, struct live *lives, size_t n, double seconds)
{
	struct sheet s = {.is_screen = top->is_screen};
	char *text = NULL;
	size_t size, count = 0;
	struct shown *rows = make_rows(lives, n, &count);
	int ret;

	find_size(top, &s);
	s.to = open_memstream(&text, &size);
	if (!s.to || !rows) {
		if (s.to)
			(void)fclose(s.to);
		free(text);
		free(rows);
		return -1;
	}
	if (s.is_screen)
		(void)fputs("\033[H", s.to);
	put_head(&s, top, lives, n);
	put_table(&s, rows, count, seconds);
	if (s.is_screen)
		(void)fputs("\033[J", s.to);
	ret = fclose(s.to) ? -1 : 0;
	free(rows);
	top->rest = text;
	top->rest_size = size;
	top->rest_at = 0;
	return ret ? ret : write_rest(top);
}

int top_draw(struct top *top, struct live *lives, size_t n, bool now)
{
	long long at = now_ms(), passed = at - top->turned;

	if (top->is_quiet)
		return 0;
	if (write_rest(top))
		return -1;
	if (top->rest || (!now && passed < TOP_TURN_MS))
		return 0;
	if (draw(top, lives, n, passed > 0 ? (double)passed / 1000 : 1))
		return -1;
	/* A window that has another size shows the same turn. */
	if (passed < TOP_TURN_MS)
		return 0;
	for (size_t i = 0; i < n; i++)
		live_turn(&lives[i]);
	top->turned = at;
	return 0;
}

/* ------------------------------------------------------------------------- the terminal */

/* @text, whole: until a signal where the terminal is stopped (Ctrl-S). */
static void put(const struct top *top, const char *text)
{
	size_t size = strlen(text);

	while (size) {
		ssize_t n = write(top->out, text, size);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return;
		if (n < 0 && interrupt_wait(top->out, POLLOUT, -1))
			return;
		if (n > 0) {
			text += n;
			size -= (size_t)n;
		}
	}
}

static void enter(struct top *top)
{
	struct termios raw = top->before;

	/* Keys one by one and unseen; Ctrl-C and Ctrl-Z are signals still. */
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	if (top->keys >= 0)
		(void)tcsetattr(top->keys, TCSADRAIN, &raw);
	put(top, ENTER);
}

static void leave(const struct top *top)
{
	put(top, LEAVE);
	if (top->keys >= 0)
		(void)tcsetattr(top->keys, TCSADRAIN, &top->before);
}

/* Standard error becomes a file, for it would be drawn over. */
static int take_stderr(struct top *top)
{
	struct remote_out file;

	if (remote_out_open_unnamed(&file, "trace"))
		return -1;
	top->words = file.fd;
	(void)fcntl(top->words, F_SETFL, O_APPEND);
	(void)fflush(stderr);
	top->stderr_then = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
	if (top->stderr_then < 0 || dup2(top->words, STDERR_FILENO) < 0) {
		tool_complain("trace: dup: %s", strerror(errno));
		return -1;
	}
	return 0;
}

static int open_screen(struct top *top)
{
	top->keys = open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (top->keys >= 0 && tcgetattr(top->keys, &top->before)) {
		(void)close(top->keys);
		top->keys = -1;
	}
	if (take_stderr(top))
		return -1;
	enter(top);
	return 0;
}

/*
 * A pipe or a terminal is opened anew, so that it does not block: what others have of it is not
 * changed. -1, with errno.
 */
static int open_out(int fd)
{
	struct stat st;
	char path[32];
	int own = -1;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (isatty(fd) || (!fstat(fd, &st) && S_ISFIFO(st.st_mode)))
		own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	return own >= 0 ? own : fcntl(fd, F_DUPFD_CLOEXEC, 10);
}

int top_open(struct top *top, int out, const char *title)
{
	const char *kind = getenv("TERM");

	*top = (struct top){.title = title,
			    .out = open_out(out),
			    .keys = -1,
			    .words = -1,
			    .stderr_then = -1,
			    .began = now_ms()};
	top->turned = top->began;
	if (top->out < 0) {
		tool_complain("trace: --top: %s", strerror(errno));
		return -1;
	}
	top->is_screen = isatty(top->out) && kind && *kind && strcmp(kind, "dumb") != 0;
	if (!top->is_screen || !open_screen(top))
		return 0;
	top_close(top);
	return -1;
}

bool top_is_ended_by_key(const struct top *top)
{
	char key;

	return read(top->keys, &key, 1) == 1 && (key == 'q' || key == 'Q');
}

void top_suspend(struct top *top)
{
	bool is_drawn = top->is_screen && !top->is_quiet;

	if (is_drawn)
		leave(top);
	(void)raise(SIGSTOP);
	if (is_drawn)
		enter(top);
}

void top_show_words(struct top *top)
{
	if (top->words >= 0 && top->is_quiet)
		(void)remote_out_copy(top->words, &top->shown, STDERR_FILENO);
}

void top_leave(struct top *top)
{
	if (top->is_quiet)
		return;
	top->is_quiet = true;
	drop_rest(top);
	if (!top->is_screen)
		return;
	leave(top);
	(void)fflush(stderr);
	if (top->stderr_then >= 0)
		(void)dup2(top->stderr_then, STDERR_FILENO);
	top_show_words(top);
}

void top_close(struct top *top)
{
	top_leave(top);
	top_show_words(top);
	(void)close(top->out);
	if (top->keys >= 0)
		(void)close(top->keys);
	if (top->words >= 0)
		(void)close(top->words);
	if (top->stderr_then >= 0)
		(void)close(top->stderr_then);
}
