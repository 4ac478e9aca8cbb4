import assert from 'node:assert/strict';
import { readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { openAuditKey } from '../../src/audit/seal/audit-key.ts';
import { Backlog, type SinkEvent } from '../../src/audit/sink/backlog.ts';
import type { SpoolToSinks } from '../../src/audit/sink/messages.ts';
import { diskFiles, type FileLayer } from '../../src/audit/spool/file-layer.ts';
import { SinkHolds } from '../../src/audit/spool/sink-holds.ts';
import { Spool, type SpoolOptions } from '../../src/audit/spool/spool.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const KIB = 1024;
const SEGMENT_BYTES = 4 * KIB;

interface Fixture {
  readonly spool: Spool;
  readonly holds: SinkHolds;
  readonly backlog: Backlog;
  readonly told: SpoolToSinks[];
}

const spoolDirOf = (directory: string): string => join(directory, 'spool');

/** A spool with one sink on it, in one thread. */
const openWithSink = (
  directory: string,
  o: Partial<SpoolOptions> & { keepBytes?: number; position?: { chain: string; seq: number } } = {},
): Fixture => {
  const backlog = new Backlog(spoolDirOf(directory), o.position);
  const told: SpoolToSinks[] = [];
  const holds = new SinkHolds(o.keepBytes ?? 1024 * KIB, (message) => {
    told.push(message);
    if (message.kind === 'sealed') backlog.add(message.runs);
    else if (message.kind === 'released') backlog.release(message.segment);
  });
  const spool = new Spool({
    directory: spoolDirOf(directory),
    key: openAuditKey(join(directory, 'key.pem')),
    files: diskFiles,
    clock: systemClock,
    maxSpoolBytes: 1024 * KIB,
    mode: 'enforced',
    sinks: { delivers: true, exports: false },
    segmentBytes: SEGMENT_BYTES,
    sealEvents: 4,
    holds,
    ...o,
  });
  return { spool, holds, backlog, told };
};

const textOf = (n: number): string => `{"n":${n},"pad":"${'x'.repeat(400)}"}`;
const items = (from: number, count: number) =>
  Array.from({ length: count }, (_, index) => ({ text: textOf(from + index), class: 0 }));

/** The database takes everything. */
const deliverAll = (spool: Spool): void => {
  for (let out = spool.pull(64 * KIB); out !== undefined; out = spool.pull(64 * KIB)) {
    const last = out.batches.at(-1)!;
    spool.acknowledge({ chain: last.chain, batch: last.batch });
  }
};

const appendSealed = (spool: Spool, from: number, count: number): void => {
  for (let n = from; n < from + count; n += 4) spool.append(items(n, 4));
  spool.seal(false);
};

const segmentsIn = (directory: string): number =>
  readdirSync(spoolDirOf(directory)).filter((name) => name.endsWith('.spool')).length;

const numbers = (events: readonly SinkEvent[]): number[] =>
  events.map(({ canonical }) => (JSON.parse(canonical.toString('utf8')) as { n: number }).n);

const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

test('what the database has stays for a sink, off the books, and goes when the sink has it', (t) => {
  const directory = temporaryDirectory(t);
  const { spool, holds, backlog } = openWithSink(directory);
  appendSealed(spool, 0, 80);
  const before = spool.state().spoolBytes;
  deliverAll(spool);
  const { spoolBytes, heldBytes } = spool.state();
  assert.ok(segmentsIn(directory) > 5);
  assert.equal(spoolBytes + heldBytes, before);
  assert.ok(spoolBytes <= 2 * SEGMENT_BYTES, 'only what is written now counts');
  const events = backlog.read(1024 * KIB);
  assert.deepEqual(numbers(events), upTo(80));
  backlog.confirm(events.at(-1)!);
  holds.wantedFrom = backlog.wantedFrom;
  spool.tidy();
  assert.equal(spool.state().heldBytes, 0);
  assert.ok(segmentsIn(directory) <= 2);
});

test('beyond its limit a sink loses the oldest, is told, and counts them', (t) => {
  const directory = temporaryDirectory(t);
  const { spool, backlog, told } = openWithSink(directory, { keepBytes: 3 * SEGMENT_BYTES });
  for (let n = 0; n < 160; n += 40) {
    appendSealed(spool, n, 40);
    deliverAll(spool);
  }
  assert.ok(spool.state().heldBytes <= 3 * SEGMENT_BYTES);
  assert.ok(told.some(({ kind }) => kind === 'released'));
  const kept = numbers(backlog.read(1024 * KIB));
  const lost = backlog.takeLost();
  assert.ok(lost > 0);
  assert.deepEqual(kept, upTo(160).slice(lost));
});

test('a sink never takes room from what is to be recorded', (t) => {
  const directory = temporaryDirectory(t);
  const { spool, backlog } = openWithSink(directory, { maxSpoolBytes: 16 * SEGMENT_BYTES });
  appendSealed(spool, 0, 80);
  deliverAll(spool);
  const held = spool.state().heldBytes;
  assert.ok(held > 5 * SEGMENT_BYTES);
  // The database is away: its backlog grows into what was kept for the sink.
  let count = 0;
  for (let n = 80; spool.append(items(n, 4)).outcomes.every((outcome) => outcome === 0); n += 4) {
    count += 4;
    spool.giveUpHeld();
    const { spoolBytes, heldBytes } = spool.state();
    assert.ok(heldBytes === 0 || spoolBytes + heldBytes <= 16 * SEGMENT_BYTES);
  }
  assert.ok(count > 80, 'as many were taken as without a sink');
  assert.equal(spool.state().heldBytes, 0);
  assert.ok(backlog.takeLost() > 0);
});

test('a disk that is full takes a decision when what is kept for sinks is gone', (t) => {
  const directory = temporaryDirectory(t);
  let isFull = false;
  const files: FileLayer = {
    ...diskFiles,
    writev(file, buffers, at) {
      if (isFull) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
      diskFiles.writev(file, buffers, at);
    },
    unlink(path) {
      diskFiles.unlink(path);
      if (path.endsWith('0000000001.spool')) isFull = false;
    },
  };
  const { spool, told } = openWithSink(directory, { files });
  appendSealed(spool, 0, 80);
  deliverAll(spool);
  assert.ok(spool.state().heldBytes > 0);
  isFull = true;
  assert.deepEqual(spool.append(items(80, 4)).outcomes, [0, 0, 0, 0]);
  assert.equal(spool.state().heldBytes, 0);
  assert.equal(spool.state().failed, undefined);
  assert.deepEqual(
    told.slice(-2).map(({ kind }) => kind),
    ['released', 'sealed'],
  );
});

test('after a restart a sink goes on behind its last position', (t) => {
  const directory = temporaryDirectory(t);
  const first = openWithSink(directory);
  appendSealed(first.spool, 0, 80);
  deliverAll(first.spool);
  const half = first.backlog.read(1024 * KIB)[41]!;
  first.backlog.confirm(half);
  first.spool.append(items(80, 3));
  first.spool.close();
  const again = openWithSink(directory, { position: half });
  assert.deepEqual(numbers(again.backlog.read(1024 * KIB)), upTo(83).slice(42));
  assert.equal(again.backlog.takeLost(), 0);
});

test('a gap behind the last position is counted', (t) => {
  const directory = temporaryDirectory(t);
  const first = openWithSink(directory);
  appendSealed(first.spool, 0, 80);
  first.spool.close();
  const chain = first.spool.chain;
  const position = { chain, seq: 3 };
  const backlog = new Backlog(spoolDirOf(directory), position);
  backlog.add([{ chain, first: 11, last: 80, spans: [{ segment: 1, from: 0, to: 1 }] }]);
  assert.equal(backlog.takeLost(), 7);
});

test('a chain that the database refuses is still there for a sink', (t) => {
  const directory = temporaryDirectory(t);
  const { spool, backlog } = openWithSink(directory);
  appendSealed(spool, 0, 40);
  spool.refuse(spool.chain);
  appendSealed(spool, 40, 8);
  assert.deepEqual(numbers(backlog.read(1024 * KIB)), upTo(48));
  assert.equal(backlog.takeLost(), 0);
});

test('a segment that vanished is passed over and counted', (t) => {
  const directory = temporaryDirectory(t);
  const { spool, backlog } = openWithSink(directory);
  appendSealed(spool, 0, 80);
  const [, second = ''] = readdirSync(spoolDirOf(directory))
    .filter((name) => name.endsWith('.spool'))
    .sort();
  renameSync(join(spoolDirOf(directory), second), join(directory, second));
  const seen = numbers(backlog.read(1024 * KIB));
  const lost = backlog.takeLost();
  assert.ok(lost > 0 && seen.length + lost === 80);
  assert.deepEqual([seen[0], seen.at(-1)], [0, 79]);
});

test('whatever a sink reads, confirms and begins again, it gets everything in order', (t) => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('append' as const), count: fc.integer({ min: 1, max: 9 }) }),
    fc.record({ kind: fc.constant('read' as const), bytes: fc.integer({ min: 1, max: 6_000 }) }),
    fc.record({ kind: fc.constant('confirm' as const), part: fc.double({ min: 0, max: 1, noNaN: true }) }),
    fc.constant({ kind: 'rewind' as const }),
    fc.constant({ kind: 'deliver' as const }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { spool, holds, backlog } = openWithSink(temporaryDirectory(t));
      let appended = 0;
      let confirmed = 0;
      let read: SinkEvent[] = [];
      for (const next of steps) {
        if (next.kind === 'append') {
          spool.append(items(appended, next.count));
          appended += next.count;
          spool.seal(false);
        } else if (next.kind === 'read') read.push(...backlog.read(next.bytes));
        else if (next.kind === 'confirm') {
          const count = Math.floor(read.length * next.part);
          const last = read[count - 1];
          if (last === undefined) continue;
          assert.equal(backlog.confirm(last), count);
          confirmed += count;
          read = read.slice(count);
          holds.wantedFrom = backlog.wantedFrom;
          spool.tidy();
        } else if (next.kind === 'rewind') {
          backlog.rewind();
          read = [];
        } else deliverAll(spool);
        assert.deepEqual(
          numbers(read),
          read.map((_, index) => confirmed + index),
        );
        assert.equal(backlog.events, appended - confirmed);
      }
      backlog.rewind();
      assert.equal(backlog.read(10_000 * KIB).length, appended - confirmed);
      assert.equal(backlog.hasUnread, false);
      assert.equal(backlog.takeLost(), 0);
      spool.close();
    }),
    { numRuns: 40 },
  );
});
