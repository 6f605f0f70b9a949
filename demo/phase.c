/* SPDX-License-Identifier: MIT */
/*
 * Updates are due at absolute times, so that the rate does not drift: a late one
 * is made up for by the next ones.
 */
#include "phase.h"

#include <errno.h>
#include <shunt/inspect.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* How soon the end of a phase is seen that nothing else wakes us for. */
static const double longest_sleep = 0.05;

/* Everything counted since the process started, at one moment. */
struct snapshot {
	double time;
	struct work_done work;
	struct shunt_stats shunt;
};

/* Times are those of now(). */
struct pace {
	double start;
	double next_update;
	double next_report;
	size_t impl; /* the current one */
};

static double report_interval(bool terminal)
{
	return terminal ? 0.2 : 1.0;
}

/* Seconds on the monotonic clock, or a negative number. */
static double now(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_MONOTONIC, &t) != 0)
		return -1;
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int sleep_until(double time)
{
	struct timespec t = {.tv_sec = (time_t)time};
	int err;

	t.tv_nsec = (long)((time - (double)t.tv_sec) * 1e9);
	do {
		err = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	} while (err == EINTR);
	return -err;
}

static int take_snapshot(struct snapshot *snapshot, struct crew *crew)
{
	snapshot->time = now();
	if (snapshot->time < 0)
		return -errno;
	snapshot->work = crew_work_done(crew);
	shunt_get_stats(&snapshot->shunt);
	return 0;
}

static int switch_to(const struct impl *impl)
{
	int err = static_call_update(crc32c, impl->digest);

	if (!err && static_call_query(crc32c) != (void *)impl->digest)
		err = -EIO;
	if (err)
		fprintf(stderr, "shunt-demo: static_call_update(crc32c, %s): %s\n", impl->name,
			strerror(-err));
	return err;
}

static void subtract(struct phase_result *result, const struct snapshot *start,
		     const struct snapshot *end)
{
	result->seconds = end->time - start->time;
	result->calls = end->work.calls - start->work.calls;
	result->bytes = end->work.bytes - start->work.bytes;
	result->wrong = end->work.wrong - start->work.wrong;
	result->traps = end->shunt.traps - start->shunt.traps;
	result->late_traps = end->shunt.late_traps - start->shunt.late_traps;
}

double phase_mb_per_s(const struct phase_result *result)
{
	return result->seconds > 0 ? (double)result->bytes / result->seconds / 1e6 : 0;
}

/* One line that is written over on a terminal, line after line elsewhere. */
static void print_progress(const struct phase *phase, const struct phase_result *result,
			   bool terminal)
{
	printf("%s%s: %.1f s, %.1fM calls, %ju updates, %ju traps, %ju late, %ju wrong, %.0f "
	       "MB/s%s",
	       terminal ? "\r\033[K" : "  ", phase->name, result->seconds,
	       (double)result->calls / 1e6, (uintmax_t)result->updates, (uintmax_t)result->traps,
	       (uintmax_t)result->late_traps, (uintmax_t)result->wrong, phase_mb_per_s(result),
	       terminal ? "" : "\n");
	fflush(stdout); /* an error sticks to the stream: main() looks for it at the end */
}

static void report_if_due(const struct phase *phase, struct pace *pace,
			  const struct phase_result *result, bool terminal)
{
	if (pace->start + result->seconds < pace->next_report)
		return;
	pace->next_report += report_interval(terminal);
	print_progress(phase, result, terminal);
}

static bool is_over(const struct phase *phase, struct crew *crew, double elapsed)
{
	return phase->seconds > 0 ? elapsed >= phase->seconds : crew_has_finished(crew);
}

static int sleep_until_due(const struct phase *phase, const struct pace *pace, double time)
{
	double wake = time + longest_sleep;

	if (phase->rate && pace->next_update < wake)
		wake = pace->next_update;
	if (phase->seconds > 0 && pace->start + phase->seconds < wake)
		wake = pace->start + phase->seconds;
	return sleep_until(wake);
}

static void update_if_due(const struct phase *phase, struct pace *pace, double time,
			  struct phase_result *result)
{
	if (!phase->rate || time < pace->next_update)
		return;
	pace->next_update += 1.0 / phase->rate;
	pace->impl = (pace->impl + 1) % phase->nr_impls;
	if (switch_to(&phase->impls[pace->impl]) == 0)
		result->updates++;
	else
		result->failed_updates++;
}

int phase_run(const struct phase *phase, struct crew *crew, struct phase_result *result)
{
	bool terminal = isatty(STDOUT_FILENO) == 1;
	struct snapshot start = {0};
	struct snapshot latest;
	struct pace pace;
	int err = switch_to(&phase->impls[0]);

	*result = (struct phase_result){0};
	if (!err)
		err = take_snapshot(&start, crew);
	if (err)
		return err;
	pace = (struct pace){.start = start.time,
			     .next_update = start.time,
			     .next_report = start.time + report_interval(terminal)};
	latest = start;
	for (;;) {
		err = sleep_until_due(phase, &pace, latest.time);
		if (!err)
			err = take_snapshot(&latest, crew);
		if (err)
			return err;
		subtract(result, &start, &latest);
		report_if_due(phase, &pace, result, terminal);
		if (is_over(phase, crew, result->seconds))
			break;
		update_if_due(phase, &pace, latest.time, result);
	}
	if (terminal)
		printf("\r\033[K");
	return 0;
}
