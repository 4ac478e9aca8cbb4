import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  expandClaims,
  newManagementToken,
  parseManagementToken,
  roleAtLeast,
} from '../../src/identity/index.ts';

test('a management token matches its own digest only', () => {
  const token = newManagementToken();
  const other = newManagementToken();
  assert.match(token.id, /^t_[0-9a-f]{16}$/);
  const parsed = parseManagementToken(token.text);
  assert.equal(parsed?.id, token.id);
  assert.ok(parsed.matches(token.secretDigest));
  assert.ok(!parsed.matches(other.secretDigest));
  assert.ok(!parsed.matches(Buffer.alloc(0)));
  for (const text of ['', 't_1', `${token.text}x`, ` ${token.text}`, token.text.replace('.', ',')])
    assert.equal(parseManagementToken(text), undefined);
});

test('Manage implies Listen and Send; owner is above operator above auditor', () => {
  assert.deepEqual(expandClaims(['Manage']), ['Listen', 'Send', 'Manage']);
  assert.deepEqual(expandClaims(['Send', 'Listen']), ['Listen', 'Send']);
  assert.ok(roleAtLeast('owner', 'operator') && roleAtLeast('operator', 'operator'));
  assert.ok(!roleAtLeast('auditor', 'operator') && !roleAtLeast('operator', 'owner'));
});
