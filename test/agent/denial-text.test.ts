import assert from 'node:assert/strict';
import { test } from 'node:test';
import { denialText } from '../../src/agent/denial-text.ts';

const guard = (detail: string, address: string) => ({ code: 'guard_denied', args: { detail, address } });

test('a refused publication has its cause and what to do next', () => {
  assert.equal(
    denialText([guard('loopback', '127.0.0.1')]),
    'guard_denied (loopback of 127.0.0.1): list the port in allow_loopback of agent.yaml if it is meant',
  );
  assert.match(
    denialText([guard('audit_database', '10.0.0.1')]),
    /audit_database of 10\.0\.0\.1.*allow_audit_database/,
  );
  assert.match(
    denialText([guard('multicast', '224.0.0.1')]),
    /multicast.*: no policy can allow this address \(docs\/policy\.md, The guard\)$/,
  );
  assert.match(denialText([{ code: 'no_rule', args: { action: 'publish' } }]), /^no_rule: no publish rule/);
  assert.equal(denialText([{ code: 'policy:mine', args: {} }]), 'policy:mine', 'an author knows the rest');
  const twice = denialText([guard('loopback', '::1'), guard('loopback', '127.0.0.1')]);
  assert.equal(twice.match(/allow_loopback/g)?.length, 1);
});
