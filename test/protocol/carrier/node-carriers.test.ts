import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CarrierBook } from '../../../src/protocol/carrier/carrier-book.ts';
import {
  FAILURES_BEFORE_PROBE,
  PREFERENCE_MS,
  PROBE_EVERY_MS,
  PROBE_PAUSE_MS,
  PROBE_SPREAD_MS,
  PROBE_WAIT_MS,
} from '../../../src/protocol/carrier/node-carriers.ts';
import type { ProbeResult } from '../../../src/protocol/carrier/probe-carrier.ts';
import { silentLogger } from '../../../src/runtime/index.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const HOST = 'relay.test';
const NODE = { host: HOST, control_port: [5671, 443], data_ports: [9352, 443] };
const CERTIFICATE = { spki: 'a'.repeat(64), issuer: 'Own CA' };
const FOREIGN = { spki: 'b'.repeat(64), issuer: 'Corp CA' };
const TCP_9352 = { kind: 'tcp', port: 9352 } as const;
const TCP_443 = { kind: 'tcp', port: 443 } as const;
const WEBSOCKET = { kind: 'websocket', port: 443 } as const;
const WORKS: ProbeResult = { failure: undefined, interceptedBy: undefined };
const failing = (failure: string): ProbeResult => ({ failure, interceptedBy: undefined });

/** Lets everything run that waits for promises alone. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const rig = (stateDir?: string) => {
  const clock = new ManualClock();
  const asked: { key: string; answer: (result: ProbeResult) => void }[] = [];
  const book = new CarrierBook({
    nodes: [NODE],
    side: 'agent',
    ca: undefined,
    proxies: () => undefined,
    stateDir,
    clock,
    logger: silentLogger,
    probe: ({ choice }) =>
      new Promise((answer) => asked.push({ key: `${choice.kind} ${choice.port}`, answer })),
  });
  const carriers = book.of(HOST);
  assert.ok(carriers !== undefined);
  const answer = async (key: string, result: ProbeResult): Promise<void> => {
    const index = asked.findIndex((probe) => probe.key === key);
    assert.notEqual(index, -1, `${key} is not asked`);
    asked.splice(index, 1)[0]?.answer(result);
    await settled();
  };
  const answerAll = async (tcp9352: ProbeResult, tcp443: ProbeResult, webSocket: ProbeResult) => {
    await answer('tcp 9352', tcp9352);
    await answer('tcp 443', tcp443);
    await answer('websocket 443', webSocket);
  };
  const order = async (): Promise<string> =>
    (await carriers.order()).map(({ kind, port }) => `${kind} ${port}`).join(', ');
  const up = (port = 5671, seen = CERTIFICATE): void => carriers.controlUp(port, seen, CERTIFICATE.spki);
  return { clock, book, carriers, asked, answer, answerAll, order, up };
};

test('in order while nothing is known; what works goes first once the probes have answered', async () => {
  const { carriers, order, up, answerAll } = rig();
  assert.equal(await order(), 'tcp 9352, tcp 443, websocket 443');
  up();
  await answerAll(failing('timed out'), failing('intercepted'), WORKS);
  assert.equal(await order(), 'websocket 443, tcp 9352, tcp 443');
  const { data } = carriers.status();
  assert.deepEqual(
    data.map(({ state, error }) => [state, error]),
    [
      ['failed', 'timed out'],
      ['failed', 'intercepted'],
      ['works', null],
    ],
  );
});

test('a link waits for a carrier that works: at once for the preferred one, a moment for it when another works', async () => {
  const first = rig();
  first.up();
  let preferred: string | undefined;
  void first.order().then((found) => (preferred = found));
  await settled();
  assert.equal(preferred, undefined);
  await first.answer('tcp 9352', WORKS);
  assert.equal(preferred, 'tcp 9352, tcp 443, websocket 443');

  const second = rig();
  second.up();
  let other: string | undefined;
  void second.order().then((found) => (other = found));
  await second.answer('websocket 443', WORKS);
  assert.equal(other, undefined, 'the preferred one has a moment to answer');
  second.clock.advance(PREFERENCE_MS);
  await settled();
  assert.equal(other, 'websocket 443, tcp 9352, tcp 443');

  const third = rig();
  third.up();
  let late: string | undefined;
  void third.order().then((found) => (late = found));
  third.clock.advance(PROBE_WAIT_MS);
  await settled();
  assert.equal(late, 'tcp 9352, tcp 443, websocket 443', 'probes that hang hold up no link');
});

test('carriers are probed when the control link comes up, hourly, and after failures, not too often', async () => {
  const { clock, carriers, asked, up, answerAll } = rig();
  assert.equal(asked.length, 0);
  up();
  assert.equal(asked.length, 3);
  await answerAll(WORKS, WORKS, WORKS);
  clock.advance(PROBE_EVERY_MS);
  assert.equal(asked.length, 3);
  await answerAll(WORKS, WORKS, WORKS);
  const fail = (): void => {
    for (let failures = 0; failures < FAILURES_BEFORE_PROBE; failures += 1)
      carriers.tried(TCP_9352, 'refused');
  };
  fail();
  assert.equal(asked.length, 0, 'just probed');
  clock.advance(PROBE_PAUSE_MS);
  fail();
  assert.equal(asked.length, 3);
});

test('an end that knows what works probes some time after its control link is back, not at once', async () => {
  const { clock, asked, up, answerAll } = rig();
  up();
  await answerAll(WORKS, WORKS, WORKS);
  up();
  assert.equal(asked.length, 0);
  clock.advance(PROBE_SPREAD_MS);
  assert.equal(asked.length, 3);
});

test('a carrier over which links break goes behind the others until it is forgiven', async () => {
  const { clock, carriers, order, up, answerAll } = rig();
  up();
  await answerAll(WORKS, WORKS, WORKS);
  assert.equal(await order(), 'tcp 9352, tcp 443, websocket 443');
  for (let failures = 0; failures < FAILURES_BEFORE_PROBE; failures += 1) carriers.settled(TCP_9352, false);
  assert.equal(await order(), 'tcp 443, websocket 443, tcp 9352');
  carriers.settled(TCP_9352, true);
  assert.equal(await order(), 'tcp 9352, tcp 443, websocket 443');
  carriers.tried(TCP_443, 'refused');
  assert.equal(await order(), 'tcp 9352, websocket 443, tcp 443');
  carriers.settled(TCP_9352, false);
  carriers.settled(TCP_9352, false);
  clock.advance(PROBE_EVERY_MS);
  await answerAll(WORKS, WORKS, WORKS);
  assert.equal(await order(), 'tcp 9352, tcp 443, websocket 443');
});

test('what worked last goes first after a restart; a file that makes no sense is a beginning', async (t) => {
  const stateDir = temporaryDirectory(t, 'carriers');
  const before = rig(stateDir);
  assert.deepEqual(before.carriers.controlPorts(), [5671, 443]);
  before.up(443);
  before.carriers.tried(WEBSOCKET, undefined);
  before.carriers.settled(WEBSOCKET, true);
  const after = rig(stateDir);
  assert.deepEqual(after.carriers.controlPorts(), [443, 5671]);
  assert.equal(await after.order(), 'websocket 443, tcp 9352, tcp 443');
  const file = join(stateDir, 'carriers.json');
  assert.match(readFileSync(file, 'utf8'), /relay\.test/);
  writeFileSync(file, '{"nodes": 7}');
  assert.equal(await rig(stateDir).order(), 'tcp 9352, tcp 443, websocket 443');
});

test('interception of the control link and of carriers is told with its issuer', async () => {
  const { carriers, up, answerAll } = rig();
  carriers.controlFailed(5671, 'timed out');
  up(443, FOREIGN);
  const intercepted = { failure: 'intercepted by Corp CA', interceptedBy: 'Corp CA' };
  await answerAll(failing('timed out'), intercepted, { ...WORKS, interceptedBy: 'Corp CA' });
  const { control, data } = carriers.status();
  assert.equal(control.port, 443);
  assert.equal(control.intercepted_by, 'Corp CA');
  assert.deepEqual(
    control.tried.map(({ port, error }) => [port, error]),
    [[5671, 'timed out']],
  );
  assert.deepEqual(
    data.map(({ carrier, state, intercepted_by }) => [carrier, state, intercepted_by]),
    [
      ['tcp', 'failed', null],
      ['tcp', 'failed', 'Corp CA'],
      ['websocket', 'works', 'Corp CA'],
    ],
  );
  carriers.controlDown();
  assert.equal(carriers.status().control.port, null);
});

test('closing waits for probes, which are stopped', async () => {
  const { book, asked, up } = rig();
  up();
  const closed = book.close();
  for (const { answer } of asked.splice(0)) answer(failing('stopped'));
  await closed;
  up();
  assert.equal(asked.length, 0);
});
