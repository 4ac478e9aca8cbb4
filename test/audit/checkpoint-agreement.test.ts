import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  type Checkpoint,
  type CheckpointHead,
  checkpointLine,
  type SignedCheckpoint,
  signCheckpoint,
} from '../../src/audit/checkpoint/checkpoint.ts';
import { type AuditKey, openAuditKey, revokeSigner, type VerifyReport } from '../../src/audit/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import type { Closer } from '../support/temporary.ts';
import { rowsOf, tamper } from './audit-fixture.ts';
import { verifyTwice } from './both-verifiers.ts';
import { type Store, useSealedStore } from './sealed-store.ts';

const SERIES = '019ab000-0000-7000-8000-00000000c000';
const COUNT = 4;

const sealed = useSealedStore();

const idOf = (number: number): string =>
  `019ab000-0000-7000-8000-00000000d${number.toString(16).padStart(3, '0')}`;

interface Kept extends Store {
  readonly key: AuditKey;
  readonly file: string;
  readonly checkpoints: readonly SignedCheckpoint[];
  readonly heads: readonly string[];
}

const headsOf = async (owner: string): Promise<CheckpointHead[]> => {
  const rows = await rowsOf(
    owner,
    `select distinct on (chain_id) chain_id as chain, batch_no::int as batch, encode(seal, 'hex') as seal
     from audit.seal order by chain_id, batch_no desc`,
  );
  return rows as CheckpointHead[];
};

/** A series of checkpoints that continue one another; `change` is what one of them says instead. */
const seriesOf = (
  heads: CheckpointHead[],
  key: AuditKey,
  change: (number: number) => Partial<Checkpoint> = () => ({}),
): SignedCheckpoint[] => {
  const made: SignedCheckpoint[] = [];
  for (let number = 1; number <= COUNT; number += 1) {
    const last = made.at(-1);
    const next = {
      id: idOf(number),
      series: SERIES,
      number,
      prev: last?.digest.toString('hex') ?? null,
      stored: last?.checkpoint.id ?? null,
      time: new Date(Date.UTC(2026, 0, 2, 3, number)).toISOString(),
      own: heads[1] ?? null,
      heads,
      omitted: 0,
      ...change(number),
    };
    made.push(signCheckpoint(next, key));
  }
  return made;
};

const insertRow = ({ checkpoint, text, signature }: SignedCheckpoint): string =>
  `insert into audit.checkpoint (checkpoint_id, series, number, made_at, signer, signature, canonical, owner, recorded_at)
   values ('${checkpoint.id}', '${checkpoint.series}', ${checkpoint.number}, '${checkpoint.time}', '${checkpoint.signer}',
     decode('${signature.toString('hex')}', 'hex'), convert_to('${text}', 'UTF8'), 'writer_1', now())`;

const writeLines = (file: string, lines: readonly (SignedCheckpoint | string)[]): void =>
  writeFileSync(
    file,
    lines.map((line) => (typeof line === 'string' ? line : `${checkpointLine(line)}\n`)).join(''),
  );

/** A copy of the store whose writer has made checkpoints, in a file and in the database. */
const keptStore = async (t: Closer): Promise<Kept> => {
  const store = await sealed.copy(t);
  const key = openAuditKey(join(store.directory, 'audit-key.pem'));
  const checkpoints = seriesOf(await headsOf(store.owner), key);
  const file = join(store.directory, 'checkpoints.jsonl');
  writeLines(file, checkpoints);
  await tamper(store.owner, ...checkpoints.map(insertRow));
  return { ...store, key, file, checkpoints };
};

const verify = (s: Kept, options: object = {}): Promise<VerifyReport> =>
  verifyTwice({ databaseUrl: s.owner, trustFile: s.trustFile, checkpointFiles: [s.file], ...options });

const kinds = (report: VerifyReport): string[] =>
  [...new Set(report.findings.map((finding) => finding.kind))].sort();

test('checkpoints that are whole have no finding, and are heads of the chains that they name', async (t) => {
  const s = await keptStore(t);
  const report = await verify(s);
  assert.deepEqual(report.findings, []);
  assert.deepEqual([report.checkpoints, report.truncation], [COUNT, 'checked']);
  const rows = await verify(s, { checkpointFiles: undefined });
  assert.deepEqual([rows.findings, rows.checkpoints, rows.truncation], [[], null, 'not checked']);
  const untrusted = await verify(s, { trustFile: undefined });
  assert.deepEqual(untrusted.findings, []);
});

const tampering: readonly {
  readonly name: string;
  readonly act: (s: Kept) => Promise<void> | void;
  readonly kinds: readonly string[];
}[] = [
  {
    name: 'a tail cut so that nothing in the database tells of it',
    act: (s) => {
      const chain = s.chains[1] ?? '';
      const last = `(select max(batch_no) from audit.seal where chain_id = '${chain}')`;
      return tamper(
        s.owner,
        `delete from audit.event where chain_id = '${chain}' and seq >= (select first_seq from audit.seal where chain_id = '${chain}' and batch_no = ${last})`,
        `delete from audit.seal_leaves where chain_id = '${chain}' and batch_no = ${last}`,
        `delete from audit.seal where chain_id = '${chain}' and batch_no = ${last}`,
        `update audit.chain as c set last_batch = s.batch_no, last_seq = s.last_seq, head = s.seal, final = s.final,
           events = s.last_seq from audit.seal as s where c.chain_id = '${chain}' and s.chain_id = c.chain_id and s.batch_no = ${last}`,
      );
    },
    kinds: ['checkpoint_head_missing'],
  },
  {
    name: 'a chain dropped whole',
    act: (s) =>
      tamper(
        s.owner,
        ...['event', 'seal_leaves', 'seal', 'chain'].map(
          (table) => `delete from audit.${table} where chain_id = '${s.chains[1] ?? ''}'`,
        ),
      ),
    kinds: ['checkpoint_head_missing'],
  },
  {
    name: 'a head of another digest',
    act: (s) => {
      const [first, second] = s.checkpoints[0]?.checkpoint.heads ?? [];
      assert.ok(first !== undefined && second !== undefined);
      writeLines(s.file, seriesOf([first, { ...second, seal: '0'.repeat(64) }], s.key));
      return tamper(s.owner, 'delete from audit.checkpoint');
    },
    kinds: ['checkpoint_head_differs', 'checkpoint_missing'],
  },
  {
    name: 'the rows taken away',
    act: (s) => tamper(s.owner, 'delete from audit.checkpoint'),
    kinds: ['checkpoint_missing'],
  },
  {
    name: 'one row taken away',
    act: (s) => tamper(s.owner, `delete from audit.checkpoint where number = 2`),
    kinds: ['checkpoint_missing'],
  },
  {
    name: 'the columns of a row edited',
    act: (s) => tamper(s.owner, `update audit.checkpoint set number = 40 where number = 2`),
    kinds: ['checkpoint_altered'],
  },
  {
    name: 'the bytes of a row edited',
    act: (s) =>
      tamper(
        s.owner,
        `update audit.checkpoint set canonical = convert_to(replace(convert_from(canonical, 'UTF8'), '"omitted":0', '"omitted":1'), 'UTF8') where number = 2`,
      ),
    kinds: ['checkpoint_altered'],
  },
  {
    name: 'a row that is none any more',
    act: (s) => tamper(s.owner, `update audit.checkpoint set canonical = 'x' where number = 2`),
    kinds: ['checkpoint_altered'],
  },
  {
    name: 'the signature of a row edited',
    act: (s) =>
      tamper(
        s.owner,
        `update audit.checkpoint set signature = decode(repeat('00', 64), 'hex') where number = 2`,
      ),
    kinds: ['checkpoint_altered'],
  },
  {
    name: 'a row signed anew that says something else than the line',
    act: async (s) => {
      const other = seriesOf(await headsOf(s.owner), s.key, () => ({ omitted: 3 }));
      await tamper(s.owner, 'delete from audit.checkpoint', ...other.map(insertRow));
    },
    kinds: ['checkpoint_altered'],
  },
  {
    name: 'a line edited',
    act: (s) => {
      const [one, two, three, four] = s.checkpoints.map(checkpointLine);
      writeLines(
        s.file,
        [one, two?.replace('"omitted":0', '"omitted":1'), three, four].map((line) => `${line}\n`),
      );
    },
    kinds: ['checkpoint_altered', 'checkpoint_line_missing'],
  },
  {
    name: 'a line taken out',
    act: (s) => writeLines(s.file, [...s.checkpoints.slice(0, 1), ...s.checkpoints.slice(2)]),
    kinds: ['checkpoint_line_missing'],
  },
  {
    name: 'two lines taken out at two places',
    act: (s) => writeLines(s.file, [s.checkpoints[0] ?? '', s.checkpoints[3] ?? '']),
    kinds: ['checkpoint_line_missing'],
  },
  {
    name: 'a second line of one number',
    act: (s) => {
      const others = seriesOf([...(s.checkpoints[0]?.checkpoint.heads ?? [])], s.key, (number) =>
        number === 3 ? { omitted: 9, id: idOf(99) } : {},
      );
      writeLines(s.file, [...s.checkpoints, others[2] ?? '']);
    },
    kinds: ['checkpoint_forked'],
  },
  {
    name: 'a line that continues another than the one before it',
    act: (s) => {
      const others = seriesOf([...(s.checkpoints[0]?.checkpoint.heads ?? [])], s.key, (number) =>
        number === 3 ? { prev: 'ab'.repeat(32) } : {},
      );
      writeLines(s.file, others);
      return tamper(s.owner, 'delete from audit.checkpoint', ...others.map(insertRow));
    },
    kinds: ['checkpoint_forked'],
  },
  {
    name: 'lines of a key that nobody vouched for',
    act: (s) => {
      const thief = openAuditKey(join(s.directory, 'thief.pem'));
      writeLines(s.file, seriesOf([...(s.checkpoints[0]?.checkpoint.heads ?? [])], thief));
    },
    kinds: ['checkpoint_signer'],
  },
  {
    name: 'lines of a writer that was revoked before',
    act: (s) => {
      revokeSigner({
        rootKeyFile: join(s.directory, 'root.pem'),
        trustFile: s.trustFile,
        signer: s.key.signer,
        clock: { ...systemClock, nowMs: () => Date.UTC(2020, 0, 1) },
      });
    },
    kinds: ['checkpoint_signer', 'signer_revoked'],
  },
  {
    name: 'lines that are none',
    act: (s) =>
      writeLines(s.file, [
        ...s.checkpoints,
        'x\n',
        '{"checkpoint":{},"signature":""}\n',
        `${'['.repeat(100_000)}\n`,
        '{"checkpoint":1e999,"signature":"00"}\n',
        '{"checkpoint":"\\ud800","signature":"00"}\n',
        `{"checkpoint":${'9'.repeat(5000)},"signature":"00"}\n`,
      ]),
    kinds: ['checkpoint_altered'],
  },
  {
    name: 'a line of more than a mebibyte',
    act: (s) =>
      writeLines(s.file, [`${checkpointLine(s.checkpoints[0] ?? assert.fail())}${' '.repeat(1 << 20)}\n`]),
    kinds: ['checkpoint_altered'],
  },
];

for (const { name, act, kinds: expected } of tampering) {
  test(`both verifiers name, of checkpoints, ${name}`, async (t) => {
    const s = await keptStore(t);
    await act(s);
    assert.deepEqual(kinds(await verify(s)), [...expected].sort());
  });
}

test('what a crash leaves of a file, repeats and other white space are no finding', async (t) => {
  const s = await keptStore(t);
  const [one = '', two = '', three = '', four = ''] = s.checkpoints.map(checkpointLine);
  const spaced = four.replaceAll(',"', ' , "');
  writeLines(s.file, [
    `${one}\n\n${one}\n`,
    `${two.slice(0, 300)}\n${two}\n`,
    `${three}\n${spaced}\n`,
    two.slice(0, 90),
  ]);
  const report = await verify(s);
  assert.deepEqual([report.findings, report.checkpoints], [[], COUNT]);
  writeLines(s.file, [`${one}\n${two}`]);
  assert.deepEqual((await verify(s)).checkpoints, 2);
  const other = join(s.directory, 'other.jsonl');
  writeLines(s.file, [one, '\n']);
  writeLines(other, [`${two}\n${three}\n${four}\n`]);
  const both = await verify(s, { checkpointFiles: [s.file, other] });
  assert.deepEqual([both.findings, both.checkpoints], [[], COUNT]);
});
