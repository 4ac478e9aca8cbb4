import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ActivateRequests, askToActivate } from '../../src/agent/activate-requests.ts';
import type { PolicyHost } from '../../src/policy/index.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const HELD = { id: 'held-1', sha256: 'aa', revision: 'r', sequence: 2, atMs: 0, wouldClose: 11, live: 20 };
const PERIOD_MS = 1_000;

const open = (t: TestContext, record: () => Promise<unknown> = () => Promise.resolve({})) => {
  const stateDir = temporaryDirectory(t, 'state');
  const clock = new ManualClock();
  const done: string[] = [];
  const host = {
    status: () => ({ held: HELD }),
    activateHeld: (id: string) => {
      done.push(`activated ${id}`);
      return Promise.resolve(true);
    },
  };
  const start = (): void => {
    const requests = new ActivateRequests({
      host: host as unknown as PolicyHost,
      audit: {
        record: async (event) => {
          assert.equal(event.type, 'admin.action');
          done.push('recorded');
          return (await record()) as never;
        },
      },
      clock,
      logger: silentLogger,
      stateDir,
      subject: { namespace: 'n', agent: 'a' },
    });
    t.after(() => requests.close());
  };
  const file = join(stateDir, 'policy.activate.json');
  const taken = (): Promise<boolean> =>
    eventually('the request is taken', () => {
      clock.advance(PERIOD_MS);
      return existsSync(file) ? undefined : true;
    });
  return { stateDir, start, done, file, taken };
};

test('what is held is activated once it is confirmed, and recorded first', async (t) => {
  const { stateDir, start, done, taken } = open(t);
  start();
  askToActivate(stateDir, HELD.id, 'SEC-1', systemClock);
  await taken();
  await eventually('it is done', () => (done.length === 2 ? true : undefined));
  assert.deepEqual(done, ['recorded', `activated ${HELD.id}`]);
});

test('a confirmation of something else, or a malformed one, activates nothing', async (t) => {
  const { stateDir, start, done, file, taken } = open(t);
  start();
  askToActivate(stateDir, 'held-0', 'SEC-1', systemClock);
  await taken();
  for (const text of ['', '{}', '{"v":1,"id":"held-1"}', 'held-1']) {
    writeFileSync(file, text);
    await taken();
  }
  assert.deepEqual(done, []);
});

test('what was asked of an earlier process is not done by this one', async (t) => {
  const { stateDir, start, done, file, taken } = open(t);
  askToActivate(stateDir, HELD.id, 'SEC-1', systemClock);
  start();
  assert.equal(existsSync(file), false);
  await taken();
  assert.deepEqual(done, []);
});

test('what cannot be recorded is not activated', async (t) => {
  const { stateDir, start, done, taken } = open(t, () => Promise.reject(new Error('disk full')));
  start();
  askToActivate(stateDir, HELD.id, 'SEC-1', systemClock);
  await taken();
  await eventually('it was tried', () => (done.length > 0 ? true : undefined));
  await taken();
  assert.deepEqual(done, ['recorded']);
});
