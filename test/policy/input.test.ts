import assert from 'node:assert/strict';
import { test } from 'node:test';
import canonicalize from 'canonicalize';
import fc from 'fast-check';
import { canonicalInput, type PolicyInputBase } from '../../src/policy/input.ts';
import { streamInput } from './support.ts';

const text = fc.string({ unit: 'grapheme', maxLength: 20 });

test('a canonical input is the RFC 8785 form, whatever is absent', () => {
  const base = streamInput();
  fc.assert(
    fc.property(
      fc.subarray(Object.keys(base)),
      fc.dictionary(text, text),
      fc.record({ address: text, label: text }, { requiredKeys: [] }),
      (absent, labels, claimed) => {
        const input = {
          ...base,
          connection: { ...base.connection, labels },
          source: { gateway: 'g', claimed },
        };
        const present = Object.entries(input).filter(([name]) => !absent.includes(name));
        const asked = Object.fromEntries(present) as unknown as PolicyInputBase;
        assert.equal(canonicalInput(asked), canonicalize(asked));
        assert.equal(canonicalInput(asked), canonicalize(asked), 'the second time too');
      },
    ),
  );
});

test('a member that this version does not know is kept, in its place', () => {
  const input = { ...streamInput(), aardvark: 1, time: { ...streamInput().time, zulu: true } };
  assert.equal(canonicalInput(input), canonicalize(input));
});

test('labels that a reload replaced are seen by the next decision', () => {
  const input = streamInput();
  const agent = { ...input.agent, labels: { site: 'old' } as Record<string, string> };
  assert.match(canonicalInput({ ...input, agent }), /"site":"old"/);
  agent.labels = { site: 'new' };
  assert.match(canonicalInput({ ...input, agent }), /"site":"new"/);
});
