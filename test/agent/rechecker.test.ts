import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LiveStream } from '../../src/agent/live-streams.ts';
import { RECHECK_BATCH, Rechecker } from '../../src/agent/rechecker.ts';
import type { Decision, PolicyInputBase } from '../../src/policy/index.ts';
import { Turns } from '../../src/agent/turns.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { allow, deny, type FakeIncoming, type Harness, makeHarness, openOne } from './harness.ts';

interface Rig {
  readonly harness: Harness;
  readonly rechecker: Rechecker;
  readonly kept: LiveStream[];
  readonly denied: LiveStream[];
  answer: (base: PolicyInputBase) => Promise<Decision>;
  mostAtOnce: number;
}

const makeRig = (): Rig => {
  const harness = makeHarness({ limits: { agent: 1_000 } });
  const kept: LiveStream[] = [];
  const denied: LiveStream[] = [];
  let pending = 0;
  const rig: Rig = {
    harness,
    kept,
    denied,
    answer: (base) => Promise.resolve(allow(base, 2)),
    mostAtOnce: 0,
    rechecker: new Rechecker({
      policy: {
        generation: 2,
        decide: async (base) => {
          pending += 1;
          rig.mostAtOnce = Math.max(rig.mostAtOnce, pending);
          try {
            return await rig.answer(base);
          } finally {
            pending -= 1;
          }
        },
      },
      streams: harness.streams,
      turns: new Turns(systemClock),
      logger: silentLogger,
      refresh: (base) => ({ ...base, time: { ...base.time, unix_ms: 42 } }),
      onKept: (stream) => kept.push(stream),
      onDenied: (stream) => denied.push(stream),
    }),
  };
  return rig;
};

const reasonsOf = (harness: Harness): (string | undefined)[] =>
  harness.events.flatMap((event) => (event.type === 'stream.close' ? [event.data.reason] : []));

const openMany = async (harness: Harness, count: number): Promise<FakeIncoming[]> => {
  const all: FakeIncoming[] = [];
  for (let index = 0; index < count; index += 1) all.push(await openOne(harness, { id: `s${index}` }));
  return all;
};

test('a stream that is still allowed takes over the new obligations', async () => {
  const rig = makeRig();
  await openOne(rig.harness);
  let refreshed = 0;
  rig.answer = (base) => {
    refreshed = base.time.unix_ms;
    return Promise.resolve(
      allow(base, 2, { obligations: { recheck_seconds: 5, max_seconds: 9 }, rule: 'new' }),
    );
  };
  rig.rechecker.addAll();
  await rig.rechecker.whenDone();
  assert.equal(refreshed, 42);
  assert.equal(rig.kept[0]?.rule, 'new');
  assert.equal(rig.kept[0].obligations.max_seconds, 9);
  assert.deepEqual(reasonsOf(rig.harness), []);
});

test('a denied stream is cut with the reason, after its evidence', async () => {
  for (const [reason, expected] of [
    ['policy_denied', 'policy_changed'],
    ['policy_changed', 'policy_changed'],
    ['grant_expired', 'grant_expired'],
    ['guard_denied', 'guard_denied'],
  ] as const) {
    const rig = makeRig();
    await openOne(rig.harness);
    rig.answer = (base) => Promise.resolve(deny(base, 2, { reason }));
    rig.rechecker.addAll();
    await rig.rechecker.whenDone();
    assert.equal(rig.denied.length, 1);
    assert.deepEqual(reasonsOf(rig.harness), [expected]);
    assert.equal(rig.harness.slots.inUse, 0);
  }
});

test('the detail of a cut says which rule held before, and whether bundle or grants changed', async () => {
  const bundle = { sha256: 'a'.repeat(64), revision: 'r', sequence: 7, grants_sha256: 'b'.repeat(64) };
  for (const [now, expected] of [
    [bundle, /: rule 'hours' let it in .*; neither bundle nor grants changed$/],
    [{ ...bundle, grants_sha256: 'c'.repeat(64) }, /; the grants file changed$/],
    [{ ...bundle, sha256: 'd'.repeat(64), sequence: 8 }, /; the bundle changed, to sequence 8$/],
  ] as const) {
    const rig = makeRig();
    await openOne(rig.harness);
    rig.answer = (base) => Promise.resolve(allow(base, 2, { rule: 'hours', bundle }));
    rig.rechecker.addAll();
    await rig.rechecker.whenDone();
    let detail = '';
    for (const live of rig.harness.streams) live.cut = (_reason, text) => void (detail = text ?? '');
    rig.answer = (base) => Promise.resolve(deny(base, 2, { bundle: now }));
    rig.rechecker.addAll();
    await rig.rechecker.whenDone();
    assert.match(detail, expected);
  }
});

test('an allow that no longer holds for the address in use is a deny', async () => {
  const rig = makeRig();
  await openOne(rig.harness);
  rig.answer = (base) => Promise.resolve(allow(base, 2, { allowed_addresses: ['10.9.9.9'] }));
  rig.rechecker.addAll();
  await rig.rechecker.whenDone();
  assert.deepEqual(reasonsOf(rig.harness), ['policy_changed']);
});

test('an engine error is asked again twice, then the stream is cut', async () => {
  const rig = makeRig();
  await openOne(rig.harness);
  let asked = 0;
  rig.answer = (base) => {
    asked += 1;
    return asked === 1
      ? Promise.reject(new Error('worker died'))
      : Promise.resolve(deny(base, 2, { decided_by: 'engine', reason: 'policy_timeout' }));
  };
  rig.rechecker.addAll();
  await rig.rechecker.whenDone();
  assert.equal(asked, 3);
  assert.deepEqual(reasonsOf(rig.harness), ['policy_timeout']);
});

test('an engine that recovers in time costs no stream', async () => {
  const rig = makeRig();
  await openOne(rig.harness);
  let asked = 0;
  rig.answer = (base) => {
    asked += 1;
    return asked < 3 ? Promise.reject(new Error('worker died')) : Promise.resolve(allow(base, 2));
  };
  rig.rechecker.addAll();
  await rig.rechecker.whenDone();
  assert.equal(rig.kept.length, 1);
  assert.deepEqual(reasonsOf(rig.harness), []);
});

test('streams are evaluated in batches, one batch at a time', async () => {
  const rig = makeRig();
  const sizes = [RECHECK_BATCH, RECHECK_BATCH, RECHECK_BATCH / 2];
  await openMany(rig.harness, 2.5 * RECHECK_BATCH);
  let asked: (() => void)[] = [];
  // Nothing is answered before its whole batch was asked for.
  rig.answer = (base) =>
    new Promise((resolve) => {
      asked.push(() => resolve(allow(base, 2)));
      if (asked.length < (sizes[0] ?? 0)) return;
      sizes.shift();
      const batch = asked;
      asked = [];
      for (const answer of batch) answer();
    });
  rig.rechecker.addAll();
  await rig.rechecker.whenDone();
  assert.deepEqual(sizes, []);
  assert.equal(rig.mostAtOnce, RECHECK_BATCH);
  assert.equal(rig.kept.length, 250);
});

test('what the review of an activation would close is evaluated before what stays', async () => {
  const rig = makeRig();
  await openMany(rig.harness, 3 * RECHECK_BATCH);
  const asked: string[] = [];
  rig.answer = (base) => {
    asked.push(base.stream?.id ?? '');
    return Promise.resolve(allow(base, 2));
  };
  const doomed = [...rig.harness.streams].slice(-2);
  for (const stream of doomed) stream.wouldClose = true;
  rig.rechecker.addAll();
  await rig.rechecker.whenDone();
  assert.deepEqual(asked.slice(0, 2), ['s298', 's299']);
  assert.equal(new Set(asked).size, 3 * RECHECK_BATCH);
  assert.ok(doomed.every(({ wouldClose }) => !wouldClose));
});

test('a change while a batch is under way asks that batch again', async () => {
  const rig = makeRig();
  await openMany(rig.harness, 3);
  rig.rechecker.addAll();
  rig.rechecker.addAll();
  await rig.rechecker.whenDone();
  assert.equal(rig.kept.length, 6);
});

test('a stream that ended meanwhile is left alone', async () => {
  const rig = makeRig();
  const incoming = await openOne(rig.harness);
  rig.answer = (base) => {
    incoming.end('client_fin');
    return Promise.resolve(deny(base, 2));
  };
  rig.rechecker.addAll();
  await rig.rechecker.whenDone();
  assert.equal(rig.denied.length, 0);
  assert.deepEqual(reasonsOf(rig.harness), ['client_fin']);
});
