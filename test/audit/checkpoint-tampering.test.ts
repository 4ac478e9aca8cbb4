import assert from 'node:assert/strict';
import { appendFileSync, cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { addSigner, openAuditKey, revokeSigner, signerOf } from '../../src/audit/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { type Closer, temporaryDirectory } from '../support/temporary.ts';
import { rowsOf, tamper } from './audit-fixture.ts';
import {
  checkpointsIn,
  checkpointStore,
  type CheckpointStore,
  found,
  linesOf,
  resigned,
  verifyStore,
  writeOnce,
} from './checkpoint-fixture.ts';
import { cutBehind } from './cut-behind.ts';

let server: TestPostgres;
let original: CheckpointStore;
const closing: (() => unknown)[] = [];
before(async () => {
  server = await startPostgres();
  original = await checkpointStore(
    server,
    temporaryDirectory({ after: (call: unknown) => void closing.push(call as () => unknown) }, 'checkpoints'),
  );
});
after(async () => {
  for (const close of closing) await close();
  await server.stop();
});

let copies = 0;
/** A copy of the store that a test may ruin. */
const copy = async (t: Closer): Promise<CheckpointStore> => {
  copies += 1;
  const owner = new URL(original.owner);
  const name = `${owner.pathname.slice(1)}_copy_${copies}`;
  await rowsOf(server.url, `create database ${name} template ${owner.pathname.slice(1)}`);
  const writer = new URL(original.writer);
  owner.pathname = writer.pathname = `/${name}`;
  const directory = temporaryDirectory(t, 'checkpoints');
  cpSync(original.directory, directory, { recursive: true });
  return {
    owner: owner.href,
    writer: writer.href,
    directory,
    trust: { rootKeyFile: join(directory, 'root.pem'), trustFile: join(directory, 'trust.json') },
    file: join(directory, 'checkpoints.jsonl'),
    chains: original.chains,
  };
};

const rewrite = (file: string, change: (lines: string[]) => string[]): void =>
  writeFileSync(
    file,
    change(linesOf(file))
      .map((line) => `${line}\n`)
      .join(''),
  );

const last = (store: CheckpointStore): string => store.chains.at(-1) ?? '';

test('checkpoints of a real writer verify, and anchor what none continues', async (t) => {
  const store = await copy(t);
  const report = await verifyStore(store);
  assert.deepEqual(found(report), []);
  assert.equal(report.checkpoints, 3);
  assert.equal(report.truncation, 'checked');
  const without = await verifyStore(store, { checkpointFiles: undefined });
  assert.deepEqual(found(without), []);
  assert.equal(without.checkpoints, null);
  assert.equal(without.truncation, 'not checked', 'rows of the database are no anchor');
  const [one, two, three] = checkpointsIn(store.file).map(({ checkpoint }) => checkpoint);
  assert.deepEqual([one?.number, two?.number, three?.number], [1, 2, 3]);
  assert.equal(three?.stored, two?.id, 'it names the one that the database had by then');
  assert.deepEqual(
    three?.heads.map(({ chain }) => chain),
    [last(store)],
    'chains that another one continues are witnessed by that one',
  );
});

test('a tail truncated together with its checkpoint is told by the file', async (t) => {
  const store = await copy(t);
  const head = checkpointsIn(store.file).at(-1)?.checkpoint.heads[0];
  await tamper(store.owner, ...cutBehind(last(store), 1), 'delete from audit.checkpoint where number = 3');
  const without = await verifyStore(store, { checkpointFiles: undefined });
  assert.deepEqual(found(without), [], 'nothing inside the database tells');
  assert.deepEqual(found(await verifyStore(store)), [
    `checkpoint_head_missing ${last(store)} ${head?.batch ?? '-'}`,
  ]);
});

test('a tail truncated without its checkpoint is told by the database itself', async (t) => {
  const store = await copy(t);
  const head = checkpointsIn(store.file).at(-1)?.checkpoint.heads[0];
  await tamper(store.owner, ...cutBehind(last(store), 1));
  assert.deepEqual(found(await verifyStore(store, { checkpointFiles: undefined })), [
    `checkpoint_head_missing ${last(store)} ${head?.batch ?? '-'}`,
  ]);
});

test('all chains and checkpoints truncated are told, and rows that the writer knew of are missed', async (t) => {
  const store = await copy(t);
  await tamper(
    store.owner,
    ...['event', 'seal_leaves', 'seal', 'chain', 'checkpoint'].map((table) => `delete from audit.${table}`),
  );
  const kinds = (await verifyStore(store)).findings.map(({ kind }) => kind).sort();
  assert.deepEqual(kinds, [
    ...['checkpoint_head_missing', 'checkpoint_head_missing', 'checkpoint_head_missing'],
    ...['checkpoint_missing', 'checkpoint_missing'],
  ]);
});

test('a row that was removed although a later line names it is missed', async (t) => {
  const store = await copy(t);
  await tamper(store.owner, 'delete from audit.checkpoint where number = 2');
  assert.deepEqual(found(await verifyStore(store)), ['checkpoint_missing']);
  assert.deepEqual(found(await verifyStore(store, { checkpointFiles: undefined })), []);
});

test('an edited line is told', async (t) => {
  const store = await copy(t);
  rewrite(store.file, ([one, two, three]) => [one!, two!.replace('"number":2', '"number":3'), three!]);
  assert.deepEqual(found(await verifyStore(store)), ['checkpoint_altered', 'checkpoint_line_missing']);
  rewrite(store.file, ([one, , three]) => [one!, '{"checkpoint":"none"}', three!]);
  assert.deepEqual(found(await verifyStore(store)), ['checkpoint_altered', 'checkpoint_line_missing']);
});

test('an edited row is told without a file, by its bytes, its signature and its columns', async (t) => {
  const edits: [string, string][] = [
    [
      'bytes',
      `canonical = convert_to(replace(convert_from(canonical, 'UTF8'), '"number":2', '"number":7'), 'UTF8')`,
    ],
    ['no checkpoint', `canonical = '\\x7b7d'`],
    ['signature', `signature = decode(repeat('00', 64), 'hex')`],
    ['number', 'number = 20'],
    ['series', `series = '019ab000-0000-7000-8000-000000000001'`],
    ['time', `made_at = made_at + interval '1 microsecond'`],
    ['signer', `signer = 's_00000000000000000000'`],
  ];
  const store = await copy(t);
  for (const [what, edit] of edits) {
    const [before] = await rowsOf(store.owner, 'select * from audit.checkpoint where number = 2');
    await tamper(store.owner, `update audit.checkpoint set ${edit} where number = 2`);
    const kinds = new Set(found(await verifyStore(store, { checkpointFiles: undefined })));
    assert.deepEqual([...kinds], ['checkpoint_altered'], what);
    await rowsOf(store.owner, 'select 1');
    await tamper(
      store.owner,
      `delete from audit.checkpoint where checkpoint_id = '${before!['checkpoint_id'] as string}'`,
    );
    await rowsOf(
      store.owner,
      `insert into audit.checkpoint (checkpoint_id, made_at, signer, signature, canonical, series, number, owner, recorded_at)
       values ($1, (convert_from($2, 'UTF8')::jsonb ->> 'time')::timestamptz, $3, $4, $2, $5, $6, $7, $8)`,
      ['checkpoint_id', 'canonical', 'signer', 'signature', 'series', 'number', 'owner', 'recorded_at'].map(
        (name) => before![name] as unknown,
      ),
    );
    assert.deepEqual(found(await verifyStore(store)), [], `${what}: put back`);
  }
});

test('a row that is another checkpoint than the line of its id is told', async (t) => {
  const store = await copy(t);
  const two = checkpointsIn(store.file)[1]!;
  const line = resigned(store, two, { own: null });
  const { signature } = JSON.parse(line) as { signature: string };
  const text = line.slice('{"checkpoint":'.length, line.indexOf(',"signature":'));
  await tamper(
    store.owner,
    `update audit.checkpoint set canonical = convert_to('${text}', 'UTF8'), signature = decode('${signature}', 'hex') where number = 2`,
  );
  assert.deepEqual(found(await verifyStore(store)), ['checkpoint_altered']);
  assert.deepEqual(
    found(await verifyStore(store, { checkpointFiles: undefined })),
    [],
    'the key is a real one',
  );
});

test('checkpoints forged by a key that is not vouched for are told, in the file and in the database', async (t) => {
  const store = await copy(t);
  const three = checkpointsIn(store.file)[2]!;
  const keyFile = join(store.directory, 'stranger.pem');
  openAuditKey(keyFile);
  const forged = resigned(store, three, { heads: [], own: null }, keyFile);
  rewrite(store.file, ([one, two]) => [one!, two!, forged]);
  const inFile = await verifyStore(store);
  assert.deepEqual(found(inFile), ['checkpoint_signer']);
  assert.equal(inFile.checkpoints, 2);
  assert.equal(inFile.truncation, 'not checked', 'what is not believed anchors nothing');
  const { checkpoint, signature } = JSON.parse(forged) as {
    checkpoint: { signer: string };
    signature: string;
  };
  const text = forged.slice('{"checkpoint":'.length, forged.indexOf(',"signature":'));
  await tamper(
    store.owner,
    `update audit.checkpoint set canonical = convert_to('${text}', 'UTF8'), signer = '${checkpoint.signer}',
       signature = decode('${signature}', 'hex') where number = 3`,
  );
  assert.deepEqual(found(await verifyStore(store, { checkpointFiles: undefined })), ['checkpoint_signer']);
});

test('checkpoints of a revoked signer are told, those from before the revocation are not', async (t) => {
  const store = await copy(t);
  const [{ checkpoint }] = checkpointsIn(store.file) as [ReturnType<typeof checkpointsIn>[0]];
  revokeSigner({ ...store.trust, signer: checkpoint.signer, clock: systemClock });
  assert.deepEqual(found(await verifyStore(store)), []);
  appendFileSync(
    store.file,
    `${resigned(store, checkpointsIn(store.file)[2]!, {
      id: '019ab000-0000-7000-8000-000000000001',
      number: 4,
      prev: checkpointsIn(store.file)[2]!.digest.toString('hex'),
      time: new Date(systemClock.nowMs() + 1_000).toISOString(),
    })}\n`,
  );
  assert.deepEqual(found(await verifyStore(store)), ['checkpoint_signer']);
});

test('a key for exports or for retention signs no checkpoint', async (t) => {
  const store = await copy(t);
  for (const kind of ['exporter', 'operator']) {
    const keyFile = join(store.directory, `${kind}.pem`);
    const { publicKey } = openAuditKey(keyFile);
    addSigner({ ...store.trust, publicKey, kind, name: kind, clock: systemClock });
    const line = resigned(store, checkpointsIn(store.file)[0]!, {}, keyFile);
    assert.ok(line.includes(signerOf(publicKey)));
    const extra = join(store.directory, `${kind}.jsonl`);
    writeFileSync(extra, `${line}\n`);
    assert.deepEqual(found(await verifyStore(store, { checkpointFiles: [store.file, extra] })), [
      'checkpoint_signer',
    ]);
  }
});

test('a line removed from the middle is told; one removed from the end is an older copy, and said', async (t) => {
  const store = await copy(t);
  const whole = readFileSync(store.file);
  rewrite(store.file, ([one, , three]) => [one!, three!]);
  assert.deepEqual(found(await verifyStore(store)), ['checkpoint_line_missing']);
  writeFileSync(store.file, whole);
  rewrite(store.file, ([one, two]) => [one!, two!]);
  const report = await verifyStore(store);
  assert.deepEqual(found(report), []);
  assert.ok(report.notes.includes('the database has 1 checkpoints later than those of the files'));
  assert.equal(report.truncation, 'not checked', 'no line that is left names the last chain');
  writeFileSync(store.file, whole);
  rewrite(store.file, ([, two, three]) => [two!, three!]);
  assert.deepEqual(found(await verifyStore(store)), [], 'the first ones may be in a file that was put aside');
});

test('a line cut in half by a crash is a note, at the end and in front of the same line again', async (t) => {
  const store = await copy(t);
  const whole = readFileSync(store.file, 'utf8');
  const note = '1 lines of checkpoint files were cut while they were written';
  writeFileSync(store.file, whole.slice(0, -200));
  const atEnd = await verifyStore(store);
  assert.deepEqual(found(atEnd), []);
  assert.ok(atEnd.notes.includes(note));
  await writeOnce(store, 100);
  assert.equal(
    readFileSync(store.file, 'utf8').startsWith(`${whole.slice(0, -200)}\n`),
    true,
    'nothing is rewritten',
  );
  const inside = await verifyStore(store);
  assert.deepEqual(found(inside), []);
  assert.ok(inside.notes.includes(note));
  assert.equal(inside.checkpoints, 4, 'the one that was cut came again, whole, before the next');
  rewrite(store.file, (lines) => lines.map((line, at) => (at === 2 ? `${line.slice(0, -1)}x` : line)));
  assert.deepEqual(
    found(await verifyStore(store)),
    ['checkpoint_altered'],
    'half a line of something else is no crash',
  );
});

test('the same line twice is one checkpoint; two under one number, or after another one, are a fork', async (t) => {
  const store = await copy(t);
  const [one, two, three] = checkpointsIn(store.file);
  appendFileSync(store.file, `${linesOf(store.file)[1]!}\n`);
  const again = await verifyStore(store);
  assert.deepEqual(found(again), []);
  assert.equal(again.checkpoints, 3);
  const rival = { id: '019ab000-0000-7000-8000-000000000001', own: null };
  appendFileSync(store.file, `${resigned(store, two!, rival)}\n`);
  assert.deepEqual(found(await verifyStore(store)), ['checkpoint_forked']);
  rewrite(store.file, ([first, second]) => [
    first!,
    second!,
    resigned(store, three!, { ...rival, prev: one!.digest.toString('hex') }),
  ]);
  assert.deepEqual(found(await verifyStore(store)), ['checkpoint_forked']);
});

test('another seal in the place of one that a checkpoint names is told, whoever sealed it', async (t) => {
  const store = await copy(t);
  const three = checkpointsIn(store.file)[2]!;
  const [head] = three.checkpoint.heads;
  rewrite(store.file, ([one, two]) => [
    one!,
    two!,
    resigned(store, three, {
      id: '019ab000-0000-7000-8000-000000000001',
      heads: [{ ...head!, seal: '0'.repeat(64) }],
    }),
  ]);
  assert.deepEqual(found(await verifyStore(store)), [
    `checkpoint_head_differs ${head!.chain} ${head!.batch}`,
  ]);
});

test('a seal that never came to the database is no finding, another one in its place is', async (t) => {
  const store = await copy(t);
  const three = checkpointsIn(store.file)[2]!;
  const own = three.checkpoint.own!;
  const withOwn = (changed: typeof own): string =>
    resigned(store, three, { id: '019ab000-0000-7000-8000-000000000001', own: changed });
  rewrite(store.file, ([one, two]) => [one!, two!, withOwn({ ...own, batch: own.batch + 1 })]);
  const report = await verifyStore(store);
  assert.deepEqual(found(report), []);
  assert.ok(report.notes.includes('1 batches that writers had sealed are not stored yet'));
  rewrite(store.file, ([one, two]) => [one!, two!, withOwn({ ...own, seal: '0'.repeat(64) })]);
  assert.deepEqual(found(await verifyStore(store)), [`checkpoint_head_differs ${own.chain} ${own.batch}`]);
});

test('a file alone is an anchor, one that cannot be read is an error', async (t) => {
  const store = await copy(t);
  assert.deepEqual(found(await verifyStore(store, { trustFile: undefined })), []);
  const empty = join(store.directory, 'empty.jsonl');
  writeFileSync(empty, '');
  const bare = await verifyStore(store, { trustFile: undefined, checkpointFiles: [empty] });
  assert.deepEqual(found(bare), ['no_anchor']);
  await assert.rejects(verifyStore(store, { checkpointFiles: [join(store.directory, 'none.jsonl')] }), {
    code: 'ERR_AUDIT_TRUST_INVALID',
  });
});
