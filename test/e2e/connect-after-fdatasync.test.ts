import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { connectTcp } from '../../src/agent/dialler.ts';
import { startAgentHere } from '../support/agent-in-process.ts';
import { createDeployment } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { askOnce, dial, echo, readToEnd } from '../support/sockets.ts';

const ONE_BY_ONE = 20;
const AT_ONCE = 60;

interface FileOperation {
  readonly operation: string;
  readonly start_ns: string;
  readonly end_ns: string;
  readonly ok: boolean;
  readonly file?: number;
  readonly ids?: readonly string[];
}

const readTrace = (file: string): FileOperation[] =>
  readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as FileOperation);

/** When each event's bytes were on disk: the end of the first fdatasync that began after its write. */
const durableAt = (trace: readonly FileOperation[]): Map<string, bigint> => {
  const durable = new Map<string, bigint>();
  for (const [index, write] of trace.entries()) {
    if (write.operation !== 'writev' || !write.ok || write.ids === undefined) continue;
    const sync = trace
      .slice(index + 1)
      .find(
        (later) =>
          later.operation === 'fdatasync' &&
          later.ok &&
          later.file === write.file &&
          BigInt(later.start_ns) >= BigInt(write.end_ns),
      );
    if (sync === undefined) continue;
    for (const id of write.ids) if (!durable.has(id)) durable.set(id, BigInt(sync.end_ns));
  }
  return durable;
};

test('a target is dialled only after the fdatasync of its decision has returned', async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  const traceFile = join(deployment.directory, 'trace.jsonl');
  const faultFile = join(deployment.directory, 'faults');
  deployment.start('relay');
  await deployment.ready('relay');
  const connects: bigint[] = [];
  await startAgentHere(
    t,
    deployment,
    { traceFile, faultFile },
    {
      connect: (address, port) => {
        connects.push(process.hrtime.bigint());
        return connectTcp(address, port);
      },
    },
  );
  deployment.start('gateway');
  await deployment.ready('gateway');
  const address = deployment.listenOf('shop');

  for (let i = 0; i < ONE_BY_ONE; i++) await askOnce(t, address, `one ${i}`);
  await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => askOnce(t, address, `together ${i}`)));
  const streams = ONE_BY_ONE + AT_ONCE;
  assert.equal(connects.length, streams);

  const decisions = await eventually('the decisions have arrived', async () => {
    const rows = await deployment.rows<{ event_id: string }>(
      `select event_id from audit.event
         where type = 'stream.decision' and connection = 'shop' and decided_by = 'policy' order by seq`,
    );
    return rows.length >= streams ? rows.map((row) => row.event_id) : undefined;
  });
  const durable = durableAt(readTrace(traceFile));
  const times = decisions.map((id) => {
    const at = durable.get(id);
    assert.ok(at !== undefined, `decision ${id} is not in the trace of the spool`);
    return at;
  });

  for (let i = 0; i < ONE_BY_ONE; i++) {
    assert.ok(
      (times[i] ?? 0n) < (connects[i] ?? 0n),
      `stream ${i} was dialled ${(times[i] ?? 0n) - (connects[i] ?? 0n)} ns before its decision was on disk`,
    );
  }
  const sorted = [...times].sort((a, b) => (a < b ? -1 : 1));
  for (const [index, connect] of connects.entries()) {
    const onDisk = sorted.filter((time) => time < connect).length;
    assert.ok(onDisk >= index + 1, `connect ${index + 1} with only ${onDisk} decisions on disk`);
  }

  await t.test('when fdatasync fails, nobody is dialled and the stream is refused', async () => {
    writeFileSync(faultFile, 'fdatasync open');
    const before = connects.length;
    const end = await readToEnd(dial(t, address));
    assert.equal(end.how, 'ECONNRESET');
    assert.equal(connects.length, before);
    const why = await deployment.command('why', 'shop');
    assert.match(why.stdout, /audit_unavailable/);
    assert.ok(existsSync(faultFile));
    rmSync(faultFile);
    assert.equal(
      await eventually('the spool recovers', () => askOnce(t, address, 'after the fault')),
      'after the fault',
    );
  });
});
