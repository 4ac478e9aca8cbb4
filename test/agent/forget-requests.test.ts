import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { askToForget, forgetAsAsked } from '../../src/agent/forget-requests.ts';
import { RevocationSet } from '../../src/agent/revocations.ts';
import type { AuditEventInput, AuditLog } from '../../src/audit/index.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const K1 = 'k_00000000000000000001';
const K2 = 'k_00000000000000000002';

const setUp = (t: TestContext) => {
  const stateDir = temporaryDirectory(t, 'forget');
  const revocations = new RevocationSet(stateDir, systemClock, silentLogger);
  for (const key_id of [K1, K2])
    revocations.add({ key_id, reason: 'key_revoked', revocation_id: `r-${key_id}` }, 'relay-1');
  revocations.save();
  const recorded: AuditEventInput[] = [];
  const audit = (record: () => Promise<void>): AuditLog =>
    ({
      record: async (event: AuditEventInput) => {
        // What is forgotten is on record before it is.
        assert.equal(revocations.reasonFor(K1), 'key_revoked');
        await record();
        recorded.push(event);
        return { event_id: 'e' };
      },
    }) as unknown as AuditLog;
  const deps = (log: AuditLog) => ({
    revocations,
    audit: log,
    logger: silentLogger,
    namespace: 'n',
    agent: 'agent-1',
  });
  return { stateDir, revocations, recorded, audit, deps };
};

test('a revocation is forgotten as asked, on record first, and stays forgotten', async (t) => {
  const { stateDir, revocations, recorded, audit, deps } = setUp(t);
  askToForget(stateDir, K1, 'relay-1 was stolen', systemClock);
  await forgetAsAsked(stateDir, deps(audit(() => Promise.resolve())));
  assert.equal(revocations.reasonFor(K1), undefined);
  assert.equal(revocations.reasonFor(K2), 'key_revoked');
  assert.equal(recorded.length, 1);
  const [event] = recorded;
  assert.ok(event?.type === 'admin.action');
  assert.equal(event.subject.key_id, K1);
  assert.equal(event.data.action, 'revocation.forgotten');
  assert.equal(event.data.reason, 'relay-1 was stolen');
  assert.ok(!existsSync(join(stateDir, 'revocations.forget.json')));
  const again = new RevocationSet(stateDir, systemClock, silentLogger);
  assert.deepEqual(
    again.all().map(({ key_id }) => key_id),
    [K2],
  );
});

test('what cannot be recorded is not forgotten, and is tried again', async (t) => {
  const { stateDir, revocations, recorded, audit, deps } = setUp(t);
  askToForget(stateDir, K1, 'why', systemClock);
  await forgetAsAsked(stateDir, deps(audit(() => Promise.reject(new Error('spool is full')))));
  assert.equal(revocations.reasonFor(K1), 'key_revoked');
  assert.deepEqual(recorded, []);
  await forgetAsAsked(stateDir, deps(audit(() => Promise.resolve())));
  assert.equal(revocations.reasonFor(K1), undefined);
});

test('a key that is not kept is no request, and a key is asked for once', async (t) => {
  const { stateDir, recorded, audit, deps } = setUp(t);
  askToForget(stateDir, 'k_00000000000000000009', 'why', systemClock);
  askToForget(stateDir, K1, 'first', systemClock);
  askToForget(stateDir, K1, 'second', systemClock);
  await forgetAsAsked(stateDir, deps(audit(() => Promise.resolve())));
  assert.deepEqual(
    recorded.map((event) => (event.type === 'admin.action' ? event.data.reason : '')),
    ['second'],
  );
});
