import assert from 'node:assert/strict';
import { createHash, createPrivateKey, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { eventText, originText } from '../../src/audit/event/envelope.ts';
import { localTimeIn } from '../../src/audit/event/local-time.ts';
import { EVENT_TYPES, eventDataSchemas, subjectSchema } from '../../src/audit/index.ts';
import { signerOf } from '../../src/audit/seal/audit-key.ts';
import { leafHash, merkleRoot } from '../../src/audit/seal/merkle.ts';
import { sealDigest, signSeal } from '../../src/audit/seal/seal.ts';
import { record, RECORD, writeEventRecord } from '../../src/audit/spool/record.ts';
import { checkpointLine } from '../../src/audit/checkpoint/checkpoint.ts';
import { checkpointVectors } from './checkpoint-vector.ts';
import { RECHECK_VECTOR, VECTOR_AT_MS, VECTOR_CHAIN, VECTOR_ID, VECTORS } from './event-vectors.ts';

const page = readFileSync(fileURLToPath(new URL('../../docs/audit-format.md', import.meta.url)), 'utf8');

const context = {
  chain: VECTOR_CHAIN,
  origin: originText({
    kind: 'agent',
    name: 'agent-1',
    instance: 'instance-1',
    namespace: 'relay.example.com',
    version: '0.1.0',
    zone: 'Europe/Berlin',
  }),
  localAt: localTimeIn('Europe/Berlin'),
};

const texts = VECTORS.map((input) => eventText(input, VECTOR_ID, VECTOR_AT_MS, context));

test('each event type has its vector in docs/audit-format.md, bytes and leaf', () => {
  assert.deepEqual(VECTORS.map((input) => input.type).sort(), Object.keys(EVENT_TYPES).sort());
  for (const [index, input] of VECTORS.entries()) {
    const text = texts[index]!;
    const block = `### \`${input.type}\`\n`;
    const at = page.indexOf(block);
    assert.notEqual(at, -1, `no heading for ${input.type}`);
    const section = page.slice(at, page.indexOf('\n### ', at + 1));
    assert.ok(section.includes(`\n${text}\n`), `${input.type}: the bytes are not\n${text}`);
    assert.ok(
      section.includes(`leaf \`${leafHash(Buffer.from(text)).toString('hex')}\``),
      `${input.type}: leaf`,
    );
  }
});

test('a denial at a re-check has its own vector', () => {
  const text = eventText(RECHECK_VECTOR, VECTOR_ID, VECTOR_AT_MS, context);
  const leaf = leafHash(Buffer.from(text)).toString('hex');
  assert.ok(page.includes(`\n${text}\n\`\`\`\nleaf \`${leaf}\``), `${text}\n${leaf}`);
});

test('the vectors fit their schemas', () => {
  for (const input of [...VECTORS, RECHECK_VECTOR]) {
    eventDataSchemas[input.type].parse(input.data);
    subjectSchema.parse(input.subject);
  }
});

/** The Ed25519 private key of 32 bytes 0x01, as PKCS #8 (RFC 8410). */
const testKey = createPrivateKey({
  key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.alloc(32, 1)]),
  format: 'der',
  type: 'pkcs8',
});
const PUBLIC_KEY = '8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c';

const key = {
  signer: signerOf(PUBLIC_KEY),
  publicKey: PUBLIC_KEY,
  sign: (message: Uint8Array) => sign(null, message, testKey),
};

test('the Merkle root, seal and signature of the page are those of the code', () => {
  const leaves = texts.slice(0, 3).map((text) => leafHash(Buffer.from(text)));
  const root = merkleRoot(leaves).toString('hex');
  const signed = signSeal(
    {
      v: 1,
      alg: 'Ed25519',
      chain: VECTOR_CHAIN,
      batch: 1,
      first: 1,
      last: 3,
      n: 3,
      dropped: 0,
      root,
      prev: null,
      prev_chain: null,
      signer: key.signer,
      time: '2026-01-02T03:04:05.928Z',
      epoch: 1,
      final: false,
    },
    key,
  );
  for (const value of [
    root,
    PUBLIC_KEY,
    signed.text,
    sealDigest(signed.text).toString('hex'),
    signed.signature.toString('hex'),
  ]) {
    assert.ok(page.includes(value), `the page lacks ${value}`);
  }
  assert.ok(page.includes(createHash('sha256').digest('hex')));
});

test('the checkpoints of the page are those of the code', () => {
  for (const signed of checkpointVectors(key)) {
    assert.ok(page.includes(`\n${checkpointLine(signed)}\n`), checkpointLine(signed));
    assert.ok(page.includes(signed.digest.toString('hex')), signed.digest.toString('hex'));
  }
});

test('the spool records of the page are those of the code', () => {
  const event = Buffer.alloc(9 + 9 + 2);
  writeEventRecord(event, 0, 1, '{}', 2);
  assert.ok(page.includes(event.toString('hex')), event.toString('hex'));
  const header = record(RECORD.seal, Buffer.alloc(64, 2), Buffer.from('{}'));
  assert.ok(page.includes(header.toString('hex')), header.toString('hex'));
});

test('the page names every subject field', () => {
  for (const name of Object.keys(subjectSchema.shape)) assert.ok(page.includes(`\`${name}\``), name);
});
