#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
shunt report, replay, graph and export, on files that trace_writer.py makes: what they say is
compared with what is computed here another way; files that are cut off anywhere, or damaged, end in an
error or in what is whole, never in a crash.

What is open at the end lasts until the session, or its thread, ended.

Control: each comparison is made again with what a wrong reader would say (recursion counted twice, the
checksum's byte changed), and must fail.

usage: test_trace.py SHUNT [FEATURE...]     features: zlib iberty protobuf
    sparse: of the damaged files one in 54 (starting the program is what takes long), and no search for leaks in them
    (a sanitizer's start takes ten times as long as the program)
"""
import gzip
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok
from trace_writer import CALL, ENTRY, ENTRY_ONLY, RETURN, TAIL, Writer, event

shunt, features = os.path.abspath(sys.argv[1]), sys.argv[2:]
tmp = tempfile.TemporaryDirectory()
path = os.path.join(tmp.name, 'trace')
F = {name: 0x401000 + 16 * i for i, name in enumerate(['main', 'f', 'g', 'h', '_ZN2ns3addEii', 'leaf', 'fibre', 'yield'])}
MAIN = 0x7FFD00010000
STEP = 54 if 'sparse' in features else 1
DAMAGED = dict(os.environ, ASAN_OPTIONS='detect_leaks=0') if 'sparse' in features else None


def run(*args, data=None, env=None):
    if data is not None:
        with open(path, 'wb') as file:
            file.write(data)
    done = subprocess.run([shunt, *args, path], capture_output=True, timeout=100, check=False, env=env)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def session(events, lost=0, clock=1, thread_events=None, lost_in_all=0, module='/usr/bin/prog'):
    w = Writer(clock)
    w.clock(0, 5000)
    w.module(1, module, 0x400000)
    w.functions(1, {addr: name for name, addr in F.items()})
    for number, list_of in (thread_events or {1: events}).items():
        w.thread(number, 1000 + number, f'worker {number}')
        for i in range(0, len(list_of), 1000):
            w.events(number, list_of[i:i + 1000], lost if i == 0 else 0)
    w.clock(10**9, 5000 + 10**9)
    w.end(10**9, len(events), lost_in_all)
    return w


class Program:
    """Runs calls and keeps both the events and what is to be said of them."""

    def __init__(self, base=MAIN):
        self.now, self.events, self.calls, self.stack = 100, [], [], []
        self.base = base

    def sp(self):
        return self.base - 64 * len(self.stack)

    def enter(self, name):
        self.now += 7
        self.stack.append([name, self.now, 0, self.sp()])
        self.events.append((ENTRY, self.now, self.stack[-1][3], F[name]))

    def leave(self, kind=RETURN, known=True):
        self.now += 5
        name, start, children, sp = self.stack.pop()
        self.events.append((kind, self.now, sp, F[name] if known else 0))
        time = self.now - start
        outer = name in [s[0] for s in self.stack]
        self.calls.append((name, time, time - children, outer, ';'.join(s[0] for s in self.stack + [[name]])))
        if self.stack:
            self.stack[-1][2] += time

    def table(self, twice=False):
        table = {}
        for name in {c[0] for c in self.calls}:
            times = sorted(c[1] for c in self.calls if c[0] == name)
            table[name] = {'calls': len(times), 'min_ns': times[0], 'max_ns': times[-1],
                           'avg_ns': sum(times) // len(times), 'p99_ns': times[-(-99 * len(times) // 100) - 1],
                           'self_ns': sum(c[2] for c in self.calls if c[0] == name),
                           'total_ns': sum(c[1] for c in self.calls if c[0] == name and (twice or not c[3]))}
        return table


def random_program(seed, n, names=('main', 'f', 'g', 'h')):
    dice, p = random.Random(seed), Program()
    for _ in range(n):
        p.now += dice.randrange(1000)
        if len(p.stack) < 12 and (not p.stack or dice.random() < 0.5):
            p.enter(dice.choice(names))
        else:
            p.leave(known=dice.random() < 0.5)
    while p.stack:
        p.leave()
    return p


def reported(data, *args):
    code, out, err = run('report', '--json', *args, data=data)
    if code:
        return {'error': err}
    return {f['function']: f for f in json.loads(out)['functions']}


def same(table, said):
    return all(said.get(name, {}).get(key) == value for name, row in table.items() for key, value in row.items())


def tree_of(data):
    """From replay --json: [(function, depth, end)] in order of their starts, by stack."""
    lines = [json.loads(l) for l in run('replay', '--json', data=data)[1].splitlines()]
    return sorted([l for l in lines if 'function' in l], key=lambda l: (l['start_ns'], l['depth']))


def test_report():
    for seed in range(4):
        p = random_program(seed, 3000)
        said = reported(bytes(session(p.events).out))
        ok(same(p.table(), said), f'report: calls, times, p99 of a random program {seed}')
        ok(not same(p.table(twice=True), said), f'control: recursion counted twice is seen {seed}')
    said = json.loads(run('report', '--json')[1])
    ok(said['version'] == 1 and said['complete'] is True and said['functions'][0]['module'] == '/usr/bin/prog',
       'report: a version, the module')
    totals = [f['total_ns'] for f in said['functions']]
    ok(totals == sorted(totals, reverse=True), 'report: in order of totals')
    for key in ('self', 'calls', 'min', 'avg', 'p99', 'max'):
        f = json.loads(run('report', '--json', '--sort', key)[1])['functions']
        values = [x['calls' if key == 'calls' else key + '_ns'] for x in f]
        ok(values == sorted(values, reverse=True), f'report --sort {key}')
    text = run('report')[1]
    ok(all(re.search(rf'\b{c["calls"]}\b.* {n} \[prog\]', text) for n, c in p.table().items()), 'report: the table')
    a, b = random_program(8, 500), random_program(9, 700)
    data = bytes(session([], thread_events={1: a.events, 2: b.events}).out)
    code, out, _ = run('report', '--json', '--thread', data=data)
    rows = json.loads(out)['functions']
    ok(all(same(p.table(), {r['function']: r for r in rows if r['tid'] == tid}) for tid, p in ((1001, a), (1002, b))),
       'report --thread')
    ok(same(b.table(), reported(data, '--tid', '1002')), 'report --tid')
    ok(run('report', '--tid', '5')[0] == 1 and run('report', '--tid', 'x')[0] == 2, 'report --tid of no thread')
    w = Writer(clock=0)
    w.clock(1000, 50)
    w.module(1, 'prog', 0)
    w.functions(1, {16: 'main'})
    w.thread(1, 9)
    w.events(1, [(ENTRY, 3000, MAIN, 16), (RETURN, 6000, MAIN, 16)])
    w.off(16, 12, 10, 3600)
    w.clock(1000 + 3 * 10**9, 50 + 10**9)
    w.end(1, 2)
    ok(reported(bytes(w.out))['main']['total_ns'] == 1000, 'ticks of 3 GHz are nanoseconds')
    off = json.loads(run('report', '--json')[1])['switched_off']
    ok(off == [{'function': 'main', 'module': 'prog', 'calls': 12, 'total_ns': 1200}], 'what was switched off')
    ok("in SELF of the callers" in run('report')[1], 'and where its time is')


def test_ends():
    main, f, g, h = F['main'], F['f'], F['g'], F['h']
    a, b, c = MAIN, MAIN - 64, MAIN - 128
    data = bytes(session([(ENTRY, 10, a, main), (ENTRY, 20, b, f), (ENTRY, 30, c, g), (ENTRY, 50, b, h),
                          (RETURN, 60, b, 0), (RETURN, 70, a, 0)]).out)
    ok([(l['function'], l['depth'], l['end'], l['duration_ns']) for l in tree_of(data)] ==
       [('main', 0, 'return', 60), ('f', 1, 'unwound', 30), ('g', 2, 'unwound', 20), ('h', 1, 'return', 10)],
       'longjmp over two frames')
    ok('longjmp or exception' in run('replay')[1], 'longjmp is marked')
    data = bytes(session([(ENTRY, 10, a, main), (ENTRY, 20, b, f), (TAIL, 30, b, f), (ENTRY, 31, b, g),
                          (RETURN, 40, b, 0), (ENTRY, 50, b, h)]).out)
    ok([(l['function'], l['depth'], l['end'], l['by_tail_call']) for l in tree_of(data)] ==
       [('main', 0, 'open', False), ('f', 1, 'tail call', False), ('g', 1, 'return', True), ('h', 1, 'open', False)],
       'a tail call; thread end')
    begins = [e for e in json.loads(run('export', '--chrome')[1])['traceEvents'] if e['ph'] == 'B']
    ok([e['name'] for e in begins if 'by tail call' in e['cat']] == ['g'] and not any('args' in e for e in begins),
       'export --chrome: a function has one name, as speedscope takes it')
    data = bytes(session([(ENTRY, 10, a, main), (CALL, 20, b, f), (CALL, 25, b, g), (RETURN, 40, a, 0)]).out)
    said = reported(data)
    ok(said['f']['calls'] == 1 and said['f']['min_ns'] is None and said['main']['self_ns'] == 30, 'entries alone')
    data = bytes(session([(RETURN, 5, b, f), (ENTRY, 10, a, main), (RETURN, 40, a, 0)], lost=17).out)
    ok(reported(data)['main']['total_ns'] == 30 and '17 events lost' in run('replay')[1] and
       'entry not recorded' in run('replay')[1], 'lost events; a return without an entry')
    for all_lost, said in ((17, 17), (20, 20), (3, 17)):
        data = bytes(session([(ENTRY, 10, a, main), (RETURN, 40, a, 0)], lost=17, lost_in_all=all_lost).out)
        ok(json.loads(run('report', '--json', data=data)[1])['lost'] == said and
           ('3 lost events in no' in run('graph')[2]) == (said == 20),
           f'{said} events lost, of which {max(all_lost - 17, 0)} no thread is said to have')
    # A handler's events stand before the entry that it interrupted.
    data = bytes(session([(ENTRY, 10, a, main), (ENTRY, 30, c, g), (RETURN, 40, c, g), (ENTRY, 20, b, f),
                          (RETURN, 60, b, f), (RETURN, 70, a, 0)]).out)
    ok([(l['function'], l['depth']) for l in tree_of(data)] == [('main', 0), ('f', 1), ('g', 2)], 'order of a handler')
    start = (1 << 49) - 100
    data = bytes(session([(ENTRY, start, a, main), (RETURN, start + 500, a, 0)]).out)
    ok(reported(data)['main']['total_ns'] == 500, 'the end of the 49 bits of time')
    alt = 0x561200001000
    data = bytes(session([(ENTRY, 10, a, main), (ENTRY, 20, alt, f), (RETURN, 40, alt, f), (RETURN, 70, a, 0)]).out)
    said = reported(data)
    ok([(l['function'], l['depth'], l['stack']) for l in tree_of(data)] == [('main', 0, 0), ('f', 1, 0)] and
       said['main']['self_ns'] == 40, 'a handler on an alternate stack')


def written(threads, end=None, ended=(), replaced=None, **session_of):
    """A session of @threads (number -> events) that ends at @end; of @ended: (thread, alive)."""
    w = Writer(**session_of)
    w.clock(0, 5000)
    w.module(1, '/usr/bin/prog', 0x400000)
    w.functions(1, {addr: name for name, addr in F.items()})
    for number, events in threads.items():
        w.thread(number, 1000 + number, f'worker {number}')
        w.events(number, events)
    for number, alive in ended:
        w.thread_end(number, alive, alive + 10)
    w.clock(2000, 7000)
    if replaced:
        w.exec(replaced)
    if end:
        w.end(end, sum(len(e) for e in threads.values()))
    return w


def unfinished(threads, **how):
    return bytes(written(threads, **how).out)


def test_open():
    """f() has returned twice, and runs for the third time when the session ends."""
    main, f, g, h = F['main'], F['f'], F['g'], F['h']
    a, b, c = MAIN, MAIN - 64, MAIN - 128
    hung = [(ENTRY, 100, a, main), (ENTRY, 200, b, f), (RETURN, 300, b, 0), (ENTRY, 400, b, f), (RETURN, 700, b, 0),
            (ENTRY, 1000, b, f)]
    data = unfinished({1: hung}, end=9000)
    said = reported(data)
    ok(said['f'] | {'calls': 3, 'open': 1, 'timed': 3, 'total_ns': 8400, 'self_ns': 8400, 'max_ns': 8000, 'min_ns': 100,
                    'avg_ns': 200, 'p99_ns': 300} == said['f'], f'an open call lasts to the end of the session: {said["f"]}')
    ok(said['main'] | {'open': 1, 'total_ns': 8900, 'self_ns': 500, 'max_ns': 8900, 'min_ns': None, 'avg_ns': None,
                       'p99_ns': None} == said['main'], f'and those around it: {said["main"]}')
    report, tree, graph = run('report')[1], run('replay')[1], run('graph')[1]
    ok(re.search(r'^ +3 +>8\.400 us +>8\.400 us +100 ns +200 ns +300 ns +>8\.000 us  f ', report, re.MULTILINE) and
       re.search(r'^ +1 +>8\.900 us +>500 ns +- +- +- +>8\.900 us  main ', report, re.MULTILINE) and
       '\n> 2 calls had not returned' in report, 'report marks it', report)
    ok(len(re.findall(r'>8\.\d00 us .*open at the end', tree)) == 2 and
       re.search(r'^ +>8\.400 us +>8\.400 us +3 \|   f$', graph, re.MULTILINE) and '> 2 calls had not' in graph, 'so do replay and graph')
    ok({(l['function'], l['duration_ns']) for l in tree_of(data) if l['end'] == 'open'} == {('main', 8900), ('f', 8000)},
       'replay --json')
    ends = {e['name']: e for e in json.loads(run('export', '--chrome')[1])['traceEvents'] if e['ph'] == 'E' and 'args' in e}
    ok({n: (e['ts'], e['args']['end']) for n, e in ends.items()} ==
       {'main': (9.0, 'open at the end'), 'f': (9.0, 'open at the end')}, 'export --chrome')
    code, out, err = run('export', '--folded')
    ok((code, out) == (0, 'main 500\nmain;f 8400\n') and '2 calls had not returned' in err, 'export --folded', out)
    page = run('export', '--flame')[1]
    ok('"open":2,' in page and 'calls=1 0' not in page and '0 8400\n' in run('export', '--callgrind')[1], 'and the others')
    ok(json.loads(run('report', '--json')[1]).get('open') == 2, 'report --json: how many of all')
    whole = unfinished({1: hung + [(RETURN, 1100, b, 0), (RETURN, 1200, a, 0)]}, end=9000)
    ok(reported(whole)['f']['max_ns'] == 300 and reported(whole)['main']['total_ns'] == 1100 and
       not any('>' in run(how)[1] or 'had not' in ''.join(run(how)[1:]) for how in ('report', 'graph', 'replay')),
       'control: what has returned is not marked, and does not last')
    ok(reported(unfinished({1: hung}, end=5))['f']['max_ns'] == 300 and reported(unfinished({1: hung}, end=5))['f']['open'] == 1,
       'control: an end that is before the last event is none')
    # Of two threads: that of the other one counts, where no end is recorded; or the clock.
    other = [(ENTRY, 4000, a, g), (RETURN, 6000, a, 0)]
    for threads, end in ({1: hung, 2: other}, 6000), ({1: hung}, 2000):
        said = reported(unfinished(threads))
        ok(said['main']['total_ns'] == end - 100, f'no end is recorded: the last that is known of the process, {end}')
    ended = unfinished({1: hung, 2: [(ENTRY, 100, a + (1 << 24), g), (ENTRY, 110, b + (1 << 24), h)]}, end=9000, ended=[(2, 3000)])
    said = reported(ended)
    ok(said['g']['total_ns'] == 2900 and said['h']['self_ns'] == 2890 and said['main']['total_ns'] == 8900,
       'a thread that ended before the session')
    said = reported(unfinished({1: hung, 2: [(ENTRY, 100, a, g)]}, end=9000, ended=[(2, 0)]))
    ok(said['g']['total_ns'] == 0 and said['g']['open'] == 1, 'and was not seen alive: its last event')
    ok(reported(unfinished({1: [(ENTRY, 100, a, main), (CALL, 200, b, f)]}, end=9000))['f']['open'] == 0,
       'what has no return recorded is not open')
    # A fibre that was left while another one runs: its time of its own ends there.
    fibre = 0x7F0000100000
    said = reported(unfinished({1: [(ENTRY, 10, a, main), (ENTRY, 20, fibre, F['fibre']), (ENTRY, 30, fibre - 64, F['yield']),
                                    (ENTRY, 40, b, g), (RETURN, 50, b, 0)]}, end=1050))
    ok(said['fibre']['self_ns'] == said['yield']['self_ns'] == 10 and said['main']['self_ns'] == 1010 and
       said['main']['total_ns'] == 1040 and said['fibre']['open'] == 1, f'a stack that was left takes no time of its own: {said}')


def test_exec():
    events = [(ENTRY, 100, MAIN, F['main']), (ENTRY, 200, MAIN - 64, F['f'])]
    data = unfinished({1: events}, replaced=900)
    code, out, err = run('report', '--json', data=data)
    said = json.loads(out)
    ok(code == 0 and not err and said['complete'] is True and {f['total_ns'] for f in said['functions']} == {800, 700},
       'exec(): an end of the session', err)
    w = Writer()
    w.clock(0, 0)
    w.exec(10)
    w.thread(1, 9)
    w.events(1, events)
    for data in bytes(w.out), unfinished({1: events}):
        code, out, err = run('report', '--json', data=data)
        ok(code == 0 and 'no end is recorded' in err and json.loads(out)['complete'] is False,
           'control: one that failed, or none, and the process was killed')


def test_min():
    """Calls that were left by longjmp() are in the file however short they were."""
    main, f, g, h = F['main'], F['f'], F['g'], F['h']
    a, b, c = MAIN, MAIN - 64, MAIN - 128
    events = [(ENTRY, 0, a, main), (ENTRY, 1000, b, f), (ENTRY, 1010, c, g), (ENTRY, 1100, b, h), (RETURN, 3000, b, 0),
              (ENTRY, 4000, b, f), (ENTRY, 4010, c, g), (RETURN, 4020, b, 0), (ENTRY, 5000, b, g), (RETURN, 8000, a, 0)]
    seen = {'main': 1, 'h': 1, 'g': 1}
    said = reported(unfinished({1: events}, end=9000, min_ns=500))
    ok({n: r['calls'] for n, r in said.items()} == seen and said['main']['self_ns'] == 8000 - 1900 - 3000 and
       said['g']['unwound'] == 1, f'--min: those that are shorter are left out: {said}')
    data = unfinished({1: events}, end=9000)
    ok({n: r['calls'] for n, r in reported(data).items()} == {'main': 1, 'f': 2, 'g': 3, 'h': 1}, 'control: without --min they are not')
    lines = [json.loads(l) for l in run('replay', '--json', '--min', '500ns', data=data)[1].splitlines()]
    ok(sorted((l['function'], l['depth']) for l in lines) == [('g', 1), ('h', 1), ('main', 0)] and
       run('replay', '--min', '500')[0] == 2 and run('replay', '--min', 'x')[0] == 2, 'replay --min')
    lines = [json.loads(l) for l in run('replay', '--json', '-F', '[gh]', data=data)[1].splitlines()]
    text = [l.split('|')[1] for l in run('replay', '-F', '[gh]')[1].splitlines() if '|' in l]
    ok([(l['function'], l['depth']) for l in lines] == [('g', 2), ('h', 1), ('g', 2), ('g', 1)] and len(text) == 4 and
       text[1] == '   h();', 'replay -F', text)
    said = reported(unfinished({1: [(ENTRY, 0, a, main), (ENTRY, 10, b, f)]}, end=20, min_ns=500))
    ok(said['f']['open'] == 1 and said['main']['open'] == 1, 'an open call may have become longer: it is there')


def test_no_times():
    w = Writer(flags=ENTRY_ONLY)
    w.clock(0, 5000)
    w.module(1, '/usr/bin/prog', 0x400000)
    w.functions(1, {addr: name for name, addr in F.items()})
    w.thread(1, 1001)
    w.events(1, [(CALL, 10, MAIN, F['main']), (CALL, 20, MAIN, F['f'])])
    w.end(100, 2)
    data = bytes(w.out)
    ok(re.search(r'^ +- +- +1 \| main$', run('graph', data=data)[1], re.MULTILINE), 'graph --entries: no times')
    for how in 'folded', 'flame', 'callgrind':
        code, out, err = run('export', '--' + how)
        ok(code == 1 and not out and 'recorded with --entries' in err, f'export --{how} of entries alone: refused')
    ok(run('export', '--chrome')[0] == 0, 'control: --chrome shows them')


def test_no_return():
    """Calls of which the entry alone is recorded: of these threads, also without an end of the session."""
    w = Writer()
    w.clock(0, 5000)
    w.module(1, '/usr/bin/prog', 0x400000)
    w.functions(1, {addr: name for name, addr in F.items()})
    w.thread(1, 1001)
    w.thread(2, 1002)
    w.events(1, [(ENTRY, 10, MAIN, F['main']), (CALL, 20, MAIN - 64, F['f']), (CALL, 30, MAIN - 64, F['f']), (RETURN, 40, MAIN, 0)])
    w.events(2, [(CALL, 50, MAIN, F['g'])])
    text = 'call{} recorded without a return'
    for end in True, False:
        if end:
            w.end(100, 5)
        else:
            del w.out[w.chunks[-1]:]
        data = bytes(w.out)
        ok(json.loads(run('report', '--json', data=data)[1])['no_return'] == 3, f'report --json: no_return {end}')
        ok('3 ' + text.format('s are') in run('report')[1], 'report: a note')
        ok('1 ' + text.format(' is') in run('report', '--tid', '1002')[1], 'report --tid: of this thread')
        for how in ('export', '--folded'), ('export', '--chrome'), ('export', '--flame'), ('export', '--callgrind'), ('graph',):
            ok('3 ' + text.format('s are') in run(*how)[2], f'{" ".join(how)}: said')
    data = bytes(session([(ENTRY, 10, MAIN, F['main']), (RETURN, 40, MAIN, 0)]).out)
    ok('without a return' not in ''.join(map(str, run('report', data=data) + run('graph'))), 'control: none')


def test_empty():
    w = Writer(realtime=1795884463 * 10**9)
    w.clock(0, 5000)
    w.end(100, 0)
    data = bytes(w.out)
    ok(run('report', data=data)[1] == 'No call is recorded.\n\n0 threads, 0 events, 0 lost\n', 'report of nothing')
    ok('no call is recorded' in run('replay')[1], 'replay of nothing')


def test_start():
    """When the session began, and each call."""
    data = unfinished({1: [(ENTRY, 1500000000, MAIN, F['main']), (RETURN, 2000000000, MAIN, 0)]}, end=3 * 10**9,
                      realtime=1795884463 * 10**9)
    zone = dict(os.environ, TZ='XYZ-2')
    out = run('replay', data=data, env=zone)[1]
    ok('# prog arg, process 77\n# began 2026-11-28 18:47:43 +0200\n' in out and
       re.search(r'^ +1\.500000 +500\.000 ms \[ +1001\] \| main\(\);$', out, re.MULTILINE), 'replay', out)
    ok(json.loads(run('report', '--json')[1]).get('start_realtime_ns') == 1795884463 * 10**9, 'report --json: the begin')
    ok('"title":"prog arg","date":"2026-11-28 18:47:43 +0200"' in run('export', '--flame', env=zone)[1], 'export --flame: date')


def test_file():
    """Standard input, a pipe, and no name at all."""
    data = bytes(session(random_program(3, 300).events).out)
    said = run('report', data=data)[1]
    for name in '-', '/dev/stdin':
        done = subprocess.run([shunt, 'report', name], input=data, capture_output=True, timeout=100, check=False)
        ok(done.returncode == 0 and done.stdout.decode() == said, f'{name}: a pipe', done.stderr)
        done = subprocess.run([shunt, 'report', name], input=data[:50], capture_output=True, timeout=100, check=False)
        ok(done.returncode == 1 and b'cut off' in done.stderr, f'{name}: control: one that ends early')
    done = subprocess.run([shunt, 'report', '/dev/zero'], capture_output=True, timeout=100, check=False)
    ok(done.returncode == 1 and b'not a regular file' in done.stderr, 'a device is not read')
    with open(path, 'rb') as file:
        done = subprocess.run([shunt, 'report', '-'], stdin=file, capture_output=True, timeout=100, check=False)
    ok(done.stdout.decode() == said, '-: a file')
    folder = os.path.join(tmp.name, 'here')
    os.mkdir(folder)
    for there in False, True:
        if there:
            shutil.copy(path, os.path.join(folder, 'shunt.trace'))
        for command in (['report'], ['replay'], ['graph'], ['export', '--folded']):
            done = subprocess.run([shunt, *command], cwd=folder, capture_output=True, timeout=100, check=False)
            ok(done.returncode == (0 if there else 1) and (b'shunt.trace: No such file' in done.stderr) != there,
               f'{" ".join(command)}: shunt.trace is {"" if there else "not "}there', done.stderr)


def test_lossy():
    """main() runs while events are lost, f() before them and g() behind: its time may be wrong."""
    main, f, g = F['main'], F['f'], F['g']
    a, b = MAIN, MAIN - 96
    before = [(ENTRY, 10, a, main), (ENTRY, 20, b, f), (RETURN, 30, b, 0)]
    behind = [(ENTRY, 40, b, g), (RETURN, 50, b, 0), (RETURN, 90, a, 0)]
    for lost in 9, 0:
        w = Writer()
        w.clock(0, 5000)
        w.module(1, '/usr/bin/prog', 0x400000)
        w.functions(1, {addr: name for name, addr in F.items()})
        w.thread(1, 1001, 'worker')
        w.events(1, before)
        w.events(1, behind, lost)
        w.clock(10**9, 5000 + 10**9)
        w.end(10**9, 6)
        data = bytes(w.out)
        said = reported(data)
        n = 1 if lost else 0
        ok([said[name]['lossy'] for name in ('main', 'f', 'g')] == [n, 0, 0] and
           ('1 call ran while events were lost' in run('report')[1]) == bool(n) and
           run('report')[1].count(' ~') == n and ('CALLS may be too low' in run('report')[1]) == bool(n) and
           run('replay')[1].count('events lost meanwhile') == n and
           sum(l['events_lost'] for l in tree_of(data)) == n,
           f'report, replay: calls that ran while {lost} events were lost')
        ok(all(('1 call ran' in run('export', how)[2]) == bool(n) for how in ('--chrome', '--folded', '--callgrind')) and
           run('export', '--chrome')[1].count('"events lost":true') == n and ('1 call ran' in run('graph')[2]) == bool(n),
           'and the exports say so')


def test_instrumented():
    """Functions that say which they are: compiled into others, with alloca(), ended by a jump."""
    w = Writer()
    w.clock(0, 5000)
    w.module(1, '/usr/bin/prog', 0x400000)
    w.functions(1, {addr: name for name, addr in F.items()}, kind=4)
    main, f, g, h = F['main'], F['f'], F['g'], F['h']
    a, b, c = MAIN, MAIN - 96, MAIN - 256
    events = [(ENTRY, 10, a, main), (ENTRY, 20, a, f), (ENTRY, 22, a, g), (RETURN, 24, a, g),  # one in the other
              (RETURN, 30, a, f), (ENTRY, 40, a, f), (ENTRY, 41, a, g), (RETURN, 45, a, f),    # g() left by an exception
              (ENTRY, 50, c, h), (RETURN, 60, b, h),                                           # by a jump
              (ENTRY, 70, b, g), (RETURN, 75, b - 512, g),                                     # alloca()
              (ENTRY, 80, b, h), (ENTRY, 82, c - 64, h), (RETURN, 84, c, h), (RETURN, 86, b + 8, h), # recursion, by jumps
              (RETURN, 90, a + 80, main)]
    w.thread(1, 1001, 'worker')
    w.events(1, events)
    w.clock(10**9, 5000 + 10**9)
    w.end(10**9, len(events))
    said = [(l['function'], l['depth'], l['duration_ns'], l['end']) for l in tree_of(bytes(w.out))]
    ok(said == [('main', 0, 80, 'return'), ('f', 1, 10, 'return'), ('g', 2, 2, 'return'), ('f', 1, 5, 'return'),
                ('g', 2, 4, 'unwound'), ('h', 1, 10, 'return'), ('g', 1, 5, 'return'), ('h', 1, 6, 'return'),
                ('h', 2, 2, 'return')], f'-finstrument-functions: {said}')


def calls_of(events, kind, min_ns=0, main_returns=False):
    """(function, depth, end, how long) in order of their ends. What is open is so until 1000."""
    w = Writer(min_ns=min_ns)
    w.clock(0, 5000)
    w.module(1, '/usr/bin/prog', 0x400000)
    w.functions(1, {addr: name for name, addr in F.items()}, kind=kind)
    w.thread(1, 1001, 'worker')
    events = [(ENTRY, 10, MAIN, F['main']), *events] + ([(RETURN, 900, MAIN, F['main'])] if main_returns else [])
    if kind != 4:  # its returns do not say of what they are
        events = [(e[0], e[1], e[2], e[3] if e[0] == ENTRY else 0) for e in events]
    w.events(1, events)
    w.clock(10**9, 5000 + 10**9)
    w.end(1000, len(events))
    lines = [json.loads(l) for l in run('replay', '--json', data=bytes(w.out))[1].splitlines()]
    return [(l['function'], l['depth'], l['end'], l['duration_ns']) for l in lines if l['function'] != 'main']


def test_open_around_inlined():
    """
    What is inlined in a call that is open at the end does not end it.

    Control: the same events of functions that are not inlined, and of a call that cannot be open at the end.
    """
    f, g, h = F['f'], F['g'], F['h']
    b, c, d = MAIN - 96, MAIN - 256, 0x7F0000100000
    loop = [(ENTRY, 100, b, f)]
    for t in 200, 300:
        loop += [(ENTRY, t, b, g), (RETURN, t + 5, b, g), (ENTRY, t + 10, c, h), (RETURN, t + 20, c, h)]
    turn = [('g', 2, 'return', 5), ('h', 2, 'return', 10)]
    apart = [('g', 1, 'return', 5), ('h', 2, 'return', 10)]
    ok(calls_of(loop, 4) == 2 * turn + [('f', 1, 'open', 900)], 'inlined in an open call', calls_of(loop, 4))
    ok(calls_of(loop, 4, min_ns=7) == 2 * turn[1:] + [('f', 1, 'open', 900)], 'the same with --min', calls_of(loop, 4, 7))
    said = calls_of(loop, 1)
    ok(said[0] == ('f', 1, 'unwound', 100) and said[1] == apart[0] and len(said) == 5, 'control: not inlined', said)
    said = calls_of(loop, 4, main_returns=True)
    ok(said[0] == ('f', 1, 'unwound', 100) and said[1] == apart[0], 'control: what it runs in returns', said)
    said = calls_of(loop + [(ENTRY, 400, b, f), (RETURN, 410, b, f)], 4)
    ok(said[0] == ('f', 1, 'unwound', 100) and said[-1] == ('f', 1, 'return', 10), 'control: it is called again', said)
    said = calls_of(loop + [(ENTRY, 400, b + 16, h), (RETURN, 410, b + 16, h)], 4)
    ok(said[0] == ('f', 1, 'unwound', 100) and said[-1] == ('h', 1, 'return', 10), 'control: a call above it', said)
    said = calls_of(loop + [(ENTRY, 400, b, g), (ENTRY, 420, b, h), (RETURN, 430, b, h)], 4)
    ok(said == 2 * turn + [('h', 3, 'return', 10), ('g', 2, 'open', 600), ('f', 1, 'open', 900)], 'it ends in what is inlined', said)
    said = calls_of([(e[0], e[1], e[2] - MAIN + d, e[3]) for e in loop], 4)
    ok([(s[0], *s[2:]) for s in said] == 2 * [(t[0], *t[2:]) for t in turn] + [('f', 'open', 900)] and
       said[0][1] == said[-1][1] + 1, 'the same on a stack of its own', said)


def test_stack_in_frame():
    """
    Signal handlers on a stack that is an array of main()'s, above what they interrupt.

    Control: calls that do not return are ended by what is above them.
    """
    f, g, h, leaf = F['f'], F['g'], F['h'], F['leaf']
    b, c, stack = MAIN - 0x11000, MAIN - 0x11060, MAIN - 0x400
    handler = lambda t: [(ENTRY, t, stack, h), (ENTRY, t + 1, stack - 64, leaf), (RETURN, t + 2, stack - 64, leaf)]
    ends = lambda t: [(RETURN, t, stack, h)]
    events = [(ENTRY, 100, b, f), *handler(110), *ends(115), (ENTRY, 120, c, g), *handler(130),
              (ENTRY, 140, stack - 128, h), (RETURN, 145, stack - 128, h), *ends(150), (RETURN, 160, c, g),
              *handler(170), *ends(175), (RETURN, 190, b, f), *handler(200), *ends(205)]
    want = [('leaf', 3, 'return', 1), ('h', 2, 'return', 5), ('leaf', 4, 'return', 1), ('h', 4, 'return', 5),
            ('h', 3, 'return', 20), ('g', 2, 'return', 40), ('leaf', 3, 'return', 1), ('h', 2, 'return', 5),
            ('f', 1, 'return', 90), ('leaf', 2, 'return', 1), ('h', 1, 'return', 5)]
    for kind in 1, 4:
        for main_returns in False, True:
            said = calls_of(events, kind, main_returns=main_returns)
            ok(said == want, f'a stack in a frame{", which returns" if main_returns else ""}: kind {kind}', said)
        said = calls_of([(ENTRY, 100, b, f), (ENTRY, 105, c, g), *handler(110), *ends(115)], kind)
        ok(said[:2] == [('g', 2, 'unwound', 5), ('f', 1, 'unwound', 10)], f'control: kind {kind}, no return behind it', said)


def real_tool(name, *args, data):
    """Its output; None: it is not here."""
    tool = shutil.which(name)
    return tool and subprocess.run([tool, *args], input=data, capture_output=True, timeout=100, check=False).stdout


def test_readers():
    """Programs that know nothing of ours."""
    program = random_program(5, 400)
    data = bytes(session(program.events, module=shunt).out)  # a file that is there, and no source
    said, whole = reported(data), None
    out = real_tool('jq', '-c', '[.functions[] | {(.function): .calls}] | add', data=run('report', '--json', data=data)[1].encode())
    ok(out is None or json.loads(out) == {name: row['calls'] for name, row in said.items()}, 'jq reads --json' + (
        '' if out is not None else ' # SKIP no jq'))
    out = real_tool('jq', '-c', '[.traceEvents[] | select(.ph == "B")] | length', data=run('export', '--chrome')[1].encode())
    ok(out is None or int(out) == sum(row['calls'] for row in said.values()), 'jq reads --chrome' + (
        '' if out is not None else ' # SKIP no jq'))
    with open(path + '.callgrind', 'w', encoding='utf-8') as file:
        file.write(run('export', '--callgrind')[1])
    tool = shutil.which('callgrind_annotate')
    done = tool and subprocess.run([tool, path + '.callgrind'], capture_output=True, timeout=100, check=False)
    out = tool and done.stdout
    whole = out and re.search(rb'([\d,]+) \(100\.0%\) +PROGRAM TOTALS', out)
    ok(out is None or (whole and int(whole[1].replace(b',', b'')) == sum(r['self_ns'] for r in said.values()) and
                       all(name.encode() in out for name in said) and not done.stderr and
                       b'Auto-annotated source: /' not in out), 'callgrind_annotate reads --callgrind' + (
        '' if out is not None else ' # SKIP no callgrind_annotate'), done and done.stderr)
    os.unlink(path + '.callgrind')
    with open(path + '.pb', 'wb') as file:
        file.write(subprocess.run([shunt, 'export', '--perfetto', path], capture_output=True, check=False).stdout)
    with open(path + '.pb', 'rb') as file:
        raw = file.read()
    os.unlink(path + '.pb')
    out = real_tool('protoc', '--decode_raw', data=raw) if raw else None
    ok(out is None or out.count(b'  11 {') == 2 * sum(row['calls'] for row in said.values()),
       'protoc reads --perfetto' + ('' if out is not None else ' # SKIP no protoc, or no --perfetto'))


def test_coroutines():
    """Fibres on stacks side by side, in both orders, that yield to main within a call."""
    for step in (0x4000, -0x4000, 0x100000):
        fibres = [Program(0x7F0000100000 + step * i) for i in range(5)]
        events, now = [(ENTRY, 1, MAIN, F['main'])], 1
        for fibre in fibres:
            fibre.enter('fibre')
            fibre.enter('yield')
        streams = [list(f.events) for f in fibres]
        for stream, fibre in zip(streams, fibres):
            fibre.leave()
            for _ in range(3):
                fibre.enter('g')
                fibre.enter('yield')
                fibre.leave()
                fibre.leave()
            fibre.leave()
            stream[:] = fibre.events
        while any(streams):
            for stream in streams:
                while stream:
                    kind, _, sp, addr = stream.pop(0)
                    now += 10
                    events.append((kind, now, sp, addr))
                    if kind == ENTRY and addr == F['yield']:
                        break
        events.append((RETURN, now + 10, MAIN, 0))
        lines = tree_of(bytes(session(events).out))
        good = all(l['end'] == 'return' for l in lines) and sum(l['function'] == 'fibre' for l in lines) == 5
        by_stack = {}
        for l in lines:
            by_stack.setdefault(l['stack'], []).append((l['function'], l['depth']))
        ok(good and len(lines) == 1 + 5 * 8, f'fibres {step:#x} apart: no call is lost, none ends otherwise')
        want = [('fibre', 0), ('yield', 1)] + 3 * [('g', 1), ('yield', 2)]
        own = [x for s, x in by_stack.items() if s]
        ok(all(x == want for x in own) and len(own) == 5, f'fibres {step:#x} apart: each has its own tree')


def test_exports():
    p = random_program(5, 2000)
    data = bytes(session(p.events).out)
    folded = {}
    for _, _, self_ns, _, stack in p.calls:
        folded[stack] = folded.get(stack, 0) + self_ns
    said = {l.rsplit(' ', 1)[0]: int(l.rsplit(' ', 1)[1]) for l in run('export', '--folded', data=data)[1].splitlines()}
    ok(said == folded, 'export --folded')
    chrome = json.loads(run('export', '--chrome')[1])['traceEvents']
    stack, calls = [], []
    for e in chrome:
        if e['ph'] == 'B':
            stack.append(e)
        if e['ph'] == 'E':
            begin = stack.pop()
            calls.append((begin['name'], round((e['ts'] - begin['ts']) * 1000)))
    ok(calls == [(c[0], c[1]) for c in p.calls] and not stack, 'export --chrome')
    if 'zlib' in features:
        gz = os.path.join(tmp.name, 'out.json.gz')
        ok(run('export', '--chrome', '-o', gz)[0] == 0 and json.loads(gzip.open(gz).read())['traceEvents'] == chrome,
           'export --chrome to a file that ends in .gz')
    own, current, skip = {}, None, False
    names = {}
    for line in run('export', '--callgrind')[1].splitlines():
        if m := re.match(r'c?fn=\((\d+)\) (.*)', line):
            names[m[1]] = m[2]
            if not line.startswith('c'):
                current = m[2]
        elif line.startswith('calls='):
            skip = True
        elif m := re.match(r'0 (\d+)$', line):
            if not skip:
                own[current] = own.get(current, 0) + int(m[1])
            skip = False
    ok(own == {n: r['self_ns'] for n, r in p.table().items()} | {n: 0 for n in own if n not in p.table()},
       'export --callgrind: times of their own')
    page = run('export', '--flame')[1]
    tree = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    ok(sum(tree['nodes'][3::4]) == sum(folded.values()) and 'http' not in page.replace('http://www.w3.org/', ''),
       'export --flame: nothing is lost, nothing else is needed')
    graph = run('graph')[1].splitlines()[1:]
    ok(len(graph) == len({c[4] for c in p.calls}) and sum(int(l.split()[4]) for l in graph) == len(p.calls), 'graph')

    def nodes(children, above=''):
        for node in children:
            yield above + node['function'], node
            yield from nodes(node['children'], above + node['function'] + ';')
    said = json.loads(run('graph', '--json')[1])
    flat = dict(nodes(said['calls']))
    ok(said['version'] == 1 and {n: c['self_ns'] for n, c in flat.items()} ==
       {n: folded.get(n, 0) for n in flat} and set(folded) <= set(flat) and
       sum(c['calls'] for c in flat.values()) == len(p.calls), 'graph --json')
    ok(set(dict(nodes(json.loads(run('graph', '--json', '--depth', '2')[1])['calls']))) ==
       {n for n in flat if n.count(';') < 2}, 'graph --json --depth')
    if 'protobuf' in features:
        raw = subprocess.run([shunt, 'export', '--perfetto', path], capture_output=True, check=True).stdout
        ok(perfetto_calls(raw) == calls, 'export --perfetto, by the published numbers of its fields')
    ok(run('export')[0] == 2 and run('export', '--chrome', '--flame')[0] == 2, 'export needs one format')
    ok(run('export', '--folded', '-o', path)[0] == 1 and open(path, 'rb').read() == data, 'the session is not overwritten')


def fields(data):
    """(number, value) of a protobuf message."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = varint()
            yield key >> 3, data[at:at + size]
            at += size


def perfetto_calls(raw):
    names, stack, calls = {}, [], []
    for _, packet in fields(raw):
        p = dict(fields(packet))
        if 12 in p:
            name = dict(fields(dict(fields(p[12]))[2]))
            names[name[1]] = name[2].decode()
        e = dict(fields(p[11])) if 11 in p else {}
        if e.get(9) == 1:
            stack.append((names[e[10]], p[8]))
        if e.get(9) == 2:
            name, start = stack.pop()
            calls.append((name, p[8] - start))
    return calls


def test_names():
    w = Writer()
    w.clock(0, 0)
    w.module(1, '/lib/a.so', 0x1000)
    w.module(2, '/lib/a.so', 0x9000, loaded=500)
    w.functions(1, {0x1010: '_ZN2ns3addEii', 0x1020: b'bad\x1b[31m\xff;</script>', 0x1030: '', 0x9010: 'old'})
    w.functions(2, {0x9010: '_ZN2ns3addEii'})
    w.thread(1, 9, 'evil\n\x1b')
    w.events(1, [e for i, a in enumerate([0x1010, 0x1020, 0x1030, 0x9010, 0x5555])
                 for e in ((ENTRY, 100 + i, MAIN, a), (RETURN, 101 + i, MAIN, 0))] +
             [(ENTRY, 600, MAIN, 0x9010), (RETURN, 610, MAIN, 0)])
    w.end(1, 2)
    said = reported(bytes(w.out))
    name = 'ns::add(int, int)' if 'iberty' in features else '_ZN2ns3addEii'
    ok(said[name]['calls'] == 2 and said['old']['calls'] == 1, 'a module that was loaded twice: one function, by time')
    ok('a.so+0x30' in said and '0x5555' in said, 'functions without a name')
    outputs = [run(*c)[1] for c in (['report'], ['replay'], ['graph'], ['export', '--folded'], ['export', '--chrome'],
                                    ['export', '--flame'], ['export', '--callgrind'])]
    ok(all('\x1b' not in o and '\xff' not in o for o in outputs) and outputs[5].count('</script>') == 2,
       'no escape sequence and no markup from a name')


def reloaded(*build_ids):
    """Calls of each row of a function of /lib/a.so, which was loaded once for each build-id (b'': not known)."""
    w = Writer()
    w.clock(0, 0)
    w.thread(1, 9)
    for i, build_id in enumerate(build_ids):
        w.module(i + 1, '/lib/a.so', 0x10000 * (i + 1), loaded=100 * i, build_id=build_id)
        w.functions(i + 1, {0x10000 * (i + 1) + 16: 'in_plugin'})
        w.events(1, [(ENTRY, 100 * i + 10, MAIN, 0x10000 * (i + 1) + 16), (RETURN, 100 * i + 20, MAIN, 0)])
    w.end(1, 2)
    return sorted(f['calls'] for f in json.loads(run('report', '--json', data=bytes(w.out))[1])['functions'])


def test_reloaded():
    a, b = b'A' * 20, b'B' * 20
    for ids, rows in (((a, a, a), [3]), ((a, b'', a), [3]), ((b'', a, b''), [3]), ((b'', b''), [2]), ((a, b, a), [1, 2]),
                      ((b'', a, b, b, b''), [2, 3]), ((a, b, b'', b), [2, 2])):
        names = ' '.join(i[:1].decode() or '-' for i in ids)
        ok(reloaded(*ids) == rows, f'a module loaded with build-ids {names}: {rows}, {reloaded(*ids)}')
    ok(reloaded(a, b'C', a) != [3], 'control: a build-id that is known, and another one')


def test_rounding():
    """3 ticks are 1 ns. A call from tick 2 to tick 4 begins and ends in the same ns, and lasts for 1."""
    w = Writer(clock=0)
    w.clock(0, 0)
    w.module(1, 'prog', 0)
    w.functions(1, {16: 'main', 32: 'f'})
    w.thread(1, 9)
    calls = [(6 * i + 2, 6 * i + 4) for i in range(1000)]
    w.events(1, [e for begin, end in calls for e in ((ENTRY, begin, MAIN, 16), (RETURN, end, MAIN, 16))])
    w.clock(3 * 10**9, 10**9)
    w.end(1, 2000)
    row = reported(bytes(w.out))['main']
    ok(row['self_ns'] == row['total_ns'] == 667 and row['max_ns'] == 1, f'a total is not below its own time: {row}')
    ok(sum(round(end / 3) - round(begin / 3) for begin, end in calls) == 0, 'control: rounded at both ends it is')
    ok(all(l['duration_ns'] == l['self_ns'] == 1 for l in tree_of(bytes(w.out))), 'replay: nor is a duration')
    w = Writer(clock=0)
    w.clock(0, 0)
    w.module(1, 'prog', 0)
    w.functions(1, {16: 'main', 32: 'f', 48: 'g'})
    w.thread(1, 9)
    w.events(1, [(ENTRY, 0, MAIN, 16), (ENTRY, 4, MAIN - 64, 32), (RETURN, 8, MAIN - 64, 0), (ENTRY, 12, MAIN - 64, 48),
                 (RETURN, 16, MAIN - 64, 0), (RETURN, 20, MAIN, 0)])
    w.clock(3 * 10**9, 10**9)
    w.end(1, 6)
    open(path, 'wb').write(w.out)
    main, = json.loads(run('graph', '--json')[1])['calls']
    ok(main['total_ns'] == main['self_ns'] + sum(child['total_ns'] for child in main['children']) == 6,
       f'graph: a total is what it took itself and what it calls in all: {main}')
    ok(round(20 / 3) != round(12 / 3) + 2 * round(4 / 3), 'control: rounded each for itself it is not')


def outcome(args, data):
    """None where a command took a damaged file as it should."""
    code, _, err = run(*args, data=data, env=DAMAGED)
    if code not in (0, 1) or (code == 1 and not err.startswith('shunt: ')):
        return f'{args}: exit {code}: {err[-2000:]}'
    return None


COMMANDS = (['report', '--json', '--thread'], ['replay'], ['graph', '--json'], ['export', '--chrome'], ['export', '--folded'],
            ['export', '--callgrind'], ['export', '--flame'])


def test_damaged():
    p = random_program(6, 60)
    w = session(p.events)
    data = bytes(w.out)
    worst = None
    near = {at + n for at in w.chunks for n in (range(-3, 4) if STEP == 1 else range(-1, 2))}
    for n in [n for n in range(len(data)) if n % STEP == 0 or n in near]:
        code, _, err = run('report', data=data[:n], env=DAMAGED)
        whole = n >= 32 + int.from_bytes(data[24:32], 'little')
        if code != (0 if whole else 1) or not err or (code == 0 and 'cut off' not in err and 'no end is recorded' not in err):
            worst = worst or f'{n}: {code} {err}'
    ok(not worst, f'cut off anywhere: what is whole, and a note {worst or ""}')
    other = bytes(session(random_program(7, 20).events).out)
    alone = run('report', '--json', data=data)
    behind = [run('report', '--json', data=data + other[16:n])[:3] for n in (17, 32, 40, len(other) // 2, len(other))]
    ok(all(one == alone[:3] for one in behind), 'what stands behind the end, a save that was not finished, is not read')
    moved = data[:12] + len(other).to_bytes(4, 'little') + other[16:] + data[16:]
    ok(run('report', '--json', data=moved)[:2] == alone[:2], 'what stands before the first chunk is not, either')
    events_chunk = w.chunks[4]
    damaged = bytearray(data)
    damaged[events_chunk + 40] ^= 1
    code, _, err = run('report', data=bytes(damaged))
    ok(code == 1 and f'byte {events_chunk}:' in err, 'a wrong checksum: an error and where')
    damaged[events_chunk + 4:events_chunk + 8] = bytes(4)
    ok(run('report', data=bytes(damaged))[0] == 0, 'control: the same without a checksum')
    for what, data_of in (('an empty file', b''), ('another file', b'\x7fELF' + bytes(100)), ('a version', data[:8] + b'\2' + data[9:])):
        ok(outcome(['report'], data_of) is None and run('report')[0] == 1, what)


def test_mutants(n):
    """Without checksums, so that what is damaged reaches all of the reader."""
    dice, bad = random.Random(1), []
    p = random_program(7, 80, tuple(F))
    kinds = session(p.events), written({1: p.events, 2: p.events[:9]}, ended=[(2, 50)], replaced=900, min_ns=300)
    for i in range(n // STEP):
        w = kinds[i // len(COMMANDS) % 2]
        mutant = bytearray(w.out)
        for chunk in w.chunks:
            mutant[chunk + 4:chunk + 8] = bytes(4)
        for _ in range(dice.choice((1, 1, 2, 8, 40))):
            at = dice.randrange(len(mutant)) if dice.random() < 0.6 else dice.choice(w.chunks) + dice.randrange(40)
            at = min(at, len(mutant) - 8)
            if dice.random() < 0.5:
                mutant[at] = dice.randrange(256)
            else:
                mutant[at:at + 4] = dice.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000, len(mutant))).to_bytes(4, 'little')
        result = outcome(COMMANDS[i % len(COMMANDS)], bytes(mutant))
        if result:
            bad.append(f'mutant {i}: {result}')
    ok(not bad, f'{n // STEP} mutants {bad[:2] or ""}')


def test_deep():
    depth = 300000 if STEP == 1 else 20000
    events = [(ENTRY, i, MAIN - 32 * i, F['f']) for i in range(depth)]
    events += [(RETURN, depth + i, MAIN - 32 * (depth - 1 - i), 0) for i in range(depth)]
    data = bytes(session(events).out)
    ok(reported(data)['f']['total_ns'] == 2 * depth - 1, f'recursion {depth} deep')
    ok(all(len(run(*c)[1]) < 200 * len(events) for c in COMMANDS[1:]), 'its output grows no faster than it')


def nesting(text):
    level = most = 0
    for c in re.findall(r'[][{}]', text):  # no name here has one
        level += 1 if c in '[{' else -1
        most = max(most, level)
    return most


def test_deep_json():
    """jq 1.6 reads 84 levels, Python some 490."""
    def recursion(depth):
        events = [(ENTRY, 1 + i, MAIN - 32 * i, F['f']) for i in range(depth)]
        return bytes(session(events + [(RETURN, 1 + depth + i, MAIN - 32 * (depth - 1 - i), 0) for i in range(depth)]).out)

    for depth, options, shown in ((10, [], 10), (80, [], 80), (81, [], 80), (400, [], 80), (400, ['--depth', '7'], 7),
                                  (400, ['--depth', '600'], 400)):
        data = recursion(depth)
        text = run('graph', '--json', *options, data=data)[1]
        said = json.loads(text)
        ok(said['levels_left_out'] == depth - shown and nesting(text) == 2 * shown + 2 and said['calls'][0]['total_ns'] == 2 * depth - 1,
           f'graph --json {" ".join(options)}: of {depth} levels {shown}', said['levels_left_out'], nesting(text))
    ok(nesting(run('graph', '--json', data=data)[1]) <= 162 < nesting(run('graph', '--json', '--depth', '200')[1]),
       'control: more where they are asked for')
    if shutil.which('jq'):
        for options, good in ([], True), (['--depth', '200'], False):
            text = run('graph', '--json', *options)[1]
            done = subprocess.run(['jq', '.levels_left_out'], input=text, capture_output=True, text=True, check=False)
            ok(done.returncode == 0 and int(done.stdout) == 320 if good else done.returncode or int(done.stdout) == 200,
               f'jq reads it {" ".join(options)}', done)


test_report()
test_ends()
test_open()
test_exec()
test_min()
test_no_times()
test_no_return()
test_empty()
test_start()
test_file()
test_lossy()
test_instrumented()
test_open_around_inlined()
test_stack_in_frame()
test_readers()
test_coroutines()
test_exports()
test_names()
test_reloaded()
test_rounding()
test_damaged()
test_mutants(2100)
test_deep()
test_deep_json()
sys.exit(finish())
