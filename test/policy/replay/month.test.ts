import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ensureReaderRole } from '../../../src/audit/index.ts';
import type { PolicyInputBase } from '../../../src/policy/index.ts';
import { canonicalInput } from '../../../src/policy/input.ts';
import { askOpa } from '../../../src/policy/tool/opa-verdicts.ts';
import { systemClock } from '../../../src/runtime/index.ts';
import { auditDatabase, openLog, streamId, TEST_PASSWORD, urlAs } from '../../audit/audit-fixture.ts';
import { sallyport } from '../../support/command.ts';
import { startPostgres } from '../../support/postgres.ts';
import { keyOf, scratch, streamInput, testOpa } from '../support.ts';

const DAYS = 30;
const TUPLES = 50;
const CONNECTIONS = 5;
const HOURS = 6;
/** Streams of one tuple in one hour; with their ends 50 * 30 * 6 * 6 * 2 = 108,000 events. */
const STREAMS = 6;
const IN_FLIGHT = 2_000;
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const DEADLINE = { deadlineMs: 300_000 };

/** Who used what, from where, and when. Addresses and sources have a free one on either side. */
interface Tuple {
  readonly connection: string;
  readonly host: string;
  readonly port: number;
  readonly address: string;
  readonly principal: string;
  readonly source: string;
  /** First and last hour in which its streams are opened; the last stream of a day lasts until the hour after. */
  readonly from: number;
  readonly to: number;
}

const tuples: readonly Tuple[] = Array.from({ length: TUPLES }, (_, at) => {
  const place = at % CONNECTIONS;
  const from = (at * 7) % (24 - HOURS - 1);
  return {
    connection: `db${place}`,
    host: `db${place}.corp.example`,
    port: 5_000 + 10 * place,
    address: `10.1.${place}.${4 + 4 * (at % 3)}`,
    principal: `app-${at}`,
    source: `203.0.113.${4 * at + 2}`,
    from,
    to: from + HOURS - 1,
  };
});

const inputAt = (tuple: Tuple, unixMs: number, number: number, address?: string): PolicyInputBase => {
  const rfc3339 = `${new Date(unixMs).toISOString().slice(0, 19)}Z`;
  const hour = Number(rfc3339.slice(11, 13));
  const minute = Number(rfc3339.slice(14, 16));
  return streamInput({
    connection: { name: tuple.connection, id: 'c_1', labels: {} },
    target: {
      ...{ host: tuple.host, port: tuple.port, addresses: [tuple.address] },
      ...(address === undefined ? {} : { address }),
    },
    key: keyOf(tuple.principal),
    source: { gateway: 'gw1', gateway_proved: false, address: tuple.source },
    stream: { id: streamId(number), kind: 'tcp', attempt: 1 },
    time: {
      ...{ unix_ms: unixMs, rfc3339 },
      local: { date: rfc3339.slice(0, 10), weekday: 'tue', hour, minute, zone: 'UTC' },
    },
  });
};

/** Each stream's opening and end, in order of time. */
function* month(firstMs: number): Generator<{ atMs: number; tuple: Tuple; number: number; end: boolean }> {
  let number = 0;
  for (let day = 0; day < DAYS; day += 1)
    for (let hour = 0; hour < 24; hour += 1)
      for (const tuple of tuples) {
        if (hour < tuple.from || hour > tuple.to) continue;
        for (let index = 0; index < STREAMS; index += 1) {
          const atMs = firstMs + day * DAY_MS + (hour * 60 + 9 * index) * MINUTE_MS;
          const lastsMinutes = hour === tuple.to && index === STREAMS - 1 ? 30 : 5;
          number += 1;
          yield { atMs, tuple, number, end: false };
          yield { atMs: atMs + lastsMinutes * MINUTE_MS, tuple, number, end: true };
        }
      }
}

const recordMonth = async (t: TestContext): Promise<{ database: string; events: number }> => {
  const server = await startPostgres();
  t.after(() => server.stop());
  const { owner, writer } = await auditDatabase(server);
  await ensureReaderRole(owner, 'reader_1', TEST_PASSWORD);
  let nowMs = 0;
  const clock = { ...systemClock, nowMs: () => nowMs };
  const origin = {
    ...({ kind: 'agent' } as const),
    ...{ name: 'agent-1', instance: 'i-1', namespace: 'relay.example.com' },
    ...{ version: '0.1.0', zone: 'UTC' },
  };
  const today = Math.floor(Date.now() / DAY_MS) * DAY_MS;
  const firstMs = today - DAYS * DAY_MS;
  nowMs = firstMs;
  const log = await openLog(scratch(t), { database: { url: writer }, clock, origin });
  let events = 0;
  let pending: Promise<unknown>[] = [];
  for (const { atMs, tuple, number, end } of month(firstMs)) {
    nowMs = atMs;
    const subject = {
      ...{ connection: tuple.connection, principal: tuple.principal },
      ...{ stream_id: streamId(number), attempt: 1 },
    };
    events += 1;
    pending.push(
      end
        ? log.record({
            type: 'stream.close',
            subject,
            data: { reason: 'client_fin', reason_number: 1, bytes_up: 1, bytes_down: 1, duration_ms: 1 },
          })
        : log.record({
            type: 'stream.decision',
            subject,
            data: {
              ...{ allow: true, decided_by: 'policy', rule: `${tuple.connection}-${tuple.principal}` },
              rules: {
                publish: [`${tuple.connection}-publish`],
                stream: [`${tuple.connection}-${tuple.principal}`],
              },
              input: canonicalInput(inputAt(tuple, atMs, number)),
              candidates: [{ address: tuple.address, verdict: 'allowed' }],
              reasons: [],
            },
          }),
    );
    if (pending.length < IN_FLIGHT) continue;
    await Promise.all(pending);
    pending = [];
  }
  await Promise.all(pending);
  await log.flush(300_000);
  await log.close();
  return { database: urlAs(owner, 'reader_1'), events };
};

const plusOne = (address: string): string => {
  const parts = address.split('.');
  return [...parts.slice(0, 3), Number(parts[3]) + 1].join('.');
};

/** What differs from a seen tuple in one dimension and was never seen. */
const neighboursOf = (tuple: Tuple, atMs: number): Record<string, PolicyInputBase> => {
  const at = (change: Partial<Tuple>, hour?: number): PolicyInputBase => {
    const other = { ...tuple, ...change };
    const dayMs = Math.floor(atMs / DAY_MS) * DAY_MS;
    return inputAt(other, hour === undefined ? atMs : dayMs + hour * 60 * MINUTE_MS, 1, other.address);
  };
  return {
    connection: at({ connection: `${tuple.connection}x` }),
    target: at({ host: `x${tuple.host}` }),
    port: at({ port: tuple.port + 1 }),
    address: at({ address: plusOne(tuple.address) }),
    principal: at({ principal: `${tuple.principal}x` }),
    source: at({ source: plusOne(tuple.source) }),
    'hour after': at({}, (tuple.to + 2) % 24),
    'hour before': at({}, (tuple.from + 23) % 24),
  };
};

const seenBy = (tuple: Tuple): number[] => {
  const firstMs = Date.UTC(2027, 0, 4);
  // Its last stream is still open in the hour after the last opening.
  return Array.from({ length: HOURS + 1 }, (_, hour) => firstMs + (tuple.from + hour) * 60 * MINUTE_MS);
};

test('a proposal from a month allows all that was seen, and a neighbour of it in each dimension not', async (t) => {
  const opa = await testOpa();
  const { database, events } = await recordMonth(t);
  assert.ok(events >= 100_000, `${events} events`);
  const directory = join(scratch(t), 'proposal');
  const from = ['--database', database, '--since', '40d'];
  const proposed = ['propose', ...from, '-o', directory, '--owner', 'sec@example.com', '--expires', 'never'];
  const run = await sallyport(['--json', 'policy', ...proposed], DEADLINE);
  assert.equal(run.code, 0, run.stdout + run.stderr);
  const { ok, replay } = JSON.parse(run.stdout) as { ok: boolean; replay: Record<string, number> };
  assert.deepEqual([ok, replay['same']], [true, events / 2], 'by the same rules, all of them');

  // Independently of the engine that proved it: what opa's own evaluator says.
  const asked = tuples.flatMap((tuple) =>
    seenBy(tuple).flatMap((atMs) => [
      { what: 'seen', tuple, allow: true, input: inputAt(tuple, atMs, 1, tuple.address) },
      ...Object.entries(neighboursOf(tuple, atMs)).map(([what, input]) => ({
        ...{ what, tuple, input },
        allow: false,
      })),
    ]),
  );
  const answers = await askOpa(
    opa,
    directory,
    asked.map(({ input }) => input),
  );
  const wrong = asked.filter(({ allow }, index) => {
    const answer = answers[index];
    return answer?.ok !== true || answer.verdict.allow !== allow;
  });
  assert.deepEqual(
    wrong.map(({ what, tuple, input }) => `${what} of ${tuple.principal} at ${input.time.local.hour}`),
    [],
  );

  await t.test('its own vectors hold in opa and in the engine', async () => {
    const tested = await sallyport(['policy', 'test', directory], DEADLINE);
    assert.equal(tested.code, 0, tested.stdout + tested.stderr);
    const vectors = readFileSync(join(directory, 'vectors/db0.yaml'), 'utf8');
    for (const what of ['connection', 'target', 'port', 'address', 'agent', 'hour'])
      assert.match(vectors, new RegExp(`no other ${what}`), what);
    for (const what of ['for nobody else', 'from nowhere else']) assert.ok(vectors.includes(what), what);
  });

  await t.test('unused names the one rule that nothing of it needed', async () => {
    const unused = ['--json', 'policy', 'unused', ...from, '--bundle', directory, '--all'];
    const ids = async (): Promise<string[]> => {
      const listed = await sallyport(unused, DEADLINE);
      assert.equal(listed.code, 0, listed.stderr);
      const { rules } = JSON.parse(listed.stdout) as { rules: { id: string; decisions: number }[] };
      return rules.filter(({ decisions }) => decisions === 0).map(({ id }) => id);
    };
    assert.deepEqual(await ids(), []);
    const file = join(directory, 'sallyport/allow/db0.rego');
    const rule = `
# METADATA
# title: Nobody needs it
# custom: {id: forgotten, owner: sec@example.com, ticket: none, expires: never}
stream["db0"] contains rego.metadata.rule() if {
	input.key.principal == "left-long-ago"
}
`;
    writeFileSync(file, readFileSync(file, 'utf8') + rule);
    assert.deepEqual(await ids(), ['forgotten']);
  });
});
