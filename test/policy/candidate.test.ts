import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { isAppError } from '../../src/runtime/index.ts';
import { eventually } from '../support/eventually.ts';
import { compileOrders, openHost } from './support.ts';

const never = new AbortController().signal;

/** Niceness of each thread of this process (proc(5), stat, field 19). */
const niceness = (): number[] =>
  readdirSync('/proc/self/task').map((id) => {
    const stat = readFileSync(`/proc/self/task/${id}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
  });

test('a candidate passes what an activation asks, changes nothing, and gives way', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const { generation, active } = host;
  const candidate = await host.openCandidate(await compileOrders(t, {}, 3), never);
  assert.equal(candidate.active.sequence, 3);
  assert.match(candidate.sequenceProblem ?? '', /sequence 3 is lower than 7/);
  assert.deepEqual([host.generation, host.active, host.status().held], [generation, active, undefined]);
  if (process.platform === 'linux') {
    await eventually('its threads, with the spare', () =>
      niceness().filter((nice) => nice === 19).length === 3 ? true : undefined,
    );
    assert.ok(niceness().filter((nice) => nice < 19).length > 3, 'no others');
  }
  await candidate.close();
  if (process.platform === 'linux') assert.equal(niceness().filter((nice) => nice === 19).length, 0);
  await assert.rejects(host.openCandidate(Buffer.from('x'), never), (error) =>
    isAppError(error, 'ERR_POLICY_ARCHIVE'),
  );
  const strict = await openHost(t, undefined, { requireSigned: true });
  await assert.rejects(strict.openCandidate(await compileOrders(t), never), (error) =>
    isAppError(error, 'ERR_POLICY_UNSIGNED'),
  );
});

test('a candidate whose time is over while it starts is given up', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const deadline = new AbortController();
  const opening = host.openCandidate(await compileOrders(t, {}, 8), deadline.signal);
  setImmediate(() => deadline.abort(new Error('the time is over')));
  await assert.rejects(opening, /the time is over/);
  await assert.rejects(
    host.openCandidate(await compileOrders(t, {}, 8), deadline.signal),
    /the time is over/,
  );
  assert.equal(host.active?.sequence, 7);
});
