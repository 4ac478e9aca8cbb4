import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PinnedTargets } from '../../src/gateway/pinned-targets.ts';
import type { AttachedCredential, ConnectionInfo } from '../../src/protocol/index.ts';

const credential = (handle: string, connection = 'db'): AttachedCredential => ({
  handle,
  cred: 'c1',
  key_id: 'k',
  principal: 'p',
  auth_rule: 'r',
  slot: 'primary',
  claims: ['Send'],
  connection,
  connection_id: 'id',
  expires_at_ms: 0,
});
const told = (host: string, port = 5432, name = 'db'): ConnectionInfo => ({
  name,
  id: 'id',
  target: { host, port },
  labels: {},
});
const pinned = (): PinnedTargets => new PinnedTargets(new Map([['db', 'db.corp.example:5432']]));

test('a credential waits until its node has said the target, and each node counts for itself', () => {
  const pins = pinned();
  const one = credential('one');
  assert.equal(pins.attach('node-a', one), undefined);
  assert.deepEqual(pins.tell('node-a', told('DB.corp.example.')), { verdict: true, credentials: [one] });
  assert.equal(pins.attach('node-a', credential('two')), true);
  assert.equal(pins.attach('node-b', one), undefined);
  assert.equal(
    pins.attach('node-a', credential('three', 'free')),
    true,
    'what is not pinned waits for nothing',
  );
  assert.equal(pins.tell('node-a', told('x', 1, 'free')), undefined);
});

test('another host or port is refused, also for credentials that come later', () => {
  for (const [host, port] of [['other.corp.example', 5432] as const, ['db.corp.example', 5433] as const]) {
    const pins = pinned();
    pins.attach('node-a', credential('one'));
    const refusal = {
      code: 'connection_unknown',
      detail: `gateway.yaml has the target db.corp.example:5432, the relay says ${host}:${port}`,
    };
    assert.deepEqual(pins.tell('node-a', told(host, port))?.verdict, refusal);
    assert.deepEqual(pins.attach('node-a', credential('two')), refusal);
  }
});

test('a new login is told again, and a dropped credential is not used any more', () => {
  const pins = pinned();
  pins.attach('node-a', credential('one'));
  pins.attach('node-a', credential('two'));
  pins.detach('node-a', 'one');
  assert.deepEqual(pins.tell('node-a', told('db.corp.example'))?.credentials, [credential('two')]);
  pins.forget('node-a');
  assert.equal(pins.attach('node-a', credential('two')), undefined);
});
