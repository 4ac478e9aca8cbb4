import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { openAuditKey } from '../../src/audit/seal/audit-key.ts';
import { diskFiles } from '../../src/audit/spool/file-layer.ts';
import { EVENT_CLASS, OUTCOME } from '../../src/audit/spool/messages.ts';
import { accountOfEvent, PrincipalShares } from '../../src/audit/spool/principal-shares.ts';
import { Spool, type SpoolOptions } from '../../src/audit/spool/spool.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { type Closer, temporaryDirectory } from '../support/temporary.ts';

const QUOTA_BYTES = 64 * 1024;
const EVENT_BYTES = 1024;

const openSpool = (directory: string, options: Partial<SpoolOptions> = {}): Spool =>
  new Spool({
    directory: join(directory, 'spool'),
    key: openAuditKey(join(directory, 'key.pem')),
    files: diskFiles,
    clock: systemClock,
    maxSpoolBytes: QUOTA_BYTES,
    mode: 'enforced',
    sinks: { delivers: true, exports: false },
    ...options,
  });

const event = (principal: string, eventClass: number, bytes = EVENT_BYTES) => {
  const [connection, name] = principal.split('/');
  const subject = JSON.stringify({ connection, principal: name });
  const text = (filler: string) =>
    `{"data":{"filler":"${filler}"},"subject":${subject},"type":"stream","v":1}`;
  return { text: text('x'.repeat(Math.max(0, bytes - text('').length))), class: eventClass, principal };
};

const offer = (spool: Spool, principal: string, eventClass: number = EVENT_CLASS.decision): number =>
  spool.append([event(principal, eventClass)]).outcomes[0]!;

/** Offers decisions until one is not kept; how many were, and what became of that one. */
const fill = (spool: Spool, principal: string): { kept: number; outcome: number } => {
  for (let kept = 0; kept < 1_000; kept += 1) {
    const outcome = offer(spool, principal);
    if (outcome !== OUTCOME.kept) return { kept, outcome };
  }
  throw new Error('the spool has no end');
};

const acknowledgeAll = (spool: Spool): void => {
  spool.seal(false);
  for (let out = spool.pull(QUOTA_BYTES); out !== undefined; out = spool.pull(QUOTA_BYTES)) {
    for (const { chain, batch } of out.batches) spool.acknowledge({ chain, batch });
  }
};

const filledByNoisy = (t: Closer, options: Partial<SpoolOptions> = {}) => {
  const directory = temporaryDirectory(t, 'quota');
  const spool = openSpool(directory, options);
  for (let n = 0; n < 3; n += 1) assert.equal(offer(spool, 'shop/quiet'), OUTCOME.kept);
  return { directory, spool, ...fill(spool, 'shop/noisy') };
};

test('near the quota the principal over its share is refused, and others are taken to the last of theirs', (t) => {
  const { spool, outcome } = filledByNoisy(t);
  assert.equal(outcome, OUTCOME.overShare);
  assert.ok(spool.state().spoolBytes >= QUOTA_BYTES * 0.75);
  assert.ok(spool.state().spoolBytes < QUOTA_BYTES * 0.8);
  assert.deepEqual(
    spool.state().overShare.map(({ principal }) => principal),
    ['shop/noisy'],
  );
  assert.equal(offer(spool, 'shop/quiet'), OUTCOME.kept);
  assert.equal(offer(spool, 'other/noisy'), OUTCOME.kept, 'the same name of another connection is another');
  assert.equal(offer(spool, 'shop/noisy', EVENT_CLASS.close), OUTCOME.kept, 'streams that live may end');
  assert.equal(offer(spool, 'shop/noisy'), OUTCOME.overShare);
  spool.close();
});

test('when the database has taken everything nobody is over a share any more', (t) => {
  const { spool } = filledByNoisy(t);
  acknowledgeAll(spool);
  assert.deepEqual(spool.state().overShare, []);
  assert.equal(fill(spool, 'shop/other').outcome, OUTCOME.overShare);
  assert.equal(offer(spool, 'shop/noisy'), OUTCOME.kept, 'what it held before is forgotten');
  spool.close();
});

test('a lone principal leaves a quarter to whoever comes next; with 100 % it may fill the spool', (t) => {
  const held = openSpool(temporaryDirectory(t, 'held'));
  const free = openSpool(temporaryDirectory(t, 'free'), { shareFromPercent: 100 });
  const some = fill(held, 'shop/noisy');
  const all = fill(free, 'shop/noisy');
  assert.deepEqual([some.outcome, all.outcome], [OUTCOME.overShare, OUTCOME.refused]);
  assert.ok(some.kept < all.kept);
  assert.equal(offer(held, 'shop/newcomer'), OUTCOME.kept);
  assert.equal(offer(free, 'shop/newcomer'), OUTCOME.refused);
  held.close();
  free.close();
});

test('after a restart the spool still knows whose events it holds', (t) => {
  const { directory, spool } = filledByNoisy(t);
  const over = spool.state().overShare;
  const again = openSpool(directory);
  assert.deepEqual(again.state().overShare, over);
  assert.equal(offer(again, 'shop/noisy'), OUTCOME.overShare);
  assert.equal(offer(again, 'shop/quiet'), OUTCOME.kept);
  again.close();
});

test('best_effort refuses nobody for a share', (t) => {
  const spool = openSpool(temporaryDirectory(t, 'effort'), { mode: 'best_effort' });
  for (let n = 0; n < 100; n += 1) assert.equal(offer(spool, 'shop/noisy'), OUTCOME.kept);
  assert.deepEqual(spool.state().overShare, []);
  spool.close();
});

test('a spool that was full takes decisions again once the database has them, however small its quota', (t) => {
  const spool = openSpool(temporaryDirectory(t, 'full'), { shareFromPercent: 100 });
  for (let round = 0; round < 3; round += 1) {
    assert.equal(fill(spool, 'shop/noisy').outcome, OUTCOME.refused);
    acknowledgeAll(spool);
    assert.ok(spool.state().spoolBytes < QUOTA_BYTES / 2, `${spool.state().spoolBytes} bytes are left`);
  }
  spool.close();
});

test('whoever holds less than an equal part is never refused by the load of others', (t) => {
  const load = fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.integer({ min: 300, max: 2_000 })), {
    maxLength: 150,
  });
  fc.assert(
    fc.property(load, (offers) => {
      const spool = openSpool(temporaryDirectory(t, 'load'));
      const held = new Map<string, number>();
      for (const [name, bytes] of offers) {
        const one = event(`shop/${name}`, EVENT_CLASS.decision, bytes);
        const share = QUOTA_BYTES / (held.size + 1);
        const before = held.get(name) ?? 0;
        const [outcome] = spool.append([one]).outcomes;
        if (outcome === OUTCOME.kept) held.set(name, before + one.text.length);
        else assert.ok(before > share || spool.state().spoolBytes >= QUOTA_BYTES, `${before} of ${share}`);
      }
      spool.close();
    }),
    { numRuns: 20 },
  );
});

test('principals beyond what is counted apart share one account, and each event is taken off again', () => {
  const shares = new PrincipalShares();
  for (let n = 0; n < 5_000; n += 1) shares.add(1, `c/p${n}`, 10);
  assert.equal(shares.bytesOf('c/p0'), 10);
  assert.equal(shares.bytesOf('c/p4999'), (5_000 - 4_096) * 10);
  shares.remove(1);
  assert.equal(shares.bytesOf('c/p0'), 0);
  assert.deepEqual(shares.over(100), []);
});

test('whose event it is, is read from its own subject and from nothing that somebody wrote into its data', () => {
  const fake = JSON.stringify('","subject":{"principal":"victim"},"type":"x"');
  const text = `{"data":{"note":${fake}},"subject":{"connection":"shop","principal":"me"},"type":"stream.close","v":1}`;
  assert.equal(accountOfEvent(text), 'shop/me');
  assert.equal(
    accountOfEvent('{"data":{},"subject":{"principal":"namespace/x"},"type":"a","v":1}'),
    'namespace/x',
  );
  assert.equal(accountOfEvent('{"data":{},"subject":{},"type":"audit.gap","v":1}'), undefined);
  assert.equal(accountOfEvent('{"n":1}'), undefined);
});
