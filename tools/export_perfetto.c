/* SPDX-License-Identifier: MIT */
/*
 * Perfetto's format: a Trace of packets, written one by one, for what stands behind one another is
 * one message. Function names are sent once.
 */
#include <errno.h>

#include "export.h"
#include "perfetto.pb-c.h"
#include "shunt.h"
#include "trace_calls.h"

#define SEQUENCE               1u
#define FLAG_CLEARED           1u /* SEQ_INCREMENTAL_STATE_CLEARED */
#define FLAG_NEEDS_INCREMENTAL 2u
#define PROCESS_UUID           1u

struct perfetto {
	struct export *e;
	const struct file_thread *thread;
	uint64_t number;   /* of the thread */
	uint32_t tracks;   /* that are described */
	struct hash named; /* functions whose names were sent */
	uint8_t *buf;
	size_t size;
};

static int put(struct perfetto *p, TracePacket *packet)
{
	TracePacket *packets[] = {packet};
	Trace trace = TRACE__INIT;
	size_t size;

	packet->has_trusted_packet_sequence_id = 1;
	packet->trusted_packet_sequence_id = SEQUENCE;
	trace.n_packet = 1;
	trace.packet = packets;
	size = trace__get_packed_size(&trace);
	if (size > p->size) {
		free(p->buf);
		p->size = 2 * size;
		p->buf = malloc(p->size);
		if (!p->buf)
			return trace_failed(p->e->f, ENOMEM);
	}
	(void)trace__pack(&trace, p->buf);
	if (fwrite(p->buf, 1, size, p->e->out) == size)
		return 0;
	tool_complain("output: %s", strerror(errno));
	return -1;
}

static int describe(struct perfetto *p, TrackDescriptor *track)
{
	TracePacket packet = TRACE_PACKET__INIT;

	track->has_uuid = 1;
	packet.track_descriptor = track;
	return put(p, &packet);
}

static int describe_process(struct perfetto *p)
{
	ProcessDescriptor process = PROCESS_DESCRIPTOR__INIT;
	TrackDescriptor track = TRACK_DESCRIPTOR__INIT;
	TracePacket packet = TRACE_PACKET__INIT;

	process.has_pid = 1;
	process.pid = (int32_t)p->e->f->session.pid;
	process.process_name = p->e->f->command;
	track.uuid = PROCESS_UUID;
	track.has_uuid = 1;
	track.process = &process;
	packet.track_descriptor = &track;
	packet.has_sequence_flags = 1;
	packet.sequence_flags = FLAG_CLEARED;
	return put(p, &packet);
}

static int begin_thread(void *context, const struct file_thread *thread)
{
	struct perfetto *p = context;
	ThreadDescriptor descriptor = THREAD_DESCRIPTOR__INIT;
	TrackDescriptor track = TRACK_DESCRIPTOR__INIT;

	p->thread = thread;
	p->number++;
	p->tracks = 1;
	descriptor.has_pid = descriptor.has_tid = 1;
	descriptor.pid = (int32_t)thread->raw.pid;
	descriptor.tid = (int32_t)thread->raw.tid;
	descriptor.thread_name = thread->name;
	track.uuid = export_track(p->number, 0);
	track.thread = &descriptor;
	return describe(p, &track);
}

/* The stacks of coroutines are tracks below the thread's. */
static int describe_tracks(struct perfetto *p, uint32_t upto)
{
	for (; p->tracks <= upto; p->tracks++) {
		TrackDescriptor track = TRACK_DESCRIPTOR__INIT;
		char name[32];

		(void)snprintf(name, sizeof(name), "stack %u", p->tracks);
		track.uuid = export_track(p->number, p->tracks);
		track.has_parent_uuid = 1;
		track.parent_uuid = export_track(p->number, 0);
		track.name = name;
		if (describe(p, &track))
			return -1;
	}
	return 0;
}

static int put_event(struct perfetto *p, TrackEvent *event, const struct call *call, uint64_t ticks,
		     InternedData *data)
{
	TracePacket packet = TRACE_PACKET__INIT;

	event->has_type = 1;
	event->has_track_uuid = 1;
	event->track_uuid = export_track(p->number, call->track);
	packet.has_timestamp = 1;
	packet.timestamp = trace_ns(p->e->f, ticks);
	packet.has_sequence_flags = 1;
	packet.sequence_flags = FLAG_NEEDS_INCREMENTAL;
	packet.track_event = event;
	packet.interned_data = data;
	return put(p, &packet);
}

static int enter(void *context, struct call *call)
{
	struct perfetto *p = context;
	InternedName name = INTERNED_NAME__INIT, *names[] = {&name};
	InternedData data = INTERNED_DATA__INIT;
	TrackEvent event = TRACK_EVENT__INIT;
	uint32_t *known = hash_at(&p->named, call->function);
	bool first;

	if (!known)
		return trace_failed(p->e->f, ENOMEM);
	first = !*known;
	*known = 1;
	if (describe_tracks(p, call->track))
		return -1;
	name.has_iid = 1;
	name.iid = (uint64_t)call->function + 1;
	if (first)
		name.name = (char *)trace_function_name(p->e->f, call->function);
	data.n_event_names = 1;
	data.event_names = names;
	event.type =
		call->timed ? TRACK_EVENT__TYPE__TYPE_SLICE_BEGIN : TRACK_EVENT__TYPE__TYPE_INSTANT;
	event.has_name_iid = 1;
	event.name_iid = name.iid;
	return put_event(p, &event, call, call->start, first ? &data : NULL);
}

static int leave(void *context, struct call *call, uint64_t ticks, enum call_end how)
{
	TrackEvent event = TRACK_EVENT__INIT;

	(void)how;
	if (!call->timed)
		return 0;
	event.type = TRACK_EVENT__TYPE__TYPE_SLICE_END;
	return put_event(context, &event, call, ticks, NULL);
}

static int lost(void *context, uint64_t lost, uint64_t ticks)
{
	TracePacket packet = TRACE_PACKET__INIT;
	struct perfetto *p = context;

	(void)lost;
	packet.has_timestamp = 1;
	packet.timestamp = trace_ns(p->e->f, ticks);
	packet.has_previous_packet_dropped = packet.previous_packet_dropped = 1;
	return put(p, &packet);
}

int export_perfetto(struct export *e)
{
	struct perfetto p = {.e = e};
	const struct trace_visitor visitor = {.context = &p,
					      .thread = begin_thread,
					      .enter = enter,
					      .leave = leave,
					      .lost = lost};
	int ret = describe_process(&p);

	if (!ret)
		ret = trace_walk(e->f, e->tid, &visitor);
	hash_free(&p.named);
	free(p.buf);
	return ret;
}
