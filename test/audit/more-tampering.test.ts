import assert from 'node:assert/strict';
import { statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openAuditKey, type VerifyReport } from '../../src/audit/index.ts';
import { type Seal, sealDigest, signSeal } from '../../src/audit/seal/seal.ts';
import { findProgram, projectRoot, runCommand } from '../support/command.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { openLog, rowsOf, tamper } from './audit-fixture.ts';
import { runSecondVerifier, secondVerifierMissing, verifyTwice } from './both-verifiers.ts';
import { type Store, useSealedStore } from './sealed-store.ts';

const FLUSH_MS = 20_000;

const sealed = useSealedStore();

interface Expected {
  readonly kind: string;
  readonly chain?: 0 | 1;
  readonly batch?: number;
  readonly seq?: number;
}

interface Tampering {
  /** What somebody who may do anything in the database does, because one event shall be gone. */
  readonly name: string;
  readonly sql?: (first: string, second: string) => readonly string[];
  readonly act?: (s: Store) => Promise<void>;
  readonly finds: readonly Expected[];
  readonly options?: (s: Store) => object;
}

const columns = (): object => ({ columns: true });
const editBytes = (table: string, from: string, to: string): string =>
  `update audit.${table} set canonical = convert_to(replace(convert_from(canonical, 'UTF8'), '${from}', '${to}'), 'UTF8')`;
const SEAL_DIGEST = `sha256(convert_to(E'sallyport.audit.seal.v1\\n', 'UTF8') || canonical)`;
const TABLES = ['event', 'seal', 'seal_leaves', 'chain'];

/** Signs the last batch of a chain anew with the writer's own key, as a thief of that key would, everything made to fit. */
const resignLast = async (s: Store, change: Partial<Seal>): Promise<void> => {
  const key = openAuditKey(join(s.directory, 'audit-key.pem'));
  const chain = s.chains[1]!;
  const [row] = await rowsOf(
    s.owner,
    'select batch_no::int, canonical from audit.seal where chain_id = $1 order by batch_no desc limit 1',
    [chain],
  );
  const seal = JSON.parse((row!.canonical as Buffer).toString('utf8')) as Seal;
  const { text, signature } = signSeal({ ...seal, ...change }, key);
  const digest = sealDigest(text).toString('hex');
  await tamper(
    s.owner,
    `update audit.seal set canonical = decode('${Buffer.from(text).toString('hex')}', 'hex'), signature = decode('${signature.toString('hex')}', 'hex'), seal = decode('${digest}', 'hex'), dropped = ${change.dropped ?? seal.dropped}, sealed_at = '${change.time ?? seal.time}', epoch = ${change.epoch ?? seal.epoch} where chain_id = '${chain}' and batch_no = ${row!.batch_no}`,
    `update audit.chain set dropped = ${change.dropped ?? seal.dropped}, head = decode('${digest}', 'hex') where chain_id = '${chain}'`,
  );
};

const tampering: readonly Tampering[] = [
  {
    name: 'an event moved behind the end of another chain',
    sql: (a, b) => [
      `update audit.event set chain_id = '${b}', seq = 100000 where chain_id = '${a}' and seq = 5`,
    ],
    finds: [
      { kind: 'event_missing', chain: 0, batch: 1, seq: 5 },
      { kind: 'event_unsealed', chain: 1, seq: 100_000 },
    ],
  },
  {
    name: 'an event of another chain in the place of one',
    sql: (a, b) => [
      `delete from audit.event where chain_id = '${b}' and seq = 5`,
      `update audit.event set chain_id = '${b}' where chain_id = '${a}' and seq = 5`,
    ],
    finds: [
      { kind: 'event_missing', chain: 0, batch: 1, seq: 5 },
      { kind: 'event_altered', chain: 1, batch: 1, seq: 5 },
    ],
  },
  {
    name: 'an event overwritten with a copy of its neighbour, id and all',
    sql: (a) => [
      `update audit.event as e set canonical = o.canonical, event_id = o.event_id from audit.event as o where e.chain_id = '${a}' and e.seq = 9 and o.chain_id = e.chain_id and o.seq = 8`,
    ],
    finds: [{ kind: 'event_altered', chain: 0, batch: 1, seq: 9 }],
  },
  {
    name: 'a second event with the id of another and other content',
    sql: (a) => [
      `insert into audit.event (recorded_at, chain_id, seq, event_id, type, canonical) select recorded_at, chain_id, 100001, event_id, type, convert_to(replace(convert_from(canonical, 'UTF8'), 'orders-app', 'orders-apq'), 'UTF8') from audit.event where chain_id = '${a}' and seq = 8`,
    ],
    finds: [{ kind: 'event_unsealed', chain: 0, seq: 100_001 }],
  },
  {
    name: 'an event before the first',
    sql: (a) => [
      `insert into audit.event (recorded_at, chain_id, seq, canonical) select recorded_at, chain_id, 0, canonical from audit.event where chain_id = '${a}' and seq = 1`,
    ],
    finds: [{ kind: 'event_unsealed', chain: 0, seq: 0 }],
  },
  {
    name: 'a deleted event, those behind it moved up',
    sql: (a) => [
      `delete from audit.event where chain_id = '${a}' and seq = 20`,
      `update audit.event set seq = -seq where chain_id = '${a}' and seq > 20`,
      `update audit.event set seq = -seq - 1 where chain_id = '${a}' and seq < 0`,
    ],
    finds: [{ kind: 'event_altered', chain: 0, batch: 1, seq: 20 }],
  },
  {
    name: 'a deleted event, its leaf cut out and its batch made shorter',
    sql: (a) => [
      `delete from audit.event where chain_id = '${a}' and seq = (select last_seq from audit.seal where chain_id = '${a}' and batch_no = 1)`,
      `update audit.seal_leaves set leaves = substring(leaves for length(leaves) - 32) where chain_id = '${a}' and batch_no = 1`,
      `update audit.seal set last_seq = last_seq - 1, event_count = event_count - 1 where chain_id = '${a}' and batch_no = 1`,
    ],
    finds: [
      { kind: 'seal_altered', chain: 0, batch: 1 },
      { kind: 'event_missing', chain: 0, batch: 1 },
    ],
  },
  {
    name: 'leaves in another order',
    sql: (a) => [
      `update audit.seal_leaves set leaves = substring(leaves from 33 for 32) || substring(leaves for 32) || substring(leaves from 65) where chain_id = '${a}' and batch_no = 1`,
    ],
    finds: [
      { kind: 'leaf_altered', chain: 0, batch: 1, seq: 1 },
      { kind: 'leaf_altered', chain: 0, batch: 1, seq: 2 },
    ],
  },
  {
    name: 'events and leaves in another order',
    sql: (a) => [
      `update audit.seal_leaves set leaves = substring(leaves from 33 for 32) || substring(leaves for 32) || substring(leaves from 65) where chain_id = '${a}' and batch_no = 1`,
      `update audit.event set seq = -seq where chain_id = '${a}' and seq in (1, 2)`,
      `update audit.event set seq = 3 + seq where chain_id = '${a}' and seq in (-1, -2)`,
    ],
    finds: [{ kind: 'event_altered', chain: 0, batch: 1 }],
  },
  {
    name: 'a leaf too many',
    sql: (a) => [
      `update audit.seal_leaves set leaves = leaves || substring(leaves for 32) where chain_id = '${a}' and batch_no = 1`,
    ],
    finds: [{ kind: 'leaf_altered', chain: 0, batch: 1 }],
  },
  {
    name: 'half a leaf too many',
    sql: (a) => [
      `update audit.seal_leaves set leaves = leaves || '\\x00'::bytea where chain_id = '${a}' and batch_no = 1`,
    ],
    finds: [{ kind: 'leaf_altered', chain: 0, batch: 1 }],
  },
  {
    name: 'leaves cut off, all events there',
    sql: (a) => [
      `update audit.seal_leaves set leaves = substring(leaves for 64) where chain_id = '${a}' and batch_no = 1`,
    ],
    finds: [{ kind: 'leaf_altered', chain: 0, batch: 1 }],
  },
  {
    name: 'leaves that stand there twice',
    sql: (a) => [
      `insert into audit.seal_leaves select recorded_at + interval '1 second', chain_id, batch_no, leaves from audit.seal_leaves where chain_id = '${a}' and batch_no = 1`,
    ],
    finds: [{ kind: 'leaves_missing', chain: 0, batch: 1 }],
  },
  {
    name: 'no leaves and an edited event',
    sql: (a) => [
      `delete from audit.seal_leaves where chain_id = '${a}' and batch_no = 1`,
      `${editBytes('event', 'orders-app', 'orders-apq')} where chain_id = '${a}' and seq = 7`,
    ],
    finds: [
      { kind: 'leaves_missing', chain: 0, batch: 1 },
      { kind: 'event_altered', chain: 0, batch: 1 },
    ],
  },
  {
    name: 'no leaves and a deleted event',
    sql: (a) => [
      `delete from audit.seal_leaves where chain_id = '${a}' and batch_no = 1`,
      `delete from audit.event where chain_id = '${a}' and seq = 7`,
    ],
    finds: [{ kind: 'event_missing', chain: 0, batch: 1, seq: 7 }],
  },
  {
    name: 'bytes of equal meaning with white space',
    sql: (a) => [`${editBytes('event', '"v":1}', '"v": 1}')} where chain_id = '${a}' and seq = 7`],
    finds: [{ kind: 'event_altered', chain: 0, batch: 1, seq: 7 }],
    options: columns,
  },
  {
    name: 'bytes of equal meaning with a name that comes twice',
    sql: (a) => [`${editBytes('event', '"v":1}', '"v":1,"v":1}')} where chain_id = '${a}' and seq = 7`],
    finds: [{ kind: 'event_altered', chain: 0, batch: 1, seq: 7 }],
  },
  {
    name: 'bytes of equal meaning with a number in another form',
    sql: (a) => [`${editBytes('event', '"v":1}', '"v":1.0}')} where chain_id = '${a}' and seq = 7`],
    finds: [{ kind: 'event_altered', chain: 0, batch: 1, seq: 7 }],
  },
  {
    name: 'an event that was moved in time, so that questions about its day miss it',
    sql: (a) => [
      `update audit.event set recorded_at = recorded_at + interval '3 days' where chain_id = '${a}' and seq = 7`,
    ],
    finds: [{ kind: 'column_altered', chain: 0, batch: 1, seq: 7 }],
    options: columns,
  },
  {
    name: 'an event that was moved to the default partition',
    sql: (a) => [
      `update audit.event set recorded_at = '2001-01-01T00:00:00Z' where chain_id = '${a}' and seq = 7`,
    ],
    finds: [{ kind: 'column_altered', chain: 0, batch: 1, seq: 7 }],
    options: columns,
  },
  {
    name: 'a time span of a seal that leaves its events out',
    sql: (a) => [
      `update audit.seal set last_at = first_at, first_at = first_at - interval '1 day' where chain_id = '${a}' and batch_no = 1`,
    ],
    finds: [{ kind: 'column_altered', chain: 0, batch: 1 }],
    options: columns,
  },
  {
    name: 'a detached partition of events',
    act: async (s) => {
      const [row] = await rowsOf(
        s.owner,
        `select tableoid::regclass::text as name from audit.event where chain_id = $1 and seq = 7`,
        [s.chains[0]],
      );
      await tamper(s.owner, `alter table audit.event detach partition ${row!.name}`);
    },
    finds: [
      { kind: 'event_missing', chain: 0, batch: 1, seq: 1 },
      { kind: 'event_missing', chain: 0, batch: 1, seq: 200 },
    ],
  },
  {
    name: 'a signature of another batch',
    sql: (a) => [
      `update audit.seal as s set signature = o.signature from audit.seal as o where s.chain_id = '${a}' and s.batch_no = 1 and o.chain_id = s.chain_id and o.batch_no = 2`,
    ],
    finds: [{ kind: 'signature_invalid', chain: 0, batch: 1 }],
  },
  {
    name: 'a signature that is cut off',
    sql: (a) => [
      `update audit.seal set signature = substring(signature for 63) where chain_id = '${a}' and batch_no = 1`,
    ],
    finds: [{ kind: 'signature_invalid', chain: 0, batch: 1 }],
  },
  ...[
    'epoch = epoch + 1',
    "sealed_at = sealed_at - interval '1 year'",
    "signer = 's_00000000000000000000'",
  ].map((edit) => ({
    name: `a seal's column edited alone (${edit.split(' ')[0]})`,
    sql: (a: string) => [`update audit.seal set ${edit} where chain_id = '${a}' and batch_no = 2`],
    finds: [{ kind: 'seal_altered', chain: 0, batch: 2 } as const],
  })),
  {
    name: 'a seal back-dated before its signer was revoked, column and digest made to match',
    sql: (a) => [
      `update audit.seal set sealed_at = '2001-01-01T00:00:00.000Z', canonical = convert_to(regexp_replace(convert_from(canonical, 'UTF8'), '"time":"[^"]+"', '"time":"2001-01-01T00:00:00.000Z"'), 'UTF8') where chain_id = '${a}' and batch_no = 2`,
      `update audit.seal set seal = ${SEAL_DIGEST} where chain_id = '${a}' and batch_no = 2`,
    ],
    finds: [
      { kind: 'signature_invalid', chain: 0, batch: 2 },
      { kind: 'seal_order', chain: 0, batch: 3 },
    ],
  },
  {
    name: 'an epoch used again, column and digest made to match',
    sql: (_, b) => [
      `update audit.seal set epoch = 1, canonical = convert_to(regexp_replace(convert_from(canonical, 'UTF8'), '"epoch":\\d+', '"epoch":1'), 'UTF8') where chain_id = '${b}' and batch_no = 1`,
      `update audit.seal set seal = ${SEAL_DIGEST} where chain_id = '${b}' and batch_no = 1`,
    ],
    finds: [{ kind: 'signature_invalid', chain: 1, batch: 1 }],
  },
  {
    name: 'a seal of equal meaning in another form',
    sql: (a) => [`${editBytes('seal', '"v":1}', '"v": 1}')} where chain_id = '${a}' and batch_no = 2`],
    finds: [{ kind: 'seal_altered', chain: 0, batch: 2 }],
  },
  {
    name: 'a seal that is none any more',
    sql: (a) => [`update audit.seal set canonical = 'x' where chain_id = '${a}' and batch_no = 2`],
    finds: [{ kind: 'seal_altered', chain: 0, batch: 2 }],
  },
  {
    name: 'a seal with a member more',
    sql: (a) => [`${editBytes('seal', '"v":1}', '"v":1,"w":1}')} where chain_id = '${a}' and batch_no = 2`],
    finds: [{ kind: 'seal_altered', chain: 0, batch: 2 }],
  },
  {
    name: 'a seal that covers one event less',
    sql: (a) => [
      `update audit.seal set last_seq = last_seq - 1, event_count = event_count - 1, canonical = convert_to(replace(replace(convert_from(canonical, 'UTF8'), '"last":200', '"last":199'), '"n":200', '"n":199'), 'UTF8') where chain_id = '${a}' and batch_no = 1`,
      `update audit.seal set seal = ${SEAL_DIGEST} where chain_id = '${a}' and batch_no = 1`,
      `delete from audit.event where chain_id = '${a}' and seq = 200`,
    ],
    finds: [
      { kind: 'signature_invalid', chain: 0, batch: 1 },
      { kind: 'seal_order', chain: 0, batch: 2 },
    ],
  },
  {
    name: 'a seal that claims the range of one before it',
    sql: (a) => [
      `update audit.seal set canonical = convert_to(regexp_replace(regexp_replace(convert_from(canonical, 'UTF8'), '"first":\\d+', '"first":1'), '"last":\\d+,"n":\\d+', '"last":10,"n":10'), 'UTF8') where chain_id = '${a}' and batch_no = 2`,
    ],
    finds: [
      { kind: 'signature_invalid', chain: 0, batch: 2 },
      { kind: 'seal_order', chain: 0, batch: 2 },
    ],
  },
  {
    name: 'a seal whose count does not fill its range',
    sql: (a) => [
      `update audit.seal set canonical = convert_to(regexp_replace(convert_from(canonical, 'UTF8'), '"n":\\d+', '"n":1000000'), 'UTF8') where chain_id = '${a}' and batch_no = 1`,
    ],
    finds: [{ kind: 'seal_altered', chain: 0, batch: 1 }],
  },
  {
    name: 'a seal of another chain in the place of one',
    sql: (a, b) => [
      `update audit.seal as s set canonical = o.canonical, signature = o.signature, seal = o.seal from audit.seal as o where s.chain_id = '${a}' and s.batch_no = 2 and o.chain_id = '${b}' and o.batch_no = 2`,
    ],
    finds: [{ kind: 'seal_altered', chain: 0, batch: 2 }],
  },
  {
    name: 'a deleted seal, its events left',
    sql: (a) => [`delete from audit.seal where chain_id = '${a}' and batch_no = 2`],
    finds: [
      { kind: 'seal_missing', chain: 0, batch: 2 },
      { kind: 'event_unsealed', chain: 0, seq: 201 },
    ],
  },
  {
    name: 'a seal under a number behind the end',
    sql: (a) => [`update audit.seal set batch_no = 99 where chain_id = '${a}' and batch_no = 2`],
    finds: [{ kind: 'seal_missing', chain: 0, batch: 2 }],
  },
  {
    name: 'an event behind the end, under a made-up seal numbered 0',
    sql: (a) => [
      `insert into audit.seal select (jsonb_populate_record(s, '{"batch_no": 0, "first_seq": -1000000, "last_seq": 1000000, "prev_seal": null}')).* from audit.seal as s where chain_id = '${a}' and batch_no = 1`,
      `insert into audit.event (recorded_at, chain_id, seq, canonical) select recorded_at, chain_id, 100000, canonical from audit.event where chain_id = '${a}' and seq = 1`,
    ],
    finds: [
      { kind: 'seal_altered', chain: 0, batch: 0 },
      { kind: 'event_unsealed', chain: 0, seq: 100_000 },
    ],
  },
  {
    name: 'a seal over more events than there could be',
    sql: (a) => [
      `update audit.seal set canonical = convert_to(regexp_replace(convert_from(canonical, 'UTF8'), '"last":\\d+,"n":\\d+', '"last":9000000000000000,"n":9000000000000000'), 'UTF8') where chain_id = '${a}' and batch_no = 1`,
    ],
    finds: [
      { kind: 'signature_invalid', chain: 0, batch: 1 },
      { kind: 'event_missing', chain: 0, batch: 1, seq: 225 },
    ],
  },
  {
    name: 'a seal moved by less than a millisecond',
    sql: (a) => [
      `update audit.seal set sealed_at = sealed_at + interval '1 microsecond' where chain_id = '${a}' and batch_no = 2`,
    ],
    finds: [{ kind: 'seal_altered', chain: 0, batch: 2 }],
  },
  ...['head = null', 'dropped = dropped + 1', 'events = events - 1', 'last_seq = last_seq - 1'].map(
    (edit) => ({
      name: `a row of a chain with ${edit.split(' ')[0]} edited`,
      sql: (a: string) => [`update audit.chain set ${edit} where chain_id = '${a}'`],
      finds: [{ kind: 'chain_row_altered', chain: 0 } as const],
    }),
  ),
  {
    name: 'a chain under another id',
    sql: (a) =>
      TABLES.map(
        (table) =>
          `update audit.${table} set chain_id = '019ab000-0000-7000-8000-0000000e0e0e' where chain_id = '${a}'`,
      ),
    finds: [{ kind: 'chain_missing', chain: 0 }],
  },
  {
    name: 'a chain whose row is gone',
    sql: (a) => [`delete from audit.chain where chain_id = '${a}'`],
    finds: [{ kind: 'chain_row_altered', chain: 0 }],
  },
  {
    name: 'a chain of which only the row is there',
    sql: (_, b) =>
      ['event', 'seal', 'seal_leaves'].map((table) => `delete from audit.${table} where chain_id = '${b}'`),
    finds: [{ kind: 'chain_truncated', chain: 1 }],
  },
  {
    name: 'a row of a chain that says it goes on',
    sql: (a) => [`update audit.chain set final = not final where chain_id = '${a}'`],
    finds: [{ kind: 'chain_row_altered', chain: 0 }],
  },
  {
    name: 'a cut tail with the row of the chain made to match, but for its end',
    sql: (_, b) => [
      `delete from audit.event where chain_id = '${b}' and seq >= (select max(first_seq) from audit.seal where chain_id = '${b}')`,
      `delete from audit.seal_leaves where chain_id = '${b}' and batch_no = (select max(batch_no) from audit.seal where chain_id = '${b}')`,
      `delete from audit.seal where chain_id = '${b}' and batch_no = (select max(batch_no) from audit.seal where chain_id = '${b}')`,
      `update audit.chain as c set last_batch = s.batch_no, last_seq = s.last_seq, head = s.seal from audit.seal as s where c.chain_id = '${b}' and s.chain_id = c.chain_id and s.batch_no = (select max(batch_no) from audit.seal where chain_id = '${b}')`,
    ],
    finds: [{ kind: 'head_missing', chain: 1 }],
    options: (s) => ({ headFiles: s.heads }),
  },
  {
    name: "a last batch signed again with the writer's stolen key",
    act: (s) => resignLast(s, { dropped: 1 }),
    finds: [{ kind: 'head_differs', chain: 1 }],
    options: (s) => ({ headFiles: s.heads }),
  },
  {
    name: "a last batch signed again with the writer's stolen key and back-dated before it was revoked",
    act: (s) => resignLast(s, { time: '2001-01-01T00:00:00.000Z' }),
    finds: [{ kind: 'head_differs', chain: 1 }],
    options: (s) => ({ headFiles: s.heads }),
  },
];

const names = (report: VerifyReport): string =>
  report.findings.map((f) => `${f.kind} ${f.chain_id}/${f.batch_no}/${f.seq}`).join('\n');

for (const { name, sql, act, finds, options } of tampering) {
  test(`both verifiers name ${name}`, async (t) => {
    const s = await sealed.copy(t);
    if (act !== undefined) await act(s);
    else await tamper(s.owner, ...(sql?.(s.chains[0]!, s.chains[1]!) ?? []));
    const report = await verifyTwice({ databaseUrl: s.owner, trustFile: s.trustFile, ...options?.(s) });
    assert.equal(report.ok, false);
    for (const { kind, chain, batch, seq } of finds)
      assert.ok(
        report.findings.some(
          (f) =>
            f.kind === kind &&
            (chain === undefined || f.chain_id === s.chains[chain]) &&
            (batch === undefined || f.batch_no === batch) &&
            (seq === undefined || f.seq === seq),
        ),
        `${kind} at batch ${batch ?? '-'}, event ${seq ?? '-'} is not among\n${names(report)}`,
      );
  });
}

test('what the database says of signers is not evidence: edited, nothing else is believed', async (t) => {
  const s = await sealed.copy(t);
  await tamper(s.owner, `update audit.signer set origin_name = 'somebody', last_seen_at = '2001-01-01'`);
  const report = await verifyTwice({ databaseUrl: s.owner, trustFile: s.trustFile, headFiles: s.heads });
  assert.deepEqual([report.ok, report.findings], [true, []]);
});

test('both verifiers say that truncation is not checked when one writer of two has no head', async (t) => {
  const s = await sealed.copy(t);
  const other = await openLog(join(s.directory, 'other'), {
    database: { url: s.owner },
    keyFile: join(s.directory, 'audit-key.pem'),
  });
  assert.equal(await other.flush(FLUSH_MS), true);
  await other.close();
  const options = { databaseUrl: s.owner, trustFile: s.trustFile };
  const one = await verifyTwice({ ...options, headFiles: s.heads });
  assert.deepEqual([one.ok, one.chains, one.breaks, one.truncation], [true, 3, 2, 'not checked']);
  const heads = [...s.heads, join(s.directory, 'other', 'spool', 'head.json')];
  const both = await verifyTwice({ ...options, headFiles: heads });
  assert.deepEqual([both.ok, both.truncation], [true, 'checked']);
});

test('the second verifier reads a directory that psql alone wrote as it reads the database', {
  skip: secondVerifierMissing,
}, async (t) => {
  const s = await sealed.copy(t);
  await tamper(
    s.owner,
    `update audit.event set principal = 'eve' where chain_id = '${s.chains[0]!}' and seq = 7`,
  );
  const dump = temporaryDirectory(t, 'dump');
  const script = join(projectRoot, 'verifier/export.sql');
  const written = await runCommand(findProgram('psql') ?? '', [s.owner, '-X', '-q', '-f', script], {
    cwd: dump,
  });
  assert.equal(written.code, 0, written.stderr);
  const outside = ['--trust', s.trustFile, '--heads', ...s.heads, '--columns'];
  const fromDump = await runSecondVerifier(['--dump', dump, ...outside]);
  const fromDatabase = await runSecondVerifier(['--database', s.owner, ...outside]);
  assert.deepEqual([fromDump.code, fromDump.stdout], [1, fromDatabase.stdout]);
  assert.match(fromDump.stdout, /"kind": "column_altered".*"seq": 7.*principal/);

  // As many processes as are wanted say the same, byte for byte, whoever reads which chain.
  for (const source of [
    ['--dump', dump],
    ['--database', s.owner],
  ]) {
    const shared = await runSecondVerifier([...source, ...outside, '--workers', '3']);
    assert.deepEqual([shared.code, shared.stdout], [1, fromDatabase.stdout], shared.stderr);
  }

  const events = join(dump, 'events.copy');
  truncateSync(events, statSync(events).size - 10);
  const cut = await runSecondVerifier(['--dump', dump, ...outside]);
  assert.deepEqual([cut.code, cut.stdout], [2, '']);
  assert.match(cut.stderr, /ERR_AUDIT_DUMP_INVALID.*the last line is cut off/);
});

test('the second verifier never calls a trail verified that it could not read', {
  skip: secondVerifierMissing,
}, async (t) => {
  const s = await sealed.copy(t);
  const nobody = new URL(s.owner);
  nobody.pathname = '/not_there';
  const away = await runSecondVerifier(['--database', nobody.href, '--trust', s.trustFile]);
  assert.deepEqual([away.code, away.stdout], [3, '']);
  assert.match(away.stderr, /ERR_AUDIT_PSQL.*not_there/);
  assert.ok(!away.stderr.includes(nobody.password));
  // A reader that loses a table in the middle, not at the start.
  await tamper(s.owner, 'drop table audit.seal_leaves cascade');
  const broken = await runSecondVerifier(['--database', s.owner, '--trust', s.trustFile]);
  assert.deepEqual([broken.code, broken.stdout], [3, '']);
  const otherRoot = await runSecondVerifier([
    '--database',
    s.owner,
    '--trust',
    s.trustFile,
    '--root',
    'ab'.repeat(32),
  ]);
  assert.equal(otherRoot.code, 2);
  assert.match(otherRoot.stderr, /ERR_AUDIT_TRUST_INVALID/);
});
