import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { verifyAudit, type VerifyReport } from '../../src/audit/index.ts';
import { type Clock, systemClock } from '../../src/runtime/index.ts';
import { sallyport } from '../support/command.ts';
import { decision, openLog, rowsOf, tamper, urlAs } from './audit-fixture.ts';
import { type Store, useSealedStore } from './sealed-store.ts';
import type { Closer } from '../support/temporary.ts';

const FLUSH_MS = 20_000;

/** By its time no second passes: the file is written at the end only, whatever the end is. */
const STILL: Clock = { ...systemClock, monotonicMs: () => 0 };

const sealed = useSealedStore();

const verify = (s: Store, options: object = {}): Promise<VerifyReport> =>
  verifyAudit({
    databaseUrl: s.owner,
    trustFile: s.trustFile,
    headFiles: s.heads,
    resumeFile: join(s.directory, 'verified.json'),
    workers: 2,
    pieceBatches: 1,
    clock: STILL,
    ...options,
  });

/** Statements by which whoever reads the leaves of the last batch of the later chain meets with `expression`. */
const trap = (s: Store, declaration: string, expression: string): Promise<void> => {
  const chain = [...s.chains].sort().at(-1) ?? '';
  return tamper(
    s.owner,
    `create function public.trap() returns bytea language plpgsql volatile as $$ ${declaration} $$`,
    'alter table audit.seal_leaves rename to seal_leaves_kept',
    `create view audit.seal_leaves as select recorded_at, chain_id, batch_no,
       case when chain_id = '${chain}' and batch_no = (select max(batch_no) from audit.seal_leaves_kept where chain_id = '${chain}')
         then ${expression} else leaves end as leaves
     from audit.seal_leaves_kept`,
  );
};

const untrap = (s: Store): Promise<void> =>
  tamper(s.owner, 'drop view audit.seal_leaves', 'alter table audit.seal_leaves_kept rename to seal_leaves');

const deaths: readonly { name: string; body: string; message: RegExp }[] = [
  {
    name: 'that meets an error',
    body: "begin raise exception 'no such block' using errcode = 'XX001'; end",
    message: /no such block \(XX001\)/,
  },
  {
    name: 'whose connection is ended',
    body: 'begin perform pg_terminate_backend(pg_backend_pid()); return null; end',
    message: /terminat/i,
  },
];

const batches = async (s: Store): Promise<number> => {
  const [row] = await rowsOf(s.owner, 'select count(*)::int as n from audit.seal');
  return Number(row?.['n']);
};

for (const { name, body, message } of deaths) {
  test(`a thread ${name} ends the run with an error; what was verified before is taken up by the next`, async (t: Closer) => {
    const s = await sealed.copy(t);
    await trap(s, body, 'public.trap()');
    await assert.rejects(verify(s), { code: 'ERR_AUDIT_DATABASE', message });
    const { chains } = JSON.parse(readFileSync(join(s.directory, 'verified.json'), 'utf8')) as {
      chains: { chain: string }[];
    };
    assert.ok(chains.length > 0);
    await untrap(s);
    const rest = await verify(s);
    assert.deepEqual([rest.ok, rest.coverage, rest.findings], [true, 'resumed', []]);
    assert.ok(rest.not_read !== null && rest.not_read.seals > 0 && rest.seals > 0);
    assert.equal(rest.not_read.seals + rest.seals, await batches(s));
  });
}

/** Batches from which on the command takes two threads. */
const TWO_THREADS = 201;
/** V8 ends a thread that has no room left, or the whole process: both must leave a whole file. */
const SMALL_HEAP = { NODE_OPTIONS: '--max-old-space-size=96' };

const commands: readonly { name: string; body: string; env: Record<string, string>; said: RegExp }[] = [
  {
    name: 'loses its connection',
    body: 'begin perform pg_terminate_backend(pg_backend_pid()); return null; end',
    env: {},
    said: /cannot be verified: .*terminat.*ERR_AUDIT_DATABASE/is,
  },
  {
    name: 'runs out of memory',
    body: "begin return decode(repeat('00', 200000000), 'hex'); end",
    env: SMALL_HEAP,
    said: /memory/,
  },
];

for (const { name, body, env, said } of commands) {
  test(`the command does not exit 0 when a thread of it ${name}; run again it goes on and finishes`, async (t: Closer) => {
    const copy = await sealed.copy(t);
    const file = join(copy.directory, 'verified.json');
    const args = ['audit', 'verify', '--database', copy.owner, '--trust', copy.trustFile];
    const run = (more: Record<string, string> = {}): ReturnType<typeof sallyport> =>
      sallyport([...args, '--heads', ...copy.heads, '--workers', '2', '--resume', file], { env: more });
    assert.equal((await run()).code, 0);
    const log = await openLog(copy.directory, { database: { url: urlAs(copy.owner, 'writer_1') } });
    for (let n = 0; n < TWO_THREADS; n += 1) {
      await log.record(decision(20_000 + n));
      assert.equal(await log.flush(FLUSH_MS), true);
    }
    const s = { ...copy, chains: [...copy.chains, log.chainId] };
    await log.close();
    await trap(s, body, 'public.trap()');
    const died = await run(env);
    // 3: the database; null and 134: V8 has ended the process.
    assert.ok(died.code === 3 || died.code === null || died.code === 134, String(died.code));
    assert.match(died.stderr, said);
    assert.ok((JSON.parse(readFileSync(file, 'utf8')) as { chains: object[] }).chains.length >= 2);
    await untrap(s);
    const rest = await run();
    assert.equal(rest.code, 0, rest.stdout + rest.stderr);
    assert.match(rest.stdout, /not read again/);
  });
}
