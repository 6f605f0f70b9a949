/* SPDX-License-Identifier: MIT */
/*
 * The boot sector of the disk image, for Bochs: a multiboot loader that fits 512
 * bytes. The disk holds
 *
 *	sector 0	this
 *	sector 1	the command line, NUL-terminated (run.py writes it)
 *	sector 2...	the kernel, a flat image; the build puts the number of sectors
 *			into the word at 506
 *
 * The BIOS reads the kernel to 64 KiB, 32 KiB at a time; in protected mode it is
 * copied to 1 MiB and entered as a multiboot loader would.
 */
#define LOAD_SEGMENT 0x1000
#define CHUNK        64 /* sectors */
#define CMDLINE      0x7e00

	.text
	.code16
	.globl	_start
_start:
	cli
	ljmp	$0, $1f
1:	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x7c00, %sp
	movb	%dl, drive

	/* The command line, right behind this sector. */
	movw	$packet, %si
	call	read

	/* The kernel. */
	movw	$CHUNK, packet_count
	movw	$0, packet_offset
	movw	$LOAD_SEGMENT, packet_segment
	movl	$2, packet_lba
	movw	sectors, %cx
2:	call	read
	addl	$CHUNK, packet_lba
	addw	$CHUNK * 512 / 16, packet_segment
	subw	$CHUNK, %cx
	ja	2b

	/* The A20 gate, and protected mode. */
	inb	$0x92, %al
	orb	$2, %al
	andb	$0xfe, %al
	outb	%al, $0x92
	lgdt	gdt_pointer
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmp	$0x08, $start32

/* Read what the packet at %si says. */
read:	pushw	%cx
	movb	$0x42, %ah
	movb	drive, %dl
	int	$0x13
	popw	%cx
	jc	3f
	ret
3:	movb	$'!', %al		/* no way to say more */
	outb	%al, $0xe9
	hlt
	jmp	3b

	.code32
start32:
	movw	$0x10, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$LOAD_SEGMENT * 16, %esi
	movl	$0x100000, %edi
	movzwl	sectors, %ecx
	shll	$7, %ecx
	cld
	rep movsl
	movl	$0x2badb002, %eax
	movl	$information, %ebx
	movl	$0x100000, %ecx
	jmp	*%ecx

	.balign	4
packet:	.byte	16, 0
packet_count:
	.word	1
packet_offset:
	.word	CMDLINE
packet_segment:
	.word	0
packet_lba:
	.long	1, 0

	.balign	4
information:				/* multiboot: flags (a command line is there), ..., cmdline */
	.long	4, 0, 0, 0, CMDLINE

	.balign	8
gdt:	.quad	0
	.quad	0x00cf9a000000ffff
	.quad	0x00cf92000000ffff
gdt_pointer:
	.word	gdt_pointer - gdt - 1
	.long	gdt
drive:	.byte	0

	.org	506
sectors:
	.word	0
	.org	510
	.word	0xaa55

	.section .note.GNU-stack, "", @progbits
