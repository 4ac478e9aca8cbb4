import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import canonicalize from 'canonicalize';
import fc from 'fast-check';
import { canonicalJson } from '../../src/audit/event/canonical.ts';
import { eventText, originText } from '../../src/audit/event/envelope.ts';
import { SUBJECT_FIELDS } from '../../src/audit/event/field.ts';
import { localTimeIn } from '../../src/audit/event/local-time.ts';
import { readEnvelope } from '../../src/audit/event/projection.ts';
import { type AuditEventInput, EVENT_TYPES, eventDataSchemas, subjectSchema } from '../../src/audit/index.ts';
import { openAuditKey, signatureCheck, signerOf } from '../../src/audit/seal/audit-key.ts';
import { leafHash, merkleRoot, nodeHash } from '../../src/audit/seal/merkle.ts';
import { readSeal, sealDigest, signSeal } from '../../src/audit/seal/seal.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { streamId } from './audit-fixture.ts';

const context = {
  chain: streamId(1),
  origin: originText({ kind: 'agent', name: 'a', instance: 'i', namespace: 'n', version: 'v' }),
};
const AT_MS = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

const poison = fc.oneof(
  fc.constantFrom(
    '\u0000',
    'a\u0000b',
    '\ud800',
    'x\udfffy',
    'fe80::1%eth0',
    '\u001b[31m\u0007',
    '\u202eevil',
    '"\\',
    'k'.repeat(5_000),
  ),
  fc.string({ unit: 'binary' }),
  fc.double(),
  fc.constantFrom(NaN, Infinity, -Infinity, 1e308, -0, 2 ** 63, -1, 0.5),
  fc.bigInt(),
  fc.boolean(),
  fc.constantFrom(null, undefined, Symbol('s'), () => 1, new Date(NaN), new Date(0), Buffer.from('x')),
  fc.anything({ withBigInt: true, withDate: true, withTypedArray: true, maxDepth: 3 }),
);

test('canonicalJson agrees with the RFC 8785 package on every JSON value', () => {
  fc.assert(
    fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
      if (!JSON.stringify(value).isWellFormed() || /\\ud[89a-f]/.test(JSON.stringify(value))) return;
      assert.equal(canonicalJson(value), canonicalize(value));
    }),
  );
});

test('canonicalJson refuses what RFC 8785 cannot express', () => {
  for (const value of [NaN, Infinity, '\ud800', { a: () => 1 }, 1n]) {
    assert.throws(() => canonicalJson(value), { code: 'ERR_AUDIT_CANONICAL' });
  }
});

test('an event with anything in any field still has canonical bytes that read back', () => {
  const fields = Object.keys(SUBJECT_FIELDS);
  const data = fc.dictionary(
    fc.oneof(
      fc.constantFrom(
        'allow',
        'reason',
        'reasons',
        'rule',
        'rules',
        'bundle',
        'bytes_up',
        'eval_us',
        'shadow',
        'input',
      ),
      fc.string({ unit: 'binary' }),
    ),
    poison,
  );
  fc.assert(
    fc.property(
      fc.record(Object.fromEntries(fields.map((field) => [field, fc.option(poison, { nil: undefined })]))),
      data,
      fc.oneof(fc.constant(undefined), fc.double(), fc.integer()),
      (subject, payload, atMs) => {
        const input = {
          type: 'stream.decision',
          at_ms: atMs,
          subject,
          data: payload,
        } as unknown as AuditEventInput;
        const text = eventText(input, streamId(2), AT_MS, context);
        assert.ok(text.isWellFormed());
        assert.ok(!text.includes('\\u0000'));
        assert.equal(canonicalize(JSON.parse(text)), text);
        assert.ok(readEnvelope(Buffer.from(text)) !== undefined);
      },
    ),
    { numRuns: 500 },
  );
});

test('an emitter whose object throws on reading is still recorded', () => {
  const data = {
    get allow(): boolean {
      throw new Error('no');
    },
  };
  const text = eventText(
    { type: 'stream.decision', subject: {}, data } as never,
    streamId(2),
    AT_MS,
    context,
  );
  assert.deepEqual(JSON.parse(text).data, { unreadable: true });
});

test('what does not fit its column is set aside by name and kept', () => {
  const text = eventText(
    {
      type: 'stream.close',
      subject: {
        client_addr: 'not-an-address',
        target_port: 70_000,
        stream_id: 'x',
        source_addr: 'fe80::1%eth0',
      },
      data: { reason: 'client_fin', bytes_up: -1 },
    },
    streamId(2),
    AT_MS,
    context,
  );
  const event = JSON.parse(text);
  assert.deepEqual(event.subject, { source_addr: 'fe80::1' });
  assert.deepEqual(event.unfit, {
    client_addr: 'not-an-address',
    'data.bytes_up': '-1',
    stream_id: 'x',
    target_port: '70000',
  });
  assert.equal(event.at, '2026-01-02T03:04:05.678Z');
});

test('secrets are dropped by name and by shape, wherever they stand', () => {
  const secret = 'c2VjcmV0LXRoYXQtbXVzdC1ub3Qtc3RheQ==';
  const text = eventText(
    {
      type: 'key.rotated',
      subject: { key_id: 'k_1' },
      data: {
        before: { key: secret, nested: [{ token: secret, password: secret }] },
        after: { note: `Endpoint=sb://h/;SharedAccessKeyName=x;SharedAccessKey=${secret}` },
        note: `SharedAccessSignature sr=a&sig=${secret}&se=1&skn=x`,
      },
    },
    streamId(2),
    AT_MS,
    context,
  );
  assert.ok(!text.includes(secret));
  assert.ok(text.includes('[redacted]'));
});

test('an oversized event keeps its short members', () => {
  const list = Array.from({ length: 1000 }, () => 'x'.repeat(1000));
  const text = eventText(
    { type: 'admin.action', subject: {}, data: { action: 'import', detail: list } },
    streamId(2),
    AT_MS,
    context,
  );
  assert.ok(text.length < 4096);
  assert.equal(JSON.parse(text).data.action, 'import');
  assert.ok(JSON.parse(text).data.oversize_chars > 1_000_000);
});

test('every event type has a class and a schema, and names are the same', () => {
  assert.deepEqual(Object.keys(EVENT_TYPES).sort(), Object.keys(eventDataSchemas).sort());
  assert.deepEqual(Object.keys(SUBJECT_FIELDS).sort(), Object.keys(subjectSchema.shape).sort());
  assert.deepEqual(Object.keys(SUBJECT_FIELDS), Object.keys(SUBJECT_FIELDS).sort());
});

test('local time follows the zone through a change of its offset', () => {
  const at = localTimeIn('Europe/Berlin');
  assert.equal(at?.(Date.UTC(2026, 2, 29, 0, 59, 59, 1)), '2026-03-29T01:59:59.001');
  assert.equal(at(Date.UTC(2026, 2, 29, 1, 0, 0, 0)), '2026-03-29T03:00:00.000');
  assert.equal(localTimeIn('No/Where'), undefined);
});

/** RFC 6962 §2.1, word for word. */
const treeHash = (leaves: readonly Buffer[]): Buffer => {
  if (leaves.length === 0) return createHash('sha256').digest();
  if (leaves.length === 1) return leaves[0]!;
  let split = 1;
  while (split * 2 < leaves.length) split *= 2;
  return nodeHash(treeHash(leaves.slice(0, split)), treeHash(leaves.slice(split)));
};

test('merkleRoot is the tree hash of RFC 6962, and depends on every leaf and on their order', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 70 }), fc.nat(), (events, pick) => {
      const leaves = events.map((event) => leafHash(event));
      const root = merkleRoot(leaves);
      assert.deepEqual(root, treeHash(leaves));
      if (leaves.length === 0) return;
      const at = pick % leaves.length;
      const altered = leaves.with(at, leafHash(Buffer.concat([events[at]!, Buffer.from('!')])));
      assert.notDeepEqual(merkleRoot(altered), root);
      const reversed = leaves.toReversed();
      if (!reversed.every((leaf, index) => leaf.equals(leaves[index]!))) {
        assert.notDeepEqual(merkleRoot(reversed), root);
      }
    }),
  );
});

test('a seal verifies under its key alone, and no field of it can change', (t) => {
  const key = openAuditKey(`${temporaryDirectory(t)}/key.pem`);
  const verify = signatureCheck(key.publicKey);
  assert.equal(signerOf(key.publicKey), key.signer);
  fc.assert(
    fc.property(
      fc.record({
        batch: fc.integer({ min: 1, max: 2 ** 40 }),
        n: fc.integer({ min: 1, max: 200 }),
        first: fc.integer({ min: 1, max: 2 ** 40 }),
        dropped: fc.nat(),
        epoch: fc.integer({ min: 1, max: 1e6 }),
        final: fc.boolean(),
        prev: fc.option(fc.constant('ab'.repeat(32))),
      }),
      (fields) => {
        const signed = signSeal(
          {
            v: 1,
            alg: 'Ed25519',
            chain: streamId(3),
            last: fields.first + fields.n - 1,
            root: '00'.repeat(32),
            prev_chain: null,
            signer: key.signer,
            time: '2026-01-02T03:04:05.678Z',
            ...fields,
          },
          key,
        );
        assert.deepEqual(readSeal(signed.text), signed.seal);
        assert.equal(verify?.(signed.digest, signed.signature), true);
        for (const name of Object.keys(signed.seal)) {
          const altered = canonicalJson({ ...signed.seal, [name]: 'other' });
          assert.equal(verify(sealDigest(altered), signed.signature), false, name);
        }
      },
    ),
    { numRuns: 25 },
  );
});
