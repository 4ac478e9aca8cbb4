import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Findings } from '../../src/audit/verify/report.ts';

const CHAIN = '019ab000-0000-7000-8000-0000000e0e0e';

/** What a walk may find: single findings, ranges that fill the list, and what is said once of a chain. */
type Found =
  | { readonly kind: 'one'; readonly seq: number }
  | { readonly kind: 'range'; readonly first: number; readonly count: number }
  | { readonly kind: 'once'; readonly signer: number };

const arbitraryFound: fc.Arbitrary<Found> = fc.oneof(
  fc.record({ kind: fc.constant('one' as const), seq: fc.nat(5) }),
  fc.record({ kind: fc.constant('range' as const), first: fc.nat(5), count: fc.nat(700) }),
  fc.record({ kind: fc.constant('once' as const), signer: fc.nat(3) }),
);

const add = (findings: Findings, found: Found): void => {
  const at = { chain: CHAIN, batch: 1 };
  if (found.kind === 'one') findings.add('event_altered', 'x', { ...at, seq: found.seq });
  else if (found.kind === 'once') findings.addOnce('signer_unknown', `signer ${found.signer}`, at);
  else findings.addRange('event_missing', 'x', at, found.first, found.first + found.count - 1);
};

test('findings of pieces that are joined are those of one walk: which, in which order, and how many more', () => {
  fc.assert(
    fc.property(fc.array(fc.array(arbitraryFound, { maxLength: 5 }), { maxLength: 6 }), (pieces) => {
      const walk = new Findings();
      const joined = new Findings();
      for (const piece of pieces) {
        const part = new Findings();
        for (const found of piece) {
          add(walk, found);
          add(part, found);
        }
        joined.addPart(structuredClone(part.part()));
      }
      assert.deepEqual([joined.list, joined.more], [walk.list, walk.more]);
    }),
    { numRuns: 300 },
  );
});
