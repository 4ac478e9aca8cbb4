import assert from 'node:assert/strict';
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { openAuditKey } from '../../src/audit/seal/audit-key.ts';
import { diskFiles, type FileLayer } from '../../src/audit/spool/file-layer.ts';
import { readRecords, record } from '../../src/audit/spool/record.ts';
import { Spool, type SpoolOptions } from '../../src/audit/spool/spool.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { streamId } from './audit-fixture.ts';

const item = (text: string, eventClass = 0) => ({ text, class: eventClass });
const events = (from: number, count: number) =>
  Array.from({ length: count }, (_, index) => item(`{"n":${from + index}}`));

const openSpool = (directory: string, options: Partial<SpoolOptions> = {}): Spool =>
  new Spool({
    directory: join(directory, 'spool'),
    key: openAuditKey(join(directory, 'key.pem')),
    files: diskFiles,
    clock: systemClock,
    maxSpoolBytes: 1024 * 1024,
    mode: 'enforced',
    sinks: { delivers: true, exports: false },
    ...options,
  });

/** Everything that is not acknowledged, as the database would get it. */
const drain = (spool: Spool): { chain: string; batch: number; final: boolean; events: string[] }[] => {
  const all = [];
  for (;;) {
    const outgoing = spool.pull(1024);
    if (outgoing === undefined) return all;
    let at = 0;
    let index = 0;
    for (const batch of outgoing.batches) {
      const texts: string[] = [];
      for (let n = 0; n < batch.n; n += 1) {
        const length = outgoing.lengths[index]!;
        texts.push(Buffer.from(outgoing.events.subarray(at, at + length)).toString('utf8'));
        at += length;
        index += 1;
      }
      all.push({
        chain: batch.chain,
        batch: batch.batch,
        final: JSON.parse(batch.seal).final as boolean,
        events: texts,
      });
      spool.acknowledge({ chain: batch.chain, batch: batch.batch });
    }
  }
};

const segments = (directory: string): string[] =>
  readdirSync(join(directory, 'spool')).filter((name) => name.startsWith('segment-'));

const lastSegment = (directory: string): string =>
  join(directory, 'spool', segments(directory).sort().at(-1)!);

/** A file layer whose next operations of a kind fail. */
const failing = (): { files: FileLayer; fail: Map<keyof FileLayer, number> } => {
  const fail = new Map<keyof FileLayer, number>();
  const files = Object.fromEntries(
    Object.entries(diskFiles).map(([name, call]) => [
      name,
      (...args: unknown[]) => {
        const left = fail.get(name as keyof FileLayer) ?? 0;
        if (left > 0) {
          fail.set(name as keyof FileLayer, left - 1);
          throw Object.assign(new Error(`EIO: ${name}`), { code: 'EIO' });
        }
        return (call as (...args: unknown[]) => unknown)(...args);
      },
    ]),
  ) as unknown as FileLayer;
  return { files, fail };
};

test('records read back whole, and a torn or altered one ends the reading', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 50 }), { minLength: 1, maxLength: 8 }),
      fc.nat(),
      fc.nat(),
      (payloads, cut, flip) => {
        const records = payloads.map((payload) => record(2, payload));
        const bytes = Buffer.concat(records);
        assert.deepEqual(
          [...readRecords(bytes)].map((found) => Buffer.from(found.payload)),
          payloads.map((payload) => Buffer.from(payload)),
        );
        const torn = bytes.subarray(0, cut % bytes.length);
        const whole = [...readRecords(torn)].length;
        assert.ok(records.slice(0, whole).reduce((sum, part) => sum + part.length, 0) <= torn.length);
        const altered = Buffer.from(bytes);
        altered[flip % bytes.length]! ^= 0x01;
        assert.ok([...readRecords(altered)].length < payloads.length);
      },
    ),
  );
});

test('segments are private, and a seal falls due at 200 events', (t) => {
  const directory = temporaryDirectory(t);
  const spool = openSpool(directory);
  const { seqs } = spool.append(events(1, 450));
  assert.deepEqual([seqs[0], seqs.at(-1)], [1, 450]);
  assert.equal(spool.state().lastBatch, 2);
  assert.equal(spool.state().unsealed, 50);
  assert.equal(statSync(lastSegment(directory)).mode & 0o777, 0o600);
  assert.equal(statSync(join(directory, 'spool')).mode & 0o777, 0o700);
  spool.close();
});

test('after a crash the old tail is sealed as a final batch and the new chain continues it', (t) => {
  const directory = temporaryDirectory(t);
  const first = openSpool(directory);
  first.append(events(1, 205));
  const second = openSpool(directory);
  assert.deepEqual(second.previous, { chain: first.chain, batch: 2 });
  second.append(events(206, 3));
  second.seal(false);
  const got = drain(second);
  assert.deepEqual(
    got.map(({ chain, batch, final, events: texts }) => ({ chain, batch, final, n: texts.length })),
    [
      { chain: first.chain, batch: 1, final: false, n: 200 },
      { chain: first.chain, batch: 2, final: true, n: 5 },
      { chain: second.chain, batch: 1, final: false, n: 3 },
    ],
  );
  assert.deepEqual(
    got.flatMap((batch) => batch.events),
    events(1, 208).map(({ text }) => text),
  );
  second.close();
});

test('a torn tail is cut at the last whole record, at every length', (t) => {
  const directory = temporaryDirectory(t);
  const first = openSpool(directory);
  first.append(events(1, 3));
  const size = statSync(lastSegment(directory)).size;
  truncateSync(lastSegment(directory), size - 1);
  appendFileSync(lastSegment(directory), Buffer.alloc(0));
  const second = openSpool(directory);
  assert.deepEqual(
    drain(second).flatMap((batch) => batch.events),
    ['{"n":1}', '{"n":2}'],
  );
  assert.equal(second.broken, undefined);
  second.close();
});

test('garbage after the last record does not matter', (t) => {
  const directory = temporaryDirectory(t);
  openSpool(directory).append(events(1, 3));
  appendFileSync(lastSegment(directory), Buffer.alloc(64, 0xff));
  const spool = openSpool(directory);
  assert.equal(drain(spool).flatMap((batch) => batch.events).length, 3);
  spool.close();
});

test('a failed sync abandons the segment and rewrites the group in another', (t) => {
  const directory = temporaryDirectory(t);
  const { files, fail } = failing();
  const spool = openSpool(directory, { files });
  spool.append(events(1, 2));
  fail.set('fdatasync', 1);
  const { seqs } = spool.append(events(3, 2));
  assert.deepEqual(seqs, [3, 4]);
  assert.equal(segments(directory).length, 2);
  const after = openSpool(directory);
  assert.deepEqual(
    drain(after).flatMap((batch) => batch.events),
    events(1, 4).map(({ text }) => text),
  );
  after.close();
});

test('even when the abandoned segment cannot be cut, a later segment wins', (t) => {
  const directory = temporaryDirectory(t);
  const { files, fail } = failing();
  const spool = openSpool(directory, { files });
  spool.append(events(1, 2));
  fail.set('fdatasync', 2);
  fail.set('ftruncate', 2);
  assert.throws(() => spool.append([item('{"lost":1}')]), { code: 'EIO' });
  const { seqs } = spool.append(events(3, 2));
  assert.deepEqual(seqs, [3, 4]);
  const after = openSpool(directory);
  assert.deepEqual(
    drain(after).flatMap((batch) => batch.events),
    events(1, 4).map(({ text }) => text),
  );
  after.close();
});

test('while nothing can be written, events are refused and none is in the chain; afterwards it goes on', (t) => {
  const directory = temporaryDirectory(t);
  const { files, fail } = failing();
  const spool = openSpool(directory, { files });
  spool.append(events(1, 1));
  fail.set('writev', 4);
  assert.throws(() => spool.append(events(2, 1)), { code: 'EIO' });
  assert.match(spool.state().failed ?? '', /EIO/);
  assert.equal(spool.probe(), false);
  fail.clear();
  assert.equal(spool.probe(), true);
  assert.deepEqual(spool.append(events(2, 1)).seqs, [2]);
  spool.seal(true);
  assert.deepEqual(
    drain(spool).flatMap((batch) => batch.events),
    ['{"n":1}', '{"n":2}'],
  );
  spool.close();
});

test('a seal that spans an abandoned segment keeps both until the database has it', (t) => {
  const directory = temporaryDirectory(t);
  const { files, fail } = failing();
  const spool = openSpool(directory, { files });
  spool.append(events(1, 150));
  fail.set('fdatasync', 1);
  spool.append(events(151, 60));
  assert.equal(spool.state().lastBatch, 1);
  const after = openSpool(directory);
  const got = drain(after);
  assert.deepEqual(
    got.map((batch) => batch.events.length),
    [200, 10],
  );
  after.close();
  assert.equal(segments(directory).length, 0);
});

test('segments go when the database has their batches, and the head file remembers the chain', (t) => {
  const directory = temporaryDirectory(t);
  const spool = openSpool(directory, { segmentBytes: 4096 });
  for (let n = 0; n < 20; n += 1) spool.append(events(n * 50 + 1, 50));
  assert.ok(segments(directory).length > 3);
  spool.seal(true);
  drain(spool);
  spool.close();
  assert.deepEqual(segments(directory), []);
  const next = openSpool(directory);
  assert.equal(next.previous?.chain, spool.chain);
  assert.equal(next.broken, undefined);
  next.close();
});

test('without the old spool nothing is continued', (t) => {
  const directory = temporaryDirectory(t);
  const spool = openSpool(directory);
  spool.append(events(1, 1));
  for (const name of readdirSync(join(directory, 'spool'))) unlinkSync(join(directory, 'spool', name));
  assert.equal(openSpool(directory).previous, undefined);
});

test('a damaged middle is told, and later events still get a chain', (t) => {
  const directory = temporaryDirectory(t);
  const spool = openSpool(directory, { segmentBytes: 2048 });
  for (let n = 0; n < 4; n += 1) spool.append(events(n * 60 + 1, 60));
  const second = join(directory, 'spool', segments(directory).sort()[1]!);
  const bytes = readFileSync(second);
  bytes[bytes.length >> 1]! ^= 0xff;
  writeFileSync(second, bytes);
  const after = openSpool(directory);
  assert.match(after.broken ?? '', /does not continue/);
  assert.deepEqual(after.append(events(1, 1)).seqs, [1]);
  after.close();
});

test('enforced refuses decisions beyond the quota and keeps the rest up to its reserve', (t) => {
  const directory = temporaryDirectory(t);
  const spool = openSpool(directory, { maxSpoolBytes: 4096 });
  spool.append([item(`{"filler":"${'x'.repeat(4096)}"}`)]);
  const { outcomes } = spool.append([
    item('{"decision":1}', 1),
    item('{"close":1}', 2),
    item('{"gap":1}', 3),
  ]);
  assert.deepEqual(outcomes, [2, 0, 0]);
  spool.append([item(`{"filler":"${'x'.repeat(1024)}"}`)]);
  assert.deepEqual(spool.append([item('{"close":2}', 2), item('{"gap":2}', 3)]).outcomes, [2, 0]);
  spool.close();
});

test('best_effort drops close events before they have a number, and the next seal counts them', (t) => {
  const directory = temporaryDirectory(t);
  const spool = openSpool(directory, { maxSpoolBytes: 4096, segmentBytes: 64 * 1024, mode: 'best_effort' });
  spool.append([item(`{"filler":"${'x'.repeat(4096)}"}`)]);
  const { outcomes, seqs, dropped } = spool.append([item('{"close":1}', 2), item('{"decision":1}', 1)]);
  assert.deepEqual([outcomes, seqs, dropped], [[1, 0], [0, 2], 1]);
  spool.append([item('{"close":2}', 2)]);
  spool.seal(false);
  const seal = spool.pull(1024)?.batches[0];
  assert.equal(JSON.parse(seal!.seal).dropped, 2);
  spool.close();
});

test('streams without an end are known after a crash, even when their decisions were delivered', (t) => {
  const directory = temporaryDirectory(t);
  const options = { segmentBytes: 2048 };
  const spool = openSpool(directory, options);
  const opening = (number: number) => ({
    text: `{"at":"","data":{"allow":true},"id":"${streamId(100 + number)}","origin":{},"subject":{"stream_id":"${streamId(number)}"},"type":"stream.decision","v":1}`,
    class: 1,
    opens: streamId(number),
  });
  const closing = (number: number) => ({
    text: `{"at":"","data":{},"id":"${streamId(200 + number)}","origin":{},"subject":{"stream_id":"${streamId(number)}"},"type":"stream.close","v":1}`,
    class: 2,
    closes: streamId(number),
  });
  spool.append([opening(1), opening(2), opening(3)]);
  for (let n = 0; n < 6; n += 1) spool.append(events(n * 60, 60));
  spool.append([closing(2)]);
  drain(spool);
  assert.ok(segments(directory).length <= 2);
  const after = openSpool(directory, options);
  assert.deepEqual(
    after.lostStreams().map((lost) => [lost.stream_id, lost.decision_id, lost.subject]),
    [1, 3].map((number) => [streamId(number), streamId(100 + number), `{"stream_id":"${streamId(number)}"}`]),
  );
  after.close();
});

test('more open streams than one record holds are known after a crash, with every event behind them', (t) => {
  const directory = temporaryDirectory(t);
  const options = { segmentBytes: 2048, maxSpoolBytes: 256 * 1024 * 1024 };
  const spool = openSpool(directory, options);
  const COUNT = 24_000;
  const filler = 'x'.repeat(500);
  const opening = (number: number) => ({
    text: `{"at":"","data":{"allow":true},"id":"${streamId(number)}","origin":{},"subject":{"gateway":"${filler}","stream_id":"${streamId(number)}"},"type":"stream.decision","v":1}`,
    class: 1,
    opens: streamId(number),
  });
  spool.append(Array.from({ length: COUNT }, (_, number) => opening(number)));
  const before = segments(directory).length;
  for (let n = 0; n < 30; n += 1) spool.append(events(n * 60 + 1, 60));
  assert.ok(
    segments(directory).length <= before + 1,
    'the open streams are not written again for each group',
  );
  const after = openSpool(directory, options);
  assert.equal(after.broken, undefined);
  assert.equal(after.lostStreams().length, COUNT);
  const recovered = drain(after).reduce((sum, batch) => sum + batch.events.length, 0);
  assert.equal(recovered, COUNT + 30 * 60);
  after.close();
});

test('a refused chain is set aside whole and another continues it', (t) => {
  const directory = temporaryDirectory(t);
  const spool = openSpool(directory);
  const before = spool.chain;
  spool.append(events(1, 3));
  spool.refuse(before);
  assert.notEqual(spool.chain, before);
  spool.append(events(1, 2));
  spool.seal(false);
  const got = drain(spool);
  assert.deepEqual(
    got.map((batch) => [batch.chain, batch.events.length]),
    [[spool.chain, 2]],
  );
  assert.ok(readdirSync(join(directory, 'spool', 'refused')).every((name) => name.startsWith(before)));
  spool.close();
});

test('a segment that vanished is told, and its chain can be set aside so that the rest is delivered', (t) => {
  const directory = temporaryDirectory(t);
  const spool = openSpool(directory, { segmentBytes: 2048 });
  const before = spool.chain;
  for (let n = 0; n < 4; n += 1) spool.append(events(n * 60 + 1, 60));
  unlinkSync(join(directory, 'spool', segments(directory).sort()[0]!));
  assert.throws(() => spool.pull(1024 * 1024), { code: 'ENOENT' });
  assert.equal(spool.oldestChain, before);
  spool.refuse(before);
  spool.append(events(1, 2));
  spool.seal(false);
  assert.deepEqual(
    drain(spool).map((batch) => batch.events.length),
    [2],
  );
  spool.close();
});

test('a segment that is removed while it is written is final: nothing is taken any more, whatever comes back', (t) => {
  for (const remove of [
    (directory: string) => unlinkSync(lastSegment(directory)),
    (directory: string) => rmSync(join(directory, 'spool'), { recursive: true }),
  ]) {
    const directory = temporaryDirectory(t, 'removed');
    const spool = openSpool(directory);
    assert.deepEqual(spool.append(events(0, 2)).outcomes, [0, 0]);
    remove(directory);
    assert.throws(() => spool.append(events(2, 1)), /was removed while it was written; nothing is recorded/);
    mkdirSync(join(directory, 'spool'), { recursive: true });
    assert.throws(() => spool.append(events(3, 1)), /was removed while it was written/);
    assert.deepEqual(
      segments(directory).filter((name) => name.endsWith('2.spool')),
      [],
    );
  }
});
