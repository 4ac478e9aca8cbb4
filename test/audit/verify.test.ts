import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadTrust, openAuditKey, revokeSigner, type VerifyReport } from '../../src/audit/index.ts';
import { canonicalJson } from '../../src/audit/event/canonical.ts';
import { leafHash, merkleRoot } from '../../src/audit/seal/merkle.ts';
import { type Seal, sealDigest, signSeal } from '../../src/audit/seal/seal.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { rowsOf, tamper } from './audit-fixture.ts';
import { verifyTwice } from './both-verifiers.ts';
import { type Store, useSealedStore } from './sealed-store.ts';

const sealed = useSealedStore();

const verify = (s: Store, options: object = {}): Promise<VerifyReport> =>
  verifyTwice({ databaseUrl: s.owner, trustFile: s.trustFile, ...options });

const kinds = (report: VerifyReport): string[] => [
  ...new Set(report.findings.map((finding) => finding.kind)),
];

const tampering: readonly {
  name: string;
  sql?: (chain: string) => string[];
  act?: (s: Store) => Promise<void>;
  finding: string;
  at?: { batch?: number; seq?: number };
  options?: (s: Store) => object;
}[] = [
  {
    name: 'an edited column',
    sql: (chain) => [
      `update audit.event set principal = 'someone-else' where chain_id = '${chain}' and seq = 5`,
    ],
    finding: 'column_altered',
    at: { batch: 1, seq: 5 },
    options: () => ({ columns: true }),
  },
  {
    name: 'a column set to null with a made-up projection error',
    sql: (chain) => [
      `update audit.event set principal = null, projection_error = 'sqlstate 22P02' where chain_id = '${chain}' and seq = 5`,
    ],
    finding: 'column_altered',
    at: { seq: 5 },
    options: () => ({ columns: true }),
  },
  {
    name: 'edited canonical bytes',
    sql: (chain) => [
      `update audit.event set canonical = convert_to(replace(convert_from(canonical, 'UTF8'), 'orders-app', 'orders-apq'), 'UTF8') where chain_id = '${chain}' and seq = 7`,
    ],
    finding: 'event_altered',
    at: { batch: 1, seq: 7 },
  },
  {
    name: 'column and canonical bytes edited consistently',
    sql: (chain) => [
      `update audit.event set principal = 'eve', canonical = convert_to(replace(convert_from(canonical, 'UTF8'), '"principal":"orders-app"', '"principal":"eve"'), 'UTF8') where chain_id = '${chain}' and seq = 7`,
    ],
    finding: 'event_altered',
    at: { seq: 7 },
    options: () => ({ columns: true }),
  },
  {
    name: 'the leaf edited too',
    sql: (chain) => [
      `update audit.event set canonical = convert_to(replace(convert_from(canonical, 'UTF8'), 'orders-app', 'orders-apq'), 'UTF8') where chain_id = '${chain}' and seq = 7`,
      `update audit.seal_leaves set leaves = overlay(leaves placing (select sha256('\\x00'::bytea || canonical) from audit.event where chain_id = '${chain}' and seq = 7) from 6 * 32 + 1 for 32) where chain_id = '${chain}' and batch_no = 1`,
    ],
    finding: 'event_altered',
    at: { batch: 1 },
  },
  {
    name: 'an edited leaf alone',
    sql: (chain) => [
      `update audit.seal_leaves set leaves = set_byte(leaves, 0, 255 - get_byte(leaves, 0)) where chain_id = '${chain}' and batch_no = 1`,
    ],
    finding: 'leaf_altered',
    at: { batch: 1, seq: 1 },
  },
  {
    name: 'a deleted row',
    sql: (chain) => [`delete from audit.event where chain_id = '${chain}' and seq = 9`],
    finding: 'event_missing',
    at: { batch: 1, seq: 9 },
  },
  {
    name: 'a deleted batch',
    sql: (chain) =>
      ['event', 'seal_leaves', 'seal'].map((table) =>
        table === 'event'
          ? `delete from audit.event where chain_id = '${chain}' and seq <= (select last_seq from audit.seal where chain_id = '${chain}' and batch_no = 1)`
          : `delete from audit.${table} where chain_id = '${chain}' and batch_no = 1`,
      ),
    finding: 'seal_missing',
    at: { batch: 1 },
  },
  {
    name: 'deleted leaves',
    sql: (chain) => [`delete from audit.seal_leaves where chain_id = '${chain}' and batch_no = 1`],
    finding: 'leaves_missing',
    at: { batch: 1 },
  },
  {
    name: 'swapped order',
    sql: (chain) => [
      `update audit.event set seq = -seq where chain_id = '${chain}' and seq in (11, 12)`,
      `update audit.event set seq = case seq when -11 then 12 else 11 end where chain_id = '${chain}' and seq in (-11, -12)`,
    ],
    finding: 'event_altered',
    at: { seq: 11 },
  },
  {
    name: 'an inserted row behind the end',
    sql: (chain) => [
      `insert into audit.event (recorded_at, chain_id, seq, canonical) select recorded_at, chain_id, 100000, canonical from audit.event where chain_id = '${chain}' and seq = 1`,
    ],
    finding: 'event_unsealed',
    at: { seq: 100_000 },
  },
  {
    name: 'an inserted row beside another',
    sql: (chain) => [
      `insert into audit.event (recorded_at, chain_id, seq, canonical) select recorded_at + interval '1 second', chain_id, seq, 'x' from audit.event where chain_id = '${chain}' and seq = 3`,
    ],
    finding: 'event_inserted',
    at: { seq: 3 },
  },
  {
    name: 'an inserted chain without seals',
    sql: () => [
      `insert into audit.event (recorded_at, chain_id, seq, canonical) values (now(), gen_random_uuid(), 1, 'x')`,
    ],
    finding: 'event_unsealed',
  },
  {
    name: 'an edited drop count',
    sql: (chain) => [`update audit.seal set dropped = 3 where chain_id = '${chain}' and batch_no = 2`],
    finding: 'seal_altered',
    at: { batch: 2 },
  },
  {
    name: 'an edited drop count, canonical bytes and digest made to match',
    sql: (chain) =>
      [
        `update audit.seal set dropped = 3, canonical = convert_to(replace(convert_from(canonical, 'UTF8'), '"dropped":0', '"dropped":3'), 'UTF8') where chain_id = '${chain}' and batch_no = 2`,
        `update audit.seal set seal = sha256('sallyport.audit.seal.v1\\n'::bytea || canonical) where chain_id = '${chain}' and batch_no = 2`,
      ].map((sql) =>
        sql.replace(
          "'sallyport.audit.seal.v1\\n'::bytea",
          "convert_to(E'sallyport.audit.seal.v1\\n', 'UTF8')",
        ),
      ),
    finding: 'signature_invalid',
    at: { batch: 2 },
  },
  {
    name: 'a deleted tail of the last chain, chain row edited too, found by the head outside',
    act: async (s) => {
      const chain = s.chains[1]!;
      const [last] = await rowsOf(
        s.owner,
        'select max(batch_no)::int as batch from audit.seal where chain_id = $1',
        [chain],
      );
      await tamper(
        s.owner,
        `delete from audit.event where chain_id = '${chain}' and seq >= (select first_seq from audit.seal where chain_id = '${chain}' and batch_no = ${last?.batch - 1})`,
        `delete from audit.seal_leaves where chain_id = '${chain}' and batch_no >= ${last?.batch - 1}`,
        `delete from audit.seal where chain_id = '${chain}' and batch_no >= ${last?.batch - 1}`,
        `update audit.chain as c set last_batch = s.batch_no, last_seq = s.last_seq, head = s.seal from audit.seal as s where c.chain_id = '${chain}' and s.chain_id = c.chain_id and s.batch_no = ${last?.batch - 2}`,
      );
    },
    finding: 'head_missing',
    options: (s) => ({ headFiles: s.heads }),
  },
  {
    name: 'a deleted tail of an older chain',
    act: async (s) => {
      const chain = s.chains[0]!;
      await tamper(s.owner, `delete from audit.seal where chain_id = '${chain}' and final`);
    },
    finding: 'chain_truncated',
  },
  {
    name: 'a dropped chain',
    act: async (s) => {
      const chain = s.chains[0]!;
      await tamper(
        s.owner,
        ...['event', 'seal', 'seal_leaves', 'chain'].map(
          (table) => `delete from audit.${table} where chain_id = '${chain}'`,
        ),
      );
    },
    finding: 'chain_missing',
  },
  {
    name: 'an edited chain row',
    sql: (chain) => [`update audit.chain set last_seq = 5, last_batch = 1 where chain_id = '${chain}'`],
    finding: 'chain_row_altered',
  },
];

for (const { name, sql, act, finding, at, options } of tampering) {
  test(`verify names ${name}`, async (t) => {
    const s = await sealed.copy(t);
    await (act === undefined ? tamper(s.owner, ...(sql?.(s.chains[0]!) ?? [])) : act(s));
    const report = await verify(s, options?.(s));
    assert.equal(report.ok, false);
    const found = report.findings.find((candidate) => candidate.kind === finding);
    assert.ok(found !== undefined, `${finding} is not among ${kinds(report).join(', ')}`);
    if (at?.batch !== undefined) assert.equal(found.batch_no, at.batch);
    if (at?.seq !== undefined) assert.equal(found.seq, at.seq);
  });
}

test('an untampered store has no finding', async (t) => {
  const s = await sealed.copy(t);
  const clean = await verify(s, { columns: true, headFiles: s.heads });
  assert.deepEqual(clean.findings, []);
  assert.deepEqual([clean.ok, clean.chains, clean.truncation], [true, 2, 'checked']);
  assert.ok(clean.events > 440);
});

test('verify names a batch re-signed by another key, and by a revoked one', async (t) => {
  const s = await sealed.copy(t);
  const chain = s.chains[1]!;
  const [row] = await rowsOf(
    s.owner,
    'select * from audit.seal where chain_id = $1 order by batch_no desc limit 1',
    [chain],
  );
  const thief = openAuditKey(join(s.directory, 'thief.pem'));
  const seal = JSON.parse((row!.canonical as Buffer).toString('utf8')) as Seal;
  const forged = signSeal({ ...seal, dropped: 9, signer: thief.signer }, thief);
  const update = (text: string, signature: Buffer, signer: string): Promise<void> =>
    tamper(
      s.owner,
      `update audit.seal set canonical = decode('${Buffer.from(text).toString('hex')}', 'hex'), signature = decode('${signature.toString('hex')}', 'hex'), seal = decode('${sealDigest(text).toString('hex')}', 'hex'), signer = '${signer}', dropped = 9 where chain_id = '${chain}' and batch_no = ${row!.batch_no}`,
      `update audit.chain set dropped = 9, head = decode('${sealDigest(text).toString('hex')}', 'hex') where chain_id = '${chain}'`,
    );
  await update(forged.text, forged.signature, thief.signer);
  assert.deepEqual(kinds(await verify(s)), ['signer_unknown']);
  const claimed = canonicalJson({ ...seal, dropped: 9 });
  await update(claimed, thief.sign(sealDigest(claimed)), seal.signer);
  assert.deepEqual(kinds(await verify(s)), ['signature_invalid']);
  revokeSigner({
    rootKeyFile: join(s.directory, 'root.pem'),
    trustFile: s.trustFile,
    signer: seal.signer,
    clock: { ...systemClock, nowMs: () => Date.UTC(2020, 0, 1) },
  });
  assert.ok(kinds(await verify(s)).includes('signer_revoked'));
});

test('verify names a fork: two chains that continue one', async (t) => {
  const s = await sealed.copy(t);
  const key = openAuditKey(join(s.directory, 'audit-key.pem'));
  const [first] = await rowsOf(s.owner, 'select * from audit.seal where chain_id = $1 and batch_no = 1', [
    s.chains[1],
  ]);
  const event = Buffer.from('{}');
  const seal = JSON.parse((first!.canonical as Buffer).toString('utf8')) as Seal;
  const chain = '019ab000-0000-7000-8000-0000000f0f0f';
  const forged = signSeal(
    { ...seal, chain, last: 1, n: 1, root: merkleRoot([leafHash(event)]).toString('hex') },
    key,
  );
  const { writer } = { writer: s.owner };
  await rowsOf(writer, 'select * from audit.append($1, $2, $3, $4, now())', [
    [forged.text],
    forged.signature,
    event,
    [event.length],
  ]);
  assert.ok(kinds(await verify(s)).includes('chain_forked'));
});

test('without anything from outside the result is never ok, and it says what was not checked', async (t) => {
  const s = await sealed.copy(t);
  const alone = await verifyTwice({ databaseUrl: s.owner });
  assert.equal(alone.ok, false);
  assert.deepEqual(kinds(alone), ['no_anchor']);
  assert.ok(alone.notes.some((note) => note.startsWith('truncation not checked')));
  const anchored = await verify(s, { headFiles: s.heads });
  assert.deepEqual([anchored.ok, anchored.truncation], [true, 'checked']);
  assert.deepEqual([anchored.chains, anchored.breaks, anchored.dropped], [2, 1, 0]);
});

test('a trust file that was edited, or is of another root, is refused', async (t) => {
  const s = await sealed.copy(t);
  const text = readFileSync(s.trustFile, 'utf8');
  writeFileSync(s.trustFile, text.replace('"agent-1"', '"agent-2"'));
  assert.throws(() => loadTrust(s.trustFile), { code: 'ERR_AUDIT_TRUST_INVALID' });
  writeFileSync(s.trustFile, text);
  assert.throws(() => loadTrust(s.trustFile, 'ab'.repeat(32)), { code: 'ERR_AUDIT_TRUST_INVALID' });
  writeFileSync(s.trustFile, '{}');
  await assert.rejects(verify(s), { code: 'ERR_AUDIT_TRUST_INVALID' });
});
