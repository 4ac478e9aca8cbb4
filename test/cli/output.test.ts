import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exitCodeOf } from '../../src/cli/errors.ts';
import { ownDatabaseAmong } from '../../src/cli/init/action.ts';
import { counted, tableLines } from '../../src/cli/output.ts';
import { AppError } from '../../src/runtime/index.ts';

test('a table aligns its columns and shows what is absent', () => {
  const lines = tableLines(
    [
      { name: 'a', count: 5 },
      { name: 'long-name', count: undefined },
    ],
    [
      { title: 'name', value: (row) => row.name },
      { title: 'count', value: (row) => row.count, align: 'right' },
    ],
  );
  assert.deepEqual(lines, ['NAME       COUNT', 'a              5', 'long-name      -']);
});

test('a cell cannot move the cursor or forge a line', () => {
  const [, line] = tableLines([{ text: 'a\u001b[2J\nb\u202e' }], [{ title: 't', value: (row) => row.text }]);
  assert.equal(line, 'a\\u001b[2J\\u000ab\\u202e');
});

test('counts of one have the word for one', () => {
  assert.deepEqual(
    [counted(0, 'link'), counted(1, 'link'), counted(2, 'link'), counted(2, 'batch', 'batches')],
    ['0 links', '1 link', '2 links', '2 batches'],
  );
});

test('init knows which publications lead to its own database', () => {
  const publications = [
    { name: 'own', target: { host: 'localhost', port: 5432 } },
    { name: 'other-port', target: { host: '127.0.0.1', port: 5433 } },
    { name: 'other-host', target: { host: 'db.internal', port: 5432 } },
  ];
  assert.deepEqual(ownDatabaseAmong(publications, 'postgres://u:p@127.0.0.1/x'), ['own']);
  assert.deepEqual(ownDatabaseAmong(publications, 'postgres://u:p@DB.internal:5432/x'), ['other-host']);
  assert.deepEqual(ownDatabaseAmong(publications, 'postgres://u:p@elsewhere:5432/x'), []);
});

test('codes become the exit codes of the interface', () => {
  const exit = (code: `ERR_${string}`): number => exitCodeOf(new AppError(code, 'x'));
  assert.equal(exit('ERR_CONFIG_INVALID'), 2);
  assert.equal(exit('ERR_CLI_USAGE'), 2);
  assert.equal(exit('ERR_CLI_STATE_LOCKED'), 2);
  assert.equal(exit('ERR_LISTEN_REFUSED'), 3);
  assert.equal(exit('ERR_AUDIT_UNAVAILABLE'), 3);
  assert.equal(exit('ERR_POLICY_OPA_MISSING'), 3);
  assert.equal(exit('ERR_CONTROL_NOT_FOUND'), 1);
  assert.equal(exitCodeOf(Object.assign(new Error('x'), { code: 'ECONNREFUSED' })), 3);
  assert.equal(exitCodeOf(new TypeError('x')), 1);
});
