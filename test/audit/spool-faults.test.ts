import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { openAuditKey } from '../../src/audit/seal/audit-key.ts';
import { diskFiles, type FileLayer } from '../../src/audit/spool/file-layer.ts';
import { Spool } from '../../src/audit/spool/spool.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { temporaryDirectory } from '../support/temporary.ts';

/** What a failing disk refuses; a failed sync loses what it should have put on disk, as the page cache may. */
const OPERATIONS = [
  'create',
  'writev',
  'fdatasync',
  'ftruncate',
  'close',
  'syncDirectory',
  'unlink',
] as const;
type Operation = (typeof OPERATIONS)[number];

const failingFiles = (fails: (operation: Operation) => boolean): FileLayer => {
  const files = { ...diskFiles };
  for (const operation of OPERATIONS) {
    const { [operation]: call } = diskFiles as unknown as Record<Operation, (...args: unknown[]) => unknown>;
    Object.assign(files, {
      [operation]: (...args: unknown[]): unknown => {
        if (fails(operation)) throw Object.assign(new Error(`EIO: ${operation}`), { code: 'EIO' });
        return call(...args);
      },
    });
  }
  return files;
};

const openSpool = (directory: string, files: FileLayer): Spool =>
  new Spool({
    directory: join(directory, 'spool'),
    key: openAuditKey(join(directory, 'key.pem')),
    files,
    clock: systemClock,
    maxSpoolBytes: 1024 * 1024,
    mode: 'enforced',
    sinks: { delivers: true, exports: false },
    segmentBytes: 1_024,
    sealEvents: 5,
  });

/** The database's side: a batch that comes again, byte for byte the same, is acknowledged and not stored again. */
class Store {
  readonly events: string[] = [];
  readonly #seals = new Map<string, string>();

  takeFrom(spool: Spool): void {
    for (let out = spool.pull(512); out !== undefined; out = spool.pull(512)) {
      let at = 0;
      let index = 0;
      for (const { chain, batch, seal, n } of out.batches) {
        const texts = out.lengths.slice(index, index + n).map((length) => {
          at += length;
          return Buffer.from(out.events.subarray(at - length, at)).toString('utf8');
        });
        index += n;
        const known = this.#seals.get(`${chain}/${batch}`);
        if (known === undefined) this.events.push(...texts);
        else assert.equal(seal, known, 'the same place has the same seal for ever');
        this.#seals.set(`${chain}/${batch}`, seal);
      }
      for (const { chain, batch } of out.batches) {
        try {
          spool.acknowledge({ chain, batch });
        } catch {
          // A segment that could not be deleted now goes with a later one.
        }
      }
    }
  }
}

test('whatever the disk refuses, every event that was taken is delivered once and in order, over a crash too', (t) => {
  let faults = 0;
  const step = fc.record({
    count: fc.integer({ min: 1, max: 12 }),
    failing: fc.subarray([...OPERATIONS]),
    times: fc.integer({ min: 0, max: 4 }),
    then: fc.constantFrom('nothing', 'deliver', 'seal', 'crash'),
  });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), (steps) => {
      const directory = temporaryDirectory(t, 'faults');
      let failing: readonly Operation[] = [];
      let left = 0;
      const files = failingFiles((operation) => {
        if (left === 0 || !failing.includes(operation)) return false;
        left -= 1;
        faults += 1;
        return true;
      });
      let spool = openSpool(directory, files);
      const taken: string[] = [];
      const store = new Store();
      let number = 0;
      for (const { count, failing: kinds, times, then } of steps) {
        failing = kinds;
        left = times;
        const texts = Array.from({ length: count }, () => `{"n":${(number += 1)}}`);
        try {
          spool.append(texts.map((text) => ({ text, class: 1 })));
          taken.push(...texts);
        } catch (error) {
          assert.equal((error as NodeJS.ErrnoException).code, 'EIO');
        }
        try {
          if (then === 'seal') spool.seal(false);
          if (then === 'deliver') store.takeFrom(spool);
        } catch (error) {
          assert.equal((error as NodeJS.ErrnoException).code, 'EIO');
        }
        left = 0;
        if (then === 'crash') spool = openSpool(directory, files);
      }
      spool = openSpool(directory, diskFiles);
      assert.equal(spool.broken, undefined);
      store.takeFrom(spool);
      spool.close();
      assert.equal(new Set(store.events).size, store.events.length, 'nothing twice');
      const wanted = new Set(taken);
      assert.deepEqual(
        store.events.filter((text) => wanted.has(text)),
        taken,
      );
    }),
    { numRuns: 100 },
  );
  assert.ok(faults > 100, `${faults} faults`);
});
