import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { canonicalJson } from '../../src/audit/event/canonical.ts';
import { type AuditKey, openAuditKey, type VerifyReport } from '../../src/audit/index.ts';
import { leafHash, merkleRoot } from '../../src/audit/seal/merkle.ts';
import { type Seal, sealDigest, signSeal } from '../../src/audit/seal/seal.ts';
import { rowsOf, tamper } from './audit-fixture.ts';
import { verifyTwice } from './both-verifiers.ts';
import { type Store, useSealedStore } from './sealed-store.ts';

const sealed = useSealedStore();

const CHAIN = '019ab000-0000-7000-8000-0000000f0f0f';
const hex = (bytes: Buffer): string => `decode('${bytes.toString('hex')}', 'hex')`;

/** Statements that store a chain of one batch, which the writer's own key sealed, as somebody who has both would. */
const forged = (key: AuditKey, events: readonly Buffer[], change: Partial<Seal> = {}): string[] => {
  const leaves = events.map((event) => leafHash(event));
  const seal: Omit<Seal, 'v' | 'alg'> = {
    chain: CHAIN,
    epoch: 1,
    batch: 1,
    first: 1,
    last: events.length,
    n: events.length,
    dropped: 0,
    root: merkleRoot(leaves).toString('hex'),
    prev: null,
    prev_chain: null,
    signer: key.signer,
    time: '2026-01-02T03:04:05.678Z',
    final: true,
    ...change,
  };
  const { text, signature } = signSeal({ v: 1, alg: 'Ed25519', ...seal }, key);
  const digest = hex(sealDigest(text));
  const at = '2026-01-02T03:04:05.678Z';
  return [
    `insert into audit.seal (recorded_at, chain_id, batch_no, first_seq, last_seq, event_count, dropped, root, seal, prev_seal,
       prev_chain, signer, signature, sealed_at, epoch, final, canonical)
     values ('${at}', '${CHAIN}', 1, 1, ${events.length}, ${events.length}, 0, decode('${seal.root}', 'hex'),
       ${digest}, null, null, '${seal.signer}', ${hex(signature)}, '${at}', ${seal.epoch}, true,
       ${hex(Buffer.from(text))})`,
    `insert into audit.seal_leaves (recorded_at, chain_id, batch_no, leaves) values ('${at}', '${CHAIN}', 1, ${hex(Buffer.concat(leaves))})`,
    ...events.map(
      (event, index) =>
        `insert into audit.event (recorded_at, chain_id, seq, canonical) values ('${at}', '${CHAIN}', ${index + 1}, ${hex(event)})`,
    ),
    `insert into audit.chain (chain_id, owner, signer, epoch, opened_at, last_recorded_at, last_sealed_at, last_batch, last_seq, head,
       final, events, dropped, fork_alarms)
     values ('${CHAIN}', 'writer_1', '${seal.signer}', ${seal.epoch}, '${at}', '${at}', '${at}', 1, ${events.length}, ${digest}, true,
       ${events.length}, 0, 0)`,
  ];
};

const keyOf = (s: Store): AuditKey => openAuditKey(join(s.directory, 'audit-key.pem'));
const verify = (s: Store, columns = true): Promise<VerifyReport> =>
  verifyTwice({ databaseUrl: s.owner, trustFile: s.trustFile, headFiles: s.heads, columns });
const kinds = (report: VerifyReport): string[] =>
  [...new Set(report.findings.map((finding) => finding.kind))].sort();

const heartbeat = (heads: unknown): Buffer =>
  Buffer.from(
    canonicalJson({
      at: '2026-01-02T03:04:05.678Z',
      chain: CHAIN,
      data: { heads },
      id: '01b00000-0000-7000-8000-00000000000e',
      origin: { instance: 'i', kind: 'agent', name: 'a', namespace: 'n', version: '0' },
      subject: {},
      type: 'audit.heartbeat',
      v: 1,
    }),
  );
const event = (data: string, subject = '{}'): Buffer =>
  Buffer.from(
    `{"at":"2026-01-02T03:04:05.678Z","chain":"${CHAIN}","data":${data},"id":"01b00000-0000-7000-8000-00000000000e","origin":{"kind":"agent","name":"a"},"subject":${subject},"type":"stream.decision","v":1}`,
  );

/** What a writer may seal when its key is an attacker's: bytes that are there to break who reads them. */
const HOSTILE: Readonly<Record<string, readonly Buffer[]>> = {
  'bytes that are no JSON': [
    Buffer.from('x'),
    Buffer.from(''),
    Buffer.from([0xff, 0xfe]),
    Buffer.from('{"a":'),
  ],
  'UTF-8 that is cut off': [Buffer.from([0x7b, 0x22, 0xe2, 0x82])],
  'lists as deep as bytes allow': [Buffer.from('['.repeat(200_000)), Buffer.from('{"a":'.repeat(100_000))],
  'an event with data that is too deep': [event(`{"x":${'['.repeat(50_000)}${']'.repeat(50_000)}}`)],
  'reasons that are too deep': [event(`{"reasons":[{"code":${'['.repeat(900)}${']'.repeat(900)}}]}`)],
  'numbers that no double holds': [
    event('{"eval_us":1e999,"bytes_up":1e400,"dial_ms":-1e999}'),
    event(`{"eval_us":${'9'.repeat(6000)},"bytes_up":${'1'.repeat(400)}}`),
    event(
      '{"bytes_up":-1,"bytes_down":9007199254740993,"duration_ms":-0}',
      '{"attempt":2147483648,"client_port":65536}',
    ),
    Buffer.from('NaN'),
    event('{"eval_us":NaN}'),
    event('{"bytes_up":1.0,"bytes_down":1e3}', '{"attempt":1.5,"stream_no":1E2}'),
  ],
  'lone surrogates and control characters': [
    event('{"rule":"\\ud800","decided_by":"\\u0000"}', '{"principal":"\\udfff"}'),
    event('{"rule":"\u0001"}'),
  ],
  'names that come twice': [event('{"rule":"a","rule":"b"}', '{"principal":"a","principal":"b"}')],
  'names that languages keep for themselves': [
    event('{"__proto__":{"rule":"x"},"constructor":1}', '{"__proto__":{"principal":"x"},"toString":"x"}'),
  ],
  'members of another kind': [
    event(
      '{"reasons":{"code":1},"rules":[1],"bundle":[],"allow":"true"}',
      '{"stream_id":5,"source_addr":{}}',
    ),
    event(
      '{"reasons":[null,1,"x",{"code":5},{"code":{"a":1}}],"rules":{"publish":"x","stream":[1,null,{}]}}',
    ),
    event('[]', '[]'),
    event('null', 'null'),
  ],
  'addresses that are none': [
    event(
      '{}',
      `{"source_addr":"${'1'.repeat(100_000)}","client_addr":"fe80::1%eth0","target_addr":"10.0.0.0/8"}`,
    ),
    event('{}', '{"source_addr":"::ffff:10.0.0.1","client_addr":"010.1.1.1","target_addr":"1"}'),
  ],
  'times that no calendar has': [
    Buffer.from(event('{}').toString().replace('2026-01-02', '2026-02-30')),
    Buffer.from(event('{}').toString().replace('2026-01-02', '0000-00-00')),
    Buffer.from(event('{}').toString().replace('2026-01-02T03:04:05.678Z', 'infinity')),
  ],
  'heads that are none': [
    heartbeat([null, 1, {}, [], { chain: 'x', batch: 1, seal: 'y' }]),
    heartbeat([{ chain: CHAIN, batch: -1, seal: 'ab'.repeat(32) }]),
    heartbeat([{ chain: CHAIN, batch: 1.5, seal: 'ab'.repeat(32) }]),
    heartbeat([{ chain: CHAIN, batch: 2 ** 53, seal: 'ab'.repeat(32) }]),
    heartbeat({ chain: CHAIN }),
    heartbeat(5),
  ],
  'heartbeats in bytes of another form': [
    Buffer.from(heartbeat([]).toString().replace('"audit.heartbeat"', ' "audit.heartbeat"')),
  ],
};

for (const [name, events] of Object.entries(HOSTILE)) {
  test(`both verifiers say the same, and neither breaks, of ${name}`, async (t) => {
    const s = await sealed.copy(t);
    await tamper(s.owner, ...forged(keyOf(s), events));
    const without = await verify(s, false);
    assert.deepEqual(without.findings, [], 'the writer sealed them');
    const report = await verify(s);
    assert.deepEqual(
      kinds(report).filter((kind) => kind !== 'column_altered'),
      [],
    );
  });
}

test('a heartbeat is one in its canonical form alone, which is the only one that writers seal', async (t) => {
  const s = await sealed.copy(t);
  const head = { chain: s.chains[0] ?? '', batch: 1, seal: 'ab'.repeat(32) };
  const beat = heartbeat([head]).toString();
  await tamper(s.owner, ...forged(keyOf(s), [Buffer.from(beat)]));
  assert.deepEqual(kinds(await verify(s, false)), ['countersigned_head_differs']);
  for (const spelled of ['"audit\\u002eheartbeat"', ' "audit.heartbeat"']) {
    const other = await sealed.copy(t);
    await tamper(
      other.owner,
      ...forged(keyOf(other), [Buffer.from(beat.replace('"audit.heartbeat"', spelled))]),
    );
    assert.deepEqual(kinds(await verify(other, false)), [], spelled);
  }
});

/** Seals that are none, though the writer's key signed them. */
const SEALS: Readonly<Record<string, Partial<Record<keyof Seal, unknown>>>> = {
  'a time that no calendar has': { time: '2026-13-01T00:00:00.000Z' },
  'the thirtieth of February': { time: '2026-02-30T00:00:00.000Z' },
  'a negative first': { first: -5, last: -5 },
  'a first of 0': { first: 0, last: 0 },
  'a count of halves': { dropped: 0.5 },
  'a count that no double holds exactly': { dropped: 2 ** 53 },
  'a name more': { extra: 1 } as never,
  'a chain that is no id': { prev_chain: 'x', prev: 'ab'.repeat(32) },
};
for (const [name, change] of Object.entries(SEALS)) {
  test(`both verifiers say the same of a seal with ${name}`, async (t) => {
    const s = await sealed.copy(t);
    await tamper(s.owner, ...forged(keyOf(s), [event('{}')], change as Partial<Seal>));
    assert.ok(kinds(await verify(s, false)).includes('seal_altered'));
  });
}

test('one number many times, leaves many times, and events before the first are findings', async (t) => {
  const s = await sealed.copy(t);
  const chain = s.chains[0] ?? '';
  await tamper(
    s.owner,
    `insert into audit.event (recorded_at, chain_id, seq, canonical)
     select recorded_at + make_interval(secs => n), chain_id, seq, 'x' from audit.event, generate_series(1, 500) as n
     where chain_id = '${chain}' and seq = 3`,
    `insert into audit.seal_leaves select recorded_at + make_interval(secs => n), chain_id, batch_no, leaves
     from audit.seal_leaves, generate_series(1, 500) as n where chain_id = '${chain}' and batch_no = 1`,
    `insert into audit.event (recorded_at, chain_id, seq, canonical)
     select now(), '${chain}', -n, 'x' from generate_series(1, 5000) as n`,
  );
  const found = kinds(await verify(s));
  for (const kind of ['event_inserted', 'leaves_missing', 'event_unsealed'])
    assert.ok(found.includes(kind), kind);
  const [row] = await rowsOf(s.owner, 'select count(*)::int as n from audit.event');
  assert.ok(Number(row?.['n']) > 5_500);
});
