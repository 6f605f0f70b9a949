// SPDX-License-Identifier: MIT
/*
 * The first process of an emulated machine: mounts what programs expect, runs the tests that
 * /machine/tests lists one after the other, and ends the machine. run.py has made the list and
 * reads the console, on which each line of a test's output stands behind a bar, of its standard
 * error behind another mark:
 *
 *	#begin NUMBER
 *	|OUTPUT
 *	!ERROR
 *	#end NUMBER exit|signal|timeout VALUE MILLISECONDS
 *	#done
 *
 * The list, a line for each thing, a test ended by "run":
 *
 *	seconds N, folder PATH, variable NAME=VALUE, argument WORD, run
 *
 * The kernel's parameter shunt_first=N says with which test to begin: those before it were run by a
 * machine that one of them has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { WORDS = 64, OUTPUT_BYTES = 1 << 18 };

struct test {
	unsigned number;
	int seconds;
	char *folder;
	char *arguments[WORDS + 1];
	char *variables[WORDS + 1];
};

/* One end of what a test writes, and what it has written of a line; @room is left for all of it. */
struct output {
	int fd;
	char mark;
	size_t *room;
	size_t length;
	char line[1024];
};

enum { OUT, ERROR, OUTPUTS };

static void mount_at(const char *type, const char *folder)
{
	mkdir(folder, 0755);
	if (mount(type, folder, type, 0, NULL) && errno != EBUSY) {
		printf("init: mount %s: %s\n", folder, strerror(errno));
	}
}

static void mount_all(void)
{
	mount_at("proc", "/proc");
	mount_at("sysfs", "/sys");
	mount_at("devtmpfs", "/dev");
	mount_at("devpts", "/dev/pts");
	mount_at("tmpfs", "/dev/shm");
	mount_at("tmpfs", "/tmp");
	mount_at("tmpfs", "/run");
	chmod("/dev/shm", 01777);
	chmod("/tmp", 01777);
}

static void start_loopback(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo)) {
		printf("init: no loopback device: %s\n", strerror(errno));
	}
	if (fd >= 0) {
		close(fd);
	}
}

/* The commands of a shell: links to the one program that has them all. */
static void install_commands(void)
{
	pid_t child = fork();

	if (!child) {
		execl("/bin/busybox", "busybox", "--install", "-s", (char *)NULL);
		_exit(127);
	}
	waitpid(child, NULL, 0);
}

/* Lines end as they are written, and control characters are no commands. */
static void make_console_plain(void)
{
	struct termios mode;

	if (!tcgetattr(1, &mode)) {
		cfmakeraw(&mode);
		tcsetattr(1, TCSANOW, &mode);
	}
}

static void end_line(struct output *output)
{
	if (output->length) {
		printf("%c%.*s", output->mark, (int)output->length, output->line);
	}
	if (output->length && output->line[output->length - 1] != '\n') {
		putchar('\n');
	}
	output->length = 0;
	fflush(stdout);
}

/* Bytes of a test as they are, but for a mark before each line. Lines of both outputs stay whole.
 */
static void copy_output(struct output *output, const char *bytes, size_t length)
{
	for (size_t i = 0; i < length && *output->room; i++, --*output->room) {
		output->line[output->length++] = bytes[i];
		if (bytes[i] == '\n' || output->length == sizeof(output->line)) {
			end_line(output);
		}
	}
}

static long long milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void start_test(const struct test *test, int output, int error)
{
	int input = open("/dev/null", O_RDONLY | O_CLOEXEC);

	setsid();
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, RLIM_INFINITY});
	dup2(input, 0);
	dup2(output, 1);
	dup2(error, 2);
	clearenv();
	for (char *const *variable = test->variables; *variable; variable++) {
		putenv(*variable);
	}
	if (!chdir(test->folder)) {
		execvp(test->arguments[0], test->arguments);
	}
	dprintf(2, "init: %s: %s\n", test->arguments[0], strerror(errno));
	_exit(127);
}

/* What has come until now; false at the end, when nobody can write any more. */
static bool read_output(struct output *output)
{
	char bytes[4096];
	ssize_t length;

	while ((length = read(output->fd, bytes, sizeof(bytes))) > 0) {
		copy_output(output, bytes, (size_t)length);
	}
	return length < 0 && (errno == EAGAIN || errno == EINTR);
}

/* Waits for the test's first process; kills it when its time is over. */
static const char *wait_for(pid_t child, struct output *outputs, int seconds, int *value)
{
	long long end = milliseconds() + seconds * 1000LL;
	struct pollfd readable[OUTPUTS];
	int status;

	for (int i = 0; i < OUTPUTS; i++) {
		readable[i] = (struct pollfd){.fd = outputs[i].fd, .events = POLLIN};
	}
	while (!waitpid(child, &status, WNOHANG)) {
		if (milliseconds() >= end) {
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
			*value = seconds;
			return "timeout";
		}
		poll(readable, OUTPUTS, 50);
		for (int i = 0; i < OUTPUTS; i++) {
			if (!read_output(&outputs[i])) {
				readable[i].fd = -1; /* it has closed its output, and goes on */
			}
		}
	}
	*value = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
	return WIFSIGNALED(status) ? "signal" : "exit";
}

static void run_test(const struct test *test)
{
	static struct output outputs[OUTPUTS] = {{.mark = '|'}, {.mark = '!'}};
	size_t room = OUTPUT_BYTES;
	long long begin = milliseconds();
	const char *how;
	int ends[OUTPUTS][2];
	int value;
	pid_t child;

	printf("#begin %u\n", test->number);
	fflush(stdout);
	for (int i = 0; i < OUTPUTS; i++) {
		if (pipe2(ends[i], O_CLOEXEC | O_NONBLOCK)) {
			printf("#end %u exit 126 0\n", test->number);
			return;
		}
		outputs[i].fd = ends[i][0];
		outputs[i].room = &room;
	}
	child = fork();
	if (!child) {
		fcntl(ends[OUT][1], F_SETFL, 0);
		fcntl(ends[ERROR][1], F_SETFL, 0);
		start_test(test, ends[OUT][1], ends[ERROR][1]);
	}
	close(ends[OUT][1]);
	close(ends[ERROR][1]);
	how = wait_for(child, outputs, test->seconds, &value);
	kill(-1, SIGKILL); /* what it has left behind; neither this process nor the first one */
	for (int i = 0; i < OUTPUTS; i++) {
		read_output(&outputs[i]);
		end_line(&outputs[i]);
		close(ends[i][0]);
	}
	printf("#end %u %s %d %lld\n", test->number, how, value, milliseconds() - begin);
	fflush(stdout);
}

static void add_word(char **words, const char *word)
{
	int i = 0;

	while (words[i]) {
		i++;
	}
	if (i == WORDS) {
		printf("init: too many words: %s\n", word);
		exit(1);
	}
	words[i] = strdup(word);
}

static void forget(struct test *test)
{
	for (int i = 0; i < WORDS; i++) {
		free(test->arguments[i]);
		free(test->variables[i]);
	}
	free(test->folder);
	*test = (struct test){.number = test->number + 1};
}

static void run_list(FILE *list, unsigned first)
{
	struct test test = {0};
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, list) > 0) {
		char *word = strchr(line, ' ');

		line[strcspn(line, "\n")] = '\0';
		word = word ? word + 1 : line + strlen(line);
		if (!strncmp(line, "seconds ", 8)) {
			test.seconds = atoi(word);
		} else if (!strncmp(line, "folder ", 7)) {
			test.folder = strdup(word);
		} else if (!strncmp(line, "variable ", 9)) {
			add_word(test.variables, word);
		} else if (!strncmp(line, "argument ", 9)) {
			add_word(test.arguments, word);
		} else if (!strcmp(line, "run")) {
			if (test.number >= first) {
				run_test(&test);
			}
			forget(&test);
		}
	}
	free(line);
}

static int run_tests(void)
{
	const char *first = getenv("shunt_first");
	FILE *list = fopen("/machine/tests", "re");

	if (!list) {
		printf("init: /machine/tests: %s\n", strerror(errno));
		return 1;
	}
	run_list(list, first ? (unsigned)atoi(first) : 0);
	fclose(list);
	printf("#done\n");
	fflush(stdout);
	return 0;
}

/* The tests run under a process of their own: orphans come to the first one, as on any system. */
int main(void)
{
	pid_t runner;
	pid_t ended;

	mount_all();
	make_console_plain();
	start_loopback();
	install_commands();
	runner = fork();
	if (!runner) {
		return run_tests();
	}
	do {
		ended = wait(NULL);
	} while (ended != runner && (ended > 0 || errno == EINTR));
	tcdrain(1);
	reboot(RB_AUTOBOOT); /* the emulator ends then, see run.py */
	return 1;
}
