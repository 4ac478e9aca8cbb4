import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HostPolicy } from '../../src/agent/host-policy.ts';
import { ManagedSettings, parseManaged } from '../../src/policy/index.ts';
import { compileOrders, openGuard, openHost, streamInput } from '../policy/support.ts';

const settings = (text: string, digit: string): ManagedSettings =>
  ManagedSettings.inForce(parseManaged(text, 'f'), digit.repeat(64));

test('a decision is out of date as soon as managed settings change, and says which it was made under', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const managed = { settings: settings('connections: enabled', 'a'), generation: 3 };
  const policyInUse = { source: undefined, keys: [] };
  const policy = new HostPolicy({ host, guard: () => openGuard, managed, policyInUse });
  assert.equal((await policy.decide(streamInput(), 'open')).generation, policy.generation);

  const asked = policy.decide(streamInput(), 'open');
  managed.settings = settings('connections: disabled', 'b');
  managed.generation += 1;
  const stale = await asked;
  assert.equal(stale.allow, true);
  assert.notEqual(stale.generation, policy.generation);
  assert.equal(stale.managed_sha256, 'a'.repeat(64));
  assert.match(stale.input, new RegExp(`"managed":{"require_proof":false,"sha256":"a{64}"}`));

  // The same base again, as an open that has to decide anew has it.
  const fresh = await policy.decide(streamInput(), 'open');
  assert.equal(fresh.decided_by, 'managed');
  assert.equal(fresh.generation, policy.generation);
  assert.match(fresh.input, new RegExp(`"sha256":"b{64}"`));
  assert.equal(policy.pendingCount, 0);
});
