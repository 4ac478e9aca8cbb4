import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { runCommand, sallyport } from '../support/command.ts';
import { createDeployment, transparently } from '../support/deployment.ts';
import { startDns } from '../support/dns-server.ts';
import { eventually } from '../support/eventually.ts';
import { createPrivateNetwork } from '../support/private-network.ts';
import { families } from './families.ts';
import type { DriverCase, PublishedTarget } from './family.ts';
import { SHARED_TARGETS, startSharedServers } from './servers.ts';

// What drivers.test.ts runs on a machine of its own.

/** Of one case, which starts a JVM at most. */
const DEADLINE_MS = 120_000;
/** At a time: most of them wait. */
const LANES = 4;

const runCase = async (theCase: DriverCase, how: string): Promise<void> => {
  const { code, stdout, stderr } = await runCommand(theCase.program, theCase.args, {
    deadlineMs: DEADLINE_MS,
    ...(theCase.env === undefined ? {} : { env: theCase.env }),
    ...(theCase.input === undefined ? {} : { input: theCase.input }),
  });
  const said = `${theCase.name}, ${how}: exit ${code}\n${stdout}\n${stderr}`;
  assert.equal(code, 0, said);
  if (typeof theCase.prints === 'string') assert.equal(stdout, theCase.prints, said);
  else assert.match(stdout, theCase.prints, said);
};

const runAll = async (t: TestContext, cases: readonly DriverCase[], how: string): Promise<void> => {
  const left = [...cases];
  const lane = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      const theCase = next;
      await t.test(`${theCase.name}: ${how}`, () => runCase(theCase, how));
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
};

test('drivers with the connection strings of the private network', async (t) => {
  const network = await createPrivateNetwork(t);
  const dns = await startDns(t, {}, 53);
  await startSharedServers(t, network);
  const targets: Record<string, PublishedTarget> = { ...SHARED_TARGETS };
  const cases: DriverCase[] = [];
  for (const family of families) {
    const { targets: more, cases: added } = await family.setUp(t, network);
    Object.assign(targets, more);
    cases.push(...added);
  }
  for (const { host } of Object.values(targets)) network.addressOf(host);
  for (const [host, address] of network.addresses) dns.records.set(host, [address]);

  await runAll(t, cases, 'directly');

  const publish = Object.fromEntries(
    Object.entries(targets).map(([name, { host, port }]) => [name, `${host}:${port}`]),
  );
  const deployment = await createDeployment(t, { publish, edit: { gateway: transparently(publish) } });
  const applied = await sallyport(['hosts', 'apply', '-c', deployment.gatewayFile]);
  assert.equal(applied.code, 0, applied.stderr);
  await deployment.startAll();

  await runAll(t, cases, 'through the tunnel');

  await t.test('the trail has every stream, with address and bytes, and nothing else', async () => {
    const wanted = new Set(cases.map(({ connection }) => connection));
    const rows = await eventually('every connection is in the trail, its streams ended', async () => {
      const found = await deployment.rows<{
        connection: string;
        target_addr: string;
        streams: number;
        open: number;
        unasked: number;
        unanswered: number;
      }>(
        `select connection, host(target_addr) as target_addr, count(*)::int as streams,
           count(*) filter (where closed_at is null)::int as open,
           count(*) filter (where bytes_up = 0)::int as unasked,
           count(*) filter (where bytes_down = 0)::int as unanswered
         from audit.streams group by 1, 2`,
      );
      const isAll = [...wanted].every((name) => found.some(({ connection }) => connection === name));
      return isAll && found.every(({ open }) => open === 0) ? found : undefined;
    });
    for (const { connection, target_addr, streams, unasked, unanswered } of rows) {
      const host = targets[connection]?.host ?? '';
      assert.equal(target_addr, network.addressOf(host), connection);
      const bounds = cases.filter((theCase) => theCase.connection === connection);
      const silent = bounds.reduce((sum, theCase) => sum + (theCase.unanswered ?? 0), 0);
      assert.equal(unasked, 0, `${connection}: a stream without bytes`);
      assert.equal(unanswered, silent, `${connection}: streams without an answer`);
      const max = bounds.reduce((sum, { maxStreams = Number.POSITIVE_INFINITY }) => sum + maxStreams, 0);
      assert.ok(streams >= bounds.length && streams <= max, `${connection}: ${streams} streams`);
    }
    assert.deepEqual(new Set(rows.map(({ connection }) => connection)), wanted);
  });
});
