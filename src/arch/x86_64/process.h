/* SPDX-License-Identifier: MIT */
/* A Linux process on x86-64 (arch/process.h). */
#ifndef SHUNT_ARCH_X86_64_PROCESS_H
#define SHUNT_ARCH_X86_64_PROCESS_H

#include <asm/prctl.h>
#include <cpuid.h>

/* ------------------------------------------------------------------ system calls */

static inline long shunt_syscall(long number, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}

static inline long shunt_syscall6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

static inline void shunt_keeping_vectors(void (*fn)(void *), void *arg)
{
	fn(arg);
}

#define SHUNT_PAGE_SIZE ((uintptr_t)4096)

/* ---------------------------------------------------------- single instructions */

static inline void shunt_copy_text(void *to, const void *from, size_t len)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
}

static inline uint64_t shunt_cycles(void)
{
	return __builtin_ia32_rdtsc();
}

/*
 * In one instruction, so that no signal handler on this thread comes between; without a lock
 * prefix, for counters to which no other thread adds.
 */
static inline uint64_t shunt_add_on_thread(_Atomic uint64_t *counter, uint64_t n)
{
	__asm__ volatile("xaddq %0, %1" : "+r"(n), "+m"(*counter) : : "memory");
	return n;
}

#define SHUNT_HAS_FAST_HOOKS 1

/* Whether shunt_cycles() is a clock. */
static inline bool shunt_cycles_are_time(void)
{
	int tsc = 2; /* PR_TSC_SIGSEGV */
	unsigned a, b, c, d;

	if (!__get_cpuid(0x80000007u, &a, &b, &c, &d) || !(d >> 8 & 1)) /* invariant */
		return false;
	/* A program may have forbidden it to itself. */
	return shunt_syscall(SYS_prctl, 25 /* PR_GET_TSC */, (long)&tsc, 0, 0) ||
	       tsc == 1 /* PR_TSC_ENABLE */;
}

/* Whether the CPU has instructions for CRC-32C; and @crc with so many bytes more. */
static inline bool shunt_has_crc32c(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_2);
}

static inline uint32_t shunt_crc32c_8(uint32_t crc, uint64_t bytes)
{
	uint64_t c = crc;

	__asm__("crc32q %1, %0" : "+r"(c) : "rm"(bytes));
	return (uint32_t)c;
}

static inline uint32_t shunt_crc32c_1(uint32_t crc, uint8_t byte)
{
	__asm__("crc32b %1, %0" : "+r"(crc) : "rm"(byte));
	return crc;
}

/* By no function of the C library's. */
static inline void shunt_fill_bytes(void *to, size_t n)
{
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(0) : "memory");
}

/* Between two looks at what another thread writes. */
static inline void shunt_relax_cpu(void)
{
	__builtin_ia32_pause();
}

/* For a CPU of 4 GHz. */
static inline uint64_t shunt_cycles_ns(void)
{
	return shunt_cycles() / 4;
}

/* The kernel is asked: without thread-local storage there is nothing to read it from. */
static inline uintptr_t shunt_thread_pointer(void)
{
	unsigned long thread = 0;

	if (shunt_syscall(SYS_arch_prctl, ARCH_GET_FS, (long)&thread, 0, 0))
		return UINTPTR_MAX; /* a filter */
	return thread;
}

/* The same on a thread that has one. */
static inline uintptr_t shunt_thread_end(void)
{
	uintptr_t tcb;

	__asm__("mov %%fs:0, %0" : "=r"(tcb));
	return tcb;
}

static inline void shunt_serialise_cpu(void)
{
	unsigned eax, ebx, ecx, edx;

	__cpuid(0, eax, ebx, ecx, edx);
}

bool shunt_iret(void); /* serialise.S */

#define SHUNT_SERIALISE_ALONE "iret"
static inline bool shunt_serialise_alone(void)
{
	return shunt_iret();
}

/* -------------------------------------------------------------------------- text */

#define SHUNT_NEW_CODE_SYNC 0

struct shunt_write;
static inline void shunt_clean_text(const struct shunt_write *writes, size_t n, size_t stride)
{
	(void)writes;
	(void)n;
	(void)stride;
}

/* AMD's INVLPGB. */
static inline bool shunt_flushes_by_broadcast(void)
{
	unsigned eax, ebx = 0, ecx, edx;

	return __get_cpuid(0x80000008, &eax, &ebx, &ecx, &edx) && ebx >> 3 & 1;
}

/* mprotect() leaves a mapping its protection key; that of PROT_EXEC alone the kernel gives itself.
 */
#define SHUNT_PROT_CPU 0

/* -------------------------------------------------------- memory protection keys */

static inline bool shunt_has_keys(void)
{
	unsigned eax, ebx, ecx = 0, edx;

	return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && ecx >> 4 & 1;
}

static inline uint32_t shunt_get_rights(void)
{
	uint32_t rights, edx;

	__asm__ volatile("rdpkru" : "=a"(rights), "=d"(edx) : "c"(0));
	return rights;
}

static inline void shunt_set_rights(uint32_t rights)
{
	__asm__ volatile("wrpkru" : : "a"(rights), "c"(0), "d"(0) : "memory");
}

/* No access but by key 0. Between the two only registers: the stack may have a key of its own. */
static inline long shunt_read_by_key_0(uintptr_t addr, long how)
{
	register long r10 __asm__("r10") = 8;
	register long r8 __asm__("r8") = shunt_get_rights();
	long ret = 0xfffffffcu, c = 0, d = 0;

	__asm__ volatile("wrpkru\n\t"
			 "mov %[nr], %%eax\n\t"
			 "syscall\n\t"
			 "mov %%rax, %%r9\n\t"
			 "mov %%r8d, %%eax\n\t"
			 "xor %%ecx, %%ecx\n\t"
			 "xor %%edx, %%edx\n\t"
			 "wrpkru\n\t"
			 "mov %%r9, %%rax\n\t"
			 : "+a"(ret), "+c"(c), "+d"(d)
			 : "D"(how), "S"(addr & -8ul), "r"(r10),
			   "r"(r8), [nr] "i"(SYS_rt_sigprocmask)
			 : "r9", "r11", "memory");
	return ret;
}

/* --------------------------------------------------------------------- valgrind */

static inline long shunt_ask_valgrind(long request, long arg1, long arg2)
{
	const long words[6] = {request, arg1, arg2};
	long ret = 0;

	__asm__ volatile("rolq $3, %%rdi\n\t"
			 "rolq $13, %%rdi\n\t"
			 "rolq $61, %%rdi\n\t"
			 "rolq $51, %%rdi\n\t"
			 "xchgq %%rbx, %%rbx"
			 : "+d"(ret)
			 : "a"(words)
			 : "cc", "memory");
	return ret;
}

/* ---------------------------------------------------------------- signal frames */

void shunt_restore_rt(void); /* restorer.S */

#define SHUNT_SA_RESTORER 0x04000000ul
static inline void (*shunt_restorer(void))(void)
{
	return shunt_restore_rt;
}

/*
 * The one thing that hardly anything else looks like: the saved flags and, behind them, the
 * selectors of user code. In the kernel's frame, bytes from the selectors back:
 */
#define SHUNT_FLAGS_BEFORE    8
#define SHUNT_UC_FLAGS_BEFORE 184
#define SHUNT_FRAME_BEFORE    192 /* the restorer */
#define SHUNT_FRAME_STEP      8

/* Of user code; a thread that was in 32-bit code is interrupted with its own. */
#define SHUNT_CODE_32 0x23

struct shunt_frame_mark {
	uint16_t cs, ss;
};

static inline struct shunt_frame_mark shunt_frame_mark(void)
{
	struct shunt_frame_mark own;

	__asm__("mov %%cs, %0" : "=r"(own.cs));
	__asm__("mov %%ss, %0" : "=r"(own.ss));
	return own;
}

/* Whether the selectors in @word, cs, gs, fs and ss (0 before Linux 4.7), may be a thread's. */
static inline bool shunt_are_selectors(uint64_t word, struct shunt_frame_mark own)
{
	uint16_t cs = (uint16_t)word, ss = (uint16_t)(word >> 48);

	if (word << 16 >> 32)
		return false;
	return cs == own.cs ? !ss || ss == own.ss : cs == SHUNT_CODE_32;
}

static inline bool shunt_is_frame_mark(struct shunt_frame_mark own, uintptr_t addr,
				       uint64_t (*word_at)(uintptr_t addr))
{
	uint64_t flags;

	if (!shunt_are_selectors(word_at(addr), own))
		return false;
	flags = word_at(addr - SHUNT_FLAGS_BEFORE);
	return !(flags >> 32) && (flags & 0x202) == 0x202 && /* interrupts are on */
	       word_at(addr - SHUNT_UC_FLAGS_BEFORE) < 0x100 &&
	       word_at(addr - SHUNT_FRAME_BEFORE) >= 4096; /* an address */
}

/* ----------------------------------------------------------- veneers, and unwinding */

/* CFA = rsp + 8, and the return address is at CFA - 8. */
#define SHUNT_CFI_RETURN 16
#define SHUNT_CFI_PROGRAM                                             \
	{                                                             \
		0x0c, 7, 8,           /* DW_CFA_def_cfa rsp, 8 */     \
			0x80 | 16, 1, /* DW_CFA_offset rip, 1 * -8 */ \
	}

#define SHUNT_AREA_VENEER 8

/* ff 25 rel32 */
static inline uintptr_t shunt_area_veneer_word(const uint8_t *bytes, uintptr_t addr)
{
	int32_t rel;

	__builtin_memcpy(&rel, bytes + 2, sizeof(rel));
	return addr + 6 + (uintptr_t)(intptr_t)rel;
}

/* jmp *target(%rip); ud2; target */
struct shunt_veneer {
	uint8_t jmp[6];
	uint8_t ud2[2];
	uint64_t target;
};

static inline struct shunt_veneer shunt_veneer_to(uintptr_t target)
{
	return (struct shunt_veneer){{0xff, 0x25, 2, 0, 0, 0}, {0x0f, 0x0b}, target};
}

/* -------------------------------------------------- what is saved for a handler */

/* In ucontext_t, bytes. */
#define SHUNT_UC_LINK   8
#define SHUNT_UC_SP     160
#define SHUNT_UC_IP     168
#define SHUNT_UC_FLAGS  176
#define SHUNT_UC_CS     184
#define SHUNT_UC_EXTENT 192 /* up to what it is known by */

/* Whether one is at @uc, of which so much can be read: selectors as ours, and nothing linked. */
static inline bool shunt_is_ucontext(struct shunt_frame_mark own, uintptr_t uc,
				     uint64_t (*word_at)(uintptr_t addr))
{
	uint64_t flags;

	if ((uint16_t)word_at(uc + SHUNT_UC_CS) != own.cs || word_at(uc + SHUNT_UC_CS) << 16 >> 32)
		return false;
	flags = word_at(uc + SHUNT_UC_FLAGS);
	return !(flags >> 32) && (flags & 0x202) == 0x202 && word_at(uc) < 0x100 &&
	       !word_at(uc + SHUNT_UC_LINK) && word_at(uc - 8) >= 4096;
}

#endif
