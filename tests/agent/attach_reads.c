/* SPDX-License-Identifier: MIT */
/*
 * A process that sleeps in one system call, with a part of its work done already where KIND is of
 * such a call: the tool attaches to it then.
 *
 *	attach_reads KIND
 *
 * Its number is printed when it sleeps; for a line on standard input its other side does the rest,
 * and what the call gave is printed: the result, and errno, which was KEPT before.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { KEPT = 77, WHOLE = 10, PART = 2, LARGE = 1 << 20 };

/* Between which and whom: the sleeper's end, and the other one. */
static int near_fd, far_fd;
static char buffer[LARGE];

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static void need(bool good, const char *what)
{
	if (!good)
		die(what);
}

/* ---------------------------------------------------------------------------- both ends */

static void make_pipe(void)
{
	int fds[2];

	need(!pipe2(fds, O_CLOEXEC), "pipe2");
	near_fd = fds[0];
	far_fd = fds[1];
}

/* To write into: there is room for a page. */
static void make_narrow_pipe(void)
{
	int fds[2];

	need(!pipe2(fds, O_CLOEXEC) && fcntl(fds[1], F_SETPIPE_SZ, 4096) == 4096, "pipe2");
	near_fd = fds[1];
	far_fd = fds[0];
}

static void make_pair(int type)
{
	int fds[2];

	need(!socketpair(AF_UNIX, type, 0, fds), "socketpair");
	near_fd = fds[0];
	far_fd = fds[1];
}

static void make_unix(void)
{
	make_pair(SOCK_STREAM);
}

static void make_datagram(void)
{
	make_pair(SOCK_DGRAM);
}

static void make_tcp(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof(address);
	int from = socket(AF_INET, SOCK_STREAM, 0);

	need(from >= 0 && !bind(from, (struct sockaddr *)&address, size) && !listen(from, 1) &&
		     !getsockname(from, (struct sockaddr *)&address, &size),
	     "listen");
	near_fd = socket(AF_INET, SOCK_STREAM, 0);
	need(near_fd >= 0 && !connect(near_fd, (struct sockaddr *)&address, size), "connect");
	far_fd = accept(from, NULL, NULL);
	need(far_fd >= 0, "accept");
}

static void set_least(int least)
{
	need(!setsockopt(near_fd, SOL_SOCKET, SO_RCVLOWAT, &least, sizeof(least)), "SO_RCVLOWAT");
}

static void make_tcp_least(void)
{
	make_tcp();
	set_least(WHOLE);
}

static void make_unix_least(void)
{
	make_unix();
	set_least(WHOLE);
}

static void set_limit(void)
{
	struct timeval limit = {.tv_sec = 60};

	need(!setsockopt(near_fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), "SO_RCVTIMEO");
}

static void make_unix_limit(void)
{
	make_unix();
	set_limit();
}

static struct sockaddr_un listening = {.sun_family = AF_UNIX};
static socklen_t listening_size = sizeof(listening);

static void make_listening(void)
{
	near_fd = socket(AF_UNIX, SOCK_STREAM, 0);
	far_fd = socket(AF_UNIX, SOCK_STREAM, 0);
	need(near_fd >= 0 && far_fd >= 0 &&
		     !bind(near_fd, (struct sockaddr *)&listening, sizeof(sa_family_t)) &&
		     !listen(near_fd, 1) &&
		     !getsockname(near_fd, (struct sockaddr *)&listening, &listening_size),
	     "listen");
}

static void make_listening_limit(void)
{
	make_listening();
	set_limit();
}

/* Its reader has the slave, raw with @least bytes, or by lines. */
static void make_terminal(bool lines, int least)
{
	struct termios how;

	far_fd = posix_openpt(O_RDWR | O_NOCTTY);
	need(far_fd >= 0 && !grantpt(far_fd) && !unlockpt(far_fd), "posix_openpt");
	near_fd = open(ptsname(far_fd), O_RDWR | O_NOCTTY);
	need(near_fd >= 0 && !tcgetattr(near_fd, &how), "ptsname");
	if (!lines) {
		cfmakeraw(&how);
		how.c_cc[VMIN] = (cc_t)least;
	}
	how.c_lflag &= ~(tcflag_t)ECHO;
	need(!tcsetattr(near_fd, TCSANOW, &how), "tcsetattr");
}

static void make_terminal_ten(void)
{
	make_terminal(false, WHOLE);
}

static void make_terminal_one(void)
{
	make_terminal(false, 1);
}

static void make_terminal_lines(void)
{
	make_terminal(true, 0);
}

static void make_master(void)
{
	int fd;

	make_terminal(false, WHOLE);
	fd = near_fd;
	near_fd = far_fd;
	far_fd = fd;
}

static void make_eventfd(void)
{
	near_fd = far_fd = eventfd(0, EFD_CLOEXEC);
}

static void make_timerfd(void)
{
	near_fd = far_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
}

static void make_inotify(void)
{
	char path[] = "/tmp/shunt-attach-XXXXXX";

	near_fd = inotify_init1(IN_CLOEXEC);
	far_fd = mkstemp(path);
	need(far_fd >= 0 && inotify_add_watch(near_fd, path, IN_MODIFY) >= 0 && !unlink(path),
	     "inotify");
}

static void make_queue(void)
{
	near_fd = far_fd = msgget(IPC_PRIVATE, 0600);
}

static void make_semaphores(void)
{
	near_fd = far_fd = semget(IPC_PRIVATE, 2, 0600);
}

/* ---------------------------------------------------------------------------- its calls */

static long do_read(void)
{
	return read(near_fd, buffer, WHOLE);
}

static long do_read_large(void)
{
	return read(near_fd, buffer, LARGE);
}

static long do_readv(void)
{
	struct iovec to = {buffer, WHOLE};

	return readv(near_fd, &to, 1);
}

static long do_recv(void)
{
	return recv(near_fd, buffer, WHOLE, 0);
}

static long do_recv_all(void)
{
	return recv(near_fd, buffer, WHOLE, MSG_WAITALL);
}

static long receive_message(int flags)
{
	struct iovec to = {buffer, WHOLE};
	struct msghdr message = {.msg_iov = &to, .msg_iovlen = 1};

	return recvmsg(near_fd, &message, flags);
}

static long do_recvmsg(void)
{
	return receive_message(0);
}

static long do_recvmsg_all(void)
{
	return receive_message(MSG_WAITALL);
}

/* Two datagrams, of which the first is there. */
static long do_recvmmsg(void)
{
	struct iovec to = {buffer, WHOLE};
	struct mmsghdr messages[2] = {{.msg_hdr = {.msg_iov = &to, .msg_iovlen = 1}},
				      {.msg_hdr = {.msg_iov = &to, .msg_iovlen = 1}}};

	return recvmmsg(near_fd, messages, 2, 0, NULL);
}

static long do_accept(void)
{
	return accept(near_fd, NULL, NULL) < 0 ? -1 : WHOLE;
}

static long do_write(void)
{
	return write(near_fd, buffer, LARGE);
}

static long do_writev(void)
{
	struct iovec from[2] = {{buffer, LARGE / 2}, {buffer, LARGE / 2}};

	return writev(near_fd, from, 2);
}

static long do_send(void)
{
	return send(near_fd, buffer, LARGE, 0);
}

static long do_sendfile(void)
{
	int file = memfd_create("sent", MFD_CLOEXEC);

	need(file >= 0 && !ftruncate(file, LARGE), "memfd_create");
	return sendfile(near_fd, file, NULL, LARGE);
}

static long do_msgrcv(void)
{
	struct {
		long type;
		char text[WHOLE];
	} message;

	return msgrcv(near_fd, &message, sizeof(message.text), 0, 0);
}

static long do_semop(void)
{
	struct sembuf operation = {.sem_op = -1};

	return syscall(SYS_semop, near_fd, &operation, 1ul);
}

/* ----------------------------------------------------------------------- the other side */

static void give(const char *bytes, size_t n)
{
	need(write(far_fd, bytes, n) == (ssize_t)n, "write");
}

static void give_part(void)
{
	give("ab", PART);
}

static void give_rest(void)
{
	give("cdefghij", WHOLE - PART);
}

static void give_all(void)
{
	give("abcdefghi\n", WHOLE);
}

static void give_line(void)
{
	give("cdefghi\n", WHOLE - PART);
}

static void give_number(void)
{
	uint64_t one = 1;

	give((const char *)&one, sizeof(one));
}

static void start_timer(void)
{
	struct itimerspec soon = {.it_value.tv_nsec = 1000};

	need(!timerfd_settime(far_fd, 0, &soon, NULL), "timerfd_settime");
}

static void connect_to(void)
{
	need(!connect(far_fd, (struct sockaddr *)&listening, listening_size), "connect");
}

/* All that is written, until the last of its writers has ended. */
static void take_all(void)
{
	static char taken[65536];

	(void)close(near_fd);
	while (read(far_fd, taken, sizeof(taken)) > 0)
		;
}

static void send_message(void)
{
	struct {
		long type;
		char text[WHOLE];
	} message = {1, ""};

	need(!msgsnd(far_fd, &message, sizeof(message.text), 0), "msgsnd");
}

static void raise_semaphore(void)
{
	struct sembuf operation = {.sem_op = 1};

	need(!semop(far_fd, &operation, 1), "semop");
}

static void remove_queue(void)
{
	(void)msgctl(near_fd, IPC_RMID, NULL);
}

static void remove_semaphores(void)
{
	(void)semctl(near_fd, 0, IPC_RMID);
}

/* Whether a part was taken from, or written to, what is between the two. */
static bool is_taken(void)
{
	int n = -1;

	return ioctl(near_fd, FIONREAD, &n) || !n;
}

static bool is_written(void)
{
	int n = 0;

	return !ioctl(far_fd, FIONREAD, &n) && n > 0;
}

static const struct kind {
	const char *name;
	void (*make)(void);
	void (*before)(void); /* NULL: nothing */
	long (*call)(void);
	long number;
	bool (*is_partly)(void); /* NULL: nothing is done before it sleeps */
	void (*finish)(void);
	void (*remove)(void);
} kinds[] = {
	/* With a part done. */
	{"recv_waitall", make_unix, give_part, do_recv_all, SYS_recvfrom, is_taken, give_rest, NULL},
	{"recv_waitall_tcp", make_tcp, give_part, do_recv_all, SYS_recvfrom, is_taken, give_rest, NULL},
	{"recvmsg_waitall", make_tcp, give_part, do_recvmsg_all, SYS_recvmsg, is_taken, give_rest, NULL},
	{"read_rcvlowat_tcp", make_tcp_least, give_part, do_read, SYS_read, is_taken, give_all, NULL},
	{"recv_rcvlowat", make_unix_least, give_part, do_recv, SYS_recvfrom, is_taken, give_rest, NULL},
	{"read_tty_vmin", make_terminal_ten, give_part, do_read, SYS_read, is_taken, give_rest, NULL},
	{"readv_tty_vmin", make_terminal_ten, give_part, do_readv, SYS_readv, is_taken, give_rest, NULL},
	{"recvmmsg", make_datagram, give_part, do_recvmmsg, SYS_recvmmsg, is_taken, give_part, NULL},
	{"write_pipe", make_narrow_pipe, NULL, do_write, SYS_write, is_written, take_all, NULL},
	{"writev_pipe", make_narrow_pipe, NULL, do_writev, SYS_writev, is_written, take_all, NULL},
	{"write_socket", make_unix, NULL, do_write, SYS_write, is_written, take_all, NULL},
	{"send_socket", make_unix, NULL, do_send, SYS_sendto, is_written, take_all, NULL},
	{"sendfile_socket", make_unix, NULL, do_sendfile, SYS_sendfile, is_written, take_all, NULL},
	{"msgrcv", make_queue, NULL, do_msgrcv, SYS_msgrcv, NULL, send_message, remove_queue},
	{"semop", make_semaphores, NULL, do_semop, SYS_semop, NULL, raise_semaphore, remove_semaphores},
	/* With none. */
	{"read_pipe", make_pipe, NULL, do_read, SYS_read, NULL, give_all, NULL},
	{"read_socket", make_unix, NULL, do_read, SYS_read, NULL, give_all, NULL},
	{"read_socket_limit", make_unix_limit, NULL, do_read, SYS_read, NULL, give_all, NULL},
	{"recv_tcp", make_tcp, NULL, do_recv, SYS_recvfrom, NULL, give_all, NULL},
	{"recvmsg_datagram", make_datagram, NULL, do_recvmsg, SYS_recvmsg, NULL, give_all, NULL},
	{"accept", make_listening, NULL, do_accept, SYS_accept, NULL, connect_to, NULL},
	{"accept_limit", make_listening_limit, NULL, do_accept, SYS_accept, NULL, connect_to, NULL},
	{"read_tty_lines", make_terminal_lines, give_part, do_read, SYS_read, NULL, give_line, NULL},
	{"read_tty_one", make_terminal_one, NULL, do_read, SYS_read, NULL, give_all, NULL},
	{"read_master", make_master, NULL, do_read, SYS_read, NULL, give_all, NULL},
	{"read_eventfd", make_eventfd, NULL, do_read, SYS_read, NULL, give_number, NULL},
	{"read_timerfd", make_timerfd, NULL, do_read, SYS_read, NULL, start_timer, NULL},
	{"read_inotify", make_inotify, NULL, do_read_large, SYS_read, NULL, give_all, NULL},
};

/* Whether @pid sleeps in its system call. */
static bool sleeps(pid_t pid, long number)
{
	char path[64];
	long found = -1;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/syscall", (int)pid);
	file = fopen(path, "re");
	if (file && fscanf(file, "%ld", &found) != 1)
		found = -1;
	if (file)
		(void)fclose(file);
	return found == number;
}

static int be_sleeper(const struct kind *kind, int parent)
{
	long result;
	int err;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		return 2;
	if (near_fd != far_fd)
		(void)close(far_fd);
	errno = KEPT;
	result = kind->call();
	err = errno;
	(void)printf("%ld %d\n", result, err);
	return fflush(stdout) != 0;
}

int main(int argc, char **argv)
{
	const struct kind *kind = NULL;
	int parent = getpid(), status = 0;
	pid_t pid;

	for (size_t i = 0; argc == 2 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(argv[1], kinds[i].name))
			kind = &kinds[i];
	if (!kind)
		return 2;
	kind->make();
	need(near_fd >= 0, kind->name);
	if (kind->before)
		kind->before();
	pid = fork();
	if (!pid)
		return be_sleeper(kind, parent);
	while (!sleeps(pid, kind->number) || (kind->is_partly && !kind->is_partly()))
		(void)usleep(1000);
	(void)printf("%d\n", (int)pid);
	(void)fflush(stdout);
	(void)getchar();
	kind->finish();
	(void)waitpid(pid, &status, 0);
	if (kind->remove)
		kind->remove();
	return status != 0;
}
