import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Current,
  type Declaration,
  declarationSchema,
  planOf,
} from '../../../src/cli/manage/apply-plan.ts';
import type { ConnectionView } from '../../../src/control/index.ts';

const connection = (name: string, over: Partial<ConnectionView> = {}): ConnectionView => ({
  id: '0190a0b0-0000-7000-8000-000000000001',
  name,
  target: { host: 'db.internal', port: 5432 },
  labels: {},
  version: 3,
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  ...over,
});

const rule = (scope: string, name: string, claims: ('Listen' | 'Send' | 'Manage')[]) => ({
  connection: scope,
  name,
  claims,
  version: 1,
  created_at: '2026-01-01T00:00:00.000Z',
});

const CURRENT: Current = {
  connections: [connection('orders', { labels: { team: 'a' } }), connection('old')],
  authRules: [
    rule('orders', 'defaultListener', ['Listen']),
    rule('orders', 'defaultSender', ['Send']),
    rule('orders', 'billing', ['Send']),
    rule('old', 'defaultSender', ['Send']),
  ],
};

const declared = (value: object): Declaration => declarationSchema.parse(value);
const lines = (plan: ReturnType<typeof planOf>): string[] =>
  plan.changes.map(({ kind, what, name, detail }) => `${kind} ${what} ${name}: ${detail}`);

test('what is as declared needs no change, whatever the order of labels and claims', () => {
  const file = declared({
    connections: [
      {
        name: 'orders',
        target: 'db.internal:5432',
        labels: { team: 'a' },
        auth_rules: [{ name: 'billing', claims: ['Send'] }],
      },
    ],
  });
  assert.deepEqual(planOf(file, CURRENT, false), { changes: [], conflicts: [] });
});

test('differences become calls: created, changed at its version, and nothing deleted without prune', () => {
  const file = declared({
    connections: [
      {
        name: 'orders',
        target: 'db2.internal:5432',
        labels: { team: 'b' },
        auth_rules: [{ name: 'reports', claims: ['Send', 'Listen'] }],
      },
      { name: 'new', target: '[::1]:443', auth_rules: [{ name: 'defaultSender', claims: ['Send'] }] },
    ],
  });
  const plan = planOf(file, CURRENT, false);
  assert.deepEqual(lines(plan), [
    'update connection orders: target: db.internal:5432 → db2.internal:5432; labels: team=a → team=b',
    'create auth_rule orders/reports: claims Listen, Send',
    'create connection new: target [::1]:443; labels (none)',
  ]);
  assert.equal(plan.changes[0]?.call.ifMatch, 3);
  assert.deepEqual(plan.changes[2]?.call.body, {
    name: 'new',
    target: { host: '::1', port: 443 },
    labels: {},
  });
});

test('with prune what the file does not name goes, but never the two auth-rules that every connection has', () => {
  const file = declared({
    connections: [{ name: 'orders', target: 'db.internal:5432', labels: { team: 'a' } }],
  });
  assert.deepEqual(
    planOf(file, CURRENT, true).changes.map(({ call }) => `${call.method} ${call.path}`),
    ['delete /auth-rules/orders/billing', 'delete /connections/old'],
  );
});

test('claims that differ are a conflict, because an auth-rule never changes its claims', () => {
  const file = declared({
    connections: [
      {
        name: 'orders',
        target: 'db.internal:5432',
        labels: { team: 'a' },
        auth_rules: [{ name: 'billing', claims: ['Listen'] }],
      },
    ],
  });
  const { changes, conflicts } = planOf(file, CURRENT, false);
  assert.deepEqual(changes, []);
  assert.equal(conflicts.length, 1);
  assert.match(conflicts[0] ?? '', /orders\/billing has claims Send, the file says Listen/);
});

test('a file that cannot be meant is refused', () => {
  const refused = (value: object): void => assert.ok(!declarationSchema.safeParse(value).success);
  refused({
    connections: [
      { name: 'a', target: 'h:1' },
      { name: 'a', target: 'h:2' },
    ],
  });
  refused({ connections: [{ name: 'A', target: 'h:1' }] });
  refused({ connections: [{ name: 'a', target: 'h' }] });
  refused({ connections: [{ name: 'a', target: 'h:0' }] });
  refused({ connections: [{ name: 'a', target: 'h:1', auth_rules: [{ name: 'x', claims: [] }] }] });
});

test('auth-rules of the namespace are made and pruned when the file names them, and never the root rule', () => {
  const ofNamespace = (name: string) => ({ ...rule('', name, ['Send']), connection: null });
  const current: Current = {
    connections: [],
    authRules: [ofNamespace('RootManageSharedAccessKey'), ofNamespace('old'), ofNamespace('kept')],
  };
  const silent = declared({ connections: [] });
  assert.deepEqual(planOf(silent, current, true), { changes: [], conflicts: [] }, "not this file's business");
  const file = declared({
    connections: [],
    auth_rules: [
      { name: 'kept', claims: ['Listen'] },
      { name: 'fleet', claims: ['Listen', 'Send'] },
    ],
  });
  assert.deepEqual(lines(planOf(file, current, false)), [
    'create auth_rule namespace/fleet: claims Listen, Send',
  ]);
  const pruned = planOf(file, current, true);
  assert.deepEqual(lines(pruned), [
    'create auth_rule namespace/fleet: claims Listen, Send',
    'delete auth_rule namespace/old: its keys are revoked',
  ]);
  assert.deepEqual(
    pruned.changes.map(({ call }) => call),
    [
      {
        method: 'post',
        path: '/auth-rules',
        body: { scope: 'namespace', name: 'fleet', claims: ['Listen', 'Send'] },
      },
      { method: 'delete', path: '/auth-rules/namespace/old' },
    ],
  );
  assert.match(pruned.conflicts.join(''), /^auth-rule namespace\/kept has claims Send, the file says Listen/);
});
