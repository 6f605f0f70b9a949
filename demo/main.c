/* SPDX-License-Identifier: MIT */
/*
 * The demo of Shunt: threads that compute CRC-32C of real files through one static
 * call, while the main thread switches the implementation under them a thousand
 * times a second. Prints what happened and what a call costs; exits with 1 if
 * anything was wrong.
 */
#include "call_cost.h"
#include "independent.h"
#include "options.h"
#include "phase.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shunt/inspect.h>

enum {
	MAX_IMPLS = 5, /* bitwise, table, slicing-by-8, sse4.2; the broken one */
};

/* The ways of poking that are shown, each for as long as --seconds says. */
static const struct way {
	const char *name;
	enum shunt_poke_policy policy;
} poke_ways[] = {
	{"remap", SHUNT_POKE_REMAP},
	{"int3", SHUNT_POKE_INT3},
};
enum {
	NR_WAYS = sizeof(poke_ways) / sizeof(poke_ways[0]),
};

static const double solo_seconds = 0.5;
static const double calm_seconds = 1.0;

/* What the run is made of, and what it found. */
struct demo {
	struct options options;
	struct corpus corpus;
	uint32_t *reference;
	struct impl impls[MAX_IMPLS];
	size_t nr_impls;
	struct phase_result alone[MAX_IMPLS];
	size_t fastest;
	struct crew crew;
	struct phase_result before, during[NR_WAYS], after, last_pass;
	struct phase_result total;
	struct call_cost costs[CALL_KINDS];
};

static int fail(const char *what, int err)
{
	fprintf(stderr, "shunt-demo: %s: %s\n", what, strerror(-err));
	return err;
}

/* --sabotage: right but for one bit. What the demo is to notice. */
static uint32_t crc32c_broken(uint32_t crc, const void *buf, size_t len)
{
	return crc32c_table(crc, buf, len) ^ 1;
}

/* Before the run. */

/* The known answer is asked of each; the broken one is added unasked. */
static int choose_impls(struct demo *demo)
{
	static const struct impl all[] = {
		{"bitwise", crc32c_bitwise},
		{"table", crc32c_table},
		{"slicing-by-8", crc32c_slicing_by_8},
		{"sse4.2", crc32c_sse42},
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (all[i].digest == crc32c_sse42 && !crc32c_have_sse42()) {
			printf("This processor has no SSE4.2: that implementation is left out.\n");
			continue;
		}
		if (!independent_known_answer(all[i].digest)) {
			fprintf(stderr, "shunt-demo: %s: wrong check value\n", all[i].name);
			return -EIO;
		}
		demo->impls[demo->nr_impls++] = all[i];
	}
	if (demo->options.sabotage)
		demo->impls[demo->nr_impls++] = (struct impl){"broken", crc32c_broken};
	return 0;
}

static int load_corpus(struct demo *demo)
{
	const struct options *options = &demo->options;
	int err = corpus_load(&demo->corpus, options->dir, (size_t)options->limit_mb * 1000000);

	if (err)
		return err;
	if (demo->corpus.bytes == 0) {
		fprintf(stderr, "shunt-demo: %s: nothing to digest\n", options->dir);
		return -ENODATA;
	}
	if (demo->corpus.left_out > 0)
		printf("--limit-mb leaves out %zu files.\n", demo->corpus.left_out);
	return 0;
}

/* By the plainest implementation, called directly; librhash must agree. */
static int compute_reference(struct demo *demo)
{
	const struct corpus *corpus = &demo->corpus;
	long differ;

	demo->reference = calloc(corpus->count, sizeof(*demo->reference));
	if (!demo->reference)
		return fail("reference digests", -ENOMEM);
	for (size_t i = 0; i < corpus->count; i++)
		demo->reference[i] =
			crc32c_bitwise(0, corpus->files[i].data, corpus->files[i].size);
	differ = independent_compare(corpus, demo->reference, "the reference");
	if (differ != 0)
		return fail("reference digests", -EIO);
	return 0;
}

static void print_intent(const struct demo *demo)
{
	const struct options *options = &demo->options;

	printf("%u threads digest the %zu files (%.0f MB) under %s through one static call;\n"
	       "the main thread switches it %u times a second between",
	       options->threads, demo->corpus.count, (double)demo->corpus.bytes / 1e6, options->dir,
	       options->rate);
	for (size_t i = 0; i < demo->nr_impls; i++)
		printf("%s %s", i > 0 ? "," : "", demo->impls[i].name);
	printf(".\n");
}

static int print_site(const struct shunt_site_info *site, void *arg)
{
	(void)arg;
	printf("  %s+0x%zx: %s%s%s\n", site->function ? site->function : "?", site->offset,
	       shunt_site_state_name(site->state), site->why ? ": " : "",
	       site->why ? site->why : "");
	return 0;
}

/* Where the static call is, and how it is patched here. */
static int print_sites(void)
{
	struct shunt_ways ways;

	shunt_get_ways(&ways);
	printf("Its sites (text written through %s, cores synchronised by %s):\n", ways.write,
	       ways.sync);
	return shunt_for_each_site("crc32c", print_site, NULL);
}

/* The run. */

static int run_one(struct demo *demo, const char *name, size_t impl, double seconds,
		   struct phase_result *result)
{
	const struct phase phase = {
		.name = name, .impls = &demo->impls[impl], .nr_impls = 1, .seconds = seconds};

	return phase_run(&phase, &demo->crew, result);
}

static int run_switching(struct demo *demo, const char *name, double seconds,
			 struct phase_result *result)
{
	const struct phase phase = {.name = name,
				    .impls = demo->impls,
				    .nr_impls = demo->nr_impls,
				    .rate = demo->options.rate,
				    .seconds = seconds};

	return phase_run(&phase, &demo->crew, result);
}

static int run_each_alone(struct demo *demo)
{
	for (size_t i = 0; i < demo->nr_impls; i++) {
		int err = run_one(demo, demo->impls[i].name, i, solo_seconds, &demo->alone[i]);

		if (err)
			return err;
		if (phase_mb_per_s(&demo->alone[i]) > phase_mb_per_s(&demo->alone[demo->fastest]))
			demo->fastest = i;
	}
	return 0;
}

static int run_each_way(struct demo *demo)
{
	for (size_t i = 0; i < NR_WAYS; i++) {
		int err = shunt_set_poke(poke_ways[i].policy);

		if (!err)
			err = run_switching(demo, poke_ways[i].name, demo->options.seconds,
					    &demo->during[i]);
		if (err)
			return err;
	}
	return shunt_set_poke(SHUNT_POKE_AUTO);
}

static int run_phases(struct demo *demo)
{
	int err = run_each_alone(demo);

	if (!err)
		err = run_one(demo, "before", demo->fastest, calm_seconds, &demo->before);
	if (!err)
		err = run_each_way(demo);
	if (!err)
		err = run_one(demo, "after", demo->fastest, calm_seconds, &demo->after);
	if (err)
		return err;
	/* The final digests, too, are made while the implementation changes. */
	crew_ask_last_pass(&demo->crew);
	return run_switching(demo, "last pass", 0, &demo->last_pass);
}

static int run(struct demo *demo)
{
	int err = crew_start(&demo->crew, demo->options.threads, &demo->corpus, demo->reference);

	if (err)
		return fail("start the workers", err);
	err = run_phases(demo);
	if (err)
		return fail("run", err);
	err = crew_join(&demo->crew);
	if (err)
		return fail("join the workers", err);
	/* By now the process has one thread, which makes for a quiet measurement. */
	err = call_cost_measure(demo->costs);
	if (err)
		return fail("measure the cost of a call", err);
	return 0;
}

/* The results. */

static void add_to_total(struct demo *demo, const struct phase_result *result)
{
	demo->total.seconds += result->seconds;
	demo->total.calls += result->calls;
	demo->total.bytes += result->bytes;
	demo->total.wrong += result->wrong;
	demo->total.updates += result->updates;
	demo->total.failed_updates += result->failed_updates;
	demo->total.traps += result->traps;
	demo->total.late_traps += result->late_traps;
}

static void print_row(const char *name, const char *suffix, const struct phase_result *result)
{
	printf("%12s%-6s %10ju %9ju %9ju %10ju %13ju %9.0f\n", name, suffix,
	       (uintmax_t)result->calls, (uintmax_t)result->updates, (uintmax_t)result->traps,
	       (uintmax_t)result->late_traps, (uintmax_t)result->wrong, phase_mb_per_s(result));
}

static void print_counted(struct demo *demo, const char *name, const char *suffix,
			  const struct phase_result *result)
{
	print_row(name, suffix, result);
	add_to_total(demo, result);
}

static void print_phases(struct demo *demo)
{
	printf("\n%-18s %10s %9s %9s %10s %13s %9s\n", "", "calls", "updates", "traps",
	       "late traps", "wrong digests", "MB/s");
	for (size_t i = 0; i < demo->nr_impls; i++) {
		print_row(demo->impls[i].name, " alone", &demo->alone[i]);
		add_to_total(demo, &demo->alone[i]);
	}
	print_counted(demo, "before", "", &demo->before);
	for (size_t i = 0; i < NR_WAYS; i++)
		print_counted(demo, "by ", poke_ways[i].name, &demo->during[i]);
	print_counted(demo, "after", "", &demo->after);
	print_counted(demo, "last pass", "", &demo->last_pass);
	print_row("total", "", &demo->total);
}

/*
 * The throughput of all workers if switching cost nothing: one worker's way through
 * the files, each at the speed of the implementation that is current when its call
 * begins. Neither mean of the speeds would do: calls that are short against an
 * update's period share the time equally (arithmetic mean), long ones share the
 * bytes equally (harmonic mean), and the files are of both kinds.
 */
static double replay_mb_per_s(const struct demo *demo, double seconds)
{
	double time = 0;
	double bytes = 0;

	for (size_t i = 0; time < seconds; i = (i + 1) % demo->corpus.count) {
		double size = (double)demo->corpus.files[i].size;
		size_t updates = (size_t)(time * demo->options.rate);
		double alone = phase_mb_per_s(&demo->alone[updates % demo->nr_impls]);

		time += size * (double)demo->options.threads / (alone * 1e6);
		bytes += size;
	}
	return bytes / time / 1e6 * (double)demo->options.threads;
}

static double harmonic_mean_mb_per_s(const struct demo *demo)
{
	double sum = 0;

	for (size_t i = 0; i < demo->nr_impls; i++)
		sum += 1 / phase_mb_per_s(&demo->alone[i]);
	return (double)demo->nr_impls / sum;
}

static double arithmetic_mean_mb_per_s(const struct demo *demo)
{
	double sum = 0;

	for (size_t i = 0; i < demo->nr_impls; i++)
		sum += phase_mb_per_s(&demo->alone[i]);
	return sum / (double)demo->nr_impls;
}

static void print_expectation(const struct demo *demo)
{
	double expected = replay_mb_per_s(demo, demo->during[0].seconds);

	printf("\nFrom the speeds alone, switching for free would give %.0f MB/s (harmonic mean "
	       "%.0f, "
	       "arithmetic %.0f).\n",
	       expected, harmonic_mean_mb_per_s(demo), arithmetic_mean_mb_per_s(demo));
	for (size_t i = 0; i < NR_WAYS; i++) {
		const struct phase_result *during = &demo->during[i];

		printf("By %s: %.1f of %u updates a second, %.2f traps an update, of them late "
		       "%.3f %%; "
		       "%.0f %% of that speed.\n",
		       poke_ways[i].name, (double)during->updates / during->seconds,
		       demo->options.rate,
		       during->updates ? (double)during->traps / (double)during->updates : 0,
		       during->traps ? 100 * (double)during->late_traps / (double)during->traps : 0,
		       phase_mb_per_s(during) / expected * 100);
	}
}

static void print_costs(const struct demo *demo)
{
	const struct call_cost *direct = &demo->costs[CALL_DIRECT];

	printf("\n%-18s %8s %17s %10s\n", "cost of a call", "ns", "min..max", "to direct");
	for (size_t i = 0; i < CALL_KINDS; i++) {
		const struct call_cost *cost = &demo->costs[i];

		printf("%18s %8.2f %8.2f..%-7.2f %10.2f\n", cost->name, cost->median, cost->min,
		       cost->max, cost->median / direct->median);
	}
}

/* Returns how many of the workers' final digests differ from librhash's, or -errno. */
static long check_final_digests(const struct demo *demo)
{
	long differ = 0;

	for (size_t i = 0; i < demo->crew.count; i++) {
		char whose[32];
		long more;

		snprintf(whose, sizeof(whose), "worker %zu", i + 1);
		more = independent_compare(&demo->corpus, demo->crew.workers[i].digests, whose);
		if (more < 0)
			return more;
		differ += more;
	}
	printf("\n%zu final digests compared with librhash: %ld differ.\n",
	       demo->crew.count * demo->corpus.count, differ);
	return differ;
}

static bool report(struct demo *demo)
{
	long differ;
	bool good;

	print_phases(demo);
	print_expectation(demo);
	print_costs(demo);
	differ = check_final_digests(demo);
	if (differ < 0)
		fail("final digests", (int)differ);
	good = differ == 0 && demo->total.wrong == 0 && demo->total.failed_updates == 0 &&
	       demo->during[0].updates > 0 && demo->during[1].updates > 0;
	if (good)
		printf("All is well.\n");
	else
		printf("WRONG: %ju wrong digests, %ju updates, %ju failed updates.\n",
		       (uintmax_t)demo->total.wrong, (uintmax_t)demo->total.updates,
		       (uintmax_t)demo->total.failed_updates);
	return good;
}

static int prepare(struct demo *demo)
{
	int err = independent_init();

	if (err)
		return fail("librhash", err);
	crc32c_init();
	err = choose_impls(demo);
	if (!err)
		err = load_corpus(demo);
	if (!err)
		err = compute_reference(demo);
	return err;
}

int main(int argc, char **argv)
{
	static struct demo demo; /* static: after an error, workers may outlive main() */
	bool good;

	parse_options(&demo.options, argc, argv);
	if (prepare(&demo) != 0)
		return EXIT_FAILURE;
	print_intent(&demo);
	if (print_sites() != 0 || run(&demo) != 0)
		return EXIT_FAILURE; /* for the same reason nothing is freed here */
	good = report(&demo);
	crew_free(&demo.crew);
	free(demo.reference);
	corpus_free(&demo.corpus);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "shunt-demo: cannot write to stdout\n");
		return EXIT_FAILURE;
	}
	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
